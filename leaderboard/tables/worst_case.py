"""How every attack stands against its best defense, and every defense against its strongest attack: the start page's question.

Published results come from the papers' tables, ours from the table of the fast recipe. The two are never in one ranking. A
result is an interval: of papers, from the lowest to the highest that one prints; of ours, the mean and what seeds leave open.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

from unlearnable_bench.leaderboard.tables.evidence import OTHER, Result
from unlearnable_bench.leaderboard.tables.groups import group_by, known, without
from unlearnable_bench.leaderboard.tables.methods import Axis, Method, StatedBudget

FIRST_CLASS = StatedBudget("linf", 8 / 255).group


@dataclass(frozen=True)
class PairOutcome:
    """All results of one attack under one defense. Percent."""

    results: tuple[Result, ...]

    @cached_property
    def by_source(self) -> dict[str, float]:
        """The median of each source: a paper that prints a value in several tables counts once."""
        by_source = group_by(self.results, lambda result: result.source)
        return {source: median({result.value for result in several}) for source, several in by_source.items()}

    @property
    def value(self) -> float:
        return median(self.by_source.values())

    @property
    def low(self) -> float:
        return min(result.low for result in self.results)

    @property
    def high(self) -> float:
        return max(result.high for result in self.results)

    @property
    def errata(self) -> tuple[str, ...]:
        """What is known to be wrong with its results, each sentence once."""
        sentences = itertools.chain.from_iterable(result.errata for result in self.results)
        return tuple(dict.fromkeys(sentences))

    @property
    def is_contested(self) -> bool:
        """Whether the sources lie more than five points apart."""
        return self.high - self.low > 5 and len(self.by_source) > 1

    @property
    def has_interval(self) -> bool:
        """Whether it can be ranked: one paper alone gives a value and no interval."""
        return len(self.by_source) > 1 or any(result.has_interval for result in self.results)


@dataclass(frozen=True)
class MethodOutcomes:
    """An attack against all defenses, or a defense against all attacks."""

    method: Method
    outcomes: Mapping[Method, PairOutcome]  # by the method of the other axis
    rank: int | None = None
    rivals: int = 0  # how many are ranked in its class, itself too
    missing: tuple[str, ...] = ()  # labels of the ranked columns that it lacks

    @classmethod
    def of(cls, method: Method, results: Iterable[Result]) -> MethodOutcomes:
        """Gather the results of a method by those of the other axis."""
        grouped = group_by(results, lambda result: result.method(OTHER[method.axis]))
        return cls(method, {other: PairOutcome(tuple(several)) for other, several in grouped.items()})

    @property
    def plain(self) -> PairOutcome | None:
        """Without defense, or on clean images."""
        return next((outcome for method, outcome in self.outcomes.items() if method.is_plain), None)

    @property
    def sign(self) -> int:
        """Times this, the lower an accuracy, the better for the method: attacks want it low, defenses high."""
        return 1 if self.method.axis == "attack" else -1

    def worst(self, counts: Callable[[Method], bool]) -> tuple[Method, PairOutcome] | None:
        """Return what hurts most of the methods that count: an attack's best defense, a defense's strongest attack."""
        rivals = sorted((method for method in self.outcomes if counts(method)), key=lambda method: method.label)
        if not rivals:
            return None
        chosen = max(rivals, key=lambda method: self.sign * self.outcomes[method].value)
        return chosen, self.outcomes[chosen]


def is_rival(method: Method) -> bool:
    """Whether a method can be a worst case: not plain, no oracle, and nothing needed besides the poison."""
    return not (method.is_plain or method.is_oracle or method.needs)


@dataclass(frozen=True)
class _Contender:
    """A row that can be ranked, with the interval of its worst case: `near` is its better end, the less the better."""

    method: Method
    near: float
    far: float

    @classmethod
    def of(cls, row: MethodOutcomes, worst: PairOutcome) -> _Contender:
        near, far = sorted([row.sign * worst.low, row.sign * worst.high])
        return cls(row.method, near, far)

    def rank(self, contenders: Iterable[_Contender]) -> int:
        """One, and the number of rivals of its class whose interval lies wholly on the better side."""
        better = [other for other in contenders if other.far < self.near]
        return 1 + [_class(other.method) for other in better].count(_class(self.method))


@dataclass(frozen=True)
class Ranking:
    """The rows of one axis. `columns` are the methods of the other axis over which rows are ranked; none: all."""

    rows: Sequence[MethodOutcomes]
    columns: Collection[Method] = ()

    @classmethod
    def of(cls, axis: Axis, results: Iterable[Result], columns: Collection[Method] = ()) -> Ranking:
        """Arrange results by the methods of an axis, and rank them; the ranked first, then by worst case."""
        grouped = group_by(results, lambda result: result.method(axis))
        rows = [MethodOutcomes.of(method, several) for method, several in grouped.items() if not method.is_plain]
        return cls(rows, columns)._ranked()

    def _ranked(self) -> Ranking:
        rows = [replace(row, missing=self._missing(row)) for row in self.rows]
        contenders = known(self._contender(row) for row in rows)
        ranks = {contender.method: contender.rank(contenders) for contender in contenders}
        sizes = Counter(_class(contender.method) for contender in contenders)
        ranked = [replace(row, rank=ranks.get(row.method), rivals=sizes[_class(row.method)]) for row in rows]
        return Ranking(sorted(ranked, key=self._order), self.columns)

    def counts(self, method: Method) -> bool:
        """Whether a method of the other axis counts in worst cases: one of the ranked columns, where there are any."""
        return is_rival(method) and (not self.columns or method in self.columns)

    def _missing(self, row: MethodOutcomes) -> tuple[str, ...]:
        return tuple(method.label for method in without(self.columns, row.outcomes))

    def _contender(self, row: MethodOutcomes) -> _Contender | None:
        """A row as one that can be ranked: it has every column, and its worst case an interval."""
        worst = row.worst(self.counts)
        if worst is None or row.missing:
            return None
        _, outcome = worst
        return _Contender.of(row, outcome) if outcome.has_interval else None

    def _order(self, row: MethodOutcomes) -> tuple[bool, bool, str, int, float, str]:
        """The ranked first, class by class; then the rest by what is worst of all that is known."""
        if row.rank is None:
            return True, False, "", 0, self._strength(row, is_rival), row.method.label
        group = _class(row.method)
        return False, group != FIRST_CLASS, group, row.rank, self._strength(row, self.counts), row.method.label

    def _strength(self, row: MethodOutcomes, counts: Callable[[Method], bool]) -> float:
        """What rows are sorted by, the strongest lowest."""
        worst = row.worst(counts)
        return row.sign * worst[1].value if worst else float("inf")


def _class(method: Method) -> str:
    return method.budget.group if method.budget else ""
