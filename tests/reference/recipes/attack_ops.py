"""The search for the pixel and colour of every class."""

from types import SimpleNamespace

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry import ImageSet, Job
from unlearnable_bench.registry.attacks.ops import OnePixelShortcut, mark

REPOSITORY = "cychomatica/One-Pixel-Shotcut"
FUNCTION = "perturb.pixel_search"
SEED = 2
TOLERANCE = 0.0
REASON = "8-bit levels of the marked images"


def given(rng: np.random.Generator) -> ImageSet:
    """Ten classes of six images of 8x8 pixels."""
    levels = rng.integers(0, 256, (60, 3, 8, 8)).astype(np.uint8)
    return ImageSet(torch.from_numpy(levels), torch.from_numpy(rng.permutation(60) % 10), 10)


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("tqdm"):
        import perturb

    perturb.tqdm = lambda found: found
    clean = given(rng)
    images = clean.images.permute(0, 2, 3, 1).numpy()
    noise = perturb.pixel_search(SimpleNamespace(data=images, targets=clean.labels.tolist()))
    levels = np.round(images + 255 * noise).astype(np.uint8)
    return {"changed": levels.transpose(0, 3, 1, 2).astype(np.int16) - clean.images.numpy()}


def ours(rng: np.random.Generator) -> Arrays:
    clean = given(rng)
    levels = mark(clean.images.clone(), clean.labels, *OnePixelShortcut().search(clean, Job()))
    return {"changed": levels.numpy().astype(np.int16) - clean.images.numpy()}
