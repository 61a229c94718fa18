"""SEP: self-ensemble protection.

Adversarial examples of all checkpoints of one clean training run, which differ as much as networks trained apart: the poison is
misread at every moment of a victim's training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import ATTACKS, Attack, Budget, DataInfo, EntryError, ImageSet, Job, NotApplicable, Paper
from unlearnable_bench.registry._crafting import Crafting, mixed
from unlearnable_bench.registry._frozen_networks import Descent, Pull, frozen, toward
from unlearnable_bench.registry._noise import in_slices
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._surrogates import Normalised, SurrogateRecipe, checkpoints_of
from unlearnable_bench.registry._views import View, identity


@ATTACKS.register("sep")
@dataclass(frozen=True)
class SelfEnsembleProtection(Attack):
    """Noise towards class y + K/2 on all checkpoints of one clean training, by signed steps of 1/255 (Chen et al.).

    fa-vr: the mean features of the target class are approached (feature alignment), along a variance-reduced gradient: in every
    step, one smaller walk over randomly drawn checkpoints, whose corrected gradients add up to the step's direction.
    fa: the plain mean over the checkpoints of the gradients of feature alignment. sep: the same of the cross-entropy.
    fa-vr-released: the authors' code, in whose walk all checkpoints use the mean features of the last one.
    The paper's headline radius is 2/255; the five papers of the benchmark compare at epsilon=8/255. Which variant they took is
    not stated. Their ensembles: 30 checkpoints for sep and fa, 15 for fa-vr.
    Changed from the authors' code: checkpoints are evenly spaced, as the paper says, where theirs are the epochs that raised
    the accuracy on the test set, which no attack sees here; noise is rounded, not truncated, to 8 bits; the mean features of
    the first checkpoint too are computed in evaluation mode; of K classes, odd K shifts by the lower half; pixels' mean and
    deviation are those of the data; on a GPU, steps are taken in bf16.
    """

    variant: Literal["sep", "fa", "fa-vr", "fa-vr-released"] = "fa-vr"  # what of the checkpoints is averaged, see above
    epsilon: float = 2 / 255  # linf radius, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    surrogate: str = "resnet18"  # the network that noise is made against: any architecture
    epochs: int = 120  # of the surrogate
    batch: int = 128  # images per training step
    checkpoints: int = 0  # evenly spaced, the last epoch's among them; 0: 15 for fa-vr, else 30
    steps: int = 30  # signed steps of the noise
    step_size: float = 1 / 255  # pixel units
    inner_steps: int = 0  # of the walk of fa-vr; 0: as many as checkpoints

    display_name = "Self-ensemble protection"
    label = "SEP"
    small: ClassVar[dict[str, Any]] = {"surrogate": "small-cnn", "epochs": 3, "batch": 16, "checkpoints": 2, "steps": 2}
    paper = Paper(
        "Self-Ensemble Protection: Training Checkpoints Are Good Data Protectors",
        venue="ICLR 2023",
        url="https://arxiv.org/abs/2211.12005",
        authors="Sizhe Chen, Geng Yuan, Xinwen Cheng, Yifan Gong, Minghai Qin, Yanzhi Wang, Xiaolin Huang",
        year=2023,
    )

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.steps) < 1 or min(self.checkpoints, self.inner_steps, self.step_size) < 0:
            raise EntryError("attack sep: epochs, batch and steps must be 1 or more, other fields not negative")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def applies(self, info: DataInfo) -> None:
        if info.num_classes < 2:
            raise NotApplicable("needs a second class to point at")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job)
        levels = self.poison(run, self.ensemble(run))
        run.close()
        yield from in_slices(clean, levels, 1 / 255)

    def ensemble(self, run: Crafting) -> list[Normalised]:
        """Train the surrogate; return its checkpoints."""
        count = self.checkpoints or (15 if self.variant.startswith("fa-vr") else 30)
        recipe = SurrogateRecipe(self.epochs, batch=self.batch, drops=(75 / 120, 90 / 120), warmup=1)
        return checkpoints_of(run, self.surrogate, recipe, count)  # type: ignore[return-value]

    def poison(self, run: Crafting, nets: list[Normalised]) -> Tensor:
        """Return 8-bit levels of noise against trained checkpoints."""
        classes = run.clean.num_classes
        plan = Descent(self.epsilon, "linf", self.steps, self.step_size)
        means: list[Tensor] = []

        def chunk(x: Tensor, y: Tensor, where: slice) -> tuple[Tensor, Tensor]:
            goal = (y + classes // 2) % classes
            if self.variant == "sep":
                return plan.apply(run, x, toward(run, list(nets), goal))
            if not means:
                means.extend(class_mean_features(run, net) for net in nets)
            if self.variant == "fa":
                return plan.apply(run, x, align(run, nets, means, goal))
            return self.reduced(run, plan, x, nets, means, goal)

        return frozen(run, nn.ModuleList(nets), chunk, torch.int16)

    def reduced(
        self, run: Crafting, plan: Descent, x: Tensor, nets: list[Normalised], means: list[Tensor], goal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the perturbation after steps along variance-reduced gradients, and losses (B,) before the last step."""
        walked = [means[-1]] * len(nets) if self.variant == "fa-vr-released" else means
        delta, losses = torch.zeros_like(x), torch.zeros(len(x))
        for _ in range(self.steps):
            each = [align(run, [net], [mean], goal)(x + delta, identity) for net, mean in zip(nets, means, strict=True)]
            mean_gradient = torch.stack([gradient for gradient, _ in each]).mean(0)
            losses = torch.stack([loss for _, loss in each]).mean(0)
            inner, total = delta, torch.zeros_like(x)
            for _ in range(self.inner_steps or len(nets)):
                drawn = int(torch.randint(len(nets), (1,), generator=run.job.generator))
                here, _ = align(run, [nets[drawn]], [walked[drawn]], goal)(x + inner, identity)
                total = total + here - (each[drawn][0] - mean_gradient)
                inner = plan.move(x, inner, total)
            delta = plan.move(x, delta, total)
        return delta, losses


def class_mean_features(run: Crafting, net: Normalised) -> Tensor:
    """Return the mean features of every class over the clean images, (K, D); of a class without images zeros."""
    clean = run.clean
    total, count = None, torch.zeros(clean.num_classes, 1, device=run.device)
    with still(net), torch.no_grad():
        for where in clean.batches(run.at_once):
            x, y = run.batch(where)
            features, members = net.features(x), F.one_hot(y, clean.num_classes).float().T  # (K, B)
            total = members @ features if total is None else total + members @ features
            count += members.sum(1, keepdim=True)
    assert total is not None, "a training set has images"
    return total / count.clamp(min=1)


def align(run: Crafting, nets: list[Normalised], means: list[Tensor], goal: Tensor) -> Pull:
    """Bring features near to the mean features of class `goal`, in the mean of some networks."""

    def pull(z: Tensor, view: View) -> tuple[Tensor, Tensor]:
        total, losses = torch.zeros_like(z), torch.zeros(len(z), device=z.device)
        for net, mean in zip(nets, means, strict=True):
            z = z.detach().requires_grad_(True)
            with torch.enable_grad(), mixed(run.device):
                loss = (net.features(view(z)).float() - mean[goal]).square().mean(1)
                (gradient,) = torch.autograd.grad(loss.sum(), z)
            total, losses = total + gradient / len(nets), losses + loss.detach() / len(nets)
        run.count(2 * len(nets), len(z))
        return total, losses

    return pull
