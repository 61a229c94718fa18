"""Our own SVG figures as PDF, one page of the figure's size: vector graphics, text as text, in the colours of a light page.

Only what `figures` and `scatter` draw is understood: paths of straight lines, polylines, circles, rectangles, texts, and groups
that are moved or turned. The letters are those of Helvetica, which every reader has; what it lacks is a question mark.
"""

from __future__ import annotations

import io
import re
from functools import cache
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from leaderboard.formats.escaping import MINUS, asset

if TYPE_CHECKING:
    from reportlab.pdfgen.canvas import Canvas

SIZE = {"note": 11, "number": 11}  # of letters, by class; others have 12
WIDTHS = {"line": 2.0, "lead": 0.5, "front": 1.5, "ring": 2.0, "key": 9.0, "point": 4.0}  # of strokes, by class; others have 1
STROKES = {"rule": "line", "lead": "quiet", "front": "quiet", "frame": "line"}  # colours by class
FORMS = str.maketrans({MINUS: "-", "ε": "e"})


def pdf(svg: str) -> bytes:
    """Return a figure as a PDF; the same figure gives the same bytes."""
    from reportlab.pdfgen.canvas import Canvas

    root = ElementTree.fromstring(str(svg))  # noqa: S314  (drawn by us, and entities are not expanded)
    wide, high = (float(number) for number in root.attrib["viewBox"].split()[2:])
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=(wide, high), invariant=1)
    canvas.setTitle(next((child.text or "" for child in root if _tag(child) == "title"), ""))
    canvas.transform(1, 0, 0, -1, 0, high)  # down is down, as in SVG
    for element in root:
        _draw(canvas, element)
    canvas.showPage()
    canvas.save()
    return file.getvalue()


@cache
def _colours() -> dict[str, str]:
    """The colours of a light page by their names in the style sheet: text, line, c0, h10, ..."""
    found = re.findall(r"--(\w+): #(\w+)", asset("figure.css").partition("@media")[0])
    return {name: f"#{digits if len(digits) == 6 else ''.join(2 * digit for digit in digits)}" for name, digits in found}


@cache
def _dashes() -> dict[str, list[float]]:
    found = re.findall(r"\.(c\d) \{[^}]*--d: ([\d ]+);", asset("figure.css"))
    return {name: [float(number) for number in numbers.split()] for name, numbers in found}


def _draw(canvas: Canvas, element: ElementTree.Element) -> None:
    tag, kinds = _tag(element), element.get("class", "").split()
    if tag == "g":
        canvas.saveState()
        _move(canvas, element.get("transform", ""))
        for child in element:
            _draw(canvas, child)
        canvas.restoreState()
    elif tag == "text":
        _write(canvas, element, kinds)
    elif tag in ("path", "polyline", "circle", "rect"):
        canvas.saveState()
        _style(canvas, element, kinds)
        _shape(canvas, tag, element.attrib, kinds)
        canvas.restoreState()


def _move(canvas: Canvas, transform: str) -> None:
    for name, numbers in re.findall(r"(\w+)\(([^)]*)\)", transform):
        found = [float(number) for number in numbers.split()]
        if name == "translate":
            canvas.translate(*found)
        else:  # rotate, around a point where one is given
            angle, x, y = (*found, 0.0, 0.0)[:3]
            canvas.translate(x, y)
            canvas.rotate(angle)
            canvas.translate(-x, -y)


def _style(canvas: Canvas, element: ElementTree.Element, kinds: list[str]) -> None:
    from reportlab.lib.colors import HexColor

    colours = _colours()
    series = next((kind for kind in kinds if kind in colours and kind[0] == "c"), "")
    stroke = next((STROKES[kind] for kind in kinds if kind in STROKES), series or "line")
    filled = {"dot", "ring"} & set(kinds) == {"dot"}
    canvas.setStrokeColor(HexColor(element.get("stroke") or colours["page" if filled else stroke]))
    canvas.setFillColor(HexColor(colours["page" if "ring" in kinds else next((k for k in kinds if k in colours), "page")]))
    canvas.setLineWidth(next((WIDTHS[kind] for kind in WIDTHS if kind in kinds), 1.0))
    if "point" in kinds:
        canvas.setLineCap(1)
    if "line" in kinds and (dashes := _dashes().get(series)):
        canvas.setDash(dashes)
    if "front" in kinds:
        canvas.setDash([4, 4])


def _shape(canvas: Canvas, tag: str, given: dict[str, str], kinds: list[str]) -> None:
    if tag == "circle":
        canvas.circle(float(given["cx"]), float(given["cy"]), float(given["r"]), stroke=1, fill=1)
    elif tag == "rect":
        x, y, wide, high = (float(given.get(name, "0")) for name in ("x", "y", "width", "height"))
        filled = "tile" in kinds and "none" not in kinds
        canvas.rect(x, y, wide, high, stroke=int(not filled), fill=int(filled))
    else:
        path: Any = canvas.beginPath()
        x = y = 0.0
        commands = re.findall(
            r"([MLHVhv])([^MLHVhv]*)", given["d"] if tag == "path" else f"M{given['points'].replace(' ', 'L')}"
        )
        for letter, numbers in commands:
            found = [float(number) for number in re.split(r"[ ,]+", numbers.strip())]
            if letter in "ML":
                x, y = found
            elif letter in "Hh":
                x = found[0] if letter == "H" else x + found[0]
            else:
                y = found[0] if letter == "V" else y + found[0]
            (path.moveTo if letter == "M" else path.lineTo)(x, y)
        canvas.drawPath(path, stroke=1, fill=0)


def _write(canvas: Canvas, element: ElementTree.Element, kinds: list[str]) -> None:
    from reportlab.lib.colors import HexColor
    from reportlab.pdfbase.pdfmetrics import stringWidth

    text = (element.text or "").translate(FORMS).encode("cp1252", "replace").decode("cp1252")
    size, font = next((SIZE[kind] for kind in kinds if kind in SIZE), 12), "Helvetica"
    share = 0.5 if {"middle", "number"} & set(kinds) else 1.0 if "end" in kinds else 0.0
    colours = _colours()
    name = next((kind for kind in kinds if kind in colours), "quiet" if {"tick", "note"} & set(kinds) else "text")
    canvas.saveState()
    canvas.translate(float(element.get("x", "0")) - share * stringWidth(text, font, size), float(element.get("y", "0")))
    canvas.scale(1, -1)
    canvas.setFillColor(HexColor(colours[name]))
    canvas.setFont(font, size)
    canvas.drawString(0, 0, text)
    canvas.restoreState()


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
