"""What the papers claim with a number, checked against our numbers and against their own: holds, fails, not measured."""

from __future__ import annotations

import fnmatch
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

import results
from leaderboard.tables.score import Score
from leaderboard.tables.table import Table
from results import FileError
from results.reference import read_toml
from results.table_file import Axis, Place

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

    def holds(self, place: Place) -> bool:
        return all(
            len(globs) == len(labels) and all(map(fnmatch.fnmatchcase, labels, globs))
            for labels, globs in zip(place.key, (self.row, self.column), strict=True)
        )


class Claim(_Strict):
    """`left relation times x right + plus`, for all places that `left` matches or for at least `count` of them.

    Each place is compared with every other that `right` matches; with `same`, with those that have its label on these axes.
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


@dataclass(frozen=True)
class Checked:
    """A claim with what became of it: in our numbers, and in those that the paper prints."""

    claim: Claim
    ours: str
    printed: str
    over: int  # places that it is about
    measured: int  # of them with a number of ours
    marks: tuple[str, ...] = ()  # what was measured in the place of something else
    against: tuple[str, ...] = ()  # where ours fail: which places, with their numbers
    printed_against: tuple[str, ...] = ()  # where those of the paper do


@dataclass(frozen=True)
class Compared:
    """A place beside what it is compared with, in the numbers of one side; None where a number is missing."""

    score: Score
    value: float | None
    bounds: Sequence[tuple[str, float | None]]  # each with the place that it comes from; '' for a number of the claim

    def holds(self, relation: Callable[[float, float], bool]) -> bool | None:
        known = [relation(self.value, bound) for _, bound in self.bounds if self.value is not None and bound is not None]
        if not all(known):
            return False
        return True if self.bounds and len(known) == len(self.bounds) else None

    def against(self, claim: Claim) -> str:
        """The first bound that it misses, in words."""
        relation = RELATIONS[claim.relation]
        for where, bound in self.bounds:
            if self.value is not None and bound is not None and not relation(self.value, bound):
                return f"{_named(self.score)} {self.value:.2f}, not {claim.relation} {bound:.2f}{where and f' ({where})'}"
        return ""


@cache
def claims() -> tuple[Claim, ...]:
    """The claims that come with the program. FileError."""
    path = Path(results.__file__).parent / "claims.toml"
    try:
        return tuple(Claim.model_validate(one) for one in read_toml(path)["claim"])
    except ValidationError as error:
        first = error.errors()[0]
        raise FileError(f"{path}: `{'.'.join(map(str, first['loc']))}`: {first['msg']}") from None


def checked(tables: Sequence[Table]) -> list[Checked]:
    """Check every claim about one of these tables."""
    by_name = {table.name: table for table in tables}
    return [_checked(claim, by_name[claim.table]) for claim in claims() if claim.table in by_name]


def _checked(claim: Claim, table: Table) -> Checked:
    scores = [score for score in table.scores.values() if not _is_dash(score)]
    lefts = [s for s in scores if claim.left.holds(s.place) and not set(claim.without) & {*s.place.row, *s.place.column}]
    rights = [s for s in scores if isinstance(claim.right, Places) and claim.right.holds(s.place)]
    if not lefts or _cut(claim, table):
        return Checked(claim, UNMEASURED, UNMEASURED, len(lefts), 0)
    ours, against = _verdict(claim, lefts, rights, lambda score: score.own)
    printed, printed_against = _verdict(claim, lefts, rights, lambda score: score.undoubted)
    if printed == UNMEASURED and _verdict(claim, lefts, rights, lambda score: score.published)[0] != UNMEASURED:
        printed = DOUBTFUL
    marks = tuple(dict.fromkeys(mark for score in lefts + rights if score.own is not None for mark in score.marks))
    measured = sum(score.own is not None for score in lefts)
    return Checked(claim, ours, printed, len(lefts), measured, marks, against, printed_against)


def _is_dash(score: Score) -> bool:
    return score.printed is not None and score.printed.text == "-"


def _cut(claim: Claim, table: Table) -> bool:
    """Whether a selector left out a place that the claim is about: what is left of it is another claim."""
    sides = [side for side in (claim.left, claim.right) if isinstance(side, Places)]
    places = table.file.places() if table.file else []
    gone = [place for place in places if place.key not in table.scores]
    return any(side.holds(place) for place in gone for side in sides)


def _verdict(
    claim: Claim, lefts: Sequence[Score], rights: Sequence[Score], number: Callable[[Score], float | None]
) -> tuple[str, tuple[str, ...]]:
    """Three values: a claim about several places fails by one that is known, and waits for those that are not.

    With the places that speak against it, where it fails.
    """
    compared = [_compared(claim, score, rights, number) for score in lefts]
    found = [one.holds(RELATIONS[claim.relation]) for one in compared]
    wanted = claim.count or len(found)
    if found.count(True) >= wanted:
        return HOLDS, ()
    if found.count(True) + found.count(None) >= wanted:
        return UNMEASURED, ()
    against = [one.against(claim) for one, holds in zip(compared, found, strict=True) if holds is False]
    shown = against[:SHOWN] + ([f"and {len(against) - SHOWN} more"] if len(against) > SHOWN else [])
    how_many = [f"{found.count(True)} of {len(found)} do"] if claim.count else []
    return FAILS, (*how_many, *shown)


def _compared(claim: Claim, score: Score, rights: Sequence[Score], number: Callable[[Score], float | None]) -> Compared:
    if isinstance(claim.right, float):
        return Compared(score, number(score), [("", claim.times * claim.right + claim.plus)])
    beside = [other for other in rights if other is not score and _along(claim.same, other) == _along(claim.same, score)]
    return Compared(score, number(score), [_bound(claim, other, number(other)) for other in beside])


def _bound(claim: Claim, other: Score, value: float | None) -> tuple[str, float | None]:
    """Where a bound comes from, with the number there if it is another one; and the bound."""
    if value is None:
        return _named(other), None
    bound = claim.times * value + claim.plus
    return (_named(other) if bound == value else f"from {_named(other)}, {value:.2f}"), bound


def _named(score: Score) -> str:
    return " / ".join((*score.place.row, *score.place.column))


def _along(axes: Sequence[str], score: Score) -> list[str]:
    """The labels of a place on some axes of its table."""
    return [score.place.labels[axis] for axis in axes]


def rows(found: Sequence[Checked]) -> list[dict[str, Any]]:
    """Claims as JSON values; keys are stable."""
    return [
        {
            "paper": one.claim.paper,
            "place": one.claim.place,
            "claim": one.claim.text,
            "table": one.claim.table,
            "verdict": one.ours,
            "printed": one.printed,
            "places": one.over,
            "measured": one.measured,
            "instead": list(one.marks),
            "against": list(one.against),
            "printed_against": list(one.printed_against),
        }
        for one in found
    ]


def text(found: Sequence[Checked]) -> str:
    """Claims for a terminal, one a line: in our numbers, in those that the paper itself prints, the claim."""
    if not found:
        return "none of the claims is about these tables"
    width = max(map(len, (UNMEASURED, *(one.printed for one in found))))
    lines = [f"{'ours':{width}}  {'printed':{width}}  claim"]
    for one in found:
        part = f"{one.measured} of {one.over} places measured" if 0 < one.measured < one.over else ""
        where = "; ".join(filter(None, (f"{one.claim.table}, {one.claim.place}", part, ", ".join(one.marks))))
        lines.append(f"{one.ours:{width}}  {one.printed:{width}}  {one.claim.text} ({where})")
        sides = (("ours", one.against), ("printed", one.printed_against))
        lines += [f"{'':{2 * width + 4}}{side}: {'; '.join(against)}" for side, against in sides if against]
    count = {verdict: sum(one.ours == verdict for one in found) for verdict in VERDICTS}
    own = {verdict: sum(one.printed == verdict for one in found) for verdict in VERDICTS}
    lines.append("")
    lines += [
        f"{whose}: {several[HOLDS]} hold, {several[FAILS]} fail, {several[UNMEASURED] + several[DOUBTFUL]} {rest}"
        for whose, several, rest in (
            ("in our numbers", count, "not measured"),
            ("in the numbers that the papers print", own, "not printed beyond doubt"),
        )
    ]
    return "\n".join(lines)
