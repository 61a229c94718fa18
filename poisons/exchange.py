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
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from poisons.recipe import PoisonRecipe
from poisons.store import Kept, Store, checksum
from registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job
from registry.catalog import Part
from registry.contract import blocks
from registry.data import Data
from registry.item import write

UNITS = ("auto", "images", "pixels", "levels", "radius")
ORDERS = ("index", "class", "match")
FORMATS = ("png", "npz")
NAMES = ("images", "x", "data", "poison", "perturbation", "delta", "noise", "arr_0")  # of arrays, in archives and dictionaries
LABELS = ("labels", "label", "y", "targets")
SMALLEST = 0.2  # pixel units: float noise beyond it may be in other units
ALIGNED = 0.9  # share of the images that must be most like the clean image of their own place
SAMPLE = 500  # images on which this is tried


@dataclass(frozen=True)
class Options:
    """How a file is to be read; all of it goes into the manifest."""

    units: str = "auto"  # images, noise in pixel units, in 8-bit levels, or in units of the radius
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
    """What a file holds: an array (rows, C, H, W) or (rows, H, W, C), labels if there are any, and what it is called."""

    array: np.ndarray
    format: str
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class _Given(Attack):
    """Hands the store images that are there already."""

    promised: Budget
    images: np.ndarray

    @property
    def budget(self) -> Budget:
        return self.promised

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        for where in clean.blocks():
            yield where, torch.from_numpy(np.array(self.images[where]))


# Import


def take_in(store: Store, path: Path, dataset: Part, data: Data, options: Options, name: str = "", labels: str = "") -> Kept:
    """Put a published poison into the store under an item `imported(...)`. EntryError, BudgetError say what is wrong."""
    found = read(path, data.train)
    if labels:
        found = replace(found, labels=_read_npy(Path(labels), _limit(data.train)))
    source = {"file": path.name, "sha256": _hash(path), "format": found.format, **asdict(options)}
    if labels:
        source |= {"labels": Path(labels).name, "labels_sha256": _hash(Path(labels))}
    store.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=store.root) as scratch:
        images = np.lib.format.open_memmap(Path(scratch) / "images.npy", "w+", np.uint8, tuple(data.train.images.shape))
        source["units"] = _fill(images, found, data.train, options)
        images.flush()
        np.save(Path(scratch) / "labels.npy", data.train.labels.numpy())
        content = f"sha-{checksum(Path(scratch))[:16]}"
        given = {"content": content, "name": _word(name or path.stem), "norm": options.norm, "epsilon": options.epsilon}
        (part,) = ATTACKS.resolve(write("imported", given))
        budget = Budget(options.norm, options.epsilon)
        return store.adopt(PoisonRecipe(dataset, (part,), 0), data, _Given(budget, images), source)


