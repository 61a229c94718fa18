"""The first version of a paper's table, from a table that somebody copied: labels, digits, and a guess at every entry."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from operator import attrgetter
from pathlib import Path

from unlearnable_bench.registry import CATALOGS
from unlearnable_bench.registry.labels import display_name, label
from unlearnable_bench.results.record import FileError

UNKNOWN = "?"
CLEAN = (
    "clean",
    "cleandata",
    "wo",
    "wodefense",
    "none",
    "noneclean",
    "standard",
    "erm",
    "nodefense",
    "undefended",
    "protected",
)
OTHER_NAMES = {  # what papers print, letters and digits alone -> a spec
    "attacks": {
        "ue": "em",
        "unlearnable": "em",
        "ap": "tap",
        "advpoison": "tap",
        "sn": "lsp",
        "sp": "lsp",
        "sc": "lsp",
        "efp": "entf",
    },
    "defenses": {"issg": "grayscale", "issj": "jpeg", "aa": "ueraser", "op": "ortho-proj", "gray": "grayscale", "pgdat": "at"},
}
SEEDED = "seed=0"  # victims of several seeds share one poison

_LATEX = re.compile(r"\\(?:textbf|textit|mathbf|underline|emph)\s*\{([^{}]*)\}")
_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*%?(?:\s*(?:±|\\pm|\+-)\s*(\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class PastedTable:
    """A grid of texts: the labels of its columns, and of every row its label and its values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def read(cls, text: str) -> PastedTable:
        """Read HTML, Markdown, LaTeX, CSV or text between tabs. FileError: no table, or rows of several lengths."""
        lines = [[_plain(cell) for cell in line] for line in _lines(text)]
        lines = [line for line in lines if any(line)]
        if len(lines) < 2 or len(lines[0]) < 2:
            raise FileError(
                "there is no table in it: expected a line of labels and lines of values, as HTML, Markdown, LaTeX or CSV"
            )
        head, *body = lines
        for number, line in enumerate(body, 2):
            if len(line) != len(head):
                raise FileError(f"line {number} of the table has {len(line)} cells, expected {len(head)} as in its first line")
        return cls(tuple(head[1:]), tuple((line[0], tuple(map(_value, line[1:]))) for line in body))

    @property
    def labels(self) -> tuple[str, ...]:
        """Those of its rows."""
        return tuple(name for name, _ in self.rows)

    @property
    def turned(self) -> bool:
        """Whether its rows look like defenses and its columns like attacks, more than the other way round."""
        as_is = _known("attacks", self.labels) + _known("defenses", self.columns)
        return _known("defenses", self.labels) + _known("attacks", self.columns) > as_is


def _lines(text: str) -> list[list[str]]:
    """Cut a text into the cells of its lines, by what it seems to be."""
    if "<t" in text.lower():
        parser = _Rows()
        parser.feed(text)
        return parser.rows
    lines = text.splitlines()
    if any(line.lstrip().startswith("|") for line in lines):
        rows = [line.strip().strip("|").split("|") for line in lines if line.lstrip().startswith("|")]
        return [row for row in rows if not all(set(cell.strip()) <= set("-:") for cell in row)]
    if "&" in text:
        rows = [re.sub(r"\\(?:hline|midrule|toprule|bottomrule)", "", row).split("&") for row in re.split(r"\\\\", text)]
        return [row for row in rows if len(row) > 1]
    dialect = "\t" if "\t" in text else ","
    return list(csv.reader(io.StringIO(text), delimiter=dialect))


