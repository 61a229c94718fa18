"""How the cells of unfinished runs stand, from any machine that sees the workspace: files first, SLURM second."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

from unlearnable_bench.benchmark import runs, slurm
from unlearnable_bench.benchmark.failures import FAILURE_RULES
from unlearnable_bench.benchmark.plan import UNFINISHED
from unlearnable_bench.benchmark.runs import Run
from unlearnable_bench.poisons.lease import clock, holder
from unlearnable_bench.results import Records, Workspace

PAUSES = (2.0, 30.0)  # seconds between looks at a run that is waited for: at first, and at most
REMEMBERED = 30 * 86400  # seconds before a run began from which SLURM is asked what became of its jobs
GLANCE = 4.0  # seconds between looks at how far its workers are


CellStates = dict[str, tuple[str, str]]  # id of a cell -> its state, and the reason of that


@dataclass(frozen=True)
class LostJob:
    """An array task of a run whose job is gone before its end."""

    run: Run
    number: int
    kind: str  # of failure


@dataclass
class Survey:
    """The cells that unfinished runs have not settled, and what is wrong with these runs."""

    cells: CellStates = field(default_factory=dict)
    lost_jobs: list[LostJob] = field(default_factory=list)
    idle: list[Run] = field(default_factory=list)  # runs that nobody works on any more
    recovered: list[_Jobs] = field(default_factory=list)  # with an array whose number its driver did not live to write

    @property
    def unfinished(self) -> set[str]:
        """The cells that are queued or running."""
        return {cell_id for cell_id, (state, _) in self.cells.items() if state in UNFINISHED}


def survey(space: Workspace, records: Records) -> Survey:
    """Look at all runs that are not over, and at those that were cancelled. Writes nothing."""
    seen = Survey()
    all_runs = runs.every(space)
    chosen = [run for run in all_runs if not run.over or run.cancelled]
    words = _words([run for run in chosen if run.detached and not run.over])  # before the files: who has ended has written them
    done, live = records.ids(), runs.running(records)
    for run in chosen:
        left = runs.unsettled(run, done)
        if run.cancelled and not left & live:
            seen.cells |= dict.fromkeys(left - _planned_after(run, all_runs), ("cancelled", "by `bench cancel`"))
            seen.idle.append(run)
        else:
            _look_at(seen, run, left, live, words.get(run.name))
    seen.cells |= dict.fromkeys(live, ("running", ""))
    return seen


def _look_at(seen: Survey, run: Run, left: set[str], live: set[str], words: Words | None) -> None:
    """Add to `seen` how the cells that a run has left stand. `words`: what SLURM says of its jobs."""
    if left and run.detached:
        _look_at_jobs(seen, _Jobs(run, words), left, live)
    elif left and _driven(run):
        seen.cells |= dict.fromkeys(left, ("queued", ""))
    else:
        seen.idle.append(run)


def _planned_after(run: Run, all_runs: list[Run]) -> set[str]:
    """Return the cells of all newer runs, which took up what this one left."""
    newer = all_runs[all_runs.index(run) + 1 :]
    return set().union(*(later.content["cells"] for later in newer))


def _driven(run: Run) -> bool:
    """Whether a driver that may be alive holds the run."""
    driver = holder(run.folder / "driver.lock")
    return driver is not None and driver.alive


Words = dict[tuple[str, str, int], str]


def _words(detached: list[Run]) -> dict[str, Words]:
    """What SLURM says of the jobs of runs, by the name of the run; without those of another cluster or while it is silent."""
    names: dict[str, list[str]] = defaultdict(list)  # by cluster
    for run in detached:
        names[run.content["cluster"]].append(run.name)
    by_run: dict[str, Words] = {}
    for cluster, run_names in names.items():
        words = slurm.queue(run_names, cluster)
        if words is not None:
            by_run |= dict.fromkeys(run_names, words)
    return by_run


class Trace(Enum):
    """What the files of a run show of one array task."""

    NONE = "no lease"
    OLD = "a lease that nobody renews"
    FRESH = "a lease that somebody renews"


def task_state(word: str, trace: Trace, answers: bool) -> str:
    """Say whether an array task is queued, running or lost.

    `word` is what SLURM calls its state, '' for a task that it does not name; `answers` is whether SLURM can be asked.
    """
    if word in slurm.WAITING:
        return "queued"
    if word in slurm.WORKING:
        return "running" if trace is Trace.FRESH else "queued"  # its process has not begun yet
    if not word and trace is Trace.FRESH:
        return "running"
    if not answers and trace is Trace.NONE:
        return "queued"  # nothing here can tell
    return "lost"


def _traces(run: Run) -> dict[int, Trace]:
    """Return what is seen of every array task that has begun."""
    folder = run.folder / "parts"
    now = clock(folder)
    traces: dict[int, Trace] = {}
    for path in folder.glob("[0-9]*"):
        number = int(path.name.partition(".")[0])
        held = holder(path, now)
        if held is not None and held.alive:
            traces[number] = Trace.FRESH
        else:
            traces.setdefault(number, Trace.OLD)
    return traces


class _Jobs:
    """The jobs of one SLURM run, and what SLURM and the files of the run say of each. `words` is None while SLURM is silent."""

    def __init__(self, run: Run, words: Words | None) -> None:
        self.run, self.words = run, words
        self.traces = _traces(run)
        self.arrays = [*run.arrays, *self._unwritten()]
        name = slurm.job_name(run.name)
        self.keys = {first + index: (name, job, index) for job, first, size in self.arrays for index in range(size)}

    def _unwritten(self) -> list[list[Any]]:
        """Return the array that SLURM took while the driver of the run died; none where SLURM says that it has none.

        It is the only one whose number is not written. While SLURM is silent there may be one, of a number that nobody knows.
        """
        name, sending = slurm.job_name(self.run.name), self.run.sending
        if sending is None:
            return []
        if self.words is None:
            return [["", *sending]]
        written = {job for job, *_ in self.run.arrays}
        unwritten = {job for job_name, job, _ in self.words if job_name == name} - written
        return [[job, *sending] for job in unwritten]

    @property
    def recovered(self) -> bool:
        """Whether the numbers of all arrays are known, and one of them is not written."""
        return len(self.arrays) > len(self.run.arrays) and self.words is not None

    def state(self, number: int) -> str:
        """Say whether array task `number` is queued, running or lost."""
        word = (self.words or {}).get(self.keys[number], "")
        return task_state(word, self.traces.get(number, Trace.NONE), self.words is not None)

    def failure(self, number: int) -> str:
        """Return the kind of failure of a lost array task; SLURM's history has it where its queue says nothing."""
        key = self.keys[number]
        word = (self.words or {}).get(key, "")
        if not word and self.words is not None:
            word = self._history.get(key, "")
        return slurm.ENDED.get(word.partition(" ")[0], "lost")

    @cached_property
    def _history(self) -> Words:
        return slurm.history([self.run.name], self.run.folder.stat().st_mtime - REMEMBERED)


