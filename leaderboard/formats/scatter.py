"""Points of classes side by side, as one SVG that can be read on light and dark pages, and the files that keep them."""

from __future__ import annotations

import itertools
import json
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from colorsys import hls_to_rgb
from dataclasses import asdict, dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from unlearnable_bench.leaderboard.formats.escaping import environment
from unlearnable_bench.leaderboard.formats.figures import shortened, standalone
from unlearnable_bench.leaderboard.tables.table import slugged

SIDE, GAP, HEAD, LINE = 260, 24, 46, 22  # pixels: side of a panel, between panels, above one, a line of the legend
MARGIN = 8  # pixels between points and the frame
LETTER = 8  # pixels, about the width of one
PER_ROW = 3  # panels
NAMED = 20  # classes up to which there is a legend
BRIGHT = 0.25  # luminance of the colours of classes
log = logging.getLogger(__name__)


class Range(NamedTuple):
    """From where to where numbers go."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        return cls(min(values, default=0.0), max(values, default=0.0))

    @property
    def width(self) -> float:
        return self.high - self.low

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    def shares(self, values: Iterable[float]) -> list[float]:
        """Where numbers are between both ends, 0 to 1."""
        width = self.width or 1.0
        return [(value - self.low) / width for value in values]


@dataclass(frozen=True)
class Panel:
    """What one poison looks like: a point (x, y) and a class for each of its images, in any unit."""

    title: str
    points: Sequence[tuple[float, float]]
    classes: Sequence[int]
    note: str = ""  # a short line under the title

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Panel:
        """Return what a file of `Plane` says of it."""
        return cls(
            title=str(fields["title"]),
            points=[(float(x), float(y)) for x, y in fields["points"]],
            classes=list(map(int, fields["classes"])),
            note=str(fields["note"]),
        )

    @property
    def attacks(self) -> set[str]:
        """The names of the entries in its title."""
        return set(re.sub(r"\([^()]*\)", "", self.title).split("+"))


@dataclass(frozen=True)
class ScatterPlot:
    """Panels side by side, as a workspace keeps them for its site."""

    title: str
    lead: str
    names: Sequence[str]  # of the classes 0, 1, ...
    panels: Sequence[Panel]
    slug: str = ""  # of its file

    def text(self) -> str:
        """Return it as JSON, coordinates to four digits of the largest."""
        content = {"title": self.title, "lead": self.lead, "names": list(self.names)}
        panels = [asdict(panel) | {"points": _rounded(panel.points), "classes": list(panel.classes)} for panel in self.panels]
        return json.dumps(content | {"panels": panels}, ensure_ascii=False, separators=(",", ":")) + "\n"

    @classmethod
    def read(cls, text: str, slug: str = "") -> ScatterPlot:
        """ValueError, KeyError or TypeError for what `text` did not write, and for what cannot be drawn."""
        content = json.loads(text)
        plane = cls(
            title=str(content["title"]),
            lead=str(content["lead"]),
            names=list(map(str, content["names"])),
            panels=[Panel.read(fields) for fields in content["panels"]],
            slug=slug,
        )
        plane.drawing()
        return plane

    @property
    def attacks(self) -> set[str]:
        """The names of the entries that have a panel."""
        return set(itertools.chain.from_iterable(panel.attacks for panel in self.panels))

    def drawing(self) -> str:
        return drawing(self.panels, self.names, self.title)


def planes(folder: Path) -> list[ScatterPlot]:
    """What a workspace keeps, by name; what is damaged is left out."""
    kept = []
    for path in sorted(folder.glob("*.json")):
        try:
            kept.append(ScatterPlot.read(path.read_text(encoding="utf-8"), slugged(path.stem)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is left out: %s", path.name, error)
    return kept


def svg(panels: Sequence[Panel], names: Sequence[str], title: str) -> str:
    """Return `drawing` as a document of its own, with its colours inside."""
    return standalone(drawing(panels, names, title))


def drawing(panels: Sequence[Panel], names: Sequence[str], title: str) -> str:
    """Return the panels as SVG; `names` are those of the classes 0, 1, ... The same input gives the same text."""
    for panel in panels:
        _check(panel)
    across = max(1, min(PER_ROW, len(panels)))
    width = across * SIDE + (across + 1) * GAP
    count = max([len(names), *(1 + max(panel.classes, default=0) for panel in panels)])
    colours = [colour(number / count) for number in range(count)]
    parts = []
    for number, panel in enumerate(panels):
        row, column = divmod(number, across)
        parts.append(_panel(panel, GAP + column * (SIDE + GAP), _top(row), names, colours))
    below = _top(math.ceil(len(panels) / across))
    legend, height = _legend(names if len(names) <= NAMED else [], width, below, colours)
    opening = f'<svg class="figure scatter" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
    return "\n".join([opening, f"<title>{escape(title)}</title>", *parts, *legend, "</svg>"])


def _check(panel: Panel) -> None:
    """ValueError for what cannot be drawn."""
    if len(panel.points) != len(panel.classes):
        raise ValueError(f"{panel.title}: {len(panel.points)} points, {len(panel.classes)} classes; expected one of each")
    if min(panel.classes, default=0) < 0:
        raise ValueError(f"{panel.title}: class {min(panel.classes)}; classes are 0, 1, ...")
    if not all(map(math.isfinite, itertools.chain.from_iterable(panel.points))):
        raise ValueError(f"{panel.title}: a point is not finite")


def _top(row: int) -> int:
    """Where a row of panels begins."""
    return GAP // 2 + row * (HEAD + SIDE + GAP)


def scatter_page(plane: str, title: str, lead: str) -> str:
    """Return a page like the site's others around a drawing."""
    from markupsafe import Markup

    template = environment("html").get_template("scatter.html")
    return template.render(scripted=False, title=title, lead=lead, drawing=Markup(plane))  # noqa: S704  (ours, escaped above)


