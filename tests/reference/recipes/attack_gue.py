"""Game unlearnable examples: two batches of the game, and what the painter paints in evaluation mode after them."""

import time
from copy import deepcopy
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.recipes.attack_deepconfuse import THINNER, WIDTH, Loader, learnt, theirs
from reference.vectors import Arrays
from torch import nn
from torch.nn import functional as F

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry.attacks.gue import GameUnlearnable

REPOSITORY = "hong-xian/gue"
FUNCTION = "gue.bome, models.unet.UNet"
SEED = 21
TOLERANCE = 1e-9
REASON = "float64 on both sides; painters a sixteenth as wide; the painter's running statistics move at once, not twelve times"
STEPS, EPSILON = 10, 8 / 255
BATCHES = torch.arange(8).split(4)


def given(rng: np.random.Generator) -> tuple[ImageSet, nn.Module, nn.Module]:
    """Images, the painter and the classifier, of ours, in training mode."""
    clean = inputs.image_set(rng, 8, 8)
    painter = inputs.drawn(rng, GameUnlearnable(width=WIDTH, steps=STEPS).painter(inputs.run(clean)))
    return clean, painter.train(), inputs.network(rng).train()


def official(rng: np.random.Generator) -> Arrays:
    clean, painter, classifier = given(rng)
    double = inputs.part_of("models.unet", "double_conv", nn=nn)
    thin = lambda inside, outside: double(3 if inside == 3 else inside // THINNER, outside // THINNER)  # noqa: E731
    unet = inputs.part_of("models.unet", "UNet", nn=nn, torch=torch, F=F, double_conv=thin)
    attacker = theirs(painter, unet).train()
    for layer in attacker.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.1
    args = SimpleNamespace(eps=EPSILON, num_classes=inputs.CLASSES, lr_tmp=1e-4, eta=1.5)
    known = {"torch": torch, "nn": nn, "F": F, "time": time, "create_net": lambda args: deepcopy(classifier)}
    for name in ("f", "f_theta", "g", "q_a_theta"):
        known[name] = inputs.part_of("gue", name, **known)
    moved, x = deepcopy(classifier), inputs.pixels(clean)
    optimizers = torch.optim.SGD(moved.parameters(), 0.01), torch.optim.SGD(attacker.parameters(), 0.1)
    loader = Loader([(x[rows], clean.labels[rows]) for rows in BATCHES])
    with patch.object(torch.Tensor, "cuda", lambda tensor: tensor), patch.object(nn.Module, "cuda", lambda net: net):
        inputs.part_of("gue", "bome", **known)(args, attacker, moved, *optimizers, loader, STEPS, 1)
    with still(attacker), torch.no_grad():
        return {"noise": attacker(x)[:2].numpy(), "classifier": learnt(moved)}


def ours(rng: np.random.Generator) -> Arrays:
    clean, painter, classifier = given(rng)
    attack, x = GameUnlearnable(epsilon=EPSILON, steps=STEPS, width=WIDTH), inputs.pixels(clean)
    for rows in BATCHES:
        attack.play(painter, classifier, x[rows], clean.labels[rows])
    with still(painter), torch.no_grad():
        return {"noise": painter(x)[:2].numpy(), "classifier": learnt(classifier)}
