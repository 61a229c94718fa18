"""Random crops and colours of whole batches, every image its own draw, with gradients to the images; views made of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)


def part_resized(x: Tensor, size: int, least: float) -> Tensor:
    """Cut a rectangle of `least` to 1 of the area and a ratio of sides from 3/4 to 4/3, and resize it to `size`, bilinear.

    The usual random resized crop, but for the rare draw that does not fit: its sides are cut to the image's.
    """
    count, _, height, width = x.shape
    area = torch.empty(count, device=x.device).uniform_(least, 1.0) * height * width
    ratio = torch.empty(count, device=x.device).uniform_(math.log(3 / 4), math.log(4 / 3)).exp()
    w = ((area * ratio).sqrt() / width).clamp(max=1)  # fraction of the image
    h = ((area / ratio).sqrt() / height).clamp(max=1)
    centre_x = (torch.rand(count, device=x.device) * 2 - 1) * (1 - w)  # in [-1, 1] units of the sampling grid
    centre_y = (torch.rand(count, device=x.device) * 2 - 1) * (1 - h)
    zero = torch.zeros_like(w)
    theta = torch.stack([torch.stack([w, zero, centre_x], 1), torch.stack([zero, h, centre_y], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(theta, [count, x.shape[1], size, size], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def recoloured(x: Tensor, strength: float, hue: float) -> Tensor:
    """Change brightness, contrast and saturation by factors in 1 +- `strength`, turn the hue by up to `hue` of the circle.

    In this order for all images; the hue turns in the YIQ plane.
    """

    def factor() -> Tensor:
        return torch.empty(len(x), 1, 1, 1, device=x.device).uniform_(1 - strength, 1 + strength)

    x = (x * factor()).clamp(0, 1)
    mean = gray(x).mean((2, 3), keepdim=True)
    x = ((x - mean) * factor() + mean).clamp(0, 1)
    plain = gray(x)
    x = ((x - plain) * factor() + plain).clamp(0, 1)
    return turn_hue(x, (torch.rand(len(x), device=x.device) * 2 - 1) * hue)


def gray(x: Tensor) -> Tensor:
    """Return the luma (B, 1, H, W) of colour images; the mean of all channels where there are not three."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * torch.tensor(LUMA, device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def turn_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of every image by `shift` (B,), parts of the circle, in the YIQ plane; clipped to [0, 1]."""
    if x.shape[1] != 3:
        return x
    to_yiq = torch.tensor([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)], device=x.device)
    angle = 2 * math.pi * shift
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)  # (B, 3, 3)
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq  # (B, 3, 3)
    return torch.einsum("bij,bjhw->bihw", matrix, x).clamp(0, 1)


def view(x: Tensor, least: float) -> Tensor:
    """Return a random view of every image, as contrastive learning makes two of: x float32 (B, C, H, W) in [0, 1] units.

    Resized crop of `least` to 1 of the area, mirrored with probability 0.5, recoloured (0.4, hue 0.1) with 0.8, gray with 0.2.
    """
    x = part_resized(x, x.shape[3], least)
    x = torch.where(_some(x, 0.5), x.flip(3), x)
    x = torch.where(_some(x, 0.8), recoloured(x, 0.4, 0.1), x)
    return torch.where(_some(x, 0.2), gray(x).expand_as(x), x)


def _some(x: Tensor, probability: float) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, device=x.device) < probability
