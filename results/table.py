"""Table files: one TOML file says what to run (a grid) and how to print it (rows and columns).

A paper's table has a CSV of the same name beside it with the values as printed, in the same rows and columns. Then the file
is three things in one: a grid to run, a layout to print, a reference to compare with.
"""

from __future__ import annotations

import csv
import difflib
import fnmatch
import itertools
import math
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from results.cell import Cell, Part
from results.record import FileError

AXES = ("protocol", "dataset", "attack", "ratio", "part", "defense", "architecture", "seed")
PLACED = (*AXES[:-1], "measure")
"""The axes that a place of a table fixes; seeds are averaged."""
NONE = "na"
"""The architecture of a cell whose analysis looks at no victim."""

MOST = 1_000_000
"""Combinations of a table; the largest grids so far have ten thousand."""

Resolve = Callable[[str, str], Sequence[Any]]

TABLES = Path(__file__).parent / "tables"
PAPERS = Path(__file__).parent / "papers"

Axis = Literal["protocol", "dataset", "attack", "ratio", "part", "defense", "architecture", "measure"]
Key = tuple[tuple[str, ...], tuple[str, ...]]  # printed labels of a row and of a column


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Item(_Strict):
    """A value of an axis written as a TOML table: the fields that it sets, the label that is printed.

    With `aggregate` nothing is run: `mean`, `min` and `max` are over the other items of the axis `of` (by default the axis
    that the item stands in; without the clean row, where these are attacks); `difference` and `ratio` compare the place
    labelled `base` in the item's own axis with the one labelled `to` in the axis `of`.
    """

    label: str = ""
    cited: str = ""  # what the paper's transcription has in the place of this entry: all, cifar10+cifar100
    params: str = ""  # the condition, key=value;..., as the transcription of the paper names it
    metric: str = ""
    better: Literal["", "high", "low"] = ""
    protocol: str = ""
    dataset: str = ""
    attack: str = ""
    ratio: float | None = Field(None, ge=0, le=1)
    part: Literal["", "all", "clean"] = ""
    defense: str = ""
    architecture: str = ""
    measure: str = ""
    aggregate: Literal["", "mean", "min", "max", "difference", "ratio"] = ""
    of: Literal[Axis, ""] = ""
    base: str = ""
    to: str = ""

    def fields(self) -> dict[str, Any]:
        """The axes that it sets."""
        return {axis: value for axis in PLACED if (value := getattr(self, axis)) not in ("", None)}


class Change(Item):
    """A `[[cell]]`: places, named by printed labels, in which some fields differ from what the axes say."""

    at: dict[Axis, Annotated[list[str], BeforeValidator(lambda value: _several(value))]] = Field(min_length=1)

    def holds(self, labels: Mapping[str, str]) -> bool:
        return all(labels[axis] in several for axis, several in self.at.items())


