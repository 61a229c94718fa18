"""Table files: one TOML file says what to run and how to print it in rows and columns.

A paper's table has a CSV of the same name beside it with the values as printed, in the same rows and columns. Then the file
is three things in one: combinations to run, a layout to print, a reference to compare with.
"""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from unlearnable_bench.results.cell import name_in
from unlearnable_bench.results.record import FileError
from unlearnable_bench.results.reference import PAPERS, Key, Labels, Mark, Printed, read_toml, read_values

AXES = ("protocol", "dataset", "attack", "ratio", "part", "defense", "architecture", "seed")
Axis = Literal["protocol", "dataset", "attack", "ratio", "part", "defense", "architecture", "measure"]
REQUESTED: tuple[str, ...] = get_args(Axis)
"""The axes that a score of a table fixes; seeds are averaged."""

MOST_CELLS = 1_000_000
"""Combinations of a table; the largest grids so far have ten thousand."""

TABLES = Path(__file__).parent / "tables"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


# The values of axes


class AxisValue(_Strict):
    """A value of an axis written as a TOML table: the fields that it sets, the label that is printed.

    With `aggregate` nothing is run: `mean`, `min` and `max` are over the other values of the axis `of` (by default the axis
    that this one stands in; without the clean row, where these are attacks); `difference` and `ratio` compare the score
    labelled `base` in its own axis with the one labelled `to` in the axis `of`.
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
        return {axis: value for axis in REQUESTED if (value := getattr(self, axis)) not in ("", None)}


class Change(AxisValue):
    """A `[[cell]]`: scores, named by printed labels, in which some fields differ from what the axes say."""

    at: dict[Axis, Annotated[list[str], BeforeValidator(_as_list)]] = Field(min_length=1)

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether it changes the score with these labels."""
        return all(labels[axis] in chosen for axis, chosen in self.at.items())


class Block(_Strict):
    """A `[[block]]`: cells of a grid that run before those of later blocks and before the rest.

    It has the cells of some attacks and defenses, named as selectors name them (`lsp`, `jpeg`, a whole spec, a glob); all
    where it names none. It has the table's seeds, or those that it names, which the table need not ask for.
    """

    attack: Annotated[list[str], BeforeValidator(_as_list)] = ["*"]
    defense: Annotated[list[str], BeforeValidator(_as_list)] = ["*"]
    seed: Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_as_list)] = []

    def holds(self, fields: Mapping[str, Any]) -> bool:
        """Whether a combination of axes belongs to the block, whatever its seed."""
        return _is_named(fields["attack"], self.attack) and _is_named(fields["defense"], self.defense)


def _is_named(value: Any, names: Sequence[str]) -> bool:
    """Whether one of some names or globs is that of a value of an axis, or of its first entry."""
    text = str(value)
    first = name_in(text)
    return any(fnmatch.fnmatchcase(text, name) or fnmatch.fnmatchcase(first, name) for name in names)


def _spec(value: Any) -> Any:
    """Turn the form {name = "lsp", patch = 4} into lsp(patch=4), and tables without a name into values of an axis."""
    if not isinstance(value, Mapping):
        return value
    fields = dict(value)
    name = fields.pop("name", None)
    if name is None and set(fields) <= set(AxisValue.model_fields):
        return _read_axis_value(fields)
    if not isinstance(name, str):
        raise ValueError(f"a spec written as a table needs a name, or keys from {', '.join(AxisValue.model_fields)}")
    inner = ",".join(f"{key}={_word(field)}" for key, field in fields.items())
    return f"{name}({inner})" if inner else name


def _word(value: Any) -> str:
    text = str(value)
    return text.lower() if isinstance(value, bool) else text


def _read_axis_value(fields: Mapping[str, Any]) -> AxisValue:
    try:
        return AxisValue.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


Specs = Annotated[list[Annotated[str | AxisValue, BeforeValidator(_spec)]], BeforeValidator(_as_list), Field(min_length=1)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Ratios = Annotated[list[Annotated[Ratio | AxisValue, BeforeValidator(_spec)]], BeforeValidator(_as_list), Field(min_length=1)]
Share = Literal["all", "clean"]
Shares = Annotated[list[Annotated[Share | AxisValue, BeforeValidator(_spec)]], BeforeValidator(_as_list), Field(min_length=1)]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_as_list), Field(min_length=1)]


