"""Whether perturbations make images darker, and whether they sit on edges."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import ANALYSES, Analysis, Context, EntryError, NotApplicable
from unlearnable_bench.registry._papers import STABLE_UNLEARNABLE

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


@ANALYSES.register("luminance")
@dataclass(frozen=True)
class Luminance(Analysis):
    """Mean change of the luminance of poisoned images, and the part of the perturbations that lies on edges.

    The paper's text on figures 4, 6 and 8 to 11 says of pictures that some attacks lower luminance and that others sit on
    edges, and measures neither. Figures, means over the poisoned images: `luminance_shift`, the change of an image's mean
    luminance in 8-bit levels with its sign, `luminance_change` without it; `edge_share`, the part of the squares of a
    perturbation on the positions where the clean image's luminance is steepest (Sobel), a fifth of all: 0.2 where noise has
    nothing to do with edges.
    """

    edges: float = 0.2  # part of an image's positions that are its edges, 0..1

    display_name = "Change of luminance"
    label = "Luminance"
    paper = STABLE_UNLEARNABLE
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison")

    def __post_init__(self) -> None:
        if not 0 < self.edges < 1:
            raise EntryError(f"analysis luminance: edges={self.edges}; expected a part of an image, above 0 and below 1")

    def measure(self, context: Context) -> dict[str, float]:
        rows = torch.nonzero(context.chosen).flatten()
        shifts, shares = [], []
        for part in rows.split(256):
            clean, poison = context.clean.pixels(part).double(), context.poison.pixels(part).double()
            shifts.append(255 * (luminance(poison) - luminance(clean)).flatten(1).mean(1))  # (n,)
            squares = (poison - clean).square().sum(1).flatten(1)  # (n, H W)
            changed = squares.sum(1) > 0
            on_edges = (squares * steepest(luminance(clean), self.edges)).sum(1)
            shares.append(on_edges[changed] / squares.sum(1)[changed])
        if not shares or not torch.cat(shares).numel():
            raise NotApplicable("no image is poisoned, there is no perturbation to measure")
        shift = torch.cat(shifts)
        return {
            "luminance_shift": float(shift.mean()),
            "luminance_change": float(shift.abs().mean()),
            "edge_share": float(torch.cat(shares).mean()),
        }


def luminance(x: Tensor) -> Tensor:
    """Return the luminance of images (n, C, H, W), as (n, 1, H, W); of other than three channels their mean."""
    if x.shape[1] != len(LUMA):
        return x.mean(1, keepdim=True)
    return (x * torch.tensor(LUMA, dtype=x.dtype).view(1, -1, 1, 1)).sum(1, keepdim=True)


def steepest(gray: Tensor, part: float) -> Tensor:
    """Return which positions of images (n, 1, H, W) have the largest gradients by Sobel: bool (n, H W), so many of each."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=gray.dtype)
    filters = torch.stack([across, across.T])[:, None]  # (2, 1, 3, 3)
    slope = F.conv2d(F.pad(gray, (1, 1, 1, 1), mode="replicate"), filters).square().sum(1).flatten(1)  # (n, H W)
    first = slope.argsort(dim=1, descending=True, stable=True)[:, : max(1, round(part * slope.shape[1]))]
    return torch.zeros(slope.shape, dtype=torch.bool).scatter_(1, first, True)
