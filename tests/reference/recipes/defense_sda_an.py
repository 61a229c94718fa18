"""Adversarial noise of a two-layer network: one step of its training, and the noise that it gives afterwards."""

from copy import deepcopy

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn

from unlearnable_bench.registry._surrogates import train_step
from unlearnable_bench.registry._two_layer import Ascent, TwoLayerTraining, sgd, two_layer

REPOSITORY = "hala64/udp"
FUNCTION = "utils.PGD_attack, utils.train, model.MLP.two_layer_NN"
SEED = 31
TOLERANCE = 1e-6
REASON = "float64 on both sides, but for our gradients of images, which pass through float32; steps as in sdaan.denoise"
COUNT, SIDE, EPSILON, STEPS = 4, 8, 8 / 255, 10


def given(rng: np.random.Generator) -> tuple[Tensor, Tensor, nn.Module]:
    """Images, labels, and our network."""
    clean = inputs.image_set(rng, COUNT, SIDE)
    return inputs.pixels(clean), clean.labels, inputs.drawn(rng, two_layer(3 * SIDE**2, inputs.CLASSES))


def arrays(net: nn.Module, noise: Tensor) -> Arrays:
    """The noise in pixel units, and every 31st weight after the step."""
    weights = torch.cat([value.detach().flatten() for value in net.parameters()])[::31]
    return {"noise": noise.detach().numpy()[:, :, ::2], "weights": weights.numpy()}


def official(rng: np.random.Generator) -> Arrays:
    from model.MLP import two_layer_NN

    x, y, own = given(rng)
    net = two_layer_NN(3 * SIDE**2, inputs.CLASSES).double()
    net.linear1, net.linear2 = deepcopy(own[1]), deepcopy(own[3])
    attack = inputs.part_of("utils", "PGD_attack", torch=torch, nn=nn)
    train = inputs.part_of("utils", "train", nn=nn, PGD_attack=attack)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    with inputs.double():
        train(net, "cpu", Batches([(x, y, None)]), optimizer, 0, attack="PGD", step_size=2 / 255, num_steps=STEPS)
        noise = attack(net, x, y, "cpu") - x
    return arrays(net, noise)


class Batches(list[tuple[Tensor, Tensor, None]]):
    """Batches, of a set whose size is printed."""

    dataset = ()


def ours(rng: np.random.Generator) -> Arrays:
    x, y, net = given(rng)
    train_step(net, sgd(net, TwoLayerTraining(1, COUNT, 0.01)), Ascent(EPSILON, EPSILON / 4, STEPS)(net, x, y), y)
    return arrays(net, Ascent(EPSILON, EPSILON / 8, STEPS)(net, x, y) - x)
