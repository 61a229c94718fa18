"""From a grid to its cells: expanding, choosing, cells of the command line. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from unlearnable_bench.registry import EntryError
from unlearnable_bench.registry import catalog as entries
from unlearnable_bench.results import Cell, Grid, TableFile
from unlearnable_bench.results.selectors import typed_value


def expand(grid: Grid) -> tuple[list[Cell], dict[str, str]]:
    """Return the cells of a grid, and the paths of the folders of images among its datasets, by their names."""
    datasets = {str(request.fields["dataset"]) for request in grid.requests}
    folders = [entries.resolve("datasets", spec)[0] for spec in datasets if spec.startswith("folder:")]
    roots = {part.name: str(part.root) for part in folders}
    return grid.cells(entries.resolve, entries.lacking), roots


def absent(grid: Grid) -> list[tuple[str, str]]:
    """Return the cells of a grid that cannot be run here: what each is, and why it is not available."""
    return grid.absent(entries.resolve, entries.lacking)


def select(grid: Grid, selectors: Mapping[str, Sequence[str]]) -> Grid:
    """Keep the values of axes that match, or replace them, as `Grid.selected` says. EntryError, FileError."""
    return grid.selected(selectors, entries.resolve)


def adhoc(selectors: Mapping[str, Sequence[str]]) -> Grid:
    """The grid that selectors alone define. EntryError, FileError."""
    axes: dict[str, list[Any]] = {
        "protocol": ["quick"],
        "dataset": ["digits"],
        "attack": ["none"],
        "defense": ["none"],
        "architecture": ["small-cnn"],
        "measure": ["accuracy"],
        "seed": [0],
    }
    axes |= {axis: [typed_value(axis, wish) for wish in wishes] for axis, wishes in selectors.items() if wishes}
    try:
        return Grid.of(TableFile.model_validate({"title": "Cells chosen on the command line", **axes}))
    except ValidationError as error:
        first = error.errors()[0]
        raise EntryError(f"--{first['loc'][0]}: {first['msg']}, found {first['input']!r}") from None
