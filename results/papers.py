"""The papers' tables: which there are, what their grids run, and what of it this installation can run.

A grid of a paper is `<paper>/table-<label>`, several are named by a glob (`d-vae/*`), all of them are `full`. Entries that no
paper's table could do without, but that do not exist yet, are listed in `planned.toml`: their cells are not available.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from results.cell import Cell
from results.record import FileError
from results.table import PAPERS, PLACED, Known, Place, Resolve, Table, read_table, read_toml, seeds_of, table_names

KINDS = {
    "protocol": "protocols",
    "dataset": "datasets",
    "attack": "attacks",
    "defense": "defenses",
    "architecture": "architectures",
    "measure": "analyses",
}

Lacking = Callable[[str, str], Sequence[tuple[str, str]]]
"""(kind, item) -> what of the item is not there: (name, '') for an entry, (name, field) for a field of one."""


class Source(BaseModel):
    """Where tables come from: `paper.toml`, once per paper."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    authors: str
    venue: str
    year: int
    url: str
    bibtex: str
    short: str
    leaderboard: bool = False  # figures of a web page that no paper prints
    names: dict[str, str] = {}  # entries that the paper calls by another name, for the tidy export
    params: list[str] = []  # the order of the keys of a condition

    def cited(self, entry: str) -> str:
        """The name of an entry in the paper's transcription."""
        return self.names.get(entry, entry)

    def ordered(self, params: str) -> str:
        """A condition with its keys in the paper's order."""
        order = {key: number for number, key in enumerate(self.params)}
        pairs = [pair for pair in params.split(";") if pair]
        return ";".join(sorted(pairs, key=lambda pair: order.get(pair.partition("=")[0], len(order))))


@cache
def source(paper: str) -> Source:
    """Read the paper.toml of a paper. FileError."""
    path = PAPERS / paper / "paper.toml"
    try:
        return Source.model_validate(read_toml(path))
    except ValidationError as error:
        first = error.errors()[0]
        missing = [str(one["loc"][0]) for one in error.errors() if one["type"] == "missing"]
        if missing:
            raise FileError(
                f"{path}: no {', '.join(f'`{name}`' for name in missing)}; a paper says who wrote it and where"
            ) from None
        raise FileError(f"{path}: `{'.'.join(map(str, first['loc']))}`: {first['msg']}") from None


@cache
def paper_tables() -> tuple[str, ...]:
    """The names of all tables of papers, paper by paper, in the order in which they are printed."""
    papers = sorted(PAPERS.glob("*/paper.toml"), key=lambda path: (source(path.parent.name).leaderboard, path.parent.name))
    return tuple(
        f"{path.parent.name}/{table.stem}"
        for path in papers
        for table in sorted(path.parent.glob("table-*.toml"), key=lambda t: _number(t.stem.removeprefix("table-")))
    )


def _number(label: str) -> tuple[int, str]:
    """II before IX before X, 2 before 10."""
    if label.isdigit():
        return int(label), ""
    values = {"i": 1, "v": 5, "x": 10}
    if not label or set(label) - set(values):
        return 99, label
    digits = [values[letter] for letter in label]
    return sum(-d if d < max(digits[i:]) else d for i, d in enumerate(digits)), ""


def grid_names() -> list[str]:
    """Every grid that `bench run --grid` knows by name."""
    papers = dict.fromkeys(name.partition("/")[0] for name in paper_tables())
    return [*table_names(), *paper_tables(), *(f"{paper}/*" for paper in papers), "full"]


