"""AutoAugment: strong learnt augmentations, under which a fixed pattern looks different every time."""

from dataclasses import dataclass

from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, Paper


@DEFENSES.register("autoaugment")
@dataclass(frozen=True)
class AutoAugment(Defense):
    """Apply to every image one of the 25 pairs of operations that the paper found for CIFAR-10.

    The policy and its ranges are torchvision's; every image draws for itself. It follows the protocol's crop and flip, where
    the paper puts it between the two and cutout; the operations move whole pixels and fill with black.
    """

    display_name = "AutoAugment"
    label = "AutoAugment"
    paper = Paper(
        "AutoAugment: Learning Augmentation Policies from Data",
        venue="CVPR 2019",
        url="https://arxiv.org/abs/1805.09501",
        authors="Ekin D. Cubuk, Barret Zoph, Dandelion Mane, Vijay Vasudevan, Quoc V. Le",
        year=2019,
    )

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._policies import autoaugment

        return autoaugment(x), y
