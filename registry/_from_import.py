"""Reads an entry from the class or function that its import gives."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from functools import cache
from typing import Any, cast

from unlearnable_bench.registry import contract
from unlearnable_bench.registry.contract import EntryError
from unlearnable_bench.registry.entry import BASES, CALLED_WITH, FACTS, MERGED, Entry, Field, StatedFacts


def imported(entry: Entry) -> Entry:
    """Return an entry with all that its import tells. EntryError."""
    loaded = entry.load()
    doc = inspect.getdoc(loaded) or importlib.import_module(entry.module).__doc__ or ""
    facts = {fact: getattr(loaded, fact) for fact in FACTS if hasattr(loaded, fact)}
    entry = dataclasses.replace(entry, doc=doc, facts=cast(StatedFacts, facts))
    return _class(entry, loaded) if entry.kind in BASES else _function(entry, loaded)


def inherited_facts(cls: type, fact: str) -> dict[str, Any]:
    """Return what a class and its base classes state of a fact that they add to."""
    stated: dict[str, Any] = {}
    for ancestor in reversed(cls.__mro__):
        stated |= vars(ancestor).get(fact, {})
    return stated


def dataclass_fields(cls: Any) -> tuple[Field, ...]:
    """Return the fields of a dataclass with their comments. EntryError for one without a default."""
    fields = []
    for own in dataclasses.fields(cls):
        if own.default is dataclasses.MISSING:
            raise EntryError(f"the field {own.name!r} has no default; every field of an entry needs one")
        hidden = bool(own.metadata.get("hidden"))
        fields.append(Field(own.name, _annotation(own.type), own.default, _inherited_comment(cls, own.name), hidden))
    return tuple(fields)


def comment_of(line: str) -> str:
    """Return the comment at the end of a line of source; '' where there is none."""
    return line.partition("  # ")[2].strip()


def _class(entry: Entry, loaded: Any) -> Entry:
    base = getattr(contract, BASES[entry.kind])
    if not _derives(loaded, base):
        raise EntryError(f"{entry.module}:{entry.attribute} is not a dataclass derived from unlearnable_bench.{base.__name__}")
    hooks = [name for name, method in inspect.getmembers(base, callable) if getattr(loaded, name) is not method]
    return dataclasses.replace(
        entry,
        paper=getattr(loaded, "paper", None),
        fields=dataclass_fields(loaded),
        hooks=frozenset(hooks),
        facts=cast(StatedFacts, {**entry.facts, **{fact: inherited_facts(loaded, fact) for fact in MERGED}}),
    )


def _derives(loaded: Any, base: type) -> bool:
    return inspect.isclass(loaded) and issubclass(loaded, base) and dataclasses.is_dataclass(loaded)


def _function(entry: Entry, loaded: Any) -> Entry:
    if not inspect.isfunction(loaded):
        raise EntryError(f"{entry.module}:{entry.attribute} is not a function; {entry.kind} are functions")
    parameters = dict(inspect.signature(loaded).parameters)
    for name in CALLED_WITH.get(entry.kind, ()):
        parameters.pop(name, None)
    return dataclasses.replace(entry, fields=tuple(map(_argument, parameters.values())))


def _argument(parameter: inspect.Parameter) -> Field:
    if parameter.default is parameter.empty:
        raise EntryError(f"the argument {parameter.name!r} has no default; every field of an entry needs one")
    return Field(parameter.name, _annotation(parameter.annotation), parameter.default)


def _annotation(annotation: Any) -> str:
    """Write the type of a field as its source does."""
    if isinstance(annotation, str):
        return annotation
    return getattr(annotation, "__name__", str(annotation))


@cache
def _inherited_comment(cls: type, name: str) -> str:
    """Return the comment behind a field; one that is only given another default keeps its meaning."""
    comments = (_own_comment(ancestor, name) for ancestor in cls.__mro__)
    return next(filter(None, comments), "")


def _own_comment(cls: type, name: str) -> str:
    comments = [comment_of(line) for line in _source_lines(cls) if line.strip().startswith(f"{name}:")]
    return next(filter(None, comments), "")


@cache  # to find a class, `inspect` parses its whole file: most of the time that a command took to start
def _source_lines(cls: type) -> list[str]:
    try:
        return inspect.getsource(cls).splitlines()
    except (OSError, TypeError):
        return []
