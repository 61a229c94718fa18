"""How a victim locks onto a shortcut: its features cluster, and its first layers stop learning, epoch by epoch."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from unlearnable_bench.registry import ANALYSES, Analysis, Context, EntryError, NotApplicable
from unlearnable_bench.registry._papers import STAGED_TRAINING


@ANALYSES.register("acm")
@dataclass(frozen=True)
class ClusterMeasure(Analysis):
    """How tightly the features of training images cluster in classes after every epoch, and how large a gradient still is.

    The clusters are those of a t-SNE in two dimensions, the gradient that of a shallow layer. Equations 2 to 4 and figures 5,
    9, 11 and 13 of the paper: the measure rises when a network locks onto a shortcut, which staged training waits for, while
    the gradient falls. The images are a fixed part of what the victim trains on, evaluation mode, no augmentation; the
    embedding is raw, and where its `extent` is below 20 the measure says nothing. The gradient is that of the mean
    cross-entropy of the same images, the mean of its absolute values over the weights of the layer; the paper does not say
    which layer it takes, nor of which images. Figures: `acm` of the last epoch, `acm_max`, `extent` of the last embedding,
    `first_epoch` in which `acm` exceeds gamma at an extent of 20 or more, 0 if none does, and `gradient` of the last epoch;
    curves per epoch.
    """

    gamma: float = 2.6e-4  # in 1 / length of the embedding
    per_class: int = 0  # images of each class; 0: 100, or 50 where there are more than ten classes
    block: int = 0  # residual block whose output is embedded, flattened, from 1; 0: what enters the head
    layer: int = 2  # whose gradient is taken, from 1, the stem; 2 is the first block of a residual network

    display_name = "Activation cluster measure"
    label = "ACM"
    paper = STAGED_TRAINING
    needs: ClassVar[tuple[str, ...]] = ("purified", "epochs")
    small: ClassVar[dict[str, Any]] = {"per_class": 8}

    def __post_init__(self) -> None:
        if self.per_class < 0 or self.block < 0 or self.layer < 1:
            raise EntryError(f"analysis acm: expected per_class and block of 0 or more, layer of 1 or more, found {self}")

    def after_epoch(self, context: Context) -> None:
        from unlearnable_bench.registry._blocks import seen
        from unlearnable_bench.registry._staged import clustered, embedded, watched

        victim = context.victim
        assert victim is not None, "an analysis that needs epochs has a victim"
        rows = watched(context.purified, self.per_class, torch.Generator().manual_seed(0))
        if self.layer > len(victim.layers):
            raise NotApplicable(f"the network has {len(victim.layers)} layers, layer={self.layer} is beyond them")
        part = context.purified.rows(rows)
        found = *clustered(embedded(seen(victim, part, self.block)), part.labels), victim.gradient(part, self.layer)
        for name, value in zip(("acm", "extent", "gradient"), found, strict=True):
            context.curves.setdefault(name, []).append(value)

    def measure(self, context: Context) -> dict[str, float]:
        from unlearnable_bench.registry._staged import EXTENT

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
            "gradient": context.curves["gradient"][-1],
        }
