"""Staged training: shortcuts are learnt first by shallow layers; stop there when features begin to cluster too soon."""

from dataclasses import dataclass
from typing import Any, ClassVar

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Hooks, Protocol, TrainingRun
from unlearnable_bench.registry._papers import STAGED_TRAINING


@DEFENSES.register("st")
@dataclass(frozen=True)
class StagedTraining(Defense):
    """Take back each epoch after which activations cluster more than `gamma`, then slow down more of the first layers.

    Algorithm 1. The measure is taken after every epoch on a t-SNE of what enters the head, for a fixed part of the training set
    in evaluation mode. `stages` is 1 / beta of the paper, 2 on CIFAR-10 and ImageNet-mini and 3 on CIFAR-100: it falls back at
    most `stages` - 1 times. There is no published code. Ours: a layer is a convolution or a linear map but for the head, so
    that a ResNet-18 has 20 as in figure 6, and equation 5 counts these; what is taken back includes the optimizer's memory and
    the statistics of batch normalisation, which go on moving in slow layers; t-SNE is scikit-learn's with its defaults;
    embeddings less than 20 wide are not judged. A network of fewer than some ten layers is no test of it: none of them stands
    still. Nor are fewer than 1,000 watched images: the measure of a random network, labels shuffled, is 6.7e-5 with 1,000 and
    1.3e-3 with 200, so that the first epochs are taken back whatever was learnt; a warning says so. It fires on clean images
    too, as in the paper. A one-cycle schedule is replaced by a cosine.
    """

    gamma: float = 2.6e-4  # of the activation cluster measure, in 1 / length of the embedding
    stages: int = 2  # 1 / beta
    per_class: int = 0  # images of each class that are watched; 0: 100, with more than ten classes 50

    display_name = "Progressive staged training"
    label = "ST"
    version: ClassVar[int] = 2  # layers are convolutions, not blocks
    paper = STAGED_TRAINING
    small: ClassVar[dict[str, Any]] = {"per_class": 12}

    def __post_init__(self) -> None:
        if self.stages < 1 or self.per_class < 0:
            raise EntryError(f"defense st: expected stages of 1 or more and per_class of 0 or more, found {self}")

    def configure(self, protocol: Protocol) -> Protocol:
        from unlearnable_bench.registry._staged import with_cosine

        return with_cosine(protocol)

    def start(self, run: TrainingRun) -> Hooks:
        from unlearnable_bench.registry._staged import Stages

        return Stages(run, self.gamma, self.stages, self.per_class)
