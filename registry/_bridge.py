"""Diffusion bridges (Zhou et al., ICLR 2024): ways between pairs of images, and a network that knows the one end.

At time 0 such a way is at the clean image, at LAST at the protected one; in between it is a mixture of both with Gaussian noise
(variance exploding). Images are in [-1, 1], (B, C, H, W); a time is a number, or (B, 1, 1, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from unlearnable_bench.registry._diffusion import SPREAD, diffusers_library

FIRST, LAST = 0.002, 80.0
SHORT_OF_LAST = 1e-4  # the way back begins so much before it, where its drift is finite
STEEPNESS = 7  # rho of Karras et al. (2022): times are closer together the smaller they are
TINY = 1e-44  # beside a time of 0
ATTENTION_SIDES = (32, 16, 8)  # pixels
WIDTHS = (1, 2, 3, 4)  # channels at each scale, in parts of the first
HEAD = 64  # channels of a head of an attention

BridgeNetwork = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(scaled x, clock (B,), protected) -> (B, C, H, W)."""


def way_back(steps: int) -> list[float]:
    """Return the times of the way back, from just before LAST to FIRST, and 0."""
    high, low = (end ** (1 / STEEPNESS) for end in (LAST - SHORT_OF_LAST, FIRST))
    return [(high + step / max(1, steps - 1) * (low - high)) ** STEEPNESS for step in range(steps)] + [0.0]


@dataclass(frozen=True)
class Scales:
    """What a network is told of x at a time, and how its answer becomes an image, so that both have variance 1."""

    of_x: Tensor
    kept: Tensor  # factor of x in the image
    of_answer: Tensor

    @classmethod
    def at(cls, time: Tensor) -> Scales:
        protected = time.square() / LAST**2
        own = (1 - protected) * SPREAD**2
        left = protected.square() * SPREAD**4 + time.square() * own
        variance = protected.square() * SPREAD**2 + (1 - protected) * own + time.square() * (1 - protected)
        return cls(variance.rsqrt(), own / variance, (left / variance).sqrt())


def on_the_way(clean: Tensor, protected: Tensor, time: Tensor, noise: Tensor) -> Tensor:
    """Return x at a time."""
    part = time.square() / LAST**2
    return part * protected + (1 - part) * clean + time * (1 - part).sqrt() * noise


def clean_guess(net: BridgeNetwork, x: Tensor, protected: Tensor, time: Tensor) -> Tensor:
    """Return the image at the clean end that the network sees behind x; `time` (B, 1, 1, 1)."""
    scales = Scales.at(time)
    clock = 250 * (time.flatten() + TINY).log()
    return scales.of_answer * net(scales.of_x * x, clock, protected) + scales.kept * x


def bridge_loss(net: BridgeNetwork, clean: Tensor, protected: Tensor, time: Tensor, noise: Tensor) -> Tensor:
    """Return the weighted squared errors of the guess, (B,): those of an answer of variance 1."""
    x = on_the_way(clean, protected, time, noise)
    off = (clean_guess(net, x, protected, time) - clean) / Scales.at(time).of_answer
    return off.square().mean((1, 2, 3))


@dataclass(frozen=True)
class WayBack:
    """A sampler: of every step, a part by Euler with noise and the rest by Heun without, as far as the pull to the end goes."""

    net: BridgeNetwork
    protected: Tensor
    churn: float  # part of a step that is random, 0..1 without 1
    guidance: float  # factor of the pull to the protected image in the rest
    noise: Callable[[Tensor], Tensor]

    def followed(self, steps: int) -> Tensor:
        """Return the images at the clean end."""
        x = self.protected
        for start, end in pairwise(way_back(steps)):
            x = self._step(x, start, end)
        return x.clamp(-1, 1)

    def _step(self, x: Tensor, start: float, end: float) -> Tensor:
        if self.churn:
            middle = start + self.churn * (end - start)
            drift = 2 * self._from_clean(x, start)
            x = x + (middle - start) * drift + math.sqrt(2 * start * (start - middle)) * self.noise(x)
            start = middle
        slope = self._slope(x, start)
        there = x + (end - start) * slope
        if end == 0:
            return there
        return x + (end - start) * (slope + self._slope(there, end)) / 2

    def _slope(self, x: Tensor, time: float) -> Tensor:
        """Return dx/dt of the way without noise."""
        to_end = (self.protected - x) / (LAST**2 - time**2)
        return self._from_clean(x, time) + self.guidance * time * to_end

    def _from_clean(self, x: Tensor, time: float) -> Tensor:
        at = torch.full((len(x), 1, 1, 1), time, dtype=x.dtype, device=x.device)
        return (x - clean_guess(self.net, x, self.protected, at).clamp(-1, 1)) / time


class BesideProtected(nn.Module):
    """A UNet of diffusers with the layers of the authors' network, which sees the protected image as more channels."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, clock: Tensor, protected: Tensor) -> Tensor:
        seen = torch.cat([x, protected], 1).contiguous(memory_format=torch.channels_last)
        found: Tensor = self.unet(seen, clock).sample
        return found


def bridge_network(owner: str, shape: tuple[int, int, int], width: int, blocks: int, dropout: float) -> BesideProtected:
    """Return a network for images of this shape. Its residual branches and its last layer start at zero."""
    channels, height, across = shape
    attends = [height >> scale in ATTENTION_SIDES for scale in range(len(WIDTHS))]
    unet = diffusers_library(owner).UNet2DModel(
        sample_size=(height, across),
        in_channels=2 * channels,
        out_channels=channels,
        layers_per_block=blocks,
        block_out_channels=tuple(width * times for times in WIDTHS),
        down_block_types=tuple("AttnDownBlock2D" if found else "ResnetDownsampleBlock2D" for found in attends),
        up_block_types=tuple("AttnUpBlock2D" if found else "ResnetUpsampleBlock2D" for found in reversed(attends)),
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=math.gcd(HEAD, width),
        resnet_time_scale_shift="scale_shift",
        norm_num_groups=math.gcd(32, width),
        attn_norm_num_groups=math.gcd(32, width),  # in the middle too
        dropout=dropout,
    )
    for name, layer in unet.named_modules():
        if name.endswith((".conv2", ".to_out.0", "conv_out")):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return BesideProtected(unet.to(memory_format=torch.channels_last))
