"""Points of classes side by side, as one SVG that needs nothing beside it and can be read on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

SIDE, GAP, HEAD, LINE = 260, 24, 46, 22  # pixels: side of a panel, between panels, above one, a line of the legend
MARGIN = 8  # pixels between points and the frame
LETTER = 8  # pixels, about the width of one
PER_ROW = 3  # panels
NAMED = 20  # classes up to which there is a legend


@dataclass(frozen=True)
class Panel:
    """What one poison looks like: a point (x, y) and a class for each of its images, in any unit."""

    title: str
    points: Sequence[tuple[float, float]]
    classes: Sequence[int]
    note: str = ""  # a short line under the title


def svg(panels: Sequence[Panel], names: Sequence[str], title: str) -> str:
    """Return the panels as an SVG document; `names` are those of the classes 0, 1, ... The same input gives the same text."""
    for panel in panels:
        if len(panel.points) != len(panel.classes):
            raise ValueError(f"{panel.title}: {len(panel.points)} points, {len(panel.classes)} classes; expected one of each")
        if not all(math.isfinite(value) for point in panel.points for value in point):
            raise ValueError(f"{panel.title}: a point is not finite")
    across = max(1, min(PER_ROW, len(panels)))
    width = across * SIDE + (across + 1) * GAP
    parts, top = [], GAP // 2
    for start in range(0, len(panels), across):
        for place, panel in enumerate(panels[start : start + across]):
            parts.append(_panel(panel, GAP + place * (SIDE + GAP), top, names))
        top += HEAD + SIDE + GAP
    legend, height = _legend(names if len(names) <= NAMED else [], width, top)
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" class="scatter" viewBox="0 0 {width} {height}" role="img">'
    return "\n".join([opening, f"<title>{escape(title)}</title>", _style(names), *parts, *legend, "</svg>", ""])


def page(drawing: str, title: str, lead: str) -> str:
    """Return a page like the site's others around a drawing of `svg`."""
    from markupsafe import Markup

    from leaderboard.language import environment

    template = environment("html").get_template("scatter.html")
    return template.render(scripted=False, title=title, lead=lead, drawing=Markup(drawing))  # noqa: S704  (ours, escaped above)


def _style(names: Sequence[str]) -> str:
    """Colours by class: the circle of hues in equal steps, darker on light pages."""
    hues = [round(360 * number / max(1, len(names))) for number in range(len(names))]
    light = "".join(f".scatter .k{number} {{ stroke: hsl({hue} 75% 42%); }}\n" for number, hue in enumerate(hues))
    dark = "".join(f".scatter .k{number} {{ stroke: hsl({hue} 75% 66%); }}\n" for number, hue in enumerate(hues))
    return (
        "<style>\n"
        ".scatter { display: block; width: 100%; height: auto; max-width: 60rem; background: none; }\n"
        ".scatter text { font: 13px system-ui, sans-serif; fill: #1b1d21; }\n"
        ".scatter .note { font-size: 11px; fill: #5a6070; }\n"
        ".scatter rect { fill: none; stroke: #d9dce3; }\n"
        ".scatter path { fill: none; stroke-width: 4; stroke-linecap: round; stroke-opacity: .75; }\n"
        f"{light}@media (prefers-color-scheme: dark) {{\n"
        ".scatter text { fill: #eceef2; }\n.scatter .note { fill: #a3aab8; }\n.scatter rect { stroke: #343943; }\n"
        f"{dark}}}\n</style>"
    )


def _panel(panel: Panel, left: int, top: int, names: Sequence[str]) -> str:
    lines = [
        f'<g transform="translate({left} {top})">',
        f"<title>{escape(panel.title)}</title>",
        f'<text y="16">{escape(_clipped(panel.title, SIDE // LETTER))}</text>',
        f'<text class="note" y="34">{escape(_clipped(panel.note, SIDE // LETTER))}</text>',
        f'<rect y="{HEAD}" width="{SIDE}" height="{SIDE}"/>',
    ]
    places = _placed(panel.points)
    for label in sorted(set(panel.classes)):
        dots = "".join(f"M{x} {y}h0" for (x, y), own in zip(places, panel.classes, strict=True) if own == label)
        name = names[label] if label < len(names) else str(label)
        lines.append(f'<path class="k{label}" d="{dots}"><title>{escape(name)}</title></path>')
    return "\n".join([*lines, "</g>"])


def _placed(points: Sequence[tuple[float, float]]) -> list[tuple[str, str]]:
    """Return where points lie in their panel, both axes in one scale, as text."""
    if not points:
        return []
    ends = [(min(point[axis] for point in points), max(point[axis] for point in points)) for axis in (0, 1)]
    scale = (SIDE - 2 * MARGIN) / (max(high - low for low, high in ends) or 1.0)
    (left, right), (bottom, top) = ends
    found = []
    for x, y in points:
        across, up = scale * (x - (left + right) / 2), scale * (y - (bottom + top) / 2)  # from the panel's centre
        found.append((f"{SIDE / 2 + across:.1f}", f"{HEAD + SIDE / 2 - up:.1f}"))
    return found


def _legend(names: Sequence[str], width: int, top: int) -> tuple[list[str], int]:
    """Return the names with their colours, in as many lines as they need, and where they end."""
    lines, left, there = [], GAP, bool(names)
    for number, name in enumerate(names):
        needed = 24 + LETTER * len(name)
        if left > GAP and left + needed > width:
            left, top = GAP, top + LINE
        lines.append(
            f'<path class="k{number}" d="M{left + 6} {top}h0"/><text x="{left + 14}" y="{top + 4}">{escape(name)}</text>'
        )
        left += needed
    return lines, top + LINE * there


def _clipped(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
