"""Asks a child process what only an import of entries can tell, so that planning itself never imports torch.

Run as `python -P -m registry.child ANSWER`, with a JSON request on standard input; the answer is written to the file
ANSWER, because entries may print.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from registry import data
from registry._places import cache_root
from registry.catalog import CATALOGS, Entry, Part
from registry.contract import DataInfo, EntryError, NotApplicable


def failing(entries: Sequence[Entry], fresh: bool = False) -> dict[str, str]:
    """Import entries in a child process and return `kind:name:source` -> what went wrong.

    A success is remembered until the module's source changes, unless `fresh`; a failure is tried again each time.
    """
    memory = cache_root() / "imports"
    errors = {_name(e): e.error for e in entries if e.error}
    modules: dict[str, list[Entry]] = {}
    for entry in entries:
        if not entry.error:
            modules.setdefault(entry.module, []).append(entry)
    asked: dict[Path, list[Entry]] = {}
    for module, members in modules.items():
        path = members[0].path
        content = path.read_bytes() if path else module.encode()
        names = " ".join(f"{e.source}:{e.attribute}" for e in members)
        note = memory / hashlib.sha256(content + names.encode() + sys.version.encode()).hexdigest()
        if fresh or not note.exists():
            asked[note] = members
    found = _imports(list(asked.values()))
    for note, members in asked.items():
        if not any(_name(e) in found for e in members):
            try:
                memory.mkdir(parents=True, exist_ok=True)
                note.touch()
            except OSError:
                pass
    return errors | found


def _name(entry: Entry) -> str:
    return f"{entry.kind}:{entry.name}:{entry.source}"


def _imports(modules: list[list[Entry]]) -> dict[str, str]:
    """Import all in one child, which takes seconds for torch alone; if that dies, look for the culprit by halves."""
    members = [e for module in modules for e in module]
    if not members:
        return {}
    answer = _ask({"import": [[e.kind, e.name, e.source, e.module, e.attribute] for e in members]})
    if isinstance(answer, dict):
        return answer
    if len(modules) == 1:
        return {_name(e): f"its import ended the process: {answer}" for e in members}
    half = len(modules) // 2
    return _imports(modules[:half]) | _imports(modules[half:])


def reasons(questions: Sequence[tuple[Part, Part]]) -> list[str]:
    """Ask entries whether they apply to data sets: pairs (attack or defense, data set). '' means yes.

    Answers are remembered until the entry's source, its fields or the data set's shape change.
    """
    memory = cache_root() / "applies"
    notes = [memory / _print(part, dataset) for part, dataset in questions]
    open_ = [row for row, note in enumerate(notes) if not note.exists()]
    if open_:
        asked = [[p.entry.kind, p.entry.name, dict(p.fields), *_dataset(d)] for p, d in (questions[row] for row in open_)]
        answer = _ask({"applies": asked})
        if isinstance(answer, str):
            raise EntryError(f"asking entries whether they apply ended the process: {answer}")
        if "error" in answer:
            raise EntryError(answer["error"])
        answers = {row: answer.get(str(number), "") for number, row in enumerate(open_)}
    else:
        answers = {}
    for row, text in answers.items():
        try:
            memory.mkdir(parents=True, exist_ok=True)
            (memory / _print(*questions[row])).write_text(text, encoding="utf-8")
        except OSError:
            break
    return [answers[row] if row in answers else note.read_text(encoding="utf-8") for row, note in enumerate(notes)]


def costs(defenses: Sequence[Part]) -> list[float]:
    """Ask defenses what a training with them costs, in plain trainings; 1 where one cannot tell.

    Only those are asked that have a cost of their own. Answers are remembered until the entry's source or its fields change.
    """
    memory = cache_root() / "costs"
    notes = {row: memory / _print(part) for row, part in enumerate(defenses) if "cost" in part.entry.hooks}
    found = {row: note.read_text(encoding="utf-8") for row, note in notes.items() if note.exists()}
    unknown = [row for row in notes if row not in found]
    if unknown:
        answer = _ask({"costs": [[defenses[row].entry.name, dict(defenses[row].fields)] for row in unknown]})
        told = answer if isinstance(answer, dict) else {}
        for number, row in enumerate(unknown):
            if str(number) in told:
                found[row] = told[str(number)]
                _remember(notes[row], found[row])
    return [float(found.get(row, "1")) for row in range(len(defenses))]


def _remember(note: Path, text: str) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(text, encoding="utf-8")
    except OSError:  # of a cache: it is asked again
        return


def decode(datasets: Sequence[Part]) -> None:
    """Decode data sets that never were, before any work begins. EntryError, MissingDataError with what is wrong."""
    open_ = [part for part in datasets if data.info(part) is None]
    if open_:
        answer = _ask({"decode": [_dataset(part)[1:] for part in open_]})
        sentence = answer if isinstance(answer, str) else answer.get("error", "")
        if sentence:
            raise EntryError(sentence)
    for part in datasets:
        if sentence := data.complaint(part):
            raise EntryError(sentence)


def _print(part: Part, *datasets: Part) -> str:
    """Name the file that remembers an answer."""
    source = part.entry.path.read_bytes() if part.entry.path else part.entry.source.encode()
    question = [part.entry.kind, part.entry.name, dict(part.fields), *map(_dataset, datasets)]
    return hashlib.sha256(source + json.dumps(question, sort_keys=True).encode()).hexdigest()


def _dataset(part: Part) -> list[Any]:
    known = data.info(part)
    return [asdict(known) if known else None, part.entry.name, part.name, dict(part.fields), str(part.root or "")]


def _ask(request: dict[str, Any]) -> dict[str, str] | str:
    """Return the child's answer, or its last words if it died."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-P", "-m", "registry.child", str(answer)]
        done = subprocess.run(command, input=json.dumps(request), text=True, capture_output=True, check=False)  # noqa: S603
        if answer.exists():
            found: dict[str, str] = json.loads(answer.read_text())
            return found
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def _found(entry: str, name: str, fields: dict[str, Any], root: str) -> Part:
    return Part(CATALOGS["datasets"].entry(entry), name, fields, Path(root) if root else None)


