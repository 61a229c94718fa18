"""What `bench list`, `bench show` and `bench doctor` say. Imports no torch; plug-ins are tried in a child process."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import itertools
import os
import platform
from collections import Counter
from pathlib import Path
from typing import Any

from benchmark import grid as grids
from benchmark import provenance
from benchmark.cost import Cost
from registry import CATALOGS, EntryError, child, data
from registry._places import data_root
from registry.entry import COMMON, Entry, plural, singular, unknown
from registry.item import write_value
from results import Records, Workspace, read_grid
from results.grid import grid_names
from results.reference import source

HOOKS = {"purify", "augment", "loss", "configure", "model", "start", "applies", "measure", "after_epoch"}  # that are shown


def listing(kind: str, pattern: str, records: Records | None = None) -> list[dict[str, Any]]:
    """Return the rows of `bench list`: name, kind, summary, paper, source, error; of grids also what `_grid_row` says."""
    if kind == "grids":
        return _grids(pattern, records)
    if kind not in CATALOGS:
        raise EntryError(f"unknown kind {kind!r}; kinds are {', '.join(CATALOGS)} and grids")
    entries = [entry for entry in CATALOGS[kind].rows if fnmatch.fnmatchcase(entry.name, pattern)]
    errors = child.failing([entry for entry in entries if entry.source != "built-in"])
    count = Counter(entry.name for entry in entries)
    rows = []
    for entry in entries:
        error = errors.get(f"{entry.kind}:{entry.name}:{entry.source}", "")
        if count[entry.name] > 1:
            error = error or f"{count[entry.name]} {kind} have this name; uninstall one of the packages"
        rows.append(_row(entry.name, singular(kind), entry.summary, _cited(entry), entry.source, error))
    return rows


def _cited(entry: Entry) -> str:
    """Title and venue of an entry's paper, '' where it has none."""
    return f"{entry.paper.title} ({entry.paper.venue})" if entry.paper and entry.paper.url else ""


def _grids(pattern: str, records: Records | None) -> list[dict[str, Any]]:
    past = [record for record in records or () if record.metrics]
    done = {record.id for record in past}
    cost = Cost(past)
    return [_grid_row(name, done, cost) for name in grid_names() if fnmatch.fnmatchcase(name, pattern)]


def _grid_row(name: str, done: set[str], cost: Cost) -> dict[str, Any]:
    """One grid: how many cells it has, can run now and has run, and the GPU-hours of training that are left."""
    grid = read_grid(name)
    papers = {table.paper for table in grid.tables.values() if table.paper}
    paper = source(papers.pop()).title if len(papers) == 1 else ""
    title = grid.title if name != "full" else "every table of every paper"
    cells = grids.expand(grid)[0]
    left = [cell for cell in cells if cell.id not in done]
    return _row(name, "grid", title, paper, "built-in", "") | {
        "cells": len(cells) + len(grids.absent(grid)),
        "runnable": len(cells),
        "done": len(cells) - len(left),
        "gpu_hours": cost.hours(left),
    }


def _row(name: str, kind: str, summary: str, paper: str, source: str, error: str) -> dict[str, str]:
    return {"name": name, "kind": kind, "summary": summary, "paper": paper, "source": source, "error": error}


def named(text: str) -> list[Entry]:
    """Return the entries of a name: `kind:name`, or a bare name for every kind that has it. EntryError."""
    kind, colon, name = text.rpartition(":")
    if colon:
        known = kind if kind in CATALOGS else plural(kind)
        if known not in CATALOGS:
            raise EntryError(f"unknown kind {kind!r}; kinds are {', '.join(map(singular, CATALOGS))}")
        return [CATALOGS[known].entry(name)]
    names = {noun: [row.name for row in catalog.rows] for noun, catalog in CATALOGS.items()}
    having = [noun for noun in names if name in names[noun]]
    if not having:
        everything = list(itertools.chain.from_iterable(names.values()))
        raise EntryError(unknown("entry", name, everything, "`bench list attacks` shows all of a kind"))
    return [CATALOGS[noun].entry(name) for noun in having]


def details(entry: Entry) -> dict[str, Any]:
    """Return what is known of an entry, as JSON values."""
    shown = [field for field in entry.fields if not field.hidden]
    fields = [_field(one.name, one.kind, write_value(one.default), one.comment) for one in shown]
    common = {"per_class": "training images of each class, seeded choice", "test_per_class": "test images of each class"}
    fields += [_field(name, "int", "0", f"{common[name]}; 0: all") for name in COMMON.get(entry.kind, {})]
    return {
        "name": entry.name,
        "kind": singular(entry.kind),
        "source": entry.source,
        "version": entry.version,
        "doc": entry.doc,
        "fields": fields,
        "paper": _paper(entry),
        "hooks": sorted(entry.hooks & HOOKS),
        "facts": {key: fact for key, fact in entry.facts.items() if key != "small"},
        "budget": _budget(entry),
    }


def _field(name: str, kind: str, default: str, comment: str) -> dict[str, str]:
    return {"name": name, "type": kind, "default": default, "comment": comment}


