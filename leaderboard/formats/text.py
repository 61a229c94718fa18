"""Tables to Markdown, LaTeX, CSV, JSON and the terminal: each format once, for tables with printed labels and without."""

from __future__ import annotations

import csv as csv_
import io
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnable_bench.leaderboard.formats.escaping import environment
from unlearnable_bench.leaderboard.formats.view import view
from unlearnable_bench.leaderboard.formats.words import brief, inert, listed, note, number, spread
from unlearnable_bench.leaderboard.tables.printed import TIDY
from unlearnable_bench.leaderboard.tables.ranking import Labels, joined
from unlearnable_bench.leaderboard.tables.score import POINT, Score
from unlearnable_bench.leaderboard.tables.table import Table, distinct
from unlearnable_bench.results.record import write_file
from unlearnable_bench.results.reference import Printed

if TYPE_CHECKING:
    import pandas as pd
    import rich.table
    from rich.text import Text

FRACTION = "fraction"  # the unit of accuracies in files; pages print percent


# Markdown and LaTeX


def markdown(table: Table) -> str:
    return _rendered(table, "md")


def latex(table: Table) -> str:
    """Return LaTeX: of a printed table a document that compiles, else a table environment no wider than the page.

    Both need booktabs; the first geometry, the second graphicx.
    """
    return _rendered(table, "tex")


def _rendered(table: Table, ending: str) -> str:
    layout = "plain" if table.file is None else "printed"
    return environment(ending).get_template(f"{layout}.{ending}").render(view(table))


# CSV

PARTS = ("ours", "std", "n", "paper", "difference", "verdict", "unit")  # columns under each printed one
FLOATS = ("test_acc", "test_acc_std", "test_acc_best", "drop", "seconds")


def csv(table: Table) -> str:
    """Return CSV: of a printed table its layout with `PARTS` under each column, else `frame`.

    Text that a spreadsheet would run as a formula is quoted by an apostrophe.
    """
    return _frame_csv(table) if table.file is None else _written(_wide(table))


def frame(table: Table) -> pd.DataFrame:
    """Return one row per score: its axes, then what was measured. `unit` is that of accuracies and drops."""
    import pandas as pd

    rows = [_row(score) for score in table.in_order]
    data = pd.DataFrame(rows, columns=list(rows[0]) if rows else list(POINT))
    return data.astype({name: "float64" for name in FLOATS if name in data})


def _frame_csv(table: Table) -> str:
    text: str = frame(table).to_csv(index=False, lineterminator="\n", float_format="%.10g")
    return text


def _row(score: Score) -> dict[str, Any]:
    return {axis: inert(text) for axis, text in score.point.items()} | {
        "state": score.state,
        "test_acc": score.mean,
        "test_acc_std": score.std,
        "n": score.n,
        "test_acc_best": score.best,
        "drop": score.drop,
        "oracle": inert(score.oracle),
        "unit": FRACTION,
        "tier": score.trust,
        "seconds": score.seconds,
        "records": ";".join(score.records),
        "reason": inert(score.reason),
        "errata": inert("; ".join(score.errata)),
    }


def _wide(table: Table) -> list[list[Any]]:
    heads = [_head(table, level) for level in range(len(table.column_axes))]
    names = [*table.row_axes, *(PARTS * len(table.columns))]
    return [*heads, names, *(_wide_line(table, row) for row in table.rows)]


def _head(table: Table, level: int) -> list[str]:
    """One line of labels of columns, each above all parts of its numbers."""
    labels = [[inert(column[level])] * len(PARTS) for column in table.columns]
    return [""] * len(table.row_axes) + list(itertools.chain.from_iterable(labels))


def _wide_line(table: Table, row: Labels) -> list[Any]:
    numbers = [_parts(table.scores.get((row, column))) for column in table.columns]
    return [*map(inert, row), *itertools.chain.from_iterable(numbers)]


def _parts(score: Score | None) -> list[Any]:
    if score is None:
        return [""] * len(PARTS)
    printed = score.printed.text if score.printed and score.published is not None else ""
    return [score.mean, score.std, score.n or "", printed, score.difference, inert(_about(score)), score.unit]


def _about(score: Score) -> str:
    """The verdict on a number and what it rests on; or why there is none."""
    if score.mean is None:
        return score.reason or score.verdict
    return listed(score.verdict, score.oracle, *score.marks, *score.errata)


def tidy_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the tidy form as CSV."""
    return csv_text(TIDY, rows)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return these columns of rows as CSV."""
    file = io.StringIO()
    writer = csv_.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _written(lines: Sequence[Sequence[Any]]) -> str:
    file = io.StringIO()
    csv_.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()


# JSON

