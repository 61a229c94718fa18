"""Policies of automatic augmentation, every image its own draw: which operations, how strong, in what order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from unlearnable_bench.registry import _photo
from unlearnable_bench.registry._vision import prepare

BINS = 10  # magnitudes of AutoAugment

OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Identity": lambda x, _: x,
    "ShearX": _photo.shear_x,
    "ShearY": _photo.shear_y,
    "TranslateX": _photo.translate_x,
    "TranslateY": _photo.translate_y,
    "Rotate": _photo.rotate,
    "Brightness": _photo.brightness,
    "Color": _photo.saturation,
    "Contrast": _photo.contrast,
    "Sharpness": _photo.sharpness,
    "Posterize": _photo.posterize,
    "Solarize": _photo.solarize,
    "AutoContrast": _photo.autocontrast,
    "Equalize": _photo.equalize,
    "Invert": _photo.invert,
}
NUMBER = {name: number for number, name in enumerate(OPERATIONS)}
SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"}
RANDAUGMENT = [name for name in OPERATIONS if name != "Invert"]


def strength(name: str, part: float, side: int) -> float:
    """Return how strong an operation is at `part` (0..1) of its range on images of `side` pixels: AutoAugment's ranges."""
    if name in ("Brightness", "Color", "Contrast", "Sharpness"):
        return 0.9 * part  # around a factor of 1
    if name in ("TranslateX", "TranslateY"):
        return int(150 / 331 * side * part)  # whole pixels
    if name == "Posterize":
        return 8 - round(4 * part)  # bits
    return {"ShearX": 0.3 * part, "ShearY": 0.3 * part, "Rotate": 30 * part, "Solarize": 1 - part}.get(name, 0.0)


def operate(x: Tensor, which: Tensor, strengths: Tensor) -> Tensor:
    """Apply to every image the operation of OPERATIONS numbered in `which` (B,), at its own strength (B,)."""
    result = x.clone()
    operations = list(OPERATIONS.values())
    for number in which.unique().tolist():
        rows = torch.nonzero(which == number).flatten()
        result[rows] = operations[number](x[rows], strengths[rows])
    return result


def _signed(x: Tensor, which: Tensor, strengths: Tensor) -> Tensor:
    """Turn half of the strengths that have a direction round, and count factors from 1."""
    directed = torch.tensor([name in SIGNED for name in OPERATIONS], device=x.device)[which]
    factors = torch.tensor([name in ("Brightness", "Color", "Contrast", "Sharpness") for name in OPERATIONS], device=x.device)
    flipped = directed & _photo.some(x, 0.5)
    return torch.where(flipped, -strengths, strengths) + factors[which].float()


