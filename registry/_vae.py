"""A variational autoencoder with a capped rate, and a second decoder for what a class has in common and the rate left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from registry.contract import ImageSet, Job

RATE_WEIGHT = 0.01  # of the rate in the loss
QUIET = 11  # epochs before the size of the perturbation enters the loss, of 60
FREE = 0.002  # mean square of the perturbation that costs nothing
LARGEST = 5.0  # gradient norm


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


def _decoder(inside: int, width: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inside, width, 4, 2, 1),
        nn.ConvTranspose2d(width, width, 3, 1, 1),
        nn.InstanceNorm2d(width),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(width, width // 2, 3, 1, 1),
        nn.InstanceNorm2d(width // 2),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(width // 2, channels, 3, 1, 1),
    )


class DVae(nn.Module):
    """Encoder to half the side, 4 `width` latent channels; decoders of the image and of the perturbation of its class."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int) -> None:
        super().__init__()
        channels, height, rows = shape
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            Residual(width, width),
            Residual(width, width),
            Residual(width, 2 * width, 2),
        )
        self.mean = nn.Conv2d(2 * width, 4 * width, 1)
        self.log_variance = nn.Conv2d(2 * width, 4 * width, 1)
        self.code = nn.Conv2d(4 * width, 2 * width, 1)
        self.image = _decoder(2 * width, width, channels)
        self.perturbation = _decoder(2 * width, width, channels)
        self.class_code = nn.Parameter(torch.randn(classes, 2 * width, height // 2, rows // 2))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the image without what the rate leaves out, the perturbation, and the rate in nats per latent position."""
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        rate = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        z = self.code(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))  # (B, 2 width, H / 2, W / 2)
        return torch.sigmoid(self.image(z)), self.perturbation(z + self.class_code[y]), rate


@dataclass(frozen=True)
class Recipe:
    """How an autoencoder is trained; the fields of `d-vae` that it concerns."""

    epochs: int
    batch: int
    lr: float
    width: int
    disentangle: bool


def trained(train: ImageSet, target: float, recipe: Recipe, job: Job, done: tuple[int, int]) -> DVae:
    """Return an autoencoder fitted to the set with the rate held at `target`; `done` says which stage of how many it is."""
    model = DVae(train.info.shape, train.num_classes, recipe.width).to(job.device)
    optimizer = torch.optim.Adam(model.parameters(), recipe.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, recipe.epochs))
    quiet = round(QUIET / 60 * recipe.epochs)
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(train), generator=job.generator)
        for rows in order.split(recipe.batch):
            if len(rows) < min(recipe.batch, len(train)):
                break  # an incomplete last batch
            x, y = train.pixels(rows, job.device), train.labels[rows].to(job.device)
            image, perturbation, rate = model(x, y)
            loss = F.mse_loss(image, x) + RATE_WEIGHT * rate.clamp(min=target)
            if recipe.disentangle:
                loss = loss + F.mse_loss((image + perturbation).clamp(0, 1), x)
                if epoch >= quiet:
                    loss = loss + perturbation.square().mean().clamp(min=FREE)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), LARGEST)
            optimizer.step()
        schedule.step()
        job.progress(done[0] * recipe.epochs + epoch + 1, done[1] * recipe.epochs)
    return model.eval()


def passed(model: DVae, train: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Yield (slice, x, image, perturbation) over the set, on the device, latents sampled."""
    with torch.no_grad():
        for where in train.batches(256):
            x = train.pixels(where, job.device)
            image, perturbation, _ = model(x, train.labels[where].to(job.device))
            yield where, x, image, perturbation


def changed(model: DVae, train: ImageSet, job: Job, how: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Return `how(x, image, perturbation)` of every image, clipped and rounded to 8 bits: uint8 (N, C, H, W)."""
    result = torch.empty(train.images.shape, dtype=torch.uint8)
    for where, *parts in passed(model, train, job):
        result[where] = (how(*parts).clamp(0, 1) * 255).round_().byte().cpu()
    return result
