"""The pages of the site. They link each other by relative addresses, load nothing, and read without JavaScript.

The same boards give the same bytes: no page carries the time at which it was made, only that of its latest record.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from leaderboard import figures, overview, printed, render, views
from leaderboard.cite import bibliography
from leaderboard.language import environment, presentable
from leaderboard.sheet import Sheet
from leaderboard.table import Board, slugged
from registry import CATALOGS
from registry.catalog import Entry
from registry.item import write_value

TITLE = "Unlearnable Bench"
KINDS = ("attack", "defense", "architecture")
NAVIGATION = {
    "index": "Leaderboard",
    "papers": "Tables of papers",
    "attacks": "Attacks",
    "defenses": "Defenses",
    "architectures": "Architectures",
    "coverage": "Coverage and cost",
    "protocols": "Protocols",
    "changes": "Changes",
}
SCRIPTED = {"board.html", "entries.html", "entry.html", "coverage.html"}  # have tables that can be sorted
FILES = {"csv": "CSV", "json": "JSON", "markdown": "Markdown", "latex": "LaTeX"}


@dataclass(frozen=True)
class Site:
    """Boards and printed tables as a folder of files. `samples` are pictures by `attack.<name>` and `defense.<name>`."""

    boards: Sequence[Board]
    sheets: Sequence[Sheet] = ()
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    changelog: str = ""

    def files(self) -> dict[str, str]:
        """Return every file by name, index.html first."""
        first = next((board for board in self.boards if board.coverage["done"]), None) or next(iter(self.boards), None)
        texts = {"index.html": self.board(first, home=True) if first else self._page("page.html")}
        for board in self.boards:
            texts[f"{board.slug}.html"] = self.board(board)
            if board.subject == "attack" and board.row_axes == ("attack",):
                texts[f"{board.slug}.defenses.html"] = self.board(board.transposed(), of=board)
            texts |= {f"{board.slug}.{render.ENDINGS[form]}": render.FORMATS[form](board) for form in FILES}
            texts |= {name: figures.standalone(svg) for name, svg in self._figures(board).items()}
            texts[f"{board.slug}.bib"] = bibliography(views.papers(board))
        for name, group in self._homes.items():
            view = views.sources(group) | {"home_of": file_of("attack", group[0].attack)}
            texts[name] = self._page("sources.html", "attacks", f"Where the numbers of {view['attack']} come from", **view)
        texts["papers.html"] = printed.index(self.sheets, self._frame("papers"))
        for sheet in self.sheets:
            texts |= printed.site(sheet, self._frame("papers"), self.links)
        for kind in KINDS:
            rows = [views.row(entry, self._cells(kind, entry.name)) for entry in self.entries[kind]]
            texts[f"{kind}s.html"] = self._page("entries.html", f"{kind}s", NAVIGATION[f"{kind}s"], kind=kind, rows=rows)
            for entry in self.entries[kind]:
                texts[file_of(kind, entry.name)] = self._entry(kind, entry)
        texts["coverage.html"] = self._page("coverage.html", "coverage", **overview.coverage(self.boards, self.sheets))
        recipes, data = ([row for row in CATALOGS[noun].rows if not row.error] for noun in ("protocols", "datasets"))
        texts["protocols.html"] = self._page("protocols.html", "protocols", protocols=recipes, datasets=data)
        stale = [cell for cell in self.cells if any(run.state == "stale" for run in cell.value.runs)]
        texts["changes.html"] = self._page("changes.html", "changes", stale=stale, blocks=overview.blocks(self.changelog))
        return {name: presentable(text) if name.endswith((".html", ".svg")) else text for name, text in texts.items()}

    # where things are

    @cached_property
    def cells(self) -> list[views.Cell]:
        """Every combination that was run, once, however many boards show it."""
        found: dict[str, views.Cell] = {}
        for board in self.boards:
            for value in board.values.values():
                if any(run.state != "missing" for run in value.runs):
                    cell = views.Cell(board, value)
                    known = found.get(cell.key)
                    if known is None or len(known.value.runs) < len(value.runs):
                        found[cell.key] = cell
        return list(found.values())

    @cached_property
    def _homes(self) -> dict[str, list[views.Cell]]:
        """The pages of sources, one per attack, with their cells."""
        found: dict[str, list[views.Cell]] = defaultdict(list)
        for cell in self.cells:
            found[cell.page].append(cell)
        return found

    @cached_property
    def links(self) -> dict[str, str]:
        """Where the provenance of each cell with a record or a failure is, by its id."""
        return {run.id: cell.href for cell in self.cells for run in cell.value.runs if run.state != "missing"}

    @cached_property
    def entries(self) -> dict[str, list[Entry]]:
        """The entries of each kind that have a page: the installed ones, and those that only records know."""
        found: dict[str, list[Entry]] = {}
        for kind in KINDS:
            known = {entry.name: entry for entry in reversed(CATALOGS[f"{kind}s"].rows)}
            used = {name for cell in self.cells for name in cell.names(kind)}
            strange = [Entry(f"{kind}s", name, "not installed here", "", "") for name in sorted(used - set(known))]
            found[kind] = [*sorted(known.values(), key=lambda e: e.name), *strange]
        return found

    def _cells(self, kind: str, name: str) -> list[views.Cell]:
        return self._by_entry.get((kind, name), [])

    @cached_property
    def _by_entry(self) -> dict[tuple[str, str], list[views.Cell]]:
        found: dict[tuple[str, str], list[views.Cell]] = defaultdict(list)
        for cell in self.cells:
            for kind in KINDS:
                for name in dict.fromkeys(cell.names(kind)):
                    found[kind, name].append(cell)
        return found

    # pages

    def _frame(self, here: str) -> dict[str, Any]:
        return {"navigation": NAVIGATION, "here": here, "home": False}

    def _page(self, template: str, here: str = "", title: str = "", **context: Any) -> str:
        frame = self._frame(here) | {"title": title or NAVIGATION.get(here, TITLE), "scripted": template in SCRIPTED}
        return environment("html").get_template(template).render(frame | context)

    def board(self, board: Board, *, home: bool = False, of: Board | None = None) -> str:
        """Return a board's page; `of` is the board that it shows from the defender's side."""
        base = of or board
        if board.slug not in self._seen:
            self._seen[board.slug] = views.board(board, self.links, self._seen.get(base.slug))
        view = self._seen[board.slug]
        files = [(f"{base.slug}.{render.ENDINGS[form]}", name) for form, name in FILES.items()]
        files += [
            (f"{base.slug}.bib", "BibTeX"),
            *((name, title) for name, title in views.figure_files(base) if name in self._figures(base)),
        ]
        context = {
            "home": home,
            "board": board,
            "base": base,
            "sides": base.row_axes == ("attack",) and base.subject == "attack",
            "switch": views.switch(self.boards, base, ".defenses" if of else ""),
            "boards": self.boards,
            "bib": views.bib(board),
            "pareto": views.pareto(base),
            "files": files,
        }
        return self._page("board.html", "index", TITLE if home else board.title, **(view | context))

    @cached_property
    def _seen(self) -> dict[str, dict[str, Any]]:
        """What templates get of boards: the first is shown twice, and both sides have the same sources."""
        return {}

    @cached_property
    def _drawn(self) -> dict[str, dict[str, str]]:
        return {}

    def _figures(self, board: Board) -> dict[str, str]:
        """The figures of a board by the names of their files."""
        if board.slug not in self._drawn:
            numbers = [[board.values[row, column].mean for column in board.columns] for row in board.rows]
            drawn: dict[str, str] = {f"{board.slug}.heat.svg": figures.heat(board.title, board.rows, board.columns, numbers)}
            if plot := views.pareto(board):
                drawn[f"{board.slug}.pareto.svg"] = plot
            self._drawn[board.slug] = drawn
        return self._drawn[board.slug]

    def _entry(self, kind: str, entry: Entry) -> str:
        cells = self._cells(kind, entry.name)
        return self._page(
            "entry.html",
            f"{kind}s",
            entry.name,
            kind=kind,
            entry=entry,
            idea=idea(entry),
            needs=entry.facts.get("needs", ()),
            fields=[(f, write_value(f.default)) for f in entry.fields if not f.hidden],
            bibtex=bibliography([entry.paper] if entry.paper and entry.paper.url else []),
            cells=[views.line(cell, kind) for cell in cells[: views.LARGE]],
            count=len(cells),
            boards=list({cell.board.slug: cell.board for cell in cells}.values()) if len(cells) > views.LARGE else (),
            axes=[axis for axis in (*KINDS, "protocol", "dataset", "ratio") if axis != kind],
            plots=views.plots(kind, cells),
            samples=self.samples.get(f"{kind}.{entry.name}", ()),
            identity=bool(entry.facts.get("identity")),
        )


def file_of(kind: str, name: str) -> str:
    """The page of an entry."""
    return f"{kind}.{slugged(name)}.html"


def idea(entry: Entry) -> str:
    """The docstring of an entry's file: the idea, where the entry's own says what is particular to it; '' if that is all."""
    try:
        found = ast.get_docstring(ast.parse(entry.path.read_text(encoding="utf-8"))) if entry.path else None
    except (OSError, ValueError, SyntaxError):  # of somebody's package
        return ""
    return found if found and found.strip() != entry.doc.strip() else ""
