"""Pictures of the sets of a store, read with numpy by the layout of its folders: images.npy and manifest.json.

Clean images come from the decoded dataset of this machine. Where they are not there, or are others than those of the poison,
the poisoned images are shown alone.
"""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from leaderboard.formats.escaping import DASH
from registry import EntryError, MissingDataError, resolve
from registry import data as datasets
from registry.item import write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLASSES = 10  # images in a strip, one per class
SETS = 4  # sets that are shown of one entry
PAIR = (0, 7)  # two classes of which several perturbations are shown: airplane and horse on CIFAR-10
EACH = 4  # images of each of them
GAP = 1  # pixels between images
log = logging.getLogger(__name__)

BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, EntryError, MissingDataError)


@dataclass(frozen=True)
class Kept:
    """A set of the store: its folder and what its manifest says."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def recipe(self) -> Mapping[str, Any]:
        return cast("Mapping[str, Any]", self.manifest["recipe"])


def samples(store: Path) -> dict[str, list[dict[str, Any]]]:
    """Return pictures by `attack.<name>` and `defense.<name>`, one set per item and dataset. What is damaged is left out."""
    kept = list(_kept(store))
    poisons = {json.dumps(one.recipe, sort_keys=True): one for one in kept if one.recipe["stage"] == "craft"}
    result: dict[str, list[dict[str, Any]]] = {}
    for one in _chosen(kept):
        kind = "attack" if one.recipe["stage"] == "craft" else "defense"
        name = f"{kind}.{one.recipe[kind][-1]['name']}"
        try:
            found = _poison(one) if kind == "attack" else _purified(one, poisons)
        except BROKEN as error:
            log.warning("no pictures of %s: %s", one.folder.name, error)
            continue
        several = result.setdefault(name, [])
        if len(several) < SETS:
            several.append(found)
    return result


def _kept(store: Path) -> Iterator[Kept]:
    """Every set of a store whose manifest can be read."""
    for path in sorted(store.glob("*/manifest.json")):
        try:
            one = Kept(path.parent, json.loads(path.read_text(encoding="utf-8")))
            kind = {"craft": "attack", "purify": "defense"}[one.recipe["stage"]]
            if one.manifest["text"] and one.recipe[kind][-1]["name"] and int(one.recipe["seed"]) >= 0:
                yield one
        except BROKEN:
            continue


def _chosen(kept: Iterable[Kept]) -> list[Kept]:
    """One of each item and dataset: that of the lowest seed."""
    found: dict[str, Kept] = {}
    for one in kept:
        rest = {key: value for key, value in one.recipe.items() if key not in ("seed", "poison")}
        rest["poison"] = {key: value for key, value in one.recipe.get("poison", {}).items() if key not in ("seed", "parents")}
        key = json.dumps([one.manifest["text"], rest], sort_keys=True)
        if key not in found or one.recipe["seed"] < found[key].recipe["seed"]:
            found[key] = one
    return list(found.values())


def _poison(one: Kept) -> dict[str, Any]:
    """An attack's pictures: clean, poisoned, what was added, its spectrum; and, as `noise`, perturbations of two classes."""
    budget, dataset = one.manifest["budget"], one.recipe["dataset"]["name"]
    spent = f"{budget['norm']}: {budget['spent']:.4g} spent of {_amount(budget['allowed'])}"
    note = f"{dataset}, seed {one.recipe['seed']}; {spent}; sha256 {one.manifest['checksum'][:12]}"
    found = {"text": str(one.manifest["text"]), "note": note, "strips": _strips(one.folder, one.manifest)}
    noise = _noise(one)
    return found | ({"noise": noise} if noise else {})


def _noise(one: Kept) -> dict[str, Any] | None:
    """Perturbations of some images of two classes, -epsilon to epsilon as black to white; without one the largest."""
    import numpy as np

    images, _ = _images(one.folder)
    clean = _clean(one.manifest, images.shape)
    if clean is None:
        return None
    labels = np.load(one.folder / "labels.npy", mmap_mode="r", allow_pickle=False)
    classes = [label for label in np.unique(labels) if label in PAIR] or list(np.unique(labels)[:1])
    rows = [int(row) for label in classes for row in np.flatnonzero(labels == label)[:EACH]]
    delta = images[rows].astype(np.float32) - clean[rows]  # levels
    budget = one.manifest["budget"]
    reach = 255 * budget["allowed"] if budget["norm"] == "linf" and budget["allowed"] else float(np.abs(delta).max()) or 1.0
    names = " and ".join(map(str, classes))
    title = f"classes {names}: -{reach / 255:.3g} to {reach / 255:.3g} as black to white"
    return strip(_levels(255 * (0.5 + delta / (2 * reach))), title, f"What was added to images of the classes {names}")


