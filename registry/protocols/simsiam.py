"""SimSiam: each of two views predicts the features of the other, without negatives; judged by a linear probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearnable_bench.registry import PROTOCOLS, Contrastive, Paper

if TYPE_CHECKING:
    from torch import nn


@PROTOCOLS.register("simsiam")
@dataclass(frozen=True)
class SimSiam(Contrastive):
    """1,000 epochs of SGD from 0.06 with a cosine, then a linear probe by SGD from 30.

    The encoder sees two random views of every image of a batch: resized crop of at least `area`, mirrored, recoloured (0.4,
    0.4, 0.4, 0.1) with probability 0.8, gray with 0.2. Then a linear layer is trained on the features of the images as
    they are, and its test accuracy counts.
    Stated ("Transferable Unlearnable Examples", table 7): 1,000 epochs, SGD from 0.06 with a cosine, the probe 100 epochs of
    SGD from 30 with a cosine. From the code: batch 512, momentum 0.9, weight decay 5e-4, projection 512-2048-2048,
    predictor 2048-512-2048, crops from 0.08 of the area.
    Not stated: what the probe is trained on, see `simclr`.
    """

    lr: float = 0.06
    probe_optimizer: str = "sgd"
    probe_lr: float = 30.0
    probe_schedule: str = "cosine-epoch"

    display_name = "SimSiam"
    label = "SimSiam"
    paper: ClassVar[Paper | None] = Paper(
        "Exploring Simple Siamese Representation Learning",
        venue="CVPR 2021",
        url="https://arxiv.org/abs/2011.10566",
        authors="Xinlei Chen, Kaiming He",
        year=2021,
    )

    def objective(self, encoder: nn.Module) -> nn.Module:
        from unlearnable_bench.registry import _contrastive

        return _contrastive.SimSiamObjective(encoder)
