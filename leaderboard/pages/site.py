"""The pages of the site. They link each other by relative addresses, load nothing, and read without JavaScript.

The same tables give the same bytes: no page carries the time at which it was made, only that of its latest record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from unlearnable_bench.leaderboard.formats import bibtex, figures
from unlearnable_bench.leaderboard.formats import text as formats
from unlearnable_bench.leaderboard.formats.bibtex import bibliography
from unlearnable_bench.leaderboard.formats.escaping import presentable
from unlearnable_bench.leaderboard.formats.imprint import Imprint
from unlearnable_bench.leaderboard.formats.pdf import pdf
from unlearnable_bench.leaderboard.formats.scatter import ScatterPlot
from unlearnable_bench.leaderboard.pages import overview, prediction, printed, table_page
from unlearnable_bench.leaderboard.pages.addresses import PICTURE, SITEMAP, Addresses
from unlearnable_bench.leaderboard.pages.badges import Badge, badges
from unlearnable_bench.leaderboard.pages.cells import KINDS, LARGE, CellIndex, ScoredCell, file_of
from unlearnable_bench.leaderboard.pages.changelog import changelog_blocks, moved_numbers
from unlearnable_bench.leaderboard.pages.compare import Comparison
from unlearnable_bench.leaderboard.pages.coverage import coverage
from unlearnable_bench.leaderboard.pages.entry_pages import CellRow, EntryRow, Labels, Plot, plots, published_index
from unlearnable_bench.leaderboard.pages.frame import METHODS, REPRODUCTION, TITLE, Frame
from unlearnable_bench.leaderboard.pages.gallery import Sample, change_sizes, thumbnails
from unlearnable_bench.leaderboard.pages.method_pages import AXES, Facts, page_of
from unlearnable_bench.leaderboard.pages.methods import budget_text_of, deviations_of, display_name_of, idea_of, tags_of
from unlearnable_bench.leaderboard.pages.overview import with_layout, without_layout
from unlearnable_bench.leaderboard.pages.picture import Picture
from unlearnable_bench.leaderboard.pages.prediction import Prediction
from unlearnable_bench.leaderboard.pages.provenance import data
from unlearnable_bench.leaderboard.pages.references import References
from unlearnable_bench.leaderboard.pages.sources_page import sources
from unlearnable_bench.leaderboard.pages.start import OwnTables, Start, chips, home, starts
from unlearnable_bench.leaderboard.pages.take_away import TakeAway
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.registry import CATALOGS
from unlearnable_bench.registry.entry import Entry
from unlearnable_bench.registry.spec import write_value

FILES = {"csv": "CSV", "json": "JSON", "markdown": "Markdown", "latex": "LaTeX"}
DRAWN = ("svg", "pdf")
FINETUNE = "finetune"  # the table of victims that begin with weights
PLAIN = "none"  # clean images, and no defense: every table has results of them
PUBLISHED_AXES = ("attack", "defense", "architecture", "dataset", "ratio")
DATE = re.compile(r"\d{4}-\d\d-\d\d")
Files = dict[str, str | bytes]


class PublicationHistory(Protocol):
    """The publications so far, as `publishing/changes.py` knows them."""

    @property
    def publications(self) -> list[dict[str, Any]]:
        """One per publication in which a number changed, the latest first."""

    @property
    def releases(self) -> Sequence[Any]:
        """The frozen copies beside the pages, the latest first: each has a name, a day and, perhaps, a DOI."""


@dataclass
class Site:
    """Tables as a folder of files. `samples` are pictures by `attack.<name>` and `defense.<name>`.

    With a `history` it is a publication: its pages link to the data beside them, and one says which numbers moved.
    """

    tables: Sequence[Table]
    samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    changelog: str = ""
    history: PublicationHistory | None = None
    planes: Sequence[ScatterPlot] = ()
    url: str = ""  # where it will be, with a slash at its end; '' where nobody knows
    references: References = field(default_factory=References)
    imprint: Imprint = field(default_factory=Imprint)

    def __post_init__(self) -> None:
        self.measured_tables = without_layout(self.tables)
        self.printed_tables = with_layout(self.tables)
        self.index = CellIndex(self.measured_tables)
        self.frame = Frame(bibtex.leaderboard(self._date, self.imprint), self.history is not None, self.imprint, self._date)
        self.noises = _noises(self.samples)
        self.starts = starts(self.printed_tables, self._own, opens=not self._opens_with_own)
        self.home = self.starts[0] if self.starts else home(self.printed_tables, self._own)
        self.comparison = Comparison.of(self.home)
        self.published = published_index(self.printed_tables)

    def files(self) -> Files:
        """Return every file by name, index.html first."""
        made = [TableFiles(self, table) for table in self.measured_tables]
        files: Files = {"index.html": self._home(made)}
        files |= {start.file: self._start(start) for start in self.starts}
        for table_files in made:
            files |= table_files.all()
        files |= self._sources() | self._printed()
        for kind in KINDS:
            files |= self._entries(kind)
        files |= self._perturbations() | self._prediction() | self._overviews()
        files |= TakeAway(self.starts, self.printed_tables, [self._fast] if self._fast else []).files()
        files |= {badge.file: badge.drawing for badge in self._badges}
        if self.url:
            files[SITEMAP] = self._addresses.sitemap(files, self._date)
            files |= {PICTURE: self._picture.png()} if self._picture else {}
        return {name: self._finished(name, content) for name, content in files.items()}

    def _finished(self, name: str, content: str | bytes) -> str | bytes:
        """A file as it is written: pages hold no character that HTML may not, and their own address where it is known."""
        if not isinstance(content, str) or not name.endswith(".html"):
            return content
        page = presentable(content)
        return self._addresses.on_page(name, page) if self.url else page

    @property
    def _addresses(self) -> Addresses:
        return Addresses(self.url, self._picture.alternative if self._picture else "")

    @cached_property
    def _picture(self) -> Picture | None:
        """The picture that shared links show, of a site that says what is published."""
        return Picture.of(TITLE, self.starts[0]) if self.starts else None

    def table_page(self, table: Table) -> str:
        """Return the page of a measured table."""
        return TableFiles(self, table).page()

    def past(self) -> Files:
        """Return the pages that name earlier publications, as they are written."""
        pages = {"changes.html": self._changes(), "data.html": self._data()}
        return {name: self._finished(name, page) for name, page in pages.items()}

    def _data(self) -> str:
        return self.frame.page(
            "data.html",
            "data",
            tables=[table for table in self.measured_tables if table.measured],
            formats=formats.ENDINGS,
            badges=self._badges,
            url=self.url,
            releases=self.history.releases if self.history else [],
        )

    def _changes(self) -> str:
        return self.frame.page(
            "changes.html",
            "changes",
            stale=[cell for cell in self.index.cells if _waits(cell)],
            moved=self.history.publications if self.history else [],
        )

    @cached_property
    def prediction(self) -> Prediction:
        """What the table of the fast recipe tells of the papers' tables; empty where one of the two is not shown."""
        if self._fast is None:
            return Prediction(())
        scores = [score for table in overview.of_papers(self.printed_tables) for score in table.scores.values()]
        return Prediction.of(self._fast, [score.request for score in scores])

    @property
    def _other_settings(self) -> list[Table]:
        """The tables with numbers that belong to no grid."""
        return [table for table in self.measured_tables if table.measured and not table.name]

    @property
    def _opens_with_own(self) -> bool:
        """Whether somebody measured tables of their own here, and nothing of the fast recipe: these are what they came for."""
        measured = [table.slug for table in self.measured_tables if table.measured]
        return bool(measured) and prediction.GRID not in measured

    @property
    def _fast(self) -> Table | None:
        """The table of the fast recipe, where it is shown."""
        return self._own.fast

    @cached_property
    def _own(self) -> OwnTables:
        """The tables of ours that have columns on start pages, where they are shown."""
        by_slug = {table.slug: table for table in self.measured_tables}
        return OwnTables(by_slug.get(prediction.GRID), by_slug.get(FINETUNE))

    @property
    def links(self) -> dict[str, str]:
        """Where the provenance of each cell with a record or a failure is, by its id."""
        return self.index.links

    @cached_property
    def _badges(self) -> list[Badge]:
        """One per method with a worst case on the start page."""
        return badges(self.starts[0]) if self.starts else []

    @cached_property
    def _date(self) -> str:
        """The day of our latest record, or empty."""
        ours = [cell.score for cell in self.index.cells if not cell.score.reported]
        days = [record.finished[:10] for score in ours for record in score.used]
        return max(filter(DATE.fullmatch, days), default="")

    # groups of files

    def _home(self, made: Iterable[TableFiles]) -> str:
        """The first page: what is published; of a workspace of one's own the first grid with numbers, or the fullest table."""
        if self.starts and self.starts[0].is_home:
            return self._start(self.starts[0])
        first = _first(self.measured_tables)
        for table_files in made:
            if table_files.table is first:
                return table_files.page(home=True)
        return self.frame.page("page.html", "", TITLE)

    def _start(self, start: Start) -> str:
        """What is published of a dataset and network, and what the fast recipe says beside it."""
        return self.frame.page(
            "start.html",
            "index",
            TITLE if start.is_home else f"{TITLE}: {start.name}",
            description=start.answer,
            start=start,
            views=[start.view("attack"), start.view("defense")],
            chips=chips(start, self.starts),
            pictures=thumbnails(self.samples, start.dataset),
            sizes=change_sizes(self.samples, start.dataset),
            moved=moved_numbers(self.changelog) if start.is_home else [],
            whole=overview.whole(self.tables),
        )

    def _sources(self) -> Files:
        files: Files = {}
        for name, cells in self.index.by_page.items():
            context = sources(cells, self.url, self.imprint)
            title = f"Where the numbers of {context['attack']} come from"
            home = file_of("attack", cells[0].attack)
            files[name] = self.frame.page("sources.html", "attacks", title, home_of=home, **context)
        return files

    def _printed(self) -> Files:
        files: Files = {"papers.html": printed.index(self.printed_tables, self.frame.context("papers"))}
        for table in self.printed_tables:
            here = "papers" if table.source else "reproduction"
            files |= printed.site(table, self.frame.context(here), self.links)
        return files

    def _perturbations(self) -> Files:
        """Perturbations side by side, where there are any."""
        if not self.has_perturbations:
            return {}
        title = "Perturbations side by side"
        files: Files = {}
        files["perturbations.html"] = self.frame.page(
            "perturbations.html", "attacks", title, planes=self.planes, noises=self.noises
        )
        return files | printable({f"perturbations.{plane.slug}": plane.drawing() for plane in self.planes})

    def _prediction(self) -> Files:
        addresses = {table.name: f"{table.slug}.html" for table in self.printed_tables}
        view = self.prediction.view(addresses)
        files: Files = {"prediction.html": self.frame.page("prediction.html", "prediction", prediction.HEADING, **view)}
        if self.prediction.figure is not None:
            files |= printable({prediction.FIGURE: self.prediction.figure})
        return files

    def _overviews(self) -> Files:
        contexts: dict[str, dict[str, Any]] = {
            "agreement": overview.agreement(self.printed_tables),
            "coverage": coverage(self.measured_tables, self.printed_tables),
            "protocols": {"protocols": _installed("protocols"), "datasets": _installed("datasets")},
            "methods": {"kinds": {kind: self._known_entries(kind) for kind in KINDS}, "titles": METHODS, "file_of": file_of},
            "compare": {"comparison": self.comparison, "setting": self.home.name, "titles": METHODS, "page_of": page_of},
            "reproduction": {"pages": REPRODUCTION, "whole": overview.whole(self.tables), "others": self._other_settings},
            "submit": {},
            "run": {"has_home": bool(self.starts)},
            "changelog": {"blocks": changelog_blocks(self.changelog)},
        }
        files: Files = {}
        for name, context in contexts.items():
            files[f"{name}.html"] = self.frame.page(f"{name}.html", name, **context)
        files["data.html"] = self._data()
        files["changes.html"] = self._changes()
        return files

    # entries

    def _entries(self, kind: str) -> Files:
        """The list of the entries of a kind, and the page and the figures of each."""
        entries = self._known_entries(kind)
        rows = [EntryRow.of(entry, self.index.of_entry(kind, entry.name)) for entry in entries]
        here = f"{kind}s"
        beside = kind == "attack" and self.has_perturbations
        files: Files = {f"{here}.html": self.frame.page("entries.html", here, kind=kind, rows=rows, beside=beside)}
        for entry in entries:
            drawn = plots(kind, entry.name, self.index.of_entry(kind, entry.name))
            files[file_of(kind, entry.name)] = self.entry_page(kind, entry, drawn)
            files |= printable({plot.file: plot.svg for plot in drawn})
        return files

    def _known_entries(self, kind: str) -> list[Entry]:
        """The entries of a kind that have a page: the installed ones, and those that only records know."""
        catalog = CATALOGS[f"{kind}s"]
        installed = {entry.name: entry for entry in reversed(catalog.rows)}
        strange = sorted(self.index.names[kind] - installed.keys())
        unknown = [Entry(f"{kind}s", name, "not installed here", "", "") for name in strange]
        return [installed[name] for name in sorted(installed)] + unknown

    def entry_page(self, kind: str, entry: Entry, drawn: Sequence[Plot] = ()) -> str:
        """Return the page of an entry: what is known of it as a method, what it is, and every result."""
        context = self._results(kind, entry) | self._about(kind, entry)
        return self.frame.page(
            "entry.html",
            f"{kind}s",
            f"{display_name_of(entry)} ({entry.name})",
            kind=kind,
            entry=entry,
            name=display_name_of(entry),
            plots=drawn,
            **context,
        )

    def _results(self, kind: str, entry: Entry) -> dict[str, Any]:
        """Every result of an entry, and what they say of it beside those of other methods."""
        cells = self.index.of_entry(kind, entry.name)
        rows = [CellRow.of(cell) for cell in cells[:LARGE]]
        axes = _axes(kind, cells)
        printed_rows = [] if entry.name == PLAIN else self.published.get((kind, entry.name), [])
        axis = next((axis for axis in AXES if axis == kind), None)  # none: of architectures papers compare nothing
        return {
            "facts": Facts.of(self.home, self.starts, axis, entry.name) if axis else None,
            "rivals": self.comparison.rivals(axis, entry.name) if axis else [],
            "cells": rows,
            "count": len(cells),
            "tables": _tables_of(cells) if len(cells) > LARGE else [],
            "axes": axes,
            "labels": Labels(rows, axes),
            "published_rows": printed_rows,
            "published_labels": Labels(printed_rows, PUBLISHED_AXES),
            "published_axes": PUBLISHED_AXES,
        }

    def _about(self, kind: str, entry: Entry) -> dict[str, Any]:
        """What is known of an entry without any result."""
        return {
            "idea": idea_of(entry),
            "deviations": deviations_of(entry),
            "remark": self.references.remark_on(kind, entry.name),
            "vectors": self.references.vectors_of(kind, entry.name),
            "budget": budget_text_of(entry),
            "acts": [tag for tag in tags_of([entry]) if not tag.startswith("needs ")],
            "write_value": write_value,
            "bibtex": bibliography([entry.paper] if entry.paper and entry.paper.url else []),
            "beside": kind == "attack" and entry.name in self._compared,
            "samples": self.samples.get(f"{kind}.{entry.name}", ()),
        }

    @property
    def has_perturbations(self) -> bool:
        return bool(self.planes or self.noises)

    @cached_property
    def _compared(self) -> set[str]:
        """The attacks whose perturbations are shown beside those of others."""
        return set(self.noises).union(*(plane.attacks for plane in self.planes))


