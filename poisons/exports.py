"""Hands poisons out: `bench poisons export`, `bench poisons convert`."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np

from unlearnable_bench.poisons.arrays import Contents
from unlearnable_bench.poisons.store import Kept
from unlearnable_bench.registry import EntryError, ImageSet

FORMATS = ("png", "npz")


def may_write(to: Path, kind: str) -> None:
    """EntryError if a poison cannot be written there in this format; asked before any work."""
    if kind not in FORMATS:
        raise EntryError(f"--format {kind}: expected {', '.join(FORMATS)}")
    if to.exists():
        raise EntryError(f"{to} exists already; name another path")


def hand_out(kept: Kept, train: ImageSet, to: Path, kind: str) -> None:
    """Write a poison for others: a folder with data/<index>.png, labels.csv and manifest.json, or one .npz."""
    may_write(to, kind)
    to.parent.mkdir(parents=True, exist_ok=True)
    scratch = to.with_name(f".{to.name}.making")
    if scratch.is_dir():
        shutil.rmtree(scratch)
    manifest = json.dumps(kept.manifest, indent=1, sort_keys=True)
    try:
        if kind == "npz":
            _write_npz(kept, manifest, scratch)
        else:
            _write_png(kept, train, scratch)
            (scratch / "manifest.json").write_text(manifest, encoding="utf-8")
        scratch.rename(to)
    finally:
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            scratch.unlink(missing_ok=True)


def write_npz(contents: Contents, to: Path) -> None:
    """Write the arrays of a file of others to an .npz, whole or not at all."""
    to.parent.mkdir(parents=True, exist_ok=True)
    scratch = to.with_name(f".{to.name}.making")
    try:
        with scratch.open("wb") as file:
            if contents.labels is None:
                np.savez(file, images=contents.array)
            else:
                np.savez(file, images=contents.array, labels=contents.labels)
        scratch.rename(to)
    finally:
        scratch.unlink(missing_ok=True)


def _write_npz(kept: Kept, manifest: str, path: Path) -> None:
    pixels = kept.images.permute(0, 2, 3, 1).contiguous().numpy()
    with path.open("wb") as file:  # a name of ours: numpy would add an ending
        np.savez(file, images=pixels, labels=kept.labels.numpy(), manifest=np.array(manifest))


def _write_png(kept: Kept, train: ImageSet, folder: Path) -> None:
    from PIL import Image

    channels = kept.images.shape[1]
    if channels not in (1, 3):
        raise EntryError(f"images of {channels} channels cannot be PNG files; use --format npz")
    (folder / "data").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "label", "class"])
        for row, label in enumerate(kept.labels.tolist()):
            pixels = kept.images[row].permute(1, 2, 0).numpy()
            Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(folder / "data" / f"{row}.png")
            writer.writerow([row, label, train.classes[label] if train.classes else label])
