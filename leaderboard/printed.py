"""Sheets, tables in a paper's layout, to HTML, Markdown, LaTeX, CSV and JSON; and the pages that list them."""

from __future__ import annotations

import csv as csv_
import io
import itertools
import json
import math
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leaderboard.figures import ceiling, step
from leaderboard.language import DASH, MINUS, environment
from leaderboard.render import inert
from leaderboard.sheet import DEVIATES, SHARES, TIDY, WITHIN, Sheet, Spot
from leaderboard.sketches import sketches

AXES = {"dataset": "data set", "part": "trained on", "measure": "measured"}
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


def html(sheet: Sheet, frame: dict[str, Any] | None = None, links: Mapping[str, str] | None = None) -> str:
    """Return one page. On the site it has a `frame`, the same table in other formats beside it, and `links` from ids of cells
    to where all is said about them."""
    others = [
        {"file": f"{sheet.slug}.{ending}", "title": title}
        for title, ending in (("CSV", "csv"), ("Markdown", "md"), ("LaTeX", "tex"))
    ]
    page = {"title": sheet.heading, "scripted": False, "files": others if frame else [], "sketches": sketches(sheet)}
    template = environment("html").get_template("sheet.html")
    return template.render(_view(sheet, links or {}) | (frame or {"navigation": {}, "here": "", "home": False}) | page)


def index(sheets: Sequence[Sheet], frame: Mapping[str, Any]) -> str:
    """Return the page that lists the papers, their tables; tables of our own come last."""
    papers: list[dict[str, Any]] = []
    ordered = sorted(sheets, key=lambda sheet: sheet.source is None)
    for name, several in itertools.groupby(ordered, key=lambda sheet: sheet.table.paper):
        group = list(several)
        rows = [
            {
                "file": f"{sheet.slug}.html",
                "label": sheet.table.table or sheet.name,
                "title": sheet.title,
                "cells": len(sheet.cells),
                "measured": sheet.measured,
                "within": sum(spot.verdict == WITHIN for spot in sheet.cells),
                "deviates": sum(spot.verdict == DEVIATES for spot in sheet.cells),
            }
            for sheet in group
        ]
        papers.append({"name": name, "source": group[0].source, "rows": rows})
    page = {"title": "Tables of papers", "scripted": False, "papers": papers}
    return environment("html").get_template("papers.html").render({**frame, **page})


def markdown(sheet: Sheet) -> str:
    return environment("md").get_template("sheet.md").render(_view(sheet))


def latex(sheet: Sheet) -> str:
    """Return a document that compiles as it is; it needs the packages booktabs and geometry."""
    return environment("tex").get_template("sheet.tex").render(_view(sheet))


def csv(sheet: Sheet) -> str:
    """Return the layout as CSV: under each printed column ours, its deviation, n, the paper's, the difference, the verdict,
    and the unit of these numbers."""
    parts = ("ours", "std", "n", "paper", "difference", "verdict", "unit")
    file = io.StringIO()
    writer = csv_.writer(file, lineterminator="\n")
    left = [""] * len(sheet.table.rows)
    for level in range(len(sheet.table.columns)):
        writer.writerow([*left, *(inert(column[level]) for column in sheet.columns for _ in parts)])
    writer.writerow([*sheet.table.rows, *(part for _ in sheet.columns for part in parts)])
    for row in sheet.rows:
        line: list[Any] = [inert(label) for label in row]
        for column in sheet.columns:
            spot = sheet.spots.get((row, column))
            if spot is None:
                line += [""] * len(parts)
                continue
            said = [spot.reason or spot.verdict] if spot.mean is None else [spot.verdict, spot.oracle, *spot.marks]
            verdict = "; ".join(filter(None, said))
            printed = spot.printed.text if spot.printed else ""
            line += [
                spot.mean,
                spot.std,
                spot.n or "",
                printed if spot.paper is not None else "",
                spot.difference,
                inert(verdict),
                spot.unit,
            ]
        writer.writerow(line)
    return file.getvalue()


