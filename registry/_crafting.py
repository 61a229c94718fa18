"""One crafting of a poison: its data, random numbers, count of passes, and the checkpoints from which it resumes.

Every attack that trains or attacks a surrogate makes a `Crafting` of the clean images and its job, and hands it to the loops in
`_persistent_noise.py`, `_batch_noise.py`, `_frozen_networks.py` and `_contrastive_noise.py`.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearnable_bench.registry import ImageSet, Job

EVERY = 60.0  # seconds between two checkpoints, or longer where they take long
SPENT_SAVING = 0.05  # largest part of the time that goes into checkpoints
PIXELS = 1 << 19  # positions that go through a surrogate together where no paper says how many: 512 images of 32x32


class Crafting:
    """One crafting: the data, random numbers on the device, passes so far, and a checkpoint once a minute."""

    def __init__(self, clean: ImageSet, job: Job, stages: int = 0) -> None:
        """`stages` above 0: surrogates of `persistent`, `class_wise` and `alternate` are trained in so many stages."""
        self.stages = stages
        self.clean, self.job, self.device = clean, job, job.device
        seed = int(torch.randint(2**62, (1,), generator=job.generator))
        self.device_generator = torch.Generator(job.device).manual_seed(seed)
        self.passes = 0.0  # through the surrogate, forward or back, per training image
        self.log: dict[str, list[float]] = {}
        self._state = job.load()
        self._due = time.monotonic() + EVERY

    @property
    def stage(self) -> str:
        """The stage in which the process that went before died, '' if there was none or its state is taken up."""
        return "" if self._state is None else str(self._state["stage"])

    def resume(self, stage: str) -> dict[str, Any] | None:
        """Return what this stage kept, and take up its random numbers; None if it starts at its beginning."""
        if self._state is None or self._state["stage"] != stage:
            return None
        state, self._state = self._state, None
        self.device_generator.set_state(state["dice"].cpu())
        self.job.generator.set_state(state["job"].cpu())
        torch.set_rng_state(state["torch"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"].cpu(), self.device)
        self.passes, self.log = state["passes"], state["log"]
        found: dict[str, Any] = state["loop"]
        return found

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is long enough ago."""
        return time.monotonic() >= self._due

    def keep(self, stage: str, loop: dict[str, Any]) -> None:
        """Save what a loop of this stage goes on from."""
        start = time.monotonic()
        state = {"stage": stage, "loop": loop, "passes": self.passes, "log": self.log}
        state |= {
            "dice": self.device_generator.get_state(),
            "job": self.job.generator.get_state(),
            "torch": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        self.job.save(state)
        now = time.monotonic()
        self._due = now + max(EVERY, (now - start) / SPENT_SAVING)

    def count(self, passes: float, images: int) -> None:
        """Add `passes` for each of so many images."""
        self.passes += passes * images / len(self.clean)

    def write(self, **figures: float) -> None:
        """Add figures to trajectories that are kept beside the poison."""
        for name, value in figures.items():
            self.log.setdefault(name, []).append(value)

    def close(self, **figures: float) -> None:
        """Hand passes, trajectories with their first and last values, and figures to the manifest."""
        ends = {f"{name}_{end}": values[at] for name, values in self.log.items() for end, at in (("first", 0), ("last", -1))}
        self.job.note(passes=self.passes, **ends, **figures)
        for name, values in self.log.items():
            self.job.keep(name, np.array(values, np.float32))

    def batch(self, rows: Any) -> tuple[Tensor, Tensor]:
        """Return x, float32 in [0, 1] units, and y of some images on the device."""
        return self.clean.pixels(rows, self.device), self.clean.labels[rows].to(self.device)

    @property
    def at_once(self) -> int:
        """How many images go through a surrogate together where it makes no difference: less of large ones."""
        return max(1, min(512, PIXELS // (self.clean.images.shape[2] * self.clean.images.shape[3])))


def mixed(device: torch.device) -> AbstractContextManager[Any]:
    """Compute in bf16 where only signs of gradients are wanted of networks that stay as they are; on GPUs that have it.

    On a CPU never, so that every CPU makes the same poison. `poisons.numerics.Numerics.pinned` says the same in manifests.
    """
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def batches_of(order: Tensor, size: int) -> list[Tensor]:
    """Split rows into batches; a last batch of one image, which no normalisation can train on, is left out."""
    found = list(order.split(size))
    return found[:-1] if len(found) > 1 and len(found[-1]) == 1 else found
