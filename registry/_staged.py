"""Staged training: watch how features cluster, take an epoch back when they lock onto a shortcut, slow the first layers."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unlearnable_bench.registry.contract import Hooks, ImageSet, Protocol
from unlearnable_bench.registry.training import StagedRun, TrainingRun

GAMMA = 2.6e-4  # of the activation cluster measure, in units of 1 / length of the embedding; the paper's for all datasets
POINTS = 1000  # of an embedding below which any network is beyond GAMMA, a random one on shuffled labels too; not in the paper
EXTENT = 20.0  # least side of an embedding by which GAMMA means anything; not in the paper
LOG = logging.getLogger(__name__)


def activation_cluster_measure(points: Tensor, labels: Tensor) -> float:
    """Return how far apart classes lie for how wide they are; points (n, 2), labels (n,). Equations 2 to 4.

    Over all ordered pairs of classes, the distance of their closest points by the sum of (radius times mean distance from the
    centre) of both. NaN with fewer than two classes.
    """
    groups = [points[labels == label].double() for label in labels.unique()]
    spans = [(group - group.mean(0)).norm(dim=1) for group in groups]
    widths = [float(span.max() * span.mean()) for span in spans]
    total, pairs = 0.0, 0
    for one in range(len(groups)):
        for other in range(one):
            nearest = float(torch.cdist(groups[one], groups[other], compute_mode="donot_use_mm_for_euclid_dist").min())
            total += nearest / max(widths[one] + widths[other], 1e-12)
            pairs += 1
    return total / pairs if pairs else math.nan


def factors(layers: int, stage: int, stages: int) -> list[float]:
    """Return the factor of each layer's learning rate, first layer first, when `stage` (from 1) of `stages` begins.

    Equation 5 with beta = 1 / stages: sigmoid(i / (beta stage) - layers), a half at stage / stages of the layers. It is a few
    layers wide: of 20 layers with 2 stages the first five stand still (below 1e-4), the tenth moves at a half. In a network of
    fewer than ten or so none stands still: of 4 the first moves at 0.12.
    """
    return [1 / (1 + math.exp(layers - i * stages / stage)) for i in range(1, layers + 1)]


def embedded(features: Tensor) -> Tensor:
    """Return a t-SNE of the features in two dimensions, raw: (n, D) -> (n, 2). The same for the same features."""
    from sklearn.manifold import TSNE

    count = len(features)
    tsne = TSNE(2, perplexity=min(30.0, (count - 1) / 3), random_state=0)
    return torch.from_numpy(tsne.fit_transform(features.numpy()))


def watched(train: ImageSet, per_class: int, generator: torch.Generator) -> Tensor:
    """Draw the rows whose features are looked at: so many of each class, for 0 the paper's 100, or 50 beyond ten classes."""
    count = per_class or (100 if train.num_classes <= 10 else 50)
    drawn = []
    for label in range(train.num_classes):
        members = torch.nonzero(train.labels == label).flatten()
        drawn.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return torch.cat(drawn)


def clustered(points: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the activation cluster measure of an embedding, of its first ten classes, and the larger side of all of it."""
    first = labels < 10  # all points are embedded, the first ten classes are measured
    extent = float((points.amax(0) - points.amin(0)).max())
    return activation_cluster_measure(points[first], labels[first]), extent


def with_cosine(protocol: Protocol, factor: float = 1.0) -> Protocol:
    """Return the protocol with its learning rate times `factor`; a one-cycle schedule gives way, it cannot slow layers."""
    schedule = "cosine" if protocol.schedule == "onecycle" else protocol.schedule
    return replace(protocol, lr=protocol.lr * factor, schedule=schedule)


class Stages(Hooks):
    """Algorithm 1 of the paper: after an epoch whose measure exceeds gamma, while there are stages left, take the epoch
    back and slow down more of the first layers."""

    def __init__(self, run: StagedRun, gamma: float, stages: int, per_class: int) -> None:
        self.run, self.gamma, self.stages = run, gamma, stages
        self.stage = 0  # how often an epoch was taken back
        self.watching = True
        self.measured: list[float] = []  # the measure of each epoch
        self.extents: list[float] = []  # the larger side of each embedding
        self.rows = watched(run.train, per_class, run.generator)
        if len(self.rows) < POINTS:
            text = "staged training watches %d images; with fewer than %d the threshold means nothing, each stage ends at once"
            LOG.warning(text, len(self.rows), POINTS)

    def after_epoch(self, epoch: int) -> None:
        if not self.watching:
            return
        points = embedded(self.run.outputs(self.rows, features=True))
        measure, extent = clustered(points, self.run.train.labels[self.rows])
        self.measured.append(measure)
        self.extents.append(extent)
        back = measure > self.gamma and extent >= EXTENT and self.stage < self.stages - 1
        LOG.info("epoch %d: activation cluster measure %.3g, extent %.3g%s", epoch, measure, extent, ", back" if back else "")
        if back:
            self.stage += 1
            self.run.rollback()
            self.run.factors(factors(len(self.run.weights), self.stage, self.stages))

    def state_dict(self) -> dict[str, Any]:
        figures = {"stage": self.stage, "watching": self.watching, "measured": self.measured, "extents": self.extents}
        return {**figures, "rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stage, self.watching, self.rows = state["stage"], state["watching"], state["rows"].cpu()
        self.measured, self.extents = state["measured"], state["extents"]


class ThenAllLayers(Stages):
    """Stages first; then all layers are fine-tuned on a schedule of their own."""

    run: TrainingRun

    def __init__(self, run: TrainingRun, lr: float, epochs: int, **fields: Any) -> None:
        super().__init__(run, **fields)
        self.lr, self.epochs = lr, epochs

    def after_epoch(self, epoch: int) -> None:
        super().after_epoch(epoch)
        if self.watching and self.run.step >= self.run.total:
            self.watching = False
            self.run.restart(self.lr, self.epochs)


class ThenReleased(Stages):
    """Stages first; `wait` epochs after the first that was taken back all layers move alike, and nothing is watched."""

    def __init__(self, run: StagedRun, wait: int, **fields: Any) -> None:
        super().__init__(run, **fields)
        self.wait = wait

    def after_epoch(self, epoch: int) -> None:
        super().after_epoch(epoch)
        if self.watching and self.stage:
            if self.wait == 0:
                self.watching = False
                self.run.factors([1.0] * len(self.run.weights))
            self.wait -= 1

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"wait": self.wait}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.wait = state["wait"]
