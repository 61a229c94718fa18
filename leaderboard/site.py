"""What `bench report` shows: the program's own boards and the printed tables of papers, one of them or all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from leaderboard import gallery, pages, printed, render, scatter
from leaderboard.sheet import Finder, Sheet, sheets, tidy
from leaderboard.table import Board, board, others
from registry import EntryError, lacking, resolve
from results import FileError, Grid, Record, Records, read_grid
from results.reference import source
from results.table_file import table_names

FORMATS = tuple(printed.FORMATS)


@dataclass(frozen=True)
class Shown:
    """Boards and sheets, ready to print in any format."""

    boards: list[Board]
    sheets: list[Sheet]
    whole: bool  # the whole site, not what one name stands for

    @classmethod
    def of(cls, name: str | None, wishes: Mapping[str, Sequence[str]], records: Records, *, tidy: bool = False) -> Shown:
        """What a name stands for; without one the whole site, or with `tidy` what papers print. EntryError, FileError."""
        records = Remembered(records.folder)
        if name is None:
            return cls._all(records, tidy)
        grid = read_grid(name)
        if tidy or grid.has_layout:
            return cls([], sheets(grid.selected(wishes, resolve), records, resolve, lacking), False)
        if any(wishes.values()):
            raise EntryError(f"selectors are for printed tables; the grid {name} is shown whole")
        return cls([board(grid, records, name, resolve)], [], False)

    @classmethod
    def _all(cls, records: Records, papers_only: bool) -> Shown:
        full = read_grid("full")
        if papers_only:
            papers = {name: table for name, table in full.tables.items() if not source(table.paper).leaderboard}
            full = Grid(full.title, papers, tuple(place for place in full.places if place.table in papers))
            return cls([], sheets(full, records, resolve, lacking), True)
        own = {name: read_grid(name) for name in table_names()}
        grids = [*(grid for grid in own.values() if grid.has_layout), full]
        shown = {cell.id for grid in grids for cell in grid.cells(resolve, lacking)}
        finder = Finder(records, shown)
        made = [sheet for grid in grids for sheet in sheets(grid, records, resolve, lacking, finder)]
        boards = [board(grid, records, name, resolve) for name, grid in own.items() if not grid.has_layout]
        own_ids = {cell_id for one in boards for cell_id in one.shown}
        return cls(boards + others(records, own_ids), made, True)

    def text(self, form: str) -> str:
        """Every table in one format, one behind the other; several in JSON are one list."""
        texts = [render.FORMATS[form](one) for one in self.boards] + [printed.FORMATS[form](sheet) for sheet in self.sheets]
        return f"[\n{','.join(texts)}]\n" if form == "json" and len(texts) > 1 else "".join(texts)

    def tidy(self) -> str:
        """The printed tables in the tidy form. For all papers: what they print, and nothing else."""
        return printed.tidy(tidy(self.sheets, everything=not self.whole))

    def site(self, store: Path | None = None, changelog: str = "", kept: Path | None = None) -> pages.Site:
        """The pages of the whole site. `store` is where poisons for pictures lie, `kept` where planes of perturbations do."""
        boards = render.distinct(self.boards, [*pages.NAVIGATION, *(sheet.slug for sheet in self.sheets)])
        pictures, planes = gallery.samples(store) if store else {}, scatter.planes(kept) if kept else ()
        return pages.Site(boards, self.sheets, pictures, changelog, planes=planes)

    def write(
        self,
        folder: Path,
        formats: Sequence[str],
        store: Path | None = None,
        changelog: str = "",
        kept: Path | None = None,
    ) -> list[Path]:
        """Write the files; the first path is the page, where there is one. `store` and `kept` as for `site`."""
        sheets = list(self.sheets)
        if "html" in formats and (self.whole or self.boards):
            made = self.site(store, changelog, kept)
            others = [form for form in formats if form != "html"]
            return render.write(made.boards, folder, others, more=made.files())
        endings = render.ENDINGS | {"html": "html"}
        more = {f"{sheet.slug}.{endings[form]}": printed.FORMATS[form](sheet) for sheet in sheets for form in formats}
        return render.write(self.boards, folder, formats if self.boards else (), more=more)


def changelog(workspace: Path) -> str:
    """The changelog of a workspace, else that of the checkout that the program runs from, else ''."""
    checkout = Path(__file__).parent.parent
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
