"""Finds entries by name, ours and other packages', and resolves items to all their fields, without importing any.

Names, fields, defaults, versions, docstrings and papers are read from the source with `ast`; an entry whose source cannot
be read that way (defaults that are not literals, a base class from another file) is imported in a child process. Built-in
entries are the files of a folder; other packages' entries are found through the entry-point groups `bench.attacks`,
`bench.defenses`, `bench.architectures`, `bench.datasets`, `bench.protocols` and `bench.analyses`, whose values are
`module:class` or `module:function`.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from registry import _images, _papers, contract
from registry._places import expanded
from registry.contract import EntryError, Paper
from registry.item import SELFTRAINED, Named, parse, write

T = TypeVar("T")

FACTS = (
    *("version", "small", "identity", "needs", "brings", "per_image", "adversarial", "per_dataset", "stands_in_for", "folder"),
    *("parents", "chained", "onto", "seedless", "members", "later", "revisions", "incomparable"),
)
"""What an entry states about itself beside its fields: class variables, or keywords of `register` for functions."""

MERGED = ("later", "revisions")
"""Facts to which a class adds; those of its base classes go on to hold."""

COMMON: dict[str, dict[str, Any]] = {"datasets": {"per_class": 0, "test_per_class": 0}}
"""Fields that every entry of a kind has: 0 means all images of a class."""

CALLED_WITH = {"datasets": ("root",), "architectures": ("num_classes", "in_channels", "image_size")}
"""Arguments of entries that are functions which the caller gives; the others are fields."""

BASES = {"attacks": "Attack", "defenses": "Defense", "protocols": "Protocol", "analyses": "Analysis"}
"""Entries that are classes, and what they derive from."""


def singular(kind: str) -> str:
    """One of a kind: attack, analysis."""
    return "analysis" if kind == "analyses" else kind[:-1]


def plural(noun: str) -> str:
    """The kind of one: attacks, analyses."""
    return "analyses" if noun == "analysis" else f"{noun}s"


class _UnreadableError(Exception):
    """The source does not tell; import the entry."""


@dataclass(frozen=True)
class Field:
    """A parameter of an entry: `kind` is the annotation as written, `comment` what stands behind it in the source."""

    name: str
    kind: str
    default: Any
    comment: str = ""
    hidden: bool = False

    def accept(self, owner: str, value: Any) -> Any:
        """Return `value` in the field's type. EntryError if it is of another."""
        kind = self.kind.replace(" ", "")
        optional = kind.endswith("|None")
        kind = kind.removesuffix("|None")
        if optional and value == "none":
            return None
        if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
            return value
        if kind == "bool" and isinstance(value, bool):
            return value
        if kind == "str" and isinstance(value, str):
            return value
        if kind.startswith("Literal["):
            choices = ast.literal_eval(kind.removeprefix("Literal"))
            if value in choices:
                return value
            raise EntryError(f"{owner}: {self.name}={value} is none of {', '.join(map(str, choices))}")
        if kind not in ("float", "int", "bool", "str"):
            raise EntryError(f"{owner}: {self.name} is a {self.kind} and cannot be given in an item")
        names = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "a word"}
        raise EntryError(f"{owner}: {self.name}={value} is not {names[kind]}")

    def holds(self, value: Any) -> bool:
        """Whether a value that a source states is of the field's type."""
        kind = self.kind.replace(" ", "")
        if value is None:
            return kind.endswith("|None")
        if kind.startswith("tuple["):
            each = dataclasses.replace(self, kind=kind[6:-1].partition(",")[0])
            return isinstance(value, tuple) and all(map(each.holds, value))
        try:
            self.accept("", value)
        except EntryError:
            return False
        return True

    def same(self, value: Any, other: Any) -> bool:
        """Whether two values are one in the field's type: 0 is 0.0 where that is float, and never False."""
        return repr(_typed(value, self.kind)) == repr(_typed(other, self.kind))


def _typed(value: Any, kind: str) -> Any:
    """Return a value as a field of this kind holds it: records keep tuples as lists, sources write floats as whole numbers."""
    if isinstance(value, list | tuple):
        inner = kind.partition("[")[2].partition(",")[0]
        return tuple(_typed(one, inner) for one in value)
    if kind.startswith("float") and type(value) is int:
        return float(value)
    return value


