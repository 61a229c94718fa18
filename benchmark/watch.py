"""How the cells of unfinished runs stand, from any machine that sees the workspace: files first, SLURM second."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from benchmark import runs, slurm
from benchmark.ends import ENDS
from benchmark.runs import Run
from poisons.lease import clock, holder
from results import Records, Workspace

POLL = (2.0, 30.0)  # seconds between looks at a run that is waited for: at first, and at most
HISTORY = 30 * 86400  # seconds before a run began from which SLURM is asked what became of its jobs
GLANCE = 4.0  # seconds between looks at how far its workers are


@dataclass
class Standing:
    """The cells that unfinished runs have not settled, and what is wrong with whom."""

    cells: dict[str, tuple[str, str]] = field(default_factory=dict)  # id -> state, reason
    gone: list[tuple[Run, int, str]] = field(default_factory=list)  # parts whose job is gone: run, part, kind of failure
    idle: list[Run] = field(default_factory=list)  # runs that nobody works on any more

    def unfinished(self, cells: Iterable[str]) -> int:
        """How many of some cells are queued or running."""
        return sum(self.cells.get(cell_id, ("", ""))[0] in ("queued", "running") for cell_id in cells)


def survey(space: Workspace, records: Records) -> Standing:
    """Look at all runs that are not over, and at those that were cancelled. Writes nothing."""
    standing = Standing()
    everyone = runs.every(space)
    chosen = [run for run in everyone if not run.over or run.cancelled]
    words = _words([run for run in chosen if run.detached and not run.over])  # before the files: who has ended has written them
    done, live = records.ids(), runs.running(records)
    for run in chosen:
        left = runs.unsettled(run, done)
        if run.cancelled and not left & live:
            standing.cells |= dict.fromkeys(left - _planned_after(run, everyone), ("cancelled", "by `bench cancel`"))
            standing.idle.append(run)
        elif left and run.detached:
            _detached(standing, run, left, live, words.get(run.name))
        elif left and _driven(run):
            standing.cells |= dict.fromkeys(left, ("queued", ""))
        else:
            standing.idle.append(run)
    standing.cells |= dict.fromkeys(live, ("running", ""))
    return standing


def _planned_after(run: Run, everyone: list[Run]) -> set[str]:
    """Return the cells of all newer runs, which took up what this one left."""
    planned: set[str] = set()
    return planned.union(*(later.content["cells"] for later in everyone[everyone.index(run) + 1 :]))


def _driven(run: Run) -> bool:
    """Whether a driver that may be alive holds the run."""
    driver = holder(run.folder / "driver.lock")
    return driver is not None and driver.alive


Words = dict[tuple[str, str, int], str]


def _words(detached: list[Run]) -> dict[str, Words]:
    """What SLURM says of the jobs of runs, by the name of the run; without those of another cluster or while it is silent."""
    found: dict[str, Words] = {}
    for cluster in {run.content["cluster"] for run in detached}:
        names = [run.name for run in detached if run.content["cluster"] == cluster]
        words = slurm.queue(names, cluster)
        if words is not None:
            found |= dict.fromkeys(names, words)
    return found


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
        there = holder(path, now)
        fresh = there is not None and there.alive
        traces[number] = Trace.FRESH if fresh else traces.get(number, Trace.OLD)
    return traces


class _Jobs:
    """The jobs of one SLURM run, and what SLURM and the files of the run say of each. `words` is None while SLURM is silent."""

    def __init__(self, run: Run, words: Words | None) -> None:
        self.run, self.words = run, words
        self.traces = _traces(run)
        self.keys = {
            first + index: (slurm.job_name(run.name), job, index) for job, first, size in run.arrays for index in range(size)
        }

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
        return slurm.history([self.run.name], self.run.folder.stat().st_mtime - HISTORY)


def _detached(standing: Standing, run: Run, left: set[str], live: set[str], words: Words | None) -> None:
    """Add to `standing` how the cells of one SLURM run stand, part by part."""
    jobs = _Jobs(run, words)
    ended = {int(entry.name) for entry in os.scandir(run.folder / "ended")}
    open_ids = {number: [cell for cell in ids if cell in left] for number, ids in enumerate(run.part_ids())}
    open_parts = [number for number in jobs.keys if number not in ended and open_ids[number]]
    states = {number: jobs.state(number) for number in sorted(open_parts)}
    kinds = {number: jobs.failure(number) for number, state in states.items() if state == "lost"}
    standing.gone += [(run, number, kind) for number, kind in kinds.items()]
    for number, state in states.items():
        if run.parts[number].stage != "craft":
            standing.cells |= _cells_of(state, kinds.get(number, ""), open_ids[number], live)
    if len(kinds) == len(states):
        standing.idle.append(run)


def _cells_of(state: str, kind: str, open_ids: list[str], live: set[str]) -> dict[str, tuple[str, str]]:
    """Return state and reason of the cells of one array task that have no record yet."""
    if kind == "cancelled":
        return dict.fromkeys(open_ids, ("cancelled", "by scancel"))
    if state == "lost":
        return dict.fromkeys(open_ids, ("lost", ENDS[kind].meaning))
    cells = dict.fromkeys(open_ids, ("queued", ""))
    if state == "running" and not live.intersection(open_ids):
        cells[open_ids[0]] = ("running", "")  # makes what its cell needs
    return cells


def settle(space: Workspace, records: Records) -> Standing:
    """Write down what `survey` found: cells whose job is gone become failures with a kind, runs without work are over."""
    standing = survey(space, records)
    live = runs.running(records)
    for run, number, kind in standing.gone:
        if kind != "cancelled" and run.parts[number].stage != "craft":
            standing.cells |= _fail(run, number, kind, live)
        (run.folder / "ended" / str(number)).touch()
    for run in standing.idle:
        run.finish()
    return standing


def _fail(run: Run, number: int, kind: str, live: set[str]) -> dict[str, tuple[str, str]]:
    """Write down that the cells of a part have no record; return their state and reason."""
    log, meaning = _log(run, number), ENDS[kind].meaning
    tasks = [task for task in run.part_tasks(number) if not run.settled(task) and task.cell.id not in live]
    for task in tasks:
        run.fail(task, kind, f"{meaning}, {'see ' + log if log else 'it left no log'}", log, settle=False)
    return {task.cell.id: ("failed", f"{kind}: {meaning}") for task in tasks}


def _log(run: Run, number: int) -> str:
    """The log of a part's job, '' if there is none."""
    for job, first, size in run.arrays:
        if number in range(first, first + size):
            name = f"{job}_{number - first}" if size > 1 else str(job)
            path = run.folder / "jobs" / f"{name}_0_log.out"
            return str(path) if path.exists() else ""
    return ""


def logs(space: Workspace, cell_ids: set[str]) -> dict[str, str]:
    """Return the log of the newest job of each of some cells, where there is one."""
    found: dict[str, str] = {}
    for run in runs.every(space):
        if not run.arrays:
            continue
        for number, ids in enumerate(run.part_ids()):
            asked = cell_ids.intersection(ids)
            log = _log(run, number) if asked else ""
            if log:
                found |= dict.fromkeys(asked, log)
    return found


def wait(
    space: Workspace,
    records: Records,
    cells: Iterable[str],
    report: Callable[[Standing], None],
    glance: Callable[[], None],
) -> None:
    """Look at some cells until none is queued or running, ever less often while nothing changes; `glance` in between."""
    wanted, pause, before = list(cells), POLL[0], -1
    while True:
        standing = survey(space, records)
        report(standing)
        left = standing.unfinished(wanted)
        if not left:
            return
        pause = POLL[0] if left != before else min(1.5 * pause, POLL[1])
        before = left
        until = time.monotonic() + pause
        while (rest := until - time.monotonic()) > 0:
            glance()
            time.sleep(min(rest, GLANCE))
