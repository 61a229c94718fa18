"""Reads a tree of image files, `train/<class>/*` and `test/<class>/*`, into one array. Listing needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from registry.contract import EntryError, MissingDataError

if TYPE_CHECKING:
    from registry.contract import ImageSet

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
PARTS = ("train", "test")


def tree(root: Path) -> dict[str, dict[str, list[Path]]]:
    """Return part -> class -> sorted image files. Hidden files and names without an image ending are skipped.

    MissingDataError if a part is not there, EntryError for a class without images or a test class that is not trained.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    for part in PARTS:
        folder = root / part
        if not folder.is_dir():
            raise MissingDataError(f"no folder {folder}; expected {root}/train/<class>/* and {root}/test/<class>/*")
        classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not classes:
            raise EntryError(f"{folder} holds no class folders; expected {folder}/<class>/*")
        found[part] = {}
        for one in classes:
            names = (p for p in one.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith("."))
            files = sorted(p for p in names if not p.is_dir())
            if not files:
                raise EntryError(f"class folder {one} holds no image; add images or remove the folder")
            found[part][one.name] = files
    if extra := sorted(set(found["test"]) - set(found["train"])):
        raise EntryError(f"{root}/test has the class {extra[0]!r}, which {root}/train has not")
    return found


def read(found: dict[str, dict[str, list[Path]]], size: int) -> tuple[ImageSet, ImageSet]:
    """Decode to (train, test), uint8 (N, 3, size, size): RGB (alpha over black), short side resized, centre cropped.

    EntryError names a file that cannot be read.
    """
    import numpy as np
    import torch

    from registry.contract import ImageSet

    if size < 1:
        raise EntryError(f"size={size} is no side of an image in pixels; expected 1 or more")
    classes = tuple(found["train"])
    sets = []
    for part in PARTS:
        files = [(path, classes.index(name)) for name, paths in found[part].items() for path in paths]
        images = np.empty((len(files), 3, size, size), np.uint8)
        for row, (path, _) in enumerate(files):
            images[row] = _decode(path, size)
        labels = torch.tensor([label for _, label in files], dtype=torch.int64)
        sets.append(ImageSet(torch.from_numpy(images), labels, len(classes), classes))
    return sets[0], sets[1]


def _decode(path: Path, size: int):  # type: ignore[no-untyped-def]  # numpy is imported by the caller only
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as opened:
            image: Image.Image = opened
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
            elif image.mode.startswith("I"):  # 16 bits: keep the high byte
                image = Image.fromarray((np.asarray(image, np.uint32) >> 8).astype(np.uint8))
            image = image.convert("RGB")
            if min(image.size) != size:
                factor = size / min(image.size)
                sides = (max(size, round(image.width * factor)), max(size, round(image.height * factor)))
                image = image.resize(sides, Image.Resampling.BICUBIC)
            left, top = (image.width - size) // 2, (image.height - size) // 2
            pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise EntryError(f"cannot read the image {path}: {error}") from None
    return pixels.transpose(2, 0, 1)
