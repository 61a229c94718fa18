"""Asks a child process what only an import of entries can tell, so that planning itself never imports torch.

The child is `_child_main.py`. An entry may end or hold up its child, not the program.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from unlearnable_bench.registry import data
from unlearnable_bench.registry._child_main import DESCRIBED, DONE, ERROR, IMPORTING, NOW, error_line
from unlearnable_bench.registry._paths import cache_root
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.contract import EntryError, Paper
from unlearnable_bench.registry.entry import Entry, Field, check_history

SILENCE = float(os.environ.get("BENCH_IMPORT_SECONDS") or 60)  # seconds that the import of one entry may take


def failing(entries: Sequence[Entry], fresh: bool = False) -> dict[str, str]:
    """Import entries in a child process and return `kind:name:source` -> what went wrong.

    A success is remembered until the module's source changes, unless `fresh`; a failure is tried again each time.
    """
    errors: dict[str, str] = {}
    modules: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.error:
            errors[entry.key] = entry.error
        else:
            modules[entry.module].append(entry)
    notes = {_note_of_import(members): members for members in modules.values()}
    asked = {note: members for note, members in notes.items() if fresh or not note.exists()}
    failures = _one_by_one("import", list(chain.from_iterable(asked.values())))
    for note, members in asked.items():
        if failures.keys().isdisjoint(entry.key for entry in members):
            _remember(note, "")
    return errors | failures


def _note_of_import(members: Sequence[Entry]) -> Path:
    """Name the file that remembers that the entries of one module can be imported."""
    path, module = members[0].path, members[0].module
    content = path.read_bytes() if path else module.encode()
    names = " ".join(f"{entry.source}:{entry.attribute}" for entry in members)
    return cache_root() / "imports" / hashlib.sha256(content + names.encode() + sys.version.encode()).hexdigest()


def described(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries with what only their import tells: fields, facts, hooks, docstring, paper; or with what went wrong.

    Nothing of them runs in this process, which they could end, hold up or make print. Where such an import asks for other
    entries, those that have to be imported too are not there: else children would have children for ever.
    """
    if IMPORTING in os.environ:
        return [replace(entry, error="it is not looked at while another entry is imported") for entry in entries]
    answer = _one_by_one("describe", entries)
    return [_completed(entry, answer) for entry in entries]


def _completed(entry: Entry, answer: Mapping[str, str]) -> Entry:
    name = entry.key
    try:
        if DESCRIBED + name not in answer:
            raise EntryError(answer[name])
        told = ast.literal_eval(answer[DESCRIBED + name])
        whole = replace(
            entry,
            doc=told["doc"],
            paper=None if told["paper"] is None else Paper(**told["paper"]),
            fields=tuple(Field(*field) for field in told["fields"]),
            hooks=frozenset(told["hooks"]),
            facts=told["facts"],
        )
        check_history(whole)
    except Exception as error:  # what a plug-in states about itself may be anything
        return replace(entry, error=error_line(error))
    return whole


def _one_by_one(verb: str, entries: Sequence[Entry]) -> dict[str, str]:
    """Import all in one child, which takes seconds for torch alone; where it dies or hangs, go on behind the culprit."""
    answers: dict[str, str] = {}
    left = list(entries)
    while left:
        request = [[entry.kind, entry.name, entry.source, entry.module, entry.attribute] for entry in left]
        answer, end = _ask({verb: request}, SILENCE)
        now = answer.pop(NOW, left[0].key)
        answers |= answer
        if not end:
            break
        left = left[[entry.key for entry in left].index(now) :]
        culprit = left[0].module
        answers |= {entry.key: f"its import {end}" for entry in left if entry.module == culprit}
        left = [entry for entry in left if entry.module != culprit]
    return answers


def reasons(questions: Sequence[tuple[ConfiguredEntry, ConfiguredEntry]]) -> list[str]:
    """Ask entries whether they apply to datasets: pairs (attack or defense, dataset). '' means yes.

    Answers are remembered until the entry's source, its fields or the dataset's shape change.
    """

    requests: dict[Path, list[Any]] = {}
    notes: list[Path] = []
    for part, dataset in questions:
        notes.append(cache_root() / "applies" / _print(part, dataset))
        requests[notes[-1]] = [part.entry.kind, part.entry.name, dict(part.fields), *_dataset(dataset)]

    def ask(asked: list[Any]) -> dict[int, str]:
        answer = _answered("asking entries whether they apply", {"applies": asked})
        return dict.fromkeys(range(len(asked)), "") | _by_row(answer)

    answers = _remembered(requests, ask)
    return [answers[note] for note in notes]


