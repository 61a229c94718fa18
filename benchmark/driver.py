"""Drives a run from its flags to its records: choose the cells, plan, execute, plan again. Needs no torch itself."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from unlearnable_bench.benchmark import grid as grids
from unlearnable_bench.benchmark import runs, schedule, slurm, snapshot, watch
from unlearnable_bench.benchmark.display import PROGRESS, Display, duration
from unlearnable_bench.benchmark.failures import FAILURE_RULES
from unlearnable_bench.benchmark.plan import Plan, Policy, plan_cells
from unlearnable_bench.benchmark.schedule import ClusterSubmission
from unlearnable_bench.benchmark.slurm import Profile
from unlearnable_bench.benchmark.watch import Survey
from unlearnable_bench.poisons.lease import Lease, holder, leased, waiting
from unlearnable_bench.registry import EntryError, child
from unlearnable_bench.results import Cell, Grid, Record, Records, Workspace, read_grid
from unlearnable_bench.results.record import read_record

SELECTION = "selection"  # the name of cells that flags alone choose


class InterruptedRunError(Exception):
    """Ctrl-C or a request to end; what is finished is kept."""

    exit_code = 130  # of `bench`: interrupted


@dataclass(frozen=True)
class RunOptions:
    """The flags of a run."""

    executor: str = "local"
    workers: int | None = None
    cells_per_device: int = 1
    device: str = "auto"
    force: bool = False
    limit: int | None = None
    retry: bool = False
    profile: Path | None = None  # of the cluster
    cells_per_job: int | None = None
    wait: bool = False  # for jobs of the cluster to end

    @property
    def detached(self) -> bool:
        """Whether jobs of a cluster do the work."""
        return self.executor == schedule.CLUSTER


@dataclass(frozen=True)
class RunOutcome:
    """A run that has ended: the plan it followed, the state of its cells now, how many it ran and in how many seconds."""

    plan: Plan
    after: Plan
    ran: int
    seconds: float


def choose_grid(grid: str | None, selectors: Mapping[str, Sequence[str]], scale: float | None = None) -> tuple[str, Grid]:
    """Return the name and the table of a grid, of a file, or of the selectors alone. EntryError, FileError."""
    name, table = (grid, grids.select(read_grid(grid), selectors)) if grid else (SELECTION, grids.adhoc(selectors))
    if scale is not None:
        if not 0 < scale < 1e6:
            raise EntryError(f"--scale {scale}: expected a factor above 0")
        table = table.scaled(scale)
    return name, table


def plan_table(name: str, table: Grid, space: Workspace, options: RunOptions, dry_run: bool) -> Plan:
    """Plan the cells of a table, every flag checked first. A dry run writes and decodes nothing."""
    plan = _plan(name, *grids.expand(table), space, options, dry_run, strict=not (dry_run and table.has_layout))
    plan.absent = grids.absent(table)
    return plan


def _plan(
    name: str,
    cells: Sequence[Cell],
    roots: dict[str, str],
    space: Workspace,
    options: RunOptions,
    dry_run: bool,
    seen: Survey | None = None,
    strict: bool = True,
) -> Plan:
    device = _device(options)
    if not dry_run:
        space.writable()
    records = Records(space.records)
    seen = seen or watch.survey(space, records)
    policy = Policy(options.force, options.retry, options.detached)
    result = plan_cells(name, cells, roots, records, policy, seen.cells)
    if strict:
        result.require_data()
    else:
        result.note_missing_data()
    if not dry_run:
        child.decode(result.datasets())
    result.ask_entries()
    result.keep(options.limit)
    workers = _profile(options).at_once if options.detached else options.workers or schedule.cores()
    result.estimate_time(workers, device)
    return result


def _device(options: RunOptions) -> str:
    """Return the device that cells run on, with every flag about machines checked. EntryError, FileError."""
    if options.executor not in (*schedule.EXECUTORS, schedule.CLUSTER):
        known = ", ".join((*schedule.EXECUTORS, schedule.CLUSTER))
        raise EntryError(f"unknown executor {options.executor!r}; executors are {known}")
    if not options.detached:
        for flag, given in (
            ("--profile", options.profile),
            ("--cells-per-job", options.cells_per_job),
            ("--wait", options.wait),
        ):
            if given:
                raise EntryError(f"{flag} is for --executor slurm, and this run is for --executor {options.executor}")
        device = schedule.choose_device(options.device)
    else:
        profile = _profile(options)
        if options.workers:
            raise EntryError("--workers is for this machine; how many jobs run at once is `at_once` of the profile")
        if options.device != "auto":
            raise EntryError(
                f"--device {options.device}: with --executor slurm, `gpus` of the profile decides; leave --device out"
            )
        if options.cells_per_device > 1 and not profile.use_srun:
            raise EntryError("--cells-per-device needs srun, which starts one process per cell; remove `use_srun = false`")
        device = "cuda" if profile.gpus else "cpu"
    if options.cells_per_device > 1 and not device.startswith("cuda"):
        raise EntryError(f"--cells-per-device is for GPUs, and cells would run on the {device} here; use --workers instead")
    if options.cells_per_device > 1 and options.workers:
        raise EntryError("--workers and --cells-per-device say the same thing twice; give one of them")
    return device


def _profile(options: RunOptions) -> Profile:
    if options.profile is None:
        raise EntryError(
            "--executor slurm needs --profile FILE, a description of your cluster; docs/how-to/slurm.md has one to copy"
        )
    return slurm.read_profile(options.profile)


def run_table(name: str, table: Grid, space: Workspace, options: RunOptions, quiet: bool = False) -> RunOutcome:
    """Run what is missing of a table; on a cluster, submit it."""
    start = time.monotonic()
    cells, roots = grids.expand(table)
    _device(options)
    records = Records(space.records)
    if options.detached:
        plan = _submit(name, cells, roots, space, options, quiet)
        again = dataclasses.replace(options, retry=False, force=False)
        while options.wait:
            attach(name, table, space, quiet)
            if any(state == "cancelled" for state, _ in watch.survey(space, records).cells.values()):
                break
            following = _submit(name, cells, roots, space, again, quiet)
            if not following.to_run:
                break
        ran = sum(records.path(task.cell.id).exists() for task in plan.to_run) if options.wait else 0
    else:
        space.writable()
        with _one_at_a_time(space, quiet):
            seen = watch.settle(space, records)
        plan = _plan(name, cells, roots, space, options, dry_run=False, seen=seen)
        ran = _execute(plan, space, records, options, quiet)
    plan.absent = grids.absent(table)
    return RunOutcome(plan, stands(name, table, space), ran, time.monotonic() - start)


def stands(name: str, table: Grid, space: Workspace) -> Plan:
    """Say how the cells of a table stand now. Writes nothing."""
    records = Records(space.records)
    cells, roots = grids.expand(table)
    result = plan_cells(name, cells, roots, records, unfinished=watch.survey(space, records).cells)
    result.note_missing_data()
    result.absent = grids.absent(table)
    return result


@contextmanager
def _one_at_a_time(space: Workspace, quiet: bool) -> Iterator[Lease]:
    """Look at the runs of a workspace and submit alone. After a submission from another machine, wait until it is seen here."""
    path = space.private / "submit.lock"
    there = holder(path)
    if there is not None and there.unseen and not quiet:
        print("another machine submitted cells a moment ago; this one sees all of them within two minutes", file=sys.stderr)
    with waiting(path) as lease:
        yield lease


def _submit(
    name: str, cells: Sequence[Cell], roots: dict[str, str], space: Workspace, options: RunOptions, quiet: bool
) -> Plan:
    """Send what is missing and not yet queued to the cluster; return the plan of it. One process at a time does so."""
    profile, records = _profile(options), Records(space.records)
    space.writable()
    with _one_at_a_time(space, quiet) as lease:
        plan = _plan(name, cells, roots, space, options, dry_run=False, seen=watch.settle(space, records))
        schedule.write_not_applicable(plan, records)
        if not plan.to_run:
            return plan
        settings = slurm.config()
        submission = _submission(plan, space, options, profile, settings)
        code = snapshot.take_snapshot(space.private / "code", plan.to_run)
        more = {
            "walltime": [profile.resources(piece).time for _, piece in submission.pieces],  # minutes
            "signal": profile.signal,
            "cluster": settings.get("ClusterName", ""),
            "code": str(code.folder),
            "code_path": code.path,
            "tree": code.tree,
            "plugins": code.plugins,
        }
        pieces = submission.pieces
        lease.finish()  # another machine may not see the run for a minute, and would submit its cells once more
        run = runs.Run.create(space, records, plan, _device(options), options.force, pieces, more)
        snapshot.remove_unused(code.folder.parent, {str(one.content.get("code")) for one in runs.every(space) if one.detached})
        try:
            jobs = schedule.submit_arrays(run, submission, profile, options.cells_per_device)
        except Exception:
            if not run.arrays and run.sending is None:  # SLURM has nothing of it
                run.finish()
            raise
    if not quiet:
        count = sum(len(tasks) for tasks, piece in pieces if piece.stage != "craft")
        crafts = len(pieces) - sum(piece.stage != "craft" for _, piece in pieces)
        sentence = f"{name}: submitted {count} cells and {crafts} poisons to craft as {len(pieces)} tasks of "
        see = f"`bench status --grid {name}`, `bench attach --grid {name}`"
        if name == SELECTION:
            see = "`bench status`, `bench cancel --all`; the same command again prints what is done"
        print(sentence + f"{len(jobs)} arrays: {', '.join(jobs)}; see {see}", file=sys.stderr)
        if submission.left:
            print(
                f"{name}: {submission.left} cells were left out, the queue takes no more; run the command again",
                file=sys.stderr,
            )
    return plan


def _submission(
    plan: Plan, space: Workspace, options: RunOptions, profile: Profile, settings: dict[str, str]
) -> ClusterSubmission:
    per_job = options.cells_per_job or options.cells_per_device
    return ClusterSubmission.of(plan, space.poisons, profile, per_job, settings)


def sbatch_scripts(plan: Plan, space: Workspace, options: RunOptions) -> list[str]:
    """Return the scripts with which a plan would be submitted. EntryError, FileError."""
    if not options.detached:
        raise EntryError(f"--show-sbatch is for --executor slurm, and this plan is for --executor {options.executor}")
    profile = _profile(options)
    submission = _submission(plan, space, options, profile, slurm.config())
    return schedule.scripts(submission, profile, options.cells_per_device, space)


def attach(name: str, table: Grid, space: Workspace, quiet: bool = False) -> Plan:
    """Show a grid's progress until none of its cells is queued or running. Ctrl-C leaves the jobs alone."""
    records = Records(space.records)
    cells = {cell.id: cell for cell in grids.expand(table)[0]}
    seen = records.ids() & set(cells)
    try:
        with Display(len(cells), quiet) as display:
            display.done = len(seen)

            def glance() -> None:
                working = {lease: event for lease, event in runs.at_work(space).items() if event["cell"] in cells}
                for lease in display.doing.keys() - working.keys():
                    display({"event": "idle", "worker": lease})
                for lease, event in working.items():
                    display(event | {"worker": lease})

            def report() -> None:
                for cell_id in sorted((records.ids() & set(cells)) - seen):
                    seen.add(cell_id)
                    record = records.read(cell_id)
                    if record is not None:
                        display({"event": "done", "cell": cell_id, "label": cells[cell_id].label} | record.outcome)

            watch.wait(space, records, cells, report, glance)
    except KeyboardInterrupt:
        raise InterruptedRunError("stopped watching; the jobs continue") from None
    return stands(name, table, space)


