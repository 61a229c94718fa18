"""What the lists of entries and the pages of entries get."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from unlearnable_bench.leaderboard.formats import figures
from unlearnable_bench.leaderboard.formats.figures import Line, Pair
from unlearnable_bench.leaderboard.formats.words import change, note, number
from unlearnable_bench.leaderboard.pages.cells import ScoredCell, file_of, setting_in_words, tint
from unlearnable_bench.leaderboard.pages.methods import display_name_of, idea_of, tags_of
from unlearnable_bench.leaderboard.tables.naming import labels_of
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.registry.entry import Entry
from unlearnable_bench.registry.spec import write_spec, write_value

if TYPE_CHECKING:
    from markupsafe import Markup

OTHER = {"attack": "defense", "defense": "attack"}
LABELED = ("attack", "defense", "architecture", "protocol", "dataset")  # axes whose values are entries
MOST_LINES = figures.COLORS + 5  # of one figure


@dataclass(frozen=True)
class EntryRow:
    """A row of the list of entries."""

    entry: Entry
    idea: str  # its first line, which spells a short name out
    measured: Sequence[ScoredCell]  # here, by today's versions

    @classmethod
    def of(cls, entry: Entry, cells: Iterable[ScoredCell]) -> EntryRow:
        idea = idea_of(entry).partition("\n")[0]
        return cls(entry, idea, [cell for cell in cells if cell.score.is_ours_and_current])

    @property
    def name(self) -> str:
        return display_name_of(self.entry)

    @property
    def file(self) -> str:
        return file_of(self.entry.kind[:-1], self.entry.name)

    @property
    def cells(self) -> int:
        return len(self.measured)

    @property
    def settings(self) -> int:
        return len({cell.setting for cell in self.measured})

    @property
    def tags(self) -> list[str]:
        """When a defense acts, and what it needs."""
        return tags_of([self.entry]) if self.entry.kind == "defenses" else []


@dataclass(frozen=True)
class CellRow:
    """A row of the table of an entry's measured results."""

    cell: ScoredCell
    number: str
    change: str
    heat: int | None
    note: str

    @classmethod
    def of(cls, cell: ScoredCell) -> CellRow:
        score = cell.score
        return cls(cell, number(score), change(score), tint(score, cell.table), note(score, score.n))

    @property
    def axes(self) -> Mapping[str, str]:
        return self.cell.score.point


# What papers print


@dataclass(frozen=True)
class PublishedRow:
    """A published result of any kind that an entry has a part in."""

    table: Table
    score: Score

    @property
    def axes(self) -> Mapping[str, str]:
        return self.score.point

    @property
    def href(self) -> str:
        return f"{self.table.slug}.html"

    @property
    def text(self) -> str:
        """The value as the paper prints it."""
        return self.score.printed.text if self.score.printed else f"{self.score.published:g}"

    @property
    def measure(self) -> str:
        """What was measured, and its unit."""
        metric = self.score.request.metric.replace("test_acc", "test accuracy")
        return f"{metric}, {self.score.unit}" if self.score.unit else metric

    @property
    def names(self) -> set[tuple[str, str]]:
        """The attacks and defenses that were run for it, each with its kind."""
        cell = self.score.runs[0].cell
        return {("attack", part.name) for part in cell.attack} | {("defense", part.name) for part in cell.defense}


PublishedIndex = Mapping[tuple[str, str], Sequence[PublishedRow]]  # by kind and name of an entry


def published_index(tables: Iterable[Table]) -> PublishedIndex:
    """Return all results that papers print, by the attacks and defenses that have a part in them."""
    index: dict[tuple[str, str], list[PublishedRow]] = defaultdict(list)
    for row in _published_rows(tables):
        for entry in row.names:
            index[entry].append(row)
    return index


def _published_rows(tables: Iterable[Table]) -> list[PublishedRow]:
    rows = []
    for table in tables:
        if table.source:
            rows += [PublishedRow(table, score) for score in table.compared if score.runs]
    return rows


class Labels:
    """What readers call the specs in some rows, by axis."""

    def __init__(self, rows: Iterable[CellRow | PublishedRow], axes: Iterable[str]) -> None:
        points = [row.axes for row in rows]
        self._by_axis = {axis: labels_of(axis, [point[axis] for point in points]) for axis in axes if axis in LABELED}

    def of(self, axis: str, text: str) -> str:
        """Return the label of a spec; a ratio stays as it is."""
        return self._by_axis.get(axis, {}).get(text, text)


# Figures


