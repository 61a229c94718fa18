"""How the cells of unfinished runs stand, from any machine that sees the workspace: files first, SLURM second."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from benchmark import runs, slurm
from benchmark.ends import ENDS
from benchmark.runs import Run
from poisons.lease import clock, holder
from results import Records, Workspace

POLL = (2.0, 30.0)  # seconds between looks at a run that is waited for: at first, and at most
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
    known = _known([run for run in chosen if run.detached and not run.over])  # before the files: who has ended has written them
    done, live = records.ids(), runs.running(records)
    for run in chosen:
        left = runs.unsettled(run, done)
        if run.cancelled and not left & live:
            for newer in everyone[everyone.index(run) + 1 :]:  # which took them up again
                left -= set(newer.content["cells"])
            standing.cells |= dict.fromkeys(left, ("cancelled", "by `bench cancel`"))
            standing.idle.append(run)
        elif not left:
            standing.idle.append(run)
        elif run.detached:
            _detached(standing, run, left, live, known.get(run.name))
        else:
            driver = holder(run.folder / "driver.lock")
            if driver is not None and driver.alive:
                standing.cells |= {cell: ("running" if cell in live else "queued", "") for cell in left}
            else:
                standing.idle.append(run)
    standing.cells |= dict.fromkeys(live, ("running", ""))
    return standing


Words = dict[tuple[str, str, int], str]


def _known(detached: list[Run]) -> dict[str, Words]:
    """What SLURM says of the jobs of runs, by the name of the run; without those of another cluster or while it is silent."""
    found: dict[str, Words] = {}
    for cluster in {run.content["cluster"] for run in detached}:
        names = [run.name for run in detached if run.content["cluster"] == cluster]
        words = slurm.queue(names, cluster)
        if words is not None:
            found |= dict.fromkeys(names, words)
    return found


def _detached(standing: Standing, run: Run, left: set[str], live: set[str], known: Words | None) -> None:
    """Say how the cells of one SLURM run stand, part by part."""
    jobs = {first + index: (job, index) for job, first, size in run.arrays for index in range(size)}
    ended = {int(entry.name) for entry in os.scandir(run.folder / "ended")}
    folder = run.folder / "parts"
    now = clock(folder)
    begun: dict[int, list[str]] = {}
    for name in (entry.name for entry in os.scandir(folder)):
        if not name.startswith("."):
            begun.setdefault(int(name.partition(".")[0]), []).append(name)
    past: Words | None = None
    at_work = False
    for number, (part, ids) in enumerate(zip(run.parts, run.part_ids(), strict=True)):
        open_ids = [cell for cell in ids if cell in left]
        if not open_ids or number in ended or number not in jobs:
            continue
        job, index = jobs[number]
        key = (slurm.job_name(run.name), job, index)
        word = (known or {}).get(key, "")
        holders = [holder(folder / name, now) for name in begun.get(number, [])]
        breathing = any(one is not None and one.alive for one in holders)
        if word in slurm.WAITING or (word in slurm.WORKING and not breathing):
            state, kind = "queued", ""
        elif breathing and word in ("", *slurm.WORKING):
            state, kind = "running", ""
        elif known is None and not holders:
            state, kind = "queued", ""  # nothing here can tell
        else:
            if not word and known is not None:
                past = slurm.history([run.name], run.folder.stat().st_mtime - 86400 * 30) if past is None else past
                word = past.get(key, "")
            state, kind = "lost", slurm.ENDED.get(word.partition(" ")[0], "lost")
            standing.gone.append((run, number, kind))
        at_work = at_work or state != "lost"
        if part.stage == "craft":
            continue
        if state == "lost":
            found = ("cancelled", "by scancel") if kind == "cancelled" else ("lost", ENDS[kind].meaning)
            standing.cells |= dict.fromkeys(open_ids, found)
        else:
            standing.cells |= dict.fromkeys(open_ids, ("queued", ""))
            if state == "running" and not live.intersection(open_ids):
                standing.cells[open_ids[0]] = ("running", "")  # makes what its cell needs
    if not at_work:
        standing.idle.append(run)


def settle(space: Workspace, records: Records) -> Standing:
    """Write down what `survey` found: cells whose job is gone become failures with a kind, runs without work are over."""
    standing = survey(space, records)
    live = runs.running(records)
    for run, number, kind in standing.gone:
        if kind != "cancelled" and run.parts[number].stage != "craft":
            for task in run.part_tasks(number):
                if not run.settled(task) and task.cell.id not in live:
                    log = _log(run, number)
                    run.fail(
                        task, kind, f"{ENDS[kind].meaning}, {'see ' + log if log else 'it left no log'}", log, settle=False
                    )
                    standing.cells[task.cell.id] = ("failed", f"{kind}: {ENDS[kind].meaning}")
        (run.folder / "ended" / str(number)).touch()
    for run in standing.idle:
        run.finish()
    return standing


def _log(run: Run, number: int) -> str:
    """The log of a part's job, '' if there is none."""
    for job, first, size in run.arrays:
        if first <= number < first + size:
            name = f"{job}_{number - first}" if size > 1 else str(job)
            path = run.folder / "jobs" / f"{name}_0_log.out"
            return str(path) if path.exists() else ""
    return ""


def logs(space: Workspace, cell_ids: set[str]) -> dict[str, str]:
    """Return the log of the newest job of each of some cells, where there is one."""
    found: dict[str, str] = {}
    for run in runs.every(space):
        if run.folder.joinpath("arrays.json").exists():
            for number, ids in enumerate(run.part_ids()):
                if cell_ids.intersection(ids) and (log := _log(run, number)):
                    found |= dict.fromkeys(cell_ids.intersection(ids), log)
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
