"""Records to rows: mean and spread over seeds, drop from clean, rank.

A board is one table: what a grid asks for (`board`), or what lies in a workspace beside the grids (`others`). Everything that
is printed about a cell comes from its runs, one per seed; a cell without a number always has a sentence that says why.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from leaderboard.figures import ceiling
from leaderboard.remarks import faint_rows, precisions, remarks
from leaderboard.standings import Standing, standings
from registry import CATALOGS, EntryError, Paper, child, lacking, outdated
from registry._places import hide_paths
from registry.catalog import Part as Resolved
from registry.item import SELFTRAINED, write
from results import Cell, FileError, Grid, Part, Record, Records
from results.cell import digest
from results.cells import CellMaker, Resolve
from results.record import Failure
from results.submission import REPORTED, Origin, worst
from results.table_file import AXES

State = Literal["done", "partial", "not-applicable", "failed", "stale", "missing"]
Key = tuple[str, str]  # labels of a row and a column

POINT = tuple(axis for axis in AXES if axis != "seed")
UNREADABLE = (FileError, OSError, RecursionError)  # the last: JSON nested deeper than the parser goes
LONGEST = 300  # characters of a failure's message

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What is known of one seed of a cell. A stale run has its record too."""

    cell: Cell
    state: State  # any but partial
    reason: str = ""
    record: Record | None = None
    origin: Origin | None = None  # of a record that somebody else measured

    @cached_property
    def id(self) -> str:
        return self.cell.id

    @property
    def ours(self) -> bool:
        """Whether its number may stand among those measured here: it was, or it was measured here again."""
        return self.origin is None or self.origin.trusted


