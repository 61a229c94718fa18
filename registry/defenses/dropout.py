"""Dropout: half of the features are missing in every step, so no single one that follows a shortcut is enough."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import DEFENSES, Defense, EntryError
from unlearnable_bench.registry._papers import STAGED_TRAINING


class _Drop:
    """What runs before the head while the network trains; an object of a module, so that networks still pickle."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, head: nn.Module, features: tuple[Tensor]) -> tuple[Tensor]:
        return (F.dropout(features[0], self.probability, head.training),)


@DEFENSES.register("dropout")
@dataclass(frozen=True)
class Dropout(Defense):
    """Drop features with `probability` before the last linear layer while training.

    One of the single measures of the paper's tables, with probability 0.5. It does not state the place: ours is the input of
    the head, the one place that every network has.
    """

    probability: float = 0.5  # 0 to below 1

    display_name = "Dropout"
    label = "Dropout"
    paper = STAGED_TRAINING

    def __post_init__(self) -> None:
        if not 0 <= self.probability < 1:
            raise EntryError(f"defense dropout: probability={self.probability}, expected 0 to below 1")

    def model(self, net: nn.Module) -> nn.Module:
        head: Any = net.head
        head.register_forward_pre_hook(_Drop(self.probability))
        return net
