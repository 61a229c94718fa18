"""How the paper on stable error-minimizing noise trains and judges its classifiers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearnable_bench.registry import PROTOCOLS, Paper, Protocol
from unlearnable_bench.registry._papers import STABLE_UNLEARNABLE


@PROTOCOLS.register("sem")
@dataclass(frozen=True)
class Sem(Protocol):
    """40,000 steps of SGD, x0.1 at 16,000 and 32,000, plain and adversarial; the last step counts, over three seeds.

    Stated (appendix, "Data Augmentation" and "Metrics"): flip, crop with a border of 4, pixels in [-0.5, 0.5], on the
    ImageNet subset a random resized crop to 224 and flip; seeds 0, 6178 and 42. The steps stay where a ratio or a subset
    leaves fewer images (table 11).
    From the code, which is that of robust error-minimizing noise: the steps and their schedule, batch 128 without the
    incomplete one, momentum 0.9, weight decay 5e-4.
    Not stated: Facescrub (table 8); we take the same recipe with crop and flip at the size of its images. SVHN is not in
    the paper; we take the same. The code resizes ImageNet to 256x256 and judges a centre of 224; `imagenet100(size=256)`
    comes close, with the short side at 256.
    """

    steps: int = 40_000
    drop_last: bool = True
    schedule: str = "milestones"
    milestones: tuple[float, ...] = (0.4, 0.8)  # steps 16,000 and 32,000
    augmentation: tuple[str, ...] = ("crop", "flip")
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    display_name = "Recipe of SEM"
    label = "SEM"
    paper: ClassVar[Paper | None] = STABLE_UNLEARNABLE
    per_dataset: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "imagenet100": {"augmentation": ("resized-crop", "flip"), "input_size": 224},
    }
