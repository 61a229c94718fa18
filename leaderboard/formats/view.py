"""What the templates of a table get: labels, cells and sentences."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any

from leaderboard.formats.escaping import DASH, MINUS
from leaderboard.formats.figures import step
from leaderboard.formats.words import brief, change, difference, digits, note, number, spread, value
from leaderboard.tables.ranking import Labels, joined
from leaderboard.tables.remarks import remarks
from leaderboard.tables.score import Score, has_number
from leaderboard.tables.table import Table
from leaderboard.tables.verdict import DEVIATES, WITHIN
from results import TableFile
from results.reference import Key, Printed

AXES = {"part": "trained on", "measure": "measured"}
ROW_AXES = AXES | {"part": "setting"}
FIXED = ("protocol", "dataset", "attack", "defense", "architecture", "ratio")
UNITS = {
    "hours": "Hours",
    "minutes": "Minutes",
    "test_acc": "Test accuracy in %",
    "train_acc": "Training accuracy in %",
    "test_acc_mean_drop": "Drop of the mean test accuracy, in points",
    "dfr_max_test_acc": "Best test accuracy after reweighting the features, in %",
    "correlation": "Coefficient of correlation",
    "cosine": "Mean cosine",
    "match": "Mean cosine",
    "loss": "Cross-entropy",
    "luminance": "Levels of 255, and a fraction",
    "l2_norm": "As each row says",
    "psnr": "Peak signal-to-noise ratio, dB",
    "acm": "Activation cluster measure",
    "acm_max": "Activation cluster measure",
    "mean_absolute": "Mean size of the channels' mean activations",
}
SHORT = {"not-available": "not available", "missing": "not run yet", "printed": ""}
KINDS = {WITHIN: "within", DEVIATES: "deviates"}
ILLEGIBLE_SIGN = "?"  # in the place of a value that our source does not show
SIGNS = {WITHIN: "✓", DEVIATES: "✗"}  # told apart by their shapes

Cells = list[dict[str, Any] | None]


def view(table: Table, links: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what the templates get. `links` are from ids of cells to where all is said about them."""
    return _plain(table) if table.file is None else _printed(table, table.file, links or {})


# Without printed labels


def _plain(table: Table) -> dict[str, Any]:
    rows, columns = list(map(joined, table.rows)), list(map(joined, table.columns))
    labels = brief([*rows, *columns])
    return {
        "table": table,
        "columns": columns,
        "ranked": bool(table.ranking),
        "remarks": remarks(table),
        "short": labels,
        "shortened": {short: label for label, short in labels.items() if short != label},
        "spread": spread(table),
        "lines": [{"label": joined(row), "cells": _plain_cells(table, row)} for row in table.rows],
        "reasons": list(_reasons(table.in_order).items()),
    }


def _plain_cells(table: Table, row: Labels) -> Cells:
    return [_plain_cell(table, row, column) for column in table.columns]


def _plain_cell(table: Table, row: Labels, column: Labels) -> dict[str, Any]:
    score = table.scores[row, column]
    return {
        "number": number(score),
        "note": note(score, table.seeds),
        "change": change(score),
        "best": table.is_worst(row, column),
    }


def _reasons(scores: Iterable[Score]) -> dict[str, list[str]]:
    """Why scores have no number or an unusual one: each sentence once, with the places it is about."""
    reasons: dict[str, list[str]] = {}
    for score in scores:
        if score.reason and score.runs:
            where = f"{joined(score.place.row)} × {joined(score.place.column)}"  # noqa: RUF001
            reasons.setdefault(score.reason, []).append(where)
    return reasons


# In a printed layout


def _printed(table: Table, file: TableFile, links: Mapping[str, str]) -> dict[str, Any]:
    lines = [_line(table, position, links) for position in range(len(table.rows))]
    every = itertools.chain.from_iterable(map(itemgetter("cells"), lines))
    cells = list(filter(None, every))
    changes = dict.fromkeys(itertools.chain.from_iterable(map(itemgetter("changes"), cells)))
    measured = bool(table.measured)
    without = list(itertools.filterfalse(has_number, table.direct))
    absent = filter(_not_available, without)
    return {
        "table": table,
        "file": file,
        "fixed": _fixed(file),
        "states": dict(Counter(map(attrgetter("state"), without))),
        "command": shlex.quote(table.name),
        "unit": _unit(table, file),
        "better": f"{file.better} is good for its authors",
        "tall": measured,
        "row_axes": [ROW_AXES.get(axis, axis) for axis in file.rows],
        "column_axes": [AXES.get(axis, axis) for axis in file.columns if axis != "part"],
        "columns": list(map(joined, table.columns)),
        "heads": [_spans(table.columns, level) for level in range(len(file.columns))],
        "lines": lines,
        "legend": _legend(table),
        "top": table.top,
        "heated": set(map(itemgetter("heat"), cells)) - {None} != set(),
        "conditions": dict(zip(changes, itertools.count(1), strict=False)),
        "absent": dict(Counter(map(attrgetter("reason"), absent))),
        "sources": _sources(table, links),
        "width": 120 + 24 * len(table.columns) + 30 * len(file.rows),
        "height": 120 + (18 if measured else 7) * len(table.rows) + 6 * len(table.doubts),
    }


