"""Adversaries: what stands in for the worst case around a batch while a robust surrogate, or noise for one, is made.

All work in pixel units within `radius` in linf and within [0, 1], on a network that is held `still`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry._steps import into_box, sign_of_gradient

Network = Callable[[Tensor], Tensor]
KINDS = ("none", "uniform", "pgd", "fgsm", "tpgd", "apgd")


@dataclass(frozen=True)
class Adversary:
    """One of KINDS. `uniform` draws once and looks at no network; pgd starts at a uniform draw, fgsm at the image."""

    kind: str
    radius: float  # linf, pixel units
    steps: int = 10
    step_size: float = 0.0  # pixel units; 0: radius / 5, tpgd radius / 4

    @property
    def passes(self) -> int:
        """Forward passes and passes back that one batch costs."""
        if not self.radius:
            return 0
        return {"none": 0, "uniform": 0, "pgd": 2 * self.steps, "fgsm": 2}.get(self.kind, 2 * self.steps + 1)

    def __call__(self, net: Network, v: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return a point near v, float32 (B, C, H, W) in [0, 1] units."""
        if self.kind == "none" or not self.radius:
            return v
        if self.kind == "fgsm":
            return into_box(v + self.radius * sign_of_gradient(net, v, y), v, self.radius)
        if self.kind == "tpgd":
            return self._tpgd(net, v, generator)
        w = into_box(v + torch.empty_like(v).uniform_(-self.radius, self.radius, generator=generator), v, self.radius)
        if self.kind == "uniform":
            return w
        if self.kind == "apgd":
            return self._apgd(net, v, w, y)
        for _ in range(self.steps):
            w = into_box(w + (self.step_size or self.radius / 5) * sign_of_gradient(net, w, y), v, self.radius)
        return w

    def _tpgd(self, net: Network, v: Tensor, generator: torch.Generator) -> Tensor:
        """Move away from the network's own answer: the inner maximum of TRADES (Zhang et al., ICML 2019)."""
        with torch.no_grad():
            answer = net(v).float().softmax(1)
        w = into_box(v + 0.001 * torch.empty_like(v).normal_(generator=generator), v, self.radius)
        for _ in range(self.steps):
            w = w.detach().requires_grad_(True)
            with torch.enable_grad():
                gap = F.kl_div(net(w).float().log_softmax(1), answer, reduction="sum")
                (gradient,) = torch.autograd.grad(gap, w)
            w = into_box(w.detach() + (self.step_size or self.radius / 4) * gradient.sign_(), v, self.radius)
        return w

    def _apgd(self, net: Network, v: Tensor, w: Tensor, y: Tensor) -> Tensor:
        """Steps that halve where they stop helping (Croce & Hein, ICML 2020, algorithm 1), one restart; the best point."""
        step = torch.full((len(v), 1, 1, 1), 2 * self.radius, device=v.device)
        loss, gradient = _loss_and_gradient(net, w, y)
        best, best_gradient, highest = w, gradient, loss
        before = w
        risen = torch.zeros(len(v), device=v.device)  # steps since the last checkpoint that raised the loss
        halved, at_checkpoint = torch.zeros(len(v), dtype=torch.bool, device=v.device), highest
        checkpoints = _checkpoints(self.steps)
        for number in range(1, self.steps + 1):
            z = into_box(w + step * gradient.sign(), v, self.radius)
            momentum = 0.75 if number > 1 else 1.0
            z = into_box(w + momentum * (z - w) + (1 - momentum) * (w - before), v, self.radius)
            previous, before, w = loss, w, z
            loss, gradient = _loss_and_gradient(net, w, y)
            risen += (loss > previous).float()
            better = (loss > highest).view(-1, 1, 1, 1)
            best, best_gradient = torch.where(better, w, best), torch.where(better, gradient, best_gradient)
            highest = torch.maximum(highest, loss)
            if number in checkpoints:
                length = number - max(c for c in (0, *checkpoints) if c < number)
                stuck = (risen < 0.75 * length) | (~halved & (highest <= at_checkpoint))
                step = torch.where(stuck.view(-1, 1, 1, 1), step / 2, step)
                w = torch.where(stuck.view(-1, 1, 1, 1), best, w)
                gradient = torch.where(stuck.view(-1, 1, 1, 1), best_gradient, gradient)
                loss = torch.where(stuck, highest, loss)
                halved, at_checkpoint = stuck, highest
                risen = torch.zeros_like(risen)
        return best


def _loss_and_gradient(net: Network, w: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    w = w.detach().requires_grad_(True)
    with torch.enable_grad():
        loss = F.cross_entropy(net(w).float(), y, reduction="none")
        (gradient,) = torch.autograd.grad(loss.sum(), w)
    return loss.detach(), gradient


def _checkpoints(steps: int) -> list[int]:
    """Return the steps after which APGD looks back: at 0.22 of them, then at intervals shrinking by 0.03, at least 0.06."""
    before, now, found = 0.0, 0.22, []
    while now <= 1:
        found.append(math.ceil(round(now * steps, 6)))
        before, now = now, now + max(now - before - 0.03, 0.06)
    return sorted(set(found))
