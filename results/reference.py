"""What papers print: which tables there are, what stands in each of them, and where it was published.

A paper has a folder under `results/papers`: `paper.toml` says who wrote it, and each of its tables has a TOML file with the
layout and a CSV file with the printed values.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from unlearnable_bench.results.record import FileError

PAPERS = Path(__file__).parent / "papers"

Labels = tuple[str, ...]
Key = tuple[Labels, Labels]  # printed labels of a row and of a column


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. FileError."""
    if path.exists() and not path.is_file():
        raise FileError(f"cannot read {path}: it is a folder, a pipe or a device, expected a file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits and lists within lists among them
        raise FileError(f"{path} is not a TOML file: {error}") from None


# Papers


class Source(_Strict):
    """Where tables come from: `paper.toml`, once per paper."""

    title: str
    authors: str
    venue: str
    year: int
    url: str
    bibtex: str
    short: str
    leaderboard: bool = False  # figures of a web page that no paper prints
    names: dict[str, str] = {}  # entries that the paper calls by another name, for the tidy export
    params: list[str] = []  # the order of the keys of a condition
    absent: dict[str, str] = {}  # methods of its tables that no entry is of, and a sentence on what is missing

    def name_of(self, entry: str) -> str:
        """The name of an entry in the paper's transcription."""
        return self.names.get(entry, entry)

    def ordered(self, params: str) -> str:
        """A condition with its keys in the paper's order."""
        order = {key: number for number, key in enumerate(self.params)}
        pairs = [pair for pair in params.split(";") if pair]
        return ";".join(sorted(pairs, key=lambda pair: order.get(pair.partition("=")[0], len(order))))


@cache
def source(paper: str) -> Source:
    """Read the paper.toml of a paper. FileError."""
    path = PAPERS / paper / "paper.toml"
    try:
        return Source.model_validate(read_toml(path))
    except ValidationError as error:
        raise FileError(f"{path}: {_complaint(error)}") from None


def _complaint(error: ValidationError) -> str:
    errors = error.errors()
    missing = [f"`{one['loc'][0]}`" for one in errors if one["type"] == "missing"]
    if missing:
        return f"no {', '.join(missing)}; a paper says who wrote it and where"
    field = ".".join(map(str, errors[0]["loc"]))
    return f"`{field}`: {errors[0]['msg']}"


@cache
def paper_tables() -> tuple[str, ...]:
    """The names of all tables of papers, paper by paper, in the order in which they are printed."""
    papers = [path.parent.name for path in PAPERS.glob("*/paper.toml")]
    names: list[str] = []
    for paper in sorted(papers, key=lambda paper: (source(paper).leaderboard, paper)):
        stems = [path.stem for path in (PAPERS / paper).glob("table-*.toml")]
        names += [f"{paper}/{stem}" for stem in sorted(stems, key=_number)]
    return tuple(names)


def _number(stem: str) -> tuple[int, str]:
    """Order `table-ii` before `table-ix` before `table-x`, and `table-2` before `table-10`."""
    label = stem.removeprefix("table-")
    if label.isdigit():
        return int(label), ""
    values = {"i": 1, "v": 5, "x": 10}
    if not label or set(label) - set(values):
        return 99, label
    total = 0
    for place, digit in enumerate(label):
        value = values[digit]
        larger_follows = value < max(values[later] for later in label[place:])
        total += -value if larger_follows else value
    return total, ""


# Printed values


class Mark(_Strict):
    """Why a printed value is not taken at face value."""

    quality: Literal["ok", "inferred", "suspect", "copied"]
    note: str


@dataclass(frozen=True)
class Printed:
    """A value as a paper prints it: `text` keeps its digits, `value` and `std` are in the unit of the table."""

    text: str
    value: float | None  # None: the paper prints something that our source does not show, or a dash
    std: str = ""
    mark: str = ""
    quality: str = "ok"
    note: str = ""
    errata: tuple[str, ...] = ()  # sentences, which the note has too


_VALUE = re.compile(r"([+-]?\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?(?: \[(\w+)\])?\Z")


def read_values(path: Path, rows: Sequence[Labels], columns: Sequence[Labels], marks: Mapping[str, Mark]) -> dict[Key, Printed]:
    """Read the values of a paper's table, whose rows and columns have these labels. FileError.

    One line per column axis with labels, then one line per row, its labels first. A value keeps its digits: `93.1`,
    `15.87 ± 0.50`, `88.95 [a]` with the mark `a` of the TOML file. Nothing: no such place; `-`: the paper prints a dash;
    `?`: the paper prints a value that our source does not show.
    """
    lines = _read_lines(path)
    left, above = len(rows[0]), len(columns[0])
    _check_layout(path, lines, rows, columns)
    values: dict[Key, Printed] = {}
    for number, row in enumerate(rows, above):
        texts = lines[number][left:]
        for column, text in zip(columns, texts, strict=True):
            if text:
                where = f"{path}, line {number + 1}, column {' / '.join(column)!r}"
                values[row, column] = _read_value(text, marks, where)
    return values


def _read_lines(path: Path) -> list[list[str]]:
    """Read the fields of a CSV file, without blank lines at its end."""
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"cannot read {path}: {error}") from None
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _check_layout(path: Path, lines: Sequence[list[str]], rows: Sequence[Labels], columns: Sequence[Labels]) -> None:
    """Check that the labels of a CSV file are those of its TOML file. FileError."""
    left, above = len(rows[0]), len(columns[0])
    remedy = f"rows and columns of {path.with_suffix('.toml').name} say how it is laid out"
    if len(lines) != above + len(rows):
        raise FileError(f"{path} has {len(lines)} lines, expected {above} with labels and {len(rows)} with values; {remedy}")
    heads = [[column[axis] for column in columns] for axis in range(above)]
    width = left + len(columns)
    for number, line in enumerate(lines):
        where = f"{path}, line {number + 1}"
        if len(line) != width:
            raise FileError(f"{where} has {len(line)} fields between commas, expected {width}; {remedy}")
        expected = heads[number] if number < above else rows[number - above]
        labels = line[left:] if number < above else line[:left]
        for label, right in zip(labels, expected, strict=True):
            if label != right:
                raise FileError(f"{where} has the label {label!r}, expected {right!r}; {remedy}")


def _read_value(text: str, marks: Mapping[str, Mark], where: str) -> Printed:
    """Read one printed value. FileError begins with where it stands."""
    if text in ("-", "?"):
        return Printed(text, None)
    match = _VALUE.match(text)
    if not match:
        raise FileError(
            f"{where}: {text!r} is not a value; write 93.1, 15.87 ± 0.50 or 88.95 [a], `-` for a dash, `?` for not legible"
        )
    digits, std, name = match.groups(default="")
    if not name:
        return Printed(digits, float(digits), std)
    if name not in marks:
        raise FileError(f"{where}: there is no mark {name!r}; add [marks.{name}] with quality and note to the TOML file")
    return Printed(digits, float(digits), std, name, marks[name].quality, marks[name].note)
