"""Plasma: fractal maps that lighten, darken and stretch an image here more than there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from registry._photo import each, uniform
from registry._steps import full_precision


def maps(x: Tensor, roughness: Tensor) -> Tensor:
    """Return fractal maps in [0, 1], one per image and channel, by diamond and square: the shape of x, roughness (B,)."""
    count, channels, height, width = x.shape
    grid = torch.rand(count, channels, 3, 3, device=x.device)
    plus = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]], device=x.device).expand(channels, 1, 3, 3)
    scale = roughness.view(-1, 1, 1, 1)
    while grid.shape[2] < max(height, width):
        side = 2 * grid.shape[2] - 1
        wide = torch.zeros(count, channels, side, side, device=x.device)
        wide[:, :, ::2, ::2] = grid
        centre = (grid[:, :, :-1, :-1] + grid[:, :, 1:, :-1] + grid[:, :, :-1, 1:] + grid[:, :, 1:, 1:]) / 4
        wide[:, :, 1::2, 1::2] = (1 - scale) * centre + scale * torch.rand_like(centre)
        with full_precision(x):
            around = F.conv2d(wide, plus, padding=1, groups=channels)
            around /= F.conv2d(torch.ones_like(wide[:1]), plus, padding=1, groups=channels)  # 4 neighbours, 3 at the border
        wide[:, :, ::2, 1::2] = ((1 - scale) * around + scale * torch.rand_like(around))[:, :, ::2, 1::2]
        wide[:, :, 1::2, ::2] = ((1 - scale) * around + scale * torch.rand_like(around))[:, :, 1::2, ::2]
        grid, scale = wide, scale * roughness.view(-1, 1, 1, 1)
    return grid[:, :, :height, :width]


def brightness(x: Tensor) -> Tensor:
    """Lighten and darken along a map, every image and channel its own; by up to 0.5 to 1 in pixel units."""
    strength = each(uniform(x, 0.5, 1.0))
    return (x + strength * (2 * maps(x, uniform(x, 0.3, 0.7)) - 1)).clamp_(0, 1)


def contrast(x: Tensor) -> Tensor:
    """Stretch around middle gray along a map, by factors from 0 to 4."""
    return ((x - 0.5) * 4 * maps(x, uniform(x, 0.3, 0.7)) + 0.5).clamp_(0, 1)


def shuffled(x: Tensor) -> Tensor:
    """Put the channels of every image into a random order."""
    order = torch.rand(x.shape[:2], device=x.device).argsort(1)  # (B, C)
    return x.gather(1, order[:, :, None, None].expand_as(x))
