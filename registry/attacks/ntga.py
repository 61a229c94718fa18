"""NTGA: neural tangent generalization attack.

An infinitely wide network answers, after any time of training, with a closed form of its training images; so the loss on other
images can be raised by gradients through the whole training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import ATTACKS, Attack, Budget, DataInfo, EntryError, ImageSet, Job, NotApplicable, Paper
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._kernels import conv_relu, dense_erf, learnt
from unlearnable_bench.registry._noise import in_slices
from unlearnable_bench.registry._steps import into_box

VALUES = 1 << 25  # covariances of places that are computed at once: 256 MB


@ATTACKS.register("ntga")
@dataclass(frozen=True)
class NeuralTangentGeneralization(Attack):
    """Move blocks of training images until a kernel that learns from them fails on other images (Yuan and Wu).

    Those others are a fifth of the images, at most `judges`, drawn at random. They stay clean and no victim trains on them:
    the published sets have 40,000 of 50,000 images. A victim that trains on the judges, clean or poisoned, learns what they
    teach and loses next to nothing.
    paper: `steps` signed ascent steps of 1.1 epsilon / steps per block, projected to the box.
    released: the authors' code, whose inner routine starts at the clean block every time and moves by all of epsilon: one
    signed step, however many are asked for.
    The published sets are of kernel=cnn, time=8 and kernel=fnn, time=4096, as released; the d-vae paper took the former. The
    stable-error-minimizing paper made kernel=fnn in blocks of 4,000.
    Changed from the authors' code: noise is rounded to 8 bits; an incomplete block is done too.
    No surrogate is trained: kernels need no passes.
    """

    variant: Literal["paper", "released"] = "paper"  # paper: steps that add up; released: one step, as the code takes it
    epsilon: float = 8 / 255  # linf radius, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    kernel: Literal["cnn", "fnn"] = "cnn"  # two convolutions with ReLU and three dense layers; or five dense layers with erf
    time: float = 64.0  # of gradient descent at rate 1, the authors' default
    block: int = 512  # images that are moved together
    judges: int = 10000  # images on which the loss is raised, a fifth of the set at most; victims do not train on them
    steps: int = 10  # of paper alone

    display_name = "Neural tangent generalization attack"
    label = "NTGA"
    version: ClassVar[int] = 2
    small: ClassVar[dict[str, Any]] = {"block": 16, "judges": 16, "steps": 2}
    paper = Paper(
        "Neural Tangent Generalization Attacks",
        venue="ICML 2021",
        url="https://proceedings.mlr.press/v139/yuan21b.html",
        authors="Chia-Hung Yuan, Shan-Hung Wu",
        year=2021,
    )

    def __post_init__(self) -> None:
        if min(self.block, self.judges, self.steps) < 1 or self.time <= 0:
            raise EntryError("attack ntga: block, judges and steps must be 1 or more, time above 0")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def applies(self, info: DataInfo) -> None:
        if info.num_classes < 2 or info.size < 2:
            raise NotApplicable("needs two classes, and images apart from a block to judge by")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job)
        order, first = torch.randperm(len(clean), generator=job.generator), 0
        levels = torch.zeros(clean.images.shape, dtype=torch.int16)
        if state := run.resume("noise"):
            order, levels, first = state["order"].cpu(), state["levels"].cpu(), state["block"]
        held = max(1, min(self.judges, len(clean) // 5))
        judges, blocks = order[:held], order[held:].split(self.block)
        for number in range(first, len(blocks)):
            rows = blocks[number]
            x, y = run.batch(rows)
            levels[rows] = (255 * (self.move(run, x, y, judges) - x)).round_().cpu().to(torch.int16)
            job.progress(number + 1, len(blocks))
            if run.due:
                run.keep("noise", {"order": order, "levels": levels, "block": number + 1})
        left_out = torch.zeros(len(clean), dtype=torch.bool)
        left_out[judges] = True
        job.leave_out(left_out.numpy())
        run.close()
        yield from in_slices(clean, levels, 1 / 255)

    def move(self, run: Crafting, x: Tensor, y: Tensor, judges: Tensor) -> Tensor:
        """Return the images of a block after all steps."""
        if self.variant == "released":
            return into_box(x + self.epsilon * self.gradient(run, x, y, judges).sign(), x, self.epsilon)
        z = x
        for _ in range(self.steps):
            z = into_box(z + 1.1 * self.epsilon / self.steps * self.gradient(run, z, y, judges).sign(), x, self.epsilon)
        return z

    def gradient(self, run: Crafting, x: Tensor, y: Tensor, judges: Tensor) -> Tensor:
        """Return the gradient of the loss on the judges of a network trained on x, with respect to x; float64."""
        kernel = dense_erf if self.kernel == "fnn" else conv_relu
        x = x.double().requires_grad_(True)
        targets = F.one_hot(y, run.clean.num_classes).double()
        with torch.enable_grad():
            own = learnt(kernel(x, x), targets, self.time)  # (n, K)
            held = own.detach().requires_grad_(True)
            total = torch.zeros_like(x)
            weight = torch.zeros_like(held)
            together = max(1, VALUES // (len(x) * x.shape[2] * x.shape[3])) if self.kernel == "cnn" else 1024
            for rows in judges.split(together):
                other, label = run.batch(rows)
                loss = F.cross_entropy(kernel(x, other.double()).T @ held, label, reduction="sum")
                through_kernel, through_weight = torch.autograd.grad(loss, (x, held))
                total, weight = total + through_kernel, weight + through_weight
            (through_own,) = torch.autograd.grad(own, x, weight)
        return total + through_own
