"""Gaussian filter: a light blur takes away high frequencies, where many perturbations live."""

from dataclasses import dataclass
from typing import ClassVar

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, ImageSet, Job
from unlearnable_bench.registry._papers import STABLE_UNLEARNABLE
from unlearnable_bench.registry.contract import DataInfo


@DEFENSES.register("gaussian-filter")
@dataclass(frozen=True)
class GaussianFilter(Defense):
    """Blur the training images with a 3x3 Gaussian and round to 8 bits.

    One of the three filters that the paper puts before adversarial training, written
    `gaussian-filter+at(epsilon=2/255)`. By default the kernel is (1/4, 1/2, 1/4) per axis, what the authors' library takes
    for size 3 when no deviation is given; the image is mirrored beyond its border. APBench and the code of image shortcut
    squeezing blur with `sigma=0.1`, which changes no value at all: their Gaussian column is a second undefended run.
    """

    sigma: float = 0.0  # deviation of the kernel, pixels; 0: (1/4, 1/2, 1/4)

    display_name = "Gaussian filter"
    label = "Gaussian"
    per_image: ClassVar[bool] = True
    paper = STABLE_UNLEARNABLE

    def __post_init__(self) -> None:
        if self.sigma < 0:
            raise EntryError(f"defense gaussian-filter: sigma={self.sigma}, expected 0 or more pixels")

    def applies(self, info: DataInfo) -> None:
        from unlearnable_bench.registry._filters import need_sides

        need_sides(info)

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from unlearnable_bench.registry._filters import filtered, gaussian, weighted

        return filtered(train, job, lambda x: gaussian(x, self.sigma) if self.sigma else weighted(x, (1, 2, 1)))