@dataclass(frozen=True)
class Value:
    """One place of a board: all seeds of one combination. Accuracies are fractions of the clean test set, last epoch."""

    point: Mapping[str, str]  # every axis but the seed, as people write it
    runs: tuple[Run, ...] = ()  # one per seed; none where nothing asks for this combination
    rest: tuple[Run, ...] = ()  # of a defense with members: those of the members that are not the best
    reference: float | None = None  # accuracy of clean training in the same setting, fraction; None where it cannot be told

    @cached_property
    def used(self) -> tuple[Record, ...]:
        """The records behind the number: those of today's versions, else the stale ones; ours, else those of others.

        Never two kinds in one mean.
        """
        for state in ("done", "stale"):
            runs = [run for run in self.runs if run.state == state and run.record and run.record.metrics]
            if runs:
                ours = any(run.ours for run in runs)
                return tuple(run.record for run in runs if run.record and run.ours == ours)
        return ()

    @cached_property
    def tier(self) -> str:
        """How far the number is to be trusted, where it rests on records of others alone, by the worst of them; else ''."""
        used = set(self.records)
        return worst(run.origin for run in self.runs if run.id in used)

    @property
    def reported(self) -> bool:
        """Whether the number is of others and was not measured here too."""
        return self.tier in REPORTED

    @cached_property
    def state(self) -> State:
        states = {run.state for run in self.runs} | {run.state for run in self.rest if run.state != "not-applicable"}
        if "done" in states:
            return "done" if len(states) == 1 else "partial"
        order: tuple[State, ...] = ("stale", "failed", "not-applicable")
        return next((state for state in order if state in states), "missing")

    @property
    def reason(self) -> str:
        """Why there is no number, or what is wrong with it; empty for done."""
        if self.state == "done":
            return ""
        if not self.runs:
            return "no record"
        run = next(run for run in self.every if run.state != "done" and self.state in (run.state, "partial"))
        if self.state == "partial":
            state = "" if run.state == "missing" else f"{run.state}: "
            member = f"{run.cell.texts['defense']}, " if self.rest else ""
            return f"{self.share}; {member}seed {run.cell.seed} {state}{run.reason}"
        return run.reason

    @property
    def every(self) -> tuple[Run, ...]:
        """Its runs, and those of the other members of its defense."""
        return (*self.runs, *self.rest)

    @property
    def share(self) -> str:
        """How much of it is done, in words."""
        if not self.rest:
            return f"{self.n} of {len(self.runs)} seeds"
        wanted = [run for run in self.every if run.state != "not-applicable"]
        return f"{sum(run.state == 'done' for run in wanted)} of {len(wanted)} runs"

    @property
    def oracle(self) -> str:
        """Which member of its defense the number is of: chosen by the test accuracy. Empty for a defense of its own."""
        if not self.rest or not self.used:
            return ""
        able = {run.cell.texts["defense"] for run in self.every if run.state != "not-applicable"}
        measured = {run.cell.texts["defense"] for run in self.every if run.state == self.runs[0].state}
        few = f" of {len(able)}" if len(measured) < len(able) else ""
        return f"oracle {self.runs[0].cell.texts['defense']}, best of {len(measured)}{few}"

    @property
    def n(self) -> int:
        return len(self.used)

    @cached_property
    def accuracies(self) -> tuple[float, ...]:
        """Test accuracy of every record used, in the order of `records`."""
        return tuple(r.metrics.test_acc for r in self.used if r.metrics and r.metrics.test_acc is not None)

    @cached_property
    def mean(self) -> float | None:
        return fmean(self.accuracies) if self.used else None

    @cached_property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        return stdev(self.accuracies) if self.n > 1 else None

    @property
    def drop(self) -> float | None:
        """How far below clean training, fraction; None where one of the two is unknown."""
        return None if self.reference is None or self.mean is None else self.reference - self.mean

    @property
    def why_no_drop(self) -> str:
        """Why nothing can be said about the change from clean training; empty where it can."""
        if self.drop is not None:
            return ""
        if self.clean:
            return "is clean"
        if self.mean is None:
            return "no number"
        return "stale" if self.state == "stale" else "no clean record"

    @property
    def best(self) -> float | None:
        """Mean over seeds of the best epoch, chosen on the test set: an oracle."""
        found = [r.metrics.test_acc_best for r in self.used if r.metrics and r.metrics.test_acc_best is not None]
        return fmean(found) if found else None

    @property
    def seconds(self) -> float:
        """Craft, purify and train of all records used, as if no stage were shared with other cells."""
        return sum(sum(record.seconds.values()) for record in self.used)

    @property
    def records(self) -> tuple[str, ...]:
        return tuple(record.id for record in self.used)

    @property
    def clean(self) -> bool:
        return self.point["attack"] == "none"


@dataclass(frozen=True)
class Setting:
    """What stands behind a label: all fields, defaults included, and where the method comes from."""

    text: str
    fields: str
    summary: str = ""
    needs: tuple[str, ...] = ()
    papers: tuple[Paper, ...] = ()
    cost: float = 1.0  # of a training with a defense, in plain ones