def _purified(one: Kept, poisons: Mapping[str, Kept]) -> dict[str, Any]:
    """A defense's pictures: the training images before, where they are in the store, and after.

    And what sets them apart from clean ones, where these are decoded here; where the defense kept what it took for the
    perturbation (`p_hat`), this, beside the true one. Such differences are stretched, image by image, over all levels.
    """
    import numpy as np

    after, rows = _images(one.folder)
    poison = one.recipe["poison"]
    source = poisons.get(json.dumps(poison, sort_keys=True))
    strips = [strip(after[rows], "after the defense", "The same images purified")]
    if source is not None and one.recipe["ratio"] == 1:
        before, _ = _images(source.folder)
        strips = [strip(before[rows], "poisoned", f"One poisoned image of each of {len(rows)} classes"), *strips]
    clean = _clean(one.manifest, after.shape)
    guess = one.folder / "p_hat.npy"
    if guess.exists():
        if strips[1:] and clean is not None:
            strips.append(_stretched(before[rows].astype(np.float32) - clean[rows], "perturbation", "What was added to each"))
        found = np.load(guess, mmap_mode="r", allow_pickle=False)
        strips.append(_stretched(found[rows], "perturbation as the defense found it", "What the defense took for it"))
    if clean is not None:
        left = _pixels(after[rows]) - _pixels(np.array(clean[rows]))
        strips.append(_stretched(left, "what is left: after the defense less clean", "The difference to clean images"))
    note = f"{poison['dataset']['name']}, ratio {one.recipe['ratio']:g}, seed {one.recipe['seed']}"
    return {"text": str(one.manifest["text"]), "note": note, "strips": strips}


def _images(folder: Path) -> tuple[NDArray[Any], list[int]]:
    """The images of a set, mapped, and the place of one image per class."""
    import numpy as np

    images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(folder / "labels.npy", mmap_mode="r", allow_pickle=False)
    if images.dtype not in (np.uint8, np.float32) or images.ndim != 4 or len(images) != len(labels):
        raise ValueError("images.npy holds no images")
    return images, [int(np.argmax(labels == label)) for label in np.unique(labels)[:CLASSES]]


def _amount(allowed: float | None) -> str:
    return DASH if allowed is None else f"{allowed:.4g}"


def _strips(folder: Path, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    import numpy as np

    images, rows = _images(folder)
    poisoned = np.array(images[rows])  # (K, C, H, W)
    clean = _clean(manifest, images.shape)
    if clean is None:
        return [strip(poisoned, "poisoned", f"One poisoned image of each of {len(rows)} classes")]
    before = np.array(clean[rows])
    delta = poisoned.astype(np.float32) - before
    strongest = float(np.abs(delta).max()) or 1.0
    grown = np.clip(128 + delta * (127 / strongest), 0, 255).astype(np.uint8)
    spectrum = np.log1p(np.abs(np.fft.fftshift(np.fft.fft2(delta / 255), axes=(2, 3)))).mean(1, keepdims=True)  # (K, 1, H, W)
    spectrum = (255 * spectrum / (spectrum.max() or 1.0)).astype(np.uint8)
    return [
        strip(before, "clean", f"One clean image of each of {len(rows)} classes"),
        strip(poisoned, "poisoned", "The same images poisoned"),
        strip(grown, f"perturbation, amplified {127 / strongest:.3g} times around grey", "What was added to each, amplified"),
        strip(
            spectrum, "its spectrum: magnitude on a log scale, low frequencies in the middle", "The spectrum of what was added"
        ),
    ]


def _clean(manifest: Mapping[str, Any], shape: Sequence[int]) -> NDArray[np.uint8] | None:
    """The clean training images, if they are decoded on this machine and those that the poison was made of."""
    import numpy as np

    recipe = manifest["recipe"].get("poison", manifest["recipe"])["dataset"]
    if recipe["name"].startswith("folder-") or recipe["fields"].get("per_class"):
        return None
    (part,) = resolve("datasets", write(recipe["name"], {k: v for k, v in recipe["fields"].items() if v}))
    if datasets.decoded_fingerprint(part) != manifest["dataset_fingerprint"]:
        return None
    images: NDArray[np.uint8] = np.load(datasets.decoded(part) / "train_images.npy", mmap_mode="r", allow_pickle=False)
    return images if tuple(images.shape) == tuple(shape) else None


def _pixels(images: NDArray[Any]) -> NDArray[np.float32]:
    """Images of either dtype in [0, 1] units."""
    import numpy as np

    scale = np.float32(255 if images.dtype == np.uint8 else 1)
    shown: NDArray[np.float32] = images.astype(np.float32) / scale
    return shown


def _levels(values: NDArray[Any]) -> NDArray[np.uint8]:
    import numpy as np

    rounded: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


def _stretched(values: NDArray[Any], title: str, alt: str) -> dict[str, Any]:
    """Differences as pictures: the smallest of each image black, the largest white; grey where all are one."""
    import numpy as np

    flat = values.astype(np.float32)
    low, high = flat.min((1, 2, 3), keepdims=True), flat.max((1, 2, 3), keepdims=True)
    share = np.where(high > low, (flat - low) / np.where(high > low, high - low, 1), 0.5)
    return strip(_levels(255 * share), f"{title}, stretched from black to white", f"{alt}, stretched")


def strip(images: NDArray[Any], title: str, alt: str) -> dict[str, Any]:
    """Images side by side as one PNG inside the page."""
    import numpy as np
    from PIL import Image

    if images.dtype == np.float32:  # in [0, 1] units, perhaps outside
        images = _levels(255 * images)
    count, channels, height, width = images.shape
    canvas = np.zeros((height, count * (width + GAP) - GAP, 3), np.uint8)
    for number, image in enumerate(images):
        start = number * (width + GAP)
        canvas[:, start : start + width] = np.moveaxis(image if channels == 3 else image[:1].repeat(3, 0), 0, 2)
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "PNG", optimize=True)
    address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"data": address, "title": title, "alt": alt, "width": canvas.shape[1], "height": canvas.shape[0]}
