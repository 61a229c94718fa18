"""Drives a run from its flags to its records: choose the cells, plan, execute, plan again. Needs no torch itself."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmark import grid as grids
from benchmark import schedule
from benchmark.display import Display, duration
from benchmark.grid import Plan
from registry import EntryError
from results import Cell, Grid, Record, Records, Table, Workspace, read_grid
from results.record import read_record


class InterruptedRunError(Exception):
    """Ctrl-C or a request to end; what is finished is kept."""


@dataclass(frozen=True)
class Options:
    """The flags of a run."""

    executor: str = "local"
    workers: int | None = None
    cells_per_device: int = 1
    device: str = "auto"
    force: bool = False
    limit: int | None = None
    retry: bool = False


@dataclass(frozen=True)
class Outcome:
    """A run that has ended: the plan it followed, the state of its cells now, how many it ran and in how many seconds."""

    plan: Plan
    after: Plan
    ran: int
    seconds: float


def choose(grid: str | None, selectors: Mapping[str, Sequence[str]], scale: float | None = None) -> tuple[str, Table | Grid]:
    """Return the name and the table of a grid, of a file, or of the selectors alone. EntryError, FileError."""
    name, table = (grid, grids.select(read_grid(grid), selectors)) if grid else ("selection", grids.adhoc(selectors))
    if scale is not None:
        if not 0 < scale < 1e6:
            raise EntryError(f"--scale {scale}: expected a factor above 0")
        table = grids.scaled(table, scale)
    return name, table


def plan_table(name: str, table: Table | Grid, space: Workspace, options: Options, dry_run: bool) -> Plan:
    """Plan the cells of a table, every flag checked first. A dry run writes and decodes nothing."""
    plan = _plan(name, *grids.expand(table), space, options, dry_run, strict=not (dry_run and isinstance(table, Grid)))
    plan.absent = grids.absent(table)
    return plan


def _plan(
    name: str,
    cells: Sequence[Cell],
    roots: dict[str, str],
    space: Workspace,
    options: Options,
    dry_run: bool,
    strict: bool = True,
) -> Plan:
    if options.executor not in schedule.EXECUTORS:
        raise EntryError(f"unknown executor {options.executor!r}; executors are {', '.join(schedule.EXECUTORS)}")
    device = schedule.choose_device(options.device)
    if options.cells_per_device > 1 and not device.startswith("cuda"):
        raise EntryError(f"--cells-per-device is for GPUs, and cells would run on the {device} here; use --workers instead")
    if options.cells_per_device > 1 and options.workers:
        raise EntryError("--workers and --cells-per-device say the same thing twice; give one of them")
    if not dry_run:
        space.writable()
    return grids.plan(
        name,
        cells,
        roots,
        Records(space.records),
        force=options.force,
        retry=options.retry,
        limit=options.limit,
        workers=options.workers or schedule.cores(),
        decode=not dry_run,
        strict=strict,
    )


def run_table(name: str, table: Table | Grid, space: Workspace, options: Options, quiet: bool = False) -> Outcome:
    """Run what is missing of a table."""
    start = time.monotonic()
    cells, roots = grids.expand(table)
    plan = _plan(name, cells, roots, space, options, dry_run=False)
    records = Records(space.records)
    ran = _execute(plan, space, records, options, quiet)
    after = grids.plan(name, cells, roots, records, ask=False, strict=False)
    plan.absent = after.absent = grids.absent(table)
    return Outcome(plan, after, ran, time.monotonic() - start)


def find_record(wish: str, space: Workspace) -> Record:
    """Return the record of a cell by its id, or of a record file. EntryError, FileError if there is none."""
    if wish.endswith(".json"):
        if not Path(wish).exists():
            raise EntryError(f"{wish}: there is no such record")
        return read_record(Path(wish))
    record = Records(space.records).read(wish)
    if record is None:
        raise EntryError(f"there is no record of cell {wish!r} in {space.records}; name a record file instead")
    return record


def plan_again(before: Record, space: Workspace, options: Options, dry_run: bool) -> Plan:
    """Plan one recorded cell as if it had no record."""
    forced = dataclasses.replace(options, force=True)
    return _plan(before.cell.label, [before.cell], schedule.remembered(space), space, forced, dry_run)


def run_again(before: Record, space: Workspace, options: Options, quiet: bool = False) -> Record | None:
    """Run a recorded cell once more and return what it measures now, None if it fails.

    A record of this workspace stays as it is, unless `force` is set.
    """
    plan = plan_again(before, space, options, dry_run=False)
    records = Records(space.records)
    if records.path(before.id).exists() and not options.force:
        records = Records(space.private / "again")
        records.folder.mkdir(parents=True, exist_ok=True)
        records.path(before.id).unlink(missing_ok=True)
        plan = dataclasses.replace(plan, states={before.id: "missing"})
    _execute(plan, space, records, options, quiet)
    return records.read(before.id)


def _execute(plan: Plan, space: Workspace, records: Records, options: Options, quiet: bool) -> int:
    """Run a plan and return how many of its cells it finished. InterruptedRunError."""
    device = schedule.choose_device(options.device)
    workers = options.workers or schedule.default_workers(plan, device, options.cells_per_device)
    schedule.write_not_applicable(plan, records)
    if not plan.to_run:
        return 0
    run = schedule.Run.create(space, records, plan, device, options.force)
    if not quiet:
        estimate = "" if plan.seconds_estimate is None else f", about {duration(plan.seconds_estimate)}"
        cells = f"{len(plan.to_run)} of {len(plan.tasks)} cells"
        print(f"{plan.name}: running {cells} on {workers} x {device}{estimate}", file=sys.stderr)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Display(len(plan.to_run), quiet) as display:
            schedule.EXECUTORS[options.executor](run, workers, display)
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted; the same command goes on where this one stopped") from None
    return display.done


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def plan_text(plan: Plan) -> str:
    """Write a plan for people: counts, stages, time, and every cell that is not done."""
    known = plan.seconds_estimate is not None
    estimate = f"about {duration(plan.seconds_estimate or 0)}" if known else "unknown, no record of such cells yet"
    stages, done = plan.stages(), sum(state == "done" for state in plan.states.values())
    lines = [
        f"{plan.name}: {len(plan.tasks) + len(plan.absent)} cells, {done} done, {len(plan.to_run)} to run"
        + (f", {len(plan.absent)} not available" if plan.absent else "")
        + f"; time {estimate}",
        f"stages: {stages['craft']} poisons to craft, {stages['purify']} sets to purify, {stages['train']} trainings",
    ]
    for task in plan.tasks:
        state, reason = plan.states[task.cell.id], plan.reasons[task.cell.id]
        if state != "done":
            lines.append(f"  {state:15} {task.cell.id}  {task.cell.label}" + (f"  ({reason})" if reason else ""))
    lines += [f"  {reason}  {label}" for label, reason in plan.absent]
    return "\n".join(lines)
