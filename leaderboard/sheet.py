"""A table in its printed layout: what was measured, what the paper prints, and how far apart they are.

A place is measured by the records of its own cells. Where there are none, records of a data set that stands in for the
paper's, of fewer epochs or of fewer images take their place, with a mark that says so.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from leaderboard.table import UNREADABLE, look_up, siblings, slugged
from registry import DATASETS, EntryError
from registry.item import SELFTRAINED
from results import Cell, Grid, Record, Records, TableFile
from results.cell import digest
from results.cells import Lacking, Resolve, Wanted
from results.reference import Key, Printed, Source, source
from results.spread import CONFIDENCE, Spread
from results.submission import REPORTED, worst
from results.table_file import Place
from results.tidy import COLUMNS, tidy_row

WITHIN, DEVIATES, INCONSISTENT, UNMEASURED = "within tolerance", "deviates", "paper inconsistent", "not measured"
UNJUDGED, ALIKE = "one seed, no tolerance", "all seeds alike, no tolerance"
REDUCED, BY_OTHERS = "reduced, not judged", "by others, not judged"
ILLEGIBLE = "printed value not legible, not compared"
INCOMPARABLE = "on images that are JPEGs already, not compared"
NOTHING = 1e-9  # a deviation that is none: of a deterministic analysis of one poison
TIMES = {"hours": 3600.0, "minutes": 60.0}  # seconds
SHARES = {"acc", "recall", "precision", "f1"}  # words in the names of figures that are fractions
UNITS = {"psnr": "dB", "psnr_input": "dB", "loss": "nats", "dfr_min_test_loss": "nats"}  # of figures that have one


@dataclass(frozen=True)
class Spot:
    """A place with what is known of it. Numbers are in the unit of the table: percent, where it prints percent."""

    place: Place
    per_seed: Mapping[int, float]
    state: str  # done, partial, stale, failed, not-applicable, missing, not-available, or printed: nothing to measure
    reason: str = ""
    records: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()  # what was measured in the place of something else
    reduced: bool = False
    tolerance: float | None = None
    oracle: str = ""  # of a defense with members: which one it is, chosen by the test accuracy
    tier: str = ""  # of a number that others report: how far it is to be trusted
    incomparable: bool = False  # measured on images on which it must not be held against a paper's number

    @property
    def own(self) -> float | None:
        """The mean of what was measured here; None for numbers that others report, or that must not be compared."""
        return None if self.reported or self.incomparable else self.mean

    @property
    def open(self) -> bool:
        """Whether there is no number yet that could be held against the paper's."""
        return self.mean is None or self.incomparable

    @property
    def reported(self) -> bool:
        return self.tier in REPORTED

    @property
    def printed(self) -> Printed | None:
        return self.place.printed

    @property
    def paper(self) -> float | None:
        return self.printed.value if self.printed else None

    @property
    def doubtful(self) -> bool:
        """Whether the printed value is inferred, or contradicted by its paper: nothing may rest on it."""
        return self.printed is not None and self.printed.quality != "ok"

    @property
    def sure(self) -> float | None:
        """The printed value where it is beyond doubt."""
        return None if self.doubtful else self.paper

    @property
    def unit(self) -> str:
        """The unit of its numbers: percent or fraction, points, hours, ...; empty where there is none, or its labels say."""
        kind = self.place.aggregate.aggregate if self.place.aggregate else ""
        name = self.place.metric.partition("(")[0]
        words = set(name.split("_"))
        if kind == "ratio":
            return "ratio"
        if not words & SHARES:
            return UNITS.get(name, next((time for time in ("hours", "minutes", "seconds") if time in words), ""))
        if self.place.unit == 1.0:
            return "fraction"
        return "points" if kind == "difference" or words & {"delta", "drop"} else "percent"

    @property
    def n(self) -> int:
        return len(self.per_seed)

    @cached_property
    def mean(self) -> float | None:
        return fmean(self.per_seed.values()) if self.per_seed else None

    @cached_property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        return stdev(self.per_seed.values()) if self.n > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours less the paper's."""
        return None if self.mean is None or self.paper is None or self.incomparable else self.mean - self.paper

    @property
    def points(self) -> float | None:
        """The difference of two accuracies in percentage points; None for other metrics, and beside doubtful values."""
        accuracy = self.place.metric.partition("(")[0] == "test_acc"
        if self.difference is None or self.doubtful or not accuracy:
            return None
        return self.difference * 100 / self.place.unit

    @property
    def verdict(self) -> str:
        """How ours and the paper's agree; '' where the paper prints nothing."""
        if self.paper is None:
            return ""
        if self.incomparable:
            return INCOMPARABLE
        if self.difference is None:
            return UNMEASURED
        if self.doubtful and self.printed is not None:
            return INCONSISTENT if self.printed.quality == "suspect" else ILLEGIBLE
        if self.reported:
            return BY_OTHERS
        if self.reduced:
            return REDUCED
        if self.tolerance is None:
            return UNJUDGED if self.n < 2 else ALIKE
        return WITHIN if abs(self.difference) <= self.tolerance else DEVIATES


