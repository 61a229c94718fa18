"""What `bench list` and `bench show` say. Imports no torch; plug-ins are tried in a child process."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from unlearnable_bench.benchmark import grid as grids
from unlearnable_bench.benchmark.cost import Cost
from unlearnable_bench.registry import CATALOGS, EntryError, child
from unlearnable_bench.registry.catalog import all_entries
from unlearnable_bench.registry.entry import Entry, Field, plural, singular, unknown
from unlearnable_bench.registry.spec import write_value
from unlearnable_bench.results import Records, read_grid
from unlearnable_bench.results.grid import grid_names
from unlearnable_bench.results.reference import source

SHOWN_HOOKS = {"purify", "augment", "loss", "configure", "model", "start", "applies", "measure", "after_epoch"}


@dataclass(frozen=True)
class CatalogRow:
    """An entry or a grid, as `bench list` prints it."""

    name: str
    kind: str
    summary: str
    paper: str
    source: str
    error: str = ""


@dataclass(frozen=True)
class GridRow(CatalogRow):
    """A grid, with its cells and the GPU-hours of training that are left; None where nobody knows these."""

    cells: int = 0
    runnable: int = 0
    done: int = 0
    gpu_hours: float | None = None


def listing(kind: str, pattern: str, records: Records | None = None) -> list[dict[str, Any]]:
    """Return the rows of `bench list` as JSON values: fields of `Row`, of grids those of `GridRow`."""
    if kind == "grids":
        return [asdict(row) for row in _grid_rows(pattern, records)]
    if kind not in CATALOGS:
        raise EntryError(f"unknown kind {kind!r}; kinds are {', '.join(CATALOGS)} and grids")
    entries = [entry for entry in CATALOGS[kind].rows if fnmatch.fnmatchcase(entry.name, pattern)]
    errors = child.failing([entry for entry in entries if entry.source != "built-in"])
    return [asdict(_entry_row(entry, errors)) for entry in entries]


def _entry_row(entry: Entry, errors: Mapping[str, str]) -> CatalogRow:
    error = errors.get(entry.key, "") or _repetition(entry)
    return CatalogRow(entry.name, singular(entry.kind), entry.summary, _citation(entry), entry.source, error)


def _repetition(entry: Entry) -> str:
    """Say that other entries have the name of this one, or return ''."""
    same_name = CATALOGS[entry.kind].named(entry.name)
    if len(same_name) == 1:
        return ""
    return f"{len(same_name)} {entry.kind} have this name; uninstall one of the packages"


def _citation(entry: Entry) -> str:
    """Title and venue of an entry's paper, '' where it has none."""
    if entry.paper is None or not entry.paper.url:
        return ""
    return f"{entry.paper.title} ({entry.paper.venue})"


def _grid_rows(pattern: str, records: Records | None) -> list[GridRow]:
    past = [record for record in records or () if record.metrics]
    done = {record.id for record in past}
    cost = Cost(past)
    return [_grid_row(name, done, cost) for name in grid_names() if fnmatch.fnmatchcase(name, pattern)]


def _grid_row(name: str, done: set[str], cost: Cost) -> GridRow:
    """One grid: how many cells it has, can run now and has run, and the GPU-hours of training that are left."""
    grid = read_grid(name)
    papers = {table.paper for table in grid.tables.values()} - {""}
    cells = grids.expand(grid)[0]
    left = [cell for cell in cells if cell.id not in done]
    return GridRow(
        name,
        "grid",
        summary="every table of every paper" if name == "full" else grid.title,
        paper=source(papers.pop()).title if len(papers) == 1 else "",
        source="built-in",
        cells=len(cells) + len(grids.absent(grid)),
        runnable=len(cells),
        done=len(cells) - len(left),
        gpu_hours=cost.hours(left),
    )


def find_entries(text: str) -> list[Entry]:
    """Return the entries of a name: `kind:name`, or a bare name for every kind that has it. EntryError."""
    kind, colon, name = text.rpartition(":")
    if colon:
        return [CATALOGS[_kind(kind)].entry(name)]
    catalogs = [catalog for catalog in CATALOGS.values() if catalog.named(name)]
    if not catalogs:
        names = [entry.name for entry in all_entries()]
        raise EntryError(unknown("entry", name, names, "`bench list attacks` shows all of a kind"))
    return [catalog.entry(name) for catalog in catalogs]


def _kind(text: str) -> str:
    """Return a kind of entries that is named in the singular or the plural. EntryError."""
    kind = text if text in CATALOGS else plural(text)
    if kind not in CATALOGS:
        raise EntryError(f"unknown kind {text!r}; kinds are {', '.join(map(singular, CATALOGS))}")
    return kind


def details(entry: Entry) -> dict[str, Any]:
    """Return what is known of an entry, as JSON values."""
    own = [field for field in entry.fields if not field.hidden]
    return {
        "name": entry.name,
        "kind": singular(entry.kind),
        "source": entry.source,
        "version": entry.version,
        "doc": entry.doc,
        "fields": [_field(field) for field in (*own, *entry.common)],
        "paper": _paper(entry),
        "hooks": sorted(entry.hooks & SHOWN_HOOKS),
        "facts": {key: fact for key, fact in entry.facts.items() if key != "small"},
        "budget": _budget(entry),
    }


def _field(field: Field) -> dict[str, str]:
    return {"name": field.name, "type": field.kind, "default": write_value(field.default), "comment": field.comment}


def _paper(entry: Entry) -> dict[str, str] | None:
    paper = entry.paper
    if paper is None:
        return None
    return {"title": paper.title, "venue": paper.venue, "authors": paper.authors, "url": paper.url}


def _budget(entry: Entry) -> str:
    """Say what an attack's budget is in words, from its fields."""
    if entry.kind != "attacks":
        return ""
    epsilon = entry.by_name.get("epsilon")
    if epsilon is not None:
        comment = f" ({epsilon.comment})" if epsilon.comment else ""
        return f"epsilon = {write_value(epsilon.default)}{comment}"
    return "none needed" if entry.facts.get("identity") else "see the text"


def entry_details(shown: dict[str, Any]) -> str:
    """Write the details of an entry for a terminal."""
    lines = [f"{shown['kind']} {shown['name']}, version {shown['version']}, {shown['source']}", "", shown["doc"], ""]
    lines += _parameters(shown["fields"])
    if shown["hooks"]:
        lines.append(f"acts by {', '.join(shown['hooks'])}")
    if shown["budget"]:
        lines.append(f"budget  {shown['budget']}")
    paper = shown["paper"]
    if paper and paper["url"]:
        lines.append(f"paper   {paper['authors']}. {paper['title']}. {paper['venue']}. {paper['url']}")
    return "\n".join(lines) + "\n"


def _parameters(fields: list[dict[str, str]]) -> list[str]:
    """Write the parameters of an entry below each other, under a heading where there are any."""
    if not fields:
        return []
    given = [f"{field['name']}={field['default']}" for field in fields]
    width = max(map(len, given))
    rows = zip(given, fields, strict=True)
    return ["parameters", *(f"  {text:{width}}  {field['type']}  {field['comment']}".rstrip() for text, field in rows)]
