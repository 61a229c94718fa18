"""Running cells: `run`, `retry`, `status`, `attach`, `cancel`, `logs`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlearnable_bench.benchmark.commands.common import (
    Cells,
    Grid,
    Json,
    Machines,
    SeedAxis,
    Where,
    print_json,
    print_rows,
    records_of,
    split_wishes,
    usage,
    workspace_of,
)

if TYPE_CHECKING:
    from unlearnable_bench.benchmark.driver import RunOptions, RunOutcome
    from unlearnable_bench.benchmark.plan import Plan
    from unlearnable_bench.results import Grid as CellGrid
    from unlearnable_bench.results import Record, Records, Workspace

COUNTED_STATES = (
    "done",
    "failed",
    "running",
    "queued",
    "missing",
    "not_applicable",
    "not_available",
    "stale",
    "lost",
    "cancelled",
)  # keys of counts


def run(
    cells: Cells,
    machines: Machines,
    grid: Grid = None,
    cell: Annotated[str | None, typer.Option(help="Run one cell again, given its id or a record file.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Print the plan and run nothing.")] = False,
    show_sbatch: Annotated[bool, typer.Option(help="With --dry-run: print the exact scripts for sbatch.")] = False,
    force: Annotated[bool, typer.Option(help="Run finished cells again and replace their records.")] = False,
    limit: Annotated[int | None, typer.Option(help="Largest number of cells to run.", min=1)] = None,
    scale: Annotated[float | None, typer.Option(help="Factor on the number of epochs; makes another protocol.")] = None,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Plan and run the cells of a grid that have no record yet, then print its table.

    With --grid, a value or glob on an axis keeps the cells that match and old=new replaces; `--seed 0,1,2` names the seeds that
    you want, whether the grid has them or not, and its table shows all that were measured. Without --grid the axes are what you
    give (defaults: protocol quick, dataset digits, attack and defense none, architecture small-cnn, seed 0).

    Examples: `bench run --grid quick`, `bench run --attack lsp,none --defense 'none,jpeg(quality=10)' --seed 0,1`
    """
    from unlearnable_bench.benchmark import driver

    space = workspace_of(workspace)
    wishes = cells.wishes()
    options = driver.RunOptions(**vars(machines), force=force, limit=limit)
    if show_sbatch and not dry_run:
        raise usage("--show-sbatch needs --dry-run; give both")
    if cell is not None:
        if grid or any(wishes.values()) or scale:
            raise usage("--cell names one whole cell; leave --grid, --scale and the selectors out")
        return _run_again(driver.find_record(cell, space), space, options, dry_run, as_json)
    name, table = driver.choose_grid(grid, wishes, scale)
    if dry_run:
        plan = driver.plan_table(name, table, space, options, dry_run)
        if not show_sbatch:
            return _print_plan(plan, as_json)
        scripts = driver.sbatch_scripts(plan, space, options)
        return print_json(scripts) if as_json else print("\n".join(scripts))
    _print_outcome(name, table, space, driver.run_table(name, table, space, options, as_json), as_json)


