"""Perturbations of poisons as points of a plane: t-SNE of a seeded sample, to see whether classes lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unlearnable_bench.poisons.recipe import PoisonRecipe
from unlearnable_bench.poisons.store import Store
from unlearnable_bench.registry import ATTACKS, DATASETS, EntryError, MissingDataError, child, data
from unlearnable_bench.registry.attacks.tue import csd
from unlearnable_bench.results import Workspace

DIRECTIONS = 50  # of the largest variance, to which noises are reduced first
NEIGHBOURS = 30.0  # perplexity


@dataclass(frozen=True)
class Embedded:
    """A poison's perturbations in a plane."""

    attack: str  # the spec
    checksum: str  # of the poison
    points: np.ndarray  # float64 (n, 2)
    classes: np.ndarray  # int64 (n,)
    csd: float  # Classwise Separability Discriminant of the same perturbations; low: classes lie apart


def embed_poisons(
    specs: Sequence[str], dataset: str, space: Workspace, device: str = "cpu", count: int = 1000, seed: int = 0
) -> tuple[list[Embedded], tuple[str, ...]]:
    """Craft or find poisons of one dataset and embed the noise of the same images of each; and the names of its classes."""
    part = DATASETS.resolve(dataset)[0]
    recipes = [PoisonRecipe(part, ATTACKS.resolve(spec), seed) for spec in specs]
    needed = list({one.dataset.text: one.dataset for recipe in recipes for one in recipe.family}.values())
    for one in needed:
        if sentence := data.missing(one):
            raise MissingDataError(sentence)
    child.decode(needed)
    store, loaded = Store(space.poisons, device), data.load(part)
    clean = loaded.train
    rows = sample(clean.labels, clean.num_classes, count, seed)
    found = []
    for recipe in recipes:
        kept = store.poison(recipe, loaded)
        noise = (kept.images[rows].float() - clean.images[rows].float()) / 255
        if not noise.any():
            raise EntryError(f"attack {recipe.text} changes no image: it has no perturbations to show")
        labels = clean.labels[rows]
        found.append(Embedded(recipe.text, kept.checksum, plane(noise, seed), labels.numpy(), float(csd(noise, labels))))
    return found, clean.classes or tuple(f"class {number}" for number in range(clean.num_classes))


def sample(labels: Tensor, num_classes: int, count: int, seed: int) -> Tensor:
    """Return rows of about `count` images, as many of every class as it has and as fit, in the order of the set."""
    draws = torch.Generator().manual_seed(seed)
    each = max(1, count // num_classes)
    found = []
    for label in range(num_classes):
        members = torch.nonzero(labels == label).flatten()
        found.append(members[torch.randperm(len(members), generator=draws)[:each]])
    return torch.cat(found).sort().values


def plane(noise: Tensor, seed: int) -> np.ndarray:
    """Return noise (n, C, H, W) as points (n, 2): t-SNE of its largest directions."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    points = noise.flatten(1).double().numpy()
    if len(points) < 4:
        raise EntryError(f"{len(points)} images are too few for neighbours; take 4 or more")
    points = PCA(min(DIRECTIONS, *points.shape), svd_solver="randomized", random_state=seed).fit_transform(points)
    tsne = TSNE(perplexity=min(NEIGHBOURS, (len(points) - 1) / 3), init="random", learning_rate="auto", random_state=seed)
    embedded: np.ndarray = tsne.fit_transform(points).astype(np.float64)
    return embedded
