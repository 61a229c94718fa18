"""DenseNets of timm: the stem that the field uses on small images, and the stock one."""

from typing import Any

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import ARCHITECTURES
from unlearnable_bench.registry.architectures._network import GlobalPool, Network, draw_as_he, draw_as_torch, need_side


class _Grow(nn.Module):
    """A dense layer of timm, its input put before its output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.layer(x)), 1)


def _timm(num_classes: int, in_channels: int) -> Any:
    import timm

    return timm.create_model("densenet121", num_classes=num_classes, in_chans=in_channels)


def _network(net: Any) -> Network:
    parts = dict(net.features.named_children())
    stem = nn.Sequential(*(parts.pop(name) for name in ("conv0", "norm0", "pool0")))
    body: list[nn.Module] = []
    for name, part in parts.items():  # four blocks, three transitions, and the last normalisation with its ReLU
        body.extend(map(_Grow, part.values()) if name.startswith("denseblock") else [part])
    return Network([stem, *body, GlobalPool()], net.classifier)


@ARCHITECTURES.register("densenet121", display_name="DenseNet-121")
def densenet121(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """DenseNet-121 with the CIFAR stem (3x3 convolution of stride 1 and nothing else), 6,956,298 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. Huang et al., CVPR 2017. Used by the d-vae and
    transferable-unlearnable papers, em, iss and APBench. There is no normalisation between the stem and the first block.
    Weights are drawn as torch draws them. The staged-training paper's numbers fit now this one, now `densenet121-imagenet`.
    """
    need_side("densenet121", 8, image_size)
    net = _timm(num_classes, in_channels)
    net.features.conv0 = nn.Conv2d(in_channels, 64, 3, stride=1, padding=1, bias=False)
    net.features.norm0 = nn.Identity()
    net.features.pool0 = nn.Identity()
    network = _network(net)
    draw_as_torch(network)
    return network


@ARCHITECTURES.register("densenet121-imagenet", display_name="DenseNet-121, ImageNet stem", label="DenseNet-121 (ImageNet)")
def densenet121_imagenet(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """DenseNet-121 with the stock stem (7x7 convolution of stride 2, max-pool), 6,964,106 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 29. Huang et al., CVPR 2017. rem and the
    stable-error-minimizing paper use it on CIFAR, where the last block sees one pixel. Convolutions are drawn normally with
    variance 2 / fan in and the head's bias is zero, as in their code and torchvision.
    """
    need_side("densenet121-imagenet", 29, image_size)
    network = _network(_timm(num_classes, in_channels))
    draw_as_he(network, "fan_in")
    nn.init.zeros_(network.head.bias)
    return network
