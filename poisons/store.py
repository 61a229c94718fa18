"""The store: craft, round to 8 bits, check the budget, keep, reuse.

A set is a folder `<slug>-<key>/` with `images.npy`, `labels.npy` and `manifest.json`, published by one rename. It is
verified when it is read; a damaged one is set aside under another name and made again. A lease (`lease.py`) makes one
process craft while the others that want the same set wait.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearnable_bench.poisons.lease import BusyError, Lease, clear, leased
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.poisons.recipe import PoisonRecipe, PurifiedRecipe, Recipe
from unlearnable_bench.registry import Attack, Budget, Defense, ImageSet, Job, NotApplicable, Parent, _paths
from unlearnable_bench.registry._paths import empty_array, put_in_place, reserve
from unlearnable_bench.registry._spent import Spent
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.contract import LEFT_OUT, SLACK, blocks
from unlearnable_bench.registry.data import Data, load, open_array

log = logging.getLogger(__name__)

PURIFIED_BYTES = 1 << 25  # bytes of images that a purifier gets at a time of a set that is mapped

WAITS = (0.2, 5.0)  # seconds between two looks for a set that another process makes: at first, and at most

Progress = Callable[[int, int], None]


class CraftError(ValueError):
    """An attack or a purifier returned something else than its contract says."""

    exit_code = 1  # of `bench`: what was examined failed


class BudgetError(CraftError):
    """A poison beyond its budget; the text has the measured and the allowed figure."""


class DamagedError(ValueError):
    """A set whose files are not what its manifest says; the text names the file."""

    exit_code = 1  # of `bench`: what was examined failed


@dataclass(frozen=True)
class Kept:
    """A set as it lies in the store."""

    path: Path
    manifest: dict[str, Any]
    images: Tensor
    labels: Tensor
    cached: bool  # it was there before

    @property
    def checksum(self) -> str:
        return str(self.manifest["checksum"])

    @property
    def spent(self) -> Spent:
        """What making it took. Manifests from before CPU seconds were kept count none."""
        return Spent(self.manifest["seconds"], self.manifest.get("cpu_seconds", 0.0))

    @property
    def numerics(self) -> dict[str, Any]:
        """Under which it was made: device, dtype, compile, threads; empty where its manifest does not say."""
        kept: dict[str, Any] = self.manifest.get("numerics", {})
        return {"device": self.manifest["device"]} | kept if kept else {}

    @property
    def left_out(self) -> Tensor:
        """Which images no victim trains on, bool (N,): see `Job.leave_out`."""
        path = self.path / f"{LEFT_OUT}.npy"
        if not path.exists():
            return torch.zeros(len(self.labels), dtype=torch.bool)
        return torch.from_numpy(np.load(path, allow_pickle=False))


@dataclass(frozen=True)
class Store:
    """The sets of a folder."""

    root: Path
    device: str = "cpu"
    progress: Progress | None = None

    def has(self, recipe: Recipe) -> bool:
        """Say whether a set is there, without reading it."""
        return (self.root / recipe.folder / "manifest.json").exists()

    def lease_path(self, recipe: Recipe) -> Path:
        """Return where the lease lies that a set is made under."""
        return self.root / ".locks" / f"{recipe.key}.lock"

    def poison(self, recipe: PoisonRecipe, data: Data, wait: bool = True) -> Kept:
        """Return a poison, crafted if it is not there. BudgetError, CraftError; BusyError unless told to `wait`."""
        return self._get(recipe, data, lambda scratch: self._craft(recipe, data, scratch, wait), wait)

    def adopt(self, recipe: PoisonRecipe, data: Data, attack: Attack, source: Mapping[str, Any]) -> Kept:
        """Keep a poison that was made elsewhere, as `attack` hands it over; `source` goes into its manifest. BudgetError."""
        return self._get(
            recipe, data, lambda scratch: self._craft(recipe, data, scratch, True, attack) | {"source": source}, True
        )

    def purified(self, recipe: PurifiedRecipe, data: Data, wait: bool = True) -> Kept:
        """Return a purified training set, made if it is not there; its poison is made first if need be."""
        return self._get(recipe, data, lambda scratch: self._purify(recipe, data, scratch, wait), wait)

    def training_set(self, recipe: PoisonRecipe, data: Data, ratio: float, part: str, wait: bool = True) -> ImageSet:
        """Mix: `ratio` of the images from the poison, the others clean; or, for part `clean`, only those others.

        Of the images from the poison those that it leaves out are missing.
        """
        clean = data.train
        if part == "clean" or recipe.identity or ratio == 0:
            return self.unpoisoned(recipe, data, ratio, part, wait)
        poisoned = self.poison(recipe, data, wait).images
        rows = self.trained_rows(recipe, data, ratio, part, wait)
        if ratio == 1 and len(rows) == len(clean):
            return replace(clean, images=poisoned)
        chosen = chosen_images(clean.labels, clean.num_classes, ratio, recipe.cell_seed)
        return replace(clean, images=self._gathered(rows, clean.images, poisoned, chosen), labels=clean.labels[rows])

    def unpoisoned(self, recipe: PoisonRecipe, data: Data, ratio: float, part: str, wait: bool = True) -> ImageSet:
        """Return the images of `training_set`, in its order, as they were before they were poisoned."""
        clean, rows = data.train, self.trained_rows(recipe, data, ratio, part, wait)
        if len(rows) == len(clean):
            return clean
        return replace(clean, images=self._gathered(rows, clean.images), labels=clean.labels[rows])

    def trained_rows(self, recipe: PoisonRecipe, data: Data, ratio: float, part: str, wait: bool = True) -> Tensor:
        """Return which images of the data are in `training_set`, int64 (n,), ascending."""
        clean = data.train
        chosen = chosen_images(clean.labels, clean.num_classes, ratio, recipe.cell_seed)
        if part == "clean":
            return torch.nonzero(~chosen).flatten()
        if recipe.identity or ratio == 0:
            return torch.arange(len(clean))
        return torch.nonzero(~(chosen & self.poison(recipe, data, wait).left_out)).flatten()

    def _gathered(self, rows: Tensor, clean: Tensor, poisoned: Tensor | None = None, chosen: Tensor | None = None) -> Tensor:
        """Return the images at some rows, of `poisoned` where they are `chosen`: a large set in a file, not in memory."""
        found = torch.from_numpy(empty_array(self.root, (len(rows), *clean.shape[1:]), np.dtype(np.uint8)))
        for where in blocks(len(rows), clean[:1].numel()):
            here = rows[where]
            found[where] = clean[here]
            if poisoned is not None and chosen is not None and chosen[here].any():
                found[where][chosen[here]] = poisoned[here[chosen[here]]]
        return found

    # making

    def _get(self, recipe: Recipe, data: Data, make: Callable[[Path], dict[str, Any]], wait: bool) -> Kept:
        folder, pause = self.root / recipe.folder, WAITS[0]
        while True:
            with suppress(DamagedError):  # looked at again below, where nobody else can be mending it
                if folder.exists():
                    return self._read(recipe, data)
            with leased(self.lease_path(recipe)) as lease:
                if lease is not None:
                    return self._mend_or_make(recipe, data, make, lease)
            if not wait:
                raise BusyError(f"another process is making {recipe.text}")
            time.sleep(pause)
            pause = min(2 * pause, WAITS[1])

    def _mend_or_make(self, recipe: Recipe, data: Data, make: Callable[[Path], dict[str, Any]], lease: Lease) -> Kept:
        """Return a set that is there and whole, else make it; what is damaged is set aside."""
        folder = self.root / recipe.folder
        if folder.exists():
            try:
                return self._read(recipe, data)
            except DamagedError as error:
                aside = self.set_aside(folder)
                log.warning("%s; set aside as %s, making it again", error, aside.name)
        cached = not self._make(folder, make, lease)
        lease.finish()
        shutil.rmtree(self._checkpoints(recipe), ignore_errors=True)
        clear(lease.path.parent)
        return replace(self._read(recipe, data), cached=cached)

    def _make(self, folder: Path, make: Callable[[Path], dict[str, Any]], lease: Lease) -> bool:
        """Make a set and publish it; False if a process that took the lease over was faster. BusyError while it is at work."""
        for abandoned in self.root.glob(f"{glob.escape(folder.name)}.*.making"):
            shutil.rmtree(abandoned, ignore_errors=True)  # by a process that was killed; we hold its lease
        scratch = self.root / f"{folder.name}.{secrets.token_hex(4)}.making"
        scratch.mkdir(parents=True)
        try:
            manifest = sealed(make(scratch) | {"kept": _side_products(scratch)})
            (scratch / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))
            lease.check()
            return put_in_place(scratch, folder)
        except Exception:
            lease.check()  # a process that took it over has cleared away what we were making
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _checkpoints(self, recipe: Recipe) -> Path:
        return self.root / ".checkpoints" / recipe.key

    def _parent(self, parent: PoisonRecipe, child: PoisonRecipe, data: Data, wait: bool) -> tuple[Parent, str]:
        """Return a poison that another is made from, crafted if it is not there, and its checksum."""
        own = data if parent.dataset == child.dataset else load(parent.dataset)
        kept = self.poison(parent, own, wait)
        if kept.left_out.any():
            raise NotApplicable(f"{parent.text} leaves images out of training, and no poison can be made from a part of a set")
        return Parent(own.train, kept.images, promise(parent)), kept.checksum

    def _job(self, recipe: Recipe, numerics: Numerics, parents: tuple[Parent, ...] = ()) -> Job:
        folder = self._checkpoints(recipe)
        folder.mkdir(parents=True, exist_ok=True)
        return Job(self.device, recipe.stage_seed, self.progress, folder, parents, numerics.on(self.device))

    def _craft(
        self, recipe: PoisonRecipe, data: Data, scratch: Path, wait: bool, given: Attack | None = None
    ) -> dict[str, Any]:
        attack: Attack = given or recipe.attack[-1].build()
        attack.applies(data.train.info)
        budget = promise(recipe)  # refuses a wrong radius before any work
        family = [self._parent(parent, recipe, data, wait) for parent in recipe.parents]
        clean, numerics = data.train, Numerics.pinned(self.device, "surrogate" in recipe.attack[-1].fields)
        job = self._job(recipe, numerics, tuple(parent for parent, _ in family))
        shape = tuple(clean.images.shape)
        images = np.lib.format.open_memmap(scratch / "images.npy", "w+", np.uint8, shape)
        reserve(scratch / "images.npy")
        spent, done = 0.0, 0
        with seeded(recipe.stage_seed, numerics, self.device):
            for where, delta in _slices(attack.craft(clean, job), len(clean)):
                if where.start != done:
                    raise CraftError(f"{recipe.text} skipped from image {done} to {where.start}; slices must follow each other")
                done = where.stop
                originals = clean.images[where]
                poisoned = add(originals, delta.cpu(), recipe.text)
                spent = max(spent, budget.measure(originals, poisoned))
                images[where] = poisoned.numpy()
        if done != len(clean):
            raise CraftError(f"{recipe.text} returned noise for {done} of {len(clean)} images")
        _check_left_out(job, recipe.text, len(clean))
        allowed = budget.allowed(shape[1:])
        if allowed is not None and spent > allowed + SLACK:
            figures = f"{_units(spent, budget.norm)} of {budget.norm}, allowed {_units(allowed, budget.norm)}"
            raise BudgetError(f"{recipe.text} spent {figures}")
        images.flush()
        np.save(scratch / "labels.npy", clean.labels.numpy())
        _keep(job, scratch)
        measured = {"norm": budget.norm, "allowed": allowed, "spent": spent}
        manifest = self._manifest(recipe, data, scratch, numerics, job) | {"budget": measured}
        return manifest | ({"parents": [found for _, found in family]} if family else {})

    def _purify(self, recipe: PurifiedRecipe, data: Data, scratch: Path, wait: bool) -> dict[str, Any]:
        before = self.training_set(recipe.poison, data, recipe.ratio, recipe.part, wait)
        numerics = Numerics.pinned(self.device)
        job = self._job(recipe, numerics)
        after = before
        with seeded(recipe.stage_seed, numerics, self.device):
            for job.part, part in enumerate(recipe.purifiers):
                defense: Defense = part.build()
                defense.applies(after.info)
                job.unpoisoned = self._clean_data(part, recipe, data, wait)
                large = after.images.nbytes >= _paths.MAP_FROM
                after = _piecewise(defense, after, job) if large and defense.per_image else defense.purify(after, job)
                if after.images.shape != before.images.shape or after.images.dtype not in (torch.uint8, torch.float32):
                    found = f"{after.images.dtype} {tuple(after.images.shape)}"
                    raise CraftError(f"{part.text} returned {found}, expected uint8 or float32 {tuple(before.images.shape)}")
                if not torch.equal(after.labels, before.labels):
                    raise CraftError(f"{part.text} changed the labels or their order")
        np.save(scratch / "images.npy", after.images.cpu().numpy())
        np.save(scratch / "labels.npy", after.labels.numpy())
        _keep(job, scratch)
        return self._manifest(recipe, data, scratch, numerics, job)

    def _clean_data(self, part: ConfiguredEntry, recipe: PurifiedRecipe, data: Data, wait: bool) -> ImageSet | None:
        """Return the images before they were poisoned, for a purifier that says it needs some of them; None for all others."""
        if "clean-data" not in part.needs:
            return None
        return self.unpoisoned(recipe.poison, data, recipe.ratio, recipe.part, wait)

    def _manifest(self, recipe: Recipe, data: Data, scratch: Path, numerics: Numerics, job: Job) -> dict[str, Any]:
        return {
            "format": 1,
            "text": recipe.text,
            "recipe": recipe.plain(),
            "dataset_fingerprint": data.fingerprint,
            "checksum": checksum(scratch),
            **asdict(job.spent),
            "notes": job.notes,
            "device": self.device.partition(":")[0],
            "numerics": asdict(numerics),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    # reading

    def _read(self, recipe: Recipe, data: Data) -> Kept:
        """Return a set. DamagedError if its files are not there, or not what its manifest says."""
        folder = self.root / recipe.folder
        manifest = read_manifest(folder)
        if manifest["dataset_fingerprint"] != data.fingerprint:
            raise DamagedError(f"{folder} was made from other images than the dataset has now")
        _verify(folder, manifest)
        images, labels = open_array(folder / "images.npy"), open_array(folder / "labels.npy")
        return Kept(folder, manifest, images, labels, cached=True)

    def set_aside(self, folder: Path) -> Path:
        """Rename a damaged set, so that nothing of it is lost and nobody uses it."""
        for number in range(1, 1000):
            aside = folder.with_name(f"{folder.name}.damaged-{number}")
            if put_in_place(folder, aside):
                return aside
        raise DamagedError(f"{folder} has been damaged a thousand times; look at the disk")

    def folders(self) -> list[Path]:
        """All folders of sets, damaged and half-made ones too."""
        if not self.root.is_dir():
            return []
        return sorted(p for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))


def promise(recipe: PoisonRecipe) -> Budget:
    """Return the budget of a poison: its attack's, or what a tool keeps of the budget of the poison at its left."""
    attack: Attack = recipe.attack[-1].build()
    if not isinstance(attack.budget, Budget):
        raise CraftError(
            f"{recipe.attack[-1].name}: `budget` is not a Budget; expected a property (@property) that returns one"
        )
    return attack.promise([promise(parent) for parent in recipe.parents])


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a set. DamagedError if it is not whole."""
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        typed = all(isinstance(manifest[key], kind) for key, kind in MANIFEST_TYPES.items())
        whole = typed and _keeps_seal(manifest)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise DamagedError(f"{path} is not a whole manifest")
    return manifest


MANIFEST_TYPES = {"recipe": dict, "checksum": str, "dataset_fingerprint": str, "text": str, "seconds": int | float}


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest with the hash of all else in it, so that a changed figure is noticed. Older ones have none."""
    rest = {key: value for key, value in manifest.items() if key != "seal"}
    text = json.dumps(rest, sort_keys=True)
    return rest | {"seal": hashlib.sha256(text.encode()).hexdigest()}


