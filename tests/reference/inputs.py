"""Inputs of reference vectors, drawn with numpy so that the official code and ours are given the same ones."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor, nn

from unlearnable_bench.registry import ARCHITECTURES, ImageSet, Job
from unlearnable_bench.registry._crafting import Crafting

CLASSES = 4


def image_set(rng: np.random.Generator, count: int = 4, side: int = 16, low: int = -20, high: int = 276) -> ImageSet:
    """Return images of random levels, cut to the range of 8 bits, whose labels go round the classes."""
    levels = rng.integers(low, high, (count, 3, side, side)).clip(0, 255).astype(np.uint8)
    return ImageSet(torch.from_numpy(levels), torch.arange(count) % CLASSES, CLASSES)


def pixels(clean: ImageSet) -> Tensor:
    """Return the images in [0, 1] units, the digits of float32 in float64, (N, 3, H, W)."""
    return clean.pixels(slice(None)).double()


def noise(rng: np.random.Generator, shape: Sequence[int], epsilon: float) -> Tensor:
    """Return values uniform in [-epsilon, epsilon], float64."""
    return torch.from_numpy(rng.uniform(-epsilon, epsilon, tuple(shape)))


def network(rng: np.random.Generator, name: str = "small-cnn", classes: int = CLASSES, side: int = 16) -> nn.Module:
    """Return a network of ours in float64 with weights drawn from `rng`, normalisation included, in evaluation mode."""
    return drawn(rng, ARCHITECTURES[name](classes, 3, side))


def drawn(rng: np.random.Generator, net: nn.Module) -> nn.Module:
    """Draw all weights and buffers of a network from `rng`; return it in float64, in evaluation mode."""
    net = net.double().eval()
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(_weights(rng, name, tuple(value.shape))))
    return net


def _weights(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return weights of variance 2 / fan in; scales of normalisations near one, offsets near zero."""
    if len(shape) > 1:
        return rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
    if name.endswith(("running_var", "weight")):
        return rng.uniform(0.5, 1.5, shape)
    return rng.normal(0, 0.1, shape)


class Exact(Crafting):
    """A crafting of ours that hands out its images in float64."""

    def batch(self, rows: Any) -> tuple[Tensor, Tensor]:
        x, y = super().batch(rows)
        return x.double(), y


def run(clean: ImageSet, seed: int = 0, kind: type[Crafting] = Exact) -> Crafting:
    """Return a crafting of ours whose random numbers on the device are those of torch's generator at `seed`."""
    made = kind(clean, Job())
    made.device_generator = torch.Generator().manual_seed(seed)
    return made


@contextmanager
def double() -> Iterator[None]:
    """Let torch make numbers in float64 where no type is asked for."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def absent(*modules: str) -> Iterator[None]:
    """Stand in for packages that official files import and that the functions under test do not use."""
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    for name in modules:
        sys.modules[name] = MagicMock(register=lambda found: found)  # mlconfig.register is a decorator
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update(before)


def part_of(module: str, name: str, **known: Any) -> Any:
    """Return a class or function of an official file that cannot be imported: its source alone, with `known` as its globals.

    `module` is found as an import would find it; scripts parse their command line and read files when they are imported.
    """
    source = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")  # type: ignore[union-attr, arg-type]
    (found,) = (node for node in ast.parse(source).body if getattr(node, "name", "") == name)
    scope = dict(known)
    exec(compile(ast.Module([found], []), module, "exec"), scope)  # noqa: S102  (official code, run by hand)
    return scope[name]


def expression_of(module: str, start: str, **known: Any) -> Any:
    """Return the value of the only expression of an official script whose source begins with `start`."""
    source = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")  # type: ignore[union-attr, arg-type]
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.expr)]
    (found,) = {text for node in nodes if (text := ast.unparse(node)).startswith(start)}
    return eval(found, dict(known))  # noqa: S307  (official code, run by hand)
