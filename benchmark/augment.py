"""The augmentations that protocols name: whole batches on the device, every image its own draw.

A batch comes as the training set holds it, uint8 or float32. Cutting and mirroring move its values as they are, a quarter of
the bytes in 8 bits; whatever computes with values turns it into floats first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from registry._views import jitter_gray, part_resized

Augmentation = Callable[[Tensor, int], Tensor]
"""`f(x, size)`: x uint8, or float32 in [0, 1] units, (B, C, H, W); the side of the result is `size` where the name says so,
else H."""

BORDER = 4  # pixels of black around an image before it is cropped


def floats(x: Tensor) -> Tensor:
    """Return a batch as float32 in [0, 1] units."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()


def crop(x: Tensor, size: int) -> Tensor:
    """Cut a square of `size` pixels at a random place of the image with a black border of 4 pixels."""
    pixels = x.permute(0, 2, 3, 1)  # (B, H, W, C): contiguous where x is channels_last, which is what makes this fast
    count, height, width, channels = pixels.shape
    tall, wide = height + 2 * BORDER, width + 2 * BORDER
    padded = torch.zeros(count, tall, wide, channels, dtype=x.dtype, device=x.device)
    padded[:, BORDER : BORDER + height, BORDER : BORDER + width] = pixels
    side = torch.arange(size, device=x.device)
    rows = torch.randint(0, tall - size + 1, (count, 1), device=x.device) + side  # (B, size)
    columns = torch.randint(0, wide - size + 1, (count, 1), device=x.device) + side
    first = torch.arange(count, device=x.device)[:, None, None] * (tall * wide)
    index = first + rows[:, :, None] * wide + columns[:, None, :]  # (B, size, size): pixels of the whole batch
    cut = padded.view(-1, channels).index_select(0, index.flatten())
    return cut.view(count, size, size, channels).permute(0, 3, 1, 2)


def flip(x: Tensor, size: int) -> Tensor:
    """Mirror half of the images left to right."""
    mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(mirrored, x.flip(3), x)


def rotate20(x: Tensor, size: int) -> Tensor:
    """Turn every image by up to 20 degrees either way, bilinear, black moving in."""
    x = floats(x)
    angle = (torch.rand(len(x), device=x.device) * 2 - 1) * math.radians(20)
    zero = torch.zeros_like(angle)
    rows = [torch.stack([angle.cos(), -angle.sin(), zero], 1), torch.stack([angle.sin(), angle.cos(), zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def resized_crop(x: Tensor, size: int) -> Tensor:
    """Cut a rectangle of 8 to 100 % of the area and a ratio of sides from 3/4 to 4/3, and resize it to `size`, bilinear."""
    return part_resized(floats(x), size, 0.08)


def jitter(x: Tensor, size: int) -> Tensor:
    """Change brightness, contrast and saturation by factors in [0.6, 1.4] and turn the hue by up to 0.2 of the circle."""
    x = floats(x)
    return jitter_gray(x, None, jitter=1.0, gray=0.0, hue=0.2)(x)


AUGMENTATIONS: dict[str, Augmentation] = {
    "crop": crop,
    "flip": flip,
    "rotate20": rotate20,
    "resized-crop": resized_crop,
    "jitter": jitter,
}


def fit(x: Tensor, size: int) -> Tensor:
    """Bring test images to the side that the network sees: cut the centre of larger ones, enlarge smaller ones."""
    height, width = x.shape[2:]
    if height == size and width == size:
        return x
    if min(height, width) < size:
        return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    top, left = (height - size) // 2, (width - size) // 2
    return x[:, :, top : top + size, left : left + size]
