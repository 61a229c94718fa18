"""One number of a table: the runs behind it, its mean and spread, how far it is to be trusted, what is published beside it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean, stdev
from typing import Literal

from unlearnable_bench.leaderboard.tables import verdict as verdicts
from unlearnable_bench.leaderboard.tables.groups import group_by
from unlearnable_bench.leaderboard.tables.lookup import Deviations, Run
from unlearnable_bench.results import Record
from unlearnable_bench.results.reference import Printed
from unlearnable_bench.results.submission import REPORTED, RERUN, worst
from unlearnable_bench.results.table_file import AXES, Place

State = Literal["done", "partial", "not-applicable", "failed", "stale", "missing", "not-available", "printed"]
"""`not-available`: what it needs is not installed; `printed`: nothing is measured for it."""

POINT = tuple(axis for axis in AXES if axis != "seed")
TRUST = (*REPORTED, RERUN, "")  # trust levels, the least trusted first
WORST_FIRST: tuple[State, ...] = ("stale", "failed", "not-applicable")
CURRENT = ("done", "partial")  # states of numbers of today's versions
TIMES = {"hours": 3600.0, "minutes": 60.0}  # seconds
TIME_WORDS = ("hours", "minutes", "seconds")
STAGES = ("purify", "train")  # what a time covers where it names no stages
SHARES = {"acc", "recall", "precision", "f1"}  # words in the names of figures that are fractions
UNITS = {"psnr": "dB", "psnr_input": "dB", "loss": "nats", "dfr_min_test_loss": "nats"}  # of figures that have one


@dataclass(frozen=True)
class Score:
    """What is known of one place of a table. Numbers are in the unit of the table: `place.unit` is what 1 of a fraction is."""

    place: Place
    runs: tuple[Run, ...] = ()  # one per seed
    rest: tuple[Run, ...] = ()  # of a defense with members: those of the members that are not shown
    member: str = ""  # of a defense with members: the one that is shown, chosen by the test accuracy
    compared: int = 0  # members of which it is the best; 0 where none has a number
    reference: float | None = None  # accuracy of clean training in the same setting; None where it cannot be told
    unavailable: str = ""  # what is not installed that its cells need
    parts: tuple[Score, ...] = ()  # of an aggregate: the scores that it is made of
    combined: Mapping[int, float] = field(default_factory=dict)  # of an aggregate: its numbers by seed
    deviations: Deviations = field(default_factory=Deviations)
    incomparable: bool = False  # measured on images on which it must not be held against a paper's number
    tolerance: float | None = None

    @cached_property
    def point(self) -> dict[str, str]:
        """Every axis but the seed, as text."""
        return {axis: str(self.place.fields[axis]) for axis in POINT}

    @property
    def metric_name(self) -> str:
        """Its metric without arguments: `test_acc` of `test_acc(best)`."""
        return self.place.metric.partition("(")[0]

    # what it rests on

    @cached_property
    def _counted(self) -> list[Run]:
        """The runs behind the number: those of today's versions, else the stale ones; ours, else those of others.

        Never two kinds in one mean.
        """
        measured = [run for run in self.runs if run.measured]
        newest = _in_state(measured, "done") or _in_state(measured, "stale")
        ours = [run for run in newest if run.ours]
        return ours or newest

    @cached_property
    def used(self) -> tuple[Record, ...]:
        """The records behind the number."""
        return tuple(run.record for run in self._counted if run.record is not None)

    @property
    def records(self) -> tuple[str, ...]:
        return tuple(record.id for record in self.used)

    @property
    def every(self) -> tuple[Run, ...]:
        """Its runs, and those of the other members of its defense."""
        return (*self.runs, *self.rest)

    @cached_property
    def tier(self) -> str:
        """The trust level of a number that rests on records of others alone, by the worst of them; else ''.

        An aggregate has that of its least trusted part.
        """
        if self.parts:
            return min([part.tier for part in self.parts], key=TRUST.index)
        return worst(run.origin for run in self._counted)

    @property
    def reported(self) -> bool:
        """Whether the number is of others and was not measured here too."""
        return self.tier in REPORTED

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """What was measured in the place of something else, and whose the number is, in words."""
        if self.unavailable:
            return ()
        if not self.place.runs:
            marks = itertools.chain.from_iterable(part.marks for part in self.parts)
            return (*dict.fromkeys(marks), *self._extent)
        by_others = [self.tier] if self.tier else []
        return (*self.place.changes, *self.deviations.marks, *by_others)

    @property
    def _extent(self) -> tuple[str, ...]:
        """Of a minimum or maximum: over how many of its parts it is."""
        if self._aggregate not in ("min", "max") or not self.combined:
            return ()
        measured = [part for part in self.parts if part.n]
        return (f"over {len(measured)} of {len(self.parts)}",)

    @property
    def _aggregate(self) -> str:
        """How it is made of others: mean, min, difference, ...; '' for what is measured, or printed alone."""
        return self.place.aggregate.aggregate if self.place.aggregate else ""

    @property
    def reduced(self) -> bool:
        """Whether it is of fewer epochs, of fewer images or of other weights than the table asks for."""
        return self.deviations.reduced or any(part.reduced for part in self.parts)

    # its state

    @cached_property
    def state(self) -> State:
        if self.unavailable:
            return "not-available"
        if not self.place.runs:
            return self._combined_state
        if self._lacks_metric:
            return "not-applicable"
        if "done" in self._states:
            is_whole = self._states == {"done"} and self.compared in (0, len(self._able))
            return "done" if is_whole else "partial"
        return next((state for state in WORST_FIRST if state in self._states), "missing")

    @cached_property
    def _states(self) -> set[str]:
        """The states of its runs; other members of its defense that do not apply count for nothing."""
        others = {run.state for run in self.rest} - {"not-applicable"}
        return {run.state for run in self.runs} | others

    @property
    def _lacks_metric(self) -> bool:
        """Whether it was measured, but not what the table prints."""
        return bool(self.used) and not self.per_seed

    @property
    def _combined_state(self) -> State:
        if self.per_seed:
            return "done"
        return "missing" if self.parts else "printed"

    @property
    def reason(self) -> str:
        """Why there is no number, or what is wrong with it; empty for done."""
        if self.state in ("done", "printed"):
            return ""
        if self.unavailable:
            return f"not available: {self.unavailable}"
        if self.parts:
            return "needs every number that it is made of"
        if self._lacks_metric:
            return f"what was measured has no {self.place.metric} here"
        return self._reason_of_runs if self.runs else "no record"

    @property
    def _reason_of_runs(self) -> str:
        if self.state != "partial":
            return _in_state(self.every, self.state)[0].reason
        run = next((run for run in self.every if run.state != "done"), None)
        if run is None:
            return f"not all of {', '.join(self._able)} are measured in one way"
        member = f"{run.defense}, " if self.rest else ""
        return f"{self.share}; {member}seed {run.cell.seed} {run.excuse}"

    @property
    def share(self) -> str:
        """How much of it is done, in words."""
        if not self.rest:
            return f"{len(self.used)} of {len(self.runs)} seeds"
        states = Counter(run.state for run in self.every)
        able = states.total() - states["not-applicable"]
        return f"{states['done']} of {able} runs"

    @property
    def _able(self) -> list[str]:
        """The members of its defense that can be applied here."""
        return list(dict.fromkeys(run.defense for run in self.every if run.state != "not-applicable"))

    @property
    def oracle(self) -> str:
        """Which member of its defense the number is of: chosen by the test accuracy. Empty for a defense of its own."""
        if not self.compared:
            return ""
        able = len(self._able)
        out_of = f" of {able}" if self.compared < able else ""
        return f"oracle {self.member}, best of {self.compared}{out_of}"

    # the number

    @cached_property
    def per_seed(self) -> Mapping[int, float]:
        return numbers(self.used, self.place.metric, self.place.unit) if self.runs else self.combined

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
    def own(self) -> float | None:
        """The mean of what was measured here; None for numbers that others report, or that must not be compared."""
        return None if self.reported or self.incomparable else self.mean

    @property
    def is_full_size(self) -> bool:
        """Whether it was measured here, on as many epochs and images as the table asks for."""
        return self.own is not None and not self.reduced

    @property
    def open(self) -> bool:
        """Whether there is no number yet that could be held against the published one."""
        return self.mean is None or self.incomparable

    @property
    def current(self) -> bool:
        """Whether the number is of today's versions."""
        return self.state in CURRENT

    @cached_property
    def accuracy(self) -> float | None:
        """The test accuracy as a fraction, where it was measured here and is one, not a change of two."""
        is_change = self._aggregate in ("difference", "ratio")
        if self.own is None or is_change or not self.place.metric.startswith("test_acc"):
            return None
        return self.own / self.place.unit

    @property
    def best(self) -> float | None:
        """Mean over seeds of the best epoch, chosen on the test set: an oracle. Fraction."""
        best = numbers(self.used, "test_acc(best)", 1.0)
        return fmean(best.values()) if best else None

    @property
    def seconds(self) -> float:
        """Craft, purify and train of all records used, as if no stage were shared with other cells."""
        return sum(sum(record.seconds.values()) for record in self.used)

    @property
    def unit(self) -> str:
        """The unit of its numbers: percent or fraction, points, hours, ...; empty where there is none, or its labels say."""
        if self._aggregate == "ratio":
            return "ratio"
        words = set(self.metric_name.split("_"))
        if not words & SHARES:
            times = [word for word in TIME_WORDS if word in words]
            return UNITS.get(self.metric_name, "".join(times[:1]))
        if self.place.unit == 1.0:
            return "fraction"
        is_change = self._aggregate == "difference" or words & {"delta", "drop"}
        return "points" if is_change else "percent"

    # beside clean training

    @property
    def clean(self) -> bool:
        return str(self.place.fields["attack"]) == "none"

    @property
    def drop(self) -> float | None:
        """How far below clean training; None where one of the two is unknown."""
        return None if self.reference is None or self.mean is None else self.reference - self.mean

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
        return self.place.printed

    @property
    def published(self) -> float | None:
        return self.place.published

    @property
    def doubtful(self) -> bool:
        """Whether the published value is inferred, or contradicted by its paper: nothing may rest on it."""
        return self.printed is not None and self.printed.quality != "ok"

    @property
    def undoubted(self) -> float | None:
        """The published value where it is beyond doubt."""
        return None if self.doubtful else self.published

    @property
    def difference(self) -> float | None:
        """Ours less the published one."""
        if self.mean is None or self.published is None or self.incomparable:
            return None
        return self.mean - self.published

    @property
    def points(self) -> float | None:
        """The difference of two accuracies in percentage points; None for other metrics, and beside doubtful values."""
        if self.difference is None or self.doubtful or self.metric_name != "test_acc":
            return None
        return self.difference * 100 / self.place.unit

    @property
    def distance(self) -> float:
        """How far the two accuracies are apart, in points; 0 where `points` is None."""
        return abs(self.points or 0.0)

    @property
    def verdict(self) -> str:
        """How ours and the published number agree; '' where nothing is published."""
        if self.printed is None or self.published is None:
            return ""
        if self.incomparable:
            return verdicts.INCOMPARABLE
        if self.difference is None:
            return verdicts.UNMEASURED
        if self.doubtful:
            return verdicts.doubt(self.printed)
        if self.reported:
            return verdicts.BY_OTHERS
        if self.reduced:
            return verdicts.REDUCED
        return verdicts.judged(self.difference, self.tolerance, self.n)


