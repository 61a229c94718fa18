"""Gamma: every image brightens or darkens along a curve of its own, which bends additive patterns."""

from dataclasses import dataclass

from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError
from unlearnable_bench.registry._papers import STAGED_TRAINING


@DEFENSES.register("gamma")
@dataclass(frozen=True)
class Gamma(Defense):
    """Raise the pixels of every image to a power drawn between `low` and `high`.

    One of the single augmentations of the paper's tables. It does not state the range: ours is 0.5 to 1.5.
    """

    low: float = 0.5  # exponent; not stated
    high: float = 1.5  # exponent; not stated

    display_name = "Random gamma"
    label = "Gamma"
    paper = STAGED_TRAINING

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise EntryError(f"defense gamma: expected 0 < low <= high, found {self}")

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._photo import gamma, uniform

        return gamma(x, uniform(x, self.low, self.high)), y
