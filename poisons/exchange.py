"""Takes in poisons that authors publish, and hands ours out: `bench poisons import` and `bench poisons export`.

A file of others is never unpickled without restriction, executed or extracted: arrays are read without pickles, torch files
with weights only, members of archives one by one in memory, after a look at their sizes.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import math
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from poisons.recipe import PoisonRecipe
from poisons.store import Kept, Store, checksum, first_line
from registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job
from registry._places import reserve
from registry._surrogates import statistics
from registry.catalog import Part
from registry.contract import blocks
from registry.data import Data
from registry.item import write

UNITS = ("auto", "images", "pixels", "levels", "radius", "normalised")
ORDERS = ("index", "class", "match")
FORMATS = ("png", "npz")
NAMES = ("images", "x", "data", "poison", "perturbation", "delta", "noise", "arr_0")  # of arrays, in archives and dictionaries
LABELS = ("labels", "label", "y", "targets")
SMALLEST = 0.2  # pixel units: float noise beyond it may be in other units
ALIGNED = 0.9  # share of the images that must be most like the clean image of their own place
SAMPLE = 500  # images on which this is tried
PAINTED = {f"dconv_down{n + 1}": f"down.{n}" for n in range(4)} | {f"dconv_up{3 - n}": f"up.{n}" for n in range(3)}
PAINTED |= {"conv_last": "last"}  # blocks of DeepConfuse's generator -> ours
Files = Sequence[tuple[str, Callable[[], bytes]]]  # names, without folders, and what reads each
LIKELY = 8  # clean images that an image of a file is compared with in full


@dataclass(frozen=True)
class Options:
    """How a file is to be read; all of it goes into the manifest."""

    units: str = "auto"  # images; noise in pixel units, 8-bit levels, units of the radius or of the channels' deviations
    order: str = "index"  # row i is image i; the t-th row of a class is its t-th image; or match by likeness
    negative: str = "keep"  # of noise; drop: as the loader of Huang et al. does
    rounding: str = "nearest"  # down: truncate, as most authors' loaders do
    norm: str = "none"
    epsilon: float = 0.0  # pixel units

    def __post_init__(self) -> None:
        allowed = {"units": UNITS, "order": ORDERS, "negative": ("keep", "drop"), "rounding": ("nearest", "down")}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise EntryError(f"--{name} {getattr(self, name)}: expected {', '.join(values)}")
        Budget(self.norm, self.epsilon)
        if self.units == "radius" and not self.epsilon:
            raise EntryError("--units radius: noise in units of the radius needs the radius, --epsilon 8/255")


@dataclass(frozen=True)
class Found:
    """What a file holds: an array (rows, C, H, W) or (rows, H, W, C), labels and numbers of the images if there are any.

    Or, in place of the array, the weights of a network that makes the noise.
    """

    array: np.ndarray
    format: str
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None  # (rows,): which image each row is for
    weights: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class _Given(Attack):
    """Hands the store images that are there already."""

    promised: Budget
    images: np.ndarray
    covered: np.ndarray  # bool (N,): which images the file is about; the others are clean

    @property
    def budget(self) -> Budget:
        return self.promised

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        for where in clean.blocks():
            yield where, torch.from_numpy(np.array(self.images[where]))
        if not self.covered.all():
            job.keep("keep", self.covered)


# Import


def take_in(store: Store, path: Path, dataset: Part, data: Data, options: Options, name: str = "", labels: str = "") -> Kept:
    """Put a published poison into the store under an item `imported(...)`. EntryError, BudgetError say what is wrong."""
    found = read(path, data.train)
    if labels:
        found = _numeric(replace(found, labels=_read_npy(Path(labels), _limit(data.train))), Path(labels))
    source = {"file": path.name, "sha256": _hash(path), "format": found.format, **asdict(options)}
    if labels:
        source |= {"labels": Path(labels).name, "labels_sha256": _hash(Path(labels))}
    store.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=store.root) as scratch:
        images = np.lib.format.open_memmap(Path(scratch) / "images.npy", "w+", np.uint8, tuple(data.train.images.shape))
        reserve(Path(scratch) / "images.npy")
        source["units"], covered = _fill(images, found, data.train, options)
        source["covers"] = int(covered.sum())
        images.flush()
        np.save(Path(scratch) / "labels.npy", data.train.labels.numpy())
        content = f"sha-{checksum(Path(scratch))[:16]}"
        given = {"content": content, "name": _word(name or path.stem), "norm": options.norm, "epsilon": options.epsilon}
        (part,) = ATTACKS.resolve(write("imported", given))
        budget = Budget(options.norm, options.epsilon)
        return store.adopt(PoisonRecipe(dataset, (part,), 0), data, _Given(budget, images, covered), source)


def read(path: Path, clean: ImageSet) -> Found:
    """Read a file or a folder in one of the formats that authors use. EntryError says why it cannot be."""
    try:
        return _numeric(_read(path, clean), path)
    except EntryError:
        raise
    except Exception as error:  # readers of five formats, fed with the bytes of strangers, raise nearly everything
        raise EntryError(f"{path} cannot be read: {first_line(error)}") from None


def _numeric(found: Found, path: Path) -> Found:
    """Return what was found. EntryError where an array is no array of real numbers with rows, as text or dates are."""
    arrays = {"images": found.array, "labels": found.labels, "numbers of images": found.ids}
    if found.weights is not None:
        return found
    for what, array in arrays.items():
        if array is not None and (array.dtype.kind not in "iuf" or not array.ndim or not len(array)):
            raise EntryError(f"{path} holds {what} of {array.dtype} {array.shape}, expected rows of real numbers")
    return found


def _read(path: Path, clean: ImageSet) -> Found:
    limit = _limit(clean)
    if path.is_dir():
        parts = sorted(one for one in path.glob("*.npy") if _is_plain(one))
        files = [(one.name, one.read_bytes) for one in sorted(path.rglob("*")) if _is_plain(one)]
        for one in path.rglob("*.png"):
            if (size := one.stat().st_size) > _largest(clean) and _is_plain(one):
                raise EntryError(f"{path} holds {one.name!r} of {size:,} bytes, too many for such an image")
        return _read_parts(path, parts, limit) if parts and not _numbered(files, path) else _read_png(files, clean, path)
    if not path.is_file():
        raise EntryError(f"there is no file {path}")
    if path.stat().st_size > limit:
        raise EntryError(f"{path} has {path.stat().st_size:,} bytes, more than these images can need ({limit:,})")
    ending = path.suffix.lower()
    if ending == ".npy":
        return Found(_read_npy(path, limit), "npy")
    if ending in (".pkl", ".pickle"):
        text = "a pickle can run code when it is opened, so it is not read here"
        raise EntryError(f"{path}: {text}; whoever trusts it saves its array by numpy.save and imports the .npy")
    if ending == ".npz":
        return _read_npz(path, limit)
    if ending in (".pt", ".pth"):
        return _from_torch(_read_torch(path, limit), path, limit)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _read_png(_members(archive, path, clean), clean, path)
    raise EntryError(f"{path}: expected .npy, .npz, .pt, .pth, a folder of <index>.png or of .npy parts, or a zip of PNG")


def _limit(clean: ImageSet) -> int:
    """Bytes that a poison of these images may have: float64 and as much again, for headers and labels."""
    return 16 * clean.images.numel() + (1 << 24)


def _largest(clean: ImageSet) -> int:
    """Bytes that a PNG of one of these images may have."""
    return 2 * clean.images[:1].numel() + (1 << 16)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _read_npy(path: Path, limit: int) -> np.ndarray:
    if not path.is_file():
        raise EntryError(f"there is no file {path}")
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise EntryError(f"{path} is no array that can be read without unpickling: {first_line(error)}") from None
    if not isinstance(array, np.ndarray):
        raise EntryError(f"{path} holds an archive, expected an array of numbers")
    if array.nbytes > limit:
        raise EntryError(f"{path} holds {array.nbytes:,} bytes, more than these images can need ({limit:,})")
    return array


def _read_parts(path: Path, parts: list[Path], limit: int) -> Found:
    """Read the arrays of a folder: images or noise in parts that follow each other by name, and labels at most once."""
    arrays = [_read_npy(part, limit) for part in parts]
    images = [array for array in arrays if array.ndim == 4]
    labels = [array for array in arrays if array.ndim in (1, 2)]
    if len({array.shape[1:] for array in images}) != 1 or len(labels) > 1 or len(images) + len(labels) != len(arrays):
        shapes = ", ".join(f"{part.name} {array.shape}" for part, array in zip(parts, arrays, strict=True))
        raise EntryError(f"{path} holds {shapes[:300]}; expected parts of images of one shape, and labels once at most")
    if (size := sum(array.nbytes for array in arrays)) > limit:
        raise EntryError(f"{path} holds {size:,} bytes of arrays, more than these images can need ({limit:,})")
    whole = np.concatenate(images) if len(images) > 1 else images[0]
    return Found(whole, "npy parts", labels[0] if labels else None)


def _check_archive(path: Path, limit: int) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > limit:
                raise EntryError(f"{path} unpacks to {size:,} bytes, more than these images can need ({limit:,})")


def _read_npz(path: Path, limit: int) -> Found:
    _check_archive(path, limit)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # numpy leaves a broken one open
            found = {key: archive[key] for key in archive.files if key in NAMES + LABELS}
            keys = archive.files
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EntryError(f"{path} is no archive of arrays that can be read without unpickling: {first_line(error)}") from None
    return _chosen(found, keys, "npz", path)


def _chosen(found: Mapping[str, Any], keys: Any, kind: str, path: Path) -> Found:
    arrays = [found[key] for key in NAMES if key in found]
    if not arrays:
        there = ", ".join(map(str, keys))
        raise EntryError(f"{path} holds {there[:300]}; expected an array called {', '.join(NAMES)}")
    labels = next((found[key] for key in LABELS if key in found), None)
    return Found(np.asarray(arrays[0]), kind, None if labels is None else np.asarray(labels))


def _read_torch(path: Path, limit: int) -> Any:
    _check_archive(path, limit)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # of the checkpoints of He et al.; holds plain values
            return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = re.search(r"(Unsupported (?:global|class|operand)[^\n.]*|GLOBAL \S+)", str(error))
        why = reason[0] if reason else (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EntryError(f"{path} holds more than tensors and is not opened: {why[:200]}") from None


def _values(content: Any) -> Iterator[Any]:
    """Yield what stands where `_from_torch` looks for tensors."""
    yield content
    if isinstance(content, list | tuple):
        yield from content
    if isinstance(content, Mapping):
        yield from content.values()
        model = content.get("model")
        yield from model.values() if isinstance(model, Mapping) else ()


def _check_tensors(content: Any, path: Path, limit: int) -> None:
    """EntryError for a tensor that a file claims without holding it: one number repeated by strides fills any shape."""
    for tensor in (value for value in _values(content) if isinstance(value, Tensor)):
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise EntryError(f"{path} holds a sparse or quantized tensor; save it as a plain one")
        size = math.prod(tensor.shape) * tensor.element_size()
        if size > min(limit, tensor.untyped_storage().nbytes()):
            shape = tuple(tensor.shape)
            raise EntryError(f"{path} holds a tensor of {shape}, more than these images can need or than the file holds of it")


def _from_torch(content: Any, path: Path, limit: int) -> Found:
    _check_tensors(content, path, limit)
    if isinstance(content, Mapping):
        model = content.get("model")
        if isinstance(model, Mapping) and isinstance(model.get("delta"), Tensor):
            return Found(_array(model["delta"]), "torch checkpoint")
        tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        if any(key.removeprefix("module.") == "dconv_down1.0.weight" for key in tensors):
            return Found(np.empty(0), "generator of DeepConfuse", weights=tensors)
        named = {key: _array(value) for key, value in tensors.items() if key in NAMES + LABELS}
        return _chosen(named, content, "torch", path)
    if isinstance(content, Tensor):
        return Found(_array(content), "torch")
    if isinstance(content, list | tuple) and content:
        parts = [_numbers(one) for one in content]
        if all(isinstance(one, Tensor) for one in parts):
            if len(parts) == 3 and parts[0].shape == parts[1].shape and parts[0].ndim == 4 and parts[2].ndim <= 2:
                return Found(_array(parts[1]), "torch", _array(parts[2]))  # clean images, poison, labels
            if len(parts) == 2 and parts[0].ndim == 4 and parts[1].ndim <= 2:
                second = _array(parts[1])
                if isinstance(content, list) and isinstance(content[1], list):
                    return Found(_array(parts[0]), "torch, by number", ids=second)
                return Found(_array(parts[0]), "torch", second)
            if len({one.shape for one in parts}) == 1 and sum(one.nbytes for one in parts) <= limit:
                return Found(_array(torch.stack(parts)), "torch")
    raise EntryError(
        f"{path} holds a {type(content).__name__}; expected a tensor, (images, labels), [noise, numbers of the images], "
        "a dictionary of tensors, or the generator of DeepConfuse"
    )


def _numbers(value: Any) -> Any:
    """Return a list of whole numbers as a tensor, everything else as it is."""
    if isinstance(value, list) and value and all(type(one) is int and abs(one) < 2**62 for one in value):
        return torch.tensor(value)
    return value


def _array(tensor: Tensor) -> np.ndarray:
    plain = tensor.detach().cpu()
    return (plain.float() if plain.dtype in (torch.bfloat16, torch.float16) else plain).numpy()


def _members(archive: zipfile.ZipFile, path: Path, clean: ImageSet) -> Files:
    """Return what reads each file of an archive into memory, by name; nothing is ever written to a path that it names."""
    largest = _largest(clean)
    found = []
    for member in archive.infolist():
        parts = Path(member.filename.replace("\\", "/")).parts
        if not parts:
            raise EntryError(f"{path} holds a file without a name; expected one PNG for every image")
        if member.filename.startswith(("/", "\\")) or ".." in parts or stat.S_ISLNK(member.external_attr >> 16):
            raise EntryError(f"{path} holds {member.filename!r}, a link or a path that leads out of it; nothing was read")
        if not member.is_dir() and "__MACOSX" not in parts:
            if member.file_size > largest and member.filename.lower().endswith(".png"):
                raise EntryError(f"{path} holds {member.filename!r} of {member.file_size:,} bytes, too many for such an image")
            found.append((parts[-1], partial(archive.read, member)))
    return found


def _read_png(files: Files, clean: ImageSet, path: Path) -> Found:
    from PIL import Image

    channels, height, width = clean.info.shape
    numbered = _numbered(files, path)
    names = sum(name.lower().endswith(".png") for name, _ in files)
    if len(numbered) != names or sorted(numbered) != list(range(len(clean))):
        text = f"expected {len(clean)} files 0.png to {len(clean) - 1}.png, each once"
        raise EntryError(f"{path} holds {names} PNG files, {len(numbered)} of them numbered; {text}")
    images = np.empty((len(clean), height, width, channels), np.uint8)
    for row in range(len(clean)):
        try:
            with Image.open(io.BytesIO(numbered[row]()), formats=["PNG"]) as image:
                if image.size != (width, height) or image.mode not in ("RGB", "L") or len(image.getbands()) != channels:
                    found = f"{image.width}x{image.height} {image.mode}"
                    raise EntryError(f"{path}: {row}.png is {found}, expected {width}x{height} with {channels} channels")
                images[row] = np.asarray(image).reshape(height, width, channels)
        except (OSError, ValueError, SyntaxError) as error:
            if isinstance(error, EntryError):
                raise
            raise EntryError(f"{path}: {row}.png cannot be read: {error}") from None
    return Found(images, "png")


def _numbered(files: Files, path: Path) -> dict[int, Callable[[], bytes]]:
    """Return what reads each image, by its number. EntryError for two files of one number, as 7.png and a/07.png are."""
    found: dict[int, Callable[[], bytes]] = {}
    for name, read_file in files:
        if not re.fullmatch(r"[0-9]{1,9}\.png", name):
            continue
        if int(name[:-4]) in found:
            raise EntryError(f"{path} holds two files of number {int(name[:-4])}; expected one PNG for every image")
        found[int(name[:-4])] = read_file
    return found


def _hash(path: Path) -> str:
    whole = hashlib.sha256()
    for one in sorted(p for p in path.rglob("*") if _is_plain(p)) if path.is_dir() else [path]:
        if path.is_dir():
            whole.update(os.fsencode(f"{one.relative_to(path).as_posix()}\0"))
        with one.open("rb") as file:
            while part := file.read(1 << 22):
                whole.update(part)
    return whole.hexdigest()


def _word(text: str) -> str:
    """Return a text as a bare word that an item can hold."""
    word = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:40] or "poison"
    return word if word[0].isalpha() and word.lower() not in ("true", "false", "inf", "nan", "infinity") else f"poison-{word}"


# What an array means


def _fill(images: np.ndarray, found: Found, clean: ImageSet, options: Options) -> tuple[str, np.ndarray]:
    """Write the poisoned images, 8 bits; return the units that the file turned out to be in, and which images it is about."""
    channels, height, width = clean.info.shape
    array, everywhere = found.array, np.ones(len(clean), bool)
    if found.weights is not None:
        return _from_generator(images, found.weights, clean, options), everywhere
    if array.ndim == 4 and array.shape[1:] == (channels, 3, 3) and len(array) == clean.num_classes and height > 3:
        return _from_coefficients(images, torch.from_numpy(np.array(array, np.float32)), clean, options), everywhere
    if array.ndim == 3 and channels == 1:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1:] not in ((channels, height, width), (height, width, channels)):
        expected = f"(rows, {channels}, {height}, {width}) or (rows, {height}, {width}, {channels})"
        raise EntryError(f"the file holds an array of {found.array.shape}, expected {expected}")
    if array.shape[1:] != (channels, height, width):
        array = np.moveaxis(array, 3, 1)
    if options.units == "auto" and found.ids is not None:
        raise EntryError(
            "the file holds noise for numbered images, as TAP packs it: say its units, --units normalised (divided by the "
            "standard deviation of each channel, as its authors do), pixels or levels"
        )
    units = options.units if options.units != "auto" else _guess(array)
    scale = torch.tensor({"pixels": 255.0, "radius": 255 * options.epsilon}.get(units, 1.0))
    if units == "images" and array.dtype.kind == "f" and _extremes(array)[1] <= 1.0:
        scale = torch.tensor(255.0)
    elif units == "normalised":
        scale = 255 * statistics(clean)[1].view(-1, 1, 1)
    rows = _rows(replace(found, array=array), clean, options, units, scale)
    for where in clean.blocks():
        own, covered = clean.images[where].float(), rows[where] >= 0
        values = _levels(array, rows[where][covered], scale)
        if not torch.isfinite(values).all():
            raise EntryError("the file holds values that are not finite")
        if units != "images":
            if options.negative == "drop":
                values = values.clamp(min=0)
            values = values + own[covered]
        own[covered] = values
        images[where] = _rounded(own, options)
    return units, rows >= 0


def _levels(array: np.ndarray, rows: np.ndarray, scale: Tensor) -> Tensor:
    """Return rows of a file (rows, C, H, W) in 8-bit levels, float32: a copy."""
    return torch.from_numpy(np.array(array[rows], np.float32)) * scale


def _rounded(levels: Tensor, options: Options) -> np.ndarray:
    levels = levels.clamp(0, 255)
    found: np.ndarray = (levels.floor() if options.rounding == "down" else levels.round()).to(torch.uint8).numpy()
    return found


def _extremes(array: np.ndarray) -> tuple[float, float]:
    parts = [array[part] for part in blocks(len(array), array[:1].size)]
    return min(float(part.min()) for part in parts), max(float(part.max()) for part in parts)


def _guess(array: np.ndarray) -> str:
    if array.dtype == np.uint8:
        return "images"
    if array.dtype.kind in "iu":
        return "levels"
    low, high = _extremes(array)
    if max(-low, high) <= SMALLEST:
        return "pixels"
    if low >= 0 and (high > 1.5 or high >= 0.5) and high <= 255:
        return "images"
    raise EntryError(
        f"the file holds floats from {low:.3g} to {high:.3g}, which may be noise in pixel units, in levels or in units of the "
        "radius; say which by --units pixels, levels or radius"
    )


def _rows(found: Found, clean: ImageSet, options: Options, units: str, scale: Tensor) -> np.ndarray:
    """Return which row of the file belongs to each image, -1 where none does. EntryError where that cannot be told."""
    count, size, own = len(found.array), len(clean), clean.labels.numpy()
    labels = None if found.labels is None else _classes(found.labels)
    if labels is not None and len(labels) != count:
        raise EntryError(f"the file holds {count} rows and {len(labels)} labels")
    if found.ids is not None:
        return _by_number(found.ids, count, size)
    if count == clean.num_classes != size and units != "images" and labels is None:
        return own  # one pattern per class
    if options.order == "match":
        if units != "images":
            raise EntryError("--order match compares images with images; this file holds noise")
        rows = _matched(found.array, clean, scale)
    elif count != size:
        text = f"the file holds {count} rows; the data set has {size} images of {clean.num_classes} classes"
        raise EntryError(f"{text} (images of a part of them are found by --order match)")
    elif options.order == "class":
        if labels is None:
            raise EntryError("--order class needs the labels of the rows: --labels FILE.npy")
        if not np.array_equal(np.sort(labels), np.sort(own)):
            raise EntryError("the file's labels count other classes than the data set's")
        rows = np.empty(count, np.int64)
        rows[np.argsort(own, kind="stable")] = np.argsort(labels, kind="stable")
    else:
        rows = np.arange(count)
        if units == "images":
            tried = np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).astype(np.int64))
            share = float((_nearest(found.array, clean, tried, scale, 1)[:, 0] == tried).mean())
            if share < ALIGNED:
                text = f"only {share:.0%} of the images are most like the clean image of their own place"
                raise EntryError(f"{text}: the file is in another order (try --order match) or of another data set")
    if labels is not None and (wrong := int((labels[rows[rows >= 0]] != own[rows >= 0]).sum())):
        raise EntryError(
            f"{wrong} of {count} labels of the file are not the data set's; it is in another order or of another set"
        )
    return rows


def _classes(labels: np.ndarray) -> np.ndarray:
    """Return labels, numbers or rows with a one in the place of the class, as int64 (rows,)."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        if not ((labels == 0) | (labels == 1)).all() or (labels.sum(1) != 1).any():
            raise EntryError(f"the file's labels are rows of {labels.shape[1]} numbers, expected one 1 in each and 0 elsewhere")
        numbers: np.ndarray = labels.argmax(1)
        return numbers
    flat = labels.reshape(-1)
    if labels.ndim > 2 or flat.dtype.kind not in "iuf" or not np.isfinite(flat).all() or (flat != np.floor(flat)).any():
        raise EntryError(f"the file's labels are {labels.dtype} {labels.shape}, expected one whole number for each row")
    return flat.astype(np.int64)


