"""The small convolutional network of the quick look."""

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import ARCHITECTURES


class SmallCNN(nn.Module):
    """Three 3x3 convolutions of stride 2 with batch normalisation, global average pool, one linear layer."""

    def __init__(self, num_classes: int, in_channels: int, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        blocks = []
        for inside, outside in zip((in_channels, *widths), widths, strict=False):
            convolution = nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False)
            blocks.append(nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True)))
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], num_classes)

    def features(self, x: Tensor) -> Tensor:
        return torch.mean(self.body(x), (2, 3))  # (B, 64)

    def layers(self) -> list[nn.Module]:
        return [*self.body, self.head]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # type: ignore[no-any-return]


@ARCHITECTURES.register("small-cnn", display_name="Small CNN")
def small_cnn(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """Three strided convolutions of 16, 32 and 64 channels, 24,346 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. The global average pool matters: with a
    flattened head a small network finds no autoregressive poison. Source: this repository.
    """
    return SmallCNN(num_classes, in_channels)
