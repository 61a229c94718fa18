"""How the paper on entangled features trains and judges its classifiers."""

from dataclasses import dataclass
from typing import ClassVar

from unlearnable_bench.registry import PROTOCOLS, Paper, Protocol
from unlearnable_bench.registry._papers import ENTANGLED


@PROTOCOLS.register("entf")
@dataclass(frozen=True)
class Entangled(Protocol):
    """100 epochs of SGD, x0.1 at 75 and 90, plain and adversarial; the last epoch counts.

    From the code: SGD from 0.1, momentum 0.9, weight decay 5e-4, batch 128, crop with a border of 4 and flip, images in [0, 1].
    It evaluates attacks by the script that trains its robust surrogate, and only adversarially; we take the same recipe for
    plain training. The paper was read as it was submitted, without its appendix.
    """

    epochs: int = 100
    schedule: str = "milestones"
    milestones: tuple[float, ...] = (0.75, 0.9)
    augmentation: tuple[str, ...] = ("crop", "flip")

    display_name = "Recipe of EntF"
    label = "EntF"
    paper: ClassVar[Paper | None] = ENTANGLED
