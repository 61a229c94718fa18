"""GoogLeNet for small images, with batch normalisation."""

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import ARCHITECTURES
from unlearnable_bench.registry.architectures._network import GlobalPool, Network, normalised

STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""Channels of a block as in table 1 of the paper: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool; a max-pool between stages."""


class _Inception(nn.Module):
    """Four branches side by side; the 5x5 one is two 3x3."""

    def __init__(self, inside: int, one: int, three_in: int, three: int, five_in: int, five: int, pool: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            (
                normalised(nn.Conv2d(inside, one, 1)),
                nn.Sequential(
                    normalised(nn.Conv2d(inside, three_in, 1)),
                    normalised(nn.Conv2d(three_in, three, 3, padding=1)),
                ),
                nn.Sequential(
                    normalised(nn.Conv2d(inside, five_in, 1)),
                    normalised(nn.Conv2d(five_in, five, 3, padding=1)),
                    normalised(nn.Conv2d(five, five, 3, padding=1)),
                ),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), normalised(nn.Conv2d(inside, pool, 1))),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


@ARCHITECTURES.register("googlenet", display_name="GoogLeNet")
def googlenet(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """GoogLeNet for CIFAR (3x3 stem of stride 1 with 192 channels, batch normalisation), 6,166,250 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. Szegedy et al., CVPR 2015, in the form of the
    CIFAR code bases: convolutions with biases, no auxiliary heads, no dropout. Used by the learn-from-unlearnable paper.
    Weights are drawn as torch draws them.
    """
    parts: list[nn.Module] = [normalised(nn.Conv2d(in_channels, 192, 3, padding=1))]
    inside = 192
    for number, stage in enumerate(STAGES):
        if number:
            parts.append(nn.MaxPool2d(3, stride=2, padding=1))
        for one, three_in, three, five_in, five, pool in stage:
            parts.append(_Inception(inside, one, three_in, three, five_in, five, pool))
            inside = one + three + five + pool
    return Network([*parts, GlobalPool()], nn.Linear(inside, num_classes))
