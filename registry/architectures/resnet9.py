"""The network of protocol `fast`: nine layers with weights, a hundredth of the work of a ResNet-18."""

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import ARCHITECTURES
from unlearnable_bench.registry.architectures._network import Network, need_side

PATCH = 2  # side of the patches that the first layer whitens, pixels
SHRUNK = 1 / 9  # factor on the features: small logits at the start
MEMORY = 0.6  # weight of a new batch in the running statistics: weights move far within the few steps of a short training
FAINT = 0.01  # variance below which a direction fades: what the images hardly have, the network does not look at
TOGETHER = 256  # images whose patches are looked at together


class Whitening(nn.Module):
    """Every 2x2 patch along the principal axes of all patches, scaled to like variance, with both signs, and GELU.

    The axes are set by `fit` from images and never trained, a bias is; without `fit` they are random.
    """

    axes: Tensor

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.register_buffer("axes", nn.Conv2d(in_channels, in_channels * PATCH**2, PATCH).weight.detach())
        self.bias = nn.Parameter(torch.zeros(2 * len(self.axes)))

    def fit(self, images: Tensor) -> None:
        """Set the axes from images, float32 (n, C, H, W), as the layer will see them. Draws nothing at random.

        A direction of variance v is scaled by sqrt(v) / (v + 0.01), not by 1 / sqrt(v): colors that come back after training
        on gray images, or what a compression took out, would be blown up otherwise.
        """
        values = self.axes[0].numel()
        mean, square = torch.zeros(values, dtype=torch.float64), torch.zeros(values, values, dtype=torch.float64)
        for some in images.split(TOGETHER):
            patches = nn.functional.unfold(some, PATCH).transpose(1, 2).reshape(-1, values).double()
            share = len(some) / len(images)
            mean += share * patches.mean(0)
            square += share / len(patches) * patches.T @ patches
        variance, columns = torch.linalg.eigh(square - torch.outer(mean, mean))
        scale = variance.clamp(min=0).sqrt() / (variance.clamp(min=0) + FAINT)
        self.axes.copy_((columns * scale).T.view_as(self.axes))

    def forward(self, x: Tensor) -> Tensor:
        axes = torch.cat([self.axes, -self.axes])
        return nn.functional.gelu(nn.functional.conv2d(x, axes, self.bias))  # (B, 24, H - 1, W - 1) for three channels


class Norm(nn.BatchNorm2d):
    """Batch normalization that learns a bias and no scale."""

    def __init__(self, width: int) -> None:
        super().__init__(width, momentum=MEMORY, affine=False)
        del self.weight
        self.register_buffer("weight", torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))


def convolution(inside: int, outside: int) -> nn.Conv2d:
    """Return a 3x3 convolution; one that keeps the number of channels begins by handing them on as they are."""
    made = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
    if inside == outside:
        nn.init.dirac_(made.weight)
    return made


class Stage(nn.Module):
    """A convolution and a 2x2 max pool, then further convolutions beside a shortcut."""

    def __init__(self, inside: int, outside: int, further: int) -> None:
        super().__init__()
        pool = nn.MaxPool2d(2)
        self.first = nn.Sequential(convolution(inside, outside), pool, Norm(outside), nn.GELU())
        units = [nn.Sequential(convolution(outside, outside), Norm(outside), nn.GELU()) for _ in range(further)]
        self.branch = nn.Sequential(*units)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x + self.branch(x)  # type: ignore[no-any-return]


class Strongest(nn.Module):
    """The largest value of every channel, made small."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3)) * SHRUNK  # (B, C)


class ResNet9(Network):
    """A network whose first layer is set by the images that it will train on."""

    def start(self, images: Tensor) -> None:
        first = self.parts[0]
        assert isinstance(first, Whitening)
        first.fit(images)


@ARCHITECTURES.register("resnet9", display_name="ResNet-9")
def resnet9(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """Whitened 2x2 patches, stages of two, two and three 3x3 convolutions of 32, 96 and 128 channels, a linear layer.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 9. In the line of the small residual networks of
    published CIFAR-10 speed records (D. Page's ResNet-9; the whitened patches, convolutions that begin as identities,
    normalization without scale and the small logits are those of Keller Jordan's "94% on CIFAR-10 in 3.29 Seconds on a
    Single GPU", https://arxiv.org/abs/2404.00498), several times narrower. Differs from the latter: shortcuts, widths, a bias
    of the first layer that is trained to the end. Source: this repository.
    """
    need_side("resnet9", 9, image_size)
    stages = [Stage(8 * in_channels, 32, 1), Stage(32, 96, 1), Stage(96, 128, 2)]
    return ResNet9([Whitening(in_channels), *stages, Strongest()], nn.Linear(128, num_classes, bias=False))
