"""EM: error-minimizing noise.

Make every training image already easy: noise that drives the training loss to nothing for a surrogate that is itself trained
on the noisy images, so that a victim sees nothing left to learn.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job
from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._batch_noise import Alternation, alternate
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._noise import exported, in_slices
from unlearnable_bench.registry._papers import EM
from unlearnable_bench.registry._persistent_noise import Rounds, persistent
from unlearnable_bench.registry._surrogates import surrogate

NONE = Adversary("none", 0.0)


@ATTACKS.register("em")
@dataclass(frozen=True)
class ErrorMinimizing(Attack):
    """Sample-wise noise that minimizes a surrogate's training error (Huang et al.); `variant`: the code that other papers ran.

    paper: rounds of `weight_steps` training steps of the surrogate on the noisy images and one pass of `noise_steps` signed
    descent steps over all images, until the surrogate errs on at most `stop_error` of them. No augmentation; input gradients
    in evaluation mode; noise is projected to the box around the image, not to valid pixels.
    original: the authors' code, whose data loader cuts the negative half of the noise off and truncates to 8 bits. The numbers
    of Huang et al. and of the staged-training paper are of this one.
    lfu: the copy of that loader in the code of the learn-from-unlearnable paper: both halves, truncated; here within epsilon.
    tue: the transferable paper's schedule, an epoch of training per round; its step is not stated, ours is epsilon / 10.
    apb: APBench's, with batches of 128, 5 steps of epsilon / 5 and convolutions initialized by fan-out.
    rem: that of the robust-error-minimizing code, which the stable-error-minimizing and d-vae papers ran: `train_steps`
    batches, each cropped and mirrored, given fresh noise and trained on; then all noise anew. The noise belongs to the cropped
    image but is added to the whole one, in their code as here.
    The adaptive forms of the staged-training paper: `augment=cg` (equation 6) has random colours inside both halves, `staged`
    takes epochs of the surrogate back that lock onto the noise and slows its first layers; its epoch is a pass over the set.
    Changed from the authors' code: images are visited in one fixed random order instead of that of the files; `max_rounds`
    bounds the search; `variant=rem` makes the noise of the last, incomplete batch anew too, and on a GPU takes its steps in
    bf16. Other data in their code: CIFAR-100
    weight_steps=20, weight_decay=5e-5; ImageNet epsilon=16/255, weight_steps=100, batch=32, stop_error=0.1, weight_decay=5e-5.
    """

    variant: Literal["paper", "original", "lfu", "tue", "apb", "rem"] = "paper"  # whose code or text, see above
    epsilon: float = 8 / 255  # linf radius, pixel units
    norm: Literal["linf"] = "linf"  # the norm of the budget; no other
    surrogate: str = "resnet18"  # the network that noise is made against: any architecture
    augment: Literal["none", "cg"] = "none"  # cg: colour jitter and grayscale while noise and surrogate are made
    staged: bool = False  # train the surrogate in stages, as the defense st trains victims
    stages: int = 2  # of staged training; the staged-training paper takes 3 for CIFAR-100
    weight_steps: int = 0  # training steps per round; 0: 10, tue an epoch
    batch: int = 0  # images per training step; 0: 512, apb and rem 128
    noise_steps: int = 0  # signed steps per round, or per batch for rem; 0: 20, rem 10, apb 5
    step_size: float = 0.0  # pixel units; 0: epsilon / 10, apb and rem epsilon / 5
    start: Literal["zero", "uniform"] = "zero"  # of the noise; theirs is uniform at 16/255 and 24/255, and in rem always
    lr: float = 0.1  # constant; rem: a tenth of it after 0.4 and 0.8 of training
    weight_decay: float = 5e-4  # of the surrogate's descent
    stop_error: float = 0.01  # fraction of the training images; not for rem
    max_rounds: int = 50  # not for rem
    train_steps: int = 5000  # of rem alone

    display_name = "Error-minimizing noise"
    label = "EM"
    version: ClassVar[int] = 2
    # staged: layers of stages are convolutions, not blocks; rem: the start is cut to valid pixels
    revisions: ClassVar[Mapping[str, int]] = {"staged=true": 2, "variant=rem": 2}
    small: ClassVar[dict[str, Any]] = {"surrogate": "small-cnn", "batch": 32, "noise_steps": 2, "max_rounds": 3}
    paper = EM

    def __post_init__(self) -> None:
        if (
            min(self.weight_steps, self.batch, self.noise_steps, self.step_size) < 0
            or min(self.max_rounds, self.train_steps) < 1
        ):
            raise EntryError("attack em: steps and batch cannot be negative, max_rounds and train_steps must be 1 or more")
        if self.stages < 1:
            raise EntryError(f"attack em: stages={self.stages}, expected 1 or more")
        if self.variant == "rem" and self.augment != "none":
            raise EntryError("attack em: augment=cg is not defined for variant=rem; give it to the attack rem")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job, self.stages if self.staged else 0)
        if self.variant == "rem":
            levels = alternate(run, surrogate(run, self.surrogate, sees="centred"), self.alternation())
            run.close()
            yield from in_slices(clean, levels, 1 / 255)
            return
        net = surrogate(run, self.surrogate, drawn="he" if self.variant == "apb" else "torch")
        noise = persistent(run, net, self.rounds(len(clean)))
        run.close(rounds=len(run.log["surrogate_error"]))
        for where, delta in in_slices(clean, noise):
            yield where, exported(delta, self.variant, self.epsilon)

    def rounds(self, size: int) -> Rounds:
        """The plan of every variant but rem, for a set of so many images."""
        batch = self.batch or (128 if self.variant == "apb" else 512)
        return Rounds(
            epsilon=self.epsilon,
            weight_steps=self.weight_steps or (-(-size // batch) if self.variant == "tue" else 10),
            batch=batch,
            noise_steps=self.noise_steps or (5 if self.variant == "apb" else 20),
            step_size=self.step_size or self.epsilon / (5 if self.variant == "apb" else 10),
            lr=self.lr,
            weight_decay=self.weight_decay,
            stop_error=self.stop_error,
            max_rounds=self.max_rounds,
            start=self.start,
            view=self.augment,
        )

    def alternation(self) -> Alternation:
        """The plan of rem."""
        return Alternation(
            epsilon=self.epsilon,
            noise_steps=self.noise_steps or 10,
            step_size=self.step_size or self.epsilon / 5,
            samples=1,
            noise_adversary=NONE,
            weight_adversary=NONE,
            train_steps=self.train_steps,
            batch=self.batch or 128,
            lr=self.lr,
            weight_decay=self.weight_decay,
            mirrored_frame=True,
        )
