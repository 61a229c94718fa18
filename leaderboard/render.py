"""Boards to HTML, Markdown, CSV, JSON, LaTeX and the terminal. Whatever a template prints is escaped for its language.

The same boards give the same bytes: no page carries the time at which it was made, only that of its latest record.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboard.table import POINT, Board, Value
from results import Record

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment
    from rich.table import Table

TITLE = "Unlearnable Bench"
DASH, MINUS = "–", "−"  # noqa: RUF001  (typography: an empty cell, a negative number)
SHORT = {"missing": "not run yet", "failed": "failed", "not-applicable": "not applicable", "stale": "stale", "partial": ""}


def html(boards: Sequence[Board], *, title: str = TITLE, files: bool = False, links: Sequence[Mapping[str, str]] = ()) -> str:
    """Return one page that needs nothing beside it. `files` links the tables that `write` puts there, `links` other pages."""
    views = [_view(board) for board in _distinct(boards)]
    latest = max((view["latest"] for view in views), default="")
    return (
        environment("html").get_template("page.html").render(title=title, boards=views, latest=latest, files=files, links=links)
    )


def markdown(board: Board) -> str:
    return environment("md").get_template("board.md").render(_view(board))


def latex(board: Board) -> str:
    """Return a table environment; it needs the package booktabs."""
    return environment("tex").get_template("board.tex").render(_view(board))


def frame(board: Board) -> pd.DataFrame:
    """Return one row per place of the board: its axes, then what was measured. Accuracies and drops are fractions."""
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
    text: str = frame(board).to_csv(index=False, lineterminator="\n")
    return text


def json_(board: Board) -> str:
    """Return a board as JSON. Keys are stable: more may come, none is renamed."""
    keys = ("title", "note", "slug", "command", "fixed", "row_axes", "column_axes", "rows", "columns", "coverage")
    values = [
        {"row": row, "column": column}
        | {key: getattr(value, key) for key in ("state", "reason", "mean", "std", "n", "best", "drop", "oracle")}
        | {key: getattr(value, key) for key in ("accuracies", "seconds", "records")}
        for (row, column), value in zip(_places(board), _in_order(board), strict=True)
    ]
    content = {key: getattr(board, key) for key in keys} | {
        "values": values,
        "standings": [{"row": row, **asdict(standing)} for row, standing in board.standings.items()],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def terminal(board: Board) -> Table:
    """Return the board for `rich.print`."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    counts, heads, labels = board.coverage, _brief(board.columns), _brief(board.rows)
    caption = f"test accuracy in %, {_spread(board)}; {counts['done']} of {counts['cells']} cells done"
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
            best = standing is not None and standing.best_defense == column and not value.clean and len(board.columns) > 1
            mean, _, std = number(value).partition(" ± ")
            text = Text(mean, style="bold" if best else "")
            notes = [f"±{std}" if std else "", short(value, board.seeds).partition(":")[0].replace("not applicable", "n/a")]
            style = "red" if value.state == "failed" else "not bold dim"
            cells.append(text.append("".join(f"\n{note}" for note in notes if note), style))
        table.add_row(Text(labels[row]), *cells)
    return table


def _brief(labels: Sequence[str]) -> dict[str, str]:
    """Return each label without its parameters where these are not what tells it from another."""
    bare = {label: re.sub(r"\([^()]*\)", "", label) for label in labels}
    count = Counter(bare.values())
    return {label: name if count[name] == 1 else label for label, name in bare.items()}


FORMATS: dict[str, Callable[[Board], str]] = {
    "html": lambda board: html([board]),
    "markdown": markdown,
    "csv": csv,
    "latex": latex,
    "json": json_,
}
ENDINGS = {"markdown": "md", "csv": "csv", "latex": "tex", "json": "json"}


