"""Image shortcut squeezing: the best of bit-depth reduction, grayscale and JPEG, whichever it is for a poison."""

from dataclasses import dataclass
from typing import ClassVar

from unlearnable_bench.registry import DEFENSES, Defense
from unlearnable_bench.registry._papers import ISS


@DEFENSES.register("iss")
@dataclass(frozen=True)
class ImageShortcutSqueezing(Defense):
    """The best of three compressions, bit-depth reduction, grayscale and JPEG, chosen by the test accuracy.

    It stands for `members`, the paper's three at its settings: 2 bits, luma, quality 10. A plan runs them, shared with cells
    of one of them alone; reports show the one with the highest test accuracy, as D-VAE does, and name it. That choice
    looks at the clean test set, so it is marked as an oracle's.
    """

    members: ClassVar[tuple[str, ...]] = ("bdr(bits=2)", "grayscale", "jpeg(quality=10)")
    display_name = "Image shortcut squeezing, best of three"
    label = "ISS"
    paper = ISS
