"""What `bench report` shows: the program's own tables and the printed tables of papers, one of them or all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from unlearnable_bench.leaderboard.formats import scatter, text
from unlearnable_bench.leaderboard.pages import gallery, printed
from unlearnable_bench.leaderboard.pages.frame import NAVIGATION
from unlearnable_bench.leaderboard.pages.overview import with_layout, without_layout
from unlearnable_bench.leaderboard.pages.references import References
from unlearnable_bench.leaderboard.pages.site import Site
from unlearnable_bench.leaderboard.tables.lookup import Lookup
from unlearnable_bench.leaderboard.tables.measured import grid_table, other_tables
from unlearnable_bench.leaderboard.tables.printed import printed_tables, tables_of, tidy_rows
from unlearnable_bench.leaderboard.tables.table import Table, distinct
from unlearnable_bench.registry import EntryError, lacking, resolve
from unlearnable_bench.results import FileError, Grid, Record, Records, read_grid
from unlearnable_bench.results.reference import source
from unlearnable_bench.results.table_file import table_names

WRITERS: Mapping[str, Callable[[Table], str]] = {"html": printed.html, **text.FORMATS}
ENDINGS = {"html": "html", **text.ENDINGS}
FORMATS = tuple(WRITERS)


@dataclass(frozen=True)
class ShownTables:
    """Tables ready to print in any format: the measured ones, then those in a printed layout."""

    tables: list[Table]
    whole: bool  # the whole site, not what one name stands for

    @classmethod
    def of(cls, name: str | None, wishes: Mapping[str, Sequence[str]], records: Records, *, tidy: bool = False) -> ShownTables:
        """What a name stands for; without one the whole site, or with `tidy` what papers print. EntryError, FileError."""
        records = Remembered(records.folder)
        if name is None:
            return cls._of_papers(records) if tidy else cls._all(records)
        grid = read_grid(name)
        if tidy or grid.has_layout:
            return cls(printed_tables(grid.selected(wishes, resolve), records, resolve, lacking), False)
        if any(wishes.values()):
            raise EntryError(f"selectors are for printed tables; the grid {name} is shown whole")
        return cls([grid_table(grid, records, name, resolve)], False)

    @classmethod
    def _of_papers(cls, records: Records) -> ShownTables:
        """The tables that papers print, without those of leaderboards on the web."""
        full = read_grid("full")
        papers = {name: file for name, file in full.tables.items() if not source(file.paper).leaderboard}
        requests = tuple(request for request in full.requests if request.table in papers)
        return cls(printed_tables(replace(full, tables=papers, requests=requests), records, resolve, lacking), True)

    @classmethod
    def _all(cls, records: Records) -> ShownTables:
        own = {name: read_grid(name) for name in table_names()}
        in_a_layout = [grid for grid in own.values() if grid.has_layout]
        printed = _printed_tables([*in_a_layout, read_grid("full")], records)
        measured = [grid_table(grid, records, name, resolve) for name, grid in own.items() if not grid.has_layout]
        shown: set[str] = set()
        for table in measured:
            shown |= table.shown
        return cls([*measured, *other_tables(records, shown), *printed], True)

    @cached_property
    def measured_tables(self) -> list[Table]:
        return without_layout(self.tables)

    @cached_property
    def printed_tables(self) -> list[Table]:
        return with_layout(self.tables)

    def text(self, form: str) -> str:
        """Every table in one format, one behind the other; several in JSON are one list."""
        texts = [WRITERS[form](table) for table in self.tables]
        if form == "json" and len(texts) > 1:
            return f"[\n{','.join(texts)}]\n"
        return "".join(texts)

    def tidy(self) -> str:
        """The printed tables in the tidy form. For all papers: what they print, and nothing else."""
        return text.tidy_csv(tidy_rows(self.printed_tables, everything=not self.whole))

    def site(self, store: Path | None = None, changelog: str = "", kept: Path | None = None) -> Site:
        """The pages of the whole site. `store` is where poisons for pictures lie, `kept` where planes of perturbations do."""
        measured = distinct(self.measured_tables, [*NAVIGATION, *(table.slug for table in self.printed_tables)])
        pictures = gallery.samples(store) if store else {}
        planes = scatter.planes(kept) if kept else ()
        references = References.read(CHECKOUT / "tests/reference")
        return Site([*measured, *self.printed_tables], pictures, changelog, planes=planes, references=references)

    def write(
        self,
        folder: Path,
        formats: Sequence[str],
        store: Path | None = None,
        changelog: str = "",
        kept: Path | None = None,
    ) -> list[Path]:
        """Write the files; the first path is the page, where there is one. `store` and `kept` as for `site`."""
        if "html" in formats and (self.whole or self.measured_tables):
            made = self.site(store, changelog, kept)
            others = [form for form in formats if form != "html"]
            return text.write_tables(made.measured_tables, folder, others, more=made.files())
        more = self._printed_files(formats)
        return text.write_tables(self.measured_tables, folder, formats if self.measured_tables else (), more=more)

    def _printed_files(self, formats: Iterable[str]) -> dict[str, str]:
        """The printed tables in some formats, by the names of their files."""
        files = {}
        for table, form in itertools.product(self.printed_tables, formats):
            files[f"{table.slug}.{ENDINGS[form]}"] = WRITERS[form](table)
        return files


def _printed_tables(grids: Sequence[Grid], records: Records) -> list[Table]:
    """The printed tables of some grids; no cell of them stands in for another."""
    wanted = [grid.requested_cells(resolve, lacking) for grid in grids]
    claimed = {cell.id for of_grid in wanted for one in of_grid for cell in one.cells}
    lookup = Lookup(records, claimed)
    tables: list[Table] = []
    for grid, of_grid in zip(grids, wanted, strict=True):
        tables += tables_of(grid, of_grid, lookup)
    return tables


CHECKOUT = Path(__file__).parent.parent.parent  # that the program runs from, if it does


def changelog(workspace: Path) -> str:
    """The changelog of a workspace, else that of the checkout that the program runs from, else ''."""
    folders = [workspace, CHECKOUT] if (CHECKOUT / "pyproject.toml").exists() else [workspace]
    for folder in folders:
        path = folder / "CHANGELOG.md"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return ""


@dataclass(frozen=True)
class Remembered(Records):
    """Records that are read once each, however many tables show them."""

    known: dict[str, Record | FileError | None] = field(default_factory=dict)

    def seeds(self) -> set[int]:
        return self._seeds

    @cached_property
    def _seeds(self) -> set[int]:  # of which every table asks
        return super().seeds()

    def read(self, cell_id: str) -> Record | None:
        if cell_id not in self.known:
            try:
                self.known[cell_id] = super().read(cell_id)
            except FileError as error:
                self.known[cell_id] = error
        record = self.known[cell_id]
        if isinstance(record, FileError):
            raise record
        return record
