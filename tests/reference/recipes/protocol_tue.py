"""Learning rates of the classifiers of "Transferable Unlearnable Examples"."""

from types import SimpleNamespace

import numpy as np
import torch
from reference import inputs, rates
from reference.vectors import Arrays

REPOSITORY = "renjie3/TUE"
FUNCTION = "supervised_test.scheduler"
SEED = 0
TOLERANCE = 1e-12
REASON = "a scheduler of torch as the script makes it; the sums of rounded cosines differ from the cosine itself"


def official(rng: np.random.Generator) -> Arrays:
    args = SimpleNamespace(CA_tmax=200)
    start = "torch.optim.lr_scheduler.CosineAnnealingLR("

    def scheduled(optimizer: torch.optim.Optimizer) -> object:
        return inputs.expression_of("supervised_test", start, torch=torch, optimizer=optimizer, args=args)

    return {"plain": rates.of_epochs(0.1, 200, scheduled)}


def ours(rng: np.random.Generator) -> Arrays:
    return {"plain": rates.ours("tue")}
