"""Reads a published file or folder in any of the formats that authors use, after a look at its size."""

from __future__ import annotations

import zipfile
from pathlib import Path

from unlearnable_bench.poisons.arrays import Contents, read_npy, read_npz, read_parts
from unlearnable_bench.poisons.pickles import read_pickle
from unlearnable_bench.poisons.pictures import largest_picture, members, numbered, read_png
from unlearnable_bench.poisons.store import first_line
from unlearnable_bench.poisons.torch_files import read_torch
from unlearnable_bench.registry import EntryError, ImageSet


def read_poison(path: Path, clean: ImageSet) -> Contents:
    """Read a file or a folder in one of the formats that authors use. EntryError says why it cannot be."""
    try:
        contents = _read(path, clean)
        contents.check(path)
    except EntryError:
        raise
    except Exception as error:  # readers of five formats, fed with the bytes of strangers, raise nearly everything
        raise EntryError(f"{path} cannot be read: {first_line(error)}") from None
    return contents


def limit(clean: ImageSet) -> int:
    """Bytes that a poison of these images may have: float64 and as much again, for headers and labels."""
    return 16 * clean.images.numel() + (1 << 24)


def is_plain(path: Path) -> bool:
    """Whether it is a file, and no link to one."""
    return path.is_file() and not path.is_symlink()


def _read(path: Path, clean: ImageSet) -> Contents:
    if path.is_dir():
        return _read_folder(path, clean)
    if not path.is_file():
        raise EntryError(f"there is no file {path}")
    size = path.stat().st_size
    if size > limit(clean):
        raise EntryError(f"{path} has {size:,} bytes, more than these images can need ({limit(clean):,})")
    reader = READERS.get(path.suffix.lower())
    if reader is not None:
        return reader(path, limit(clean))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return read_png(members(archive, path, clean), clean, path)
    raise EntryError(f"{path}: expected .npy, .npz, .pt, .pth, .pkl, a folder of <index>.png or of .npy parts, or a zip of PNG")


def _read_folder(path: Path, clean: ImageSet) -> Contents:
    plain = list(filter(is_plain, sorted(path.rglob("*"))))
    for file in plain:
        size = file.stat().st_size
        if size > largest_picture(clean) and file.match("*.png"):
            raise EntryError(f"{path} holds {file.name!r} of {size:,} bytes, too many for such an image")
    files = [(file.name, file.read_bytes) for file in plain]
    parts = list(filter(is_plain, sorted(path.glob("*.npy"))))
    if parts and not numbered(files, path):
        return read_parts(path, parts, limit(clean))
    return read_png(files, clean, path)


def _read_npy(path: Path, most: int) -> Contents:
    return Contents(read_npy(path, most), "npy")


READERS = {
    ".npy": _read_npy,
    ".npz": read_npz,
    ".pt": read_torch,
    ".pth": read_torch,
    ".pkl": read_pickle,
    ".pickle": read_pickle,
}