class TableFiles:
    """The files of a measured table: its page from both sides, its data, its figures."""

    def __init__(self, site: Site, table: Table) -> None:
        self.site = site
        self.table = table
        self.drawings = table_page.drawings(table)
        self.data = data(table)
        self.context = table_page.TableView(table, site.links).context()

    def all(self) -> Files:
        """Return every file by name."""
        slug = self.table.slug
        files: Files = {f"{slug}.html": self.page()}
        if self.table.other:
            files[f"{slug}{self.table.other}.html"] = self._other_page()
        for form in FILES:
            files[_data_file(self.table, form)] = formats.FORMATS[form](self.table)
        files |= printable(self.drawings)
        files[f"{slug}.bib"] = f"{self.site.frame.citation}\n{bibliography(table_page.papers(self.table))}"
        return files

    def page(self, *, home: bool = False) -> str:
        """Return the page as the rows of the table see it."""
        whole = overview.whole(self.site.tables) if home else None
        title = TITLE if home else self.table.title
        return self._page(self.table, title, self.context | {"home": home, "whole": whole})

    def _other_page(self) -> str:
        """The page as the columns of the table see it."""
        turned = self.table.transposed()
        context = table_page.TableView(turned, self.site.links).context()
        return self._page(turned, turned.title, context | {"home": False, "whole": None})

    def _page(self, table: Table, title: str, context: dict[str, Any]) -> str:
        """A page that shows the table or the same from the other side."""
        numbered = [other for other in self.site.measured_tables if other.measured]
        known = [other for other in self.site.measured_tables if other.measured or other is self.table]
        switches = table_page.switches(known, self.table, table.subject)
        links = {
            "table": table,
            "base": self.table,
            "sides": table_page.sides(self.table, table.subject, context["home"]),
            "switch": switches,
            "switched": {switch.name for switch in switches},
            "tables": numbered,
            "bib": table_page.bibtex_by_label(table, self.site.frame.citation),
            "pareto": self.drawings.get(f"{self.table.slug}.pareto"),
            "predicts": prediction.HEADING if self.table.slug == prediction.GRID else "",
            "files": self._file_names(),
            "data": self.data,
            "starts": self.site.starts,
        }
        here = "index" if context["home"] else "reproduction"
        return self.site.frame.page("table.html", here, title, **(context | links))

    def _file_names(self) -> dict[str, str]:
        """What the files beside the page are."""
        names = {_data_file(self.table, form): name for form, name in FILES.items()}
        names[f"{self.table.slug}.bib"] = "BibTeX"
        for name, title in table_page.FIGURE_NAMES.items():
            stem = f"{self.table.slug}.{name}"
            if stem in self.drawings:
                names |= {f"{stem}.{ending}": f"{title} ({ending.upper()})" for ending in DRAWN}
        return names


