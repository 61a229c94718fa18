"""Convolution by class: the images that filters of ours make. The filters are handed to the authors' function as its draws."""

from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn

from unlearnable_bench.registry import ImageSet, Job
from unlearnable_bench.registry.attacks.cuda import ConvolutionBased

REPOSITORY = "vinusankars/Convolution-based-Unlearnability"
FUNCTION = "final_filter_unlearnable.get_filter_unlearnable"
SEED = 17
TOLERANCE = 0.0
REASON = "8-bit levels, truncated on both sides; ours are rounded when they are published"
COUNT, CLASSES = 3, 2
ENTRY = ConvolutionBased()


def given(rng: np.random.Generator) -> ImageSet:
    """Three images of two classes."""
    clean = inputs.image_set(rng, COUNT)
    return ImageSet(clean.images, clean.labels % CLASSES, CLASSES)


class Draws:
    """Stands in for numpy's global generator: hands the authors' function the weights and peaks of our filters."""

    def __init__(self, filters: Tensor) -> None:
        self.filters = [kernel.double().numpy() for kernel in filters]
        self.peaks = [np.unravel_index(kernel.argmax(), kernel.shape) for kernel in self.filters]
        self.places: list[int] = []

    def seed(self, seed: int) -> None:
        """Nothing is drawn."""

    def random(self) -> float:
        return 0.0  # every image is poisoned

    def uniform(self, size: tuple[int, ...], **bounds: float) -> np.ndarray:
        row, column = self.peaks.pop(0)
        self.places = [row, column]
        return np.broadcast_to(self.filters.pop(0), size).copy()

    def randint(self, high: int) -> int:
        return int(self.places.pop(0))


class OnThisMachine(nn.Conv2d):
    """A layer that has no other device to go to."""

    def cuda(self) -> nn.Module:
        return self


class Published:
    """A dataset as the authors' loader has it: levels (N, H, W, C)."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)


def official(rng: np.random.Generator) -> Arrays:
    clean = given(rng)
    levels = clean.images.permute(0, 2, 3, 1).numpy()
    loader = [(clean.pixels(slice(None)), clean.labels)]
    draws = Draws(ENTRY.filters(CLASSES, Job().generator))
    function = inputs.part_of(
        "final_filter_unlearnable",
        "get_filter_unlearnable",
        np=SimpleNamespace(**vars(np) | {"random": draws, "stack": list}),
        torch=torch,
        num_cls=CLASSES,
        mix=1.0,
        args=SimpleNamespace(dataset="cifar10"),
        train_transform=None,
        datasets=SimpleNamespace(CIFAR10=lambda **options: Published(levels)),
        DataLoader=lambda **options: loader,
        tqdm=lambda batches, total: batches,
    )
    with patch.object(torch.nn, "Conv2d", OnThisMachine), patch.object(Tensor, "cuda", lambda self: self):
        made, _ = function(ENTRY.blur, 1.0, False, ENTRY.size, 0, False)
    return {"images": made.data.transpose(0, 3, 1, 2)[:, :, ::2]}


def ours(rng: np.random.Generator) -> Arrays:
    clean = given(rng)
    delta = torch.cat([noise for _, noise in ENTRY.craft(clean, Job())])
    levels = (clean.pixels(slice(None)) + delta).mul(255).byte()
    return {"images": levels[:, :, ::2].numpy()}
