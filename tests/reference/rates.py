"""Learning rates of protocols: those of official schedulers epoch by epoch, and those of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from unlearnable_bench.benchmark.train import _schedule
from unlearnable_bench.registry import PROTOCOLS

STEPS = 4  # of an epoch; ours counts steps, the official ones epochs


def optimizer(lr: float) -> torch.optim.SGD:
    """Return an optimizer of one weight."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr)


def of_epochs(lr: float, epochs: int, scheduler: Callable[[Any], Any]) -> np.ndarray:
    """Return the learning rate of every epoch under an official scheduler, which is stepped once an epoch."""
    descent = optimizer(lr)
    schedule, rates = scheduler(descent), []
    for _ in range(epochs):
        rates.append(descent.param_groups[0]["lr"])
        descent.step()
        schedule.step()
    return np.array(rates)


def ours(name: str, dataset: str = "cifar10", adversarial: bool = False) -> np.ndarray:
    """Return the learning rate in the first step of every epoch of a protocol of ours."""
    protocol = PROTOCOLS[name]()
    protocol = replace(protocol, **protocol.per_dataset.get(dataset, {}))
    protocol = replace(protocol, **protocol.adversarial) if adversarial else protocol
    total, per_epoch = protocol.length(STEPS * protocol.batch)
    shape = _schedule(optimizer(protocol.lr), protocol, total, per_epoch).lr_lambdas[0]
    return np.array([protocol.lr * shape(step) for step in range(0, total, per_epoch)])
