"""The random bilinear shift and mirror behind which `tap` and `hypo` make their noise, and its gradient."""

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor

from unlearnable_bench.registry._views import shift_flip

REPOSITORY = "lhfowl/adversarial_poisons"
FUNCTION = "village.materials.diff_data_augmentation.RandomTransform"
SEED = 16
TOLERANCE = 1e-5
REASON = "theirs computes positions in float32; our shifts are handed to it, those of mirrored images with the other sign"
DRAWN, COUNT, SIDE, REACH = 17, 3, 32, 4.0


def given(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Images, which are to be seen, and the gradient of what is seen."""
    x = inputs.pixels(inputs.image_set(rng, COUNT, SIDE)).requires_grad_(True)
    return x, torch.from_numpy(rng.normal(size=tuple(x.shape)))


def drawn() -> Tensor:
    """Return our draws as theirs: (N, 4) in [0, 1] for shifts across and down, mirror, and one that is not used."""
    dice = torch.Generator().manual_seed(DRAWN)
    down, across = (torch.empty(COUNT, 1, 1, 1).uniform_(-REACH, REACH, generator=dice).flatten() for _ in range(2))
    mirrored = torch.rand(COUNT, 1, 1, 1, generator=dice).flatten() < 0.5
    across = torch.where(mirrored, -across, across)
    return torch.stack([across / (2 * REACH) + 0.5, down / (2 * REACH) + 0.5, mirrored.float(), mirrored.float()], 1)


def arrays(x: Tensor, view: Tensor, slope: Tensor) -> Arrays:
    """Return part of a view and of the gradient that comes back through it."""
    (gradient,) = torch.autograd.grad((view * slope).sum(), x)
    return {"view": view.detach()[:, :, ::2, 1::2].numpy(), "gradient": gradient[:, :, ::2, 1::2].numpy()}


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("village.clients", "village.shop", "village.materials.furnace"):
        from village.materials.diff_data_augmentation import RandomTransform

    x, slope = given(rng)
    return arrays(x, RandomTransform(SIDE, SIDE, shift=8)(x, drawn().double()), slope)


def ours(rng: np.random.Generator) -> Arrays:
    x, slope = given(rng)
    return arrays(x, shift_flip(x, torch.Generator().manual_seed(DRAWN))(x), slope)
