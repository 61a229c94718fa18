"""Figures as SVG: lines, a scatter plot, a heat map. Colors are classes, so that a page's style sheet or the one that
`standalone` puts inside decides between light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from unlearnable_bench.leaderboard.formats import svg
from unlearnable_bench.leaderboard.formats.escaping import DASH, asset, percent
from unlearnable_bench.leaderboard.formats.labels import LabelColumn, along, free_box
from unlearnable_bench.leaderboard.formats.svg import LINE, Box, Position

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, SQUARE, WIDE, HEIGHT = 640, 480, 960, 300  # units of every chart; a scatter plot has its names inside
LEFT, RIGHT, TOP, BOTTOM = 46, 190, 12, 40  # margins; the names of lines stand at the right
EDGE = WIDTH - RIGHT  # where lines end
UP = "test accuracy, %"
PLANE = 500  # side of the square in which two accuracies face each other
COLORS = 7  # series in different colors; each has its own dashes too
FEW_POINTS = 12  # of a line, each of which gets a dot
TILE_WIDTH, TILE_HEIGHT = 54, 22
ROW_LETTERS, COLUMN_LETTERS = 40, 34  # of names beside a heat map

Pair = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A named line through points; `bars` are standard deviations, where known."""

    name: str
    points: Sequence[Pair]
    bars: Sequence[float] = ()


def standalone(drawing: str) -> str:
    """Return a figure as a file of its own, with its colors inside, light and dark."""
    drawing = str(drawing)  # no Markup, which would escape what is added
    start = drawing.index(">") + 1
    head = drawing[:start].replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12"', 1)
    return f"{head}<style>{asset('figure.css')}</style>{drawing[start:]}\n"


def shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


# Lines