@dataclass(frozen=True)
class Entry:
    """What is known of an entry without importing it."""

    kind: str
    name: str
    source: str  # built-in, or the distribution it comes from, with its version
    module: str
    attribute: str
    doc: str = ""
    paper: Paper | None = None
    fields: tuple[Field, ...] = ()
    hooks: frozenset[str] = frozenset()  # methods that it overrides
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    path: Path | None = None

    @property
    def summary(self) -> str:
        return self.doc.strip().partition("\n")[0]

    @property
    def version(self) -> int:
        return int(self.facts.get("version", 1))

    @property
    def later(self) -> Mapping[str, Any]:
        """Fields that were added after records had been published, each with the value that those records have."""
        stated = self.facts.get("later", {})
        if not stated:  # asked for every part of every cell
            return {}
        kinds = {f.name: f.kind for f in self.fields}
        return {name: _typed(value, kinds.get(name, "")) for name, value in stated.items()}

    @property
    def revisions(self) -> Mapping[str, int]:
        """Corrections of some settings alone: a condition such as `variant=rem`, and which revision of these is today's."""
        return dict(self.facts.get("revisions", {}))

    def condition(self, text: str) -> dict[str, Any]:
        """Return the values of fields that a condition of `revisions` asks for. EntryError."""
        owner, fields = f"{singular(self.kind)} {self.name}", {f.name: f for f in self.fields}
        given = parse(f"{self.name}({text})")[0].given
        if not given:
            raise EntryError(f"{owner}: a condition of `revisions` is empty; raise `version`, which concerns all settings")
        for name in given:
            if name not in fields:
                raise EntryError(unknown(f"{owner}: `revisions` names no field of it:", name, list(fields), "", prefix=""))
        return {name: fields[name].accept(owner, value) for name, value in given.items()}

    def hashed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that ids and keys are made of: all but later fields at their neutral value."""
        kinds, later = {f.name: f for f in self.fields}, self.later
        return {name: v for name, v in values.items() if name not in later or not kinds[name].same(v, later[name])}

    def load(self) -> Any:
        """Import the entry. EntryError if that fails."""
        from registry import _vision

        if self.error:
            raise EntryError(f"{singular(self.kind)} {self.name!r} of {self.source} is broken: {self.error}")
        _vision.prepare()
        try:
            with contextlib.redirect_stdout(sys.stderr):  # a program that prints JSON prints nothing else
                found: Any = importlib.import_module(self.module)
            for part in self.attribute.split("."):
                found = getattr(found, part)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # an import may raise anything, also what is no Exception
            text = f"{singular(self.kind)} {self.name!r} of {self.source} cannot be imported: {type(error).__name__}: {error}"
            raise EntryError(text) from error
        return found


@dataclass(frozen=True)
class Part:
    """One part of an item with all its fields: the defaults and what was given."""

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
        fields, values = {f.name: f for f in self.entry.fields}, self.values

        def concerns(condition: str) -> bool:
            asked = self.entry.condition(condition)
            return all(fields[name].same(values.get(name), value) for name, value in asked.items())

        return {condition: number for condition, number in self.entry.revisions.items() if concerns(condition)}

    @property
    def parents(self) -> tuple[tuple[Part, ...], ...]:
        """The attacks whose items stand in its fields, with the values that it hands to them."""
        values, found = self.values, []
        for name, handed in self.entry.facts.get("parents", {}).items():
            first, *rest = ATTACKS.resolve(str(values[name]))
            own = {f.name for f in first.entry.fields}
            found.append((first.changed({key: values[key] for key in handed if key in own}), *rest))
        return tuple(found)

    def changed(self, values: Mapping[str, Any]) -> Part:
        """Return the part with other values of some fields."""
        return dataclasses.replace(self, fields=self.entry.hashed({**self.values, **values}))

    @property
    def text(self) -> str:
        """The item with the fields that differ from the defaults."""
        values = self.values
        known = {f.name: f.default for f in self.entry.fields} | COMMON.get(self.entry.kind, {})
        order = [
            *known,
            *sorted(set(values) - set(known)),
        ]  # whatever the order of a record: a store's folders are so named
        given = {k: values[k] for k in order if k in values and k != "scale"}
        given = {k: v for k, v in given.items() if k not in known or known[k] != v}
        scale = values.get("scale", 1.0)
        return write(self.name + self.trained + (f"@{scale:g}" if scale != 1.0 else ""), given)

    @property
    def trained(self) -> str:
        """'-selftrained', which a text always says, where weights come from the set at hand instead of a download."""
        return f"-{SELFTRAINED}" if self.values.get("weights") == SELFTRAINED else ""

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs beside the poison; a need that a field brings along only where that field is set."""
        brought, usual = self.entry.facts.get("brings", {}), {f.name: f.default for f in self.entry.fields}
        needs, values = self.entry.facts.get("needs", ()), self.values
        return tuple(n for n in needs if n not in brought or values[brought[n]] != usual[brought[n]])

    @property
    def members(self) -> tuple[str, ...]:
        """The items that are run in its place; of most entries none."""
        return tuple(self.entry.facts.get("members", ()))

    def build(self) -> Any:
        """Import the entry and make it with these fields (attacks, defenses, protocols)."""
        known = {f.name for f in self.entry.fields}
        return self.entry.load()(**{key: value for key, value in self.values.items() if key in known})


