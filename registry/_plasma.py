"""Plasma: fractal maps that lighten, darken and stretch an image here more than there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry._photo import each, uniform


def maps(x: Tensor, roughness: Tensor) -> Tensor:
    """Return fractal maps, one per image and channel, by diamond and square: the shape of x, roughness (B,).

    As kornia 0.6.12 makes them, from which UEraser's code takes them: values from 0 to some 1.4, at a roughness of 0.3 with a
    mean of 0.45. On a border the pixel inside counts twice among the neighbours.
    """
    count, channels, height, width = x.shape
    grid, scale = _seeds(count, channels, x.device), roughness.view(-1, 1, 1, 1)
    while grid.shape[2] < max(height, width):
        side = 2 * grid.shape[2] - 1
        wide = torch.zeros(count, channels, side, side, device=x.device)
        noise = scale * torch.rand_like(wide)
        wide[:, :, ::2, ::2] = grid
        centre = (grid[:, :, :-1, :-1] + grid[:, :, 1:, :-1] + grid[:, :, :-1, 1:] + grid[:, :, 1:, 1:]) / 4
        wide[:, :, 1::2, 1::2] = (1 - scale) * centre + noise[:, :, 1::2, 1::2]
        between = (1 - scale) * _around(wide) + noise
        wide[:, :, ::2, 1::2] = between[:, :, ::2, 1::2]
        wide[:, :, 1::2, ::2] = between[:, :, 1::2, ::2]
        grid, scale = wide, scale * roughness.view(-1, 1, 1, 1)
    return grid[:, :, :height, :width]


def _seeds(count: int, channels: int, device: torch.device) -> Tensor:
    """Return maps of 3x3 pixels to begin with: corners and centre up to a third, borders between them up to one."""
    corners = torch.rand(count, channels, 2, 2, device=device)
    grid = torch.zeros(count, channels, 3, 3, device=device)
    centre = corners.mean((2, 3))
    grid[:, :, ::2, ::2] = corners
    grid[:, :, 1, 1] = centre
    grid[:, :, 0, 1] = corners[:, :, 0].sum(2) + centre
    grid[:, :, 1, 0] = corners[:, :, :, 0].sum(2) + centre
    grid[:, :, 1, 2] = corners[:, :, :, 1].sum(2) + centre
    grid[:, :, 2, 1] = corners[:, :, :, 1].sum(2) + centre  # as there: of the right corners, not of the lower ones
    return grid / 3


def _around(wide: Tensor) -> Tensor:
    """Return the mean of the four neighbours of every pixel; on a border the one inside counts twice, of three."""
    padded = F.pad(wide, (1, 1, 1, 1), mode="reflect")
    total = padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1] + padded[:, :, 1:-1, :-2] + padded[:, :, 1:-1, 2:]
    side = wide.shape[2]
    neighbours = torch.full((side, side), 4.0, device=wide.device)
    neighbours[[0, -1]] = 3
    neighbours[:, [0, -1]] = 3
    return total / neighbours


def plasma_brightness(x: Tensor) -> Tensor:
    """Lighten and darken along a map, every image and channel its own; by up to 0.5 to 1 in pixel units."""
    strength = each(uniform(x, 0.5, 1.0))
    return (x + strength * (2 * maps(x, uniform(x, 0.3, 0.7)) - 1)).clamp_(0, 1)


def plasma_contrast(x: Tensor) -> Tensor:
    """Stretch around middle gray along a map, by four times its values."""
    return ((x - 0.5) * 4 * maps(x, uniform(x, 0.3, 0.7)) + 0.5).clamp_(0, 1)


def shuffled(x: Tensor) -> Tensor:
    """Put the channels of every image into a random order."""
    order = torch.rand(x.shape[:2], device=x.device).argsort(1)  # (B, C)
    return x.gather(1, order[:, :, None, None].expand_as(x))
