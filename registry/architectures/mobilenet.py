"""MobileNet-V2: the form of the CIFAR code bases, and the stock network of timm."""

from typing import Any

from torch import Tensor, nn

from unlearnable_bench.registry import ARCHITECTURES
from unlearnable_bench.registry.architectures._network import GlobalPool, Network, draw_as_he, normalised

STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and first stride; the second stage has stride 2 in the stock network."""


class _Inverted(nn.Module):
    """Expand by 1x1, 3x3 for each channel, project by 1x1; at stride 1 plus a shortcut, a 1x1 where the channels change."""

    def __init__(self, inside: int, outside: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.branch = nn.Sequential(
            *normalised(nn.Conv2d(inside, wide, 1, bias=False)),
            *normalised(nn.Conv2d(wide, wide, 3, stride, padding=1, groups=wide, bias=False)),
            nn.Conv2d(wide, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.shortcut: nn.Module | None = None
        if stride == 1:
            self.shortcut = nn.Identity()
            if inside != outside:
                self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return branch if self.shortcut is None else branch + self.shortcut(x)


@ARCHITECTURES.register("mobilenetv2", display_name="MobileNetV2")
def mobilenetv2(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """MobileNet-V2 for CIFAR (stride 1 in the stem and the second stage), 2,296,922 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. Sandler et al., CVPR 2018, as in the code of
    APBench and iss: ReLU rather than ReLU6, a 1x1 shortcut where channels change at stride 1, no dropout. Weights are drawn
    as torch draws them.
    """
    stem = normalised(nn.Conv2d(in_channels, 32, 3, padding=1, bias=False))
    blocks, inside = [], 32
    for expansion, outside, count, stride in STAGES:
        for number in range(count):
            blocks.append(_Inverted(inside, outside, expansion, 1 if number else stride))
            inside = outside
    last = normalised(nn.Conv2d(inside, 1280, 1, bias=False))
    return Network([stem, *blocks, last, GlobalPool()], nn.Linear(1280, num_classes))


@ARCHITECTURES.register("mobilenetv2-imagenet", display_name="MobileNetV2, ImageNet stem", label="MobileNetV2 (ImageNet)")
def mobilenetv2_imagenet(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """MobileNet-V2 as for ImageNet (five strides of 2, dropout 0.2), 2,236,682 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. Sandler et al., CVPR 2018. The d-vae paper uses
    it on CIFAR, where the last stage sees one pixel, hence its low clean accuracy. Convolutions are drawn normally with
    variance 2 / fan-out, the head normally with 0.01 and a bias of zero, as in torchvision, whose network it takes.
    """
    import timm

    net: Any = timm.create_model("mobilenetv2_100", num_classes=num_classes, in_chans=in_channels)
    stem, last = nn.Sequential(net.conv_stem, net.bn1), nn.Sequential(net.conv_head, net.bn2)
    blocks = [block for stage in net.blocks for block in stage]
    network = Network([stem, *blocks, last, GlobalPool(), nn.Dropout(0.2)], net.classifier)
    draw_as_he(network)
    nn.init.normal_(network.head.weight, 0, 0.01)
    nn.init.zeros_(network.head.bias)
    return network
