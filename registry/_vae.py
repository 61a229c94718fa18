"""A variational autoencoder with a capped rate, and a second decoder for what a class has in common and the rate left out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry.contract import ImageSet, Job

RATE_WEIGHT, LOW_RATE_WEIGHT = 0.01, 0.5  # of the rate in the loss; the second where the rate is held at LOW_RATE or less
LOW_RATE = 0.99  # nats per latent position
QUIET = 11  # epochs before the size of the perturbation enters the loss
FREE = 0.002  # mean square of the perturbation that costs nothing
LARGEST = 5.0  # gradient norm
KEPT = 1 << 29  # values up to which estimated perturbations are kept beside a set, in half precision
FACTORS = (2, 8)  # by which an encoder may shrink the sides

Loss = Callable[[nn.Module, Tensor, Tensor, float], Tensor]  # of model, x, y and the part of training that is over, 0..1


class Residual(nn.Module):
    """Two 3x3 convolutions with batch normalisation beside a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.branch(x) + self.shortcut(x))


def _encoder(channels: int, width: int, factor: int) -> nn.Sequential:
    """A ResNet-18 of so many channels up to the first block of its second stage (factor 2) or of its last (factor 8)."""
    parts: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    parts += [Residual(width, width), Residual(width, width), Residual(width, 2 * width, 2)]
    for wide in (2 * width, 4 * width) if factor == 8 else ():
        parts += [Residual(wide, wide), Residual(wide, 2 * wide, 2)]
    return nn.Sequential(*parts)


def _decoder(width: int, channels: int, factor: int) -> nn.Sequential:
    """Transposed convolutions back to the sides of the image, in pairs; each pair but the last convolution has a norm behind.

    A convolution of kernel 4 doubles the sides. Factor 2 does that once, factor 8 three times, the last time at the end.
    """
    half, last = width // 2, 3 if factor == 2 else 4
    pairs: list[tuple[tuple[int, int, int], ...]]  # widths inside and outside, and the kernel, of the convolutions in a pair
    if factor == 2:
        pairs = [((2 * width, width, 4), (width, width, 3)), ((width, half, 3),)]
    else:
        pairs = [((8 * width, 4 * width, 4), (4 * width, 2 * width, 3)), ((2 * width, width, 4), (width, half, 3))]
    parts: list[nn.Module] = []
    for pair in pairs:
        parts += [_transposed(*sizes) for sizes in pair]
        parts += [nn.InstanceNorm2d(pair[-1][1]), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts, _transposed(half, channels, last))


