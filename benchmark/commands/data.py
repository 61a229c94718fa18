"""Data sets: `data ls`, `data get`, `data verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.commands.common import Json, print_json, print_rows, usage

if TYPE_CHECKING:
    from registry.catalog import Part


def ls(as_json: Json = False) -> None:
    """List data sets and whether they are on this machine.

    Example: `bench data ls`
    """
    from registry import DATASETS, data

    rows: list[dict[str, Any]] = []
    for entry in DATASETS.rows:
        if entry.name != "folder" and not entry.error:
            part = DATASETS.resolve(entry.name)[0]
            sentence = data.missing(part)
            needs = entry.facts.get("folder", "")
            path = str(data.root_of(part)) if needs else "comes with the program"
            rows.append({"name": entry.name, "there": not sentence, "path": path, "summary": entry.summary})
    if as_json:
        return print_json(rows)
    print_rows(
        ["name", "there", "path", "summary"],
        [[r["name"], "yes" if r["there"] else "no", r["path"], r["summary"]] for r in rows],
    )


def get(name: str, as_json: Json = False) -> None:
    """Download a data set and check its checksums. The only command that uses the network.

    Example: `bench data get cifar10`
    """
    from registry import DATASETS, MissingDataError, data

    part = DATASETS.resolve(name)[0]
    try:
        row = _verified(part)
    except MissingDataError:
        download, root = getattr(part.entry.load(), "download", None), data.root_of(part)
        if download is None:
            raise
        root.parent.mkdir(parents=True, exist_ok=True)
        try:
            download(root)
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise usage(f"cannot download data set {name} to {root}: {reason}; try again, or put its files there") from None
        row = _verified(part)
    _print_data([row], as_json)


def verify(item: Annotated[str | None, typer.Argument()] = None, as_json: Json = False) -> None:
    """Read data sets anew from their files and compare with what was decoded before.

    Example: `bench data verify digits`
    """
    from registry import DATASETS, data

    names = [item] if item else [e.name for e in DATASETS.rows if e.name != "folder" and not e.error]
    parts = [DATASETS.resolve(name)[0] for name in names]
    rows = [_verified(part) for part in parts if item or not data.missing(part)]
    _print_data(rows, as_json)
    if any(row["changed"] for row in rows):
        raise typer.Exit(1)


def _verified(part: Part) -> dict[str, Any]:
    from registry import data

    before = data.decoded_fingerprint(part)
    data.forget(part)
    loaded = data.load(part)
    row = {"name": part.name, "train": len(loaded.train), "test": len(loaded.test), "classes": loaded.train.num_classes}
    after = data.decoded_fingerprint(part)
    return row | {"fingerprint": after, "changed": before not in ("", after)}


def _print_data(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        return print_json(rows)
    for row in rows:
        state = "CHANGED since it was decoded" if row["changed"] else "ok"
        size = f"{row['train']} training and {row['test']} test images, {row['classes']} classes"
        print(f"{row['name']}: {state}, {size}, fingerprint {row['fingerprint'][:12]}")
