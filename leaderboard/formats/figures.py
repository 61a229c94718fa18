"""Figures as SVG: lines, a scatter plot, a heat map. Colours are classes, so that a page's style sheet or the one that
`standalone` puts inside decides between light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

from leaderboard.formats.escaping import DASH, asset, percent

if TYPE_CHECKING:
    from markupsafe import Markup

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom

WIDTH, SQUARE, HEIGHT = 640, 480, 300  # units of every chart; a scatter plot has its names inside
LEFT, RIGHT, TOP, BOTTOM = 46, 190, 12, 40  # margins; the names of lines stand at the right
LINE, LETTER = 14, 7.2  # height of a line of text, about the width of a letter
UP = "test accuracy, %"
PLANE = 500  # side of the square in which two accuracies face each other
COLOURS = 7  # series in different colours; each has its own dashes too


@dataclass(frozen=True)
class Line:
    """A named line through points; `bars` are standard deviations, where known."""

    name: str
    points: Sequence[Point]
    bars: Sequence[float] = ()


def standalone(svg: str) -> str:
    """Return a figure as a file of its own, with its colours inside, light and dark."""
    svg = str(svg)  # no Markup, which would escape what is added
    start = svg.index(">") + 1
    head = svg[:start].replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12"', 1)
    return f"{head}<style>{asset('figure.css')}</style>{svg[start:]}\n"


def lines(
    title: str, across: str, several: Sequence[Line], ticks: Sequence[tuple[float, str]] = (), up: str = UP, dots: bool = True
) -> Markup:
    """Accuracies (fractions) over something. `ticks` are marks below; by default seven whole numbers at most."""
    xs = [x for line in several for x, _ in line.points]
    low, high = min(xs), max(xs)
    most = _top([y for line in several for _, y in line.points])
    marks = list(ticks) or [(x, f"{x:g}") for x in _whole(low, high)]

    def place(point: Point) -> Point:
        share = (point[0] - low) / (high - low) if high > low else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT), _down(point[1], most)

    ticked = (_tick(place((x, 0))[0], text) for x, text in marks)
    parts = [_accuracy_axis(up, most, WIDTH - RIGHT), *ticked, _across(across, WIDTH - RIGHT)]
    for number, line in enumerate(several):
        for (x, y), bar in zip(line.points, line.bars, strict=False):
            (at, top), (_, bottom) = place((x, min(most, y + bar))), place((x, max(0.0, y - bar)))
            parts.append(f'<path class="bar c{number % COLOURS}" d="M{at:.1f} {top:.1f}V{bottom:.1f}"/>')
    parts += _strokes(several, place, percent, dots)
    return _svg(title, parts, WIDTH, HEIGHT)


def series(title: str, across: str, up: str, several: Sequence[Line], last: bool = True) -> Markup:
    """Values of any unit and sign over something; where all are small or large the axis says by which power of ten.

    With `last` the name of a line has its last value beside it.
    """
    xs, ys = ([point[axis] for line in several for point in line.points] for axis in (0, 1))
    largest = max(map(abs, ys)) or 1.0
    power = math.floor(math.log10(largest))
    power = 0 if -1 <= power <= 2 else power
    unit = 10.0**power
    least, most = min(0.0, *ys) / unit, max(0.0, *ys) / unit
    step = next(s for s in _steps((most - least) / 6 or 1.0))
    first = math.floor(least / step)
    final = max(math.ceil(most / step), first + 1)
    low, high = min(xs), max(xs)

    def place(point: Point) -> Point:
        share = (point[0] - low) / (high - low) if high > low else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT), _down((point[1] / unit / step - first) / (final - first))

    parts = []
    for mark in range(first, final + 1):
        down = _down((mark - first) / (final - first))
        parts.append(f'<path class="rule" d="M{LEFT} {down:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 6, down + 4, f"{mark * step:.4g}", "tick end"))
    label = f"{up}, 1e{power}" if power else up
    parts.append(f'<g transform="translate(11 {HEIGHT / 2 - 14:g}) rotate(-90)">{_text(0, 0, label, "tick middle")}</g>')
    parts += [_tick(place((x, 0))[0], f"{x:g}") for x in _whole(low, high)] + [_across(across, WIDTH - RIGHT)]
    parts += _strokes(several, place, lambda y: f"{y / unit:.3g}" if last else "", dots=True)
    return _svg(title, parts, WIDTH, HEIGHT)


def _steps(least: float) -> Iterator[float]:
    """Distances of marks, 1, 2 or 5 times a power of ten, from `least` on."""
    unit = 10.0 ** math.floor(math.log10(least))
    yield from (factor * unit for factor in (1, 2, 5, 10) if factor * unit >= least)


def _strokes(
    several: Sequence[Line], place: Callable[[Point], Point], written: Callable[[float], str], dots: bool
) -> list[str]:
    """Lines, their points where these are few, and their names with their last values at the right."""
    parts, ends = [], []
    for number, line in enumerate(several):
        kind = f"c{number % COLOURS}"
        placed = [place(point) for point in sorted(line.points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline class="line {kind}" points="{path}"/>')
        if dots and len(placed) <= 12:
            parts += [f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in placed]
        ends.append((*placed[-1], f"{line.name} {written(line.points[-1][1])}".strip(), kind))
    for (x, y, name, kind), lower in zip(sorted(ends, key=lambda end: end[1]), _apart(sorted(e[1] for e in ends)), strict=True):
        parts.append(f'<path class="lead {kind}" d="M{x:.1f} {y:.1f}L{WIDTH - RIGHT + 10} {lower:.1f}"/>')
        parts.append(_text(WIDTH - RIGHT + 13, lower + 4, name, f"name {kind}"))
    return parts


def scatter(title: str, across: str, up: str, points: Sequence[tuple[float, float, str]]) -> Markup:
    """Named points, both coordinates accuracies; a line goes along those that no other beats in both.

    A name stands beside its point where it covers nothing else, those of the line first; without such a place it is left out
    and shown when the point is pointed at.
    """
    low = max(0.0, math.floor(10 * min((x for x, _, _ in points), default=0.0) - 0.2) / 10)
    high = min(1.0, math.ceil(10 * max((x for x, _, _ in points), default=1.0) + 0.2) / 10)
    top, right = _top([y for _, y, _ in points]), SQUARE - 14

    def place(x: float, y: float) -> Point:
        return LEFT + (x - low) / (high - low) * (right - LEFT), _down(y, top)

    parts = [_accuracy_axis(up, top, right), _across(across, right)]
    parts += [_tick(place(x / 100, 0)[0], str(x)) for x in range(round(100 * low), round(100 * high) + 1, 10)]
    frame = (LEFT, 0.0, right + 12, HEIGHT - BOTTOM)
    best = sorted({(x, y) for x, y, _ in points if not any(a >= x and b >= y and (a, b) != (x, y) for a, b, _ in points)})
    if len(best) > 1:
        parts.append(
            '<polyline class="front" points="{}"/>'.format(" ".join(f"{a:.1f},{b:.1f}" for a, b in (place(*p) for p in best)))
        )
    order = sorted(points, key=lambda one: ((one[0], one[1]) not in best, -one[1], -one[0], one[2]))
    taken = [_around(*place(x, y)) for x, y, _ in points]
    front = [_around(*one, 3) for a, b in pairwise(best) for one in _between(place(*a), place(*b))]
    lost = 0
    for x, y, name in order:
        at, kind = place(x, y), "c0" if (x, y) in best else "c6"
        parts.append(_dot(at, kind, 5, name))
        if box := _free(at, name, [*taken, *front], frame) or _free(at, name, taken, frame):
            taken.append(box)
            parts.append(_text(box[0], box[3] - 3, name, "name"))
        else:
            lost += 1
    if lost:
        parts.append(_text(right, HEIGHT + LINE - 4, f"{lost} more have no room for their names: point at them", "tick end"))
    return _svg(title, parts, SQUARE, HEIGHT + (LINE if lost else 0))


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


def facing(title: str, across: str, up: str, points: Sequence[Compared], full: str, hollow: str) -> Markup:
    """Accuracies against each other, a labeled point each, and the line on which both are equal.

    `full` and `hollow` say what the two kinds of points are. A label far from its point is joined to it by a line.
    """
    right, bottom = LEFT + PLANE, TOP + PLANE

    def place(x: float, y: float) -> Point:
        return LEFT + x * PLANE, bottom - y * PLANE

    parts = [f'<path class="front" d="M{LEFT} {bottom}L{right} {TOP}"/>']
    for mark in range(0, 101, 20):
        x, y = place(mark / 100, mark / 100)
        parts.append(f'<path class="rule" d="M{LEFT} {y:.1f}H{right}"/><path class="rule" d="M{x:.1f} {bottom}v4"/>')
        parts += [_text(LEFT - 6, y + 4, str(mark), "tick end"), _text(x, bottom + 17, str(mark), "tick middle")]
    turned = _text(0, 0, up, "tick middle")
    parts.append(f'<g transform="translate(11 {TOP + PLANE / 2:g}) rotate(-90)">{turned}</g>')
    parts.append(_text((LEFT + right) / 2, bottom + 34, across, "tick middle"))
    frame = (LEFT, 0.0, right + 12, bottom)
    taken = [_around(*place(one.across, one.up)) for one in points]
    for one in points:
        at, kind = place(one.across, one.up), "c1" if one.ring else "c0"
        (low, _), (high, _) = place(one.low, one.up), place(one.high, one.up)
        parts.append(f'<path class="bar {kind}" d="M{low:.1f} {at[1]:.1f}H{high:.1f}"/>')
        parts.append(_dot(at, f"ring {kind}" if one.ring else kind, 4, f"{one.label}: {one.name}"))
        if box := _free(at, one.label, taken, frame, range(7, 120, 8)):
            taken.append(box)
            parts.append(_lead(at, box) + _text(box[0], box[3] - 3, one.label, "name"))
    for number, (kind, text) in enumerate((("c0", full), ("ring c1", hollow))):
        y = bottom + 52 + LINE * number
        parts += [_dot((LEFT + 4, y), kind, 4, text), _text(LEFT + 14, y + 4, text, "tick")]
    return _svg(title, parts, right + 14, bottom + 52 + 2 * LINE)


def _lead(at: Point, box: Box) -> str:
    """A line from a point to its label, where that is not beside it."""
    edge = (min(max(at[0], box[0]), box[2]), min(max(at[1], box[1]), box[3]))
    if math.dist(at, edge) < LINE:
        return ""
    return f'<path class="lead" d="M{at[0]:.1f} {at[1]:.1f}L{edge[0]:.1f} {edge[1]:.1f}"/>'


def _around(x: float, y: float, far: float = 6) -> Box:
    return x - far, y - far, x + far, y + far


def _between(start: Point, end: Point) -> list[Point]:
    """Points along a line, six units apart."""
    steps = max(1, round(math.dist(start, end) / 6))
    return [(start[0] + (end[0] - start[0]) * k / steps, start[1] + (end[1] - start[1]) * k / steps) for k in range(steps + 1)]


def _free(at: Point, name: str, taken: Sequence[Box], frame: Box, reach: Sequence[float] = (8, 16)) -> Box | None:
    """A place for a name near a point, inside the frame, that touches nothing taken; the nearest ones are tried first."""
    wide = LETTER * len(name)
    for far in reach:
        for x, y in ((far, 0), (-far - wide, 0), (-wide / 2, -far - 6), (-wide / 2, far + 6), (far - 2, -far), (far - 2, far)):
            box = (at[0] + x, at[1] + y - LINE / 2, at[0] + x + wide, at[1] + y + LINE / 2)
            inside = box[0] >= frame[0] and box[2] <= frame[2] and box[1] >= frame[1] and box[3] <= frame[3]
            if inside and all(box[2] <= b[0] or b[2] <= box[0] or box[3] <= b[1] or b[3] <= box[1] for b in taken):
                return box
    return None


def step(accuracy: float, top: float) -> int:
    """The number of an accuracy's colour, 0 strong to 10 none, on a scale that ends at `top`."""
    return min(10, round(10 * accuracy / top))


