"""Synthetic shortcuts: from the mosaic of an image to its noise. The mosaics are ours on both sides."""

import runpy
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry import ImageSet, Job
from unlearnable_bench.registry.attacks.lsp import LSP

REPOSITORY = "dayu11/Availability-Attacks-Create-Shortcuts"
FUNCTION = "cifar_train.py, util.normalize_l2norm"
SEED = 8
TOLERANCE = 1e-5
REASON = "float32 on both sides"
TILES, COUNT = 4, 8  # of a mosaic along each side; images


def given(rng: np.random.Generator) -> np.ndarray:
    """Return mosaics, float32 (N, tiles, tiles, 3)."""
    return rng.normal(0, 10, (COUNT, TILES, TILES, 3)).astype(np.float32)


class Network(torch.nn.Linear):
    """Stands in for the victim, which is not trained."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(1, num_classes)

    def cuda(self) -> torch.nn.Module:
        return self


def script(count: int, classify: Callable[..., Any]) -> dict[str, Any]:
    """Run the authors' script for so many gray images and no epochs; return its variables."""
    import sklearn.datasets  # a second, which our side does without

    labels = [number % 10 for number in range(count)]
    data = SimpleNamespace(data=np.full((count, 32, 32, 3), 128, np.uint8), targets=labels)
    folder = f"{sys.path[0]}/synthetic_perturbations"
    with (
        inputs.absent("torchvision", "torchvision.models", "torch.utils.data", "models", "models.ResNet", "models.DenseNet"),
        patch.object(sys, "argv", ["cifar_train.py", "--epoch=0"]),
        patch.object(sys, "path", [folder, *sys.path]),
        patch.object(np, "float", float, create=True),  # numpy had this name when the script was written
        patch.object(sklearn.datasets, "make_classification", classify),
    ):
        sys.modules["models.ResNet"].ResNet18 = Network
        sys.modules["torchvision"].datasets.CIFAR10 = lambda **kwargs: data
        return runpy.run_path(f"{folder}/cifar_train.py")


def official(rng: np.random.Generator) -> Arrays:
    mosaics = given(rng).reshape(COUNT, -1)
    found = script(COUNT, lambda **kwargs: (mosaics, np.arange(COUNT) % 10))
    return {"noise": found["simple_data"].transpose(0, 3, 1, 2)[:, :, ::4, ::4]}


def ours(rng: np.random.Generator) -> Arrays:
    mosaics = torch.from_numpy(given(rng)).permute(0, 3, 1, 2).flatten(1)
    clean = ImageSet(torch.zeros(COUNT, 3, 32, 32, dtype=torch.uint8), torch.arange(COUNT) % 10, 10)
    entry = LSP(epsilon=6 / 255 * 3072**0.5)
    with patch.object(LSP, "_mosaics", lambda *given: mosaics):
        noise = torch.cat([delta for _, delta in entry.craft(clean, Job())])
    return {"noise": noise[:, :, ::4, ::4].numpy()}
