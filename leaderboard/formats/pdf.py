"""Our own SVG figures as PDF, one page of the figure's size: vector graphics, text as text, in the colours of a light page.

Only what `figures` and `scatter` draw is understood: paths of straight lines, polylines, circles, rectangles, texts, and groups
that are moved or turned. The letters are those of Helvetica, which every reader has; what it lacks is a question mark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from xml.etree import ElementTree

from unlearnable_bench.leaderboard.formats.escaping import MINUS, asset

if TYPE_CHECKING:
    from reportlab.pdfgen.canvas import Canvas

SIZES = {"note": 11, "number": 11}  # of letters, by class; others have 12
WIDTHS = {"line": 2.0, "lead": 0.5, "front": 1.5, "ring": 2.0, "key": 9.0, "point": 4.0}  # of strokes, by class; others have 1
STROKES = {"rule": "line", "lead": "quiet", "front": "quiet", "frame": "line"}  # colors by class
LETTERS = {"tick": "quiet", "note": "quiet"}  # colors of letters by class; others are `text`
LEFT_OF = {"middle": 0.5, "number": 0.5, "end": 1.0}  # what share of a text stands left of its place, by class; others 0
FONT = "Helvetica"
FORMS = str.maketrans({MINUS: "-", "ε": "e"})

Value = TypeVar("Value")
Numbers = Sequence[float]
Place = tuple[float, float]


def pdf(svg: str) -> bytes:
    """Return a figure as a PDF; the same figure gives the same bytes."""
    from reportlab.pdfgen.canvas import Canvas

    root = Element(ElementTree.fromstring(str(svg)))  # noqa: S314  (drawn by us, and entities are not expanded)
    _, _, wide, high = _numbers(root.text_of("viewBox"))
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=(wide, high), invariant=1)
    canvas.setTitle(root.title)
    canvas.transform(1, 0, 0, -1, 0, high)  # down is down, as in SVG
    for child in root.children:
        _draw(canvas, child)
    canvas.showPage()
    canvas.save()
    return file.getvalue()


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.split(r"[ ,]+", text.strip())]


# What is drawn


@dataclass(frozen=True)
class Element:
    """An element of a drawing."""

    node: ElementTree.Element

    @cached_property
    def tag(self) -> str:
        return self.node.tag.rpartition("}")[2]

    @cached_property
    def classes(self) -> list[str]:
        return self.text_of("class").split()

    @property
    def children(self) -> list[Element]:
        return [Element(node) for node in self.node]

    @property
    def title(self) -> str:
        titles = [child.node.text or "" for child in self.children if child.tag == "title"]
        return titles[0] if titles else ""

    def text_of(self, attribute: str) -> str:
        return self.node.get(attribute, "")

    def number_of(self, attribute: str) -> float:
        return float(self.node.get(attribute, "0"))

    def styled(self, by_class: Mapping[str, Value], default: Value) -> Value:
        """What a table says of the first of its classes that the element has."""
        for name, value in by_class.items():
            if name in self.classes:
                return value
        return default

    @property
    def color(self) -> str:
        """The color of the style sheet that is among its classes, `c0` or `h10`; else ''."""
        return self.styled({name: name for name in _colors()}, "")


# Colors and dashes of the style sheet


@cache
def _colors() -> dict[str, str]:
    """The colors of a light page by their names in the style sheet: text, line, c0, h10, ..."""
    light = asset("figure.css").partition("@media")[0]
    return {name: f"#{_six(digits)}" for name, digits in re.findall(r"--(\w+): #(\w+)", light)}


def _six(digits: str) -> str:
    """The digits of a color: two for each of red, green and blue, where a style sheet may write one."""
    return digits if len(digits) == 6 else "".join(2 * digit for digit in digits)


@cache
def _dashes() -> dict[str, list[float]]:
    """The dashes of series, by their names; a series that is drawn without has none here."""
    found = re.findall(r"\.(c\d) \{[^}]*--d: ([\d ]+);", asset("figure.css"))
    return {name: _numbers(lengths) for name, lengths in found}


# Onto the canvas


def _draw(canvas: Canvas, element: Element) -> None:
    """Draw an element; a title, which a browser shows beside the pointer, is not drawn."""
    drawings = {"g": _draw_group, "text": _draw_text, **dict.fromkeys(SHAPES, _draw_shape)}
    if element.tag in drawings:
        canvas.saveState()
        drawings[element.tag](canvas, element)
        canvas.restoreState()


def _draw_group(canvas: Canvas, element: Element) -> None:
    for name, numbers in re.findall(r"(\w+)\(([^)]*)\)", element.text_of("transform")):
        TRANSFORMS[name](canvas, *_numbers(numbers))
    for child in element.children:
        _draw(canvas, child)


def _rotate(canvas: Canvas, angle: float, x: float = 0.0, y: float = 0.0) -> None:
    """Turn around a point."""
    canvas.translate(x, y)
    canvas.rotate(angle)
    canvas.translate(-x, -y)


def _translate(canvas: Canvas, x: float, y: float) -> None:
    canvas.translate(x, y)


TRANSFORMS: dict[str, Callable[..., None]] = {"translate": _translate, "rotate": _rotate}


def _draw_shape(canvas: Canvas, element: Element) -> None:
    _set_pen(canvas, element)
    SHAPES[element.tag](canvas, element)


def _set_pen(canvas: Canvas, element: Element) -> None:
    from reportlab.lib.colors import HexColor

    canvas.setStrokeColor(HexColor(element.text_of("stroke") or _colors()[_stroke(element)]))
    canvas.setFillColor(HexColor(_colors()[_fill(element)]))
    canvas.setLineWidth(element.styled(WIDTHS, 1.0))
    if "point" in element.classes:
        canvas.setLineCap(1)  # round
    dashes = _dash(element)
    if dashes:
        canvas.setDash(dashes)


def _stroke(element: Element) -> str:
    """The color of a line; of a dot the page's, which parts it from what is behind it."""
    if "dot" in element.classes and "ring" not in element.classes:
        return "page"
    return element.styled(STROKES, _series(element) or "line")