def heat(
    title: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], most: float = 1.0
) -> Markup:
    """A table as a picture: accuracies in percent on their colours, which end at `most` (fraction)."""
    wide, high, left = 54, 22, 12 + 7 * min(40, max((len(row) for row in rows), default=0))
    top = 12 + 5 * min(34, max((len(column) for column in columns), default=0))
    parts = []
    for j, column in enumerate(columns):
        x = left + j * wide + 20
        parts.append(f'<g transform="rotate(-45 {x} {top - 6})">{_text(x, top - 6, shortened(column, 34), "name")}</g>')
    for i, (row, line) in enumerate(zip(rows, values, strict=True)):
        y = top + i * high
        parts.append(_text(left - 6, y + 15, shortened(row, 40), "name end"))
        for j, value in enumerate(line):
            x = left + j * wide
            kind = "none" if value is None else f"h{step(value, most)}"
            parts.append(f'<rect class="tile {kind}" x="{x}" y="{y}" width="{wide - 1}" height="{high - 1}"/>')
            parts.append(_text(x + wide / 2, y + 15, DASH if value is None else percent(value), "number"))
    right = left + len(columns) * wide + 4 * max((min(34, len(column)) for column in columns[-3:]), default=0)
    return _svg(title, parts, right, top + len(rows) * high + 4)


