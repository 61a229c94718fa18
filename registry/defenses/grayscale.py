"""Grayscale: give up the colours, where many shortcuts live."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from registry import DEFENSES, Defense, ImageSet, Job, NotApplicable
from registry._papers import ISS
from registry.contract import DataInfo


@DEFENSES.register("grayscale")
@dataclass(frozen=True)
class Grayscale(Defense):
    """Replace every image by its luma (ITU-R 601), rounded and repeated in three channels.

    Image shortcut squeezing with grayscale. The integer arithmetic gives the same bytes as Pillow's conversion.
    """

    per_image: ClassVar[bool] = True
    paper = ISS

    def applies(self, info: DataInfo) -> None:
        if info.shape[0] != 3:
            raise NotApplicable(f"needs three colour channels, the images have {info.shape[0]}")

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32).view(1, 3, 1, 1)  # 601 luma in 1/65536
        result = torch.empty(train.images.shape, dtype=torch.uint8)
        for where in train.batches():
            luma = (train.levels(where).int() * weights).sum(1, keepdim=True) + 0x8000  # (n, 1, H, W)
            result[where] = (luma >> 16).to(torch.uint8)
            job.progress(where.stop, len(train))
        return replace(train, images=result)