@dataclass(frozen=True)
class Board:
    """A table, ready to print: `values` has every pair of `rows` and `columns`."""

    title: str
    note: str
    slug: str  # a-z 0-9 . _ - only: names files and anchors
    command: str  # that runs what is missing; may be empty
    fixed: Mapping[str, str]  # the axes that are the same for all cells
    row_axes: tuple[str, ...]
    column_axes: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Mapping[Key, Value]
    settings: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)  # axis -> text -> what it means
    least_drop: float = 0.0  # fraction; attacks that undefended cost less have no rank

    @cached_property
    def coverage(self) -> dict[str, int]:
        """Number of cells (every seed counts) and how many of them are in each state."""
        count = Counter({run.id: str(run.state) for value in self.values.values() for run in value.every}.values())
        states = ("done", "stale", "failed", "not-applicable", "missing")
        return {"cells": count.total()} | {state: count[state] for state in states}

    @cached_property
    def measured(self) -> bool:
        """Whether it has any number."""
        return any(value.mean is not None for value in self.values.values())

    @cached_property
    def seeds(self) -> int:
        """The usual number of records behind a number, 0 for an empty board."""
        count = Counter(value.n for value in self.values.values() if value.n)
        return max(count, key=lambda n: (count[n], n)) if count else 0

    @cached_property
    def shown(self) -> set[str]:
        """The ids of all cells of the board."""
        return {run.id for value in self.values.values() for run in value.every}

    @property
    def subject(self) -> str:
        """What the rows are, where they can be ranked: attack or defense, the columns being the other; else ''."""
        sides = {"attack": ("defense",), "defense": ("attack",)}
        return next((axis for axis, columns in sides.items() if self.column_axes == columns and axis in self.row_axes), "")

    @property
    def other(self) -> str:
        """What the slug of the same places seen from the other side ends in; '' where there is no such side."""
        return {"attack": ".defenses", "defense": ".attacks"}[self.subject] if self.row_axes == (self.subject,) else ""

    @cached_property
    def top(self) -> float:
        """Where colours end, see `ceiling`: by the clean row, else by clean training in the same settings."""
        clean = [value.mean for value in self.values.values() if value.clean and value.mean is not None]
        references = [value.reference for value in self.values.values() if value.reference is not None]
        return ceiling(clean or references)

    @cached_property
    def standings(self) -> dict[str, Standing]:
        """One per row; empty where `subject` is. Rows of two protocols never meet in a ranking."""
        return standings(self)

    @cached_property
    def faint(self) -> dict[str, float]:
        """The attacks among the rows that do nothing which the board could measure, with their drops."""
        return faint_rows(self)

    @cached_property
    def precisions(self) -> dict[str, int]:
        """How many trainings behind the numbers were in fp32, how many in bf16."""
        return precisions(self)

    @cached_property
    def remarks(self) -> list[str]:
        """What a reader has to know beside the numbers, in sentences."""
        return remarks(self)

    def transposed(self) -> Board:
        """The same places with rows and columns changed over: the defender's view of an attacker's board, or the reverse."""
        return replace(
            self,
            slug=f"{self.slug}{self.other}",
            row_axes=self.column_axes,
            column_axes=self.row_axes,
            rows=self.columns,
            columns=self.rows,
            values={(column, row): value for (row, column), value in self.values.items()},
        )


def board(grid: Grid, records: Records, name: str, resolve: Resolve) -> Board:
    """Return the board of a grid of one table. `name` is what `bench run --grid` takes; `resolve` as for `Grid.cells`.

    A record that is damaged is a failed cell here, never an error. EntryError for items that nobody has.
    """
    command = f"bench run --grid {shlex.quote(name)}"
    (table,) = grid.tables.values()
    maker = CellMaker(resolve)
    there, more = records.ids(), sorted(records.seeds() - set(table.seed))
    groups: dict[tuple[str, ...], tuple[dict[str, str], dict[str, dict[str, Run]]]] = {}
    for wanted in grid.wanted(resolve, lacking):
        defense = maker.text("defenses", wanted.place.fields["defense"])
        for cell in wanted.cells:
            if cell.measure != "accuracy":
                continue  # figures of analyses are printed where a table names one
            point = {axis: cell.texts[axis] for axis in POINT} | {"defense": defense}
            runs = groups.setdefault(tuple(point.values()), (point, {}))[1].setdefault(cell.texts["defense"], {})
            for one in (cell, *siblings(cell, more, there)):
                if one.id not in runs:
                    runs[one.id] = look_up(records, one, f"not run yet: `{command}`")
    ordered = [
        (point, [tuple(sorted(runs.values(), key=lambda run: run.cell.seed)) for runs in members.values()])
        for point, members in groups.values()
    ]
    values = [_best(point, members) for point, members in ordered]
    slug = slugged(Path(name).stem if name.endswith(".toml") else name.replace("/", "."))
    clean = CleanTraining(records, there, sorted(records.seeds()))
    values = _with_references(values, clean)
    made = _arrange(table.title, table.note, slug, command, values, table.rows, table.columns)
    return replace(made, least_drop=table.least_drop)


