"""The child that `child.py` asks, because only an import of entries tells.

Run as `python -P -m registry._child_main ANSWER`, with a JSON request on standard input, `{verb: questions}`. The answer is
written to the file ANSWER, because entries may print.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unlearnable_bench.registry import _vision, data
from unlearnable_bench.registry._from_import import imported
from unlearnable_bench.registry.catalog import CATALOGS, ConfiguredEntry
from unlearnable_bench.registry.contract import DataInfo, EntryError, NotApplicable
from unlearnable_bench.registry.entry import Entry, error_text

NOW, DONE, ERROR = "now", "done", "error"  # keys of an answer beside those of entries: what is imported; nothing is left to do
IMPORTING = "BENCH_IMPORTING"  # set in children that import entries
DESCRIBED = "told "  # before the key of an entry: its description, where the key alone is of what went wrong


class Answers:
    """The answers so far, and the file that the asker reads them from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: dict[str, str] = {}

    def write(self, key: str, text: str) -> None:
        """Write the answers so far, as a whole, and one more that is not kept."""
        scratch = Path(f"{self.path}.new")
        scratch.write_text(json.dumps(self.texts | {key: text}))
        scratch.replace(self.path)


def error_line(error: BaseException) -> str:
    """Write what an import raised, on one line."""
    return " ".join(error_text(error).split())


def _one_by_one(answers: Answers, questions: Sequence[Any], look: Callable[[Entry], dict[str, str]]) -> None:
    os.environ[IMPORTING] = "yes"
    _vision.prepare()  # before the first word: importing torch may take longer than a plug-in
    for question in questions:
        entry = Entry(*question)
        answers.write(NOW, entry.key)
        with suppress(OSError):  # a terminal, where somebody runs this by hand
            os.ftruncate(2, 0)  # so that last words are those of this entry
        try:
            answers.texts |= look(entry)
        except BaseException as error:  # whatever an import of somebody else's code raises is the finding
            answers.texts[entry.key] = error_line(error)


def _import(answers: Answers, questions: Sequence[Any]) -> None:
    def look(entry: Entry) -> dict[str, str]:
        entry.load()
        return {}

    _one_by_one(answers, questions, look)


def _describe(answers: Answers, questions: Sequence[Any]) -> None:
    _one_by_one(answers, questions, lambda entry: {DESCRIBED + entry.key: _description(imported(entry))})


def _description(entry: Entry) -> str:
    """Write what `child.described` reads: literals alone. EntryError for a default or a fact that is none."""
    paper = None if entry.paper is None else asdict(entry.paper)
    fields = [(f.name, f.kind, _literal(f.default), f.comment, f.hidden) for f in entry.fields]
    facts = {name: _literal(fact) for name, fact in entry.facts.items()}
    text = repr({"doc": entry.doc, "paper": paper, "fields": fields, "hooks": sorted(entry.hooks), "facts": facts})
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise EntryError(
            "a default or a fact of it is not a finite number, word, true, false, none or tuple of these"
        ) from None
    return text


def _literal(value: Any) -> Any:
    """Return a value without the types of other libraries: a float of numpy's as a float."""
    if isinstance(value, dict):
        return {_literal(key): _literal(own) for key, own in value.items()}
    if isinstance(value, tuple | list):
        return tuple(map(_literal, value))
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value)
    return value


def _applies(answers: Answers, questions: Sequence[Any]) -> None:
    for row, (kind, name, fields, info, *dataset) in enumerate(questions):
        try:
            known = _info(info) if info is not None else data.load(_dataset(*dataset)).train.info
            ConfiguredEntry(CATALOGS[kind].entry(name), name, fields).build().applies(known)
        except NotApplicable as why:
            answers.texts[str(row)] = f"{name}: {why}"
        except EntryError as error:
            answers.texts[ERROR] = str(error)
        except Exception:  # noqa: S110  (a cell of this entry fails the same way, and is the place to say so)
            pass


def _info(info: dict[str, Any]) -> DataInfo:
    return DataInfo(tuple(info["shape"]), info["num_classes"], info["size"], tuple(info["classes"]))


def _dataset(entry: str, name: str, fields: dict[str, Any], root: str) -> ConfiguredEntry:
    return ConfiguredEntry(CATALOGS["datasets"].entry(entry), name, fields, Path(root) if root else None)


def _costs(answers: Answers, questions: Sequence[Any]) -> None:
    for row, (name, fields) in enumerate(questions):
        with suppress(Exception):  # a cell of this entry fails the same way, and is the place to say so
            defense = ConfiguredEntry(CATALOGS["defenses"].entry(name), name, fields).build()
            answers.texts[str(row)] = str(float(defense.cost))


def _decode(answers: Answers, questions: Sequence[Any]) -> None:
    for dataset in questions:
        try:
            data.decoded(_dataset(*dataset))
        except EntryError as error:
            answers.texts[ERROR] = str(error)
        except Exception as error:  # a dataset of somebody else may raise anything; the asker says it in one sentence
            answers.texts[ERROR] = f"dataset {dataset[1]}: {type(error).__name__}: {error}"


VERBS = {"import": _import, "describe": _describe, "applies": _applies, "costs": _costs, "decode": _decode}


def _main() -> None:
    answers = Answers(Path(sys.argv[1]))
    for verb, questions in json.load(sys.stdin).items():
        VERBS[verb](answers, questions)
    answers.write(DONE, "yes")
    os._exit(0)  # whatever threads an entry has started


if __name__ == "__main__":
    _main()
