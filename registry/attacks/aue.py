"""AUE: augmented unlearnable examples.

Error-minimizing noise that is made as contrastive learning looks at images: the surrogate, and the noise at every step, see
strong random views. What survives these is a shortcut for training without labels too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._noise import exported, in_slices
from unlearnable_bench.registry._papers import AUE_AAP
from unlearnable_bench.registry._persistent_noise import Rounds, persistent
from unlearnable_bench.registry._surrogates import surrogate
from unlearnable_bench.registry._views import contrastive_look


@ATTACKS.register("aue")
@dataclass(frozen=True)
class AugmentedErrorMinimizing(Attack):
    """Sample-wise noise that minimizes a supervised loss behind contrastive views, against both kinds of victims (Wang et al.).

    In turns, an epoch of training the surrogate on views of the noisy images and a pass of `noise_steps` signed steps over all
    images, in evaluation mode, with new views at each step; noise stays within valid pixels. The rate falls along a cosine.
    A view is a resized crop of 1 - 0.9 `strength` to 1 of the area, mirrored, with colours changed and some gray, each by that
    part of what SimCLR does. The authors take strength=0.6 for CIFAR-10 and 1.0 for CIFAR-100, and load the noise truncated
    to 8 bits, as here.
    Read in the authors' code alone. Changed from it: images are visited in one fixed random order; colours change in one
    order (brightness, contrast, saturation, hue), hue in the YIQ plane. Their schemes of a strength that grows or falls, and
    noise by class, are not here.
    """

    strength: float = 0.6  # of the views, 0..1
    epsilon: float = 8 / 255  # linf radius, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    surrogate: str = "resnet18"  # the network that noise is made against: any architecture
    epochs: int = 60  # of the surrogate, each followed by a pass over the noise
    batch: int = 128  # images per training step
    noise_steps: int = 5  # signed steps per pass
    step_size: float = 0.0  # pixel units; 0: epsilon / 10
    lr: float = 0.1  # the highest, of the surrogate

    display_name = "Augmented unlearnable examples"
    label = "AUE"
    small: ClassVar[dict[str, Any]] = {"surrogate": "small-cnn", "epochs": 2, "batch": 32, "noise_steps": 2}
    paper = AUE_AAP

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise EntryError(f"attack aue: strength={self.strength}, expected 0 to 1")
        if min(self.epochs, self.batch, self.noise_steps) < 1 or self.step_size < 0:
            raise EntryError("attack aue: epochs, batch and noise_steps must be 1 or more, step_size not negative")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job)
        noise = persistent(run, surrogate(run, self.surrogate, drawn="he"), self.rounds(len(clean)))
        run.close()
        for where, delta in in_slices(clean, noise):
            yield where, exported(delta, "lfu", self.epsilon)

    def rounds(self, size: int) -> Rounds:
        """The plan for a set of so many images: a round is an epoch and a pass, and none ends the search."""
        return Rounds(
            epsilon=self.epsilon,
            weight_steps=-(-size // self.batch),
            batch=self.batch,
            noise_steps=self.noise_steps,
            step_size=self.step_size or self.epsilon / 10,
            lr=self.lr,
            weight_decay=1e-4,
            stop_error=-1.0,
            max_rounds=self.epochs,
            view=contrastive_look(self.strength),
            clip=0.0,
            cosine=True,
            is_valid=True,
        )
