"""What `bench doctor` finds: versions, devices, data, plug-ins, records; and the cluster. Imports no torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unlearnable_bench.benchmark import provenance
from unlearnable_bench.registry import CATALOGS, child, data
from unlearnable_bench.registry._paths import data_root
from unlearnable_bench.registry.catalog import all_entries
from unlearnable_bench.registry.entry import Entry, singular
from unlearnable_bench.results import Records, Workspace


@dataclass(frozen=True)
class MachineCheck:
    """Something that was looked at."""

    name: str
    ok: bool
    detail: str


def findings(records: Records) -> list[MachineCheck]:
    """Look at versions, devices, data and plug-ins, and at whether `records` are as they were written."""
    return [
        MachineCheck("python", True, platform.python_version()),
        *(_library(name) for name in (*provenance.LIBRARIES, "submitit", "pandas", "jinja2")),
        MachineCheck("devices", True, _devices()),
        MachineCheck("code", True, f"tree {provenance.tree()[:12]}, commit {provenance.commit()[:12] or 'none'}"),
        _data(),
        *_entries(),
        _records(records),
    ]


def _library(name: str) -> MachineCheck:
    try:
        return MachineCheck(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return MachineCheck(name, False, "not installed; run pip install unlearnable-bench")


def _devices() -> str:
    from unlearnable_bench.benchmark import schedule

    gpus = schedule.gpu_count()
    names = [provenance.device_name(f"cuda:{n}") for n in range(gpus)]
    return "; ".join([f"{provenance.device_name('cpu')}, {schedule.cores()} cores", *names])


def _data() -> MachineCheck:
    """Where datasets lie, whether more can be written there, and which are there."""
    root = data_root()
    present = [entry.name for entry in CATALOGS["datasets"].rows if _is_present(entry)]
    nearest = next(path for path in (root, *root.parents) if path.exists())
    writable = os.access(nearest, os.W_OK)
    return MachineCheck("data", writable, f"{root} ({'writable' if writable else 'not writable'}); there: {', '.join(present)}")


def _is_present(entry: Entry) -> bool:
    """Whether a dataset that has a name of its own can be used on this machine."""
    catalog = CATALOGS["datasets"]
    if entry.name == "folder" or catalog.installed(entry.name) is None:
        return False
    return not data.missing(catalog.resolve(entry.name)[0])


def _entries() -> Iterator[MachineCheck]:
    """Yield what is wrong with entries: those that fail, and names that are there twice; then how many there are."""
    entries = all_entries()
    errors = child.failing(entries, fresh=True)
    for key, error in errors.items():
        kind, name, package = key.split(":", 2)
        yield MachineCheck(f"{singular(kind)} {name}", False, f"of {package}: {error}")
    for catalog in CATALOGS.values():
        for name, same_name in catalog.repeated().items():
            packages = " and ".join(entry.source for entry in same_name)
            yield MachineCheck(f"{catalog.noun} {name}", False, f"two of this name, from {packages}")
    yield MachineCheck("entries", not errors, f"{len(entries)} found, {len(errors)} broken")


def _records(records: Records) -> MachineCheck:
    """How many records there are, and which are not as they were written."""
    ids, changed = records.ids(), records.changed()
    detail = f"{len(ids)} in {records.folder}, {len(ids & records.seals().keys())} of them written there"
    if changed:
        detail += f"; changed since: {', '.join(changed[:5])}"
    return MachineCheck("records", not changed, detail)


def cluster_findings(space: Workspace, profile: Path | None) -> list[MachineCheck]:
    """Look at the SLURM cluster that this machine belongs to. FileError for a wrong profile."""
    from unlearnable_bench.benchmark import slurm

    read = slurm.read_profile(profile) if profile else None
    space.writable()
    return [MachineCheck(*found) for found in slurm.site_findings(space.private, read)]
