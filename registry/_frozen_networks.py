"""The loop against frozen networks: every image is moved by itself, with all its steps, while the networks stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry._crafting import Crafting, mixed
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._surrogates import draw_view
from unlearnable_bench.registry._views import Look, View

Pull = Callable[[Tensor, View], tuple[Tensor, Tensor]]
"""`pull(z, view)`: the gradient of what is to fall with respect to z, and that loss of every image (B,)."""


@dataclass(frozen=True)
class Descent:
    """Steps of one size down the gradient of a loss of frozen networks, within a ball and within valid pixels."""

    epsilon: float  # pixel units, in `norm`
    norm: str  # linf: signed steps in a box; l2: normalised ones in a ball
    steps: int
    step_size: float  # pixel units
    start: str = "zero"  # zero; uniform in the box; gaussian: epsilon times a normal draw, cut to the box
    view: str | Look = "none"  # none, crop, shift or what draws one; a new one each step

    def begin(self, run: Crafting, x: Tensor) -> Tensor:
        """Return the perturbation of step 0."""
        if self.start == "uniform":
            return torch.empty_like(x).uniform_(-self.epsilon, self.epsilon, generator=run.device_generator)
        if self.start == "gaussian":
            drawn = self.epsilon * torch.empty_like(x).normal_(generator=run.device_generator)
            return drawn.clamp_(-self.epsilon, self.epsilon)
        return torch.zeros_like(x)

    def move(self, x: Tensor, delta: Tensor, gradient: Tensor) -> Tensor:
        """Return the perturbation after one step; its images are valid."""
        if self.norm == "linf":
            delta = (delta - self.step_size * gradient.sign()).clamp_(-self.epsilon, self.epsilon)
        else:
            delta = delta - self.step_size * F.normalize(gradient.flatten(1), dim=1).view_as(x)
            length = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            delta = delta * (self.epsilon / length.clamp(min=self.epsilon))
        return (x + delta).clamp_(0, 1) - x

    def apply(self, run: Crafting, x: Tensor, pull: Pull, fill: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the perturbation after all steps, and the loss of every image (B,) before the last one."""
        delta, losses = self.begin(run, x), torch.zeros(len(x))
        for _ in range(self.steps):
            gradient, losses = pull(x + delta, draw_view(self.view, x, run.device_generator, fill))
            delta = self.move(x, delta, gradient)
        return delta, losses


def toward(run: Crafting, nets: list[nn.Module], labels: Tensor, sign: float = 1.0) -> Pull:
    """Lower the mean cross-entropy of some networks to `labels`; or raise it, with sign -1."""

    def pull(z: Tensor, view: View) -> tuple[Tensor, Tensor]:
        total, losses = torch.zeros_like(z), torch.zeros(len(z), device=z.device)
        for net in nets:
            z = z.detach().requires_grad_(True)
            with torch.enable_grad(), mixed(run.device):
                loss = sign * F.cross_entropy(net(view(z)).float(), labels, reduction="none")
                (gradient,) = torch.autograd.grad(loss.sum(), z)
            total, losses = total + gradient / len(nets), losses + loss.detach() / len(nets)
        run.count(2 * len(nets), len(z))
        return total, losses

    return pull


Chunk = Callable[[Tensor, Tensor, slice], tuple[Tensor, Tensor]]
"""`chunk(x, y, where)`: the perturbation of some images, and their losses (B,)."""


def frozen(run: Crafting, nets: nn.ModuleList, chunk: Chunk, whole_levels: torch.dtype, restarts: int = 1) -> Tensor:
    """Move all images, chunk by chunk, each with all its steps; of several starts keep that of the lowest mean loss.

    Returns 8-bit levels (N, C, H, W) on the CPU: networks and images are looked at one by one, so that chunks do not matter.
    """
    size = len(run.clean)
    best = torch.zeros(run.clean.images.shape, dtype=whole_levels)
    levels = best if restarts == 1 else torch.zeros_like(best)
    first, done, spent, lowest = 0, 0, 0.0, float("inf")
    if found := run.resume("noise"):
        nets.load_state_dict(found["nets"])
        best, first, done = found["best"].cpu(), found["restart"], found["done"]
        levels = best if restarts == 1 else found["levels"].cpu()
        spent, lowest = found["spent"], found["lowest"]
    with still(nets):
        for number in range(first, restarts):
            while done < size:
                where = slice(done, min(done + run.at_once, size))
                delta, losses = chunk(*run.batch(where), where)
                levels[where] = (255 * delta).round_().cpu().to(whole_levels)
                spent, done = spent + float(losses.sum()), where.stop
                run.job.progress(number * size + done, restarts * size)
                if run.due:
                    state = {"nets": nets.state_dict(), "best": best, "levels": None if restarts == 1 else levels}
                    run.keep("noise", state | {"restart": number, "done": done, "spent": spent, "lowest": lowest})
            run.write(loss_of_start=spent / size)
            if spent < lowest and levels is not best:
                best.copy_(levels)
            lowest, spent, done = min(lowest, spent), 0.0, 0
    return best