class Catalog(Mapping[str, Any]):
    """The entries of one kind. As a mapping: names to the imported class or function."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.noun = {"datasets": "data set"}.get(kind, singular(kind))

    def register(self, name: str, **facts: Any) -> Callable[[T], T]:
        """Mark a class or function of this package as the entry `name`; `facts` are attributes that it gets."""

        def mark(found: T) -> T:
            for key, value in facts.items():
                setattr(found, key, value)
            return found

        return mark

    @cached_property
    def rows(self) -> tuple[Entry, ...]:
        """All entries, built-in ones first; two of one name are both there."""
        return (*sorted(self._built_in(), key=lambda e: e.name), *sorted(self._plugged_in(), key=lambda e: e.name))

    def _built_in(self) -> Iterator[Entry]:
        for path in sorted((Path(__file__).parent / self.kind).glob("[!_]*.py")):
            module = f"registry.{self.kind}.{path.stem}"
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in tree.body:
                name = _registered(node)
                if name:
                    assert isinstance(node, ast.ClassDef | ast.FunctionDef)
                    yield describe(self.kind, name, "built-in", module, node.name, path)

    def _plugged_in(self) -> list[Entry]:
        found, unread = [], []
        for point in importlib.metadata.entry_points(group=f"bench.{self.kind}"):
            source = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            name, (module, _, attribute) = point.name, point.value.partition(":")
            try:
                if not point.pattern.match(point.value) or not attribute:
                    raise EntryError(f"the entry point names {point.value!r}, expected module:class or module:function")
                module, attribute = point.module, point.attr
                path = _locate(module)
                found.append(describe(self.kind, name, source, module, attribute, path))
            except _UnreadableError:
                unread.append(Entry(self.kind, name, source, module, attribute, path=path))
            except Exception as error:  # a plug-in of somebody else must never be in the way of the others
                cause = error.__cause__ or error
                text = str(cause) if isinstance(cause, EntryError) else f"{type(cause).__name__}: {cause}"
                found.append(Entry(self.kind, name, source, module, attribute, error=text))
        if unread:
            from registry import child  # which needs all that is here

            found += child.described(unread)
        return found

    @cached_property
    def _by_name(self) -> Mapping[str, list[Entry]]:
        found: dict[str, list[Entry]] = defaultdict(list)
        for row in self.rows:
            found[row.name].append(row)
        return dict(found)

    def stored(self, name: str, fields: Mapping[str, Any]) -> Part:
        """Return a part of a stored cell. EntryError as for `entry`."""
        return Part(self.entry(self._entry_name(name)), name, fields)

    def installed(self, name: str) -> Entry | None:
        """Return the entry of a part of a stored cell; None where it is not here, broken, or there are two."""
        found = self._by_name.get(self._entry_name(name), [])
        return found[0] if len(found) == 1 and not found[0].error else None

    def _entry_name(self, name: str) -> str:
        return "folder" if self.kind == "datasets" and name.startswith("folder-") else name

    def entry(self, name: str) -> Entry:
        """Find an entry. EntryError: unknown (with the nearest name), two of that name, or broken."""
        found = self._by_name.get(name, [])
        if len(found) > 1:
            sources = " and ".join(row.source for row in found)
            raise EntryError(f"two {self.kind} are called {name!r}, from {sources}; uninstall one of the packages")
        if not found:
            raise EntryError(unknown(self.noun, name, [row.name for row in self.rows], f"`bench list {self.kind}` shows all"))
        if found[0].error:
            raise EntryError(f"{self.noun} {name!r} of {found[0].source} is broken: {found[0].error}")
        return found[0]

    def __getitem__(self, name: str) -> Any:
        if not any(row.name == name for row in self.rows):
            raise KeyError(name)
        return self.entry(name).load()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(row.name for row in self.rows if not row.error))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def resolve(self, item: str) -> tuple[Part, ...]:
        """Return the parts of an item with all their fields. EntryError says what is wrong with it.

        Chains (`a+b`) are for defenses, and for attacks whose later parts are tools that act on a poison.
        """
        named = parse(item)
        if len(named) > 1 and self.kind not in ("defenses", "attacks"):
            raise EntryError(f"{item!r}: only defenses and attacks can be chained by '+'")
        parts = tuple(self._part(one) for one in named)
        if self.kind == "attacks":
            _check_chain(item, parts)
        return parts

    def _part(self, named: Named) -> Part:
        name, root = named.name, None
        if self.kind == "datasets" and name.startswith("folder:"):
            root = expanded(Path(name.removeprefix("folder:"))).absolute()
            named = dataclasses.replace(named, name="folder")
            name = _images.folder_name(root)
        entry = self.entry(named.name)
        owner = f"{self.noun} {named.name}"
        if named.scale != 1.0 and self.kind != "protocols":
            raise EntryError(f"{owner}: only a protocol can be scaled by '@'")
        fields: dict[str, Any] = {f.name: f.default for f in entry.fields} | COMMON.get(self.kind, {})
        known = {f.name: f for f in entry.fields if not f.hidden}
        known |= {key: Field(key, "int", value) for key, value in COMMON.get(self.kind, {}).items()}
        if self.kind == "attacks":
            known["seed"] = Field("seed", "int", None)
            known["dataset"] = Field("dataset", "str", None)
        for key, value in named.given.items():
            if key not in known:
                raise EntryError(unknown(f"{owner} has no parameter", key, list(known), "", prefix=""))
            fields[key] = known[key].accept(owner, value)
            if key == "epsilon" and isinstance(fields[key], int | float) and fields[key] < 0:
                raise EntryError(f"{owner}: epsilon={value} is no radius; expected 0 or more")
            if self.kind == "attacks" and key == "dataset":
                fields[key] = CATALOGS["datasets"].resolve(fields[key])[0].text
            elif self.kind == "attacks" and key in entry.facts.get("parents", {}):
                self._check_parent(owner, key, fields[key], entry.facts["parents"][key])
        if self.kind == "protocols":
            fields["scale"] = named.scale
            contract.check_recipe(owner, fields)
        for key, value in fields.items():
            if isinstance(value, int) and not isinstance(value, bool) and key in COMMON.get(self.kind, {}) and value < 0:
                raise EntryError(f"{owner}: {key}={value} is negative; 0 means all images")
        return Part(entry, name if root else named.name, entry.hashed(fields), root)

    def _check_parent(self, owner: str, key: str, item: str, handed: tuple[str, ...]) -> None:
        self.resolve(item)
        for name in handed:
            if name in parse(item)[0].given:
                raise EntryError(f"{owner}: {name} does not go into {key}={item}; it is a parameter of {owner} itself")


def _check_chain(item: str, parts: tuple[Part, ...]) -> None:
    """Refuse a tool without a poison at its left, another attack at its right, and `dataset=` that nothing takes elsewhere."""
    first, *rest = parts
    tools = ", ".join(row.name for row in ATTACKS.rows if row.facts.get("chained"))
    if rest and first.entry.facts.get("chained"):
        raise EntryError(f"{item!r}: {first.name} acts on the poison at its left, and there is none")
    for part in rest:
        if not part.entry.facts.get("chained"):
            raise EntryError(f"{item!r}: {part.name} makes a poison of its own; behind '+' stand tools ({tools})")
        if "dataset" in part.fields:
            raise EntryError(f"{item!r}: dataset= belongs to the first part, {first.name}")
    if "dataset" in first.fields and not any(part.entry.facts.get("onto") for part in rest):
        raise EntryError(f"{item!r}: a poison of another data set has to be taken to the cell's; write {item}+transfer")


def resolve(kind: str, item: str) -> tuple[Part, ...]:
    """Return the parts of an item of `kind` (attacks, defenses, ...) with all their fields. EntryError, MissingDataError."""
    return CATALOGS[kind].resolve(item)


def lacking(kind: str, item: str) -> list[tuple[str, str]]:
    """Return what of an item is not there: (name, '') for an unknown entry, (name, field) for a field that one has not.

    EntryError for what cannot be read at all.
    """
    catalog, found = CATALOGS[kind], []
    for named in parse(item):
        name = "folder" if kind == "datasets" and named.name.startswith("folder:") else named.name
        entries = [row for row in catalog.rows if row.name == name]
        if not entries:
            found.append((named.name, ""))
        fields = {f.name for entry in entries for f in entry.fields if not f.hidden} | set(COMMON.get(kind, ()))
        fields |= {"seed", "dataset"} if kind == "attacks" else set()
        found += [(named.name, key) for key in named.given if entries and key not in fields]
    return found


class Stored(Protocol):
    """A part of a cell as records keep it."""

    @property
    def name(self) -> str: ...

    @property
    def fields(self) -> Mapping[str, Any]: ...


def edition(version: int, revisions: Mapping[str, int]) -> str:
    """Write a version, and behind it the revisions that concern what it is the version of: `1`, `1.2`."""
    return ".".join(str(number) for number in (version, *(revisions[condition] for condition in sorted(revisions))))


def editions(parts: Iterable[Part]) -> dict[str, str]:
    """Return `kind:name` -> edition of the entries of a cell, and of those that its poison is made from.

    An edition has the package of an entry that is not ours. Parts of one entry have one edition, of all their revisions.
    """
    used = [behind for part in parts for behind in _with_sources(part)]
    entries, revisions = {_key(part): part.entry for part in used}, _revisions(used)
    packages = {key: "" if entry.source == "built-in" else f" of {entry.source}" for key, entry in entries.items()}
    return {key: edition(entry.version, revisions[key]) + packages[key] for key, entry in entries.items()}


def _key(part: Part) -> str:
    return f"{singular(part.entry.kind)}:{part.name}"


def _revisions(parts: Iterable[Part]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for part in parts:
        found[_key(part)] |= part.revisions
    return found


def _with_sources(part: Part) -> Iterator[Part]:
    """Yield a part and what it is made from: attacks whose items stand in its fields, the data set of `dataset=`."""
    yield part
    if part.entry.kind == "attacks" and "dataset" in part.fields:
        yield from DATASETS.resolve(str(part.fields["dataset"]))
    for chain in part.parents:
        for parent in chain:
            yield from _with_sources(parent)


def outdated(versions: Mapping[str, str], parts: Iterable[tuple[str, Stored]]) -> str:
    """Say which entry has another edition now than in `versions` (as in records), or ''.

    `parts` are those of the record's cell, each with its kind (attack, defense, ...): a revision counts where it concerns them.
    Entries that are not installed are not outdated.
    """
    entries: dict[str, Entry] = {}
    for key in versions:
        noun, _, name = key.partition(":")
        catalog = CATALOGS.get(plural(noun))
        entry = catalog.installed(name) if catalog else None
        if entry is not None:
            entries[key] = entry
    revised = any(entry.revisions for entry in entries.values())
    revisions = _revisions(_restored(parts)) if revised else {}
    for key, entry in entries.items():
        now = edition(entry.version, revisions.get(key, {}))
        if versions[key].partition(" ")[0] != now:
            return f"{key} was version {versions[key]}, now it is {now}"
    return ""


def _restored(parts: Iterable[tuple[str, Stored]]) -> list[Part]:
    """Return the parts of a stored cell, and what they are made from, as far as their entries are installed."""
    found: list[Part] = []
    for noun, part in parts:
        with contextlib.suppress(EntryError):
            found += _with_sources(CATALOGS[plural(noun)].stored(part.name, part.fields))
    return found


def unknown(noun: str, name: str, known: list[str], hint: str, prefix: str = "unknown ") -> str:
    """One sentence for a name that nobody has, with the nearest one that somebody has."""
    near = difflib.get_close_matches(name, known, 3, 0.5)
    near.sort(key=lambda other: sorted(other) != sorted(name))  # two letters changed over are the likeliest slip
    if near:
        return f"{prefix}{noun} {name!r}; did you mean {near[0]!r}?"
    shown = ", ".join(sorted(set(known))) or "none"
    if len(set(known)) > 60 and hint:
        return f"{prefix}{noun} {name!r}; {hint}"
    return f"{prefix}{noun} {name!r}; known: {shown}" + (f" ({hint})" if hint else "")


# Reading entries from their source


def describe(kind: str, name: str, source: str, module: str, attribute: str, path: Path | None) -> Entry:
    """Read an entry from the source of its module. _UnreadableError where that does not tell, and only an import can."""
    if path is None or path.suffix != ".py":
        raise _UnreadableError
    text = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise EntryError(f"SyntaxError in {path.name}, line {error.lineno}: {error.msg}") from None
    entry = _read(Entry(kind, name, source, module, attribute, path=path), tree, text.splitlines())
    check_history(entry)
    return entry


def check_history(entry: Entry) -> None:
    """Refuse `later` and `revisions` that name what is no field, and values of another type: ids and keys hang on them.

    EntryError.
    """
    fields, owner = {f.name: f for f in entry.fields}, f"{singular(entry.kind)} {entry.name}"
    for name, neutral in entry.later.items():
        if name not in fields:
            raise EntryError(unknown(f"{owner}: `later` names no field of it:", name, list(fields), "", prefix=""))
        if not fields[name].holds(neutral):
            found = f"{name}={neutral!r}, where the field is a {fields[name].kind}"
            raise EntryError(f"{owner}: `later` says {found}; give the neutral value in the field's type")
    for condition, number in entry.revisions.items():
        entry.condition(condition)
        if type(number) is not int or number < 2:
            raise EntryError(f"{owner}: revision {number!r} of {condition}; the first is 2, for what was published is 1")


def merged(found: type, fact: str) -> dict[str, Any]:
    """Return what a class and its base classes state of a fact that they add to."""
    stated: dict[str, Any] = {}
    for one in reversed(found.__mro__):
        stated |= vars(one).get(fact, {})
    return stated


def _joined(facts: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a class from those of a base class and what it states itself."""
    sums = {fact: {**facts.get(fact, {}), **more[fact]} for fact in MERGED if more.get(fact)}
    return {**facts, **more, **sums}


