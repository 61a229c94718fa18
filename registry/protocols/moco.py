"""MoCo: a view has to find the other among the keys that a slow copy of the encoder made; judged by a linear probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearnable_bench.registry import PROTOCOLS, Contrastive, Paper

if TYPE_CHECKING:
    from torch import nn


@PROTOCOLS.register("moco")
@dataclass(frozen=True)
class MoCo(Contrastive):
    """1,000 epochs of SGD from 0.3 with a cosine and a queue of 4,096 keys, then a linear probe by SGD from 30.

    The encoder sees two random views of every image of a batch: resized crop of at least `area`, mirrored, recoloured (0.4,
    0.4, 0.4, 0.1) with probability 0.8, gray with 0.2. Then a linear layer is trained on the features of the images as they
    are, and its test accuracy counts.
    Stated ("Transferable Unlearnable Examples", table 7): 1,000 epochs, rate 0.3 with a cosine, momentum of the keys 0.99, the
    probe 100 epochs of SGD from 30 with a cosine. Its table says Adam, with which 0.3 diverges: SGD, as in its code.
    From the code: batch 512, an incomplete one dropped, momentum 0.9, weight decay 1e-4, temperature 0.2, queue 4,096, a linear
    projection to 128, batch normalisation by eighths of a batch whose statistics move once a step, by their mean, one of the
    two directions, crops from 0.08 of the area.
    Changed: encoders are drawn as torch draws them, in the code as torchvision does, and the parts of a batch are neighbours.
    Not stated: what the probe is trained on, see `simclr`.
    """

    lr: float = 0.3
    weight_decay: float = 1e-4
    temperature: float = 0.2  # by which similarities are divided
    queue: int = 4096  # keys
    key_momentum: float = 0.99  # of the slow copy that encodes the keys, per step
    splits: int = 8  # parts of a batch that batch normalisation sees
    probe_optimizer: str = "sgd"
    probe_lr: float = 30.0
    probe_schedule: str = "cosine-epoch"

    display_name = "MoCo"
    label = "MoCo"
    version: ClassVar[int] = 2  # running statistics move once a step
    paper: ClassVar[Paper | None] = Paper(
        "Momentum Contrast for Unsupervised Visual Representation Learning",
        venue="CVPR 2020",
        url="https://arxiv.org/abs/1911.05722",
        authors="Kaiming He, Haoqi Fan, Yuxin Wu, Saining Xie, Ross Girshick",
        year=2020,
    )

    def objective(self, encoder: nn.Module) -> nn.Module:
        from unlearnable_bench.registry import _contrastive

        return _contrastive.MoCoObjective(encoder, self.temperature, self.queue, self.key_momentum, self.splits)
