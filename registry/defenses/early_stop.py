"""Early stopping: a poison is learnt first or last, so a checkpoint between may generalise better than the end."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from registry import DEFENSES, Defense, EntryError, Hooks
from registry._papers import STABLE_UNLEARNABLE


@DEFENSES.register("early-stop")
@dataclass(frozen=True)
class EarlyStop(Defense):
    """Hold out part of the training set, stop when accuracy on it has not risen for `patience` steps, judge the best epoch.

    The part held out is stratified and as poisoned as the rest: a shortcut earns full marks there too. The curve of a cell
    ends at the epoch that was chosen, so that its last accuracy is the one that counts; of equal epochs the first.
    The paper looks every 500 or 1000 steps, here after every epoch (391 steps on CIFAR-10). It also mixes clean images into
    the part held out, which this has not.
    """

    patience: int = 3000  # training steps without a better accuracy; the paper: 3000 to 20000
    part: float = 0.1  # of the training set that is held out, 0..1

    paper = STABLE_UNLEARNABLE

    def __post_init__(self) -> None:
        if self.patience < 0 or not 0 < self.part < 1:
            raise EntryError(f"defense early-stop: expected patience of 0 or more and part between 0 and 1, found {self}")

    def start(self, run: Any) -> Hooks:
        return _Waiting(self, run)


class _Waiting(Hooks):
    def __init__(self, defense: EarlyStop, run: Any) -> None:
        self.defense, self.run = defense, run
        self.best, self.epoch, self.step = -1.0, 0, 0
        self.weights: dict[str, Tensor] = {}
        labels = run.train.labels
        held = torch.zeros(len(labels), dtype=torch.bool)
        for label in range(run.train.num_classes):
            members = torch.nonzero(labels == label).flatten()
            count = min(max(1, round(defense.part * len(members))), len(members) - 1)  # at least one of each stays
            held[members[torch.randperm(len(members), generator=run.generator)[: max(0, count)]]] = True
        self.rows = torch.nonzero(held).flatten()
        run.keep(~held)

    def after_epoch(self, epoch: int) -> None:
        found = self.run.outputs(self.rows).argmax(1)
        accuracy = float((found == self.run.train.labels[self.rows]).double().mean())
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
