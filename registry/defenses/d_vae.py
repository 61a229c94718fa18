"""D-VAE: a rate too low to carry a shortcut, a decoder that collects what it left out, which is then subtracted."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from registry import ARCHITECTURES, DEFENSES, Defense, EntryError, ImageSet, Job, NotApplicable
from registry._papers import D_VAE
from registry.contract import DataInfo

if TYPE_CHECKING:
    from registry._vae import Recipe


@DEFENSES.register("d-vae")
@dataclass(frozen=True)
class DisentanglingVae(Defense):
    """Two rounds of a rate-constrained autoencoder: the perturbations that it finds are subtracted, then it is the image.

    Round one subtracts with rate `kld`, round two with rate `kld2`, and a second pass of round two gives the images to learn
    from. `stages=1` stops after the subtraction of round one; without `disentangle` a round is a plain autoencoder, whose
    images are kept. With `detect` a network trained on all images plus their perturbation of round one decides which are
    poisoned, namely those whose original it classifies as labelled, and only these go through both rounds, on their own.
    Network and loss are the published code's, which weighs the rate, clips the sum of both decoders and leaves the size of
    the perturbation free at first. Changed: images are rounded to 8 bits, not cut off. Not stated: how long the deciding
    network trains; ours is 60 epochs of SGD from 0.1 with a cosine and no augmentation. Rates: 1.0 and 3.0 on CIFAR-10, 1.0
    and 4.5 on CIFAR-100 (3.0 in an appendix), 1.5 and 3.0 on ImageNet, there with 20 epochs and, unlike ours, a deeper first
    network.
    """

    kld: float = 1.0  # rate of round one, nats per latent position
    kld2: float = 3.0  # rate of round two
    stages: int = 2  # rounds, 1 or 2
    disentangle: bool = True  # find and subtract perturbations
    detect: bool = False  # purify only what looks poisoned, for sets that are poisoned in part
    epochs: int = 60  # of each autoencoder
    batch: int = 128
    lr: float = 0.005  # of Adam, cosine to 0
    width: int = 64  # channels of the first layers; latents have four times as many
    detector: str = "resnet18"  # network that decides what is poisoned
    detector_epochs: int = 60

    paper = D_VAE
    small: ClassVar[dict[str, Any]] = {"epochs": 2, "width": 8, "batch": 32, "detector": "small-cnn", "detector_epochs": 2}

    def __post_init__(self) -> None:
        if self.stages not in (1, 2) or min(self.kld, self.kld2, self.epochs, self.detector_epochs) < 0:
            raise EntryError(f"defense d-vae: expected 1 or 2 stages, rates and epochs of 0 or more, found {self}")
        if self.batch < 2 or self.width < 2:
            raise EntryError(f"defense d-vae: expected batch and width of 2 or more, found {self}")
        if self.detect and not self.disentangle:
            raise EntryError("defense d-vae: detect needs the perturbations that disentangle finds")

    def applies(self, info: DataInfo) -> None:
        if info.shape[1] % 2 or info.shape[2] % 2:
            raise NotApplicable(f"needs even sides, the images are {info.shape[1]}x{info.shape[2]}")

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        if not self.detect:
            return replace(train, images=self._both(train, job))
        rows = torch.nonzero(self.flagged(train, job)).flatten()
        job.note(flagged=len(rows) / len(train))
        images = train.levels(slice(None)).clone()
        if len(rows) > 1:
            images[rows] = self._both(replace(train, images=train.images[rows], labels=train.labels[rows]), job)
        return replace(train, images=images)

    def flagged(self, train: ImageSet, job: Job) -> Tensor:
        """Return which images look poisoned: bool (N,)."""
        from registry._vae import changed, trained

        model = trained(train, self.kld, self._recipe(), job, (0, 1))
        doubled = replace(train, images=changed(model, train, job, lambda x, image, perturbation: x + perturbation))
        net = self._classifier(doubled, job)
        with torch.no_grad():
            right = [
                net(train.pixels(where, job.device)).argmax(1).cpu() == train.labels[where] for where in train.batches(256)
            ]
        return torch.cat(right)

    def _recipe(self) -> "Recipe":
        from registry._vae import Recipe

        return Recipe(self.epochs, self.batch, self.lr, self.width, self.disentangle)

    def _both(self, train: ImageSet, job: Job) -> Tensor:
        from registry._vae import changed, trained

        def without(x: Tensor, image: Tensor, perturbation: Tensor) -> Tensor:
            return x - perturbation if self.disentangle else image

        def image(x: Tensor, image: Tensor, perturbation: Tensor) -> Tensor:
            return image

        first = changed(trained(train, self.kld, self._recipe(), job, (0, self.stages)), train, job, without)
        if self.stages == 1:
            return first
        once = replace(train, images=first)
        model = trained(once, self.kld2, self._recipe(), job, (1, 2))
        if not self.disentangle:
            return changed(model, once, job, image)
        twice = replace(train, images=changed(model, once, job, without))
        return changed(model, twice, job, image)

    def _classifier(self, train: ImageSet, job: Job) -> nn.Module:
        info = train.info
        net: nn.Module = ARCHITECTURES[self.detector](info.num_classes, info.shape[0], info.shape[1]).to(job.device).train()
        optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=5e-4)
        total = max(1, self.detector_epochs * math.ceil(len(train) / self.batch))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
        for _ in range(self.detector_epochs):
            for rows in torch.randperm(len(train), generator=job.generator).split(self.batch):
                loss = F.cross_entropy(net(train.pixels(rows, job.device)), train.labels[rows].to(job.device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return net.eval()
