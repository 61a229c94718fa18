"""How well a defense tells poisoned from clean images of a set that is poisoned in part."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import ANALYSES, Analysis, Context, NotApplicable
from unlearnable_bench.registry._papers import D_VAE


@ANALYSES.register("detection")
@dataclass(frozen=True)
class Detection(Analysis):
    """Accuracy, recall, precision and F1 score of what a purifier took for poisoned.

    Tables 8 and 11 of D-VAE (`d-vae(detect=true)` at a ratio below 1). What was taken for poisoned is what the purifier kept
    under the name `flagged`, else the images that it changed. Figures: `detection_acc`, `detection_recall`,
    `detection_precision`, `detection_f1`, all fractions, and `flagged_share`. Without a flagged image precision is 0. A
    purifier that takes every image for poisoned has a recall of 1 and the poison's ratio as its precision.
    """

    display_name = "Detection of poisoned images"
    label = "Detection"
    paper = D_VAE
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison", "purified", "purify-log")

    def measure(self, context: Context) -> dict[str, float]:
        if not context.chosen.any():
            raise NotApplicable("no image is poisoned, there is nothing to detect")
        flagged = self._flagged(context)
        hits = float((flagged & context.chosen).sum())
        recall = hits / float(context.chosen.sum())
        precision = hits / max(1.0, float(flagged.sum()))
        return {
            "detection_acc": float((flagged == context.chosen).double().mean()),
            "detection_recall": recall,
            "detection_precision": precision,
            "detection_f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
            "flagged_share": float(flagged.double().mean()),
        }

    def _flagged(self, context: Context) -> Tensor:
        """Return which images were taken for poisoned: bool (N,)."""
        kept = context.purify_kept("flagged")
        if kept is not None:
            return torch.tensor(kept, dtype=torch.bool)
        if context.purified is context.poison:
            raise NotApplicable("no defense of the cell purifies, so nothing was taken for poisoned")
        before, after = context.poison, context.purified
        return torch.cat([(before.levels(w) != after.levels(w)).flatten(1).any(1) for w in before.batches()])
