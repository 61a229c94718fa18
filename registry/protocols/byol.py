"""BYOL: each of two views predicts what a slow copy of the encoder says of the other; judged by a linear probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearnable_bench.registry import PROTOCOLS, Contrastive, Paper

if TYPE_CHECKING:
    from torch import nn


@PROTOCOLS.register("byol")
@dataclass(frozen=True)
class Byol(Contrastive):
    """1,000 epochs of SGD from 1.0 with a warm-up of ten and a cosine, then a linear probe by SGD from 1.0.

    The encoder sees two random views of every image of a batch: resized crop of at least `area`, mirrored, recolored (0.4,
    0.4, 0.4, 0.1) with probability 0.8, gray with 0.2. Then a linear layer is trained on the features of the images as they
    are, and its test accuracy counts.
    From the code of "Efficient Availability Attacks against Supervised and Contrastive Learning Simultaneously", which judges
    its attacks `aue` and `aap` so: batch 512, momentum 0.9, weight decay 1e-4, momentum of the slow copy 0.999, projection
    D-2048-128 and predictor 128-2048-128, both views normalized as one batch, the probe 100 epochs on the poisoned images.
    BYOL's authors have LARS, projections of 4096 and 256, blur, and a momentum that climbs from 0.996 to 1.
    Changed: the warm-up goes by steps, in the code by epochs; the rate falls to 0, not to 1e-6; the probe's falls along a
    cosine, in the code to a fifth after 60, 75 and 90 epochs; encoders are drawn as torch draws them, not as torchvision does.
    """

    drop_last: bool = False
    lr: float = 1.0
    weight_decay: float = 1e-4
    schedule: str = "cosine-epoch"
    warmup: float = 0.01
    target_momentum: float = 0.999  # of the slow copy that is predicted, per step
    probe_optimizer: str = "sgd"
    probe_lr: float = 1.0
    probe_schedule: str = "cosine-epoch"

    display_name = "BYOL"
    label = "BYOL"
    paper: ClassVar[Paper | None] = Paper(
        "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning",
        venue="NeurIPS 2020",
        url="https://arxiv.org/abs/2006.07733",
        authors="Jean-Bastien Grill, Florian Strub, Florent Altché, Corentin Tallec, Pierre H. Richemond, Elena Buchatskaya, "
        "Carl Doersch, Bernardo Avila Pires, Zhaohan Daniel Guo, Mohammad Gheshlaghi Azar, Bilal Piot, Koray Kavukcuoglu, "
        "Rémi Munos, Michal Valko",
        year=2020,
    )

    def objective(self, encoder: nn.Module) -> nn.Module:
        from unlearnable_bench.registry import _contrastive

        return _contrastive.ByolObjective(encoder, self.target_momentum)
