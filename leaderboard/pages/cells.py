"""The combinations that were run: what every page says of one, and where to find them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from unlearnable_bench.leaderboard.formats import figures
from unlearnable_bench.leaderboard.tables.naming import labels_of
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.leaderboard.tables.table import Table, slugged
from unlearnable_bench.results import Part
from unlearnable_bench.results.cell import name_in

KINDS = ("attack", "defense", "architecture")  # of entries that have a page
LARGE = 2000  # scores of a table, cells on the page of an entry: of more of them pages show less


@dataclass(frozen=True)
class ScoredCell:
    """A combination that was run, in the table that shows it first."""

    table: Table
    score: Score

    @property
    def key(self) -> str:
        return self.score.runs[0].id

    @property
    def attack(self) -> str:
        """The first of its attacks, an entry."""
        return self.score.runs[0].cell.attack[0].name

    @property
    def page(self) -> str:
        """The page of sources that has it: one per attack as people write it."""
        return f"sources.{slugged(self.score.point['attack'])}.html"

    @property
    def href(self) -> str:
        return f"{self.page}#c-{self.key}"

    @property
    def setting(self) -> str:
        return setting(self.score.point)

    @property
    def title(self) -> str:
        return f"{self.score.point['attack']} × {self.score.point['defense']}"  # noqa: RUF001

    def names(self, kind: str) -> list[str]:
        """The names of its entries of a kind, each once."""
        specs: Part | tuple[Part, ...] = getattr(self.score.runs[0].cell, kind)
        if not isinstance(specs, tuple):
            return [specs.name]
        return list(dict.fromkeys(spec.name for spec in specs))


def setting(point: Mapping[str, str]) -> str:
    """Where a cell was measured, in a few words."""
    share = f", ratio {point['ratio']}" if point["ratio"] != "1" else ""
    part = f", {point['part']} images" if point["part"] != "all" else ""
    return f"{point['protocol']}, {point['dataset']}, {point['architecture']}{share}{part}"


def setting_in_words(point: Mapping[str, str]) -> str:
    """The same as readers call it: `Fast, CIFAR-10, ResNet-9`; parameters follow in brackets."""
    return setting({**point, **{axis: _named(axis, point[axis]) for axis in ("protocol", "dataset", "architecture")}})


def _named(axis: str, text: str) -> str:
    (name,) = labels_of(axis, [text]).values()
    _, bracket, parameters = text.partition("(")
    return f"{name} ({parameters}" if bracket and name != text else name


def tint(score: Score, table: Table) -> int | None:
    """The number of a score's color, 0 strong to 10 none, on the scale of its table."""
    return None if score.mean is None else figures.step(score.mean, table.top)


def file_of(kind: str, name: str) -> str:
    """The page of an entry."""
    return f"{kind}.{slugged(name)}.html"


class CellIndex:
    """The cells of some tables, each once, however many tables show it; in the order of the tables."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._by_id: dict[str, ScoredCell] = {}
        self.by_page: dict[str, list[ScoredCell]] = defaultdict(list)  # of sources
        self.links: dict[str, str] = {}  # where the sources of each record and failure are, by the id of its cell
        self.names: dict[str, set[str]] = {kind: set() for kind in KINDS}  # of the entries that cells are made of
        self._by_entry: dict[tuple[str, str], list[ScoredCell]] = defaultdict(list)
        tables = list(tables)
        for table in tables:
            self._take_in(table)
        for cell in self.cells:
            self._file(cell)
        for table in tables:
            self._file_oracles(table)

    @property
    def cells(self) -> list[ScoredCell]:
        return list(self._by_id.values())

    def of_entry(self, kind: str, name: str) -> list[ScoredCell]:
        """The cells that an entry is part of."""
        return self._by_entry.get((kind, name), [])

    def _take_in(self, table: Table) -> None:
        for score in table.scores.values():
            if was_run(score):
                cell = ScoredCell(table, score)
                known = self._by_id.get(cell.key, cell)
                self._by_id[cell.key] = cell if len(known.score.runs) < len(score.runs) else known

    def _file(self, cell: ScoredCell) -> None:
        self.by_page[cell.page].append(cell)
        for run in cell.score.runs:
            if run.state != "missing":
                self.links[run.id] = cell.href
        for kind in KINDS:
            names = cell.names(kind)
            self.names[kind].update(names)
            for name in names:
                self._by_entry[kind, name].append(cell)

    def _file_oracles(self, table: Table) -> None:
        """File the scores of a defense that stands for others, which no cell names."""
        for score in table.scores.values():
            if score.rest and score.used:
                name = name_in(score.point["defense"])
                self._by_entry["defense", name].append(ScoredCell(table, score))


def was_run(score: Score) -> bool:
    """Whether any seed of a score has a record or a failure."""
    return any(run.state != "missing" for run in score.runs)
