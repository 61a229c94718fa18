"""DeepConfuse: a network that paints noise, trained so that classifiers of its pictures fail on clean images.

The classifier follows a frozen copy of the painter, the live painter is moved by looking one training step ahead, and takes
the frozen one's place when the classifier's training is over.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from unlearnable_bench.registry import ATTACKS, Attack, Budget, DataInfo, EntryError, ImageSet, Job, NotApplicable, Paper
from unlearnable_bench.registry._crafting import Crafting, batches_of
from unlearnable_bench.registry._painter import Painter
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._surrogates import surrogate


@ATTACKS.register("deepconfuse")
@dataclass(frozen=True)
class DeepConfuse(Attack):
    """Noise of a network, the painter, whose pictures teach classifiers what fails on clean images (Feng, Cai and Zhou).

    A trial: a new classifier is trained `epochs` epochs while the live painter learns. After every trial a fresh classifier is
    trained on the frozen painter's pictures, and the painter whose classifier knows the fewest unseen images is kept.
    Classifiers answer through two numbers: a linear layer to 2, one to the classes. `trials` is the authors' default and takes
    days on a GPU; 20 to 50 are affordable, and weaker.
    Changed from the authors' code: painters are chosen by a tenth of the training images, which no painter or classifier of
    the search sees, instead of the test set, and by classifiers in evaluation mode, as victims are tested (theirs stay in
    training mode); an incomplete batch counts too. On ImageNet they take epsilon=0.1. APBench scales
    published weights to 8/255. What victims of a painter's pictures learn was not measured at a small scale.
    """

    epsilon: float = 0.032  # linf radius, pixel units; 8.16 levels, of which 8 are left in 8 bits
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    surrogate: str = "vgg11"  # its features; the head is the attack's own
    trials: int = 1000  # new classifiers, one after the other, while one painter learns
    epochs: int = 20  # per trial, and of the classifier that judges it
    batch: int = 256  # images
    lr: float = 0.01  # of the classifiers, plain descent, and of the step ahead
    painter_lr: float = 1e-4  # of Adam
    width: int = 64  # channels of the painter at full size; doubled at every halving, three times

    display_name = "DeepConfuse"
    label = "DeepConfuse"
    small: ClassVar[dict[str, Any]] = {"surrogate": "small-cnn", "trials": 1, "epochs": 2, "batch": 16, "width": 4}
    paper = Paper(
        "Learning to Confuse: Generating Training Time Adversarial Data with Auto-Encoder",
        venue="NeurIPS 2019",
        url="https://arxiv.org/abs/1905.09027",
        authors="Ji Feng, Qi-Zhi Cai, Zhi-Hua Zhou",
        year=2019,
    )

    def __post_init__(self) -> None:
        if min(self.trials, self.epochs, self.width) < 1 or self.batch < 2 or min(self.lr, self.painter_lr) < 0:
            raise EntryError(
                "attack deepconfuse: trials, epochs and width must be 1 or more, batch 2, learning rates not negative"
            )

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def applies(self, info: DataInfo) -> None:
        if min(info.shape[1:]) < 8:
            raise NotApplicable("halves images three times; needs 8x8 or larger")
        if info.size < 3:
            raise NotApplicable("needs images to judge by")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job)
        painter, judged = self.search(run)
        run.close(chosen_accuracy=judged)
        with still(painter), torch.no_grad():
            for where in clean.batches(run.at_once):
                x, _ = run.batch(where)
                yield where, ((x + self.epsilon * painter(x)).clamp(0, 1) - x).cpu()

    def search(self, run: Crafting) -> tuple[nn.Module, float]:
        """Return the best painter, and the part of unseen images that a classifier of its pictures knows."""
        size, order = len(run.clean), torch.randperm(len(run.clean), generator=run.job.generator)
        unseen, seen = order[: max(1, size // 10)], order[max(1, size // 10) :]
        live = Painter(run.clean.images.shape[1], self.width).to(run.device)
        frozen, best = deepcopy(live), deepcopy(live)
        classifier = self.classifier(run)
        optimizer = torch.optim.Adam(live.parameters(), self.painter_lr)
        steps = self.epochs * len(batches_of(seen, self.batch))
        trial, step, lowest, shuffled = 0, 0, float("inf"), seen
        if state := run.resume("noise"):
            for net, name in ((live, "live"), (frozen, "frozen"), (best, "best"), (classifier, "classifier")):
                net.load_state_dict(state[name])
            optimizer.load_state_dict(state["optimizer"])
            unseen, seen, shuffled = state["unseen"].cpu(), state["seen"].cpu(), state["shuffled"].cpu()
            trial, step, lowest = state["trial"], state["step"], state["lowest"]
        while trial < self.trials:
            while step < steps:
                place = step % (steps // self.epochs)
                if place == 0:
                    shuffled = seen[torch.randperm(len(seen), generator=run.job.generator)]
                x, y = run.batch(batches_of(shuffled, self.batch)[place])
                live.train()
                goal, gradients = self.ahead(live, classifier, x, y)
                for parameter, gradient in zip(live.parameters(), gradients, strict=True):
                    parameter.grad = gradient
                optimizer.step()
                self.descend(classifier, self.pictures(frozen, x), y)
                run.count(13, len(y))  # the classifier's share: 3 forward, their backward, and backward through those
                run.write(loss_ahead=-goal)
                step += 1
                run.job.progress(trial * steps + step, self.trials * steps)
                if run.due:
                    nets = {"live": live, "frozen": frozen, "best": best, "classifier": classifier}
                    state = {name: net.state_dict() for name, net in nets.items()}
                    state |= {"optimizer": optimizer.state_dict(), "unseen": unseen, "seen": seen, "shuffled": shuffled}
                    run.keep("noise", state | {"trial": trial, "step": step, "lowest": lowest})
            frozen.load_state_dict(live.state_dict())
            known = self.judge(run, frozen, seen, unseen)
            run.write(unseen_accuracy=known)
            if known < lowest:
                lowest = known
                best.load_state_dict(frozen.state_dict())
            trial, step, classifier = trial + 1, 0, self.classifier(run)
        return best, lowest

    def classifier(self, run: Crafting) -> nn.Module:
        """Return a new classifier with its narrow head."""
        net = surrogate(run, self.surrogate)
        assert isinstance(net.head, nn.Linear), "the head of an architecture is a linear layer"
        head = nn.Sequential(nn.Linear(net.head.in_features, 2), nn.Linear(2, run.clean.num_classes))
        net.head = nn.Identity()  # its features are all that is used
        return Narrow(net, head).to(run.device)

    def ahead(self, painter: nn.Module, classifier: nn.Module, x: Tensor, y: Tensor) -> tuple[float, Sequence[Tensor]]:
        """Return what the painter lowers, and its gradient: minus the clean loss after one step on its pictures."""
        classifier.train()
        weights: dict[str, Tensor] = dict(classifier.named_parameters())

        def answers(at: dict[str, Tensor], images: Tensor) -> Tensor:
            buffers = {name: buffer.clone() for name, buffer in classifier.named_buffers()}
            found: Tensor = functional_call(classifier, (at, buffers), (images,))
            return found

        pictures = (x + self.epsilon * painter(x)).clamp(0, 1)
        loss = F.cross_entropy(answers(weights, pictures), y)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        moved = {name: weight - self.lr * g for (name, weight), g in zip(weights.items(), gradients, strict=True)}
        goal = -F.cross_entropy(answers(moved, x), y)
        return float(goal.detach()), torch.autograd.grad(goal, list(painter.parameters()))

    def pictures(self, painter: nn.Module, x: Tensor) -> Tensor:
        """Return what a painter makes of images, in evaluation mode."""
        with still(painter), torch.no_grad():
            found: Tensor = (x + self.epsilon * painter(x)).clamp(0, 1)
            return found

    def descend(self, classifier: nn.Module, x: Tensor, y: Tensor) -> None:
        """Take one plain step of descent."""
        classifier.train()
        gradients = torch.autograd.grad(F.cross_entropy(classifier(x), y), list(classifier.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(classifier.parameters(), gradients, strict=True):
                parameter.sub_(self.lr * gradient)

    def judge(self, run: Crafting, painter: nn.Module, seen: Tensor, unseen: Tensor) -> float:
        """Return which part of unseen, clean images a new classifier of a painter's pictures knows."""
        classifier = self.classifier(run)
        for _ in range(self.epochs):
            shuffled = seen[torch.randperm(len(seen), generator=run.job.generator)]
            for rows in batches_of(shuffled, self.batch):
                x, y = run.batch(rows)
                self.descend(classifier, self.pictures(painter, x), y)
                run.count(3, len(y))
        right = 0
        with still(classifier), torch.no_grad():
            for rows in unseen.split(run.at_once):
                x, y = run.batch(rows)
                right += int((classifier(x).argmax(1) == y).sum())
        return right / len(unseen)


class Narrow(nn.Module):
    """A network whose features pass through a head of two numbers."""

    def __init__(self, net: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.net, self.head = net, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net.features(x))  # type: ignore[no-any-return, operator]
