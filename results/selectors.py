"""Selectors of the command line: which values of an axis are kept or replaced, and which seeds are run."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unlearnable_bench.results.cell import name_in
from unlearnable_bench.results.cells import KIND_OF_AXIS, CellMaker
from unlearnable_bench.results.record import FileError
from unlearnable_bench.results.table_file import ScoreRequest

MOST_SHOWN = 12  # values of an axis in a message
_SPEC = re.compile(r"[^\s(]+\(")  # how a spec with fields begins; labels have a space before the parenthesis
EXPECTED_VALUES = {"seed": "a whole number", "ratio": "a number from 0 to 1", "part": "all or clean"}


@dataclass(frozen=True)
class Selector:
    """What the command line says of an axis: a value, a label or a glob that is kept, or one that is replaced."""

    axis: str
    old: str
    new: str
    maker: CellMaker

    @classmethod
    def read(cls, axis: str, text: str, maker: CellMaker) -> Selector:
        """Read `old` or `old=new`. FileError or ValueError for a new value that no table may hold."""
        old, equals, new = _split(text)
        if equals and not new:
            raise FileError(f"--{axis} {text}: nothing follows the equals sign; write old=new")
        if axis == "ratio":
            typed_value(axis, old)
        if new:
            typed_value(axis, new)
            _check_name(axis, new, maker)
        return cls(axis, old, new, maker)

    def holds(self, request: ScoreRequest) -> bool:
        """Whether a score matches by its value, by the name of its first entry, or by its label."""
        value = request.fields[self.axis]
        if self.axis == "ratio":
            return bool(value == typed_value(self.axis, self.old))
        spec = str(value)
        text = self._text(spec)
        if self._is_spec and text == self._text(self.old):
            return True
        names = [spec, name_in(spec), text, request.labels.get(self.axis, "")]
        return any(fnmatch.fnmatchcase(name, self.old) for name in names)

    @property
    def _is_spec(self) -> bool:
        """Whether it names one spec, however it is written. A name alone means all of its settings."""
        is_glob = bool(set(self.old) & set("*?["))
        return self.axis in KIND_OF_AXIS and not is_glob and bool(_SPEC.match(self.old))

    def _text(self, spec: str) -> str:
        """A spec without what can be left out; as it is where it cannot be resolved, like the name of a mean."""
        if self.axis not in KIND_OF_AXIS:
            return spec
        try:
            return self.maker.text(KIND_OF_AXIS[self.axis], spec)
        except ValueError:
            return spec

    def hits(self, requests: Sequence[ScoreRequest]) -> list[int]:
        """The numbers of the scores that match. FileError if there is none."""
        numbers = [number for number, request in enumerate(requests) if self.holds(request)]
        if not numbers:
            raise FileError(self._complaint(requests))
        return numbers

    def applied(self, request: ScoreRequest) -> ScoreRequest:
        """A score with the new value, if there is one."""
        if not self.new:
            return request
        change = f"{self.new} instead of {request.fields[self.axis]}"
        fields = {**request.fields, self.axis: typed_value(self.axis, self.new)}
        return replace(request, fields=fields, changes=(*request.changes, change))

    def _complaint(self, requests: Iterable[ScoreRequest]) -> str:
        """What to say where no score matches. ValueError for a spec that is a mistake by itself."""
        if self._is_spec:
            self.maker.resolve(KIND_OF_AXIS[self.axis], self.old)
        there = list(dict.fromkeys(str(request.fields[self.axis]) for request in requests))
        shown = ", ".join(there[:MOST_SHOWN])
        if len(there) > MOST_SHOWN:
            shown += f" and {len(there) - MOST_SHOWN} more"
        wish = f"{self.old}={self.new}".removesuffix("=")
        return f"--{self.axis} {wish}: the grid has no such {self.axis}; it has {shown}; old=new replaces one of them"


def _split(wish: str) -> tuple[str, str, str]:
    """Split `old=new` at the first equals sign outside parentheses."""
    depth = 0
    for position, character in enumerate(wish):
        depth += (character == "(") - (character == ")")
        if character == "=" and not depth:
            return wish[:position].strip(), "=", wish[position + 1 :].strip()
    return wish.strip(), "", ""


def _check_name(axis: str, spec: str, maker: CellMaker) -> None:
    """Refuse a name that nobody has, whatever the table. ValueError."""
    if axis in KIND_OF_AXIS and spec != "accuracy":
        maker.resolve(KIND_OF_AXIS[axis], spec)


def typed_value(axis: str, text: str) -> Any:
    """A value of an axis as tables hold it. FileError for what none may hold."""
    readers: Mapping[str, Any] = {"seed": int, "ratio": _ratio, "part": _part}
    try:
        return readers.get(axis, str)(text)
    except ValueError:
        raise FileError(f"--{axis} {text}: expected {EXPECTED_VALUES[axis]}") from None


def _ratio(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def _part(text: str) -> str:
    if text not in ("all", "clean"):
        raise ValueError(text)
    return text


_SEED = re.compile(r"\s*[0-9]{1,18}\s*(=\s*[0-9]{1,18}\s*)?")


def seeds_of(wishes: Sequence[str], own: Sequence[int], there: Collection[int]) -> tuple[int, ...]:
    """Return the seeds that `--seed` asks for. A number names one, whether a grid has it or not; `old=new` replaces one.

    `own` are the seeds of the table, `there` those of the whole grid. FileError.
    """
    named: list[int] = []
    changes: dict[int, int] = {}
    for wish in wishes:
        if not _SEED.fullmatch(wish):
            raise FileError(f"--seed {wish}: expected a whole number from 0 on, or old=new")
        old, equals, new = wish.partition("=")
        if equals:
            changes[int(old)] = int(new)
        else:
            named.append(int(old))
    _check_seeds(changes, there)
    seeds = [*named, *changes.values()]
    if not named:
        seeds = [changes.get(seed, seed) for seed in own]
    return tuple(dict.fromkeys(seeds))


def _check_seeds(changes: Mapping[int, int], there: Collection[int]) -> None:
    """Refuse to replace a seed that the grid does not have. FileError."""
    for old, new in changes.items():
        if old not in there:
            shown = ", ".join(map(str, sorted(there)))
            raise FileError(f"--seed {old}={new}: the grid has no seed {old} to replace; it has {shown}")
