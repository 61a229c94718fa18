"""Noise of a whole set: the tensor that holds it, and how it is handed to the store."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from unlearnable_bench.registry import ImageSet

LARGE = 1 << 28  # values of noise from which half precision keeps them; its error is 0.01 of a level
DIGITS = 1e-5  # 8-bit levels, of float32, before values are cut to whole levels


def zero_noise(shape: tuple[int, ...]) -> Tensor:
    """Return zeros for the noise of a whole set, in half precision where it is large."""
    return torch.zeros(shape, dtype=torch.float32 if torch.Size(shape).numel() < LARGE else torch.float16)


def in_slices(clean: ImageSet, noise: Tensor, scale: float = 1.0) -> Iterator[tuple[slice, Tensor]]:
    """Hand noise to the store part by part, as float32 in pixel units."""
    for where in clean.batches():
        yield where, noise[where].float() * scale


def exported(delta: Tensor, variant: str, epsilon: float) -> Tensor:
    """Cut noise to whole levels as a loader that truncates does: images are whole, so the sum truncates as the noise does.

    original: above zero only. lfu: both halves, which truncating moves down by half a level; kept within epsilon.
    """
    if variant not in ("original", "lfu"):
        return delta
    levels = (255 * delta + DIGITS).floor_()
    lowest = 0.0 if variant == "original" else -round(255 * epsilon)
    return levels.clamp_(min=lowest) / 255