def _look_at_jobs(seen: Survey, jobs: _Jobs, left: set[str], live: set[str]) -> None:
    """Add to `seen` how the cells of one SLURM run stand, array task by array task."""
    run = jobs.run
    at_work = False
    if jobs.recovered:
        seen.recovered.append(jobs)
    for number, open_ids in _open_tasks(jobs, left).items():
        state = jobs.state(number)
        if state == "lost":
            kind = jobs.failure(number)
            seen.lost_jobs.append(LostJob(run, number, kind))
            cells = _cells_of_lost(kind, open_ids)
        else:
            at_work = True
            cells = _cells_of_live(state, open_ids, live)
        if run.pieces[number].stage != "craft":
            seen.cells |= cells
    if not at_work:
        seen.idle.append(run)


def _open_tasks(jobs: _Jobs, left: set[str]) -> dict[int, list[str]]:
    """Return the array tasks that have not ended in order, each with those of its cells that are left."""
    ended = {int(entry.name) for entry in os.scandir(jobs.run.folder / "ended")}
    cells = jobs.run.piece_ids()
    open_ids = {number: [cell for cell in cells[number] if cell in left] for number in sorted(jobs.keys.keys() - ended)}
    return {number: ids for number, ids in open_ids.items() if ids}


def _cells_of_lost(kind: str, open_ids: list[str]) -> CellStates:
    """Return the states of the cells of an array task whose job is gone."""
    state = ("cancelled", "by scancel") if kind == "cancelled" else ("lost", FAILURE_RULES[kind].meaning)
    return dict.fromkeys(open_ids, state)


