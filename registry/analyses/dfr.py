"""Deep feature reweighting: whether features learned from a poison still separate clean classes."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from registry import ANALYSES, Analysis, Context, EntryError
from registry._figures import reweighted
from registry._papers import LEARN_FROM_UNLEARNABLE


@ANALYSES.register("dfr")
@dataclass(frozen=True)
class Reweighting(Analysis):
    """After every epoch, a logistic regression on the features of clean images is judged on the clean test set.

    Tables 1, 4 and 5 of the paper, section 4.2. Features are what enters the victim's head, standardised over the clean images
    that the regression is fitted to: 5,000 random training images, the same for all cells of a data set; scikit-learn's
    defaults. Figures: `dfr_max_test_acc` and `dfr_min_test_loss` over the epochs, chosen on the test set as the paper does
    (optimistic), `dfr_last_test_acc`, and `best_epoch`; curves per epoch. The published code differs: it trains the last layer
    by L-BFGS on augmented batches, the network in training mode.
    """

    images: int = 5000  # clean images that the regression is fitted to
    inverse: float = 1.0  # C of scikit-learn's LogisticRegression

    paper = LEARN_FROM_UNLEARNABLE
    needs: ClassVar[tuple[str, ...]] = ("clean", "epochs")
    small: ClassVar[dict[str, Any]] = {"images": 48}

    def __post_init__(self) -> None:
        _check(self.images, self.inverse)

    def after_epoch(self, context: Context) -> None:
        accuracy, loss = _fitted(context, self.images, self.inverse)
        context.curves.setdefault("dfr_test_acc", []).append(accuracy)
        context.curves.setdefault("dfr_test_loss", []).append(loss)

    def measure(self, context: Context) -> dict[str, float]:
        accuracies, losses = context.curves["dfr_test_acc"], context.curves["dfr_test_loss"]
        return {
            "dfr_max_test_acc": max(accuracies),
            "dfr_min_test_loss": min(losses),
            "dfr_last_test_acc": accuracies[-1],
            "best_epoch": 1.0 + accuracies.index(max(accuracies)),
        }


@ANALYSES.register("dfr-random")
@dataclass(frozen=True)
class RandomFeatures(Analysis):
    """Deep feature reweighting of a network with random weights: what is gained without any training.

    The row "None" of tables 1, 4 and 5. Batch normalisation has its first statistics, mean 0 and variance 1: in a deep network
    without residual sums the images then change the features next to nothing (GoogLeNet: by 5e-7 around 0.009), which may be
    why 48 % are printed for it and 29 % found. The published code, in training mode, has the statistics of the batch.
    """

    images: int = 5000  # clean images that the regression is fitted to
    inverse: float = 1.0  # C of scikit-learn's LogisticRegression

    paper = LEARN_FROM_UNLEARNABLE
    needs: ClassVar[tuple[str, ...]] = ("clean", "network")
    small: ClassVar[dict[str, Any]] = {"images": 48}

    def __post_init__(self) -> None:
        _check(self.images, self.inverse)

    def measure(self, context: Context) -> dict[str, float]:
        accuracy, loss = _fitted(context, self.images, self.inverse)
        return {"dfr_max_test_acc": accuracy, "dfr_min_test_loss": loss}


def _check(images: int, inverse: float) -> None:
    if images < 1 or inverse <= 0:
        raise EntryError(f"analysis dfr: images={images}, inverse={inverse}; both have to be above 0")


def _fitted(context: Context, images: int, inverse: float) -> tuple[float, float]:
    """Return accuracy and loss on the test set with a new last layer."""
    clean, test = context.clean, context.test
    rows = torch.randperm(len(clean), generator=torch.Generator().manual_seed(0))[:images]
    known = context.victim.features(clean.rows(rows)), clean.labels[rows]
    return reweighted(known, (context.victim.features(test), test.labels), inverse)