def progress(space: Workspace) -> list[dict[str, Any]]:
    """How far the workers of a workspace are with what they do at the moment; what is not known is None."""
    return [{key: event.get(key) for key in PROGRESS} for event in runs.at_work(space).values()]


def besides(table: Grid, space: Workspace) -> dict[str, int]:
    """What unfinished runs have left beside the cells of a table: the number of cells, by the name of the grid."""
    wanted = {cell.id for cell in grids.expand(table)[0]}
    waiting = watch.survey(space, Records(space.records)).unfinished - wanted
    if not waiting:
        return {}
    by_grid: dict[str, set[str]] = defaultdict(set)
    for run in runs.every(space):
        if not run.over:
            by_grid[str(run.content.get("grid", ""))] |= waiting.intersection(run.content["cells"])
    return {name: len(cells) for name, cells in by_grid.items() if cells}


def cancel(table: Grid | None, space: Workspace) -> int:
    """Cancel the unfinished runs that have cells of a table, or all; return how many cells that stopped. SlurmError."""
    records = Records(space.records)
    wanted = {cell.id for cell in grids.expand(table)[0]} if table is not None else None
    done = records.ids()
    stopped: set[str] = set()
    for run in runs.every(space):
        left = runs.unsettled(run, done) if not run.over else set()
        if (left if wanted is None else left & wanted) and not run.stopped:
            run.stop(cancelled=True)
            stopped |= left
            if run.detached:
                slurm.cancel_jobs(run.name)
    return len(stopped)


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


