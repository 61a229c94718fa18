"""Tables in a printed layout: what was measured, what the paper prints, and how far apart they are.

A score is measured by the records of its own cells. Where there are none, records of a dataset that stands in for the paper's,
of fewer epochs or of fewer images take their place, with a mark that says so.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, TypeVar

from leaderboard.tables.aggregate import basis, combined, labels
from leaderboard.tables.lookup import Lookup, Run, deviations, incomparable
from leaderboard.tables.ranking import Labels
from leaderboard.tables.score import TIMES, Score, best_member, numbers
from leaderboard.tables.table import Table, slug_of
from leaderboard.tables.verdict import pooled, tolerance
from results import Cell, Grid, Records, TableFile
from results.cells import Lacking, Resolve, Wanted
from results.reference import Key, source
from results.spread import Spread
from results.table_file import Place
from results.tidy import COLUMNS, tidy_row


def printed_tables(
    grid: Grid, records: Records, resolve: Resolve, lacking: Lacking, lookup: Lookup | None = None
) -> list[Table]:
    """Return the printed tables of a grid. FileError for a table that names what nobody has."""
    wanted = grid.wanted(resolve, lacking)
    if lookup is None:
        cells = itertools.chain.from_iterable(map(attrgetter("cells"), wanted))
        lookup = Lookup(records, map(attrgetter("id"), cells))
    places = _by_table(grid.places, attrgetter("table"))
    to_run = _by_table(wanted, attrgetter("place.table"))
    return [_table(file, places[name], to_run[name], lookup) for name, file in grid.tables.items() if name in places]


Item = TypeVar("Item")


def _by_table(items: Iterable[Item], table: Callable[[Item], str]) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[table(item)].append(item)
    return groups


def _table(file: TableFile, places: Sequence[Place], wanted: Sequence[Wanted], lookup: Lookup) -> Table:
    scores = _scores(places, {one.place.key: _measured(one, lookup) for one in wanted})
    spread = _spread(scores.values())
    return Table(
        title=file.title,
        note=file.note,
        slug=slug_of(file.name),
        row_axes=tuple(file.rows),
        column_axes=tuple(file.columns),
        rows=tuple(dict.fromkeys(map(attrgetter("row"), places))),
        columns=_columns(file, places),
        scores={key: _with_tolerance(score, spread) for key, score in scores.items()},
        name=file.name,
        file=file,
        source=source(file.paper) if file.paper else None,
        spread=spread,
    )


def _scores(places: Sequence[Place], measured: Mapping[Key, Score]) -> dict[Key, Score]:
    """The scores of all places: those measured, and the aggregates of them."""
    index = {labels(place.labels): place for place in places}
    scores = {}
    for place in places:
        score = measured.get(place.key)
        scores[place.key] = score or _aggregate(place, index, measured)
    return scores


def _columns(file: TableFile, places: Sequence[Place]) -> tuple[Labels, ...]:
    """The columns that have a place, in the order of the file."""
    order = {column: number for number, column in enumerate(file.combinations(file.columns))}
    columns = dict.fromkeys(map(attrgetter("column"), places))
    return tuple(sorted(columns, key=lambda column: order.get(column, len(order))))


# What is measured


def _measured(wanted: Wanted, lookup: Lookup) -> Score:
    place = wanted.place
    if wanted.reason:
        return Score(place, unavailable=wanted.reason)
    members: dict[str, list[Cell]] = defaultdict(list)
    for cell in wanted.cells:
        members[cell.texts["defense"]].append(cell)
    scores = {member: _of_cells(place, cells, lookup) for member, cells in members.items()}
    return best_member(scores) if len(scores) > 1 else next(iter(scores.values()))


def _of_cells(place: Place, cells: Sequence[Cell], lookup: Lookup) -> Score:
    """The score of cells that differ in their seeds alone."""
    runs = tuple(map(lookup.run, lookup.with_siblings(cells)))
    score = Score(place, runs)
    if not score.used and score.state in ("missing", "failed"):
        score = replace(score, runs=_with_stand_ins(runs, lookup.stand_ins(cells)))
    if not score.used:
        return score
    cell = score.used[0].cell
    texts = (cell.texts["defense"], cell.measured, place.metric)
    apart = bool(score.per_seed) and incomparable(cell.dataset.name, texts)
    return replace(score, deviations=deviations(cell, cells[0]), incomparable=apart)


def _with_stand_ins(runs: Sequence[Run], stand_ins: Sequence[Run]) -> tuple[Run, ...]:
    """Put the runs of other cells in the place of those of their seeds, which have no number."""
    seeds = {run.cell.seed for run in stand_ins}
    return (*stand_ins, *(run for run in runs if run.cell.seed not in seeds))


def _aggregate(place: Place, index: Mapping[Any, Place], measured: Mapping[Key, Score]) -> Score:
    """The score of a place that nothing is run for: an aggregate, or a dash in the paper."""
    time = place.metric if place.metric.partition("(")[0] in TIMES else ""

    def values(operand: Place) -> Mapping[int, float]:
        score = measured.get(operand.key)
        return numbers(score.used, time or operand.metric, operand.unit) if score else {}

    basic = [measured.get(part.key) for part in basis(place, index)]
    parts = tuple(filter(None, basic))
    per_seed = combined(place, index, values)
    apart = bool(per_seed) and any(map(attrgetter("incomparable"), parts))
    return Score(place, parts=parts, combined=per_seed, incomparable=apart)


# Tolerance


def _spread(scores: Iterable[Score]) -> dict[str, Spread]:
    """The spread over seeds of every metric, pooled over the scores of the table that were measured here as it asks."""
    groups: dict[str, list[Sequence[float]]] = defaultdict(list)
    for score in scores:
        if not any((score.reduced, score.reported, score.incomparable)):
            groups[score.place.metric].append(score.accuracies)
    return pooled(groups)


def _with_tolerance(score: Score, spread: Mapping[str, Spread]) -> Score:
    metric = score.place.metric
    if score.mean is None or score.printed is None or score.published is None or metric not in spread:
        return score
    return replace(score, tolerance=tolerance(score.printed, spread[metric], score.n))


# The tidy form

TIDY = (*COLUMNS, "ours", "ours_std", "n", "state", "record", "unit")


def tidy(tables: Sequence[Table], everything: bool = True) -> list[dict[str, Any]]:
    """Return one row per number: what papers print, and ours. Without `everything` only what is printed."""
    rows = []
    for table in tables:
        for score in table.scores.values():
            row = _tidy_row(table, score)
            if row["value"] or (everything and score.place.runs):
                rows.append(row)
    return rows


def _tidy_row(table: Table, score: Score) -> dict[str, Any]:
    published = tidy_row(score.place, table.file) if table.file else {}
    return published | {
        "ours": None if score.incomparable else score.mean,
        "ours_std": None if score.incomparable else score.std,
        "n": score.n,
        "state": score.state,
        "record": ";".join(score.records),
        "unit": score.unit,
    }
