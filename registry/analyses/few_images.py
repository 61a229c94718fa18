"""What a handful of clean labelled images would say of a victim: enough to choose a defense's settings?"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import ANALYSES, Analysis, Context, EntryError
from unlearnable_bench.registry._papers import STAGED_TRAINING


@ANALYSES.register("few-images")
@dataclass(frozen=True)
class FewImages(Analysis):
    """Accuracy of the trained victim on a few clean test images, and on the rest of the test set.

    Section IV-C4 of the paper: `gamma` and `beta` of staged training are swept once with the whole clean test set and once
    with 20 of its images, which are said to suffice for the choice. Here they are drawn from all of it, the same for all
    cells of a dataset; in a table of such a sweep the best by `few_test_acc` is what a trainer with so much clean data
    chooses, and `rest_test_acc` in the same row what that is worth. Figures: these two.
    """

    images: int = 20  # clean, of the test set

    display_name = "Accuracy on a few images"
    label = "Few images"
    paper = STAGED_TRAINING
    needs: ClassVar[tuple[str, ...]] = ("epochs",)

    def __post_init__(self) -> None:
        if self.images < 1:
            raise EntryError(f"analysis few-images: images={self.images}; expected 1 or more")

    def measure(self, context: Context) -> dict[str, float]:
        test = context.test
        if self.images >= len(test):
            raise EntryError(f"analysis few-images: images={self.images}, the test set has {len(test)}; leave some over")
        assert context.victim is not None, "an analysis that needs the network has a victim"
        right = (context.victim.logits(test).argmax(1) == test.labels).double()
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))

        def share(rows: Tensor) -> float:
            return float(right[rows].mean())

        return {"few_test_acc": share(order[: self.images]), "rest_test_acc": share(order[self.images :])}
