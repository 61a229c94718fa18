"""REM: robust error-minimizing noise.

Error-minimizing noise for a surrogate that is trained adversarially, found as the mean over random crops of what helps in the
worst case around the image: it is still there for a victim that trains adversarially.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, Paper
from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._batch_noise import Alternation, alternate
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._noise import in_slices
from unlearnable_bench.registry._persistent_noise import Rounds, persistent
from unlearnable_bench.registry._surrogates import surrogate


@ATTACKS.register("rem")
@dataclass(frozen=True)
class RobustErrorMinimizing(Attack):
    """Error-minimizing noise that withstands adversarial training (Fu et al.), its ablations, and what APBench calls REM.

    paper: for `train_steps` batches, fresh noise by signed steps, each from `samples` random crops and mirrors with the
    adversary in each of them, whose step counts as a constant offset; then a training step on the worst case around a new view
    of the noisy images. At the end all noise anew. The staged-training, stable-error-minimizing, d-vae and
    learn-from-unlearnable papers ran this code.
    apb: APBench's, which trains no robust surrogate: `em` by rounds whose descent starts where a few steps up the loss, within
    epsilon / 2 and going on from round to round, have led. Its surrogate is drawn as torch does, unlike that of `em`.
    The ablations of the stable-error-minimizing paper: `weight_adversary=none` (table 7, noise update alone),
    `noise_adversary=none` (training alone), `noise_adversary=uniform` with `weight_adversary=none` (random noise alone),
    `adversary=fgsm`, `tpgd` and `apgd` (table 14; which settings is not said, ours are those of the methods' papers, in both
    updates).
    The adaptive forms of the staged-training paper: `augment=cg` (equation 7) has the adversary act before random colours and
    crop; `staged` trains the surrogate in stages, as in `em`.
    Changed from the authors' code: the last, incomplete batch is made anew as well; crops go up to an eighth
    of the side on every image size, also in place of random resized crops; on a GPU, steps are taken in bf16 (not in apb). For
    ImageNet the code has train_steps=3000,
    noise_steps=7, step_size=2/255, samples=4, adversary_steps=7, adversary_step_size=1/255.
    """

    variant: Literal["paper", "apb"] = "paper"  # paper: the authors' code; apb: APBench's
    epsilon: float = 8 / 255  # linf radius of the noise, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    adversary_epsilon: float = 4 / 255  # linf radius of the adversary, pixel units; apb has its own
    adversary: Literal["pgd", "fgsm", "tpgd", "apgd"] = "pgd"  # the attack of both updates; pgd is the paper's
    noise_adversary: Literal["same", "uniform", "none"] = "same"  # while noise is made; same: `adversary`
    weight_adversary: Literal["same", "none"] = "same"  # while the surrogate is trained
    adversary_steps: int = 10  # steps of the adversary
    adversary_step_size: float = 0.0  # pixel units; 0: a fifth of its radius, of tpgd a quarter
    surrogate: str = "resnet18"  # the network that noise is made against: any architecture
    augment: Literal["none", "cg"] = "none"  # cg: colour jitter and grayscale while noise and surrogate are made
    staged: bool = False  # train the surrogate in stages, as the defense st trains victims
    stages: int = 2  # of staged training; the staged-training paper takes 3 for CIFAR-100
    train_steps: int = 5000  # batches; not for apb
    batch: int = 128  # images
    noise_steps: int = 0  # signed steps per batch; 0: 10, apb 5 per round
    step_size: float = 0.0  # pixel units; 0: epsilon / 5
    samples: int = 5  # random views per noise step; not for apb
    lr: float = 0.1  # a tenth of it after 0.4 and 0.8 of training; apb: constant
    weight_decay: float = 5e-4  # of the surrogate's descent
    max_rounds: int = 50  # of apb alone

    # staged: layers of stages are convolutions, not blocks; apb: weights are drawn as torch draws them
    display_name = "Robust error-minimizing noise"
    label = "REM"
    revisions: ClassVar[Mapping[str, int]] = {"staged=true": 2, "variant=apb": 2}
    small: ClassVar[dict[str, Any]] = {
        "surrogate": "small-cnn",
        "train_steps": 2,
        "batch": 32,
        "noise_steps": 2,
        "samples": 2,
        "adversary_steps": 2,
    }
    paper = Paper(
        "Robust Unlearnable Examples: Protecting Data Privacy Against Adversarial Learning",
        venue="ICLR 2022",
        url="https://arxiv.org/abs/2203.14533",
        authors="Shaopeng Fu, Fengxiang He, Yang Liu, Li Shen, Dacheng Tao",
        year=2022,
    )

    def __post_init__(self) -> None:
        if min(self.train_steps, self.batch, self.samples, self.max_rounds, self.stages) < 1:
            raise EntryError("attack rem: train_steps, batch, samples, max_rounds and stages must be 1 or more")
        if min(self.noise_steps, self.step_size, self.adversary_epsilon, self.adversary_steps, self.adversary_step_size) < 0:
            raise EntryError("attack rem: noise_steps, step_size and the adversary's fields cannot be negative")
        if self.variant == "apb" and self.augment != "none":
            raise EntryError("attack rem: augment=cg is not defined for variant=apb")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job, self.stages if self.staged else 0)
        if self.variant == "apb":
            noise = persistent(run, surrogate(run, self.surrogate), self.rounds())
            run.close(rounds=len(run.log["surrogate_error"]))
            yield from in_slices(clean, noise)
            return
        levels = alternate(run, surrogate(run, self.surrogate, sees="centred"), self.alternation())
        run.close()
        yield from in_slices(clean, levels, 1 / 255)

    def alternation(self) -> Alternation:
        """The plan of the paper and of its ablations."""
        return Alternation(
            epsilon=self.epsilon,
            noise_steps=self.noise_steps or 10,
            step_size=self.step_size or self.epsilon / 5,
            samples=self.samples,
            noise_adversary=self._adversary(self.noise_adversary),
            weight_adversary=self._adversary(self.weight_adversary),
            train_steps=self.train_steps,
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            colours=self.augment == "cg",
        )

    def _adversary(self, kind: str) -> Adversary:
        name = self.adversary if kind == "same" else kind
        return Adversary(name, self.adversary_epsilon, self.adversary_steps, self.adversary_step_size)

    def rounds(self) -> Rounds:
        """The plan of apb."""
        return Rounds(
            epsilon=self.epsilon,
            weight_steps=10,
            batch=self.batch,
            noise_steps=self.noise_steps or 5,
            step_size=self.step_size or self.epsilon / 5,
            lr=self.lr,
            weight_decay=self.weight_decay,
            stop_error=0.01,
            max_rounds=self.max_rounds,
            warm=Adversary("pgd", self.epsilon / 2, 5, self.epsilon / 10),
        )
