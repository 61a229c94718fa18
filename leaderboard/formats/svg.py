"""The marks that figures are drawn with, as SVG. Colors are classes, which a style sheet decides about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from markupsafe import Markup

LINE, LETTER = 14, 7.2  # height of a line of text, about the width of a letter


class Position(NamedTuple):
    """A place in a figure, in its units, from its upper left corner."""

    x: float
    y: float


class Box(NamedTuple):
    """A part of a figure."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def around(cls, at: Position, far: float = 6) -> Box:
        return cls(at.x - far, at.y - far, at.x + far, at.y + far)

    def inside(self, frame: Box) -> bool:
        across = frame.left <= self.left and self.right <= frame.right
        return across and frame.top <= self.top and self.bottom <= frame.bottom

    def touches(self, other: Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def nearest(self, at: Position) -> Position:
        """Its point that is nearest to another."""
        return Position(min(max(at.x, self.left), self.right), min(max(at.y, self.top), self.bottom))


def document(title: str, parts: Iterable[str], width: float, height: float, kind: str = "figure") -> Markup:
    """Return a figure of its parts, which are SVG themselves."""
    from markupsafe import Markup, escape

    start = f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
    return Markup(f"{start}<title>{escape(title)}</title>{''.join(parts)}</svg>")  # noqa: S704  (`text` escapes)


def text(at: Position, words: str, kind: str) -> str:
    from markupsafe import escape

    return f'<text class="{kind}" x="{at.x:.1f}" y="{at.y:.1f}">{escape(words)}</text>'


def upward(at: Position, words: str) -> str:
    """A text that is read from below, beside an axis."""
    return f'<g transform="translate({at.x:g} {at.y:g}) rotate(-90)">{text(Position(0, 0), words, "tick middle")}</g>'


def dot(at: Position, kind: str, radius: int, name: str) -> str:
    """A point that says its name when it is pointed at."""
    from markupsafe import escape

    return f'<circle class="dot {kind}" cx="{at.x:.1f}" cy="{at.y:.1f}" r="{radius}"><title>{escape(name)}</title></circle>'


def small_dot(at: Position, kind: str) -> str:
    return f'<circle class="dot {kind}" cx="{at.x:.1f}" cy="{at.y:.1f}" r="3"/>'


def polyline(points: Sequence[Position], kind: str) -> str:
    path = " ".join(f"{at.x:.1f},{at.y:.1f}" for at in points)
    return f'<polyline class="{kind}" points="{path}"/>'


def horizontal_rule(left: float, at: float, right: float) -> str:
    """A line across, for a mark of the axis at the left."""
    return f'<path class="rule" d="M{left} {at:.1f}H{right}"/>'
