"""One number of a table: its mean and spread, how far it is to be trusted, clean training and what is published beside it.

`Score` is printed and no more. `AggregateScore` is of one that is made of others, `UnavailableScore` of one
that cannot be run here; `runs.py` has those that are measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import Literal

from unlearnable_bench.leaderboard.tables import verdict as verdicts
from unlearnable_bench.leaderboard.tables.aggregate import EXTREMES
from unlearnable_bench.leaderboard.tables.groups import known_items
from unlearnable_bench.leaderboard.tables.lookup import SeedRun
from unlearnable_bench.results import Record
from unlearnable_bench.results.cell import name_in
from unlearnable_bench.results.record import Metrics
from unlearnable_bench.results.reference import Printed
from unlearnable_bench.results.submission import REPORTED, RERUN
from unlearnable_bench.results.table_file import AXES, ScoreRequest

State = Literal["done", "partial", "not-applicable", "failed", "stale", "missing", "not-available", "printed"]
"""`not-available`: what it needs is not installed; `printed`: nothing is measured for it."""

POINT = tuple(axis for axis in AXES if axis != "seed")
TRUST = (*REPORTED, RERUN, "")  # trust levels, the least trusted first
CURRENT = ("done", "partial")  # states of numbers of today's versions
CHANGES = ("difference", "ratio")  # aggregates that compare two numbers
TIMES = {"hours": 3600.0, "minutes": 60.0}  # seconds
TIME_WORDS = ("hours", "minutes", "seconds")
STAGES = "purify,train"  # what a time covers where it names no stages
SHARES = {"acc", "recall", "precision", "f1"}  # words in the names of figures that are fractions
UNITS = {"psnr": "dB", "psnr_input": "dB", "loss": "nats", "dfr_min_test_loss": "nats"}  # of figures that have one


@dataclass(frozen=True)
class Score:
    """What is known of one score of a table. Numbers are in the table's unit: `request.unit` is what 1 of a fraction is."""

    request: ScoreRequest
    runs: tuple[SeedRun, ...] = ()  # of what is measured: one per seed
    rest: tuple[SeedRun, ...] = ()  # of a defense with members: those of the members that are not shown
    reference: float | None = None  # accuracy of clean training in the same setting; None where it cannot be told
    incomparable: bool = False  # measured on images on which it must not be held against a paper's number
    tolerance: float | None = None

    @cached_property
    def point(self) -> dict[str, str]:
        """Every axis but the seed, as text."""
        return {axis: str(self.request.fields[axis]) for axis in POINT}

    @property
    def metric_name(self) -> str:
        """Its metric without arguments: `test_acc` of `test_acc(best)`."""
        return name_in(self.request.metric)

    # what it rests on: here nothing

    @property
    def state(self) -> State:
        """What became of it; a number has one too, if it is stale or not all of it is measured."""
        return "printed"

    @property
    def reason(self) -> str:
        """Why there is no number, or what is wrong with it; empty for done."""
        return ""

    @property
    def per_seed(self) -> Mapping[int, float]:
        return {}

    @property
    def used(self) -> tuple[Record, ...]:
        """The records behind the number."""
        return ()

    @property
    def errata(self) -> tuple[str, ...]:
        """What is known to be wrong with the records behind the number, in sentences."""
        return ()

    @property
    def trust(self) -> str:
        """The trust level of a number that rests on records of others alone, by the worst of them; else ''."""
        return ""

    @property
    def marks(self) -> tuple[str, ...]:
        """What was measured in the place of something else, and whose the number is, in words."""
        return ()

    @property
    def reduced(self) -> bool:
        """Whether it is of fewer epochs, of fewer images or of other weights than the table asks for."""
        return False

    @property
    def oracle(self) -> str:
        """Which member of its defense the number is of: chosen by the test accuracy. Empty for a defense of its own."""
        return ""

    @property
    def share(self) -> str:
        """How much of what is measured is done, in words."""
        return ""

    @property
    def every(self) -> tuple[SeedRun, ...]:
        """Its runs, and those of the other members of its defense."""
        return (*self.runs, *self.rest)

    @property
    def records(self) -> tuple[str, ...]:
        return tuple(record.id for record in self.used)

    @property
    def reported(self) -> bool:
        """Whether the number is of others and was not measured here too."""
        return self.trust in REPORTED

    @property
    def current(self) -> bool:
        """Whether the number is of today's versions."""
        return self.state in CURRENT

    # the number

    @property
    def n(self) -> int:
        return len(self.per_seed)

    @property
    def accuracies(self) -> tuple[float, ...]:
        """The numbers, in the order of `records`."""
        return tuple(self.per_seed.values())

    @cached_property
    def mean(self) -> float | None:
        return fmean(self.accuracies) if self.n else None

    @cached_property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        return stdev(self.accuracies) if self.n > 1 else None

    @property
    def comparable(self) -> float | None:
        """The mean, where it may be held against a published number."""
        return None if self.incomparable else self.mean

    @property
    def measured_here(self) -> float | None:
        """The mean of what was measured here; None for numbers that others report, or that must not be compared."""
        return None if self.reported else self.comparable

    @property
    def is_full_size(self) -> bool:
        """Whether it was measured here, on as many epochs and images as the table asks for."""
        return self.measured_here is not None and not self.reduced

    @property
    def is_ours_and_current(self) -> bool:
        """Whether it was measured here, with today's versions: only such numbers count in comparisons."""
        return self.current and self.mean is not None and not self.reported

    @property
    def open(self) -> bool:
        """Whether there is no number yet that could be held against the published one."""
        return self.comparable is None

    @cached_property
    def accuracy(self) -> float | None:
        """The test accuracy as a fraction, where it was measured here and is one, not a change of two."""
        if self.measured_here is None or self.aggregate in CHANGES:
            return None
        return self.measured_here / self.request.unit if self.request.metric.startswith("test_acc") else None

    @property
    def best(self) -> float | None:
        """Mean over seeds of the best epoch, chosen on the test set: an oracle. Fraction."""
        best = numbers_by_seed(self.used, "test_acc(best)", 1.0)
        return fmean(best.values()) if best else None

    @property
    def seconds(self) -> float:
        """Craft, purify and train of all records used, as if no stage were shared with other cells."""
        return sum(sum(record.seconds.values()) for record in self.used)

    @property
    def aggregate(self) -> str:
        """How it is made of others: mean, min, difference, ...; '' for what is measured, or printed alone."""
        return self.request.aggregate.aggregate if self.request.aggregate else ""

    @property
    def unit(self) -> str:
        """The unit of its numbers: percent or fraction, points, hours, ...; empty where there is none, or its labels say."""
        if self.aggregate == "ratio":
            return "ratio"
        words = set(self.metric_name.split("_"))
        if not words & SHARES:
            times = [word for word in TIME_WORDS if word in words]
            return UNITS.get(self.metric_name, "".join(times[:1]))
        if self.request.unit == 1.0:
            return "fraction"
        is_change = self.aggregate == "difference" or words & {"delta", "drop"}
        return "points" if is_change else "percent"

    # beside clean training

    @property
    def clean(self) -> bool:
        return str(self.request.fields["attack"]) == "none"

    @property
    def drop(self) -> float | None:
        """How far below clean training; None where one of the two is unknown."""
        return less(self.reference, self.mean)

    @property
    def why_no_drop(self) -> str:
        """Why nothing can be said about the change from clean training; empty where it can."""
        if self.drop is not None:
            return ""
        if self.clean:
            return "is clean"
        if self.mean is None:
            return "no number"
        return "stale" if self.state == "stale" else "no clean record"

    # beside what is published

    @property
    def printed(self) -> Printed | None:
        return self.request.printed

    @property
    def published(self) -> float | None:
        return self.request.published

    @property
    def published_percent(self) -> float:
        """The published accuracy in percent, whatever the unit of its table; 0 where none is published."""
        return 100 * (self.published or 0.0) / self.request.unit

    @property
    def _quality(self) -> str:
        """What is known against the published value; `ok` where nothing is."""
        return self.printed.quality if self.printed else "ok"

    @property
    def doubtful(self) -> bool:
        """Whether the published value is inferred, or contradicted by its paper: nothing may rest on it."""
        return self._quality != "ok"

    @property
    def undoubted(self) -> float | None:
        """The published value where it is beyond doubt."""
        return None if self.doubtful else self.published

    @property
    def difference(self) -> float | None:
        """Ours less the published one."""
        return less(self.comparable, self.published)

    @property
    def points(self) -> float | None:
        """The difference of two accuracies in percentage points; None for other metrics, and beside doubtful values."""
        difference = less(self.comparable, self.undoubted)
        if difference is None or self.metric_name != "test_acc":
            return None
        return difference * 100 / self.request.unit

    @property
    def distance(self) -> float:
        """How far the two accuracies are apart, in points; 0 where `points` is None."""
        return abs(self.points or 0.0)

    @property
    def verdict(self) -> str:
        """How ours and the published number agree; '' where nothing is published."""
        if self.published is None:
            return ""
        if self.incomparable:
            return verdicts.INCOMPARABLE
        if self.difference is None:
            return verdicts.UNMEASURED
        if self.doubtful:
            return verdicts.doubt(self._quality)
        if self.reported:
            return verdicts.BY_OTHERS
        if self.reduced:
            return verdicts.REDUCED
        return verdicts.verdict_on(self.difference, self.tolerance, self.n)