def _read(entry: Entry, tree: ast.Module, lines: list[str]) -> Entry:
    tops = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    node = tops.get(entry.attribute)
    constants = _constants(tree)
    doc = (ast.get_docstring(node) if node else "") or ast.get_docstring(tree) or ""
    if isinstance(node, ast.ClassDef) and node.bases and entry.kind in BASES:
        fields, facts, hooks, paper = _class(node, BASES[entry.kind], tops, constants, lines)
    elif isinstance(node, ast.FunctionDef) and entry.kind not in BASES:
        fields, facts = _function(entry.kind, node, tree, constants, lines)
        hooks, paper = set(), None
    else:
        raise _UnreadableError
    return dataclasses.replace(entry, doc=doc, paper=paper, fields=tuple(fields.values()), hooks=frozenset(hooks), facts=facts)


def _class(
    node: ast.ClassDef, root: str, tops: Mapping[str, ast.AST], constants: Mapping[str, Any], lines: list[str]
) -> tuple[dict[str, Field], dict[str, Any], set[str], Paper | None]:
    fields: dict[str, Field] = {}
    facts: dict[str, Any] = {}
    hooks: set[str] = set()
    paper = None
    for base in node.bases:
        if not isinstance(base, ast.Name):
            raise _UnreadableError
        parent = tops.get(base.id)
        if isinstance(parent, ast.ClassDef):
            f, a, h, paper = _class(parent, root, tops, constants, lines)
            fields, facts, hooks = fields | f, _joined(facts, a), hooks | h
        elif base.id in vars(contract) and issubclass(getattr(contract, base.id), getattr(contract, root)):
            known = getattr(contract, base.id)
            fields |= {f.name: f for f in _dataclass_fields(known)}
            facts = _joined(facts, {fact: stated for fact in MERGED if (stated := merged(known, fact))})
        else:
            raise _UnreadableError
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            hooks.add(statement.name)
            continue
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name, kind, value = statement.target.id, ast.unparse(statement.annotation), statement.value
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name, kind, value = statement.targets[0].id, "ClassVar", statement.value
        else:
            continue
        if name == "paper" and value is not None:
            paper = _paper(value, constants)
        elif name in FACTS and value is not None:
            facts = _joined(facts, {name: _value(value, constants)})
        elif "ClassVar" not in kind:
            if value is None:
                raise EntryError(f"the field {name!r} has no default; every field of an entry needs one")
            inherited = fields[name].comment if name in fields else ""
            fields[name] = Field(name, kind, _value(value, constants), _comment(lines, statement.lineno) or inherited)
    return fields, facts, hooks, paper


