"""EM, class-wise: one error-minimizing perturbation that all images of a class share.

The same game as `em`, with the noise tied within each class: a universal sign for the class, found on part of the images.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._noise import exported
from unlearnable_bench.registry._papers import EM
from unlearnable_bench.registry._persistent_noise import Rounds, class_wise
from unlearnable_bench.registry._surrogates import surrogate


@ATTACKS.register("em-class")
@dataclass(frozen=True)
class ClassWise(Attack):
    """Class-wise noise that minimizes the training error of a surrogate (Huang et al.).

    paper: rounds of `weight_steps` training steps on all images and one pass over a stratified `part` of them, in which the
    noise of a class moves to the mean of what one signed step asks of its images, batch after batch; until the surrogate errs
    on at most `stop_error` of that part.
    original: exported as the authors' loader does, which cuts the negative half off and truncates; the staged-training and
    learn-from-unlearnable papers ran that code.
    `augment=cg` and `staged` are the adaptive forms of the staged-training paper, as in `em`.
    Changed from the authors' code: the part is drawn from the poison's seed; `max_rounds` bounds the search. Other data in
    their code: ImageNet epsilon=16/255, weight_steps=100, batch=32, stop_error=0.1, weight_decay=5e-5.
    """

    variant: Literal["paper", "original"] = "paper"  # paper: noise as found; original: without its negative half
    epsilon: float = 8 / 255  # linf radius, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    surrogate: str = "resnet18"  # the network that noise is made against: any architecture
    augment: Literal["none", "cg"] = "none"  # cg: colour jitter and grayscale while noise and surrogate are made
    staged: bool = False  # train the surrogate in stages, as the defense st trains victims
    stages: int = 2  # of staged training; the staged-training paper takes 3 for CIFAR-100
    weight_steps: int = 10  # training steps per round
    batch: int = 512  # images per training step, and per noise step
    noise_steps: int = 1  # signed steps per batch
    step_size: float = 0.0  # pixel units; 0: epsilon / 10
    part: float = 0.2  # fraction of each class on which noise is searched and the end is judged
    lr: float = 0.1  # constant
    weight_decay: float = 5e-4  # of the surrogate's descent
    stop_error: float = 0.01  # fraction of that part
    max_rounds: int = 50  # an end where the error stays

    display_name = "Class-wise error-minimizing noise"
    label = "EM class-wise"
    revisions: ClassVar[Mapping[str, int]] = {"staged=true": 2}  # layers of stages are convolutions, not blocks
    small: ClassVar[dict[str, Any]] = {"surrogate": "small-cnn", "batch": 32, "part": 1.0, "max_rounds": 5}
    paper = EM

    def __post_init__(self) -> None:
        if (
            min(self.weight_steps, self.batch, self.noise_steps, self.max_rounds) < 1
            or self.stages < 1
            or not 0 < self.part <= 1
        ):
            raise EntryError("attack em-class: steps, batch, stages and max_rounds must be 1 or more, part between 0 and 1")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job, self.stages if self.staged else 0)
        noise = class_wise(run, surrogate(run, self.surrogate), self.rounds(), self.part)
        run.close(rounds=len(run.log["surrogate_error"]))
        noise = exported(noise, self.variant, self.epsilon)
        for where in clean.batches():
            yield where, noise[clean.labels[where]]

    def rounds(self) -> Rounds:
        """The plan of the search."""
        return Rounds(
            epsilon=self.epsilon,
            weight_steps=self.weight_steps,
            batch=self.batch,
            noise_steps=self.noise_steps,
            step_size=self.step_size or self.epsilon / 10,
            lr=self.lr,
            weight_decay=self.weight_decay,
            stop_error=self.stop_error,
            max_rounds=self.max_rounds,
            view=self.augment,
        )
