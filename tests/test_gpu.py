"""What goes wrong on a GPU alone, shown without one: autocast of the CPU, spies, a compiler that only counts."""

from collections.abc import Callable

import pytest
import torch
from conftest import tiny
from torch import Tensor

from benchmark.work import failure_kind
from poisons.numerics import Numerics, seeded
from registry import DEFENSES
from registry._policies import operate
from registry._views import contrast, contrasted, jitter_gray, part_resized

# Views


def all_operations(x: Tensor) -> Tensor:
    """Apply every operation of the policies, each to some of the images."""
    which = torch.arange(len(x)) % 15
    return operate(x, which, torch.full((len(x),), 0.7))


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "contrasted": lambda x: contrasted(x, 0.08),
    "part-resized": lambda x: part_resized(x, 24, 0.08),
    "contrast": lambda x: contrast(x, torch.Generator().manual_seed(0), 0.08)(x),
    "jitter-gray": lambda x: jitter_gray(x, torch.Generator().manual_seed(0))(x),
    "operations": all_operations,
    "ueraser": DEFENSES["ueraser"](plasma=1.0)._changed,
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_the_same_whether_the_network_computes_in_bf16_or_not(name):
    """Under autocast, positions and hues had 8 bits: a crop of a large image was off by ten levels, one pixel in 25 another."""
    x = tiny(60).images.float() / 255
    views = []
    for bf16 in (False, True):
        with seeded(0, Numerics()), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            views.append(VIEWS[name](x))
    assert views[1].dtype == torch.float32
    assert torch.equal(views[0], views[1])


# Failures


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["allocator", "driver", "cudnn", "cublas"],
)
def test_every_way_of_saying_that_the_gpu_is_full_is_the_same_failure(error):
    """A library that found no memory for its workspace was taken for an error of the entry at work."""
    assert failure_kind(error) == "gpu-memory"
