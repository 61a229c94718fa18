"""Classes as their source shows them: fields with types, defaults and comments, methods with signatures and docstrings.

The source is read, not imported: comments are what a reader wants, and no reference page should need torch.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

Node = TypeVar("Node", bound=ast.stmt)


@dataclass(frozen=True)
class SourceField:
    """One annotated name of a class."""

    name: str
    type: str
    default: str  # '' where there is none
    comment: str


@dataclass(frozen=True)
class SourceMethod:
    """One public method, property or function."""

    signature: str
    doc: str


@dataclass(frozen=True)
class SourceClass:
    """A class with what its body says, in its order."""

    name: str
    bases: tuple[str, ...]
    doc: str
    fields: tuple[SourceField, ...]
    methods: tuple[SourceMethod, ...]


def classes_of(path: Path) -> list[SourceClass]:
    """Return the public classes of a file, in their order."""
    text = path.read_text(encoding="utf-8")
    nodes = _public(_only(ast.ClassDef, ast.parse(text).body))
    return list(map(partial(_read_class, lines=text.splitlines()), nodes))


def aliases_of(path: Path) -> list[SourceMethod]:
    """Return the documented type aliases of a file: their names and the strings below them."""
    found = []
    for node, after in pairwise(ast.parse(path.read_text(encoding="utf-8")).body):
        doc = _string(after)
        if _is_alias(node) and doc:
            found.append(SourceMethod(_name(node), doc))
    return found


def class_of(kind: type) -> SourceClass:
    """Return one class as its source shows it."""
    path = inspect.getsourcefile(kind)
    assert path is not None
    by_name = {found.name: found for found in classes_of(Path(path))}
    return by_name[kind.__name__]


def _only(kind: type[Node], nodes: Iterable[ast.stmt]) -> list[Node]:
    return [node for node in nodes if isinstance(node, kind)]


def _public(nodes: list[Node]) -> list[Node]:
    return [node for node in nodes if not _name(node).startswith("_")]


def _name(node: ast.stmt) -> str:
    """The name that a statement gives to something."""
    if isinstance(node, ast.AnnAssign):
        return ast.unparse(node.target)
    assert isinstance(node, ast.ClassDef | ast.FunctionDef)
    return node.name


def _is_alias(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias"


def _string(node: ast.stmt) -> str:
    """The text of a statement that is nothing but a string."""
    text = ""
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            pass
    return inspect.cleandoc(text)


def _doc(node: ast.ClassDef | ast.FunctionDef) -> str:
    return ast.get_docstring(node) or ""


def _read_class(node: ast.ClassDef, lines: list[str]) -> SourceClass:
    fields = map(partial(_read_field, lines=lines), _public(_only(ast.AnnAssign, node.body)))
    methods = map(_read_method, _public(_only(ast.FunctionDef, node.body)))
    bases = map(ast.unparse, node.bases)
    return SourceClass(node.name, tuple(bases), _doc(node), tuple(fields), tuple(methods))


def _read_field(node: ast.AnnAssign, lines: list[str]) -> SourceField:
    default = ast.unparse(node.value) if node.value else ""
    return SourceField(_name(node), ast.unparse(node.annotation), default, _comment(node, lines))


def _comment(node: ast.AnnAssign, lines: list[str]) -> str:
    """The comment behind a field, else the one in the lines above it."""
    end = node.end_lineno
    assert end is not None
    behind = lines[end - 1][node.end_col_offset :].partition("# ")[2]
    return behind or _above(node.lineno - 2, lines)


def _above(index: int, lines: list[str]) -> str:
    """The comment that ends at a line, '' where there is none."""
    comment: list[str] = []
    line = lines[index].strip()
    while line.startswith("# "):
        comment.insert(0, line.removeprefix("# "))
        index -= 1
        line = lines[index].strip()
    return " ".join(comment)


def _read_method(node: ast.FunctionDef) -> SourceMethod:
    returned = ast.unparse(node.returns) if node.returns else "None"
    marks = set(map(ast.unparse, node.decorator_list))
    if marks & {"property", "cached_property"}:
        return SourceMethod(f"{node.name}: {returned}", _doc(node))
    arguments = ast.unparse(node.args).removeprefix("self, ").removeprefix("self")
    return SourceMethod(f"{node.name}({arguments}) -> {returned}", _doc(node))
