"""D-VAE as an attack: what it learns of a poison's perturbations makes more of them. A tool: `em+d-vae(seed_ratio=0.01)`.

Perturbations of a class have so much in common that a few show how to make them for any image.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, NotApplicable, Parent
from unlearnable_bench.registry._papers import D_VAE
from unlearnable_bench.registry.contract import DataInfo


@ATTACKS.register("d-vae")
@dataclass(frozen=True)
class DisentanglingVae(Attack):
    """Noise that the autoencoder of Yu et al. estimates from a poison, added to further images or to the same ones.

    increase (section 5.2, tables 8 and 11): a seeded part of the poison at the left, `seed_ratio` of every class and at least
    one image, is what the attacker has; an autoencoder with a second decoder learns from it, as in round one of the defense
    `d-vae`, and its estimates of perturbations are added to all other images, which are clean. rebuild (table 1): it learns
    from the whole poison, estimates the perturbation of every poisoned image, and adds that to the clean one.

    A poison that was made of fewer images alone is the part that is known when it comes from a smaller set of the same
    images, as in `em(dataset=cifar10(per_class=50))+d-vae`. Estimates have no bound, and so no budget; with `project` they
    are taken back into the budget of the poison at the left. Beside the poison: `p_hat`, the estimates before that, float16
    in pixel units (for sets up to 2^29 values), and `known`, which images are as they were.

    Not stated in the paper: the rate (ours is that of round one), which images are known, and how long to train on few: 500
    images are 3 steps an epoch, so `steps` makes it longer. Images are rounded to 8 bits.
    """

    mode: Literal["increase", "rebuild"] = "increase"  # increase: more images, from a few; rebuild: the whole poison, estimated
    seed_ratio: float = 0.01  # of increase: fraction of the poison that is known, above 0 to 1
    project: bool = False  # keep the new perturbations within the budget of the poison at the left
    kld1: float = 1.0  # rate, nats per latent position
    shrink: int = 2  # factor by which the encoder shrinks the sides, 2 or 8
    epochs: int = 60  # passes over what is known
    steps: int = 2000  # training steps at least: more epochs where these are fewer
    batch: int = 128  # images
    lr: float = 0.005  # of Adam, cosine to 0
    width: int = 64  # channels of the first layers; latents have four times as many

    # weight of low rates, epochs without a penalty, decoder of shrink=8, each at the values that papers have
    display_name = "D-VAE perturbations"
    label = "D-VAE {mode}"
    budget_norm = "none"
    revisions: ClassVar[Mapping[str, int]] = {"kld1=0.5": 2, "epochs=20": 2, "shrink=8": 2}
    chained: ClassVar[bool] = True
    onto: ClassVar[bool] = True
    small: ClassVar[dict[str, Any]] = {"seed_ratio": 0.25, "epochs": 2, "steps": 2, "width": 8, "batch": 16}
    paper = D_VAE

    def __post_init__(self) -> None:
        if not 0 < self.seed_ratio <= 1:
            raise EntryError(f"attack d-vae: seed_ratio={self.seed_ratio}; expected a fraction above 0, up to 1")
        if min(self.kld1, self.epochs, self.steps) < 0 or min(self.batch, self.width) < 2 or self.shrink not in (2, 8):
            limits = "a rate, epochs and steps of 0 or more, batch and width of 2 or more, shrink of 2 or 8"
            raise EntryError(f"attack d-vae: expected {limits}, found {self}")

    @property
    def budget(self) -> Budget:
        return Budget("none")

    def promise(self, parents: Sequence[Budget]) -> Budget:
        return parents[0] if self.project else self.budget

    def applies(self, info: DataInfo) -> None:
        if info.shape[1] % self.shrink or info.shape[2] % self.shrink:
            sides = "even sides" if self.shrink == 2 else f"sides that {self.shrink} divides"
            raise NotApplicable(f"needs {sides}, the images are {info.shape[1]}x{info.shape[2]}")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        from unlearnable_bench.registry._vae import AutoencoderRecipe, Estimates, SuccessiveNetworks, at_once

        (poison,) = job.parents
        rows = self.known(poison, clean, job)  # (N,), where in the poison
        learnt = rows[rows >= 0].unique()
        source = ImageSet(poison.images[learnt], poison.clean.labels[learnt], clean.num_classes, clean.classes)
        recipe = AutoencoderRecipe(self.epochs, self.batch, self.lr, self.width, steps=self.steps)
        rounds = SuccessiveNetworks(source, job, 1)
        fitted = rounds.autoencoder(source, self.kld1, recipe, self.shrink)
        seen = clean if self.mode == "increase" else replace(clean, images=poison.images)
        kept = Estimates(clean, job, "p_hat")
        for where, _, _, perturbation in fitted.passed(seen, at_once(clean)):
            kept.add(where, perturbation)
            delta = perturbation.cpu()
            if self.project:
                delta = projected(delta, poison.budget)
            there = torch.nonzero(rows[where] >= 0).flatten() if self.mode == "increase" else torch.empty(0, dtype=torch.int64)
            delta[there] = poison.delta(rows[where][there])
            yield where, delta
        kept.close()
        job.keep("known", (rows >= 0).numpy())
        job.note(known=len(learnt), epochs=recipe.passes(len(source)), rate=fitted.rate, psnr=fitted.psnr)

    def known(self, poison: Parent, clean: ImageSet, job: Job) -> Tensor:
        """Return where the attacker finds every image in the poison, -1: nowhere. int64 (N,)."""
        if poison.clean.info.shape != clean.info.shape:
            there, here = poison.clean.info.shape, clean.info.shape
            raise NotApplicable(f"a poison of images of {there} does not fit images of {here}; images have to be of one size")
        if poison.clean is not clean and not torch.equal(poison.clean.images, clean.images):
            places = {image.numpy().tobytes(): place for place, image in enumerate(poison.clean.images)}
            rows = torch.tensor([places.get(image.numpy().tobytes(), -1) for image in clean.images])
            if self.mode == "rebuild" or not (rows >= 0).any():
                raise NotApplicable("the poison was made of other images; increase takes one of a part of the same images")
            return rows
        rows = torch.arange(len(clean))
        if self.mode == "rebuild":
            return rows
        chosen = torch.zeros(len(clean), dtype=torch.bool)
        for label in clean.labels.unique():
            members = torch.nonzero(clean.labels == label).flatten()
            count = max(1, round(self.seed_ratio * len(members)))
            chosen[members[torch.randperm(len(members), generator=job.generator)[:count]]] = True
        rows[~chosen] = -1
        return rows


def projected(delta: Tensor, budget: Budget) -> Tensor:
    """Return perturbations within a budget, nearest in its own norm: float32 (B, C, H, W), pixel units."""
    if budget.norm == "linf":
        return delta.clamp(-budget.epsilon, budget.epsilon)
    if budget.norm == "l2":
        norms = delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        shorter: Tensor = delta * (budget.epsilon / norms).clamp(max=1)
        return shorter
    if budget.norm == "l0":
        sizes = delta.square().sum(1).flatten(1)  # (B, H W)
        kept = torch.zeros_like(sizes).scatter_(1, sizes.topk(min(int(budget.epsilon), sizes.shape[1])).indices, 1.0)
        return delta * kept.view(len(delta), 1, *delta.shape[2:])
    return delta
