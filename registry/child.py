"""Asks a child process what only an import of entries can tell, so that planning itself never imports torch.

Run as `python -P -m registry.child ANSWER`, with a JSON request on standard input; the answer is written to the file
ANSWER, because entries may print. An entry may end or hold up its child, not the program.
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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from registry import _vision, data
from registry._from_import import imported
from registry._places import cache_root
from registry.catalog import CATALOGS, Part
from registry.contract import DataInfo, EntryError, NotApplicable, Paper
from registry.entry import Entry, Field, check_history

SILENCE = float(os.environ.get("BENCH_IMPORT_SECONDS") or 60)  # seconds that the import of one entry may take
NOW, DONE = "now", "done"  # keys of an answer beside those of entries: what is being imported; nothing is left to do
IMPORTING = "BENCH_IMPORTING"  # set in children that import entries
TOLD = "told "  # before the key of an entry: its description, where the key alone is of what went wrong


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
    found = _one_by_one("import", [e for members in asked.values() for e in members])
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


def described(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries with what only their import tells: fields, facts, hooks, docstring, paper; or with what went wrong.

    Nothing of them runs in this process, which they could end, hold up or make print. Where such an import asks for other
    entries, those that have to be imported too are not there: else children would have children for ever.
    """
    if IMPORTING in os.environ:
        return [replace(entry, error="it is not looked at while another entry is imported") for entry in entries]
    answer, found = _one_by_one("describe", entries), []
    for entry in entries:
        try:
            if TOLD + _name(entry) not in answer:
                raise EntryError(answer[_name(entry)])
            told = ast.literal_eval(answer[TOLD + _name(entry)])
            paper = None if told["paper"] is None else Paper(**told["paper"])
            fields = tuple(Field(*field) for field in told["fields"])
            hooks = frozenset(told["hooks"])
            whole = replace(entry, doc=told["doc"], paper=paper, fields=fields, hooks=hooks, facts=told["facts"])
            check_history(whole)
        except Exception as error:  # what a plug-in states about itself may be anything
            whole = replace(entry, error=_said(error))
        found.append(whole)
    return found


def _one_by_one(verb: str, entries: Sequence[Entry]) -> dict[str, str]:
    """Import all in one child, which takes seconds for torch alone; where it dies or hangs, go on behind the culprit."""
    found: dict[str, str] = {}
    left = list(entries)
    while left:
        answer, end = _ask({verb: [[e.kind, e.name, e.source, e.module, e.attribute] for e in left]}, SILENCE)
        now = answer.pop(NOW, _name(left[0]))
        found |= answer
        if not end:
            break
        place = next(place for place, entry in enumerate(left) if _name(entry) == now)
        culprit = left[place].module
        found |= {_name(e): f"its import {end}" for e in left[place:] if e.module == culprit}
        left = [e for e in left[place:] if e.module != culprit]
    return found


def _description(entry: Entry) -> str:
    """Write what `described` reads: literals alone. EntryError for a default or a fact that is none."""
    paper = None if entry.paper is None else asdict(entry.paper)
    fields = [(f.name, f.kind, _literal(f.default), f.comment, f.hidden) for f in entry.fields]
    facts = {name: _literal(fact) for name, fact in entry.facts.items()}
    text = repr({"doc": entry.doc, "paper": paper, "fields": fields, "hooks": sorted(entry.hooks), "facts": facts})
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise EntryError("a default or a fact of it is no finite number, word, true, false, none or tuple of these") from None
    return text


def _literal(value: Any) -> Any:
    """Return a value without the types of other libraries: a float of numpy's as a float."""
    if isinstance(value, dict):
        return {_literal(key): _literal(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return tuple(map(_literal, value))
    plain = next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), None)
    return plain(value) if plain is not None else value


def reasons(questions: Sequence[tuple[Part, Part]]) -> list[str]:
    """Ask entries whether they apply to data sets: pairs (attack or defense, data set). '' means yes.

    Answers are remembered until the entry's source, its fields or the data set's shape change.
    """
    memory = cache_root() / "applies"
    notes = [memory / _print(part, dataset) for part, dataset in questions]
    open_ = [row for row, note in enumerate(notes) if not note.exists()]
    if open_:
        asked = [[p.entry.kind, p.entry.name, dict(p.fields), *_dataset(d)] for p, d in (questions[row] for row in open_)]
        answer, end = _ask({"applies": asked})
        if end:
            raise EntryError(f"asking entries whether they apply {end}")
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
        told, _ = _ask({"costs": [[defenses[row].entry.name, dict(defenses[row].fields)] for row in unknown]})
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
        answer, end = _ask({"decode": [_dataset(part)[1:] for part in open_]})
        if end:
            raise EntryError(f"decoding {', '.join(part.text for part in open_)} {end}")
        if "error" in answer:
            raise EntryError(answer["error"])
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


def _ask(request: dict[str, Any], silence: float | None = None) -> tuple[dict[str, str], str]:
    """Return a child's answers, and how it ended where that was before its work was done, else ''.

    With `silence` it is stopped when it has written nothing for so many seconds. It inherits no pipe, which somebody whom
    it started could hold open.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer, said = Path(folder) / "answer.json", Path(folder) / "said"
        (Path(folder) / "request.json").write_text(json.dumps(request))
        command = [sys.executable, "-P", "-m", "registry.child", str(answer)]
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
    seen, since = 0, time.monotonic()
    while True:
        try:
            process.wait(0.5 if silence is not None else None)
            return True
        except subprocess.TimeoutExpired:
            stamp = answer.stat().st_mtime_ns if answer.exists() else 0
            if stamp != seen:
                seen, since = stamp, time.monotonic()
            if silence is not None and seen and time.monotonic() - since > silence:
                return False


def _found(entry: str, name: str, fields: dict[str, Any], root: str) -> Part:
    return Part(CATALOGS["datasets"].entry(entry), name, fields, Path(root) if root else None)


def _main() -> None:
    request = json.load(sys.stdin)
    answer: dict[str, str] = {}
    for verb in ("import", "describe"):
        if verb in request:
            os.environ[IMPORTING] = "yes"
            _vision.prepare()  # before the first word: importing torch may take longer than a plug-in
        for entry in (Entry(*asked) for asked in request.get(verb, ())):
            _write(answer | {NOW: _name(entry)})
            with suppress(OSError):  # a terminal, where somebody runs this by hand
                os.ftruncate(2, 0)  # so that last words are those of this entry
            try:
                if verb == "describe":
                    answer[TOLD + _name(entry)] = _description(imported(entry))
                else:
                    entry.load()
            except BaseException as error:  # whatever an import of somebody else's code raises is the finding
                answer[_name(entry)] = _said(error)
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
    _write(answer | {DONE: "yes"})
    os._exit(0)  # whatever threads an entry has started


def _said(error: BaseException) -> str:
    """What an import raised, on one line."""
    cause = error.__cause__ or error
    text = str(cause) if isinstance(cause, EntryError) else f"{type(cause).__name__}: {cause}"
    return " ".join(text.split())


def _write(answer: dict[str, str]) -> None:
    """Write the answers so far, as a whole."""
    scratch = Path(f"{sys.argv[1]}.new")
    scratch.write_text(json.dumps(answer))
    scratch.replace(sys.argv[1])


if __name__ == "__main__":
    _main()
