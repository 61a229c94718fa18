"""D-VAE: a rate too low to carry a shortcut, a decoder that collects what it left out, which is then subtracted."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import ARCHITECTURES, DEFENSES, Defense, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._papers import D_VAE
from unlearnable_bench.registry.contract import DataInfo

if TYPE_CHECKING:
    from unlearnable_bench.registry._vae import AutoencoderRecipe, SuccessiveNetworks


def _without(x: Tensor, image: Tensor, perturbation: Tensor) -> Tensor:
    return x - perturbation


def _image(x: Tensor, image: Tensor, perturbation: Tensor) -> Tensor:
    return image


@DEFENSES.register("d-vae")
@dataclass(frozen=True)
class DisentanglingVae(Defense):
    """Subtract the perturbations that a rate-constrained autoencoder finds, in two rounds; then keep its output.

    Round one subtracts with rate `kld1`; round two, trained on what is left, subtracts with rate `kld2`, and a second pass of
    it gives the images to learn from. `ablation` leaves parts out, as table 7 does: round one (`wo_s1`), the subtraction of
    round two (`wo_i2_in_s2`), round two (`wo_s2`), the last pass (`wo_i3`), or round two with the last pass made by the
    network of round one (`s1_then_i3`). `stages=1` is one round of rate `kld1` whose images are kept (figure 6);
    without `disentangle` it is the plain autoencoder of equation 3 (figure 2). With `detect` (tables 8, 9, 11, 12) a
    network trained on all images plus their perturbation of round one decides which are poisoned, namely those whose
    original it classifies as labelled; only these go through both rounds, on their own.

    Beside the purified set: `p_hat`, the perturbations that the first round found, float16 in pixel units (for sets up to
    2^29 values); `flagged`, which images looked poisoned. In its manifest: rate and PSNR of each round between what went in
    and the image, dB, by which the authors chose the rates (20 to 22 in round one, 28 to 30 in round two).

    Network and loss are the published code's, which weighs the rate by 0.5 up to 0.99 and by 0.01 above, clips the sum of both
    decoders and leaves the size of the perturbation free for the first 11 epochs. Changed: images are rounded to 8 bits, not
    cut off. Not stated: how long the deciding network trains; ours is 60 epochs of SGD from 0.1 with a cosine and no
    augmentation. Rates: 1.0 and 3.0 on CIFAR-10, 1.0 and 4.5 on CIFAR-100 (3.0 in an appendix), 1.5 and 3.0 on ImageNet, there
    with 20 epochs and `shrink=8`. Its layers are those of the code, where the code of a class has 128 x 16 x 16 values and fits
    no image; ours has one for each of what the encoder gives. The last pass is given rounded images, in the code unrounded
    ones.
    """

    kld1: float = 1.0  # rate of round one, nats per latent position
    kld2: float = 3.0  # rate of round two
    stages: int = 2  # rounds, 1 or 2
    disentangle: bool = True  # find and subtract perturbations
    ablation: Literal["full", "wo_s1", "wo_i2_in_s2", "wo_s2", "wo_i3", "s1_then_i3"] = "full"  # what is left out, see above
    detect: bool = False  # purify only what looks poisoned, for sets that are poisoned in part
    shrink: int = 2  # factor by which the encoder of round one shrinks the sides, 2 or 8; in round two it is 2
    epochs: int = 60  # of each autoencoder
    batch: int = 128  # images
    lr: float = 0.005  # of Adam, cosine to 0
    width: int = 64  # channels of the first layers; latents have four times as many
    detector: str = "resnet18"  # network that decides what is poisoned
    detector_epochs: int = 60  # of the detector

    display_name = "D-VAE purification"
    label = "D-VAE"
    version: ClassVar[int] = 2  # weight of low rates, epochs without a penalty, decoder of shrink=8
    paper = D_VAE
    small: ClassVar[dict[str, Any]] = {"epochs": 2, "width": 8, "batch": 32, "detector": "small-cnn", "detector_epochs": 2}

    def __post_init__(self) -> None:
        if self.stages not in (1, 2) or min(self.kld1, self.kld2, self.epochs, self.detector_epochs) < 0:
            raise EntryError(f"defense d-vae: expected 1 or 2 stages, rates and epochs of 0 or more, found {self}")
        if self.batch < 2 or self.width < 2 or self.shrink not in (2, 8):
            raise EntryError(f"defense d-vae: expected batch and width of 2 or more, and shrink of 2 or 8, found {self}")
        if self.detect and not self.disentangle:
            raise EntryError("defense d-vae: detect needs the perturbations that disentangle finds")
        if self.ablation != "full" and not (self.disentangle and self.stages == 2):
            raise EntryError(f"defense d-vae: ablation={self.ablation} leaves out a part of two stages that disentangle")

    def applies(self, info: DataInfo) -> None:
        if info.shape[1] % self.shrink or info.shape[2] % self.shrink:
            sides = "even sides" if self.shrink == 2 else f"sides that {self.shrink} divides"
            raise NotApplicable(f"needs {sides}, the images are {info.shape[1]}x{info.shape[2]}")

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from unlearnable_bench.registry._vae import SuccessiveNetworks

        rounds = SuccessiveNetworks(train, job, self.stages + 2 * self.detect)
        if not self.detect:
            return replace(train, images=self._rounds(train, rounds))
        flagged = self.flagged(train, rounds)
        job.keep("flagged", flagged.numpy())
        job.note(flagged=float(flagged.double().mean()))
        images, rows = job.empty(train.images.shape, torch.uint8), torch.nonzero(flagged).flatten()
        for where in train.batches():
            images[where] = train.levels(where)
        if len(rows) > 1:
            found = job.empty((len(rows), *train.info.shape), train.images.dtype)
            poisoned = replace(train, images=found, labels=train.labels[rows])
            for where in poisoned.batches():
                found[where] = train.images[rows[where]]
            images[rows] = self._rounds(poisoned, rounds)
        return replace(train, images=images)

    def flagged(self, train: ImageSet, rounds: "SuccessiveNetworks") -> Tensor:
        """Return which images look poisoned: bool (N,)."""
        from unlearnable_bench.registry._vae import at_once

        fitted = rounds.autoencoder(train, self.kld1, self._recipe(), self.shrink)
        images = fitted.changed(train, lambda x, image, perturbation: x + perturbation, estimate="p_hat")
        shape, device = train.info.shape, rounds.job.device
        net = ARCHITECTURES[self.detector](train.num_classes, shape[0], shape[1]).to(device).train()
        optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=5e-4)
        doubled = replace(train, images=images)
        rounds.fit(net, doubled, lambda net, x, y, _: F.cross_entropy(net(x), y), optimizer, self.detector_epochs, self.batch)
        net.eval()
        with torch.no_grad():
            parts = [(net(train.pixels(where, device)).argmax(1).cpu(), where) for where in train.batches(at_once(train))]
        return torch.cat([found == train.labels[where] for found, where in parts])

    def _recipe(self) -> "AutoencoderRecipe":
        from unlearnable_bench.registry._vae import AutoencoderRecipe

        return AutoencoderRecipe(self.epochs, self.batch, self.lr, self.width, self.disentangle)

    def _rounds(self, train: ImageSet, rounds: "SuccessiveNetworks") -> Tensor:
        """Return the images after the rounds, uint8 (N, C, H, W): algorithm 1, or what is left of it."""
        left_out, estimate = self.ablation, "" if self.detect else "p_hat"
        if left_out != "wo_s1":
            first = rounds.autoencoder(train, self.kld1, self._recipe(), self.shrink)
            alone = self.stages == 1 or not self.disentangle
            images = first.changed(train, _image if alone else _without, estimate if self.disentangle else "")
            rounds.job.note(rate1=first.rate, psnr1=first.psnr)
            train, estimate = replace(train, images=images), ""
            if self.stages == 1 or left_out == "wo_s2":
                return images
            if left_out == "s1_then_i3":
                return first.changed(train, _image)
        second, subtracted = (
            rounds.autoencoder(train, self.kld2, self._recipe()),
            self.disentangle and left_out != "wo_i2_in_s2",
        )
        images = second.changed(train, _without if subtracted else _image, estimate)
        rounds.job.note(rate2=second.rate, psnr2=second.psnr)
        if not subtracted or left_out == "wo_i3":
            return images
        return second.changed(replace(train, images=images), _image)