class Block(_Strict):
    """A `[[block]]`: cells of a grid that run before those of later blocks and before the rest.

    It has the cells of some attacks and defenses, named as selectors name them (`lsp`, `jpeg`, a whole spec, a glob); all
    where it names none. It has the table's seeds, or those that it names, which the table need not ask for.
    """

    attack: Annotated[list[str], BeforeValidator(lambda value: _several(value))] = ["*"]
    defense: Annotated[list[str], BeforeValidator(lambda value: _several(value))] = ["*"]
    seed: Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(lambda value: _several(value))] = []

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Whether a combination of axes belongs to the block, whatever its seed."""
        return _named(point["attack"], self.attack) and _named(point["defense"], self.defense)


def _named(item: Any, names: Sequence[str]) -> bool:
    """Whether one of some names or globs is that of an item, or of its first entry."""
    text = str(item)
    return any(fnmatch.fnmatchcase(one, name) for name in names for one in (text, text.partition("(")[0]))


class Mark(_Strict):
    """Why a printed value is not taken at face value."""

    quality: Literal["ok", "inferred", "suspect"]
    note: str


def _item(value: Any) -> Any:
    """Turn the form {name = "lsp", patch = 4} into lsp(patch=4), and tables without a name into items."""
    if isinstance(value, Mapping):
        fields = dict(value)
        name = fields.pop("name", None)
        if name is None and set(fields) <= set(Item.model_fields):
            try:
                return Item.model_validate(fields)
            except ValidationError as error:
                first = error.errors()[0]
                raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        if not isinstance(name, str):
            raise ValueError(f"an item written as a table needs a name, or keys from {', '.join(Item.model_fields)}")
        inner = ",".join(f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in fields.items())
        return f"{name}({inner})" if inner else name
    return value


def _several(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Items = Annotated[list[Annotated[str | Item, BeforeValidator(_item)]], BeforeValidator(_several), Field(min_length=1)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Ratios = Annotated[list[Annotated[Ratio | Item, BeforeValidator(_item)]], BeforeValidator(_several), Field(min_length=1)]
Share = Literal["all", "clean"]
Shares = Annotated[list[Annotated[Share | Item, BeforeValidator(_item)]], BeforeValidator(_several), Field(min_length=1)]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_several), Field(min_length=1)]


@dataclass(frozen=True)
class Printed:
    """A value as a paper prints it: `text` keeps its digits, `value` and `std` are in the unit of the table."""

    text: str
    value: float | None  # None: the paper prints something that our source does not show, or a dash
    std: str = ""
    mark: str = ""
    quality: str = "ok"
    note: str = ""


@dataclass(frozen=True)
class Place:
    """One place of a table: what is measured for it, and what the paper prints there."""

    table: str
    row: tuple[str, ...]
    column: tuple[str, ...]
    labels: Mapping[str, str]  # axis -> printed label
    fields: Mapping[str, Any]  # every axis but the seed, as written
    seeds: tuple[int, ...]
    metric: str
    better: str
    params: str
    aggregate: Item | None = None
    own: str = ""  # the axis in which the aggregate stands
    printed: Printed | None = None
    changes: tuple[str, ...] = ()  # what the command line put in the place of something else
    cited: Mapping[str, str] = field(default_factory=dict)  # axis -> what the paper's transcription has instead of an entry

    @property
    def key(self) -> Key:
        return self.row, self.column

    @property
    def runs(self) -> bool:
        """Whether something is measured for it: no aggregate, and no dash in the paper."""
        return self.aggregate is None and not (self.printed is not None and self.printed.text == "-")

    @cached_property
    def written(self) -> tuple[Any, ...]:
        """What identifies its cells, all seeds together. At ratio 0 nothing is poisoned, whatever the attack."""
        fields = dict(self.fields)
        if fields["ratio"] == 0:
            fields |= {"attack": "none", "ratio": 1.0}
        return tuple(fields[axis] for axis in PLACED)

    @property
    def unit(self) -> float:
        """What a fraction is multiplied by to be in the unit of the table: 100, or 1 where the paper prints fractions."""
        return 1.0 if "unit=fraction" in self.params else 100.0


class Table(_Strict):
    """A grid to run and a layout to print. Every field of the grid may be one value or a list."""

    title: str
    note: str = ""
    paper: str = ""  # the folder under results/papers
    table: str = ""  # the label that the paper prints: II, 2
    metric: str = "test_acc"  # what the numbers are, unless an item says otherwise
    better: Literal["high", "low"] = "high"  # as the table's authors see it
    params: str = ""
    curves: bool = False  # whether its page draws what its records hold per epoch, and the points of pictures
    protocol: Items
    dataset: Items
    attack: Items
    defense: Items
    architecture: Items
    seed: Seeds
    ratio: Ratios = [1.0]
    part: Shares = ["all"]
    measure: Items = ["accuracy"]
    rows: Annotated[list[Axis], BeforeValidator(_several)] = ["attack"]
    columns: Annotated[list[Axis], BeforeValidator(_several)] = ["defense"]
    cell: list[Change] = []
    least_drop: float = Field(0.0, ge=0, le=1)  # fraction; attacks that undefended cost less have no rank
    block: list[Block] = []  # which cells run first, of a table without printed labels
    marks: dict[str, Mark] = {}

    _name: str = PrivateAttr("")
    _reference: dict[Key, Printed] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _whole(self) -> Table:
        """Every value of an axis is printed somewhere, under one label; every [[cell]] names places that are there."""
        count = math.prod(len(getattr(self, axis)) for axis in (*AXES, "measure"))
        if count > MOST:
            raise ValueError(f"{count:,} cells, the product of all axes, are too many; at most {MOST:,} are read from a table")
        if not self.printed:
            return self
        if self.block:
            raise ValueError("`block` is for tables without printed labels; leave out the labels or the blocks")
        if twice := next((axis for axis in self.rows if axis in self.columns), ""):
            raise ValueError(f"`{twice}` is in rows and in columns; leave it out of one of them")
        for axis in PLACED:
            labels = [label for label, _ in self.items(axis)]
            if len(labels) > 1 and axis not in self.layout:
                raise ValueError(
                    f"`{axis}` has {len(labels)} values and is neither in rows nor in columns; add it to one of them"
                )
            if again := next((label for label in labels if labels.count(label) > 1), ""):
                raise ValueError(f"`{axis}` has two items labelled {again!r}; give each a label of its own")
        for number, change in enumerate(self.cell, 1):
            for axis, several in change.at.items():
                labels = [known for known, _ in self.items(axis)] if axis in self.layout else []
                if wrong := next((label for label in several if label not in labels), ""):
                    raise ValueError(f"cell {number}: `{axis}` has no label {wrong!r}; it has {', '.join(labels) or 'none'}")
        return self

    @property
    def name(self) -> str:
        """What `bench run --grid` takes."""
        return self._name

    @property
    def reference(self) -> Mapping[Key, Printed] | None:
        """The values that a paper prints, by the labels of row and column; None for a table of our own."""
        return self._reference

    @property
    def layout(self) -> tuple[str, ...]:
        return (*self.rows, *self.columns)

    @property
    def printed(self) -> bool:
        """Whether the file says how it is printed: a paper's table, or one with labels, aggregates or irregular cells."""
        figure = self.measure != ["accuracy"] and self.metric != "test_acc"  # of an analysis
        items = (value for axis in PLACED for value in getattr(self, axis))
        return bool(self.paper or self.cell) or figure or any(isinstance(value, Item) for value in items)

    def items(self, axis: str) -> list[tuple[str, Item]]:
        """The values of an axis with their labels."""
        found = []
        for value in getattr(self, axis):
            item = value if isinstance(value, Item) else Item.model_validate({axis: value})
            own = getattr(item, axis)
            found.append((item.label or (f"{own:g}" if isinstance(own, float) else str(own)), item))
        return found

    def places(self) -> list[Place]:
        """Every place, row by row; where there is a reference, only those in which it prints something."""
        varying = list(dict.fromkeys([*self.layout, *(axis for axis in PLACED if len(getattr(self, axis)) > 1)]))
        fixed = [(axis, self.items(axis)[0][1]) for axis in PLACED if axis not in varying]
        rows = [axis for axis in varying if axis not in self.columns]
        found = []
        for combination in itertools.product(*(self.items(axis) for axis in varying)):
            labels = {axis: label for axis, (label, _) in zip(varying, combination, strict=True)}
            row, column = (tuple(labels[axis] for axis in part) for part in (rows, self.columns))
            printed = None
            if self._reference is not None:
                printed = self._reference.get((row, column))
                if printed is None:
                    continue
            parts = [*fixed, *((axis, item) for axis, (_, item) in zip(varying, combination, strict=True))]
            parts += [("", change) for change in self.cell if change.holds(labels)]
            aggregates = [(axis, item) for axis, item in parts if item.aggregate]
            if len(aggregates) > 1 and printed is None:
                continue  # the corner of two aggregates is no number
            fields: dict[str, Any] = dict.fromkeys(PLACED)
            for _, item in parts:
                fields |= item.fields()
            own, aggregate = aggregates[-1] if aggregates else ("", None)
            found.append(
                Place(
                    self._name,
                    row,
                    column,
                    labels,
                    fields,
                    tuple(self.seed),
                    next((item.metric for _, item in reversed(parts) if item.metric), self.metric),
                    next((item.better for _, item in reversed(parts) if item.better), self.better),
                    ";".join(filter(None, [self.params, *(item.params for _, item in parts)])),
                    aggregate,
                    own,
                    printed,
                    cited={axis: item.cited for axis, item in parts if item.cited},
                )
            )
        return found

    def expand(self) -> Iterator[dict[str, Any]]:
        """Yield every combination, measure by measure, then axis by axis in the order of `AXES`, seeds innermost."""
        outer = [axis for axis in AXES if axis != "seed"]
        for measure, *values in itertools.product(self.measure, *(getattr(self, axis) for axis in outer)):
            point = dict(zip(outer, values, strict=True))
            added = itertools.chain(*(block.seed for block in self.block if block.holds(point)))
            for seed in dict.fromkeys([*self.seed, *added]):
                yield {**point, "seed": seed, "measure": measure}

    def ordered(self) -> list[dict[str, Any]]:
        """Every combination in the order in which it is run: block by block, then the rest."""
        return sorted(self.expand(), key=self._turn)

    def _turn(self, point: Mapping[str, Any]) -> int:
        for number, block in enumerate(self.block):
            if block.holds(point) and point["seed"] in (block.seed or self.seed):
                return number
        return len(self.block)

    def cells(self, resolve: Resolve) -> list[Cell]:
        """Return the cells of the grid, each once, in the order in which they are run.

        `resolve(kind, item)` gives the parts of an item with all fields.
        """
        known = Known(resolve)
        found = [cell for point in self.ordered() for cell in known.cells(point, point["seed"])]
        return list({cell.id: cell for cell in found}.values())

    def points(self, resolve: Resolve) -> Iterator[tuple[str, tuple[Cell, ...]]]:
        """Yield every combination: its defense, and its cells, of which there are several where the defense has members."""
        known = Known(resolve)
        for point in self.expand():
            defense = "+".join(part.text for part in known.parts("defenses", point["defense"]))
            yield defense, known.cells(point, point["seed"])

    def replaced(self, **axes: list[Any]) -> Table:
        """The same table with other values on some axes. Other seeds are those of all cells, whatever blocks add."""
        content = self.model_dump() | axes
        if "seed" in axes:
            content["block"] = [{**block, "seed": []} for block in content["block"]]
        return Table.model_validate(content)


