"""TUE: transferable unlearnable examples.

Noise that makes contrastive learning easy and is besides far apart between classes and close within: a shortcut for victims
with labels and without, and so much a matter of classes that other images, and other datasets, can wear it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import ATTACKS, Attack, Budget, DataInfo, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._contrastive_noise import Turns, objective, take_turns, transferable
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._noise import in_slices
from unlearnable_bench.registry._papers import TRANSFERABLE_UNLEARNABLE

SMALLEST = 1e-5  # added to numerator and denominator of the discriminant


@ATTACKS.register("tue")
@dataclass(frozen=True)
class Transferable(Attack):
    """Noise that minimizes a contrastive loss and separates classes, to transfer (Ren et al.); SimCLR, MoCo or SimSiam.

    Encoder and noise take turns (equation 6): SimCLR 40 epochs with a noise pass of 20 signed steps after every fifth of an
    epoch, MoCo 200 epochs with 5 steps after each, SimSiam 50 with 20 steps after every quarter. The noise lowers the
    contrastive loss plus `csd_weight` times the Classwise Separability Discriminant (equation 4) of its batch.
    paper: as printed; the weight is not, ours is 0.1, and 1 on MoCo, as in the published commands.
    demo: those commands, in which on SimCLR and SimSiam the contrastive loss has weight 0: the noise sees no encoder and comes
    near to random signs per class. On MoCo there is no difference.
    From the code: random start, on MoCo zero; steps of epsilon/10, each from noise cut to valid pixels, but along the gradient
    of the noise before the cut; in a noise step one view for the whole batch; no gradient through the distances within a class
    (`spread_gradient=true`: equation 4 as it stands, noise stays smaller); SimSiam's batch normalisation is in training mode
    all the time, its residual blocks begin as identities, and noise has gradients through both branches; convolutions are
    initialized by fan-out, but for the first of SimCLR and MoCo.
    Changed: noise is rounded to 8 bits, theirs truncated; no extra noise pass where an epoch's batches divide evenly; on a GPU,
    noise steps are taken in bf16.
    """

    variant: Literal["paper", "demo"] = "paper"  # paper: as printed; demo: the published commands
    backbone: Literal["simclr", "moco", "simsiam"] = "simclr"  # the contrastive method that is made easy
    epsilon: float = 8 / 255  # linf radius, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    surrogate: str = "resnet18"  # the encoder
    csd_weight: float = 0.0  # of the discriminant beside the contrastive loss; 0: 0.1, moco 1
    spread_gradient: bool = False  # whether noise moves to shorten the distances within its class, too
    epochs: int = 0  # passes of the encoder; 0: 40, moco 200, simsiam 50
    passes: int = 0  # noise passes per epoch; 0: 5, moco 1, simsiam 4
    noise_steps: int = 0  # signed steps per noise pass; 0: 20, moco 5
    step_size: float = 0.0  # pixel units; 0: epsilon / 10
    batch: int = 512  # images
    lr: float = 0.0  # of the encoder; 0: 0.001 (Adam), moco 0.3, simsiam 0.06
    area: float = 0.08  # smallest part of an image's area that a view shows, 0..1

    display_name = "Transferable unlearnable examples"
    label = "TUE"
    version: ClassVar[int] = 2
    small: ClassVar[dict[str, Any]] = {"surrogate": "small-cnn", "epochs": 2, "noise_steps": 2, "batch": 16}
    paper = TRANSFERABLE_UNLEARNABLE

    def __post_init__(self) -> None:
        if min(self.csd_weight, self.epochs, self.passes, self.noise_steps, self.step_size, self.lr) < 0 or self.batch < 1:
            raise EntryError("attack tue: weight, epochs, passes, steps and lr cannot be negative, batch must be 1 or more")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def applies(self, info: DataInfo) -> None:
        if info.num_classes < 2:
            raise NotApplicable("separates classes, and there is one class only")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job)
        weight = self.csd_weight or (1.0 if self.backbone == "moco" else 0.1)

        def term(delta: Tensor, y: Tensor) -> Tensor:
            return weight * csd(delta, y, self.spread_gradient)

        noise = take_turns(run, objective(run, self.surrogate, self.backbone), self.plan(), "images", term=term)
        run.close()
        yield from in_slices(clean, noise)

    def plan(self) -> Turns:
        """The schedule of the backbone."""
        plan = transferable(self.backbone, self.epsilon)
        return replace(
            plan,
            epochs=self.epochs or plan.epochs,
            passes=self.passes or plan.passes,
            noise_steps=self.noise_steps or plan.noise_steps,
            step_size=self.step_size or plan.step_size,
            batch=self.batch,
            lr=self.lr or plan.lr,
            area=self.area,
            weight=0.0 if self.variant == "demo" and self.backbone != "moco" else 1.0,
        )


def csd(delta: Tensor, y: Tensor, spread_gradient: bool = False) -> Tensor:
    """Return the Classwise Separability Discriminant of noise (B, C, H, W) of classes y (B,): equations 2 to 4, a scalar.

    The mean, over pairs of classes, of the sum of their spreads, each the mean Euclidean distance to the class's centre,
    over the distance between the centres. 0 where there is one class. Spreads count as constants unless `spread_gradient`.
    """
    classes, which = y.unique(return_inverse=True)
    if len(classes) < 2:
        return (0 * delta).sum()
    members = F.one_hot(which).to(delta.dtype)  # (B, M); products add in one order, and their gradients too
    count = members.sum(0)
    points = delta.flatten(1)  # (B, D)
    centres = (members.T @ points) / count[:, None]  # (M, D)
    distance = torch.linalg.vector_norm(points - members @ centres, dim=1)  # (B,)
    spread = (members.T @ distance) / count  # (M,)
    spread = spread if spread_gradient else spread.detach()
    exact = centres.double()  # distances of near centres from products cancel
    squares = exact.square().sum(1)
    between = (squares[:, None] + squares - 2 * exact @ exact.T).clamp(min=1e-20).sqrt()  # (M, M)
    ratio = (spread[:, None] + spread + SMALLEST) / (between + SMALLEST)
    others = 1 - torch.eye(len(classes), dtype=ratio.dtype, device=delta.device)
    mean: Tensor = (others * ratio).sum() / others.sum()
    return mean.to(delta.dtype)
