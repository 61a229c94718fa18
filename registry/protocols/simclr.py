"""SimCLR: two views of an image have to find each other among all views of the batch; judged by a linear probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearnable_bench.registry import PROTOCOLS, Contrastive, Paper

if TYPE_CHECKING:
    from torch import nn


@PROTOCOLS.register("simclr")
@dataclass(frozen=True)
class SimClr(Contrastive):
    """1,000 epochs of Adam from 1e-3 at temperature 0.5, then a linear probe by Adam.

    The encoder sees two random views of every image of a batch: resized crop of at least `area`, mirrored, recoloured (0.4,
    0.4, 0.4, 0.1) with probability 0.8, gray with 0.2. Then a linear layer is trained on the features of the images as they
    are, and its test accuracy counts.
    Stated ("Transferable Unlearnable Examples", table 7): 1,000 epochs, SGD at 0.06, constant; the probe 100 epochs of Adam
    from 1e-3. The optimizer row of its table seems to be out of order: the code of the backbone that it is based on has Adam
    1e-3, weight decay 1e-6, which we take; `simclr(optimizer=sgd,lr=0.06)` is the printed one.
    From the code: batch 512, an incomplete one dropped, temperature 0.5, projection to 512 and 128, crops from 0.08 of the
    area.
    Changed: encoders are drawn as torch draws them, in the code as torchvision does.
    Not stated: what the probe is trained on (section 1: the perturbed images; section 3.1: they or other data). We take the
    perturbed images, `probe_data=clean` the clean ones; without augmentation, which is not stated either.
    The paper on contrastive poisoning has SGD 0.5 with crops from 0.2 and a probe on augmented clean images.
    """

    optimizer: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 1e-6
    schedule: str = "constant"
    temperature: float = 0.5  # by which similarities are divided

    display_name = "SimCLR"
    label = "SimCLR"
    paper: ClassVar[Paper | None] = Paper(
        "A Simple Framework for Contrastive Learning of Visual Representations",
        venue="ICML 2020",
        url="https://arxiv.org/abs/2002.05709",
        authors="Ting Chen, Simon Kornblith, Mohammad Norouzi, Geoffrey Hinton",
        year=2020,
    )

    def objective(self, encoder: nn.Module) -> nn.Module:
        from unlearnable_bench.registry import _contrastive

        return _contrastive.SimClrObjective(encoder, self.temperature)
