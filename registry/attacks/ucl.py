"""UCL: contrastive poisoning.

Noise that makes contrastive learning easy: an encoder that is trained on it learns to find the noise of an image in both of
its views, and little else. A victim that trains with labels hardly minds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, Paper
from unlearnable_bench.registry._contrastive_noise import Turns, objective, poisoning, take_turns, transferable
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._noise import in_slices, zero_noise


@ATTACKS.register("ucl")
@dataclass(frozen=True)
class UnlearnableContrastive(Attack):
    """Noise that minimizes the contrastive loss of SimCLR, MoCo or SimSiam: CP of He et al., called UCL elsewhere.

    cp-s: one perturbation per image, 5 signed steps after every epoch of the encoder. It starts from the class-wise noise of
    cp-c, copied by label, as the authors' does; with class_epochs=0 from random noise, and no label is looked at.
    cp-c: one perturbation per class; by turns 20 training steps of the encoder and one signed step on each of 20 batches.
    tue: the transferable paper's UCL, of which its tables are: one perturbation per image from no labels, with the schedule
    of `tue` per backbone, ten steps on MoCo. (APBench trains on the files of He et al., which are cp-s.)
    From the authors' code, of cp-c and cp-s: SGD with a cosine on a loss scaled by temperature/0.07, gradients through views
    (of at least a fifth of the image), through clipping to valid pixels and, of MoCo, through both branches; noise moves
    while batch normalisation stands still; convolutions are initialized by fan-out; a projection D-D-128; on SimCLR a quarter
    of the gradient of one device, which is what their four come to, and the noise after 160 of 200 epochs. SimSiam is not
    theirs.
    Changed: their four devices' batch normalisation and loss are one device's, but for MoCo, whose batches are split in four;
    a noise pass takes incomplete batches as well; pixels' deviation is that of the data, 0.25 on CIFAR-10, where the code has
    0.20; on a GPU, noise steps are taken in bf16. Their BYOL is not here.
    """

    variant: Literal["cp-s", "cp-c", "tue"] = "cp-s"  # cp-s: noise per image; cp-c: per class; tue: another paper's, no labels
    backbone: Literal["simclr", "moco", "simsiam"] = "simclr"  # the contrastive method that is made easy
    epsilon: float = 8 / 255  # linf radius, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    surrogate: str = "resnet18"  # the encoder
    class_epochs: int = 1000  # turns of cp-c, and of the class-wise noise that cp-s starts from
    class_batches: int = 20  # training steps, and batches whose noise moves, of such a turn
    epochs: int = 0  # passes of the encoder; not for cp-c; 0: cp-s 200, tue 40, moco 200, simsiam 50
    passes: int = 0  # noise passes per epoch, of tue; 0: 5, moco 1, simsiam 4
    noise_steps: int = 0  # signed steps per noise pass, not for cp-c; 0: cp-s 5, tue 20, moco 10
    step_size: float = 0.0  # pixel units; 0: epsilon / 10
    batch: int = 512  # images
    lr: float = 0.0  # of the encoder; 0: cp simclr 0.5, moco 0.3; tue simclr 0.001 (Adam), moco 0.3, simsiam 0.06
    area: float = 0.0  # smallest part of an image's area that a view shows, 0..1; 0: cp 0.2, tue 0.08

    display_name = "Contrastive poisoning"
    label = "UCL"
    version: ClassVar[int] = 2
    small: ClassVar[dict[str, Any]] = {
        "surrogate": "small-cnn",
        "class_epochs": 2,
        "class_batches": 2,
        "epochs": 2,
        "noise_steps": 2,
        "batch": 16,
    }
    paper = Paper(
        "Indiscriminate Poisoning Attacks on Unsupervised Contrastive Learning",
        venue="ICLR 2023",
        url="https://arxiv.org/abs/2202.11202",
        authors="Hao He, Kaiwen Zha, Dina Katabi",
        year=2023,
    )

    def __post_init__(self) -> None:
        if self.variant != "tue" and self.backbone == "simsiam":
            raise EntryError(f"attack ucl: variant={self.variant} has no backbone=simsiam; take variant=tue, or simclr or moco")
        if min(self.class_epochs, self.epochs, self.passes, self.noise_steps, self.step_size, self.lr, self.area) < 0:
            raise EntryError("attack ucl: epochs, passes, steps, lr and area cannot be negative")
        if min(self.class_batches, self.batch) < 1 or (self.variant == "cp-c" and not self.class_epochs):
            raise EntryError("attack ucl: batch, class_batches, and of cp-c class_epochs must be 1 or more")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job)
        start = None
        if self.variant != "tue" and self.class_epochs and run.stage in ("", "classes"):
            classes = take_turns(run, self._net(run), self.classes(), "classes")
            if self.variant == "cp-c":
                run.close()
                for where in clean.batches():
                    yield where, classes[clean.labels[where]]
                return
            start = zero_noise(tuple(clean.images.shape))
            for where in clean.batches():
                start[where] = classes[clean.labels[where]].to(start.dtype)
        noise = take_turns(run, self._net(run), self.images(), "images", start)
        run.close()
        yield from in_slices(clean, noise)

    def _net(self, run: Crafting) -> torch.nn.Module:
        return objective(run, self.surrogate, self.backbone, "tue" if self.variant == "tue" else "cp")

    def classes(self) -> Turns:
        """The plan of class-wise noise."""
        plan = poisoning(self.backbone, self.epsilon, tied=True)
        return self._with(replace(plan, epochs=self.class_epochs, steps=self.class_batches))

    def images(self) -> Turns:
        """The plan of sample-wise noise."""
        if self.variant == "tue":
            plan = transferable(self.backbone, self.epsilon)
            plan = replace(plan, noise_steps=10) if self.backbone == "moco" else plan
        else:
            plan = poisoning(self.backbone, self.epsilon, tied=False)
        return self._with(
            replace(
                plan,
                epochs=self.epochs or plan.epochs,
                passes=self.passes or plan.passes,
                noise_steps=self.noise_steps or plan.noise_steps,
            )
        )

    def _with(self, plan: Turns) -> Turns:
        step_size, lr, area = self.step_size or plan.step_size, self.lr or plan.lr, self.area or plan.area
        return replace(plan, step_size=step_size, lr=lr, area=area, batch=self.batch)
