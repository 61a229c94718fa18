"""The MobileNetV2 for images of 32x32 that papers' code copies: its answers and their gradient."""

import numpy as np
from reference.recipes import architecture_resnet18
from reference.vectors import Arrays

from unlearnable_bench.registry import ARCHITECTURES

REPOSITORY = "kuangliu/pytorch-cifar"
FUNCTION = "models.mobilenetv2.MobileNetV2"
SEED = 22
TOLERANCE = architecture_resnet18.TOLERANCE
REASON = architecture_resnet18.REASON


def official(rng: np.random.Generator) -> Arrays:
    from models.mobilenetv2 import MobileNetV2

    return architecture_resnet18.arrays(rng, MobileNetV2())


def ours(rng: np.random.Generator) -> Arrays:
    return architecture_resnet18.arrays(rng, ARCHITECTURES["mobilenetv2"](10, 3, 32))
