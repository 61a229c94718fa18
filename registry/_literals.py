"""Evaluates literals, and arithmetic of literals, in the syntax tree of a module that is never imported."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

LARGEST_BASE, LARGEST_EXPONENT = 2**32, 64  # of powers that are computed from a source
_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}


class UnreadableError(Exception):
    """The source does not tell; the entry has to be imported."""


def constants_of(tree: ast.Module) -> dict[str, Any]:
    """Return the upper-case names of a module that are literals."""
    constants: dict[str, Any] = {}
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name), *_], value=value) if name.isupper():
                with contextlib.suppress(UnreadableError):
                    constants[name] = value_of(value, constants)
    return constants


def value_of(node: ast.expr, constants: Mapping[str, Any]) -> Any:
    """Return the value of an expression. UnreadableError where it is more than literals, constants and arithmetic."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name() if node.id in constants:
            return constants[node.id]
        case ast.UnaryOp(op=ast.USub()):
            return -value_of(node.operand, constants)
        case ast.BinOp():
            return _computed(node.op, value_of(node.left, constants), value_of(node.right, constants))
        case ast.Tuple() | ast.List():
            return tuple(value_of(element, constants) for element in node.elts)
        case ast.Dict():
            return _dictionary(node, constants)
    raise UnreadableError


def _dictionary(node: ast.Dict, constants: Mapping[str, Any]) -> dict[Any, Any]:
    values: dict[Any, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:  # {**other}
            raise UnreadableError
        values[value_of(key, constants)] = value_of(value, constants)
    return values


def _computed(operation: ast.operator, left: Any, right: Any) -> Any:
    """Compute what is small: a power or a repeated text of a few letters of source may fill the memory."""
    operate = _OPERATIONS.get(type(operation))
    if operate is None:
        raise UnreadableError
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    if not numbers and not isinstance(operation, ast.Add):
        raise UnreadableError
    if isinstance(operation, ast.Pow) and (abs(left) > LARGEST_BASE or abs(right) > LARGEST_EXPONENT):
        raise UnreadableError
    return operate(left, right)
