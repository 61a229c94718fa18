"""JPEG compression: the quantisation of small coefficients removes most bounded perturbations."""

import importlib.util
import io
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._papers import ISS
from unlearnable_bench.registry.contract import DataInfo


@DEFENSES.register("jpeg")
@dataclass(frozen=True)
class Jpeg(Defense):
    """Encode and decode every training image as JPEG, once, before training.

    Image shortcut squeezing with JPEG; the paper's setting is quality 10, chroma at the encoder's default (4:2:0).
    """

    quality: int = 10  # 1..95, of libjpeg

    display_name = "JPEG compression"
    label = "JPEG {quality}"
    per_image: ClassVar[bool] = True
    paper = ISS

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 95:
            raise EntryError(f"defense jpeg: quality={self.quality}, expected 1 to 95")

    def applies(self, info: DataInfo) -> None:
        if info.shape[0] not in (1, 3):
            raise NotApplicable(f"needs one or three channels, the images have {info.shape[0]}")

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        result = torch.empty(train.images.shape, dtype=torch.uint8)
        for where in train.batches(1024):
            pixels = train.levels(where).permute(0, 2, 3, 1).contiguous().numpy()  # (n, H, W, C)
            decoded = np.stack([_decoded(_encoded(image, self.quality)).reshape(image.shape) for image in pixels])
            result[where] = torch.from_numpy(decoded).permute(0, 3, 1, 2)
            job.progress(where.stop, len(train))
        return replace(train, images=result)


def _encoded(image: np.ndarray, quality: int) -> bytes:
    from PIL import Image

    with io.BytesIO() as file:
        Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0]).save(file, "JPEG", quality=quality)
        return file.getvalue()


def _decoded_by_pillow(file: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(file)) as opened:
        return np.array(opened)


def _decoded_by_simplejpeg(file: bytes) -> np.ndarray:
    import simplejpeg

    gray = simplejpeg.decode_jpeg_header(file)[2] == "Gray"
    decoded: np.ndarray = simplejpeg.decode_jpeg(file, "GRAY" if gray else "RGB")
    return decoded


# Its decoder wraps the same libjpeg-turbo as Pillow's, seven times faster on small images, to the same bytes; its encoder
# uses another cosine transform, so Pillow encodes.
_decoded = _decoded_by_simplejpeg if importlib.util.find_spec("simplejpeg") else _decoded_by_pillow
