"""Views: random transforms that gradients pass through, drawn once and then applied to any batch of the same shape.

A surrogate that only ever sees images as they lie makes noise that a shifted image no longer carries. Every image of a batch
has its own draw; all indices of a gather differ, so that gradients are the same in every run, on a GPU too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry._steps import full_precision

View = Callable[[Tensor], Tensor]
"""Maps x, float32 (B, C, H, W) in [0, 1] units, to an image of the same shape; differentiable."""

Look = Callable[[Tensor, torch.Generator], View]
"""Draws a view of a batch."""

REACH = 8  # shifts go up to one part in so many of the side: 4 pixels of 32, the border of the field's random crops
LUMA = (0.299, 0.587, 0.114)


def identity(x: Tensor) -> Tensor:
    """Look at the images as they are."""
    return x


def crop_flip(x: Tensor, generator: torch.Generator) -> View:
    """Draw whole-pixel shifts of up to an eighth of the side, black moving in, and mirror half of the images."""
    down, across = (reach + _whole(x, reach, generator) for reach in _reach(x))
    mirrored = _coin(x, 0.5, generator)

    def view(z: Tensor) -> Tensor:
        z = _window(z, down, across, *x.shape[2:])
        return torch.where(mirrored, z.flip(3), z)

    return view


def shift_flip(x: Tensor, generator: torch.Generator, fill: Tensor | None = None) -> View:
    """Draw shifts of any length up to an eighth of the side, bilinear, and mirror half of the images.

    `fill` (1, C, 1, 1) is what moves in; None is black.
    """
    height, width = x.shape[2:]
    sides = zip(_reach(x), (height / REACH, width / REACH), strict=True)
    offsets = [
        _uniform(x, -reach, reach, generator) + border for border, reach in sides
    ]  # (B, 1, 1, 1), from the frame's corner
    whole = [offset.floor().long().flatten() for offset in offsets]
    part = [offset - offset.floor() for offset in offsets]
    mirrored = _coin(x, 0.5, generator)

    def view(z: Tensor) -> Tensor:
        z = z if fill is None else z - fill
        z = _window(z, whole[0], whole[1], height + 1, width + 1)
        z = z[:, :, :-1] * (1 - part[0]) + z[:, :, 1:] * part[0]
        z = z[..., :-1] * (1 - part[1]) + z[..., 1:] * part[1]
        z = z if fill is None else z + fill
        return torch.where(mirrored, z.flip(3), z)

    return view


def jitter_gray(
    x: Tensor,
    generator: torch.Generator | None,
    jitter: float = 0.8,
    gray: float = 0.2,
    hue: float = 0.1,
    reach: float = 0.4,
) -> View:
    """Draw a change of colours for a part `jitter` of the images, and remove them from a part `gray`.

    Brightness, contrast and saturation by factors in [1 - reach, 1 + reach], hue by up to `hue` of the circle, in the YIQ
    plane, where it has a gradient everywhere. Images of other than three channels have brightness and contrast only, and gray
    is their mean.
    """
    bright, contrast, colour = (_uniform(x, 1 - reach, 1 + reach, generator) for _ in range(3))
    angle = _uniform(x, -hue, hue, generator).flatten() * 2 * math.pi
    jittered, grayed = _coin(x, jitter, generator), _coin(x, gray, generator)
    channels = x.shape[1]
    weights = torch.tensor(LUMA if channels == 3 else [1 / channels] * channels, device=x.device).view(1, -1, 1, 1)
    with full_precision(x):
        turn = _hue_matrix(angle) if channels == 3 else None

    def view(z: Tensor) -> Tensor:
        changed = (z * bright).clamp(0, 1)
        mean = (changed * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
        changed = ((changed - mean) * contrast + mean).clamp(0, 1)
        if turn is not None:
            level = (changed * weights).sum(1, keepdim=True)
            changed = ((changed - level) * colour + level).clamp(0, 1)
            with full_precision(z):
                changed = torch.einsum("bij,bjhw->bihw", turn, changed).clamp(0, 1)
        z = torch.where(jittered, changed, z)
        return torch.where(grayed, (z * weights).sum(1, keepdim=True).expand_as(z), z)

    return view


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
    with full_precision(x):
        grid = F.affine_grid(theta, [count, x.shape[1], size, size], align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def contrasted(x: Tensor, least: float) -> Tensor:
    """Return a random view of every image, as contrastive learning makes two of: x float32 (B, C, H, W) in [0, 1] units.

    Resized crop of `least` to 1 of the area, mirrored with probability 0.5, colours changed with 0.8, gray with 0.2.
    Drawn from torch's own generator.
    """
    x = part_resized(x, x.shape[3], least)
    x = torch.where(_coin(x, 0.5, None), x.flip(3), x)
    return jitter_gray(x, None)(x)


def contrastive_view(x: Tensor, generator: torch.Generator, least: float, shared: bool = False) -> View:
    """Draw what `contrasted` does to every image, for gradients; `shared`: one draw for the whole batch."""
    like = x[:1] if shared else x
    part = resized_part(like, generator, least)
    mirrored, colours = _coin(like, 0.5, generator), jitter_gray(like, generator)

    def view(z: Tensor) -> Tensor:
        z = part(z)
        return colours(torch.where(mirrored, z.flip(3), z))

    return view


def contrastive_look(strength: float) -> Look:
    """Return what draws the views of contrastive learning at a `strength` of 0 to 1: each change by that part of the usual.

    Resized crop of 1 - 0.9 `strength` to 1 of the area, mirrored with probability 0.5, colours changed, some gray.
    """

    def draw(x: Tensor, generator: torch.Generator) -> View:
        part = resized_part(x, generator, max(1 - 0.9 * strength, 0.05))
        mirrored = _coin(x, 0.5, generator)
        colours = jitter_gray(x, generator, 0.8 * strength, 0.2 * strength, 0.1 * strength, 0.4 * strength)

        def view(z: Tensor) -> Tensor:
            z = part(z)
            return colours(torch.where(mirrored, z.flip(3), z))

        return view

    return draw


def resized_part(x: Tensor, generator: torch.Generator, least: float) -> View:
    """Draw a rectangle as `part_resized` does, to be resized to the whole image; products, one along each side."""
    height, width = x.shape[2:]
    area = _uniform(x, least, 1.0, generator).flatten() * height * width
    ratio = _uniform(x, math.log(3 / 4), math.log(4 / 3), generator).flatten().exp()
    across, down = (area * ratio).sqrt() / width, (area / ratio).sqrt() / height  # fractions of the image
    columns, rows = (_samples(x, part.clamp(max=1), side, generator) for part, side in ((across, width), (down, height)))

    def view(z: Tensor) -> Tensor:
        with full_precision(z):
            return rows @ z @ columns.mT

    return view


def _samples(x: Tensor, part: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Return (B, 1, side, side): the weights of `side` pixels in as many samples over a part (B,) of them, drawn where."""
    start = _uniform(x, 0, 1, generator).flatten() * (1 - part)
    pixels = torch.arange(side, device=x.device)
    at = ((start[:, None] + part[:, None] * (pixels + 0.5) / side) * side - 0.5).clamp(0, side - 1)  # (B, side), pixels
    return (1 - (at[:, :, None] - pixels).abs()).clamp(min=0)[:, None]


