"""The network that paints noise for `deepconfuse` and `gue`, whose authors share it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Painter(nn.Module):
    """A U-Net from images to noise in (-1, 1) of the same shape, four sizes deep; sides of 8 or more."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(_double(a, b) for a, b in zip([channels, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(_double(b + a, a) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.last = nn.Sequential(nn.Conv2d(width, channels, 1), nn.BatchNorm2d(channels), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        passed = []
        for number, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if number else x)
            passed.append(x)
        passed.pop()
        for block in self.up:
            beside = passed.pop()
            x = block(torch.cat([beside, stretch(x, *beside.shape[2:])], 1))
        return self.last(x)  # type: ignore[no-any-return]


def stretch(x: Tensor, height: int, width: int) -> Tensor:
    """Enlarge bilinearly, corners on corners, as products with matrices: torch's own has gradients that vary on GPUs."""
    for axis, size in ((2, height), (3, width)):
        place = torch.linspace(0, x.shape[axis] - 1, size, device=x.device, dtype=x.dtype)  # in the small image
        weights = (1 - (place[:, None] - torch.arange(x.shape[axis], device=x.device)).abs()).clamp(min=0)
        x = torch.tensordot(x, weights, ([axis], [1])).movedim(-1, axis)
    return x


def _double(inside: int, outside: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for channels in (inside, outside):
        parts += [nn.Conv2d(channels, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)
