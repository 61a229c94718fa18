"""Colour jitter: brightness, contrast, saturation and hue of most images are drawn anew, where many shortcuts are coded."""

from dataclasses import dataclass

from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError
from unlearnable_bench.registry._papers import STAGED_TRAINING


@DEFENSES.register("color-jitter")
@dataclass(frozen=True)
class ColorJitter(Defense):
    """With `probability`, change brightness, contrast, saturation and hue of an image, every image in its own order.

    One of the single augmentations of the paper's tables, and the first half of `cg`. The paper states the probability; the
    strengths are ours, the usual ones for CIFAR-10 in contrastive learning.
    """

    brightness: float = 0.4  # largest change of the factor, 0..1; not stated
    contrast: float = 0.4  # the same
    saturation: float = 0.4  # the same
    hue: float = 0.1  # largest turn, parts of the circle, 0..0.5; not stated
    probability: float = 0.8  # 0..1

    display_name = "Color jitter"
    label = "Color jitter"
    paper = STAGED_TRAINING

    def __post_init__(self) -> None:
        if not (
            min(self.brightness, self.contrast, self.saturation) >= 0 and 0 <= self.hue <= 0.5 and 0 <= self.probability <= 1
        ):
            raise EntryError(
                f"defense color-jitter: expected strengths of 0 or more, hue 0..0.5, probability 0..1, found {self}"
            )

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._photo import chosen, jitter, some

        changed = jitter(x, self.brightness, self.contrast, self.saturation, self.hue)
        return chosen(some(x, self.probability), changed, x), y