@dataclass(frozen=True)
class UnavailableScore(Score):
    """A score whose cells need what is not installed."""

    lacking: str = ""

    @property
    def state(self) -> State:
        return "not-available"

    @property
    def reason(self) -> str:
        return f"not available: {self.lacking}"


@dataclass(frozen=True)
class AggregateScore(Score):
    """A score that is made of others: their mean, the lowest, the difference of two."""

    parts: tuple[Score, ...] = ()
    combined: Mapping[int, float] = field(default_factory=dict)  # its numbers by seed

    @property
    def per_seed(self) -> Mapping[int, float]:
        return self.combined

    @property
    def state(self) -> State:
        if self.combined:
            return "done"
        return "missing" if self.parts else "printed"

    @property
    def reason(self) -> str:
        return "needs every number that it is made of" if self.state == "missing" else ""

    @property
    def errata(self) -> tuple[str, ...]:
        """Those of its parts."""
        sentences = itertools.chain.from_iterable(part.errata for part in self.parts)
        return tuple(dict.fromkeys(sentences))

    @property
    def trust(self) -> str:
        """That of its least trusted part."""
        return min([part.trust for part in self.parts], key=TRUST.index, default="")

    @property
    def reduced(self) -> bool:
        return any(part.reduced for part in self.parts)

    @property
    def marks(self) -> tuple[str, ...]:
        marks = itertools.chain.from_iterable(part.marks for part in self.parts)
        return (*dict.fromkeys(marks), *self._extent)

    @property
    def _extent(self) -> tuple[str, ...]:
        """Of a minimum or maximum: over how many of its parts it is."""
        if self.aggregate not in EXTREMES or not self.combined:
            return ()
        measured = [part for part in self.parts if part.n]
        return (f"over {len(measured)} of {len(self.parts)}",)


