"""RSK+FF: sharpen every image by a random kernel against a blur, then drop the high frequencies that this brings up."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Paper
from unlearnable_bench.registry.contract import DataInfo


@DEFENSES.register("rsk")
@dataclass(frozen=True)
class RandomSharpening(Defense):
    """Random sharpening kernels and frequency filtering (Kim and Sandoval-Segura).

    Made against `cuda`. The center of an image's kernel is drawn around `center`, each of its four neighbors around
    (center - 1) / 4, with the same deviation; corners are 0. Of the cosine transform of the sharpened image the lowest `kept`
    of the rows and columns stay. SSK, the paper's static kernel, is `deviation=0`; RSK without frequency filtering is `kept=1`;
    frequency filtering alone is `center=1,deviation=0`.
    Changed from the authors' code: batches are changed behind the protocol's crop and flip, and the edge of an image repeats
    beyond its border. Theirs sharpens first, which costs a pixel on each side, and crops what is left.
    """

    center: float = 2.5  # mean of the center of a kernel; 1: no sharpening
    deviation: float = 0.1  # standard deviation of every number of a kernel; 0: the same kernel for all images
    kept: float = 0.3  # part of the rows and of the columns of the cosine transform, 0..1

    display_name = "Random sharpening and frequency filtering"
    label = "RSK+FF"
    paper = Paper(
        "Learning from Convolution-based Unlearnable Datasets",
        venue="NeurIPS 2024 workshop AdvML-Frontiers",
        url="https://arxiv.org/abs/2411.01742",
        authors="Dohyun Kim, Pedro Sandoval-Segura",
        year=2024,
    )

    def __post_init__(self) -> None:
        if self.deviation < 0:
            raise EntryError(f"defense rsk: deviation={self.deviation}, expected 0 or more")
        if not 0 < self.kept <= 1:
            raise EntryError(f"defense rsk: kept={self.kept}, expected a part above 0, up to 1")

    def applies(self, info: DataInfo) -> None:
        from unlearnable_bench.registry._filters import need_sides

        need_sides(info)

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._steps import full_precision

        draws = torch.randn(5, len(x), device=x.device) * self.deviation
        center = self.center + draws[0]
        with full_precision(x):
            sharp = sharpen(x, center, (center - 1) / 4 + draws[1:])
            return low_frequencies(sharp, self.kept), y


def sharpen(x: Tensor, center: Tensor, neighbors: Tensor) -> Tensor:
    """Take `neighbors` (4, B) times the pixels above, left, right and below from `center` (B,) times each pixel; clip."""
    from unlearnable_bench.registry._photo import each

    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")  # (B, C, H + 2, W + 2)
    above, left, right, below = (each(weights) for weights in neighbors)
    sharp = each(center) * x - above * padded[:, :, :-2, 1:-1] - below * padded[:, :, 2:, 1:-1]
    sharp -= left * padded[:, :, 1:-1, :-2] + right * padded[:, :, 1:-1, 2:]
    return sharp.clamp_(0, 1)


def low_frequencies(x: Tensor, kept: float) -> Tensor:
    """Keep the lowest part `kept` of the rows and columns of each channel's cosine transform; clip."""
    if kept == 1:
        return x
    rows, columns = (_projection(side, max(1, int(side * kept))).to(x) for side in x.shape[2:])
    return (rows @ x @ columns).clamp_(0, 1)


def _projection(side: int, kept: int) -> Tensor:
    """Return the matrix (side, side) that keeps the first `kept` waves of the orthonormal cosine transform (type II)."""
    waves = torch.arange(kept, dtype=torch.float64)[:, None]
    places = (torch.arange(side, dtype=torch.float64) + 0.5) * math.pi / side
    basis = F.normalize(torch.cos(waves * places), dim=1)  # (kept, side)
    return basis.T @ basis
