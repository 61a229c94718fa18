"""Pictures of the sets of a store, read with numpy by the layout of its folders: images.npy and manifest.json.

Clean images come from the decoded dataset of this machine. Where they are not there, or are others than those of the poison,
the poisoned images are shown alone.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from unlearnable_bench.leaderboard.pages.change_sizes import ChangeSize
from unlearnable_bench.leaderboard.pages.strips import Strip, levels, pixels, stretched, strip, thumbnail
from unlearnable_bench.leaderboard.tables.methods import Method, StatedBudget, method_of
from unlearnable_bench.registry import EntryError, MissingDataError, resolve
from unlearnable_bench.registry import data as datasets
from unlearnable_bench.registry.spec import is_folder, write_spec
from unlearnable_bench.results.cells import CellMaker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLASSES = 10  # images in a strip, one per class
SETS = 4  # sets that are shown of one entry
PAIR = (0, 7)  # two classes of which several perturbations are shown: airplane and horse on CIFAR-10
EACH = 4  # images of each of them
KINDS = {"craft": "attack", "purify": "defense"}  # by the stage that made a set
SPECTRUM = "its spectrum: magnitude on a log scale, low frequencies in the middle"
log = logging.getLogger(__name__)

BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, EntryError, MissingDataError)


@dataclass(frozen=True)
class Sample:
    """The pictures of a set: what it is of, and of an attack the perturbations of two classes, where they are known."""

    text: str
    note: str
    strips: Sequence[Strip]
    noise: Strip | None = None
    thumbnail: Strip | None = None  # of the perturbation of one image
    dataset: str = ""  # the name of its entry
    change: ChangeSize | None = None  # of an attack, where the clean images are known


class StoredSet:
    """A set of the store: its folder and what its manifest says."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.recipe = cast("Mapping[str, Any]", manifest["recipe"])
        self.kind = KINDS[self.recipe["stage"]]
        self.text = str(manifest["text"] or "")
        self.entry = str(self.recipe[self.kind][-1]["name"] or "")
        self.seed = int(self.recipe["seed"])
        if not self.text or not self.entry or self.seed < 0:
            raise ValueError("the manifest does not say what it is of")

    @property
    def address(self) -> str:
        """What pages know its entry by."""
        return f"{self.kind}.{self.entry}"

    @property
    def but_for_seeds(self) -> str:
        """What it is of, whatever its seed."""
        recipe = _without(self.recipe, "seed")
        recipe["poison"] = _without(self.recipe.get("poison", {}), "seed", "parents")
        return json.dumps([self.manifest["text"], recipe], sort_keys=True)

    @property
    def dataset(self) -> Mapping[str, Any]:
        """The dataset that it, or the poison that it was made of, is of."""
        return cast("Mapping[str, Any]", self.recipe.get("poison", self.recipe)["dataset"])


class Arrays:
    """The arrays of a stored set, mapped: its images (N, C, H, W), labels, one row per class, and the clean images if known.

    ValueError if images.npy holds none. Mapped files stay open, so this lives no longer than it takes to make pictures.
    """

    def __init__(self, stored: StoredSet) -> None:
        import numpy as np

        self.folder = stored.folder
        self.images = self.read("images")
        self.labels = self.read("labels")
        if self.images.dtype not in (np.uint8, np.float32) or self.images.ndim != 4 or len(self.images) != len(self.labels):
            raise ValueError("images.npy holds no images")
        self.rows = [int(np.argmax(self.labels == label)) for label in np.unique(self.labels)[:CLASSES]]
        clean = _decoded(stored)
        self.clean = clean if clean is not None and clean.shape == self.images.shape else None

    def read(self, name: str) -> NDArray[Any]:
        import numpy as np

        mapped: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return mapped

    @property
    def shown(self) -> NDArray[Any]:
        """One image per class."""
        return self.images[self.rows]


def _decoded(stored: StoredSet) -> NDArray[np.uint8] | None:
    """The clean training images, if they are decoded on this machine and those that a set was made of."""
    import numpy as np

    name, fields = stored.dataset["name"], stored.dataset["fields"]
    if is_folder(name) or fields.get("per_class"):
        return None
    given = {field: value for field, value in fields.items() if value}
    (dataset,) = resolve("datasets", write_spec(name, given))
    if datasets.decoded_fingerprint(dataset) != stored.manifest["dataset_fingerprint"]:
        return None
    images: NDArray[np.uint8] = np.load(datasets.decoded(dataset) / "train_images.npy", mmap_mode="r", allow_pickle=False)
    return images


