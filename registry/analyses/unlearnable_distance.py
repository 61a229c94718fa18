"""How many layers of a network still learn on a poison, by the sharpness of its loss, next to the clean images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import ANALYSES, Analysis, Context, EntryError, ImageSet
from unlearnable_bench.registry._papers import TRUE_UNLEARNABILITY
from unlearnable_bench.registry._steps import still

Batches = list[tuple[Tensor, Tensor]]
"""Pixels (B, C, H, W) and labels (B,), on the device of the network."""


@ANALYSES.register("unlearnable-distance")
@dataclass(frozen=True)
class UnlearnableDistance(Analysis):
    """Layers that a poison lets learn, as a part of those that the clean images let learn (Ye et al.): 1 for the clean set.

    Two networks are trained, on the clean images and on the poison. After every epoch the learnability of each convolution
    and linear layer is measured (SAL): how far the loss moves, up or down, whichever is more, when the weights of that layer
    alone take `iterations` passes of gradient steps, after each pass held within `radius` of their norm. The threshold is the
    middle between the two clusters of the clean network's layers, averaged over epochs. Figures: `unlearnable_distance`, the
    quotient of the layers above it, `learnable_layers` and `learnable_layers(clean)` per epoch, and `threshold`.

    From the authors' code, whose paper we had only in summaries: SGD at a constant rate with momentum, 50 epochs of batches of
    256, crops and mirroring. Changed: learnability is measured on `images` of the training set as they are, in one order, where
    the code uses all of it with new crops and mirroring in every pass, at hundreds of times the cost of the training; the loss
    that it is compared with is that of the same images in evaluation mode, where the code takes the mean loss of the epoch.
    The two clusters are the best ones of a line, where k-means finds one of several.
    """

    architecture: str = "resnet18"  # of the two networks
    epochs: int = 50  # of their training
    batch: int = 256  # images, of the training and of the steps
    lr: float = 0.1  # of the training
    images: int = 2560  # on which learnability is measured; 0: all
    iterations: int = 10  # passes over them, in either direction
    radius: float = 0.05  # of the change of a layer, as a part of the norm of its weights
    step_size: float = 0.1  # learning rate of the change

    display_name = "Unlearnable distance"
    label = "Unlearnable distance"
    paper = TRUE_UNLEARNABILITY
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison")
    small: ClassVar[dict[str, Any]] = {"architecture": "small-cnn", "epochs": 2, "batch": 32, "iterations": 2}

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.iterations) < 1 or self.images < 0 or self.radius <= 0:
            raise EntryError(f"analysis unlearnable-distance: expected counts of 1 or more and a radius above 0, found {self}")

    def measure(self, context: Context) -> dict[str, float]:
        chosen = torch.randperm(len(context.clean), generator=context.job.generator)[: self.images or None]
        clean, poison = (self._learnabilities(context, images, chosen) for images in (context.clean, context.poison))
        threshold = clean_threshold(clean)
        reference, layers = (learnable_layers(values, threshold) for values in (clean, poison))
        return {
            "unlearnable_distance": layers / reference if reference else 1.0,
            "learnable_layers": layers,
            "learnable_layers(clean)": reference,
            "threshold": threshold,
        }

    def _learnabilities(self, context: Context, images: ImageSet, chosen: Tensor) -> Tensor:
        """Train a network on the images; return the learnability of each layer after each epoch: (epochs, layers)."""
        from unlearnable_bench.registry._crafting import Crafting
        from unlearnable_bench.registry._surrogates import SurrogateRecipe, fit_surrogate, surrogate

        run = Crafting(images, context.job)
        net = surrogate(run, self.architecture)
        batches = [run.batch(part) for part in chosen.split(self.batch)]
        rows: list[list[float]] = []

        def look(epoch: int) -> None:
            rows.append([self.learnability(net, weight, batches) for weight in weights_of_layers(net)])

        fit_surrogate(run, net, SurrogateRecipe(epochs=self.epochs, batch=self.batch, lr=self.lr), look)
        return torch.tensor(rows, dtype=torch.float64)

    def learnability(self, net: nn.Module, weight: Tensor, batches: Batches) -> float:
        """Return how far the loss moves, up or down, by a small change of one weight tensor; the network stays as it is."""
        with still(net):
            before = mean_loss(net, batches)
            lowest = min(self._losses(net, weight, batches, self.step_size))
            highest = max(self._losses(net, weight, batches, -self.step_size))
        return max(highest - before, before - lowest, 0.0)

    def _losses(self, net: nn.Module, weight: Tensor, batches: Batches, rate: float) -> list[float]:
        """Return the losses after every pass of steps down the loss, or up it at a negative rate."""
        start, losses = weight.detach().clone(), []
        for _ in range(self.iterations):
            for x, y in batches:
                weight.data -= rate * _gradient(net, weight, x, y)
            change = (weight.data - start).view(1, -1).renorm(2, 0, float(self.radius * start.norm()))
            weight.data = start + change.view_as(start)
            losses.append(mean_loss(net, batches))
        weight.data = start
        return losses


def weights_of_layers(net: nn.Module) -> list[Tensor]:
    """Return the weights of all convolutions and linear layers."""
    return [module.weight for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def _gradient(net: Callable[[Tensor], Tensor], weight: Tensor, x: Tensor, y: Tensor) -> Tensor:
    weight.requires_grad_(True)
    with torch.enable_grad():
        found: Tensor = torch.autograd.grad(F.cross_entropy(net(x), y), weight)[0]
    weight.requires_grad_(False)
    return found


@torch.no_grad()
def mean_loss(net: Callable[[Tensor], Tensor], batches: Batches) -> float:
    """Return the mean cross-entropy over all images."""
    total = sum(float(F.cross_entropy(net(x), y, reduction="sum")) for x, y in batches)
    return total / sum(len(y) for _, y in batches)


def clean_threshold(learnabilities: Tensor) -> float:
    """Return the middle between two clusters of layers, averaged over epochs; (epochs, layers)."""
    middles = [_middle_of_clusters(layers) for layers in learnabilities]
    return sum(middles) / len(middles)


def _middle_of_clusters(values: Tensor) -> float:
    """Return the middle between the means of the two clusters with the least sum of squares."""
    ordered = values.sort().values
    splits = [(ordered[:k], ordered[k:]) for k in range(1, len(ordered))] or [(ordered, ordered)]
    low, high = min(splits, key=lambda halves: float(_squares(halves[0]) + _squares(halves[1])))
    return float(low.mean() + high.mean()) / 2


def _squares(values: Tensor) -> Tensor:
    return (values - values.mean()).square().sum()


def learnable_layers(learnabilities: Tensor, threshold: float) -> float:
    """Return how many layers are above the threshold, per epoch; (epochs, layers)."""
    return float((learnabilities > threshold).sum()) / len(learnabilities)
