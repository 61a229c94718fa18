"""A table ready to print: scores in rows and columns, what is the same for all of them, and the ranking of its rows."""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

from unlearnable_bench.leaderboard.tables.groups import group_by, known, known_items
from unlearnable_bench.leaderboard.tables.lookup import SeedRun
from unlearnable_bench.leaderboard.tables.ranking import Labels, League, RowSummary, joined
from unlearnable_bench.leaderboard.tables.score import POINT, Score
from unlearnable_bench.leaderboard.tables.settings import SpecDetails
from unlearnable_bench.leaderboard.tables.verdict import explained
from unlearnable_bench.results import TableFile
from unlearnable_bench.results.cell import digest
from unlearnable_bench.results.reference import Key, Printed, Source
from unlearnable_bench.results.spread import Spread

STATES = ("done", "stale", "failed", "not-applicable", "missing")
VIEWS = {"attack": ".defenses", "defense": ".attacks"}  # how the slug of the other view ends, by what the rows are
SLUG = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,58}[a-z0-9_])?")  # a text that names a file as it is
SUBJECT_BY_COLUMNS: Mapping[tuple[str, ...], str] = {("defense",): "attack", ("attack",): "defense"}  # of ranked rows


@dataclass(frozen=True)
class Table:
    """Scores in rows and columns. A table without printed labels has a score for every pair of them."""

    title: str
    note: str
    slug: str  # a-z 0-9 . _ - only: names files and anchors
    row_axes: tuple[str, ...]
    column_axes: tuple[str, ...]
    rows: tuple[Labels, ...]
    columns: tuple[Labels, ...]
    scores: Mapping[Key, Score]
    name: str = ""  # what `bench run --grid` takes; empty where no grid runs it
    fixed: Mapping[str, str] = field(default_factory=dict)  # the axes that are the same for all scores
    settings: Mapping[str, Mapping[str, SpecDetails]] = field(default_factory=dict)  # axis -> text -> what it means
    ranked: Mapping[Literal["attack", "defense"], Sequence[str]] = field(default_factory=dict)  # over which the other is ranked
    ranks: bool = True  # whether its rows have ranks; at toy scale they have none
    least_drop: float = 0.0  # fraction; attacks that undefended cost less have no rank
    file: TableFile | None = None  # that says how it is printed; None for attack x defense as measured
    source: Source | None = None  # the paper whose numbers stand beside
    spread: Mapping[str, Spread] = field(default_factory=dict)  # over seeds, by metric

    @property
    def command(self) -> str:
        """The command that runs what is missing; may be empty."""
        return f"bench run --grid {shlex.quote(self.name)}" if self.name else ""

    @property
    def paper(self) -> str:
        """The folder of its paper under `results/papers`; '' for a table of our own."""
        return self.file.paper if self.file else ""

    @property
    def heading(self) -> str:
        """The table as a reader of its paper would look for it."""
        return f"{self.source.short}, table {self.file.table}" if self.source and self.file else self.title

    @property
    def row_texts(self) -> list[str]:
        """The labels of every row as one text."""
        return [joined(row) for row in self.rows]

    @property
    def column_texts(self) -> list[str]:
        return [joined(column) for column in self.columns]

    # its scores

    @cached_property
    def in_order(self) -> list[Score]:
        """The scores row by row."""
        return [self.scores[key] for key in itertools.product(self.rows, self.columns) if key in self.scores]

    @cached_property
    def direct(self) -> list[Score]:
        """The scores that are measured, aggregates left out."""
        return [score for score in self.scores.values() if score.request.runs]

    @cached_property
    def compared(self) -> list[Score]:
        """Those of these that a paper prints a number for."""
        return [score for score in self.direct if score.published is not None]

    @cached_property
    def measured(self) -> int:
        """How many of these have a number."""
        return len(known(score.mean for score in self.direct))

    @cached_property
    def coverage(self) -> dict[str, int]:
        """Number of cells (every seed counts) and how many of them are in each state."""
        states = {run.id: str(run.state) for run in self._runs}
        count = Counter(states.values())
        return {"cells": count.total()} | {state: count[state] for state in STATES}

    @cached_property
    def shown(self) -> set[str]:
        """The ids of all cells of the table."""
        return {run.id for run in self._runs}

    @property
    def _runs(self) -> Iterator[SeedRun]:
        return itertools.chain.from_iterable(score.every for score in self.scores.values())

    @cached_property
    def seeds(self) -> int:
        """The usual number of seeds behind a number, 0 for a table without numbers."""
        count = Counter(score.n for score in self.scores.values() if score.n)
        return max(count, key=lambda n: (count[n], n), default=0)

    @cached_property
    def top(self) -> float:
        """Where colors end, see `ceiling`: by clean training in it, else by clean training in the same settings."""
        clean = known(score.accuracy for score in self.direct if score.clean)
        references = known(score.reference for score in self.direct)
        return ceiling(clean or references)

    @cached_property
    def precisions(self) -> dict[str, int]:
        """How many trainings behind the numbers were in fp32, how many in bf16."""
        records = itertools.chain.from_iterable(score.used for score in self.scores.values())
        count = Counter(str(record.numerics.get("dtype", "unknown")) for record in records)
        return dict(sorted(count.items()))

    # attacks against defenses

    @property
    def subject(self) -> str:
        """What the rows are, where they can be ranked: attack or defense, the columns being the other; else ''."""
        subject = SUBJECT_BY_COLUMNS.get(self.column_axes, "")
        return subject if subject in self.row_axes else ""

    @property
    def other(self) -> str:
        """What the slug of the same scores seen from the other side ends in; '' where there is no such side."""
        return VIEWS[self.subject] if self.row_axes == (self.subject,) else ""

    @cached_property
    def ranking(self) -> dict[Labels, RowSummary]:
        """One per row, without a rank where the table gives none; empty where `subject` is, and for one column alone.

        Rows of two settings never meet in a ranking.
        """
        if not self.subject or len(self.columns) < 2:
            return {}
        summaries: dict[Labels, RowSummary] = {}
        for rows in group_by(self.rows, self._setting).values():
            summaries |= League(self.scores, rows, self.columns, self.subject == "attack", self.faint).ranking()
        if not self.ranks:
            summaries = {row: replace(summary, rank=None) for row, summary in summaries.items()}
        return {row: summaries[row] for row in self.rows}

    def _setting(self, row: Labels) -> tuple[str, ...]:
        """What the rows of a league share."""
        point = self.scores[row, self.columns[0]].point
        return tuple(point[axis] for axis in self.row_axes if axis != self.subject)

    def is_worst(self, row: Labels, column: Labels) -> bool:
        """Whether a score is the worst case of its row: an attack's best defense, a defense's strongest attack."""
        summary = self.ranking.get(row)
        return summary is not None and summary.worst == joined(column) and not self.scores[row, column].clean

    @cached_property
    def faint(self) -> dict[Labels, float]:
        """The attacks among the rows whose drop undefended, a fraction, is below what the table can measure."""
        if self.subject != "attack":
            return {}
        return {row: drop for row, drop in self._undefended.items() if drop < self.least_drop}

    @property
    def _undefended(self) -> dict[Labels, float]:
        """The drops without defense that are known."""
        return known_items({row: score.drop for (row, _), score in self.scores.items() if score.point["defense"] == "none"})

    def transposed(self) -> Table:
        """The same scores with rows and columns changed over: the defender's view of an attacker's table, or the reverse."""
        return replace(
            self,
            slug=f"{self.slug}{self.other}",
            row_axes=self.column_axes,
            column_axes=self.row_axes,
            rows=self.columns,
            columns=self.rows,
            scores={(column, row): _turned(score) for (row, column), score in self.scores.items()},
        )

    # beside what is published

    @cached_property
    def published_values(self) -> list[Printed]:
        """What a paper prints in it, score by score."""
        return known(score.printed for score in self.scores.values())

    @cached_property
    def doubts(self) -> dict[str, Printed]:
        """The marks of published values that are not taken at face value, each with why."""
        return {value.mark: value for value in self.published_values if value.mark}

    @cached_property
    def verdicts(self) -> Counter[str]:
        """How many numbers have which verdict."""
        return Counter(score.verdict for score in self.direct)

    @property
    def tolerances(self) -> list[str]:
        """How the verdicts were reached, a sentence per metric."""
        return [explained(metric, spread) for metric, spread in self.spread.items()]