def _hue_matrix(angle: Tensor) -> Tensor:
    """Return what turns the hue of RGB values by `angle` (B,), radians: (B, 3, 3)."""
    to_yiq = torch.tensor([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)], device=angle.device)
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    matrix: Tensor = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return matrix


def _reach(x: Tensor) -> tuple[int, int]:
    return math.ceil(x.shape[2] / REACH), math.ceil(x.shape[3] / REACH)


def _window(x: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Cut height x width pixels at (top, left), int64 (B,), out of the black-framed images; one gather."""
    down, across = _reach(x)
    padded = F.pad(x, (across, across + 1, down, down + 1))
    rows = top[:, None] + torch.arange(height, device=x.device)  # (B, height)
    columns = left[:, None] + torch.arange(width, device=x.device)
    index = rows[:, :, None] * padded.shape[3] + columns[:, None, :]  # (B, height, width)
    index = index.flatten(1)[:, None].expand(-1, x.shape[1], -1)
    return padded.flatten(2).gather(2, index).view(*x.shape[:2], height, width)


def _whole(x: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    return torch.randint(-reach, reach + 1, (len(x),), generator=generator, device=x.device)


def _uniform(x: Tensor, low: float, high: float, generator: torch.Generator | None) -> Tensor:
    return torch.empty(len(x), 1, 1, 1, device=x.device).uniform_(low, high, generator=generator)


def _coin(x: Tensor, chance: float, generator: torch.Generator | None) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < chance
