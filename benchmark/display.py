"""Shows a run: live on a terminal, elsewhere a plain line per finished set and cell. Never writes to standard output."""

from __future__ import annotations

import sys
from collections import deque
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

MADE = {"craft": "crafted", "purify": "purified"}


class Display:
    """Takes the events of a run; use as a context manager."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        self.total, self.done, self.failed = total, 0, 0
        self.failures: list[str] = []
        self.console = Console(stderr=True, quiet=quiet)
        self.live = self.console.is_terminal and not quiet
        self.doing: dict[int, str] = {}
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
            self._live = self._stack.enter_context(Live(self._draw(), console=self.console, refresh_per_second=5))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def __call__(self, event: dict[str, Any]) -> None:
        worker, what = event.get("worker", 0), event["event"]
        if what == "start":
            self.doing[worker] = f"{event['stage']} {event['label']}"
        elif what == "progress":
            accuracy = "" if event["accuracy"] is None else f"  {100 * event['accuracy']:.1f}%"
            self.doing[worker] = f"{event['stage']} {event['label']}  {event['done']}/{event['total']}{accuracy}"
        else:
            self.doing.pop(worker, None)
        if what == "made":
            self._told(f"{MADE[event['stage']]} {event['label']}  {event['seconds']:.1f} s")
        elif what == "done":
            self.done += 1
            self._finished(event["label"], said(event), event)
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

    def _told(self, line: str) -> None:
        if not self.live and not self.console.quiet:
            print(line, file=sys.stderr, flush=True)

    def _draw(self) -> Group:
        lines = [*self.recent, *(f"  {text}" for _, text in sorted(self.doing.items()))]
        return Group(Text("\n".join(lines)), self.bar)


def said(outcome: dict[str, Any]) -> str:
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
