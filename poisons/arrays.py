"""Arrays in files of numpy, and what a published file of any format holds. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearnable_bench.poisons.store import first_line
from unlearnable_bench.registry import EntryError

NAMES = ("images", "x", "data", "poison", "perturbation", "delta", "noise", "arr_0")  # of arrays, in archives and dictionaries
LABELS = ("labels", "label", "y", "targets")


@dataclass(frozen=True)
class Contents:
    """What a file holds: an array (rows, C, H, W) or (rows, H, W, C), labels and numbers of the images if there are any.

    Or, in place of the array, the weights of a network that makes the noise.
    """

    array: np.ndarray
    format: str
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None  # (rows,): which image each row is for
    weights: Mapping[str, Tensor] | None = None

    def check(self, path: Path) -> None:
        """EntryError where an array is no array of real numbers with rows, as text or dates are."""
        if self.weights is not None:
            return
        arrays = {"images": self.array, "labels": self.labels, "numbers of images": self.ids}
        for what, array in arrays.items():
            if array is not None and not _is_numeric(array):
                raise EntryError(f"{path} holds {what} of {array.dtype} {array.shape}, expected rows of real numbers")


@dataclass(frozen=True)
class Values:
    """The array of a file, (rows, C, H, W), and what turns its values into 8-bit levels."""

    array: np.ndarray
    units: str  # of `poisons.options.UNITS`, but for auto
    scale: Tensor  # levels per unit; a number, or one per channel

    def __len__(self) -> int:
        return len(self.array)

    def levels(self, rows: np.ndarray) -> Tensor:
        """Return some rows in 8-bit levels, float32: a copy."""
        return torch.from_numpy(np.array(self.array[rows], np.float32)) * self.scale


def _is_numeric(array: np.ndarray) -> bool:
    return array.dtype.kind in "iuf" and array.ndim > 0 and len(array) > 0


def read_npy(path: Path, limit: int) -> np.ndarray:
    """Map a .npy file of at most `limit` bytes. EntryError."""
    if not path.is_file():
        raise EntryError(f"there is no file {path}")
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise EntryError(f"{path} is not an array that can be read without unpickling: {first_line(error)}") from None
    if not isinstance(array, np.ndarray):
        raise EntryError(f"{path} holds an archive, expected an array of numbers")
    if array.nbytes > limit:
        raise EntryError(f"{path} holds {array.nbytes:,} bytes, more than these images can need ({limit:,})")
    return array


def read_parts(path: Path, parts: list[Path], limit: int) -> Contents:
    """Read the arrays of a folder: images or noise in parts that follow each other by name, and labels at most once."""
    arrays = [read_npy(part, limit) for part in parts]
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    others: list[np.ndarray] = []
    for array in arrays:
        {1: labels, 2: labels, 4: images}.get(array.ndim, others).append(array)
    if len({array.shape[1:] for array in images}) != 1 or len(labels) > 1 or others:
        shapes = ", ".join(f"{part.name} {array.shape}" for part, array in zip(parts, arrays, strict=True))
        raise EntryError(f"{path} holds {shapes[:300]}; expected parts of images of one shape, and labels once at most")
    size = sum(array.nbytes for array in arrays)
    if size > limit:
        raise EntryError(f"{path} holds {size:,} bytes of arrays, more than these images can need ({limit:,})")
    whole = np.concatenate(images) if len(images) > 1 else images[0]  # a single part stays a map of its file
    return Contents(whole, "npy parts", labels[0] if labels else None)


def read_npz(path: Path, limit: int) -> Contents:
    """Read the arrays of an .npz file that unpack to at most `limit` bytes. EntryError."""
    check_archive(path, limit)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # numpy leaves a broken one open
            keys = archive.files
            arrays = {key: archive[key] for key in keys if key in NAMES + LABELS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EntryError(
            f"{path} is not an archive of arrays that can be read without unpickling: {first_line(error)}"
        ) from None
    return pick_arrays(arrays, keys, "npz", path)


def check_archive(path: Path, limit: int) -> None:
    """EntryError for a zip that unpacks to more than `limit` bytes."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > limit:
        raise EntryError(f"{path} unpacks to {size:,} bytes, more than these images can need ({limit:,})")


def pick_arrays(
    arrays: Mapping[str, Any], keys: Iterable[Any], kind: str, path: Path, to_numpy: Callable[[Any], np.ndarray] = np.asarray
) -> Contents:
    """Return the array of several that has a name of images or noise, with the labels. `keys` are all names of the file."""
    array = _first(arrays, NAMES)
    if array is None:
        names = ", ".join(map(str, keys))
        raise EntryError(f"{path} holds {names[:300]}; expected an array called {', '.join(NAMES)}")
    labels = _first(arrays, LABELS)
    return Contents(to_numpy(array), kind, None if labels is None else to_numpy(labels))


def _first(arrays: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((arrays[name] for name in names if name in arrays), None)
