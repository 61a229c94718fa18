"""Folders and zips of PNG, one picture per image, named by its number. Nothing is written to a path that an archive names."""

from __future__ import annotations

import io
import re
import stat
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from unlearnable_bench.poisons.arrays import Contents
from unlearnable_bench.registry import EntryError, ImageSet

Files = Sequence[tuple[str, Callable[[], bytes]]]  # names, without folders, and what reads each


def largest_picture(clean: ImageSet) -> int:
    """Bytes that a PNG of one of these images may have."""
    return 2 * clean.images[:1].numel() + (1 << 16)


def members(archive: zipfile.ZipFile, path: Path, clean: ImageSet) -> Files:
    """Return what reads each file of an archive into memory, by name."""
    largest = largest_picture(clean)
    files: list[tuple[str, Callable[[], bytes]]] = []
    for member in archive.infolist():
        parts = Path(member.filename.replace("\\", "/")).parts
        _check_name(member, parts, path)
        if member.is_dir() or "__MACOSX" in parts:
            continue
        if member.file_size > largest and member.filename.lower().endswith(".png"):
            raise EntryError(f"{path} holds {member.filename!r} of {member.file_size:,} bytes, too many for such an image")
        files.append((parts[-1], partial(archive.read, member)))
    return files


def _check_name(member: zipfile.ZipInfo, parts: Sequence[str], path: Path) -> None:
    if not parts:
        raise EntryError(f"{path} holds a file without a name; expected one PNG for every image")
    if member.filename.startswith(("/", "\\")) or ".." in parts or stat.S_ISLNK(member.external_attr >> 16):
        raise EntryError(f"{path} holds {member.filename!r}, a link or a path that leads out of it; nothing was read")


def read_png(files: Files, clean: ImageSet, path: Path) -> Contents:
    """Read one picture per image. EntryError where one is missing or of another size."""
    channels, height, width = clean.info.shape
    pictures = numbered(files, path)
    count = sum(name.lower().endswith(".png") for name, _ in files)
    if len(pictures) != count or sorted(pictures) != list(range(len(clean))):
        text = f"expected {len(clean)} files 0.png to {len(clean) - 1}.png, each once"
        raise EntryError(f"{path} holds {count} PNG files, {len(pictures)} of them numbered; {text}")
    images = np.empty((len(clean), height, width, channels), np.uint8)
    for row in range(len(clean)):
        images[row] = _picture(pictures[row], f"{path}: {row}.png", clean.info.shape)
    return Contents(images, "png")


def numbered(files: Files, path: Path) -> dict[int, Callable[[], bytes]]:
    """Return what reads each image, by its number. EntryError for two files of one number, as 7.png and a/07.png are."""
    pictures: dict[int, Callable[[], bytes]] = {}
    for name, read_file in files:
        if not re.fullmatch(r"[0-9]{1,9}\.png", name):
            continue
        number = int(name.removesuffix(".png"))
        if number in pictures:
            raise EntryError(f"{path} holds two files of number {number}; expected one PNG for every image")
        pictures[number] = read_file
    return pictures


def _picture(read_file: Callable[[], bytes], what: str, shape: tuple[int, int, int]) -> np.ndarray:
    from PIL import Image

    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(read_file()), formats=["PNG"]) as image:
            if image.size != (width, height) or image.mode not in ("RGB", "L") or len(image.getbands()) != channels:
                there = f"{image.width}x{image.height} {image.mode}"
                raise EntryError(f"{what} is {there}, expected {width}x{height} with {channels} channels")
            return np.asarray(image).reshape(height, width, channels)
    except EntryError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise EntryError(f"{what} cannot be read: {error}") from None
