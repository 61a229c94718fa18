"""What the templates of a table get: labels, cells and sentences."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from unlearnable_bench.leaderboard.formats.escaping import DASH, MINUS
from unlearnable_bench.leaderboard.formats.figures import step
from unlearnable_bench.leaderboard.formats.words import change, decimal_places, difference, measured_value, note, number, spread
from unlearnable_bench.leaderboard.tables.groups import first_of_each, group_by
from unlearnable_bench.leaderboard.tables.naming import METHODS, Names, labels_of
from unlearnable_bench.leaderboard.tables.ranking import Labels, joined
from unlearnable_bench.leaderboard.tables.remarks import remarks
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.leaderboard.tables.verdict import DEVIATES, WITHIN
from unlearnable_bench.results import Record, TableFile
from unlearnable_bench.results.reference import Key, Printed

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
    names = Names.of(table)
    return {
        "table": table,
        "columns": table.column_texts,
        "ranked": bool(table.ranking),
        "remarks": remarks(table),
        "names": names,
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


def _reasons(scores: Sequence[Score]) -> dict[str, list[str]]:
    """Why scores have no number or an unusual one, and errata: each sentence once, with the places it is about."""
    by_reason = group_by([score for score in scores if score.runs], lambda score: score.reason)
    by_reason.pop("", None)
    by_erratum = group_by([score for score in scores if score.errata], lambda score: "; ".join(score.errata))
    return {reason: [_where(score) for score in alike] for reason, alike in [*by_reason.items(), *by_erratum.items()]}


def _where(score: Score) -> str:
    return f"{joined(score.request.row)} × {joined(score.request.column)}"  # noqa: RUF001


# In a printed layout


BETTER = {
    "high": "higher is better for the method that the paper proposes",
    "low": "lower is better for the method that the paper proposes",
}


def _printed(table: Table, file: TableFile, links: Mapping[str, str]) -> dict[str, Any]:
    names = [_names(axis, table.rows, level) for level, axis in enumerate(file.rows)]
    lines = [_line(table, position, names, links) for position in range(len(table.rows))]
    return {
        "table": table,
        "file": file,
        "fixed": _fixed(file),
        "command": shlex.quote(table.name),
        "unit": _unit(table, file),
        "better": BETTER[file.better],
        "tall": table.measured > 0,
        "lines": lines,
        "legend": _legend(table),
        "top": table.top,
        "sources": _sources(table, links),
        **_layout(table, file),
        **_about_numbers(lines),
        **_about_gaps(table),
    }


def _layout(table: Table, file: TableFile) -> dict[str, Any]:
    """The heads of rows and columns, and the size of a page that has room for them, in mm."""
    line = 18 if table.measured else 7
    return {
        "row_axes": [ROW_AXES.get(axis, axis) for axis in file.rows],
        "column_axes": [AXES.get(axis, axis) for axis in file.columns if axis != "part"],
        "columns": table.column_texts,
        "heads": [_spans(table.columns, level, _names(axis, table.columns, level)) for level, axis in enumerate(file.columns)],
        "width": 120 + 24 * len(table.columns) + 30 * len(file.rows),
        "height": 120 + line * len(table.rows) + 6 * len(table.doubts),
    }


def _about_numbers(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether any number has a color, and what was measured in the place of something else, numbered."""
    cells = _cells_of(lines)
    changes = dict.fromkeys(itertools.chain.from_iterable(cell["changes"] for cell in cells))
    return {
        "heated": any(cell["heat"] is not None for cell in cells),
        "conditions": dict(zip(changes, itertools.count(1), strict=False)),
    }