def _transposed(inside: int, outside: int, kernel: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution that doubles the sides, with a kernel of 4, or keeps them, with one of 3."""
    return nn.ConvTranspose2d(inside, outside, kernel, kernel - 2, 1)


class DVae(nn.Module):
    """Encoder to a half or an eighth of the side, 4 `width` latent channels; decoders of the image and of the perturbation
    of its class."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int, factor: int = 2) -> None:
        super().__init__()
        channels, height, rows = shape
        top = factor * width
        self.encoder = _encoder(channels, width, factor)
        self.mean = nn.Conv2d(top, 4 * width, 1)
        self.log_variance = nn.Conv2d(top, 4 * width, 1)
        self.code = nn.Conv2d(4 * width, top, 1)
        self.image = _decoder(width, channels, factor)
        self.perturbation = _decoder(width, channels, factor)
        self.class_code = nn.Parameter(torch.randn(classes, top, height // factor, rows // factor))

    def forward(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the image without what the rate leaves out, the perturbation, and the rate in nats per latent position."""
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        rate = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        z = self.code(mean + (0.5 * log_variance).exp() * noise)  # (B, factor width, H / factor, W / factor)
        return torch.sigmoid(self.image(z)), self.perturbation(z + self.class_code[y]), rate


class AutoEncoder(nn.Module):
    """Encoder and decoder of the image alone, with a code of so many channels at half the side in between; nothing is drawn."""

    def __init__(self, channels: int, width: int, latents: int) -> None:
        super().__init__()
        self.encoder = _encoder(channels, width, 2)
        self.narrow = nn.Conv2d(2 * width, latents, 1)
        self.code = nn.Conv2d(latents, 2 * width, 1)
        self.image = _decoder(width, channels, 2)

    def forward(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the image, and no perturbation and no rate, as `Fitted` wants them; y and the generator are not looked at."""
        image = torch.sigmoid(self.image(self.code(self.narrow(self.encoder(x)))))
        return image, torch.zeros_like(x), torch.zeros((), device=x.device)


@dataclass(frozen=True)
class AutoencoderRecipe:
    """How an autoencoder is trained; the fields of `d-vae` that it concerns."""

    epochs: int
    batch: int
    lr: float
    width: int
    disentangle: bool = True
    steps: int = 0  # training steps at least: more epochs where these are fewer

    def passes(self, images: int) -> int:
        """How many epochs a set of so many images is trained on."""
        return max(self.epochs, math.ceil(self.steps / max(1, images // self.batch)))


class Fitted:
    """A trained autoencoder; what it does to images is drawn with numbers of its own, so that it can be done again."""

    def __init__(self, model: nn.Module, job: Job, seed: int) -> None:
        self.model, self.job = model.eval(), job
        self.device_generator = torch.Generator(job.device).manual_seed(seed)
        self.rate, self.psnr = math.nan, math.nan  # of the images last passed: nats per latent position, dB

    def passed(self, train: ImageSet, at_once: int = 256) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Yield (slice, x, image, perturbation) over the set, on the device, latents sampled."""
        rate = error = 0.0
        for where in train.batches(at_once):
            x = train.pixels(where, self.job.device)
            with torch.no_grad():
                image, perturbation, own = self.model(x, train.labels[where].to(self.job.device), self.device_generator)
            rate += float(own) * len(x)
            error += float(F.mse_loss(image, x)) * len(x)
            yield where, x, image, perturbation
        self.rate, self.psnr = rate / len(train), -10 * math.log10(max(error / len(train), 1e-10))

    def changed(self, train: ImageSet, how: Callable[[Tensor, Tensor, Tensor], Tensor], estimate: str = "") -> Tensor:
        """Return `how(x, image, perturbation)` of every image, clipped and rounded to 8 bits: uint8 (N, C, H, W).

        Under the name `estimate` the perturbations are kept beside the set, float16, pixel units, if they are not too many.
        """
        result = self.job.empty(train.images.shape, torch.uint8)
        kept = Estimates(train, self.job, estimate)
        for where, *parts in self.passed(train, at_once(train)):
            result[where] = (how(*parts).clamp(0, 1) * 255).round_().byte().cpu()
            kept.add(where, parts[2])
        kept.close()
        return result


class Estimates:
    """Perturbations, float16 (N, C, H, W), pixel units, kept beside a set under a name; not if there is none, or too many."""

    def __init__(self, train: ImageSet, job: Job, name: str) -> None:
        self.job, self.name = job, name
        wanted = name and train.images.numel() <= KEPT
        self.values = np.empty(tuple(train.images.shape), np.float16) if wanted else None

    def add(self, where: slice, perturbation: Tensor) -> None:
        if self.values is not None:
            self.values[where] = perturbation.half().cpu().numpy()

    def close(self) -> None:
        if self.values is not None:
            self.job.keep(self.name, self.values)


def at_once(train: ImageSet) -> int:
    """How many images go through an autoencoder together: 256 of 32x32, fewer of larger ones."""
    return max(1, min(256, (256 << 10) // (train.images.shape[2] * train.images.shape[3])))


class SuccessiveNetworks:
    """Networks that are trained one after the other on the same images, or on what the one before left of them.

    A checkpoint once a minute: a process that was killed goes on to the same result, with the networks that were finished.
    """

    def __init__(self, train: ImageSet, job: Job, count: int) -> None:
        self.run, self.job, self.count = Crafting(train, job), job, count
        self.seeds = torch.randint(2**62, (count,), generator=job.generator).tolist()
        state = job.load()
        self.finished: list[dict[str, Tensor]] = [] if state is None else state["loop"]["finished"]
        self.fitted = 0.0 if state is None else float(state["loop"]["fitted"])  # seconds
        self.noted = job.notes.get("fit_seconds", 0.0)  # of purifiers to the left in a chain
        self.begun = 0  # networks so far

    def autoencoder(self, train: ImageSet, target: float, recipe: AutoencoderRecipe, factor: int = 2) -> Fitted:
        """Return one fitted to a set with the rate held at `target`; `factor`: by which it shrinks the sides."""
        weight = LOW_RATE_WEIGHT if target <= LOW_RATE else RATE_WEIGHT
        quiet = QUIET / max(1, recipe.epochs)  # part of training, so that it grows with what `steps` adds

        def loss(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
            image, perturbation, rate = model(x, y)
            total: Tensor = F.mse_loss(image, x) + weight * rate.clamp(min=target)
            if recipe.disentangle:
                total = total + F.mse_loss((image + perturbation).clamp(0, 1), x)
                if progress >= quiet:
                    total = total + perturbation.square().mean().clamp(min=FREE)
            return total

        seed = self.seeds[self.begun]
        model = DVae(train.info.shape, train.num_classes, recipe.width, factor).to(self.job.device)
        self.fit(model, train, loss, torch.optim.Adam(model.parameters(), recipe.lr), recipe.passes(len(train)), recipe.batch)
        return Fitted(model, self.job, seed)

    def fit(
        self, model: nn.Module, train: ImageSet, loss: Loss, optimizer: torch.optim.Optimizer, epochs: int, batch: int
    ) -> None:
        """Train a network in place: a cosine by epochs, no incomplete last batch, no augmentation."""
        number, start = self.begun, 0
        self.begun += 1
        if number < len(self.finished):
            model.load_state_dict(self.finished[number])
            return
        began = time.perf_counter()
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, epochs))
        if (state := self.run.resume(str(number))) is not None:
            start = state["epoch"]
            for part in (model, optimizer, schedule):
                part.load_state_dict(state[type(part).__name__])
        for epoch in range(start, epochs):
            if self.run.due:
                parts = {type(part).__name__: part.state_dict() for part in (model, optimizer, schedule)}
                fitted = self.fitted + time.perf_counter() - began
                self.run.keep(str(number), {"epoch": epoch, "finished": self.finished, "fitted": fitted, **parts})
            for rows in torch.randperm(len(train), generator=self.job.generator).split(batch):
                if len(rows) < min(batch, len(train)):
                    break
                x, y = train.pixels(rows, self.job.device), train.labels[rows].to(self.job.device)
                value = loss(model, x, y, epoch / epochs)
                optimizer.zero_grad()
                value.backward()
                nn.utils.clip_grad_norm_(model.parameters(), LARGEST)
                optimizer.step()
            schedule.step()
            self.job.progress(number * epochs + epoch + 1, self.count * epochs)
        self.finished.append(model.state_dict())
        self.fitted += time.perf_counter() - began
        self.job.note(fit_seconds=self.noted + self.fitted)