def _by_number(ids: np.ndarray, count: int, size: int) -> np.ndarray:
    if len(ids) != count or len(np.unique(ids)) != count or ids.min(initial=0) < 0 or ids.max(initial=0) >= size:
        raise EntryError(
            f"the file numbers its {count} rows by {len(ids)} values, expected different ones from 0 to {size - 1}"
        )
    rows = np.full(size, -1)
    rows[ids] = np.arange(count)
    return rows


def _matched(array: np.ndarray, clean: ImageSet, scale: Tensor) -> np.ndarray:
    """Return which row of a file shows each image, -1 for none: the likest first, of the few that are alike when small."""
    count, size = len(array), len(clean)
    if count > size:
        raise EntryError(f"the file holds {count} rows, more than the {size} images of the data set")
    likely = _nearest(array, clean, np.arange(count), scale, LIKELY)  # (rows, choices)
    apart = np.empty(likely.shape, np.float32)  # mean difference in levels
    for where in blocks(count, likely.shape[1] * array[0].size):
        theirs = clean.images[torch.from_numpy(likely[where].reshape(-1))].float().view(*likely[where].shape, -1)
        mine = _levels(array, np.arange(where.start, where.stop), scale).flatten(1)[:, None]
        apart[where] = (theirs - mine).abs().mean(2).numpy()
    own = len(np.unique(np.take_along_axis(likely, apart.argmin(1, keepdims=True), 1)))
    rows, free = np.full(size, -1), np.ones(count, bool)
    for place in np.argsort(apart, axis=None, kind="stable").tolist():
        row, image = place // likely.shape[1], int(likely.flat[place])
        if free[row] and rows[image] < 0:
            rows[image], free[row] = row, False
    if own < ALIGNED * count or free.any():
        raise EntryError(f"only {min(own, count - int(free.sum()))} of {count} images are most like a clean image of their own")
    return rows


