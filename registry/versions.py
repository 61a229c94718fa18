"""Editions of entries, their versions and revisions: which are in use today, and which records are out of date."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from unlearnable_bench.registry.catalog import CATALOGS, DATASETS, ConfiguredEntry
from unlearnable_bench.registry.contract import EntryError
from unlearnable_bench.registry.entry import Entry, plural, singular


class Stored(Protocol):
    """A part of a cell as records keep it."""

    @property
    def name(self) -> str: ...

    @property
    def fields(self) -> Mapping[str, Any]: ...


def edition(version: int, revisions: Mapping[str, int]) -> str:
    """Write a version, and behind it the revisions that concern what it is the version of: `1`, `1.2`."""
    numbers = [version, *(revisions[condition] for condition in sorted(revisions))]
    return ".".join(map(str, numbers))


def editions(parts: Iterable[ConfiguredEntry]) -> dict[str, str]:
    """Return `kind:name` -> edition of the entries of a cell, and of those that its poison is made from.

    An edition has the package of an entry that is not ours. Parts of one entry have one edition, of all their revisions.
    """
    used: list[ConfiguredEntry] = []
    for part in parts:
        used += _with_sources(part)
    revisions = _revisions(used)
    entries = {_key(part): part.entry for part in used}
    return {key: edition(entry.version, revisions[key]) + _package(entry) for key, entry in entries.items()}


def outdated(versions: Mapping[str, str], parts: Iterable[tuple[str, Stored]]) -> str:
    """Say which entry has another edition now than in `versions` (as in records), or ''.

    `parts` are those of the record's cell, each with its kind (attack, defense, ...): a revision counts where it concerns them.
    Entries that are not installed are not outdated.
    """
    entries = _installed(versions)
    revised = any(entry.revisions for entry in entries.values())
    revisions = _revisions(_restored(parts)) if revised else {}
    for key, entry in entries.items():
        now = edition(entry.version, revisions.get(key, {}))
        if versions[key].partition(" ")[0] != now:
            return f"{key} was version {versions[key]}, now it is {now}"
    return ""


def _package(entry: Entry) -> str:
    return "" if entry.source == "built-in" else f" of {entry.source}"


def _key(part: ConfiguredEntry) -> str:
    return f"{singular(part.entry.kind)}:{part.name}"


def _revisions(parts: Iterable[ConfiguredEntry]) -> dict[str, dict[str, int]]:
    revisions: dict[str, dict[str, int]] = defaultdict(dict)
    for part in parts:
        revisions[_key(part)] |= part.revisions
    return revisions


def _with_sources(part: ConfiguredEntry) -> Iterator[ConfiguredEntry]:
    """Yield a part and what it is made from: attacks whose specs stand in its fields, the dataset of `dataset=`."""
    yield part
    if part.entry.kind == "attacks" and "dataset" in part.fields:
        yield from DATASETS.resolve(str(part.fields["dataset"]))
    for chain in part.parents:
        for parent in chain:
            yield from _with_sources(parent)


def _installed(keys: Iterable[str]) -> dict[str, Entry]:
    """Return the entries of `kind:name` that are installed."""
    entries: dict[str, Entry] = {}
    for key in keys:
        noun, _, name = key.partition(":")
        catalog = CATALOGS.get(plural(noun))
        entry = catalog.installed(name) if catalog else None
        if entry is not None:
            entries[key] = entry
    return entries


def _restored(parts: Iterable[tuple[str, Stored]]) -> list[ConfiguredEntry]:
    """Return the parts of a stored cell, and what they are made from, as far as their entries are installed."""
    restored: list[ConfiguredEntry] = []
    for noun, part in parts:
        with contextlib.suppress(EntryError):
            restored += _with_sources(CATALOGS[plural(noun)].stored(part.name, part.fields))
    return restored
