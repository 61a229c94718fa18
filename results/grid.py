"""Grids: the scores of one or more tables, the order in which their cells run, and how selectors change them.

A grid of the program is one table file. A grid of a paper is `<paper>/table-<label>`, several are named by a glob (`d-vae/*`),
all of them are `full`.
"""

from __future__ import annotations

import difflib
import fnmatch
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from unlearnable_bench.results.cell import Cell
from unlearnable_bench.results.cells import CellMaker, Expansion, Lacking, RequestedCells, Resolve
from unlearnable_bench.results.record import FileError
from unlearnable_bench.results.reference import paper_tables
from unlearnable_bench.results.selectors import Selector, seeds_of
from unlearnable_bench.results.table_file import ScoreRequest, TableFile, read_table, table_names

ORDER = ("measure", "protocol", "dataset", "attack", "ratio", "part", "defense", "architecture")
"""The axes in the order in which a table without a layout is run; the last one changes first."""


@dataclass(frozen=True)
class Grid:
    """Places of tables to run together; cells that several of them share are run once."""

    title: str
    tables: Mapping[str, TableFile]
    requests: tuple[ScoreRequest, ...]

    @classmethod
    def of(cls, *tables: TableFile, title: str = "") -> Grid:
        """The grid of all scores of some tables."""
        requests = itertools.chain(*(table.requests() for table in tables))
        return cls(title or tables[0].title, {table.name: table for table in tables}, tuple(requests))

    @property
    def has_layout(self) -> bool:
        """Whether its tables say how they are printed; else it is one table of the program whose rows are ranked."""
        return any(table.has_layout for table in self.tables.values())

    def requested_cells(self, resolve: Resolve, lacking: Lacking) -> list[RequestedCells]:
        """Return the scores that are run, each with its cells or with why they are not available.

        Where tables have a layout, score by score as they are printed; else axis by axis. FileError names a table whose value
        is wrong.
        """
        expansion = Expansion(resolve, lacking)
        return [expansion.expand(request, self.tables[request.table]) for request in self._ordered() if request.runs]

    def _ordered(self) -> Sequence[ScoreRequest]:
        """Its scores as they are run."""
        requests: Sequence[ScoreRequest] = self.requests
        if not self.has_layout:
            for axis in reversed(ORDER):
                requests = _sorted_by(axis, requests)
        return requests

    def cells(self, resolve: Resolve, lacking: Lacking) -> list[Cell]:
        """The cells that can be run, each once, in the order in which they are run: block by block, then the rest."""
        turns: list[tuple[int, Cell]] = []
        for wanted in self.requested_cells(resolve, lacking):
            table = self.tables[wanted.request.table]
            for cell in wanted.cells:
                turn = table.turn(wanted.request.fields, cell.seed)
                turns.append((turn, cell))
        turns.sort(key=itemgetter(0))
        return list({cell.id: cell for _, cell in turns}.values())

    def absent(self, resolve: Resolve, lacking: Lacking) -> list[tuple[str, str]]:
        """The cells that cannot be run here, each once, seeds apart: what it is, and why."""
        found: dict[tuple[Any, ...], tuple[str, str]] = {}
        for wanted in self.requested_cells(resolve, lacking):
            if not wanted.reason:
                continue
            request = wanted.request
            reason = f"not available: {wanted.reason}"
            for seed in request.seeds:
                key = (*request.written, seed)
                found.setdefault(key, (f"{request.text}/s{seed}", reason))
        return list(found.values())

    def selected(self, wishes: Mapping[str, Sequence[str]], resolve: Resolve) -> Grid:
        """Keep the scores that match, or replace: a value or a glob keeps, `old=new` replaces. FileError if nothing matches.

        Seeds are no axis of the scores: those that are named are the seeds of every score, whether it had them or not.
        """
        grid = self
        maker = CellMaker(resolve)
        for axis, texts in wishes.items():
            if axis != "seed":
                selectors = [Selector.read(axis, text, maker) for text in texts]
                grid = grid._with_values(selectors)
            elif texts:
                grid = grid._with_seeds(texts)
        return grid

    def _with_seeds(self, wishes: Sequence[str]) -> Grid:
        there = set(itertools.chain(*(table.seed for table in self.tables.values())))
        tables = {}
        for name, table in self.tables.items():
            seeds = seeds_of(wishes, table.seed, there)
            tables[name] = table.with_seeds(seeds)
        grid = replace(self, tables=tables)
        return replace(grid, requests=tuple(map(grid._seeded, self.requests)))

    def _seeded(self, request: ScoreRequest) -> ScoreRequest:
        """A score with the seeds that its table has for it."""
        table = self.tables[request.table]
        return replace(request, seeds=table.seeds_of(request.fields))

    def _with_values(self, selectors: Sequence[Selector]) -> Grid:
        """Apply the selectors of one axis, one after the other."""
        requests = list(self.requests)
        first: dict[int, int] = {}  # number of a score -> number of the first selector that it matches
        for turn, selector in enumerate(selectors):
            for number in selector.hits(requests):
                first.setdefault(number, turn)
                requests[number] = self._seeded(selector.applied(requests[number]))
        if all(selector.new for selector in selectors):
            return replace(self, requests=tuple(requests))
        kept = sorted(first)
        if not self.has_layout:
            kept.sort(key=first.__getitem__)  # in the order in which they were named
        return replace(self, requests=tuple(map(requests.__getitem__, kept)))

    def scaled(self, factor: float) -> Grid:
        """The same grid with the epochs of its protocols multiplied by `factor`, which makes them other protocols."""
        requests = tuple(_scaled(request, factor) for request in self.requests)
        return replace(self, requests=requests)


def _sorted_by(axis: str, requests: Sequence[ScoreRequest]) -> list[ScoreRequest]:
    """Sort scores by an axis, whose values keep the order in which they come."""
    ranks: dict[Any, int] = {}
    for request in requests:
        ranks.setdefault(request.fields[axis], len(ranks))
    return sorted(requests, key=lambda request: ranks[request.fields[axis]])


def _scaled(request: ScoreRequest, factor: float) -> ScoreRequest:
    protocol = f"{request.fields['protocol']}@{factor:g}"
    fields = {**request.fields, "protocol": protocol}
    changes = (*request.changes, f"epochs x {factor:g}")
    return replace(request, fields=fields, changes=changes)


# Names


def read_grid(name: str) -> Grid:
    """Return the grid that a name stands for. FileError."""
    names = _tables_of(name)
    if names:
        return Grid.of(*map(read_table, names), title=name)
    near = difflib.get_close_matches(name, paper_tables(), 1, 0.8)
    if near and near[0] != name and not name.endswith(".toml"):
        raise FileError(f"there is no grid {name!r}; did you mean {near[0]!r}?")
    return Grid.of(read_table(name))


def _tables_of(name: str) -> list[str]:
    """The tables of papers that the name of several stands for."""
    if name == "full":
        return list(paper_tables())
    is_glob = bool(set(name) & set("*?["))
    return fnmatch.filter(paper_tables(), name) if is_glob else []


def grid_names() -> list[str]:
    """Every grid that `bench run --grid` knows by name."""
    names = [*table_names(), *paper_tables()]
    papers = dict.fromkeys(name.partition("/")[0] for name in paper_tables())
    names += [f"{paper}/*" for paper in papers]
    return [*names, "full"]