def siblings(cell: Cell, seeds: Iterable[int], there: Set[str]) -> list[Cell]:
    """The cells that differ from a cell in the seed alone and have a record: seeds that a grid does not ask for count too."""
    copies = (cell.model_copy(update={"seed": seed}) for seed in seeds)
    return [copy for copy in copies if copy.id in there]


@dataclass(frozen=True)
class CleanTraining:
    """Training on the clean set in any setting, by all records, whichever table or command asked for it."""

    records: Records
    there: Set[str]  # ids of all records
    seeds: Sequence[int]  # of all records

    def like(self, value: Value) -> Value:
        """Return what clean training gave in the setting of a place; without runs where nobody trained it."""
        clean = tuple(Part(name=p.name, fields=dict(p.fields), text=p.text) for p in CATALOGS["attacks"].resolve("none"))
        cell = value.runs[0].cell.model_copy(update={"attack": clean, "ratio": 1.0, "part": "all"})
        runs = tuple(look_up(self.records, one, "no record") for one in siblings(cell, self.seeds, self.there))
        return Value({**value.point, "attack": "none", "ratio": "1", "part": "all"}, runs)


def _with_references(values: Sequence[Value], clean: CleanTraining) -> list[Value]:
    """Give every place what clean training has in its setting: by the clean row of its table, else by any other record."""
    by_point = {tuple(value.point.values()): value for value in values}
    changes: tuple[dict[str, str], ...] = ({}, {"ratio": "1", "part": "all"})  # any share of no attack is the clean set
    made = []
    for value in values:
        points = [tuple((dict(value.point) | change | {"attack": "none"}).values()) for change in changes]
        row = next((by_point[point] for point in points if point in by_point), None)
        if row is None and value.runs:
            row = clean.like(value)
        made.append(replace(value, reference=_reference(value, row)) if row is not None else value)
    return made


def _reference(value: Value, clean: Value) -> float | None:
    """The accuracy of clean training that a number may be compared with: none for stale ones, nor ours with that of others."""
    current = all(one.state in ("done", "partial") for one in (clean, value))
    if value.clean or not current or (clean.reported and not value.reported):
        return None
    return clean.mean


def _best(point: Mapping[str, str], members: Sequence[tuple[Run, ...]]) -> Value:
    """Return a place of a board; of a defense with members, the one with the highest accuracy: of those
    that are not stale, and of ours where there are any."""

    def order(number: int) -> tuple[bool, bool, float]:
        value = Value(point, members[number])
        return value.state in ("done", "partial"), not value.reported, -1.0 if value.mean is None else value.mean

    best = max(range(len(members)), key=order)
    return Value(point, members[best], tuple(run for n, runs in enumerate(members) if n != best for run in runs))


