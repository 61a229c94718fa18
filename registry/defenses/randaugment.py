"""RandAugment: strong random augmentations, under which a fixed pattern looks different every time."""

from dataclasses import dataclass

from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Paper


@DEFENSES.register("randaugment")
@dataclass(frozen=True)
class RandAugment(Defense):
    """Apply to every image `operations` of fourteen operations drawn at random, all at one part of their ranges.

    Ranges as torchvision has them; directions are drawn. Poisoning papers give no numbers: ours are two operations at
    magnitude 9 of 30. It follows the protocol's crop and flip.
    """

    operations: int = 2  # per image
    magnitude: int = 9  # 0..30, part of each operation's range

    display_name = "RandAugment"
    label = "RandAugment"
    paper = Paper(
        "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space",
        venue="NeurIPS 2020",
        url="https://arxiv.org/abs/1909.13719",
        authors="Ekin D. Cubuk, Barret Zoph, Jonathon Shlens, Quoc V. Le",
        year=2020,
    )

    def __post_init__(self) -> None:
        if self.operations < 0 or not 0 <= self.magnitude <= 30:
            raise EntryError(f"defense randaugment: expected operations of 0 or more and magnitude 0 to 30, found {self}")

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._policies import randaugment

        return randaugment(x, self.operations, self.magnitude / 30), y
