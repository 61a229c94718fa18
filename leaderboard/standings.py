"""How a row stands against the others: its worst case, its mean over what all are compared on, its rank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leaderboard.table import Board


@dataclass(frozen=True)
class Standing:
    """A row against the others. `mean` and `std` over seeds of the accuracy averaged over the columns compared."""

    worst: str  # the column that hurts most: an attack's best defense, a defense's strongest attack; empty without numbers
    worst_case: float | None = None  # the accuracy there, fraction
    clean: float | None = None  # of a defense: the accuracy on the clean training set
    over: int = 0  # columns compared: those that apply to every row
    mean: float | None = None  # fraction; None unless all of these are done
    std: float | None = None
    rank: int | None = None  # 1 is best; rows whose mean +- std overlap share one. Needs two seeds of every row


def standings(board: Board) -> dict[str, Standing]:
    """Return one per row, or none where rows are neither attacks nor defenses or there is one column alone.

    Protocols never meet in a ranking.

    Rows are compared over the columns that apply to all of them, and ranked once all of these are done. Clean training is no
    attack: as a row it has no rank, as a column it counts neither in a mean nor as a worst case. So has the best of several
    defenses, which would count one of them twice. Numbers that others report count for nothing here: a column of them is not
    compared, a row with one has no rank, and neither keeps the other rows from theirs. An attack that undefended does less than
    the board can measure has no rank either.
    """
    if not board.subject or len(board.columns) < 2:
        return {}
    leagues: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in board.rows:
        point = board.values[row, board.columns[0]].point
        leagues[tuple(point[axis] for axis in board.row_axes if axis != board.subject)].append(row)
    found: dict[str, Standing] = {}
    for league in leagues.values():
        found |= _league(board, league)
    return {row: found[row] for row in board.rows}


def _league(board: Board, rows: Sequence[str]) -> dict[str, Standing]:
    attacks = board.subject == "attack"
    against = [
        column
        for column in board.columns
        if not _apart(board, [(row, column) for row in rows], attacks) and not _reported(board, column, rows)
    ]
    playing = [row for row in rows if {board.values[row, column].state for column in against} - {"not-applicable"}]
    columns = [c for c in against if all(board.values[r, c].state != "not-applicable" for r in playing)]
    found = {row: _standing(board, row, against, columns if row in playing else []) for row in rows}
    ranked = [row for row in playing if not _apart(board, [(row, column) for column in board.columns], not attacks)]
    ranked = [row for row in ranked if not any(board.values[row, column].reported for column in columns)]
    ranked = [row for row in ranked if row not in board.faint]
    if any(found[row].std is None for row in ranked):
        return found
    sign = 1 if attacks else -1  # attacks want low accuracy, defenses high
    reach, rank = float("-inf"), 0  # the far end of the spread of the best of a rank
    for place, row in enumerate(sorted(ranked, key=lambda row: sign * (found[row].mean or 0.0)), 1):
        mean, std = sign * (found[row].mean or 0.0), found[row].std or 0.0
        if mean - std > reach:
            reach, rank = mean + std, place
        found[row] = replace(found[row], rank=rank)
    return found


def _reported(board: Board, column: str, rows: Sequence[str]) -> bool:
    """Say whether all numbers of a column are of others."""
    numbers = [value for row in rows if (value := board.values[row, column]).mean is not None]
    return bool(numbers) and all(value.reported for value in numbers)


def _apart(board: Board, places: Sequence[tuple[str, str]], defense: bool) -> bool:
    """Say whether a row or column is none that is compared: clean training among attacks, an oracle's choice among defenses."""
    values = [board.values[place] for place in places]
    return any(value.rest for value in values) if defense else values[0].clean


def _standing(board: Board, row: str, against: Sequence[str], columns: Sequence[str]) -> Standing:
    values = {column: board.values[row, column] for column in board.columns}
    there = [c for c in board.columns if values[c].mean is not None and values[c].state != "stale" and not values[c].reported]
    numbers = {c: values[c].mean or 0.0 for c in there if c in against}
    attacks = board.subject == "attack"
    worst = (max if attacks else min)(numbers, key=lambda column: numbers[column]) if numbers else ""
    clean = next((values[c].mean for c in there if values[c].clean), None) if not attacks else None
    plain = Standing(worst, numbers.get(worst), clean, len(columns))
    per_seed: dict[int, list[float]] = defaultdict(list)
    for column in columns:
        for record, accuracy in zip(values[column].used, values[column].accuracies, strict=True):
            per_seed[record.cell.seed].append(accuracy)
    means = [fmean(accuracies) for accuracies in per_seed.values() if len(accuracies) == len(columns)]
    if not means or any(values[column].state != "done" or values[column].reported for column in columns):
        return plain
    return replace(plain, mean=fmean(means), std=stdev(means) if len(means) > 1 else None)
