"""Judges the records of others by the entries that are installed here. Nothing of a bundle is run."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unlearnable_bench.benchmark import provenance
from unlearnable_bench.benchmark.task import NOBODY, Finder, Task
from unlearnable_bench.registry import CATALOGS, EntryError, data, outdated
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.contract import Budget, Contrastive, DataInfo, Protocol
from unlearnable_bench.registry.entry import Entry, singular
from unlearnable_bench.registry.spec import is_folder, parse, read_value, write_value
from unlearnable_bench.results import Record, bundle
from unlearnable_bench.results import cell as cells_
from unlearnable_bench.results.bundle import Examined
from unlearnable_bench.results.cell import NONE, digest
from unlearnable_bench.results.record import CLOSE, Metrics, plain

LARGEST_SIDE = 4096  # pixels, for the slack of an l2 budget where the images are not here
LONGEST_CURVE = 100_000  # epochs, of a defense that ends or lengthens a training
SAID = {  # what is said of each check that finds nothing wrong
    "entries": "all installed here",
    "versions": "those of today",
    "recipes": "protocols as registered, as long as they say",
    "budgets": "those that the attacks promise",
    "data sets": "",
    "counts": "every accuracy is a number of test images, where these are known",
}


def judge(examined: Examined, roots: Mapping[str, str]) -> None:
    """Add what the registry says about a bundle's records. `roots` as in `Finder`. Never raises for what a bundle holds."""
    verdict = _Verdict(roots)
    for record in examined.records.values():
        verdict.add(record)
    for check, sentence in verdict.details().items():
        examined.look(check, verdict.wrongs[check], sentence)
    examined.look("poisons", verdict.different_poisons(), f"{len(verdict.poisons)}, one checksum each")
    if examined.submission is not None and not examined.reasons:
        examined.look("code", (), _code(examined.submission.trees))


def _code(trees: Sequence[str]) -> str:
    """Say of which code a submission is."""
    same = list(trees) == [provenance.tree()]
    return "the same as here" if same else f"{len(trees)} versions, not all are the one here"


class _Verdict:
    """What is wrong with some records, check by check, and what all of them together show."""

    def __init__(self, roots: Mapping[str, str]) -> None:
        self.finder = Finder(roots)
        self.wrongs: dict[str, list[str]] = {check: [] for check in SAID}
        self.strange: dict[str, str] = {}  # entries that are not installed here, with their versions
        self.images: Counter[str] = Counter()  # on which images records were measured
        self.poisons: dict[str, dict[str, Record]] = defaultdict(dict)  # recipe -> checksum -> a record

    def add(self, record: Record) -> None:
        """Judge one record."""
        try:
            stranger = Stranger.of(record, self.finder)
            self.strange |= stranger.missing
            for check, sentences in stranger.checks().items():
                self.wrongs[check] += sentences
            self.images[stranger.images()] += 1
        except Exception as error:  # entries of other packages are asked here, with values of a stranger's
            text = str(error) if isinstance(error, EntryError) else f"{type(error).__name__}: {error}"
            self.wrongs["entries"].append(f"record {record.id}: {bundle.clipped(text, 300)}")
            return
        if record.poison is not None and not stranger.missing:
            recipe = f"{stranger.task.poison.key} {record.dataset_fingerprint}"
            self.poisons[recipe].setdefault(record.poison.checksum, record)

    def details(self) -> dict[str, str]:
        """Return what is said of each check where it finds nothing wrong."""
        details = SAID | {"data sets": ", ".join(f"{count} {what}" for what, count in self.images.items())}
        if self.strange:
            names = ", ".join(f"{key} ({version})" for key, version in sorted(self.strange.items()))
            details["entries"] = f"not installed here, so their numbers stay self-reported: {bundle.clipped(names, 300)}"
        return details

    def different_poisons(self) -> Iterator[str]:
        """Yield what is wrong where one machine has trained on two poisons of one recipe."""
        for by_checksum in self.poisons.values():
            records = list(by_checksum.values())
            if len({record.device for record in records}) < len(records):
                both = " and ".join(record.id for record in records[:2])
                yield (
                    f"records {both} were trained on different poisons of one recipe; "
                    "if two machines crafted them, submit them apart"
                )