@dataclass(frozen=True)
class Sheet:
    """A table ready to print: `spots` has the places that the layout fills."""

    name: str
    table: TableFile
    source: Source | None
    spots: Mapping[Key, Spot]
    spread: Mapping[str, Spread] = field(default_factory=dict)  # over seeds, by metric
    records: Mapping[str, Record] = field(default_factory=dict)  # by id: of analyses, and all where a table shows curves

    @property
    def slug(self) -> str:
        return slugged(Path(self.name).stem if self.name.endswith(".toml") else self.name.replace("/", "."))

    @property
    def title(self) -> str:
        return self.table.title

    @property
    def heading(self) -> str:
        """The table as a reader of the paper would look for it."""
        return f"{self.source.short}, table {self.table.table}" if self.source else self.table.title

    @cached_property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        return tuple(dict.fromkeys(row for row, _ in self.spots))

    @cached_property
    def columns(self) -> tuple[tuple[str, ...], ...]:
        order = {labels: number for number, labels in enumerate(self.table.combinations(self.table.columns))}
        return tuple(sorted(dict.fromkeys(column for _, column in self.spots), key=lambda c: order.get(c, len(order))))

    @cached_property
    def cells(self) -> list[Spot]:
        """The places that are measured, aggregates left out."""
        return [spot for spot in self.spots.values() if spot.place.runs]

    @property
    def measured(self) -> int:
        return sum(spot.mean is not None for spot in self.cells)

    @cached_property
    def notes(self) -> dict[str, Printed]:
        """The marks that are used, each with why."""
        return {spot.printed.mark: spot.printed for spot in self.spots.values() if spot.printed and spot.printed.mark}

    @property
    def tolerances(self) -> list[str]:
        """How the verdicts were reached, a sentence per metric."""
        return [
            f"{metric.partition('(')[0]}: two runs differ by less than {spread.apart():.2g} in "
            f"{CONFIDENCE:.0%} of cases (deviation {spread.deviation:.2g} over seeds, {_degrees(spread.freedom)})"
            for metric, spread in self.spread.items()
        ]


def _degrees(freedom: int) -> str:
    return "1 degree of freedom" if freedom == 1 else f"{freedom} degrees of freedom"


