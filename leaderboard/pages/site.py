"""The pages of the site. They link each other by relative addresses, load nothing, and read without JavaScript.

The same boards give the same bytes: no page carries the time at which it was made, only that of its latest record.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from leaderboard.formats import bibtex, figures
from leaderboard.formats import text as formats
from leaderboard.formats.bibtex import bibliography
from leaderboard.formats.escaping import environment, presentable
from leaderboard.formats.pdf import pdf
from leaderboard.formats.scatter import Plane
from leaderboard.formats.words import brief
from leaderboard.pages import overview, prediction, printed, views
from leaderboard.pages.changelog import blocks
from leaderboard.pages.coverage import coverage
from leaderboard.pages.prediction import Prediction
from leaderboard.tables.ranking import joined
from leaderboard.tables.table import Table, slugged
from registry import CATALOGS
from registry.entry import Entry
from registry.item import write_value

TITLE = "Unlearnable Bench"
KINDS = ("attack", "defense", "architecture")
NAVIGATION = {
    "index": "Leaderboard",
    "papers": "Tables of papers",
    "agreement": "Agreement",
    "prediction": "Prediction",
    "attacks": "Attacks",
    "defenses": "Defenses",
    "architectures": "Architectures",
    "coverage": "Coverage and cost",
    "protocols": "Protocols",
    "changes": "Changes",
}
SCRIPTED = {
    "board.html",
    "entries.html",
    "entry.html",
    "coverage.html",
    "agreement.html",
    "prediction.html",
}  # have tables that can be sorted
FILES = {"csv": "CSV", "json": "JSON", "markdown": "Markdown", "latex": "LaTeX"}


class History(Protocol):
    """The publications so far, as `publishing/changes.py` knows them."""

    @property
    def publications(self) -> list[dict[str, Any]]:
        """One per publication in which a number changed, the latest first."""


@dataclass(frozen=True)
class Site:
    """Boards and printed tables as a folder of files. `samples` are pictures by `attack.<name>` and `defense.<name>`.

    With a `history` it is a publication: its pages link to the data beside them, and one says which numbers moved.
    """

    boards: Sequence[Table]
    sheets: Sequence[Table] = ()
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    changelog: str = ""
    history: History | None = None
    planes: Sequence[Plane] = ()

    def files(self) -> dict[str, str | bytes]:
        """Return every file by name, index.html first."""
        done = [board for board in self.boards if board.coverage["done"]]
        first = next((board for board in done if board.command), None)  # a grid's; else the one with most
        first = first or max(done, key=lambda board: board.coverage["done"], default=next(iter(self.boards), None))
        texts: dict[str, str | bytes] = {"index.html": self.board(first, home=True) if first else self._page("page.html")}
        for board in self.boards:
            texts[f"{board.slug}.html"] = self.board(board)
            if board.other:
                texts[f"{board.slug}{board.other}.html"] = self.board(board.transposed(), of=board)
            texts |= {f"{board.slug}.{formats.ENDINGS[form]}": formats.FORMATS[form](board) for form in FILES}
            texts |= printable(self._figures(board))
            texts[f"{board.slug}.bib"] = f"{self.citation}\n{bibliography(views.papers(board))}"
        for name, group in self._homes.items():
            view = views.sources(group) | {"home_of": file_of("attack", group[0].attack)}
            texts[name] = self._page("sources.html", "attacks", f"Where the numbers of {view['attack']} come from", **view)
        texts["papers.html"] = printed.index(self.sheets, self._frame("papers"))
        for sheet in self.sheets:
            texts |= printed.site(sheet, self._frame("papers" if sheet.source else "index"), self.links)
        for kind in KINDS:
            rows = [views.row(entry, idea(entry), self._cells(kind, entry.name)) for entry in self.entries[kind]]
            context = {"kind": kind, "rows": rows, "beside": kind == "attack" and bool(self.planes or self._noises)}
            texts[f"{kind}s.html"] = self._page("entries.html", f"{kind}s", NAVIGATION[f"{kind}s"], **context)
            for entry in self.entries[kind]:
                texts[file_of(kind, entry.name)] = self._entry(kind, entry)
                texts |= printable({plot.file: plot.svg for plot in self._plots(kind, entry.name)})
        if self.planes or self._noises:
            context = {"planes": views.planes(self.planes), "noises": self._noises}
            texts["perturbations.html"] = self._page("perturbations.html", "attacks", "Perturbations side by side", **context)
            texts |= printable({f"perturbations.{plane.slug}": plane.drawing() for plane in self.planes})
        texts["agreement.html"] = self._page("agreement.html", "agreement", **overview.agreement(self.sheets))
        texts["prediction.html"] = self._page("prediction.html", "prediction", prediction.HEADING, **self._predicted)
        if (plot := self.prediction.figure) is not None:
            texts |= printable({prediction.FIGURE: plot})
        texts["coverage.html"] = self._page("coverage.html", "coverage", **coverage(self.boards, self.sheets))
        recipes, data = ([row for row in CATALOGS[noun].rows if not row.error] for noun in ("protocols", "datasets"))
        texts["protocols.html"] = self._page("protocols.html", "protocols", protocols=recipes, datasets=data)
        texts["changes.html"] = self.changes()
        return {
            name: presentable(text) if isinstance(text, str) and name.endswith(".html") else text
            for name, text in texts.items()
        }

    def changes(self) -> str:
        """Return the page of what moved and what is about to."""
        stale = [cell for cell in self.cells if any(run.state == "stale" for run in cell.score.runs)]
        moved = self.history.publications if self.history else []
        return presentable(self._page("changes.html", "changes", stale=stale, moved=moved, blocks=blocks(self.changelog)))

    # where things are

    @cached_property
    def prediction(self) -> Prediction:
        """What the board of the fast recipe tells of the papers' tables; empty where one of the two is not shown."""
        fast = [board for board in self.boards if board.slug == prediction.GRID]
        places = [score.place for table in self.sheets if table.source for score in table.scores.values()]
        return Prediction.of(fast[0], places) if fast else Prediction(())

    @property
    def _predicted(self) -> dict[str, Any]:
        return self.prediction.view({sheet.name: f"{sheet.slug}.html" for sheet in self.sheets})

    @cached_property
    def citation(self) -> str:
        """BibTeX of this leaderboard, dated by its latest record."""
        ours = (record for cell in self.cells if not cell.score.reported for record in cell.score.used)
        days = (record.finished[:10] for record in ours)
        return bibtex.leaderboard(max(filter(re.compile(r"\d{4}-\d\d-\d\d").fullmatch, days), default=""))

    @cached_property
    def _noises(self) -> dict[str, Mapping[str, Any]]:
        """Of each attack the first set in the store of which perturbations of two classes can be shown."""
        found = {}
        for key, several in self.samples.items():
            kind, _, name = key.partition(".")
            if kind == "attack" and (first := next((one for one in several if "noise" in one), None)):
                found[name] = first
        return dict(sorted(found.items()))

    @cached_property
    def cells(self) -> list[views.Cell]:
        """Every combination that was run, once, however many boards show it."""
        found: dict[str, views.Cell] = {}
        for board in self.boards:
            for score in board.scores.values():
                if any(run.state != "missing" for run in score.runs):
                    cell = views.Cell(board, score)
                    known = found.get(cell.key)
                    if known is None or len(known.score.runs) < len(score.runs):
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
        return {run.id: cell.href for cell in self.cells for run in cell.score.runs if run.state != "missing"}

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
        for board in self.boards:
            for score in board.scores.values():
                if score.rest and score.used:  # of a defense that stands for others, which no cell names
                    found["defense", score.point["defense"].partition("(")[0]].append(views.Cell(board, score))
        return found

    # pages

    def _frame(self, here: str) -> dict[str, Any]:
        frame = {"navigation": NAVIGATION, "here": here, "home": False, "published": self.history is not None}
        return frame | {"citation": self.citation}

    def _page(self, template: str, here: str = "", title: str = "", **context: Any) -> str:
        frame = self._frame(here) | {"title": title or NAVIGATION.get(here, TITLE), "scripted": template in SCRIPTED}
        return environment("html").get_template(template).render(frame | context)

    def board(self, board: Table, *, home: bool = False, of: Table | None = None) -> str:
        """Return a board's page; `of` is the board that it shows from the defender's side."""
        base = of or board
        if board.slug not in self._seen:
            self._seen[board.slug] = views.board(board, self.links, self._seen.get(base.slug))
        view = self._seen[board.slug]
        files = [(f"{base.slug}.{formats.ENDINGS[form]}", name) for form, name in FILES.items()]
        files += [
            (f"{base.slug}.bib", "BibTeX"),
        ]
        files += [
            (f"{name}.{ending}", f"{title} ({ending.upper()})")
            for name, title in views.figure_files(base)
            for ending in ("svg", "pdf")
            if name in self._figures(base)
        ]
        switch = views.switch([one for one in self.boards if one.measured or one is base], base, board.subject)
        context = {
            "home": home,
            "whole": overview.whole([*self.boards, *self.sheets]) if home else None,
            "table": board,
            "base": base,
            "sides": views.sides(base, board.subject, home),
            "switch": switch,
            "switched": {one["name"] for one in switch},
            "boards": [one for one in self.boards if one.measured],
            "bib": views.bib(board, self.citation),
            "pareto": views.pareto(base),
            "predicts": prediction.HEADING if base.slug == prediction.GRID else "",
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

    def _figures(self, board: Table) -> dict[str, str]:
        """The figures of a board by the names of their files, without endings."""
        if board.slug not in self._drawn:
            scores = [[board.scores[row, column] for column in board.columns] for row in board.rows]
            # pictures have no marks
            numbers = [[score.mean if not score.reported else None for score in line] for line in scores]
            rows, columns = (list(brief([joined(one) for one in side]).values()) for side in (board.rows, board.columns))
            drawn: dict[str, str] = {f"{board.slug}.heat": figures.heat(board.title, rows, columns, numbers, board.top)}
            if plot := views.pareto(board):
                drawn[f"{board.slug}.pareto"] = plot
            self._drawn[board.slug] = drawn
        return self._drawn[board.slug]

    def _plots(self, kind: str, name: str) -> list[views.Plot]:
        if (kind, name) not in self._plotted:
            stem = file_of(kind, name).removesuffix(".html")
            self._plotted[kind, name] = views.plots(kind, stem, self._cells(kind, name))
        return self._plotted[kind, name]

    @cached_property
    def _plotted(self) -> dict[tuple[str, str], list[views.Plot]]:
        return {}

    def _entry(self, kind: str, entry: Entry) -> str:
        cells = self._cells(kind, entry.name)
        axes = (kind, *(axis for axis in KINDS if axis != kind), "protocol", "dataset", "ratio")
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
            cells=[views.line(cell) for cell in cells[: views.LARGE]],
            count=len(cells),
            boards=list({cell.table.slug: cell.table for cell in cells}.values()) if len(cells) > views.LARGE else (),
            axes=[axis for axis in axes if axis != kind or len({cell.score.point[kind] for cell in cells}) > 1],
            plots=self._plots(kind, entry.name),
            beside=kind == "attack"
            and entry.name in {*self._noises, *(name for plane in self.planes for name in plane.attacks)},
            samples=self.samples.get(f"{kind}.{entry.name}", ()),
            identity=bool(entry.facts.get("identity")),
        )


def printable(drawn: Mapping[str, str]) -> dict[str, str | bytes]:
    """Figures as files of their own, SVG and PDF, by the names of files without endings."""
    shown = {name: presentable(svg) for name, svg in drawn.items()}
    found: dict[str, str | bytes] = {f"{name}.svg": figures.standalone(svg) for name, svg in shown.items()}
    return found | {f"{name}.pdf": pdf(svg) for name, svg in shown.items()}


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
