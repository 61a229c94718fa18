"""Losses of adversarial training beside cross-entropy: TRADES, MART, and weights that are perturbed against it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from unlearnable_bench.registry._steps import unmoved

Network = Callable[[Tensor], Tensor]


def trades_loss(net: Network, x: Tensor, z: Tensor, y: Tensor, beta: float) -> Tensor:
    """Cross-entropy on the images x, and `beta` times the divergence of the outputs on their adversaries z."""
    logits = net(x).float()
    divergence = F.kl_div(net(z).float().log_softmax(1), logits.softmax(1), reduction="batchmean")
    return F.cross_entropy(logits, y) + beta * divergence


def mart_loss(net: Network, x: Tensor, z: Tensor, y: Tensor, beta: float) -> Tensor:
    """Cross-entropy on z with a margin to the best wrong class, and a divergence that counts most where x is unsure.

    y are labels (B,), or rows of probabilities (B, K); a class of a row that is above 0 is not wrong.
    """
    natural, attacked = net(x).float().softmax(1), net(z).float()
    probabilities = attacked.softmax(1)  # (B, K)
    truth = y if y.ndim == 2 else F.one_hot(y, attacked.shape[1])
    wrong = probabilities.masked_fill(truth > 0, 0).amax(1)  # (B,)
    boosted = F.cross_entropy(attacked, y) - torch.log(1.0001 - wrong + 1e-12).mean()
    divergence = F.kl_div(torch.log(probabilities + 1e-12), natural, reduction="none").sum(1)  # (B,)
    unsure = 1.0000001 - (natural * truth).sum(1)
    return boosted + beta * (divergence * unsure).mean()


def against_weights(model: nn.Module, z: Tensor, y: Tensor, size: float) -> Network:
    """Return the network with every matrix of weights moved by `size` times its norm, up the gradient of the loss on z.

    The weights of `model` stay as they are: gradients of what is returned flow into them. Statistics of batch normalization
    do not move in this look ahead.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.ndim > 1 and name.endswith("weight")}
    with unmoved(model):
        gradients = torch.autograd.grad(F.cross_entropy(model(z).float(), y), list(weights.values()))
    moved = {
        name: weight + size * weight.detach().norm() * gradient / (gradient.norm() + 1e-20)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }
    return lambda images: functional_call(model, moved, (images,))
