"""CutMix: a rectangle from another image, so that no single region decides the label."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Paper


@DEFENSES.register("cutmix")
@dataclass(frozen=True)
class Cutmix(Defense):
    """Paste a rectangle of another image of the batch into every image; labels are weighted by the pixels that each has.

    The centre is a uniform pixel. A rectangle reaches half its side to either way, in whole pixels, so that its sides are even
    as in the published code. Edges are cut at the border; the label's weight is the exact part of the pixels after that. The
    code of several poisoning papers mixes twice, each time with probability a half: `cutmix(mixes=2,probability=0.5)`. Partners
    come from the same batch; every image has its own rectangle.
    """

    alpha: float = 1.0  # of Beta(alpha, alpha), from which the part of the image itself is drawn
    probability: float = 1.0  # that an image is mixed, 0..1
    mixes: int = 1  # times, one after another

    display_name = "CutMix"
    label = "CutMix"
    soft: ClassVar[bool] = True
    version: ClassVar[int] = 2  # an odd side is a pixel shorter
    paper = Paper(
        "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
        venue="ICCV 2019",
        url="https://arxiv.org/abs/1905.04899",
        authors="Sangdoo Yun, Dongyoon Han, Seong Joon Oh, Sanghyuk Chun, Junsuk Choe, Youngjoon Yoo",
        year=2019,
    )

    def __post_init__(self) -> None:
        if self.alpha <= 0 or not 0 <= self.probability <= 1 or self.mixes < 0:
            raise EntryError(f"defense cutmix: expected alpha above 0, probability 0..1 and mixes of 0 or more, found {self}")

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from unlearnable_bench.registry._mixing import as_rows, blended, shares

        y = as_rows(y)
        for _ in range(self.mixes):
            keep = shares(x, self.alpha, self.probability)
            partner = torch.randperm(len(x), device=x.device)
            hole = _rectangles(x, (1 - keep).sqrt())  # (B, 1, H, W)
            x = torch.where(hole, x[partner], x)
            y = blended(y, partner, 1 - hole.float().mean((1, 2, 3)))
        return x, y


def _rectangles(x: Tensor, side: Tensor) -> Tensor:
    """Return bool (B, 1, H, W): rectangles of relative side `side` (B,) around uniform centres."""
    lines = []
    for length in x.shape[2:]:
        centre = torch.randint(length, (len(x), 1), device=x.device)
        reach = (side * length).long()[:, None] // 2  # whole pixels to either side of the centre
        offset = torch.arange(length, device=x.device) - centre  # (B, length)
        lines.append((offset >= -reach) & (offset < reach))
    rows, columns = lines
    return rows[:, None, :, None] & columns[:, None, None, :]