def _fixed(file: TableFile) -> dict[str, str]:
    """The axes that the layout leaves out, each with its one value."""
    labels = {axis: file.labels(axis)[0] for axis in FIXED if axis not in file.layout}
    return {AXES.get(axis, axis): label for axis, label in labels.items() if (axis, label) != ("ratio", "1")}


def _unit(table: Table, file: TableFile) -> str:
    """What the numbers are; a table of our own may print several figures, which its labels name."""
    if "unit=fraction" in file.params:
        return "Fractions"
    metrics = set(map(_metric, table.scores.values()))
    if not table.source and len(metrics) > 1:
        return "As the labels say, shares in %"
    return UNITS.get(file.metric, file.metric)


def _metric(score: Score) -> str:
    return score.place.metric.partition("(")[0]


def _not_available(score: Score) -> bool:
    return score.state == "not-available"


def _legend(table: Table) -> list[str]:
    """What places without a number mean, a sentence for each kind that the table has."""
    printed = list(filter(None, map(attrgetter("printed"), table.scores.values())))
    texts, qualities = set(map(attrgetter("text"), printed)), set(map(attrgetter("quality"), printed))
    sentences = []
    if len(table.scores) < len(table.rows) * len(table.columns):
        sentences.append("An empty place: the table has none there.")
    if "-" in texts:
        sentences.append(f"A {DASH} in italics: the paper prints a dash.")
    illegible = []
    if "?" in texts:
        illegible.append(f"what is shown as {ILLEGIBLE_SIGN}")
    if "inferred" in qualities:
        illegible.append("what a mark calls inferred")
    if illegible:
        sentences.append(f"Not legible in our source, and nothing is judged by it: {' and '.join(illegible)}.")
    return sentences


def _line(table: Table, position: int, links: Mapping[str, str]) -> dict[str, Any]:
    row = table.rows[position]
    heads = [{"label": label, "level": n, "span": _rows(table.rows, position, n + 1)} for n, label in enumerate(row)]
    cells = [_place(table, (row, column), links) for column in table.columns]
    return {"heads": heads, "cells": cells}


def _place(table: Table, key: Key, links: Mapping[str, str]) -> dict[str, Any] | None:
    """What is shown at a place; None where the table has none."""
    score = table.scores.get(key)
    return None if score is None else _cell(score, links, table.top)


def _rows(rows: Sequence[Labels], position: int, level: int) -> int:
    """How many rows the label of a row at some level stands for; 0 where it stands above already."""
    start = rows[position][:level]
    if position and rows[position - 1][:level] == start:
        return 0
    same = itertools.takewhile(lambda row: row[:level] == start, rows[position:])
    return len(list(same))


def _spans(columns: Sequence[Labels], level: int) -> list[dict[str, Any]]:
    groups = itertools.groupby(columns, key=lambda column: column[: level + 1])
    return [{"label": key[level], "span": len(list(several))} for key, several in groups]


def _cell(score: Score, links: Mapping[str, str], top: float) -> dict[str, Any]:
    changes = (*filter(None, [score.oracle]), *score.marks)
    return {
        "ours": value(score),
        "heat": None if score.accuracy is None else step(score.accuracy, top),
        "n": score.n,
        "difference": difference(score),
        "verdict": score.verdict,
        "kind": KINDS.get(score.verdict, "why"),
        "sign": SIGNS.get(score.verdict, ""),
        "changes": () if score.mean is None else changes,
        "state": score.state,
        "reason": score.reason,
        "short": SHORT.get(score.state, score.state.replace("-", " ")),
        "href": _href(score, links),
    } | _published(score.printed)


def _href(score: Score, links: Mapping[str, str]) -> str:
    return links.get(score.records[0], f"#cell-{score.records[0]}") if score.records else ""


def _published(printed: Printed | None) -> dict[str, Any]:
    if printed is None:
        return {"paper": "", "mark": "", "illegible": False, "why": ""}
    spread = f" ± {printed.std}" if printed.std else ""
    text = {"-": DASH, "?": ILLEGIBLE_SIGN}.get(printed.text, f"{printed.text}{spread}")
    return {
        "paper": text.replace("-", MINUS),
        "mark": printed.mark,
        "illegible": printed.text == "?",
        "why": f"{printed.quality}: {printed.note}" if printed.mark else "",
    }


def _sources(table: Table, links: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every record once, with the first number that rests on it."""
    sources: dict[str, dict[str, Any]] = {}
    for score in table.direct:
        for seed, record in zip(score.per_seed, score.records, strict=False):
            sources.setdefault(
                record,
                {
                    "anchor": f"cell-{record}",
                    "place": joined((*score.place.row, *score.place.column)),
                    "seed": seed,
                    "value": f"{score.per_seed[seed]:.{digits(score) + 1}f}",
                    "id": record,
                    "href": links.get(record, ""),
                },
            )
    return list(sources.values())
