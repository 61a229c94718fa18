"""AAP: augmented adversarial poisoning.

Adversarial examples made as contrastive learning looks at images: the network they mislead was trained on strong random views,
and every step of the noise sees new ones. A victim without labels then learns the wrong features as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import ATTACKS, Attack, Budget, DataInfo, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._frozen_networks import Descent, frozen, toward
from unlearnable_bench.registry._noise import in_slices
from unlearnable_bench.registry._papers import AUE_AAP
from unlearnable_bench.registry._surrogates import SurrogateRecipe, fit_surrogate, surrogate
from unlearnable_bench.registry._views import contrastive_look


@ATTACKS.register("aap")
@dataclass(frozen=True)
class AugmentedAdversarialPoisoning(Attack):
    """Noise towards the next label on a network trained behind contrastive views, against both kinds of victims (Wang et al.).

    The surrogate trains `epochs` on views of the clean images, its rate climbing for a quarter of them and then falling along
    a cosine; then `steps` signed steps of 2.5 epsilon / `steps` from zero, with new views at each; noise stays within valid
    pixels. A view is that of the attack `aue`. The authors take strength=0.4 for CIFAR-10 and 0.8 for CIFAR-100.
    `targeted=false` leaves the own class instead, their second attack.
    Read in the authors' code alone. Changed from it: all steps of a few hundred images are taken before the next are looked
    at, the same but for the order of random draws; noise is rounded, not truncated, to 8 bits; the last, incomplete
    batch of training is left out; colours change in one order, hue in the YIQ plane, for the surrogate too, which theirs trains
    on views made by Pillow; on a GPU, steps are taken in bf16.
    """

    targeted: bool = True  # towards label y + 1; else away from y
    strength: float = 0.4  # of the views, 0..1
    epsilon: float = 8 / 255  # linf radius, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    surrogate: str = "resnet18"  # the network that noise is made against: any architecture
    epochs: int = 40  # of the surrogate
    batch: int = 128  # images per training step
    lr: float = 0.5  # the highest, of the surrogate
    steps: int = 250  # signed steps of the noise

    display_name = "Augmented adversarial poisoning"
    label = "AAP"
    small: ClassVar[dict[str, Any]] = {"surrogate": "small-cnn", "epochs": 2, "batch": 16, "steps": 5}
    paper = AUE_AAP

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise EntryError(f"attack aap: strength={self.strength}, expected 0 to 1")
        if min(self.epochs, self.batch, self.steps) < 1:
            raise EntryError("attack aap: epochs, batch and steps must be 1 or more")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def applies(self, info: DataInfo) -> None:
        if info.num_classes < 2:
            raise NotApplicable("needs a second class to point at")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job)
        net = surrogate(run, self.surrogate, drawn="he")
        fit_surrogate(run, net, self.recipe)
        levels = self.poison(run, net)
        run.close()
        yield from in_slices(clean, levels, 1 / 255)

    @property
    def recipe(self) -> SurrogateRecipe:
        """How the surrogate is trained."""
        return SurrogateRecipe(
            self.epochs,
            batch=self.batch,
            lr=self.lr,
            warmup=self.epochs // 4,
            weight_decay=1e-4,
            view=contrastive_look(self.strength),
            cosine=True,
        )

    def poison(self, run: Crafting, net: nn.Module) -> Tensor:
        """Return 8-bit levels of noise against a trained surrogate."""
        step_size = 2.5 * self.epsilon / self.steps
        plan = Descent(self.epsilon, "linf", self.steps, step_size, view=contrastive_look(self.strength))

        def chunk(x: Tensor, y: Tensor, where: slice) -> tuple[Tensor, Tensor]:
            goal = (y + 1) % run.clean.num_classes if self.targeted else y
            return plan.apply(run, x, toward(run, [net], goal, 1.0 if self.targeted else -1.0))

        return frozen(run, nn.ModuleList([net]), chunk, torch.int16)
