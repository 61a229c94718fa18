"""OPS+EM, also CIFAR-10-S: class-wise noise on all of an image, and the one-pixel shortcut of its class on top.

The noise stops plain training, the pixel survives adversarial training, which removes the noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job
from unlearnable_bench.registry._papers import OPS
from unlearnable_bench.registry.attacks.ops import OnePixelShortcut, mark
from unlearnable_bench.registry.contract import DataInfo


@ATTACKS.register("ops-em")
@dataclass(frozen=True)
class OnePixelAndNoise(Attack):
    """Change one pixel of every image, as `ops`, and add noise of another attack: CIFAR-10-S of Wu et al.

    Pixels are searched on the clean images; at the pixel the noise is discarded. The noise is a poison of its own (`noise`,
    which is given `epsilon`), crafted first and shared with cells that want it alone; its budget was checked there. The whole
    has no bound, for a pixel may change by all of its range: the budget is measured in linf and promised by nobody.
    Learn-from-unlearnable uses class-wise noise, hence the default.
    """

    epsilon: float = 8 / 255  # linf radius of the noise beside the pixels, pixel units
    noise: str = "em-class"  # attack whose noise it is
    pixels: int = 1  # set pixels per image

    parents: ClassVar[dict[str, tuple[str, ...]]] = {"noise": ("epsilon",)}
    display_name = "One-pixel shortcut with error-minimizing noise"
    label = "EM + OPS"
    budget_norm = "none"
    small: ClassVar[dict[str, Any]] = {"noise": "random-noise"}
    paper = OPS

    def __post_init__(self) -> None:
        if self.pixels < 1:
            raise EntryError(f"attack ops-em: pixels={self.pixels}, expected at least 1")

    @property
    def budget(self) -> Budget:
        return Budget("none", self.epsilon)

    def applies(self, info: DataInfo) -> None:
        OnePixelShortcut(self.pixels).applies(info)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        (noisy,) = job.parents
        positions, colours = OnePixelShortcut(self.pixels).search(clean, job)
        for where in clean.blocks():
            yield where, mark(noisy.images[where].clone(), clean.labels[where], positions, colours)
            job.progress(where.stop, len(clean))