def printable(drawings: Mapping[str, str]) -> Files:
    """Figures as files of their own, SVG and PDF, by the names of files without endings."""
    files: Files = {}
    for name, drawing in drawings.items():
        svg = presentable(drawing)
        files[f"{name}.svg"] = figures.standalone(svg)
        files[f"{name}.pdf"] = pdf(svg)
    return files


def _data_file(table: Table, form: str) -> str:
    return f"{table.slug}.{formats.ENDINGS[form]}"


def _first(tables: Sequence[Table]) -> Table | None:
    """The first table of a grid that has numbers, else the table that has most of them."""
    done = [table for table in tables if table.coverage["done"]]
    for table in done:
        if table.command:
            return table
    return max(done or tables, key=lambda table: table.coverage["done"], default=None)


def _waits(cell: ScoredCell) -> bool:
    """Whether it was measured with an earlier version of a method."""
    return any(run.state == "stale" for run in cell.score.runs)


def _installed(kind: str) -> list[Entry]:
    return [entry for entry in CATALOGS[kind].rows if not entry.error]


def _tables_of(cells: Iterable[ScoredCell]) -> list[Table]:
    """The tables that show some cells, each once."""
    return list({cell.table.slug: cell.table for cell in cells}.values())


def _axes(kind: str, cells: Iterable[ScoredCell]) -> list[str]:
    """The axes of the table of an entry's cells; its own where they differ in it."""
    others = [axis for axis in KINDS if axis != kind]
    texts = {cell.score.point[kind] for cell in cells}
    own = [kind] if len(texts) > 1 else []
    return [*own, *others, "protocol", "dataset", "ratio"]


def _noises(samples: Mapping[str, Sequence[Sample]]) -> dict[str, Sample]:
    """Of each attack the first set in the store of which perturbations of two classes can be shown."""
    noises = {}
    for key, several in sorted(samples.items()):
        kind, _, name = key.partition(".")
        shown = [sample for sample in several if sample.noise]
        if kind == "attack" and shown:
            noises[name] = shown[0]
    return noises