@lru_cache(512)
def colour(share: float) -> str:
    """The colour at a share of the circle of hues, as light as reads on white and on black: #rrggbb."""
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        red, green, blue = hls_to_rgb(share, middle, 0.7)
        bright = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2  # luminance, 0..1
        low, high = (middle, high) if bright < BRIGHT else (low, middle)
    return "#" + "".join(f"{round(255 * part):02x}" for part in hls_to_rgb(share, high, 0.7))


def _rounded(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    most = max(map(abs, itertools.chain.from_iterable(points)), default=0.0)
    digits = 4 - math.ceil(math.log10(most)) if most > 0 else 0
    return [(round(x, digits), round(y, digits)) for x, y in points]


def _panel(panel: Panel, left: int, top: int, names: Sequence[str], colours: Sequence[str]) -> str:
    lines = [
        f'<g transform="translate({left} {top})">',
        f"<title>{escape(panel.title)}</title>",
        f'<text y="16">{escape(shortened(panel.title, SIDE // LETTER))}</text>',
        f'<text class="note" y="34">{escape(shortened(panel.note, SIDE // LETTER))}</text>',
        f'<rect class="frame" y="{HEAD}" width="{SIDE}" height="{SIDE}"/>',
    ]
    places = _placed(panel.points)
    for label in sorted(set(panel.classes)):
        dots = "".join(f"M{x} {y}h0" for (x, y), own in zip(places, panel.classes, strict=True) if own == label)
        name = names[label] if label < len(names) else str(label)
        lines.append(f'<path class="point k{label}" stroke="{colours[label]}" d="{dots}"><title>{escape(name)}</title></path>')
    return "\n".join([*lines, "</g>"])


def _placed(points: Sequence[tuple[float, float]]) -> list[tuple[str, str]]:
    """Return where points lie in their panel, both axes in one scale, as text."""
    if not points:
        return []
    xs, ys = zip(*points, strict=True)
    across, up = Range.of(xs), Range.of(ys)
    scale = (SIDE - 2 * MARGIN) / (max(across.width, up.width) or 1.0)
    placed = []
    for x, y in points:
        right, above = scale * (x - across.middle), scale * (y - up.middle)  # of the panel's center
        placed.append((f"{SIDE / 2 + right:.1f}", f"{HEAD + SIDE / 2 - above:.1f}"))
    return placed


def _legend(names: Sequence[str], width: int, top: int, colours: Sequence[str]) -> tuple[list[str], int]:
    """Return the names with their colours, in as many lines as they need, and where they end."""
    lines, left = [], GAP
    for number, name in enumerate(names):
        needed = 24 + LETTER * len(name)
        if left > GAP and left + needed > width:
            left, top = GAP, top + LINE
        lines.append(
            f'<path class="point key k{number}" stroke="{colours[number]}" d="M{left + 6} {top}h0"/>'
            f'<text x="{left + 14}" y="{top + 4}">{escape(name)}</text>'
        )
        left += needed
    return lines, top + LINE * bool(names)
