"""AVATAR: the start at a noise level and the steps of the reverse SDE, with a function in the place of the network."""

from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry import Job, _diffusion
from unlearnable_bench.registry.defenses.avatar import Avatar

REPOSITORY = "hmdolatabadi/AVATAR"
FUNCTION = "runners.diffpure_sde.RevVPSDE"
SEED = 0
TOLERANCE = 1e-5
REASON = "levels are float32 in the official code; its integrator's Euler step is written out in the recipe"
LEVEL, SHAPE = 6, (2, 3, 4, 4)


def given(rng: np.random.Generator) -> list[torch.Tensor]:
    """Images around [-1, 1], and the noise of the start and of every step."""
    return [torch.from_numpy(rng.uniform(-1, 1, SHAPE)), *(torch.from_numpy(rng.normal(size=SHAPE)) for _ in range(LEVEL + 1))]


def predicted(x: torch.Tensor, *level: object) -> torch.Tensor:
    """The noise that the network finds."""
    return torch.tanh(3 * x)


def official(rng: np.random.Generator) -> Arrays:
    missing = ("torchsde", "torchvision", "torchvision.utils", "guided_diffusion", "guided_diffusion.script_util", "score_sde")
    missing += ("score_sde.losses", "score_sde.models", "score_sde.models.utils", "score_sde.models.ema", "score_sde.sde_lib")
    with inputs.absent(*missing):
        from runners.diffpure_sde import RevVPSDE

    x, first, *rest = given(rng)
    sde = RevVPSDE(lambda x, steps: torch.cat([predicted(x), x], 1), img_shape=SHAPE[1:])
    x = sde.sqrt_alphas_cumprod[LEVEL - 1] * x + sde.sqrt_1m_alphas_cumprod[LEVEL - 1] * first
    flat = x.flatten(1)
    for done, noise in enumerate(rest):
        time = torch.tensor(1 - (LEVEL - done) / 1000, dtype=torch.float64)
        flat = flat + sde.f(time, flat) / 1000 + sde.g(time, flat) * (1 / 1000) ** 0.5 * noise.flatten(1)
    return {"images": flat.view(SHAPE).numpy()}


def ours(rng: np.random.Generator) -> Arrays:
    x, *noise = given(rng)
    draws, found = iter(noise), []

    def walked(defense: object, train: object, job: object, model: object, calls: int, walk: _diffusion.Walk) -> torch.Tensor:
        found.append(walk(predicted, x, lambda like: next(draws)))
        return clean.images

    clean = inputs.image_set(rng)
    with patch.object(_diffusion, "purified", walked):
        Avatar(level=LEVEL, steps=LEVEL).purify(clean, Job())
    return {"images": found[0].numpy()}
