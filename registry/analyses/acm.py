"""The activation cluster measure of a victim's features, epoch by epoch."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from registry import ANALYSES, Analysis, Context, EntryError
from registry._papers import STAGED_TRAINING


@ANALYSES.register("acm")
@dataclass(frozen=True)
class ClusterMeasure(Analysis):
    """How tightly the features of training images cluster in classes after every epoch, on a t-SNE in two dimensions.

    Equations 2 to 4 and figures 5 and 9 of the paper: it rises when a network locks onto a shortcut, which staged training
    waits for. The images are a fixed part of what the victim trains on, evaluation mode, no augmentation; the embedding is
    raw, and where its `extent` is below 20 the measure says nothing. Figures: `acm` of the last epoch, `acm_max`, `extent` of
    the last embedding, and `first_epoch` in which `acm` exceeds gamma at an extent of 20 or more, 0 if none does.
    """

    gamma: float = 2.6e-4  # in 1 / length of the embedding
    per_class: int = 0  # images of each class; 0: 100, or 50 where there are more than ten classes

    paper = STAGED_TRAINING
    needs: ClassVar[tuple[str, ...]] = ("purified", "epochs")
    small: ClassVar[dict[str, Any]] = {"per_class": 8}

    def __post_init__(self) -> None:
        if self.per_class < 0:
            raise EntryError(f"analysis acm: per_class={self.per_class} is negative; 0 means the paper's number")

    def after_epoch(self, context: Context) -> None:
        from registry._staged import clustered, embedded, watched

        rows = watched(context.purified, self.per_class, torch.Generator().manual_seed(0))
        found = clustered(embedded(context.victim.features(context.purified.rows(rows))), context.purified.labels[rows])
        for name, value in zip(("acm", "extent"), found, strict=True):
            context.curves.setdefault(name, []).append(value)

    def measure(self, context: Context) -> dict[str, float]:
        from registry._staged import EXTENT

        measures, extents = context.curves["acm"], context.curves["extent"]
        beyond = [
            epoch
            for epoch, (value, extent) in enumerate(zip(measures, extents, strict=True), 1)
            if value > self.gamma and extent >= EXTENT
        ]
        return {
            "acm": measures[-1],
            "acm_max": max(measures),
            "extent": extents[-1],
            "first_epoch": float(beyond[0] if beyond else 0),
        }