@dataclasses.dataclass(frozen=True)
class Stranger:
    """A record of somebody's with the entries of its cell; `missing` has versions of those that are not installed here."""

    record: Record
    task: Task
    missing: Mapping[str, str]  # kind:name -> version

    @classmethod
    def of(cls, record: Record, finder: Finder) -> Stranger:
        """Find the entries of a record's cell. EntryError for what nobody can have written."""
        cell, installed = record.cell, _Installed(record)
        task = Task(
            cell,
            protocol=installed.entry_of("protocols", cell.protocol),
            dataset=installed.entry_of("datasets", cell.dataset),
            attack=installed.entries_of("attacks", cell.attack),
            defense=installed.entries_of("defenses", cell.defense),
            architecture=installed.entry_of("architectures", cell.architecture),
            analysis=None if isinstance(cell.measure, str) else installed.entry_of("analyses", cell.measure),
        )
        return cls(record, task if installed.missing else Task.of(cell, finder), installed.missing)

    def checks(self) -> dict[str, list[str]]:
        """Return what is wrong with the record, by check."""
        return {
            "versions": list(self._versions()),
            "recipes": list(self._recipe()),
            "budgets": list(self._budget()),
            "data sets": list(self._fingerprint()),
            "counts": list(self._counts()),
        }

    def images(self) -> str:
        """Say on which images the record was measured."""
        known = "the same images as here" if self._known_fingerprint else "whose images are not here to compare"
        return f"of {self.task.dataset.text}, {known}"

    def _lacks(self, *kinds: str) -> bool:
        """Whether an entry of one of these kinds is not installed here."""
        return any(key.partition(":")[0] in kinds for key in self.missing)

    @property
    def _metrics(self) -> Metrics:
        assert self.record.metrics is not None, "submitted records have metrics"
        return self.record.metrics

    @property
    def _info(self) -> DataInfo | None:
        """What is known of the training images here."""
        return data.info(self.task.dataset) if self.task.dataset.entry.path else None

    @property
    def _known_fingerprint(self) -> str:
        return "" if self._lacks("dataset") else data.known_fingerprint(self.task.dataset)

    def _versions(self) -> Iterator[str]:
        record = self.record
        if old := outdated(record.versions, record.cell.parts):
            yield f"record {record.id} is stale: {old}"
            return
        if self.missing:
            return
        for key, here in self.task.versions().items():
            there = record.versions.get(key, "")
            if _package(there) != _package(here):
                yield f"record {record.id}: {key} is version {there!r}, here it is {here!r}"

    def _recipe(self) -> Iterator[str]:
        """Yield whether the record was trained in another way than its protocol says."""
        task = self.task
        if task.analysis is not None and not self.missing and not task.needs & {"network", "epochs"}:
            if self.record.recipe:
                yield f"record {self.record.id} has a recipe, though nothing is trained for {task.analysis.name}"
        elif not self._lacks("protocol", "analysis"):  # else nobody here knows what it takes
            protocol = self._expected_protocol()
            difference = self._difference_to(protocol)
            if difference:
                yield difference
            else:
                yield from self._epochs(protocol)

    def _expected_protocol(self) -> Protocol:
        """Return the protocol as it is for the cell, with the changes of defenses that are installed here."""
        from unlearnable_bench.benchmark.cell import recipe

        protocol = recipe(self.task)
        if self.task.unlabelled or self._lacks("defense"):
            return protocol
        for part in self.task.defense:
            protocol = part.build().configure(protocol)
        return protocol

    def _difference_to(self, protocol: Protocol) -> str:
        """Say in which field the recipe of the record differs from a protocol, '' where in none that is known here."""
        record = self.record
        expected = plain(dataclasses.asdict(protocol))
        trained = plain(self.task.protocol.entry.later) | record.recipe
        if trained.keys() != expected.keys():
            return f"record {record.id}: its recipe has other fields than protocol {record.cell.protocol.text} has"
        if self._lacks("defense"):
            return ""
        for key, value_here in expected.items():
            if digest(trained[key]) != digest(value_here):
                found = f"{key}={bundle.clipped(str(trained[key]))}"
                return f"record {record.id} was trained with {found}, protocol {record.cell.protocol.text} says {value_here}"
        return ""

    def _epochs(self, protocol: Protocol) -> Iterator[str]:
        """Yield whether a curve is not as long as the training was, in epochs that were judged."""
        if self._metrics.test_acc is None:
            return
        epochs = len(self._metrics.curve.test_acc)
        expected = math.ceil(self._length(protocol, epochs) / protocol.judge_every)
        if epochs == expected:
            return
        acts = self._lacks("defense") or any("start" in part.entry.hooks for part in self.task.defense)
        if not acts or epochs > LONGEST_CURVE:  # such defenses may end a training, or begin another
            yield f"record {self.record.id} has a curve of {epochs} epochs, its recipe takes {expected}"

    def _length(self, protocol: Protocol, epochs: int) -> int:
        """Return the epochs that a protocol trains for; those of the record where only its images could tell."""
        if isinstance(protocol, Contrastive):
            return protocol.probe_epochs
        if not protocol.steps:
            return max(1, round(protocol.epochs * protocol.scale))
        info = self._info
        total, per_epoch = protocol.length(info.size) if info is not None else (0, 1)
        return math.ceil(total / per_epoch) or epochs

    def _budget(self) -> Iterator[str]:
        from unlearnable_bench.poisons.store import promise

        note, recipe, owner = self.record.poison, self.task.poison, f"record {self.record.id}"
        if self._lacks("attack"):
            return  # what its record declares was compared with what it spent
        if (note is not None) != self.task.needs_poison:
            yield f"{owner} {'lacks' if note is None else 'has'} a poison, unlike its cell"
        if note is None or not self.task.needs_poison:
            return
        budget = promise(recipe)
        if note.norm != budget.norm:
            yield f"{owner} measures its poison in {note.norm}, {recipe.text} promises {budget.norm}"
        elif note.allowed is not None and not self._promises(budget, note.allowed):
            yield f"{owner} allows {note.allowed:.6g} of {budget.norm}, {recipe.text} promises {budget.epsilon:.6g}"

    def _promises(self, budget: Budget, allowed: float) -> bool:
        """Whether a budget allows just so much, for images of some size where those of the cell are not here."""
        info = self._info
        smallest: tuple[int, ...] = (0,)
        largest: tuple[int, ...] = (3, LARGEST_SIDE, LARGEST_SIDE)
        if info is not None:
            smallest = largest = info.shape
        least, most = budget.allowed(smallest) or 0, budget.allowed(largest) or 0
        return least - 1e-9 <= allowed <= most + 1e-9

    def _fingerprint(self) -> Iterator[str]:
        here, there = self._known_fingerprint, self.record.dataset_fingerprint
        if here and here != there:
            yield (
                f"record {self.record.id} was measured on other images of {self.task.dataset.text}: fingerprint "
                f"{there[:12]}, here {here[:12]}"
            )

    def _counts(self) -> Iterator[str]:
        """Yield whether an accuracy is no whole number of test images, which no victim can have right."""
        dataset, curve = self.task.dataset, self._metrics.curve
        images = 0 if self._lacks("dataset") else data.judged_images(dataset)
        for share in (*curve.test_acc, *curve.shifts):
            if abs(share * images - round(share * images)) > images * CLOSE:
                yield f"record {self.record.id}: {share:.6g} is not a whole number of {images:,} test images of {dataset.text}"
                return


