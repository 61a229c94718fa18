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
    """Cut a rectangle of 8 to 100 % of the area and a ratio of sides from 3/4 to 4/3, and resize it to `size`, bilinear.

    The usual random resized crop, but for the rare draw that does not fit: its sides are cut to the image's.
    """
    x = floats(x)
    count, _, height, width = x.shape
    area = torch.empty(count, device=x.device).uniform_(0.08, 1.0) * height * width
    ratio = torch.empty(count, device=x.device).uniform_(math.log(3 / 4), math.log(4 / 3)).exp()
    w = ((area * ratio).sqrt() / width).clamp(max=1)  # fraction of the image
    h = ((area / ratio).sqrt() / height).clamp(max=1)
    centre_x = (torch.rand(count, device=x.device) * 2 - 1) * (1 - w)  # in [-1, 1] units of the sampling grid
    centre_y = (torch.rand(count, device=x.device) * 2 - 1) * (1 - h)
    zero = torch.zeros_like(w)
    theta = torch.stack([torch.stack([w, zero, centre_x], 1), torch.stack([zero, h, centre_y], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(theta, [count, x.shape[1], size, size], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


LUMA = (0.299, 0.587, 0.114)


def jitter(x: Tensor, size: int) -> Tensor:
    """Change brightness, contrast and saturation by factors in [0.6, 1.4] and turn the hue by up to 0.2 of the circle.

    In this order for all images; the hue turns in the YIQ plane.
    """

    def factor() -> Tensor:
        return torch.empty(len(x), 1, 1, 1, device=x.device).uniform_(0.6, 1.4)

    luma = torch.tensor(LUMA, device=x.device).view(1, 3, 1, 1)
    x = floats(x)
    x = (x * factor()).clamp(0, 1)
    mean = (x * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    x = ((x - mean) * factor() + mean).clamp(0, 1)
    gray = (x * luma).sum(1, keepdim=True)
    x = ((x - gray) * factor() + gray).clamp(0, 1)
    return turn_hue(x, (torch.rand(len(x), device=x.device) * 2 - 1) * 0.2)


def turn_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of every image by `shift` (B,), parts of the circle, in the YIQ plane; clipped to [0, 1]."""
    to_yiq = torch.tensor([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)], device=x.device)
    angle = 2 * math.pi * shift
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)  # (B, 3, 3)
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq  # (B, 3, 3)
    return torch.einsum("bij,bjhw->bihw", matrix, x).clamp(0, 1)


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
