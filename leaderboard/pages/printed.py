"""The pages of printed tables, and the page that lists them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from unlearnable_bench.leaderboard.formats import text
from unlearnable_bench.leaderboard.formats.escaping import environment
from unlearnable_bench.leaderboard.formats.view import view
from unlearnable_bench.leaderboard.pages.sketches import sketches
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.leaderboard.tables.verdict import DEVIATES, WITHIN

FRAME: Mapping[str, Any] = {"navigation": {}, "here": "", "home": False}  # of a page that stands alone
BESIDE = {"csv": "CSV", "markdown": "Markdown", "latex": "LaTeX"}  # formats that the site has beside the page


def html(table: Table, frame: Mapping[str, Any] | None = None, links: Mapping[str, str] | None = None) -> str:
    """Return one page. On the site it has a `frame`, the same table in other formats beside it, and `links` from ids of cells
    to where all is said about them."""
    files = [{"file": _file(table, form), "title": title} for form, title in BESIDE.items()] if frame else []
    page = {"title": table.heading, "scripted": False, "files": files, "sketches": sketches(table)}
    return environment("html").get_template("printed.html").render({**view(table, links), **(frame or FRAME), **page})


def site(table: Table, frame: Mapping[str, Any], links: Mapping[str, str]) -> dict[str, str]:
    """Return the files of the site that a printed table makes, by name."""
    return {f"{table.slug}.html": html(table, frame, links)} | {
        _file(table, form): text.FORMATS[form](table) for form in BESIDE
    }


def _file(table: Table, form: str) -> str:
    return f"{table.slug}.{text.ENDINGS[form]}"


def index(tables: Sequence[Table], frame: Mapping[str, Any]) -> str:
    """Return the page that lists the papers, their tables; tables of our own come last."""
    ordered = sorted(tables, key=lambda table: table.source is None)
    papers: list[dict[str, Any]] = []
    for name, several in itertools.groupby(ordered, key=lambda table: table.file.paper if table.file else ""):
        group = list(several)
        papers.append({"name": name, "source": group[0].source, "rows": [_row(table) for table in group]})
    page = {"title": "Tables of papers", "scripted": False, "papers": papers}
    return environment("html").get_template("papers.html").render({**frame, **page})


def _row(table: Table) -> dict[str, Any]:
    return {
        "file": f"{table.slug}.html",
        "label": (table.file.table if table.file else "") or table.name,
        "title": table.title,
        "cells": len(table.direct),
        "measured": table.measured,
        "within": table.verdicts[WITHIN],
        "deviates": table.verdicts[DEVIATES],
    }
