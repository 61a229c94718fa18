"""LSP: linearly separable synthetic perturbations.

A low-resolution colour mosaic per image, drawn around a corner of a hypercube that belongs to the class, enlarged and scaled
to a fixed length. No image is looked at and no network is trained: linear separability alone makes it a shortcut.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, Paper
from unlearnable_bench.registry._images import empty_images

SEPARATION = 10.0  # of the class centres from the origin, per coordinate


@ATTACKS.register("lsp")
@dataclass(frozen=True)
class LSP(Attack):
    """Mosaics of random patches around one pattern per class, linearly separable (Yu et al.); also called SP, SN or SC.

    Each class has a corner b of {-1, 1}^d and a matrix A with entries uniform in [-1, 1]; the mosaic of an image is
    g A + 10 b with g standard normal, so about a third of its length is its own. What papers write as "6/255" or "8/255" is
    the l2 norm of an image that has this value everywhere (1.3041 and 1.7389 at 3x32x32), not a bound on pixels.
    `norm=linf` is ours, in no paper: the mosaic whose root mean square is epsilon, cut off at -epsilon and epsilon.
    Changed from the authors' code: exactly as many mosaics are drawn as there are images of a class, a last tile may be cut
    by the border of the image, and values are rounded, not truncated, to 8 bits.
    """

    epsilon: float = 1.3041  # radius in the norm, pixel units; 1.3041 is the authors' "6/255" at 3x32x32
    norm: Literal["l2", "linf"] = "l2"  # l2: the length of every perturbation; linf: its largest value
    patch: int = 8  # side of one tile of the mosaic, pixels

    display_name = "Linearly separable perturbations"
    label = "LSP"
    paper = Paper(
        "Availability Attacks Create Shortcuts",
        venue="KDD 2022",
        url="https://arxiv.org/abs/2111.00898",
        authors="Da Yu, Huishuai Zhang, Wei Chen, Jian Yin, Tie-Yan Liu",
        year=2022,
    )

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise EntryError(f"attack lsp: patch={self.patch}, expected 1 or more pixels")
        if self.norm == "linf" and self.epsilon > 1:
            raise EntryError(f"attack lsp: epsilon={self.epsilon} is not an linf radius in pixel units; try epsilon=8/255")

    @property
    def budget(self) -> Budget:
        return Budget(self.norm, self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        channels, height, width = clean.images.shape[1:]
        tiles = (channels, math.ceil(height / self.patch), math.ceil(width / self.patch))
        mosaics = self._mosaics(clean.labels, clean.num_classes, math.prod(tiles), job)  # (N, d)
        radius = self.epsilon * (math.sqrt(channels * height * width) if self.norm == "linf" else 1)  # l2
        for where in clean.blocks():
            small = mosaics[where].view(-1, *tiles)  # (n, C, h, w)
            wide = small.repeat_interleave(self.patch, 3)[..., :width]
            length = self._tall(wide, height).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            delta = self._tall(radius * wide / length, height)  # (n, C, H, W)
            yield where, delta.clamp_(-self.epsilon, self.epsilon) if self.norm == "linf" else delta
            job.progress(where.stop, len(clean))

    def _tall(self, wide: Tensor, height: int) -> Tensor:
        return wide.repeat_interleave(self.patch, 2)[..., :height, :]

    def _mosaics(self, labels: Tensor, num_classes: int, d: int, job: Job) -> Tensor:
        corners = distinct_corners(num_classes, d, job.generator)  # (K, d)
        result = torch.from_numpy(empty_images((len(labels), 4 * d))).view(torch.float32)  # on the disk for the largest sets
        for label in range(num_classes):
            members = labels == label
            mixing = torch.rand(d, d, generator=job.generator) * 2 - 1
            own = torch.randn(int(members.sum()), d, generator=job.generator) @ mixing  # std sqrt(d / 3)
            result[members] = own + SEPARATION * corners[label]
        return result


def distinct_corners(count: int, d: int, generator: torch.Generator) -> Tensor:
    """Return corners (count, d) of {-1, 1}^d, no two alike. EntryError if there are not so many."""
    if d < 63 and count > 2**d:
        raise EntryError(f"attack lsp: {count} classes do not find different corners among {2**d}; use a smaller patch")
    corners: dict[tuple[int, ...], Tensor] = {}
    while len(corners) < count:
        corner = torch.randint(0, 2, (d,), generator=generator) * 2 - 1
        corners.setdefault(tuple(corner.tolist()), corner.float())
    return torch.stack(list(corners.values()))
