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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from unlearnable_bench.leaderboard.formats import curves as per_epoch
from unlearnable_bench.leaderboard.formats import figures, scatter
from unlearnable_bench.leaderboard.formats.figures import Line
from unlearnable_bench.leaderboard.formats.scatter import Panel, Range
from unlearnable_bench.leaderboard.pages.strips import Strip, strip
from unlearnable_bench.leaderboard.tables.ranking import joined
from unlearnable_bench.results import Cell
from unlearnable_bench.results.record import Metrics

if TYPE_CHECKING:
    from markupsafe import Markup

    from unlearnable_bench.leaderboard.tables.score import Score
    from unlearnable_bench.leaderboard.tables.table import Table

Curves = Mapping[str, Sequence[float]]
LAST = 10**9  # later than any epoch: points without one are of the end
AXIS = re.compile(r"x(?:_(\d+))?")  # the curve of one coordinate of points, and after which epoch they were taken
PICTURE = re.compile(r"picture_(0|[1-9]\d*)")
PROTECTION = ("protection",)  # instead of names of sets: panels that are drawn together
CHANNELS = 0xFFFFFF  # the largest number that three channels of 8 bits make


@dataclass(frozen=True)
class Sketch:
    """A picture: a drawing, or strips of images."""

    title: str
    drawing: Markup | None = None
    strips: Sequence[Strip] = ()


@dataclass(frozen=True)
class Placed:
    """What was measured of a cell, and where it stands in its table."""

    row: str
    column: str
    cell: Cell
    metrics: Metrics

    @classmethod
    def of(cls, score: Score) -> Placed:
        record = score.used[0]
        return cls(joined(score.request.row), joined(score.request.column), record.cell, per_epoch.metrics_of(record))

    @property
    def curves(self) -> Curves:
        return self.metrics.curves

    @property
    def victim(self) -> Sequence[float]:
        """The test accuracy of the victim, epoch by epoch."""
        return self.metrics.curve.test_acc

    @property
    def measure(self) -> str:
        """The name of its analysis."""
        return "" if isinstance(self.cell.measure, str) else self.cell.measure.name

    @property
    def setting(self) -> tuple[str, ...]:
        texts = self.cell.texts
        return texts["protocol"], texts["dataset"], texts["defense"], texts["architecture"]


def sketches(table: Table) -> list[Sketch]:
    """Return the pictures of a table. Curves that are not what their names say are left out."""
    shown = _first_seeds(table)
    return [*_planes(table, shown), *_curves(table, shown), *_pictures(shown)]


def _first_seeds(table: Table) -> list[Placed]:
    """The first seed of each place, where its record has something to draw; of places that share a record the first."""
    placed = [Placed.of(score) for score in per_epoch.drawn_scores(table)]
    return [place for place in placed if place.metrics.figures or per_epoch.asks_for_curves(table)]


# Points of planes


class Group(NamedTuple):
    """A panel, and the names of its sets: panels with the same ones stand side by side."""

    names: tuple[str, ...]
    panel: Panel


def _planes(table: Table, shown: Iterable[Placed]) -> Iterator[Sketch]:
    """Planes side by side: those with classes, those with the same names of sets, those with protection."""
    groups: dict[tuple[str, ...], list[Panel]] = defaultdict(list)
    for placed in shown:
        for group in _panels(placed):
            groups[group.names].append(group.panel)
    for names, panels in groups.items():
        whole = [panel for panel in panels if _is_whole(panel)]
        if whole:
            yield _plane(table, names, whole)


def _panels(placed: Placed) -> Iterator[Group]:
    yield from _class_panels(placed)
    yield from _set_panels(placed)
    yield from _protection_panels(placed)


def _plane(table: Table, names: tuple[str, ...], panels: Sequence[Panel]) -> Sketch:
    from markupsafe import Markup

    title = f"Protection over robustness: {table.title}" if names == PROTECTION else f"Points: {table.title}"
    drawing = scatter.drawing(panels, names if len(names) > 1 else (), title)
    return Sketch(title, Markup(drawing))  # noqa: S704  (escaped there)


def _is_whole(panel: Panel) -> bool:
    """Whether each of its points has a class."""
    return len(panel.points) == len(panel.classes) and min(panel.classes, default=0) >= 0


def _class_panels(placed: Placed) -> Iterator[Group]:
    """Points with the label of each, after some epochs and at the end."""
    curves = placed.curves
    for epoch, name in _coordinates(curves):
        other = name.replace("x", "y", 1)
        if "label" in curves and other in curves:
            title = placed.row if epoch == LAST else f"{placed.row}, epoch {epoch}"
            classes = [int(label) for label in curves["label"]]
            yield Group((), Panel(title, _pairs(curves[name], curves[other]), classes))


def _coordinates(curves: Curves) -> list[tuple[int, str]]:
    """The curves of first coordinates, each with its epoch."""
    return sorted((int(match[1] or LAST), match[0]) for match in _matches(AXIS, curves))


def _matches(pattern: re.Pattern[str], names: Iterable[str]) -> list[re.Match[str]]:
    """The names that match as a whole."""
    matches = [pattern.fullmatch(name) for name in names]
    return [match for match in matches if match]


