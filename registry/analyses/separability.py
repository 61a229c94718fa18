"""Whether a linear model tells the classes by the perturbations alone, or by the images."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import ANALYSES, Analysis, Context, EntryError, ImageSet, NotApplicable
from unlearnable_bench.registry._papers import LEARN_FROM_UNLEARNABLE

HELD = 1 << 28  # values of a set up to which it is turned into numbers once, not for every evaluation


@ANALYSES.register("separability")
@dataclass(frozen=True)
class Separability(Analysis):
    """Training accuracy of a logistic regression: near 1 on perturbations that are a linear shortcut.

    Tables 2 and 6 of the paper, after LSP. `of=perturbation` takes the difference of the 8-bit images, brought to [0, 1] by one
    minimum and maximum of the whole set; `of=image` the poisoned images, `of=purified` what a defense makes of them. A layer
    with bias is fitted by L-BFGS on all images at once, learning rate 0.5, 20 iterations in each of 500 steps; with `hidden` a
    tanh layer stands before it (section 4.3: 30 units for AR). Figure: `train_acc`, with `train_loss`, and `steps` taken.
    Changed: it ends early when nothing moves, or when the loss is so small that every image must be right; a step that
    diverges is taken back and ends it. Fewer images are easier to separate: figures of sets of different size do not compare.
    """

    of: Literal["perturbation", "image", "purified"] = "perturbation"  # what is classified: perturbations, or images
    steps: int = 500  # of L-BFGS, 20 iterations each
    lr: float = 0.5  # of L-BFGS
    display_name = "Linear separability"
    label = "Separability"
    hidden: int = 0  # units of a tanh layer; 0: none

    paper = LEARN_FROM_UNLEARNABLE
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison", "purified")
    small: ClassVar[dict[str, Any]] = {"steps": 5}

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr <= 0 or self.hidden < 0:
            raise EntryError(f"analysis separability: expected steps and lr above 0, hidden 0 or more, found {self}")

    def measure(self, context: Context) -> dict[str, float]:
        parts, count = self._parts(context), len(context.clean)
        values, classes = math.prod(context.clean.info.shape), context.clean.num_classes
        net: nn.Module = nn.Linear(values, classes)
        if self.hidden:
            net = nn.Sequential(nn.Linear(values, self.hidden), nn.Tanh(), nn.Linear(self.hidden, classes))
        net = net.to(context.job.device)
        optimizer = torch.optim.LBFGS(net.parameters(), self.lr)

        def closure() -> Tensor:
            optimizer.zero_grad()
            total = torch.zeros((), device=context.job.device)
            for x, y in parts:
                loss = F.cross_entropy(net(x), y, reduction="sum") / count
                loss.backward()
                total += loss.detach()
            return total

        def state() -> list[Tensor]:
            return [p.detach().clone() for p in net.parameters()]

        before, steps = state(), 0
        while steps < self.steps:
            optimizer.step(closure)
            steps += 1
            after = state()
            if not all(bool(torch.isfinite(p).all()) for p in after):
                with torch.no_grad():
                    for p, old in zip(net.parameters(), before, strict=True):
                        p.copy_(old)
                break
            still = all(torch.equal(new, old) for new, old in zip(after, before, strict=True))
            before = after
            context.job.progress(steps, self.steps)
            if still or self._judged(net, parts)[0] * count < math.log(2):
                break
        loss, right = self._judged(net, parts)
        return {"train_acc": right, "train_loss": loss, "steps": float(steps)}

    def _parts(self, context: Context) -> "_Parts":
        images = context.purified if self.of == "purified" else context.poison
        parts = _Parts(images, context.clean if self.of == "perturbation" else None, context.job.device)
        if self.of == "perturbation" and parts.low == parts.high:
            raise NotApplicable("the perturbations are the same everywhere, or there are none")
        return parts

    @torch.no_grad()
    def _judged(self, net: nn.Module, parts: "_Parts") -> tuple[float, float]:
        """Return mean loss and accuracy over the set."""
        loss = right = 0.0
        for x, y in parts:
            logits = net(x)
            loss += float(F.cross_entropy(logits, y, reduction="sum"))
            right += float((logits.argmax(1) == y).sum())
        return loss / len(parts.images), right / len(parts.images)


class _Parts:
    """A set as rows of numbers, some thousand at a time: images, or their difference to clean ones brought to [0, 1]."""

    def __init__(self, images: ImageSet, clean: ImageSet | None, device: torch.device) -> None:
        self.images, self.clean, self.device = images, clean, device
        self.low, self.high = 0.0, 1.0
        if clean is not None:
            ends = [torch.stack(self._raw(where).aminmax()) for where in images.batches()]
            self.low, self.high = float(torch.stack(ends)[:, 0].min()), float(torch.stack(ends)[:, 1].max())
        self.held: list[tuple[Tensor, Tensor]] | None = None

    def __iter__(self) -> Any:
        if self.held is None and self.images.images.numel() <= HELD and self.low < self.high:
            self.held = list(self._made())
        return iter(self.held) if self.held is not None else self._made()

    def _made(self) -> Any:
        for where in self.images.batches():
            x = (self._raw(where) - self.low) / (self.high - self.low)
            yield x.flatten(1), self.images.labels[where].to(self.device)  # (n, C H W)

    def _raw(self, where: slice) -> Tensor:
        x = self.images.pixels(where, self.device)
        return x if self.clean is None else x - self.clean.pixels(where, self.device)