# Tables


class Value(NamedTuple):
    """A value of an axis: the label that is printed, and what it sets; None where a score has no aggregate."""

    axis: str
    label: str
    sets: Any


@dataclass(frozen=True)
class ScoreRequest:
    """A score that a table asks for: what is measured for it, and what the paper prints there."""

    table: str
    row: Labels
    column: Labels
    labels: Mapping[str, str]  # axis -> printed label
    fields: Mapping[str, Any]  # every axis but the seed, as written
    seeds: tuple[int, ...]
    metric: str
    better: str
    params: str
    aggregate: AxisValue | None = None
    own: str = ""  # the axis in which the aggregate stands
    printed: Printed | None = None
    changes: tuple[str, ...] = ()  # what the command line put in the place of something else
    cited: Mapping[str, str] = field(default_factory=dict)  # axis -> what the paper's transcription has instead of an entry
    shares_clean: bool = True  # at ratio 0 its cells are the clean ones, whatever the attack

    @property
    def key(self) -> Key:
        return self.row, self.column

    @property
    def runs(self) -> bool:
        """Whether something is measured for it: no aggregate, and no dash in the paper."""
        dash = self.printed is not None and self.printed.text == "-"
        return self.aggregate is None and not dash

    @cached_property
    def written(self) -> tuple[Any, ...]:
        """What identifies its cells, all seeds together."""
        fields = dict(self.fields)
        if self.shares_clean and fields["ratio"] == 0:
            fields |= {"attack": "none", "ratio": 1.0}
        return tuple(fields[axis] for axis in REQUESTED)

    @property
    def published(self) -> float | None:
        """The number that the paper prints, if it is legible."""
        return self.printed.value if self.printed else None

    @property
    def is_accuracy(self) -> bool:
        """Whether it is the accuracy of one cell."""
        return self.metric == "test_acc" and self.runs

    @property
    def text(self) -> str:
        """Its cells as logs write them, without the seed."""
        fields = dict(zip(REQUESTED, self.written, strict=True))
        words = [str(fields[axis]) for axis in ("dataset", "attack", "defense", "architecture")]
        if (fields["ratio"], fields["part"]) != (1, "all"):
            words.insert(2, f"{fields['part']}-{fields['ratio']:g}")
        if fields["measure"] != "accuracy":
            words.append(fields["measure"])
        return "/".join(words)

    @property
    def unit(self) -> float:
        """What a fraction is multiplied by to be in the unit of the table: 100, or 1 where the paper prints fractions."""
        return 1.0 if "unit=fraction" in self.params else 100.0

    @property
    def where(self) -> str:
        """Its row and column, for messages."""
        return " / ".join((*self.row, *self.column))


