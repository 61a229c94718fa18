"""GUE: game unlearnable examples.

A network paints noise, and leads a game that a classifier follows: it is moved so that a classifier which has learned the
pictures as well as it can is as wrong as possible on clean images. Once trained, it paints images that it never saw.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import ATTACKS, Attack, Budget, DataInfo, EntryError, ImageSet, Job, NotApplicable, Paper
from unlearnable_bench.registry._crafting import Crafting, batches_of
from unlearnable_bench.registry._noise import exported
from unlearnable_bench.registry._painter import Painter
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._surrogates import surrogate


@ATTACKS.register("gue")
@dataclass(frozen=True)
class GameUnlearnable(Attack):
    """Noise of a painter that leads a Stackelberg game against a classifier, solved to first order (Liu, Wang and Gao).

    For each batch, a copy of the classifier takes `steps` steps of Adam on the pictures: how well they could be learned. Then
    both players move once. The classifier's goal on clean images is the largest loss towards a wrong label, which is bounded;
    the gap between its loss on the pictures and its copy's is closed at a rate of at least `eta` times its squared gradient.
    The classifiers see pixels, as the authors' do, and the noise is truncated to 8 bits.
    Read in the authors' code; of the paper the abstract. Changed from it: the painter of the last epoch is taken, where theirs
    is chosen by the test accuracy of a classifier of its pictures; it paints a batch once, not `steps` + 2 times, its running
    statistics moving as if it did. Their form against adversarial training is not here.
    """

    epsilon: float = 8 / 255  # linf radius, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    surrogate: str = "resnet18"  # the classifier that follows: any architecture
    epochs: int = 50  # of the game
    batch: int = 256  # images
    steps: int = 10  # of the classifier's copy, per batch
    copy_lr: float = 1e-4  # of Adam, for the copy
    eta: float = 1.5  # how fast the gap is closed, above 0
    lr: float = 0.01  # of the classifier, plain descent
    painter_lr: float = 0.1  # plain descent
    width: int = 64  # channels of the painter at full size; doubled at every halving, three times

    display_name = "Game unlearnable examples"
    label = "GUE"
    small: ClassVar[dict[str, Any]] = {"surrogate": "small-cnn", "epochs": 2, "batch": 16, "steps": 2, "width": 4}
    paper = Paper(
        "Game-Theoretic Unlearnable Example Generator",
        venue="AAAI 2024",
        url="https://arxiv.org/abs/2401.17523",
        authors="Shuang Liu, Yihan Wang, Xiao-Shan Gao",
        year=2024,
    )

    def __post_init__(self) -> None:
        if min(self.epochs, self.steps, self.width) < 1 or self.batch < 2:
            raise EntryError("attack gue: epochs, steps and width must be 1 or more, batch 2")
        if self.eta <= 0 or min(self.lr, self.copy_lr, self.painter_lr) < 0:
            raise EntryError("attack gue: eta must be above 0, learning rates not negative")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def applies(self, info: DataInfo) -> None:
        if min(info.shape[1:]) < 8:
            raise NotApplicable("halves images three times; needs 8x8 or larger")
        if info.num_classes < 2:
            raise NotApplicable("needs a second class that the classifier can be led to")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job)
        painter = self.search(run)
        run.close()
        with still(painter), torch.no_grad():
            for where in clean.batches(run.at_once):
                x, _ = run.batch(where)
                delta = (self.pictures(painter, x) - x).cpu()
                yield where, exported(delta, "lfu", self.epsilon)

    def search(self, run: Crafting) -> nn.Module:
        """Return the painter at the end of the game."""
        painter, classifier = self.painter(run), surrogate(run, self.surrogate)
        order, first, place = torch.empty(0, dtype=torch.long), 0, 0
        if state := run.resume("noise"):
            painter.load_state_dict(state["painter"])
            classifier.load_state_dict(state["classifier"])
            order, first, place = state["order"].cpu(), state["epoch"], state["place"]
        for epoch in range(first, self.epochs):
            if place == 0:
                order = torch.randperm(len(run.clean), generator=run.job.generator)
            batches = batches_of(order, self.batch)
            for number in range(place, len(batches)):
                x, y = run.batch(batches[number])
                goal, gap = self.play(painter, classifier, x, y)
                run.write(clean_goal=goal, gap=gap)
                run.count(3 * self.steps + 9, len(y))  # the classifiers' share
                run.job.progress(epoch * len(batches) + number + 1, self.epochs * len(batches))
                if run.due:
                    state = {"painter": painter.state_dict(), "classifier": classifier.state_dict(), "order": order}
                    run.keep("noise", state | {"epoch": epoch, "place": number + 1})
            place = 0
        return painter

    def painter(self, run: Crafting) -> nn.Module:
        """Return a new painter, whose running statistics move at a batch as those of the authors at so many passes."""
        made = Painter(run.clean.images.shape[1], self.width).to(run.device)
        for layer in made.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 1 - 0.9 ** (self.steps + 2)
        return made

    def pictures(self, painter: nn.Module, x: Tensor) -> Tensor:
        """Return what a painter makes of images."""
        found: Tensor = (x + self.epsilon * painter(x)).clamp(0, 1)
        return found

    def play(self, painter: nn.Module, classifier: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
        """Move both players once; return the classifier's goal on clean images and the gap to its copy, before the move."""
        painter.train()
        classifier.train()
        pictures = self.pictures(painter, x)
        copy = self.learned(classifier, pictures.detach(), y)
        goal = largest_wrong_loss(classifier(x), y)
        toward_goal = torch.autograd.grad(goal, list(classifier.parameters()))
        loss = F.cross_entropy(classifier(pictures), y)
        gap = loss - F.cross_entropy(copy(pictures), y)
        of_painter = torch.autograd.grad(gap, list(painter.parameters()), retain_graph=True)
        of_classifier = torch.autograd.grad(loss, list(classifier.parameters()))
        squared = product(of_painter, of_painter) + product(of_classifier, of_classifier)
        weight = F.relu((self.eta * squared - product(toward_goal, of_classifier)) / (squared + 1e-8))
        descend(painter, self.painter_lr, [weight * one for one in of_painter])
        both = zip(toward_goal, of_classifier, strict=True)
        descend(classifier, self.lr, [one + weight * other for one, other in both])
        return float(goal.detach()), float(gap.detach())

    def learned(self, classifier: nn.Module, pictures: Tensor, y: Tensor) -> nn.Module:
        """Return a copy of the classifier that has taken its steps on the pictures, in training mode."""
        copy = deepcopy(classifier)
        optimizer = torch.optim.Adam(copy.parameters(), self.copy_lr)
        for _ in range(self.steps):
            optimizer.zero_grad()
            F.cross_entropy(copy(pictures), y).backward()
            optimizer.step()
        return copy


def largest_wrong_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over images of the largest cross-entropy to a wrong label, of outputs (B, K)."""
    own = F.one_hot(labels, outputs.shape[1]).bool()
    lowest = outputs.masked_fill(own, float("inf")).min(1).values
    return (outputs.logsumexp(1) - lowest).mean()


def product(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Return the inner product of two gradients."""
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()


def descend(net: nn.Module, lr: float, gradients: Sequence[Tensor]) -> None:
    """Take one plain step of descent."""
    with torch.no_grad():
        for parameter, gradient in zip(net.parameters(), gradients, strict=True):
            parameter.sub_(lr * gradient)
