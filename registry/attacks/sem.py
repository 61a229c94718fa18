"""SEM: stable error-minimizing noise.

Robust error-minimizing noise in which uniform random noise takes the adversary's place while the noise is made: a ninth of the
passes, and what counts, the robustness of the surrogate, stays.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job
from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._batch_noise import Alternation, alternate
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._noise import in_slices
from unlearnable_bench.registry._papers import STABLE_UNLEARNABLE
from unlearnable_bench.registry._surrogates import surrogate


@ATTACKS.register("sem")
@dataclass(frozen=True)
class StableErrorMinimizing(Attack):
    """Error-minimizing noise made stable by random perturbations, not by an adversary (Liu et al., algorithms 1 and 4).

    For `train_steps` batches, fresh noise by signed steps, each from `samples` random crops and mirrors with a uniform draw
    added to each; then one step of adversarial training on a new view of the noisy images. At the end all noise anew.
    Changed from the authors' code: as `rem`, bf16 on a GPU too. For ImageNet the paper has train_steps=3000, noise_steps=7,
    step_size=2/255, samples=4. The script of that name in their repository calls the generator of REM; we do what the paper
    says.
    The ablations of table 7: `components=noise` leaves the adversary out while the surrogate is trained, `weights` the uniform
    draws while noise is made; with `none` only views vary. `rem` has the ones with an adversary in the noise.
    """

    epsilon: float = 8 / 255  # linf radius of the noise, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    adversary_epsilon: float = 4 / 255  # linf radius of the adversary that trains the surrogate, pixel units
    components: Literal["both", "noise", "weights", "none"] = "both"  # the draws in the noise, the adversary of the weights
    random_epsilon: float = -1.0  # of the uniform draws, pixel units; below 0: adversary_epsilon, as in the code
    adversary_steps: int = 10  # steps of the adversary that trains the surrogate
    adversary_step_size: float = 0.0  # pixel units; 0: adversary_epsilon / 5
    surrogate: str = "resnet18"  # the network that noise is made against: any architecture
    train_steps: int = 5000  # batches
    batch: int = 128  # images
    noise_steps: int = 10  # signed steps per batch
    step_size: float = 0.0  # pixel units; 0: epsilon / 5
    samples: int = 5  # random views per noise step
    lr: float = 0.1  # a tenth of it after 0.4 and 0.8 of training
    weight_decay: float = 5e-4  # of the surrogate's descent

    display_name = "Stable error-minimizing noise"
    label = "SEM"
    small: ClassVar[dict[str, Any]] = {
        "surrogate": "small-cnn",
        "train_steps": 2,
        "batch": 32,
        "noise_steps": 2,
        "samples": 2,
        "adversary_steps": 2,
    }
    paper = STABLE_UNLEARNABLE

    def __post_init__(self) -> None:
        if min(self.train_steps, self.batch, self.samples, self.noise_steps) < 1:
            raise EntryError("attack sem: train_steps, batch, samples and noise_steps must be 1 or more")
        if min(self.step_size, self.adversary_epsilon, self.adversary_steps, self.adversary_step_size) < 0:
            raise EntryError("attack sem: step_size and the adversary's fields cannot be negative")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job)
        levels = alternate(run, surrogate(run, self.surrogate, sees="centred"), self.alternation())
        run.close()
        yield from in_slices(clean, levels, 1 / 255)

    def alternation(self) -> Alternation:
        """The plan of the paper."""
        drawn = self.adversary_epsilon if self.random_epsilon < 0 else self.random_epsilon
        draws = Adversary("uniform", drawn)
        worst = Adversary("pgd", self.adversary_epsilon, self.adversary_steps, self.adversary_step_size)
        nothing = Adversary("none", 0.0)
        return Alternation(
            epsilon=self.epsilon,
            noise_steps=self.noise_steps,
            step_size=self.step_size or self.epsilon / 5,
            samples=self.samples,
            noise_adversary=draws if self.components in ("both", "noise") else nothing,
            weight_adversary=worst if self.components in ("both", "weights") else nothing,
            train_steps=self.train_steps,
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
        )