class Finder:
    """The records of a workspace, asked for by cells. `claimed` are the ids that some table asks for itself."""

    def __init__(self, records: Records, claimed: Iterable[str] = ()) -> None:
        self.records = records
        self.there = records.ids()
        self.failed = {path.name.removesuffix(".failed.json") for path in records.folder.glob("*.failed.json")}
        self.claimed = set(claimed)

    @cached_property
    def seeds(self) -> list[int]:
        return sorted(self.records.seeds())

    def widened(self, cells: Sequence[Cell]) -> tuple[Cell, ...]:
        """The cells of a place, and those of other seeds that somebody has measured."""
        more = [seed for seed in self.seeds if seed not in {cell.seed for cell in cells}]
        return (*cells, *(one for cell in cells if cell.seed == cells[0].seed for one in siblings(cell, more, self.there)))

    def measured(self, cells: Sequence[Cell]) -> tuple[str, str, list[Record]]:
        """Return the state, the reason and the records of the cells of a place, one per seed."""
        runs = [look_up(self.records, c, "not run yet") for c in cells if c.id in self.there or c.id in self.failed]
        for state in ("done", "stale"):
            able = [run for run in runs if run.state == state and run.record is not None and run.record.metrics]
            ours = any(run.ours for run in able)
            found = [run.record for run in able if run.ours == ours and run.record is not None]
            if found:
                whole = state if len(found) == len(cells) else "partial"
                why = next((run.reason for run in runs if run.state == "stale"), "") if state == "stale" else ""
                return (whole if state == "done" else state), why or f"{len(found)} of {len(cells)} seeds", found
        worst = next((run for state in ("failed", "not-applicable") for run in runs if run.state == state), None)
        return (str(worst.state), worst.reason, []) if worst else ("missing", "not run yet", [])

    def instead(self, cells: Sequence[Cell]) -> list[Record]:
        """Return records of stand-ins, of fewer epochs or of fewer images: the closest kind that there is."""
        kinds: dict[tuple[Any, ...], list[str]] = defaultdict(list)
        for cell in cells if self._others else ():
            for cell_id, kind in self._others.get(_relaxed(cell.resolved())[0], ()):
                kinds[kind].append(cell_id)
        if not kinds:
            return []
        best = max(kinds)
        runs = (self.records.read(cell_id) for cell_id in kinds[best])
        found = [record for record in runs if record is not None and record.metrics]
        return [record for record in found if self.tier([record]) not in REPORTED] or found

    def tier(self, records: Sequence[Record]) -> str:
        """How far a number of these records is to be trusted, as `worst` says."""
        return worst(self.records.origins.get(record.id) for record in records)

    @cached_property
    def _others(self) -> dict[str, list[tuple[str, tuple[Any, ...]]]]:
        found: dict[str, list[tuple[str, tuple[Any, ...]]]] = defaultdict(list)
        for cell_id in sorted(self.there - self.claimed):
            try:
                content = json.loads(self.records.path(cell_id).read_text(encoding="utf-8"))
                key, kind = _relaxed(content["cell"])
                if content["state"] == "done" and self.records.read(cell_id) is not None:
                    found[key].append((cell_id, kind))
            except (*UNREADABLE, ValueError, KeyError, TypeError):
                continue
        return found