def _svg(title: str, parts: Sequence[str], width: float, height: float) -> Markup:
    from markupsafe import Markup, escape

    kind = "figure square" if width == SQUARE else "figure"
    start = f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
    return Markup(f"{start}<title>{escape(title)}</title>{''.join(parts)}</svg>")  # noqa: S704  (texts are escaped by `_text`)


def _text(x: float, y: float, text: str, kind: str) -> str:
    from markupsafe import escape

    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _dot(at: Point, kind: str, radius: int, name: str) -> str:
    from markupsafe import escape

    return f'<circle class="dot {kind}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius}"><title>{escape(name)}</title></circle>'


def _top(accuracies: Sequence[float]) -> float:
    """Where an axis of accuracies ends, at a mark of its own: above all of them, half at least."""
    tenths = max(5, min(10, math.ceil(10 * max(accuracies, default=1.0) + 0.2)))
    return (tenths + (tenths in (7, 9))) / 10


def _down(accuracy: float, top: float = 1.0) -> float:
    return TOP + (1 - accuracy / top) * (HEIGHT - TOP - BOTTOM)


@lru_cache(64)
def _accuracy_axis(label: str, top: float, right: float) -> str:
    marks = range(0, round(100 * top) + 1, 20 if top > 0.6 else 10)
    rules = (f'<path class="rule" d="M{LEFT} {_down(y / 100, top):.1f}H{right}"/>' for y in marks)
    texts = (_text(LEFT - 6, _down(y / 100, top) + 4, str(y), "tick end") for y in marks)
    turned = f'<g transform="translate(11 {HEIGHT / 2 - 14:g}) rotate(-90)">{_text(0, 0, label, "tick middle")}</g>'
    return "".join((*rules, *texts, turned))


