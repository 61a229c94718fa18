"""Reads a tree of image files, `train/<class>/*` and `test/<class>/*`, into one array. Listing needs no torch."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from unlearnable_bench.registry import _paths
from unlearnable_bench.registry._paths import cache_root, data_root
from unlearnable_bench.registry.contract import EntryError, MissingDataError

if TYPE_CHECKING:
    import numpy as np

    from unlearnable_bench.registry.contract import ImageSet

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""What is decoded, whatever a file is called. Other readers of Pillow start programs (EPS) or are little tested."""
PARTS = ("train", "test")


def folder_tree(root: Path) -> dict[str, dict[str, list[Path]]]:
    """Return part -> class -> sorted image files. Hidden files and names without an image ending are skipped.

    MissingDataError if a part is not there, EntryError for a class without images or a test class that is not trained.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    for part in PARTS:
        folder = root / part
        if not folder.is_dir():
            raise MissingDataError(f"no folder {folder}; expected {root}/train/<class>/* and {root}/test/<class>/*")
        found[part] = {one.name: files(one) for one in classes(folder)}
    if extra := sorted(set(found["test"]) - set(found["train"])):
        raise EntryError(f"{root}/test has the class {extra[0]!r}, which {root}/train has not")
    return found


def classes(folder: Path) -> list[Path]:
    """Return the class folders in `folder`, sorted. EntryError if there are none, or the name of one is no text."""
    found = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise EntryError(f"{folder} holds no class folders; expected {folder}/<class>/*")
    for path in found:
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise EntryError(f"the class folder {path.name!a} of {folder} has a name that is not UTF-8; rename it") from None
    return found


def files(folder: Path) -> list[Path]:
    """Return the image files of a class, sorted. EntryError if there are none, or one is no regular file."""
    names = (p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith("."))
    found = sorted(filter(_is_file, names))
    if not found:
        raise EntryError(f"class folder {folder} holds no image; add images or remove the folder")
    return found


def _is_file(path: Path) -> bool:
    """Whether a path is a file, not a folder. EntryError for a pipe or a device, which would be read for ever."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise EntryError(f"cannot read {path}: {error.strerror}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise EntryError(f"{path} is a pipe or a device, expected an image; remove it")
    return stat.S_ISREG(mode)


def decode_images(found: dict[str, dict[str, list[Path]]], size: int) -> tuple[ImageSet, ImageSet]:
    """Decode to (train, test), uint8 (N, 3, size, size): RGB (alpha over black), short side resized, centre cropped.

    A part that is large is not held in memory but in a nameless file beside the decoded sets, gone when nobody has it open.
    EntryError names a file that cannot be read, or says that there is no room.
    """
    import torch

    from unlearnable_bench.registry.contract import ImageSet

    if size < 1:
        raise EntryError(f"size={size} is not the side of an image in pixels; expected 1 or more")
    names = tuple(found["train"])
    sets = []
    for part in PARTS:
        rows = [(path, names.index(name)) for name, paths in found[part].items() for path in paths]
        images = empty_images((len(rows), 3, size, size))
        for row, (path, _) in enumerate(rows):
            images[row] = _decode(path, size)
        labels = torch.tensor([label for _, label in rows], dtype=torch.int64)
        sets.append(ImageSet(torch.from_numpy(images), labels, len(names), names))
    return sets[0], sets[1]


def empty_images(shape: tuple[int, ...]) -> np.ndarray:
    """Return a uint8 array to fill, in memory or mapped as `_paths.room` does.

    EntryError if there is no room on the disk.
    """
    import numpy as np

    needed, folder = math.prod(shape), data_root() / ".decoded"
    try:
        if needed >= _paths.MAP_FROM:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            if free < 2 * needed:  # it is kept as a copy of this file
                text = f"decoding needs {2 * needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free"
                raise EntryError(f"{text}; make room, or set BENCH_DATA to another disk")
        return _paths.empty_array(folder, shape, np.dtype(np.uint8))
    except OSError as error:
        raise EntryError(f"cannot write decoded images to {folder}: {error.strerror}; set BENCH_DATA") from None


def folder_name(root: Path) -> str:
    """Return `folder-<base name>-<8 digits of the fingerprint of its files>`, the name of a folder of images.

    The file contents are hashed once and remembered as long as names, sizes and times stay. MissingDataError if there is
    no such folder, EntryError if it is not a tree of images.
    """
    if not root.is_dir():
        raise MissingDataError(f"no folder {root}; expected a tree {root}/train/<class>/* and {root}/test/<class>/*")
    files = [path for classes in folder_tree(root).values() for paths in classes.values() for path in paths]
    try:
        print_ = _fingerprint_of_files(root, files)
    except OSError as error:
        raise EntryError(f"cannot read {error.filename}: {error.strerror}") from None
    base = "".join(c if (c.isascii() and c.isalnum()) or c in "._" else "-" for c in root.name.lower()) or "root"
    return f"folder-{base}-{print_[:8]}"


def _fingerprint_of_files(root: Path, files: list[Path]) -> str:
    stamp = hashlib.sha256()
    for path in files:
        status = path.stat()
        stamp.update(os.fsencode(f"{path.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n"))
    note = cache_root() / "folders" / stamp.hexdigest()
    try:
        print_ = note.read_text().strip()
    except OSError:
        content = hashlib.sha256()
        for path in files:
            content.update(os.fsencode(f"{path.relative_to(root).as_posix()}\0"))
            content.update(hashlib.sha256(path.read_bytes()).digest())
        print_ = content.hexdigest()
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(print_)
        except OSError:  # nothing to remember it in: hashed again next time
            pass
    return print_


def _decode(path: Path, size: int):  # type: ignore[no-untyped-def]  # numpy is imported by the caller only
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as opened:
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
