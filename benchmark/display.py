"""Shows a run: live on a terminal, elsewhere a plain line per finished set and cell. Never writes to standard output."""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

MADE = {"craft": "crafted", "purify": "purified"}
LINE = 60.0  # seconds between two lines of progress where there is no terminal
FIGURES = {
    "images_per_second": "{:.0f} images/s",
    "loss": "loss {:.3f}",
    "accuracy": "test accuracy {:.1%}",
    "judged": "judging {:.0%}",
}
PROGRESS = ("stage", "cell", "label", "done", "total", "seconds_left", "epoch", "epochs", *FIGURES)  # keys of an event


class Display:
    """Takes the events of a run, or of crafting alone, without cells (`total` 0); use as a context manager."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        self.total, self.done, self.failed = total, 0, 0
        self.failures: list[str] = []
        self.console = Console(stderr=True, quiet=quiet)
        self.live = self.console.is_terminal and not quiet
        self.doing: dict[int | str, str] = {}  # by worker
        self.lines: dict[int | str, float] = {}  # when the last line about a worker was printed
        self.recent: deque[str] = deque(maxlen=5)
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.bar = Progress(TextColumn("cells"), *columns, console=self.console)
        self.task = self.bar.add_task("cells", total=total, note="")
        self._stack = ExitStack()

    def __enter__(self) -> Display:
        if self.live:
            self._live = self._stack.enter_context(
                Live(self._draw(), console=self.console, refresh_per_second=5, transient=not self.total)
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def __call__(self, event: dict[str, Any]) -> None:
        worker, what = event.get("worker", 0), event["event"]
        if what == "start":
            self.doing[worker] = f"{event['stage']} {event['label']}"
            self.lines[worker] = time.monotonic()
        elif what == "progress":
            self.doing[worker] = progress_text(event)
            self._told_once_a_minute(worker)
        else:
            self.doing.pop(worker, None)
            self.lines.pop(worker, None)
        if what == "made":
            self._told(f"{MADE[event['stage']]} {event['label']}  {event['seconds']:.1f} s")
        elif what == "done":
            self.done += 1
            self._finished(event["label"], outcome_text(event), event)
        elif what == "failed":
            self.failed += 1
            self.failures.append(f"{event['label']}: {event['kind']}: {event['message']}")
            self._finished(event["label"], f"FAILED {event['kind']}: {event['message']}", event)
        if self.live:
            self._live.update(self._draw())

    def _finished(self, label: str, result: str, event: dict[str, Any]) -> None:
        seconds = f"  {event['seconds']:.1f} s" if "seconds" in event else ""
        line = f"[{self.done + self.failed}/{self.total}] {label}  {result}{seconds}"
        self.recent.append(line)
        note = f"{self.failed} failed" if self.failed else ""
        self.bar.update(self.task, completed=self.done + self.failed, note=note)
        self._told(line)

    def _told_once_a_minute(self, worker: int | str) -> None:
        now = time.monotonic()
        if now - self.lines.setdefault(worker, now) >= LINE:
            self.lines[worker] = now
            self._told(self.doing[worker])

    def _told(self, line: str) -> None:
        if not self.live and not self.console.quiet:
            print(line, file=sys.stderr, flush=True)

    def _draw(self) -> Group:
        doing = sorted(self.doing.items(), key=lambda item: str(item[0]))
        lines = Text("\n".join([*self.recent, *(f"  {text}" for _, text in doing)]))
        return Group(lines, self.bar) if self.total else Group(lines)


def progress_text(event: dict[str, Any]) -> str:
    """Write how far a piece of work is, as `train <cell>  epoch 2/5, step 130/490, 812 images/s, loss 1.234, 4 min left`."""
    where = f"{event['done']}/{event['total']}"
    if event.get("epochs"):
        where = f"epoch {event['epoch']}/{event['epochs']}, step {where}"
    figures = [text.format(event[name]) for name, text in FIGURES.items() if event.get(name) is not None]
    left = [f"{duration(event['seconds_left'])} left"] if event.get("seconds_left") else []
    return f"{event['stage']} {event['label']}  {', '.join([where, *figures, *left])}"


def outcome_text(outcome: dict[str, Any]) -> str:
    """Write what came of a cell: an accuracy, the first figures of an analysis, or why there is none."""
    if "figures" in outcome:
        few = [f"{name} {value:.4g}" for name, value in list(outcome["figures"].items())[:4]]
        return ", ".join(few) + ("" if len(few) == len(outcome["figures"]) else ", ...")
    return f"{100 * outcome['accuracy']:5.1f}%" if "accuracy" in outcome else str(outcome["reason"])


def duration(seconds: float) -> str:
    """Write seconds as people say them: 42 s, 3 min, 5.2 h."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