@dataclasses.dataclass(frozen=True)
class _Installed:
    """Finds the entries of somebody's record, as if its specs had been written here. EntryError."""

    record: Record
    missing: dict[str, str] = dataclasses.field(default_factory=dict)  # kind:name -> version, of what is not installed here

    def entry_of(self, kind: str, part: cells_.Part) -> ConfiguredEntry:
        """Find the entry of a spec that cannot be chained."""
        return self.entries_of(kind, (part,))[0]

    def entries_of(self, kind: str, parts: Sequence[cells_.Part]) -> tuple[ConfiguredEntry, ...]:
        """Find the entries of a spec; `missing` gets those that are not installed."""
        for part in parts:
            _check_text(kind, part)
        if kind == "architectures" and parts[0].name == NONE:
            return (NOBODY,)
        if kind == "datasets" and is_folder(parts[0].name):
            return (ConfiguredEntry(CATALOGS[kind].entry("folder"), parts[0].name, parts[0].fields),)
        if all(CATALOGS[kind].named(part.name) for part in parts):
            return _resolved(kind, parts)
        return tuple(ConfiguredEntry(self._entry(kind, part.name), part.name, part.fields) for part in parts)

    def _entry(self, kind: str, name: str) -> Entry:
        """Return an entry, or one without facts in the place of one that is not installed here."""
        if CATALOGS[kind].named(name):
            return CATALOGS[kind].entry(name)
        self.missing[f"{singular(kind)}:{name}"] = _version(kind, name, self.record)
        return Entry(kind, name, "not installed here", "", "")


