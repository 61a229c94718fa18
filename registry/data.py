"""Loads a dataset by its spec: decodes it once, keeps the arrays with a fingerprint, takes part of each class if asked.

Datasets lie under `$BENCH_DATA` (default: the user's cache directory), each in a folder of its name; decoded arrays lie
beside them in `.decoded/`, and are memory-mapped when they are large.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unlearnable_bench.registry import _images, _paths
from unlearnable_bench.registry._paths import data_root, put_in_place
from unlearnable_bench.registry.contract import DataInfo, EntryError, ImageSet, MissingDataError

if TYPE_CHECKING:
    from unlearnable_bench.registry.catalog import ConfiguredEntry

COPIED_IMAGES = 1024  # images that are copied at once
HASHED = 1 << 26  # bytes that are hashed at once
DECODED_FORMAT = 1  # of the decoded folder; another number decodes again
DATA_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Data:
    """A dataset as cells use it. `fingerprint` is a sha256 over images and labels of both parts."""

    train: ImageSet
    test: ImageSet
    fingerprint: str


def root_of(part: ConfiguredEntry) -> Path:
    """The folder that a dataset is read from."""
    return part.root or data_root() / (part.entry.facts.get("folder") or part.entry.name)


def load(part: ConfiguredEntry) -> Data:
    """Return the dataset of a resolved spec. MissingDataError, EntryError."""
    folder = decoded(part)
    meta = json.loads((folder / "meta.json").read_text())
    arrays = {name: open_array(folder / f"{name}.npy") for name in DATA_ARRAYS}
    classes = tuple(meta["classes"])
    sets = [
        ImageSet(arrays[f"{half}_images"], arrays[f"{half}_labels"], meta["num_classes"], classes) for half in _images.PARTS
    ]
    limits = int(part.fields["per_class"]), int(part.fields["test_per_class"])
    if any(limits):
        owner = f"dataset {part.name}"
        sets = [_some(s, n, owner, p) for s, n, p in zip(sets, limits, ("training", "test"), strict=True)]
    return Data(sets[0], sets[1], known_fingerprint(part))


def known_fingerprint(part: ConfiguredEntry) -> str:
    """Return the fingerprint that `load` gives without opening the images, '' if they were never decoded."""
    whole, limits = decoded_fingerprint(part), (int(part.fields["per_class"]), int(part.fields["test_per_class"]))
    return hashlib.sha256(f"{whole} {limits}".encode()).hexdigest() if whole and any(limits) else whole


def info(part: ConfiguredEntry) -> DataInfo | None:
    """Return what is known of the training set without opening it; None if it was never decoded."""
    meta_file = _folder(part) / "meta.json"
    if not meta_file.exists():
        return None
    meta = json.loads(meta_file.read_text())
    limit = int(part.fields["per_class"]) * meta["num_classes"]
    return DataInfo(tuple(meta["shape"]), meta["num_classes"], limit or meta["size"], tuple(meta["classes"]))


def judged_images(part: ConfiguredEntry) -> int:
    """Return how many images the test set has without opening them, 0 if it was never decoded."""
    import numpy as np

    folder = _folder(part)
    if not (folder / "meta.json").exists():
        return 0
    limit = int(part.fields["test_per_class"]) * int(json.loads((folder / "meta.json").read_text())["num_classes"])
    return limit or len(np.load(folder / "test_labels.npy", mmap_mode="r", allow_pickle=False))


def complaint(part: ConfiguredEntry) -> str:
    """Say in a sentence that a decoded dataset has fewer images per class than a spec asks for, or return ''."""
    meta_file = _folder(part) / "meta.json"
    if not meta_file.exists():
        return ""
    halves = json.loads(meta_file.read_text())["smallest"]
    for field, half, there in zip(("per_class", "test_per_class"), ("training", "test"), halves, strict=True):
        if part.fields[field] > there:
            asked = f"{field}={part.fields[field]} asks for more {half} images than the smallest class has, which is {there}"
            return f"dataset {part.name}: {asked}"
    return ""


def missing(part: ConfiguredEntry) -> str:
    """Say in a sentence that a dataset is not on this machine, or return ''. Needs no torch."""
    folder = part.entry.facts.get("folder", "")
    if part.entry.name == "folder" and part.root is None:
        return "dataset folder has no path; say folder:PATH, where PATH has train/<class>/* and test/<class>/*"
    if part.root is not None or not folder or root_of(part).exists():
        return ""
    return f"dataset {part.entry.name} is not at {root_of(part)}; `bench data get {part.entry.name}` gets it or says how"


def _key(part: ConfiguredEntry) -> str:
    own = {k: v for k, v in part.fields.items() if k not in ("per_class", "test_per_class")}
    revisions = [part.revisions] if part.revisions else []
    text = json.dumps([DECODED_FORMAT, part.name, part.entry.version, own, *revisions], sort_keys=True)
    return f"{part.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _folder(part: ConfiguredEntry) -> Path:
    return data_root() / ".decoded" / _key(part)


def decoded(part: ConfiguredEntry) -> Path:
    """Return the folder of the decoded arrays, made if it is not there yet."""
    folder = _folder(part)
    if (folder / "meta.json").exists():
        return folder
    if sentence := missing(part):
        raise MissingDataError(sentence)
    own = {k: v for k, v in part.values.items() if k not in ("per_class", "test_per_class")}
    train, test = part.entry.load()(root_of(part), **own)
    return _keep(folder, train, test)


def _keep(folder: Path, train: ImageSet, test: ImageSet) -> Path:
    import numpy as np

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = folder.with_name(f"making-{secrets.token_hex(6)}")  # with the rights that the umask leaves: others read it
        scratch.mkdir()
    except OSError as error:
        raise EntryError(f"cannot write decoded images to {folder.parent}: {error.strerror}; set BENCH_DATA") from None
    try:
        arrays = dict(zip(DATA_ARRAYS, (train.images, train.labels, test.images, test.labels), strict=True))
        for name, tensor in arrays.items():
            np.save(scratch / f"{name}.npy", tensor.numpy())
        meta = {
            "fingerprint": fingerprint(train, test),
            "classes": list(train.classes),
            "num_classes": train.num_classes,
            "shape": list(train.images.shape[1:]),
            "size": len(train),
            "smallest": [int(part.labels.bincount(minlength=1).min()) for part in (train, test)],
        }
        (scratch / "meta.json").write_text(json.dumps(meta, indent=1))
        mine = put_in_place(scratch, folder)  # or another process was faster; its arrays are the same
        if not mine and not (folder / "meta.json").exists():
            raise EntryError(f"{folder} has no meta.json; remove the folder, and it is decoded anew")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def fingerprint(train: ImageSet, test: ImageSet) -> str:
    """Return the sha256 over images and labels of both parts."""
    whole = hashlib.sha256()
    for part in (train, test):
        whole.update(str(tuple(part.images.shape)).encode())
        for where in part.batches(max(1, HASHED // max(1, part.images[:1].numel()))):
            whole.update(part.images[where].contiguous().numpy().tobytes())
        whole.update(part.labels.numpy().tobytes())
    return whole.hexdigest()


def decoded_fingerprint(part: ConfiguredEntry) -> str:
    """Return the fingerprint of the decoded arrays of the whole set, '' if there are none."""
    meta_file = _folder(part) / "meta.json"
    return str(json.loads(meta_file.read_text())["fingerprint"]) if meta_file.exists() else ""


def forget_decoded(part: ConfiguredEntry) -> None:
    """Remove the decoded arrays; the next use decodes again."""
    shutil.rmtree(_folder(part), ignore_errors=True)


def open_array(path: Path) -> Any:
    """Open an array as a tensor: read, or mapped when it is large. Never unpickles."""
    import numpy as np
    import torch

    large = path.stat().st_size >= _paths.MAP_FROM
    mode: Literal["c"] | None = "c" if large else None  # copy on write: torch wants writable memory
    return torch.from_numpy(np.load(path, mmap_mode=mode, allow_pickle=False))


def _some(whole: ImageSet, per_class: int, owner: str, part: str) -> ImageSet:
    """Keep a seeded choice of `per_class` images of each class, in the order of the set; 0 keeps all."""
    import numpy as np
    import torch

    if not per_class:
        return whole
    labels = whole.labels.numpy()
    draw = np.random.default_rng(0)
    chosen = []
    for label in range(whole.num_classes):
        members = np.flatnonzero(labels == label)
        if len(members) < per_class:
            name = whole.classes[label] if whole.classes else str(label)
            text = f"{owner}: {per_class} images per class were asked for, class {name} has {len(members)} {part} images"
            raise EntryError(text)
        chosen.append(draw.permutation(members)[:per_class])
    rows = torch.from_numpy(np.sort(np.concatenate(chosen)))
    images = torch.from_numpy(_images.empty_images((len(rows), *whole.images.shape[1:])))
    for where in (slice(start, start + COPIED_IMAGES) for start in range(0, len(rows), COPIED_IMAGES)):
        images[where] = whole.images[rows[where]]
    return replace(whole, images=images, labels=whole.labels[rows])
