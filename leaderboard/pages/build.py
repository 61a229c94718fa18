"""What `bench report` shows: the program's own boards and the printed tables of papers, one of them or all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path

from leaderboard.formats import scatter, text
from leaderboard.pages import gallery, printed
from leaderboard.pages.site import NAVIGATION, Site
from leaderboard.tables.lookup import Lookup
from leaderboard.tables.measured import grid_table, other_tables
from leaderboard.tables.printed import printed_tables, tidy
from leaderboard.tables.table import Table, distinct
from registry import EntryError, lacking, resolve
from results import FileError, Grid, Record, Records, read_grid
from results.reference import source
from results.table_file import table_names

FORMATS = ("html", *text.FORMATS)


@dataclass(frozen=True)
class Shown:
    """Tables ready to print in any format: those without printed labels, and those with."""

    boards: list[Table]
    sheets: list[Table]
    whole: bool  # the whole site, not what one name stands for

    @classmethod
    def of(cls, name: str | None, wishes: Mapping[str, Sequence[str]], records: Records, *, tidy: bool = False) -> Shown:
        """What a name stands for; without one the whole site, or with `tidy` what papers print. EntryError, FileError."""
        records = Remembered(records.folder)
        if name is None:
            return cls._all(records, tidy)
        grid = read_grid(name)
        if tidy or grid.has_layout:
            return cls([], printed_tables(grid.selected(wishes, resolve), records, resolve, lacking), False)
        if any(wishes.values()):
            raise EntryError(f"selectors are for printed tables; the grid {name} is shown whole")
        return cls([grid_table(grid, records, name, resolve)], [], False)

    @classmethod
    def _all(cls, records: Records, papers_only: bool) -> Shown:
        full = read_grid("full")
        if papers_only:
            return cls([], printed_tables(_of_papers(full), records, resolve, lacking), True)
        own = {name: read_grid(name) for name in table_names()}
        printed = [*filter(attrgetter("has_layout"), own.values()), full]
        claimed: set[str] = set()
        for grid in printed:
            claimed.update(map(attrgetter("id"), grid.cells(resolve, lacking)))
        lookup = Lookup(records, claimed)
        sheets: list[Table] = []
        for grid in printed:
            sheets += printed_tables(grid, records, resolve, lacking, lookup)
        boards = [grid_table(grid, records, name, resolve) for name, grid in own.items() if not grid.has_layout]
        shown = set().union(*map(attrgetter("shown"), boards))
        return cls(boards + other_tables(records, shown), sheets, True)

    def text(self, form: str) -> str:
        """Every table in one format, one behind the other; several in JSON are one list."""
        texts = [self._text(table, form) for table in (*self.boards, *self.sheets)]
        if form == "json" and len(texts) > 1:
            return f"[\n{','.join(texts)}]\n"
        return "".join(texts)

    @staticmethod
    def _text(table: Table, form: str) -> str:
        return printed.html(table) if form == "html" else text.FORMATS[form](table)

    def tidy(self) -> str:
        """The printed tables in the tidy form. For all papers: what they print, and nothing else."""
        return text.tidy(tidy(self.sheets, everything=not self.whole))

    def site(self, store: Path | None = None, changelog: str = "", kept: Path | None = None) -> Site:
        """The pages of the whole site. `store` is where poisons for pictures lie, `kept` where planes of perturbations do."""
        boards = distinct(self.boards, [*NAVIGATION, *map(attrgetter("slug"), self.sheets)])
        pictures = gallery.samples(store) if store else {}
        planes = scatter.planes(kept) if kept else ()
        return Site(boards, self.sheets, pictures, changelog, planes=planes)

    def write(
        self,
        folder: Path,
        formats: Sequence[str],
        store: Path | None = None,
        changelog: str = "",
        kept: Path | None = None,
    ) -> list[Path]:
        """Write the files; the first path is the page, where there is one. `store` and `kept` as for `site`."""
        if "html" in formats and (self.whole or self.boards):
            made = self.site(store, changelog, kept)
            others = [form for form in formats if form != "html"]
            return text.write(made.boards, folder, others, more=made.files())
        endings = text.ENDINGS | {"html": "html"}
        more = {}
        for table in self.sheets:
            for form in formats:
                more[f"{table.slug}.{endings[form]}"] = self._text(table, form)
        return text.write(self.boards, folder, formats if self.boards else (), more=more)


def _of_papers(full: Grid) -> Grid:
    """The tables that papers print, without those of leaderboards on the web."""
    papers = {name: file for name, file in full.tables.items() if not source(file.paper).leaderboard}
    places = [place for place in full.places if place.table in papers]
    return replace(full, tables=papers, places=tuple(places))


def changelog(workspace: Path) -> str:
    """The changelog of a workspace, else that of the checkout that the program runs from, else ''."""
    checkout = Path(__file__).parent.parent.parent
    folders = [workspace, checkout] if (checkout / "pyproject.toml").exists() else [workspace]
    path = next((path for folder in folders if (path := folder / "CHANGELOG.md").is_file()), None)
    return path.read_text(encoding="utf-8") if path else ""


@dataclass(frozen=True)
class Remembered(Records):
    """Records that are read once each, however many tables show them."""

    known: dict[str, Record | FileError | None] = field(default_factory=dict)

    def seeds(self) -> set[int]:
        return self._seeds

    @cached_property
    def _seeds(self) -> set[int]:  # of which every board asks
        return super().seeds()

    def read(self, cell_id: str) -> Record | None:
        if cell_id not in self.known:
            try:
                self.known[cell_id] = super().read(cell_id)
            except FileError as error:
                self.known[cell_id] = error
        found = self.known[cell_id]
        if isinstance(found, FileError):
            raise found
        return found
