"""Hue: the colours of every image turn by an angle of their own, which breaks shortcuts coded in colour."""

from dataclasses import dataclass

from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, NotApplicable
from unlearnable_bench.registry._papers import STAGED_TRAINING
from unlearnable_bench.registry.contract import DataInfo


@DEFENSES.register("hue")
@dataclass(frozen=True)
class Hue(Defense):
    """Turn the hue (HSV) of every image by up to `strength` of the circle either way.

    One of the single augmentations of the paper's tables. It does not state the range: ours is a tenth of the circle.
    """

    strength: float = 0.1  # largest turn, parts of the circle, 0..0.5; not stated

    display_name = "Random hue"
    label = "Hue"
    paper = STAGED_TRAINING

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 0.5:
            raise EntryError(f"defense hue: strength={self.strength}, expected 0 to 0.5")

    def applies(self, info: DataInfo) -> None:
        if info.shape[0] != 3:
            raise NotApplicable(f"needs three colour channels, the images have {info.shape[0]}")

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._photo import hue, uniform

        return hue(x, uniform(x, -self.strength, self.strength)), y
