"""Frozen blocks: some blocks of a network trained on clean images, frozen while the rest learns the poison."""

import logging
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Hooks, TrainingRun
from unlearnable_bench.registry._papers import STAGED_TRAINING

LOG = logging.getLogger(__name__)


@DEFENSES.register("frozen-blocks")
@dataclass(frozen=True)
class FrozenBlocks(Defense):
    """Train a network on the clean images, take its first or last residual blocks, hold them still, train the rest.

    Figures 3, 4 and 8 of the paper: with clean first blocks a network learns from a poison, with clean last blocks it does
    not. An experiment with knowledge that no trainer has: it is given every training image unpoisoned. The other network is
    one of the same kind, drawn anew and trained by the protocol, plain, on the clean images. Held still are the weights; the
    statistics of batch normalisation go on moving. Whether the stem goes with the first blocks is not stated: it does not by
    default, and with `edge` it does, as the head does with the last. Networks without residual blocks, VGG-16 among them,
    are not applicable, though figure 8 names it; its text names a ResNet-50 in its place.
    """

    which: Literal["first", "last"] = "first"  # which residual blocks are the clean ones
    blocks: int = 2  # residual blocks that are frozen
    edge: bool = False  # the stem too, with the first blocks, or the head, with the last; not stated

    display_name = "Frozen clean blocks"
    label = "Frozen {which} {blocks}"
    paper = STAGED_TRAINING
    needs: ClassVar[tuple[str, ...]] = ("clean-data",)

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise EntryError(f"defense frozen-blocks: expected blocks of 1 or more, found {self.blocks}")

    @property
    def cost(self) -> float:
        return 2.0

    def start(self, run: TrainingRun) -> Hooks:
        return _Transplant(self, run)


class _Transplant(Hooks):
    """Trains the other network before the first step, so that a training that goes on from a checkpoint has no need of it."""

    def __init__(self, defense: FrozenBlocks, run: TrainingRun) -> None:
        self.defense, self.run = defense, run
        self.done = False
        self.numbers = self._numbers()

    def _numbers(self) -> list[int]:
        """Which of the network's layers are frozen."""
        from unlearnable_bench.registry._blocks import residual_blocks

        layers, defense = self.run.layers, self.defense
        blocks = residual_blocks(layers, defense.blocks)
        at = [number for number, layer in enumerate(layers) if any(layer is block for block in blocks)]
        if defense.which == "first":
            return [*range(at[0] if defense.edge else 0), *at[: defense.blocks]]
        return [*at[-defense.blocks :], *(range(at[-1] + 1, len(layers)) if defense.edge else ())]

    def _freeze(self) -> None:
        for number in self.numbers:
            self.run.layers[number].requires_grad_(False)

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        if not self.done:
            other = self.run.twin(self.run.clean(len(self.run.train)))
            LOG.info("trained on clean images to a training accuracy of %.3f", other.curve.train_acc[-1])
            for number in self.numbers:
                self.run.layers[number].load_state_dict(other.layers[number].state_dict())
            self._freeze()
            self.done = True
        return x, y

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        if self.done:
            self._freeze()
