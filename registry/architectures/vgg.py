"""VGG networks with batch normalisation for small images."""

from torch import nn

from unlearnable_bench.registry import ARCHITECTURES
from unlearnable_bench.registry.architectures._network import GlobalPool, Network, draw_as_he, need_side, normalised

ELEVEN = ((64,), (128,), (256, 256), (512, 512), (512, 512))
NINETEEN = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
SIXTEEN = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def _body(stages: tuple[tuple[int, ...], ...], in_channels: int) -> list[nn.Module]:
    parts: list[nn.Module] = []
    inside = in_channels
    for stage in stages:
        for outside in stage:
            parts.append(normalised(nn.Conv2d(inside, outside, 3, padding=1)))
            inside = outside
        parts.append(nn.MaxPool2d(2))
    return [*parts, GlobalPool()]


@ARCHITECTURES.register("vgg16", display_name="VGG-16")
def vgg16(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """VGG-16 with batch normalisation and one linear layer as its head, 14,728,266 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 32. Simonyan and Zisserman, ICLR 2015, in the form
    of the CIFAR code bases (hyp, AVATAR); the learn-from-unlearnable paper says VGG-16 but its code builds `vgg11`. Weights
    are drawn as torch draws them. The papers' VGG-16 differ by their heads: see `vgg16-mlp`.
    """
    need_side("vgg16", 32, image_size)
    return Network(_body(SIXTEEN, in_channels), nn.Linear(512, num_classes))


@ARCHITECTURES.register("vgg16-mlp", display_name="VGG-16 with a three-layer head", label="VGG-16 (MLP)")
def vgg16_mlp(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """VGG-16 with batch normalisation and a head of three linear layers with dropout, 15,253,578 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 32. Simonyan and Zisserman, ICLR 2015, as in the
    code of rem, which the stable-error-minimizing paper and probably the staged-training paper use. Convolutions are drawn
    normally with variance 2 / (9 outputs), their biases zero; the linear layers as torch draws them. `features` ends before
    the last linear layer and has the dropout of 0.5 in training.
    """
    need_side("vgg16-mlp", 32, image_size)
    hidden = [nn.Sequential(nn.Dropout(0.5), nn.Linear(512, 512), nn.ReLU(inplace=True)) for _ in range(2)]
    net = Network([*_body(SIXTEEN, in_channels), *hidden], nn.Linear(512, num_classes))
    draw_as_he(net)
    return net


@ARCHITECTURES.register("vgg11", display_name="VGG-11")
def vgg11(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """VGG-11 with batch normalisation and one linear layer as its head, 9,231,114 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 32. Simonyan and Zisserman, ICLR 2015, in the form
    of the CIFAR code bases. It is what the code of the learn-from-unlearnable paper builds where the paper says VGG-16.
    Weights are drawn as torch draws them.
    """
    need_side("vgg11", 32, image_size)
    return Network(_body(ELEVEN, in_channels), nn.Linear(512, num_classes))


@ARCHITECTURES.register("vgg19", display_name="VGG-19")
def vgg19(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """VGG-19 with batch normalisation and one linear layer as its head, 20,040,522 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W >= 32. Simonyan and Zisserman, ICLR 2015, in the form
    of the CIFAR code bases, among them those of the ECLIPSE and EntF papers. Weights are drawn as torch draws them.
    """
    need_side("vgg19", 32, image_size)
    return Network(_body(NINETEEN, in_channels), nn.Linear(512, num_classes))
