"""Pictures of perturbations, images and features in two dimensions."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from unlearnable_bench.registry import ANALYSES, Analysis, Context, EntryError, NotApplicable
from unlearnable_bench.registry._papers import STAGED_TRAINING, TRANSFERABLE_UNLEARNABLE


@ANALYSES.register("tsne")
@dataclass(frozen=True)
class Embedding(Analysis):
    """A t-SNE of perturbations, of poisoned or of purified images, some of each class.

    Figures 3 to 5 of the paper (perturbations). Curves: `x`, `y` and `label`, one value per point. Figures: the activation
    cluster measure `acm` and the `extent` of the picture.
    """

    of: Literal["perturbation", "image", "purified"] = "perturbation"  # what is drawn: perturbations, or images
    per_class: int = 0  # images of each class; 0: 100, or 50 where there are more than ten classes

    display_name = "t-SNE of perturbations"
    label = "t-SNE"
    paper = TRANSFERABLE_UNLEARNABLE
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison", "purified")
    small: ClassVar[dict[str, Any]] = {"per_class": 8}

    def __post_init__(self) -> None:
        if self.per_class < 0:
            raise EntryError(f"analysis tsne: per_class={self.per_class} is negative; 0 means the paper's number")

    def measure(self, context: Context) -> dict[str, float]:
        from unlearnable_bench.registry._staged import watched

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
    """A t-SNE of the features of training images, after the victim's last epoch or at several times of its training.

    Figures 5, 11 and 13 of the paper: at the penultimate layer and after residual blocks 4 and 6. The output of a block is
    embedded whole, channels and positions; the paper does not say whether it is averaged over positions. Curves and figures
    as of `tsne`; of the earlier pictures the curves `x_5` and `y_5`, after epoch 5, and over all of them `picture_epoch`,
    `picture_acm` and `picture_extent`. The paper's epochs are not legible in our source.
    """

    per_class: int = 0  # images of each class; 0: 100, or 50 where there are more than ten classes
    block: int = 0  # residual block whose output is shown, from 1; 0: what enters the head
    pictures: Literal["last", "doubling"] = "last"  # after which epochs: the last, or 1, 2, 4, 8, ... and the last

    display_name = "t-SNE of features"
    label = "t-SNE features"
    paper = STAGED_TRAINING
    needs: ClassVar[tuple[str, ...]] = ("purified", "epochs")
    small: ClassVar[dict[str, Any]] = {"per_class": 8, "pictures": "doubling"}

    def __post_init__(self) -> None:
        if self.per_class < 0 or self.block < 0:
            raise EntryError(f"analysis tsne-features: expected per_class and block of 0 or more, found {self}")

    def after_epoch(self, context: Context) -> None:
        assert context.victim is not None, "an analysis that needs epochs has a victim"
        epoch = context.victim.epoch
        if self.pictures == "doubling" and epoch & (epoch - 1) == 0:  # a power of two
            self._picture(context, epoch)

    def measure(self, context: Context) -> dict[str, float]:
        assert context.victim is not None, "an analysis that needs epochs has a victim"
        epoch = context.victim.epoch
        epochs = context.curves.get("picture_epoch", [])
        if epochs and epochs[-1] == epoch:  # after the last epoch there is a picture already
            for axis in ("x", "y"):
                context.curves[axis] = context.curves.pop(f"{axis}_{epoch}")
            return {"acm": context.curves["picture_acm"][-1], "extent": context.curves["picture_extent"][-1]}
        return self._picture(context, 0)

    def _picture(self, context: Context, epoch: int) -> dict[str, float]:
        """Add a picture; 0 stands for the last epoch."""
        from unlearnable_bench.registry._blocks import seen
        from unlearnable_bench.registry._staged import watched

        assert context.victim is not None, "an analysis that needs epochs has a victim"
        rows = watched(context.purified, self.per_class, torch.Generator().manual_seed(0))
        part = context.purified.rows(rows)
        figures = drawn(context, seen(context.victim, part, self.block), part.labels, f"_{epoch}" if epoch else "")
        if self.pictures == "doubling":
            for name, value in {"epoch": float(context.victim.epoch), **figures}.items():
                context.curves.setdefault(f"picture_{name}", []).append(value)
        return figures


def drawn(context: Context, values: Tensor, labels: Tensor, ending: str = "") -> dict[str, float]:
    """Embed (n, D) values, put the picture into the curves `x` and `y`, their names ending so, return its figures."""
    from unlearnable_bench.registry._staged import clustered, embedded

    points = embedded(values)
    for name, column in ((f"x{ending}", points[:, 0]), (f"y{ending}", points[:, 1]), ("label", labels)):
        context.curves[name] = [round(float(value), 3) for value in column]
    measure, extent = clustered(points, labels)
    return {"acm": measure, "extent": extent}