class TableFile(_Strict):
    """A grid to run and a layout to print. Every field of the grid may be one value or a list."""

    title: str
    note: str = ""
    paper: str = ""  # the folder under results/papers
    table: str = ""  # the label that the paper prints: II, 2
    metric: str = "test_acc"  # what the numbers are, unless a value of an axis says otherwise
    better: Literal["high", "low"] = "high"  # as the table's authors see it
    params: str = ""
    curves: bool = False  # whether its page draws what its records hold per epoch, and the points of pictures
    protocol: Specs
    dataset: Specs
    attack: Specs
    defense: Specs
    architecture: Specs
    seed: Seeds
    ratio: Ratios = [1.0]
    part: Shares = ["all"]
    measure: Specs = ["accuracy"]
    rows: Annotated[list[Axis], BeforeValidator(_as_list)] = ["attack"]
    columns: Annotated[list[Axis], BeforeValidator(_as_list)] = ["defense"]
    cell: list[Change] = []
    ranked: dict[
        Literal["attack", "defense"], list[str]
    ] = {}  # values of an axis over which the other one is ranked by worst case
    ranks: bool = True  # whether its rows have ranks; at toy scale they have none
    least_drop: float = Field(0.0, ge=0, le=1)  # fraction; attacks that undefended cost less have no rank
    block: list[Block] = []  # which cells run first, of a table without printed labels
    marks: dict[str, Mark] = {}

    _name: str = PrivateAttr("")
    _reference: dict[Key, Printed] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _check(self) -> TableFile:
        """Every value of an axis is printed somewhere, under one label; every [[cell]] names scores that are there."""
        count = math.prod(len(getattr(self, axis)) for axis in (*AXES, "measure"))
        if count > MOST_CELLS:
            raise ValueError(
                f"{count:,} cells, the product of all axes, are too many; at most {MOST_CELLS:,} are read from a table"
            )
        if self.has_layout:
            self._check_layout()
            self._check_changes()
        return self

    def _check_layout(self) -> None:
        if self.block:
            raise ValueError("`block` is for tables without printed labels; leave out the labels or the blocks")
        if twice := set(self.rows) & set(self.columns):
            raise ValueError(f"`{min(twice, key=self.rows.index)}` is in rows and in columns; leave it out of one of them")
        for axis in REQUESTED:
            labels = self.labels(axis)
            if len(labels) > 1 and axis not in self.layout:
                raise ValueError(
                    f"`{axis}` has {len(labels)} values and is neither in rows nor in columns; add it to one of them"
                )
            label, count = Counter(labels).most_common(1)[0]
            if count > 1:
                raise ValueError(f"`{axis}` has two values labeled {label!r}; give each a label of its own")

    def _check_changes(self) -> None:
        labels = {axis: self.labels(axis) for axis in self.layout}
        for number, change in enumerate(self.cell, 1):
            for axis, chosen in change.at.items():
                known = labels.get(axis, [])
                for label in chosen:
                    if label not in known:
                        there = ", ".join(known) or "none"
                        raise ValueError(f"cell {number}: `{axis}` has no label {label!r}; it has {there}")

    @property
    def name(self) -> str:
        """What `bench run --grid` takes."""
        return self._name

    @property
    def file(self) -> str:
        """Where the file is, for messages."""
        if self._name.endswith(".toml"):
            return self._name
        folder = "papers" if "/" in self._name else "tables"
        return f"results/{folder}/{self._name}.toml"

    @property
    def is_shipped(self) -> bool:
        """Whether it is a paper's table that comes with the program."""
        return "/" in self._name and not self._name.endswith(".toml")

    @property
    def reference(self) -> Mapping[Key, Printed] | None:
        """The values that a paper prints, by the labels of row and column; None for a table of our own."""
        return self._reference

    @property
    def layout(self) -> tuple[str, ...]:
        return (*self.rows, *self.columns)

    @property
    def has_layout(self) -> bool:
        """Whether the file says how it is printed: a paper's table, or one with labels, aggregates or irregular cells."""
        if self.paper or self.cell:
            return True
        if self.measure != ["accuracy"] and self.metric != "test_acc":  # a figure of an analysis
            return True
        values = itertools.chain(*map(self.__getattribute__, REQUESTED))
        return any(isinstance(value, AxisValue) for value in values)

    def values(self, axis: str) -> list[Value]:
        """The values of an axis with their labels."""
        return [_value(axis, value) for value in getattr(self, axis)]

    def labels(self, axis: str) -> list[str]:
        """The labels of the values of an axis."""
        return [value.label for value in self.values(axis)]

    def combinations(self, axes: Sequence[str]) -> list[Labels]:
        """The labels of all rows, or of all columns, that these axes span."""
        return list(itertools.product(*map(self.labels, axes)))

    def requests(self) -> list[ScoreRequest]:
        """Every score, row by row; where there is a reference, only those in which it prints something."""
        fixed: list[Value] = []
        varying = [self.values(axis) for axis in dict.fromkeys(self.layout)]
        for axis in REQUESTED:
            values = self.values(axis)
            if axis in self.layout:
                continue
            if len(values) == 1:
                fixed += values
            else:
                varying.append(values)
        requests = (self._request(fixed, chosen) for chosen in itertools.product(*varying))
        return list(filter(None, requests))

    def _request(self, fixed: Sequence[Value], chosen: Sequence[Value]) -> ScoreRequest | None:
        """Make the request where these values of the axes meet; None where the table has none."""
        labels = {value.axis: value.label for value in chosen}
        key = self._key(labels)
        printed = (self._reference or {}).get(key)
        values = [*fixed, *chosen, *self._changes(labels)]
        aggregates = [value for value in values if value.sets.aggregate]
        is_corner = len(aggregates) > 1  # of two aggregates, which is no number
        if printed is None and (is_corner or self._reference is not None):
            return None
        last = aggregates[-1] if aggregates else Value("", "", None)
        parts = [value.sets for value in values]
        fields = _merged_fields(parts)
        return ScoreRequest(
            table=self._name,
            row=key[0],
            column=key[1],
            labels=labels,
            fields=fields,
            seeds=self.seeds_of(fields),
            metric=_last_text([self, *parts], "metric"),
            better=_last_text([self, *parts], "better"),
            params=";".join(filter(None, map(attrgetter("params"), [self, *parts]))),
            aggregate=last.sets,
            own=last.axis,
            printed=printed,
            cited=_names_in_transcription(values),
            shares_clean=self.has_layout,
        )

    def _changes(self, labels: Mapping[str, str]) -> list[Value]:
        """The `[[cell]]`s of a score with these labels."""
        changes = [change for change in self.cell if change.holds(labels)]
        return [Value("", "", change) for change in changes]

    def _key(self, labels: Mapping[str, str]) -> Key:
        """The row and the column of a score with these labels."""
        row = tuple(label for axis, label in labels.items() if axis not in self.columns)
        column = tuple(labels[axis] for axis in self.columns)
        return row, column

    def seeds_of(self, fields: Mapping[str, Any]) -> tuple[int, ...]:
        """The seeds of a combination: the table's, then those that its blocks add."""
        seeds = list(self.seed)
        for block in self.block:
            if block.holds(fields):
                seeds += block.seed
        return tuple(dict.fromkeys(seeds))

    def turn(self, fields: Mapping[str, Any], seed: int) -> int:
        """The number of the block in which a cell runs; cells of no block come last."""
        for number, block in enumerate(self.block):
            if seed in (block.seed or self.seed) and block.holds(fields):
                return number
        return len(self.block)

    def with_seeds(self, seeds: Sequence[int]) -> TableFile:
        """The same table with other seeds. They are those of all cells, whatever blocks add."""
        blocks = [block.model_copy(update={"seed": []}) for block in self.block]
        return self.model_copy(update={"seed": list(seeds), "block": blocks})


