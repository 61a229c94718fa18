"""Weights of networks that users bring along: a folder of $BENCH_DATA/weights, named with the checksum of its files."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnable_bench.registry._paths import data_root, put_in_place
from unlearnable_bench.registry.contract import EntryError

if TYPE_CHECKING:
    from torch import Tensor

FILES = ("*.safetensors", "*.json")  # all that is read of such a folder


def weights_root() -> Path:
    """The folder of all weights."""
    return data_root() / "weights"


def check_name(owner: str, weights: str) -> None:
    """Refuse what cannot be the name of a folder of weights: no path. EntryError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", weights):
        raise EntryError(f"{owner}: weights={weights} is not the name of a folder in {weights_root()}")


def folder_of(owner: str, weights: str) -> Path:
    """Return the folder of weights of a name. EntryError."""
    check_name(owner, weights)
    place = weights_root()
    folder = place / weights
    if not folder.is_dir():
        there = ", ".join(sorted(p.name for p in place.iterdir() if p.is_dir())) if place.is_dir() else ""
        raise EntryError(f"{owner}: there is no folder {folder}; put the weights there. Found: {there or 'none'}")
    return folder


def fingerprint_of_weights(folder: Path) -> str:
    """Hash all files of a folder that are ever read: 'sha-' and 16 hexadecimal digits."""
    whole = hashlib.sha256()
    for path in sorted(path for pattern in FILES for path in folder.rglob(pattern)):
        with path.open("rb") as file:
            whole.update(f"{path.relative_to(folder).as_posix()}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return f"sha-{whole.hexdigest()[:16]}"


def verified_folder(owner: str, weights: str, checksum: str) -> Path:
    """Return the folder of weights if its files are those that `checksum` stands for. EntryError says what it should be.

    `owner` is the kind and the name of the entry that asks: `defense avatar`.
    """
    folder = folder_of(owner, weights)
    found = fingerprint_of_weights(folder)
    if found != checksum:
        was = f"checksum={checksum} was asked for" if checksum else "a spec must say which weights it means"
        name = owner.split()[-1]
        raise EntryError(f"{owner}: {folder} has checksum={found}; {was}: {name}(weights={weights},checksum={found})")
    return folder


def check_weights(owner: str, fields: Mapping[str, Any]) -> None:
    """Ask, while planning, whether the weights that an entry's fields name are here. EntryError."""
    weights, checksum = str(fields.get("weights", "")), str(fields.get("checksum", ""))
    if weights:
        verified_folder(owner, weights, checksum)
    elif checksum:
        raise EntryError(f"{owner}: checksum={checksum} belongs to weights, and none are named")


def keep_weights(folder: Path, state: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
    """Write a new folder of weights, whole or not at all: `model.safetensors` and `manifest.json`. EntryError, OSError."""
    from safetensors.torch import save

    scratch = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        (scratch / "model.safetensors").write_bytes(save(dict(state)))
        (scratch / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        if not put_in_place(scratch, folder):
            raise EntryError(f"{folder} was made by somebody else in the meantime")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