def _cells_of_live(state: str, open_ids: list[str], live: set[str]) -> CellStates:
    """Return the states of the cells without a record of an array task that is queued or running."""
    cells = dict.fromkeys(open_ids, ("queued", ""))
    if state == "running" and live.isdisjoint(open_ids):
        cells[open_ids[0]] = ("running", "")  # makes what its cell needs
    return cells


def settle(space: Workspace, records: Records) -> Survey:
    """Write down what `survey` found: cells whose job is gone become failures with a kind, runs without work are over."""
    seen = survey(space, records)
    live = runs.running(records)
    for jobs in seen.recovered:
        jobs.run.write_arrays(jobs.arrays)
    for job in seen.lost_jobs:
        if job.kind != "cancelled" and job.run.pieces[job.number].stage != "craft":
            seen.cells |= _fail(job, live)
        (job.run.folder / "ended" / str(job.number)).touch()
    for run in seen.idle:
        run.finish()
    return seen


def _fail(job: LostJob, live: set[str]) -> CellStates:
    """Write down that the cells of a lost job have no record; return their states."""
    run, log, meaning = job.run, _log(job.run, job.number), FAILURE_RULES[job.kind].meaning
    message = f"{meaning}, see {log}" if log else f"{meaning}, it left no log"
    failed = [task for task in run.piece_tasks(job.number) if not run.settled(task) and task.cell.id not in live]
    for task in failed:
        run.fail(task, job.kind, message, log, settle=False)
    return {task.cell.id: ("failed", f"{job.kind}: {meaning}") for task in failed}


def _log(run: Run, number: int) -> str:
    """The log of a piece's job, '' if there is none."""
    for job, first, size in run.arrays:
        if number in range(first, first + size):
            name = f"{job}_{number - first}" if size > 1 else str(job)
            path = run.folder / "jobs" / f"{name}_0_log.out"
            return str(path) if path.exists() else ""
    return ""


def logs_of_jobs(space: Workspace, cell_ids: set[str]) -> dict[str, str]:
    """Return the log of the newest job of each of some cells, where there is one."""
    newest: dict[str, str] = {}
    for run in runs.every(space):
        if run.arrays:
            newest |= _logs_of(run, cell_ids)
    return newest


def _logs_of(run: Run, cell_ids: set[str]) -> dict[str, str]:
    """Return the logs of the jobs of some cells in one run."""
    by_cell: dict[str, str] = {}
    for number, ids in enumerate(run.piece_ids()):
        asked = cell_ids.intersection(ids)
        log = _log(run, number) if asked else ""
        if log:
            by_cell |= dict.fromkeys(asked, log)
    return by_cell


def wait(
    space: Workspace,
    records: Records,
    cells: Iterable[str],
    report: Callable[[], None],
    glance: Callable[[], None],
) -> None:
    """Look at some cells until none is queued or running, ever less often while nothing changes; `glance` in between."""
    waited_for, pause, before = set(cells), PAUSES[0], -1
    while True:
        unfinished = survey(space, records).unfinished & waited_for
        report()
        if not unfinished:
            return
        pause = PAUSES[0] if len(unfinished) != before else min(1.5 * pause, PAUSES[1])
        before = len(unfinished)
        _glance_for(pause, glance)


def _glance_for(seconds: float, glance: Callable[[], None]) -> None:
    """Call `glance` again and again for a while."""
    until = time.monotonic() + seconds
    while (rest := until - time.monotonic()) > 0:
        glance()
        time.sleep(min(rest, GLANCE))