def _paper(node: ast.expr, constants: Mapping[str, Any]) -> Paper:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Paper":
        return Paper(*(_value(a, constants) for a in node.args), **_keywords(node, constants))
    if isinstance(node, ast.Name) and hasattr(_papers, node.id):
        found: Paper = getattr(_papers, node.id)
        return found
    raise _UnreadableError


def _function(
    kind: str, node: ast.FunctionDef, tree: ast.Module, constants: Mapping[str, Any], lines: list[str]
) -> tuple[dict[str, Field], dict[str, Any]]:
    facts: dict[str, Any] = {}
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call):
            facts |= {str(k.arg): _value(k.value, constants) for k in decorator.keywords if k.arg in FACTS}
    for statement in tree.body:  # other packages' functions: `function.version = 2` below it
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == node.name:
            assert isinstance(statement, ast.Assign)
            if target.attr in FACTS:
                facts[target.attr] = _value(statement.value, constants)
    arguments = [*node.args.args, *node.args.kwonlyargs]
    padding: list[ast.expr | None] = [None] * (len(node.args.args) - len(node.args.defaults))
    defaults = [*padding, *node.args.defaults, *node.args.kw_defaults]
    fields: dict[str, Field] = {}
    for argument, default in zip(arguments, defaults, strict=True):
        if argument.arg in CALLED_WITH.get(kind, ()):
            continue
        if default is None:
            raise EntryError(f"the argument {argument.arg!r} has no default; every field of an entry needs one")
        annotation = ast.unparse(argument.annotation) if argument.annotation else "str"
        comment = _comment(lines, argument.lineno)
        fields[argument.arg] = Field(argument.arg, annotation, _value(default, constants), comment)
    return fields, facts


