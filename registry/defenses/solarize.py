"""Solarize: bright pixels of some images are inverted, and with them the sign of a perturbation there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError
from unlearnable_bench.registry._papers import STAGED_TRAINING


@DEFENSES.register("solarize")
@dataclass(frozen=True)
class Solarize(Defense):
    """Invert all values at or above `threshold` in an image drawn with `probability`.

    One of the single augmentations of the paper's tables. It states neither: ours are level 128 and a half.
    """

    threshold: float = 128 / 255  # pixel units; not stated; above 1: nothing happens
    probability: float = 0.5  # 0..1; not stated

    display_name = "Random solarization"
    label = "Solarize"
    paper = STAGED_TRAINING

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or self.threshold < 0:
            raise EntryError(f"defense solarize: expected threshold of 0 or more and probability 0..1, found {self}")

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._photo import chosen, solarize, some

        threshold = torch.full((len(x),), self.threshold, device=x.device)
        return chosen(some(x, self.probability), solarize(x, threshold), x), y
