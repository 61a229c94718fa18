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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from registry import data
from registry.catalog import CATALOGS, Entry, Part
from registry.contract import DataInfo, NotApplicable


def failing(entries: Sequence[Entry], fresh: bool = False) -> dict[str, str]:
    """Import entries, one child per module, and return `kind:name:source` -> what went wrong.

    A success is remembered until the module's source changes, unless `fresh`; a failure is tried again each time.
    """
    memory = data.cache_root() / "imports"
    errors = {f"{e.kind}:{e.name}:{e.source}": e.error for e in entries if e.error}
    modules: dict[str, list[Entry]] = {}
    for entry in entries:
        if not entry.error:
            modules.setdefault(entry.module, []).append(entry)
    for module, members in modules.items():
        path = members[0].path
        content = path.read_bytes() if path else module.encode()
        names = " ".join(f"{e.source}:{e.attribute}" for e in members)
        note = memory / hashlib.sha256(content + names.encode() + sys.version.encode()).hexdigest()
        if note.exists() and not fresh:
            continue
        request = {"import": [[e.kind, e.name, e.source, e.module, e.attribute] for e in members]}
        found = _ask(request, [f"{e.kind}:{e.name}:{e.source}" for e in members])
        errors |= found
        if not found:
            try:
                memory.mkdir(parents=True, exist_ok=True)
                note.touch()
            except OSError:
                pass
    return errors


def reasons(questions: Sequence[tuple[Part, Part]]) -> list[str]:
    """Ask entries whether they apply to data sets: pairs (attack or defense, data set). '' means yes."""
    asked = [
        [part.entry.kind, part.entry.name, dict(part.fields), *_dataset(dataset)] for part, dataset in questions
    ]
    if not asked:
        return []
    answer = _ask({"applies": asked}, [])
    return [answer.get(str(row), "") for row in range(len(asked))]


def _dataset(part: Part) -> list[Any]:
    known = data.info(part)
    return [asdict(known) if known else None, part.entry.name, part.name, dict(part.fields), str(part.root or "")]


def _ask(request: dict[str, Any], names: list[str]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-P", "-m", "registry.child", str(answer)]
        done = subprocess.run(command, input=json.dumps(request), text=True, capture_output=True, check=False)  # noqa: S603
        if answer.exists():
            found: dict[str, str] = json.loads(answer.read_text())
            return found
    tail = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return {name: f"its import ended the process: {tail}" for name in names} or {"0": tail}


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
        if info is None:
            entry, shown, own, root = dataset
            part = Part(CATALOGS["datasets"].entry(entry), shown, own, Path(root) if root else None)
            known = data.load(part).train.info
        else:
            known = DataInfo(tuple(info["shape"]), info["num_classes"], info["size"], tuple(info["classes"]))
        try:
            Part(CATALOGS[kind].entry(name), name, fields).build().applies(known)
        except NotApplicable as why:
            answer[str(row)] = f"{name}: {why}"
    Path(sys.argv[1]).write_text(json.dumps(answer))


if __name__ == "__main__":
    _main()
