"""Boards to Markdown, CSV, JSON, LaTeX and the terminal, and what a place of a table says in all of them and on pages."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboard.language import DASH, MINUS, environment, percent
from leaderboard.table import POINT, Board, Value
from results.record import write_file

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

FRACTION = "fraction"  # the unit of accuracies in files; pages print percent
SHORT = {"missing": "not run yet", "failed": "failed", "not-applicable": "not applicable", "stale": "stale", "partial": ""}


def markdown(board: Board) -> str:
    return environment("md").get_template("board.md").render(_view(board))


def latex(board: Board) -> str:
    """Return a table environment no wider than the page; it needs the packages booktabs and graphicx."""
    return environment("tex").get_template("board.tex").render(_view(board))


def frame(board: Board) -> pd.DataFrame:
    """Return one row per place of the board: its axes, then what was measured. `unit` is that of accuracies and drops."""
    import pandas as pd

    rows = [
        {
            **{axis: inert(text) for axis, text in value.point.items()},
            "state": value.state,
            "test_acc": value.mean,
            "test_acc_std": value.std,
            "n": value.n,
            "test_acc_best": value.best,
            "drop": value.drop,
            "oracle": inert(value.oracle),
            "unit": FRACTION,
            "tier": value.tier,
            "seconds": value.seconds,
            "records": ";".join(value.records),
            "reason": inert(value.reason),
        }
        for value in _in_order(board)
    ]
    table = pd.DataFrame(rows, columns=[*POINT, *list(rows[0])[len(POINT) :]] if rows else list(POINT))
    numbers = [name for name in ("test_acc", "test_acc_std", "test_acc_best", "drop", "seconds") if name in table]
    return table.astype(dict.fromkeys(numbers, "float64"))


def csv(board: Board) -> str:
    """Return `frame` as CSV. Text that a spreadsheet would run as a formula is quoted by an apostrophe."""
    text: str = frame(board).to_csv(index=False, lineterminator="\n", float_format="%.10g")
    return text


def json_(board: Board) -> str:
    """Return a board as JSON. Keys are stable: more may come, none is renamed."""
    keys = ("title", "note", "slug", "command", "fixed", "row_axes", "column_axes", "rows", "columns", "coverage")
    values = [
        {"row": row, "column": column}
        | {key: getattr(value, key) for key in ("state", "reason", "mean", "std", "n", "best", "drop", "oracle", "tier")}
        | {key: getattr(value, key) for key in ("accuracies", "seconds", "records")}
        for (row, column), value in zip(places(board), _in_order(board), strict=True)
    ]
    content = {key: getattr(board, key) for key in keys} | {
        "unit": FRACTION,  # of accuracies, drops and standings
        "values": values,
        "standings": [
            {"row": row, "best_defense": standing.worst, **asdict(standing)} for row, standing in board.standings.items()
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def terminal(board: Board) -> Table:
    """Return the board for `rich.print`."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    counts, heads, labels = board.coverage, brief(board.columns), brief(board.rows)
    caption = f"test accuracy in %, {spread(board)}; {counts['done']} of {counts['cells']} cells done"
    table = Table(title=Text(board.title), caption=Text(caption), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.title_justify = table.caption_justify = "left"
    table.add_column(Text(" / ".join(board.row_axes)), style="bold", overflow="fold")
    for column in board.columns:
        table.add_column(Text(heads[column]), justify="right", overflow="fold")
    for row in board.rows:
        standing = board.standings.get(row)
        cells = []
        for column in board.columns:
            value = board.values[row, column]
            best = standing is not None and standing.worst == column and not value.clean and len(board.columns) > 1
            mean, _, std = number(value).partition(" ± ")
            text = Text(mean, style="bold" if best else "")
            notes = [f"±{std}" if std else "", short(value, board.seeds).partition(":")[0].replace("not applicable", "n/a")]
            style = "red" if value.state == "failed" else "not bold dim"
            cells.append(text.append("".join(f"\n{note}" for note in notes if note), style))
        table.add_row(Text(labels[row]), *cells)
    return table


def brief(labels: Sequence[str]) -> dict[str, str]:
    """Return each label with those parameters alone that tell it from another of the same name.

    >>> list(brief(["jpeg(quality=10)", "at(steps=3,epsilon=1)", "at(steps=3,epsilon=2)"]).values())
    ['jpeg', 'at(epsilon=1)', 'at(epsilon=2)']
    """
    fields = {label: {field for inner in _INNER.findall(label) for field in inner.split(",")} for label in labels}
    bare = {label: _INNER.sub("", label) for label in labels}
    shared: dict[str, set[str]] = {}  # what all labels of a name have
    for label, name in bare.items():
        shared[name] = shared.get(name, fields[label]) & fields[label]
    shorter = {label: _without(label, shared[name]) for label, name in bare.items()}
    count = Counter(shorter.values())
    return {label: short if count[short] == 1 else label for label, short in shorter.items()}


_INNER = re.compile(r"\(([^()]*)\)")  # parameters, the innermost ones where an item stands among them


def _without(label: str, fields: Collection[str]) -> str:
    """The label without such parameters."""
    kept = _INNER.sub(lambda m: f"({','.join(field for field in m[1].split(',') if field not in fields)})", label)
    return kept.replace("()", "")


FORMATS: dict[str, Callable[[Board], str]] = {
    "markdown": markdown,
    "csv": csv,
    "latex": latex,
    "json": json_,
}
ENDINGS = {"markdown": "md", "csv": "csv", "latex": "tex", "json": "json"}


def write(
    boards: Sequence[Board], folder: Path, formats: Sequence[str], *, more: Mapping[str, str | bytes] | None = None
) -> list[Path]:
    """Write each board as <slug>.<ending> in every format, and the files `more` by name.

    Returns the paths, those of `more` first. Whole files appear by rename; other files in `folder` are left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = dict(more or {})
    texts |= {f"{board.slug}.{ENDINGS[name]}": FORMATS[name](board) for board in distinct(boards) for name in formats}
    for name, text in texts.items():
        write_file(folder / name, text, sync=False)
    return [folder / name for name in texts]


# What a place of a table says


def number(value: Value) -> str:
    """Return `92.4 ± 1.2`, `92.4` where one seed tells no spread, or a dash."""
    if value.mean is None:
        return DASH
    return percent(value.mean) + (f" ± {percent(value.std)}" if value.std is not None else "")


def short(value: Value, seeds: int) -> str:
    """Return in a few words what is not as usual about a number, or why there is none. `seeds` is the board's usual n."""
    if value.state == "partial":
        return "; ".join(filter(None, [value.oracle, value.share, value.tier]))
    if value.state == "failed":
        return f"failed: {_clipped(value.reason.partition(':')[0], 40)}"
    if value.state == "not-applicable":
        return f"not applicable: {_clipped(value.reason, 60)}"
    if value.state == "done":
        return "; ".join(filter(None, [value.oracle, f"n = {value.n}" if value.n != seeds else "", value.tier]))
    return "; ".join(filter(None, [SHORT[value.state], value.tier])) if value.runs else value.reason


def difference(drop: float) -> str:
    """Return a drop as a signed change: `−85.3`."""  # noqa: RUF002
    text = f"{-100 * drop:+.1f}"
    return "±0.0" if float(text) == 0 else text.replace("-", MINUS)


def _clipped(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def spread(board: Board) -> str:
    if board.seeds == 0:
        return "nothing measured yet"
    return f"mean ± standard deviation over {board.seeds} seeds" if board.seeds > 1 else "one seed, so no spread is known"


def places(board: Board) -> list[tuple[str, str]]:
    return [(row, column) for row in board.rows for column in board.columns]


def _in_order(board: Board) -> list[Value]:
    return [board.values[place] for place in places(board)]


def inert(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def distinct(boards: Sequence[Board], taken: Sequence[str] = ("index",)) -> list[Board]:
    """Give boards of one slug, or of one that is `taken`, different ones: they name files."""
    found: dict[str, Board] = {}
    for board in boards:
        slug, again = board.slug, 1
        while slug in found or slug in taken:
            again += 1
            slug = f"{board.slug}-{again}"
        found[slug] = replace(board, slug=slug)
    return list(found.values())


# What the templates get


def _view(board: Board) -> dict[str, Any]:
    labels = brief([*board.rows, *board.columns])
    return {
        "short": labels,
        "shortened": {short: label for label, short in labels.items() if short != label},
        "board": board,
        "spread": spread(board),
        "lines": [{"label": row, "cells": [_cell(board, row, column) for column in board.columns]} for row in board.rows],
        "reasons": _reasons(board),
    }


def _cell(board: Board, row: str, column: str) -> dict[str, Any]:
    value = board.values[row, column]
    return {
        "number": number(value),
        "note": short(value, board.seeds),
        "change": difference(value.drop) if value.drop is not None else "",
        "best": is_worst(board, row, column),
    }


def is_worst(board: Board, row: str, column: str) -> bool:
    """Whether a place is the worst case of its row: an attack's best defense, a defense's strongest attack."""
    standing = board.standings.get(row)
    found = standing is not None and len(board.columns) > 1 and standing.worst == column
    return found and not board.values[row, column].clean


def _reasons(board: Board) -> list[tuple[str, list[str]]]:
    """Why places have no number or one that is not as usual: each sentence once, with the places it is about."""
    found: dict[str, list[str]] = {}
    for (row, column), value in zip(places(board), _in_order(board), strict=True):
        if value.reason and value.runs:
            found.setdefault(value.reason, []).append(f"{row} × {column}")  # noqa: RUF001
    return list(found.items())
