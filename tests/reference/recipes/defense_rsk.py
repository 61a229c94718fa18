"""Sharpening by kernels that are given, away from the border, and the filter of low frequencies."""

from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from scipy import fft
from torch import Tensor

from unlearnable_bench.registry.defenses.rsk import low_frequencies, sharpen

REPOSITORY = "aseriesof-tubes/RSK"
FUNCTION = "augments.sharpen_image, augments.get_dct_image"
SEED = 23
TOLERANCE = 1e-5
REASON = (
    "float32 on both sides; their cosine transform, of the package torch-dct, is scipy's here; without the border of a pixel"
)
COUNT, SIDE, CENTER, PERCENTAGE = 3, 16, 2.5, 30


def given(rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """Images, and the five numbers of their kernels, center first: (N, 5)."""
    clean = inputs.image_set(rng, COUNT, SIDE)
    kernels = rng.normal(0.375, 0.1, (COUNT, 5))
    kernels[:, 0] += CENTER - 0.375
    return clean.pixels(slice(None)), kernels


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("torch_dct", "torchvision"):
        import augments

    augments.torch_dct_dct = lambda x, norm: torch.from_numpy(fft.dct(x.numpy(), norm=norm))
    augments.torch_dct_idct = lambda x, norm: torch.from_numpy(fft.idct(x.numpy(), norm=norm))
    x, kernels = given(rng)
    with patch.object(np.random, "normal", side_effect=kernels.flatten()):
        sharp = [augments.sharpen_image(image, CENTER, random=True) for image in x]
    static = augments.sharpen_image(x[0], CENTER, random=False)
    low = [augments.get_dct_image(image, PERCENTAGE) for image in x]
    return {"sharp": torch.stack(sharp).numpy(), "static": static.numpy(), "low": torch.stack(low)[:, :, ::2].numpy()}


def ours(rng: np.random.Generator) -> Arrays:
    x, kernels = given(rng)
    drawn = torch.from_numpy(kernels.T).float()
    sharp = sharpen(x, drawn[0], drawn[1:])[:, :, 1:-1, 1:-1]
    center = torch.tensor([CENTER])
    static = sharpen(x[:1], center, ((center - 1) / 4).expand(4, 1))[0, :, 1:-1, 1:-1]
    return {"sharp": sharp.numpy(), "static": static.numpy(), "low": low_frequencies(x, PERCENTAGE / 100)[:, :, ::2].numpy()}