def costs(defenses: Sequence[ConfiguredEntry]) -> list[float]:
    """Ask defenses what a training with them costs, in plain trainings; 1 where one cannot tell.

    Only those are asked that have a cost of their own. Answers are remembered until the entry's source or its fields change.
    """

    requests: dict[Path, list[Any]] = {}
    notes: list[Path] = []
    for part in defenses:
        notes.append(cache_root() / "costs" / _print(part))
        if "cost" in part.entry.hooks:
            requests[notes[-1]] = [part.entry.name, dict(part.fields)]

    def ask(asked: list[Any]) -> dict[int, str]:
        answer, _ = _ask({"costs": asked})
        return _by_row(answer)

    answers = _remembered(requests, ask)
    return [float(answers.get(note, "1")) for note in notes]


def _by_row(answer: Mapping[str, str]) -> dict[int, str]:
    """Return what an answer says of questions by their rows."""
    return {int(key): text for key, text in answer.items() if key.isdigit()}


def _remembered(requests: Mapping[Path, list[Any]], ask: Callable[[list[Any]], dict[int, str]]) -> dict[Path, str]:
    """Return answers by the notes that remember them: those of earlier, and those that `ask` gives now, which are noted."""
    answers = {note: note.read_text(encoding="utf-8") for note in requests if note.exists()}
    unknown = [note for note in requests if note not in answers]
    if unknown:
        for row, text in ask([requests[note] for note in unknown]).items():
            answers[unknown[row]] = text
            _remember(unknown[row], text)
    return answers


def _remember(note: Path, text: str) -> None:
    with suppress(OSError):  # of a cache: it is asked again
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(text, encoding="utf-8")


def decode(datasets: Sequence[ConfiguredEntry]) -> None:
    """Decode datasets that never were, before any work begins. EntryError, MissingDataError with what is wrong."""
    new = [part for part in datasets if data.info(part) is None]
    if new:
        names = ", ".join(part.text for part in new)
        _answered(f"decoding {names}", {"decode": [_dataset(part)[1:] for part in new]})
    for part in datasets:
        sentence = data.complaint(part)
        if sentence:
            raise EntryError(sentence)


def _print(part: ConfiguredEntry, *datasets: ConfiguredEntry) -> str:
    """Name the file that remembers an answer."""
    source = part.entry.path.read_bytes() if part.entry.path else part.entry.source.encode()
    question = [part.entry.kind, part.entry.name, dict(part.fields), *map(_dataset, datasets)]
    return hashlib.sha256(source + json.dumps(question, sort_keys=True).encode()).hexdigest()


def _dataset(part: ConfiguredEntry) -> list[Any]:
    known = data.info(part)
    return [asdict(known) if known else None, part.entry.name, part.name, dict(part.fields), str(part.root or "")]


def _answered(doing: str, request: dict[str, Any]) -> dict[str, str]:
    """Return a child's answers. EntryError where it ended before its work was done, or says what is wrong."""
    answer, end = _ask(request)
    if end:
        raise EntryError(f"{doing} {end}")
    if ERROR in answer:
        raise EntryError(answer[ERROR])
    return answer


def _ask(request: dict[str, Any], silence: float | None = None) -> tuple[dict[str, str], str]:
    """Return a child's answers, and how it ended where that was before its work was done, else ''.

    With `silence` it is stopped when it has written nothing for so many seconds. It inherits no pipe, which somebody whom
    it started could hold open.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer, said = Path(folder) / "answer.json", Path(folder) / "said"
        (Path(folder) / "request.json").write_text(json.dumps(request))
        command = [sys.executable, "-P", "-m", "unlearnable_bench.registry._child_main", str(answer)]
        with (Path(folder) / "request.json").open("rb") as asked, said.open("ab") as errors:
            process = subprocess.Popen(command, stdin=asked, stdout=subprocess.DEVNULL, stderr=errors)  # noqa: S603
            try:
                in_time = _await(process, answer, silence)
            finally:
                process.kill()  # does nothing where it has ended
                process.wait()
        found: dict[str, str] = json.loads(answer.read_text()) if answer.exists() else {}
        if found.pop(DONE, ""):
            return found, ""
        if not in_time:
            return found, f"did not end within {silence:g} s (BENCH_IMPORT_SECONDS allows more)"
        lines = said.read_text(errors="replace").strip().splitlines()
        return found, f"ended the process: {(lines or [f'exit status {process.returncode}'])[-1]}"


def _await(process: subprocess.Popen[bytes], answer: Path, silence: float | None) -> bool:
    """Wait for the end of a child; return whether it came before it was silent for too long after its first word."""
    if silence is None:
        process.wait()
        return True
    seen, since = 0, time.monotonic()
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
            return True
        stamp = answer.stat().st_mtime_ns if answer.exists() else 0
        if stamp != seen:
            seen, since = stamp, time.monotonic()
        elif seen and time.monotonic() - since > silence:
            return False