@dataclass(frozen=True)
class Wanted:
    """The cells of one place, one per seed, or one per seed and member of a defense that has these; or why there are none."""

    place: Place
    cells: tuple[Cell, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Grid:
    """Tables to run together; cells that several of them share are run once."""

    title: str
    tables: Mapping[str, Table]
    places: tuple[Place, ...]
    known: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)  # what `wanted` found

    def wanted(self, resolve: Resolve, lacking: Lacking) -> list[Wanted]:
        """Return the places that are run, each with its cells or with why they are not available.

        FileError names a table whose item is wrong: an entry that neither exists nor is planned, a value out of its type.
        """
        if "wanted" not in self.known:
            self.known["wanted"] = _wanted(self, Known(resolve), lacking)
        found: list[Wanted] = self.known["wanted"]
        return found

    def cells(self, resolve: Resolve, lacking: Lacking) -> list[Cell]:
        """The cells that can be run, each once."""
        return list({cell.id: cell for wanted in self.wanted(resolve, lacking) for cell in wanted.cells}.values())

    def absent(self, resolve: Resolve, lacking: Lacking) -> list[tuple[str, str]]:
        """The cells that cannot be run yet, each once, seeds apart: what it is, and why."""
        found: dict[tuple[Any, ...], tuple[str, str]] = {}
        for wanted in self.wanted(resolve, lacking):
            for seed in wanted.place.seeds if wanted.reason else ():
                label = f"{written(wanted.place)}/s{seed}"
                found.setdefault((*wanted.place.written, seed), (label, f"not available: {wanted.reason}"))
        return list(found.values())

    def selected(self, wishes: Mapping[str, Sequence[str]]) -> Grid:
        """Keep the places that match, or replace: a value or a glob keeps, `old=new` replaces. FileError if nothing matches.

        Seeds are no places: those that are named are the seeds of every place, whether it had them or not.
        """
        places: Iterable[Place] = self.places
        for axis, several in wishes.items():
            if several and axis == "seed":
                there = {seed for place in self.places for seed in place.seeds}
                places = [replace(place, seeds=seeds_of(several, place.seeds, there)) for place in places]
            elif several:
                places = _chosen(places, axis, several)
        return replace(self, places=tuple(places), known={})

    def scaled(self, factor: float) -> Grid:
        """The same grid with the epochs of its protocols multiplied by `factor`, which makes them other protocols."""
        places = (
            replace(
                place,
                fields={**place.fields, "protocol": f"{place.fields['protocol']}@{factor:g}"},
                changes=(*place.changes, f"epochs x {factor:g}"),
            )
            for place in self.places
        )
        return replace(self, places=tuple(places), known={})


def written(place: Place) -> str:
    """A place's cells as logs write them, without the seed."""
    fields = dict(zip(PLACED, place.written, strict=True))
    share = "" if (fields["ratio"], fields["part"]) == (1, "all") else f"/{fields['part']}-{fields['ratio']:g}"
    measure = "" if fields["measure"] == "accuracy" else f"/{fields['measure']}"
    return f"{fields['dataset']}/{fields['attack']}{share}/{fields['defense']}/{fields['architecture']}{measure}"


def read_grid(name: str) -> Table | Grid:
    """Return what a name stands for: a table that lists combinations, or the places of printed tables. FileError."""
    names = [
        table for table in paper_tables() if name == "full" or (set(name) & set("*?[") and fnmatch.fnmatchcase(table, name))
    ]
    if not names:
        near = difflib.get_close_matches(name, paper_tables(), 1, 0.8)
        if near and near[0] != name and not name.endswith(".toml"):
            raise FileError(f"there is no grid {name!r}; did you mean {near[0]!r}?")
        table = read_table(name)
        return as_grid(table) if table.printed else table
    return _union(name, tuple(read_table(one) for one in names))


def as_grid(table: Table) -> Grid:
    """One table as a grid."""
    return _union(table.title, (table,))


def _union(title: str, tables: Sequence[Table]) -> Grid:
    return Grid(title, {table.name: table for table in tables}, tuple(place for table in tables for place in table.places()))


def file_of(table: str) -> str:
    """The file of a table, for messages."""
    return table if table.endswith(".toml") else f"results/{'papers' if '/' in table else 'tables'}/{table}.toml"


COLUMNS = (
    "paper",
    "table",
    "dataset",
    "attack",
    "defense",
    "architecture",
    "params",
    "metric",
    "value",
    "std",
    "quality",
    "note",
)
"""The tidy form of what papers print: one row per number."""


def cited(place: Place, table: Table) -> dict[str, str]:
    """One place in the tidy form: entries by name, the printed digits, the condition as the paper's transcription names it."""
    paper = source(table.paper) if table.paper else None
    names = {axis: re.split(r"[(+]", str(place.fields[axis]))[0] for axis in ("attack", "defense", "architecture")}
    names["dataset"] = str(place.fields["dataset"]).partition("(")[0]
    printed = place.printed
    return {
        "paper": table.paper,
        "table": table.table,
        **{axis: place.cited.get(axis) or (paper.cited(name) if paper else name) for axis, name in names.items()},
        "params": paper.ordered(place.params) if paper else place.params or _fields(place),
        "metric": place.metric.partition("(")[0],
        "value": printed.text if printed and printed.value is not None else "",
        "std": printed.std if printed else "",
        "quality": printed.quality if printed and printed.value is not None else "",
        "note": printed.note if printed else "",
    }


def _fields(place: Place) -> str:
    """What the names of entries leave out, where no paper says how to call it."""
    told = {axis: str(place.fields[axis]) for axis in ("protocol", "dataset", "attack", "defense", "architecture")}
    shares = {"ratio": f"{place.fields['ratio']:g}", "part": place.fields["part"]}
    usual = {"ratio": "1", "part": "all"}
    pairs = [(axis, text) for axis, text in told.items() if set(text) & set("(@+")]
    return ";".join(f"{axis}={text}" for axis, text in [*pairs, *(p for p in shares.items() if usual[p[0]] != p[1])])


