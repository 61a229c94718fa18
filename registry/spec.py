"""Specs, the way entries are written everywhere: `name`, `name(key=value,...)`, chained by `+`.

Values are int, float, fraction (`8/255`), true, false, a bare word or a spec with fields of its own; in keys `-` and `_`
are the same. A protocol may carry a factor for its epochs (`quick@0.5`), and a folder of images is `folder:PATH(size=32)`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from unlearnable_bench.registry.contract import EntryError

Value = int | float | bool | str

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_INT = re.compile(r"[+-]?\d+\Z")
_FRACTION = re.compile(r"([+-]?\d+(?:\.\d+)?)/(\d+)\Z")
_WORD = re.compile(r"[A-Za-z0-9_.:-]+\Z")
_NESTED = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\([A-Za-z0-9_.:,=/+() -]*\)\Z")  # a spec with fields of its own
SELFTRAINED = "selftrained"  # written `name-selftrained`: the value of `weights` that says they come from the set at hand
_LONGEST = 64  # characters of a value; specs are not counted


@dataclass(frozen=True)
class Named:
    """One part of a spec as it was written: a name and the fields that were given."""

    name: str
    given: Mapping[str, Value] = field(default_factory=dict)
    scale: float = 1.0


def split(text: str, separator: str) -> list[str]:
    """Split at `separator` outside parentheses. EntryError if they do not match."""
    parts, depth, current = [], 0, ""
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            raise EntryError(f"cannot read {text!r}: a ')' without its '('")
        if character == separator and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    if depth:
        raise EntryError(f"cannot read {text!r}: a '(' without its ')'")
    return [part.strip() for part in [*parts, current]]


def is_folder(dataset: str) -> bool:
    """Whether the name of a dataset is that of a folder of the user's own images."""
    return dataset.startswith("folder-")


def parse(text: str) -> list[Named]:
    """Read a spec. EntryError says what cannot be read."""
    text = text.strip()
    if text.startswith("folder:"):
        return [_folder(text)]
    return [_part(piece, text) for piece in split(text, "+")]


def _part(piece: str, whole: str) -> Named:
    name, _, rest = piece.partition("(")
    if rest and not rest.endswith(")"):
        raise EntryError(f"cannot read {whole!r}: expected name or name(key=value,...)")
    name, at, factor = name.strip().partition("@")
    if not _NAME.match(name):
        raise EntryError(f"cannot read {whole!r}: expected name or name(key=value,...), found {piece!r}")
    scale = 1.0
    if at:
        try:
            scale = float(factor)
        except ValueError:
            scale = 0.0
        if not 0 < scale < math.inf:
            raise EntryError(f"cannot read {whole!r}: behind '@' stands a factor for the epochs, as in {name}@0.1")
    given = _fields(rest[:-1], whole)
    if name.endswith(f"-{SELFTRAINED}"):
        if "weights" in given:
            raise EntryError(f"cannot read {whole!r}: {name} says whose the weights are, and so does weights=")
        name, given = name.removesuffix(f"-{SELFTRAINED}"), {"weights": SELFTRAINED, **given}
    return Named(name, given, scale)


def _folder(text: str) -> Named:
    path, fields = text, ""
    if text.endswith(")") and "(" in text:
        path, _, fields = text[:-1].rpartition("(")
        if fields and "=" not in fields:  # a folder whose own name ends in parentheses
            path, fields = text, ""
    if path.strip() == "folder:":
        raise EntryError(f"cannot read {text!r}: expected folder:PATH or folder:PATH(size=32)")
    return Named(path.strip(), _fields(fields, text))


def _fields(text: str, whole: str) -> dict[str, Value]:
    given: dict[str, Value] = {}
    for pair in split(text, ",") if text.strip() else []:
        key, equals, raw = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier() or not raw.strip():
            raise EntryError(f"cannot read {whole!r}: expected key=value, found {pair!r}")
        if key in given:
            raise EntryError(f"cannot read {whole!r}: {key} is given twice")
        given[key] = read_value(raw.strip())
    return given


def read_value(raw: str) -> Value:
    """Read one value: int, float, fraction, true, false or a bare word."""
    if _NESTED.match(raw):
        if len(raw) > 4 * _LONGEST:
            raise EntryError(
                f"cannot read the spec {raw[:20]}...: it has {len(raw)} characters, at most {4 * _LONGEST} are read"
            )
        return raw
    if len(raw) > _LONGEST:
        raise EntryError(f"cannot read the value {raw[:20]}...: it has {len(raw)} characters, at most {_LONGEST} are read")
    if raw.lower() in ("true", "false"):
        return raw.lower() == "true"
    if _INT.match(raw):
        return int(raw)
    if match := _FRACTION.match(raw):
        above, below = float(match[1]), int(match[2])
        if below == 0:
            raise EntryError(f"cannot read the value {raw!r}: division by zero")
        return above / below
    try:
        number = float(raw)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number
    if not _WORD.match(raw):
        raise EntryError(f"cannot read the value {raw!r}: expected a number, a fraction such as 8/255, true, false or a word")
    return raw


def write_value(value: Any) -> str:
    """Write a value so that `read_value` reads the same one back; levels (8/255, 1.6/255) are written as such."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if len(repr(value)) > 8:  # 0.1 stays 0.1
            tenths = round(value * 2550) / 10 if abs(value) < 1 else math.nan  # levels, to one decimal
            if tenths / 255 == value:
                return f"{tenths:g}/255"
            fraction = Fraction(value).limit_denominator(2550)
            if fraction.denominator > 1 and fraction.numerator / fraction.denominator == value:
                return f"{fraction.numerator}/{fraction.denominator}"
        return repr(value)
    return str(value)


def write_spec(name: str, fields: Mapping[str, Any]) -> str:
    """Write one part of a spec with the fields given."""
    inner = ",".join(f"{key}={write_value(value)}" for key, value in fields.items())
    return f"{name}({inner})" if inner else name
