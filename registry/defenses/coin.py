"""COIN: read every pixel a little beside its place, anew each time, so that no filter of a class is left to be seen."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Paper
from unlearnable_bench.registry.contract import DataInfo


@DEFENSES.register("coin")
@dataclass(frozen=True)
class RandomInterpolation(Defense):
    """Interpolate every pixel bilinearly at a random offset, the same in all channels (Li et al.).

    Made against `cuda`. Offsets are uniform in [-alpha, alpha] along each axis; the default is the authors' severity 4 of 7,
    whose steps are 0.4. Beyond the border the image goes on at the opposite edge, which it shares with its first row and
    column. As in the code, batches are changed behind crop and flip, in every epoch.
    Changed from the authors' code: values are not truncated to 8 bits. The code trains for 80 epochs at a constant rate; ours
    has the protocol's. The paper's detector of convolved images, EPD, is not here: its code is not public.
    """

    alpha: float = 2.0  # largest offset along an axis, pixels; their severities: 0.8 to 3.2

    display_name = "Corruption by random interpolation"
    label = "COIN"
    paper = Paper(
        "Detecting and Corrupting Convolution-based Unlearnable Examples",
        venue="AAAI 2025",
        url="https://arxiv.org/abs/2311.18403",
        authors="Minghui Li, Xianlong Wang, Zhifei Yu, Shengshan Hu, Ziqi Zhou, Longling Zhang, Leo Yu Zhang",
        year=2025,
    )

    def __post_init__(self) -> None:
        if self.alpha < 0:
            raise EntryError(f"defense coin: alpha={self.alpha}, expected 0 or more pixels")

    def applies(self, info: DataInfo) -> None:
        from unlearnable_bench.registry._filters import need_sides

        need_sides(info)

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        images, _, height, width = x.shape
        offsets = torch.empty(2, images, height, width, device=x.device).uniform_(-self.alpha, self.alpha)
        return interpolate(x, *offsets), y


def interpolate(x: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Read the pixels of x (B, C, H, W) at `right` and `down` of their places: both (B, H, W), in pixels."""
    from unlearnable_bench.registry._steps import full_precision

    rows, columns = (torch.arange(side, device=x.device, dtype=x.dtype) for side in x.shape[2:])
    across = _wrapped(columns + right, x.shape[3] - 1)  # (B, H, W)
    along = _wrapped(rows[:, None] + down, x.shape[2] - 1)
    with full_precision(x):
        return F.grid_sample(x, torch.stack([across, along], 3), padding_mode="border", align_corners=True)


def _wrapped(places: Tensor, last: int) -> Tensor:
    """Bring places into 0..last, where the first and the last pixel are one; return them as -1..1."""
    outside = (places < 0) | (places > last)
    return torch.where(outside, places.remainder(last), places) * (2 / last) - 1