def _in_state(runs: Iterable[Run], state: str) -> list[Run]:
    return [run for run in runs if run.state == state]


# The numbers of records


def numbers(records: Iterable[Record], metric: str, unit: float) -> dict[int, float]:
    """Return what records say of a metric, by seed; empty for a metric that no record has."""
    per_seed = {record.cell.seed: _number(record, metric, unit) for record in records}
    return {seed: number for seed, number in per_seed.items() if number is not None}


def _number(record: Record, metric: str, unit: float) -> float | None:
    """One number of a record. Of the figures of an analysis it is the one that has the metric's name."""
    name, _, argument = metric.removesuffix(")").partition("(")
    metrics = record.metrics
    if metrics is None:
        return None
    if record.cell.measure != "accuracy":
        share = SHARES.intersection(name.split("_"))
        return _scaled(metrics.figures.get(metric), unit if share else 1.0)
    if name == "test_acc":
        return _scaled(metrics.test_acc_best if argument == "best" else metrics.test_acc, unit)
    if name in TIMES:
        stages = argument.split(",") if argument else STAGES
        return sum(record.seconds.get(stage, 0.0) for stage in stages) / TIMES[name]
    return None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


# The best of several


@dataclass(frozen=True, order=True)
class _Preference:
    """Which members of a defense are compared: those whose numbers were measured in the best way, the first field first."""

    current: bool
    ours: bool
    full_size: bool
    fewer_marks: int  # negative
    marks: tuple[str, ...]

    @classmethod
    def of(cls, score: Score) -> _Preference:
        return cls(
            current=score.current,
            ours=not score.reported,
            full_size=not score.reduced,
            fewer_marks=-len(score.marks),
            marks=score.marks,
        )


