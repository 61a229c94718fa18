"""The reference pages: what the program itself says of its commands, files, entries and specs."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

import typer.main

from unlearnable_bench.benchmark.cli import app
from unlearnable_bench.benchmark.failures import FAILURE_RULES
from unlearnable_bench.registry import EntryError, training
from unlearnable_bench.registry import contract as entry_contract
from unlearnable_bench.registry.spec import Named, parse, write_value
from unlearnable_bench.results import submission
from unlearnable_bench.results.cell import Cell, Part
from unlearnable_bench.results.record import Curve, Failure, Metrics, PoisonNote, Record
from unlearnable_bench.results.reference import Mark, Source
from unlearnable_bench.results.table_file import AxisValue, Block, Change, TableFile
from writers.source import SourceClass, SourceField, SourceMethod, aliases_of, class_of, classes_of

CONTRACT = Path(inspect.getfile(entry_contract))
TRAINING = Path(inspect.getfile(training))
RECORD_FORMS = (Record, Cell, Part, Metrics, Curve, PoisonNote, Failure)
TABLE_FORMS = (TableFile, AxisValue, Change, Block, Mark)
OF_TABLES = {  # keys of table files whose source has no comment
    "title": "what the table shows; printed above it",
    "note": "sentences printed below the table: what its title does not say",
    "protocol": "the training recipe",
    "dataset": "the dataset",
    "attack": "the attack, or a chain of attacks",
    "defense": "the defense, or a chain of defenses",
    "architecture": "the network of the victim",
    "seed": "whole numbers from 0",
    "ratio": "fraction of the training images that is poisoned, 0..1",
    "part": "what the victim trains on: `all` images, or the `clean` rest alone",
    "measure": "what is measured: `accuracy`, or an analysis",
    "rows": "the axes whose values are rows, outer first",
    "columns": "the axes whose values are columns, outer first",
    "cell": "`[[cell]]`: cells that differ from what their row and column say",
    "marks": "`[marks.a]`: why a published value marked `[a]` is not taken at face value",
    "params": "the condition that the label stands for, `key=value;...`",
    "label": "what is printed",
    "metric": "the figure that is printed, such as `test_acc`",
    "better": "`high` or `low`: which values the authors of the table want",
    "aggregate": "nothing is run: the value is computed from other cells of the table",
    "of": "the axis over which the aggregate is taken",
    "base": "the label that `difference` and `ratio` start from",
    "to": "the label, on the axis `of`, that is compared with `base`",
    "at": "axis -> labels: the rows and columns that change",
    "quality": "`ok`, `inferred`, `suspect`, or `copied` from another paper; a verdict rests on `ok` values alone",
    "short": "the name of the paper on pages",
    "authors": "as printed",
    "venue": "where it was published",
    "year": "of publication",
    "url": "a page about the paper",
    "bibtex": "its BibTeX entry",
    "Source.title": "of the paper",
    "Mark.note": "why the value is not taken at face value",
    "names": "`[names]`: our entry -> what the paper calls it",
}
OF_RECORDS = {  # keys of records whose source has no comment
    "format": "the version of this form",
    "id": "the id of the cell, and the name of the file",
    "cell": "what was to be measured",
    "state": "`done`, or `not-applicable` with a reason",
    "reason": "why the cell does not apply",
    "metrics": "what was measured",
    "device": "where the victim was trained: `cpu: ...` or `cuda: ...`",
    "dataset_fingerprint": "sha256 of the images and labels of the dataset",
    "poison": "the poison that the victim was trained on",
    "protocol": "the training recipe",
    "dataset": "the dataset",
    "attack": "the attack; a chain has several parts",
    "defense": "the defense; a chain has several parts",
    "architecture": "the network of the victim",
    "seed": "from which the seeds of all stages are hashed",
    "measure": "`accuracy`, or an analysis",
    "name": "the name of the entry",
    "fields": "every field of the entry with its value",
    "text": "the spec as people write it",
    "curve": "per epoch",
    "train_acc": "accuracy on the training batches",
    "train_loss": "mean loss on the training batches",
    "test_acc": "accuracy on the clean test set",
    "test_loss": "mean loss on the clean test set",
    "checksum": "sha256 of images and labels",
    "norm": "the norm of the budget",
    "spent": "the largest distance of any image from its clean one, in that norm",
    "allowed": "the largest distance that the budget allows",
    "message": "what went wrong, in a sentence",
    "finished": "UTC, ISO 8601",
    "attempts": "how often the cell was tried",
}
TYPES = {  # words for types that are names of the source
    "Specs": "one or more specs",
    "Seeds": "one or more numbers",
    "Ratios": "one or more numbers",
    "Shares": "one or more of all, clean",
    "Axis": "axis",
    "FiniteFloat": "float",
    "dict[str, Plain]": "dict of plain values",
}
SPECS = (  # what a reader may write, simple first
    "none",
    "lsp",
    "lsp(norm=l2,epsilon=2.2)",
    "em(epsilon=8/255,surrogate=resnet18)",
    "ortho-proj(center=true)",
    "lsp+swap(mode=inter)",
    "jpeg(quality=10)+grayscale",
    "fast@0.5",
    "ops-em(noise=em-class(epsilon=4/255))",
    "folder:/data/birds(size=32)",
    "avatar-selftrained",
)
WRONG_SPECS = ("lsp(epsilon)", "lsp(epsilon=1", "fast@0", "lsp(epsilon=1,epsilon=2)", "lsp(epsilon=8/0)")


def commands() -> str:
    """Return every command with its help, arguments and options."""
    return "\n".join(starmap(_command, _walk(typer.main.get_command(app), "bench")))


def _walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from _walk(child, f"{path} {name}")
    if not children:
        yield path, command


def _command(path: str, command: Any) -> str:
    context = command.make_context(path, [], resilient_parsing=True)
    rows = [_parameter(parameter, context) for parameter in command.params]
    help_text = inspect.cleandoc(command.help).replace("<", "&lt;")
    return f"## `{path}`\n\n{help_text}\n\n{_table(('argument or option', 'what it does', 'default'), rows)}"


def _parameter(parameter: Any, context: Any) -> tuple[str, str, str]:
    record = parameter.get_help_record(context)
    name = record[0] if record else parameter.name.upper()
    default = parameter.default
    shown = "" if str(default) in ("None", "False", "[]") else f"`{default}`"
    return f"`{name}`", parameter.help or "", shown


def failures() -> str:
    """Return the kinds of failures of a cell, and what `bench run` does about each by itself."""
    rows = [(f"{kind}", rule.meaning, rule.then) for kind, rule in FAILURE_RULES.items()]
    return _table(("kind", "what happened", "what `bench run` does"), rows)


def table_file() -> str:
    """Return the keys of a table file and of `paper.toml`."""
    return _forms((*TABLE_FORMS, Source), OF_TABLES)


def record() -> str:
    """Return the fields of a record and of a failure."""
    return _forms(RECORD_FORMS, OF_RECORDS)


def contract() -> str:
    """Return the classes that entries derive from or are given, with fields and methods; then the signatures of functions."""
    classes = map(_contract_class, [*classes_of(CONTRACT), *classes_of(TRAINING)])
    functions = map(partial(_method, heading="##"), aliases_of(CONTRACT))
    return "\n".join([*classes, *functions])


def specs() -> str:
    """Return specs and what the program reads, then specs that it refuses with what it says."""
    read = [(f"`{text}`", " then ".join(map(_named, parse(text)))) for text in SPECS]
    refused = [(f"`{text}`", _refusal(text)) for text in WRONG_SPECS]
    return _table(("spec", "what the program reads"), read) + "\n" + _table(("refused", "what it says"), refused)


def schemas() -> Mapping[str, str]:
    """Return the JSON Schemas of files, by the names of the files that hold them."""
    return {"record.schema.json": _json(Record.model_json_schema()), "submission.schema.json": _json(submission.schema())}


def _json(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _named(named: Named) -> str:
    fields = ", ".join(f"`{key}` = {write_value(value)}" for key, value in named.given.items())
    scale = f", {named.scale:g} times the epochs" if named.scale != 1 else ""
    return f"entry `{named.name}`" + (f" with {fields}" if fields else "") + scale


def _refusal(text: str) -> str:
    try:
        parse(text)
    except EntryError as error:
        return str(error)
    raise AssertionError(f"{text} is not refused")


def _forms(forms: Iterable[type], unsaid: Mapping[str, str]) -> str:
    return "\n".join(_form(class_of(form), unsaid) for form in forms)


def _form(found: SourceClass, unsaid: Mapping[str, str]) -> str:
    """A section about a form; KeyError names a key that neither its source nor `unsaid` explains."""
    rows = [_row(field, _explained(found.name, field, unsaid)) for field in _keys(found)]
    inherited = [f"It also has every key of {base}." for base in found.bases if not base.startswith("_")]
    prose = "\n\n".join([_prose(found.doc), *inherited])
    return f"## {found.name}\n\n{prose}\n\n{_table(('key', 'type', 'default', 'what it is'), rows)}"


def _explained(form: str, field: SourceField, unsaid: Mapping[str, str]) -> str:
    said = unsaid.get(f"{form}.{field.name}") or _escape(field.comment)
    return said or unsaid[field.name]


def _keys(found: SourceClass) -> list[SourceField]:
    """The fields that a file may hold: all but those of the class itself."""
    return [field for field in found.fields if not field.type.startswith("ClassVar")]


def _row(field: SourceField, meaning: str) -> tuple[str, str, str, str]:
    return f"`{field.name}`", _type(field.type), _default(field), meaning


def _type(text: str) -> str:
    """A type in the words of a reader."""
    if text.startswith("dict[Axis"):
        return "axis -> one or more labels"
    if "_as_list" in text:
        inner = text.removeprefix("Annotated[list[").partition("]")[0]
        return f"one or more of {inner.removeprefix('Annotated[').partition(',')[0]}".replace("Axis", "the axes")
    for name, words in TYPES.items():
        text = text.replace(name, words)
    return _escape(text, code=True)


def _default(field: SourceField) -> str:
    """The default of a field, whichever way it is written; '' where one must be given."""
    text = field.default
    for blank in ("Field(default_factory=list)", "Field(default_factory=dict)"):
        text = text.replace(blank, "empty")
    inner = text.removeprefix("Field(").removesuffix(")") if text.startswith("Field(") else text
    first = inner.partition(",")[0].removeprefix("default=")
    given = inner if inner == text else first
    return "" if "=" in given or given == "..." else _escape(given, code=True)


def _contract_class(found: SourceClass) -> str:
    bases = f"Derives from {', '.join(f'`{base}`' for base in found.bases)}." if found.bases else ""
    rows = [_row(field, _escape(field.comment)) for field in found.fields]
    table = _table(("name", "type", "default", "what it is"), rows) if rows else ""
    methods = map(partial(_method, heading="###"), found.methods)
    return _paragraphs(f"## {found.name}", bases, _prose(found.doc), table.strip(), *methods)


def _method(method: SourceMethod, heading: str) -> str:
    name = re.split(r"\W", method.signature)[0]
    signature = f"```python\n{method.signature}\n```" if name != method.signature else ""
    return _paragraphs(f"{heading} {name}", signature, _prose(method.doc))


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(text.strip() for text in texts if text) + "\n"


def _prose(text: str) -> str:
    return text.replace("<", "&lt;").replace("[0, 1]", "\\[0, 1\\]")


def _escape(text: str, code: bool = False) -> str:
    plain = text.replace("|", "\\|")
    return f"`{plain}`" if code and plain else plain.replace("[", "\\[").replace("<", "&lt;")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
