"""One number of a table: the runs behind it, its mean and spread, how far it is to be trusted, what is published beside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from statistics import fmean, stdev
from typing import Literal

from leaderboard.tables import verdict as verdicts
from leaderboard.tables.lookup import Deviations, Run
from results import Record
from results.record import Metrics
from results.reference import Printed
from results.submission import REPORTED, worst
from results.table_file import AXES, Place

State = Literal["done", "partial", "not-applicable", "failed", "stale", "missing", "not-available", "printed"]
"""`not-available`: what it needs is not installed; `printed`: nothing is measured for it."""

POINT = tuple(axis for axis in AXES if axis != "seed")
STATE = attrgetter("state")
CURRENT = ("done", "partial")  # states of numbers of today's versions
WORST_FIRST: tuple[State, ...] = ("stale", "failed", "not-applicable")
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

    # what it rests on

    @cached_property
    def _counted(self) -> list[Run]:
        """The runs behind the number: those of today's versions, else the stale ones; ours, else those of others.

        Never two kinds in one mean.
        """
        measured = list(filter(attrgetter("measured"), self.runs))
        newest = _in_state(measured, "done") or _in_state(measured, "stale")
        return list(filter(attrgetter("ours"), newest)) or newest

    @cached_property
    def used(self) -> tuple[Record, ...]:
        """The records behind the number."""
        return tuple(map(attrgetter("record"), self._counted))

    @property
    def records(self) -> tuple[str, ...]:
        return tuple(record.id for record in self.used)

    @property
    def every(self) -> tuple[Run, ...]:
        """Its runs, and those of the other members of its defense."""
        return (*self.runs, *self.rest)

    @cached_property
    def tier(self) -> str:
        """The trust level of a number that rests on records of others alone, by the worst of them; else ''."""
        if self.parts:
            return next(filter(None, map(attrgetter("tier"), self.parts)), "")
        return worst(map(attrgetter("origin"), self._counted))

    @property
    def reported(self) -> bool:
        """Whether the number is of others and was not measured here too."""
        return self.tier in REPORTED

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """What was measured in the place of something else, and whose the number is, in words."""
        if self.unavailable:
            return ()
        if self.place.runs:
            return (*self.place.changes, *self.deviations.marks, *filter(None, [self.tier]))
        marks = itertools.chain.from_iterable(map(attrgetter("marks"), self.parts))
        return (*dict.fromkeys(marks), *self._extent)

    @property
    def _extent(self) -> tuple[str, ...]:
        """Of a minimum or maximum: over how many of its parts it is."""
        item = self.place.aggregate
        if item is None or item.aggregate not in ("min", "max") or not self.combined:
            return ()
        seeds = list(map(attrgetter("n"), self.parts))
        measured = len(seeds) - seeds.count(0)
        return (f"over {measured} of {len(seeds)}",)

    @property
    def reduced(self) -> bool:
        """Whether it is of fewer epochs, of fewer images or of other weights than the table asks for."""
        return self.deviations.reduced or any(map(attrgetter("reduced"), self.parts))

    # its state

    @cached_property
    def state(self) -> State:
        if self.unavailable:
            return "not-available"
        if not self.place.runs:
            return self._combined_state
        if self.used and not self.per_seed:
            return "not-applicable"
        others = set(map(STATE, self.rest)) - {"not-applicable"}
        states = set(map(STATE, self.runs)) | others
        if "done" in states:
            whole = len(states) == 1 and self.compared in (0, len(self._able))
            return "done" if whole else "partial"
        return next(filter(states.__contains__, WORST_FIRST), "missing")

    @property
    def _combined_state(self) -> State:
        if not self.parts and not self.per_seed:
            return "printed"
        return "done" if self.per_seed else "missing"

    @property
    def reason(self) -> str:
        """Why there is no number, or what is wrong with it; empty for done."""
        if self.state in ("done", "printed"):
            return ""
        if self.unavailable:
            return f"not available: {self.unavailable}"
        if self.parts:
            return "needs every number that it is made of"
        if self.used and not self.per_seed:
            return f"what was measured has no {self.place.metric} here"
        return self._reason_of_runs if self.runs else "no record"

    @property
    def _reason_of_runs(self) -> str:
        if self.state != "partial":
            return _in_state(self.every, self.state)[0].reason
        run = next((run for run in self.every if run.state != "done"), None)
        if run is None:
            return f"not all of {', '.join(self._able)} are measured in one way"
        state = "" if run.state == "missing" else f"{run.state}: "
        member = f"{run.defense}, " if self.rest else ""
        return f"{self.share}; {member}seed {run.cell.seed} {state}{run.reason}"

    @property
    def share(self) -> str:
        """How much of it is done, in words."""
        if not self.rest:
            return f"{len(self.used)} of {len(self.runs)} seeds"
        states = list(map(STATE, self.every))
        able = len(states) - states.count("not-applicable")
        return f"{states.count('done')} of {able} runs"

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
        kind = self.place.aggregate.aggregate if self.place.aggregate else "mean"
        if self.own is None or kind not in ("mean", "min", "max") or not self.place.metric.startswith("test_acc"):
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
        kind = self.place.aggregate.aggregate if self.place.aggregate else ""
        name = self.place.metric.partition("(")[0]
        words = set(name.split("_"))
        if kind == "ratio":
            return "ratio"
        if not words & SHARES:
            return UNITS.get(name, next(filter(words.__contains__, TIME_WORDS), ""))
        if self.place.unit == 1.0:
            return "fraction"
        change = kind == "difference" or words & {"delta", "drop"}
        return "points" if change else "percent"

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
        return self.printed.value if self.printed else None

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
        accuracy = self.place.metric.partition("(")[0] == "test_acc"
        if self.difference is None or self.doubtful or not accuracy:
            return None
        return self.difference * 100 / self.place.unit

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


def has_number(score: Score) -> bool:
    return score.mean is not None


# The numbers of records


def numbers(records: Iterable[Record], metric: str, unit: float) -> dict[int, float]:
    """Return what records say of a metric, by seed; empty for a metric that no record has."""
    per_seed = {}
    for record in records:
        number = None if record.metrics is None else _number(record, record.metrics, metric, unit)
        if number is not None:
            per_seed[record.cell.seed] = number
    return per_seed


def _number(record: Record, metrics: Metrics, metric: str, unit: float) -> float | None:
    """One number of a record. Of the figures of an analysis it is the one that has the metric's name."""
    name, _, argument = metric.removesuffix(")").partition("(")
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
    """Return the score of a defense that stands for several: that of the member with the highest test accuracy.

    Only members that were measured in one way are compared: of today's versions before stale ones, measured here before
    reported by others, at full size before reduced, with few marks before many. Without any number the runs of the first
    member are shown that can be applied.
    """
    members = [replace(score, member=name) for name, score in scores.items()]
    measured = list(filter(has_number, members))
    if not measured:
        shown = next(filter(_applies, members), members[0])
        return replace(shown, rest=_rest(members, shown))
    way = max(map(_Preference.of, measured))
    alike = [score for score in measured if _Preference.of(score) == way]
    best = max(alike, key=_accuracy)
    apart = any(map(attrgetter("incomparable"), alike))
    return replace(best, rest=_rest(members, best), compared=len(alike), incomparable=apart)


def _applies(score: Score) -> bool:
    return score.state != "not-applicable"


def _rest(members: Sequence[Score], shown: Score) -> tuple[Run, ...]:
    """The runs of the members that are not shown."""
    others = [score for score in members if score is not shown]
    return tuple(itertools.chain.from_iterable(map(attrgetter("runs"), others)))


def _accuracy(score: Score) -> float:
    accuracies = numbers(score.used, "test_acc", 1.0).values()
    return fmean(accuracies) if accuracies else 0.0  # of an analysis, whose records have none
