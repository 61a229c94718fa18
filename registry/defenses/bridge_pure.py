"""BridgePure: a diffusion bridge, learned from a few pairs of a clean and a protected image, leads protected images back."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._papers import BRIDGE_PURE
from unlearnable_bench.registry.contract import DataInfo


@DEFENSES.register("bridge-pure")
@dataclass(frozen=True)
class PurifyingBridge(Defense):
    """Learn the way from protected to clean images from `pairs` of both, and lead the whole set back along it (Wang et al.).

    The bridge is the code's: variance exploding to 80, its times drawn uniformly, RAdam, random flips, averaged weights, and
    `samples` steps back, of which a part `churn` is random. The UNet is that of the library diffusers with the code's layers.
    `beta` is the variance of Gaussian noise on protected images, once, before all else. The paper prints for each poison the
    best of four settings, churn 0.33 and 0.8, beta 0 and 0.02; ours are the first of each.

    It needs pairs: the clean image and the published one of the same training images, seeded. The authors have other images
    protected by the same service: they purify the first 40,000 images of CIFAR and take pairs of the others. Here nobody can
    be asked to protect more, so pairs are of the training set, whose images the victim trains on as they are purified.
    The bridge has seen 1 % of the set clean.

    Checked at small scale only: 100,000 steps of this network are about two days of one GPU by estimate, anew for every poison
    and seed. A shorter run needs a smaller `ema`. Changed: full precision for fp16; batches are drawn with repeats; purified
    images are rounded to 8 bits, not cut off, and noise of `beta` is not rounded. The network has four scales whatever the
    side of the images; the authors' has more from 112 pixels on.
    """

    pairs: int = 500  # of a clean and a poisoned image
    beta: float = 0.0  # 0..1 without 1
    churn: float = 0.33  # 0..1 without 1
    guidance: float = 0.5  # of the pull to the poisoned image in each step
    samples: int = 40  # steps back from the poisoned image
    steps: int = 100_000  # of the bridge's training
    batch: int = 256  # pairs
    lr: float = 1e-4  # of RAdam
    ema: float = 0.9999  # part of the averaged weights that a step keeps, 0..1
    dropout: float = 0.1  # in the network, 0..1
    width: int = 192  # channels of the network's first layers
    blocks: int = 3  # residual blocks at each scale

    display_name = "BridgePure"
    label = "BridgePure {pairs}"
    paper = BRIDGE_PURE
    needs: ClassVar[tuple[str, ...]] = ("clean-data", "pairs")
    small: ClassVar[dict[str, Any]] = {
        "pairs": 8,
        "samples": 2,
        "steps": 2,
        "batch": 4,
        "ema": 0.5,
        "width": 8,
        "blocks": 1,
    }

    def __post_init__(self) -> None:
        if not (0 <= self.beta < 1 and 0 <= self.churn < 1 and 0 <= self.dropout < 1 and 0 <= self.ema <= 1):
            raise EntryError(f"defense bridge-pure: expected beta, churn, dropout and ema 0..1, found {self}")
        if min(self.pairs, self.samples, self.steps, self.batch, self.blocks) < 1 or self.width < 4 or self.width % 4:
            raise EntryError(f"defense bridge-pure: expected counts of 1 or more and a width that 4 divides, found {self}")

    def applies(self, info: DataInfo) -> None:
        if info.shape[1] % 8 or info.shape[2] % 8:
            raise NotApplicable(f"needs sides that 8 divides, the images are {info.shape[1]}x{info.shape[2]}")
        if info.size < self.pairs:
            raise NotApplicable(f"needs {self.pairs} pairs, the set has {info.size} images")

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from unlearnable_bench.registry._bridge import bridge_network
        from unlearnable_bench.registry._crafting import Crafting
        from unlearnable_bench.registry._diffusion import Averaging, Way, averaged, walked

        pairs, run = job.pairs(train, self.pairs), Crafting(train, job)
        net = bridge_network("bridge-pure", train.info.shape, self.width, self.blocks, self.dropout).to(run.device)
        calls, learnt = self.samples * (3 if self.churn else 2) - 1, 1 + 3 * self.steps * self.batch // len(train)
        way = Way("bridge-pure walks", lambda x, noise: self.led_back(net, self.noisy(x, noise), noise), calls, learnt)
        state = run.resume(way.stage)
        if state is None:
            plan = Averaging("bridge-pure trains", self.steps, self.batch, self.ema)
            optimizer = torch.optim.RAdam(net.train().parameters(), self.lr)
            loss = self._loss(net, pairs, job)
            net = averaged(
                net, optimizer, plan, loss, run, lambda done: job.progress(learnt * done // self.steps, learnt + calls)
            )
        else:
            net.load_state_dict(state["net"])
        net.eval().requires_grad_(False)
        return replace(train, images=walked(net, train, run, way, state))

    def noisy(self, protected: Tensor, noise: Callable[[Tensor], Tensor]) -> Tensor:
        """Return protected images in [-1, 1] with the noise of `beta`."""
        if self.beta == 0:
            return protected
        return (math.sqrt(1 - self.beta) * protected + math.sqrt(self.beta) * noise(protected)).clamp(-1, 1)

    def led_back(self, net: Any, protected: Tensor, noise: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the clean images that the bridge leads to, in [-1, 1]."""
        from unlearnable_bench.registry._bridge import WayBack

        return WayBack(net, protected, self.churn, self.guidance, noise).followed(self.samples)

    def _loss(self, net: Any, pairs: tuple[ImageSet, ImageSet], job: Job) -> Callable[[], Tensor]:
        from unlearnable_bench.registry._bridge import FIRST, LAST, bridge_loss

        def drawn(x: Tensor) -> Tensor:
            return torch.randn(x.shape, generator=job.generator).to(x.device)

        clean, protected = (part.pixels(slice(None), job.device) * 2 - 1 for part in pairs)
        protected = self.noisy(protected, drawn)

        def loss() -> Tensor:
            rows = torch.randint(self.pairs, (self.batch,), generator=job.generator).to(job.device)
            flipped = (torch.rand(self.batch, 1, 1, 1, generator=job.generator) < 0.5).to(job.device)
            time = torch.rand(self.batch, 1, 1, 1, generator=job.generator).to(job.device) * (LAST - FIRST) + FIRST
            before, after = (torch.where(flipped, x.flip(3), x) for x in (clean[rows], protected[rows]))
            return bridge_loss(net, before, after, time, drawn(before)).mean()

        return loss
