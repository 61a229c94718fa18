"""What commands share: options, selectors, the workspace, and how rows and JSON are printed."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable
from dataclasses import Field, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from unlearnable_bench.results import Records, Workspace

CELLS, MACHINES = "Which cells", "Where they run"  # panels of the help

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
Where = Annotated[
    Path | None, typer.Option("--workspace", help="Folder to read and write; default: $BENCH_WORKSPACE, or this folder.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=MACHINES)]
Grid = Annotated[str | None, typer.Option(help="A grid of `bench list grids`, or a table file (.toml).")]
ProfilePath = Annotated[
    Path | None,
    typer.Option(help="TOML file that describes the cluster; see docs/how-to/slurm.md.", rich_help_panel=MACHINES),
]
Several = list[str] | None


def _axis(text: str) -> Any:  # typer's options have no common type
    return typer.Option(help=text + " Separate several by commas, or repeat the option.", rich_help_panel=CELLS)


SeedAxis = Annotated[Several, _axis("Seeds to run, also ones that the grid does not have.")]


@dataclass(frozen=True)
class Methods:
    """Options of commands that keep some datasets, attacks, defenses and architectures of a table."""

    dataset: Annotated[Several, _axis("Datasets.")] = None
    attack: Annotated[Several, _axis("Attacks.")] = None
    defense: Annotated[Several, _axis("Defenses.")] = None
    architecture: Annotated[Several, _axis("Architectures.")] = None

    def wishes(self) -> dict[str, list[str]]:
        """Return what the options ask for, by axis."""
        return {axis: split_wishes(values) for axis, values in vars(self).items()}


@dataclass(frozen=True)
class Cells(Methods):
    """Options of commands that choose cells on every axis."""

    protocol: Annotated[Several, _axis("Protocols.")] = None
    seed: SeedAxis = None
    ratio: Annotated[Several, _axis("Fractions of the training images that are poisoned, 0 to 1.")] = None
    part: Annotated[Several, _axis("Subset to train on at a ratio: all images, or the clean rest alone.")] = None
    measure: Annotated[Several, _axis("What to measure: accuracy, or analyses.")] = None


@dataclass(frozen=True)
class Machines:
    """Options of commands that run cells."""

    executor: Annotated[
        str,
        typer.Option(
            help="local (worker processes), inline (this process) or slurm (submits jobs and returns).",
            rich_help_panel=MACHINES,
        ),
    ] = "local"
    workers: Annotated[
        int | None, typer.Option(help="Number of worker processes of the local executor.", min=1, rich_help_panel=MACHINES)
    ] = None
    cells_per_device: Annotated[
        int, typer.Option(help="Number of cells that run at once on each GPU.", min=1, rich_help_panel=MACHINES)
    ] = 1
    profile: ProfilePath = None
    cells_per_job: Annotated[
        int | None,
        typer.Option(
            help="Number of cells that one job of the cluster runs, one after the other.", min=1, rich_help_panel=MACHINES
        ),
    ] = None
    wait: Annotated[
        bool,
        typer.Option(help="Wait for the jobs of the cluster, and submit lost cells again.", rich_help_panel=MACHINES),
    ] = False
    device: Device = "auto"


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command of typer the options of every dataclass among its parameters, behind its own."""
    hints = get_type_hints(function, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)}
    own = [one for name, one in inspect.signature(function).parameters.items() if name not in groups]
    fields_of = {name: get_type_hints(kind, include_extras=True) for name, kind in groups.items()}
    types = {one.name: hints[one.name] for one in own}
    options = [one.replace(annotation=types[one.name], kind=Parameter.KEYWORD_ONLY) for one in own]
    for name, kind in groups.items():
        types |= fields_of[name]
        options += [_parameter(one, fields_of[name][one.name]) for one in fields(kind)]

    @wraps(function)
    def call(**values: Any) -> None:
        made = {name: kind(**{key: values.pop(key) for key in fields_of[name]}) for name, kind in groups.items()}
        function(**values, **made)

    call.__signature__ = Signature(options)  # type: ignore[attr-defined]  # what typer reads
    call.__annotations__ = types
    return call


def _parameter(one: Field[Any], annotation: Any) -> Parameter:
    return Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=annotation)


def print_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def split_wishes(values: Several) -> list[str]:
    from unlearnable_bench.registry.spec import split

    return [wish for value in values or [] for wish in split(value, ",") if wish]


def usage(sentence: str) -> ValueError:
    from unlearnable_bench.registry import EntryError

    return EntryError(sentence)


def workspace_of(given: Path | None) -> Workspace:
    from unlearnable_bench.results import Workspace

    space = Workspace.find(given)
    here = Path(__file__).parent.parent.parent
    if space.root == here and (here / "pyproject.toml").exists() and "BENCH_RESULTS" not in os.environ:
        print("bench: warning: working inside the source checkout; --workspace DIR keeps results apart", file=sys.stderr)
    return space


def records_of(space: Workspace) -> Records:
    from unlearnable_bench.results import Records

    return Records(space.records)


def print_rows(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; what stands in it may be a stranger's, and neither styles it nor steers the terminal."""
    from rich.console import Console
    from rich.table import Table as RichTable

    from unlearnable_bench.results.submission import one_line

    shown = RichTable(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold", no_wrap=column == "name")
    for row in rows:
        shown.add_row(*map(one_line, row))
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 160
    console.print(shown)
