"""PureGen-DDPM: the start at a noise level and all steps down, with a function in the place of the network."""

from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry import Job, _diffusion
from unlearnable_bench.registry.defenses.puregen_ddpm import PureGenDiffusion

REPOSITORY = "SunayBhat1/PureGen_PoisonDefense"
FUNCTION = "scripts.PureGen.PureGen.diff_purify"
SEED = 0
TOLERANCE = 2e-4
REASON = "the levels of diffusers are float32, and low ones take a number near 1 from 1"
LEVEL, SHAPE = 6, (2, 3, 4, 4)


def given(rng: np.random.Generator) -> list[torch.Tensor]:
    """Images in [-1, 1], and the noise of the start and of every step but the last."""
    draws = [rng.uniform(-1, 1, SHAPE), *(rng.normal(size=SHAPE) for _ in range(LEVEL))]
    return [torch.from_numpy(values.astype(np.float32)) for values in draws]


def predicted(x: torch.Tensor, level: object = None, **options: object) -> torch.Tensor:
    """The noise that the network finds."""
    return torch.tanh(3 * x)


def official(rng: np.random.Generator) -> Arrays:
    library = _diffusion.diffusers_library("puregen-ddpm")
    purify = inputs.part_of("scripts.PureGen", "PureGen", torch=torch).diff_purify
    x, *noise = given(rng)
    draws = iter(noise)
    model = SimpleNamespace(
        DM=lambda x, timestep, return_dict: (predicted(x),),
        scheduler=library.DDPMScheduler(num_train_timesteps=1000),
        device="cpu",
        device_type="cpu",
    )
    with patch.object(torch, "randn", lambda *shape, **options: next(draws)):
        return {"images": purify(model, x, LEVEL).numpy()}


def ours(rng: np.random.Generator) -> Arrays:
    x, *noise = given(rng)
    draws, found = iter(noise), []

    def walked(defense: object, train: object, job: object, model: object, calls: int, walk: _diffusion.Walk) -> torch.Tensor:
        found.append(walk(predicted, x, lambda like: next(draws)))
        return clean.images

    clean = inputs.image_set(rng)
    with patch.object(_diffusion, "purified", walked):
        PureGenDiffusion(level=LEVEL, steps=LEVEL).purify(clean, Job())
    return {"images": found[0].numpy()}
