"""A victim judged on other sets than the clean test set."""

from dataclasses import dataclass
from typing import ClassVar

from unlearnable_bench.registry import ANALYSES, Analysis, Context, ImageSet
from unlearnable_bench.registry._papers import D_VAE


@ANALYSES.register("reevaluation")
@dataclass(frozen=True)
class Reevaluation(Analysis):
    """Accuracy of the victim on the clean training images and on the poison.

    Table 1 of D-VAE, whose victims learn from images with perturbations that D-VAE found: the poison that they are judged on
    is then the one at the left of the tool in the attack's chain, else the cell's own. Figures: `test_acc(clean-train)` and
    `test_acc(poison)`; that on the clean test set is the accuracy of the same record.
    """

    display_name = "Accuracy on the training images"
    label = "Reevaluation"
    paper = D_VAE
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison", "epochs")

    def measure(self, context: Context) -> dict[str, float]:
        poison = context.source or context.poison
        return {
            "test_acc(clean-train)": _accuracy(context, context.clean),
            "test_acc(poison)": _accuracy(context, poison),
        }


def _accuracy(context: Context, images: ImageSet) -> float:
    assert context.victim is not None, "an analysis that needs the network has a victim"
    return float((context.victim.logits(images).argmax(1) == images.labels).double().mean())