@dataclass(frozen=True)
class Plane:
    """Where values stand in a chart of lines."""

    low: float  # at the left
    high: float  # at the right
    down: Callable[[float], float]  # from a value to its distance from the top

    def place(self, pair: Pair) -> Position:
        share = (pair[0] - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return Position(LEFT + share * (EDGE - LEFT), self.down(pair[1]))

    def tick(self, across: float, text: str) -> str:
        """A mark below."""
        return _tick(self.place((across, 0)).x, text)


def lines(
    title: str, across: str, several: Sequence[Line], ticks: Sequence[tuple[float, str]] = (), up: str = UP, dots: bool = True
) -> Markup:
    """Accuracies (fractions) over something. `ticks` are marks below; by default seven whole numbers at most."""
    pairs = _pairs(several)
    most = _top([y for _, y in pairs])
    plane = _plane(pairs, partial(_down, top=most))
    parts = [_accuracy_axis(up, most, EDGE)]
    parts += [plane.tick(x, text) for x, text in ticks or _whole(plane.low, plane.high)]
    parts.append(_across(across, EDGE))
    for number, line in enumerate(several):
        parts += _bars(line, number, plane, most)
    parts += _strokes(several, plane, percent, dots)
    return svg.document(title, parts, WIDTH, HEIGHT)


def series(title: str, across: str, up: str, several: Sequence[Line], last: bool = True) -> Markup:
    """Values of any unit and sign over something; where all are small or large the axis says by which power of ten.

    With `last` the name of a line has its last value beside it.
    """
    pairs = _pairs(several)
    marks = Marks.of([y for _, y in pairs])
    plane = _plane(pairs, marks.down)
    parts = []
    for mark in range(marks.first, marks.final + 1):
        at = _down(marks.share(mark))
        parts.append(svg.horizontal_rule(LEFT, at, EDGE))
        parts.append(svg.text(Position(LEFT - 6, at + 4), f"{mark * marks.step:.4g}", "tick end"))
    label = f"{up}, 1e{marks.power}" if marks.power else up
    parts.append(svg.upward(Position(11, HEIGHT / 2 - 14), label))
    parts += [plane.tick(x, text) for x, text in _whole(plane.low, plane.high)]
    parts.append(_across(across, EDGE))
    parts += _strokes(several, plane, marks.written if last else _nothing, dots=True)
    return svg.document(title, parts, WIDTH, HEIGHT)


class Marks(NamedTuple):
    """The marks of an axis that goes from below all values, or 0, to above them, or 0."""

    power: int  # of ten, by which the axis is divided
    step: float  # from mark to mark, in units of that power
    first: int  # number of the lowest mark
    final: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Marks:
        largest = max(map(abs, values)) or 1.0
        power = math.floor(math.log10(largest))
        power = 0 if -1 <= power <= 2 else power
        least, most = min(0.0, *values) / 10.0**power, max(0.0, *values) / 10.0**power
        step = _step((most - least) / 6 or 1.0)
        first = math.floor(least / step)
        return cls(power, step, first, max(math.ceil(most / step), first + 1))

    def share(self, mark: float) -> float:
        """Where a mark is between the lowest and the highest, 0 to 1."""
        return (mark - self.first) / (self.final - self.first)

    def down(self, value: float) -> float:
        return _down(self.share(value / 10.0**self.power / self.step))

    def written(self, value: float) -> str:
        return f"{value / 10.0**self.power:.3g}"


def _nothing(value: float) -> str:
    return ""


def _step(least: float) -> float:
    """A distance of marks: 1, 2 or 5 times a power of ten, `least` or more."""
    unit = 10.0 ** math.floor(math.log10(least))
    for factor in (1, 2, 5):
        if factor * unit >= least:
            return factor * unit
    return 10 * unit


def _pairs(several: Iterable[Line]) -> list[Pair]:
    return [pair for line in several for pair in line.points]


def _plane(pairs: Sequence[Pair], down: Callable[[float], float]) -> Plane:
    across = [x for x, _ in pairs]
    return Plane(min(across), max(across), down)


def _bars(line: Line, number: int, plane: Plane, most: float) -> Iterator[str]:
    """Standard deviations up and down, as far as the axis goes."""
    for (x, y), bar in zip(line.points, line.bars, strict=False):
        upper, lower = plane.place((x, min(most, y + bar))), plane.place((x, max(0.0, y - bar)))
        yield f'<path class="bar {_color(number)}" d="M{upper.x:.1f} {upper.y:.1f}V{lower.y:.1f}"/>'


def _color(number: int) -> str:
    return f"c{number % COLORS}"


class End(NamedTuple):
    """Where a line ends, and what is said of it at the right."""

    at: Position
    name: str
    kind: str


def _strokes(several: Sequence[Line], plane: Plane, written: Callable[[float], str], dots: bool) -> list[str]:
    """Lines, their points where these are few, and their names with their last values at the right."""
    parts, ends = [], []
    for number, line in enumerate(several):
        kind = _color(number)
        placed = [plane.place(pair) for pair in sorted(line.points)]
        parts.append(svg.polyline(placed, f"line {kind}"))
        if dots and len(placed) <= FEW_POINTS:
            parts += [svg.small_dot(at, kind) for at in placed]
        ends.append(End(placed[-1], f"{line.name} {written(line.points[-1][1])}".strip(), kind))
    return parts + _names(ends)


def _names(ends: Sequence[End]) -> list[str]:
    """The names of lines, joined to their ends."""
    ordered = sorted(ends, key=lambda end: end.at.y)
    heights = LabelColumn(TOP, HEIGHT - BOTTOM).apart(end.at.y for end in ordered)
    parts = []
    for (at, name, kind), height in zip(ordered, heights, strict=True):
        parts.append(f'<path class="lead {kind}" d="M{at.x:.1f} {at.y:.1f}L{EDGE + 10} {height:.1f}"/>')
        parts.append(svg.text(Position(EDGE + 13, height + 4), name, f"name {kind}"))
    return parts


# Two accuracies


class NamedPoint(NamedTuple):
    """A point, both coordinates accuracies."""

    x: float
    y: float
    name: str

    @property
    def pair(self) -> Pair:
        return self.x, self.y


def scatter(title: str, across: str, up: str, points: Sequence[tuple[float, float, str]], width: int = SQUARE) -> Markup:
    """Named points, both coordinates accuracies; a line goes along those that no other beats in both.

    A name stands beside its point where it covers nothing else, those of the line first; without such a place it is left out
    and shown when the point is pointed at.
    """
    named = [NamedPoint(*point) for point in points]
    low = max(0.0, math.floor(10 * min((point.x for point in named), default=0.0) - 0.2) / 10)
    high = min(1.0, math.ceil(10 * max((point.x for point in named), default=1.0) + 0.2) / 10)
    top, right = _top([point.y for point in named]), width - 14
    kind = "figure square" if width == SQUARE else "figure full"

    def place(pair: Pair) -> Position:
        return Position(LEFT + (pair[0] - low) / (high - low) * (right - LEFT), _down(pair[1], top))

    parts = [_accuracy_axis(up, top, right), _across(across, right)]
    for mark in range(round(100 * low), round(100 * high) + 1, 10):
        parts.append(_tick(place((mark / 100, 0)).x, str(mark)))
    best = _unbeaten(named)
    front = [place(pair) for pair in best]
    if len(front) > 1:
        parts.append(svg.polyline(front, "front"))
    line = along(front)
    taken = [Box.around(place(point.pair)) for point in named]
    frame = Box(LEFT, 0.0, right + 12, HEIGHT - BOTTOM)
    nameless = 0
    for point in sorted(named, key=lambda point: (point.pair not in best, -point.y, -point.x, point.name)):
        at = place(point.pair)
        parts.append(svg.dot(at, "c0" if point.pair in best else "c6", 5, point.name))
        box = free_box(at, point.name, [*taken, *line], frame) or free_box(at, point.name, taken, frame)
        if box is None:
            nameless += 1
            continue
        taken.append(box)
        parts.append(svg.text(Position(box.left, box.bottom - 3), point.name, "name"))
    if not nameless:
        return svg.document(title, parts, width, HEIGHT, kind)
    note = f"{nameless} more have no room for their names: point at them"
    parts.append(svg.text(Position(right, HEIGHT + LINE - 4), note, "tick end"))
    return svg.document(title, parts, width, HEIGHT + LINE, kind)


def _unbeaten(points: Sequence[NamedPoint]) -> list[Pair]:
    """The points that no other beats in both, from left to right."""
    return sorted({point.pair for point in points if not any(_beats(other, point) for other in points)})


def _beats(other: NamedPoint, point: NamedPoint) -> bool:
    return other.x >= point.x and other.y >= point.y and other.pair != point.pair


@dataclass(frozen=True)
class Compared:
    """Two accuracies of one thing (fractions): one with the range it is known in, and the other."""

    label: str  # beside the point
    name: str  # shown when it is pointed at
    across: float
    low: float  # range of `across`
    high: float
    up: float
    ring: bool = False  # drawn hollow

    @property
    def color(self) -> str:
        return "c1" if self.ring else "c0"

    @property
    def kind(self) -> str:
        return "ring c1" if self.ring else "c0"


def facing(title: str, across: str, up: str, points: Sequence[Compared], full: str, hollow: str) -> Markup:
    """Accuracies against each other, a labeled point each, and the line on which both are equal.

    `full` and `hollow` say what the two kinds of points are. A label far from its point is joined to it by a line.
    """
    right, bottom = LEFT + PLANE, TOP + PLANE
    parts = [f'<path class="front" d="M{LEFT} {bottom}L{right} {TOP}"/>']
    for mark in range(0, 101, 20):
        parts += _marks_of_both(mark)
    parts.append(svg.upward(Position(11, TOP + PLANE / 2), up))
    parts.append(svg.text(Position((LEFT + right) / 2, bottom + 34), across, "tick middle"))
    frame = Box(LEFT, 0.0, right + 12, bottom)
    taken = [Box.around(_facing(point.across, point.up)) for point in points]
    for point in points:
        at = _facing(point.across, point.up)
        low, high = _facing(point.low, point.up), _facing(point.high, point.up)
        parts.append(f'<path class="bar {point.color}" d="M{low.x:.1f} {at.y:.1f}H{high.x:.1f}"/>')
        parts.append(svg.dot(at, point.kind, 4, f"{point.label}: {point.name}"))
        box = free_box(at, point.label, taken, frame, range(7, 120, 8))
        if box:
            taken.append(box)
            parts.append(_lead(at, box) + svg.text(Position(box.left, box.bottom - 3), point.label, "name"))
    for number, (kind, text) in enumerate((("c0", full), ("ring c1", hollow))):
        y = bottom + 52 + LINE * number
        parts += [svg.dot(Position(LEFT + 4, y), kind, 4, text), svg.text(Position(LEFT + 14, y + 4), text, "tick")]
    return svg.document(title, parts, right + 14, bottom + 52 + 2 * LINE)


def _facing(across: float, up: float) -> Position:
    return Position(LEFT + across * PLANE, TOP + PLANE - up * PLANE)


def _marks_of_both(mark: int) -> list[str]:
    """A mark of both axes, in percent."""
    right, bottom = LEFT + PLANE, TOP + PLANE
    at = _facing(mark / 100, mark / 100)
    return [
        svg.horizontal_rule(LEFT, at.y, right) + f'<path class="rule" d="M{at.x:.1f} {bottom}v4"/>',
        svg.text(Position(LEFT - 6, at.y + 4), str(mark), "tick end"),
        svg.text(Position(at.x, bottom + 17), str(mark), "tick middle"),
    ]


def _lead(at: Position, box: Box) -> str:
    """A line from a point to its label, where that is not beside it."""
    edge = box.nearest(at)
    if math.dist(at, edge) < LINE:
        return ""
    return f'<path class="lead" d="M{at.x:.1f} {at.y:.1f}L{edge.x:.1f} {edge.y:.1f}"/>'


# A table as a picture


def step(accuracy: float, top: float) -> int:
    """The number of an accuracy's color, 0 strong to 10 none, on a scale that ends at `top`."""
    return min(10, round(10 * accuracy / top))


def heat(
    title: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], most: float = 1.0
) -> Markup:
    """A table as a picture: accuracies in percent on their colors, which end at `most` (fraction)."""
    left = 12 + 7 * min(ROW_LETTERS, max(map(len, rows), default=0))
    top = 12 + 5 * min(COLUMN_LETTERS, max(map(len, columns), default=0))
    parts = []
    for number, column in enumerate(columns):
        x = left + number * TILE_WIDTH + 20
        name = svg.text(Position(x, top - 6), shortened(column, COLUMN_LETTERS), "name")
        parts.append(f'<g transform="rotate(-45 {x} {top - 6})">{name}</g>')
    for number, (row, line) in enumerate(zip(rows, values, strict=True)):
        y = top + number * TILE_HEIGHT
        parts.append(svg.text(Position(left - 6, y + 15), shortened(row, ROW_LETTERS), "name end"))
        for place, value in enumerate(line):
            parts.append(_tile(Position(left + place * TILE_WIDTH, y), value, most))
    beyond = min(COLUMN_LETTERS, max(map(len, columns[-3:]), default=0))  # where the last names end
    return svg.document(title, parts, left + len(columns) * TILE_WIDTH + 4 * beyond, top + len(rows) * TILE_HEIGHT + 4)


