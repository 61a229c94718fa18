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

from registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, Paper

SEPARATION = 10.0  # of the class centres from the origin, per coordinate


@ATTACKS.register("lsp")
@dataclass(frozen=True)
class LSP(Attack):
    """Yu et al.'s synthetic shortcuts, also called SP, SN or SC.

    Each class has a corner b of {-1, 1}^d and a matrix A with entries uniform in [-1, 1]; the mosaic of an image is
    g A + 10 b with g standard normal, so about a third of its length is its own. Changed from the authors' code: exactly as
    many mosaics are drawn as there are images of a class, and values are rounded, not truncated, to 8 bits.
    """

    epsilon: float = 1.3041  # l2 norm of every perturbation, pixel units; 1.3041 is the authors' "6/255" at 3x32x32
    norm: Literal["l2"] = "l2"
    patch: int = 8  # side of one tile of the mosaic, pixels

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

    @property
    def budget(self) -> Budget:
        return Budget("l2", self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        channels, height, width = clean.images.shape[1:]
        tiles = (channels, math.ceil(height / self.patch), math.ceil(width / self.patch))
        mosaics = self._mosaics(clean.labels, clean.num_classes, math.prod(tiles), job)  # (N, d)
        for where in clean.batches():
            small = mosaics[where].view(-1, *tiles)  # (n, C, h, w)
            large = small.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)[..., :height, :width]
            length = large.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            yield where, self.epsilon * large / length
            job.progress(where.stop, len(clean))

    def _mosaics(self, labels: Tensor, num_classes: int, d: int, job: Job) -> Tensor:
        corners = _distinct_corners(num_classes, d, job.generator)  # (K, d)
        result = torch.empty(len(labels), d)
        for label in range(num_classes):
            members = labels == label
            mixing = torch.rand(d, d, generator=job.generator) * 2 - 1
            own = torch.randn(int(members.sum()), d, generator=job.generator) @ mixing  # std sqrt(d / 3)
            result[members] = own + SEPARATION * corners[label]
        return result


def _distinct_corners(count: int, d: int, generator: torch.Generator) -> Tensor:
    if d < 63 and count > 2**d:
        raise EntryError(f"attack lsp: {count} classes do not find different corners among {2**d}; use a smaller patch")
    corners: dict[tuple[int, ...], Tensor] = {}
    while len(corners) < count:
        corner = torch.randint(0, 2, (d,), generator=generator) * 2 - 1
        corners.setdefault(tuple(corner.tolist()), corner.float())
    return torch.stack(list(corners.values()))
