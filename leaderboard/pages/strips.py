"""Images side by side as one picture inside a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

GAP = 1  # pixels between images
THUMBNAIL, COLORS = 32, 16  # pixels across a thumbnail at most, and its colors


@dataclass(frozen=True)
class Strip:
    """A picture as an address with its content, and what it shows."""

    data: str
    title: str
    alt: str
    width: int
    height: int


def strip(images: NDArray[Any], title: str, alt: str) -> Strip:
    """Return images (N, C, H, W) side by side as PNG; floats are in [0, 1] units, and shown at the edge if outside."""
    import numpy as np
    from PIL import Image

    if images.dtype == np.float32:
        images = levels(255 * images)
    count, _, height, width = images.shape
    canvas = np.zeros((height, count * (width + GAP) - GAP, 3), np.uint8)
    for number, image in enumerate(images):
        start = number * (width + GAP)
        canvas[:, start : start + width] = np.moveaxis(_colored(image), 0, 2)
    return Strip(_address(Image.fromarray(canvas)), title, alt, canvas.shape[1], canvas.shape[0])


def thumbnail(image: NDArray[np.uint8], title: str) -> Strip:
    """Return an image (C, H, W) as a small PNG of few colors, which stays below two kilobytes inside a page."""
    import numpy as np
    from PIL import Image

    every = max(1, -(-max(image.shape[1:]) // THUMBNAIL))  # a larger image is thinned out
    thinned = np.ascontiguousarray(np.moveaxis(_colored(image), 0, 2)[::every, ::every])
    small = Image.fromarray(thinned).quantize(COLORS)
    return Strip(_address(small), title, title, small.width, small.height)


def _address(image: Image.Image) -> str:
    """An image with its content, as PNG."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _colored(image: NDArray[Any]) -> NDArray[Any]:
    """An image (C, H, W) with three channels: its own, or its first in each."""
    return image if len(image) == 3 else image[:1].repeat(3, 0)


def stretched(values: NDArray[Any], title: str, alt: str) -> Strip:
    """Return differences as pictures: the smallest of each image black, the largest white; gray where all are one."""
    import numpy as np

    flat = values.astype(np.float32)
    low, high = flat.min((1, 2, 3), keepdims=True), flat.max((1, 2, 3), keepdims=True)
    share = np.where(high > low, (flat - low) / np.where(high > low, high - low, 1), 0.5)
    return strip(levels(255 * share), f"{title}, stretched from black to white", f"{alt}, stretched")


def levels(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return numbers from 0 to 255 as levels of 8 bits."""
    import numpy as np

    rounded: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


def pixels(images: NDArray[Any]) -> NDArray[np.float32]:
    """Return images of either dtype in [0, 1] units."""
    import numpy as np

    scale = np.float32(255 if images.dtype == np.uint8 else 1)
    shown: NDArray[np.float32] = images.astype(np.float32) / scale
    return shown
