"""CUDA: convolution-based unlearnable dataset.

Blur every image with a small random filter that belongs to its class. Nothing is added and no bound is kept: a network reads
the class off the blur. No network is trained.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, Paper

PEAK = 1.0  # the weight of one random tap of every filter; all others are below `blur`


@ATTACKS.register("cuda")
@dataclass(frozen=True)
class ConvolutionBased(Attack):
    """One random filter per class, the same in all channels; the result is divided by its maximum (Sadasivan et al.).

    The weights of a filter are uniform in [0, blur]; one of them, at a random place, is then set to 1. Beyond the border the
    image is black. `blur` is the paper's p_b; as it grows, images get softer and the classes' filters further apart. The
    defaults are those of the authors' code for CIFAR-10 and CIFAR-100, the only sets that it knows.
    Changed from the authors' code: values are rounded, not truncated, to 8 bits, and a black image stays black, where theirs
    divides zero by zero. Filters come from the cell's seed, where the code always takes seed 0.
    """

    blur: float = 0.3  # largest weight of a filter beside its peak, 0..1
    size: int = 3  # side of a filter, pixels, an odd number

    display_name = "Convolution-based unlearnable dataset"
    label = "CUDA"
    budget_norm: ClassVar[str] = "none"
    paper = Paper(
        "CUDA: Convolution-based Unlearnable Datasets",
        venue="CVPR 2023",
        url="https://arxiv.org/abs/2303.04278",
        authors="Vinu Sankar Sadasivan, Mahdi Soltanolkotabi, Soheil Feizi",
        year=2023,
    )

    def __post_init__(self) -> None:
        if not 0 <= self.blur <= 1:
            raise EntryError(f"attack cuda: blur={self.blur}, expected a weight of 0 to 1")
        if self.size < 1 or self.size % 2 == 0:
            raise EntryError(f"attack cuda: size={self.size}, expected an odd number of pixels such as 3")

    @property
    def budget(self) -> Budget:
        return Budget("none")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        filters = self.filters(clean.num_classes, job.generator)  # (K, size, size)
        for where in clean.blocks():
            x = clean.pixels(where)
            yield where, convolve(x, filters[clean.labels[where]]) - x
            job.progress(where.stop, len(clean))

    def filters(self, classes: int, generator: torch.Generator) -> Tensor:
        """Draw the filters of all classes: (classes, size, size)."""
        taps = self.size**2
        weights = torch.rand(classes, taps, generator=generator) * self.blur
        peaks = torch.randint(0, taps, (classes, 1), generator=generator)
        return weights.scatter_(1, peaks, PEAK).view(classes, self.size, self.size)


def convolve(x: Tensor, filters: Tensor) -> Tensor:
    """Convolve every image (n, C, H, W) with its own filter (n, size, size); its brightest value becomes 1."""
    images, channels, height, width = x.shape
    size = filters.shape[-1]
    weights = filters[:, None].expand(-1, channels, -1, -1).reshape(-1, 1, size, size)  # (n*C, 1, size, size)
    soft = F.conv2d(x.reshape(1, -1, height, width), weights, padding=size // 2, groups=images * channels).view_as(x)
    brightest = soft.amax((1, 2, 3), keepdim=True)  # (n, 1, 1, 1)
    return soft / torch.where(brightest > 0, brightest, 1.0)