def write(
    boards: Sequence[Board],
    folder: Path,
    formats: Sequence[str] = ("html",),
    *,
    links: Sequence[Mapping[str, str]] = (),
    more: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write each board as <slug>.<ending> in every format; html is one index.html with Markdown and CSV beside it.
    `more` are further files by name, `links` what the index says of them.

    Returns the paths, that of the page first. Whole files appear by rename; other files in `folder` are left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    boards = _distinct(boards)
    wanted = dict.fromkeys([*(f for f in formats if f != "html"), *(("markdown", "csv") if "html" in formats else ())])
    texts = {f"{board.slug}.{ENDINGS[name]}": FORMATS[name](board) for board in boards for name in wanted}
    if "html" in formats:
        texts = {"index.html": html(boards, files=True, links=links)} | texts
    texts |= more or {}
    for name, text in texts.items():
        _write(folder / name, text)
    return [folder / name for name in texts]


def write_site(boards: Sequence[Board], folder: Path) -> Path:
    """Write the site. Returns the path of its page."""
    return write(boards, folder)[0]


def _write(path: Path, text: str) -> None:
    """Write to a scratch name beside `path`, then rename."""
    handle, scratch = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    finally:
        Path(scratch).unlink(missing_ok=True)


# What a place of a table says


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def number(value: Value) -> str:
    """Return `92.4 ± 1.2`, `92.4` where one seed tells no spread, or a dash."""
    if value.mean is None:
        return DASH
    return percent(value.mean) + (f" ± {percent(value.std)}" if value.std is not None else "")


def short(value: Value, seeds: int) -> str:
    """Return in a few words what is not as usual about a number, or why there is none. `seeds` is the board's usual n."""
    if value.state == "partial":
        return f"{value.oracle}; {value.share}".removeprefix("; ")
    if value.state == "failed":
        return f"failed: {_clipped(value.reason.partition(':')[0], 40)}"
    if value.state == "not-applicable":
        return f"not applicable: {_clipped(value.reason, 60)}"
    if value.state == "done":
        return "; ".join(filter(None, [value.oracle, f"n = {value.n}" if value.n != seeds else ""]))
    return SHORT[value.state] if value.runs else value.reason


def difference(drop: float) -> str:
    """Return a drop as a signed change: `−85.3`."""  # noqa: RUF002
    text = f"{-100 * drop:+.1f}"
    return "±0.0" if float(text) == 0 else text.replace("-", MINUS)


def _clipped(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _spread(board: Board) -> str:
    if board.seeds == 0:
        return "nothing measured yet"
    return f"mean ± standard deviation over {board.seeds} seeds" if board.seeds > 1 else "one seed, so no spread is known"


def _places(board: Board) -> list[tuple[str, str]]:
    return [(row, column) for row in board.rows for column in board.columns]


def _in_order(board: Board) -> list[Value]:
    return [board.values[place] for place in _places(board)]


def inert(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _distinct(boards: Sequence[Board]) -> list[Board]:
    """Give boards of one slug different ones: they name files and anchors."""
    found: dict[str, Board] = {}
    for board in boards:
        slug, again = board.slug, 1
        while slug in found or slug == "index":
            again += 1
            slug = f"{board.slug}-{again}"
        found[slug] = replace(board, slug=slug)
    return list(found.values())


# What the templates get


def _view(board: Board) -> dict[str, Any]:
    records = [record for value in _in_order(board) for record in value.used]
    facts = {record.id: _facts(record) for record in records}
    common = dict(set.intersection(*(set(found.items()) for found in facts.values()))) if facts else {}
    order = {key: None for found in facts.values() for key in found}
    return {
        "board": board,
        "spread": _spread(board),
        "latest": max((record.finished for record in records), default=""),
        "heads": [_head(board, column) for column in board.columns],
        "lines": [
            {
                "label": row,
                "clean": board.values[row, board.columns[0]].clean,
                "standing": board.standings.get(row),
                "cells": [_cell(board, row, column) for column in board.columns],
            }
            for row in board.rows
        ],
        "common": {key: common[key] for key in order if key in common},
        "differing": {
            cell_id: {key: text for key, text in found.items() if text and key not in common}
            for cell_id, found in facts.items()
        },
        "reasons": _reasons(board),
    }


def _head(board: Board, column: str) -> dict[str, Any]:
    point = board.values[board.rows[0], column].point
    settings = [board.settings[axis][point[axis]] for axis in board.column_axes if point[axis] in board.settings.get(axis, ())]
    return {"label": column, "needs": [need for setting in settings for need in setting.needs]}


def _cell(board: Board, row: str, column: str) -> dict[str, Any]:
    value, standing = board.values[row, column], board.standings.get(row)
    best = standing is not None and len(board.columns) > 1 and standing.best_defense == column
    return {
        "value": value,
        "column": column,
        "number": number(value),
        "note": short(value, board.seeds),
        "change": difference(value.drop) if value.drop is not None else "",
        "heat": round(10 * value.mean) if value.mean is not None else None,
        "best": best and not value.clean,
        "anchor": f"{board.slug}-{value.runs[0].id}" if value.runs else "",
    }


def _reasons(board: Board) -> list[tuple[str, list[str]]]:
    """Why places have no number or one that is not as usual: each sentence once, with the places it is about."""
    found: dict[str, list[str]] = {}
    for (row, column), value in zip(_places(board), _in_order(board), strict=True):
        if value.reason and value.runs:
            found.setdefault(value.reason, []).append(f"{row} × {column}")  # noqa: RUF001
    return list(found.items())


def _facts(record: Record) -> dict[str, str]:
    """Where a number comes from, in words."""
    return {
        "device": record.device,
        "numerics": ", ".join(f"{key} {value}" for key, value in record.numerics.items()),
        "commit": record.commit,
        "sha256 of the code": record.tree,
        "fingerprint of the data set": record.dataset_fingerprint,
        "finished": record.finished,
        **{f"{key} version": text for key, text in record.versions.items()},
    }


def spark(accuracies: Sequence[float]) -> dict[str, str] | None:
    """Return the points of a polyline, 100 x 24 units, of accuracies per epoch; None for fewer than two epochs."""
    if len(accuracies) < 2:
        return None
    step = max(1, -(-len(accuracies) // 40))
    kept = [*accuracies[:-1:step], accuracies[-1]]
    width = 100 / (len(kept) - 1)
    points = " ".join(f"{i * width:.0f},{23 - 22 * y:.0f}" for i, y in enumerate(kept))
    return {
        "points": points,
        "label": f"{percent(accuracies[0])} % after the first epoch, {percent(accuracies[-1])} % at the end",
    }


# Escaping: the templates of each language print through its own


def escape_markdown(text: str) -> str:
    r"""Return text that Markdown prints as it is, also inside a table.

    >>> print(escape_markdown("a|b <i> `c`"))
    a\|b &lt;i&gt; \`c\`
    """
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", text.replace("&", "&amp;")).replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("://", ":\\//").replace("www.", "www\\.")  # or GitHub makes links of bare addresses


_LATEX = {character: f"\\{character}" for character in "{}$&#_%"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "-": "{-}",  # two of them would be one dash
    "[": "{[}",  # behind \\ it would be an argument
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "×": r"$\times$",  # noqa: RUF001
    "…": r"\ldots{}",
    MINUS: "$-$",
    DASH: "--",
    "\u2016": r"$\Vert$",
    "\u0302": r"\^{}",  # the hat of p-hat, behind its letter
    "\u207b": "$^{-}$",
    "\u2074": "$^{4}$",
}
_LATEX |= {chr(0x2080 + digit): f"$_{digit}$" for digit in range(10)}
_LATEX |= {"\u1d58": "$^{u}$", "\u02b3": "$^{r}$", "\u1d43": "$^{a}$"}
_LATEX |= {chr(code): rf"$\{name}$" for code, name in ((0x3B4, "delta"), (0x3B5, "epsilon"), (0x3B8, "theta"), (0x3C1, "rho"))}


def escape_latex(text: str) -> str:
    r"""Return text that LaTeX prints as it is.

    >>> print(escape_latex("50% of $x_1"))
    50\% of \$x\_1
    """
    return "".join(_LATEX.get(character, character) for character in re.sub(r"\s+", " ", text) if character.isprintable())


@cache
def environment(language: str) -> Environment:
    """The templates of one language. An undefined name is an error; every value printed is escaped, unless it is Markup."""
    import jinja2
    from markupsafe import Markup, escape

    escapers: dict[str, Callable[[str], str]] = {"html": escape, "md": escape_markdown, "tex": escape_latex}
    escaper = escapers[language]

    def code(text: str) -> str:
        """Print `words between backticks` as code."""
        pieces = text.split("`")
        if len(pieces) % 2 == 0 or not all(pieces[1:-1]):  # one is missing, or two stand side by side
            return text
        before, after = {"html": ("<code>", "</code>"), "md": ("`", "`"), "tex": (r"\texttt{", "}")}[language]
        inside: Callable[[str], str] = str if language == "md" else escaper  # Markdown prints code as it is
        printed = (f"{before}{inside(p)}{after}" if i % 2 else escaper(p) for i, p in enumerate(pieces))
        return Markup("".join(printed))  # noqa: S704  (escaped piece by piece)

    def item(text: str) -> Markup:
        """Print an item with its parameters small, and let it break behind commas."""
        small = re.sub(r"(\([^()]*\))", r"<wbr><span class=args>\1</span>", str(escape(text)))
        return Markup(re.sub(r"([,+@]|/(?!span>))", r"\1<wbr>", small))  # noqa: S704  (escaped first)

    options: dict[str, Any] = {"autoescape": True}
    if language != "html":
        options = {"finalize": lambda value: value if isinstance(value, Markup) else escaper(str(value))}
    if language == "tex":  # braces and percent signs are LaTeX's own
        options |= {"block_start_string": "<%", "block_end_string": "%>", "comment_start_string": "<#"}
        options |= {"comment_end_string": "#>", "variable_start_string": "<<", "variable_end_string": ">>"}
    environment = jinja2.Environment(  # noqa: S701  (what is not HTML is escaped by `finalize`)
        loader=jinja2.PackageLoader("leaderboard"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters |= {"code": code, "item": item, "percent": percent, "spark": spark}
    environment.globals["memory"] = lambda amount: f"{amount / 2**20:,.0f} MiB"
    environment.tests["web"] = lambda url: re.match(r"https?://", url) is not None
    return environment
