"""How the paper on BridgePure trains and judges its classifiers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearnable_bench.registry import PROTOCOLS, Paper, Protocol
from unlearnable_bench.registry._papers import BRIDGE_PURE


@PROTOCOLS.register("bridge-pure")
@dataclass(frozen=True)
class BridgePure(Protocol):
    """120 epochs of SGD, x0.1 at 80 and 100, plain and adversarial; the last epoch counts.

    Stated (appendix B.4): SGD from 0.1, momentum 0.9, weight decay 5e-4, x0.1 at epochs 80 and 100, batch 128; ViT and CaiT
    with Adam from 5e-4. Victims train on the 40,000 images of CIFAR that give no pairs; here on all.
    Not stated: augmentation; we take crop with a border of 4 and flip, images in [0, 1]. Weight decay of Adam; we take none.
    How adversarial training trains; we take the same length and rates.
    """

    epochs: int = 120
    schedule: str = "milestones"
    milestones: tuple[float, ...] = (2 / 3, 5 / 6)
    augmentation: tuple[str, ...] = ("crop", "flip")

    display_name = "Recipe of BridgePure"
    label = "BridgePure"
    paper: ClassVar[Paper | None] = BRIDGE_PURE
    per_architecture: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        name: {"optimizer": "adam", "lr": 5e-4, "weight_decay": 0.0} for name in ("vit-apb", "cait-apb")
    }
