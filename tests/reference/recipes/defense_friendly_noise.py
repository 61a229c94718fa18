"""Friendly noise: its search on a batch of images."""

from unittest.mock import MagicMock, patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry.defenses.friendly_noise import FriendlyNoise

REPOSITORY = "tianyu139/friendly-noise"
FUNCTION = "friendly_noise.generate_friendly_noise"
SEED = 0
TOLERANCE = 1e-4
REASON = "the official noise is float32; steps of 100 enlarge what is rounded"
STEPS, EPSILON = 10, 16 / 255


def given(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.nn.Module]:
    """Images, the noise to begin with, and the network."""
    clean = inputs.image_set(rng, side=32)
    return inputs.pixels(clean), inputs.noise(rng, clean.images.shape, 8 / 255), inputs.network(rng, side=32)


class Loader(list):
    """Batches, with the attribute that the official function looks for."""

    dataset: MagicMock


def official(rng: np.random.Generator) -> Arrays:
    from friendly_noise import generate_friendly_noise

    x, start, net = given(rng)
    x, start, net = x.float(), start.float(), net.float()  # it stores noise in float32
    loader = Loader([(x, None, None, torch.arange(len(x)))])
    loader.dataset = MagicMock(transform=lambda image: image)
    loader.dataset.__len__.return_value = len(x)
    uniform = start / (2 * 8 / 255) + 0.5
    with patch.object(torch, "rand", return_value=uniform), patch.object(torch.Tensor, "cuda", lambda self: self):
        noise = generate_friendly_noise(net, loader, "cpu", STEPS, 1.0, 100.0, clamp_min=-EPSILON, clamp_max=EPSILON)
    return {"noise": noise.numpy()}


def ours(rng: np.random.Generator) -> Arrays:
    x, start, net = given(rng)
    return {"noise": FriendlyNoise(steps=STEPS).noise(net, x, start).float().numpy()}
