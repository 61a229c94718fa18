"""Where names stand in a figure, so that none covers another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import fmean

from unlearnable_bench.leaderboard.formats.svg import LETTER, LINE, Box, Position


def free_box(at: Position, name: str, taken: Sequence[Box], frame: Box, reach: Iterable[float] = (8, 16)) -> Box | None:
    """A place for a name near a point, inside the frame, that touches nothing taken; the nearest ones are tried first."""
    for box in _boxes_near(at, name, reach):
        if box.inside(frame) and not any(box.touches(other) for other in taken):
            return box
    return None


def _boxes_near(at: Position, name: str, reach: Iterable[float]) -> Iterator[Box]:
    """Places for a name: right, left, above and below of its point."""
    wide = LETTER * len(name)
    for far in reach:
        for x, y in ((far, 0), (-far - wide, 0), (-wide / 2, -far - 6), (-wide / 2, far + 6), (far - 2, -far), (far - 2, far)):
            yield Box(at.x + x, at.y + y - LINE / 2, at.x + x + wide, at.y + y + LINE / 2)


def along(points: Iterable[Position], far: float = 3) -> list[Box]:
    """What a line through some points covers."""
    boxes = []
    for start, end in pairwise(points):
        steps = max(1, round(math.dist(start, end) / 6))
        for k in range(steps + 1):
            between = Position(start.x + (end.x - start.x) * k / steps, start.y + (end.y - start.y) * k / steps)
            boxes.append(Box.around(between, far))
    return boxes


class LabelColumn:
    """Heights of names one below the other, from `top` to `bottom`."""

    def __init__(self, top: float, bottom: float) -> None:
        self.top = top
        self.bottom = bottom

    def apart(self, heights: Iterable[float]) -> list[float]:
        """Move sorted heights apart until their texts do not overlap, as little as may be."""
        groups: list[list[float]] = []  # of heights that stand LINE apart around their mean
        for height in heights:
            groups.append([height])
            while len(groups) > 1 and self._overlap(*groups[-2:]):
                last = groups.pop()
                groups[-1] += last
        moved = []
        for group in groups:
            first = self._first(group)
            moved += [first + LINE * number for number in range(len(group))]
        return moved

    def _first(self, group: Sequence[float]) -> float:
        half = LINE * (len(group) - 1) / 2
        return max(float(self.top), min(fmean(group) - half, self.bottom - 2 * half))

    def _overlap(self, upper: Sequence[float], lower: Sequence[float]) -> bool:
        return self._first(lower) < self._first(upper) + LINE * len(upper)
