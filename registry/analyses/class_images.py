"""What the images of a class have in common, as pictures: their mean, or what a linear model learns of them."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import ANALYSES, DEFENSES, Analysis, Context, ImageSet
from unlearnable_bench.registry._figures import class_means
from unlearnable_bench.registry._papers import LEARN_FROM_UNLEARNABLE

CLASSES, SIDE = 10, 32  # classes and pixels of the pictures that a record keeps


@ANALYSES.register("class-images")
@dataclass(frozen=True)
class ClassImages(Analysis):
    """One picture per class of the poisoned images, and how much it looks like the class's perturbation.

    Figures 3 and 5 to 7 of the paper. `of=mean` is the mean image of a class, `of=weights` the column of the linear model that
    the defense `ortho-proj` fits before it projects: the same fit, with random numbers of this measurement. Figures: `match`,
    the mean over classes of the cosine between a class's picture and the mean perturbation of its images, each less its mean
    over the classes, where anything is poisoned and differs between classes; `contrast`, the root of the mean square of
    pictures less their mean, in the units of the pictures; of weights also `train_acc` of the model on the poisoned images.
    Curves: `picture_1` and on, of the first ten classes, a number 0xRRGGBB per pixel, row by row; larger images are averaged
    down to a side of 32. Means are shown as they are; weights around middle grey, the largest of a class black or white. The
    paper does not say how it brings weights to colours.
    """

    of: Literal["mean", "weights"] = "mean"  # what a picture shows

    display_name = "Class images"
    label = "Class images"
    paper = LEARN_FROM_UNLEARNABLE
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison")

    def measure(self, context: Context) -> dict[str, float]:
        figures: dict[str, float] = {}
        shape = context.poison.info.shape
        if self.of == "mean":
            pictures = class_means(context.poison)
            shown = pictures
        else:
            defense: Any = DEFENSES["ortho-proj"]()
            start = torch.zeros(math.prod(shape), device=context.job.device)
            weights = defense._fit(context.poison, start, context.job).cpu()  # (d, K)
            pictures = weights.T.double().reshape(-1, *shape)
            shown = 0.5 + 0.5 * pictures / pictures.flatten(1).abs().amax(1).clamp(min=1e-12).view(-1, 1, 1, 1)
            figures["train_acc"] = _accuracy(context.poison, weights)
        for number, picture in enumerate(shown[:CLASSES], 1):
            context.curves[f"picture_{number}"] = colours(picture)
        apart = pictures - pictures.mean(0)
        figures["contrast"] = float(apart.square().mean().sqrt())
        pattern = class_means(context.poison) - class_means(context.clean)
        pattern = pattern - pattern.mean(0)
        if pattern.abs().max() > 1e-9:
            figures["match"] = float(F.cosine_similarity(apart.flatten(1), pattern.flatten(1), dim=1, eps=1e-12).mean())
        return figures


def colours(picture: Tensor) -> list[float]:
    """Return a picture (C, H, W) in [0, 1] units as numbers 0xRRGGBB, row by row, square, with a side of 32 pixels at most."""
    small = F.adaptive_avg_pool2d(picture, min(SIDE, *picture.shape[1:]))
    levels = small.expand(3, -1, -1).mul(255).round().clamp(0, 255).long()  # (3, H, W); grey has three of its one channel
    return [float(value) for value in ((levels[0] << 16) + (levels[1] << 8) + levels[2]).flatten()]


def _accuracy(images: ImageSet, weights: Tensor) -> float:
    right = sum(
        int(((images.pixels(where).flatten(1) @ weights).argmax(1) == images.labels[where]).sum())
        for where in images.batches(1024)
    )
    return right / len(images)