# Which of it can be run


@cache
def planned() -> Mapping[str, Sequence[str]]:
    """The entries that tables name and that do not exist yet, by kind. FileError."""
    content: dict[str, list[str]] = read_toml(Path(__file__).parent / "planned.toml")
    return content


def _wanted(grid: Grid, known: Known, lacking: Lacking) -> list[Wanted]:
    made: dict[tuple[Any, ...], tuple[Cell, ...]] = {}
    reasons: dict[tuple[str, str], str] = {}
    found = []
    for place in grid.places:
        if not place.runs:
            continue
        fields = dict(zip(PLACED, place.written, strict=True))
        key = (*place.written, place.seeds)
        paper = bool(grid.tables[place.table].paper)
        try:
            reason = _reason(fields, paper, reasons, known, lacking)
            if not reason and key not in made:
                made[key] = tuple(cell for seed in place.seeds for cell in known.cells(fields, seed))
        except FileError:
            raise
        except ValueError as error:  # an entry's, from the registry
            raise FileError(f"{file_of(place.table)}, {' / '.join((*place.row, *place.column))}: {error}") from None
        found.append(Wanted(place, () if reason else made[key], reason))
    return found


def _reason(fields: Mapping[str, Any], paper: bool, told: dict[tuple[str, str], str], known: Known, lacking: Lacking) -> str:
    """Why a place cannot be run, or ''. ValueError for an entry that is not even planned."""
    for axis in ("measure", "attack", "defense", "dataset", "architecture", "protocol"):
        kind, item = KINDS[axis], str(fields[axis])
        if item == "accuracy" and axis == "measure":
            continue
        if axis == "architecture" and not known.analysis(str(fields["measure"]))[1]:
            continue  # no victim, whatever the paper calls that
        if (kind, item) not in told:
            told[kind, item] = _lack(axis, item, paper, known.resolve, lacking(kind, item))
        if told[kind, item]:
            return told[kind, item]
    return ""


def _lack(axis: str, item: str, paper: bool, resolve: Resolve, lacks: Sequence[tuple[str, str]]) -> str:
    noun = {"dataset": "data set", "measure": "analysis"}.get(axis, axis)
    kind = KINDS[axis]
    for name, missing in lacks:
        if (missing and not paper) or (not missing and name not in planned().get(kind, ())):
            later = " (what does not exist yet is named in results/planned.toml)" if paper and not missing else ""
            try:
                resolve(kind, item)  # raises with the nearest name that there is
            except ValueError as error:
                raise ValueError(f"{error}{later}") from None
            raise ValueError(f"unknown {noun} {name!r}{later}")
        return f"{noun} {name} has no field {missing}" if missing else f"{noun} {name}"
    return ""


# Selectors


def _chosen(places: Iterable[Place], axis: str, wishes: Sequence[str]) -> list[Place]:
    places = list(places)
    kept: set[int] = set()
    keeps = False
    for wish in wishes:
        old, new = _halves(wish)
        hits = 0
        for number, place in enumerate(places):
            if not _matches(place, axis, old):
                continue
            if new:
                fields = {**place.fields, axis: float(new) if axis == "ratio" else new}
                change = f"{new} instead of {place.fields[axis]}"
                places[number] = replace(place, fields=fields, changes=(*place.changes, change))
            hits += 1
            kept.add(number)
        keeps |= not new
        if not hits:
            there = sorted({str(place.fields.get(axis, "")) for place in places})
            shown = ", ".join(there[:12]) + (f" and {len(there) - 12} more" if len(there) > 12 else "")
            raise FileError(f"--{axis} {wish}: the grid has no such {axis}; it has {shown}; old=new replaces one of them")
    return [place for number, place in enumerate(places) if number in kept] if keeps else places


def _halves(wish: str) -> tuple[str, str]:
    """Split `old=new` at the first equals sign outside parentheses."""
    depth = 0
    for position, character in enumerate(wish):
        depth += (character == "(") - (character == ")")
        if character == "=" and not depth:
            return wish[:position].strip(), wish[position + 1 :].strip()
    return wish.strip(), ""


def _matches(place: Place, axis: str, wish: str) -> bool:
    value = place.fields.get(axis)
    if axis == "ratio":
        try:
            return value == float(wish)
        except ValueError:
            raise FileError(f"--ratio {wish}: expected a number from 0 to 1") from None
    text = str(value)
    return any(fnmatch.fnmatchcase(name, wish) for name in (text, text.partition("(")[0], place.labels.get(axis, "")))
