"""What `bench list`, `bench show` and `bench doctor` say. Imports no torch; plug-ins are tried in a child process."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from benchmark import grid as grids
from benchmark import provenance
from benchmark.cost import Cost
from registry import CATALOGS, EntryError, child, data
from registry._places import data_root
from registry.catalog import COMMON, Entry, plural, singular
from registry.item import write_value
from results import Grid, Records, Workspace, read_grid
from results.papers import grid_names, source


def listing(kind: str, pattern: str, records: Records | None = None) -> list[dict[str, Any]]:
    """Return the rows of `bench list`: name, kind, summary, paper, source, error; of grids also what `grid_counts` says."""
    rows: list[dict[str, Any]]
    if kind == "grids":
        names = [name for name in grid_names() if fnmatch.fnmatchcase(name, pattern)]
        past = [record for record in records or () if record.metrics]
        done = {record.id for record in past}
        cost = Cost(past)
        rows = [_grid_row(name, done, cost) for name in names]
    elif kind in CATALOGS:
        entries = CATALOGS[kind].rows
        errors = child.failing([e for e in entries if e.source != "built-in"])
        rows = []
        for entry in entries:
            error = errors.get(f"{entry.kind}:{entry.name}:{entry.source}", "")
            twins = sum(other.name == entry.name for other in entries)
            if twins > 1:
                error = error or f"{twins} {kind} have this name; uninstall one of the packages"
            paper = f"{entry.paper.title} ({entry.paper.venue})" if entry.paper and entry.paper.url else ""
            rows.append(_row(entry.name, singular(kind), entry.summary, paper, entry.source, error))
    else:
        raise EntryError(f"unknown kind {kind!r}; kinds are {', '.join(CATALOGS)} and grids")
    return [row for row in rows if fnmatch.fnmatchcase(row["name"], pattern)]


def _grid_row(name: str, done: set[str], cost: Cost) -> dict[str, Any]:
    """One grid: how many cells it has, can run now and has run, and the GPU-hours of training that are left."""
    grid = read_grid(name)
    papers = {table.paper for table in grid.tables.values() if table.paper} if isinstance(grid, Grid) else set()
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
    found = [c.entry(name) for c in CATALOGS.values() if any(row.name == name for row in c.rows)]
    if not found:
        from registry.catalog import unknown

        raise EntryError(
            unknown(
                "entry",
                name,
                [row.name for c in CATALOGS.values() for row in c.rows],
                "`bench list attacks` shows all of a kind",
            )
        )
    return found


def details(entry: Entry) -> dict[str, Any]:
    """Return what is known of an entry, as JSON values."""
    fields = [
        {"name": f.name, "type": f.kind, "default": write_value(f.default), "comment": f.comment}
        for f in entry.fields
        if not f.hidden
    ]
    common = {"per_class": "training images of each class, seeded choice", "test_per_class": "test images of each class"}
    fields += [
        {"name": name, "type": "int", "default": "0", "comment": f"{common[name]}; 0: all"}
        for name in COMMON.get(entry.kind, {})
    ]
    paper = entry.paper
    return {
        "name": entry.name,
        "kind": singular(entry.kind),
        "source": entry.source,
        "version": entry.version,
        "doc": entry.doc,
        "fields": fields,
        "paper": None
        if paper is None
        else {"title": paper.title, "venue": paper.venue, "authors": paper.authors, "url": paper.url},
        "hooks": sorted(
            entry.hooks & {"purify", "augment", "loss", "configure", "model", "start", "applies", "measure", "after_epoch"}
        ),
        "facts": {key: value for key, value in entry.facts.items() if key != "small"},
        "budget": _budget(entry),
    }


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
    for name in (*provenance.LIBRARIES, "submitit", "pandas", "jinja2"):
        try:
            checks.append(_finding(name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            checks.append(_finding(name, False, "not installed; run pip install unlearnable-bench"))
    checks.append(_finding("devices", True, _devices()))
    checks.append(_finding("code", True, f"tree {provenance.tree()[:12]}, commit {provenance.commit()[:12] or 'none'}"))
    root = data_root()
    there = [e.name for e in CATALOGS["datasets"].rows if not e.error and e.name != "folder" and not _missing(e)]
    nearest = next(p for p in (root, *root.parents) if p.exists())
    writable = os.access(nearest, os.W_OK)
    detail = f"{root} ({'writable' if writable else 'not writable'}); there: {', '.join(there)}"
    checks.append(_finding("data", writable, detail))
    entries = [e for c in CATALOGS.values() for e in c.rows]
    errors = child.failing(entries, fresh=True)
    for key, error in errors.items():
        kind, name, source = key.split(":", 2)
        checks.append(_finding(f"{singular(kind)} {name}", False, f"of {source}: {error}"))
    for catalog in CATALOGS.values():
        names = [row.name for row in catalog.rows]
        for name in sorted({n for n in names if names.count(n) > 1}):
            sources = " and ".join(row.source for row in catalog.rows if row.name == name)
            checks.append(_finding(f"{catalog.noun} {name}", False, f"two of this name, from {sources}"))
    checks.append(_finding("entries", not errors, f"{len(entries)} found, {len(errors)} broken"))
    ids, changed = records.ids(), records.changed()
    told = f"{len(ids)} in {records.folder}, {len(ids & records.seals().keys())} of them written there"
    checks.append(_finding("records", not changed, told + (f"; changed since: {', '.join(changed[:5])}" if changed else "")))
    return checks


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
