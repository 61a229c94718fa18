"""Random interpolation: the corrupted images, offsets in the middle of an image and beyond its border."""

from types import SimpleNamespace

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry.defenses.coin import interpolate

REPOSITORY = "wxldragon/COIN"
FUNCTION = "train.COIN_trans"
SEED = 19
TOLERANCE = 1e-5
REASON = "before the code truncates to 8 bits; float32 on both sides, scipy interpolates in float64"
COUNT, SIDE, ALPHA = 2, 16, 2.0  # severity 4


def given(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (N, H, W, C), and their offsets to the right and down, (N, 2, H, W)."""
    levels = inputs.image_set(rng, COUNT, SIDE).images.permute(0, 2, 3, 1).numpy()
    return levels, rng.uniform(-ALPHA, ALPHA, (COUNT, 2, SIDE, SIDE)).astype(np.float32)


def official(rng: np.random.Generator) -> Arrays:
    from scipy.ndimage import map_coordinates  # which the published script forgets to import

    levels, offsets = given(rng)
    drawn = iter(offsets.reshape(-1, SIDE, SIDE))
    random = SimpleNamespace(uniform=lambda low, high, size: next(drawn))
    numpy = SimpleNamespace(**vars(np) | {"random": random})
    corrupt = inputs.part_of("train", "COIN_trans", np=numpy, map_coordinates=map_coordinates)
    return {"images": np.stack([corrupt(image) for image in levels])[:, ::2]}


def ours(rng: np.random.Generator) -> Arrays:
    levels, offsets = given(rng)
    x = torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 255
    images = interpolate(x, *torch.from_numpy(offsets).unbind(1)) * 255
    return {"images": images.permute(0, 2, 3, 1).numpy()[:, ::2]}