def _relaxed(cell: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Hash a cell without what may stand in for something else; and how close it is: the larger the closer."""
    plain = json.loads(json.dumps(cell))
    analysis = [plain["measure"]] if isinstance(plain.get("measure"), dict) else []
    for part in (plain["protocol"], plain["dataset"], plain["architecture"], *plain["attack"], *plain["defense"], *analysis):
        part.pop("text", None)
    scale = plain["protocol"]["fields"].pop("scale", 1.0)
    few = plain["dataset"]["fields"].pop("per_class", 0)
    plain["dataset"]["fields"].pop("test_per_class", 0)
    name = plain["dataset"]["name"]
    plain["dataset"]["name"] = _stands_for(name) or name
    return digest(plain), (scale >= 1 and not few, not few, few, scale, not _stands_for(name), name)


def _stands_for(dataset: str) -> str:
    return str(_facts(dataset).get("stands_in_for", ""))


def _facts(dataset: str) -> Mapping[str, Any]:
    try:
        return DATASETS.entry(dataset).facts
    except EntryError:
        return {}


def incomparable(dataset: str, texts: Iterable[str]) -> bool:
    """Whether a number must not be held against a paper's, by the data set and the texts of what was done and measured."""
    words = _facts(dataset).get("incomparable", ())
    return any(word in text for word in words for text in texts)


def _deviations(used: Cell, wanted: Cell) -> tuple[list[str], bool]:
    """What a record's cell has in the place of what was asked for; and whether it is a reduced experiment."""
    marks = []
    scale, few = used.protocol.fields.get("scale", 1.0), used.dataset.fields.get("per_class", 0)
    if used.dataset.name != wanted.dataset.name:
        marks.append(f"{used.dataset.name} instead of {wanted.dataset.name}")
    if scale != wanted.protocol.fields.get("scale", 1.0):
        marks.append(f"epochs x {scale:g}")
    if few != wanted.dataset.fields.get("per_class", 0):
        marks.append(f"{few} images per class")
    own = [part.name for part in used.defense if part.fields.get("weights") == SELFTRAINED]
    marks += [f"{name}-{SELFTRAINED}: weights of ours, not the paper's" for name in own]
    return marks, scale != 1.0 or bool(few) or bool(own)


def sheets(grid: Grid, records: Records, resolve: Resolve, lacking: Lacking, found: Finder | None = None) -> list[Sheet]:
    """Return the printed tables of a grid. FileError for a table that names what nobody has."""
    wanted = {id(one.place): one for one in grid.wanted(resolve, lacking)}
    finder = found or Finder(records, {cell.id for one in wanted.values() for cell in one.cells})
    places: dict[str, list[Place]] = {name: [] for name in grid.tables}
    for place in grid.places:
        places[place.table].append(place)
    return [_sheet(grid.tables[name], several, wanted, finder) for name, several in places.items() if several]


def _sheet(table: TableFile, places: Sequence[Place], wanted: Mapping[int, Wanted], finder: Finder) -> Sheet:
    used: dict[int, list[Record]] = {}
    spots: dict[int, Spot] = {}
    for place in places:
        one = wanted.get(id(place))
        if one is not None:
            spots[id(place)], used[id(place)] = _measured(one, finder)
    index = {labels(place.labels): place for place in places}
    for place in places:
        if id(place) in spots:
            continue
        per_seed: Mapping[int, float] = {}
        if place.aggregate is not None:
            name = place.metric.partition("(")[0]

            def values(operand: Place, metric: str = place.metric if name in TIMES else "") -> Mapping[int, float]:
                return _numbers(used.get(id(operand), ()), operand, metric)

            per_seed = combined(place, index, values)
        parts = [spots[id(p)] for p in basis(place, index) if id(p) in spots]
        marks = tuple(dict.fromkeys(mark for part in parts for mark in part.marks))
        if place.aggregate is not None and place.aggregate.aggregate in ("min", "max") and per_seed:
            marks += (f"over {sum(part.mean is not None for part in parts)} of {len(parts)}",)
        spots[id(place)] = Spot(
            place,
            per_seed,
            "done" if per_seed else "printed" if not parts else "missing",
            "" if per_seed or not parts else "needs every number that it is made of",
            marks=marks,
            reduced=any(part.reduced for part in parts),
            tier=next((part.tier for part in parts if part.tier), ""),
            incomparable=bool(per_seed) and any(part.incomparable for part in parts),
        )
    spread = _spread([spots[id(place)] for place in places])
    final = {place.key: _judged(spots[id(place)], spread) for place in places}
    kept = {
        one.id: one for several in used.values() for one in several if table.curves or (one.metrics and one.metrics.figures)
    }
    return Sheet(table.name, table, source(table.paper) if table.paper else None, final, spread, kept)


def _measured(one: Wanted, finder: Finder) -> tuple[Spot, list[Record]]:
    if one.reason:
        return Spot(one.place, {}, "not-available", f"not available: {one.reason}"), []
    members: dict[str, list[Cell]] = defaultdict(list)
    every = finder.widened(one.cells)
    for cell in every:
        members[cell.texts["defense"]].append(cell)
    if len(members) > 1:
        return _best({name: _measured(replace(one, cells=tuple(cells)), finder) for name, cells in members.items()})
    state, reason, records = finder.measured(every)
    marks, reduced = list(one.place.changes), False
    if not records and state in ("missing", "failed") and (others := finder.instead(one.cells)):
        state, reason, records = ("done" if len(others) == len(one.cells) else "partial"), "", others
    if records:
        more, reduced = _deviations(records[0].cell, one.cells[0])
        marks += more
    numbers = _numbers(records, one.place, "")
    ids, tier = tuple(record.id for record in records), finder.tier(records)
    marks += [tier] if tier else []
    if records and not numbers:
        state, reason = "not-applicable", f"what was measured has no {one.place.metric} here"
    why = "" if state == "done" else reason
    apart = bool(numbers) and _incomparable(records[0].cell, one.place)
    return Spot(one.place, numbers, state, why, ids, tuple(marks), reduced, tier=tier, incomparable=apart), records


def _incomparable(cell: Cell, place: Place) -> bool:
    return incomparable(cell.dataset.name, (cell.texts["defense"], cell.measured, place.metric))


def _best(members: Mapping[str, tuple[Spot, list[Record]]]) -> tuple[Spot, list[Record]]:
    """Return the member of a defense with the highest test accuracy. Only members that deviate in one way are compared."""
    able = {name: found for name, found in members.items() if found[0].state != "not-applicable"}
    measured = [spot for spot, _ in able.values() if spot.mean is not None]
    if not measured:
        order = ("failed", "missing", "not-applicable")
        return min(members.values(), key=lambda found: order.index(found[0].state) if found[0].state in order else -1)
    closest = min(measured, key=lambda spot: (spot.reduced, len(spot.marks)))
    alike = {name: found for name, found in able.items() if found[0].mean is not None and found[0].marks == closest.marks}
    best = max(alike, key=lambda name: fmean(_numbers(alike[name][1], closest.place, "test_acc").values()))
    spot, records = alike[best]
    oracle = f"oracle {best}, best of {len(alike)}" + (f" of {len(able)}" if len(alike) < len(able) else "")
    whole = all(name in alike and found[0].state == "done" for name, found in able.items())
    if spot.state == "done" and not whole:
        spot = replace(spot, state="partial", reason=f"not all of {', '.join(able)} are measured")
    return replace(spot, oracle=oracle, incomparable=any(found.incomparable for found, _ in alike.values())), records


def _numbers(records: Sequence[Record], place: Place, metric: str) -> dict[int, float]:
    """Return what records say of a metric (by default the place's), by seed; empty for a metric that no record has.

    Of the figures of an analysis the one that has the metric's name counts.
    """
    name, _, argument = (metric or place.metric).removesuffix(")").partition("(")
    found = {}
    for record in records:
        if record.metrics is None:
            continue
        if record.cell.measure != "accuracy":
            value = record.metrics.figures.get(metric or place.metric)
            scale = place.unit if SHARES.intersection(name.split("_")) else 1.0
        elif name == "test_acc":
            value, scale = record.metrics.test_acc_best if argument == "best" else record.metrics.test_acc, place.unit
        else:
            value, scale = None, 1.0
        if value is not None:
            found[record.cell.seed] = scale * value
        elif name in TIMES and record.cell.measure == "accuracy":
            stages = argument.split(",") if argument else ["purify", "train"]
            found[record.cell.seed] = sum(record.seconds.get(stage, 0.0) for stage in stages) / TIMES[name]
    return found


# Aggregates, of what was measured and of what is printed alike


def labels(several: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(several.items()))


def operands(place: Place, index: Mapping[Any, Place]) -> list[Place]:
    """The places that an aggregate is made of: those averaged, or the two compared; empty where the layout lacks them."""
    item = place.aggregate
    assert item is not None
    axis = item.of or place.own
    if item.aggregate in ("mean", "min", "max"):
        fixed = {key: label for key, label in place.labels.items() if key != axis}
        return [
            other
            for other in index.values()
            if other.aggregate is None
            and {key: label for key, label in other.labels.items() if key != axis} == fixed
            and other.fields["measure"] == place.fields["measure"]
            and not (axis == "attack" and other.fields["attack"] == "none")
            and other.runs
        ]
    one = {**place.labels, place.own: item.base}
    pair = [index.get(labels(one)), index.get(labels({**one, axis: item.to}))]
    return [other for other in pair if other is not None] if all(pair) else []


def basis(place: Place, index: Mapping[Any, Place]) -> list[Place]:
    """The measured places behind a place: itself, or what its aggregate is made of."""
    if place.aggregate is None:
        return [place]
    return [part for operand in operands(place, index) for part in basis(operand, index)]


def combined(place: Place, index: Mapping[Any, Place], values: Callable[[Place], Mapping[int, float]]) -> Mapping[int, float]:
    """Evaluate an aggregate: `values(place)` gives numbers by seed; only seeds that all parts have count."""
    if place.aggregate is None:
        return values(place)
    parts = [combined(operand, index, values) for operand in operands(place, index)]
    if place.aggregate.aggregate in ("min", "max"):  # of what there is; a mark says of how much
        parts = [part for part in parts if part]
    if not parts:
        return {}
    seeds = set.intersection(*(set(part) for part in parts))
    kind = place.aggregate.aggregate
    made = {}
    for seed in sorted(seeds):
        numbers = [part[seed] for part in parts]
        if kind == "ratio" and numbers[1] == 0:
            continue
        made[seed] = AGGREGATES[kind](numbers)
    return made


AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": fmean,
    "min": min,
    "max": max,
    "difference": lambda pair: pair[0] - pair[1],
    "ratio": lambda pair: pair[0] / pair[1],
}


