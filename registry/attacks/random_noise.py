"""Random noise: the floor for class-wise shortcuts, and with one draw per image the control that protects nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, ImageSet, Job
from unlearnable_bench.registry._papers import LEARN_FROM_UNLEARNABLE


@ATTACKS.register("random-noise")
@dataclass(frozen=True)
class RandomNoise(Attack):
    """Independent random values, one pattern per class or one per image.

    The class-wise form is the "random noise" row of Sandoval-Segura et al.; there one sign is drawn per pixel, which we read
    as per value. `dist=uniform` is the form in the code of Huang et al. (ICLR 2021).
    """

    kind: Literal["class", "sample"] = "class"  # class: one pattern for all images of a class; sample: one for each image
    dist: Literal["sign", "uniform"] = "sign"  # -epsilon or epsilon; or anything between
    epsilon: float = 8 / 255  # linf radius, pixel units

    display_name = "Random noise"
    label = "Random {kind}-wise"
    paper = LEARN_FROM_UNLEARNABLE

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        shape = clean.images.shape[1:]
        patterns = self._draw((clean.num_classes, *shape), job) if self.kind == "class" else None  # (K, C, H, W)
        for where in clean.blocks():
            if patterns is not None:
                yield where, patterns[clean.labels[where]]
            else:
                yield where, self._draw((where.stop - where.start, *shape), job)
            job.progress(where.stop, len(clean))

    def _draw(self, shape: tuple[int, ...], job: Job) -> Tensor:
        if self.dist == "sign":
            return (torch.randint(0, 2, shape, generator=job.generator).float() * 2 - 1) * self.epsilon
        return torch.empty(shape).uniform_(-self.epsilon, self.epsilon, generator=job.generator)
