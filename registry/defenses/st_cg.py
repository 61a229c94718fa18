"""Staged training with changed colours: `st` for shortcuts of shallow layers, `cg` for those coded in colours."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Hooks, Protocol, TrainingRun
from unlearnable_bench.registry._papers import STAGED_TRAINING


@DEFENSES.register("st-cg")
@dataclass(frozen=True)
class StagedTrainingWithColors(Defense):
    """Staged training as `st`, every batch with colour jitter and random grayscale as `cg`, from twice the learning rate.

    The paper trains it from 0.2 where plain training starts from 0.1. What is not stated is as in `st` and `cg`.
    """

    gamma: float = 2.6e-4  # of the activation cluster measure, in 1 / length of the embedding
    stages: int = 2  # 1 / beta
    per_class: int = 0  # images of each class that are watched; 0: 100, with more than ten classes 50
    lr_factor: float = 2.0  # times the protocol's learning rate
    jitter: float = 0.8  # probability, 0..1
    gray: float = 0.2  # probability, 0..1
    strength: float = 0.4  # largest change of the factors of brightness, contrast and saturation; not stated
    hue: float = 0.1  # largest turn, parts of the circle; not stated

    display_name = "Progressive staged training with color changes"
    label = "ST-CG"
    version: ClassVar[int] = 2  # layers are convolutions, not blocks
    paper = STAGED_TRAINING
    small: ClassVar[dict[str, Any]] = {"per_class": 12}

    def __post_init__(self) -> None:
        if self.stages < 1 or self.per_class < 0 or self.lr_factor <= 0:
            raise EntryError(
                f"defense st-cg: expected stages of 1 or more, per_class of 0 or more, lr_factor above 0, found {self}"
            )

    def configure(self, protocol: Protocol) -> Protocol:
        from unlearnable_bench.registry._staged import with_cosine

        return with_cosine(protocol, self.lr_factor)

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._photo import colors_and_gray

        return colors_and_gray(x, self.jitter, self.gray, self.strength, self.hue), y

    def start(self, run: TrainingRun) -> Hooks:
        from unlearnable_bench.registry._staged import Stages

        return Stages(run, self.gamma, self.stages, self.per_class)
