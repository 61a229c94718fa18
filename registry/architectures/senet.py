"""SENet-18: a pre-activation ResNet-18 whose branches weigh their channels."""

from torch import nn

from unlearnable_bench.registry import ARCHITECTURES
from unlearnable_bench.registry.architectures._network import GlobalPool, Network, PreActivation, normalised


@ARCHITECTURES.register("senet18", display_name="SENet-18")
def senet18(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """SENet-18 for CIFAR, pre-activation blocks with squeeze and excitation, 11,260,354 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. Hu et al., CVPR 2018, as in the code of
    APBench: reduction 16, the stem is normalised, nothing is normalised before the pool. timm's `seresnet18` is another
    network. Weights are drawn as torch draws them.
    """
    blocks, inside = [], 64
    for outside, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [PreActivation(inside, outside, stride, reduction=16), PreActivation(outside, outside, 1, reduction=16)]
        inside = outside
    stem = normalised(nn.Conv2d(in_channels, 64, 3, padding=1, bias=False))
    return Network([stem, *blocks, GlobalPool()], nn.Linear(512, num_classes))
