"""Finds entries by name, ours and other packages', and resolves specs to parts with all their fields.

Nothing is imported: `_discovery.py` says where entries are, and `_from_source.py` reads them from their source. An entry whose
source cannot be read that way is imported in a child process (`child.py`).
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from unlearnable_bench.registry import _discovery, _images, contract
from unlearnable_bench.registry._paths import expand_home
from unlearnable_bench.registry.contract import EntryError
from unlearnable_bench.registry.entry import COMMON, Entry, Field, singular, unknown
from unlearnable_bench.registry.spec import SELFTRAINED, Named, is_folder, parse, write_spec

T = TypeVar("T")
_ABSENT = object()  # differs from every value


@dataclass(frozen=True)
class ConfiguredEntry:
    """One part of a spec with all its fields: the defaults and what was given."""

    entry: Entry
    name: str  # the entry's; of a folder of images: folder-<base name>-<8 digits of its fingerprint>
    fields: Mapping[str, Any]  # that ids and keys are made of: `values` without later fields at their neutral value
    root: Path | None = None  # of a folder of images, on this machine

    @property
    def values(self) -> dict[str, Any]:
        """All fields, as the entry is made with them."""
        return {**self.entry.later, **self.fields}

    @property
    def revisions(self) -> dict[str, int]:
        """The corrections of its entry that concern these values."""
        return {condition: number for condition, number in self.entry.revisions.items() if self._meets(condition)}

    def _meets(self, condition: str) -> bool:
        fields, values = self.entry.by_name, self.values
        asked = self.entry.condition(condition)
        return all(fields[name].same(values.get(name), value) for name, value in asked.items())

    @property
    def parents(self) -> tuple[tuple[ConfiguredEntry, ...], ...]:
        """The attacks whose specs stand in its fields, with the values that it hands to them."""
        chains = []
        for name, handed in self.entry.facts.get("parents", {}).items():
            first, *rest = ATTACKS.resolve(str(self.values[name]))
            shared = [key for key in handed if key in first.entry.by_name]
            chains.append((first.changed({key: self.values[key] for key in shared}), *rest))
        return tuple(chains)

    def changed(self, values: Mapping[str, Any]) -> ConfiguredEntry:
        """Return the part with other values of some fields."""
        return dataclasses.replace(self, fields=self.entry.hashed({**self.values, **values}))

    @property
    def text(self) -> str:
        """The spec with the fields that differ from the defaults."""
        values, defaults = self.values, self.entry.defaults
        others = sorted(values.keys() - defaults.keys())
        order = [name for name in (*defaults, *others) if name in values]  # whatever that of a record: folders are so named
        given = {name: values[name] for name in order if defaults.get(name, _ABSENT) != values[name]}
        given.pop("scale", None)
        scale = values.get("scale", 1.0)
        factor = f"@{scale:g}" if scale != 1.0 else ""
        return write_spec(f"{self.name}{self.trained}{factor}", given)

    @property
    def trained(self) -> str:
        """'-selftrained', which a text always says, where weights come from the set at hand instead of a download."""
        return f"-{SELFTRAINED}" if self.values.get("weights") == SELFTRAINED else ""

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs beside the poison; a need that a field brings along only where that field is set."""
        bringing = self.entry.facts.get("brings", {})
        return tuple(need for need in self.entry.facts.get("needs", ()) if need not in bringing or self._sets(bringing[need]))

    def _sets(self, name: str) -> bool:
        """Whether a field has another value than its default."""
        return bool(self.values[name] != self.entry.by_name[name].default)

    @property
    def members(self) -> tuple[str, ...]:
        """The specs that are run in its place; of most entries none."""
        return self.entry.facts.get("members", ())

    def build(self) -> Any:
        """Import the entry and make it with these fields (attacks, defenses, protocols)."""
        own = self.entry.by_name
        return self.entry.load()(**{name: value for name, value in self.values.items() if name in own})


