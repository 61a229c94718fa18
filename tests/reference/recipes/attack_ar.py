"""Autoregressive noise: the recurrence from a random border, and its length, in both of our ways of computing it."""

from unittest.mock import patch

import numpy as np
import torch
from reference.vectors import Arrays
from torch import Tensor

from unlearnable_bench.registry import ImageSet, Job
from unlearnable_bench.registry.attacks.ar import CROP, Autoregressive, along_diagonals, border_size

REPOSITORY = "psandovalsegura/autoregressive-poisoning"
FUNCTION = "autoregressive.ARProcessPerturb3Channel.generate"
SEED = 10
TOLERANCE = 1e-5
REASON = "theirs in float64, ours kept in float32; coefficients and borders are ours on both sides"
SIDE = 16
CLEAN = ImageSet(torch.zeros(3, 3, SIDE, SIDE, dtype=torch.uint8), torch.tensor([0, 1, 0]), 2)


def coefficients(rng: np.random.Generator) -> Tensor:
    """Return the processes of two classes, (2, 3, 3, 3), whose weights sum to one."""
    weights = rng.uniform(-0.2, 1, (2, 3, 9))
    weights[..., 8] = 0
    return torch.from_numpy(weights / weights.sum(2, keepdims=True)).float().view(2, 3, 3, 3)


def canvases() -> list[Tensor]:
    """Return what stands on the canvas of each image before its recurrence begins, (3, rows, columns)."""
    generator = Job().generator
    borders = torch.randn(len(CLEAN), 3, border_size(SIDE, SIDE), generator=generator)
    on_border = torch.zeros(SIDE + CROP, SIDE + CROP, dtype=torch.bool)
    on_border[:2], on_border[:, :2] = True, True
    found = []
    for border in borders:
        canvas = torch.zeros(3, SIDE + CROP, SIDE + CROP, dtype=torch.float64)
        canvas[:, on_border] = border.double()
        found.append(canvas)
    return found


def official(rng: np.random.Generator) -> Arrays:
    import autoregressive

    processes = [autoregressive.ARProcessPerturb3Channel(weights) for weights in coefficients(rng).double()]
    found = {}
    for name, norm, epsilon in (("l2", 2, 1.0), ("linf", np.inf, 8 / 255)):
        drawn = iter(canvases())
        with patch.object(torch, "randn", lambda shape, drawn=drawn: next(drawn)):
            size = (SIDE + CROP, SIDE + CROP)
            noise = [processes[label].generate(size, epsilon, CROP, norm)[0] for label in CLEAN.labels]
        found[name] = torch.stack(noise)[:, :, ::2].numpy()
    return found | {"diagonals": found["l2"]}


def ours(rng: np.random.Generator) -> Arrays:
    weights = coefficients(rng)
    found = {}
    for name, entry in (("l2", Autoregressive()), ("linf", Autoregressive(norm="linf", epsilon=8 / 255))):
        found[name] = torch.cat([delta for _, delta in entry.noise(weights, CLEAN, Job())])[:, :, ::2].numpy()
    borders = torch.randn(len(CLEAN), 3, border_size(SIDE, SIDE), generator=Job().generator)
    pairs = zip(CLEAN.labels, borders[:, None], strict=True)
    noise = [along_diagonals(weights[label], border, SIDE, SIDE) for label, border in pairs]
    flat = torch.nn.functional.normalize(torch.cat(noise).flatten(1))
    return found | {"diagonals": flat.view(-1, 3, SIDE, SIDE)[:, :, ::2].numpy()}