def _value(axis: str, value: Any) -> Value:
    sets = value if isinstance(value, AxisValue) else AxisValue.model_validate({axis: value})
    own = getattr(sets, axis)
    text = f"{own:g}" if isinstance(own, float) else str(own)
    return Value(axis, sets.label or text, sets)


def _merged_fields(values: Sequence[AxisValue]) -> dict[str, Any]:
    """Every axis but the seed; of values that set one axis, the last counts."""
    fields: dict[str, Any] = dict.fromkeys(REQUESTED)
    for value in values:
        fields |= value.fields()
    return fields


def _names_in_transcription(values: Sequence[Value]) -> dict[str, str]:
    names = {}
    for value in values:
        if value.sets.cited:
            names[value.axis] = value.sets.cited
    return names


def _last_text(sources: Sequence[TableFile | AxisValue], name: str) -> str:
    """The last text of this name that is not empty."""
    texts = map(attrgetter(name), reversed(sources))
    return str(next(filter(None, texts)))


# Reading


def read_table(name: str) -> TableFile:
    """Read a shipped table by its name, or a TOML file by its path. FileError names the file, the place and the remedy."""
    path = _find_file(name)
    try:
        table = TableFile.model_validate(read_toml(path))
    except ValidationError as error:
        raise FileError(f"{path}: {_complaint(error)}") from None
    table._name = name
    if path.resolve().parent.parent == PAPERS.resolve() and table.paper != path.parent.name:
        found = f'`paper` is "{table.paper}"' if table.paper else "no `paper`"
        raise FileError(f'{path}: {found}; a table in this folder says `paper = "{path.parent.name}"`')
    beside = path.with_suffix(".csv")
    if beside.is_file():
        table._reference = read_values(
            beside, table.combinations(table.rows), table.combinations(table.columns), marks=table.marks
        )
    elif table.paper:
        raise FileError(f"{path} is a paper's table and has no {beside.name} beside it; add the values as they are printed")
    if table.has_layout:
        requests = table.requests()
        _refuse_impossible_accuracies(path.with_suffix(".csv"), requests)
        _refuse_twins(path, requests)
    _refuse_idle_names(path, table)
    return table


