"""TRADES, MART and adversarial weight perturbation: the loss, and every thirty-first gradient of a weight."""

from collections.abc import Callable
from copy import deepcopy
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry.defenses.at import NEAR, AdversarialTraining

REPOSITORY = "hala64/udp"
FUNCTION = "adv_defense.trades.trades_loss, adv_defense.mart.mart_loss, adv_defense.utils_awp.AdvWeightPerturb"
SEED = 29
TOLERANCE = 1e-5
REASON = "our losses are float32; the start is ours on both sides, within the radius and the range of pixels"
EPSILON, STEP, STEPS, BETA, GAMMA = 8 / 255, 0.8 / 255, 10, 6.0, 0.01


def given(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, nn.Module]:
    """Images, labels, Gaussian numbers, and the network in training mode."""
    clean = inputs.image_set(rng)
    x = inputs.pixels(clean)
    drawn = torch.from_numpy(rng.normal(size=tuple(x.shape)))
    drawn = ((x + NEAR * drawn).clamp(0, 1) - x) / NEAR
    return x, clean.labels, drawn, inputs.network(rng).train()


def gradients(net: nn.Module, loss: Tensor) -> np.ndarray:
    """Return every thirty-first gradient of a weight."""
    found = torch.autograd.grad(loss, list(net.parameters()))
    return torch.cat([value.flatten() for value in found])[::31].numpy()


def official(rng: np.random.Generator) -> Arrays:
    from adv_defense import mart, trades, utils_awp

    x, y, drawn, net = given(rng)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def loss(function: Callable[..., Tensor], net: nn.Module) -> np.ndarray:
        settings = {"step_size": STEP, "epsilon": EPSILON, "perturb_steps": STEPS, "beta": BETA}
        return gradients(net, function(model=net, x_natural=x, y=y, optimizer=optimizer, **settings))

    with patch.object(torch, "randn", return_value=drawn), patch.object(Tensor, "cuda", lambda self: self):
        found = {"trades": loss(trades.trades_loss, deepcopy(net)), "mart": loss(mart.mart_loss, deepcopy(net))}
    proxy = deepcopy(net)
    other = utils_awp.AdvWeightPerturb(net, proxy, torch.optim.SGD(proxy.parameters(), 0.01), GAMMA)
    other.perturb(other.calc_awp(inputs_adv=x, targets=y))
    return found | {"awp": gradients(net, F.cross_entropy(net(x), y))}


def ours(rng: np.random.Generator) -> Arrays:
    x, y, drawn, net = given(rng)

    def loss(defense: AdversarialTraining, net: nn.Module) -> np.ndarray:
        return gradients(net, defense.loss(net, x, y, 0.0))

    settings = {"epsilon": EPSILON, "steps": STEPS, "step_size": STEP, "begin": "near", "beta": BETA}
    with patch.object(Tensor, "normal_", lambda self, mean, deviation: self.copy_(deviation * drawn)):
        trades = loss(AdversarialTraining(objective="TRADES", **settings), deepcopy(net))
        mart = loss(AdversarialTraining(objective="MART", **settings), deepcopy(net))
    awp = loss(AdversarialTraining(objective="AWP", awp=GAMMA, steps=0), net)
    return {"trades": trades, "mart": mart, "awp": awp}
