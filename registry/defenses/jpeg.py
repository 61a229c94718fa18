"""JPEG compression: the quantisation of small coefficients removes most bounded perturbations."""

import io
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from registry import DEFENSES, Defense, EntryError, ImageSet, Job, NotApplicable
from registry._papers import ISS
from registry.contract import DataInfo


@DEFENSES.register("jpeg")
@dataclass(frozen=True)
class Jpeg(Defense):
    """Encode and decode every training image as JPEG, once, before training.

    Image shortcut squeezing with JPEG; the paper's setting is quality 10, chroma at the encoder's default (4:2:0).
    """

    quality: int = 10  # 1..95, of libjpeg

    per_image: ClassVar[bool] = True
    paper = ISS

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 95:
            raise EntryError(f"defense jpeg: quality={self.quality}, expected 1 to 95")

    def applies(self, info: DataInfo) -> None:
        if info.shape[0] not in (1, 3):
            raise NotApplicable(f"needs one or three channels, the images have {info.shape[0]}")

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        from PIL import Image

        result = torch.empty(train.images.shape, dtype=torch.uint8)
        for row in range(len(train)):
            pixels = train.levels(row).permute(1, 2, 0).squeeze(2).numpy()  # (H, W, 3) or (H, W)
            with io.BytesIO() as file:
                Image.fromarray(pixels).save(file, "JPEG", quality=self.quality)
                decoded = np.array(Image.open(file))
            result[row] = torch.from_numpy(decoded.reshape(*decoded.shape[:2], -1)).permute(2, 0, 1)
            if row % 1000 == 0:
                job.progress(row, len(train))
        return replace(train, images=result)
