"""CutMix: which pixels are pasted, for shares and centres that are given."""

from unittest.mock import patch

import numpy as np
import torch
from reference.vectors import Arrays

from unlearnable_bench.registry.defenses.cutmix import _rectangles

REPOSITORY = "yuyi-sd/D-VAE"
FUNCTION = "util.rand_bbox"
SEED = 0
TOLERANCE = 0.0
REASON = "the same pixels; odd sides, edges at the border and sides of 0 among them"
COUNT, ROWS, COLUMNS = 24, 13, 16


def given(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares that images keep, and centres."""
    return rng.beta(1.0, 1.0, COUNT), rng.integers(ROWS, size=COUNT), rng.integers(COLUMNS, size=COUNT)


def official(rng: np.random.Generator) -> Arrays:
    import util

    shares, rows, columns = given(rng)
    holes = np.zeros((COUNT, 1, ROWS, COLUMNS), np.uint8)
    with patch.object(np, "int", int, create=True):  # numpy has it no more
        for hole, share, *centre in zip(holes, shares, rows, columns, strict=True):
            with patch.object(np.random, "randint", side_effect=centre):
                top, left, bottom, right = util.rand_bbox((3, ROWS, COLUMNS), share)
            hole[:, top:bottom, left:right] = 1
    return {"holes": holes}


def ours(rng: np.random.Generator) -> Arrays:
    shares, *centres = given(rng)
    drawn = [torch.from_numpy(centre)[:, None] for centre in centres]
    with patch.object(torch, "randint", side_effect=drawn):
        holes = _rectangles(torch.zeros(COUNT, 3, ROWS, COLUMNS), (1 - torch.from_numpy(shares)).sqrt())
    return {"holes": holes.numpy().astype(np.uint8)}