def imported(entry: Entry) -> Entry:
    """Return an entry with all that its import tells. EntryError."""
    found = entry.load()
    doc = inspect.getdoc(found) or importlib.import_module(entry.module).__doc__ or ""
    facts = {key: getattr(found, key) for key in FACTS if hasattr(found, key)}
    if inspect.isclass(found):
        facts |= {fact: merged(found, fact) for fact in MERGED}
    if entry.kind in BASES:
        base = getattr(contract, BASES[entry.kind])
        if not (inspect.isclass(found) and issubclass(found, base) and dataclasses.is_dataclass(found)):
            text = f"{entry.module}:{entry.attribute} is no dataclass derived from registry.{base.__name__}"
            raise EntryError(text)
        hooks = frozenset(n for n in dir(base) if callable(getattr(base, n)) and getattr(base, n) is not getattr(found, n))
        paper = getattr(found, "paper", None)
        fields = _dataclass_fields(found)
        return dataclasses.replace(entry, doc=doc, paper=paper, fields=fields, hooks=hooks, facts=facts)
    if not inspect.isfunction(found):
        raise EntryError(f"{entry.module}:{entry.attribute} is no function; {entry.kind} are functions")
    parameters = inspect.signature(found).parameters.values()
    own = [p for p in parameters if p.name not in CALLED_WITH.get(entry.kind, ())]
    for p in own:
        if p.default is p.empty:
            raise EntryError(f"the argument {p.name!r} has no default; every field of an entry needs one")
    fields = tuple(Field(p.name, getattr(p.annotation, "__name__", str(p.annotation)), p.default) for p in own)
    return dataclasses.replace(entry, doc=doc, fields=fields, facts=facts)