def retry(
    machines: Machines,
    grid: Grid = "quick",
    seed: SeedAxis = None,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Run the missing cells of a grid and all failed ones, also those that `bench run` does not try again.

    Example: `bench retry --grid quick`
    """
    from unlearnable_bench.benchmark import driver

    space = workspace_of(workspace)
    name, table = driver.choose_grid(grid, {"seed": split_wishes(seed)})
    options = driver.RunOptions(**vars(machines), retry=True)
    _print_outcome(name, table, space, driver.run_table(name, table, space, options, as_json), as_json)


def status(grid: Grid = "quick", seed: SeedAxis = None, workspace: Where = None, as_json: Json = False) -> None:
    """Show how many cells of a grid are done, failed, running or missing, and what runs right now.

    The answer comes from the files of the workspace and, on a cluster, from SLURM's queue.

    Example: `bench status --grid quick`
    """
    from unlearnable_bench.benchmark import driver
    from unlearnable_bench.benchmark.display import progress_text

    space = workspace_of(workspace)
    name, table = driver.choose_grid(grid, {"seed": split_wishes(seed)})
    others, progress = driver.besides(table, space), driver.progress(space)
    plan = driver.stands(name, table, space)
    if as_json:
        return print_json(plan.counts() | {"besides": others, "progress": progress})
    _print_status(name, plan)
    for other, count in others.items():
        print(f"  also queued or running: {count} cells of {other}")
    for event in progress:
        print(f"  {progress_text(event)}")


def _print_status(name: str, plan: Plan) -> None:
    counts = plan.counts()
    told = ", ".join(f"{counts[key]} {key.replace('_', ' ')}" for key in COUNTED_STATES if counts[key])
    print(f"{name}: {counts['cells']} cells, {told}")
    for task in plan.in_state("failed", "stale", "lost"):
        print(f"  {plan.states[task.cell.id]} {task.cell.label}: {plan.reasons[task.cell.id]}")


def attach(grid: Grid = "quick", seed: SeedAxis = None, workspace: Where = None, as_json: Json = False) -> None:
    """Watch a grid until none of its cells is queued or running. Ctrl-C leaves the jobs alone.

    Example: `bench attach --grid quick`
    """
    from unlearnable_bench.benchmark import driver

    space = workspace_of(workspace)
    name, table = driver.choose_grid(grid, {"seed": split_wishes(seed)})
    plan = driver.attach(name, table, space, as_json)
    if as_json:
        print_json(plan.counts())
    else:
        _print_status(name, plan)
    _exit(plan)


def cancel(
    grid: Grid = "quick",
    seed: SeedAxis = None,
    all_: Annotated[bool, typer.Option("--all", help="Stop every run of the workspace.")] = False,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Stop the runs that have cells of a grid: cancel queued jobs and end running ones. Finished cells stay.

    Examples: `bench cancel --grid quick`, `bench cancel --all`
    """
    from unlearnable_bench.benchmark import driver

    space = workspace_of(workspace)
    name, table = driver.choose_grid(grid, {"seed": split_wishes(seed)})
    if all_:
        name = "all runs"
    count = driver.cancel(None if all_ else table, space)
    if as_json:
        return print_json({"grid": name, "cancelled": count})
    print(f"{name}: cancelled {count} cells that were queued or running")


def logs(
    cell: Annotated[
        str | None, typer.Argument(metavar="CELL", help="Id of a cell; default: all failed cells of the grid.")
    ] = None,
    grid: Grid = "quick",
    seed: SeedAxis = None,
    lines: Annotated[int, typer.Option(help="Number of lines to print from the end of a job's log.", min=1)] = 40,
    workspace: Where = None,
    as_json: Json = False,
) -> None:
    """Print why cells of a grid failed, with tracebacks, or the end of the log of one cell's job.

    Examples: `bench logs --grid quick`, `bench logs 0123456789abcdef`
    """
    from unlearnable_bench.benchmark import driver, watch
    from unlearnable_bench.benchmark import grid as grids

    space = workspace_of(workspace)
    wanted = {cell} if cell else {one.id for one in grids.expand(driver.choose_grid(grid, {"seed": split_wishes(seed)})[1])[0]}
    rows = [
        {"cell": f.cell.label, "id": f.id, "kind": f.kind, "message": f.message, "attempts": f.attempts, "log": f.log}
        for f in records_of(space).failures()
        if f.id in wanted
    ]
    if cell and not rows:
        jobs = watch.logs_of_jobs(space, wanted)
        if not jobs:
            raise usage(f"there is no log of cell {cell!r}; `bench status` and `bench run --dry-run` show the ids of cells")
        rows = [{"cell": cell, "id": cell, "kind": "", "message": "", "attempts": 0, "log": jobs[cell]}]
    if as_json:
        return print_json(rows)
    if not rows:
        return print("no failed cells")
    for row in rows:
        _print_log(row, lines)


def _print_log(row: dict[str, Any], lines: int) -> None:
    """Print why a cell failed and its traceback, or the last lines of the log of its job."""
    ended = f"{row['kind']}: {row['message']} (attempt {row['attempts']}, {row['log']})" if row["kind"] else row["log"]
    print(f"{row['cell']}: {ended}")
    path = Path(str(row["log"]))
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
        print("\n".join(text.splitlines()[-lines:]) if path.suffix == ".out" else text)


def _exit(after: Plan) -> None:
    """4: some cells are still queued or running; 3: some failed or were lost."""
    counts = after.counts()
    if counts["queued"] or counts["running"]:
        raise typer.Exit(4)
    if counts["failed"] or counts["lost"]:
        raise typer.Exit(3)


def _print_outcome(name: str, table: CellGrid, space: Workspace, outcome: RunOutcome, as_json: bool) -> None:
    after = outcome.after
    if as_json:
        print_json(after.counts() | {"ran": outcome.ran})
    else:
        _print_results(name, table, after, records_of(space))
        _print_end(name, outcome)
    _exit(after)


def _print_results(name: str, table: CellGrid, plan: Plan, records: Records) -> None:
    """Print the figures of analyses, and the table of a grid that has accuracies."""
    if not plan.in_state("done"):
        return
    _print_figures(plan, records)
    if any(task.analysis is None for task in plan.tasks):
        _print_table(name, table, records)


def _print_end(name: str, outcome: RunOutcome) -> None:
    """Print how many cells are done, what the run did, and which cells failed."""
    from unlearnable_bench.benchmark.display import duration

    after = outcome.after
    counts = after.counts()
    waiting = counts["queued"] + counts["running"]
    if waiting:
        state = f"{waiting} queued or running"
    elif outcome.plan.to_run:
        state = f"ran {outcome.ran} cells in {duration(outcome.seconds)}"
    else:
        state = "nothing to run"
    print(f"{name}: {counts['done']} of {counts['cells']} cells done; {state}")
    for task in after.in_state("failed"):
        print(f"failed: {task.cell.label}: {after.reasons[task.cell.id]} (bench logs, bench retry)", file=sys.stderr)


def _print_figures(plan: Plan, records: Records) -> None:
    """Print what analyses of a plan have measured, a line per cell."""
    from unlearnable_bench.benchmark.display import outcome_text

    for task in plan.in_state("done"):
        record = records.read(task.cell.id)
        if task.analysis and record is not None:
            print(f"{task.cell.label}  {outcome_text(record.outcome)}")


def _run_again(before: Record, space: Workspace, options: RunOptions, dry_run: bool, as_json: bool) -> None:
    from unlearnable_bench.benchmark import driver
    from unlearnable_bench.benchmark.submissions.verifying import accuracy

    if dry_run:
        return _print_plan(driver.plan_again(before, space, options, dry_run), as_json)
    after = driver.run_again(before, space, options, as_json)
    if before.cell.measure != "accuracy":
        return _compare_figures(before, after, as_json)
    then, now = accuracy(before), accuracy(after)
    if as_json:
        print_json({"cell": before.id, "recorded": then, "measured": now})
    elif now is not None and then is not None:
        verdict = "the same" if now == then else f"{100 * (now - then):+.1f} points"
        print(f"{before.cell.label}: recorded {100 * then:.1f}%, now {100 * now:.1f}%: {verdict}")
    if after is None:
        raise typer.Exit(3)


def _compare_figures(before: Record, after: Record | None, as_json: bool) -> None:
    """Print the figures of an analysis, recorded and measured again."""
    then, now = _figures(before), _figures(after)
    if as_json:
        print_json({"cell": before.id, "recorded": then, "measured": now})
    else:
        rows = [[name, f"{value:.6g}", f"{now[name]:.6g}" if name in now else ""] for name, value in then.items()]
        print_rows(["figure", "recorded", "now"], rows)
    if after is None:
        raise typer.Exit(3)


def _figures(record: Record | None) -> Mapping[str, float]:
    return record.metrics.figures if record is not None and record.metrics is not None else {}


def _print_plan(plan: Plan, as_json: bool) -> None:
    from unlearnable_bench.benchmark import driver

    if not as_json:
        return print(driver.plan_text(plan))
    more = {"to_run": len(plan.to_run), "cached": len(plan.in_state("done")), "stages": plan.stages()}
    estimate = plan.estimate
    more |= {"seconds_estimate": estimate.seconds, "estimated_from": estimate.source, "uncounted": estimate.uncounted}
    print_json(plan.counts() | more)


def _print_table(name: str, table: CellGrid, records: Records) -> None:
    from rich.console import Console

    from unlearnable_bench.registry import lacking, resolve

    if table.has_layout:
        from unlearnable_bench.leaderboard.formats import comparison, text
        from unlearnable_bench.leaderboard.tables import agreement
        from unlearnable_bench.leaderboard.tables.printed import printed_tables

        if any(one.paper for one in table.tables.values()):
            return print(comparison.comparison_text(agreement.compare_grid(table, records)))
        return print("\n".join(text.markdown(shown) for shown in printed_tables(table, records, resolve, lacking)), end="")

    from unlearnable_bench.leaderboard.formats import text
    from unlearnable_bench.leaderboard.tables.measured import grid_table

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    shown = text.terminal(grid_table(table, records, name, resolve))
    title, caption, shown.title, shown.caption = shown.title, shown.caption, None, None  # they may be wider than the table
    console.print(title, style="bold")
    console.print(shown)
    console.print(caption, style="dim")
