"""What lies in a store: list it, verify it, remove what nobody will use again."""

from __future__ import annotations

import shutil
from itertools import starmap
from pathlib import Path
from typing import Any

from unlearnable_bench.poisons.store import DamagedError, Store, read_manifest, verify_set
from unlearnable_bench.registry import ATTACKS, DATASETS, DEFENSES, EntryError
from unlearnable_bench.registry.catalog import Catalog
from unlearnable_bench.registry.versions import edition


def list_sets(root: Path) -> list[dict[str, Any]]:
    """List the sets: path, attack, dataset, defense, checksum, bytes, and a state where one is not whole."""
    rows = []
    for folder in Store(root).folders():
        row: dict[str, Any] = {"path": str(folder), "attack": "", "dataset": "", "defense": "", "checksum": "", "state": ""}
        row["bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        state = _state(folder)
        try:
            recipe = read_manifest(folder)["recipe"]
            poison = recipe.get("poison", recipe)
            row["attack"] = "+".join(part["name"] for part in poison.get("attack", [])) or "none"
            row["dataset"] = poison["dataset"]["name"]
            row["defense"] = "+".join(part["name"] for part in recipe.get("defense", []))
            row["checksum"] = read_manifest(folder)["checksum"]
        except (DamagedError, KeyError, TypeError, AttributeError):
            state = state or "damaged"
        rows.append(row | {"state": state})
    return rows


def _state(folder: Path) -> str:
    if folder.name.endswith(".making"):
        return "half made"
    return "damaged" if ".damaged-" in folder.name else ""


def verify_sets(root: Path) -> list[dict[str, Any]]:
    """Read every whole set and compare it with its manifest; `error` is '' or says what is wrong."""
    rows = []
    for folder in Store(root).folders():
        if not _state(folder):
            error = ""
            try:
                verify_set(folder)
            except DamagedError as damage:
                error = f"{damage}; the next run makes it again"
            rows.append({"path": str(folder), "error": error})
    return rows


def prune(root: Path, *, everything: bool = False, dry_run: bool = False) -> list[dict[str, Any]]:
    """Remove damaged and half-made sets and those of older versions of their entries; return what was removed and why."""
    removed = []
    for row in list_sets(root):
        why = row["state"] or _outdated(Path(row["path"])) or ("all were asked for" if everything else "")
        if why:
            removed.append({"path": row["path"], "bytes": row["bytes"], "why": why})
            if not dry_run:
                shutil.rmtree(row["path"])
    return removed


def _outdated(folder: Path) -> str:
    """Say what entry of a set has another edition now than the set was made with, or ''."""
    recipe = read_manifest(folder)["recipe"]
    poison = recipe.get("poison", recipe)
    parts: list[tuple[Catalog, dict[str, Any]]] = []
    parts += [(ATTACKS, part) for part in poison.get("attack", [])]
    parts += [(DEFENSES, part) for part in recipe.get("defense", [])]
    parts.append((DATASETS, poison["dataset"]))
    return next(filter(None, starmap(_change, parts)), "")


def _change(catalog: Catalog, part: dict[str, Any]) -> str:
    try:
        today = catalog.stored(part["name"], part["fields"])
    except EntryError:
        return f"no {catalog.noun} {part['name']!r} any more"
    then = edition(part["version"], part.get("revisions", {}))
    now = edition(today.entry.version, today.revisions)
    if now == then:
        return ""
    return f"made by version {then} of {today.entry.name}, now it is {now}"
