"""The code that jobs run: a copy made at submission, so that what was submitted is what runs, whatever is edited meanwhile."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import unlearnable_bench
from unlearnable_bench.benchmark import provenance
from unlearnable_bench.benchmark.task import Task
from unlearnable_bench.registry._paths import put_in_place


@dataclass(frozen=True)
class Snapshot:
    """A folder with `unlearnable_bench`, and with the plug-ins that are not installed for good."""

    folder: Path
    tree: str  # of the five packages, as in records
    plugins: str  # sha256 of the plug-ins' files, '' where there are none

    @property
    def path(self) -> list[str]:
        """What jobs have first on PYTHONPATH."""
        return [str(self.folder), *([str(self.folder / "plugins")] if self.plugins else [])]

    def complaint(self) -> str:
        """Say in a sentence that the copy is not what was submitted, or return ''. Ask in the job."""
        here = provenance.tree()
        if here != self.tree:
            return f"the code in {provenance.ROOT} has the hash {here[:12]}, submitted was {self.tree[:12]}; submit again"
        if self.plugins and _hash(self.folder / "plugins") != self.plugins:
            return f"the plug-ins in {self.folder / 'plugins'} were changed since they were submitted; submit again"
        return ""


def take_snapshot(folder: Path, tasks: Iterable[Task]) -> Snapshot:
    """Copy the code that some cells need to `folder`/<hash>, shared by all runs of the same code.

    Plug-ins in the environment's own site-packages stay there; others (editable installs, PYTHONPATH) are copied.
    """
    tree = provenance.tree()
    scratch = folder / f".{secrets.token_hex(6)}"
    scratch.mkdir(parents=True)
    try:
        plugins = _copy_plugins(tasks, scratch / "plugins")
        target = folder / f"{tree[:16]}-{plugins[:16]}".removesuffix("-")
        if not target.exists():
            installed = scratch / "unlearnable_bench"  # as a wheel lays it out
            _copy(Path(unlearnable_bench.__file__), installed / "__init__.py")
            for package in provenance.PACKAGES:
                _copy(provenance.ROOT / package, installed / package)
            (installed / provenance.SUBMITTED).write_text(json.dumps(provenance.commit()))
            put_in_place(scratch, target)  # or another submission was faster; its copy is the same
        return Snapshot(target, tree, plugins)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copy_plugins(tasks: Iterable[Task], folder: Path) -> str:
    """Copy the plug-ins of some cells that may move or change; return the sha256 of their files, '' where there are none."""
    modules: set[str] = set()
    for task in tasks:
        modules |= {part.entry.module for part in task.entries if part.entry.source != "built-in"}
    paths = _movable(modules)
    for path in paths:
        _copy(path, folder / path.name)
    return _hash(folder) if paths else ""


def remove_unused(folder: Path, used: set[str]) -> None:
    """Remove the copies that no run names any more."""
    for path in folder.iterdir():
        if str(path) not in used and not path.name.startswith("."):
            shutil.rmtree(path, ignore_errors=True)


def _movable(modules: Iterable[str]) -> list[Path]:
    """The top-level modules of plug-ins that lie outside of site-packages, as files or folders."""
    settled = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")]
    found: set[Path] = set()
    for module in modules:
        spec = importlib.util.find_spec(module.partition(".")[0])
        if spec is None or spec.origin is None:
            continue
        path = Path(spec.origin).resolve()
        path = path.parent if spec.submodule_search_locations else path
        if not any(path.is_relative_to(place) for place in settled):
            found.add(path)
    return sorted(found)


def _copy(source: Path, target: Path) -> None:
    def skipped(folder: str, names: list[str]) -> set[str]:
        data = provenance.DATA_FOLDERS if Path(folder) == source and source.name in provenance.PACKAGES else {"__pycache__"}
        return {name for name in names if name in data or name == "__pycache__"}

    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=skipped)
    else:
        shutil.copy2(source, target)


def _hash(folder: Path) -> str:
    whole = hashlib.sha256()
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            path = Path(root) / name
            whole.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()
