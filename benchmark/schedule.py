"""Puts the stages of a plan onto this machine; the only file that imports submitit.

A run is a folder `.bench/runs/<run>/` with its plan and a file of events per worker. Workers take stages by lease, the poison
store's locks for crafting and purifying and one lock per cell for training, until none is left; the locks are the system's,
so a killed worker frees them. Nothing but the folder's path is sent to a worker.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock, Timeout

from benchmark import provenance
from benchmark.grid import Plan, Task, recipes
from registry import EntryError, NotApplicable, outdated
from results import Cell, Records, Workspace
from results.record import Failure, write_json

if TYPE_CHECKING:
    from poisons.store import Store

Event = dict[str, Any]
Emit = Callable[[Event], None]

KEPT_RUNS = 20  # folders of earlier runs that stay, for their logs
ROUNDS = 3  # how often workers are started again after one of them was killed
SECONDS_TO_STOP = 5.0  # that workers have after an interrupt before they are killed
WORKER_ENVIRONMENT = {
    "PYTHONSAFEPATH": "1",  # a stray registry.py or random.py in the working directory changes nothing
    "PYTHONUNBUFFERED": "1",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",  # keep freed memory: a fifth of the time went into page faults
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
}


class ExecutorError(RuntimeError):
    """Workers that could not even begin; the text says where their logs are."""


class AbandonedError(BaseException):
    """The driver of this run is gone; what is finished stays, the rest is left to the next run."""


@dataclass(frozen=True)
class Run:
    """A run as its folder describes it."""

    folder: Path

    @classmethod
    def create(cls, workspace: Workspace, records: Records, plan: Plan, device: str, force: bool) -> Run:
        """Write the plan down. Folders of the oldest runs are removed."""
        runs = workspace.private / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        for old in sorted(runs.iterdir())[: -KEPT_RUNS or None]:
            shutil.rmtree(old, ignore_errors=True)
        folder = runs / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        (folder / "settled").mkdir(parents=True)
        remember(workspace, plan.roots)
        driver = psutil.Process()
        content = {
            "cells": [task.cell.model_dump(mode="json") for task in plan.to_run],
            "redo": [task.cell.id for task in plan.to_run if plan.states[task.cell.id] in ("done", "stale")],
            "roots": plan.roots,
            "device": device,
            "force": force,
            "poisons": str(workspace.poisons),
            "records": str(records.folder),
            "checkpoints": str(workspace.private / "checkpoints"),
            "driver": [driver.pid, driver.create_time()],
        }
        write_json(folder / "plan.json", content)
        return cls(folder)

    @cached_property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "plan.json").read_text())
        return content

    @cached_property
    def tasks(self) -> list[Task]:
        return [Task.of(Cell.model_validate(cell), self.content["roots"]) for cell in self.content["cells"]]

    @cached_property
    def records(self) -> Records:
        return Records(Path(self.content["records"]))

    @cached_property
    def redo(self) -> set[str]:
        return set(self.content["redo"])

    def settled(self, task: Task) -> bool:
        """Whether this run is through with a cell, well or badly, or another run has finished it."""
        if (self.folder / "settled" / task.cell.id).exists():
            return True
        return task.cell.id not in self.redo and bool(self.records.path(task.cell.id).exists())

    def settle(self, task: Task) -> None:
        (self.folder / "settled" / task.cell.id).touch()

    def fail(self, task: Task, kind: str, message: str, log: str = "") -> None:
        """Write down why a cell has no record; attempts are counted on."""
        before = self.records.failure(task.cell.id)
        self.records.fail(
            Failure(
                id=task.cell.id,
                cell=task.cell,
                kind=kind,
                message=message,
                attempts=before.attempts + 1 if before else 1,
                log=log,
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )
        self.settle(task)

    def wanted(self) -> bool:
        """Whether the driver lives and has not told its workers to stop."""
        if (self.folder / "stop").exists():
            return False
        pid, born = self.content["driver"]
        try:
            now: float = psutil.Process(pid).create_time()
            return abs(now - float(born)) < 1
        except psutil.Error:
            return False

    @contextmanager
    def lease(self, task: Task) -> Iterator[bool]:
        """Hold a cell so that nobody else trains it; yields False if somebody does."""
        folder = self.records.folder / ".leases"
        folder.mkdir(exist_ok=True)
        path = folder / f"{task.cell.id}.lock"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
            if self.settled(task):  # whoever gets the lock later sees the record before it starts
                path.unlink(missing_ok=True)
        finally:
            lock.release()


def work(run: Run, emit: Emit, device: str, alive: Callable[[], bool] = lambda: True) -> None:
    """Take stages of a run until none is left: crafting first, then purifying, then training."""
    from poisons.store import Store

    worker = _Worker(run, emit, alive)
    worker.store = Store(Path(run.content["poisons"]), device, worker.progress)
    while True:
        tasks = [task for task in run.tasks if not run.settled(task)]
        if not tasks:
            return
        if not alive():
            raise AbandonedError
        if not worker.one_stage(tasks):
            time.sleep(0.2)


class _Worker:
    store: Store

    def __init__(self, run: Run, emit: Emit, alive: Callable[[], bool]) -> None:
        self.run, self.emit, self.alive = run, emit, alive
        self.doing: Event = {}
        self.last = 0.0

    def progress(self, done: int, total: int, accuracy: float | None = None) -> None:
        """Pass progress on, twice a second at most; stop if the driver is gone."""
        now = time.monotonic()
        if now - self.last > 0.5 or done == total:
            self.last = now
            self.emit(self.doing | {"event": "progress", "done": done, "total": total, "accuracy": accuracy})
            if not self.alive():
                raise AbandonedError

    def one_stage(self, tasks: list[Task]) -> bool:
        """Do the first stage that is ready and that nobody else does; False if there is none."""
        from benchmark import cell

        store = self.store
        crafts = recipes(tasks, lambda task: task.poison if task.needs_poison else None)
        for recipe, task in crafts:
            if not store.has(recipe) and self._make("craft", recipe.text, cell.craft, task, tasks):
                return True
        for recipe, task in recipes(tasks, lambda task: task.purified):
            ready = not task.needs_poison or store.has(task.poison)
            if ready and not store.has(recipe) and self._make("purify", recipe.text, cell.purify, task, tasks):
                return True
        for task in tasks:
            ready = store.has(task.purified) if task.purified else not task.needs_poison or store.has(task.poison)
            if ready:
                with self.run.lease(task) as mine:
                    if mine and not self._finished_elsewhere(task):
                        self._train(task)
                        return True
        return False

    def _finished_elsewhere(self, task: Task) -> bool:
        if self.run.settled(task):
            return True
        if not self.run.content["force"] and self.run.records.path(task.cell.id).exists():
            record = self.run.records.read(task.cell.id)
            if record is not None and not outdated(record.versions):
                self.run.settle(task)
                return True
        return False

    def _make(self, stage: str, text: str, make: Callable[..., Any], task: Task, tasks: list[Task]) -> bool:
        from poisons.store import BusyError

        self.doing = {"stage": stage, "cell": task.cell.id, "label": text}
        self.emit(self.doing | {"event": "start"})
        start = time.perf_counter()
        try:
            made = make(task, self.store, False)
        except BusyError:
            self.emit(self.doing | {"event": "idle"})
            return False
        except Exception as error:
            for other in tasks:
                if _shares(stage, other, task):
                    self._failed(other, error, f"{stage} {text}: ")
            return True
        self.emit(self.doing | {"event": "made", "seconds": time.perf_counter() - start, "path": str(made.path)})
        return True

    def _train(self, task: Task) -> None:
        from benchmark import cell

        self.doing = {"stage": "train", "cell": task.cell.id, "label": task.cell.label}
        self.emit(self.doing | {"event": "start"})
        start = time.perf_counter()
        try:
            record = cell.run(task, self.store, self.progress, Path(self.run.content["checkpoints"]))
        except Exception as error:
            self._failed(task, error)
            return
        self.run.records.write(record, replace=task.cell.id in self.run.redo)
        self.run.settle(task)
        accuracy = record.metrics.test_acc if record.metrics else None
        seconds = time.perf_counter() - start
        self.emit(self.doing | {"event": "done", "accuracy": accuracy, "seconds": seconds})

    def _failed(self, task: Task, error: Exception, prefix: str = "") -> None:
        """The edge of a cell: whatever went wrong becomes a failure with a kind and a log, or not applicable."""
        if isinstance(error, NotApplicable):
            record = provenance.not_applicable(task, str(error))
            self.run.records.write(record, replace=task.cell.id in self.run.redo)
            self.run.settle(task)
            self.emit({"event": "done", "cell": task.cell.id, "label": task.cell.label, "reason": str(error)})
            return
        kind = failure_kind(error)
        log = self.run.folder / f"{task.cell.id}.log"
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        message = prefix + (str(error).strip().splitlines() or [type(error).__name__])[0]
        if kind == "out-of-memory":
            message += "; fewer --workers, a smaller batch of the protocol or a smaller network need less"
        if kind == "plug-in":
            message = f"{prefix}{type(error).__name__}: {str(error).strip()}"[:500]
        self.run.fail(task, kind, message, str(log))
        self.emit({"event": "failed", "cell": task.cell.id, "label": task.cell.label, "kind": kind, "message": message})


def _shares(stage: str, one: Task, other: Task) -> bool:
    """Whether two cells need the same poison, or the same purified set."""
    if stage == "craft":
        return one.needs_poison and one.poison.key == other.poison.key
    return one.purified is not None and other.purified is not None and one.purified.key == other.purified.key


def failure_kind(error: Exception) -> str:
    """Name the end of a cell: out-of-memory, diverged, budget, or plug-in for all else."""
    import torch

    from benchmark.train import DivergedError
    from poisons.store import BudgetError

    memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if memory or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        return "out-of-memory"
    if isinstance(error, DivergedError):
        return "diverged"
    return "budget" if isinstance(error, BudgetError) else "plug-in"


# Executors: each runs a plan to its end and passes the events on


def inline(run: Run, workers: int, emit: Emit) -> None:
    """Do everything in this process, one stage after the other."""
    work(run, lambda event: emit(event | {"worker": 0}), run.content["device"])


def local(run: Run, workers: int, emit: Emit) -> None:
    """Start `workers` long-lived jobs on this machine that share the stages, spread over the GPUs where there are any.

    A worker that was killed costs the cell it was training; the others go on, and what is left is started again.
    """
    for _ in range(ROUNDS):
        open_tasks = [task for task in run.tasks if not run.settled(task)]
        if not open_tasks:
            return
        doing = _local_round(run, min(workers, len(open_tasks)), emit)
        by_id = {task.cell.id: task for task in run.tasks}
        for cell_id, stage in doing:
            task = by_id[cell_id]
            if not run.settled(task):
                text = f"its worker ended while it was doing {stage}, perhaps killed for want of memory; see the log"
                run.fail(task, "killed", text, str(run.folder / "jobs"))
                emit({"event": "failed", "cell": cell_id, "label": task.cell.label, "kind": "killed", "message": text})
        if not doing and not any(run.settled(task) for task in open_tasks):
            raise ExecutorError(f"the workers ended before they finished anything; their logs are in {run.folder / 'jobs'}")


def _local_round(run: Run, workers: int, emit: Emit) -> list[tuple[str, str]]:
    """Run workers to their end; return (cell, stage) of what they were doing when they ended."""
    import submitit

    gpus = visible_gpus(run.content["device"])
    os.environ.update(WORKER_ENVIRONMENT)
    jobs = []
    sources = [run.folder / f"events-{secrets.token_hex(3)}.jsonl" for _ in range(workers)]
    for number, source in enumerate(sources):
        source.touch()
        executor = submitit.LocalExecutor(folder=run.folder / "jobs")
        executor.update_parameters(timeout_min=60 * 24 * 365, stderr_to_stdout=True)
        if gpus:
            executor.update_parameters(gpus_per_node=1, visible_gpus=[gpus[number % len(gpus)]])
        with _ignored_interrupts():
            jobs.append(executor.submit(_worker, str(run.folder), str(source)))
    offsets = [0] * workers
    doing: dict[int, tuple[str, str]] = {}
    try:
        while True:
            over = all(job.done() for job in jobs)
            for number, source in enumerate(sources):
                offsets[number], events = _new_events(source, offsets[number])
                for event in events:
                    if event["event"] == "start":
                        doing[number] = (event["cell"], event["stage"])
                    elif event["event"] != "progress":
                        doing.pop(number, None)
                    emit(event | {"worker": number})
            if over:
                return list(doing.values())
            time.sleep(0.1)
    except BaseException:
        _end(run, jobs)
        raise


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Start processes that a Ctrl-C at the terminal does not reach: the driver tells them to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(run: Run, jobs: Sequence[Any]) -> None:
    """Ask workers to stop, which they notice at their next progress; end those that do not within seconds."""
    (run.folder / "stop").touch()
    deadline = time.monotonic() + SECONDS_TO_STOP
    while time.monotonic() < deadline and not all(job.done() for job in jobs):
        time.sleep(0.05)
    for job in jobs:
        if not job.done():
            controller = psutil.Process(int(job.job_id))
            for process in [*controller.children(recursive=True), controller]:
                process.kill()


def _worker(folder: str, source: str) -> str:
    """What a job runs: the only things sent to it are two paths."""
    run = Run(Path(folder))
    with Path(source).open("a", buffering=1, encoding="utf-8") as events:
        try:
            device = run.content["device"].partition(":")[0]  # a worker sees its own GPU alone
            work(run, lambda event: print(json.dumps(event), file=events), device, run.wanted)
        except AbandonedError:
            return "abandoned"
    return "done"


def _new_events(source: Path, offset: int) -> tuple[int, list[Event]]:
    with source.open("rb") as file:
        file.seek(offset)
        fresh = file.read()
    whole = fresh[: fresh.rfind(b"\n") + 1]
    return offset + len(whole), [json.loads(line) for line in whole.splitlines()]


EXECUTORS: dict[str, Callable[[Run, int, Emit], None]] = {"local": local, "inline": inline}


def gpu_count() -> int:
    """Count the GPUs that this process may use, without importing torch where there is none."""
    if sys.platform == "linux" and not list(Path("/dev").glob("nvidia[0-9]*")):
        return 0
    import torch

    return torch.cuda.device_count()


def visible_gpus(device: str) -> list[int]:
    """Return the numbers of the GPUs that `cuda` or `cuda:N` means; none for a CPU."""
    name, _, number = device.partition(":")
    if name != "cuda":
        return []
    return [int(number)] if number else list(range(gpu_count()))


def cores() -> int:
    """Count the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def remember(workspace: Workspace, roots: dict[str, str]) -> None:
    """Keep the paths of folders of images by their names, so that `bench run --cell` finds them again."""
    if roots:
        write_json(workspace.private / "folders.json", remembered(workspace) | roots)


