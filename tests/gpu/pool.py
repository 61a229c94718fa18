"""Cells by several processes at once, which share them by lease as the workers of `bench run` do. Needs no submitit.

The process that starts them never asks anything of the GPU, so that it keeps the time whatever becomes of them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from gpu import Setting
from unlearnable_bench.benchmark.plan import plan_cells
from unlearnable_bench.benchmark.runs import Run
from unlearnable_bench.benchmark.task import Task
from unlearnable_bench.benchmark.work import AbandonedError, LostDeviceError, work
from unlearnable_bench.registry import data
from unlearnable_bench.results import Cell, Records

LOST = 17  # exit status of a worker whose GPU reported an error
STARTS = 3  # of workers that follow each other in one place without a cell being settled
TOGETHER = 8  # cells of a worker that are looked at together: a poison that one of them needs is made before the others
WORDS = 1500  # characters of a log that are shown
GRACE = 3.0  # seconds that workers have to stop

_FORK = multiprocessing.get_context("fork")  # torch is imported already, and nothing of CUDA is begun


@dataclass
class Pool:
    """What became of some cells."""

    run: Run
    records: Records
    ids: list[str]
    restarts: int = 0
    killed: int = 0

    @property
    def done(self) -> list[str]:
        there = self.records.ids()
        return [cell_id for cell_id in self.ids if cell_id in there]

    @property
    def failures(self) -> dict[str, str]:
        """The failures among the cells, by cell: kind and message."""
        mine = set(self.ids)
        return {failure.id: f"{failure.kind}: {failure.message}" for failure in self.records.failures() if failure.id in mine}

    def complaint(self) -> str:
        """Say which cells failed, and how the log of the first ends; '' where none did."""
        failures = self.failures
        if not failures:
            return ""
        first = self.records.failure(next(iter(failures)))
        log = Path(first.log) if first and first.log else None
        words = log.read_text(encoding="utf-8", errors="replace")[-WORDS:] if log and log.exists() else "no log"
        return f"{len(failures)} cells failed: {dict(list(failures.items())[:3])}; {words}"


def run_cells(
    setting: Setting,
    cells: Sequence[Cell],
    *,
    name: str,
    workers: int = 1,
    fits: Callable[[Task], bool] = lambda task: True,
    look: Callable[[], None] = lambda: None,
) -> Pool:
    """Run cells in their order until they are done or the time is over.

    `fits` is asked just before a cell's turn whether it can still end in time; `look` is called every second.
    """
    space = setting.space
    space.writable()
    records = Records(space.records)
    plan = plan_cells(name, cells, {}, records)  # entries that do not apply say so when run
    for part in {text: part for task in plan.to_run for text, part in task.datasets.items()}.values():
        data.decoded(part)
    run = Run.create(space, records, plan, setting.device, False)
    pool = Pool(run, records, [task.cell.id for task in plan.tasks])
    try:
        _drive(setting, pool, workers, fits, look)
    finally:
        run.finish()
    return pool


def _drive(setting: Setting, pool: Pool, workers: int, fits: Callable[[Task], bool], look: Callable[[], None]) -> None:
    """Keep workers going; stop them when the time is over."""
    places = [_Place(setting, pool.run, number, workers, fits) for number in range(workers if pool.run.tasks else 0)]
    while setting.seconds_left > 0 and _any_busy(places):
        time.sleep(0.1 if setting.tiny else 1.0)
        look()
    pool.run.stop()
    end = time.monotonic() + GRACE
    for place in places:
        pool.killed += place.end(end)
        pool.restarts += place.starts - 1


def _any_busy(places: Sequence[_Place]) -> bool:
    """Look at every worker, so that each that ended badly is followed by another."""
    busy = [place.busy() for place in places]
    return any(busy)


class _Place:
    """A worker, and those that follow it where it lost its GPU or was killed."""

    def __init__(self, setting: Setting, run: Run, number: int, workers: int, fits: Callable[[Task], bool]) -> None:
        self.arguments = (run.folder, setting.device, f"gpu-{number}", TOGETHER * workers, fits)
        self.run, self.starts, self.settled, self.left = run, 0, 0, STARTS
        self.process = self._start()

    def _start(self) -> BaseProcess:
        self.starts += 1
        self.left -= 1
        process = _FORK.Process(target=_worker, args=self.arguments)
        process.start()
        return process

    def busy(self) -> bool:
        """Whether the worker is at work; one that ended badly is followed by another, as long as cells get settled."""
        if self.process.is_alive():
            return True
        if self.process.exitcode == 0:
            return False
        settled = len(self.run.settled_ids())
        if settled > self.settled:
            self.settled, self.left = settled, STARTS
        if not self.left:
            return False
        self.process = self._start()
        return True

    def end(self, when: float) -> int:
        """Wait for the worker until `when`, then kill it; return 1 if that was needed."""
        self.process.join(max(0.0, when - time.monotonic()))
        if not self.process.is_alive():
            return 0
        self.process.kill()
        self.process.join(GRACE)
        return 1


def _worker(folder: Path, device: str, name: str, together: int, fits: Callable[[Task], bool]) -> None:
    """Take cells in their order, some at a time, and leave out those that cannot end in time."""
    run = Run(folder)
    with (folder / "jobs" / f"{name}.log").open("a", buffering=1) as log, contextlib.redirect_stderr(log):
        try:
            for start in range(0, len(run.tasks), together):
                tasks = [task for task in run.tasks[start : start + together] if fits(task)]
                work(run, tasks, "train", lambda event: None, device, run.goes_on, name=name)
        except AbandonedError:
            return
        except LostDeviceError as error:
            print(error, file=log)
            raise SystemExit(LOST) from None
