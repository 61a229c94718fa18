"""Records by cell: what is known of each seed, which other seeds were measured, which records may stand in for missing ones."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from unlearnable_bench.leaderboard.tables.groups import group_by, highest, known, without
from unlearnable_bench.registry import CATALOGS, DATASETS, EntryError, outdated
from unlearnable_bench.registry._paths import hide_paths
from unlearnable_bench.registry.entry import StatedFacts
from unlearnable_bench.registry.spec import SELFTRAINED
from unlearnable_bench.results import Cell, FileError, Part, Record, Records
from unlearnable_bench.results.cell import digest, without_texts
from unlearnable_bench.results.record import Failure
from unlearnable_bench.results.submission import Origin

RunState = Literal["done", "stale", "failed", "not-applicable", "missing"]

NOT_RUN = "not run yet"
UNREADABLE = (FileError, OSError, RecursionError)  # the last: JSON nested deeper than the parser goes
DAMAGED = (*UNREADABLE, ValueError, KeyError, TypeError)
LONGEST = 300  # characters of a failure's message


@dataclass(frozen=True)
class SeedRun:
    """What is known of one seed of a cell. A stale run has its record too."""

    cell: Cell
    state: RunState
    reason: str = ""
    record: Record | None = None
    origin: Origin | None = None  # of a record that somebody else measured
    errata: tuple[str, ...] = ()  # on its record

    @cached_property
    def id(self) -> str:
        return self.cell.id

    @property
    def measured(self) -> bool:
        """Whether it has a record with numbers."""
        if self.record is None or self.state not in ("done", "stale"):
            return False
        return self.record.metrics is not None

    @property
    def excuse(self) -> str:
        """Why it has no number of today's versions."""
        return self.reason if self.state == "missing" else f"{self.state}: {self.reason}"

    @property
    def ours(self) -> bool:
        """Whether its number may be averaged with those measured here: it was measured here, or measured here again."""
        return self.origin is None or self.origin.trusted

    @property
    def defense(self) -> str:
        return self.cell.texts["defense"]


def look_up(records: Records, cell: Cell, missing: str) -> SeedRun:
    """Look up one cell. FileError if the owner of the records is unknown; what lies there never raises."""
    origin = records.origins.get(cell.id)
    try:
        record = records.read(cell.id)
    except UNREADABLE as error:
        return SeedRun(cell, "failed", f"damaged record: {_damage(error, records)}")
    if record is None:
        failure = _failure(records, cell)
        return SeedRun(cell, "failed", failure) if failure else SeedRun(cell, "missing", missing)
    record = record.model_copy(update={"commit": records.commit_of(record)})
    errata = records.errata.of_record(cell.id)
    old = outdated(record.versions, record.cell.parts)
    if not old:
        return SeedRun(cell, record.state, record.reason, record, origin, errata)
    failure = _failure(records, cell)
    failed_since = f" (which failed: {failure})" if failure else ""
    return SeedRun(cell, "stale", f"{old}; run it again{failed_since}", record, origin, errata)


def _failure(records: Records, cell: Cell) -> str:
    """Why the last attempt at a cell failed; '' if it did not."""
    try:
        failure = records.failure(cell.id)
    except UNREADABLE as error:
        return f"damaged record of a failure: {_damage(error, records)}"
    return _message(failure, records) if failure else ""


def _damage(error: Exception, records: Records) -> str:
    """What is wrong with a file. Pages are published and must not show where the workspace lies."""
    hint = "" if isinstance(error, FileError) else "; remove the file and run it again"
    return f"{error}{hint}".replace(f"{records.folder}/", "")


def _message(failure: Failure, records: Records) -> str:
    """The message of a failure on one line, without the paths of this machine."""
    message = " ".join(failure.message.split())
    usual = records.folder.parts[-2:] == ("results", "records")  # else the records were moved, and nobody knows from where
    workspace = records.folder.parents[1] if usual else records.folder
    return f"{failure.kind}: {hide_paths(message, workspace)}"[:LONGEST]


def siblings(cell: Cell, seeds: Iterable[int], recorded: Set[str]) -> list[Cell]:
    """The cells that differ from a cell in the seed alone and have a record: seeds that a grid does not ask for count too."""
    copies = (cell.model_copy(update={"seed": seed}) for seed in seeds)
    return [copy for copy in copies if copy.id in recorded]


