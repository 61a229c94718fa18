"""Regions-4: one flat colour patch of random signs per quarter of the image, the same for all images of a class.

The simplest class-wise shortcut that survives crops and flips on small networks. Looks at no image.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._papers import LEARN_FROM_UNLEARNABLE
from unlearnable_bench.registry.contract import DataInfo


@ATTACKS.register("regions-4")
@dataclass(frozen=True)
class Regions(Attack):
    """A grid of p patches per class, Regions-p of Sandoval-Segura et al.; `regions=16` is their Regions-16.

    Every class has p random signs for each channel, laid out row by row in a grid of sqrt(p) x sqrt(p) patches. Patterns are
    drawn again until no two classes share one, which the paper leaves open (of 4,096 patterns, 100 classes would share with
    a chance of 70 %). Where sqrt(p) does not divide a side, patches differ by a pixel.
    """

    epsilon: float = 8 / 255  # radius in the norm, pixel units; the paper's l2 is 1.0
    norm: Literal["linf", "l2"] = "linf"  # linf: every value is -epsilon or epsilon; l2: the length of the whole pattern
    regions: int = 4  # patches, a square number

    display_name = "Regions"
    label = "Regions-{regions}"
    paper = LEARN_FROM_UNLEARNABLE

    def __post_init__(self) -> None:
        if self.regions < 1 or self.side**2 != self.regions:
            raise EntryError(f"attack regions-4: regions={self.regions}, expected a square number such as 4 or 16")

    @property
    def side(self) -> int:
        """Patches in a row."""
        return math.isqrt(max(0, self.regions))

    @property
    def budget(self) -> Budget:
        return Budget(self.norm, self.epsilon)

    def applies(self, info: DataInfo) -> None:
        channels, height, width = info.shape
        if self.side > min(height, width):
            raise NotApplicable(f"{self.side} patches in a row do not fit {height}x{width} pixels")
        if info.num_classes > 2.0 ** (channels * self.regions):
            raise NotApplicable(f"{info.num_classes} classes do not find different patterns of {self.regions} regions")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        channels, height, width = clean.images.shape[1:]
        signs = self.signs(clean.num_classes, channels, job)  # (K, p, C)
        grid = signs.view(-1, self.side, self.side, channels).permute(0, 3, 1, 2).float()  # (K, C, side, side)
        patterns = grid[:, :, _cells(height, self.side)][..., _cells(width, self.side)]  # (K, C, H, W)
        scale = self.epsilon if self.norm == "linf" else self.epsilon / math.sqrt(channels * height * width)
        patterns *= scale
        for where in clean.blocks():
            yield where, patterns[clean.labels[where]]
            job.progress(where.stop, len(clean))

    def signs(self, classes: int, channels: int, job: Job) -> Tensor:
        """Return the signs (K, p, C) of the classes' patches, no two classes alike."""
        found: dict[tuple[int, ...], Tensor] = {}
        while len(found) < classes:
            drawn = torch.randint(0, 2, (self.regions, channels), generator=job.generator) * 2 - 1
            found.setdefault(tuple(drawn.flatten().tolist()), drawn)
        return torch.stack(list(found.values()))


def _cells(pixels: int, cells: int) -> Tensor:
    """Return the cell of every pixel of a side: cell c begins at c * pixels // cells."""
    starts = torch.tensor([c * pixels // cells for c in range(cells)])
    return torch.bucketize(torch.arange(pixels), starts, right=True) - 1
