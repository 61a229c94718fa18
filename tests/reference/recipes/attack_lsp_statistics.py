"""Synthetic shortcuts: how far apart classes are and how wide, with the mosaics of either side."""

from typing import Any

import numpy as np
import torch
from reference.recipes.attack_lsp import script
from reference.vectors import Arrays

from unlearnable_bench.registry import ImageSet, Job
from unlearnable_bench.registry.attacks.lsp import LSP

REPOSITORY = "dayu11/Availability-Attacks-Create-Shortcuts"
FUNCTION = "cifar_train.py, sklearn.datasets.make_classification"
SEED = 9
TOLERANCE = 0.02
REASON = "statistics of 2,000 images: length of class means, variance within, distance between means; other draws on each side"
COUNT = 2000


def statistics(noise: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean length of the classes' means, the variance around them, and the mean distance between two of them."""
    flat = noise.reshape(len(noise), -1)
    means = np.stack([flat[labels == label].mean(0) for label in range(10)])
    within = np.square(flat - means[labels]).sum(1).mean()
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)
    return np.array([np.linalg.norm(means, axis=1).mean(), within, apart.sum() / 90])


def official(rng: np.random.Generator) -> Arrays:
    from sklearn.datasets import make_classification

    def drawn(**kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        return make_classification(**kwargs, random_state=SEED)

    found = script(COUNT, drawn)
    return {"statistics": statistics(found["simple_data"], found["simple_label"])}


def ours(rng: np.random.Generator) -> Arrays:
    clean = ImageSet(torch.zeros(COUNT, 3, 32, 32, dtype=torch.uint8), torch.arange(COUNT) % 10, 10)
    noise = torch.cat([delta for _, delta in LSP(epsilon=6 / 255 * 3072**0.5).craft(clean, Job(seed=SEED))])
    return {"statistics": statistics(noise.numpy(), clean.labels.numpy())}
