"""What the page of coverage and cost gets: what is missing and why, who measured elsewhere, what methods took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from unlearnable_bench.leaderboard.tables.methods import Axis, Method, method_of
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.leaderboard.tables.table import STATES, Table
from unlearnable_bench.leaderboard.tables.verdict import DEVIATES, WITHIN
from unlearnable_bench.registry import resolve
from unlearnable_bench.results import Record
from unlearnable_bench.results.cells import CellMaker
from unlearnable_bench.results.submission import TRUST_LEVELS, Origin

TROUBLES = ("failed", "stale", "not-applicable", "partial")
MEBIBYTE = 2**20


def coverage(measured: Sequence[Table], printed: Sequence[Table]) -> dict[str, Any]:
    """How much there is, what is wrong, and what it cost: of the tables of our own cells, and of those printed as papers do."""
    return {
        "measured": measured,
        "printed": printed,
        "states": STATES,
        "troubles": troubles(measured),
        "costs": [costs for costs in map(Costs.of, measured) if costs.known],
        "total": Total.of(measured),
        "submissions": submissions(measured),
        "trust_levels": TRUST_LEVELS,
        "within": WITHIN,
        "deviates": DEVIATES,
    }


def _scores(tables: Iterable[Table]) -> Iterator[Score]:
    for table in tables:
        yield from table.scores.values()


def _records(tables: Iterable[Table]) -> dict[str, Record]:
    """The records behind all numbers, each once, by their ids."""
    records: dict[str, Record] = {}
    for score in _scores(tables):
        records |= zip(score.records, score.used, strict=True)
    return records


# What is wrong


def troubles(tables: Iterable[Table]) -> dict[str, list[str]]:
    """Why numbers are missing or unusual: each reason with the attacks and defenses it is about."""
    places: dict[str, list[str]] = defaultdict(list)
    for score in _scores(tables):
        if score.runs and score.reason and score.state in TROUBLES:
            places[score.reason].append(f"{score.point['attack']} × {score.point['defense']}")  # noqa: RUF001
    return places


# Who measured


@dataclass(frozen=True)
class SubmittedRecords:
    """Records that somebody else measured, and how many of them have which trust level."""

    origin: Origin
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TRUST_LEVELS, 0))


def submissions(tables: Iterable[Table]) -> list[SubmittedRecords]:
    """The submissions whose records the tables show, the oldest first."""
    by_digest: dict[str, SubmittedRecords] = {}
    for origin in _origins(tables).values():
        submission = by_digest.setdefault(origin.digest, SubmittedRecords(origin))
        submission.counts[origin.trust] += 1
    return sorted(by_digest.values(), key=lambda submission: (submission.origin.accepted, submission.origin.digest))


def _origins(tables: Iterable[Table]) -> dict[str, Origin]:
    """Who measured the cells that were measured elsewhere, by their ids."""
    origins = {}
    for score in _scores(tables):
        for run in score.every:
            if run.origin:
                origins[run.id] = run.origin
    return origins


# What it cost


@dataclass
class MethodCost:
    """What a method took, a number per record that used it."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # by stage
    memory: list[float] = field(default_factory=list)  # MiB, 0 where none is recorded

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count what the stages of one record took."""
        for stage, amount in seconds.items():
            self.seconds[stage].append(amount)

    def mean(self, stage: str) -> float | None:
        """The mean over records; None where no record has the stage."""
        amounts = self.seconds.get(stage)
        return fmean(amounts) if amounts else None

    @property
    def total(self) -> float:
        """The seconds of all its stages together, each the mean over records."""
        return sum(fmean(amounts) for amounts in self.seconds.values())

    @property
    def peak(self) -> float | None:
        """The mean of the peak memory; None where it is not recorded."""
        return (fmean(self.memory) if self.memory else 0.0) or None


@dataclass(frozen=True)
class Costs:
    """What the methods of a table cost, by what people write for them."""

    table: Table
    attacks: dict[str, MethodCost] = field(default_factory=lambda: defaultdict(MethodCost))
    defenses: dict[str, MethodCost] = field(default_factory=lambda: defaultdict(MethodCost))

    @classmethod
    def of(cls, table: Table) -> Costs:
        """Add up what the records of a table say."""
        costs = cls(table)
        for score in table.scores.values():
            for record in score.used:
                costs._add(score, record)
        return costs

    def _add(self, score: Score, record: Record) -> None:
        seconds = dict(record.seconds)
        craft = seconds.pop("craft", None)
        if craft is not None and not score.clean:
            self.attacks[score.point["attack"]].add({"craft": craft})
        defense = self.defenses[score.point["defense"]]
        defense.add(seconds)
        defense.memory.append(record.peak_memory / MEBIBYTE)

    @property
    def known(self) -> bool:
        """Whether any record says what it took."""
        return bool(self.attacks or self.defenses)

    def times(self, defense: str) -> float | None:
        """How many times as long as plain training the training with a defense takes; None where one of them is unknown."""
        plain = self.defenses["none"].mean("train") if "none" in self.defenses else None
        train = self.defenses[defense].mean("train")
        return train / plain if train is not None and plain else None


@dataclass(frozen=True)
class Total:
    """Seconds of all records, a poison's crafting counted once."""

    records: int
    craft: float
    devices: dict[str, float]  # seconds of all other stages, by device

    @classmethod
    def of(cls, tables: Iterable[Table]) -> Total:
        records = _records(tables)
        crafted: dict[str, float] = {}
        devices: dict[str, float] = defaultdict(float)
        for record in records.values():
            seconds = dict(record.seconds)
            craft = seconds.pop("craft", 0.0)
            if record.poison:
                crafted[record.poison.checksum] = craft
            devices[record.device or "unknown device"] += sum(seconds.values())
        return cls(len(records), sum(crafted.values()), dict(sorted(devices.items())))


def in_plain_trainings(table: Table) -> dict[Method, float]:
    """Return what each attack and each defense of a table of one recipe took, in plain trainings."""
    costs = Costs.of(table)
    plain = costs.defenses["none"].mean("train")
    if plain is None:
        return {}
    crafting = {text: cost.total / plain for text, cost in costs.attacks.items()}
    training = {text: cost.total / plain for text, cost in costs.defenses.items()}
    return _by_method("attack", crafting) | _by_method("defense", training)


def _by_method(axis: Axis, costs: Mapping[str, float]) -> dict[Method, float]:
    """Costs by method instead of by spec, without those of ablations."""
    maker = CellMaker(resolve)
    methods = {method_of(axis, maker.parts(f"{axis}s", text)): cost for text, cost in costs.items()}
    return {method: cost for method, cost in methods.items() if method is not None}
