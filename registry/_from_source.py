"""Reads an entry from the syntax tree of its module, without importing it.

Names, fields, defaults, versions, docstrings and papers are read with `ast`. Where the source does not tell, because a default
is no literal or a base class is from another file, `describe` raises UnreadableError, and only an import can.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from unlearnable_bench.registry import _old_names, _papers, contract
from unlearnable_bench.registry._from_import import comment_of, dataclass_fields, inherited_facts
from unlearnable_bench.registry._literals import UnreadableError, constants_of, value_of
from unlearnable_bench.registry.contract import EntryError, Paper
from unlearnable_bench.registry.entry import BASES, CALLED_WITH, FACTS, MERGED, Entry, Field, StatedFacts, check_history

Definition = ast.ClassDef | ast.FunctionDef


def describe(kind: str, name: str, source: str, module: str, attribute: str, path: Path | None) -> Entry:
    """Read an entry from the source of its module. UnreadableError where that does not tell, and only an import can."""
    if path is None or path.suffix != ".py":
        raise UnreadableError
    text = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise EntryError(f"SyntaxError in {path.name}, line {error.lineno}: {error.msg}") from None
    _old_names.refuse(tree)
    entry = _read(Entry(kind, name, source, module, attribute, path=path), _Module(tree, text.splitlines()))
    check_history(entry)
    return entry


def registered(source: str) -> list[tuple[str, str]]:
    """Return (name, class or function) of every entry that a built-in file registers."""
    names = []
    for node in ast.parse(source).body:
        match node:
            case ast.ClassDef(name=attribute) | ast.FunctionDef(name=attribute):
                names += [(name, attribute) for name in map(_registered_name, node.decorator_list) if name]
    return names


def _registered_name(decorator: ast.expr) -> str:
    match decorator:
        case ast.Call(func=ast.Attribute(attr="register"), args=[name, *_]):
            return str(ast.literal_eval(name))
    return ""


class _Line(NamedTuple):
    """An assignment in the body of a class: `name: kind = value  # comment`."""

    name: str
    kind: str
    value: ast.expr | None
    comment: str


class _Module:
    """The source of a module: its tree, its lines, its constants, and its classes and functions by name."""

    def __init__(self, tree: ast.Module, lines: list[str]) -> None:
        self.tree, self.lines = tree, lines
        self.constants = constants_of(tree)
        self.definitions = {node.name: node for node in tree.body if isinstance(node, Definition)}

    def value(self, node: ast.expr) -> Any:
        return value_of(node, self.constants)

    def comment(self, line: int) -> str:
        return comment_of(self.lines[line - 1])


@dataclass
class _Stated:
    """What the source of an entry states: its fields, its facts, the methods that it overrides, and its paper."""

    fields: dict[str, Field] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    hooks: set[str] = field(default_factory=set)
    paper: Paper | None = None

    def inherit(self, base: _Stated) -> None:
        """Add what a base class states."""
        self.fields |= base.fields
        self.hooks |= base.hooks
        self.state(base.facts)
        self.paper = base.paper or self.paper

    def state(self, facts: Mapping[str, Any]) -> None:
        """Add facts: the last one counts, but for those to which a class adds."""
        for name, fact in facts.items():
            if name in MERGED and fact:
                self.facts[name] = {**self.facts.get(name, {}), **fact}
            else:
                self.facts[name] = fact


def _read(entry: Entry, module: _Module) -> Entry:
    node = module.definitions.get(entry.attribute)
    if isinstance(node, ast.ClassDef) and node.bases and entry.kind in BASES:
        stated = _class(node, BASES[entry.kind], module)
    elif isinstance(node, ast.FunctionDef) and entry.kind not in BASES:
        stated = _function(entry.kind, node, module)
    else:
        raise UnreadableError
    return dataclasses.replace(
        entry,
        doc=ast.get_docstring(node) or ast.get_docstring(module.tree) or "",
        paper=stated.paper,
        fields=tuple(stated.fields.values()),
        hooks=frozenset(stated.hooks),
        facts=cast(StatedFacts, stated.facts),
    )


def _class(node: ast.ClassDef, root: str, module: _Module) -> _Stated:
    stated = _Stated()
    for base in node.bases:
        stated.inherit(_base(base, root, module))
    for statement in node.body:
        match statement:
            case ast.FunctionDef(name=name):
                stated.hooks.add(name)
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                line = _Line(name, ast.unparse(annotation), value, module.comment(statement.lineno))
                _take_up(stated, module, line)
            case ast.Assign(targets=[ast.Name(id=name), *_], value=value):
                _take_up(stated, module, _Line(name, "ClassVar", value, ""))
    return stated


def _base(base: ast.expr, root: str, module: _Module) -> _Stated:
    """Return what a base class states: a class of the same file, or one of the contract."""
    if not isinstance(base, ast.Name):
        raise UnreadableError
    parent = module.definitions.get(base.id)
    if isinstance(parent, ast.ClassDef):
        return _class(parent, root, module)
    ours = vars(contract).get(base.id)
    if not isinstance(ours, type) or not issubclass(ours, getattr(contract, root)):
        raise UnreadableError
    fields = {own.name: own for own in dataclass_fields(ours)}
    facts = {fact: inherited_facts(ours, fact) for fact in MERGED}
    return _Stated(fields, {fact: stated for fact, stated in facts.items() if stated})


def _take_up(stated: _Stated, module: _Module, line: _Line) -> None:
    """Add what a line of a class states: its paper, a fact or a field."""
    is_field = "ClassVar" not in line.kind
    if line.value is None:
        if is_field:
            raise EntryError(f"the field {line.name!r} has no default; every field of an entry needs one")
    elif line.name == "paper":
        stated.paper = _paper(line.value, module)
    elif line.name in FACTS:
        stated.state({line.name: module.value(line.value)})
    elif is_field:
        before = stated.fields.get(line.name)
        comment = line.comment or (before.comment if before else "")
        stated.fields[line.name] = Field(line.name, line.kind, module.value(line.value), comment)


def _paper(node: ast.expr, module: _Module) -> Paper:
    match node:
        case ast.Call(func=ast.Name(id="Paper")):
            keywords = {str(keyword.arg): module.value(keyword.value) for keyword in node.keywords}
            return Paper(*map(module.value, node.args), **keywords)
        case ast.Name() if hasattr(_papers, node.id):
            shared: Paper = getattr(_papers, node.id)
            return shared
    raise UnreadableError


def _function(kind: str, node: ast.FunctionDef, module: _Module) -> _Stated:
    stated = _Stated(facts=_decorated(node, module) | _assigned(node, module))
    positional = node.args.args
    padding: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    defaults = [*padding, *node.args.defaults, *node.args.kw_defaults]
    for argument, default in zip([*positional, *node.args.kwonlyargs], defaults, strict=True):
        if argument.arg in CALLED_WITH.get(kind, ()):
            continue
        if default is None:
            raise EntryError(f"the argument {argument.arg!r} has no default; every field of an entry needs one")
        annotation = ast.unparse(argument.annotation) if argument.annotation else "str"
        own = Field(argument.arg, annotation, module.value(default), module.comment(argument.lineno))
        stated.fields[own.name] = own
    return stated


def _decorated(node: ast.FunctionDef, module: _Module) -> dict[str, Any]:
    """Return the facts among the keywords of a function's decorators."""
    facts: dict[str, Any] = {}
    for decorator in node.decorator_list:
        for keyword in getattr(decorator, "keywords", []):
            if keyword.arg in FACTS:
                facts[keyword.arg] = module.value(keyword.value)
    return facts


def _assigned(node: ast.FunctionDef, module: _Module) -> dict[str, Any]:
    """Return the facts that other packages write below a function: `function.version = 2`."""
    facts: dict[str, Any] = {}
    for statement in module.tree.body:
        match statement:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id=node.name), attr=fact), *_], value=value) if fact in FACTS:
                facts[fact] = module.value(value)
    return facts
