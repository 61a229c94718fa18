"""How the paper on transferable unlearnable examples trains its supervised classifiers."""

from dataclasses import dataclass
from typing import ClassVar

from unlearnable_bench.registry import PROTOCOLS, Paper, Protocol
from unlearnable_bench.registry._papers import TRANSFERABLE_UNLEARNABLE


@PROTOCOLS.register("tue")
@dataclass(frozen=True)
class Tue(Protocol):
    """200 epochs of SGD with a cosine, on every dataset; the last epoch counts.

    Stated (table 7, "Supervised"): 200 epochs, SGD from 0.1, cosine, cross-entropy.
    From the code: batch 128, momentum 0.9, weight decay 5e-4, a step of the cosine per epoch, crop with a border of 4 and
    flip, on SVHN and SVHN-small too, images in [0, 1]; it logs the best epoch besides.
    Not stated: adversarial training, which the paper has not; we train it as plain. ImageNet and Facescrub are not in the
    paper; we take the same. The contrastive columns are other protocols.
    """

    epochs: int = 200
    schedule: str = "cosine-epoch"
    augmentation: tuple[str, ...] = ("crop", "flip")

    display_name = "Recipe of TUE"
    label = "TUE"
    paper: ClassVar[Paper | None] = TRANSFERABLE_UNLEARNABLE
