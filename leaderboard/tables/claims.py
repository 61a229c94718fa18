"""What the papers claim with a number, checked against our numbers and against their own: holds, fails, not measured."""

from __future__ import annotations

import fnmatch
import itertools
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from unlearnable_bench import results
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.results import FileError
from unlearnable_bench.results.reference import read_toml
from unlearnable_bench.results.table_file import Axis, ScoreRequest

HOLDS, FAILS, UNMEASURED, DOUBTFUL = "holds", "fails", "not measured", "rests on doubtful values"
VERDICTS = (HOLDS, FAILS, UNMEASURED, DOUBTFUL)
SHOWN = 3  # counterexamples
RELATIONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
Labels = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else tuple(value))]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Places(_Strict):
    """Places of a table by their printed labels; each may be a glob."""

    row: Labels
    column: Labels

    def holds(self, request: ScoreRequest) -> bool:
        return _match(request.row, self.row) and _match(request.column, self.column)


def _match(labels: Sequence[str], globs: Sequence[str]) -> bool:
    return len(labels) == len(globs) and all(map(fnmatch.fnmatchcase, labels, globs))


class Claim(_Strict):
    """`left relation times x right + plus`, for all scores that `left` matches or for at least `count` of them.

    Each score is compared with every other that `right` matches; with `same`, with those that have its label on these axes.
    """

    paper: str
    place: str  # in the paper
    text: str
    table: str
    left: Places
    relation: Literal[">", ">=", "<", "<="]
    right: float | Places
    times: float = 1.0
    plus: float = 0.0
    count: int = 0  # 0: all
    without: tuple[str, ...] = ()  # labels of rows or columns that `left` does not mean
    same: tuple[Axis, ...] = ()  # axes of the table: attack by attack, dataset by dataset

    def is_about(self, request: ScoreRequest) -> bool:
        """Whether it says something about the number at a score."""
        left_out = set(self.without) & {*request.row, *request.column}
        return self.left.holds(request) and not left_out

    def compares_with(self, request: ScoreRequest) -> bool:
        """Whether it may hold a number against the one at a score."""
        return isinstance(self.right, Places) and self.right.holds(request)

    def bound(self, value: float) -> float:
        """What a number is held against, by what stands on the right side."""
        return self.times * value + self.plus


@cache
def claims() -> tuple[Claim, ...]:
    """The claims that come with the program. FileError."""
    path = Path(results.__file__).parent / "claims.toml"
    try:
        return tuple(Claim.model_validate(fields) for fields in read_toml(path)["claim"])
    except ValidationError as error:
        first = error.errors()[0]
        raise FileError(f"{path}: `{'.'.join(map(str, first['loc']))}`: {first['msg']}") from None


# One number beside those that it is compared with


class Bound(NamedTuple):
    """What a number is held against, None where that is not known; and where it comes from, '' for a number of the claim."""

    value: float | None
    source: str = ""

    @property
    def text(self) -> str:
        return f"{self.value:.2f} ({self.source})" if self.source else f"{self.value:.2f}"


@dataclass(frozen=True)
class ClaimComparison:
    """The number of a score, None where it is not known, and all that a claim holds it against."""

    where: str
    value: float | None
    relation: str
    bounds: Sequence[Bound]

    @property
    def holds(self) -> bool | None:
        """Whether the number keeps every bound; None where a missing number decides."""
        outcomes = {self._keeps(bound) for bound in self.bounds}
        if False in outcomes:
            return False
        return True if outcomes == {True} else None

    def _keeps(self, bound: Bound) -> bool | None:
        if self.value is None or bound.value is None:
            return None
        return RELATIONS[self.relation](self.value, bound.value)

    @property
    def text(self) -> str:
        """The number and the first of the bounds that it misses."""
        missed = [bound.text for bound in self.bounds if self._keeps(bound) is False]
        return f"{self.where} {self.value:.2f}, not {self.relation} {missed[0]}"


Number = Callable[[Score], float | None]  # of one side: ours, or what the paper prints


