"""The augmentations that protocols name: whole batches on the device, every image its own draw.

A batch comes as the training set holds it, uint8 or float32. Cutting and mirroring move its values as they are, a quarter of
the bytes in 8 bits; whatever computes with values turns it into floats first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry._views import jitter_gray, part_resized


@dataclass(frozen=True)
class Batch:
    """What an augmentation may know of the images that it changes."""

    size: int  # side that the network sees, pixels
    index: Tensor  # int64 (B,): which images of the training set, on the CPU
    epoch: int = 0  # that is under way, from 0
    seed: int = 0  # of the training


Augmentation = Callable[[Tensor, Batch], Tensor]
"""`f(x, batch)`: x uint8, or float32 in [0, 1] units, (B, C, H, W); the side of the result is `batch.size` where the name says
so, else H."""

BORDER = 4  # pixels of black around an image before it is cropped
SCATTER = 0x9E3779B1  # 2^32 over the golden ratio: multiples of it fall evenly
SHIFT = 2  # pixels by which an image is moved at most


def floats(x: Tensor) -> Tensor:
    """Return a batch as float32 in [0, 1] units."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()


def crop(x: Tensor, batch: Batch) -> Tensor:
    """Cut a square of `size` pixels at a random place of the image with a black border of 4 pixels."""
    pixels = x.permute(0, 2, 3, 1)  # (B, H, W, C): contiguous where x is channels_last, which is what makes this fast
    count, height, width, channels = pixels.shape
    padded = torch.zeros(count, height + 2 * BORDER, width + 2 * BORDER, channels, dtype=x.dtype, device=x.device)
    padded[:, BORDER : BORDER + height, BORDER : BORDER + width] = pixels
    side = torch.arange(batch.size, device=x.device)
    rows = torch.randint(0, height + 2 * BORDER - batch.size + 1, (count, 1), device=x.device) + side  # (B, size)
    columns = torch.randint(0, width + 2 * BORDER - batch.size + 1, (count, 1), device=x.device) + side
    return _picked(padded, rows, columns)


def shift(x: Tensor, batch: Batch) -> Tensor:
    """Move every image by up to 2 pixels along each axis; what comes in at the border is the image mirrored there."""
    pixels = x.permute(0, 2, 3, 1)
    count, height, width, _ = pixels.shape
    moves = torch.randint(-SHIFT, SHIFT + 1, (2, count, 1), device=x.device)
    rows = _reflected(moves[0] + torch.arange(height, device=x.device), height)
    columns = _reflected(moves[1] + torch.arange(width, device=x.device), width)
    return _picked(pixels.contiguous(), rows, columns)


def _reflected(place: Tensor, side: int) -> Tensor:
    """Return places beyond 0 .. side - 1 as mirrored at the first and the last, which are not doubled."""
    return side - 1 - (side - 1 - place.abs()).abs()


def _picked(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return of each image, (B, H, W, C), the pixels where its rows (B, h) and columns (B, w) cross: (B, C, h, w)."""
    count, height, width, channels = pixels.shape
    first = torch.arange(count, device=pixels.device)[:, None, None] * (height * width)
    index = first + rows[:, :, None] * width + columns[:, None, :]  # (B, h, w): pixels of the whole batch
    picked = pixels.view(-1, channels).index_select(0, index.flatten())
    return picked.view(*index.shape, channels).permute(0, 3, 1, 2)


def flip(x: Tensor, batch: Batch) -> Tensor:
    """Mirror half of the images left to right."""
    mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(mirrored, x.flip(3), x)


def flip_alternating(x: Tensor, batch: Batch) -> Tensor:
    """Mirror half of the images left to right in the first epoch, the other half in the second, and so on in turn.

    Two epochs show every image both ways, which chance does for half of the images only. Source: Keller Jordan, "94% on
    CIFAR-10 in 3.29 Seconds on a Single GPU", https://arxiv.org/abs/2404.00498, section 3.6.
    """
    scattered = (batch.index * SCATTER + batch.seed % (1 << 32)) >> 16  # half of these numbers are odd, in no visible order
    mirrored = ((scattered + batch.epoch) % 2 == 1).to(x.device)
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)


def rotate20(x: Tensor, batch: Batch) -> Tensor:
    """Turn every image by up to 20 degrees either way, bilinear, black moving in."""
    x = floats(x)
    angle = (torch.rand(len(x), device=x.device) * 2 - 1) * math.radians(20)
    zero = torch.zeros_like(angle)
    rows = [torch.stack([angle.cos(), -angle.sin(), zero], 1), torch.stack([angle.sin(), angle.cos(), zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def resized_crop(x: Tensor, batch: Batch) -> Tensor:
    """Cut a rectangle of 8 to 100 % of the area and a ratio of sides from 3/4 to 4/3, and resize it to `size`, bilinear."""
    return part_resized(floats(x), batch.size, 0.08)


def color_jitter(x: Tensor, batch: Batch) -> Tensor:
    """Change brightness, contrast and saturation by factors in [0.6, 1.4] and turn the hue by up to 0.2 of the circle."""
    x = floats(x)
    return jitter_gray(x, None, jitter=1.0, gray=0.0, hue=0.2)(x)


AUGMENTATIONS: dict[str, Augmentation] = {
    "crop": crop,
    "flip": flip,
    "flip-alternating": flip_alternating,
    "shift": shift,
    "rotate20": rotate20,
    "resized-crop": resized_crop,
    "jitter": color_jitter,
}


def fit_size(x: Tensor, size: int) -> Tensor:
    """Bring test images to the side that the network sees: cut the centre of larger ones, enlarge smaller ones."""
    height, width = x.shape[2:]
    if height == size and width == size:
        return x
    if min(height, width) < size:
        return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    top, left = (height - size) // 2, (width - size) // 2
    return x[:, :, top : top + size, left : left + size]
