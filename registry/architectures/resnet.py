"""ResNets of timm: the stem that the field uses on small images, and the stock one."""

from typing import Any

from torch import nn

from unlearnable_bench.registry import ARCHITECTURES
from unlearnable_bench.registry.architectures._network import GlobalPool, Network, draw_as_he, draw_as_torch


def _timm(name: str, num_classes: int, in_channels: int) -> Any:
    import timm

    return timm.create_model(name, num_classes=num_classes, in_chans=in_channels, zero_init_last=False)


def _network(net: Any) -> Network:
    blocks = [block for stage in (net.layer1, net.layer2, net.layer3, net.layer4) for block in stage]
    return Network([nn.Sequential(net.conv1, net.bn1, net.act1, net.maxpool), *blocks, GlobalPool()], net.fc)


def _small_stem(name: str, num_classes: int, in_channels: int) -> Network:
    net = _timm(name, num_classes, in_channels)
    net.conv1 = nn.Conv2d(in_channels, 64, 3, stride=1, padding=1, bias=False)
    net.maxpool = nn.Identity()
    network = _network(net)
    draw_as_torch(network)
    return network


def _stock_stem(name: str, num_classes: int, in_channels: int) -> Network:
    network = _network(_timm(name, num_classes, in_channels))
    draw_as_he(network)
    return network


@ARCHITECTURES.register("resnet18", display_name="ResNet-18")
def resnet18(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """ResNet-18 with the CIFAR stem (3x3 convolution of stride 1, no pooling), 11,173,962 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. He et al., CVPR 2016. Every paper uses it
    on CIFAR and SVHN, the stable-error-minimizing paper on ImageNet too. The last normalisation of a block starts at one and
    weights are drawn as torch draws them, unlike timm's defaults, as in the authors' code of em, rem, sem and sep. Attacks
    whose code initializes convolutions by fan-out do so: tap, hypo, ucl, tue, em(variant=apb). At 224x224
    it costs fifteen times `resnet18-imagenet`.
    """
    return _small_stem("resnet18", num_classes, in_channels)


@ARCHITECTURES.register("resnet34", display_name="ResNet-34")
def resnet34(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """ResNet-34 with the CIFAR stem (3x3 convolution of stride 1, no pooling), 21,282,122 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. He et al., CVPR 2016. Used by the EntF paper.
    Drawn as `resnet18`.
    """
    return _small_stem("resnet34", num_classes, in_channels)


@ARCHITECTURES.register("resnet50", display_name="ResNet-50")
def resnet50(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """ResNet-50 with the CIFAR stem (3x3 convolution of stride 1, no pooling), 23,520,842 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. He et al., CVPR 2016, with the stride in the
    3x3 convolution. Used by the staged-training, stable-error-minimizing and d-vae papers and by APBench. Drawn as `resnet18`.
    """
    return _small_stem("resnet50", num_classes, in_channels)


@ARCHITECTURES.register("resnet18-imagenet", display_name="ResNet-18, ImageNet stem", label="ResNet-18 (ImageNet)")
def resnet18_imagenet(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """ResNet-18 with the stock stem (7x7 convolution of stride 2, max-pool), 11,181,642 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. He et al., CVPR 2016. The d-vae and
    learn-from-unlearnable papers and APBench use it on ImageNet. Convolutions are drawn normally with variance 2 / fan-out,
    as in torchvision, whose network they take; no normalisation starts at zero. On 32x32 images em loses its effect under it.
    """
    return _stock_stem("resnet18", num_classes, in_channels)


@ARCHITECTURES.register("resnet50-imagenet", display_name="ResNet-50, ImageNet stem", label="ResNet-50 (ImageNet)")
def resnet50_imagenet(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """ResNet-50 with the stock stem (7x7 convolution of stride 2, max-pool), 23,528,522 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. He et al., CVPR 2016. None of the five papers
    states it; it is here for ImageNet users. Drawn as `resnet18-imagenet`.
    """
    return _stock_stem("resnet50", num_classes, in_channels)