class Verdict(NamedTuple):
    """What follows for a claim; and where it fails, the scores that speak against it, with their numbers."""

    verdict: str
    against: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A claim with the scores that it is about, and those that it compares them with."""

    claim: Claim
    lefts: Sequence[Score]
    rights: Sequence[Score]

    @classmethod
    def of(cls, claim: Claim, table: Table) -> Case:
        scores = [score for score in table.scores.values() if not _is_dash(score)]
        lefts = [score for score in scores if claim.is_about(score.request)]
        return cls(claim, lefts, [score for score in scores if claim.compares_with(score.request)])

    def verdict(self, number: Number) -> Verdict:
        """Judge the numbers of one side. A claim about several scores fails by one that is known, and waits for the others."""
        comparisons = [self._comparison(score, number) for score in self.lefts]
        outcomes = Counter(comparison.holds for comparison in comparisons)
        needed = self.claim.count or len(comparisons)
        if outcomes[True] >= needed:
            return Verdict(HOLDS)
        if outcomes[True] + outcomes[None] >= needed:
            return Verdict(UNMEASURED)
        count = [f"{outcomes[True]} of {len(comparisons)} do"] if self.claim.count else []
        return Verdict(FAILS, (*count, *_counterexamples(comparisons)))

    def _comparison(self, score: Score, number: Number) -> ClaimComparison:
        return ClaimComparison(score.request.where, number(score), self.claim.relation, self._bounds(score, number))

    def _bounds(self, score: Score, number: Number) -> list[Bound]:
        if isinstance(self.claim.right, float):
            return [Bound(self.claim.bound(self.claim.right))]
        return [self._bound(other, number(other)) for other in self.rights if self._is_rival(other, score)]

    def _is_rival(self, other: Score, score: Score) -> bool:
        """Whether two scores are compared: not one with itself, nor those with different labels on the axes of `same`."""
        return other is not score and self._labels(other) == self._labels(score)

    def _labels(self, score: Score) -> list[str]:
        return [score.request.labels[axis] for axis in self.claim.same]

    def _bound(self, other: Score, value: float | None) -> Bound:
        """What follows from the number of another score; that number is named where the bound is another one."""
        if value is None:
            return Bound(None)
        bound = self.claim.bound(value)
        where = other.request.where
        return Bound(bound, where if bound == value else f"from {where}, {value:.2f}")

    @property
    def marks(self) -> tuple[str, ...]:
        """What was measured in the place of something else."""
        marks = [score.marks for score in _measured([*self.lefts, *self.rights])]
        return tuple(dict.fromkeys(itertools.chain.from_iterable(marks)))

    @property
    def measured(self) -> int:
        """How many of the scores that it is about have a number of ours."""
        return len(_measured(self.lefts))


def _measured(scores: Iterable[Score]) -> list[Score]:
    """The scores that have a number of ours."""
    return [score for score in scores if score.measured_here is not None]


def _is_dash(score: Score) -> bool:
    return score.printed is not None and score.printed.text == "-"


def _counterexamples(comparisons: Sequence[ClaimComparison]) -> list[str]:
    against = [comparison.text for comparison in comparisons if comparison.holds is False]
    more = len(against) - SHOWN
    return [*against[:SHOWN], f"and {more} more"] if more > 0 else against


# All claims about some tables


@dataclass(frozen=True)
class CheckedClaim:
    """A claim and whether it holds: in our numbers, and in those that the paper prints."""

    claim: Claim
    ours: str
    printed: str
    over: int  # scores that it is about
    measured: int = 0  # of them with a number of ours
    marks: tuple[str, ...] = ()  # what was measured in the place of something else
    against: tuple[str, ...] = ()  # where ours fail: which scores, with their numbers
    printed_against: tuple[str, ...] = ()  # where those of the paper do

    @property
    def row(self) -> dict[str, Any]:
        """The claim as JSON values; keys are stable."""
        return {
            "paper": self.claim.paper,
            "place": self.claim.place,
            "claim": self.claim.text,
            "table": self.claim.table,
            "verdict": self.ours,
            "printed": self.printed,
            "places": self.over,
            "measured": self.measured,
            "instead": list(self.marks),
            "against": list(self.against),
            "printed_against": list(self.printed_against),
        }


def check_claims(tables: Sequence[Table]) -> list[CheckedClaim]:
    """Check every claim about one of these tables."""
    by_name = {table.name: table for table in tables}
    return [check_claim(claim, by_name[claim.table]) for claim in claims() if claim.table in by_name]


def check_claim(claim: Claim, table: Table) -> CheckedClaim:
    """Check a claim about a table, which is not measured where a selector left out a score that it needs."""
    case = Case.of(claim, table)
    if not case.lefts or _needs_more(claim, table):
        return CheckedClaim(claim, UNMEASURED, UNMEASURED, len(case.lefts))
    ours = case.verdict(lambda score: score.measured_here)
    printed = _published_verdict(case)
    return CheckedClaim(
        claim,
        ours=ours.verdict,
        printed=printed.verdict,
        over=len(case.lefts),
        measured=case.measured,
        marks=case.marks,
        against=ours.against,
        printed_against=printed.against,
    )


def _published_verdict(case: Case) -> Verdict:
    """The verdict on what the paper prints: on values beyond doubt, unless doubtful ones alone decide."""
    verdict = case.verdict(lambda score: score.undoubted)
    if verdict.verdict == UNMEASURED and case.verdict(lambda score: score.published).verdict != UNMEASURED:
        return Verdict(DOUBTFUL)
    return verdict


def _needs_more(claim: Claim, table: Table) -> bool:
    """Whether a selector left out a score that the claim is about: what is left of it is another claim."""
    requests = table.file.requests() if table.file else []
    left_out = [request for request in requests if request.key not in table.scores]
    return any(claim.left.holds(request) or claim.compares_with(request) for request in left_out)


def rows(checked: Sequence[CheckedClaim]) -> list[dict[str, Any]]:
    """Claims as JSON values; keys are stable."""
    return [claim.row for claim in checked]