class Known:
    """Makes cells of items, each item resolved once."""

    def __init__(self, resolve: Resolve) -> None:
        self.resolve = resolve
        self._parts: dict[tuple[str, str], tuple[Part, ...]] = {}
        self._members: dict[str, tuple[str, ...]] = {}
        self._needs: dict[str, tuple[str, ...]] = {}  # of analyses

    def parts(self, kind: str, item: str) -> tuple[Part, ...]:
        if (kind, item) not in self._parts:
            found = self.resolve(kind, item)
            if kind == "analyses":
                self._needs[item] = tuple(found[0].entry.facts.get("needs", ()))
            self._parts[kind, item] = tuple(Part(name=p.name, fields=dict(p.fields), text=p.text) for p in found)
        return self._parts[kind, item]

    def cells(self, point: Mapping[str, Any], seed: int) -> tuple[Cell, ...]:
        """The cells of a point: one, or one for each member of its defense."""
        item = point["defense"]
        if item not in self._members:
            choices = [getattr(part, "members", ()) or (part.text,) for part in self.resolve("defenses", item)]
            self._members[item] = tuple("+".join(chosen) for chosen in itertools.product(*choices))
        return tuple(self.cell({**point, "defense": member}, seed) for member in self._members[item])

    def analysis(self, item: str) -> tuple[Part | None, bool]:
        """Return an analysis with all its fields, None for accuracy; and whether it looks at a victim."""
        if item == "accuracy":
            return None, True
        part = self.parts("analyses", item)[0]
        return part, bool({"network", "epochs"} & set(self._needs[item]))

    def cell(self, point: Mapping[str, Any], seed: int) -> Cell:
        """Make a cell. Where no victim is looked at the architecture is `na`, whatever the table says."""
        analysis, victim = self.analysis(point.get("measure", "accuracy"))
        architecture = self.parts("architectures", point["architecture"])[0] if victim else Part(name=NONE, text=NONE)
        return Cell(
            protocol=self.parts("protocols", point["protocol"])[0],
            dataset=self.parts("datasets", point["dataset"])[0],
            attack=self.parts("attacks", point["attack"]),
            ratio=point["ratio"],
            part=point["part"],
            defense=self.parts("defenses", point["defense"]),
            architecture=architecture,
            seed=seed,
            measure=analysis or "accuracy",
        )