class Catalog(Mapping[str, Any]):
    """The entries of one kind. As a mapping: names to the imported class or function."""

    chains = False  # whether specs may be chained by '+'

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.noun = singular(kind)

    def register(self, name: str, **facts: Any) -> Callable[[T], T]:
        """Mark a class or function of this package as the entry `name`; `facts` are attributes that it gets.

        Nothing is registered when this runs: the catalog reads the decorator, with its name and facts, in the source.
        """

        def mark(marked: T) -> T:
            for key, value in facts.items():
                setattr(marked, key, value)
            return marked

        return mark

    @cached_property
    def rows(self) -> tuple[Entry, ...]:
        """All entries, built-in ones first; two of one name are both there."""
        ours = sorted(_discovery.built_in(self.kind), key=lambda entry: entry.name)
        theirs = sorted(_discovery.plugged_in(self.kind), key=lambda entry: entry.name)
        return (*ours, *theirs)

    @cached_property
    def _by_name(self) -> Mapping[str, list[Entry]]:
        entries: dict[str, list[Entry]] = defaultdict(list)
        for row in self.rows:
            entries[row.name].append(row)
        return dict(entries)

    def named(self, name: str) -> list[Entry]:
        """Return the entries of a name, several where packages share it."""
        return self._by_name.get(name, [])

    def repeated(self) -> dict[str, list[Entry]]:
        """Return the entries of every name that several have."""
        return {name: entries for name, entries in sorted(self._by_name.items()) if len(entries) > 1}

    def stored(self, name: str, fields: Mapping[str, Any]) -> ConfiguredEntry:
        """Return a part of a stored cell. EntryError as for `entry`."""
        return ConfiguredEntry(self.entry(self._stored_name(name)), name, fields)

    def installed(self, name: str) -> Entry | None:
        """Return the entry of a part of a stored cell; None where it is not here, broken, or there are two."""
        entries = self._by_name.get(self._stored_name(name), [])
        if len(entries) != 1 or entries[0].error:
            return None
        return entries[0]

    def entry(self, name: str) -> Entry:
        """Find an entry. EntryError: unknown (with the nearest name), two of that name, or broken."""
        entries = self._by_name.get(name, [])
        if len(entries) > 1:
            sources = " and ".join(row.source for row in entries)
            raise EntryError(f"two {self.kind} are called {name!r}, from {sources}; uninstall one of the packages")
        if not entries:
            raise EntryError(unknown(self.noun, name, [row.name for row in self.rows], f"`bench list {self.kind}` shows all"))
        if entries[0].error:
            raise EntryError(f"{self.noun} {name!r} of {entries[0].source} is broken: {entries[0].error}")
        return entries[0]

    def __getitem__(self, name: str) -> Any:
        if not any(row.name == name for row in self.rows):
            raise KeyError(name)
        return self.entry(name).load()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(row.name for row in self.rows if not row.error))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def resolve(self, spec: str) -> tuple[ConfiguredEntry, ...]:
        """Return the parts of a spec with all their fields. EntryError says what is wrong with it.

        Chains (`a+b`) are for defenses, and for attacks whose later parts are tools that act on a poison.
        """
        named = parse(spec)
        if len(named) > 1 and not self.chains:
            raise EntryError(f"{spec!r}: only defenses and attacks can be chained by '+'")
        return tuple(map(self._part, named))

    def _part(self, named: Named) -> ConfiguredEntry:
        name, root = self._place(named)
        entry = self.entry(self.entry_name(named))
        owner = f"{self.noun} {entry.name}"
        self._check_scale(owner, named)
        parameters = self.parameters(entry)
        fields = entry.defaults
        for key, value in named.given.items():
            if key not in parameters:
                raise EntryError(unknown(f"{owner} has no parameter", key, list(parameters), "", prefix=""))
            fields[key] = parameters[key].accept(owner, value)
            if key == "epsilon" and isinstance(fields[key], int | float) and fields[key] < 0:
                raise EntryError(f"{owner}: epsilon={value} is not a radius; expected 0 or more")
            fields[key] = self._settled(entry, key, fields[key])
        self._complete(owner, named, fields)
        return ConfiguredEntry(entry, name, entry.hashed(fields), root)

    def parameters(self, entry: Entry) -> dict[str, Field]:
        """Return what a spec can give: the fields of an entry that are not hidden, and those of all entries of the kind."""
        return {name: field for name, field in entry.parameters.items() if not field.hidden}

    # what kinds do in their own way

    def entry_name(self, named: Named) -> str:
        """Return the name of the entry of a part that a spec names."""
        return named.name

    def _stored_name(self, name: str) -> str:
        """Return the name of the entry of a part that a record names."""
        return name

    def _place(self, named: Named) -> tuple[str, Path | None]:
        """Return the name of a part, and its folder on this machine, if there is one."""
        return named.name, None

    def _check_scale(self, owner: str, named: Named) -> None:
        if named.scale != 1.0:
            raise EntryError(f"{owner}: only a protocol can be scaled by '@'")

    def _settled(self, entry: Entry, key: str, value: Any) -> Any:
        """Return a value that a spec gives as the part has it. EntryError where it cannot be."""
        return value

    def _complete(self, owner: str, named: Named, fields: dict[str, Any]) -> None:
        """Add to the fields of a part, and check them together. EntryError."""


class _Defenses(Catalog):
    chains = True