@cache
def _autoaugment(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return operation, probability and strength of the sub-policies for CIFAR-10, each (25, 2), as torchvision has them."""
    prepare()
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    policies = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    which = torch.tensor([[NUMBER[name] for name, _, _ in pair] for pair in policies])
    probability = torch.tensor([[p for _, p, _ in pair] for pair in policies])
    strengths = [[strength(name, (magnitude or 0) / (BINS - 1), side) for name, _, magnitude in pair] for pair in policies]
    return which, probability, torch.tensor(strengths)


def autoaugment(x: Tensor) -> Tensor:
    """Apply to every image one of the 25 sub-policies that were found for CIFAR-10."""
    which, probability, strengths = (table.to(x.device) for table in _autoaugment(x.shape[3]))
    policy = torch.randint(len(which), (len(x),), device=x.device)
    for turn in range(2):
        happens = torch.rand(len(x), device=x.device) < probability[policy, turn]
        operation = torch.where(happens, which[policy, turn], NUMBER["Identity"])
        x = operate(x, operation, _signed(x, operation, strengths[policy, turn]))
    return x


def randaugment(x: Tensor, operations: int, part: float) -> Tensor:
    """Apply to every image so many operations drawn at random, each at `part` (0..1) of its range."""
    numbers = torch.tensor([NUMBER[name] for name in RANDAUGMENT], device=x.device)
    strengths = torch.tensor([strength(name, part, x.shape[3]) for name in OPERATIONS], device=x.device)
    for _ in range(operations):
        which = numbers[torch.randint(len(numbers), (len(x),), device=x.device)]
        x = operate(x, which, _signed(x, which, strengths[which]))
    return x


def trivialaugment(x: Tensor) -> Tensor:
    """Apply one operation of TRIVIAL, the same to all images, every image at a strength drawn from its range."""
    operation, low, high, halts = TRIVIAL[int(torch.randint(len(TRIVIAL), ()))]
    strengths = _photo.uniform(x, low, high)
    if halts:
        strengths = strengths * _photo.some(x, 0.5)
    return operation(x, strengths)


def _multiplied(x: Tensor, factor: Tensor) -> Tensor:
    return _photo.brightness(x, factor)


def _shifted(x: Tensor, by: Tensor) -> Tensor:
    return (x + _photo.each(by)).clamp_(0, 1)


def _posterized(x: Tensor, bits: Tensor) -> Tensor:
    step = _photo.each(2.0 ** (8 - bits.round()))
    return torch.floor((x * 255).floor() / step) * step / 255


def _turned(x: Tensor, degrees: Tensor) -> Tensor:
    angle = torch.deg2rad(degrees)
    return _warped(x, angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def _slanted_x(x: Tensor, degrees: Tensor) -> Tensor:
    by, one = torch.deg2rad(degrees).tan(), torch.ones_like(degrees)
    return _warped(x, one, by, torch.zeros_like(by), one)


def _slanted_y(x: Tensor, degrees: Tensor) -> Tensor:
    by, one = torch.deg2rad(degrees).tan(), torch.ones_like(degrees)
    return _warped(x, one, torch.zeros_like(by), by, one)


def _moved_x(x: Tensor, part: Tensor) -> Tensor:
    return _moved(x, part, torch.zeros_like(part))


def _moved_y(x: Tensor, part: Tensor) -> Tensor:
    return _moved(x, torch.zeros_like(part), part)


def _moved(x: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Move by parts of the side; a side of n pixels counts as one of n n / (n - 1), as there."""
    height, width = x.shape[2:]
    one, zero = torch.ones_like(right), torch.zeros_like(right)
    pixels = -right * width**2 / (width - 1), -down * height**2 / (height - 1)
    return _photo.warp(x, torch.stack([one, zero, pixels[0], zero, one, pixels[1]], 1), "bilinear")


def _warped(x: Tensor, *entries: Tensor) -> Tensor:
    """Fetch each pixel from where a matrix of these entries (B,), row by row, sends its position around the centre."""
    first, second, third, fourth = entries
    zero = torch.zeros_like(first)
    return _photo.warp(x, torch.stack([first, second, zero, third, fourth, zero], 1), "bilinear")


TRIVIAL: Sequence[tuple[Callable[[Tensor, Tensor], Tensor], float, float, bool]] = (
    (_photo.autocontrast, 0, 0, False),
    (_photo.equalize, 0, 0, False),
    (_posterized, 0, 4, False),  # bits, rounded
    (_photo.solarize, 0, 1, False),
    (_multiplied, 0.1, 1.9, False),  # called contrast
    (_shifted, -0.9, 0.9, False),  # pixel units; called brightness
    (_photo.sharpness, 0.1, 1.9, False),
    (_turned, 0, 30, True),  # degrees
    (_slanted_x, 0, 54, True),
    (_slanted_y, 0, 54, True),
    (_moved_x, 0, 0.5, True),  # parts of the side
    (_moved_y, 0, 0.5, True),
)
"""Operation, range, and whether half of the images are left as they are: TrivialAugment as kornia 0.6.12 has it.

Its operations with a direction multiply by 0 or 1 where the paper of TrivialAugment has -1 or 1. Pixels are interpolated.
"""