def _tile(at: Position, value: float | None, most: float) -> str:
    kind, text = ("none", DASH) if value is None else (f"h{step(value, most)}", percent(value))
    tile = f'<rect class="tile {kind}" x="{at.x}" y="{at.y}" width="{TILE_WIDTH - 1}" height="{TILE_HEIGHT - 1}"/>'
    return tile + svg.text(Position(at.x + TILE_WIDTH / 2, at.y + 15), text, "number")


# Axes


def _top(accuracies: Sequence[float]) -> float:
    """Where an axis of accuracies ends, at a mark of its own: above all of them, half at least."""
    tenths = max(5, min(10, math.ceil(10 * max(accuracies, default=1.0) + 0.2)))
    return (tenths + (tenths in (7, 9))) / 10


def _down(accuracy: float, top: float = 1.0) -> float:
    return TOP + (1 - accuracy / top) * (HEIGHT - TOP - BOTTOM)


@lru_cache(64)
def _accuracy_axis(label: str, top: float, right: float) -> str:
    rules, texts = [], []
    for mark in range(0, round(100 * top) + 1, 20 if top > 0.6 else 10):
        at = _down(mark / 100, top)
        rules.append(svg.horizontal_rule(LEFT, at, right))
        texts.append(svg.text(Position(LEFT - 6, at + 4), str(mark), "tick end"))
    return "".join((*rules, *texts, svg.upward(Position(11, HEIGHT / 2 - 14), label)))


@lru_cache(4096)
def _tick(x: float, text: str) -> str:
    return f'<path class="rule" d="M{x:.1f} {HEIGHT - BOTTOM}v4"/>' + svg.text(
        Position(x, HEIGHT - BOTTOM + 17), text, "tick middle"
    )


@lru_cache(64)
def _across(label: str, right: float) -> str:
    return svg.text(Position((LEFT + right) / 2, HEIGHT - 6), label, "tick middle")


def _whole(low: float, high: float) -> list[tuple[float, str]]:
    """Whole numbers as marks, seven at most."""
    step = max(1, round((high - low) / 6))
    return [(number, f"{number:g}") for number in range(round(low), round(high) + 1, step)]
