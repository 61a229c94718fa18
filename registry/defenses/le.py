"""LE, learnable examples: diffusion that is held close to the image it purifies, first in pixels, then as it is seen."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, ImageSet, Job, Paper
from unlearnable_bench.registry.contract import DataInfo
from unlearnable_bench.registry.spec import SELFTRAINED

if TYPE_CHECKING:
    from unlearnable_bench.registry._diffusion import Denoiser

BATCH = 500  # images over which the published code averages its guidance


@DEFENSES.register("le")
@dataclass(frozen=True)
class LearnableExamples(Defense):
    """Joint-conditional diffusion purification: a few times, diffuse to noise level `level` and walk back by DDPM.

    Every step is pulled towards the poisoned image at the same level: by the mean square of pixels above level `switch` + 1,
    by the perceptual distance LPIPS below it. The pull is scaled as published for batches of 500, whatever ours are.
    `weights` names a folder as for `avatar`, with LPIPS beside the network: lpips.safetensors with `features.*` of the AlexNet
    of torchvision and `lin0` to `lin4`, the weights of its channels. Without, `le-selftrained`: a small UNet is trained on the
    very set that is to be purified, poison and all, and LPIPS sees with an AlexNet of random weights whose channels count
    alike (Zhang et al. measure one too; it judges worse). That is no published method and must not be taken for LE. It takes
    5 steps down of the 20, closer the lower they are. Images are rounded, not cut off; LPIPS sees images smaller than 32x32
    enlarged.
    """

    weights: str = "selftrained"  # a folder of $BENCH_DATA/weights
    checksum: str = ""  # of that folder
    level: int = 20  # noise to start from, of 1,000
    rounds: int = 4  # how often noise is added and walked back
    steps: int = 0  # passes of the network per image and round; 0: one per level with weights, as published, 5 without
    switch: int = 10  # steps, counted from 0, up to which LPIPS guides and above which pixels do
    guide: float = 70_000.0  # the published scale of the guidance; 0: none
    radius: float = 8 / 255  # of the poison, as the scale has it; pixel units
    epochs: int = 20  # of a network of one's own
    width: int = 32  # channels of a network of one's own

    display_name = "Joint-conditional diffusion purification"
    label = "JCDP"
    needs: ClassVar[tuple[str, ...]] = ("weights",)
    brings: ClassVar[Mapping[str, str]] = {"weights": "weights"}
    small: ClassVar[dict[str, Any]] = {"epochs": 1, "width": 8, "steps": 2, "rounds": 1}
    paper = Paper(
        "Unlearnable Examples Give a False Sense of Security: Piercing through Unexploitable Data with Learnable Examples",
        venue="ACM MM 2023",
        url="https://arxiv.org/abs/2305.09241",
        authors="Wan Jiang, Yunfeng Diao, He Wang, Jianxin Sun, Meng Wang, Richang Hong",
        year=2023,
    )

    def __post_init__(self) -> None:
        counts = min(self.level, self.rounds, self.epochs, self.width)
        if counts < 1 or self.level > 1000 or min(self.steps, self.switch, self.guide) < 0 or self.radius <= 0:
            raise EntryError(
                f"defense le: expected level, rounds, epochs, width, radius above 0, steps, switch, guide of 0 or more, {self}"
            )

    def applies(self, info: DataInfo) -> None:
        from unlearnable_bench.registry._diffusion import check_denoiser

        check_denoiser("le", self.weights, self.checksum, info)

    def scale(self, left: float) -> float:
        """Return the published factor of the guidance at a level, of which `left` of the signal's variance is left."""
        return float((1 - left) ** 0.5 / left**0.5 * 3 * self.guide / (2 * self.radius))

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from unlearnable_bench.registry._diffusion import Model, Perceptual, ddpm_mean, kept, purified, stairs

        own = self.weights == SELFTRAINED
        model = Model("le", self.weights, self.checksum, self.level, self.width, self.epochs)
        levels = stairs(self.level, self.steps or (5 if own else self.level))
        left = kept()
        seen = Perceptual("le", self.weights, self.checksum).to(job.device)

        def far(x: Tensor, reference: Tensor, level: int) -> Tensor:
            if level - 1 > self.switch:
                return (x - reference).square().mean((1, 2, 3)).sum()
            distances: Tensor = seen(x, reference)
            return distances.sum()

        def walk(net: "Denoiser", poisoned: Tensor, noise: Callable[[Tensor], Tensor]) -> Tensor:
            x = poisoned
            for _ in range(self.rounds):
                x = at(x, float(left[self.level]), noise)
                for high, low in itertools.pairwise(levels):
                    above, below = float(left[high]), float(left[low])
                    kept_here = above / below
                    mean = ddpm_mean(x, net(x, high), above, below)
                    if self.guide:
                        reference = at(poisoned, above, noise)
                        with torch.enable_grad():
                            x = x.detach().requires_grad_(True)
                            (pull,) = torch.autograd.grad(far(x, reference, high), x)
                        mean = mean - (1 - kept_here) * self.scale(above) / BATCH * pull
                    x = mean + (1 - kept_here) ** 0.5 * noise(mean) if low else mean
                x = x.detach().clamp(-1, 1)
            return x

        return replace(train, images=purified(self, train, job, model, self.rounds * (len(levels) - 1), walk))


def at(x: Tensor, left: float, noise: Callable[[Tensor], Tensor]) -> Tensor:
    """Return x at the level where `left` of its variance is left."""
    there: Tensor = left**0.5 * x + (1 - left) ** 0.5 * noise(x)
    return there
