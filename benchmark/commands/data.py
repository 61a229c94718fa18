"""Datasets, and public weights: `data ls`, `data get`, `data verify`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlearnable_bench.benchmark.commands.common import Json, print_json, print_rows, usage

if TYPE_CHECKING:
    from unlearnable_bench.registry._archives import Archive
    from unlearnable_bench.registry._public_weights import PublicWeights
    from unlearnable_bench.registry.catalog import ConfiguredEntry

From = Annotated[
    list[Path] | None,
    typer.Option(
        "--from", help="Local copy of a published file of the dataset, used instead of the network; repeat for several."
    ),
]


def ls(as_json: Json = False) -> None:
    """List datasets and whether they are on this machine.

    Example: `bench data ls`
    """
    from unlearnable_bench.registry import DATASETS, data

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


def get(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the dataset, or weights:NAME for weights that others publish.")
    ],
    files: From = None,
    as_json: Json = False,
) -> None:
    """Download a dataset, or unpack local copies (--from), and compare its checksums. Public weights come in the same way.

    This is the only command that downloads anything.

    Example: `bench data get cifar10 --from cifar-10-python.tar.gz`
    """
    from unlearnable_bench.registry import DATASETS, MissingDataError
    from unlearnable_bench.registry._public_weights import PREFIX

    if name.startswith(PREFIX):
        return _get_weights(name.removeprefix(PREFIX), files or [], as_json)
    part = DATASETS.resolve(name)[0]
    sources = _recognized(part, files) if files else {}
    try:
        row = _verified(part)
    except MissingDataError:
        if sources:
            _unpack(part, sources)
        elif hasattr(part.entry.load(), "download"):
            _download(part)
        else:
            raise
        row = _verified(part)
    _print_data([row], as_json)


def _get_weights(name: str, files: list[Path], as_json: bool) -> None:
    """Get weights that are not here yet, and print the network that begins with them."""
    from unlearnable_bench.registry._public_weights import public_weights

    weights = public_weights(name)
    if len(files) > 1:
        raise usage(f"weights {name} are published as one file; give --from once")
    if not weights.is_there:
        _keep_weights(weights, *files)
    if as_json:
        return print_json({"spec": weights.spec, "path": str(weights.folder), "license": weights.license})
    print(f"{weights.spec}\npath     {weights.folder}\nlicense  {weights.license}")


def _keep_weights(weights: PublicWeights, file: Path | None = None) -> None:
    """Let weights download themselves, or read a copy of their file."""
    from http.client import HTTPException

    origin = str(file or weights.url)
    with _bar(f"{weights.name}: getting", origin, weights.size) as progress:
        try:
            weights.get(file, progress)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            remedy = f"try again, or give a copy of {weights.url} by --from"
            raise usage(f"cannot get weights {weights.name} from {origin}: {reason}; {remedy}") from None


def _download(part: ConfiguredEntry) -> None:
    """Let a dataset download itself, or say how to get it."""
    from unlearnable_bench.registry import data

    root = data.root_of(part)
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.entry.load().download(root)
    except OSError as error:
        reason = getattr(error, "reason", error)
        remedy = "try again, give its files by --from, or put them there"
        raise usage(f"cannot download dataset {part.name} to {root}: {reason}; {remedy}") from None


def _recognized(part: ConfiguredEntry, files: list[Path]) -> dict[Archive, Path]:
    """Return which archive each file is, by its checksum."""
    from unlearnable_bench.registry import _archives

    with _counted(f"{part.name}: checking", files) as progress:
        return _archives.recognize(part, files, progress)


def _unpack(part: ConfiguredEntry, sources: dict[Archive, Path]) -> None:
    """Unpack archives into the folder of a dataset."""
    from unlearnable_bench.registry import _archives, data

    root = data.root_of(part)
    with _counted(f"{part.name}: unpacking", list(sources.values())) as progress:
        try:
            _archives.unpack(sources, root, progress)
        except OSError as error:
            reason = f"{error.strerror or error}; files that were there are unchanged"
            raise usage(f"cannot write dataset {part.name} to {root}: {reason}") from None


def _counted(text: str, files: list[Path]) -> AbstractContextManager[Callable[[int], None]]:
    """Show on a terminal how many bytes of files were read; elsewhere print one line."""
    total = sum(file.stat().st_size for file in files if file.is_file())
    return _bar(text, ", ".join(file.name for file in files), total)


@contextmanager
def _bar(text: str, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many bytes were read, of so many; elsewhere print one line."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"{text} {what}", file=sys.stderr, flush=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(text, total=total)
        yield partial(bar.advance, task)


def verify(
    spec: Annotated[str | None, typer.Argument(metavar="SPEC", help="Spec of a dataset; default: all on this machine.")] = None,
    as_json: Json = False,
) -> None:
    """Decode datasets from their files again and compare them with the decoded copies.

    Example: `bench data verify digits`
    """
    from unlearnable_bench.registry import DATASETS, data

    names = [spec] if spec else [e.name for e in DATASETS.rows if e.name != "folder" and not e.error]
    parts = [DATASETS.resolve(name)[0] for name in names]
    rows = [_verified(part) for part in parts if spec or not data.missing(part)]
    _print_data(rows, as_json)
    if any(row["changed"] for row in rows):
        raise typer.Exit(1)


def _verified(part: ConfiguredEntry) -> dict[str, Any]:
    from unlearnable_bench.registry import data

    before = data.decoded_fingerprint(part)
    data.forget_decoded(part)
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