def read(path: Path, clean: ImageSet) -> Found:
    """Read a file or a folder in one of the formats that authors use. EntryError says why it cannot be."""
    limit = _limit(clean)
    if path.is_dir():
        return _read_png({one.name: one.read_bytes for one in path.rglob("*") if _is_plain(one)}, clean, str(path))
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
        return _from_torch(_read_torch(path, limit), path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _read_png(_members(archive, path, clean), clean, str(path))
    raise EntryError(f"{path}: expected .npy, .npz, .pt, .pth, a folder of <index>.png, or a zip of one")


def _limit(clean: ImageSet) -> int:
    """Bytes that a poison of these images may have: float64 and as much again, for headers and labels."""
    return 16 * clean.images.numel() + (1 << 24)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _read_npy(path: Path, limit: int) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise EntryError(f"{path} is no array that can be read without unpickling: {error}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
        raise EntryError(f"{path} holds {getattr(array, 'dtype', 'an archive')}, expected an array of numbers")
    if array.nbytes > limit:
        raise EntryError(f"{path} holds {array.nbytes:,} bytes, more than these images can need ({limit:,})")
    return array


def _check_archive(path: Path, limit: int) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > limit:
                raise EntryError(f"{path} unpacks to {size:,} bytes, more than these images can need ({limit:,})")


def _read_npz(path: Path, limit: int) -> Found:
    _check_archive(path, limit)
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {key: archive[key] for key in archive.files if key in NAMES + LABELS}
            keys = archive.files
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EntryError(f"{path} is no archive of arrays that can be read without unpickling: {error}") from None
    return _chosen(found, keys, "npz", path)


def _chosen(found: Mapping[str, Any], keys: Any, kind: str, path: Path) -> Found:
    arrays = [found[key] for key in NAMES if key in found]
    if not arrays:
        raise EntryError(f"{path} holds {', '.join(map(str, keys))}; expected an array called {', '.join(NAMES)}")
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


def _from_torch(content: Any, path: Path) -> Found:
    if isinstance(content, Mapping):
        model = content.get("model")
        if isinstance(model, Mapping) and isinstance(model.get("delta"), Tensor):
            return Found(_array(model["delta"]), "torch checkpoint")
        tensors = {str(key): _array(value) for key, value in content.items() if isinstance(value, Tensor)}
        return _chosen(tensors, content, "torch", path)
    if isinstance(content, list | tuple) and all(isinstance(one, Tensor) for one in content) and content:
        if len(content) == 2 and content[0].ndim == 4 and content[1].ndim <= 2:
            return Found(_array(content[0]), "torch", _array(content[1]))
        if len({one.shape for one in content}) == 1:
            return Found(_array(torch.stack(list(content))), "torch")
    if isinstance(content, Tensor):
        return Found(_array(content), "torch")
    raise EntryError(
        f"{path} holds a {type(content).__name__}; expected a tensor, (images, labels), or a dictionary of tensors"
    )


def _array(tensor: Tensor) -> np.ndarray:
    plain = tensor.detach().cpu()
    return (plain.float() if plain.dtype in (torch.bfloat16, torch.float16) else plain).numpy()


def _members(archive: zipfile.ZipFile, path: Path, clean: ImageSet) -> dict[str, Callable[[], bytes]]:
    """Return what reads each file of an archive into memory; nothing is ever written to a path that it names."""
    largest = 2 * clean.images[:1].numel() + (1 << 16)  # bytes of one PNG
    found: dict[str, Callable[[], bytes]] = {}
    for member in archive.infolist():
        parts = Path(member.filename.replace("\\", "/")).parts
        if member.filename.startswith(("/", "\\")) or ".." in parts or stat.S_ISLNK(member.external_attr >> 16):
            raise EntryError(f"{path} holds {member.filename!r}, a link or a path that leads out of it; nothing was read")
        if not member.is_dir() and "__MACOSX" not in parts:
            if member.file_size > largest and member.filename.lower().endswith(".png"):
                raise EntryError(f"{path} holds {member.filename!r} of {member.file_size:,} bytes, too many for such an image")
            if parts[-1] in found:
                raise EntryError(f"{path} holds two files called {parts[-1]}; expected one PNG for every image")
            found[parts[-1]] = lambda member=member: archive.read(member)  # type: ignore[misc]
    return found


def _read_png(files: Mapping[str, Callable[[], bytes]], clean: ImageSet, path: str) -> Found:
    from PIL import Image

    channels, height, width = clean.info.shape
    numbered = {int(name[:-4]): read for name, read in files.items() if re.fullmatch(r"[0-9]{1,9}\.png", name)}
    names = sum(name.lower().endswith(".png") for name in files)
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


def _hash(path: Path) -> str:
    whole = hashlib.sha256()
    for one in sorted(p for p in path.rglob("*") if _is_plain(p)) if path.is_dir() else [path]:
        if path.is_dir():
            whole.update(f"{one.relative_to(path).as_posix()}\0".encode())
        with one.open("rb") as file:
            while part := file.read(1 << 22):
                whole.update(part)
    return whole.hexdigest()


def _word(text: str) -> str:
    """Return a text as a bare word that an item can hold."""
    word = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:40] or "poison"
    return word if word[0].isalpha() and word.lower() not in ("true", "false", "inf", "nan", "infinity") else f"poison-{word}"


# What an array means


def _fill(images: np.ndarray, found: Found, clean: ImageSet, options: Options) -> str:
    """Write the poisoned images, 8 bits; return the units that the file turned out to be in."""
    channels, height, width = clean.info.shape
    array = found.array
    if array.ndim == 4 and array.shape[1:] == (channels, 3, 3) and len(array) == clean.num_classes and height > 3:
        return _from_coefficients(images, torch.from_numpy(np.array(array, np.float32)), clean, options)
    if array.ndim != 4 or array.shape[1:] not in ((channels, height, width), (height, width, channels)):
        expected = f"(rows, {channels}, {height}, {width}) or (rows, {height}, {width}, {channels})"
        raise EntryError(f"the file holds an array of {array.shape}, expected {expected}")
    last = array.shape[1:] != (channels, height, width)  # channels last
    units = options.units if options.units != "auto" else _guess(array)
    rows = _rows(found, clean, options, units, last)
    scale = {"pixels": 255.0, "levels": 1.0, "radius": 255 * options.epsilon}.get(units, 1.0)
    if units == "images" and array.dtype.kind == "f":
        scale = 255.0 if _extremes(array)[1] <= 1.0 else 1.0
    for where in clean.blocks():
        values = torch.from_numpy(np.asarray(array[rows[where]], np.float32))  # a copy: (n, C, H, W) or (n, H, W, C)
        values = (values.permute(0, 3, 1, 2) if last else values) * scale  # levels
        if not torch.isfinite(values).all():
            raise EntryError("the file holds values that are not finite")
        if units != "images":
            if options.negative == "drop":
                values = values.clamp(min=0)
            values = values + clean.images[where]
        values = values.clamp(0, 255)
        values = values.floor() if options.rounding == "down" else values.round()
        images[where] = values.to(torch.uint8).numpy()
    return units


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


def _rows(found: Found, clean: ImageSet, options: Options, units: str, last: bool) -> np.ndarray:
    """Return which row of the file belongs to each image. EntryError where that cannot be told."""
    count, own = len(found.array), clean.labels.numpy()
    labels = None
    if found.labels is not None:
        labels = found.labels.argmax(1) if found.labels.ndim == 2 and found.labels.shape[1] > 1 else found.labels.reshape(-1)
        if len(labels) != count:
            raise EntryError(f"the file holds {count} rows and {len(labels)} labels")
        labels = labels.astype(np.int64)
    if count == clean.num_classes != len(clean) and units != "images" and labels is None:
        return own  # one pattern per class
    if count != len(clean):
        raise EntryError(f"the file holds {count} rows; the data set has {len(clean)} images of {clean.num_classes} classes")
    if options.order == "class":
        if labels is None:
            raise EntryError("--order class needs the labels of the rows: --labels FILE.npy")
        if (np.bincount(labels, minlength=clean.num_classes) != np.bincount(own, minlength=clean.num_classes)).any():
            raise EntryError("the file's labels count other classes than the data set's")
        rows = np.empty(count, np.int64)
        rows[np.argsort(own, kind="stable")] = np.argsort(labels, kind="stable")
        return rows
    rows = np.arange(count)
    if options.order == "match":
        if units != "images":
            raise EntryError("--order match compares images with images; this file holds noise")
        rows = np.empty(count, np.int64)
        nearest = _nearest(found.array, clean, np.arange(count), last)
        if len(np.unique(nearest)) != count:
            raise EntryError(f"only {len(np.unique(nearest))} of {count} images are most like a clean image of their own")
        rows[nearest] = np.arange(count)
    elif units == "images":
        tried = np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).astype(np.int64))
        share = float((_nearest(found.array, clean, tried, last) == tried).mean())
        if share < ALIGNED:
            text = f"only {share:.0%} of the images are most like the clean image of their own place"
            raise EntryError(f"{text}: the file is in another order (try --order match) or of another data set")
    if labels is not None and (labels[rows] != own).any():
        wrong = int((labels[rows] != own).sum())
        raise EntryError(
            f"{wrong} of {count} labels of the file are not the data set's; it is in another order or of another set"
        )
    return rows


def _nearest(array: np.ndarray, clean: ImageSet, rows: np.ndarray, last: bool) -> np.ndarray:
    """Return the clean images that rows of a file are most like, at 4x4 pixels and without their mean brightness scale."""

    def small(images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images.float(), 4).flatten(1)

    theirs = torch.cat([small(clean.images[where]) for where in clean.blocks()])
    found = []
    for part in np.array_split(rows, -(-len(rows) // 256)):
        values = torch.from_numpy(np.asarray(array[part], np.float32))
        values = values.permute(0, 3, 1, 2) if last else values
        mine = small(values * (255.0 if array.dtype.kind == "f" and float(values.max()) <= 1.0 else 1.0))
        found.append(torch.cdist(mine, theirs).argmin(1).numpy())
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
        levels = (clean.images[where].float() + 255 * delta).clamp(0, 255)
        images[where] = (levels.floor() if options.rounding == "down" else levels.round()).to(torch.uint8).numpy()
    return "coefficients"


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
