"""What commands share: options, selectors, the workspace, and how rows and JSON are printed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from results import Records, Workspace

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
Where = Annotated[Path | None, typer.Option("--workspace", help="Folder to read and write; else $BENCH_WORKSPACE, else here.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Several = list[str] | None


def _axis(text: str) -> Any:  # typer's options have no common type
    return typer.Option(help=text + " Several by commas or by repeating the option.")


AttackAxis = Annotated[Several, _axis("Attacks.")]
DefenseAxis = Annotated[Several, _axis("Defenses.")]
DatasetAxis = Annotated[Several, _axis("Data sets.")]
ArchitectureAxis = Annotated[Several, _axis("Architectures.")]
ProtocolAxis = Annotated[Several, _axis("Protocols.")]
SeedAxis = Annotated[Several, _axis("Seeds that are wanted, also such as a grid does not have.")]
RatioAxis = Annotated[Several, _axis("Fractions of poisoned images, 0..1.")]
PartAxis = Annotated[Several, _axis("What to train on at a ratio: all images, or the clean rest alone.")]
MeasureAxis = Annotated[Several, _axis("What is measured: accuracy, or analyses.")]
Executor = Annotated[str, typer.Option(help="local, inline, or slurm, which submits jobs and returns.")]
PerDevice = Annotated[int, typer.Option(help="Cells at once on each GPU.", min=1)]
PerJob = Annotated[int | None, typer.Option(help="Cells that one job of the cluster runs one after the other.", min=1)]
ProfilePath = Annotated[Path | None, typer.Option(help="Description of the cluster, a TOML file; see docs/cluster.md.")]
Wait = Annotated[bool, typer.Option(help="Wait for the jobs of the cluster, and submit again what was lost.")]
Grid = Annotated[str | None, typer.Option(help="A grid that comes with the program, or a table file (.toml).")]


def print_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def wished(values: Several) -> list[str]:
    from registry.item import split

    return [wish for value in values or [] for wish in split(value, ",") if wish]


def selectors(**axes: Several) -> dict[str, list[str]]:
    """What the selectors of a command ask for, by axis."""
    return {axis: wished(values) for axis, values in axes.items()}


def usage(sentence: str) -> ValueError:
    from registry import EntryError

    return EntryError(sentence)


def workspace_of(given: Path | None) -> Workspace:
    from results import Workspace

    space = Workspace.find(given)
    here = Path(__file__).parent.parent.parent
    if space.root == here and (here / "pyproject.toml").exists() and "BENCH_RESULTS" not in os.environ:
        print("bench: warning: working inside the source checkout; --workspace DIR keeps results apart", file=sys.stderr)
    return space


def records_of(space: Workspace) -> Records:
    from results import Records

    return Records(space.records)


def print_rows(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; what stands in it may be a stranger's, and neither styles it nor steers the terminal."""
    from rich.console import Console
    from rich.table import Table as RichTable

    from results.submission import one_line

    shown = RichTable(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold", no_wrap=column == "name")
    for row in rows:
        shown.add_row(*map(one_line, row))
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 160
    console.print(shown)