def _keeps_seal(manifest: dict[str, Any]) -> bool:
    """Whether a manifest is as it was sealed. Older programs wrote no seal, and no `kept` either: the two came together."""
    if "seal" in manifest:
        return bool(sealed(manifest)["seal"] == manifest["seal"])
    return "kept" not in manifest


def _side_products(folder: Path) -> dict[str, str]:
    """The sha256 of what lies beside images and labels of a set, by file name."""
    others = sorted(set(folder.glob("*.npy")) - {folder / name for name in SET_ARRAYS})
    found = {}
    for path in others:
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


SET_ARRAYS = {"images.npy": (4, ("|u1", "<f4")), "labels.npy": (1, ("<i8",))}  # of a set: dimensions and types
_VERIFIED: dict[Path, tuple[int, ...]] = {}  # sets that this process has read, by size, time and inode of their files


def _verify(folder: Path, manifest: dict[str, Any]) -> None:
    try:
        status = [(folder / name).stat() for name in (*SET_ARRAYS, *manifest.get("kept", {}))]
        stamp = tuple(v for s in status for v in (s.st_size, s.st_mtime_ns, s.st_ino))
        if _VERIFIED.get(folder) == stamp:
            return
        found = checksum(folder)
        beside = _side_products(folder)
    except OSError as error:
        raise DamagedError(f"{error.filename} cannot be read: {error.strerror}") from None
    if changed := [name for name, value in manifest.get("kept", {}).items() if beside.get(name) != value]:
        raise DamagedError(f"{folder / changed[0]} was changed")
    if found != manifest["checksum"]:
        raise DamagedError(
            f"{folder / 'images.npy'} or labels.npy was changed: checksum {found[:12]}, "
            f"the manifest says {manifest['checksum'][:12]}"
        )
    _VERIFIED[folder] = stamp


