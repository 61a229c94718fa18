"""For scripts and notebooks: load, craft, purify and evaluate sets of images, as the commands do.

A set is named by specs, and then lies in a workspace as the commands leave it there; or it is made of arrays, and then
nothing is written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unlearnable_bench.benchmark import cell as cells
from unlearnable_bench.benchmark import driver, schedule
from unlearnable_bench.benchmark.display import Display
from unlearnable_bench.benchmark.task import Finder, Task
from unlearnable_bench.benchmark.work import Meter
from unlearnable_bench.poisons.recipe import PoisonRecipe, PurifiedRecipe
from unlearnable_bench.poisons.store import Store
from unlearnable_bench.registry import DATASETS, EntryError, ImageSet, MissingDataError, child, data, resolve
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.data import Data, fingerprint
from unlearnable_bench.registry.entry import Entry
from unlearnable_bench.results import Record, Records, Workspace
from unlearnable_bench.results.cell import Part
from unlearnable_bench.results.cells import CellMaker
from unlearnable_bench.results.record import Metrics

Arrays = tuple[Any, Any]
"""Images and labels: uint8 (N, H, W, C) or (N, C, H, W) with one or three channels; whole numbers from 0 (N,)."""

ARRAYS = "arrays"  # the name of a dataset that is given as arrays


@dataclass(frozen=True)
class SetOrigin:
    """Where a set of ours comes from: the specs that the commands take."""

    dataset: str
    attack: str
    defense: str
    ratio: float
    seed: int
    space: Workspace


class PoisonedSet(torch.utils.data.Dataset[tuple[Any, int, int]]):
    """Images with labels, as a victim trains on them or is judged by them.

    An item is (image, label, index). Without `transform` the image is a float32 tensor (C, H, W) in [0, 1]; `transform` gets
    a PIL image, as in torchvision, or that tensor where a purifier left values between 8-bit levels.

    `images` are uint8 or float32 (N, C, H, W), `labels` int64 (N,), `classes` their names. `origin` says which specs made it;
    None for a set that was made of arrays.
    """

    def __init__(
        self, content: ImageSet, transform: Callable[[Any], Any] | None = None, origin: SetOrigin | None = None
    ) -> None:
        self.content, self.transform, self.origin = content, transform, origin

    @property
    def images(self) -> Tensor:
        return self.content.images

    @property
    def labels(self) -> Tensor:
        return self.content.labels

    @property
    def classes(self) -> tuple[str, ...]:
        return self.content.classes

    def __len__(self) -> int:
        return len(self.content)

    def __getitem__(self, index: int) -> tuple[Any, int, int]:
        row = range(len(self))[index]  # IndexError beyond the end, as loops expect
        return self._seen(row), int(self.labels[row]), row

    def _seen(self, row: int) -> Any:
        if self.transform is None or self.images.dtype != torch.uint8:
            image: Any = self.content.pixels(slice(row, row + 1))[0]
        else:
            image = Image.fromarray(self.images[row].permute(1, 2, 0).squeeze(-1).numpy())
        return image if self.transform is None else self.transform(image)

    def __repr__(self) -> str:
        channels, height, width = self.images.shape[1:]
        what = "arrays" if self.origin is None else f"{self.origin.dataset}, {self.origin.attack}, {self.origin.defense}"
        return f"PoisonedSet({what}: {len(self)} images of {channels} x {height} x {width})"


@dataclass(frozen=True)
class TrainingScore:
    """What a training on arrays measured. It has the names of a `Record`, and is none: nobody else has the images."""

    metrics: Metrics
    recipe: Mapping[str, Any] = field(repr=False)
    numerics: Mapping[str, Any]
    seconds: Mapping[str, float]


def load(
    dataset: str,
    *,
    attack: str = "none",
    defense: str = "none",
    ratio: float = 1.0,
    seed: int = 0,
    split: Literal["train", "test"] = "train",
    transform: Callable[[Any], Any] | None = None,
    workspace: str | Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> PoisonedSet:
    """Return the training set of a dataset, poisoned and purified; what the workspace lacks is made and kept there.

    >>> from unlearnable_bench import load
    >>> train = load("digits(per_class=20)", attack="lsp", seed=0, quiet=True)
    >>> image, label, index = train[0]
    >>> image.shape, len(train)
    (torch.Size([3, 32, 32]), 200)

    `attack="imported(content=sha-...)"` is a poison that `bench poisons import` has brought. `ratio` is the fraction of the
    images that is poisoned. `split="test"` is the test set, which no attack and no defense touches. `workspace` and `device`
    are those of the commands. EntryError for a spec that cannot be read, MissingDataError where the images are not here.
    """
    space, chosen = Workspace.find(Path(workspace) if workspace is not None else None), schedule.choose_device(device)
    origin = SetOrigin(dataset, attack, defense, ratio, seed, space)
    part = DATASETS.resolve(dataset)[0]
    poison = PoisonRecipe(part, resolve("attacks", attack), seed)
    if not 0 <= ratio <= 1:
        raise EntryError(f"ratio={ratio}: expected a fraction from 0 to 1")
    purifiers = _purifiers(defense)
    whole = _loaded(poison)
    if split == "test":
        if attack != "none" or purifiers:
            raise EntryError("the test set is as the dataset has it; leave attack and defense out of load(split='test')")
        return PoisonedSet(whole.test, transform, origin)
    space.writable()
    with _store(space.poisons, chosen, poison.text, quiet) as store:
        return PoisonedSet(_trained(store, poison, purifiers, ratio, whole), transform, origin)


def craft(clean: PoisonedSet | Arrays, attack: str, *, seed: int = 0, device: str = "auto", quiet: bool = False) -> PoisonedSet:
    """Return images with the noise of an attack, rounded to 8 bits and within its budget.

    >>> import numpy
    >>> from unlearnable_bench import craft
    >>> images = numpy.full((40, 16, 16, 3), 128, dtype=numpy.uint8)
    >>> poisoned = craft((images, numpy.arange(40) % 4), "lsp(patch=4)", quiet=True)
    >>> poisoned.images.shape
    torch.Size([40, 3, 16, 16])

    A set that `load` gave is crafted in its workspace, as `load` does. Arrays are written nowhere. What an attack leaves out
    of training (`ntga`) is missing here too. EntryError for arrays or a spec that cannot be read, NotApplicable where the
    attack cannot do with such images.
    """
    origin = _origin(clean)
    if origin is not None:
        if _purifiers(origin.defense) or origin.attack != "none":
            raise EntryError(f"this set is made by {origin.attack} and {origin.defense} already; craft takes a clean one")
        return _again(clean, replace(origin, attack=attack, seed=seed), device, quiet)
    content = _content(clean)
    poison = PoisonRecipe(_part(content), resolve("attacks", attack), seed)
    with _nowhere(device, poison.text, quiet) as store:
        return PoisonedSet(_in_memory(_trained(store, poison, (), 1.0, _data(content))))


def purify(
    train: PoisonedSet | Arrays, defense: str, *, seed: int = 0, device: str = "auto", quiet: bool = False
) -> PoisonedSet:
    """Return what a defense makes of a training set before a network sees it.

    >>> import numpy
    >>> from unlearnable_bench import purify
    >>> images = numpy.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=numpy.uint8)
    >>> purified = purify((images, numpy.arange(40) % 4), "jpeg(quality=10)", quiet=True)
    >>> bool((purified.images != purified.images[0]).any())
    True

    `seed` is for arrays; a set that `load` gave has its own. EntryError for a defense that acts while training: give that to
    `evaluate`.
    """
    purifiers = _purifiers(defense)
    origin = _origin(train)
    if origin is not None:
        return _again(train, replace(origin, defense=_chained(origin.defense, defense)), device, quiet)
    content = _content(train)
    _check_needs(purifiers)
    clean = PoisonRecipe(_part(content), resolve("attacks", "none"), seed)
    with _nowhere(device, defense, quiet) as store:
        return PoisonedSet(_in_memory(_trained(store, clean, purifiers, 1.0, _data(content))))


def evaluate(
    train: PoisonedSet | Arrays,
    *,
    test: PoisonedSet | Arrays | None = None,
    defense: str = "none",
    protocol: str = "quick",
    architecture: str = "small-cnn",
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> Record | TrainingScore:
    """Train a victim on a set and judge it on clean test images; both answers have `metrics.test_acc`.

    >>> from unlearnable_bench import evaluate, load
    >>> train = load("digits(per_class=20,test_per_class=5)", attack="lsp", quiet=True)
    >>> record = evaluate(train, protocol="quick@0.1", quiet=True)
    >>> 0 <= record.metrics.test_acc <= 1
    True

    A set that `load` gave is measured as `bench run` does it: the record is kept in its workspace and returned, and one that
    is there already is returned without training. What was changed in the set's tensors does not enter it. Of arrays, for
    which `test` is asked, nothing is kept; a folder of images (`folder:PATH`) and `bench poisons import` lead to records.
    `transform` is for loaders of your own, and `seed` for arrays: a set that `load` gave has its own.
    """
    chosen = schedule.choose_device(device)
    origin = _origin(train)
    if origin is None:
        if test is None:
            raise EntryError(
                "a set that is made of arrays is judged on test=(images, labels), clean images of its classes; test is missing"
            )
        return _judged(_content(train), _content(test), (protocol, architecture, defense), seed, chosen)
    if test is not None:
        raise EntryError(f"{origin.dataset} has a test set of its own; leave test out")
    wishes = {
        "dataset": [origin.dataset],
        "attack": [origin.attack],
        "ratio": [f"{origin.ratio:g}"],
        "defense": [_chained(origin.defense, defense)],
        "protocol": [protocol],
        "architecture": [architecture],
        "seed": [str(origin.seed)],
    }
    options = driver.RunOptions(executor="inline", device=chosen)
    outcome = driver.run_table(*driver.choose_grid(None, wishes), origin.space, options, quiet)
    ((cell_id, state),) = outcome.after.states.items()
    record = Records(origin.space.records).read(cell_id)
    if record is None or state != "done":
        raise EntryError(f"the cell is {state}: {outcome.after.reasons[cell_id]}")
    return record


# sets of specs


def _loaded(poison: PoisonRecipe) -> Data:
    """Return the images of a poison, those of its parents decoded too. MissingDataError, EntryError."""
    needed = list({one.dataset.text: one.dataset for one in poison.family}.values())
    for part in needed:
        if sentence := data.missing(part):
            raise MissingDataError(sentence)
    child.decode(needed)
    return data.load(poison.dataset)


def _trained(store: Store, poison: PoisonRecipe, purifiers: tuple[ConfiguredEntry, ...], ratio: float, whole: Data) -> ImageSet:
    """Return the training set of a cell."""
    if not purifiers:
        return store.training_set(poison, whole, ratio, "all")
    kept = store.purified(PurifiedRecipe(poison, ratio, "all", purifiers, poison.cell_seed), whole)
    return replace(whole.train, images=kept.images, labels=kept.labels)


def _purifiers(defense: str) -> tuple[ConfiguredEntry, ...]:
    """The parts of a defense that change images before training. EntryError where there are none."""
    parts = resolve("defenses", defense)
    for part in parts:
        if part.members:
            raise EntryError(f"{part.text} stands for {', '.join(part.members)}; choose one of these")
    found = tuple(part for part in parts if "purify" in part.entry.hooks)
    if not found and defense != "none":
        raise EntryError(f"{defense} does nothing to images before training; give it to evaluate(defense=...)")
    return found


def _chained(first: str, second: str) -> str:
    """One defense after another, as specs write it."""
    return "+".join(spec for spec in (first, second) if spec != "none") or "none"


def _origin(given: PoisonedSet | Arrays) -> SetOrigin | None:
    return given.origin if isinstance(given, PoisonedSet) else None


def _again(before: PoisonedSet | Arrays, origin: SetOrigin, device: str, quiet: bool) -> PoisonedSet:
    """Load a set of another origin, with the transform of the one at hand."""
    assert isinstance(before, PoisonedSet), "arrays have no origin"
    return load(
        origin.dataset,
        attack=origin.attack,
        defense=origin.defense,
        ratio=origin.ratio,
        seed=origin.seed,
        transform=before.transform,
        workspace=origin.space.root,
        device=device,
        quiet=quiet,
    )


# sets of arrays


def _content(given: PoisonedSet | Arrays) -> ImageSet:
    """Return arrays as the program keeps images. EntryError that says what was found."""
    if isinstance(given, PoisonedSet):
        return given.content
    if not isinstance(given, tuple) or len(given) != 2:
        raise EntryError(f"found {type(given).__name__}; expected a set that load gave, or (images, labels)")
    images, labels = (torch.as_tensor(np.asarray(one) if not isinstance(one, Tensor) else one) for one in given)
    found = f"images {images.dtype} {tuple(images.shape)} and labels {labels.dtype} {tuple(labels.shape)}"
    expected = "expected uint8 (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, and N whole numbers from 0"
    whole = labels.dtype in (torch.uint8, torch.int16, torch.int32, torch.int64) and labels.shape == images.shape[:1]
    if images.dtype != torch.uint8 or images.ndim != 4 or not whole or not len(labels) or int(labels.min()) < 0:
        raise EntryError(f"found {found}; {expected}")
    last, first = images.shape[3] in (1, 3), images.shape[1] in (1, 3)
    if last == first:
        raise EntryError(f"found {found}, whose channels cannot be told; {expected}")
    images = images.permute(0, 3, 1, 2).contiguous() if last else images.contiguous()
    return ImageSet(images, labels.long(), int(labels.max()) + 1)


def _check_needs(defense: tuple[ConfiguredEntry, ...]) -> None:
    """Refuse a defense that is given clean images: of arrays nobody says what they were before a poison. EntryError."""
    for part in defense:
        if "clean-data" in part.needs:
            raise EntryError(f"{part.text} needs images that are known to be clean, which arrays do not have; use load")


def _part(content: ImageSet) -> ConfiguredEntry:
    """The dataset that arrays stand for: seeds follow from what they hold."""
    entry = Entry("datasets", ARRAYS, "built-in", "", "")
    return ConfiguredEntry(entry, ARRAYS, {"content": fingerprint(content, content)})


def _data(train: ImageSet, test: ImageSet | None = None) -> Data:
    judged = train if test is None else test
    return Data(train, judged, fingerprint(train, judged))


def _in_memory(found: ImageSet) -> ImageSet:
    """A copy that outlives the folder which the images are mapped from."""
    return replace(found, images=found.images.clone(), labels=found.labels.clone())


@contextmanager
def _store(root: Path, device: str, label: str, quiet: bool) -> Iterator[Store]:
    """A store whose progress is shown."""
    with Display(0, quiet) as display:
        yield Store(root, device, Meter({"stage": "craft", "label": label}, display))


@contextmanager
def _nowhere(device: str, label: str, quiet: bool) -> Iterator[Store]:
    """A store that is gone afterwards."""
    chosen = schedule.choose_device(device)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _store(Path(folder), chosen, label, quiet) as store:
        yield store


def _judged(train: ImageSet, test: ImageSet, specs: tuple[str, str, str], seed: int, device: str) -> TrainingScore:
    """Train on arrays as a cell is trained, and keep nothing."""
    if test.images.shape[1:] != train.images.shape[1:] or test.num_classes > train.num_classes:
        found = f"test images {tuple(test.images.shape[1:])} of {test.num_classes} classes"
        wanted = f"{tuple(train.images.shape[1:])} of at most {train.num_classes}, as the training set has"
        raise EntryError(f"found {found}; expected {wanted}")
    task = _task(_part(train), specs, seed)
    _check_needs(task.defense)
    for part in task.defense:
        part.build().applies(train.info)
    cells.hold(task, _data(train, test))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        record = cells.run_cell(task, Store(Path(folder), device))
    assert record.metrics is not None, "a cell that ends without an error has them"
    return TrainingScore(record.metrics, record.recipe, record.numerics, record.seconds)


def _task(dataset: ConfiguredEntry, specs: tuple[str, str, str], seed: int) -> Task:
    """A cell of arrays, which has no id that anybody could look up."""
    axes = dict(zip(("protocol", "architecture", "defense"), specs, strict=True))
    named = CellMaker(resolve).cell({"dataset": "digits", "attack": "none", "ratio": 1.0, "part": "all", **axes}, seed)
    part = Part(name=dataset.name, fields=dict(dataset.fields), text=dataset.text)
    cell = named.model_copy(update={"dataset": part})
    return Task.of(cell, Finder(found={("datasets", part.name, part.text): dataset}))
