"""The curves of a table's records as figures: values per epoch, or of what an analysis counts; where its file says so."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING

from unlearnable_bench.leaderboard.formats import figures
from unlearnable_bench.leaderboard.formats.figures import Line
from unlearnable_bench.leaderboard.tables.groups import first_of_each, group_by
from unlearnable_bench.results import Record
from unlearnable_bench.results.record import Metrics
from unlearnable_bench.results.reference import Key, Labels

if TYPE_CHECKING:
    from markupsafe import Markup

    from unlearnable_bench.leaderboard.tables.score import Score
    from unlearnable_bench.leaderboard.tables.table import Table

NAMES = {
    "test_acc": "test accuracy",
    "train_acc": "training accuracy",
    "acm": "activation cluster measure",
    "extent": "extent of the embedding",
    "gradient": "mean absolute gradient",
}
EPOCH, CHANNEL, NUMBER = "epoch", "channel", "number"  # what values are counted by
PICTURE = re.compile(r"[xy](_\d+)?|label|picture_epoch")  # curves that are points of a picture, or say when it was made
LONGEST = 20  # letters of a line's name


PlaceRecords = Mapping[Key, Sequence[Record]]
"""The records of scores, one per seed."""


def curve_figures(table: Table) -> list[CurveFigure]:
    """Return the figures of a table: one per kind of curve, or several where one would have more lines than colors."""
    if not asks_for_curves(table):
        return []
    records = {score.request.key: score.used for score in drawn_scores(table)}
    names = itertools.chain.from_iterable(curves_of(of_seeds[0]) for of_seeds in records.values())
    return list(itertools.chain.from_iterable(_figures(name, records) for name in dict.fromkeys(names)))


def asks_for_curves(table: Table) -> bool:
    """Whether the table's file asks for all curves of its records."""
    return table.file is not None and table.file.curves


def drawn_scores(table: Table) -> list[Score]:
    """The scores that were measured here; of those that share a record the first."""
    measured = [score for score in table.scores.values() if score.used and not score.reported]
    return first_of_each(measured, lambda score: score.records[0])


def curves_of(record: Record) -> dict[str, Sequence[float]]:
    """The curves of a record by name, points of pictures apart."""
    metrics = metrics_of(record)
    accuracies = {"test_acc": metrics.curve.test_acc, "train_acc": metrics.curve.train_acc}
    of_analysis = {name: values for name, values in metrics.curves.items() if not PICTURE.fullmatch(name)}
    return {name: values for name, values in (accuracies | of_analysis).items() if len(values) > 1}


def metrics_of(record: Record) -> Metrics:
    """The numbers of a record that a score rests on."""
    assert record.metrics is not None, "a score rests on records with numbers"
    return record.metrics


# One figure


@dataclass(frozen=True)
class CurveFigure:
    """The curves of one name, of some scores of a table."""

    name: str
    row: Labels  # what the rows of these scores share
    records: PlaceRecords

    @cached_property
    def some(self) -> Record:
        """The record that stands for all where they are alike."""
        return next(iter(self.records.values()))[0]

    @cached_property
    def judged(self) -> Sequence[int]:
        """The epochs at which the test accuracy was measured."""
        return list(metrics_of(self.some).curve.judged) if self.name == "test_acc" else []

    @property
    def epochs(self) -> int:
        """How many values a curve over epochs has."""
        return len(self.judged or metrics_of(self.some).curve.train_acc)

    @property
    def is_pictured(self) -> bool:
        """Whether it has a value per picture, which was made at some epochs."""
        return self.name.startswith("picture_")

    @cached_property
    def across(self) -> str:
        """What the values are counted by."""
        if self.is_pictured:
            return EPOCH
        if self.name.startswith("layer_"):
            return CHANNEL
        return EPOCH if len(curves_of(self.some)[self.name]) == self.epochs else NUMBER

    @cached_property
    def svg(self) -> Markup:
        names = self._names()
        lines = [self._line(names[key], records) for key, records in self.records.items()]
        up = self._quantity()
        if self.name.endswith("_acc"):
            return figures.lines(self.title, self.across, lines, up=f"{up}, %")
        return figures.series(self.title, self.across, up, lines, last=self.across == EPOCH)

    @cached_property
    def title(self) -> str:
        quantity = self._quantity()
        row = f"{' / '.join(self.row)}, " if self.row else ""
        return f"{quantity[0].upper()}{quantity[1:]} by {self.across}, {row}{self._seeds()}"

    def _quantity(self) -> str:
        """What the values are, in words."""
        word = self.name.removeprefix("picture_")
        return NAMES.get(word, word.replace("_", " ").replace("layer", "mean activation of layer"))

    def _seeds(self) -> str:
        most = max(map(len, self.records.values()))
        return "mean over seeds" if most > 1 and self.across == EPOCH else f"seed {self.some.cell.seed}"

    def _line(self, name: str, records: Sequence[Record]) -> Line:
        of_seeds = [curves_of(record).get(self.name, ()) for record in records]
        values = _mean(of_seeds) if self.across == EPOCH else of_seeds[0]  # channels of several seeds do not go together
        return Line(name, list(zip(self._steps(records[0], len(values)), values, strict=False)))

    def _steps(self, record: Record, count: int) -> list[float]:
        """Where the values stand."""
        if self.is_pictured:
            return [float(epoch) for epoch in metrics_of(record).curves.get("picture_epoch", ())]
        return [float(step) for step in self.judged or range(1, count + 1)]

    def _names(self) -> dict[Key, str]:
        """What tells the scores apart, short."""
        labels = {key: (*key[0], *key[1]) for key in self.records}
        levels = [level for level, texts in enumerate(zip(*labels.values(), strict=True)) if len(set(texts)) > 1]
        return {key: figures.shortened(_name(texts, levels), LONGEST) for key, texts in labels.items()}


def _name(texts: Labels, levels: Sequence[int]) -> str:
    """The labels at some levels; the last one where there are none."""
    return " / ".join([texts[level] for level in levels]) or texts[-1]


def _mean(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean of curves, value by value, over those that have one."""
    known = [curve for curve in curves if curve]
    return [fmean(values) for values in zip(*known, strict=False)]


def _figures(name: str, records: PlaceRecords) -> list[CurveFigure]:
    """The figures of all curves of a name: grouped by as few labels of rows as leave none with more lines than colors."""
    holders = {key: of_seeds for key, of_seeds in records.items() if name in curves_of(of_seeds[0])}
    depth = _depth(holders)
    rows = group_by(holders, lambda key: key[0][:depth])
    return [CurveFigure(name, row, {key: holders[key] for key in keys}) for row, keys in rows.items()]


def _depth(holders: PlaceRecords) -> int:
    """By how many labels of their rows scores are grouped."""
    deepest = len(next(iter(holders))[0])
    for depth in range(deepest):
        if _most_lines(holders, depth) <= figures.COLORS:
            return depth
    return deepest


def _most_lines(holders: PlaceRecords, depth: int) -> int:
    """How many lines a figure has at most, if the scores are grouped by so many labels of their rows."""
    return max(Counter(row[:depth] for row, _ in holders).values())
