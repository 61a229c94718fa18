"""Takes in poisons that authors publish: `bench poisons import`.

A file of others is never unpickled without restriction, executed or extracted: arrays are read without pickles, torch files
with weights only, members of archives one by one in memory, after a look at their sizes (`formats.py`).
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unlearnable_bench.poisons.arrays import Contents, Values, read_npy
from unlearnable_bench.poisons.formats import is_plain, limit, read_poison
from unlearnable_bench.poisons.generators import from_coefficients, from_generator
from unlearnable_bench.poisons.matching import rows_of
from unlearnable_bench.poisons.options import ImportOptions
from unlearnable_bench.poisons.recipe import PoisonRecipe
from unlearnable_bench.poisons.store import Kept, Store, checksum
from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job
from unlearnable_bench.registry._paths import reserve
from unlearnable_bench.registry._surrogates import statistics
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.contract import blocks
from unlearnable_bench.registry.data import Data
from unlearnable_bench.registry.spec import write_spec

SMALLEST = 0.2  # pixel units: float noise beyond it may be in other units


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


def import_poison(
    store: Store, path: Path, dataset: ConfiguredEntry, data: Data, options: ImportOptions, name: str = "", labels: str = ""
) -> Kept:
    """Put a published poison into the store under a spec `imported(...)`. EntryError, BudgetError say what is wrong."""
    contents = read_poison(path, data.train)
    source = {"file": path.name, "sha256": _hash(path), "format": contents.format, **asdict(options)}
    if labels:
        contents = replace(contents, labels=read_npy(Path(labels), limit(data.train)))
        contents.check(Path(labels))
        source |= {"labels": Path(labels).name, "labels_sha256": _hash(Path(labels))}
    store.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=store.root) as scratch:
        folder = Path(scratch)
        images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, tuple(data.train.images.shape))
        reserve(folder / "images.npy")
        source["units"], covered = _fill(images, contents, data.train, options)
        source["covers"] = int(covered.sum())
        images.flush()
        np.save(folder / "labels.npy", data.train.labels.numpy())
        content = f"sha-{checksum(folder)[:16]}"
        given = {"content": content, "name": word(name or path.stem), "norm": options.norm, "epsilon": options.epsilon}
        (part,) = ATTACKS.resolve(write_spec("imported", given))
        budget = Budget(options.norm, options.epsilon)
        return store.adopt(PoisonRecipe(dataset, (part,), 0), data, _Given(budget, images, covered), source)


def word(text: str) -> str:
    """Return a text as a bare word that a spec can hold."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:40] or "poison"
    if not plain[0].isalpha() or plain.lower() in ("true", "false", "inf", "nan", "infinity"):
        return f"poison-{plain}"
    return plain


def _hash(path: Path) -> str:
    """Return the sha256 of a file, or of the names and bytes of all files of a folder."""
    whole = hashlib.sha256()
    if not path.is_dir():
        _add(whole, path)
        return whole.hexdigest()
    for file in sorted(filter(is_plain, path.rglob("*"))):
        whole.update(os.fsencode(f"{file.relative_to(path).as_posix()}\0"))
        _add(whole, file)
    return whole.hexdigest()


def _add(whole: hashlib._Hash, path: Path) -> None:
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            whole.update(part)


def _fill(images: np.ndarray, contents: Contents, clean: ImageSet, options: ImportOptions) -> tuple[str, np.ndarray]:
    """Write the poisoned images, 8 bits; return the units that the file turned out to be in, and which images it is about."""
    everywhere = np.ones(len(clean), bool)
    if contents.weights is not None:
        return from_generator(images, contents.weights, clean, options), everywhere
    if _are_coefficients(contents.array, clean):
        weights = torch.from_numpy(np.array(contents.array, np.float32))
        return from_coefficients(images, weights, clean, options), everywhere
    values = _values(contents, clean, options)
    rows = rows_of(contents, values, clean, options)
    for where in clean.blocks():
        covered = rows[where] >= 0
        levels = clean.images[where].float()
        levels[covered] = _poisoned(levels[covered], values, rows[where][covered], options)
        images[where] = options.rounded(levels)
    return values.units, rows >= 0


def _poisoned(own: Tensor, values: Values, rows: np.ndarray, options: ImportOptions) -> Tensor:
    """Return the poisoned images of some rows of a file, in levels; `own` are the clean ones."""
    levels = values.levels(rows)
    if not torch.isfinite(levels).all():
        raise EntryError("the file holds values that are not finite")
    if values.units == "images":
        return levels
    if options.negative == "drop":
        levels = levels.clamp(min=0)
    return levels + own


def _are_coefficients(array: np.ndarray, clean: ImageSet) -> bool:
    """Whether an array has the shape of coefficients of AR, 3x3 for each class and channel, and no images have."""
    channels, height, _ = clean.info.shape
    return array.shape == (clean.num_classes, channels, 3, 3) and height > 3


def _values(contents: Contents, clean: ImageSet, options: ImportOptions) -> Values:
    """Return the array of a file with its units, as the user says or as its values tell. EntryError."""
    array = _channels_first(contents.array, clean)
    if options.units != "auto":
        units = options.units
    elif contents.ids is None:
        units = _guess(array)
    else:
        raise EntryError(
            "the file holds noise for numbered images, as TAP packs it: say its units, --units normalised (divided by the "
            "standard deviation of each channel, as its authors do), pixels or levels"
        )
    return Values(array, units, _scale(array, units, clean, options))


def _channels_first(array: np.ndarray, clean: ImageSet) -> np.ndarray:
    """Return an array of images as (rows, C, H, W). EntryError for one of another shape."""
    channels, height, width = clean.info.shape
    whole = array[:, None] if array.ndim == 3 and channels == 1 else array
    if whole.shape[1:] == (channels, height, width):
        return whole
    if whole.shape[1:] == (height, width, channels):
        return np.moveaxis(whole, 3, 1)
    expected = f"(rows, {channels}, {height}, {width}) or (rows, {height}, {width}, {channels})"
    raise EntryError(f"the file holds an array of {array.shape}, expected {expected}")


def _scale(array: np.ndarray, units: str, clean: ImageSet, options: ImportOptions) -> Tensor:
    """Return how many levels a unit has."""
    if units == "normalised":
        return 255 * statistics(clean)[1].view(-1, 1, 1)
    if units == "images" and array.dtype.kind == "f" and _extremes(array)[1] <= 1.0:
        return torch.tensor(255.0)
    return torch.tensor({"pixels": 255.0, "radius": 255 * options.epsilon}.get(units, 1.0))


def _guess(array: np.ndarray) -> str:
    """Return the units of an array by its values. EntryError where they do not tell."""
    if array.dtype == np.uint8:
        return "images"
    if array.dtype.kind in "iu":
        return "levels"
    low, high = _extremes(array)
    if max(-low, high) <= SMALLEST:
        return "pixels"
    if low >= 0 and 0.5 <= high <= 255:
        return "images"
    raise EntryError(
        f"the file holds floats from {low:.3g} to {high:.3g}, which may be noise in pixel units, in levels or in units of the "
        "radius; say which by --units pixels, levels or radius"
    )


def _extremes(array: np.ndarray) -> tuple[float, float]:
    """Return the lowest and the highest value, part by part."""
    parts = [array[part] for part in blocks(len(array), array[:1].size)]
    return min(float(part.min()) for part in parts), max(float(part.max()) for part in parts)
