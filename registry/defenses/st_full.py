"""Full staged training: `st-cg`, after which all layers may move again from where the stages have led."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Hooks, Protocol, TrainingRun
from unlearnable_bench.registry._papers import STAGED_TRAINING


@DEFENSES.register("st-full")
@dataclass(frozen=True)
class FullStagedTraining(Defense):
    """Staged training with changed colours, then fine-tuning of all layers with changed colours on a new cosine.

    Length and learning rate of the fine-tuning are not stated: ours are those of plain training and a tenth of the
    protocol's learning rate. The printed run times speak for 1.4 to 1.9 plain trainings. The rest is as in `st-cg`.
    """

    gamma: float = 2.6e-4  # of the activation cluster measure, in 1 / length of the embedding
    stages: int = 2  # 1 / beta
    per_class: int = 0  # images of each class that are watched; 0: 100, with more than ten classes 50
    lr_factor: float = 2.0  # times the protocol's learning rate, in the stages
    tuning_factor: float = 0.1  # times the protocol's learning rate, in the fine-tuning; not stated
    tuning: float = 1.0  # length of the fine-tuning, times that of the protocol; not stated
    jitter: float = 0.8  # probability, 0..1
    gray: float = 0.2  # probability, 0..1
    strength: float = 0.4  # largest change of the factors of brightness, contrast and saturation; not stated
    hue: float = 0.1  # largest turn, parts of the circle; not stated

    display_name = "Progressive staged training with color changes and tuning"
    label = "ST-Full"
    version: ClassVar[int] = 2  # layers are convolutions, not blocks
    paper = STAGED_TRAINING
    small: ClassVar[dict[str, Any]] = {"per_class": 12}

    def __post_init__(self) -> None:
        if self.stages < 1 or self.per_class < 0 or min(self.lr_factor, self.tuning_factor, self.tuning) <= 0:
            raise EntryError(
                f"defense st-full: expected stages of 1 or more, per_class of 0 or more, factors above 0, found {self}"
            )

    @property
    def cost(self) -> float:
        return 1 + self.tuning

    def configure(self, protocol: Protocol) -> Protocol:
        from unlearnable_bench.registry._staged import with_cosine

        return with_cosine(protocol, self.lr_factor)

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._photo import colors_and_gray

        return colors_and_gray(x, self.jitter, self.gray, self.strength, self.hue), y

    def start(self, run: TrainingRun) -> Hooks:
        from unlearnable_bench.registry._staged import ThenAllLayers

        lr = run.protocol.lr / self.lr_factor * self.tuning_factor
        epochs = max(1, round(self.tuning * math.ceil(run.total / run.per_epoch)))
        return ThenAllLayers(run, lr, epochs, gamma=self.gamma, stages=self.stages, per_class=self.per_class)
