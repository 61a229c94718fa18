"""3x3 filters of whole sets in 8-bit integers: what image libraries compute, many images at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry.contract import DataInfo, ImageSet, Job, NotApplicable

TOGETHER = 128  # images: what one step works on stays in a core's cache


def filtered(train: ImageSet, job: Job, filter_: Callable[[Tensor], Tensor]) -> ImageSet:
    """Return the set with every image passed through `filter_`, which maps uint8 (n, C, H, W) to the same."""
    result = torch.empty(train.images.shape, dtype=torch.uint8)
    for where in train.batches(TOGETHER):
        result[where] = filter_(train.levels(where).contiguous())
        job.progress(where.stop, len(train))
    return replace(train, images=result)


def weighted(x: Tensor, weights: Sequence[int]) -> Tensor:
    """Average 3x3 neighbours with the products of three integer `weights` per axis; a half is rounded up.

    Beyond the border the image is mirrored without repeating its edge. uint8 (n, C, H, W), sides of 2 or more.
    """
    side, middle, other = weights
    total = sum(weights) ** 2
    rows = _mirrored(x.to(torch.int16), 2)  # (n, C, H + 2, W)
    rows = side * rows[:, :, :-2] + middle * rows[:, :, 1:-1] + other * rows[:, :, 2:]
    both = _mirrored(rows, 3)
    both = side * both[..., :-2] + middle * both[..., 1:-1] + other * both[..., 2:]
    return (both * 2 + total).div_(2 * total, rounding_mode="floor").to(torch.uint8)


def median(x: Tensor) -> Tensor:
    """Replace every value by the median of its 3x3 neighbours; beyond the border the edge repeats. uint8 (n, C, H, W).

    The median of nine is the median of three values: the largest of the columns' minima, the median of their medians
    and the smallest of their maxima.
    """
    rows = torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2)  # (n, C, H + 2, W)
    low, middle, high = _sorted(rows[:, :, :-2], rows[:, :, 1:-1], rows[:, :, 2:])
    low, middle, high = (torch.cat([v[..., :1], v, v[..., -1:]], 3) for v in (low, middle, high))  # (n, C, H, W + 2)
    least = torch.maximum(torch.maximum(low[..., :-2], low[..., 1:-1]), low[..., 2:])
    most = torch.minimum(torch.minimum(high[..., :-2], high[..., 1:-1]), high[..., 2:])
    _, between, _ = _sorted(middle[..., :-2], middle[..., 1:-1], middle[..., 2:])
    return _sorted(least, between, most)[1]


def need_sides(info: DataInfo) -> None:
    """Raise NotApplicable where images are too small to be mirrored at their border."""
    if min(info.shape[1:]) < 2:
        raise NotApplicable(f"needs images of 2x2 or larger, these are {info.shape[1]}x{info.shape[2]}")


def _mirrored(x: Tensor, axis: int) -> Tensor:
    return torch.cat([x.narrow(axis, 1, 1), x, x.narrow(axis, x.shape[axis] - 2, 1)], axis)


def _sorted(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    return torch.minimum(low, c), torch.maximum(low, torch.minimum(high, c)), torch.maximum(high, c)


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """Blur with a 3x3 Gaussian of deviation `sigma` in pixels, mirrored at the border, rounded. uint8 (n, C, H, W)."""
    tap = torch.exp(torch.tensor([-1.0, 0.0, -1.0], dtype=torch.float64) / (2 * sigma**2))
    tap = (tap / tap.sum()).float()
    padded = F.pad(x.float(), (1, 1, 1, 1), mode="reflect")
    rows = tap[0] * padded[:, :, :-2] + tap[1] * padded[:, :, 1:-1] + tap[2] * padded[:, :, 2:]
    both = tap[0] * rows[..., :-2] + tap[1] * rows[..., 1:-1] + tap[2] * rows[..., 2:]
    return both.round_().clamp_(0, 255).to(torch.uint8)
