"""UEraser: augmentations stronger than any bounded perturbation, the worst of several of them trained on."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, ImageSet, Job, Paper, Protocol


@DEFENSES.register("ueraser")
@dataclass(frozen=True)
class UEraser(Defense):
    """Train on plasma brightness, plasma contrast, shuffled channels and TrivialAugment; first on the worst of `copies`.

    `lite` never looks for the worst, `standard` for the first part of training, `max` always. They follow the protocol's crop
    and flip. As in the scripts that train, every copy of a batch draws an operation of TrivialAugment for all its images, and
    each image its strength. Operations and plasma are those of kornia 0.6.12: brightness adds, contrast multiplies, half of the
    images are neither turned, sheared nor moved. `jpeg` is the variant for TAP and AR: `last` compresses at quality 10 behind
    all else (the authors), `first` at a quality from 10 to 99 drawn per batch, before it (APBench; 95 at most here, and without
    its shift by half a level); no gradient flows through it, and none is needed. Changed: the worst copy is found by passes
    without gradients and without moving batch normalisation, a pass per copy, then passed once more with them; the published
    code passes all copies tiled into one batch, or one after another with moving statistics. Short trainings do not survive it:
    a small network that learns clean data in a few epochs hardly does from the worst of five copies, so that low figures there
    say nothing of a poison. Length and learning rate are the protocol's unless given; d-vae's authors ran 200 epochs at a
    constant 0.01.
    """

    mode: str = "standard"  # lite, standard or max
    copies: int = 5  # augmentations per image, of which the worst is trained on
    share: float = 0.25  # part of training in which `standard` looks for the worst; the paper: 50 of 200 epochs
    plasma: float = 0.5  # probability of each of the two; 1 in the published notebook and APBench, there 0.8 for TAP and AR
    jpeg: Literal["none", "first", "last"] = "none"  # where a batch is compressed
    epochs: int = 0  # 0: the protocol's
    lr: float = 0.0  # 0: the protocol's
    schedule: str = ""  # "": the protocol's

    display_name = "UEraser"
    label = "UEraser {mode}"
    version: ClassVar[int] = 3  # operations of kornia, one draw per copy
    paper = Paper(
        "Learning the Unlearnable: Adversarial Augmentations Suppress Unlearnable Example Attacks",
        venue="arXiv 2023",
        url="https://arxiv.org/abs/2303.15127",
        authors="Tianrui Qin, Xitong Gao, Juanjuan Zhao, Kejiang Ye, Cheng-Zhong Xu",
        year=2023,
    )

    def __post_init__(self) -> None:
        if self.mode not in ("lite", "standard", "max"):
            raise EntryError(f"defense ueraser: unknown mode {self.mode!r}; modes are lite, standard and max")
        if self.copies < 1 or not 0 <= self.share <= 1 or not 0 <= self.plasma <= 1:
            raise EntryError(f"defense ueraser: expected copies of 1 or more, share and plasma 0..1, found {self}")

    @property
    def adversarial(self) -> float:
        """Part of training, 0..1, in which the worst copy is looked for."""
        if self.copies == 1:
            return 0.0
        return {"lite": 0.0, "standard": self.share, "max": 1.0}[self.mode]

    @property
    def cost(self) -> float:
        """A copy costs one pass of the three of plain training."""
        return 1 + self.adversarial * self.copies / 3

    def configure(self, protocol: Protocol) -> Protocol:
        given = {"epochs": self.epochs, "lr": self.lr, "schedule": self.schedule}
        changes = {name: value for name, value in given.items() if value}
        if self.epochs:
            changes["steps"] = 0
        return replace(protocol, **changes)  # type: ignore[arg-type]

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        if progress >= self.adversarial:
            return F.cross_entropy(model(self._changed(x)), y)
        return F.cross_entropy(model(self.worst(model, x, y)), y)

    def worst(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return of every image the copy with the largest loss."""
        from unlearnable_bench.registry._steps import unmoved

        copies = torch.stack([self._changed(x) for _ in range(self.copies)])  # (K, B, C, H, W)
        with torch.no_grad(), unmoved(model):
            losses = torch.stack([F.cross_entropy(model(copy).float(), y, reduction="none") for copy in copies])  # (K, B)
        torch.clear_autocast_cache()  # of weights that were cast without gradients: torch 2.11 may give them to the next pass
        return copies[losses.argmax(0), torch.arange(len(x), device=x.device)]

    def _changed(self, x: Tensor) -> Tensor:
        from unlearnable_bench.registry import _plasma
        from unlearnable_bench.registry._photo import chosen, some
        from unlearnable_bench.registry._policies import trivialaugment

        if self.jpeg == "first":
            x = _compressed(x, int(torch.randint(10, 96, ())))
        x = chosen(some(x, self.plasma), _plasma.plasma_brightness(x), x)
        x = chosen(some(x, self.plasma), _plasma.plasma_contrast(x), x)
        x = chosen(some(x, 0.5), _plasma.shuffled(x), x)
        x = trivialaugment(x).clamp_(0, 1)
        return _compressed(x, 10) if self.jpeg == "last" else x


def _compressed(x: Tensor, quality: int) -> Tensor:
    """Return a batch, float32 (B, C, H, W) in [0, 1], as JPEG leaves it."""
    images = ImageSet(x.cpu(), torch.zeros(len(x), dtype=torch.int64), 1)
    compressed: ImageSet = DEFENSES["jpeg"](quality=quality).purify(images, Job())
    return compressed.pixels(slice(None), x.device)
