"""Improved diffusion (Nichol and Dhariwal, ICML 2021): a cosine schedule, variances that are learned, and a step back.

Steps count from 0, which leaves nearly all of an image, to LEVELS - 1. Images are in [-1, 1], (B, C, H, W); `step` is (B,).
A network returns twice the channels of x: the noise, and where between its bounds the logarithm of the variance lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._diffusion import Averaging, averaged, diffusers_library

LEVELS = 4000
CLOCK = 1000  # what a network is told of the last step, however many there are
BOUND_WEIGHT = LEVELS / 1000  # of the variational bound in the loss, in bits per value
ATTENTION_SIDES = (16, 8)  # pixels
WIDTHS = {64: (1, 2, 3, 4)}  # channels at each scale, in parts of the first, by the side of an image
USUAL_WIDTHS = (1, 2, 2, 2)
HEADS = 4  # of an attention
HALF_LEVEL = 1 / 255  # of 8 bits, in [-1, 1]


def cosine_betas() -> Tensor:
    """The variance of the noise of every step, float64 (LEVELS,)."""
    time = torch.arange(LEVELS + 1, dtype=torch.float64) / LEVELS
    kept = ((time + 0.008) / 1.008 * math.pi / 2).cos().square()
    return (1 - kept[1:] / kept[:-1]).clamp(max=0.999)


@dataclass(frozen=True)
class CosineSchedule:
    """What the formulas of a diffusion need of every step, each float32 (LEVELS,)."""

    signal: Tensor  # factor of the image
    noise: Tensor  # factor of the noise
    from_image: Tensor  # factors of image and x in the mean of the step before
    from_x: Tensor
    log_least: Tensor  # bounds of the variance of the step before
    log_most: Tensor

    @classmethod
    def on(cls, device: torch.device) -> CosineSchedule:
        beta = cosine_betas()
        kept = (1 - beta).cumprod(0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
        variance = beta * (1 - before) / (1 - kept)
        variance[0] = variance[1]  # it is 0, and has no logarithm
        from_image = beta * before.sqrt() / (1 - kept)
        from_x = (1 - before) * (1 - beta).sqrt() / (1 - kept)
        tables = (kept.sqrt(), (1 - kept).sqrt(), from_image, from_x, variance.log(), beta.log())
        return cls(*(table.float().to(device) for table in tables))

    def noised(self, image: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """Return x: an image with noise."""
        return _at(self.signal, step) * image + _at(self.noise, step) * noise

    def image(self, x: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """Return the image in x if this is its noise."""
        return (x - _at(self.noise, step) * noise) / _at(self.signal, step)

    def previous(self, image: Tensor, x: Tensor, step: Tensor) -> Tensor:
        """Return the mean of the step before x, if this is the image in x."""
        return _at(self.from_image, step) * image + _at(self.from_x, step) * x

    def log_variance(self, place: Tensor, step: Tensor) -> Tensor:
        """Return the logarithm of the variance of the step before; `place` is -1 at its lower bound and 1 at its upper."""
        part = (place + 1) / 2
        return part * _at(self.log_most, step) + (1 - part) * _at(self.log_least, step)


def _at(table: Tensor, step: Tensor) -> Tensor:
    return table[step].view(-1, 1, 1, 1)


Network = Callable[[Tensor, Tensor], Tensor]
"""(x, step) -> (B, 2C, H, W)."""


def step_back(net: Network, schedule: CosineSchedule, x: Tensor, level: int, noise: Callable[[Tensor], Tensor]) -> Tensor:
    """Return one sample of the step before `level`; the last one draws no noise."""
    step = torch.full((len(x),), level, device=x.device)
    found, place = net(x, step).chunk(2, 1)
    mean = schedule.previous(schedule.image(x, found, step).clamp(-1, 1), x, step)
    if level == 0:
        return mean
    return mean + (schedule.log_variance(place, step) / 2).exp() * noise(x)


def hybrid_loss(net: Network, schedule: CosineSchedule, image: Tensor, noise: Tensor, step: Tensor) -> Tensor:
    """Return the losses of images, (B,): the squared error of the noise, and the bound, which trains the variance alone."""
    x = schedule.noised(image, noise, step)
    found, place = net(x, step).chunk(2, 1)
    bound = _bound(schedule, image, x, found.detach(), place, step)
    return (found - noise).square().mean((1, 2, 3)) + BOUND_WEIGHT * bound


def _bound(schedule: CosineSchedule, image: Tensor, x: Tensor, found: Tensor, place: Tensor, step: Tensor) -> Tensor:
    """Return the part of the variational bound at a step, bits per value, (B,)."""
    mean = schedule.previous(schedule.image(x, found, step), x, step)
    log_variance = schedule.log_variance(place, step)
    expected, log_expected = schedule.previous(image, x, step), _at(schedule.log_least, step)
    ratio = log_expected - log_variance
    divergence = (ratio.exp() - 1 - ratio + (expected - mean).square() * (-log_variance).exp()) / 2
    lost = torch.where((step == 0).view(-1, 1, 1, 1), _surprise(image, mean, log_variance), divergence)
    return lost.mean((1, 2, 3)) / math.log(2)


def _surprise(image: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return minus the logarithm of the probability that a normal distribution gives to each value, one of 256 levels."""
    precision = (-log_variance / 2).exp()
    below = _normal(precision * (image - mean + HALF_LEVEL))
    above = _normal(precision * (image - mean - HALF_LEVEL))
    inside = torch.where(image < -0.999, below, torch.where(image > 0.999, 1 - above, below - above))
    return -inside.clamp(min=1e-12).log()