class _Attacks(Catalog):
    chains = True

    def resolve(self, spec: str) -> tuple[ConfiguredEntry, ...]:
        parts = super().resolve(spec)
        self._check_chain(spec, *parts)
        return parts

    def _check_chain(self, spec: str, first: ConfiguredEntry, *rest: ConfiguredEntry) -> None:
        """Refuse a tool without a poison at its left, another attack at its right, and `dataset=` that no tool uses."""
        if rest and first.entry.facts.get("chained"):
            raise EntryError(f"{spec!r}: {first.name} acts on the poison at its left, and there is none")
        for part in rest:
            if not part.entry.facts.get("chained"):
                tools = ", ".join(row.name for row in self.rows if row.facts.get("chained"))
                raise EntryError(f"{spec!r}: {part.name} makes a poison of its own; only tools may follow a '+' ({tools})")
            if "dataset" in part.fields:
                raise EntryError(f"{spec!r}: dataset= belongs to the first part, {first.name}")
        if "dataset" in first.fields and not any(part.entry.facts.get("onto") for part in rest):
            raise EntryError(
                f"{spec!r}: a poison of another dataset must be transferred to the dataset of the cell; write {spec}+transfer"
            )

    def parameters(self, entry: Entry) -> dict[str, Field]:
        return super().parameters(entry) | {"seed": Field("seed", "int", None), "dataset": Field("dataset", "str", None)}

    def _settled(self, entry: Entry, key: str, value: Any) -> Any:
        if key == "dataset":
            return DATASETS.resolve(value)[0].text
        parents = entry.facts.get("parents", {})
        if key in parents:
            self._check_parent(f"{self.noun} {entry.name}", key, value, parents[key])
        return value

    def _check_parent(self, owner: str, key: str, spec: str, handed: tuple[str, ...]) -> None:
        self.resolve(spec)
        given = parse(spec)[0].given
        for name in handed:
            if name in given:
                raise EntryError(f"{owner}: {name} does not go into {key}={spec}; it is a parameter of {owner} itself")


class _Datasets(Catalog):
    def entry_name(self, named: Named) -> str:
        return "folder" if named.name.startswith("folder:") else named.name

    def _stored_name(self, name: str) -> str:
        return "folder" if is_folder(name) else name

    def _place(self, named: Named) -> tuple[str, Path | None]:
        if not named.name.startswith("folder:"):
            return named.name, None
        root = expand_home(Path(named.name.removeprefix("folder:"))).absolute()
        return _images.folder_name(root), root

    def _complete(self, owner: str, named: Named, fields: dict[str, Any]) -> None:
        for field in COMMON[self.kind]:
            if fields[field.name] < 0:
                raise EntryError(f"{owner}: {field.name}={fields[field.name]} is negative; 0 means all images")


class _Protocols(Catalog):
    def _check_scale(self, owner: str, named: Named) -> None:
        """Every factor of the epochs can be asked for."""

    def _complete(self, owner: str, named: Named, fields: dict[str, Any]) -> None:
        fields["scale"] = named.scale
        contract.check_recipe(owner, fields)


def resolve(kind: str, spec: str) -> tuple[ConfiguredEntry, ...]:
    """Return the parts of a spec of `kind` (attacks, defenses, ...) with all their fields. EntryError, MissingDataError."""
    return CATALOGS[kind].resolve(spec)


def lacking(kind: str, spec: str) -> list[tuple[str, str]]:
    """Return what of a spec is not there: (name, '') for an unknown entry, (name, field) for a field that one has not.

    EntryError for what cannot be read at all.
    """
    missing: list[tuple[str, str]] = []
    for named in parse(spec):
        missing += _lacking(CATALOGS[kind], named)
    return missing


def _lacking(catalog: Catalog, named: Named) -> list[tuple[str, str]]:
    entries = [row for row in catalog.rows if row.name == catalog.entry_name(named)]
    if not entries:
        return [(named.name, "")]
    parameters: set[str] = set()
    for entry in entries:
        parameters |= catalog.parameters(entry).keys()
    return [(named.name, key) for key in named.given if key not in parameters]


ATTACKS = _Attacks("attacks")
DEFENSES = _Defenses("defenses")
ARCHITECTURES = Catalog("architectures")
DATASETS = _Datasets("datasets")
PROTOCOLS = _Protocols("protocols")
ANALYSES = Catalog("analyses")
CATALOGS = {catalog.kind: catalog for catalog in (ATTACKS, DEFENSES, ARCHITECTURES, DATASETS, PROTOCOLS, ANALYSES)}


def all_entries() -> list[Entry]:
    """Return the entries of every kind."""
    return [entry for catalog in CATALOGS.values() for entry in catalog.rows]