def _find_file(name: str) -> Path:
    """The file of a table. FileError where there is none."""
    folder = PAPERS if "/" in name else TABLES
    path = folder / f"{name}.toml"
    if name.endswith(".toml"):
        path = Path(name)
    if path.exists():
        return path
    if name.endswith(".toml"):
        raise FileError(f"there is no table file {path.absolute()}; name one that is there, or a grid of `bench list grids`")
    raise FileError(_no_grid(name))


def _no_grid(name: str) -> str:
    """What to say of a grid that is not there."""
    near = difflib.get_close_matches(name, table_names(), 1)
    meant = f"did you mean {near[0]!r}? Grids" if near else "grids"
    stems = Counter(table.partition("-")[0] for table in table_names())
    known = ", ".join(f"{stem}-*" if count > 1 else stem for stem, count in stems.items())
    return f"there is no grid {name!r}; {meant} are {known}, those of papers (`bench list grids`), or a path to a .toml file"


def _refuse_idle_names(path: Path, table: TableFile) -> None:
    """A name in a block that stands for no value of its axis is a misspelt one."""
    for number, block in enumerate(table.block, 1):
        for axis in ("attack", "defense"):
            values = getattr(table, axis)
            for name in getattr(block, axis):
                named = [value for value in values if _is_named(value, [name])]
                if not named:
                    shown = ", ".join(map(str, values))
                    raise FileError(f"{path}: block {number}: the table has no {axis} {name!r}; it has {shown}")


def _refuse_impossible_accuracies(path: Path, requests: Sequence[ScoreRequest]) -> None:
    """An accuracy over 100 % is a lost point."""
    for request in requests:
        value = request.published
        if value is None or not request.is_accuracy:
            continue
        if not 0 <= value <= request.unit:
            expected = f"expected 0 to {request.unit:g}, or another `metric`"
            raise FileError(f"{path}, {request.where}: {value:g} is not an accuracy; {expected}")


def _refuse_twins(path: Path, requests: Sequence[ScoreRequest]) -> None:
    """Two scores of one cell under one condition would be one score written twice."""
    seen: dict[tuple[Any, ...], ScoreRequest] = {}
    for request in requests:
        if not request.runs:
            continue
        conditions = sorted(request.params.split(";"))
        twin = seen.setdefault((*request.fields.values(), request.metric, *conditions), request)
        if twin is not request:
            remedy = "leave one out or tell them apart by `params`"
            raise FileError(f"{path}: {twin.where} and {request.where} are the same cell; {remedy}")


_BRANCH = re.compile(r"(str|AxisValue|float|constrained-\w+)\Z|.*\[")  # how pydantic names the alternatives of a field


def _complaint(error: ValidationError) -> str:
    """What is wrong with a table file, in one sentence."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    if not location:
        return first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"no `{location[0]}`; a table lists title, protocol, dataset, attack, defense, architecture, seed"
    if first["type"] == "extra_forbidden" and len(location) == 1:
        return f"`{location[0]}` is not known; a table has {', '.join(TableFile.model_fields)}"
    where = [part for part in location if not _BRANCH.match(part)]
    return f"`{'.'.join(where)}`: {first['msg']}, found {first['input']!r}"


def table_names() -> list[str]:
    """The names of the program's own tables; `results.reference` has those of papers."""
    return sorted(path.stem for path in TABLES.glob("*.toml"))