def _without(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def samples(store: Path) -> dict[str, list[Sample]]:
    """Return pictures by `attack.<name>` and `defense.<name>`, one set per spec and dataset. What is damaged is left out."""
    stored = list(_stored_sets(store))
    poisons = {json.dumps(one.recipe, sort_keys=True): one for one in stored if one.kind == "attack"}
    by_entry: dict[str, list[Sample]] = {}
    for one in _lowest_seeds(stored):
        try:
            sample = _poison(one) if one.kind == "attack" else _purified(one, poisons)
        except BROKEN as error:
            log.warning("no pictures of %s: %s", one.folder.name, error)
            continue
        shown = by_entry.setdefault(one.address, [])
        if len(shown) < SETS:
            shown.append(sample)
    return by_entry


def _stored_sets(store: Path) -> Iterator[StoredSet]:
    """Every set of a store whose manifest can be read."""
    for path in sorted(store.glob("*/manifest.json")):
        try:
            yield StoredSet(path.parent, json.loads(path.read_text(encoding="utf-8")))
        except BROKEN:
            continue


def _lowest_seeds(stored: Iterable[StoredSet]) -> list[StoredSet]:
    """One set of each spec and dataset: that of the lowest seed."""
    lowest: dict[str, StoredSet] = {}
    for one in stored:
        other = lowest.setdefault(one.but_for_seeds, one)
        if one.seed < other.seed:
            lowest[one.but_for_seeds] = one
    return list(lowest.values())


# Pictures of an attack


def _poison(stored: StoredSet) -> Sample:
    """Clean, poisoned, what was added, its spectrum; and perturbations of two classes."""
    budget = stored.manifest["budget"]
    spent = StatedBudget(budget["norm"], budget["allowed"] or 0.0).spent(budget["spent"])
    note = f"{stored.dataset['name']}, seed {stored.seed}; spent {spent}; sha256 {stored.manifest['checksum'][:12]}"
    arrays = Arrays(stored)
    return Sample(
        stored.text,
        note,
        _strips(arrays),
        _noise(arrays, budget),
        _thumbnail(arrays, budget),
        stored.dataset["name"],
        None if arrays.clean is None else ChangeSize.of(arrays.images, arrays.clean),
    )


def _strips(arrays: Arrays) -> list[Strip]:
    import numpy as np

    poisoned = np.array(arrays.shown)  # (K, C, H, W)
    classes = len(poisoned)
    if arrays.clean is None:
        return [strip(poisoned, "poisoned", f"One poisoned image of each of {classes} classes")]
    before = np.array(arrays.clean[arrays.rows])
    delta = poisoned.astype(np.float32) - before
    factor = 127 / (float(np.abs(delta).max()) or 1.0)
    grown = np.clip(128 + delta * factor, 0, 255).astype(np.uint8)
    return [
        strip(before, "clean", f"One clean image of each of {classes} classes"),
        strip(poisoned, "poisoned", "The same images poisoned"),
        strip(grown, f"perturbation, amplified {factor:.3g} times around grey", "What was added to each, amplified"),
        strip(_spectrum(delta), SPECTRUM, "The spectrum of what was added"),
    ]


def _spectrum(delta: NDArray[Any]) -> NDArray[np.uint8]:
    """The magnitude of every frequency of perturbations (K, C, H, W), the mean over channels: (K, 1, H, W)."""
    import numpy as np

    frequencies = np.fft.fftshift(np.fft.fft2(delta / 255), axes=(2, 3))
    magnitude = np.log1p(np.abs(frequencies)).mean(1, keepdims=True)
    spectrum: NDArray[np.uint8] = (255 * magnitude / (magnitude.max() or 1.0)).astype(np.uint8)
    return spectrum


def _noise(arrays: Arrays, budget: Mapping[str, Any]) -> Strip | None:
    """Perturbations of some images of two classes, -epsilon to epsilon as black to white; without one the largest."""
    import numpy as np

    if arrays.clean is None:
        return None
    labels = np.unique(arrays.labels)
    classes = [label for label in labels if label in PAIR] or list(labels[:1])
    rows = np.concatenate([np.flatnonzero(arrays.labels == label)[:EACH] for label in classes])
    delta = arrays.images[rows].astype(np.float32) - arrays.clean[rows]  # levels
    reach = _reach(budget, delta)
    names = " and ".join(map(str, classes))
    title = f"classes {names}: -{reach / 255:.3g} to {reach / 255:.3g} as black to white"
    return strip(levels(255 * (0.5 + delta / (2 * reach))), title, f"What was added to images of the classes {names}")


def _thumbnail(arrays: Arrays, budget: Mapping[str, Any]) -> Strip | None:
    """The perturbation of the first image, alone; None where the clean images are not known."""
    import numpy as np

    if arrays.clean is None:
        return None
    delta = arrays.images[arrays.rows[0]].astype(np.float32) - arrays.clean[arrays.rows[0]]  # levels
    return thumbnail(levels(255 * (0.5 + delta / (2 * _reach(budget, delta)))), "What was added to an image, amplified")


def thumbnails(by_entry: Mapping[str, Sequence[Sample]], dataset: str) -> dict[Method, Strip]:
    """Return a picture of its perturbation for each attack of which a set of a dataset is stored."""
    chosen = _by_method(by_entry, dataset).items()
    return {method: sample.thumbnail for method, sample in chosen if sample.thumbnail}


def change_sizes(by_entry: Mapping[str, Sequence[Sample]], dataset: str) -> dict[Method, ChangeSize]:
    """Return how large its perturbation is for each attack of which a set of a dataset is stored."""
    chosen = _by_method(by_entry, dataset).items()
    return {method: sample.change for method, sample in chosen if sample.change}


def _by_method(by_entry: Mapping[str, Sequence[Sample]], dataset: str) -> dict[Method, Sample]:
    """The first set of a dataset of each attack whose clean images are known."""
    maker = CellMaker(resolve)
    chosen: dict[Method, Sample] = {}
    for sample in itertools.chain.from_iterable(by_entry.values()):
        if sample.thumbnail and sample.dataset == dataset:
            with suppress(EntryError):  # of an attack that was uninstalled since
                method = method_of("attack", maker.parts("attacks", sample.text))
                if method is not None:
                    chosen.setdefault(method, sample)
    return chosen


def _reach(budget: Mapping[str, Any], delta: NDArray[Any]) -> float:
    """The largest perturbation that was allowed, else the largest that there is, in levels."""
    import numpy as np

    if budget["norm"] == "linf" and budget["allowed"]:
        return float(255 * budget["allowed"])
    return float(np.abs(delta).max()) or 1.0


# Pictures of a defense


def _purified(stored: StoredSet, poisons: Mapping[str, StoredSet]) -> Sample:
    """The training images before, where they are in the store, and after.

    And what sets them apart from clean ones, where these are decoded here; where the defense kept what it took for the
    perturbation (`p_hat`), this, beside the true one. Such differences are stretched, image by image, over all levels.
    """
    arrays = Arrays(stored)
    poisoned = _poisoned(stored, poisons)
    strips = [strip(arrays.shown, "after the defense", "The same images purified")]
    if poisoned is not None:
        strips.insert(0, strip(poisoned, "poisoned", f"One poisoned image of each of {len(poisoned)} classes"))
    if (stored.folder / "p_hat.npy").exists():
        strips += _guessed(arrays, poisoned)
    if arrays.clean is not None:
        left = pixels(arrays.shown) - pixels(arrays.clean[arrays.rows])
        strips.append(stretched(left, "what is left: after the defense less clean", "The difference to clean images"))
    note = f"{stored.dataset['name']}, ratio {stored.recipe['ratio']:g}, seed {stored.seed}"
    return Sample(stored.text, note, strips)


def _poisoned(stored: StoredSet, poisons: Mapping[str, StoredSet]) -> NDArray[Any] | None:
    """One image per class as it was before the defense; None where the poison is not in the store, or not all of the set."""
    source = poisons.get(json.dumps(stored.recipe["poison"], sort_keys=True))
    if source is None or stored.recipe["ratio"] != 1:
        return None
    return Arrays(source).shown


def _guessed(arrays: Arrays, poisoned: NDArray[Any] | None) -> list[Strip]:
    """What a defense took for the perturbation, behind the true one where that is known."""
    import numpy as np

    guess = arrays.read("p_hat")[arrays.rows]
    strips = [stretched(guess, "perturbation as the defense found it", "What the defense took for it")]
    if poisoned is not None and arrays.clean is not None:
        added = poisoned.astype(np.float32) - arrays.clean[arrays.rows]
        strips.insert(0, stretched(added, "perturbation", "What was added to each"))
    return strips
