"""Wide ResNets for small images, after and before activation; timm's networks of that name are others."""

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import ARCHITECTURES
from unlearnable_bench.registry.architectures._network import GlobalPool, Network, PreActivation, normalised


class _PostActivation(nn.Module):
    """Two 3x3 convolutions with batch normalisation, the second ReLU after the sum with the shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = normalised(nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False))
        self.second = nn.Sequential(nn.Conv2d(outside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


def _blocks(block: type[nn.Module], depth: int, widen: int) -> list[nn.Module]:
    """Return the blocks of the three stages, a third of `depth` - 4 convolutions in each."""
    blocks, inside = [], 16
    for outside, stride in ((16 * widen, 1), (32 * widen, 2), (64 * widen, 2)):
        for number in range((depth - 4) // 6):
            blocks.append(block(inside, outside, 1 if number else stride))
            inside = outside
    return blocks


def _post(depth: int, widen: int, num_classes: int, in_channels: int) -> Network:
    stem = normalised(nn.Conv2d(in_channels, 16, 3, padding=1, bias=False))
    return Network([stem, *_blocks(_PostActivation, depth, widen), GlobalPool()], nn.Linear(64 * widen, num_classes))


def _pre(depth: int, widen: int, num_classes: int, in_channels: int) -> Network:
    stem = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
    last = nn.Sequential(nn.BatchNorm2d(64 * widen), nn.ReLU(inplace=True))
    return Network([stem, *_blocks(PreActivation, depth, widen), last, GlobalPool()], nn.Linear(64 * widen, num_classes))


@ARCHITECTURES.register("wrn28-10", display_name="Wide ResNet 28-10", label="WRN-28-10")
def wrn28_10(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """Wide ResNet 28-10 with activation after the sum, 36,481,434 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. Zagoruyko and Komodakis, BMVC 2016, built like
    `wrn34-10` with four blocks in a stage. Only the staged-training paper uses it, and has no code: see `wrn28-10-preact`.
    Weights are drawn as torch draws them.
    """
    return _post(28, 10, num_classes, in_channels)


@ARCHITECTURES.register("wrn28-10-preact", display_name="Wide ResNet 28-10, pre-activation", label="WRN-28-10 (pre-act.)")
def wrn28_10_preact(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """Wide ResNet 28-10 with activation before the convolutions, 36,479,194 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. Zagoruyko and Komodakis, BMVC 2016, the
    original; the alternative to `wrn28-10` for the staged-training paper. Weights are drawn as torch draws them.
    """
    return _pre(28, 10, num_classes, in_channels)


@ARCHITECTURES.register("wrn34-10", display_name="Wide ResNet 34-10", label="WRN-34-10")
def wrn34_10(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """Wide ResNet 34-10 with activation after the sum, 46,162,714 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. Zagoruyko and Komodakis, BMVC 2016, as in the
    code of rem: blocks of ResNet-18, five in a stage. Used by rem, the stable-error-minimizing paper and, by its numbers,
    the staged-training paper. Weights are drawn as torch draws them.
    """
    return _post(34, 10, num_classes, in_channels)


@ARCHITECTURES.register("wrn34-10-preact", display_name="Wide ResNet 34-10, pre-activation", label="WRN-34-10 (pre-act.)")
def wrn34_10_preact(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """Wide ResNet 34-10 with activation before the convolutions, 46,160,474 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. Zagoruyko and Komodakis, BMVC 2016, the
    original; the alternative to `wrn34-10` for the staged-training paper. Weights are drawn as torch draws them.
    """
    return _pre(34, 10, num_classes, in_channels)