def verify_set(folder: Path) -> None:
    """Check a set against its manifest, always reading all of it. DamagedError."""
    _VERIFIED.pop(folder, None)
    _verify(folder, read_manifest(folder))


def _piecewise(defense: Defense, before: ImageSet, job: Job) -> ImageSet:
    """Purify a large set part by part into a file: a defense that takes images one by one needs memory for a part alone."""
    images, step = None, max(1, PURIFIED_BYTES // before.images[:1].nbytes)
    job.whole = len(before)
    for start in range(0, len(before), step):
        where = slice(start, min(start + step, len(before)))
        part = replace(before, images=before.images[where].clone(), labels=before.labels[where])
        done = defense.purify(part, job).images.cpu()
        if images is None:
            images = job.empty((len(before), *done.shape[1:]), done.dtype)
        images[where] = done
        job.before = where.stop
        job.progress(0, len(part))
    job.before = job.whole = 0
    assert images is not None, "a large set has images"
    return replace(before, images=images)


def checksum(folder: Path) -> str:
    """Return the sha256 of images and labels of a set: values alone, without file headers. DamagedError, OSError."""
    whole = hashlib.sha256()
    for name, (dimensions, types) in SET_ARRAYS.items():
        try:
            array = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        except OSError:
            raise
        except Exception as error:  # of a changed header numpy raises nearly everything
            raise DamagedError(f"{folder / name} is not a whole array: {first_line(error)}") from None
        known = isinstance(array, np.ndarray) and array.ndim == dimensions and array.dtype.str in types
        if not known or not array.flags.c_contiguous:  # the same bytes would be other values
            raise DamagedError(f"{folder / name} is not an array of {' or '.join(types)} in {dimensions} dimensions")
        for start in range(0, len(array), 4096):
            whole.update(np.ascontiguousarray(array[start : start + 4096]).data)
    return whole.hexdigest()


def first_line(error: BaseException) -> str:
    """The first line of what an error of a library says, for a sentence of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def chosen_images(labels: Tensor, num_classes: int, ratio: float, seed: int) -> Tensor:
    """Return which images are poisoned at a ratio: bool (N,), stratified, the same for every attack and defense.

    Of each class round(ratio x size) images, the first of a seeded order, so that smaller ratios are contained in larger.
    """
    draw = np.random.default_rng([seed, 0x5EED])
    chosen = np.zeros(len(labels), bool)
    values = labels.numpy()
    for label in range(num_classes):
        members = draw.permutation(np.flatnonzero(values == label))
        chosen[members[: round(ratio * len(members))]] = True
    return torch.from_numpy(chosen)


def _keep(job: Job, folder: Path) -> None:
    for name, array in job.kept.items():
        np.save(folder / f"{name}.npy", array)


def _check_left_out(job: Job, text: str, size: int) -> None:
    """Refuse what is no choice of some images, or leaves nothing to train on. CraftError."""
    mask = job.kept.get(LEFT_OUT)
    if mask is None:
        return
    if mask.dtype != bool or mask.shape != (size,):
        raise CraftError(f"{text} leaves out {mask.dtype} {mask.shape}; expected bool ({size},), True for images left out")
    if mask.all():
        raise CraftError(f"{text} leaves out all {size} images; a victim needs some to train on")


def _slices(crafted: Any, size: int) -> Iterator[tuple[slice, Tensor]]:
    if isinstance(crafted, Tensor):
        if len(crafted) != size:
            raise CraftError(f"an attack returned noise for {len(crafted)} of {size} images")
        for start in range(0, size, 4096):
            where = slice(start, min(start + 4096, size))
            yield where, crafted[where]
    else:
        yield from crafted


def add(originals: Tensor, delta: Tensor, text: str) -> Tensor:
    """Return the images as published: originals plus delta, rounded to 8 bits; or the images themselves, if those came."""
    kinds = (torch.float32, torch.uint8)
    if delta.shape != originals.shape or delta.dtype not in kinds:
        found, expected = f"{delta.dtype} {tuple(delta.shape)}", f"float32 {tuple(originals.shape)}"
        raise CraftError(f"{text} returned noise of {found}, expected {expected}")
    if delta.dtype == torch.uint8:
        return delta
    result = torch.empty_like(originals)
    for part in blocks(len(originals), originals[:1].numel()):  # what a cache holds: ten times as fast as all at once
        if not torch.isfinite(delta[part].sum()) and not torch.isfinite(delta[part]).all():  # a sum is quick
            raise CraftError(f"{text} returned noise that is not finite")
        values = delta[part] * 255
        values.add_(originals[part].float()).round_().clamp_(0, 255)
        result[part] = values.to(torch.int16)  # by way of integers: torch turns floats into bytes slowly
    return result


def _units(value: float, norm: str) -> str:
    return f"{value * 255:.0f}/255" if norm == "linf" else f"{value:.4g}"
