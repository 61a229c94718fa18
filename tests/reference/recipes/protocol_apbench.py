"""Learning rates of APBench's classifiers, on CIFAR and on ImageNet."""

from types import SimpleNamespace

import numpy as np
import torch
from reference import inputs, rates
from reference.vectors import Arrays

REPOSITORY = "lafeat/apbench"
FUNCTION = "train.scheduler, imagenet_train.scheduler"
SEED = 0
TOLERANCE = 1e-12
REASON = "schedulers of torch as the scripts make them; the sums of rounded cosines differ from the cosine itself"


class Quiet:
    """torch's schedulers without the argument `verbose`, which torch has no more."""

    @staticmethod
    def MultiStepLR(optimizer: torch.optim.Optimizer, verbose: bool, **fields: object) -> object:  # noqa: N802  (torch's name)
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, **fields)

    CosineAnnealingLR = torch.optim.lr_scheduler.CosineAnnealingLR


def official(rng: np.random.Generator) -> Arrays:
    known = SimpleNamespace(optim=SimpleNamespace(lr_scheduler=Quiet))

    def scheduled(script: str, kind: str) -> np.ndarray:
        start = f"torch.optim.lr_scheduler.{kind}("
        return rates.of_epochs(
            0.1, 200, lambda optimizer: inputs.expression_of(script, start, torch=known, optimizer=optimizer)
        )

    return {"cifar": scheduled("train", "MultiStepLR"), "imagenet": scheduled("imagenet_train", "CosineAnnealingLR")}


def ours(rng: np.random.Generator) -> Arrays:
    return {"cifar": rates.ours("apbench"), "imagenet": rates.ours("apbench", "imagenet100")}
