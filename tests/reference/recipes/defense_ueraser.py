"""UEraser's augmentations: each operation of TrivialAugment at strengths that are given, and a plasma map."""

from unittest.mock import patch

import numpy as np
import torch
from reference.vectors import Arrays

from unlearnable_bench.registry._plasma import maps
from unlearnable_bench.registry._policies import TRIVIAL

REPOSITORY = "kornia/kornia"
FUNCTION = "kornia.augmentation.auto.rand_augment.ops, kornia.contrib.diamond_square"
SEED = 0
TOLERANCE = 1e-5
REASON = "kornia 0.6.12, which APBench pins; float32 on both sides; strengths as they are after the multiplication by 0 or 1"
COUNT, SIDE = 4, 8
RANGES = {  # as kornia's policy names and bounds them, in the order of TRIVIAL; and the strengths drawn here
    "auto_contrast": (0, 1, 0, 1),
    "equalize": (0, 1, 0, 1),
    "posterize": (0.0, 4, 0, 5),
    "solarize": (0.0, 1.0, 0, 1),
    "contrast": (0.1, 1.9, 0.1, 1.9),
    "brightness": (0.1, 1.9, 0.1, 1.9),
    "sharpness": (0.1, 1.9, 0.1, 1.9),
    "rotate": (-30.0, 30.0, 0, 30),
    "shear_x": (-0.3, 0.3, 0, 54),
    "shear_y": (-0.3, 0.3, 0, 54),
    "translate_x": (-0.5, 0.5, 0, 0.5),
    "translate_y": (-0.5, 0.5, 0, 0.5),
}


def given(rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Images of 8 bits in [0, 1] units, and the strengths of every operation."""
    levels = rng.integers(-20, 276, (COUNT, 3, SIDE, SIDE)).clip(0, 255)
    strengths = {name: rng.uniform(low, high, COUNT) for name, (_, _, low, high) in RANGES.items()}
    strengths["posterize"] = np.floor(strengths["posterize"])
    return torch.from_numpy(levels).float() / 255, {name: torch.from_numpy(by).float() for name, by in strengths.items()}


def draws(rng: np.random.Generator) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    """Corners of the plasma, (N, 3, 2, 2), noise of its rounds, and roughness."""
    corners = torch.from_numpy(rng.uniform(size=(COUNT, 3, 2, 2))).float()
    noise = [torch.from_numpy(rng.uniform(size=(COUNT, 3, side, side))).float() for side in (5, 9)]
    return corners, noise, torch.from_numpy(rng.uniform(0.3, 0.7, COUNT)).float()


def official(rng: np.random.Generator) -> Arrays:
    from kornia.augmentation.auto.rand_augment import ops
    from kornia.contrib import diamond_square

    x, strengths = given(rng)
    found = {}
    for name, (low, high, _, _) in RANGES.items():
        operation = getattr(ops, name)(low, high)
        fields = operation.forward_parameters(x.shape)
        if operation._factor_name:
            unit = SIDE if name.startswith("translate") else 1
            fields[operation._factor_name] = (strengths[name] * unit).to(fields[operation._factor_name].dtype)
        found[name] = operation(x, fields).numpy()
    corners, noise, roughness = draws(rng)
    seeds = iter([torch.zeros(COUNT * 3, 1, 3, 3), corners.transpose(2, 3), *noise])
    plasma = diamond_square(tuple(x.shape), roughness, random_fn=lambda size, **fields: next(seeds).reshape(list(size)))
    return found | {"plasma": plasma.numpy()}


def ours(rng: np.random.Generator) -> Arrays:
    x, strengths = given(rng)
    strengths["brightness"] = strengths["brightness"] - 1
    found = {name: entry[0](x, strengths[name]).numpy() for name, entry in zip(RANGES, TRIVIAL, strict=True)}
    corners, noise, roughness = draws(rng)
    with patch.object(torch, "rand", return_value=corners), patch.object(torch, "rand_like", side_effect=noise):
        plasma = maps(x, roughness)
    return found | {"plasma": plasma.numpy()}
