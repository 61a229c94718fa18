"""What is known of an entry without importing it: where it is, its fields, and what it states about itself."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from unlearnable_bench.registry.contract import EntryError, Paper
from unlearnable_bench.registry.spec import parse


class StatedFacts(TypedDict, total=False):
    """What an entry states about itself beside its fields: class variables, or keywords of `register` for functions.

    The contract says what those of classes mean.
    """

    version: int
    revisions: Mapping[str, int]
    later: Mapping[str, Any]
    display_name: str
    label: str
    small: Mapping[str, Any]
    identity: bool
    # of attacks
    parents: Mapping[str, tuple[str, ...]]
    chained: bool
    onto: bool
    seedless: bool
    budget_norm: str
    # of defenses and analyses
    needs: tuple[str, ...]
    brings: Mapping[str, str]
    members: tuple[str, ...]
    per_image: bool
    # of protocols
    adversarial: Mapping[str, Any]
    per_dataset: Mapping[str, Mapping[str, Any]]
    # of datasets
    stands_in_for: str
    folder: str  # below $BENCH_DATA, where that is not its name
    incomparable: tuple[str, ...]  # what no number of its own is compared in with a paper's


FACTS = tuple(StatedFacts.__annotations__)

MERGED = ("later", "revisions")
"""Facts to which a class adds; those of its base classes go on to hold."""

CALLED_WITH = {"datasets": ("root",), "architectures": ("num_classes", "in_channels", "image_size")}
"""Arguments of entries that are functions which the caller gives; the others are fields."""

BASES = {"attacks": "Attack", "defenses": "Defense", "protocols": "Protocol", "analyses": "Analysis"}
"""Entries that are classes, and what they derive from."""

EXPECTED_TYPES = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "a word"}
"""Types of fields that a spec can give, each as errors call its values."""

_TYPES: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "bool": (bool,), "str": (str,)}


def singular(kind: str) -> str:
    """One of a kind: attack, analysis."""
    return "analysis" if kind == "analyses" else kind[:-1]


def plural(noun: str) -> str:
    """The kind of one: attacks, analyses."""
    return "analyses" if noun == "analysis" else f"{noun}s"


def unknown(noun: str, name: str, known: list[str], hint: str, prefix: str = "unknown ") -> str:
    """One sentence for a name that nobody has, with the nearest one that somebody has."""
    near = difflib.get_close_matches(name, known, 3, 0.5)
    near.sort(key=lambda other: sorted(other) != sorted(name))  # two letters changed over are the likeliest slip
    if near:
        return f"{prefix}{noun} {name!r}; did you mean {near[0]!r}?"
    names = sorted(set(known))
    if len(names) > 60 and hint:
        return f"{prefix}{noun} {name!r}; {hint}"
    note = f" ({hint})" if hint else ""
    return f"{prefix}{noun} {name!r}; known: {', '.join(names) or 'none'}{note}"


def error_text(error: BaseException) -> str:
    """Write what an import raised, as the cause of an EntryError or itself."""
    cause = error.__cause__ or error
    if isinstance(cause, EntryError):
        return str(cause)
    return f"{type(cause).__name__}: {cause}"


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
        plain = self.kind.replace(" ", "")
        kind = plain.removesuffix("|None")
        if value == "none" and kind != plain:
            return None
        if kind.startswith("Literal["):
            return self._choice(owner, value, ast.literal_eval(kind.removeprefix("Literal")))
        if kind not in EXPECTED_TYPES:
            raise EntryError(f"{owner}: {self.name} is a {self.kind} and cannot be given in a spec")
        if not _is_of(kind, value):
            raise EntryError(f"{owner}: {self.name}={value} is not {EXPECTED_TYPES[kind]}")
        return float(value) if kind == "float" else value

    def _choice(self, owner: str, value: Any, choices: list[Any]) -> Any:
        if value not in choices:
            raise EntryError(f"{owner}: {self.name}={value} is none of {', '.join(map(str, choices))}")
        return value

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


def _is_of(kind: str, value: Any) -> bool:
    if isinstance(value, bool):  # which Python counts among the whole numbers
        return kind == "bool"
    return isinstance(value, _TYPES[kind])


def _typed(value: Any, kind: str) -> Any:
    """Return a value as a field of this kind holds it: records keep tuples as lists, sources write floats as whole numbers."""
    if isinstance(value, list | tuple):
        inner = kind.partition("[")[2].partition(",")[0]
        return tuple(_typed(element, inner) for element in value)
    if kind.startswith("float") and type(value) is int:
        return float(value)
    return value


COMMON: dict[str, tuple[Field, ...]] = {
    "datasets": (
        Field("per_class", "int", 0, "training images of each class, seeded choice; 0: all"),
        Field("test_per_class", "int", 0, "test images of each class; 0: all"),
    ),
    "architectures": (
        Field("weights", "str", "", "a folder of $BENCH_DATA/weights, for all layers but the head; none: from scratch"),
        Field("checksum", "str", "", "of that folder"),
    ),
}
"""Fields that every entry of a kind has."""

COMMON_LATER: dict[str, dict[str, Any]] = {"architectures": {"weights": "", "checksum": ""}}
"""Those of them that came after records had been published, each with its neutral value."""


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
    facts: StatedFacts = field(default_factory=StatedFacts)
    error: str = ""
    path: Path | None = None

    @property
    def key(self) -> str:
        """What tells entries of one name apart: `kind:name:source`."""
        return f"{self.kind}:{self.name}:{self.source}"

    @property
    def summary(self) -> str:
        return self.doc.strip().partition("\n")[0]

    @property
    def version(self) -> int:
        return int(self.facts.get("version", 1))

    @property
    def by_name(self) -> dict[str, Field]:
        """The fields by their names."""
        return {own.name: own for own in self.fields}

    @property
    def common(self) -> tuple[Field, ...]:
        """The fields that all entries of the kind have, less those of which it has its own by that name."""
        own = {field.name for field in self.fields}
        return tuple(field for field in COMMON.get(self.kind, ()) if field.name not in own)

    @property
    def parameters(self) -> dict[str, Field]:
        """The fields by their names, those that all entries of the kind have included."""
        return {own.name: own for own in (*self.common, *self.fields)}

    @property
    def defaults(self) -> dict[str, Any]:
        """The value of every one of `parameters` where none is given."""
        return {name: own.default for name, own in self.parameters.items()}

    @property
    def later(self) -> Mapping[str, Any]:
        """Fields that were added after records had been published, each with the value that those records have."""
        stated = self.facts.get("later", {})
        came = COMMON_LATER.get(self.kind, {})
        common = {field.name: came[field.name] for field in self.common if field.name in came} if came else {}
        if not stated:  # asked for every part of every cell
            return common
        kinds = {own.name: own.kind for own in self.fields}
        return common | {name: _typed(value, kinds.get(name, "")) for name, value in stated.items()}

    @property
    def revisions(self) -> Mapping[str, int]:
        """Corrections of some settings alone: a condition such as `variant=rem`, and which revision of these is today's."""
        return dict(self.facts.get("revisions", {}))

    def condition(self, text: str) -> dict[str, Any]:
        """Return the values of fields that a condition of `revisions` asks for. EntryError."""
        owner = f"{singular(self.kind)} {self.name}"
        fields = self.by_name
        given = parse(f"{self.name}({text})")[0].given
        if not given:
            raise EntryError(f"{owner}: a condition of `revisions` is empty; raise `version`, which concerns all settings")
        for name in given:
            if name not in fields:
                raise EntryError(unknown(f"{owner}: `revisions` names no field of it:", name, list(fields), "", prefix=""))
        return {name: fields[name].accept(owner, value) for name, value in given.items()}

    def hashed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that ids and keys are made of: all but later fields at their neutral value."""
        later, fields = self.later, self.parameters
        neutral = {name for name in later if name in values and fields[name].same(values[name], later[name])}
        return {name: value for name, value in values.items() if name not in neutral}

    def load(self) -> Any:
        """Import the entry. EntryError if that fails."""
        from unlearnable_bench.registry import _old_names, _vision

        if self.error:
            raise EntryError(f"{singular(self.kind)} {self.name!r} of {self.source} is broken: {self.error}")
        _vision.prepare()
        try:
            with contextlib.redirect_stdout(sys.stderr):  # a program that prints JSON prints nothing else
                loaded: Any = importlib.import_module(self.module)
            for attribute in self.attribute.split("."):
                loaded = getattr(loaded, attribute)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # an import may raise anything, also what is no Exception
            text = f"{singular(self.kind)} {self.name!r} of {self.source} cannot be imported: {type(error).__name__}: {error}"
            raise EntryError(text + _old_names.advice(error)) from error
        return loaded


def check_history(entry: Entry) -> None:
    """Refuse `later` and `revisions` that name what is no field, and values of another type: ids and keys hang on them.

    EntryError.
    """
    fields = entry.parameters
    owner = f"{singular(entry.kind)} {entry.name}"
    for name, neutral in entry.later.items():
        if name not in fields:
            raise EntryError(unknown(f"{owner}: `later` names no field of it:", name, list(fields), "", prefix=""))
        if not fields[name].holds(neutral):
            stated = f"{name}={neutral!r}, where the field is a {fields[name].kind}"
            raise EntryError(f"{owner}: `later` says {stated}; give the neutral value in the field's type")
    for condition, number in entry.revisions.items():
        entry.condition(condition)
        if type(number) is not int or number < 2:
            raise EntryError(f"{owner}: revision {number!r} of {condition}; the first is 2, for what was published is 1")
