"""How a row stands against the others: its worst case, its mean over what all are compared on, its rank."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress, product
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

from unlearnable_bench.leaderboard.tables.aggregate import by_shared_seed
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.results.reference import Key

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Flags = npt.NDArray[np.bool_]  # (rows, columns), (rows,) or (columns,)

Labels = tuple[str, ...]
ABSENT = "not-applicable"


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
        playing = set(compress(self.rows, self.playing))
        compared = list(compress(self.columns, self.compared))
        summaries = {row: self._summary(row, compared if row in playing else []) for row in self.rows}
        ranks = self._ranks({row: summaries[row] for row in compress(self.rows, self.contenders)})
        return {row: replace(summary, rank=ranks.get(row)) for row, summary in summaries.items()}

    def _where(self, holds: Callable[[Score], bool]) -> Flags:
        """For which scores something holds."""
        import numpy as np

        flags = [holds(self.scores[key]) for key in product(self.rows, self.columns)]
        return np.array(flags, bool).reshape(len(self.rows), len(self.columns))

    @cached_property
    def applies(self) -> Flags:
        return self._where(lambda score: score.state != ABSENT)

    @cached_property
    def reported(self) -> Flags:
        return self._where(lambda score: score.reported)

    # who is compared

    @cached_property
    def opponents(self) -> Flags:
        """The columns that may be compared."""
        numbers = self._where(lambda score: score.mean is not None)
        by_others = numbers.any(0) & (self.reported | ~numbers).all(0)
        flags: Flags = ~by_others & ~self._aside(0, defenses=self.attacks)
        return flags

    @cached_property
    def playing(self) -> Flags:
        """The rows to which some of these columns apply."""
        return _any(self.applies[:, self.opponents], 1)

    @cached_property
    def compared(self) -> Flags:
        """The columns that apply to every row that plays."""
        flags: Flags = self.opponents & self.applies[self.playing].all(0)
        return flags

    @cached_property
    def contenders(self) -> Flags:
        """The rows that are ranked."""
        import numpy as np

        faint = np.array([row in self.faint for row in self.rows])
        by_others = self.reported[:, self.compared].any(1)
        flags: Flags = self.playing & ~by_others & ~faint & ~self._aside(1, defenses=not self.attacks)
        return flags

    def _aside(self, axis: int, *, defenses: bool) -> Flags:
        """The rows or columns that are not compared: an oracle's choice among defenses, clean training among attacks."""
        aside = self._where(lambda score: bool(score.rest) if defenses else score.clean)
        return _any(aside, axis)

    # who is ranked

    def _ranks(self, contenders: Mapping[Labels, RowSummary]) -> dict[Labels, int]:
        """Rank rows by their means, once all of them have a spread."""
        if any(summary.std is None for summary in contenders.values()):
            return {}
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

    def _summary(self, row: Labels, compared: Sequence[Labels]) -> RowSummary:
        means = _seed_means([self.scores[row, column] for column in compared])
        accuracies = self._accuracies(row)
        opponents = set(compress(self.columns, self.opponents))
        worst = self._worst({column: mean for column, mean in accuracies.items() if column in opponents})
        return RowSummary(
            worst=joined(worst),
            worst_case=accuracies.get(worst),
            clean=None if self.attacks else self._clean(row, accuracies),
            over=len(compared),
            mean=fmean(means) if means else None,
            std=stdev(means) if len(means) > 1 else None,
        )

    def _accuracies(self, row: Labels) -> dict[Labels, float]:
        """The numbers of a row that count, by column."""
        counted = [column for column in self.columns if self.scores[row, column].is_ours_and_current]
        return {column: self.scores[row, column].mean or 0.0 for column in counted}

    def _clean(self, row: Labels, accuracies: Mapping[Labels, float]) -> float | None:
        """Of a defense the accuracy on the clean training set."""
        clean = [accuracies[column] for column in accuracies if self.scores[row, column].clean]
        return clean[0] if clean else None

    def _worst(self, accuracies: Mapping[Labels, float]) -> Labels:
        """The column that hurts the row most; () without numbers."""
        extreme = max if self.attacks else min
        return extreme(accuracies, key=lambda column: accuracies[column], default=())


def _any(flags: Flags, axis: int) -> Flags:
    """Whether any of them holds along an axis."""
    import numpy as np

    return np.asarray(flags.any(axis), bool)


class _Ends(NamedTuple):
    """A mean and its spread, the less the better."""

    near: float
    middle: float
    far: float


def _seed_means(scores: Sequence[Score]) -> list[float]:
    """The mean over scores, seed by seed, of the seeds that all have; empty unless all scores are done, and ours."""
    complete = [score.per_seed for score in scores if score.state == "done" and not score.reported]
    if len(complete) < len(scores):
        return []
    return [fmean(numbers) for numbers in by_shared_seed(complete).values()]
