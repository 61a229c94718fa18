"""Learning rates of the classifiers of stable error-minimizing noise, in every hundredth step."""

from types import SimpleNamespace

import numpy as np
from reference import inputs, rates
from reference.vectors import Arrays

from unlearnable_bench.benchmark.train import _schedule
from unlearnable_bench.registry import PROTOCOLS

REPOSITORY = "liuyixin-louis/Stable-Unlearnable-Example"
FUNCTION = "train.lr"
SEED = 0
TOLERANCE = 1e-12
REASON = "lr_decay_freq is 16,000 and lr_decay_rate 0.1 in the scripts that train"
STEPS = range(0, 40_000, 100)


def official(rng: np.random.Generator) -> Arrays:
    args = SimpleNamespace(lr=0.1, lr_decay_rate=0.1, lr_decay_freq=16_000)
    return {"plain": np.array([inputs.expression_of("train", "args.lr *", args=args, step=step) for step in STEPS])}


def ours(rng: np.random.Generator) -> Arrays:
    protocol = PROTOCOLS["sem"]()
    shape = _schedule(rates.optimizer(protocol.lr), protocol, protocol.steps, 390).lr_lambdas[0]
    return {"plain": np.array([protocol.lr * shape(step) for step in STEPS])}
