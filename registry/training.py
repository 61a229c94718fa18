"""What a training and a trained victim offer to entries: the types that defenses and analyses are written against.

A defense's `start` is handed a `TrainingRun`, an analysis finds a `TrainedVictim` in its context. The classes behind them are
`benchmark.train.Training` and `benchmark.measure.Looked`; mypy checks that they keep what is promised here.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

if typing.TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from unlearnable_bench.registry.contract import ImageSet, Protocol


class StagedRun(typing.Protocol):
    """The part of a training that staged training needs. The surrogate of an attack offers it as well."""

    @property
    def train(self) -> ImageSet:
        """The set that is trained on."""

    @property
    def generator(self) -> torch.Generator:
        """A seeded generator on the CPU."""

    @property
    def weights(self) -> list[list[nn.Parameter]]:
        """The parameters layer by layer, one list per convolution or linear map, in order from input to output."""

    def outputs(self, rows: Tensor, features: bool = ...) -> Tensor:
        """Return logits of the training images `rows`, or with `features` what enters the head: float32 (n, D).

        Evaluation mode, no augmentation; on the CPU.
        """

    def rollback(self) -> None:
        """Restore weights, buffers and the memory of the optimizer to their state before the last epoch."""

    def factors(self, values: list[float]) -> None:
        """Multiply the learning rate of each of `weights` by its own factor from now on."""


class TrainingCurve(typing.Protocol):
    """Figures of a training, one per epoch, taken on the batches as they were trained on. Accuracies are fractions."""

    @property
    def train_acc(self) -> list[float]: ...

    @property
    def train_loss(self) -> list[float]: ...


class TrainingRun(StagedRun, typing.Protocol):
    """A training of a victim that has begun: what `Defense.start` is handed."""

    @property
    def model(self) -> nn.Module:
        """The network, from images in pixel units to logits."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the network."""

    @property
    def protocol(self) -> Protocol:
        """The recipe, after every defense has configured it."""

    @property
    def device(self) -> str:
        """The device that the network is on."""

    @property
    def layers(self) -> list[nn.Module]:
        """The parts of the network, in order from input to output."""

    @property
    def curve(self) -> TrainingCurve:
        """The figures of the epochs that are over."""

    @property
    def step(self) -> int:
        """Training steps that are done, of this schedule."""

    @property
    def total(self) -> int:
        """Training steps of this schedule."""

    @property
    def per_epoch(self) -> int:
        """Training steps per epoch."""

    @property
    def kept(self) -> Tensor | None:
        """The rows that are trained on; None: all."""

    def outputs(self, rows: Tensor, features: bool = ..., of: ImageSet | None = ...) -> Tensor:
        """Return logits or features of the images `rows` of the training set, or of another set."""

    def keep(self, mask: Tensor) -> None:
        """Train on the images of `mask` (bool, (N,)) alone from the next epoch on."""

    def restart(self, lr: float, epochs: int) -> None:
        """Begin a new schedule of `epochs` epochs with the peak learning rate `lr`, all layers at factor 1."""

    def clean(self, n: int, rows: Tensor | None = ...) -> ImageSet:
        """Return n seeded images of the training set, of `rows` where given, as they were before they were poisoned.

        EntryError unless the defense declares `needs = ("clean-data",)`.
        """

    def twin(self, data: ImageSet) -> TrainingRun:
        """Train a network like this one, with new random weights, on another set by the same protocol, without defenses."""

    def exchange(self, images: Tensor) -> None:
        """Train on these images, one for each of the set and of its shape, from the next epoch on."""

    def end(self, epoch: int) -> None:
        """End the training here; its result is the state after `epoch`, and the curve ends there."""


class TrainedVictim(typing.Protocol):
    """A victim as analyses see it: evaluation mode, no augmentation, results float32 on the CPU."""

    @property
    def layers(self) -> Sequence[nn.Module]:
        """Its parts in order from input to output."""

    @property
    def epoch(self) -> int:
        """The epochs that it was trained for so far."""

    def features(self, data: ImageSet) -> Tensor:
        """Return what enters the head: (N, D)."""

    def logits(self, data: ImageSet) -> Tensor:
        """Return the logits: (N, classes)."""

    def gradient(self, data: ImageSet, number: int) -> float:
        """Return the mean absolute gradient of the cross-entropy on a set, over the weights of a layer, counted from 1."""

    def still(self) -> AbstractContextManager[Callable[[Tensor], Tensor]]:
        """Freeze it, as a function from pixels on its device to logits, for gradients with respect to the pixels."""

    def adapted(self, data: ImageSet) -> AbstractContextManager[None]:
        """Let batch normalization use the statistics of a set, as in training mode; its own ones return at the end."""