# Tolerance


def _spread(spots: Sequence[Spot]) -> dict[str, Spread]:
    """The spread over seeds of every metric, pooled over its places. Seeds that change nothing tell no tolerance."""
    groups: dict[str, list[list[float]]] = defaultdict(list)
    for spot in spots:
        if not spot.reduced and not spot.reported and not spot.incomparable:
            groups[spot.place.metric].append(list(spot.per_seed.values()))
    found = {metric: Spread.of(several) for metric, several in groups.items()}
    return {metric: spread for metric, spread in found.items() if spread is not None and spread.deviation > NOTHING}


def _judged(spot: Spot, spread: Mapping[str, Spread]) -> Spot:
    """Add the tolerance: how far one run of the paper may lie from the mean of ours, besides rounding of the printed value."""
    if spot.mean is None or spot.paper is None or spot.place.metric not in spread:
        return spot
    rounding = 0.5 * 10.0 ** -len(spot.printed.text.partition(".")[2]) if spot.printed else 0.0
    return replace(spot, tolerance=spread[spot.place.metric].apart(spot.n) + rounding)


# The tidy form


def tidy(made: Sequence[Sheet], everything: bool = True) -> list[dict[str, Any]]:
    """One row per number: what papers print, and ours. Without `everything` only what is printed."""
    rows = []
    for sheet in made:
        for spot in sheet.spots.values():
            row: dict[str, Any] = dict(tidy_row(spot.place, sheet.table))
            if not row["value"] and not (everything and spot.place.runs):
                continue
            rows.append(
                row
                | {
                    "ours": None if spot.incomparable else spot.mean,
                    "ours_std": None if spot.incomparable else spot.std,
                    "n": spot.n,
                    "state": spot.state,
                    "record": ";".join(spot.records),
                    "unit": spot.unit,
                }
            )
    return rows


TIDY = (*COLUMNS, "ours", "ours_std", "n", "state", "record", "unit")