def _fill(element: Element) -> str:
    return "page" if "ring" in element.classes else element.color or "page"


def _series(element: Element) -> str:
    """The color of a series among the classes, `c0`; else ''."""
    return element.styled({name: name for name in _colors() if name.startswith("c")}, "")


def _dash(element: Element) -> list[float]:
    if "front" in element.classes:
        return [4, 4]
    return _dashes().get(_series(element), []) if "line" in element.classes else []


# Shapes


def _draw_circle(canvas: Canvas, element: Element) -> None:
    canvas.circle(element.number_of("cx"), element.number_of("cy"), element.number_of("r"), stroke=1, fill=1)


def _draw_rectangle(canvas: Canvas, element: Element) -> None:
    x, y, width, height = (element.number_of(name) for name in ("x", "y", "width", "height"))
    is_filled = "tile" in element.classes and "none" not in element.classes
    canvas.rect(x, y, width, height, stroke=int(not is_filled), fill=int(is_filled))


def _draw_path(canvas: Canvas, element: Element) -> None:
    _draw_line(canvas, element.text_of("d"))


def _draw_polyline(canvas: Canvas, element: Element) -> None:
    _draw_line(canvas, f"M{element.text_of('points').replace(' ', 'L')}")


SHAPES = {"circle": _draw_circle, "rect": _draw_rectangle, "path": _draw_path, "polyline": _draw_polyline}
STEPS: dict[str, Callable[[Place, Numbers], Place]] = {  # where a command of a path leads, from where it begins
    "M": lambda at, to: (to[0], to[1]),
    "L": lambda at, to: (to[0], to[1]),
    "H": lambda at, to: (to[0], at[1]),
    "h": lambda at, to: (at[0] + to[0], at[1]),
    "V": lambda at, to: (at[0], to[0]),
    "v": lambda at, to: (at[0], at[1] + to[0]),
}


def _draw_line(canvas: Canvas, commands: str) -> None:
    path: Any = canvas.beginPath()
    at = (0.0, 0.0)
    for letter, numbers in re.findall(r"([MLHVhv])([^MLHVhv]*)", commands):
        at = STEPS[letter](at, _numbers(numbers))
        go = path.moveTo if letter == "M" else path.lineTo
        go(*at)
    canvas.drawPath(path, stroke=1, fill=0)


# Text


def _draw_text(canvas: Canvas, element: Element) -> None:
    from reportlab.lib.colors import HexColor
    from reportlab.pdfbase.pdfmetrics import stringWidth

    text = (element.node.text or "").translate(FORMS).encode("cp1252", "replace").decode("cp1252")
    size = element.styled(SIZES, 12)
    left = element.styled(LEFT_OF, 0.0) * stringWidth(text, FONT, size)
    canvas.translate(element.number_of("x") - left, element.number_of("y"))
    canvas.scale(1, -1)
    canvas.setFillColor(HexColor(_colors()[element.color or element.styled(LETTERS, "text")]))
    canvas.setFont(FONT, size)
    canvas.drawString(0, 0, text)
