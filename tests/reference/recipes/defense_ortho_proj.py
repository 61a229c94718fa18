"""Orthogonal projection away from the weights of a linear classifier."""

from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry import Job
from unlearnable_bench.registry.defenses.ortho_proj import OrthogonalProjection

REPOSITORY = "psandovalsegura/learn-from-unlearnable"
FUNCTION = "utils_projection.project_data"
SEED = 0
TOLERANCE = 1e-5
REASON = "ours projects in float32"


def given(rng: np.random.Generator) -> tuple[inputs.ImageSet, torch.Tensor]:
    """Images, and the weights of the classifier, (classes, values)."""
    clean = inputs.image_set(rng, 8)
    return clean, torch.from_numpy(rng.normal(size=(clean.num_classes, clean.images[0].numel())))


def official(rng: np.random.Generator) -> Arrays:
    from utils_projection import project_data

    clean, weights = given(rng)
    return {"images": project_data(inputs.pixels(clean).flatten(1).numpy(), weights.numpy(), True)}


def ours(rng: np.random.Generator) -> Arrays:
    clean, weights = given(rng)
    with patch.object(OrthogonalProjection, "_fit", lambda *given: weights.T.float()):
        images = OrthogonalProjection().purify(clean, Job()).images
    return {"images": images.flatten(1).numpy()}
