"""The curves of a table's records as figures: values per epoch, or of what an analysis counts; where its file says so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from leaderboard.formats import figures
from leaderboard.formats.figures import Line
from results import Record
from results.reference import Key

if TYPE_CHECKING:
    from markupsafe import Markup

    from leaderboard.tables.table import Table

NAMES = {
    "test_acc": "test accuracy",
    "train_acc": "training accuracy",
    "acm": "activation cluster measure",
    "extent": "extent of the embedding",
    "gradient": "mean absolute gradient",
}
LONGEST = 20  # letters of a line's name


@dataclass(frozen=True)
class Plot:
    """A figure of a page."""

    title: str
    svg: Markup


def drawn(table: Table) -> list[Plot]:
    """Return the figures of a table: one per kind of curve, or several where one would have more lines than colours."""
    places: dict[Key, Sequence[Record]] = {}
    scores = table.scores if table.file is not None and table.file.curves else {}
    for key, score in scores.items():
        records = () if score.reported else score.used
        if records and all(records[0].id != other[0].id for other in places.values()):  # several figures of one record
            places[key] = records
    found = []
    for name in dict.fromkeys(name for records in places.values() for name in _curves(records[0])):
        holders = {key: records for key, records in places.items() if name in _curves(records[0])}
        found += [_plot(name, " / ".join(row), several) for row, several in _grouped(holders).items()]
    return found


def _grouped(holders: Mapping[Key, Sequence[Record]]) -> dict[tuple[str, ...], dict[Key, Sequence[Record]]]:
    """Places by the first labels of their rows, as few of these as leave no group with more places than colours."""
    groups: dict[tuple[str, ...], dict[Key, Sequence[Record]]] = {}
    for depth in range(1 + len(next(iter(holders))[0])):
        groups = {}
        for (row, column), records in holders.items():
            groups.setdefault(row[:depth], {})[row, column] = records
        if all(len(several) <= figures.COLOURS for several in groups.values()):
            break
    return groups


def _of(record: Record) -> Mapping[str, Sequence[float]]:
    return record.metrics.curves if record.metrics else {}


def _curves(record: Record) -> dict[str, Sequence[float]]:
    """The curves of a record by name, points of pictures apart."""
    curve = record.metrics.curve if record.metrics else None
    accuracies = {"test_acc": curve.test_acc, "train_acc": curve.train_acc} if curve else {}
    named = {name: values for name, values in _of(record).items() if not re.fullmatch(r"[xy](_\d+)?|label|picture_epoch", name)}
    return {name: values for name, values in {**accuracies, **named}.items() if len(values) > 1}


def _plot(name: str, row: str, several: Mapping[Key, Sequence[Record]]) -> Plot:
    names = _names(list(several))
    some = next(iter(several.values()))[0]
    curve = some.metrics.curve if some.metrics else None
    judged = list(curve.judged) if curve and name == "test_acc" else []
    epochs = len(judged) or (len(curve.train_acc) if curve else 0)
    pictured = name.startswith("picture_")
    epochwise = pictured or (len(_curves(some)[name]) == epochs and not name.startswith("layer_"))
    across = "epoch" if epochwise else "channel" if name.startswith("layer_") else "number"
    lines = []
    for key, records in several.items():
        curves = [values for record in records if (values := _curves(record).get(name))]
        # epochs of several seeds go together, channels and other numbers do not
        values = [fmean(each) for each in zip(*curves, strict=False)] if across == "epoch" else list(curves[0])
        steps = _of(records[0]).get("picture_epoch", ()) if pictured else judged or range(1, len(values) + 1)
        lines.append(Line(names[key], list(zip(map(float, steps), values, strict=False))))
    word = name.removeprefix("picture_")
    up = NAMES.get(word, word.replace("_", " ").replace("layer", "mean activation of layer"))
    seeds = "mean over seeds" if across == "epoch" and max(map(len, several.values())) > 1 else f"seed {some.cell.seed}"
    title = f"{up[0].upper()}{up[1:]} by {across}, {', '.join(filter(None, [row, seeds]))}"
    if word.endswith("_acc"):
        return Plot(title, figures.lines(title, across, lines, up=f"{up}, %"))
    return Plot(title, figures.series(title, across, up, lines, last=across == "epoch"))


def _names(keys: Sequence[Key]) -> dict[Key, str]:
    """What tells places apart, short."""
    whole = [(*row, *column) for row, column in keys]
    telling = [level for level, texts in enumerate(zip(*whole, strict=True)) if len(set(texts)) > 1]
    short = (" / ".join(texts[level] for level in telling) or texts[-1] for texts in whole)
    return {key: figures.shortened(name, LONGEST) for key, name in zip(keys, short, strict=True)}
