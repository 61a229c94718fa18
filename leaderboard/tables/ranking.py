"""How a row stands against the others: its worst case, its mean over what all are compared on, its rank."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from statistics import fmean, stdev
from typing import NamedTuple

from leaderboard.tables.score import STATE, Score, has_number
from results.reference import Key

Labels = tuple[str, ...]
ABSENT = "not-applicable"
REPORTED = attrgetter("reported")


def joined(labels: Labels) -> str:
    """The labels of a row or column as one text."""
    return " / ".join(labels)


@dataclass(frozen=True)
class RowSummary:
    """A row against the others. `mean` and `std` over seeds of the accuracy averaged over the columns compared."""

    worst: str  # the column that hurts most: an attack's best defense, a defense's strongest attack; empty without numbers
    worst_case: float | None = None  # the accuracy there, fraction
    clean: float | None = None  # of a defense: the accuracy on the clean training set
    over: int = 0  # columns compared: those that apply to every row
    mean: float | None = None  # fraction; None unless all of these are done
    std: float | None = None
    rank: int | None = None  # 1 is best; rows whose mean +- std overlap share one. Needs two seeds of every row


@dataclass(frozen=True)
class League:
    """Rows of a table that are compared with each other: those of one protocol, one dataset, one architecture.

    Rows are compared over the columns that apply to all of them, and ranked once all of these are done. Clean training is no
    attack: as a row it has no rank, as a column it counts neither in a mean nor as a worst case. The same holds for the best
    of several defenses, which would count one of them twice. Numbers that others report count for nothing here: a column of
    them is not compared, a row with one has no rank, and neither keeps the other rows from theirs. An attack that undefended
    does less than the table can measure has no rank either.
    """

    scores: Mapping[Key, Score]
    rows: Sequence[Labels]
    columns: Sequence[Labels]
    attacks: bool  # whether the rows are attacks and the columns defenses, or the reverse
    faint: Collection[Labels]  # the rows that do less than the table can measure

    def ranking(self) -> dict[Labels, RowSummary]:
        """Return the summary of every row."""
        summaries = dict(zip(self.rows, map(self._summary, self.rows), strict=True))
        contenders = {row: summaries[row] for row in filter(self._contends, self.playing)}
        if None not in map(attrgetter("std"), contenders.values()):
            for row, rank in self._ranks(contenders).items():
                summaries[row] = replace(summaries[row], rank=rank)
        return summaries

    def _scores(self, rows: Sequence[Labels], columns: Sequence[Labels]) -> list[Score]:
        """The scores of some rows and columns."""
        return list(map(self.scores.__getitem__, itertools.product(rows, columns)))

    # who is compared

    @cached_property
    def opponents(self) -> list[Labels]:
        """The columns that may be compared."""
        return list(filter(self._opposes, self.columns))

    def _opposes(self, column: Labels) -> bool:
        scores = self._scores(self.rows, [column])
        numbers = filter(has_number, scores)
        all_by_others = set(map(REPORTED, numbers)) == {True}
        return not (all_by_others or self._aside(scores, defense=self.attacks))

    @cached_property
    def playing(self) -> list[Labels]:
        """The rows to which some of these columns apply."""
        return list(filter(self._plays, self.rows))

    def _plays(self, row: Labels) -> bool:
        states = set(map(STATE, self._scores([row], self.opponents)))
        return bool(states - {ABSENT})

    @cached_property
    def compared(self) -> list[Labels]:
        """The columns that apply to every row that plays."""
        return list(filter(self._applies_to_all, self.opponents))

    def _applies_to_all(self, column: Labels) -> bool:
        return ABSENT not in map(STATE, self._scores(self.playing, [column]))

    # who is ranked

    def _contends(self, row: Labels) -> bool:
        by_others = any(map(REPORTED, self._scores([row], self.compared)))
        if by_others or row in self.faint:
            return False
        return not self._aside(self._scores([row], self.columns), defense=not self.attacks)

    @staticmethod
    def _aside(scores: Sequence[Score], *, defense: bool) -> bool:
        """Say whether a row or column is not compared: an oracle's choice among defenses, clean training among attacks."""
        if defense:
            return any(map(attrgetter("rest"), scores))
        return scores[0].clean

    def _ranks(self, contenders: Mapping[Labels, RowSummary]) -> dict[Labels, int]:
        ranks = {}
        rank = 0
        reach = float("-inf")  # the far end of the spread of the best of a rank
        ends = {row: self._ends(summary) for row, summary in contenders.items()}
        for position, row in enumerate(sorted(ends, key=lambda row: ends[row].middle), 1):
            if ends[row].near > reach:
                reach, rank = ends[row].far, position
            ranks[row] = rank
        return ranks

    def _ends(self, summary: RowSummary) -> _Ends:
        sign = 1 if self.attacks else -1  # attacks want low accuracy, defenses high
        mean, std = sign * (summary.mean or 0.0), summary.std or 0.0
        return _Ends(near=mean - std, middle=mean, far=mean + std)

    # what a row reaches

    def _summary(self, row: Labels) -> RowSummary:
        compared = self.compared if row in self.playing else []
        means = _seed_means(self._scores([row], compared))
        counted = {column: self.scores[row, column] for column in self.columns if counts(self.scores[row, column])}
        worst = self._worst({column: counted[column] for column in self.opponents if column in counted})
        return RowSummary(
            worst=joined(worst),
            worst_case=counted[worst].mean if worst else None,
            clean=self._clean(counted.values()),
            over=len(compared),
            mean=fmean(means) if means else None,
            std=stdev(means) if len(means) > 1 else None,
        )

    def _worst(self, scores: Mapping[Labels, Score]) -> Labels:
        """The column that hurts the row most; () without numbers."""
        extreme = max if self.attacks else min
        return extreme(scores, key=lambda column: scores[column].mean or 0.0, default=())

    def _clean(self, scores: Iterable[Score]) -> float | None:
        """Of a defense the accuracy on the clean training set."""
        clean = [] if self.attacks else list(filter(attrgetter("clean"), scores))
        return clean[0].mean if clean else None


class _Ends(NamedTuple):
    """A mean and its spread, the less the better."""

    near: float
    middle: float
    far: float


def counts(score: Score) -> bool:
    """Whether a number counts in a comparison: it was measured here, with today's versions."""
    return score.current and has_number(score) and not score.reported


def _seed_means(scores: Sequence[Score]) -> list[float]:
    """The mean over scores, seed by seed, of the seeds that all have; empty unless all scores are done, and ours."""
    if set(map(STATE, scores)) != {"done"} or any(map(REPORTED, scores)):
        return []
    shared = set.intersection(*(set(score.per_seed) for score in scores))
    seeds = filter(shared.__contains__, scores[0].per_seed)
    return [fmean(score.per_seed[seed] for score in scores) for seed in seeds]
