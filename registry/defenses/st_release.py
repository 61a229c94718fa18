"""Staged training that is given up: what becomes of a network once all its layers may learn the poison again."""

from dataclasses import dataclass
from typing import Any, ClassVar

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Hooks, Protocol, TrainingRun
from unlearnable_bench.registry._papers import STAGED_TRAINING


@DEFENSES.register("st-release")
@dataclass(frozen=True)
class ReleasedStagedTraining(Defense):
    """Staged training as `st` until the measure first exceeds `gamma`, and `wait` epochs more; then all layers move alike.

    Figure 10 of the paper, which shows that the network falls back into the poison: that an epoch was taken back is not
    enough. With `wait` 0 plain training goes on from the weights before that epoch; with more, from a later checkpoint of
    the staged training. The schedule goes on where it stands. Where the measure never exceeds `gamma` it is `st`. The paper
    draws three such lines and does not say from which epochs.
    """

    gamma: float = 2.6e-4  # of the activation cluster measure, in 1 / length of the embedding
    stages: int = 2  # 1 / beta
    per_class: int = 0  # images of each class that are watched; 0: 100, with more than ten classes 50
    wait: int = 0  # epochs of staged training after the first that is taken back

    display_name = "Progressive staged training, released code"
    label = "ST released"
    version: ClassVar[int] = 2  # layers are convolutions, not blocks
    paper = STAGED_TRAINING
    small: ClassVar[dict[str, Any]] = {"per_class": 12}

    def __post_init__(self) -> None:
        if self.stages < 2 or self.per_class < 0 or self.wait < 0:
            limits = "stages of 2 or more, per_class and wait of 0 or more"
            raise EntryError(f"defense st-release: expected {limits}, found {self}")

    def configure(self, protocol: Protocol) -> Protocol:
        from unlearnable_bench.registry._staged import with_cosine

        return with_cosine(protocol)

    def start(self, run: TrainingRun) -> Hooks:
        from unlearnable_bench.registry._staged import ThenReleased

        return ThenReleased(run, self.wait, gamma=self.gamma, stages=self.stages, per_class=self.per_class)