class _Rows(HTMLParser):
    """The cells of the rows of an HTML table."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def _plain(cell: str) -> str:
    """Return a cell without the signs of Markdown and LaTeX."""
    text = _LATEX.sub(r"\1", cell)
    return re.sub(r"\s+", " ", re.sub(r"[*$]|\\(?!pm)", "", text)).strip()


def _value(text: str) -> str:
    """Return a printed value as CSV files have it; a dash stays, what is no number becomes `?`."""
    if text in ("", "-"):
        return text
    found = _NUMBER.match(text)
    if not found:
        return "-" if set(text) <= set("-–—−") else UNKNOWN  # noqa: RUF001  (dashes that papers print)
    digits, deviation = found.groups()
    return f"{digits} ± {deviation}" if deviation else digits


# Guesses


def guess(kind: str, printed: str) -> str:
    """Return the spec of the entry of a kind that a printed label seems to mean, or `?`."""
    wanted = _letters(printed)
    if wanted in CLEAN:
        return "none"
    spec = OTHER_NAMES[kind].get(wanted) or _names(kind).get(wanted, UNKNOWN)
    return f"{spec}({SEEDED})" if kind == "attacks" and spec != UNKNOWN else spec


@cache
def _names(kind: str) -> dict[str, str]:
    """What the entries of a kind are called, letters and digits alone -> their names; a name goes before a label."""
    chains = {name: CATALOGS[kind].resolve(name) for name in CATALOGS[kind]}
    found: dict[str, str] = {}
    for name in chains:
        found[_letters(name)] = name
    for name, chain in chains.items():
        for text in (label(chain), display_name(chain)):
            found.setdefault(_letters(text), name)
    for name, chain in chains.items():
        found.setdefault(_letters(label(chain).split()[0]), name)
    return found


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", re.sub(r"\(.*?\)|\[.*?\]", "", text.lower()) or text.lower())


def _known(kind: str, printed: Iterable[str]) -> int:
    """How many labels mean an entry of a kind, clean training left out."""
    return sum(guess(kind, text) not in (UNKNOWN, "none") for text in printed)


# The two files


@dataclass(frozen=True)
class Skeleton:
    """The two files of a paper's table, to be finished by hand."""

    paper: str
    table: str
    toml: str
    csv: str
    unknown: tuple[str, ...]  # labels that no entry was found for

    def write(self, folder: Path) -> list[Path]:
        """Write both files into a folder. FileError where one of them is there, or the folder cannot be written to."""
        stem = f"table-{self.table.lower()}"
        paths = [folder / f"{stem}.toml", folder / f"{stem}.csv"]
        for path in paths:
            if path.exists():
                raise FileError(f"{path} is there already; name another --out, or move it away")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path, text in zip(paths, (self.toml, self.csv), strict=True):
                path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise FileError(f"cannot write to {folder}: {error.strerror}; name another --out") from None
        return paths


@dataclass(frozen=True)
class _Axis:
    """The attacks or the defenses of a table."""

    name: str  # attack or defense
    labels: tuple[str, ...]

    @property
    def specs(self) -> list[str]:
        """A guess for every label."""
        return [guess(f"{self.name}s", text) for text in self.labels]

    @property
    def unknown(self) -> list[str]:
        """The labels without one."""
        pairs = zip(self.labels, self.specs, strict=True)
        return [text for text, spec in pairs if spec == UNKNOWN]

    @property
    def toml(self) -> str:
        """As the table file has it."""
        pairs = zip(self.labels, self.specs, strict=True)
        lines = [f'  {{label = {json.dumps(text, ensure_ascii=False)}, {self.name} = "{spec}"}},\n' for text, spec in pairs]
        return f"{self.name} = [\n{''.join(lines)}]\n"


HEAD = f"""title = ""
paper = "{{paper}}"
table = "{{table}}"
note = ""
protocol = "{UNKNOWN}"
dataset = "cifar10"
"""
FOOT = """architecture = "resnet18"
seed = [0, 1, 2]
rows = ["{rows}"]
columns = ["{columns}"]
"""


def skeleton(pasted: PastedTable, paper: str, table: str) -> Skeleton:
    """Return the files of a table as it was pasted, with a guess at every attack and defense. FileError: names of no file."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", paper):
        raise FileError(f"paper {paper!r} cannot name a folder; expected lower-case letters, digits and hyphens, as in d-vae")
    if not re.fullmatch(r"[A-Za-z0-9]+", table):
        raise FileError(f"table {table!r} cannot name a file; expected letters and digits as the paper prints them: 2, II")
    names = ("defense", "attack") if pasted.turned else ("attack", "defense")
    rows, columns = _Axis(names[0], pasted.labels), _Axis(names[1], pasted.columns)
    attack, defense = sorted((rows, columns), key=attrgetter("name"))
    toml = HEAD.format(paper=paper, table=table) + attack.toml + defense.toml
    toml += FOOT.format(rows=rows.name, columns=columns.name)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((rows.name, *pasted.columns))
    writer.writerows((label_of_row, *values) for label_of_row, values in pasted.rows)
    return Skeleton(paper, table, toml, text.getvalue(), (*rows.unknown, *columns.unknown))
