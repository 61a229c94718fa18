"""The robustness campaign: experiments that damage, interrupt and crowd the program, and count what became of it.

`make reliability` runs them at full size and writes `docs/explanation/reliability.json`, from which
the table of `docs/explanation/reliability.md` is made; `tests/test_reliability.py` runs the same functions at a small size.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

BENCH = (sys.executable, "-P", "-c", "from unlearnable_bench.benchmark.cli import main; main()")
ROOT = Path(__file__).parent.parent.parent
SHOWN = 5  # wrong ends that are kept in words


@dataclass
class Tally:
    """What an experiment counted: trials, how they ended, and in words what ended as it must not."""

    trials: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)  # what was measured beside
    wrong: list[str] = field(default_factory=list)
    skipped: str = ""  # why the experiment could not be done here

    def end(self, name: str) -> None:
        self.trials += 1
        self.ends[name] += 1

    def bad(self, sentence: str) -> None:
        self.ends["wrong"] += 1
        if len(self.wrong) < SHOWN:
            self.wrong.append(sentence)

    def plain(self) -> dict[str, Any]:
        """The tally as JSON values."""
        return {
            "trials": self.trials,
            "ends": dict(sorted(self.ends.items())),
            "figures": self.figures,
            "wrong": self.wrong,
            "skipped": self.skipped,
        }


Experiment = Callable[[Path, int], Tally]  # an empty folder, and how many trials


def explore(tally: Tally, count: int, law: Callable[..., str], **strategies: Any) -> None:
    """Try a law on generated examples; it returns the name of an end, or raises where the program does what it must not."""

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(**strategies)
    def each(**example: Any) -> None:
        tally.end(law(**example))

    try:
        each()
    except Exception as error:
        for one in getattr(error, "exceptions", (error,)):
            tally.bad(f"{type(one).__name__}: {one}"[:500])


def sentence(error: BaseException) -> str:
    """Check that an error is one sentence for people, and return the kind of it."""
    text = str(error)
    assert text and "\n" not in text and "Traceback" not in text, f"{type(error).__name__}: {text!r}"
    return f"refused: {type(error).__name__}"


def commanded(*words: object) -> tuple[int, str, str]:
    """Run `bench` in this process; return exit code, standard output and standard error. A traceback is an error of ours."""
    from unlearnable_bench.benchmark.cli import main

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["bench", *map(str, words)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    finally:
        sys.argv = before
    raise AssertionError("main always exits")


def told(code: int, err: str) -> str:
    """Check how a command ended: done, or one sentence behind `bench:`; return the name of the end."""
    assert "Traceback" not in err, err[-2000:]
    if code in (0, 1, 3) and not re.search(r"^bench: (?!warning)", err, re.MULTILINE):
        return f"exit {code}"
    lines = [line for line in err.strip().splitlines() if line.startswith("bench: ") and not line.startswith("bench: warning")]
    assert len(lines) == 1 and err.strip().splitlines()[-1] == lines[0], f"exit {code}: {err[-2000:]}"
    return f"exit {code}, a sentence"


def process(*words: object, environment: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start `bench` as a process of its own, of low priority."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    command = ["nice", "-n", "10", *BENCH, *map(str, words)]
    return subprocess.Popen(command, env={**os.environ, **(environment or {})}, **pipes)


def ran(*words: object, timeout: float = 600, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run `bench` as a process of its own to its end."""
    done = process(*words, environment=environment)
    out, err = done.communicate(timeout=timeout)
    return done.returncode, out, err