def _set_panels(placed: Placed) -> Iterator[Group]:
    """Points of several sets, each set a class."""
    points: list[tuple[float, float]] = []
    classes: list[int] = []
    sets = _sets(placed.curves)
    for number, name in enumerate(sets):
        pairs = _pairs(placed.curves[f"{name}_x"], placed.curves[f"{name}_y"])
        points += pairs
        classes += [number] * len(pairs)
    if sets:
        yield Group(tuple(sets), Panel(placed.row, points, classes))


def _sets(curves: Curves) -> list[str]:
    """The names of sets of points that have both coordinates."""
    names = [name.removesuffix("_x") for name in curves if name.endswith("_x")]
    return [name for name in names if f"{name}_y" in curves]


def _protection_panels(placed: Placed) -> Iterator[Group]:
    """Protection over every other curve, point by point."""
    curves = placed.curves
    if "protection" not in curves:
        return
    for term, values in curves.items():
        if term not in ("protection", "step"):
            yield Group(PROTECTION, _over(f"{term}, {placed.row}", values, curves["protection"]))


def _over(title: str, values: Sequence[float], protection: Sequence[float]) -> Panel:
    """Protection over a term; both fill the panel, whose note says from where to where they go."""
    across, up = Range.of(values), Range.of(protection)
    points = _pairs(across.shares(values), up.shares(protection))
    note = f"{across.low:.3g} to {across.high:.3g}; up {100 * up.low:.3g} to {100 * up.high:.3g} %"
    return Panel(title, points, [0] * len(points), note)


def _pairs(across: Iterable[float], up: Iterable[float]) -> list[tuple[float, float]]:
    return list(zip(across, up, strict=False))


# Accuracies epoch by epoch


def _curves(table: Table, shown: Sequence[Placed]) -> Iterator[Sketch]:
    """All curves, where the table's file asks for them, else the accuracies that analyses kept."""
    if per_epoch.asks_for_curves(table):
        for plot in per_epoch.curve_figures(table):
            yield Sketch(plot.title, plot.svg)
        return
    for placed in shown:
        kept = _kept(placed)
        if kept:
            yield _accuracies(placed, kept, _untrained(placed, shown))


def _kept(placed: Placed) -> list[Line]:
    """The accuracies that an analysis kept, epoch by epoch."""
    lines = [_line(name.replace("_", " "), values) for name, values in placed.curves.items() if name.endswith("_acc")]
    return [line for line in lines if len(line.points) > 1]


def _accuracies(placed: Placed, kept: Sequence[Line], untrained: float | None) -> Sketch:
    """What an analysis trained beside its victim and, dotted, the same without training."""
    victim = [_line("victim", placed.victim)] if len(placed.victim) > 1 else []
    lines = [*victim, *kept]
    if untrained is not None:
        last = max(len(line.points) for line in lines)
        lines.append(Line("without training", [(1, untrained), (last, untrained)]))
    title = f"{placed.row}: accuracy per epoch"
    return Sketch(title, figures.lines(title, "epoch", lines, dots=False))


def _line(name: str, values: Sequence[float]) -> Line:
    return Line(name, list(enumerate(values, 1)))


def _untrained(placed: Placed, shown: Iterable[Placed]) -> float | None:
    """The accuracy without training: that of the same row, else of the first that has one."""
    twins = [other for other in shown if _is_untrained_twin(other, placed)]
    for other in sorted(twins, key=lambda twin: twin.row != placed.row):
        for name, level in other.metrics.figures.items():
            if name.endswith("_acc"):
                return level
    return None


def _is_untrained_twin(other: Placed, placed: Placed) -> bool:
    return other.measure == f"{placed.measure}-random" and other.setting == placed.setting


# Images


def _pictures(shown: Iterable[Placed]) -> list[Sketch]:
    """The pictures of a row below one another, one strip per column."""
    rows: dict[str, list[Strip]] = defaultdict(list)
    for placed in shown:
        images = _images(placed.curves)
        if _are_square(images):
            rows[placed.row].append(_strip(images, placed.column))
    return [Sketch(row, strips=strips) for row, strips in rows.items()]


def _images(curves: Curves) -> list[Sequence[float]]:
    """The curves that are images, in the order of their numbers."""
    matches = sorted(_matches(PICTURE, curves), key=lambda match: int(match[1]))
    return [curves[match[0]] for match in matches]


def _are_square(images: Iterable[Sequence[float]]) -> bool:
    """Whether there are images, all of them squares of one size."""
    sizes = {len(image) for image in images}
    if len(sizes) != 1:
        return False
    (size,) = sizes
    return math.isqrt(size) ** 2 == size


def _strip(images: Sequence[Sequence[float]], title: str) -> Strip:
    import numpy as np

    side = math.isqrt(len(images[0]))
    numbers = np.clip(np.array(images), 0, CHANNELS).astype(np.int64).reshape(len(images), side, side)
    pixels = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], 1).astype(np.uint8)  # (K, 3, H, W)
    return strip(pixels, title, f"One picture per class: {title}")
