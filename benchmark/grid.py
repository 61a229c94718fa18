"""From a table to its cells: expanding, choosing, scaling. Needs no torch."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from registry import EntryError
from registry import catalog as entries
from registry.catalog import Part
from registry.item import split
from results import Cell, Grid, Table
from results.table import seeds_of

KINDS = {
    "protocol": "protocols",
    "dataset": "datasets",
    "attack": "attacks",
    "defense": "defenses",
    "architecture": "architectures",
}


def expand(table: Table | Grid) -> tuple[list[Cell], dict[str, str]]:
    """Return the cells of a table, and the paths of the folders of images among its data sets, by their names."""
    roots: dict[str, str] = {}

    def resolve(kind: str, item: str) -> Sequence[Part]:
        parts = entries.resolve(kind, item)
        roots.update({part.name: str(part.root) for part in parts if part.root})
        return parts

    if isinstance(table, Grid):
        for item in {str(place.fields["dataset"]) for place in table.places}:
            if item.startswith("folder:"):
                resolve("datasets", item)
        return table.cells(resolve, entries.lacking), roots
    return table.cells(resolve), roots


def absent(table: Table | Grid) -> list[tuple[str, str]]:
    """Return the cells of a table that cannot be run yet: what each is, and why it is not available."""
    return table.absent(entries.resolve, entries.lacking) if isinstance(table, Grid) else []


def select(table: Table | Grid, selectors: Mapping[str, Sequence[str]]) -> Table | Grid:
    """Keep the values of axes that match, or replace them: a value or a glob keeps, `old=new` replaces. Seeds that are named
    are those of the grid then, whether it had them or not. EntryError, FileError."""
    for axis in ("ratio", "part"):
        for wish in selectors.get(axis, ()):
            for changed in split(wish, "=")[1:]:
                _typed(axis, changed)  # raises for what no table may hold
    if isinstance(table, Grid):
        return table.selected(selectors)
    changes: dict[str, list[Any]] = {}
    for axis, wishes in selectors.items():
        if axis == "seed":
            changes |= {axis: list(seeds_of(wishes, table.seed, table.seed))} if wishes else {}
            continue
        values: list[Any] = list(getattr(table, axis))
        kept: list[Any] = []
        for wish in wishes:
            old, *new = split(wish, "=")
            if new:
                hits = [value for value in values if _matches(axis, value, old)]
                replaced = [_typed(axis, new[0]) if value in hits else value for value in values]
                kept = kept or replaced
                values = replaced
            else:
                hits = [value for value in values if _matches(axis, value, old)]
                kept += [value for value in hits if value not in kept]
            if not hits:
                shown = ", ".join(map(str, getattr(table, axis)))
                raise EntryError(f"--{axis} {wish}: the grid has no such {axis}; it has {shown}; old=new replaces one of them")
        if wishes:
            changes[axis] = kept
    return table.replaced(**changes)


def _matches(axis: str, value: Any, wish: str) -> bool:
    if axis == "ratio":
        return float(value) == float(_typed(axis, wish))
    names = {str(value), str(value).partition("(")[0]}
    if axis in KINDS:
        text = _spec(axis, str(value))
        if "(" in wish and not set(wish) & set("*?["):
            return text == _spec(axis, wish)  # one spec, however it is written; its name alone means all of its settings
        names.add(text)
    return any(fnmatch.fnmatchcase(name, wish) for name in names)


def _spec(axis: str, text: str) -> str:
    return "+".join(part.text for part in entries.resolve(KINDS[axis], text))


def _typed(axis: str, text: str) -> Any:
    try:
        value: Any = int(text) if axis == "seed" else float(text) if axis == "ratio" else text
        if (axis == "ratio" and not 0 <= value <= 1) or (axis == "part" and text not in ("all", "clean")):
            raise ValueError
    except ValueError:
        kinds = {"seed": "a whole number", "ratio": "a number from 0 to 1", "part": "all or clean"}
        raise EntryError(f"--{axis} {text}: expected {kinds[axis]}") from None
    return value


def adhoc(selectors: Mapping[str, Sequence[str]]) -> Table:
    """The grid that selectors alone define."""
    axes: dict[str, list[Any]] = {
        "protocol": ["quick"],
        "dataset": ["digits"],
        "attack": ["none"],
        "defense": ["none"],
        "architecture": ["small-cnn"],
        "measure": ["accuracy"],
        "seed": [0],
    }
    for axis, wishes in selectors.items():
        if wishes:
            axes[axis] = [_typed(axis, wish) for wish in wishes]
    try:
        return Table.model_validate({"title": "Cells chosen on the command line", **axes})
    except ValidationError as error:
        first = error.errors()[0]
        raise EntryError(f"--{first['loc'][0]}: {first['msg']}, found {first['input']!r}") from None


def scaled(table: Table | Grid, factor: float) -> Table | Grid:
    """The same grid with the epochs of its protocols multiplied by `factor`, which makes them other protocols."""
    if isinstance(table, Grid):
        return table.scaled(factor)
    return table.replaced(protocol=[f"{item}@{factor:g}" for item in table.protocol])
