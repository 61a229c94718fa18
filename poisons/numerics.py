"""What changes the last digits of a result: threads and precision, chosen from the work and the kind of device alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch.utils._triton import has_triton

log = logging.getLogger(__name__)

WORTH_COMPILING = 5e16
"""FLOPs: some four minutes of a large GPU at a quarter of its peak, of which compiling saves the minute that it costs."""


@dataclass(frozen=True)
class Numerics:
    """Kept in records and manifests: the same numerics, device type and versions give the same bytes and accuracies."""

    dtype: str = "fp32"
    compile: bool = False
    threads: int = 1  # of the CPU

    @classmethod
    def choose(cls, device: str, precision: str = "fp32", threads: int = 0) -> Numerics:
        """`threads` 0 means all cores that this process may use; precision auto means bf16 where that is faster."""
        if precision == "auto":
            precision = "bf16" if fast_bf16(device) else "fp32"
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(precision, False, (threads or cores) if device == "cpu" else 1)

    def on(self, device: str) -> str:
        """Name what the digits of a result hang on, for checkpoints: `cuda-bf16-1`, or `cuda-bf16-1-compiled`."""
        words = [device.partition(":")[0], self.dtype, str(self.threads)]
        return "-".join([*words, "compiled"] if self.compile else words)

    @classmethod
    def pinned(cls, device: str, surrogate: bool = False) -> Numerics:
        """The numerics of crafting, purifying and analyses, which no protocol decides: one thread, fp32, on every machine.

        Against a `surrogate` steps are taken in bf16 on GPUs that have it (`registry._crafting.mixed`), never on a CPU.
        """
        half = surrogate and device.startswith("cuda") and fast_bf16(device)
        return cls(dtype="bf16" if half else "fp32")


@contextmanager
def seeded(seed: int, numerics: Numerics, device: str = "cpu") -> Iterator[None]:
    """Seed torch's global generators, pin the thread count and the kernels of a GPU; put all of it back afterwards."""
    threads = torch.get_num_threads()
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices), _exact():
        torch.manual_seed(seed)
        torch.set_num_threads(numerics.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _exact() -> Iterator[None]:
    """Let fp32 mean fp32 on a GPU, in products as in convolutions, and choose the same kernels in every run.

    Some images switch TF32 on by TORCH_ALLOW_TF32_CUBLAS_OVERRIDE. It is never used, so that records need not say so.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
    tf32_in_convolutions, tf32_in_products = cudnn.allow_tf32, products.allow_tf32
    cudnn.benchmark, cudnn.deterministic = False, True
    cudnn.allow_tf32 = products.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
        cudnn.allow_tf32, products.allow_tf32 = tf32_in_convolutions, tf32_in_products


def can_compile(device: str) -> bool:
    """Whether torch.compile is of use on a device: it gains nothing on a CPU."""
    return device.startswith("cuda") and has_triton()


@cache
def compiles(device: str) -> bool:
    """Whether torch.compile works on a device, found by compiling a trifle: it needs a C compiler and Python's headers."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(8, device=device))
    except Exception as error:  # whatever a compiler raises
        log.warning("torch.compile does not work here, long trainings take more time without it: %s", error)
        return False
    return True


def fast_bf16(device: str) -> bool:
    """Whether a device multiplies bf16 faster than fp32: GPUs since 2020, and CPUs whose flags say so."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