# The numbers of records


def numbers_by_seed(records: Iterable[Record], metric: str, unit: float) -> dict[int, float]:
    """Return what records say of a metric, by seed; empty for a metric that no record has."""
    return known_items({record.cell.seed: _number(record, metric, unit) for record in records})


def _number(record: Record, metric: str, unit: float) -> float | None:
    """One number of a record. Of the figures of an analysis it is the one that has the metric's name."""
    name, _, argument = metric.removesuffix(")").partition("(")
    if record.metrics is None:
        return None
    if record.cell.measure != "accuracy":
        is_share = SHARES.intersection(name.split("_"))
        return scaled(record.metrics.figures.get(metric), unit if is_share else 1.0)
    if name in TIMES:
        return _seconds(record, argument) / TIMES[name]
    return scaled(_accuracy(record.metrics, argument), unit) if name == "test_acc" else None


def _accuracy(metrics: Metrics, epoch: str) -> float | None:
    """The accuracy after the best epoch, or after the last."""
    return metrics.test_acc_best if epoch == "best" else metrics.test_acc


def _seconds(record: Record, stages: str) -> float:
    """How long the named stages took, separated by commas."""
    return sum(record.seconds.get(stage, 0.0) for stage in (stages or STAGES).split(","))


def scaled(value: float | None, factor: float) -> float | None:
    """Return a value in another unit; None for None."""
    return None if value is None else factor * value


def less(value: float | None, other: float | None) -> float | None:
    """Return the first less the second; None where one of them is not known."""
    if value is None or other is None:
        return None
    return value - other
