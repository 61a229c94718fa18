"""The program on a GPU, unattended: checks against the CPU, a table of speeds, then records until the time is over.

`make gpu MINUTES=9 OUT=DIR` runs it. `gpu.json` in that folder has a row for every stage, `records-<n>.tar` what was measured;
both are written after every stage, so that a machine that is taken away leaves what it found. docs/how-to/gpu.md says
what the checks prove and how far the CPU and the GPU may lie apart. With `--device cpu --tiny` the same
code runs without a GPU, in CI.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearnable_bench.results import Workspace

ROOT = Path(__file__).parent.parent.parent
MARGIN = 20.0  # seconds before the time is over at which the last worker is told to stop

Figures = dict[str, Any]  # numbers and words, as JSON has them


class DeviationError(AssertionError):
    """What was found is not what was expected; the text has both."""

    def __init__(self, sentence: str, figures: Figures | None = None) -> None:
        super().__init__(sentence)
        self.figures = figures or {}


@dataclass(frozen=True)
class Setting:
    """What a run of the script was told."""

    device: str  # cuda; or cpu, where the script itself is tried
    tiny: bool  # few and small cases
    out: Path  # where gpu.json and the archives go
    space: Workspace  # where cells are run
    past: Path  # records of a CPU to compare with
    workers: int  # processes that share the cells
    end: float  # by time.monotonic(): when everything must be over

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def margin(self) -> float:
        """Seconds that packing and leaving may take."""
        return 1.0 if self.tiny else MARGIN

    @property
    def seconds_left(self) -> float:
        """Seconds in which cells may still run."""
        return self.end - self.margin - time.monotonic()

    def some(self, everything: list[str], few: tuple[str, ...]) -> list[str]:
        """Return all names, or where the script is tried on small cases those of `few`."""
        return [name for name in everything if name in few] if self.tiny else everything


@dataclass
class Notes:
    """What a stage has found, a line of a file each, so that one that is killed leaves what it had."""

    path: Path
    end: float  # by time.monotonic(): when the stage must be over
    failed: int = field(default=0, init=False)

    def check(self, name: str, body: Callable[[], Figures]) -> None:
        """Run a check and write down its figures, or what went wrong. Whatever it raises is the finding.

        An error that the GPU does not survive ends the stage: all that followed would fail too.
        """
        from unlearnable_bench.benchmark.work import failure_kind

        start, lost = time.monotonic(), False
        if start > self.end:
            self._write({"name": name, "state": "skipped", "detail": "the time of the stage was over"})
            return
        try:
            row: Figures = {"name": name, "state": "ok", "figures": body()}
        except DeviationError as error:
            row = {"name": name, "state": "failed", "detail": str(error), "figures": error.figures}
        except Exception as error:
            lost = failure_kind(error) == "gpu-error"
            row = {"name": name, "state": "failed", "detail": f"{type(error).__name__}: {error}"[:500]}
        self.failed += row["state"] == "failed"
        self._write(row | {"seconds": round(time.monotonic() - start, 3)})
        if lost:
            raise SystemExit("the GPU reported an error, the rest of the stage was left out")

    def skip(self, name: str, why: str) -> None:
        """Say why something was not checked."""
        self._write({"name": name, "state": "skipped", "detail": why})

    def _write(self, row: Figures) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read_notes(path: Path) -> list[Figures]:
    """Return what a stage has written so far; a line that was cut by its death is left out."""
    found = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    for line in lines:
        if line.endswith("\n"):
            found.append(json.loads(line))
    return found


def must(holds: bool, sentence: str, figures: Figures | None = None) -> None:
    """Raise DeviationError with a sentence unless something holds."""
    if not holds:
        raise DeviationError(sentence, figures)