def _dataclass_fields(found: Any) -> tuple[Field, ...]:
    result = []
    for f in dataclasses.fields(found):
        kind = f.type if isinstance(f.type, str) else getattr(f.type, "__name__", str(f.type))
        if f.default is dataclasses.MISSING:
            raise EntryError(f"the field {f.name!r} has no default; every field of an entry needs one")
        result.append(Field(f.name, kind, f.default, _inherited_comment(found, f.name), bool(f.metadata.get("hidden"))))
    return tuple(result)


@cache
def _inherited_comment(found: type, name: str) -> str:
    for one in found.__mro__:  # a field that is only given another default keeps its meaning
        try:
            lines = inspect.getsource(one).splitlines()
        except (OSError, TypeError):
            continue
        for number, line in enumerate(lines, 1):
            if line.strip().startswith(f"{name}:") and (comment := _comment(lines, number)):
                return comment
    return ""


def _registered(node: ast.stmt) -> str:
    """Return the name under which a class or function of a built-in file is registered, or ''."""
    for decorator in getattr(node, "decorator_list", []):
        function = decorator.func if isinstance(decorator, ast.Call) else None
        if isinstance(function, ast.Attribute) and function.attr == "register":
            return str(ast.literal_eval(decorator.args[0]))
    return ""


def _comment(lines: list[str], number: int) -> str:
    return lines[number - 1].partition("  # ")[2].strip()


