"""ResNets of timm with the stem that the field uses on small images."""

from typing import Any

from torch import Tensor, nn

from registry import ARCHITECTURES


class ResNet(nn.Module):
    """A timm ResNet under the names that victims have here."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        for module in net.modules():  # timm draws Kaiming-normal weights; the papers' code keeps torch's own initialisation
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

    @property
    def head(self) -> nn.Linear:
        return self.net.fc  # type: ignore[no-any-return]

    def features(self, x: Tensor) -> Tensor:
        return self.net.global_pool(self.net.forward_features(x))  # type: ignore[no-any-return]  # (B, 512)

    def layers(self) -> list[nn.Module]:
        net = self.net
        blocks = [block for stage in (net.layer1, net.layer2, net.layer3, net.layer4) for block in stage]
        return [nn.Sequential(net.conv1, net.bn1), *blocks, net.fc]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


@ARCHITECTURES.register("resnet18")
def resnet18(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """ResNet-18 with the CIFAR stem (3x3 convolution of stride 1, no pooling), 11,173,962 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 8. He et al., CVPR 2016. All five papers use it
    on CIFAR and SVHN. The last normalisation of a block starts at one and weights are drawn as torch draws them, as in the
    papers' code and unlike timm's defaults.
    """
    import timm

    net = timm.create_model("resnet18", num_classes=num_classes, in_chans=in_channels, zero_init_last=False)
    net.conv1 = nn.Conv2d(in_channels, 64, 3, stride=1, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return ResNet(net)
