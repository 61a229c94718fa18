"""What pages say of the entries of the registry."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from unlearnable_bench.registry import CATALOGS, EntryError
from unlearnable_bench.registry.entry import Entry
from unlearnable_bench.results import Part

DURING = ("augment", "loss", "start", "model", "configure")
HOOKS = {"purify": "before training"} | dict.fromkeys(DURING, "during training")


def entries_of(kind: str, specs: Iterable[Part]) -> list[Entry]:
    """The entries that specs name, of those that are installed here."""
    entries = []
    for spec in specs:
        try:
            entries.append(CATALOGS[f"{kind}s"].entry(spec.name))
        except EntryError:
            continue
    return entries


def tags_of(entries: Iterable[Entry]) -> list[str]:
    """When defenses act, then what they need; each once."""
    moments: list[str] = []
    needs: list[str] = []
    for entry in entries:
        moments += [moment for hook, moment in HOOKS.items() if hook in entry.hooks]
        needs += [f"needs {need}" for need in entry.facts.get("needs", ())]
    return list(dict.fromkeys(moments + needs))


def idea_of(entry: Entry) -> str:
    """The docstring of an entry's file: the idea, where the entry's own says what is particular to it; '' if that is all."""
    docstring = _docstring(entry)
    return "" if docstring.strip() == entry.doc.strip() else docstring


def _docstring(entry: Entry) -> str:
    if not entry.path:
        return ""
    try:
        return ast.get_docstring(ast.parse(entry.path.read_text(encoding="utf-8"))) or ""
    except (OSError, ValueError, SyntaxError):  # of somebody's package
        return ""
