"""How the paper on ECLIPSE trains and judges its classifiers."""

from dataclasses import dataclass
from typing import ClassVar

from unlearnable_bench.registry import PROTOCOLS, Paper, Protocol
from unlearnable_bench.registry._papers import ECLIPSE


@PROTOCOLS.register("eclipse")
@dataclass(frozen=True)
class Eclipse(Protocol):
    """80 epochs of SGD at a constant rate of 0.1 without weight decay, plain and adversarial; the last epoch counts.

    Stated (section 4.1): SGD, momentum 0.9, rate 0.1, batch 128, 80 epochs.
    From the code, which is for CIFAR-10: the rate stays, no weight decay, crop with a border of 4 and flip, images in [0, 1].
    Not stated: other datasets; we take the same recipe. How adversarial training trains; we take the same length and rate.
    """

    epochs: int = 80
    schedule: str = "constant"
    weight_decay: float = 0.0
    augmentation: tuple[str, ...] = ("crop", "flip")

    display_name = "Recipe of ECLIPSE"
    label = "ECLIPSE"
    paper: ClassVar[Paper | None] = ECLIPSE
