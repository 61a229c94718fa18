"""Table files: one TOML file says what to run (a grid) and how to print it (rows and columns)."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from results.cell import Cell, Part
from results.record import FileError

AXES = ("protocol", "dataset", "attack", "ratio", "part", "defense", "architecture", "seed")

Resolve = Callable[[str, str], Sequence[Any]]

TABLES = Path(__file__).parent / "tables"


def _item(value: Any) -> Any:
    """Turn the form {name = "lsp", patch = 4} into lsp(patch=4)."""
    if isinstance(value, Mapping):
        fields = dict(value)
        name = fields.pop("name", None)
        if not isinstance(name, str):
            raise ValueError("an item written as a table needs a name")
        inner = ",".join(f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in fields.items())
        return f"{name}({inner})" if inner else name
    return value


def _several(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Items = Annotated[list[Annotated[str, BeforeValidator(_item)]], BeforeValidator(_several), Field(min_length=1)]
Ratios = Annotated[list[Annotated[float, Field(ge=0, le=1)]], BeforeValidator(_several), Field(min_length=1)]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_several), Field(min_length=1)]
Axis = Literal["protocol", "dataset", "attack", "ratio", "part", "defense", "architecture"]


class Table(BaseModel):
    """A grid to run and a layout to print. Every field of the grid may be one value or a list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    note: str = ""
    protocol: Items
    dataset: Items
    attack: Items
    defense: Items
    architecture: Items
    seed: Seeds
    ratio: Ratios = [1.0]
    part: Annotated[list[Literal["all", "clean"]], BeforeValidator(_several)] = ["all"]
    rows: Annotated[list[Axis], BeforeValidator(_several)] = ["attack"]
    columns: Annotated[list[Axis], BeforeValidator(_several)] = ["defense"]

    def expand(self) -> Iterator[dict[str, Any]]:
        """Yield every combination, axis by axis in the order of `AXES`, seeds innermost."""
        for values in itertools.product(*(getattr(self, axis) for axis in AXES)):
            yield dict(zip(AXES, values, strict=True))

    def cells(self, resolve: Resolve) -> list[Cell]:
        """Return the cells of the grid, each once. `resolve(kind, item)` gives the parts of an item with all fields."""
        known: dict[tuple[str, str], tuple[Part, ...]] = {}

        def parts(kind: str, item: str) -> tuple[Part, ...]:
            if (kind, item) not in known:
                found = resolve(kind, item)
                known[kind, item] = tuple(Part(name=p.name, fields=dict(p.fields), text=p.text) for p in found)
            return known[kind, item]

        cells: dict[str, Cell] = {}
        for point in self.expand():
            cell = Cell(
                protocol=parts("protocols", point["protocol"])[0],
                dataset=parts("datasets", point["dataset"])[0],
                attack=parts("attacks", point["attack"]),
                ratio=point["ratio"],
                part=point["part"],
                defense=parts("defenses", point["defense"]),
                architecture=parts("architectures", point["architecture"])[0],
                seed=point["seed"],
            )
            cells.setdefault(cell.id, cell)
        return list(cells.values())

    def replaced(self, **axes: list[Any]) -> Table:
        """The same table with other values on some axes."""
        return Table.model_validate(self.model_dump() | axes)


def read_table(name: str) -> Table:
    """Read a shipped table by its name, or a TOML file by its path. FileError names the file, the place and the remedy."""
    path = Path(name) if name.endswith(".toml") else TABLES / f"{name}.toml"
    if not path.exists():
        known = ", ".join(table_names())
        if name.endswith(".toml"):
            raise FileError(f"there is no table file {path}")
        raise FileError(f"there is no grid {name!r}; grids are {known}, or a path to a .toml file")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path} is not a TOML file: {error}") from None
    try:
        return Table.model_validate(content)
    except ValidationError as error:
        raise FileError(f"{path}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    place = str(first["loc"][0]) if first["loc"] else "the table"
    if first["type"] == "missing":
        return f"no `{place}`; a table lists title, protocol, dataset, attack, defense, architecture, seed"
    if first["type"] == "extra_forbidden":
        return f"`{place}` is not known; a table has {', '.join(Table.model_fields)}"
    return f"`{'.'.join(map(str, first['loc']))}`: {first['msg']}, found {first['input']!r}"


def table_names() -> list[str]:
    """The names of the tables that come with the program."""
    return sorted(path.stem for path in TABLES.glob("*.toml"))
