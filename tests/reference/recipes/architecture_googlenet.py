"""The GoogLeNet for images of 32x32 that papers' code copies: its answers and their gradient."""

import numpy as np
from reference.recipes import architecture_resnet18
from reference.vectors import Arrays

from unlearnable_bench.registry import ARCHITECTURES

REPOSITORY = "kuangliu/pytorch-cifar"
FUNCTION = "models.googlenet.GoogLeNet"
SEED = 21
TOLERANCE = architecture_resnet18.TOLERANCE
REASON = architecture_resnet18.REASON


def official(rng: np.random.Generator) -> Arrays:
    from models.googlenet import GoogLeNet

    return architecture_resnet18.arrays(rng, GoogLeNet())


def ours(rng: np.random.Generator) -> Arrays:
    return architecture_resnet18.arrays(rng, ARCHITECTURES["googlenet"](10, 3, 32))