def plan_again(before: Record, space: Workspace, options: RunOptions, dry_run: bool) -> Plan:
    """Plan one recorded cell as if it had no record."""
    if options.detached:
        raise EntryError("--cell runs one cell at once; leave --executor slurm out, or choose the cell by selectors")
    forced = dataclasses.replace(options, force=True)
    return _plan(before.cell.label, [before.cell], runs.remembered(space), space, forced, dry_run)


def run_again(before: Record, space: Workspace, options: RunOptions, quiet: bool = False) -> Record | None:
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


def _execute(plan: Plan, space: Workspace, records: Records, options: RunOptions, quiet: bool) -> int:
    """Run a plan and return how many of its cells it finished. InterruptedRunError."""
    device = _device(options)
    workers = options.workers or schedule.default_workers(plan, device, options.cells_per_device)
    schedule.write_not_applicable(plan, records)
    if not plan.to_run:
        return 0
    run = runs.Run.create(space, records, plan, device, options.force)
    if not quiet:
        estimate = "" if plan.estimate.seconds is None else f", {_estimate(plan)}"
        cells = f"{len(plan.to_run)} of {len(plan.tasks)} cells"
        print(f"{plan.name}: running {cells} on {workers} x {device}{estimate}", file=sys.stderr)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with leased(run.folder / "driver.lock"), Display(len(plan.to_run), quiet) as display:
            schedule.EXECUTORS[options.executor](run, workers, display)
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted; the same command goes on where this one stopped") from None
    finally:
        run.finish()
    return display.done


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _estimate(plan: Plan) -> str:
    """How long a run takes, and how anybody knows."""
    text = f"about {duration(plan.estimate.seconds or 0.0)}, estimated from {plan.estimate.source}"
    return f"{text}, the crafting of {plan.estimate.uncounted} not included" if plan.estimate.uncounted else text


def plan_text(plan: Plan) -> str:
    """Write a plan for people: counts, stages, time, and every cell that is not done."""
    estimate = "unknown, because no similar cell is measured yet" if plan.estimate.seconds is None else _estimate(plan)
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
    lines += [
        "what happens after a failure:",
        *(f"  {kind:15} {rule.meaning}: {rule.then}" for kind, rule in FAILURE_RULES.items()),
    ]
    return "\n".join(lines)
