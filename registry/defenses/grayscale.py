"""Grayscale: give up the colours, where many shortcuts live."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from unlearnable_bench.registry import DEFENSES, Defense, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._papers import ISS
from unlearnable_bench.registry.contract import DataInfo


@DEFENSES.register("grayscale")
@dataclass(frozen=True)
class Grayscale(Defense):
    """Replace every image by its luma (ITU-R 601), rounded and repeated in three channels.

    Image shortcut squeezing with grayscale. The integer arithmetic gives the same bytes as Pillow's conversion.
    """

    display_name = "Grayscale"
    label = "Grayscale"
    per_image: ClassVar[bool] = True
    paper = ISS

    def applies(self, info: DataInfo) -> None:
        if info.shape[0] != 3:
            raise NotApplicable(f"needs three colour channels, the images have {info.shape[0]}")

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        result = torch.empty(train.images.shape, dtype=torch.uint8)
        for where in train.batches(256):  # what a core's cache holds
            red, green, blue = train.levels(where).int().unbind(1)  # 601 luma in 1/65536
            luma = red.mul_(19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(0x8000)  # (n, H, W)
            result[where] = (luma >> 16).to(torch.uint8)[:, None]
            job.progress(where.stop, len(train))
        return replace(train, images=result)