@lru_cache(4096)
def _tick(x: float, text: str) -> str:
    return f'<path class="rule" d="M{x:.1f} {HEIGHT - BOTTOM}v4"/>' + _text(x, HEIGHT - BOTTOM + 17, text, "tick middle")


@lru_cache(64)
def _across(label: str, right: float) -> str:
    return _text((LEFT + right) / 2, HEIGHT - 6, label, "tick middle")


def _apart(heights: Sequence[float]) -> list[float]:
    """Move sorted heights apart until their texts do not overlap, as little as may be, inside the figure."""
    groups: list[list[float]] = []  # of heights that stand LINE apart around their mean

    def first(group: Sequence[float]) -> float:
        half = LINE * (len(group) - 1) / 2
        return max(float(TOP), min(fmean(group) - half, HEIGHT - BOTTOM - 2 * half))

    for height in heights:
        groups.append([height])
        while len(groups) > 1 and first(groups[-1]) < first(groups[-2]) + LINE * len(groups[-2]):
            last = groups.pop()
            groups[-1] += last
    return [first(group) + LINE * number for group in groups for number in range(len(group))]


def _whole(low: float, high: float) -> list[int]:
    step = max(1, round((high - low) / 6))
    return list(range(round(low), round(high) + 1, step))


def shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
