"""Median filter: single pixels that stand out, and most of high-frequency noise, vanish; edges stay."""

from dataclasses import dataclass
from typing import ClassVar

from unlearnable_bench.registry import DEFENSES, Defense, ImageSet, Job
from unlearnable_bench.registry._papers import STABLE_UNLEARNABLE


@DEFENSES.register("median-filter")
@dataclass(frozen=True)
class MedianFilter(Defense):
    """Replace every value of the training images by the median of its 3x3 neighbours in its channel.

    One of the three filters that the paper puts before adversarial training, written `median-filter+at(epsilon=2/255)`.
    The edge is repeated beyond the border, as in the library that the authors use. Nothing else was changed.
    """

    display_name = "Median filter"
    label = "Median filter"
    per_image: ClassVar[bool] = True
    paper = STABLE_UNLEARNABLE

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from unlearnable_bench.registry._filters import filtered, median

        return filtered(train, job, median)