def others(records: Records, shown: set[str]) -> list[Board]:
    """Return boards, attack x defense, for the records and failures whose ids are not in `shown`.

    One per protocol, data set, architecture, ratio and part. Texts of records are other people's: a text that stands for
    two different things gets a number, so that nothing is averaged that differs in more than its seed.
    """
    runs = []
    there = records.ids()
    failed = {path.name.removesuffix(".failed.json") for path in records.folder.glob("*.failed.json")}
    for cell_id in sorted((there | failed) - shown):
        try:
            found: Record | Failure | None = records.read(cell_id) or records.failure(cell_id)
        except UNREADABLE as error:
            log.warning("left out: %s", error)
            continue
        if found is not None and found.cell.id == cell_id and found.cell.measure == "accuracy":
            runs.append(look_up(records, found.cell, "no record"))
    meanings: dict[tuple[str, str], list[str]] = defaultdict(list)  # (axis, text) -> what it stands for

    def distinct(axis: str, cell: Cell) -> str:
        value = getattr(cell, axis)
        parts = value if isinstance(value, tuple) else (value,)
        text = "+".join(_honest(part) for part in parts) if isinstance(parts[0], Part) else cell.texts[axis]
        meaning = digest(cell.resolved()[axis])
        known = meanings[axis, text]
        if meaning not in known:
            known.append(meaning)
        number = known.index(meaning)
        return f"{text} [{number + 1}]" if number else text

    boards: dict[tuple[str, ...], dict[Key, Value]] = defaultdict(dict)
    for run in sorted(runs, key=lambda run: run.cell.seed):
        point = {axis: distinct(axis, run.cell) for axis in POINT}
        group = boards[tuple(point[axis] for axis in POINT if axis not in ("attack", "defense"))]
        key = (point["attack"], point["defense"])
        group[key] = Value(point, (*group[key].runs, run) if key in group else (run,))
    result = []
    clean = CleanTraining(records, there, sorted(records.seeds()))
    for names, group in sorted(boards.items()):
        place = next(iter(group.values())).point
        attacks, defenses = (sorted({k[i] for k in group}, key=lambda text: (text != "none", text)) for i in (0, 1))
        values = [
            group.get((attack, defense), Value({**place, "attack": attack, "defense": defense}))
            for attack in attacks
            for defense in defenses
        ]
        share = f", ratio {place['ratio']}" if place["ratio"] != "1" else ""
        share += f", {place['part']} images alone" if place["part"] != "all" else ""
        title = f"{place['dataset']}, {place['architecture']}, protocol {place['protocol']}{share}"
        note = "All that is measured in this setting beside the boards of grids, whichever table or command asked for it."
        slug = slugged("others." + ".".join(text for text in names if text not in ("1", "all")))
        values = _with_references(values, clean)
        result.append(_arrange(title, note, slug, "", values, ["attack"], ["defense"]))
    return result


def _honest(part: Part) -> str:
    """A part's text, or all its fields where the text speaks of another entry."""
    trained = f"-{SELFTRAINED}" if part.fields.get("weights") == SELFTRAINED else ""
    rest = part.text.removeprefix(part.name + trained)
    return part.text if part.text.startswith(part.name) and rest[:1] in ("", "(", "@") else write(part.name, part.fields)


@lru_cache(4096)
def slugged(text: str) -> str:
    """Return a file name's stem, a-z 0-9 . _ - only, that differs for different texts: 8 hex digits stand for what is lost."""
    kept = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-.")
    return kept if kept == text and 0 < len(kept) <= 60 else f"{kept[:50].strip('-.')}-{digest(text, 8)}".strip("-")


def look_up(records: Records, cell: Cell, missing: str) -> Run:
    """Look up one cell. FileError if it is unknown whose the records are; otherwise never raises for what lies there."""
    origin = records.origins.get(cell.id)
    try:
        record = records.read(cell.id)
        failure = records.failure(cell.id)
    except UNREADABLE as error:  # pages are published: the place of the workspace is nobody's business
        hint = "" if isinstance(error, FileError) else "; remove the file and run it again"
        return Run(cell, "failed", f"damaged record: {error}{hint}".replace(f"{records.folder}/", ""))
    why = f"{failure.kind}: {_in_public(failure.message, records)}"[:LONGEST] if failure else ""
    if record is not None:
        record = record.model_copy(update={"commit": records.commit_of(record)})
        if old := outdated(record.versions, record.cell.parts):
            return Run(cell, "stale", f"{old}; run it again" + (f" (which failed: {why})" if why else ""), record, origin)
        return Run(cell, record.state, record.reason, record, origin)
    return Run(cell, "failed", why) if failure else Run(cell, "missing", missing)


