"""PureGen-DDPM: a little noise, and a diffusion model back from it that never learned to make images from nothing."""

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


@DEFENSES.register("puregen-ddpm")
@dataclass(frozen=True)
class PureGenDiffusion(Defense):
    """Diffuse every image to noise level `level` of 1,000 and walk back by DDPM with the smaller of its variances; no labels.

    PureGen-DDPM of the paper, made against backdoors; of unlearnable data it has NTGA. Its model learns the lowest 250 levels
    of the 1,000 alone, on images of CINIC-10 that are not those of CIFAR-10. The other half of the paper, PureGen-EBM (Langevin
    steps of an energy model), is not here, nor are the combinations and repetitions of both.

    `weights` names a folder as for `avatar`; the authors publish theirs as a UNet2DModel of the library diffusers, which we
    have not loaded. Without, `puregen-ddpm-selftrained`: a small UNet learns the lowest `top` levels of the very set that is
    to be purified, poison and all. The paper trains on poisoned images too and loses little, but with another network; this
    one must not be taken for it. It goes down in 20 steps, closer the lower they are, which smooth a little. As in the code,
    the noise is that of one level above the first step down. Changed: images are rounded to 8 bits, not cut off.
    """

    weights: str = "selftrained"  # a folder of $BENCH_DATA/weights
    checksum: str = ""  # of that folder
    level: int = 75  # noise to start from, of 1,000; 75 to 125 in the paper
    steps: int = 0  # passes of the network per image; 0: one per level with weights, as published, 20 without
    top: int = 250  # levels, from the lowest, that a network of one's own learns
    epochs: int = 20  # of a network of one's own
    width: int = 32  # channels of a network of one's own

    display_name = "PureGen diffusion purification"
    label = "PureGen"
    needs: ClassVar[tuple[str, ...]] = ("weights",)
    brings: ClassVar[Mapping[str, str]] = {"weights": "weights"}
    small: ClassVar[dict[str, Any]] = {"epochs": 1, "width": 8, "steps": 2}
    paper = Paper(
        "PureGen: Universal Data Purification for Train-Time Poison Defense via Generative Model Dynamics",
        venue="NeurIPS 2024",
        url="https://arxiv.org/abs/2405.18627",
        authors="Sunay Bhat, Jeffrey Jiang, Omead Pooladzandi, Alexander Branch, Gregory Pottie",
        year=2024,
    )

    def __post_init__(self) -> None:
        if not 1 <= self.level < self.top <= 1000 or self.steps < 0 or self.epochs < 1 or self.width < 1:
            limits = "level from 1, top above it and up to 1000, steps of 0 or more, epochs and width above 0"
            raise EntryError(f"defense puregen-ddpm: expected {limits}, found {self}")

    def applies(self, info: DataInfo) -> None:
        from unlearnable_bench.registry._diffusion import check_denoiser

        check_denoiser("puregen-ddpm", self.weights, self.checksum, info)

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from unlearnable_bench.registry._diffusion import Model, ddpm_mean, kept, purified, stairs

        own = self.weights == SELFTRAINED
        model = Model("puregen-ddpm", self.weights, self.checksum, self.top, self.width, self.epochs)
        levels = stairs(self.level, self.steps or (20 if own else self.level))
        left = [float(part) for part in kept()]

        def walk(net: "Denoiser", x: Tensor, noise: Callable[[Tensor], Tensor]) -> Tensor:
            start = left[self.level + 1]
            x = start**0.5 * x + (1 - start) ** 0.5 * noise(x)
            for high, low in pairwise(levels):
                above, below = left[high], left[low]
                x = ddpm_mean(x, net(x, high), above, below)
                if low:
                    variance = (1 - below) / (1 - above) * (1 - above / below)
                    x = x + variance**0.5 * noise(x)
            return x

        return replace(train, images=purified(self, train, job, model, len(levels) - 1, walk))