def best_member(scores: Mapping[str, Score]) -> Score:
    """Return the score of a defense by its members: that of the one with the highest test accuracy, where there are several.

    Only members that were measured in one way are compared: of today's versions before stale ones, measured here before
    reported by others, at full size before reduced, with few marks before many. Without any number the runs of the first
    member are shown that can be applied.
    """
    if len(scores) == 1:
        return next(iter(scores.values()))
    members = [replace(score, member=name) for name, score in scores.items()]
    measured = [score for score in members if score.mean is not None]
    if not measured:
        shown = _first_applicable(members)
        return replace(shown, rest=_rest(members, shown))
    by_way = group_by(measured, _Preference.of)
    alike = by_way[max(by_way)]
    best = max(alike, key=_accuracy)
    apart = any(score.incomparable for score in alike)
    return replace(best, rest=_rest(members, best), compared=len(alike), incomparable=apart)


def _first_applicable(members: Sequence[Score]) -> Score:
    """The first member that can be applied, else the first."""
    applicable = [score for score in members if score.state != "not-applicable"]
    return (applicable or members)[0]


def _rest(members: Sequence[Score], shown: Score) -> tuple[Run, ...]:
    """The runs of the members that are not shown."""
    return tuple(itertools.chain.from_iterable(score.runs for score in members if score is not shown))


def _accuracy(score: Score) -> float:
    accuracies = numbers(score.used, "test_acc", 1.0).values()
    return fmean(accuracies) if accuracies else 0.0  # of an analysis, whose records have none
