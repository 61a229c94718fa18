"""The gradient of the judges' loss through the whole training of an infinitely wide network, with either kernel."""

import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry.attacks.ntga import NeuralTangentGeneralization

REPOSITORY = "lionelmessi6410/ntga"
FUNCTION = "generate_attack.adv_loss, generate_attack.surrogate_fn"
SEED = 13
TOLERANCE = 1e-5
REASON = "float64 on both sides, with neural-tangents 0.6.5, whose convolutional kernel is regular only to 1e-6"
TIMES = (8, 4096)  # of training
TRAINED, JUDGES = 8, 6  # images


def given(rng: np.random.Generator) -> ImageSet:
    """Images of 8x8 pixels: those to move, then the judges."""
    return inputs.image_set(rng, TRAINED + JUDGES, 8)


def script() -> ModuleType:
    """Import the authors' script, written for an early jax, with what it needs of that under its old names."""
    import jax
    import neural_tangents

    jax.config.update("jax_enable_x64", True)
    relu = neural_tangents.stax.Relu
    neural_tangents.stax.Relu = lambda do_backprop: relu()
    neural_tangents.utils = SimpleNamespace(kernel=SimpleNamespace(Kernel=None))
    old = {
        "jax.api": SimpleNamespace(grad=jax.grad, jit=jax.jit, vmap=jax.vmap),
        "jax.config": SimpleNamespace(config=jax.config),
        "jax.experimental.stax": SimpleNamespace(logsoftmax=jax.nn.log_softmax),
    }
    with (
        inputs.absent("matplotlib", "matplotlib.pyplot", "tensorflow_datasets", "tqdm"),
        patch.dict(sys.modules, old),
        patch.object(sys, "argv", ["generate_attack.py", "--dataset=cifar10"]),
    ):
        import generate_attack
    return generate_attack


def official(rng: np.random.Generator) -> Arrays:
    code = script()
    clean = given(rng)
    x = inputs.pixels(clean).permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    y = torch.nn.functional.one_hot(clean.labels).double().numpy()
    gradient = sys.modules["jax"].grad(code.adv_loss)
    found = {}
    for kernel in ("fnn", "cnn"):
        _, _, kernel_fn = code.surrogate_fn(kernel, 1.76**0.5, 0.18**0.5, inputs.CLASSES)
        seen = x.reshape(len(x), -1) if kernel == "fnn" else x
        for time in TIMES:
            sides = seen[:TRAINED], seen[TRAINED:], y[:TRAINED], y[TRAINED:]
            slope = np.asarray(gradient(*sides, kernel_fn, "cross-entropy", time)).reshape(x[:TRAINED].shape)
            found[f"{kernel}_{time}"] = slope.transpose(0, 3, 1, 2)
    return found


def ours(rng: np.random.Generator) -> Arrays:
    clean = given(rng)
    run = inputs.run(clean)
    x, y = run.batch(slice(TRAINED))
    judges = torch.arange(TRAINED, TRAINED + JUDGES)
    found = {}
    for kernel in ("fnn", "cnn"):
        for time in TIMES:
            entry = NeuralTangentGeneralization(kernel=kernel, time=float(time))
            found[f"{kernel}_{time}"] = entry.gradient(run, x, y, judges).numpy()
    return found
