"""PUE: class-wise error-minimizing noise that also holds for networks whose weights lie near those of the surrogate."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job
from unlearnable_bench.registry._papers import PUE


@ATTACKS.register("pue")
@dataclass(frozen=True)
class ProvablyUnlearnable(Attack):
    """Class-wise noise that minimizes the training error of a surrogate under Gaussian noise on its weights (Wang et al.).

    The game of `em-class`. Once the surrogate has more than half of the images right, every step is taken under noise on all
    its weights, at deviations from 0 to `deviation` one after another: a training step on the mean loss of `draws` networks
    for each, and a signed step of the noise down the sum of the slopes of `noise_draws`. The analysis `certified-learnability`
    says what such noise is made for. Read in code: all of it; of the paper the abstract and the documents of the repository.
    Changed from the code: a step of the noise at deviation 0 takes one pass for all draws, which are the same; weights get
    their values back to the last bit; the images on which the noise is searched are drawn from the poison's seed; `max_rounds`
    bounds the search. The sample-wise form of the code is not here. The code's example for CIFAR-100 has weight_steps=20.
    """

    epsilon: float = 8 / 255  # linf radius, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    surrogate: str = "resnet18"  # the network that noise is made against: any architecture
    deviation: float = 0.25  # largest of the noise on the weights
    deviation_step: float = 0.05  # between two deviations
    draws: int = 100  # of that noise, for each deviation of a training step
    noise_draws: int = 10  # the same for a step of the poison; 1 to 10 in the paper
    weight_steps: int = 10  # training steps per round
    batch: int = 128  # images per training step, and per noise step
    noise_steps: int = 1  # for each deviation, per batch
    step_size: float = 0.8 / 255  # pixel units
    part: float = 0.2  # fraction of each class on which noise is searched and the end is judged
    lr: float = 0.1  # constant
    weight_decay: float = 5e-4  # of the surrogate's descent
    stop_error: float = 0.1  # fraction of that part
    max_rounds: int = 50  # an end where the error stays

    display_name = "Provably unlearnable examples"
    label = "PUE"
    paper = PUE
    small: ClassVar[dict[str, Any]] = {
        "surrogate": "small-cnn",
        "batch": 32,
        "part": 1.0,
        "max_rounds": 5,
        "draws": 2,
        "noise_draws": 2,
        "deviation_step": 0.125,
    }

    def __post_init__(self) -> None:
        counts = (self.weight_steps, self.batch, self.noise_steps, self.max_rounds, self.draws, self.noise_draws)
        if min(counts) < 1 or not 0 < self.part <= 1:
            raise EntryError("attack pue: steps, batch, draws and max_rounds must be 1 or more, part between 0 and 1")
        if self.deviation < 0 or self.deviation_step <= 0:
            raise EntryError("attack pue: deviation must be 0 or more, deviation_step above 0")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        from unlearnable_bench.registry._crafting import Crafting
        from unlearnable_bench.registry._persistent_noise import class_wise
        from unlearnable_bench.registry._surrogates import surrogate
        from unlearnable_bench.registry._weight_noise import BlurredRounds

        run = Crafting(clean, job)
        plan = BlurredRounds(
            epsilon=self.epsilon,
            weight_steps=self.weight_steps,
            batch=self.batch,
            noise_steps=self.noise_steps,
            step_size=self.step_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
            stop_error=self.stop_error,
            max_rounds=self.max_rounds,
            deviations=self.deviations,
            draws=self.draws,
            noise_draws=self.noise_draws,
        )
        noise = class_wise(run, surrogate(run, self.surrogate), plan, self.part)
        run.close(rounds=len(run.log["surrogate_error"]))
        for where in clean.batches():
            yield where, noise[clean.labels[where]]

    @property
    def deviations(self) -> tuple[float, ...]:
        """The deviations of the noise on the weights, from 0 on, in the order of the steps."""
        count = int(self.deviation / self.deviation_step + 1e-9) + 1
        return tuple(self.deviation_step * number for number in range(count))
