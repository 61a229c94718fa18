"""What pages say of the entries of the registry."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from unlearnable_bench.leaderboard.tables.methods import budget_of
from unlearnable_bench.registry import CATALOGS, EntryError, resolve
from unlearnable_bench.registry.entry import Entry
from unlearnable_bench.results import Part

DURING = ("augment", "loss", "start", "model", "configure")
CHANGED = re.compile(r"\bChanged\b[^:.]*: .*", re.DOTALL)  # how docstrings begin what differs from the authors' code
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


def display_name_of(entry: Entry) -> str:
    """Its proper name; of an entry without one, or that is not installed here, the name in specs."""
    return entry.facts.get("display_name") or entry.name


def deviations_of(entry: Entry) -> str:
    """What its docstring says is changed from the authors' code; '' for nothing."""
    found = CHANGED.search(entry.doc)
    return found[0] if found else ""


def budget_text_of(entry: Entry) -> str:
    """The budget of an attack with its defaults; '' for what is no attack of today's."""
    try:
        (part,) = resolve("attacks", entry.name)
    except EntryError:
        return ""
    return budget_of(part).text
