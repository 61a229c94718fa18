"""The ResNet-18 that most of the papers' code has for images of 32x32: its answers and their gradient."""

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import nn

from unlearnable_bench.registry import ARCHITECTURES

REPOSITORY = "HanxunH/Unlearnable-Examples"
FUNCTION = "models.ResNet.ResNet18"
SEED = 19
TOLERANCE = 1e-9
REASON = "float64 on both sides; weights are drawn in the order of the layers"


def arrays(rng: np.random.Generator, net: nn.Module) -> Arrays:
    """Return what a network with weights of `rng` answers to two images, and the gradient of its first answers."""
    inputs.drawn(rng, net)
    x = inputs.pixels(inputs.image_set(rng, 2, 32)).requires_grad_(True)
    answers = net(x)
    (gradient,) = torch.autograd.grad(answers[:, 0].sum(), x)
    return {"answers": answers.detach().numpy(), "gradient": gradient[:, :, ::4, ::4].numpy()}


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("mlconfig", "torchvision"):
        from models.ResNet import ResNet18

    return arrays(rng, ResNet18(10))


def ours(rng: np.random.Generator) -> Arrays:
    return arrays(rng, ARCHITECTURES["resnet18"](10, 3, 32))