def _check_text(kind: str, part: cells_.Part) -> None:
    """Refuse a part whose text does not stand for its fields, or whose fields no spec can say. EntryError."""
    noun = CATALOGS[kind].noun
    later = {entry.name: entry.later for entry in CATALOGS[kind].named(part.name)}
    spec, *more = parse(part.text)
    values = {**later.get(part.name, {}), **part.fields}
    same = {key: values[key] for key in spec.given if key in values}
    if more or spec.name != part.name or digest(dict(spec.given)) != digest(same):
        raise EntryError(f"{noun} {part.text!r} does not stand for {part.name} with the fields that it has")
    for key, given in part.fields.items():
        written = key.isidentifier() and key.isascii()
        if not written or not _sayable(given) or "folder:" in str(given):
            raise EntryError(f"{noun} {part.name} has the field {key!r} with {given!r}, which cannot be written in a spec")


def _sayable(given: Any) -> bool:
    """Whether a value of a field is one that can be written in a spec, so a word at most. EntryError says why not."""
    if isinstance(given, list):
        return all(map(_sayable, given))
    return given is None or given == "" or digest(read_value(write_value(given))) == digest(given)


def _version(kind: str, name: str, record: Record) -> str:
    """Return the version that a record has of an entry which is not installed here. EntryError if it names no package."""
    version = record.versions.get(f"{singular(kind)}:{name}", "")
    if " of " not in version:
        sentence = f"{CATALOGS[kind].noun} {name!r} is unknown to this program, and the record does not name its package"
        raise EntryError(f"{sentence}; update, or ask the submitter")
    return version


def _resolved(kind: str, parts: Sequence[cells_.Part]) -> tuple[ConfiguredEntry, ...]:
    """Resolve a spec of installed entries, which must have the fields here that it has there. EntryError."""
    resolved = CATALOGS[kind].resolve("+".join(part.text for part in parts))
    for part, here in zip(parts, resolved, strict=True):
        if digest(plain(here.fields)) != digest(part.fields) or here.text != part.text:
            raise EntryError(f"{CATALOGS[kind].noun} {part.text!r} has other fields than {here.text!r} has here")
    return resolved


def _package(version: str) -> tuple[str, str]:
    """An entry's version and the package that it is of, whatever version that has."""
    number, _, package = version.partition(" of ")
    return number, package.rpartition(" ")[0]
