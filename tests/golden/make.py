"""Writes `ids.json`: which id and which keys follow from which full specs.

    python tests/golden/make.py [KIND:NAME ...]

A published number is found by the id of its cell, a poison by its key. So a line of the file, once written, stays: this
program adds lines for the cells of published records and of all grids, and changes none, unless its version was raised:

    A line changes only in a commit that raises `version` (or adds a revision) of what the line names, and that says in its
    message how many published records become stale. Name what was raised, as in `attack:em`; the count is printed.

Every field of a part is written out, so that a line depends on no grid and on no default. One exception: an item in a field,
as in `ops-em(noise=em-class)`, has the defaults of its own entry.

`parts` are numbered from 0 within their kind. `poisons` are [dataset, attack, seed, key], `purified` [dataset, attack, ratio,
part, purifiers, seed, key], `cells` [protocol, dataset, attack, ratio, part, defense, architecture, seed, measure, id]; an
attack and a defense are chains, and the measure null is accuracy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearnable_bench.benchmark.grid import expand
from unlearnable_bench.benchmark.task import NOBODY, Task
from unlearnable_bench.poisons.recipe import PoisonRecipe, PurifiedRecipe
from unlearnable_bench.registry import CATALOGS, EntryError, editions, outdated
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.spec import write_spec
from unlearnable_bench.results import Cell, Records
from unlearnable_bench.results import cell as cells
from unlearnable_bench.results.cell import NONE
from unlearnable_bench.results.grid import grid_names, read_grid
from unlearnable_bench.results.record import plain

FILE = Path(__file__).with_name("ids.json")
RECORDS = Path(__file__).parents[2] / "results/records"
TABLES = ("poisons", "purified", "cells")


@dataclass
class Golden:
    """The file: parts by kind, and rows of numbers of parts with the id or key at their end."""

    parts: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in CATALOGS})
    poisons: list[list[Any]] = field(default_factory=list)
    purified: list[list[Any]] = field(default_factory=list)
    cells: list[list[Any]] = field(default_factory=list)

    @classmethod
    def read(cls) -> Golden:
        return cls(**json.loads(FILE.read_text(encoding="utf-8"))) if FILE.exists() else cls()

    def write(self) -> None:
        """Write one part or row a line, so that a change is seen in the lines that changed."""
        kinds = ",\n".join(f'"{kind}": {_lines(several)}' for kind, several in self.parts.items())
        tables = ",\n".join(f'"{table}": {_lines(getattr(self, table))}' for table in TABLES)
        FILE.write_text(f'{{"parts": {{\n{kinds}}},\n{tables}}}\n', encoding="utf-8")


def _lines(rows: Sequence[Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(row, separators=(",", ":"), sort_keys=True) for row in rows) + "\n]"


def resolved(kind: str, name: str, fields: dict[str, Any]) -> ConfiguredEntry:
    """Resolve a full spec as if it had been written with every field. Later fields that it lacks are neutral. EntryError.

    Fields of which no item can speak (tuples), or no part without its chain (`dataset`), are put into the resolved part.
    """
    if name == NONE:
        return NOBODY
    values = CATALOGS[kind].stored(name, fields).values
    scale = values.pop("scale", 1.0)
    unsayable = {key: value for key, value in values.items() if not _sayable(key, value)}
    sayable = {key: value for key, value in values.items() if key not in unsayable}
    (part,) = CATALOGS[kind].resolve(write_spec(name if scale == 1.0 else f"{name}@{scale!r}", sayable))
    return part.changed(unsayable)


def _sayable(key: str, value: Any) -> bool:
    return key != "dataset" and value not in (None, "") and not isinstance(value, list | tuple)


class Specs:
    """The parts of a golden file, resolved."""

    def __init__(self, golden: Golden) -> None:
        self.parts = {
            kind: [resolved(kind, part["name"], part["fields"]) for part in several] for kind, several in golden.parts.items()
        }

    def chain(self, kind: str, numbers: Sequence[int]) -> tuple[ConfiguredEntry, ...]:
        return tuple(self.parts[kind][number] for number in numbers)

    def poison(self, dataset: int, attack: Sequence[int], seed: int) -> PoisonRecipe:
        return PoisonRecipe(self.parts["datasets"][dataset], self.chain("attacks", attack), seed)

    def purified(
        self, dataset: int, attack: Sequence[int], ratio: float, part: str, purifiers: Sequence[int], seed: int
    ) -> PurifiedRecipe:
        return PurifiedRecipe(self.poison(dataset, attack, seed), ratio, part, self.chain("defenses", purifiers), seed)

    def cell(self, row: Sequence[Any]) -> Cell:
        protocol, dataset, attack, ratio, part, defense, architecture, seed, measure = row
        return Cell(
            protocol=self._plain("protocols", protocol),
            dataset=self._plain("datasets", dataset),
            attack=tuple(self._plain("attacks", number) for number in attack),
            ratio=ratio,
            part=part,
            defense=tuple(self._plain("defenses", number) for number in defense),
            architecture=self._plain("architectures", architecture),
            seed=seed,
            measure="accuracy" if measure is None else self._plain("analyses", measure),
        )

    def _plain(self, kind: str, number: int) -> cells.Part:
        part = self.parts[kind][number]
        return cells.Part(name=part.name, fields=plain(part.fields))


def today(specs: Specs, table: str, spec: Sequence[Any]) -> str:
    """Return the id or key that follows from a row of specs."""
    if table == "cells":
        return specs.cell(spec).id
    return specs.poison(*spec).key if table == "poisons" else specs.purified(*spec).key


def names(specs: Specs, table: str, spec: Sequence[Any]) -> set[str]:
    """Return `kind:name` of every entry whose version is in the key of a row; ids have none."""
    if table == "cells":
        return set()
    parts = [specs.parts["datasets"][spec[0]], *specs.chain("attacks", spec[1])]
    if table == "purified":
        parts += specs.chain("defenses", spec[4])
    surrogates = {f"architecture:{part.fields['surrogate']}" for part in parts if "surrogate" in part.fields}
    return set(editions(parts)) | surrogates


def published() -> Iterator[Cell]:
    """Yield the cells of the records of this repository, and of all grids as they are."""
    for record in Records(RECORDS):
        yield record.cell
    for name in grid_names():
        yield from expand(read_grid(name))[0]


def add(golden: Golden, task: Task, numbers: dict[str, dict[str, int]], rows: dict[str, set[str]]) -> None:
    """Put what is not there yet of a cell into the file."""

    def number(kind: str, part: cells.Part) -> int:
        spec = {"name": part.name, "fields": part.fields}
        text = json.dumps(spec, sort_keys=True)
        if text not in numbers[kind]:
            numbers[kind][text] = len(golden.parts[kind])
            golden.parts[kind].append(spec)
        return numbers[kind][text]

    def row(table: str, spec: list[Any], key: str) -> None:
        text = json.dumps(spec)
        if text not in rows[table]:
            rows[table].add(text)
            getattr(golden, table).append([*spec, key])

    cell = task.cell
    dataset, attack = number("datasets", cell.dataset), [number("attacks", part) for part in cell.attack]
    defense, share = [number("defenses", part) for part in cell.defense], [cell.ratio, cell.part]
    measure = None if isinstance(cell.measure, str) else number("analyses", cell.measure)
    if task.needs_poison:
        row("poisons", [dataset, attack, cell.seed], task.poison.key)
    if task.purified is not None:
        purifiers = [defense[task.defense.index(part)] for part in task.purified.purifiers]
        row("purified", [dataset, attack, *share, purifiers, cell.seed], task.purified.key)
    protocol, architecture = number("protocols", cell.protocol), number("architectures", cell.architecture)
    row("cells", [protocol, dataset, attack, *share, defense, architecture, cell.seed, measure], cell.id)


def main(raised: set[str]) -> str:
    """Add lines, and renew those of what was raised; return what is to be said of it."""
    golden = Golden.read()
    specs, renewed = Specs(golden), 0
    for table in TABLES:
        for line in getattr(golden, table):
            now = today(specs, table, line[:-1])
            if now != line[-1] and not names(specs, table, line[:-1]) & raised:
                raise SystemExit(f"{table}: {line[:-1]} gave {line[-1]} and gives {now}; raise the version of what changed it")
            renewed += now != line[-1]
            line[-1] = now
    before = sum(len(getattr(golden, table)) for table in TABLES)
    numbers = {
        kind: {json.dumps(part, sort_keys=True): number for number, part in enumerate(several)}
        for kind, several in golden.parts.items()
    }
    rows = {table: {json.dumps(line[:-1]) for line in getattr(golden, table)} for table in TABLES}
    for cell in published():
        try:
            task = Task.of(cell)
        except EntryError:  # a folder of images, a method that is not here
            continue
        add(golden, task, numbers, rows)
    golden.write()
    added = sum(len(getattr(golden, table)) for table in TABLES) - before
    stale = sum(bool(outdated(record.versions, record.cell.parts)) for record in Records(RECORDS))
    return f"{added} lines added, {renewed} changed; {stale} published records are stale"


if __name__ == "__main__":
    print(main(set(sys.argv[1:])))
