"""Classes as their source shows them: fields with types, defaults and comments, methods with signatures and docstrings.

The source is read, not imported: comments are what a reader wants, and no reference page should need torch.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


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
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    return [_read_class(node, text.splitlines()) for node in nodes if not node.name.startswith("_")]


def aliases_of(path: Path) -> list[SourceMethod]:
    """Return the documented type aliases of a file: their names and the strings below them."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    pairs = list(pairwise(body))
    return [SourceMethod(_target(node), _string(after)) for node, after in pairs if _is_alias(node) and _string(after)]


def class_of(kind: type) -> SourceClass:
    """Return one class as its source shows it."""
    path = inspect.getsourcefile(kind)
    assert path is not None
    return next(found for found in classes_of(Path(path)) if found.name == kind.__name__)


def _is_alias(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias"


def _target(node: ast.stmt) -> str:
    assert isinstance(node, ast.AnnAssign)
    return ast.unparse(node.target)


def _string(node: ast.stmt) -> str:
    """The text of a statement that is nothing but a string."""
    constant = node.value if isinstance(node, ast.Expr) else None
    value = constant.value if isinstance(constant, ast.Constant) else None
    return inspect.cleandoc(value) if isinstance(value, str) else ""


def _read_class(node: ast.ClassDef, lines: list[str]) -> SourceClass:
    fields = [_read_field(part, lines) for part in node.body if isinstance(part, ast.AnnAssign)]
    methods = [_read_method(part) for part in node.body if isinstance(part, ast.FunctionDef)]
    return SourceClass(
        name=node.name,
        bases=tuple(ast.unparse(base) for base in node.bases),
        doc=ast.get_docstring(node) or "",
        fields=tuple(found for found in fields if not found.name.startswith("_")),
        methods=tuple(found for found in methods if not found.signature.startswith("_")),
    )


def _read_field(node: ast.AnnAssign, lines: list[str]) -> SourceField:
    default = ast.unparse(node.value) if node.value else ""
    return SourceField(ast.unparse(node.target), ast.unparse(node.annotation), default, _comment(node, lines))


def _comment(node: ast.AnnAssign, lines: list[str]) -> str:
    """The comment behind a field, else the one in the lines above it."""
    last = lines[(node.end_lineno or node.lineno) - 1]
    behind = last[node.end_col_offset :].partition("# ")[2]
    return behind or " ".join(reversed(list(_above(node.lineno - 2, lines))))


def _above(index: int, lines: list[str]) -> Iterator[str]:
    while lines[index].strip().startswith("# "):
        yield lines[index].strip().removeprefix("# ")
        index -= 1


def _read_method(node: ast.FunctionDef) -> SourceMethod:
    is_property = any(ast.unparse(mark) in ("property", "cached_property") for mark in node.decorator_list)
    returned = ast.unparse(node.returns) if node.returns else "None"
    signature = f"{node.name}: {returned}" if is_property else f"{node.name}({_arguments(node)}) -> {returned}"
    return SourceMethod(signature, ast.get_docstring(node) or "")


def _arguments(node: ast.FunctionDef) -> str:
    return ast.unparse(node.args).removeprefix("self, ").removeprefix("self")