class Lookup:
    """What a folder of records knows of cells. `claimed` are the ids that some table asks for itself."""

    def __init__(self, records: Records, claimed: Iterable[str] = ()) -> None:
        self.records = records
        self.errata = records.errata  # read at once: one on nothing is noticed even where no record is looked up
        self.recorded = records.ids()
        self.failed = {path.name.removesuffix(".failed.json") for path in records.folder.glob("*.failed.json")}
        self.claimed = set(claimed)

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds of all records."""
        return sorted(self.records.seeds())

    def run(self, cell: Cell, missing: str = NOT_RUN) -> SeedRun:
        """Return what is known of a cell; `missing` is the reason where that is nothing."""
        if cell.id in self.recorded or cell.id in self.failed:
            return look_up(self.records, cell, missing)
        return SeedRun(cell, "missing", missing)

    def with_siblings(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return cells that differ in their seeds alone, and those of other seeds that somebody has measured."""
        more = without(self.seeds, {cell.seed for cell in cells})
        return [*cells, *siblings(cells[0], more, self.recorded)]

    def clean_runs(self, cell: Cell) -> tuple[SeedRun, ...]:
        """Return the clean trainings in the setting of a cell, whichever table or command asked for them."""
        clean = tuple(Part(name=p.name, fields=dict(p.fields), text=p.text) for p in CATALOGS["attacks"].resolve("none"))
        copy = cell.model_copy(update={"attack": clean, "ratio": 1.0, "part": "all"})
        return tuple(look_up(self.records, one, "no record") for one in siblings(copy, self.seeds, self.recorded))

    def stand_ins(self, cells: Sequence[Cell]) -> list[SeedRun]:
        """Return runs of another dataset, of fewer epochs or of fewer images: those of the closest kind that there is."""
        if not self._unclaimed:
            return []
        alike = itertools.chain.from_iterable(self._unclaimed[relaxed(cell.resolved())[0]] for cell in cells)
        closest = highest(alike, lambda stand_in: stand_in.closeness)
        records = known(self.records.read(stand_in.cell_id) for stand_in in closest)
        return [look_up(self.records, record.cell, NOT_RUN) for record in records]

    @cached_property
    def _unclaimed(self) -> defaultdict[str, list[StandIn]]:
        """The measured cells that no table asks for, by what they share with the cells that they may stand in for."""
        return group_by(self._measured(sorted(self.recorded - self.claimed)), lambda stand_in: stand_in.shared)

    def _measured(self, ids: Iterable[str]) -> Iterator[StandIn]:
        for cell_id in ids:
            try:
                content = json.loads(self.records.path(cell_id).read_text(encoding="utf-8"))
                stand_in = StandIn(cell_id, *relaxed(without_texts(content["cell"])))
                if content["state"] == "done" and self.records.read(cell_id) is not None:
                    yield stand_in
            except DAMAGED:
                continue


@dataclass(frozen=True, order=True)
class Closeness:
    """How close an experiment is to the one that it may stand in for: the larger the closer, the first field first."""

    full_size: bool
    all_images: bool
    images_per_class: int
    epochs: float  # the factor of its protocol's epochs
    all_test_images: bool
    test_images_per_class: int
    own_dataset: bool  # not one that stands in for another
    dataset: str  # decides between those that are equally close


class StandIn(NamedTuple):
    """A measured cell that may stand in for another one."""

    cell_id: str
    shared: str  # a hash of what both have in common
    closeness: Closeness


def relaxed(cell: dict[str, Any]) -> tuple[str, Closeness]:
    """Hash the fields of a cell without those that may differ in a stand-in; and say how close such a cell is.

    The dictionary loses these fields.
    """
    dataset = cell["dataset"]
    epochs = cell["protocol"]["fields"].pop("scale", 1.0)
    images = dataset["fields"].pop("per_class", 0)
    test_images = dataset["fields"].pop("test_per_class", 0)
    name = dataset["name"]
    represented = _stands_for(name)
    dataset["name"] = represented or name
    closeness = Closeness(
        full_size=epochs >= 1 and not images and not test_images,
        all_images=not images,
        images_per_class=images,
        epochs=epochs,
        all_test_images=not test_images,
        test_images_per_class=test_images,
        own_dataset=not represented,
        dataset=name,
    )
    return digest(cell), closeness


def _stands_for(dataset: str) -> str:
    return _facts(dataset).get("stands_in_for", "")


def _facts(dataset: str) -> StatedFacts:
    try:
        return DATASETS.entry(dataset).facts
    except EntryError:
        return {}


def incomparable(dataset: str, texts: Iterable[str]) -> bool:
    """Whether a number must not be held against a paper's, by the dataset and the texts of what was done and measured."""
    words = _facts(dataset).get("incomparable", ())
    return any(word in text for text in texts for word in words)


@dataclass(frozen=True)
class Deviations:
    """How a measured cell differs from the one that was asked for, in words; and whether it is a reduced experiment."""

    marks: tuple[str, ...] = ()
    reduced: bool = False


def deviations(used: Cell, asked: Cell) -> Deviations:
    """Compare the cell of a record with the cell that a table asks for."""
    marks = []
    scale, images = used.protocol.fields.get("scale", 1.0), used.dataset.fields.get("per_class", 0)
    test_images = used.dataset.fields.get("test_per_class", 0)
    if used.dataset.name != asked.dataset.name:
        marks.append(f"{used.dataset.name} instead of {asked.dataset.name}")
    if scale != asked.protocol.fields.get("scale", 1.0):
        marks.append(f"epochs x {scale:g}")
    if images != asked.dataset.fields.get("per_class", 0):
        marks.append(f"{images} images per class")
    if test_images != asked.dataset.fields.get("test_per_class", 0):
        marks.append(f"{test_images} test images per class")
    own_weights = [part.name for part in used.defense if part.fields.get("weights") == SELFTRAINED]
    marks += [f"{name}-{SELFTRAINED}: weights of ours, not the paper's" for name in own_weights]
    return Deviations(tuple(marks), reduced=scale != 1.0 or any((images, test_images, own_weights)))
