"""PUE: a training step and a step of the noise under noise on the weights, which is ours on both sides."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._weight_noise import BlurredRounds

REPOSITORY = "NeuralSec/certified-data-learnability"
FUNCTION = "trainer.Trainer.train_batch_robust, toolbox.PerturbationTool.min_min_attack_robust"
SEED = 41
TOLERANCE = 1e-6
REASON = "theirs in float64, our loss of training steps in float32; no noise is drawn for the deviation 0"
EPSILON, STEP, LEVELS, DRAWS, NOISE_DRAWS, BETWEEN = 8 / 255, 0.8 / 255, 3, 2, 3, 0.05


def given(rng: np.random.Generator) -> tuple[ImageSet, nn.Module, Tensor]:
    """Images, a network, and noise that is there before."""
    clean = inputs.image_set(rng, 8)
    return clean, inputs.network(rng), inputs.noise(rng, clean.images.shape, EPSILON / 2)


def descent(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)


def like(net: nn.Module, draws: int, run: Crafting) -> Callable[[Tensor], Tensor]:
    """What stands for `torch.randn_like`: nothing for the deviation 0, then the draws of our generator."""
    silent = draws * len(list(net.parameters()))
    calls = iter(range(10**6))

    def drawn(tensor: Tensor) -> Tensor:
        if next(calls) % (silent * LEVELS) < silent:
            return torch.zeros_like(tensor)
        return torch.randn(tensor.shape, generator=run.device_generator, dtype=tensor.dtype)

    return drawn


@inputs.double()
def official(rng: np.random.Generator) -> Arrays:
    clean, net, noise = given(rng)
    x, run, optimizer, bar = inputs.pixels(clean), inputs.run(clean), descent(net), MagicMock()
    criterion, deviation = nn.CrossEntropyLoss(), BETWEEN * (LEVELS - 1) + 1e-9
    models = SimpleNamespace(CutMixCrossEntropyLoss=int)
    util = SimpleNamespace(accuracy=lambda *_, topk: [torch.zeros(1)] * len(topk))
    trainer: Any = inputs.part_of("trainer", "Trainer", torch=torch, models=models, util=util)
    host = MagicMock(criterion=criterion, config=SimpleNamespace(grad_clip=5.0))
    net.train()
    with patch.object(torch, "randn_like", like(net, DRAWS, run)):
        trainer.train_batch_robust(host, x + noise, clean.labels, net, optimizer, deviation, BETWEEN, DRAWS, bar)
    weights = net.head.weight.detach().clone()
    net.eval().requires_grad_(False)
    tool: Any = inputs.part_of("toolbox", "PerturbationTool", torch=torch, np=np, Variable=torch.autograd.Variable)
    make = tool(epsilon=EPSILON, num_steps=1, step_size=STEP).min_min_attack_robust
    with patch.object(torch, "randn_like", like(net, NOISE_DRAWS, run)):
        _, eta = make(x, clean.labels, net, optimizer, criterion, deviation, BETWEEN, NOISE_DRAWS, bar, random_noise=noise)
    return {"weights": weights.numpy(), "noise": eta.numpy()}


@inputs.double()
def ours(rng: np.random.Generator) -> Arrays:
    clean, net, noise = given(rng)
    run = inputs.run(clean)
    x, rows = inputs.pixels(clean), torch.arange(len(clean))
    plan = BlurredRounds(
        epsilon=EPSILON,
        weight_steps=1,
        batch=len(clean),
        noise_steps=1,
        step_size=STEP,
        lr=0.1,
        weight_decay=5e-4,
        stop_error=0.0,
        max_rounds=1,
        deviations=tuple(BETWEEN * number for number in range(LEVELS)),
        draws=DRAWS,
        noise_draws=NOISE_DRAWS,
        is_blurred=True,
    )
    plan.learn(run, net, descent(net), rows, noise)
    weights = net.head.weight.detach().clone()
    net.eval().requires_grad_(False)
    return {"weights": weights.numpy(), "noise": plan.lower(run, net, x, clean.labels, noise).numpy()}