def json_(sheet: Sheet) -> str:
    """Return a sheet as JSON. Keys are stable: more may come, none is renamed."""
    values = [
        {
            "row": list(spot.place.row),
            "column": list(spot.place.column),
            "metric": spot.place.metric,
            "unit": spot.unit,
            "mean": spot.mean,
            "std": spot.std,
            "n": spot.n,
            "paper": spot.paper,
            "printed": spot.printed.text if spot.printed else "",
            "quality": spot.printed.quality if spot.printed else "",
            "note": spot.printed.note if spot.printed else "",
            "difference": spot.difference,
            "tolerance": spot.tolerance,
            "verdict": spot.verdict,
            "state": spot.state,
            "reason": spot.reason,
            "instead": list(spot.marks),
            "oracle": spot.oracle,
            "records": list(spot.records),
        }
        for spot in sheet.spots.values()
    ]
    content = {
        "name": sheet.name,
        "title": sheet.title,
        "paper": sheet.table.paper,
        "table": sheet.table.table,
        "note": sheet.table.note,
        "row_axes": list(sheet.table.rows),
        "column_axes": list(sheet.table.columns),
        "rows": [list(row) for row in sheet.rows],
        "columns": [list(column) for column in sheet.columns],
        "tolerances": sheet.tolerances,
        "values": values,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def tidy(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the tidy form as CSV."""
    file = io.StringIO()
    writer = csv_.writer(file, lineterminator="\n")
    writer.writerow(TIDY)
    writer.writerows([["" if row[key] is None else row[key] for key in TIDY] for row in rows])
    return file.getvalue()


FORMATS: dict[str, Callable[[Sheet], str]] = {
    "html": html,
    "markdown": markdown,
    "csv": csv,
    "latex": latex,
    "json": json_,
}


def site(sheet: Sheet, frame: dict[str, Any], links: Mapping[str, str]) -> dict[str, str]:
    """Return the files of the site that a printed table makes, by name."""
    texts = {f"{sheet.slug}.{ending}": make(sheet) for ending, make in (("csv", csv), ("md", markdown), ("tex", latex))}
    return {f"{sheet.slug}.html": html(sheet, frame, links)} | texts


# What the templates get


def _view(sheet: Sheet, links: Mapping[str, str] | None = None) -> dict[str, Any]:
    links, top = links or {}, _top(sheet)
    lines: list[dict[str, Any]] = []
    for number, row in enumerate(sheet.rows):
        heads = [{"label": label, "level": n, "span": _rows(sheet.rows, number, n + 1)} for n, label in enumerate(row)]
        cells = [_cell(sheet.spots.get((row, column)), links, top) for column in sheet.columns]
        lines.append({"heads": heads, "cells": cells})
    count = Counter(spot.state for spot in sheet.cells if spot.mean is None)
    fixed = {
        AXES.get(axis, axis): sheet.table.labels(axis)[0]
        for axis in ("protocol", "dataset", "attack", "defense", "architecture", "ratio")
        if axis not in sheet.table.layout and (axis != "ratio" or sheet.table.labels(axis)[0] != "1")
    }
    tall = any(spot.mean is not None for spot in sheet.cells)
    return {
        "sheet": sheet,
        "fixed": fixed,
        "states": dict(count),
        "command": shlex.quote(sheet.name),
        "unit": _unit(sheet),
        "better": f"{sheet.table.better} is good for its authors",
        "tall": tall,
        "row_axes": [AXES.get(axis, axis) if axis != "part" else "setting" for axis in sheet.table.rows],
        "column_axes": [AXES.get(axis, axis) for axis in sheet.table.columns if axis != "part"],
        "columns": [" / ".join(column) for column in sheet.columns],
        "heads": [_spans(sheet.columns, level) for level in range(len(sheet.table.columns))],
        "lines": lines,
        "legend": _legend(sheet),
        "top": top,
        "heated": any(cell is not None and cell["heat"] is not None for line in lines for cell in line["cells"]),
        "conditions": {text: number for number, text in enumerate(_conditions(lines), 1)},
        "absent": dict(Counter(spot.reason for spot in sheet.cells if spot.state == "not-available")),
        "sources": _sources(sheet, links),
        "width": 120 + 24 * len(sheet.columns) + 30 * len(sheet.table.rows),
        "height": 120 + (18 if tall else 7) * len(sheet.rows) + 6 * len(sheet.notes),
    }


def _unit(sheet: Sheet) -> str:
    """What the numbers are; a table of our own may print several figures, which its labels name."""
    if "unit=fraction" in sheet.table.params:
        return "Fractions"
    metrics = {spot.place.metric.partition("(")[0] for spot in sheet.spots.values()}
    if not sheet.source and len(metrics) > 1:
        return "As the labels say, shares in %"
    return UNITS.get(sheet.table.metric, sheet.table.metric)


def _conditions(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is otherwise about numbers of ours, each sentence once."""
    cells = (cell for line in lines for cell in line["cells"] if cell is not None)
    return list(dict.fromkeys(text for cell in cells for text in cell["changes"]))


def _legend(sheet: Sheet) -> list[str]:
    """What places without a number mean, a sentence for each kind that the sheet has."""
    printed = {spot.printed.text for spot in sheet.spots.values() if spot.printed}
    qualities = {spot.printed.quality for spot in sheet.spots.values() if spot.printed}
    kinds = (("?" in printed, f"what is shown as {ILLEGIBLE_SIGN}"), ("inferred" in qualities, "what a mark calls inferred"))
    illegible = [kind for there, kind in kinds if there]
    return [
        sentence
        for there, sentence in (
            (len(sheet.spots) < len(sheet.rows) * len(sheet.columns), "An empty place: the table has none there."),
            ("-" in printed, f"A {DASH} in italics: the paper prints a dash."),
            (bool(illegible), f"Not legible in our source, and nothing is judged by it: {' and '.join(illegible)}."),
        )
        if there
    ]


def _rows(rows: Sequence[tuple[str, ...]], number: int, level: int) -> int:
    """How many rows the label of a row at some level stands for; 0 where it stands above already."""
    start = rows[number][:level]
    if number and rows[number - 1][:level] == start:
        return 0
    return sum(1 for _ in itertools.takewhile(lambda row: row[:level] == start, rows[number:]))


def _spans(columns: Sequence[tuple[str, ...]], level: int) -> list[dict[str, Any]]:
    groups = itertools.groupby(columns, key=lambda column: column[: level + 1])
    return [{"label": key[level], "span": sum(1 for _ in several)} for key, several in groups]


def _accuracy(spot: Spot) -> float | None:
    """The test accuracy of a place as a fraction, where it was measured here and is one, not a change of two."""
    kind = spot.place.aggregate.aggregate if spot.place.aggregate else "mean"
    plain = spot.place.metric.startswith("test_acc") and kind in ("mean", "min", "max") and spot.own is not None
    return spot.own / spot.place.unit if plain and spot.own is not None else None


def _top(sheet: Sheet) -> float:
    """Where the colours of a sheet end, as on a board: the best of clean training, up to the next tenth."""
    clean = [found for spot in sheet.cells if spot.place.fields["attack"] == "none" and (found := _accuracy(spot)) is not None]
    return ceiling(clean)


def _cell(spot: Spot | None, links: Mapping[str, str], top: float) -> dict[str, Any] | None:
    if spot is None:
        return None
    printed = spot.printed
    text = ""
    if printed is not None:
        text = {"-": DASH, "?": ILLEGIBLE_SIGN}.get(printed.text, printed.text + (f" ± {printed.std}" if printed.std else ""))
    return {
        "ours": value(spot),
        "heat": None if (accuracy := _accuracy(spot)) is None else step(accuracy, top),
        "n": spot.n,
        "paper": text.replace("-", MINUS),
        "mark": printed.mark if printed else "",
        "illegible": printed is not None and printed.text == "?",
        "why": f"{printed.quality}: {printed.note}" if printed and printed.mark else "",
        "difference": signed(spot),
        "verdict": spot.verdict,
        "kind": KINDS.get(spot.verdict, "why"),
        "sign": SIGNS.get(spot.verdict, ""),
        "changes": (*filter(None, [spot.oracle]), *spot.marks) if spot.mean is not None else (),
        "state": spot.state,
        "reason": spot.reason,
        "short": SHORT.get(spot.state, spot.state.replace("-", " ")),
        "href": links.get(spot.records[0], f"#cell-{spot.records[0]}") if spot.records else "",
    }


def _digits(spot: Spot) -> int:
    """How many digits behind the point: as many as the paper prints, else those of a share or three that count."""
    name = spot.place.metric.partition("(")[0]
    if spot.printed and not name.startswith("test_acc"):
        return len(spot.printed.text.partition(".")[2])
    if SHARES.intersection(name.split("_")):
        return 1 if spot.place.unit > 1 else 3
    size = abs(spot.mean or 0.0)
    return max(0, 2 - math.floor(math.log10(size))) if size else 0


def value(spot: Spot) -> str:
    """Ours with its spread, or '' where nothing is measured."""
    if spot.mean is None:
        return ""
    digits = _digits(spot)
    spread = f" ± {spot.std:.{digits}f}" if spot.std is not None else ""
    return f"{spot.mean:.{digits}f}".replace("-", MINUS) + spread


def signed(spot: Spot) -> str:
    """The difference with its sign."""
    if spot.difference is None:
        return ""
    text = f"{spot.difference:+.{_digits(spot)}f}"
    return f"±{text[1:]}" if float(text) == 0 else text.replace("-", MINUS)


def _sources(sheet: Sheet, links: Mapping[str, str]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for spot in sheet.cells:
        for seed, record in zip(spot.per_seed, spot.records, strict=False):
            anchor = f"cell-{record}" if record not in found else ""
            place = " / ".join((*spot.place.row, *spot.place.column))
            text = f"{spot.per_seed[seed]:.{_digits(spot) + 1}f}"
            found.setdefault(
                record,
                {"anchor": anchor, "place": place, "seed": seed, "value": text, "id": record, "href": links.get(record, "")},
            )
    return list(found.values())
