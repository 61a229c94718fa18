"""The same computation on the CPU and on the device: same weights, same batch, same random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import ImageSet

Result = TypeVar("Result")

THREADS = 1  # of the CPU: other stages run beside
KINKED = (torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_, F.relu, F.relu6, F.hardtanh)
COMPUTED = ("attention",)  # in names of operations that may draw numbers, but compute


class DrawnOnCpu(TorchDispatchMode):
    """Draws every random number from the CPU's own generator, whichever generator was meant, then moves it.

    So a computation on a GPU sees the numbers that it would see on the CPU.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags or any(word in str(func) for word in COMPUTED):
            return func(*args, **named)
        tensors = [leaf for leaf in tree_leaves((args, named)) if isinstance(leaf, Tensor)]
        device = tensors[0].device if tensors else torch.device(named.get("device") or "cpu")
        for name, value in (("generator", None), ("device", torch.device("cpu")), ("pin_memory", False)):
            if name in named:
                named[name] = value
        drawn = func(*tree_map_only(Tensor, Tensor.cpu, args), **tree_map_only(Tensor, Tensor.cpu, named))
        if func._schema.is_mutable:
            return args[0].copy_(drawn)
        return tree_map_only(Tensor, lambda tensor: tensor.to(device), drawn)


class Smooth(TorchFunctionMode):
    """Computes SiLU where a network has ReLU, and means where it takes the largest of neighbors, to compare gradients.

    Among a million values some lie so close to a kink or a neighbor that the last digit decides where their gradient goes.
    Two kernels of one CPU give gradients of a ResNet-50 that differ by 6 % of their length so, and by 0.02 % without kinks.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in KINKED:
            return F.silu(args[0])
        named = dict(kwargs or {})
        if func is F.max_pool2d:
            kept = {name: named[name] for name in ("stride", "padding", "ceil_mode") if name in named}
            return F.avg_pool2d(*args, **kept)
        return func(*args, **named)


@contextmanager
def fp32(device: str, seed: int = 0) -> Iterator[None]:
    """Compute in fp32 with the random numbers of the CPU. Surrogates too, which a GPU attacks in bf16 otherwise."""
    old = mock.patch("torch.cuda.get_device_capability", return_value=(7, 0))
    with old, seeded(seed, Numerics(threads=THREADS), device), DrawnOnCpu():  # type: ignore[no-untyped-call]
        yield


def on_both(device: str, compute: Callable[[str], Result]) -> tuple[Result, Result]:
    """Return what is computed on the CPU and on the device. Where that is the CPU, it computes with other kernels."""
    with fp32("cpu"):
        here = compute("cpu")
    with fp32(device), _other_kernels(device):
        there = compute(device)
    return here, there


@contextmanager
def _other_kernels(device: str) -> Iterator[None]:
    before = torch.backends.mkldnn.set_flags(device != "cpu")
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(before[0])


def relative(one: Tensor, other: Tensor) -> float:
    """Return the length of the difference, in parts of the length of the first."""
    difference = one.double().cpu() - other.double().cpu()
    return float(difference.norm() / one.double().cpu().norm().clamp(min=1e-12))


def agreeing(one: Tensor, other: Tensor, within: float = 0.0) -> float:
    """Return the part of the values, 0..1, that differ by no more than `within`."""
    difference = (one.double().cpu() - other.double().cpu()).abs()
    return float((difference <= within).double().mean())


def pictures(size: int, classes: int = 4, side: int = 32) -> ImageSet:
    """Smooth random images that a network can tell apart: every class has a pattern of its own under the noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(classes, 3, 4, 4, generator=generator)
    labels = torch.arange(size) % classes
    noise = 0.3 * torch.rand(size, 3, side, side, generator=generator)
    smooth = F.interpolate(coarse, size=side, mode="bilinear")
    images = (0.7 * smooth[labels] + noise).mul(255).round().to(torch.uint8)
    return ImageSet(images, labels, classes, tuple(f"class{k}" for k in range(classes)))
