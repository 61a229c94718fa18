"""Pictures under a table: curves that analyses keep in their records, drawn by what they hold, of the first seed of each place.

`x`, `y` and `label` (`x_5`: after epoch 5), or `NAME_x` and `NAME_y`: points of a plane. `protection`: it over every other
curve, point by point. `NAME_acc`: accuracies epoch by epoch, beside that of the victim and, dotted, of the same without
training, where the table has an analysis called so (`dfr`, `dfr-random`). Where a table's file says `curves = true`, all that
`curves.curve_figures` draws stands in their place. `picture_1` and on: images, a number 0xRRGGBB per pixel.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leaderboard.formats import curves as per_epoch
from leaderboard.formats import figures, scatter
from leaderboard.formats.figures import Line
from leaderboard.formats.scatter import Panel
from leaderboard.pages import gallery
from results import Record

if TYPE_CHECKING:
    from markupsafe import Markup

    from leaderboard.tables.table import Table

Curves = Mapping[str, Sequence[float]]
LAST = 10**9  # later than any epoch: points without one are of the end
AXIS = re.compile(r"x(?:_(\d+))?")  # the curve of one coordinate of points, and after which epoch they were taken


@dataclass(frozen=True)
class Sketch:
    """A picture: a drawing, or strips of images as `gallery.samples` has them."""

    title: str
    drawing: Markup | None = None
    strips: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class _Shown:
    """A record, and where it stands in its table."""

    row: str
    column: str
    record: Record

    @property
    def curves(self) -> Curves:
        return self.record.metrics.curves if self.record.metrics else {}

    @property
    def measure(self) -> str:
        """The name of its analysis."""
        return "" if isinstance(self.record.cell.measure, str) else self.record.cell.measure.name

    @property
    def setting(self) -> tuple[str, ...]:
        texts = self.record.cell.texts
        return tuple(texts[axis] for axis in ("protocol", "dataset", "defense", "architecture"))


def sketches(table: Table) -> list[Sketch]:
    """Return the pictures of a table. Curves that are not what their names say are left out."""
    shown = list(_shown(table))
    lines = [Sketch(one.title, one.svg) for one in per_epoch.curve_figures(table)] if _curves_wanted(table) else _lines(shown)
    return [*_points(table, shown), *lines, *_pictures(shown)]


def _shown(table: Table) -> Iterator[_Shown]:
    """Each record once, the first seed of each place."""
    seen = set()
    everything = _curves_wanted(table)
    for score in table.direct:
        first = () if score.reported else score.used[:1]
        for record in first:
            figures_of = record.metrics is not None and record.metrics.figures
            if record.id not in seen and (everything or figures_of):
                seen.add(record.id)
                yield _Shown(" / ".join(score.place.row), " / ".join(score.place.column), record)


def _curves_wanted(table: Table) -> bool:
    """Whether the table's file asks for all curves of its records."""
    return table.file is not None and table.file.curves


def _points(table: Table, shown: Sequence[_Shown]) -> list[Sketch]:
    """Planes side by side: those with classes, those with the same names of sets, those with protection."""
    from markupsafe import Markup

    groups: dict[tuple[str, ...], list[Panel]] = defaultdict(list)
    for one in shown:
        curves = one.curves
        sets = [name.removesuffix("_x") for name in curves if name.endswith("_x") and f"{name[:-1]}y" in curves]
        for epoch, name in sorted((int(hit[1] or LAST), hit[0]) for name in curves if (hit := AXIS.fullmatch(name))):
            if {"label", "y" + name[1:]} <= set(curves):
                points = list(zip(curves[name], curves["y" + name[1:]], strict=False))
                title = one.row if epoch == LAST else f"{one.row}, epoch {epoch}"
                groups[()].append(Panel(title, points, [int(label) for label in curves["label"]]))
        if sets:
            drawn = [list(zip(curves[f"{name}_x"], curves[f"{name}_y"], strict=False)) for name in sets]
            classes = [number for number, points in enumerate(drawn) for _ in points]
            groups[tuple(sets)].append(Panel(one.row, [point for points in drawn for point in points], classes))
        if "protection" in curves:
            terms = [name for name in curves if name not in ("protection", "step")]
            groups["protection",] += [_over(one.row, term, curves[term], curves["protection"]) for term in terms]
    found = []
    for names, panels in groups.items():
        whole = [panel for panel in panels if len(panel.points) == len(panel.classes) and min(panel.classes, default=0) >= 0]
        title = f"Protection over robustness: {table.title}" if names == ("protection",) else f"Points: {table.title}"
        drawing = scatter.drawing(whole, names if len(names) > 1 else (), title)
        found += [Sketch(title, Markup(drawing))] if whole else []  # noqa: S704  (escaped there)
    return found


def _over(row: str, term: str, values: Sequence[float], protection: Sequence[float]) -> Panel:
    """Protection over a term; both fill the panel, whose note says from where to where they go."""
    sides = [(min(side, default=0.0), max(side, default=0.0)) for side in (values, protection)]
    points = [
        tuple((value - low) / ((high - low) or 1.0) for value, (low, high) in zip(point, sides, strict=True))
        for point in zip(values, protection, strict=False)
    ]
    (left, right), (low, high) = sides
    note = f"{left:.3g} to {right:.3g}; up {100 * low:.3g} to {100 * high:.3g} %"
    return Panel(f"{term}, {row}", [(x, y) for x, y in points], [0] * len(points), note)


def _lines(shown: Sequence[_Shown]) -> list[Sketch]:
    found = []
    for one in shown:
        kept = {name: values for name, values in one.curves.items() if name.endswith("_acc") and len(values) > 1}
        if not kept or one.record.metrics is None:
            continue
        several = [("victim", one.record.metrics.curve.test_acc), *((name.replace("_", " "), v) for name, v in kept.items())]
        drawn = [Line(name, list(enumerate(values, 1))) for name, values in several if len(values) > 1]
        last = max(len(line.points) for line in drawn)
        beside = [
            (other.row != one.row, level)
            for other in shown
            if other.measure == f"{one.measure}-random" and other.setting == one.setting and other.record.metrics
            for name, level in other.record.metrics.figures.items()
            if name.endswith("_acc")
        ]
        if beside:  # that of the same row, else of the first that has one
            level = min(beside, key=lambda found: found[0])[1]
            drawn.append(Line("without training", [(1, level), (last, level)]))
        title = f"{one.row}: accuracy per epoch"
        found.append(Sketch(title, figures.lines(title, "epoch", drawn, dots=False)))
    return found


def _pictures(shown: Sequence[_Shown]) -> list[Sketch]:
    """The pictures of a row below one another, one strip per column."""
    rows: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in shown:
        numbers = sorted(int(name[8:]) for name in one.curves if name.startswith("picture_") and name[8:].isdecimal())
        several = [one.curves[f"picture_{number}"] for number in numbers if f"picture_{number}" in one.curves]
        if several and len({len(values) for values in several}) == 1 and math.isqrt(len(several[0])) ** 2 == len(several[0]):
            rows[one.row].append(_strip(several, one.column))
    return [Sketch(row, strips=strips) for row, strips in rows.items()]


def _strip(several: Sequence[Sequence[float]], title: str) -> dict[str, Any]:
    import numpy as np

    side = math.isqrt(len(several[0]))
    numbers = np.clip(np.array(several), 0, 0xFFFFFF).astype(np.int64).reshape(len(several), side, side)
    images = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], 1).astype(np.uint8)  # (K, 3, H, W)
    return gallery.strip(images, title, f"One picture per class: {title}")
