"""LFU: what a linear model reads off the pixels is projected away, and strong augmentation blurs what remains."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, ImageSet, Job, Protocol
from unlearnable_bench.registry._papers import LEARN_FROM_UNLEARNABLE


@DEFENSES.register("lfu")
@dataclass(frozen=True)
class LearnFromUnlearnable(Defense):
    """Apply orthogonal projection, then train with rotation, shear, scaling, color jitter and CutMix.

    So the d-vae paper calls what the second step of the published code does by default; the paper's own projection is
    `ortho-proj`. Changed: these follow the protocol's crop and flip, where the code has them before; every image draws for
    itself whether and how much CutMix takes, where the code draws once per batch. The jitter clips to [0, 1] as there.
    `recipe=released` trains as the code does: 50 epochs, the learning rate times 0.1 at epochs 25 and 37, weight decay 1e-4;
    batch, peak learning rate, mean and deviation stay the protocol's.
    """

    epochs: int = 20  # of the linear model
    rotation: float = 10.0  # degrees either way
    shear: float = 10.0  # degrees either way
    zoom: float = 0.2  # largest change of the size, parts of it, 0 to below 1
    jitter: float = 0.2  # largest change of the factors of brightness, contrast and saturation, 0..1
    cutmix: float = 0.5  # probability, 0..1
    recipe: Literal["protocol", "released"] = "protocol"  # length, schedule and weight decay of the training, see above

    display_name = "Orthogonal projection with augmentation"
    label = "LfU"
    later: ClassVar[Mapping[str, Any]] = {"recipe": "protocol"}
    soft: ClassVar[bool] = True
    version: ClassVar[int] = 2  # an odd side of a CutMix rectangle is a pixel shorter
    small: ClassVar[dict[str, Any]] = {"epochs": 2}
    paper = LEARN_FROM_UNLEARNABLE

    def __post_init__(self) -> None:
        if not (self.epochs >= 0 and 0 <= self.zoom < 1 and 0 <= self.jitter <= 1 and 0 <= self.cutmix <= 1):
            raise EntryError(f"defense lfu: expected epochs of 0 or more, zoom, jitter and cutmix within 0..1, found {self}")

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from unlearnable_bench.registry.defenses.ortho_proj import OrthogonalProjection

        return OrthogonalProjection(epochs=self.epochs).purify(train, job)

    def configure(self, protocol: Protocol) -> Protocol:
        if self.recipe == "protocol":
            return protocol
        stairs = {"schedule": "milestones", "milestones": (25 / 50, 37 / 50), "gamma": 0.1}
        return replace(protocol, epochs=50, steps=0, weight_decay=1e-4, **stairs)  # type: ignore[arg-type]

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._photo import jitter, rotate, uniform, warp
        from unlearnable_bench.registry.defenses.cutmix import Cutmix

        x = rotate(x, uniform(x, -self.rotation, self.rotation))
        shrink = 1 / uniform(x, 1 - self.zoom, 1 + self.zoom)
        slant = torch.deg2rad(uniform(x, -self.shear, self.shear)).tan()
        zero = torch.zeros_like(shrink)
        x = warp(x, torch.stack([shrink, shrink * slant, zero, zero, shrink, zero], 1))
        x = jitter(x, self.jitter, self.jitter, self.jitter, 0.0)
        return Cutmix(probability=self.cutmix).augment(x, y)
