"""AVATAR: drown every image in some noise, then let a diffusion model find its way back to images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, ImageSet, Job, Paper
from unlearnable_bench.registry.contract import DataInfo
from unlearnable_bench.registry.spec import SELFTRAINED

if TYPE_CHECKING:
    from unlearnable_bench.registry._diffusion import Denoiser


@DEFENSES.register("avatar")
@dataclass(frozen=True)
class Avatar(Defense):
    """Diffuse every image to noise level `level` of 1,000 and follow the reverse SDE back, by Euler-Maruyama; no labels.

    `weights` names a folder in weights/ beside the datasets ($BENCH_DATA) with a UNet2DModel of the library diffusers that
    predicts noise (config.json and safetensors; nothing else is read), for example a copy of google/ddpm-cifar10-32; `checksum`
    says which files these were, and is told when it is missing. The authors' networks are larger: DDPM++ continuous with 8
    blocks per level. Without weights, `avatar-selftrained`: a small UNet is trained on the very set that is to be purified,
    poison and all, for the levels that are used, on patches of 2x2 pixels. That is no published method: it may learn the poison
    too, and must not be taken for AVATAR. It goes down in 20 steps, which are closer the lower they are. Steps are those of the
    continuous SDE, the start is that of its discrete levels, as in the code; networks that know 1,000 levels are asked about
    level n where those of the authors are asked about the time n / 1000. Images are clipped and rounded; the published code
    lets values beyond the range wrap around. Purified sets are made once, in hours on a GPU with the paper's network. ImageNet
    at 224: not enlarged to 256.
    """

    weights: str = "selftrained"  # a folder of $BENCH_DATA/weights
    checksum: str = ""  # of that folder
    level: int = 100  # noise to start from, of 1,000; the published code's for CIFAR-10, APBench has 60
    steps: int = 0  # passes of the network per image; 0: one per level with weights, as published, 20 without
    epochs: int = 20  # of a network of one's own
    width: int = 32  # channels of a network of one's own

    display_name = "AVATAR diffusion purification"
    label = "AVATAR"
    version: ClassVar[int] = 2  # steps of the continuous SDE
    needs: ClassVar[tuple[str, ...]] = ("weights",)
    brings: ClassVar[Mapping[str, str]] = {"weights": "weights"}
    small: ClassVar[dict[str, Any]] = {"epochs": 1, "width": 8, "steps": 2}
    paper = Paper(
        "The Devil's Advocate: Shattering the Illusion of Unexploitable Data using Diffusion Models",
        venue="SaTML 2024",
        url="https://arxiv.org/abs/2303.08500",
        authors="Hadi M. Dolatabadi, Sarah Erfani, Christopher Leckie",
        year=2024,
    )

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 1000 or self.steps < 0 or self.epochs < 1 or self.width < 1:
            raise EntryError(f"defense avatar: expected level 0 to 1000, steps of 0 or more, epochs and width above, {self}")

    def applies(self, info: DataInfo) -> None:
        from unlearnable_bench.registry._diffusion import check_denoiser

        check_denoiser("avatar", self.weights, self.checksum, info)

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from unlearnable_bench.registry._diffusion import Model, beta_dt, kept, purified, remaining, stairs

        own = self.weights == SELFTRAINED
        model = Model("avatar", self.weights, self.checksum, max(1, self.level), self.width, self.epochs)
        levels = stairs(self.level, self.steps or (20 if own else self.level))
        start = float(kept()[self.level])

        def walk(net: "Denoiser", x: Tensor, noise: Callable[[Tensor], Tensor]) -> Tensor:
            x = start**0.5 * x + (1 - start) ** 0.5 * noise(x)
            for high, low in pairwise(levels):
                span = sum(beta_dt(level) for level in range(low + 1, high + 1))
                score = net(x, high) / -((1 - remaining(high)) ** 0.5)
                x = x + span * (x / 2 + score) + span**0.5 * noise(x)
            return x

        return replace(train, images=purified(self, train, job, model, len(levels) - 1, walk))
