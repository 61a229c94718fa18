"""The painter's look ahead, the classifier's step, and what the painter paints, over two batches."""

import importlib.util
import sys
import tempfile
from contextlib import chdir
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._painter import Painter
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry.attacks.deepconfuse import DeepConfuse, Narrow

REPOSITORY = "kingfengji/DeepConfuse"
FUNCTION = "CIFAR/train.train, CIFAR/models/unet.UNet"
SEED = 12
TOLERANCE = 1e-9
REASON = (
    "float64 on both sides; painters a sixteenth as wide, moved by plain descent, since Adam makes much of gradients near zero"
)
THINNER, WIDTH = 16, 4
PAINTER_LR, LR, EPSILON = 0.1, 0.01, 0.032
BATCHES = torch.arange(8).split(4)


def given(rng: np.random.Generator) -> tuple[ImageSet, nn.Module, nn.Module, nn.Module]:
    """Images; the live and the frozen painter; the classifier. All of ours, in training mode."""
    clean = inputs.image_set(rng, 8, 8)
    live, frozen = (inputs.drawn(rng, Painter(3, WIDTH)).train() for _ in range(2))
    net = inputs.network(rng)
    head = inputs.drawn(rng, nn.Sequential(nn.Linear(net.head.in_features, 2), nn.Linear(2, inputs.CLASSES)))
    net.head = nn.Identity()
    return clean, live, frozen, Narrow(net, head).train()


def theirs(painter: nn.Module, unet: type[nn.Module]) -> nn.Module:
    """Return the authors' painter with the weights of ours. They join the stretched half before the other, we after it."""
    made = unet(3).double()
    made.conv_last = deepcopy(painter.last[:2])
    for number, block in enumerate(painter.down):
        setattr(made, f"dconv_down{number + 1}", deepcopy(block))
    for number, block in enumerate(painter.up):
        block = deepcopy(block)
        block[0].weight.data = swapped(block[0].weight.data, block[0].out_channels)
        setattr(made, f"dconv_up{3 - number}", block)
    return made


def swapped(weight: Tensor, first: int) -> Tensor:
    """Put the first input channels of a convolution behind the others."""
    return torch.cat([weight[:, first:], weight[:, :first]], 1)


def official(rng: np.random.Generator) -> Arrays:
    clean, live, frozen, classifier = given(rng)
    sys.path.insert(0, f"{sys.path[0]}/CIFAR")
    # the script makes a folder for its log where it is started
    with tempfile.TemporaryDirectory() as folder, chdir(folder), inputs.absent("tensorboardX", "torchvision"):
        spec = importlib.util.spec_from_file_location("train", f"{sys.path[0]}/train.py")
        script = importlib.util.module_from_spec(spec)
        script.__dict__["__file__"] = "train.py"
        spec.loader.exec_module(script)
    from models import unet

    double = unet.double_conv
    unet.double_conv = lambda inside, outside: double(3 if inside == 3 else inside // THINNER, outside // THINNER)
    live, frozen = theirs(live, unet.UNet).train(), theirs(frozen, unet.UNet).train()
    script.create_net = lambda: deepcopy(classifier)
    moved = deepcopy(classifier)
    x = inputs.pixels(clean)
    loader = [(x[rows], clean.labels[rows]) for rows in BATCHES]
    args = SimpleNamespace(eps=EPSILON, log_interval=9, clsepochs=1)
    optimizers = torch.optim.SGD(live.parameters(), PAINTER_LR), torch.optim.SGD(moved.parameters(), LR)
    script.train(args, frozen, live, moved, torch.device("cpu"), Loader(loader), *optimizers, 1, 0)
    with still(live), torch.no_grad():
        return {"noise": live(x)[:2].numpy(), "classifier": learnt(moved)}


class Loader(list[tuple[Tensor, Tensor]]):
    """Batches, of a set whose size is printed."""

    dataset = ()


def learnt(net: nn.Module) -> np.ndarray:
    """Return every fifth weight of a network."""
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])[::5].numpy()


def ours(rng: np.random.Generator) -> Arrays:
    clean, live, frozen, classifier = given(rng)
    entry = DeepConfuse(epsilon=EPSILON, lr=LR)
    optimizer = torch.optim.SGD(live.parameters(), PAINTER_LR)
    x = inputs.pixels(clean)
    for rows in BATCHES:
        _, gradients = entry.ahead(live, classifier, x[rows], clean.labels[rows])
        for parameter, gradient in zip(live.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        entry.descend(classifier, entry.pictures(frozen, x[rows]), clean.labels[rows])
    with still(live), torch.no_grad():
        return {"noise": live(x)[:2].numpy(), "classifier": learnt(classifier)}