VALUES: dict[str, Callable[[Score], Any]] = {
    "metric": lambda score: score.request.metric,
    "unit": lambda score: score.unit,
    "state": lambda score: score.state,
    "reason": lambda score: score.reason,
    "mean": lambda score: score.mean,
    "std": lambda score: score.std,
    "n": lambda score: score.n,
    "best": lambda score: score.best,
    "drop": lambda score: score.drop,
    "oracle": lambda score: score.oracle,
    "tier": lambda score: score.trust,
    "accuracies": lambda score: score.accuracies,
    "seconds": lambda score: score.seconds,
    "records": lambda score: score.records,
    "paper": lambda score: score.published,
    "printed": lambda score: _published(score).text,
    "quality": lambda score: _published(score).quality,
    "note": lambda score: _published(score).note,
    "difference": lambda score: score.difference,
    "tolerance": lambda score: score.tolerance,
    "verdict": lambda score: score.verdict,
    "instead": lambda score: score.marks,
    "errata": lambda score: score.errata,
}
PLAIN = ("state", "reason", "mean", "std", "n", "best", "drop", "oracle", "tier", "accuracies", "seconds", "records", "errata")
PRINTED = (
    *("metric", "unit", "mean", "std", "n", "paper", "printed", "quality", "note", "difference", "tolerance", "verdict"),
    *("state", "reason", "instead", "oracle", "records", "errata"),
)


def _published(score: Score) -> Printed:
    """What a paper prints; empty texts where it prints nothing."""
    return score.printed or Printed("", None, quality="")


def json_(table: Table) -> str:
    """Return a table as JSON. Keys are stable: more may come, none is renamed."""
    content = _plain_content(table) if table.file is None else _printed_content(table)
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain_content(table: Table) -> dict[str, Any]:
    keys = ("title", "note", "slug", "command", "fixed", "row_axes", "column_axes")
    return {key: getattr(table, key) for key in keys} | {
        "rows": table.row_texts,
        "columns": table.column_texts,
        "coverage": table.coverage,
        "unit": FRACTION,  # of accuracies, drops and standings
        "values": _values(table.in_order, PLAIN, joined),
        "standings": [
            {"row": joined(row), "best_defense": summary.worst, **asdict(summary)} for row, summary in table.ranking.items()
        ],
    }


def _printed_content(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "title": table.title,
        "paper": table.paper,
        "table": table.file.table if table.file else "",
        "note": table.note,
        "row_axes": table.row_axes,
        "column_axes": table.column_axes,
        "rows": table.rows,
        "columns": table.columns,
        "tolerances": table.tolerances,
        "values": _values(table.scores.values(), PRINTED, list),
    }


def _values(scores: Iterable[Score], keys: Sequence[str], labels: Callable[[Labels], Any]) -> list[dict[str, Any]]:
    return [_value(score, keys, labels) for score in scores]


def _value(score: Score, keys: Sequence[str], labels: Callable[[Labels], Any]) -> dict[str, Any]:
    place = {"row": labels(score.request.row), "column": labels(score.request.column)}
    return place | {key: VALUES[key](score) for key in keys}


# The terminal


def terminal(table: Table) -> rich.table.Table:
    """Return a table without printed labels for `rich.print`."""
    import rich.table
    from rich.box import SIMPLE_HEAD
    from rich.text import Text

    heads, labels = brief(table.column_texts), brief(table.row_texts)
    caption = f"test accuracy in %, {spread(table)}; {table.coverage['done']} of {table.coverage['cells']} cells done"
    shown = rich.table.Table(title=Text(table.title), caption=Text(caption), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.title_justify = shown.caption_justify = "left"
    shown.add_column(Text(" / ".join(table.row_axes)), style="bold", overflow="fold")
    for column in table.column_texts:
        shown.add_column(Text(heads[column]), justify="right", overflow="fold")
    for row in table.rows:
        cells = [_terminal_cell(table, row, column) for column in table.columns]
        shown.add_row(Text(labels[joined(row)]), *cells)
    return shown


def _terminal_cell(table: Table, row: Labels, column: Labels) -> Text:
    from rich.text import Text

    score = table.scores[row, column]
    mean, _, std = number(score).partition(" ± ")
    text = Text(mean, style="bold" if table.is_worst(row, column) else "")
    few = note(score, table.seeds).partition(":")[0].replace("not applicable", "n/a")
    lines = [f"\n±{std}" if std else "", f"\n{few}" if few else ""]
    return text.append("".join(lines), "red" if score.state == "failed" else "not bold dim")


# Files

FORMATS: dict[str, Callable[[Table], str]] = {
    "markdown": markdown,
    "csv": csv,
    "latex": latex,
    "json": json_,
}
ENDINGS = {"markdown": "md", "csv": "csv", "latex": "tex", "json": "json"}


def write_tables(
    tables: Sequence[Table], folder: Path, formats: Sequence[str], *, more: Mapping[str, str | bytes] | None = None
) -> list[Path]:
    """Write each table as <slug>.<ending> in every format, and the files `more` by name.

    Returns the paths, those of `more` first. Whole files appear by rename; other files in `folder` are left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = dict(more or {})
    for table in distinct(tables):
        texts |= {f"{table.slug}.{ENDINGS[form]}": FORMATS[form](table) for form in formats}
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_file(folder / name, text, sync=False)
    return [folder / name for name in texts]
