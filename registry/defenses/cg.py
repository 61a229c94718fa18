"""CG: colour jitter and random grayscale, so that a shortcut coded in colours cannot be relied on."""

from dataclasses import dataclass

from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError
from unlearnable_bench.registry._papers import STAGED_TRAINING


@DEFENSES.register("cg")
@dataclass(frozen=True)
class ColorsAndGray(Defense):
    """Jitter the colours of an image with probability 0.8, then turn it gray with probability 0.2.

    Both probabilities are the paper's. It does not state the strengths of the jitter: ours are the usual ones for CIFAR-10
    in contrastive learning. It follows the protocol's crop and flip; every image has its own draw.
    """

    jitter: float = 0.8  # probability, 0..1
    gray: float = 0.2  # probability, 0..1
    strength: float = 0.4  # largest change of the factors of brightness, contrast and saturation, 0..1; not stated
    hue: float = 0.1  # largest turn, parts of the circle, 0..0.5; not stated

    display_name = "Color jitter and random grayscale"
    label = "Color + gray"
    paper = STAGED_TRAINING

    def __post_init__(self) -> None:
        if not (0 <= self.jitter <= 1 and 0 <= self.gray <= 1 and self.strength >= 0 and 0 <= self.hue <= 0.5):
            raise EntryError(f"defense cg: expected probabilities 0..1, strength of 0 or more, hue 0..0.5, found {self}")

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._photo import colors_and_gray

        return colors_and_gray(x, self.jitter, self.gray, self.strength, self.hue), y
