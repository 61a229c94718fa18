"""EPIC: images whose gradients resemble no others of their class are dropped, as effective targeted poisons do."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Hooks, Paper, TrainingRun


@DEFENSES.register("epic")
@dataclass(frozen=True)
class Epic(Defense):
    """Again and again drop the images that are alone in their cluster of last-layer gradients; they never return.

    For each class, a tenth to three tenths of the images are picked as medoids by facility location on softmax minus one-hot
    label; an image that is its own only follower goes. Every selection clusters the whole set, what was dropped before
    included, as in the code. Changed: the intervals are parts of training, by default those of the published 200 epochs (first
    after 30, every 10, until the last drop of the learning rate at 150); the softmax includes the bias of the last layer, which
    the code leaves out; clusters are told apart by class and medoid. Made for targeted poisons: where every image is poisoned
    it is expected to fail.
    """

    alpha: float = 0.2  # medoids, part of each class's images; the paper: 0.1 to 0.3
    warmup: float = 0.15  # part of training before the first selection, 0..1
    every: float = 0.05  # part of training between selections, 0..1
    until: float = 0.75  # part of training after which nothing is dropped any more, 0..1

    display_name = "EPIC"
    label = "EPIC"
    version: ClassVar[int] = 2  # clusters the whole set, by the similarity of the published code
    paper = Paper(
        "Not All Poisons are Created Equal: Robust Training against Data Poisoning",
        venue="ICML 2022",
        url="https://arxiv.org/abs/2210.09671",
        authors="Yu Yang, Tian Yu Liu, Baharan Mirzasoleiman",
        year=2022,
    )

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1 or min(self.warmup, self.every) < 0 or not 0 <= self.until <= 1:
            raise EntryError(f"defense epic: expected alpha in (0, 1], warmup and every of 0 or more, until 0..1, found {self}")

    def start(self, run: TrainingRun) -> Hooks:
        return _Dropping(self, run)


class _Dropping(Hooks):
    """What is left to train on is in the checkpoint of the loop; there is nothing else to remember."""

    def __init__(self, defense: Epic, run: TrainingRun) -> None:
        self.alpha, self.run = defense.alpha, run
        epochs = math.ceil(run.total / run.per_epoch)
        self.first = max(1, round(defense.warmup * epochs))
        self.every = max(1, round(defense.every * epochs))
        self.last = round(defense.until * epochs)

    def after_epoch(self, epoch: int) -> None:
        from unlearnable_bench.registry._medoids import medoids

        if not self.first <= epoch <= self.last or (epoch - self.first) % self.every:
            return
        run, labels = self.run, self.run.train.labels
        rows = torch.arange(len(run.train))
        gradients = run.outputs(rows).softmax(1)
        gradients[rows, labels] -= 1
        mask = torch.zeros(len(rows), dtype=torch.bool)
        for label in labels.unique():
            members = torch.nonzero(labels == label).flatten()
            picked, medoid = medoids(gradients[members], max(1, round(self.alpha * len(members))))
            company = torch.bincount(medoid, minlength=len(picked))[medoid]
            mask[members[company > 1]] = True
        if run.kept is not None:
            mask &= torch.isin(rows, run.kept)
        if mask.any():
            run.keep(mask)
