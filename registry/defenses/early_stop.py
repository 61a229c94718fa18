"""Early stopping: a poison is learnt first or last, so a checkpoint between may generalise better than the end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Hooks, TrainingRun
from unlearnable_bench.registry._papers import STABLE_UNLEARNABLE


@DEFENSES.register("early-stop")
@dataclass(frozen=True)
class EarlyStop(Defense):
    """Hold out part of the training set, stop when accuracy on it has not risen for `patience` steps, judge the best epoch.

    The part held out is stratified and as poisoned as the rest: a shortcut earns full marks there too. Where a fraction
    `clean` of it is shown unpoisoned, the trainer has clean data, which others have not; the images stay the same ones.
    The curve of a cell ends at the epoch that was chosen, so that its last accuracy is the one that counts; of equal epochs
    the first. The paper looks every 500 or 1000 steps, here after every epoch (391 steps on CIFAR-10), and does not say
    which images it takes for its clean ones.
    """

    patience: int = 3000  # training steps without a better accuracy; the paper: 3000 to 20000
    part: float = 0.1  # of the training set that is held out, 0..1
    clean: float = 0.0  # of the part held out that is clean, 0..1; the paper: 0 to 0.7

    display_name = "Early stopping"
    label = "Early stop"
    paper = STABLE_UNLEARNABLE
    needs: ClassVar[tuple[str, ...]] = ("clean-data",)
    brings: ClassVar[Mapping[str, str]] = {"clean-data": "clean"}

    def __post_init__(self) -> None:
        if self.patience < 0 or not 0 < self.part < 1 or not 0 <= self.clean <= 1:
            limits = "patience of 0 or more, part between 0 and 1, clean from 0 to 1"
            raise EntryError(f"defense early-stop: expected {limits}, found {self}")

    def start(self, run: TrainingRun) -> Hooks:
        return _Waiting(self, run)


class _Waiting(Hooks):
    def __init__(self, defense: EarlyStop, run: TrainingRun) -> None:
        self.defense, self.run = defense, run
        self.best, self.epoch, self.step = -1.0, 0, 0
        self.weights: dict[str, Tensor] = {}
        labels = run.train.labels
        held = torch.zeros(len(labels), dtype=torch.bool)
        shown = torch.zeros_like(held)  # unpoisoned
        for label in range(run.train.num_classes):
            members = torch.nonzero(labels == label).flatten()
            count = min(max(1, round(defense.part * len(members))), len(members) - 1)  # at least one of each stays
            chosen = members[torch.randperm(len(members), generator=run.generator)[: max(0, count)]]
            held[chosen] = True
            shown[chosen[: round(defense.clean * len(chosen))]] = True
        self.rows = torch.nonzero(held & ~shown).flatten()
        run.keep(~held)
        rows = torch.nonzero(shown).flatten()
        self.clean = run.clean(len(rows), rows) if len(rows) else None

    def after_epoch(self, epoch: int) -> None:
        right = []
        if len(self.rows):
            right.append(self.run.outputs(self.rows).argmax(1) == self.run.train.labels[self.rows])
        if self.clean is not None:
            right.append(self.run.outputs(torch.arange(len(self.clean)), of=self.clean).argmax(1) == self.clean.labels)
        accuracy = float(torch.cat(right).double().mean())
        if accuracy > self.best:
            self.best, self.epoch, self.step = accuracy, epoch, self.run.step
            self.weights = {name: value.clone() for name, value in self.run.model.state_dict().items()}
        if self.run.step >= self.run.total or self.run.step - self.step >= self.defense.patience:
            self.run.model.load_state_dict(self.weights)
            self.run.end(self.epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"figures": [self.best, self.epoch, self.step], "weights": self.weights, "rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.epoch, self.step = state["figures"]
        self.weights, self.rows = state["weights"], state["rows"].cpu()
