"""Cells of combinations of specs, and why some cannot be made here.

These classes are given `resolve` and `lacking` of the registry: what a spec stands for, and what of it is not installed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from unlearnable_bench.results.cell import NONE, Cell, Part
from unlearnable_bench.results.record import FileError
from unlearnable_bench.results.reference import source
from unlearnable_bench.results.table_file import REQUESTED, ScoreRequest, TableFile

KIND_OF_AXIS = {
    "measure": "analyses",
    "attack": "attacks",
    "defense": "defenses",
    "dataset": "datasets",
    "architecture": "architectures",
    "protocol": "protocols",
}
NOUN_OF_AXIS = {"measure": "analysis"}  # of axes that are called by another word

Resolve = Callable[[str, str], Sequence[Any]]
"""(kind, spec) -> its parts with all their fields."""
Lacking = Callable[[str, str], Sequence[tuple[str, str]]]
"""(kind, spec) -> what of the spec is not there: (name, '') for an entry, (name, field) for a field of one."""


class CellMaker:
    """Makes cells of specs, each spec resolved once."""

    def __init__(self, resolve: Resolve) -> None:
        self.resolve = resolve
        self._parts = cache(self._find_parts)
        self._members = cache(self._find_members)

    def parts(self, kind: str, spec: str) -> tuple[Part, ...]:
        """The parts of a spec with all their fields."""
        return self._parts(kind, spec)

    def _find_parts(self, kind: str, spec: str) -> tuple[Part, ...]:
        return tuple(map(_plain, self.resolve(kind, spec)))

    def text(self, kind: str, spec: str) -> str:
        """A spec as it is written without what can be left out."""
        return "+".join(part.text for part in self.parts(kind, spec))

    def _find_members(self, defense: str) -> tuple[str, ...]:
        """The defenses that one stands for: itself, or every choice of members."""
        choices = map(_members_of, self.resolve("defenses", defense))
        return tuple(map("+".join, itertools.product(*choices)))

    def cells(self, fields: Mapping[str, Any], seed: int) -> tuple[Cell, ...]:
        """The cells of a combination of axes: one, or one for each member of its defense."""
        members = self._members(fields["defense"])
        return tuple(self.cell({**fields, "defense": member}, seed) for member in members)

    def needs_victim(self, measure: str) -> bool:
        """Whether what is measured looks at a trained victim."""
        if measure == "accuracy":
            return True
        (analysis,) = self.resolve("analyses", measure)
        needs = analysis.entry.facts.get("needs", ())
        return bool({"network", "epochs"} & set(needs))

    def cell(self, fields: Mapping[str, Any], seed: int) -> Cell:
        """Make a cell. Where no victim is looked at the architecture is `na`, whatever the table says."""
        measure = fields.get("measure", "accuracy")
        analysis: Any = "accuracy"
        architecture = Part(name=NONE, text=NONE)
        if measure != "accuracy":
            analysis = self.parts("analyses", measure)[0]
        if self.needs_victim(measure):
            architecture = self.parts("architectures", fields["architecture"])[0]
        return Cell(
            protocol=self.parts("protocols", fields["protocol"])[0],
            dataset=self.parts("datasets", fields["dataset"])[0],
            attack=self.parts("attacks", fields["attack"]),
            ratio=fields["ratio"],
            part=fields["part"],
            defense=self.parts("defenses", fields["defense"]),
            architecture=architecture,
            seed=seed,
            measure=analysis,
        )


def _plain(part: Any) -> Part:
    """A part as a cell keeps it."""
    return Part(name=part.name, fields=dict(part.fields), text=part.text)


def _members_of(part: Any) -> tuple[str, ...]:
    return getattr(part, "members", ()) or (part.text,)


@dataclass(frozen=True)
class RequestedCells:
    """The cells of one score, one per seed, or one per seed and member of a defense that has these; or why there are none."""

    request: ScoreRequest
    cells: tuple[Cell, ...] = ()
    reason: str = ""


class Expansion:
    """Makes the cells of scores, those of equal scores once."""

    def __init__(self, resolve: Resolve, lacking: Lacking) -> None:
        self.maker = CellMaker(resolve)
        self._lacking = cache(lacking)
        self._cells = cache(self._make_cells)

    def expand(self, request: ScoreRequest, table: TableFile) -> RequestedCells:
        """Return the cells of a score, or why they are not available. FileError for a mistake in a table with a layout."""
        try:
            reason = self._reason(request, table)
            if reason:
                return RequestedCells(request, reason=reason)
            return RequestedCells(request, self._cells(request.written, request.seeds))
        except FileError:
            raise
        except ValueError as error:  # an entry's, from the registry
            if table.has_layout:
                raise FileError(f"{table.file}, {request.where}: {error}") from None
            raise

    def _make_cells(self, written: tuple[Any, ...], seeds: tuple[int, ...]) -> tuple[Cell, ...]:
        fields = dict(zip(REQUESTED, written, strict=True))
        cells: list[Cell] = []
        for seed in seeds:
            cells += self.maker.cells(fields, seed)
        return tuple(cells)

    def _reason(self, request: ScoreRequest, table: TableFile) -> str:
        """Why the cells of a score cannot be run here, or ''. ValueError for an entry whose name is a mistake."""
        fields = dict(zip(REQUESTED, request.written, strict=True))
        for axis in KIND_OF_AXIS:
            for name, field in self._lacks(axis, fields):
                return self._complaint(axis, str(fields[axis]), name, field, table)
        return ""

    def _lacks(self, axis: str, fields: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        """What is not there of the spec of an axis."""
        spec = str(fields[axis])
        if axis == "measure" and spec == "accuracy":
            return ()
        if axis == "architecture" and not self.maker.needs_victim(str(fields["measure"])):
            return ()  # whatever the paper calls what it is not trained with
        return self._lacking(KIND_OF_AXIS[axis], spec)

    def _complaint(self, axis: str, spec: str, name: str, field: str, table: TableFile) -> str:
        """Name a field that a paper's table asks for, or an entry that a shipped one does. Elsewhere they are mistakes."""
        noun = NOUN_OF_AXIS.get(axis, axis)
        if field and table.paper:
            return f"{noun} {name} has no field {field}"
        if not field and table.is_shipped:
            why = source(table.paper).absent.get(name)
            return f"{noun} {name}. {why.rstrip('.')}" if why else f"{noun} {name}"
        self.maker.resolve(KIND_OF_AXIS[axis], spec)  # raises with the nearest name that there is
        raise ValueError(f"unknown {noun} {name!r}")
