"""A badge per method, for the README of its authors: its worst case, and who says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unlearnable_bench.leaderboard.formats.escaping import environment
from unlearnable_bench.leaderboard.formats.svg import LETTER
from unlearnable_bench.leaderboard.pages.cells import file_of
from unlearnable_bench.leaderboard.pages.start import Start
from unlearnable_bench.leaderboard.tables.evidence import Result
from unlearnable_bench.leaderboard.tables.methods import Axis, Method, method_of
from unlearnable_bench.leaderboard.tables.worst_case import MethodOutcomes, PairOutcome, Ranking, is_rival
from unlearnable_bench.registry import resolve
from unlearnable_bench.results.cells import CellMaker

AXES: tuple[Axis, ...] = ("attack", "defense")
PREPOSITION = {"attack": "under", "defense": "against"}
MARGIN = 6  # pixels around a text


@dataclass(frozen=True)
class Badge:
    """The worst case of a method."""

    method: Method
    words: str  # `80.1 % under JPEG 10, published`
    setting: str  # `CIFAR-10 with ResNet-18`
    margin: int = MARGIN

    @property
    def page(self) -> str:
        return file_of(self.method.axis, self.method.name)

    @property
    def file(self) -> str:
        return f"badge/{self.page.removesuffix('.html')}.svg"

    @property
    def name(self) -> str:
        """`LSP ℓ2 1.30`: an attack has its budget."""
        return f"{self.method.label} {self.method.budget_text}".rstrip()

    @property
    def title(self) -> str:
        """What a screen reader says of it."""
        return f"{self.name}: {self.words}, {self.setting}"

    @property
    def left(self) -> int:
        return _width(self.name)

    @property
    def right(self) -> int:
        return _width(self.words)

    @property
    def drawing(self) -> str:
        return environment("html").get_template("badge.svg").render(badge=self)


def badges(start: Start) -> list[Badge]:
    """Return a badge for every entry with a worst case: the published one, else ours."""
    ours = _badges(start.ours, f"{start.dataset_label}, protocol fast", "measured")
    theirs = _badges(start.published, start.name, "published")
    known = {badge.file: badge for badge in [*ours, *theirs]}
    return [known[file] for file in sorted(known)]


def _badges(results: Sequence[Result], setting: str, who: str) -> list[Badge]:
    found = []
    for axis in AXES:
        for row in _best_known(Ranking.of(axis, results).rows):
            worst = row.worst(is_rival)
            if worst is not None:
                found.append(Badge(row.method, _words(axis, *worst, who), setting))
    return found


def _best_known(rows: Iterable[MethodOutcomes]) -> list[MethodOutcomes]:
    """One row for each entry: that of its default parameters, else the one with most outcomes."""
    known: dict[str, MethodOutcomes] = {}
    for row in sorted(rows, key=lambda row: (_is_default(row.method), len(row.outcomes), row.method.label)):
        known[row.method.name] = row
    return list(known.values())


def _is_default(method: Method) -> bool:
    parts = CellMaker(resolve).parts(f"{method.axis}s", method.name)
    return method_of(method.axis, parts) == method


def _words(axis: Axis, rival: Method, outcome: PairOutcome, who: str) -> str:
    return f"{outcome.value:.1f} % {PREPOSITION[axis]} {rival.label}, {who}"


def _width(text: str) -> int:
    """About the width of a text of eleven pixels, with its margins."""
    return round(LETTER * len(text) * 11 / 12) + 2 * MARGIN
