"""HYPO: hypocritical perturbations.

Noise that makes a trained network surer of the true label: features that do not last look better than they are, and a victim
builds on them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, Paper
from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._frozen_networks import Descent, frozen, toward
from unlearnable_bench.registry._noise import in_slices
from unlearnable_bench.registry._surrogates import SurrogateRecipe, fit_surrogate, surrogate


@ATTACKS.register("hypo")
@dataclass(frozen=True)
class Hypocritical(Attack):
    """Three attacks called HYPO: noise towards the true label on a surrogate, or class-wise random noise (Tao et al.).

    paper: Tao et al. (NeurIPS 2022), against adversarially trained victims: `steps` signed steps towards the true label behind
    random bilinear shifts and mirrors, on a surrogate that was adversarially trained for a short while within 2/255.
    p2: sample-wise delusive noise of Tao et al. (NeurIPS 2021): the same with a surrogate trained cleanly for 150 epochs, no
    shifts; theirs is norm=l2, epsilon=0.5, surrogate=vgg16, with steps of epsilon/5 in either norm. APBench's HYPO is this one
    at its linf 8/255 with resnet18, whose steps of epsilon/10 ours in linf are.
    p5: their class-wise random noise, which asks no surrogate: a normal direction of length epsilon, or uniform values in the
    linf box. The HYPO of the staged-training paper is most likely this one, with norm=l2, epsilon=1.0.
    As in the authors' code, convolutions of paper's surrogate are initialized by fan-out, those of p2 as torch does.
    Changed from the authors' code: noise is rounded, not truncated, to 8 bits; no images are held out of the surrogate's
    training; mean and deviation of the pixels are those of the data at hand; on a GPU, steps are taken in bf16.
    """

    variant: Literal["paper", "p2", "p5"] = "paper"  # which of the three, see above; p5 asks no surrogate
    norm: Literal["linf", "l2"] = "linf"  # l2 bounds the length of a perturbation, linf its largest value
    epsilon: float = 8 / 255  # radius in `norm`, pixel units
    surrogate: str = "resnet18"  # the network that noise is made against: any architecture
    epochs: int = 0  # of the surrogate; 0: 10, p2 150
    batch: int = 128  # images per training step
    train_epsilon: float = 2 / 255  # linf radius of the surrogate's adversary, pixel units; not for p2
    train_attack_steps: int = 10  # steps of that adversary, each a quarter of its radius
    steps: int = 100  # signed steps of the noise; not for p5
    step_size: float = 0.0  # pixel units; 0: epsilon / 10, p2 in l2 epsilon / 5

    display_name = "Hypocritical perturbations"
    label = "HYPO"
    revisions: ClassVar[Mapping[str, int]] = {"variant=paper": 2}
    small: ClassVar[dict[str, Any]] = {
        "surrogate": "small-cnn",
        "epochs": 2,
        "batch": 16,
        "train_attack_steps": 2,
        "steps": 5,
    }
    paper = Paper(
        "Can Adversarial Training Be Manipulated By Non-Robust Features?",
        venue="NeurIPS 2022",
        url="https://arxiv.org/abs/2201.13329",
        authors="Lue Tao, Lei Feng, Hongxin Wei, Jinfeng Yi, Sheng-Jun Huang, Songcan Chen",
        year=2022,
    )

    def __post_init__(self) -> None:
        if min(self.batch, self.steps) < 1 or min(self.epochs, self.train_epsilon, self.train_attack_steps, self.step_size) < 0:
            raise EntryError("attack hypo: batch and steps must be 1 or more, other fields not negative")

    @property
    def budget(self) -> Budget:
        return Budget(self.norm, self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        if self.variant == "p5":
            patterns = self.patterns(clean, job)  # (K, C, H, W)
            for where in clean.batches():
                yield where, patterns[clean.labels[where]]
            return
        run = Crafting(clean, job)
        net = self.network(run)
        fit_surrogate(run, net, self.recipe)
        levels = self.poison(run, net)
        run.close()
        yield from in_slices(clean, levels, 1 / 255)

    def network(self, run: Crafting) -> nn.Module:
        """Return the untrained surrogate."""
        if self.variant == "p2":
            return surrogate(run, self.surrogate, sees="pixels")
        return surrogate(run, self.surrogate, sees="standard", drawn="he")

    def patterns(self, clean: ImageSet, job: Job) -> Tensor:
        """Return one random pattern per class."""
        drawn = torch.empty(clean.num_classes, *clean.images.shape[1:])
        if self.norm == "linf":
            return drawn.uniform_(-self.epsilon, self.epsilon, generator=job.generator)
        return self.epsilon * F.normalize(drawn.normal_(generator=job.generator).flatten(1), dim=1).view_as(drawn)

    @property
    def recipe(self) -> SurrogateRecipe:
        """How the surrogate is trained."""
        if self.variant == "p2":
            return SurrogateRecipe(self.epochs or 150, batch=self.batch, drops=(100 / 150, 125 / 150))
        adversary = Adversary("pgd", self.train_epsilon, self.train_attack_steps, self.train_epsilon / 4)
        return SurrogateRecipe(self.epochs or 10, batch=self.batch, adversary=adversary)

    @property
    def descent(self) -> Descent:
        """How the noise is moved."""
        if self.variant == "p2":
            step_size = self.step_size or self.epsilon / (5 if self.norm == "l2" else 10)
            return Descent(self.epsilon, self.norm, self.steps, step_size)
        return Descent(self.epsilon, self.norm, self.steps, self.step_size or self.epsilon / 10, view="shift")

    def poison(self, run: Crafting, net: nn.Module) -> Tensor:
        """Return 8-bit levels of noise against a trained surrogate."""
        plan = self.descent

        def chunk(x: Tensor, y: Tensor, where: slice) -> tuple[Tensor, Tensor]:
            return plan.apply(run, x, toward(run, [net], y))

        return frozen(run, nn.ModuleList([net]), chunk, torch.int16)
