"""Finds the entries of a kind: the files of a folder of this package, and the entry points of other packages.

The groups of entry points are `bench.attacks`, `bench.defenses`, `bench.architectures`, `bench.datasets`, `bench.protocols` and
`bench.analyses`; their values are `module:class` or `module:function`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from unlearnable_bench.registry._from_source import describe, registered
from unlearnable_bench.registry._literals import UnreadableError
from unlearnable_bench.registry.contract import EntryError
from unlearnable_bench.registry.entry import Entry, error_text


def built_in(kind: str) -> Iterator[Entry]:
    """Yield the entries of this package, read from their files."""
    for path in sorted((Path(__file__).parent / kind).glob("[!_]*.py")):
        for name, attribute in registered(path.read_text(encoding="utf-8")):
            yield describe(kind, name, "built-in", f"unlearnable_bench.registry.{kind}.{path.stem}", attribute, path)


def plugged_in(kind: str) -> list[Entry]:
    """Return the entries of other packages; one that is broken says why, and is never in the way of the others."""
    entries, unread = [], []
    for point in metadata.entry_points(group=f"bench.{kind}"):
        entry = _announced(kind, point)
        try:
            _check(point)
            entry = dataclasses.replace(entry, module=point.module, attribute=point.attr)
            entry = dataclasses.replace(entry, path=_locate(entry.module))
            entries.append(describe(kind, entry.name, entry.source, entry.module, entry.attribute, entry.path))
        except UnreadableError:
            unread.append(entry)
        except Exception as error:  # a plug-in of somebody else may do anything
            entries.append(dataclasses.replace(entry, path=None, error=error_text(error)))
    if unread:
        from unlearnable_bench.registry import child  # which needs the catalog, and that needs this module

        entries += child.described(unread)
    return entries


def _announced(kind: str, point: metadata.EntryPoint) -> Entry:
    source = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    module, _, attribute = point.value.partition(":")
    return Entry(kind, point.name, source, module, attribute)


def _check(point: metadata.EntryPoint) -> None:
    attribute = point.value.partition(":")[2]
    if not attribute or not point.pattern.match(point.value):
        raise EntryError(f"the entry point names {point.value!r}, expected module:class or module:function")


def _locate(module: str) -> Path | None:
    """Find a module's source without importing its package. EntryError if there is no such module."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise EntryError(f"there is no module {top!r}")
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for folder in spec.submodule_search_locations or ():
        base = Path(folder, *rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.exists():
                return path
    raise EntryError(f"there is no module {module!r}")
