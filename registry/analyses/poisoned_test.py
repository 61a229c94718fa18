"""A victim judged on test images that carry the noise of the training set."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import ANALYSES, Analysis, Context
from unlearnable_bench.registry._figures import class_means


@ANALYSES.register("poisoned-test")
@dataclass(frozen=True)
class PoisonedTest(Analysis):
    """Accuracy on test images with the mean noise of their class, and with that of the next class.

    The mean perturbation of the training images of a class is added to its test images, rounded and clipped. Of class-wise
    noise this is the noise itself; noise that was made for single images has little of it left. Who learned the shortcut is
    right on the first set and wrong on the second; who learned the images answers both alike. Papers do the first with
    their class-wise noise (CUDA: 99.91 %) and the second by permuting it (2.53 %). Figures: `test_acc(own-noise)` and
    `test_acc(next-noise)`.
    """

    display_name = "Accuracy on poisoned test images"
    label = "Poisoned test"
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison", "epochs")

    def measure(self, context: Context) -> dict[str, float]:
        noise = class_means(context.poison) - class_means(context.clean)
        return {
            "test_acc(own-noise)": _accuracy(context, noise),
            "test_acc(next-noise)": _accuracy(context, noise.roll(-1, 0)),
        }


def _accuracy(context: Context, noise: Tensor) -> float:
    """Return the accuracy on the test set with `noise[label]` on every image."""
    assert context.victim is not None, "an analysis that needs the network has a victim"
    test = context.test
    images = torch.empty_like(test.images)
    for where in test.blocks():
        images[where] = (test.images[where] + 255 * noise[test.labels[where]]).round().clamp(0, 255).to(torch.uint8)
    answers = context.victim.logits(replace(test, images=images)).argmax(1)
    return float((answers == test.labels).double().mean())
