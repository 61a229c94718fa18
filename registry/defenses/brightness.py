"""Brightness: every image is scaled by a factor of its own, so that absolute levels mean nothing."""

from dataclasses import dataclass

from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError
from unlearnable_bench.registry._papers import STAGED_TRAINING


@DEFENSES.register("brightness")
@dataclass(frozen=True)
class Brightness(Defense):
    """Multiply every image by a factor within `strength` of 1, clipped.

    One of the single augmentations of the paper's tables. It does not state the range: ours is 0.6 to 1.4.
    """

    strength: float = 0.4  # largest change of the factor, 0..1; not stated

    display_name = "Random brightness"
    label = "Brightness"
    paper = STAGED_TRAINING

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise EntryError(f"defense brightness: strength={self.strength}, expected 0 to 1")

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._photo import brightness, uniform

        return brightness(x, uniform(x, 1 - self.strength, 1 + self.strength)), y
