"""The stages in processes of their own: one that crashes, hangs or loses the GPU is a row, and the next goes on."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from gpu import Figures, Notes, Setting, read_notes
from unlearnable_bench.registry import CATALOGS, EntryError

_FORK = multiprocessing.get_context("fork")
LINES = 30  # of the log of a stage that ended badly, kept in gpu.json
GRACE = 5.0  # seconds that a stage may take to end after its time


@dataclass(frozen=True)
class Stage:
    """A part of the script. It must be over when `share` of the time is, counted from when its group began."""

    name: str
    run: Callable[[Setting, Notes], None]
    share: float


class Running:
    """A stage under way, in a process group of its own."""

    def __init__(self, stage: Stage, setting: Setting, folder: Path, end: float) -> None:
        self.stage, self.end = stage, min(end, setting.end)
        self.notes, self.log = folder / f"{stage.name}.jsonl", folder / f"{stage.name}.log"
        self.began = time.monotonic()
        self.killed = False
        self.process: BaseProcess = _FORK.Process(target=self._work, args=(setting,))
        self.process.start()

    def _work(self, setting: Setting) -> None:
        os.setpgid(0, 0)
        torch.set_num_threads(1)  # a worker that is forked from a process with threads of OpenMP waits for them for ever
        with self.log.open("a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
            try:
                self.stage.run(setting, Notes(self.notes, self.end))
            except Exception:  # the edge of a stage: its last line is the reason in gpu.json
                traceback.print_exc()
                raise SystemExit(1) from None

    def over(self) -> bool:
        """Whether it has ended; one that is late is ended."""
        if self.process.is_alive() and time.monotonic() > self.end + GRACE:
            self.kill()
        return not self.process.is_alive()

    def kill(self) -> None:
        """End the stage and the processes that it started."""
        self.killed = True
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(int(self.process.pid or 0), signal.SIGKILL)
        self.process.kill()
        self.process.join()

    def row(self) -> Figures:
        """What gpu.json says of it."""
        checks = read_notes(self.notes)
        counts = {state: sum(check["state"] == state for check in checks) for state in ("ok", "failed", "skipped")}
        reason = self._reason()
        state = "failed" if reason or counts["failed"] else "ok"
        if state == "ok" and not counts["ok"]:
            state = "skipped"
        seconds = round(time.monotonic() - self.began, 1)
        found = {"name": self.stage.name, "state": state, "seconds": seconds, "reason": reason, **counts, "checks": checks}
        return found | ({"log": self._log(LINES)} if reason else {})

    def _reason(self) -> str:
        """Why it ended as no stage should."""
        if self.killed:
            return "it was not over in its time and was ended"
        if self.process.exitcode:
            return f"its process ended with {self.process.exitcode}: {self._log(1)}"
        return ""

    def _log(self, count: int) -> str:
        """The last lines that it printed."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return "\n".join((lines or ["without a word"])[-count:])


def preload() -> None:
    """Import all entries, so that every stage, a copy of this process, has them. Begins nothing of CUDA."""
    importlib.import_module("torch._dynamo")  # what optimizers load at their first step, in seconds
    for kind in ("architectures", "attacks", "defenses", "protocols"):
        for row in CATALOGS[kind].rows:
            with suppress(EntryError):  # stage 3 fails at it, and is the place to say so
                row.load()


def skipped(stage: Stage, why: str) -> Figures:
    """The row of a stage that was not begun."""
    return {"name": stage.name, "state": "skipped", "seconds": 0.0, "reason": why, "checks": []}


def run_group(stages: Sequence[Stage], setting: Setting, folder: Path, at_once: int, done: Callable[[Figures], None]) -> None:
    """Run stages that do not disturb each other, some at once; `done` is called with the row of each when it is over."""
    waiting = list(stages)
    running: list[Running] = []
    began = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                stage = waiting.pop(0)
                running.append(Running(stage, setting, folder, began + stage.share * (setting.end - began)))
            for one in [one for one in running if one.over()]:
                running.remove(one)
                done(one.row())
            time.sleep(0.1)
    finally:
        for one in running:
            one.kill()


def write(path: Path, content: Figures) -> None:
    """Write gpu.json by rename."""
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)
