"""How far perturbations of different classes lie apart, beside how far those of one class do."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unlearnable_bench.registry import ANALYSES, Analysis, Context, NotApplicable
from unlearnable_bench.registry._papers import D_VAE

NODES = 4001  # of the integral of `rate`
REACH = 12.0  # its ends, in standard deviations
SMALLEST = 1e-6  # part of a distance that is taken for none


@ANALYSES.register("class-distance")
@dataclass(frozen=True)
class ClassDistance(Analysis):
    """Distance of classes over spread within a class, of perturbations, of poisoned or of purified images.

    Section 3.3 of D-VAE says that strong perturbations lie far apart between classes and close within (theorem 3.2), and that
    a rate takes those away first (theorem 3.3); it measures neither. Figures: `distance`, the mean distance between the centres
    of two classes, and `spread`, the mean over classes of the root mean square distance to the centre, both l2 in pixel units;
    `ratio`, one over the other. `r` is the theorem's, along the line between the centres of two classes: half their distance
    over the standard deviation there, mean over pairs; `rate` the mean of what theorem 3.3 bounds, nats. Lines are drawn
    through the centres of every other image of a class and used for the rest, so that noise that knows no class has a distance
    and an r near 0. Where nothing varies within a class there is no ratio, and where it does not along a line, no r.
    """

    of: Literal["perturbation", "image", "purified"] = "perturbation"  # what is measured

    display_name = "Class distance over spread"
    label = "Class distance"
    paper = D_VAE
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison", "purified")

    def measure(self, context: Context) -> dict[str, float]:
        labels, classes = context.clean.labels, context.clean.num_classes
        turn = torch.zeros(len(labels), dtype=torch.int64)  # 0 draws the lines, 1 is measured along them
        for label in range(classes):
            rows = torch.nonzero(labels == label).flatten()
            if len(rows) < 4:
                raise NotApplicable(
                    f"class {label} has {len(rows)} images; expected 4 or more, two to draw lines, two to measure"
                )
            turn[rows[1::2]] = 1
        if self.of == "perturbation" and not context.chosen.any():
            raise NotApplicable("no image is poisoned, there is no perturbation to measure")
        centres = self._sums(context, turn)  # (2, K, D)
        lines = centres[0]
        along = torch.zeros(classes, classes, dtype=torch.float64)  # [a, b]: mean over class a of x . lines[b]
        products = torch.zeros(classes, classes, classes, dtype=torch.float64)  # their mean products
        squares = torch.zeros(classes, dtype=torch.float64)  # mean squared distance to the centre of the measured half
        count = torch.bincount(labels[turn == 1], minlength=classes).double()
        for where in context.clean.batches(1024):
            used = turn[where] == 1
            own, x = labels[where][used], self._values(context, where)[used]
            squares.index_add_(0, own, (x - centres[1][own]).square().sum(1))
            shadow = x @ lines.T  # (n, K)
            along.index_add_(0, own, shadow)
            for one in own.unique():
                products[one] += shadow[own == one].T @ shadow[own == one]
        squares, along, products = squares / count, along / count[:, None], products / count[:, None, None]
        a, b = torch.triu_indices(classes, classes, 1)
        inner = along[a, a] - along[a, b] - along[b, a] + along[b, b]  # of both halves' differences of centres
        apart = inner.clamp(min=0)
        figures = {"distance": float(apart.sqrt().mean()), "spread": float(squares.sqrt().mean())}
        if figures["spread"] > SMALLEST * figures["distance"]:
            figures["ratio"] = figures["distance"] / figures["spread"]
        scatter = products - along[:, :, None] * along[:, None, :]  # covariance of the shadows within a class
        within = (_varying(scatter, a, a, b) + _varying(scatter, b, a, b)) / 2
        if len(a) and bool((within.sqrt() > SMALLEST * apart).all()):
            r = apart / (2 * within.sqrt())
            figures |= {"r": float(r.mean()), "rate": float(rate(r).mean())}
        return figures

    def _values(self, context: Context, where: slice) -> Tensor:
        """Rows of the set that is looked at, float64 (n, D)."""
        images = context.purified if self.of == "purified" else context.poison
        x = images.pixels(where).double()
        return (x - context.clean.pixels(where).double() if self.of == "perturbation" else x).flatten(1)

    def _sums(self, context: Context, turn: Tensor) -> Tensor:
        """The centres of both halves of every class, float64 (2, K, D)."""
        labels, classes = context.clean.labels, context.clean.num_classes
        total = torch.zeros(2 * classes, math.prod(context.clean.info.shape), dtype=torch.float64)
        place = turn * classes + labels
        for where in context.clean.batches(1024):
            total.index_add_(0, place[where], self._values(context, where))
        count = torch.bincount(place, minlength=2 * classes)
        return (total / count[:, None]).view(2, classes, -1)


def _varying(scatter: Tensor, of: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The variance, within the class `of`, of what lies along the line from b to a."""
    return (scatter[of, a, a] + scatter[of, b, b] - 2 * scatter[of, a, b]).clamp(min=0)


def rate(r: Tensor) -> Tensor:
    """S(r) of theorem 3.3, nats: the divergence of two normals of half the distance `r`, in their standard deviations, brought
    to mean 0 and variance 1, from a standard normal. It is 0.5 ln(1 + r^2) less what the mixture tells of its component."""
    n = torch.linspace(-REACH, REACH, NODES, dtype=torch.float64)
    weight = torch.exp(-n.square() / 2) / math.sqrt(2 * math.pi)
    r = r.double()[..., None]
    unsure = torch.trapezoid(weight * torch.nn.functional.softplus(-2 * r * (r + n)), n)
    return 0.5 * torch.log1p(r[..., 0].square()) - (math.log(2) - unsure)