def seeds_of(wishes: Sequence[str], own: Sequence[int], there: Collection[int]) -> tuple[int, ...]:
    """Return the seeds that `--seed` asks for. A number names one, whether a grid has it or not; `old=new` replaces one.

    `own` are the seeds of the place or table, `there` those of the whole grid. FileError.
    """
    named: list[int] = []
    changes: dict[int, int] = {}
    for wish in wishes:
        numbers = wish.split("=")
        if len(numbers) > 2 or not all(re.fullmatch(r"\s*[0-9]{1,18}\s*", number) for number in numbers):
            raise FileError(f"--seed {wish}: expected a whole number from 0 on, or old=new")
        old, new = int(numbers[0]), int(numbers[-1])
        if len(numbers) == 1:
            named.append(old)
        elif old in there:
            changes[old] = new
        else:
            shown = ", ".join(map(str, sorted(there)))
            raise FileError(f"--seed {wish}: the grid has no seed {old} to replace; it has {shown}")
    if named:
        return tuple(dict.fromkeys([*named, *changes.values()]))
    return tuple(dict.fromkeys(changes.get(seed, seed) for seed in own))


def read_table(name: str) -> Table:
    """Read a shipped table by its name, or a TOML file by its path. FileError names the file, the place and the remedy."""
    path = Path(name) if name.endswith(".toml") else (PAPERS if "/" in name else TABLES) / f"{name}.toml"
    if not path.exists():
        if name.endswith(".toml"):
            raise FileError(
                f"there is no table file {path.absolute()}; name one that is there, or a grid of `bench list grids`"
            )
        near = difflib.get_close_matches(name, table_names(), 1)
        meant = f"did you mean {near[0]!r}? Grids" if near else "grids"
        stems = Counter(one.partition("-")[0] for one in table_names())
        known = ", ".join(f"{stem}-*" if count > 1 else stem for stem, count in stems.items())
        raise FileError(
            f"there is no grid {name!r}; {meant} are {known}, those of papers (`bench list grids`), or a path to a .toml file"
        )
    content = read_toml(path)
    try:
        table = Table.model_validate(content)
    except ValidationError as error:
        raise FileError(f"{path}: {_sentence(error)}") from None
    table._name = name
    if path.resolve().parent.parent == PAPERS.resolve() and table.paper != path.parent.name:
        found = f"`paper` is {table.paper!r}" if table.paper else "no `paper`"
        raise FileError(f"{path}: {found}; a table in this folder says `paper = {path.parent.name!r}`".replace("'", '"'))
    beside = path.with_suffix(".csv")
    if beside.is_file():
        table._reference = _read_reference(beside, table)
    elif table.paper:
        raise FileError(f"{path} is a paper's table and has no {beside.name} beside it; add the values as they are printed")
    if table.printed:
        _refuse_twins(path, table)
    _refuse_idle_names(path, table)
    return table


