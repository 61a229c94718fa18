"""Operations on batches of images, a strength of its own for every image: what image libraries do to one at a time.

x is float32 (B, C, H, W) in [0, 1] units, three channels where colours matter; strengths are (B,). Results are new tensors,
clipped to [0, 1] where a library would clip.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry._steps import full_precision

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


def uniform(x: Tensor, low: float, high: float) -> Tensor:
    """Draw one number in [low, high) for every image of x: (B,)."""
    return torch.empty(len(x), device=x.device).uniform_(low, high)


def some(x: Tensor, probability: float) -> Tensor:
    """Draw for every image of x whether something happens to it: bool (B,)."""
    return torch.rand(len(x), device=x.device) < probability


def chosen(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return `new` for the images that `which` (B,) marks, `old` for the others."""
    return torch.where(which.view(-1, 1, 1, 1), new, old)


def each(values: Tensor) -> Tensor:
    """Return one value per image in a shape that multiplies images: (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def luma(x: Tensor) -> Tensor:
    """Return what is seen without colours, (B, 1, H, W)."""
    if x.shape[1] == 1:
        return x
    return (x * torch.tensor(LUMA, device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return factor x + (1 - factor) other, clipped: 0 gives `other`, 1 gives x."""
    return (each(factor) * x + (1 - each(factor)) * other).clamp_(0, 1)


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply by `factor`: 0 is black, 1 changes nothing."""
    return (x * each(factor)).clamp_(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Move away from the image's mean luma by `factor`."""
    return blend(x, luma(x).mean((2, 3), keepdim=True), factor)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Move away from the luma of each pixel by `factor`: 0 is gray."""
    return blend(x, luma(x), factor)


def hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of HSV by `shift`, parts of the circle. A single channel has none and stays."""
    if x.shape[1] == 1:
        return x
    high, low = x.amax(1), x.amin(1)  # (B, H, W)
    span = high - low
    safe = torch.where(span > 0, span, torch.ones_like(span))
    red, green, blue = x.unbind(1)
    sixth = torch.where(
        high == red, (green - blue) / safe, torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    turned = torch.remainder(sixth + 6 * shift.view(-1, 1, 1), 6)  # (B, H, W), sixths of the circle
    channels = []
    for offset in (5.0, 3.0, 1.0):  # red, green, blue: how far the pixel's hue is from where the channel is low
        k = torch.remainder(turned + offset, 6)
        channels.append(high - span * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, 1)


def gamma(x: Tensor, exponent: Tensor) -> Tensor:
    """Raise to the power `exponent`; values below 0 count as 0."""
    return x.clamp(0, 1) ** each(exponent)


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values that are `threshold` (pixel units) or more."""
    return torch.where(x >= each(threshold) - 1e-6, 1 - x, x)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Keep the `bits` (whole numbers, 0..8) highest of the 8 bits."""
    step = each(2.0 ** (8 - bits))
    return torch.floor(_levels(x) / step) * step / 255


def invert(x: Tensor, _: Tensor) -> Tensor:
    """Turn black into white."""
    return 1 - x


def autocontrast(x: Tensor, _: Tensor) -> Tensor:
    """Stretch every channel from its least to its largest value over [0, 1]; a constant one stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (x - low) / torch.where(span > 0, span, torch.ones_like(span)), x).clamp_(0, 1)


def equalize(x: Tensor, _: Tensor) -> Tensor:
    """Make the histogram of every channel flat, in 8 bits, as Pillow does."""
    count, channels = x.shape[:2]
    levels = _levels(x).long().reshape(count * channels, -1)  # (B C, H W)
    histogram = torch.zeros(count * channels, 256, dtype=torch.int64, device=x.device)
    histogram.scatter_add_(1, levels, torch.ones_like(levels))
    top = 255 - histogram.flip(1).ne(0).int().argmax(1, keepdim=True)  # the highest level that occurs
    step = (levels.shape[1] - histogram.gather(1, top)) // 255  # (B C, 1)
    below = histogram.cumsum(1) - histogram  # values below each level
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    found = torch.where(step > 0, table.gather(1, levels), levels)
    return found.view(x.shape).float() / 255


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Move away from a smoothed image by `factor`: 0 is the smoothed image; the outermost pixels stay."""
    if min(x.shape[2:]) < 3:
        return x
    kernel = torch.ones(3, 3, device=x.device)
    kernel[1, 1] = 5
    kernel = (kernel / 13).expand(x.shape[1], 1, 3, 3)
    smooth = x.clone()
    with full_precision(x):
        smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel, groups=x.shape[1])
    return blend(x, smooth, factor)


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Turn counter-clockwise around the centre; nearest pixel, black moving in."""
    angle = torch.deg2rad(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return warp(x, torch.stack([cos, -sin, zero, sin, cos, zero], 1))


def shear_x(x: Tensor, by: Tensor) -> Tensor:
    """Push each row sideways by `by` pixels per row, the top row standing still; nearest pixel, black moving in."""
    one, zero = torch.ones_like(by), torch.zeros_like(by)
    return warp(x, torch.stack([one, by, by * x.shape[2] / 2, zero, one, zero], 1))


def shear_y(x: Tensor, by: Tensor) -> Tensor:
    """Push each column down by `by` pixels per column, the left one standing still; nearest pixel, black moving in."""
    one, zero = torch.ones_like(by), torch.zeros_like(by)
    return warp(x, torch.stack([one, zero, zero, by, one, by * x.shape[3] / 2], 1))


def translate_x(x: Tensor, pixels: Tensor) -> Tensor:
    """Move to the right by `pixels`, black moving in."""
    one, zero = torch.ones_like(pixels), torch.zeros_like(pixels)
    return warp(x, torch.stack([one, zero, -pixels, zero, one, zero], 1))


def translate_y(x: Tensor, pixels: Tensor) -> Tensor:
    """Move down by `pixels`, black moving in."""
    one, zero = torch.ones_like(pixels), torch.zeros_like(pixels)
    return warp(x, torch.stack([one, zero, zero, zero, one, -pixels], 1))


def warp(x: Tensor, matrix: Tensor, mode: str = "nearest") -> Tensor:
    """Fetch each pixel from where `matrix` (B, 6), in pixels from the centre, sends its position; black comes from outside."""
    height, width = x.shape[2:]
    theta = matrix.view(-1, 2, 3).clone()  # F.affine_grid counts in half sides
    theta[:, 0, 1] *= height / width
    theta[:, 1, 0] *= width / height
    theta[:, 0, 2] *= 2 / width
    theta[:, 1, 2] *= 2 / height
    with full_precision(x):
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)  # (B, H, W, 2)
        return F.grid_sample(x, grid, mode=mode, padding_mode="zeros", align_corners=False)


def jitter(x: Tensor, brightness_: float, contrast_: float, saturation_: float, hue_: float) -> Tensor:
    """Change brightness, contrast and saturation by factors in [1 - s, 1 + s] and turn the hue by up to its strength either
    way, parts of the circle; every image in its own order. A strength of 0 leaves that property."""
    steps = [
        (change, uniform(x, center - strength, center + strength))
        for change, strength, center in (
            (brightness, brightness_, 1.0),
            (contrast, contrast_, 1.0),
            (saturation, saturation_, 1.0),
            (hue, hue_, 0.0),
        )
        if strength > 0
    ]
    if not steps:
        return x
    order = torch.rand(len(x), len(steps), device=x.device).argsort(1)  # (B, steps): what comes first, second, ...
    for turn in range(len(steps)):
        x = x.clone()
        for number, (change, strength) in enumerate(steps):
            rows = torch.nonzero(order[:, turn] == number).flatten()
            if len(rows):
                x[rows] = change(x[rows], strength[rows])
    return x


def gray(x: Tensor) -> Tensor:
    """Return the luma in all channels."""
    return luma(x).expand_as(x)


def _levels(x: Tensor) -> Tensor:
    return (x * 255).round().clamp_(0, 255)


def colors_and_gray(x: Tensor, jitter_: float, gray_: float, strength: float, hue_: float) -> Tensor:
    """Jitter an image with probability `jitter_`, then turn it gray with probability `gray_`."""
    x = chosen(some(x, jitter_), jitter(x, strength, strength, strength, hue_), x)
    return chosen(some(x, gray_), gray(x), x)