def _normal(x: Tensor) -> Tensor:
    """Return the distribution function of the normal distribution, as tanh comes near it."""
    return (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh()) / 2


# The network and its training


class NoiseAndVariance(nn.Module):
    """A UNet of diffusers with the layers of the authors' network."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        clock = step.float() * (CLOCK / LEVELS)
        found: Tensor = self.unet(x.contiguous(memory_format=torch.channels_last), clock).sample
        return found


def untrained(owner: str, shape: tuple[int, int, int], width: int, blocks: int, dropout: float) -> NoiseAndVariance:
    """Return a network for images of this shape. Its residual branches and its last layer start at zero."""
    channels, height, across = shape
    widths = WIDTHS.get(height, USUAL_WIDTHS)
    attends = [height >> scale in ATTENTION_SIDES for scale in range(len(widths))]
    unet = diffusers_library(owner).UNet2DModel(
        sample_size=(height, across),
        in_channels=channels,
        out_channels=2 * channels,
        layers_per_block=blocks,
        block_out_channels=tuple(width * times for times in widths),
        down_block_types=tuple("AttnDownBlock2D" if found else "DownBlock2D" for found in attends),
        up_block_types=tuple("AttnUpBlock2D" if found else "UpBlock2D" for found in reversed(attends)),
        attention_head_dim=width * widths[-1] // HEADS,
        resnet_time_scale_shift="scale_shift",
        norm_num_groups=math.gcd(32, width),
        attn_norm_num_groups=math.gcd(32, width),  # in the middle too
        dropout=dropout,
    )
    for name, layer in unet.named_modules():
        if name.endswith((".conv2", ".to_out.0", "conv_out")):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return NoiseAndVariance(unet.to(memory_format=torch.channels_last))


@dataclass(frozen=True)
class DiffusionRecipe:
    """How such a network is trained, by Adam at a constant rate."""

    steps: int
    batch: int  # images
    lr: float
    top: int  # levels, from the lowest, that it learns
    ema: float  # part of the averaged weights that a step keeps


def trained(
    net: NoiseAndVariance, clean: ImageSet, recipe: DiffusionRecipe, run: Crafting, progress: Callable[[int], None]
) -> NoiseAndVariance:
    """Train it on images drawn anew at every step; return the network of its averaged weights."""
    schedule, generator = CosineSchedule.on(run.device), run.job.generator

    def loss() -> Tensor:
        rows = torch.randint(len(clean), (recipe.batch,), generator=generator)
        image = clean.pixels(rows, run.device) * 2 - 1
        noise = torch.randn(image.shape, generator=generator).to(run.device)
        step = torch.randint(recipe.top, (recipe.batch,), generator=generator).to(run.device)
        return hybrid_loss(net, schedule, image, noise, step).mean()

    average = Averaging("diffusion trains", recipe.steps, recipe.batch, recipe.ema)
    return averaged(net, torch.optim.Adam(net.train().parameters(), recipe.lr), average, loss, run, progress)