def _refuse_idle_names(path: Path, table: Table) -> None:
    """A name in a block that stands for no value of its axis is a misspelt one."""
    for number, block in enumerate(table.block, 1):
        for axis, names in {"attack": block.attack, "defense": block.defense}.items():
            items = getattr(table, axis)
            for name in names:
                if not any(_named(item, [name]) for item in items):
                    shown = ", ".join(map(str, items))
                    raise FileError(f"{path}: block {number}: the table has no {axis} {name!r}; it has {shown}")


def _refuse_twins(path: Path, table: Table) -> None:
    """Two places of one cell under one condition would be one place written twice; an accuracy over 100 % is a lost point."""
    seen: dict[tuple[Any, ...], Place] = {}
    for place in table.places():
        value = place.printed.value if place.printed else None
        if value is not None and place.metric == "test_acc" and place.runs and not 0 <= value <= place.unit:
            where = f"{path.with_suffix('.csv')}, {' / '.join((*place.row, *place.column))}"
            raise FileError(f"{where}: {value:g} is no accuracy; expected 0 to {place.unit:g}, or another `metric`")
        if place.runs:
            cell = (*place.fields.values(), place.metric, *sorted(place.params.split(";")))
            twin = seen.setdefault(cell, place)
            if twin is not place:
                one, other = (" / ".join((*p.row, *p.column)) for p in (twin, place))
                raise FileError(f"{path}: {one} and {other} are the same cell; leave one out or tell them apart by `params`")


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


