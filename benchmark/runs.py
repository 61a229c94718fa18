"""Runs: a folder `.bench/runs/<run>/` with a plan and the traces of those who work on it; the truth of a run is in its files.

    plan.json      what to run, under which settings; for SLURM also which cells belong to which array task (its pieces)
    cells.jsonl    the cells, one a line, in the order of the pieces
    settled/<id>   this run is through with the cell, well or badly
    parts/<n>.<r>  the lease of SLURM array task n, rank r: its heartbeat
    progress/<w>   how far worker w is with what it does, and under which lease; written every few seconds
    ended/<n>      array task n ended in order and leaves its other cells to the next run
    arrays.json    SLURM's numbers of the arrays
    sending.json   the array that is being submitted: SLURM may have it, though arrays.json does not name it
    driver.lock    the lease of the process that drives the run, where it is not detached
    stop           workers and drivers of this run must stop
    over           nobody works on this run any more

Every cell is worked on under a lease beside its record, so that no two runs do it at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from unlearnable_bench.benchmark.plan import Plan
from unlearnable_bench.benchmark.task import Finder, Task
from unlearnable_bench.poisons.lease import Lease, birth, clock, holder, leased, remove
from unlearnable_bench.results import Cell, FileError, Records, Workspace
from unlearnable_bench.results.record import Failure, write_file, write_json

KEPT_RUNS = 20  # folders of runs that are over which stay, for their logs


@dataclass(frozen=True)
class Piece:
    """What one array task does: cells that follow each other in `cells.jsonl`, to their records or only to their poisons."""

    start: int  # byte where its cells begin
    cells: int
    stage: str = "train"  # or craft
    time: float = 1.0  # factors on the resources of the profile
    memory: float = 1.0
    waits: bool = False  # for a poison that another piece crafts


@dataclass(frozen=True)
class Run:
    """A run as its folder describes it."""

    folder: Path

    @classmethod
    def create(
        cls,
        workspace: Workspace,
        records: Records,
        plan: Plan,
        device: str,
        force: bool,
        pieces: Sequence[tuple[Sequence[Task], Piece]] = (),
        more: dict[str, Any] | None = None,
    ) -> Run:
        """Write the plan down, for SLURM in pieces. Folders of the oldest runs that are over are removed."""
        runs = workspace.private / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        for old in [run for run in every(workspace) if run.over][: -KEPT_RUNS or None]:
            shutil.rmtree(old.folder, ignore_errors=True)
        folder = runs / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(3)}"
        for name in ("settled", "parts", "progress", "ended", "jobs", "empty"):
            (folder / name).mkdir(parents=True)
        remember(workspace, plan.roots)
        driver = psutil.Process()
        lines, placed = [], []
        position = 0
        pieces = pieces or [(plan.to_run, Piece(0, len(plan.to_run)))]
        for tasks, piece in pieces:
            text = "".join(task.cell.model_dump_json() + "\n" for task in tasks).encode()
            placed.append([position, *dataclasses.astuple(piece)[1:]])
            lines.append(text)
            position += len(text)
        content = {
            "grid": plan.name,
            "cells": [task.cell.id for task in plan.to_run],
            "order": [task.cell.id for tasks, _ in pieces for task in tasks],
            "redo": [task.cell.id for task in plan.to_run if plan.states[task.cell.id] in ("done", "stale")],
            "parts": placed,
            "roots": plan.roots,
            "device": device,
            "force": force,
            "poisons": str(workspace.poisons),
            "records": str(records.folder),
            "checkpoints": str(workspace.private / "checkpoints"),
            "driver": [driver.pid, birth(driver)],
            **(more or {}),
        }
        write_json(folder / "plan.json", content, indent=None)
        (folder / "cells.jsonl").write_bytes(b"".join(lines))
        return cls(folder)

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def content(self) -> dict[str, Any]:
        """The plan. FileError if its file is not whole."""
        content = self._read("plan.json")
        if not isinstance(content, dict) or not set(content) >= {"cells", "order", "redo", "parts", "roots", "driver"}:
            raise self._broken("plan.json")
        return content

    @property
    def arrays(self) -> list[list[Any]]:
        """What was submitted: SLURM's number, the first piece and how many, of every array. FileError if it is not whole."""
        return self._read("arrays.json") if (self.folder / "arrays.json").exists() else []

    def write_arrays(self, arrays: list[list[Any]]) -> None:
        """Write down what SLURM has taken; nothing is being sent then."""
        write_json(self.folder / "arrays.json", arrays)
        self.forget_sending()

    def write_sending(self, first: int, size: int) -> None:
        """Write down that an array goes to SLURM now: who dies before its number is written leaves a trace of it."""
        write_json(self.folder / "sending.json", [first, size])

    def forget_sending(self) -> None:
        (self.folder / "sending.json").unlink(missing_ok=True)

    @property
    def sending(self) -> list[int] | None:
        """The first piece and the size of an array that SLURM may have; None where all that it has is known."""
        if not (self.folder / "sending.json").exists():
            return None
        first, size = self._read("sending.json")
        return None if any(first == known for _, known, _ in self.arrays) else [first, size]

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            raise self._broken(name) from None

    def _broken(self, name: str) -> FileError:
        where = f"remove the folder {self.folder} and run again"
        return FileError(f"{self.folder / name} is not whole; {where}: no record lies there")

    @property
    def detached(self) -> bool:
        """Whether SLURM's jobs work on it, rather than processes of a driver."""
        return "walltime" in self.content

    @cached_property
    def pieces(self) -> list[Piece]:
        return [Piece(*piece) for piece in self.content["parts"]]

    def piece_tasks(self, number: int) -> list[Task]:
        """Read the cells of one piece, and nothing else."""
        piece = self.pieces[number]
        with (self.folder / "cells.jsonl").open("rb") as file:
            file.seek(piece.start)
            lines = [file.readline() for _ in range(piece.cells)]
        try:
            cells = [Cell.model_validate_json(line) for line in lines]
        except ValueError:
            raise self._broken("cells.jsonl") from None
        return [Task.of(cell, Finder(self.content["roots"])) for cell in cells]

    def piece_ids(self) -> list[list[str]]:
        """The ids of the cells of every piece."""
        ids = iter(self.content["order"])
        return [[next(ids) for _ in range(piece.cells)] for piece in self.pieces]

    @cached_property
    def tasks(self) -> list[Task]:
        """Every cell, once."""
        found: dict[str, Task] = {}
        for number in range(len(self.pieces)):
            for task in self.piece_tasks(number):
                found.setdefault(task.cell.id, task)
        return list(found.values())

    @cached_property
    def records(self) -> Records:
        return Records(Path(self.content["records"]))

    @cached_property
    def redo(self) -> set[str]:
        return set(self.content["redo"])

    @property
    def over(self) -> bool:
        return (self.folder / "over").exists() or not (self.folder / "cells.jsonl").exists()

    def finish(self) -> None:
        """Write down that nobody works on this run any more."""
        (self.folder / "over").touch()

    def settled(self, task: Task) -> bool:
        """Whether this run is through with a cell, well or badly, or another run has finished it."""
        if (self.folder / "settled" / task.cell.id).exists():
            return True
        return task.cell.id not in self.redo and bool(self.records.path(task.cell.id).exists())

    def settle(self, task: Task) -> None:
        (self.folder / "settled" / task.cell.id).touch()

    def settled_ids(self) -> set[str]:
        return {entry.name for entry in os.scandir(self.folder / "settled")}

    def fail(self, task: Task, kind: str, message: str, log: str = "", settle: bool = True) -> int:
        """Write down why a cell has no record; attempts are counted on and returned."""
        before = self.records.failure(task.cell.id)
        failure = Failure(
            id=task.cell.id,
            cell=task.cell,
            kind=kind,
            message=message,
            attempts=before.attempts + 1 if before else 1,
            log=log,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self.records.fail(failure)
        if settle:
            self.settle(task)
        return failure.attempts

    def write_progress(self, worker: str, event: dict[str, Any]) -> None:
        """Let other processes and machines see how far a worker is. On a full disk they see it later."""
        with suppress(OSError):
            write_file(self.folder / "progress" / f"{worker}.json", json.dumps(event), sync=False)

    def progress(self, worker: str) -> dict[str, Any] | None:
        """Return what a worker wrote last; None if it wrote nothing that can be read."""
        try:
            event = json.loads((self.folder / "progress" / f"{worker}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        whole = isinstance(event, dict) and event.keys() >= {"stage", "cell", "label", "done", "total", "lease"}
        return event if whole else None

    def progress_by_lease(self) -> dict[str, dict[str, Any]]:
        """Return what each worker wrote last, by the lease that it held; of two workers what the later one wrote."""
        files = sorted((self.folder / "progress").glob("*.json"), key=lambda path: path.stat().st_mtime)
        events = [self.progress(path.stem) for path in files]
        return {str(event["lease"]): event for event in events if event is not None}

    @property
    def stopped(self) -> bool:
        return (self.folder / "stop").exists()

    @property
    def cancelled(self) -> bool:
        """Whether it was stopped by `bench cancel`, rather than by its own driver."""
        return self.stopped and bool((self.folder / "stop").read_text())

    def stop(self, cancelled: bool = False) -> None:
        (self.folder / "stop").write_text("cancelled" if cancelled else "")

    def goes_on(self) -> bool:
        """Whether the driver lives, where there is one, and nobody has told the run to stop."""
        if self.stopped:
            return False
        return self.detached or self.driven()

    def driven(self) -> bool:
        """Whether the process that started the run is still there, asked on its own machine."""
        pid, born = self.content["driver"]
        try:
            return abs(birth(psutil.Process(pid)) - float(born)) < 1
        except psutil.Error:
            return False

    @contextmanager
    def lease(self, task: Task) -> Iterator[Lease | None]:
        """Hold a cell so that nobody else trains it; yields None if somebody does, or did and this run is not to do it anew."""
        with leased(lease_path(self.records, task.cell.id), anew=self.content["force"]) as lease:
            yield lease


def lease_path(records: Records, cell_id: str) -> Path:
    """Where the lease of a cell lies."""
    return records.folder / ".leases" / f"{cell_id}.lock"


def every(workspace: Workspace) -> list[Run]:
    """The runs of a workspace, oldest first."""
    folder = workspace.private / "runs"
    return [Run(path) for path in sorted(folder.iterdir())] if folder.is_dir() else []


def running(records: Records) -> set[str]:
    """The cells that somebody who may be alive holds the lease of. Leases that outlived their work are cleared away."""
    folder = records.folder / ".leases"
    names = [entry.name for entry in os.scandir(folder)] if folder.is_dir() else []
    names = [name for name in names if name.endswith(".lock") and not name.startswith(".")]
    now = clock(folder) if names else 0.0
    alive = set()
    for name in names:
        there = holder(folder / name, now)
        if there is None:
            continue
        if there.alive:
            alive.add(name.removesuffix(".lock"))
        elif there.outlived:
            with suppress(OSError):  # a reader without the right to write leaves them
                remove(folder / name, there)
    return alive


def at_work(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """How far unfinished runs are with what they do at the moment: what each worker wrote last, by its lease.

    What a worker wrote counts as long as somebody who may be alive holds that lease.
    """
    events: dict[str, dict[str, Any]] = {}
    for run in every(workspace):
        if not run.over:
            events |= run.progress_by_lease()
    clocks = {folder: clock(folder) for folder in {Path(lease).parent for lease in events}}
    holders = {lease: holder(Path(lease), clocks[Path(lease).parent]) for lease in events}
    held = {lease for lease, there in holders.items() if there is not None and there.alive}
    return {lease: event for lease, event in sorted(events.items()) if lease in held}


def unsettled(run: Run, done: Iterable[str]) -> set[str]:
    """The cells that a run is not through with. `done`: all cells that have a record."""
    return set(run.content["cells"]) - run.settled_ids() - (set(done) - run.redo)


def remember(workspace: Workspace, roots: dict[str, str]) -> None:
    """Keep the paths of folders of images by their names, so that `bench run --cell` finds them again."""
    if roots:
        write_json(workspace.private / "folders.json", remembered(workspace) | roots)


def remembered(workspace: Workspace) -> dict[str, str]:
    """Return the paths of folders of images that runs of this workspace have used, by their names."""
    path = workspace.private / "folders.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: root for name, root in found.items() if isinstance(root, str)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