def _turned(score: Score) -> Score:
    return replace(score, request=replace(score.request, row=score.request.column, column=score.request.row))


def slug_of(name: str) -> str:
    """Return the slug of a grid."""
    return slugged(Path(name).stem if name.endswith(".toml") else name.replace("/", "."))


@lru_cache(4096)
def slugged(text: str) -> str:
    """Return a file name's stem, a-z 0-9 . _ - only, that differs for different texts: 8 hex digits stand for what is lost."""
    if SLUG.fullmatch(text):
        return text
    kept = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-.")
    return f"{kept[:50].strip('-.')}-{digest(text, 8)}".strip("-")


def distinct(tables: Sequence[Table], taken: Iterable[str] = ("index",)) -> list[Table]:
    """Give tables of one slug, or of one that is `taken`, different ones: they name files."""
    used = set(taken)
    named = []
    for table in tables:
        slug, again = table.slug, 1
        while slug in used:
            again += 1
            slug = f"{table.slug}-{again}"
        used.add(slug)
        named.append(replace(table, slug=slug))
    return named


def ceiling(clean: Sequence[float]) -> float:
    """Where colors end: the best accuracy of clean training, up to the next tenth; 1.0 where nothing clean is measured."""
    return max(1, math.ceil(10 * max(clean, default=1.0))) / 10


def axis_values(scores: Iterable[Score]) -> dict[str, list[str]]:
    """The values of every axis, in the order of the scores."""
    points = [score.point for score in scores]
    return {axis: list(dict.fromkeys(point[axis] for point in points)) for axis in POINT}