_VALUE = re.compile(r"([+-]?\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?(?: \[(\w+)\])?\Z")


def _read_reference(path: Path, table: Table) -> dict[Key, Printed]:
    """Read the values of a paper's table.

    One line per column axis with labels, then one line per row, its labels first. A value keeps its digits: `93.1`,
    `15.87 ± 0.50`, `88.95 [a]` with the mark `a` of the TOML file. Nothing: no such place; `-`: the paper prints a dash;
    `?`: the paper prints a value that our source does not show.
    """
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"cannot read {path}: {error}") from None
    while lines and not lines[-1]:
        lines.pop()
    left, above = len(table.rows), len(table.columns)
    product = [
        list(itertools.product(*([label for label, _ in table.items(axis)] for axis in part)))
        for part in (table.rows, table.columns)
    ]
    rows, columns = product
    remedy = f"rows and columns of {path.with_suffix('.toml').name} say how it is laid out"
    if len(lines) != above + len(rows):
        raise FileError(f"{path} has {len(lines)} lines, expected {above} with labels and {len(rows)} with values; {remedy}")
    for number, line in enumerate(lines, 1):
        if len(line) != left + len(columns):
            raise FileError(
                f"{path}, line {number} has {len(line)} fields between commas, expected {left + len(columns)}; {remedy}"
            )
        if number <= above:
            expected: Sequence[str] = [column[number - 1] for column in columns]
            found: Sequence[str] = line[left:]
        else:
            expected, found = rows[number - above - 1], line[:left]
        for one, other in zip(expected, found, strict=True):
            if one != other:
                raise FileError(f"{path}, line {number} has the label {other!r}, expected {one!r}; {remedy}")
    values: dict[Key, Printed] = {}
    for number, (row, line) in enumerate(zip(rows, lines[above:], strict=True), above + 1):
        for column, text in zip(columns, line[left:], strict=True):
            if not text:
                continue
            where = f"{path}, line {number}, column {' / '.join(column)!r}"
            if text in ("-", "?"):
                values[row, column] = Printed(text, None)
                continue
            match = _VALUE.match(text)
            if not match:
                raise FileError(
                    f"{where}: {text!r} is no value; write 93.1, 15.87 ± 0.50 or 88.95 [a], `-` for a dash, `?` for not legible"
                )
            digits, std, mark = match[1], match[2] or "", match[3] or ""
            if mark and mark not in table.marks:
                raise FileError(
                    f"{where}: there is no mark {mark!r}; add [marks.{mark}] with quality and note to the TOML file"
                )
            why = table.marks[mark] if mark else Mark(quality="ok", note="")
            values[row, column] = Printed(digits, float(digits), std, mark, why.quality, why.note)
    return values


_BRANCH = re.compile(r"(str|Item|float|constrained-\w+)\Z|.*\[")  # how pydantic names the alternatives of a field


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    place = str(first["loc"][0]) if first["loc"] else "the table"
    if first["type"] == "missing":
        return f"no `{place}`; a table lists title, protocol, dataset, attack, defense, architecture, seed"
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        return f"`{place}` is not known; a table has {', '.join(Table.model_fields)}"
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    where = [str(part) for part in first["loc"] if not _BRANCH.match(str(part))]
    return f"`{'.'.join(where)}`: {first['msg']}, found {first['input']!r}"


def table_names() -> list[str]:
    """The names of the program's own tables; `results.papers` has those of papers."""
    return sorted(path.stem for path in TABLES.glob("*.toml"))
