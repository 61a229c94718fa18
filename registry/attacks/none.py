"""No attack: the clean training set, the reference row."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, ImageSet, Job, Paper


@ATTACKS.register("none")
@dataclass(frozen=True)
class Nothing(Attack):
    """No attack: the clean images."""

    display_name = "Clean images"
    label = "Clean"
    identity: ClassVar[bool] = True
    paper = Paper("Clean training", venue="this repository", url="")

    @property
    def budget(self) -> Budget:
        return Budget("linf", 0.0)

    def craft(self, clean: ImageSet, job: Job) -> Tensor:
        return torch.zeros(clean.images.shape)