def _main() -> None:
    request = json.load(sys.stdin)
    answer: dict[str, str] = {}
    for kind, name, source, module, attribute in request.get("import", ()):
        try:
            Entry(kind, name, source, module, attribute).load()
        except Exception as error:  # whatever an import of somebody else's code raises is the finding
            cause = error.__cause__ or error
            answer[f"{kind}:{name}:{source}"] = f"{type(cause).__name__}: {cause}"
    for row, (kind, name, fields, info, *dataset) in enumerate(request.get("applies", ())):
        try:
            if info is None:
                known = data.load(_found(*dataset)).train.info
            else:
                known = DataInfo(tuple(info["shape"]), info["num_classes"], info["size"], tuple(info["classes"]))
            Part(CATALOGS[kind].entry(name), name, fields).build().applies(known)
        except NotApplicable as why:
            answer[str(row)] = f"{name}: {why}"
        except EntryError as error:
            answer["error"] = str(error)
        except Exception:  # noqa: S110  (a cell of this entry fails the same way, and is the place to say so)
            pass
    for row, (name, fields) in enumerate(request.get("costs", ())):
        with suppress(Exception):  # a cell of this entry fails the same way, and is the place to say so
            answer[str(row)] = str(float(Part(CATALOGS["defenses"].entry(name), name, fields).build().cost))
    for dataset in request.get("decode", ()):
        try:
            data.decoded(_found(*dataset))
        except EntryError as error:
            answer["error"] = str(error)
        except Exception as error:  # a data set of somebody else may raise anything; the asker says it in one sentence
            answer["error"] = f"data set {dataset[1]}: {type(error).__name__}: {error}"
    Path(sys.argv[1]).write_text(json.dumps(answer))


if __name__ == "__main__":
    _main()
