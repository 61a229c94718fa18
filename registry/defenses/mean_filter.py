"""Mean filter: averaging neighbours takes away what changes from pixel to pixel, as many perturbations do."""

from dataclasses import dataclass
from typing import ClassVar

from unlearnable_bench.registry import DEFENSES, Defense, ImageSet, Job
from unlearnable_bench.registry._papers import STABLE_UNLEARNABLE
from unlearnable_bench.registry.contract import DataInfo


@DEFENSES.register("mean-filter")
@dataclass(frozen=True)
class MeanFilter(Defense):
    """Replace every value of the training images by the mean of its 3x3 neighbours, rounded to 8 bits.

    One of the three filters that the paper puts before adversarial training, written `mean-filter+at(epsilon=2/255)`.
    The image is mirrored beyond its border, as in the library that the authors use. Nothing else was changed.
    """

    display_name = "Mean filter"
    label = "Mean filter"
    per_image: ClassVar[bool] = True
    paper = STABLE_UNLEARNABLE

    def applies(self, info: DataInfo) -> None:
        from unlearnable_bench.registry._filters import need_sides

        need_sides(info)

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from unlearnable_bench.registry._filters import filtered, weighted

        return filtered(train, job, lambda x: weighted(x, (1, 1, 1)))
