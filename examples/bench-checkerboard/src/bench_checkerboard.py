"""An attack and a defense from outside the program: the two entry points in pyproject.toml are all that registers them."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench import Attack, Budget, DataInfo, Defense, EntryError, ImageSet, Job, NotApplicable, Paper


@dataclass(frozen=True)
class Checkerboard(Attack):
    """Checkerboard: a coarse coloured checkerboard per class, added to every image of that class.

    The plainest class-wise shortcut: it looks at no image and needs no surrogate. Source: this example.
    """

    epsilon: float = 8 / 255  # linf radius, pixel units
    tile: int = 8  # side of one tile, pixels

    small: ClassVar[dict[str, Any]] = {"tile": 4}
    paper = Paper("Checkerboard, an example of a plug-in", venue="this repository", url="")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def applies(self, info: DataInfo) -> None:
        _, height, width = info.shape
        if height % self.tile or width % self.tile:
            raise NotApplicable(f"tile={self.tile} does not divide images of {height}x{width}")

    def craft(self, clean: ImageSet, job: Job) -> Tensor:
        _, channels, height, width = clean.images.shape
        tiles = (clean.num_classes, channels, height // self.tile, width // self.tile)
        signs = torch.randint(0, 2, tiles, generator=job.generator).float() * 2 - 1  # (K, C, h, w)
        pattern = signs.repeat_interleave(self.tile, 2).repeat_interleave(self.tile, 3)  # (K, C, H, W)
        return self.epsilon * pattern[clean.labels]  # (N, C, H, W)


@dataclass(frozen=True)
class BoxBlur(Defense):
    """Box blur: every pixel becomes the mean of its neighbourhood, which washes out fine perturbations.

    Against coarse ones, such as large tiles, it should do little. Source: this example.
    """

    side: int = 3  # of the square neighbourhood, pixels, odd

    per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.side < 1 or self.side % 2 == 0:
            raise EntryError(f"defense box-blur: side={self.side}, expected an odd number of pixels")

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        result = torch.empty(train.images.shape, dtype=torch.uint8)
        margin = self.side // 2
        for where in train.batches():
            x = F.pad(train.pixels(where), (margin,) * 4, mode="replicate")
            result[where] = (F.avg_pool2d(x, self.side, stride=1) * 255).round().clamp(0, 255).to(torch.uint8)
            job.progress(where.stop, len(train))
        return replace(train, images=result)
