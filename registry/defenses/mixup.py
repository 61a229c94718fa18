"""Mixup: between two images, the shortcuts of both are faint and their labels are in doubt."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Paper


@DEFENSES.register("mixup")
@dataclass(frozen=True)
class Mixup(Defense):
    """Blend every image of a batch with another one and their labels in the same proportion, drawn for each image.

    The code of several poisoning papers mixes twice, each time with probability a half: `mixup(mixes=2,probability=0.5)`.
    Partners come from the same batch; training accuracy is that on the heavier label.
    """

    alpha: float = 1.0  # of Beta(alpha, alpha), from which the part of the image itself is drawn
    probability: float = 1.0  # that an image is mixed, 0..1
    mixes: int = 1  # times, one after another

    display_name = "Mixup"
    label = "Mixup"
    soft: ClassVar[bool] = True
    paper = Paper(
        "mixup: Beyond Empirical Risk Minimization",
        venue="ICLR 2018",
        url="https://arxiv.org/abs/1710.09412",
        authors="Hongyi Zhang, Moustapha Cisse, Yann N. Dauphin, David Lopez-Paz",
        year=2018,
    )

    def __post_init__(self) -> None:
        if self.alpha <= 0 or not 0 <= self.probability <= 1 or self.mixes < 0:
            raise EntryError(f"defense mixup: expected alpha above 0, probability 0..1 and mixes of 0 or more, found {self}")

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._mixing import as_rows, blended, shares

        y = as_rows(y)
        for _ in range(self.mixes):
            keep = shares(x, self.alpha, self.probability)
            partner = torch.randperm(len(x), device=x.device)
            weight = keep.view(-1, 1, 1, 1)
            x, y = weight * x + (1 - weight) * x[partner], blended(y, partner, keep)
        return x, y