def _nearest(array: np.ndarray, clean: ImageSet, rows: np.ndarray, scale: Tensor, choices: int) -> np.ndarray:
    """Return the clean images (n, choices) that rows of a file are most like at 4x4 pixels, the likest first."""

    def small(images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images.float(), 4).flatten(1)

    theirs = torch.cat([small(clean.images[where]) for where in clean.blocks()])
    found = []
    for part in np.array_split(rows, -(-len(rows) // 256)):
        distance = torch.cdist(small(_levels(array, part, scale)), theirs)
        found.append(distance.topk(min(choices, len(clean)), 1, largest=False).indices.numpy())
    return np.concatenate(found)


def _from_coefficients(images: np.ndarray, weights: Tensor, clean: ImageSet, options: Options) -> str:
    """Run the generator of AR with the coefficients of a file; the borders are drawn with seed 0."""
    if options.norm not in ("l2", "linf"):
        raise EntryError(
            "the file holds coefficients of AR, which have no radius: give --norm l2 --epsilon 1.0, as its authors"
        )
    if not torch.isfinite(weights).all() or weights[..., 2, 2].abs().max() > 0:
        raise EntryError("the file's coefficients are not those of AR: the last of each 3x3 must be 0")
    attack = ATTACKS["ar"](norm=options.norm, epsilon=options.epsilon)
    for where, delta in attack.noise(weights, clean, Job()):
        images[where] = _rounded(clean.images[where].float() + 255 * delta, options)
    return "coefficients"


def _from_generator(images: np.ndarray, weights: Mapping[str, Tensor], clean: ImageSet, options: Options) -> str:
    """Run the generator of DeepConfuse with the weights of a file, in evaluation mode."""
    from registry.attacks.deepconfuse import Painter

    if options.norm != "linf" or not options.epsilon:
        raise EntryError(
            "the file holds the generator of DeepConfuse, whose noise is in units of the radius: give --norm linf "
            "--epsilon 0.032, as its authors"
        )
    named = {}
    for key, value in weights.items():
        block, _, rest = key.removeprefix("module.").partition(".")
        named[PAINTED.get(block, block) + "." + rest] = value.float() if value.is_floating_point() else value
    first = named["down.0.0.weight"]
    if min(clean.info.shape[1:]) < 8:
        raise EntryError("the generator of DeepConfuse needs images of 8x8 pixels or more")
    try:
        with torch.device("meta"):  # takes no memory, whatever width the file claims
            painter = Painter(clean.info.shape[0], first.shape[0])
        painter.load_state_dict(named, assign=True)
        painter.eval()
        with torch.no_grad():
            for where in clean.blocks():
                noise = options.epsilon * painter(clean.pixels(where))
                if not torch.isfinite(noise).all():
                    raise EntryError("the file's weights give noise that is not finite")
                images[where] = _rounded(clean.images[where].float() + 255 * noise, options)
    except (RuntimeError, IndexError) as error:
        why = str(error).strip().splitlines()[-1].strip()[:200]
        raise EntryError(f"the file's weights are not those of DeepConfuse's generator for these images: {why}") from None
    return "weights"


# Export


def may_write(to: Path, kind: str) -> None:
    """EntryError if a poison cannot be written there in this format; asked before any work."""
    if kind not in FORMATS:
        raise EntryError(f"--format {kind}: expected {', '.join(FORMATS)}")
    if to.exists():
        raise EntryError(f"{to} is there already; name another place")


def hand_out(kept: Kept, train: ImageSet, to: Path, kind: str) -> None:
    """Write a poison for others: a folder with data/<index>.png, labels.csv and manifest.json, or one .npz."""
    may_write(to, kind)
    to.parent.mkdir(parents=True, exist_ok=True)
    scratch = to.with_name(f".{to.name}.making")
    if scratch.is_dir():
        shutil.rmtree(scratch)
    text = json.dumps(kept.manifest, indent=1, sort_keys=True)
    try:
        if kind == "npz":
            pixels = kept.images.permute(0, 2, 3, 1).contiguous().numpy()
            with scratch.open("wb") as file:  # a name of ours: numpy would add an ending
                np.savez(file, images=pixels, labels=kept.labels.numpy(), manifest=np.array(text))
        else:
            _write_png(kept, train, scratch)
            (scratch / "manifest.json").write_text(text, encoding="utf-8")
        scratch.rename(to)
    finally:
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            scratch.unlink(missing_ok=True)


def _write_png(kept: Kept, train: ImageSet, folder: Path) -> None:
    from PIL import Image

    if kept.images.shape[1] not in (1, 3):
        raise EntryError(f"images of {kept.images.shape[1]} channels are no PNG; use --format npz")
    (folder / "data").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "label", "class"])
        for row, label in enumerate(kept.labels.tolist()):
            pixels = kept.images[row].permute(1, 2, 0).numpy()
            Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(folder / "data" / f"{row}.png")
            writer.writerow([row, label, train.classes[label] if train.classes else label])
