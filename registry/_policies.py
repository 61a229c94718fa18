"""Policies of automatic augmentation, every image its own draw: which operations, how strong, in what order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from registry import _photo
from registry._vision import prepare

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


TRIVIAL: Sequence[tuple[str, float, float]] = (
    ("AutoContrast", 0, 0),
    ("Equalize", 0, 0),
    ("Rotate", 0, 30),  # degrees
    ("Posterize", 0, 5),  # bits, whole, below 5
    ("Solarize", 0, 1),
    ("Contrast", 0.1, 1.9),
    ("Brightness", 0.1, 1.9),
    ("Sharpness", 0.1, 1.9),
    ("ShearX", 0, 0.3),
    ("ShearY", 0, 0.3),
    ("TranslateX", 0, 0.5),  # parts of the side
    ("TranslateY", 0, 0.5),
)
"""Operation and range of TrivialAugment as UEraser uses it: directions are positive only."""


def trivialaugment(x: Tensor) -> Tensor:
    """Apply one operation of TRIVIAL, the same to all images, every image at a strength drawn from its range."""
    table = torch.tensor([[NUMBER[name], low, high] for name, low, high in TRIVIAL], device=x.device)
    numbers, low, high = table[torch.randint(len(table), (1,), device=x.device)].expand(len(x), 3).unbind(1)
    which = numbers.long()
    drawn = low + (high - low) * torch.rand(len(x), device=x.device)
    drawn = torch.where(which == NUMBER["Posterize"], drawn.floor(), drawn)
    drawn = torch.where(which == NUMBER["TranslateX"], drawn * x.shape[3], drawn)
    drawn = torch.where(which == NUMBER["TranslateY"], drawn * x.shape[2], drawn)
    return operate(x, which, drawn)
