"""Auto-encoder: what passes through a narrow code loses the smallest details, but without a rate a shortcut may pass, too."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._papers import D_VAE
from unlearnable_bench.registry.contract import DataInfo


def _distance(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
    """The mean square between image and reconstruction: equation 3 without its rate."""
    image: Tensor = model(x, y)[0]
    return F.mse_loss(image, x)


@DEFENSES.register("auto-encoder")
@dataclass(frozen=True)
class PlainAutoEncoder(Defense):
    """Replace every image by the output of an auto-encoder that was trained on the images; no distribution, no rate.

    The control of figure 5 and appendix G of D-VAE: at equal PSNR a rate takes more of REM and LSP away than a bottleneck does.
    Network and training are those of `d-vae` in one stage, with one convolution of kernel size 1 in the place of those of mean
    and variance. The paper sets the bottleneck by the width of all features and prints no widths. Its repository has another
    auto-encoder, with Gaussian noise of 0.062 on its input, and settings of 1 to 1,024 latents that do not fit it; `width` sets
    the width, and `latents` narrows the code alone, in a network of one width. In the manifest: `psnr1`, between what went in
    and what came out, dB.
    """

    width: int = 64  # channels of the first layers
    latents: int = 0  # channels of the code, at half the side; 0: 4 width
    epochs: int = 60  # of training it
    batch: int = 128  # images
    lr: float = 0.005  # of Adam, cosine to 0

    display_name = "Auto-encoder purification"
    label = "Auto-encoder"
    paper = D_VAE
    small: ClassVar[dict[str, Any]] = {"width": 8, "epochs": 4, "batch": 16}

    def __post_init__(self) -> None:
        if self.width < 2 or self.batch < 2 or self.latents < 0 or self.epochs < 1 or self.lr <= 0:
            raise EntryError(
                "defense auto-encoder: expected width and batch of 2 or more, latents of 0 or more, epochs and lr above 0, "
                f"found {self}"
            )

    def applies(self, info: DataInfo) -> None:
        if info.shape[1] % 2 or info.shape[2] % 2:
            raise NotApplicable(f"needs even sides, the images are {info.shape[1]}x{info.shape[2]}")

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from unlearnable_bench.registry._vae import AutoEncoder, Fitted, SuccessiveNetworks

        rounds = SuccessiveNetworks(train, job, 1)
        model = AutoEncoder(train.info.shape[0], self.width, self.latents or 4 * self.width).to(job.device)
        rounds.fit(model, train, _distance, torch.optim.Adam(model.parameters(), self.lr), self.epochs, self.batch)
        fitted = Fitted(model, job, rounds.seeds[0])
        images = fitted.changed(train, lambda x, image, perturbation: image)
        job.note(psnr1=fitted.psnr)
        return replace(train, images=images)