def _cells_of(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is shown, place by place."""
    places = itertools.chain.from_iterable(line["cells"] for line in lines)
    return [cell for cell in places if cell is not None]


def _about_gaps(table: Table) -> dict[str, Any]:
    """How many places have no number, by their state; and what is not available for how many of them."""
    gaps = [score for score in table.direct if score.mean is None]
    by_state = group_by(gaps, lambda score: score.state)
    return {
        "states": {state: len(scores) for state, scores in by_state.items()},
        "absent": dict(Counter(score.reason for score in by_state["not-available"])),
    }


def _fixed(file: TableFile) -> dict[str, str]:
    """The axes that the layout leaves out, each with its one value."""
    labels = {axis: file.labels(axis)[0] for axis in FIXED if axis not in file.layout}
    return {AXES.get(axis, axis): label for axis, label in labels.items() if (axis, label) != ("ratio", "1")}


def _unit(table: Table, file: TableFile) -> str:
    """What the numbers are; a table of our own may print several figures, which its labels name."""
    if "unit=fraction" in file.params:
        return "Fractions"
    metrics = {score.metric_name for score in table.scores.values()}
    if not table.source and len(metrics) > 1:
        return "As the labels say, shares in %"
    return UNITS.get(file.metric, file.metric)


def _legend(table: Table) -> list[str]:
    """What places without a number mean, a sentence for each kind that the table has."""
    texts = {value.text for value in table.published_values}
    qualities = {value.quality for value in table.published_values}
    illegible = {
        f"what is shown as {ILLEGIBLE_SIGN}": "?" in texts,
        "what a mark calls inferred": "inferred" in qualities,
    }
    illegible_kinds = " and ".join(_that_hold(illegible))
    sentences = {
        "An empty place: the table has none there.": len(table.scores) < len(table.rows) * len(table.columns),
        f"A {DASH} in italics: the paper prints a dash.": "-" in texts,
        f"Not legible in our source, and nothing is judged by it: {illegible_kinds}.": bool(illegible_kinds),
        "What a mark calls copied is a number of another paper, and counts nowhere as one of this paper.": "copied"
        in qualities,
    }
    return _that_hold(sentences)


def _that_hold(phrases: Mapping[str, bool]) -> list[str]:
    return [phrase for phrase, holds in phrases.items() if holds]


def _names(axis: str, lines: Sequence[Labels], level: int) -> dict[str, str]:
    """What readers call attacks and defenses at a level of the heads, by their specs; what a paper prints stays."""
    return labels_of(axis, [line[level] for line in lines]) if axis in METHODS else {}


def _line(table: Table, position: int, names: Sequence[Mapping[str, str]], links: Mapping[str, str]) -> dict[str, Any]:
    row = table.rows[position]
    heads = [
        {"label": label, "name": names[n].get(label, label), "level": n, "span": _rows(table.rows, position, n + 1)}
        for n, label in enumerate(row)
    ]
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


def _spans(columns: Sequence[Labels], level: int, names: Mapping[str, str]) -> list[dict[str, Any]]:
    groups = itertools.groupby(columns, key=lambda column: column[: level + 1])
    return [{"label": key[level], "name": names.get(key[level], key[level]), "span": len(list(alike))} for key, alike in groups]


def _cell(score: Score, links: Mapping[str, str], top: float) -> dict[str, Any]:
    """Ours, and what is published beside it."""
    return {
        "ours": measured_value(score),
        "heat": None if score.accuracy is None else step(score.accuracy, top),
        "n": score.n,
        "difference": difference(score),
        "verdict": score.verdict,
        "kind": KINDS.get(score.verdict, "why"),
        "sign": SIGNS.get(score.verdict, ""),
        "changes": _changes(score),
        "state": score.state,
        "reason": score.reason,
        "short": SHORT.get(score.state, score.state.replace("-", " ")),
        "href": _href(score, links),
    } | _published(score.printed)


def _changes(score: Score) -> tuple[str, ...]:
    """What was measured in the place of something else; nothing where nothing is measured."""
    if score.mean is None:
        return ()
    marks = (*score.marks, *score.errata)
    return (score.oracle, *marks) if score.oracle else marks


def _href(score: Score, links: Mapping[str, str]) -> str:
    return links.get(score.records[0], f"#cell-{score.records[0]}") if score.records else ""


def _published(printed: Printed | None) -> dict[str, Any]:
    """What a paper prints; empty texts where it prints nothing."""
    if printed is None:
        return {"paper": "", "mark": "", "illegible": False, "why": ""}
    spread = f" ± {printed.std}" if printed.std else ""
    text = {"-": DASH, "?": ILLEGIBLE_SIGN}.get(printed.text, f"{printed.text}{spread}")
    return {
        "paper": text.replace("-", MINUS),
        "mark": printed.mark,
        "illegible": printed.text == "?",
        "why": _doubt(printed) if printed.mark else "",
    }


def _doubt(printed: Printed) -> str:
    """Why a published value has a mark."""
    return printed.note if printed.quality == "ok" else f"{printed.quality}: {printed.note}"


def _sources(table: Table, links: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every record once, with the first number that rests on it."""
    numbers = itertools.chain.from_iterable(_numbers(score) for score in table.direct)
    first = first_of_each(numbers, lambda number: number.record.id)
    return [number.row | {"href": links.get(number.record.id, "")} for number in first]


class _Number(NamedTuple):
    """A number that a mean is made of."""

    score: Score
    record: Record

    @property
    def row(self) -> dict[str, Any]:
        seed = self.record.cell.seed
        return {
            "anchor": f"cell-{self.record.id}",
            "place": self.score.request.where,
            "seed": seed,
            "value": f"{self.score.per_seed[seed]:.{decimal_places(self.score) + 1}f}",
            "id": self.record.id,
        }


def _numbers(score: Score) -> list[_Number]:
    """The numbers of a score; a record may lack the one that others have."""
    return [_Number(score, record) for record in score.used if record.cell.seed in score.per_seed]
