"""ECLIPSE: a diffusion model of a few clean images purifies the set; gray and noise in training cover what is left."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._papers import ECLIPSE
from unlearnable_bench.registry.contract import DataInfo


@DEFENSES.register("eclipse")
@dataclass(frozen=True)
class SparseDiffusion(Defense):
    """Train a diffusion model on `images` clean images, noise the set to level `level` of 4,000 and sample back (Wang et al.).

    While a victim trains, an image is gray with probability `gray` and has Gaussian noise of `deviation`, both anew in every
    epoch, behind crop and flip. Sampling and loss are the code's: cosine schedule, learned variances, the noise's squared error
    plus the variational bound. The UNet is that of the library diffusers with the code's layers.

    It needs clean data: seeded images of the training set before it was poisoned. The authors take theirs from the test set of
    CIFAR-10, which we keep for judging. They repeat theirs M = 4 times; we draw images uniformly, so copies change nothing.
    The repository has no training of the model. Batch, learning rate and dropout are those that its origin,
    improved-diffusion, states for this network on CIFAR-10; `ema` is in the name of the published weights.

    Checked at small scale only: 250,000 steps of this network are a day of one GPU, and the model is trained again for every
    poison and seed, though no poison enters it. A shorter run needs a smaller `ema`, and a smaller `top`, so that no step
    goes into levels that purifying never visits. Changed: purified images are rounded to 8 bits, not cut off, and images are
    not rounded while a victim trains. Images with sides other than 64 have the network of those with 32.
    """

    images: int = 2000  # clean ones
    level: int = 100  # to which the set is noised, of 4,000
    gray: float = 0.4  # probability, 0..1
    deviation: float = 0.05  # of the noise while a victim trains, pixel units
    steps: int = 250_000  # of the model's training
    top: int = 4000  # levels, from the lowest, that the model learns
    batch: int = 128  # images; not stated
    lr: float = 1e-4  # of Adam; not stated
    ema: float = 0.9999  # part of the averaged weights that a step keeps, 0..1
    dropout: float = 0.3  # in the model, 0..1; not stated
    width: int = 128  # channels of the model's first layers
    blocks: int = 3  # residual blocks at each scale

    display_name = "ECLIPSE sparse diffusion purification"
    label = "ECLIPSE"
    paper = ECLIPSE
    needs: ClassVar[tuple[str, ...]] = ("clean-data",)
    small: ClassVar[dict[str, Any]] = {
        "images": 8,
        "level": 2,
        "steps": 2,
        "top": 2,
        "batch": 4,
        "ema": 0.5,
        "width": 8,
        "blocks": 1,
    }

    def __post_init__(self) -> None:
        if not (0 <= self.gray <= 1 and 0 <= self.ema <= 1 and 0 <= self.dropout < 1 and self.deviation >= 0):
            raise EntryError(f"defense eclipse: expected gray, ema and dropout 0..1, deviation of 0 or more, found {self}")
        if not 1 <= self.level <= self.top <= 4000:
            raise EntryError(f"defense eclipse: expected level 1 to top, and top up to 4000, found {self}")
        if min(self.images, self.steps, self.batch, self.blocks) < 1 or self.width < 4 or self.width % 4:
            raise EntryError(f"defense eclipse: expected counts of 1 or more and a width that 4 divides, found {self}")

    def applies(self, info: DataInfo) -> None:
        if info.shape[1] % 8 or info.shape[2] % 8:
            raise NotApplicable(f"needs sides that 8 divides, the images are {info.shape[1]}x{info.shape[2]}")
        if info.size < self.images:
            raise NotApplicable(f"needs {self.images} clean images, the set has {info.size}")

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from unlearnable_bench.registry._crafting import Crafting
        from unlearnable_bench.registry._diffusion import Way, walked
        from unlearnable_bench.registry._improved_diffusion import CosineSchedule, DiffusionRecipe, trained, untrained

        clean, run = job.clean(self.images), Crafting(train, job)
        net = untrained("eclipse", train.info.shape, self.width, self.blocks, self.dropout).to(run.device)
        schedule = CosineSchedule.on(run.device)
        learnt = 1 + 3 * self.steps * self.batch // len(train)
        way = Way("eclipse walks", lambda x, noise: self.sampled(net, schedule, x, noise), self.level, learnt)
        state = run.resume(way.stage)
        if state is None:
            recipe = DiffusionRecipe(self.steps, self.batch, self.lr, self.top, self.ema)
            net = trained(net, clean, recipe, run, lambda done: job.progress(learnt * done // self.steps, learnt + self.level))
        else:
            net.load_state_dict(state["net"])
        net.eval().requires_grad_(False)
        return replace(train, images=walked(net, train, run, way, state))

    def sampled(self, net: Any, schedule: Any, x: Tensor, noise: Callable[[Tensor], Tensor]) -> Tensor:
        """Noise images in [-1, 1] to the level, and follow the model back."""
        from unlearnable_bench.registry._improved_diffusion import step_back

        step = torch.full((len(x),), self.level - 1, device=x.device)
        x = schedule.noised(x, noise(x), step)
        for level in range(self.level - 1, -1, -1):
            x = step_back(net, schedule, x, level, noise)
        return x

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry import _photo

        x = _photo.chosen(_photo.some(x, self.gray), _photo.gray(x), x)
        return (x + self.deviation * torch.randn(x.shape, device=x.device, dtype=x.dtype)).clamp(0, 1), y
