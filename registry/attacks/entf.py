"""EntF: entangled features.

Poison for victims that train adversarially: images whose robust features lie among those of other classes, so that even a
robust network learns little from them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import ATTACKS, Attack, Budget, DataInfo, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._crafting import Crafting, mixed
from unlearnable_bench.registry._frozen_networks import Descent, Pull, frozen
from unlearnable_bench.registry._noise import in_slices
from unlearnable_bench.registry._papers import ENTANGLED
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._surrogates import SurrogateRecipe, fit_surrogate, surrogate
from unlearnable_bench.registry._views import View


@ATTACKS.register("entf")
@dataclass(frozen=True)
class EntangledFeatures(Attack):
    """Noise that moves an image's robust features away from its class, or to another one (Wen et al.), against defense `at`.

    A surrogate is trained adversarially within `train_epsilon`; the centroid of a class is the mean of its clean images' last
    features. push: signed steps, from a normal start and behind random bilinear shifts and mirrors, raise the mean squared
    distance to the own centroid. pull: they lower that to the nearest centroid of another class, found anew at each step.
    Read in the authors' code, which is for CIFAR-10; of the paper the abstract. Changed from it: all steps of a few hundred
    images are taken before the next are looked at, the same but for the order of random draws; the last, incomplete batch of
    training is left out; pull takes another class however far away all are (theirs its own where all lie further than 1);
    shifts go up to an eighth of the side on every image size; on a GPU, steps are taken in bf16.
    """

    variant: Literal["push", "pull"] = "push"  # away from the own centroid, or to the nearest other
    epsilon: float = 8 / 255  # linf radius, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    surrogate: str = "resnet18"  # the network that noise is made against: any architecture
    epochs: int = 100  # of the surrogate
    batch: int = 128  # images per training step
    train_epsilon: float = 4 / 255  # linf radius of the surrogate's adversary, pixel units
    train_attack_steps: int = 10  # steps of that adversary, each half of its radius
    steps: int = 300  # signed steps of the noise
    step_size: float = 0.0  # pixel units; 0: epsilon / 20

    display_name = "Entangled features"
    label = "EntF-{variant}"
    small: ClassVar[dict[str, Any]] = {
        "surrogate": "small-cnn",
        "epochs": 2,
        "batch": 16,
        "train_attack_steps": 2,
        "steps": 5,
    }
    paper = ENTANGLED

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.steps) < 1:
            raise EntryError("attack entf: epochs, batch and steps must be 1 or more")
        if min(self.train_epsilon, self.train_attack_steps, self.step_size) < 0:
            raise EntryError("attack entf: train_epsilon, train_attack_steps and step_size cannot be negative")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def applies(self, info: DataInfo) -> None:
        if info.num_classes < 2:
            raise NotApplicable("needs a second class whose features it can mix in")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job)
        net = surrogate(run, self.surrogate)
        fit_surrogate(run, net, self.recipe)
        levels = self.poison(run, net, centroids(run, net))
        run.close()
        yield from in_slices(clean, levels, 1 / 255)

    @property
    def recipe(self) -> SurrogateRecipe:
        """How the surrogate is trained."""
        adversary = Adversary("pgd", self.train_epsilon, self.train_attack_steps, self.train_epsilon / 2)
        return SurrogateRecipe(self.epochs, batch=self.batch, drops=(0.75, 0.9), adversary=adversary)

    def poison(self, run: Crafting, net: nn.Module, centres: Tensor) -> Tensor:
        """Return 8-bit levels of noise against a trained surrogate with the centroids (K, D) of its features."""
        step_size = self.step_size or self.epsilon / 20
        plan = Descent(self.epsilon, "linf", self.steps, step_size, start="gaussian", view="shift")

        def chunk(x: Tensor, y: Tensor, where: slice) -> tuple[Tensor, Tensor]:
            return plan.apply(run, x, self.pull(run, net, centres, y))

        return frozen(run, nn.ModuleList([net]), chunk, torch.int16)

    def pull(self, run: Crafting, net: nn.Module, centres: Tensor, labels: Tensor) -> Pull:
        """Return what moves the features of images with these labels."""

        def pull(z: Tensor, view: View) -> tuple[Tensor, Tensor]:
            z = z.detach().requires_grad_(True)
            with torch.enable_grad(), mixed(run.device):
                losses = self.losses(net.features(view(z)).float(), centres, labels)  # type: ignore[operator]
                (gradient,) = torch.autograd.grad(losses.sum(), z)
            run.count(2, len(z))
            return gradient, losses.detach()

        return pull

    def losses(self, features: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
        """Return what is to fall, (B,), of features (B, D): the distance to a centroid, with its sign."""
        distances = (features[:, None] - centres.to(features.dtype)).square().mean(2)  # (B, K)
        own = torch.arange(len(centres), device=labels.device) == labels[:, None]
        if self.variant == "push":
            return -distances[own]
        return distances.masked_fill(own, float("inf")).min(1).values


def centroids(run: Crafting, net: nn.Module) -> Tensor:
    """Return the mean of the features of each class, (K, D), of the clean images in evaluation mode; 0 of an empty class."""
    sums: Tensor = torch.zeros(())
    with still(net), torch.no_grad():
        for where in run.clean.batches(run.at_once):
            x, y = run.batch(where)
            features = net.features(x).double()  # type: ignore[operator]
            members = (torch.arange(run.clean.num_classes, device=y.device)[:, None] == y).double()  # (K, B)
            sums = members @ features + sums.to(features.device)
            run.count(1, len(y))
    counts = run.clean.labels.bincount(minlength=run.clean.num_classes).clamp(min=1).to(sums.device)
    return (sums / counts[:, None]).float()
