"""Tables in a printed layout: what was measured, what the paper prints, and how far apart they are.

A score is measured by the records of its own cells. Where there are none, records of a dataset that stands in for the paper's,
of fewer epochs or of fewer images take their place, with a mark that says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unlearnable_bench.leaderboard.tables.aggregate import basis, combined, labels_key
from unlearnable_bench.leaderboard.tables.groups import group_by, known
from unlearnable_bench.leaderboard.tables.lookup import Lookup, SeedRun, deviations, incomparable
from unlearnable_bench.leaderboard.tables.ranking import Labels
from unlearnable_bench.leaderboard.tables.runs import MeasuredScore, best_member
from unlearnable_bench.leaderboard.tables.score import TIMES, AggregateScore, Score, UnavailableScore, numbers_by_seed
from unlearnable_bench.leaderboard.tables.table import Table, slug_of
from unlearnable_bench.leaderboard.tables.tolerance import pooled_spread, with_tolerance
from unlearnable_bench.results import Cell, Grid, Records, TableFile
from unlearnable_bench.results.cell import name_in
from unlearnable_bench.results.cells import Lacking, RequestedCells, Resolve
from unlearnable_bench.results.reference import Key, source
from unlearnable_bench.results.table_file import ScoreRequest
from unlearnable_bench.results.tidy import TIDY_COLUMNS, tidy_row


def printed_tables(
    grid: Grid, records: Records, resolve: Resolve, lacking: Lacking, lookup: Lookup | None = None
) -> list[Table]:
    """Return the printed tables of a grid. FileError for a table that names what nobody has."""
    wanted = grid.requested_cells(resolve, lacking)
    return tables_of(grid, wanted, lookup or _lookup(records, wanted))


def tables_of(grid: Grid, wanted: Sequence[RequestedCells], lookup: Lookup) -> list[Table]:
    """Return the printed tables of a grid whose cells are known."""
    requests = group_by(grid.requests, lambda request: request.table)
    to_run = group_by(wanted, lambda one: one.request.table)
    return [_table(grid.tables[name], of_table, to_run[name], lookup) for name, of_table in requests.items()]


def _lookup(records: Records, wanted: Sequence[RequestedCells]) -> Lookup:
    """What is known of the cells of some scores, none of which stands in for another."""
    cells = itertools.chain.from_iterable(one.cells for one in wanted)
    return Lookup(records, [cell.id for cell in cells])


def _table(file: TableFile, requests: Sequence[ScoreRequest], wanted: Sequence[RequestedCells], lookup: Lookup) -> Table:
    wanted = [replace(one, request=lookup.errata.with_marks(one.request)) for one in wanted]
    requests = [lookup.errata.with_marks(request) for request in requests]
    scores = _scores(requests, {one.request.key: _measured(one, lookup) for one in wanted})
    spread = pooled_spread(scores.values())
    return Table(
        title=file.title,
        note=file.note,
        slug=slug_of(file.name),
        row_axes=tuple(file.rows),
        column_axes=tuple(file.columns),
        rows=tuple(dict.fromkeys(request.row for request in requests)),
        columns=_columns(file, requests),
        scores={key: with_tolerance(score, spread) for key, score in scores.items()},
        name=file.name,
        file=file,
        source=source(file.paper) if file.paper else None,
        spread=spread,
    )


def _scores(requests: Sequence[ScoreRequest], measured: Mapping[Key, Score]) -> dict[Key, Score]:
    """All scores: those measured, and the aggregates of them."""
    index = {labels_key(request.labels): request for request in requests}
    scores = {}
    for request in requests:
        scores[request.key] = measured.get(request.key) or _aggregate(request, index, measured)
    return scores


def _columns(file: TableFile, requests: Sequence[ScoreRequest]) -> tuple[Labels, ...]:
    """The columns that have a score, in the order of the file."""
    order = {column: number for number, column in enumerate(file.combinations(file.columns))}
    columns = dict.fromkeys(request.column for request in requests)
    return tuple(sorted(columns, key=lambda column: order.get(column, len(order))))


# What is measured


def _measured(wanted: RequestedCells, lookup: Lookup) -> Score:
    """The score that a table asks for; that of the best member, where its defense stands for several."""
    request = wanted.request
    if wanted.reason:
        return UnavailableScore(request, lacking=wanted.reason)
    members = group_by(wanted.cells, lambda cell: cell.texts["defense"])
    scores = {member: _of_cells(request, cells, lookup) for member, cells in members.items()}
    return best_member(scores)


def _of_cells(request: ScoreRequest, cells: Sequence[Cell], lookup: Lookup) -> MeasuredScore:
    """The score of cells that differ in their seeds alone."""
    runs = tuple(lookup.run(cell) for cell in lookup.with_siblings(cells))
    score = MeasuredScore(request, runs)
    if score.state in ("missing", "failed"):
        score = replace(score, runs=_with_stand_ins(runs, lookup.stand_ins(cells)))
    return _compared(score, cells[0])


def _compared(score: MeasuredScore, asked: Cell) -> MeasuredScore:
    """Say how what was measured differs from the cell that was asked for."""
    if not score.used:
        return score
    cell = score.used[0].cell
    texts = (cell.texts["defense"], cell.measured, score.request.metric)
    apart = score.n > 0 and incomparable(cell.dataset.name, texts)
    return replace(score, deviations=deviations(cell, asked), incomparable=apart)


def _with_stand_ins(runs: Sequence[SeedRun], stand_ins: Sequence[SeedRun]) -> tuple[SeedRun, ...]:
    """Put the runs of other cells in the place of those of their seeds, which have no number."""
    seeds = {run.cell.seed for run in stand_ins}
    return (*stand_ins, *(run for run in runs if run.cell.seed not in seeds))


def _aggregate(request: ScoreRequest, index: Mapping[Any, ScoreRequest], measured: Mapping[Key, Score]) -> Score:
    """A score that nothing is run for: an aggregate, or a dash in the paper."""
    is_time = name_in(request.metric) in TIMES

    def values(operand: ScoreRequest) -> Mapping[int, float]:
        used = measured.get(operand.key, Score(operand)).used
        return numbers_by_seed(used, request.metric if is_time else operand.metric, operand.unit)

    parts = tuple(known(measured.get(part.key) for part in basis(request, index)))
    per_seed = combined(request, index, values)
    apart = bool(per_seed) and any(part.incomparable for part in parts)
    return AggregateScore(request, parts=parts, combined=per_seed, incomparable=apart)


# The tidy form

TIDY = (*TIDY_COLUMNS, "ours", "ours_std", "n", "state", "record", "unit")


def tidy_rows(tables: Sequence[Table], everything: bool = True) -> list[dict[str, Any]]:
    """Return one row per number: what papers print, and ours. Without `everything` only what is printed."""
    rows = []
    for table in tables:
        for score in table.scores.values():
            row = _tidy_row(table, score)
            if row["value"] or (everything and score.request.runs):
                rows.append(row)
    return rows


def _tidy_row(table: Table, score: Score) -> dict[str, Any]:
    published = tidy_row(score.request, table.file) if table.file else {}
    ours, std = (None, None) if score.incomparable else (score.mean, score.std)
    return published | {
        "ours": ours,
        "ours_std": std,
        "n": score.n,
        "state": score.state,
        "record": ";".join(score.records),
        "unit": score.unit,
    }
