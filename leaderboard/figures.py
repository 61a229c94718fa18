"""Figures as SVG: lines, a scatter plot, a heat map. Colours are classes, so that a page's style sheet or the one that
`standalone` puts inside decides between light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from leaderboard.language import DASH, asset, percent

if TYPE_CHECKING:
    from markupsafe import Markup

Point = tuple[float, float]

WIDTH, HEIGHT = 640, 300  # units of every chart
LEFT, RIGHT, TOP, BOTTOM = 46, 190, 12, 40  # margins; the names of lines stand at the right
LINE = 14  # height of a line of text
UP = "test accuracy, %"
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
    marks = list(ticks) or [(x, f"{x:g}") for x in _whole(low, high)]

    def place(point: Point) -> Point:
        share = (point[0] - low) / (high - low) if high > low else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT), _down(point[1])

    parts = [_accuracy_axis(up), *(_tick(place((x, 0))[0], text) for x, text in marks), _across(across)]
    ends = []
    for number, line in enumerate(several):
        kind = f"c{number % COLOURS}"
        placed = [place(point) for point in sorted(line.points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline class="line {kind}" points="{path}"/>')
        if dots and len(placed) <= 12:
            parts += [f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in placed]
        for (x, y), bar in zip(line.points, line.bars, strict=False):
            (at, top), (_, bottom) = place((x, min(1.0, y + bar))), place((x, max(0.0, y - bar)))
            parts.append(f'<path class="bar {kind}" d="M{at:.1f} {top:.1f}V{bottom:.1f}"/>')
        ends.append((*placed[-1], f"{line.name} {percent(line.points[-1][1])}", kind))
    for (x, y, name, kind), lower in zip(sorted(ends, key=lambda end: end[1]), _apart(sorted(e[1] for e in ends)), strict=True):
        parts.append(f'<path class="lead {kind}" d="M{x:.1f} {y:.1f}L{WIDTH - RIGHT + 10} {lower:.1f}"/>')
        parts.append(_text(WIDTH - RIGHT + 13, lower + 4, name, f"name {kind}"))
    return _svg(title, parts, WIDTH, HEIGHT)


def scatter(title: str, across: str, up: str, points: Sequence[tuple[float, float, str]]) -> Markup:
    """Named points, both coordinates accuracies; a line goes along those that no other beats in both."""
    low = max(0.0, min((x for x, _, _ in points), default=0.0) - 0.05) // 0.1 / 10

    def place(x: float, y: float) -> Point:
        return LEFT + (x - low) / (1 - low) * (WIDTH - LEFT - RIGHT), _down(y)

    parts = [_accuracy_axis(up), _across(across)]
    parts += [_tick(place(x / 100, 0)[0], str(x)) for x in range(round(100 * low), 101, 10)]
    best = sorted((x, y) for x, y, _ in points if not any(a >= x and b >= y and (a, b) != (x, y) for a, b, _ in points))
    if len(best) > 1:
        parts.append(
            '<polyline class="front" points="{}"/>'.format(" ".join(f"{a:.1f},{b:.1f}" for a, b in (place(*p) for p in best)))
        )
    placed = sorted((*place(x, y), name) for x, y, name in points)
    order = sorted(placed, key=lambda one: one[1])
    for (x, y, name), lower in zip(order, _apart([one[1] for one in order]), strict=True):
        parts.append(f'<path class="lead" d="M{x:.1f} {y:.1f}L{WIDTH - RIGHT + 10} {lower:.1f}"/>')
        parts.append(_text(WIDTH - RIGHT + 13, lower + 4, name, "name"))
        kind = "c0" if any(abs(x - place(*p)[0]) + abs(y - place(*p)[1]) < 0.01 for p in best) else "c6"
        parts.append(f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
    return _svg(title, parts, WIDTH, HEIGHT)


def heat(title: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]]) -> Markup:
    """A table as a picture: accuracies in percent on their colours."""
    wide, high, left = 54, 22, 12 + 7 * min(40, max((len(row) for row in rows), default=0))
    top = 12 + 5 * min(34, max((len(column) for column in columns), default=0))
    parts = []
    for j, column in enumerate(columns):
        x = left + j * wide + 20
        parts.append(f'<g transform="rotate(-45 {x} {top - 6})">{_text(x, top - 6, _short(column, 34), "name")}</g>')
    for i, (row, line) in enumerate(zip(rows, values, strict=True)):
        y = top + i * high
        parts.append(_text(left - 6, y + 15, _short(row, 40), "name end"))
        for j, value in enumerate(line):
            x = left + j * wide
            kind = "none" if value is None else f"h{round(10 * value)}"
            parts.append(f'<rect class="tile {kind}" x="{x}" y="{y}" width="{wide - 1}" height="{high - 1}"/>')
            parts.append(_text(x + wide / 2, y + 15, DASH if value is None else percent(value), "number"))
    right = left + len(columns) * wide + 4 * max((min(34, len(column)) for column in columns[-3:]), default=0)
    return _svg(title, parts, right, top + len(rows) * high + 4)


def _svg(title: str, parts: Sequence[str], width: float, height: float) -> Markup:
    from markupsafe import Markup, escape

    start = f'<svg class="figure" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
    return Markup(f"{start}<title>{escape(title)}</title>{''.join(parts)}</svg>")  # noqa: S704  (texts are escaped by `_text`)


def _text(x: float, y: float, text: str, kind: str) -> str:
    from markupsafe import escape

    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _down(accuracy: float) -> float:
    return TOP + (1 - accuracy) * (HEIGHT - TOP - BOTTOM)


@lru_cache(64)
def _accuracy_axis(label: str) -> str:
    rules = (f'<path class="rule" d="M{LEFT} {_down(y / 100):.1f}H{WIDTH - RIGHT}"/>' for y in range(0, 101, 20))
    texts = (_text(LEFT - 6, _down(y / 100) + 4, str(y), "tick end") for y in range(0, 101, 20))
    turned = f'<g transform="translate(11 {HEIGHT / 2 - 14:g}) rotate(-90)">{_text(0, 0, label, "tick middle")}</g>'
    return "".join((*rules, *texts, turned))


@lru_cache(4096)
def _tick(x: float, text: str) -> str:
    return f'<path class="rule" d="M{x:.1f} {HEIGHT - BOTTOM}v4"/>' + _text(x, HEIGHT - BOTTOM + 17, text, "tick middle")


@lru_cache(64)
def _across(label: str) -> str:
    return _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, label, "tick middle")


def _apart(heights: Sequence[float]) -> list[float]:
    """Move sorted heights apart until their texts do not overlap, as little as may be, inside the figure."""
    found: list[float] = []
    for height in heights:
        found.append(max(height, found[-1] + LINE) if found else height)
    over = (found[-1] - (HEIGHT - BOTTOM)) if found else 0
    ceiling: float = HEIGHT - BOTTOM
    for number in range(len(found) - 1, -1, -1) if over > 0 else ():
        found[number] = min(found[number], ceiling)
        ceiling = found[number] - LINE
    return found


def _whole(low: float, high: float) -> list[int]:
    step = max(1, round((high - low) / 6))
    return list(range(round(low), round(high) + 1, step))


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