def _paper(entry: Entry) -> dict[str, str] | None:
    paper = entry.paper
    if paper is None:
        return None
    return {"title": paper.title, "venue": paper.venue, "authors": paper.authors, "url": paper.url}


def _budget(entry: Entry) -> str:
    """Say what an attack's budget is in words, from its fields."""
    if entry.kind != "attacks":
        return ""
    fields = {f.name: f for f in entry.fields}
    if "epsilon" not in fields:
        return "none needed" if entry.facts.get("identity") else "see the text"
    epsilon = fields["epsilon"]
    return f"epsilon = {write_value(epsilon.default)}" + (f" ({epsilon.comment})" if epsilon.comment else "")


def page(found: dict[str, Any]) -> str:
    """Write the details of an entry for a terminal."""
    lines = [f"{found['kind']} {found['name']}, version {found['version']}, {found['source']}", "", found["doc"], ""]
    if found["fields"]:
        lines.append("parameters")
        width = max(len(f"{f['name']}={f['default']}") for f in found["fields"])
        lines += [f"  {f['name'] + '=' + f['default']:{width}}  {f['type']}  {f['comment']}".rstrip() for f in found["fields"]]
    if found["hooks"]:
        lines.append(f"acts by {', '.join(found['hooks'])}")
    if found["budget"]:
        lines.append(f"budget  {found['budget']}")
    if found["paper"] and found["paper"]["url"]:
        paper = found["paper"]
        lines.append(f"paper   {paper['authors']}. {paper['title']}. {paper['venue']}. {paper['url']}")
    return "\n".join(lines) + "\n"


def doctor(records: Records) -> list[dict[str, Any]]:
    """Return findings (name, ok, detail): versions, devices, data, plug-ins, and whether `records` are as they were written."""
    checks = [_finding("python", True, platform.python_version())]
    checks += [_library(name) for name in (*provenance.LIBRARIES, "submitit", "pandas", "jinja2")]
    checks.append(_finding("devices", True, _devices()))
    checks.append(_finding("code", True, f"tree {provenance.tree()[:12]}, commit {provenance.commit()[:12] or 'none'}"))
    return [*checks, _data(), *_entries(), _records(records)]


def _library(name: str) -> dict[str, Any]:
    try:
        return _finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return _finding(name, False, "not installed; run pip install unlearnable-bench")


def _data() -> dict[str, Any]:
    """Where datasets lie, whether more can be written there, and which are there."""
    root = data_root()
    usable = [entry for entry in CATALOGS["datasets"].rows if not entry.error and entry.name != "folder"]
    there = [entry.name for entry in usable if not _missing(entry)]
    nearest = next(path for path in (root, *root.parents) if path.exists())
    writable = os.access(nearest, os.W_OK)
    return _finding("data", writable, f"{root} ({'writable' if writable else 'not writable'}); there: {', '.join(there)}")


def _entries() -> list[dict[str, Any]]:
    """What is wrong with entries: those that fail, and names that are there twice; then how many there are."""
    everything = list(itertools.chain.from_iterable(catalog.rows for catalog in CATALOGS.values()))
    errors = child.failing(everything, fresh=True)
    checks = []
    for key, error in errors.items():
        kind, name, package = key.split(":", 2)
        checks.append(_finding(f"{singular(kind)} {name}", False, f"of {package}: {error}"))
    for catalog in CATALOGS.values():
        count = Counter(row.name for row in catalog.rows)
        for name in sorted(name for name in count if count[name] > 1):
            packages = " and ".join(row.source for row in catalog.rows if row.name == name)
            checks.append(_finding(f"{catalog.noun} {name}", False, f"two of this name, from {packages}"))
    return [*checks, _finding("entries", not errors, f"{len(everything)} found, {len(errors)} broken")]


def _records(records: Records) -> dict[str, Any]:
    """How many records there are, and which are not as they were written."""
    ids, changed = records.ids(), records.changed()
    told = f"{len(ids)} in {records.folder}, {len(ids & records.seals().keys())} of them written there"
    return _finding("records", not changed, told + (f"; changed since: {', '.join(changed[:5])}" if changed else ""))


def cluster(space: Workspace, profile: Path | None) -> list[dict[str, Any]]:
    """Return findings about the SLURM cluster that this machine belongs to. FileError for a wrong profile."""
    from benchmark import slurm

    read = slurm.read_profile(profile) if profile else None
    space.writable()
    return [_finding(*found) for found in slurm.findings(space.private, read)]


def _missing(entry: Entry) -> str:
    return data.missing(CATALOGS["datasets"].resolve(entry.name)[0]) if _unique(entry) else "two of this name"


def _unique(entry: Entry) -> bool:
    return sum(row.name == entry.name for row in CATALOGS[entry.kind].rows) == 1


def _finding(name: str, ok: bool, detail: str) -> dict[str, Any]:
    return {"name": name, "ok": ok, "detail": detail}


def _devices() -> str:
    from benchmark import schedule

    gpus = schedule.gpu_count()
    names = [provenance.device_name(f"cuda:{n}") for n in range(gpus)]
    return "; ".join([f"{provenance.device_name('cpu')}, {schedule.cores()} cores", *names])