def _keywords(call: ast.Call, constants: Mapping[str, Any]) -> dict[str, Any]:
    return {str(keyword.arg): _value(keyword.value, constants) for keyword in call.keywords}


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Return the upper-case names of a module that are literals."""
    found: dict[str, Any] = {}
    for statement in tree.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id.isupper():
            assert isinstance(statement, ast.Assign)
            try:
                found[target.id] = _value(statement.value, found)
            except _UnreadableError:
                continue
    return found


LARGEST_BASE, LARGEST_EXPONENT = 2**32, 64  # of powers that are computed from a source
_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}


def _value(node: ast.expr, constants: Mapping[str, Any]) -> Any:
    """Evaluate literals and arithmetic of literals."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in constants:
        return constants[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, constants)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _computed(node.op, _value(node.left, constants), _value(node.right, constants))
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_value(element, constants) for element in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(k, constants): _value(v, constants) for k, v in zip(node.keys, node.values, strict=True) if k}
    raise _UnreadableError


def _computed(operation: ast.operator, left: Any, right: Any) -> Any:
    """Compute what is small: a power or a repeated text of a few letters of source may fill the memory."""
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    if not numbers and not isinstance(operation, ast.Add):
        raise _UnreadableError
    if isinstance(operation, ast.Pow) and (abs(left) > LARGEST_BASE or abs(right) > LARGEST_EXPONENT):
        raise _UnreadableError
    return _OPERATIONS[type(operation)](left, right)


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


ATTACKS = Catalog("attacks")
DEFENSES = Catalog("defenses")
ARCHITECTURES = Catalog("architectures")
DATASETS = Catalog("datasets")
PROTOCOLS = Catalog("protocols")
ANALYSES = Catalog("analyses")
CATALOGS = {c.kind: c for c in (ATTACKS, DEFENSES, ARCHITECTURES, DATASETS, PROTOCOLS, ANALYSES)}
