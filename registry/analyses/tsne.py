"""Pictures of perturbations, images and features in two dimensions."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from registry import ANALYSES, Analysis, Context, EntryError, NotApplicable
from registry._papers import STAGED_TRAINING, TRANSFERABLE_UNLEARNABLE


@ANALYSES.register("tsne")
@dataclass(frozen=True)
class Embedding(Analysis):
    """A t-SNE of perturbations, of poisoned or of purified images, some of each class.

    Figures 3 to 5 of the paper (perturbations). Curves: `x`, `y` and `label`, one value per point. Figures: the activation
    cluster measure `acm` and the `extent` of the picture.
    """

    of: Literal["perturbation", "image", "purified"] = "perturbation"  # what is drawn: perturbations, or images
    per_class: int = 0  # images of each class; 0: 100, or 50 where there are more than ten classes

    paper = TRANSFERABLE_UNLEARNABLE
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison", "purified")
    small: ClassVar[dict[str, Any]] = {"per_class": 8}

    def __post_init__(self) -> None:
        if self.per_class < 0:
            raise EntryError(f"analysis tsne: per_class={self.per_class} is negative; 0 means the paper's number")

    def measure(self, context: Context) -> dict[str, float]:
        from registry._staged import watched

        rows = watched(context.clean, self.per_class, torch.Generator().manual_seed(0))
        images = context.purified if self.of == "purified" else context.poison
        x = images.pixels(rows)
        if self.of == "perturbation":
            x = x - context.clean.pixels(rows)
            if not x.any():
                raise NotApplicable("no image is poisoned, there is no perturbation to show")
        return drawn(context, x.flatten(1), context.clean.labels[rows])


@ANALYSES.register("tsne-features")
@dataclass(frozen=True)
class FeatureEmbedding(Analysis):
    """A t-SNE of the features of training images after the victim's last epoch.

    Figures 5, 11 and 13 of the paper, at the penultimate layer. Curves and figures as of `tsne`.
    """

    per_class: int = 0  # images of each class; 0: 100, or 50 where there are more than ten classes

    paper = STAGED_TRAINING
    needs: ClassVar[tuple[str, ...]] = ("purified", "epochs")
    small: ClassVar[dict[str, Any]] = {"per_class": 8}

    def measure(self, context: Context) -> dict[str, float]:
        from registry._staged import watched

        rows = watched(context.purified, self.per_class, torch.Generator().manual_seed(0))
        return drawn(context, context.victim.features(context.purified.rows(rows)), context.purified.labels[rows])


def drawn(context: Context, values: Tensor, labels: Tensor) -> dict[str, float]:
    """Embed (n, D) values, put the picture into the curves, return its figures."""
    from registry._staged import clustered, embedded

    points = embedded(values)
    for name, column in (("x", points[:, 0]), ("y", points[:, 1]), ("label", labels)):
        context.curves[name] = [round(float(value), 3) for value in column]
    measure, extent = clustered(points, labels)
    return {"acm": measure, "extent": extent}