def _in_public(message: str, records: Records) -> str:
    """Write a failure's message on one line, without the paths of this machine."""
    usual = records.folder.parts[-2:] == ("results", "records")  # else the records were moved, and nobody knows from where
    return hide_paths(" ".join(message.split()), records.folder.parents[1] if usual else records.folder)


def _arrange(
    title: str,
    note: str,
    slug: str,
    command: str,
    values: Sequence[Value],
    rows: Sequence[str],
    columns: Sequence[str],
) -> Board:
    """Lay values out. An axis that varies and is in neither rows nor columns becomes a row axis: seeds alone are averaged."""
    seen = {axis: list(dict.fromkeys(value.point[axis] for value in values)) for axis in POINT}
    row_axes, column_axes = tuple(dict.fromkeys(rows)), tuple(axis for axis in dict.fromkeys(columns) if axis not in rows)
    row_axes += tuple(axis for axis in POINT if axis not in (*row_axes, *column_axes) and len(seen[axis]) > 1)
    fixed = {axis: seen[axis][0] for axis in POINT if axis not in (*row_axes, *column_axes)}
    places = {(_label(value.point, row_axes), _label(value.point, column_axes)): value for value in values}
    labels = [tuple(dict.fromkeys(key[i] for key in places)) for i in (0, 1)]
    return Board(title, note, slug, command, fixed, row_axes, column_axes, labels[0], labels[1], places, _settings(values))


def _label(point: Mapping[str, str], axes: Sequence[str]) -> str:
    texts = (f"{axis} {point[axis]}" if axis in ("ratio", "part") else point[axis] for axis in axes)
    return " / ".join(texts) or "test accuracy"


def _settings(values: Iterable[Value]) -> dict[str, dict[str, Setting]]:
    found: dict[str, dict[str, Setting]] = {axis: {} for axis in ("attack", "defense", "protocol", "dataset", "architecture")}
    defenses: dict[str, list[Resolved]] = {}
    for value in values:
        for axis, texts in found.items():
            text = value.point[axis]
            if value.runs and text not in texts:
                stands = axis == "defense" and value.rest
                parts: Any = CATALOGS["defenses"].resolve(text) if stands else getattr(value.runs[0].cell, axis)
                several = parts if isinstance(parts, tuple) else (parts,)
                texts[text] = _setting(axis, text, several)
                if axis == "defense":
                    defenses[text] = _installed(axis, several)
    for text, cost in _costs(defenses).items():
        found["defense"][text] = replace(found["defense"][text], cost=cost)
    return found


def _costs(defenses: Mapping[str, Sequence[Resolved]]) -> dict[str, float]:
    """Return what a training with each chain of defenses costs, in plain trainings."""
    asked = [part for parts in defenses.values() for part in parts]
    costs = dict(zip(((part.name, part.text) for part in asked), child.costs(asked), strict=True))
    return {text: 1 + sum(costs[part.name, part.text] - 1 for part in parts) for text, parts in defenses.items()}


def _installed(kind: str, parts: Sequence[Part]) -> list[Resolved]:
    """Return those parts whose entries are here."""
    found = []
    for part in parts:
        try:
            found.append(CATALOGS[f"{kind}s"].stored(part.name, part.fields))
        except EntryError:  # a record of a method that is not installed here
            continue
    return found


def _values(kind: str, part: Part) -> Mapping[str, Any]:
    """Return all fields of a part; of one whose entry is not here, those that its record has."""
    here = _installed(kind, [part])
    return here[0].values if here else part.fields


def _setting(kind: str, text: str, parts: Sequence[Part]) -> Setting:
    found = _installed(kind, parts)
    papers = [part.entry.paper for part in found if part.entry.paper and part.entry.paper.url]
    return Setting(
        text,
        " + ".join(write(part.name, _values(kind, part)) for part in parts),
        " ".join(part.entry.summary for part in found),
        tuple(need for part in found for need in part.needs),
        tuple(dict.fromkeys(papers)),
    )