class Drawing(NamedTuple):
    """A figure and what is above it."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class Plot:
    """A figure of an entry, and its file without the ending."""

    title: str
    svg: Markup
    file: str


def plots(kind: str, name: str, cells: Sequence[ScoredCell]) -> list[Plot]:
    """The curves of an entry: accuracy per epoch in its first table, accuracy over the radius, over the protection ratio."""
    ours = [cell for cell in cells if not cell.score.reported]  # in a picture no mark would say whose a number is
    drawings = _per_epoch(ours, OTHER[kind]) if kind in OTHER else []
    if kind == "attack":
        drawings += _sweeps(ours, RADIUS) + _sweeps(ours, RATIO)
    stem = file_of(kind, name).removesuffix(".html")
    return [Plot(title, svg, f"{stem}.curve-{number}") for number, (title, svg) in enumerate(drawings, 1)]


def _per_epoch(cells: Sequence[ScoredCell], other: str) -> list[Drawing]:
    """The mean curve with each method of the other side; the lowest where these are too many."""
    first = [cell for cell in cells if cell.table is cells[0].table and cell.score.current]
    curves = {cell.score.point[other]: _mean_curve(cell.score) for cell in first}
    names = labels_of(other, curves)
    plain = names.get("none")
    lines = [Line(names[text], curve) for text, curve in curves.items() if len(curve) > 1]
    if not lines:
        return []
    lines.sort(key=lambda line: (line.name != plain, line.points[-1][1]))
    title = f"Test accuracy per epoch, {setting_in_words(cells[0].score.point)}"
    return [Drawing(title, figures.lines(title, "epoch", lines[:MOST_LINES]))]


def _mean_curve(score: Score) -> list[Pair]:
    """The mean over seeds, epoch by epoch."""
    curves = [record.metrics.curve for record in score.used if record.metrics]
    if not curves:
        return []
    means = map(fmean, zip(*(curve.test_acc for curve in curves), strict=False))
    return list(zip(map(float, curves[0].judged), means, strict=False))


class Alike(NamedTuple):
    """What the cells of one figure have in common."""

    attack: str
    setting: str


@dataclass(frozen=True)
class Sweep:
    """Something that the accuracies of an attack are drawn over, all else being the same."""

    words: str
    across: str  # as its axis says
    value: Callable[[ScoredCell], object]
    rest: Callable[[ScoredCell], Alike]


def _radius(cell: ScoredCell) -> object:
    return cell.score.runs[0].cell.attack[0].fields.get("epsilon")


def _without_radius(cell: ScoredCell) -> Alike:
    attack = cell.score.runs[0].cell.attack[0]
    fields = {name: value for name, value in attack.fields.items() if name != "epsilon"}
    return Alike(write_spec(attack.name, fields), setting_in_words(cell.score.point))


def _ratio(cell: ScoredCell) -> object:
    return cell.score.runs[0].cell.ratio


def _without_ratio(cell: ScoredCell) -> Alike:
    return Alike(cell.score.point["attack"], setting_in_words({**cell.score.point, "ratio": "1"}))


RADIUS = Sweep("the radius", "radius epsilon", _radius, _without_radius)
RATIO = Sweep("the protection ratio", "share of the training images that is poisoned", _ratio, _without_ratio)


class MeanAccuracy(NamedTuple):
    """An accuracy over seeds."""

    mean: float
    std: float


Curves = dict[str, dict[float, MeanAccuracy]]  # defense -> what is swept -> accuracy


def _sweeps(cells: Iterable[ScoredCell], sweep: Sweep) -> list[Drawing]:
    """One figure per setting, one line per defense, from clean training on where that is known."""
    groups: dict[Alike, Curves] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        across = sweep.value(cell)
        if isinstance(across, int | float) and cell.score.mean is not None and _is_single(cell):
            _add_point(groups[sweep.rest(cell)][cell.score.point["defense"]], float(across), cell.score)
    drawings = []
    for alike, curves in groups.items():
        lines = _sweep_lines(curves)
        if lines:
            (name,) = labels_of("attack", [alike.attack]).values()
            title = f"Accuracy over {sweep.words}: {name}, {alike.setting}"
            drawings.append(Drawing(title, figures.lines(title, sweep.across, lines[:MOST_LINES], _ticks(lines))))
    return drawings


def _is_single(cell: ScoredCell) -> bool:
    return len(cell.score.runs[0].cell.attack) == 1


def _add_point(points: dict[float, MeanAccuracy], across: float, score: Score) -> None:
    assert score.mean is not None
    points[across] = MeanAccuracy(score.mean, score.std or 0.0)
    if score.reference is not None:  # nothing added, nobody poisoned: clean training with the same defense
        points.setdefault(0.0, MeanAccuracy(score.reference, 0.0))


def _sweep_lines(curves: Curves) -> list[Line]:
    """The curves that have two points beside clean training."""
    names = labels_of("defense", curves)
    lines = []
    for defense, points in curves.items():
        if len(points) > 1 + (0.0 in points):
            ordered = sorted(points.items())
            means = [(across, measured.mean) for across, measured in ordered]
            lines.append(Line(names[defense], means, [measured.std for _, measured in ordered]))
    return lines


def _ticks(lines: Iterable[Line]) -> list[tuple[float, str]]:
    """Marks below, where any line has a point."""
    values = sorted({across for line in lines for across, _ in line.points})
    return [(across, write_value(across)) for across in values]