def remembered(workspace: Workspace) -> dict[str, str]:
    """Return the paths of folders of images that runs of this workspace have used, by their names."""
    path = workspace.private / "folders.json"
    try:
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def choose_device(wish: str) -> str:
    """Return cpu, cuda or cuda:N for a --device flag. EntryError if there is no such device."""
    if wish == "auto":
        return "cuda" if gpu_count() else "cpu"
    name, _, number = wish.partition(":")
    if wish == "cpu" or (name == "cuda" and (not number or number.isdigit()) and int(number or 0) < gpu_count()):
        return wish
    raise EntryError(f"--device {wish}: expected auto, cpu or cuda[:N]; this machine has {gpu_count()} GPUs")


def write_not_applicable(plan: Plan, records: Records) -> None:
    """Write the records of cells that entries said they do not apply to."""
    for task in plan.tasks:
        cell_id = task.cell.id
        if plan.states[cell_id] == "not-applicable" and not records.path(cell_id).exists():
            records.write(provenance.not_applicable(task, plan.reasons[cell_id]))


def mark_running(plan: Plan, records: Records) -> None:
    """Set the state of missing cells that some process holds the lease of to `running`."""
    for path in (records.folder / ".leases").glob("*.lock"):
        if plan.states.get(path.stem) in ("missing", "failed", "stale"):
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
                lock.release()
            except Timeout:
                plan.states[path.stem] = "running"


def default_workers(plan: Plan, device: str, cells_per_device: int = 1) -> int:
    """As many workers per GPU as asked for; on a CPU as many as fit the threads that the protocols of the plan pin per cell."""
    if gpus := visible_gpus(device):
        return len(gpus) * cells_per_device
    threads = max((int(task.protocol.fields["threads"]) or cores() for task in plan.to_run), default=1)
    return max(1, cores() // threads)
