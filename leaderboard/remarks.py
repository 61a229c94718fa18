"""What a reader of a board has to know beside its numbers, computed from its records: sentences, one remark each."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from results.cell import Cell, digest

if TYPE_CHECKING:
    from leaderboard.table import Board, Value
    from results import Record


def remarks(board: Board) -> list[str]:
    """Return the remarks on a board: attacks that do nothing, rows of two poisons."""
    return [*_faint(board), *_twice_made(board)]


def precisions(board: Board) -> dict[str, int]:
    """Return how many trainings behind the numbers were in which precision."""
    found = Counter(str(record.numerics.get("dtype", "unknown")) for value in board.values.values() for record in value.used)
    return dict(sorted(found.items()))


def faint_rows(board: Board) -> dict[str, float]:
    """Return the attacks among the rows whose drop undefended, a fraction, is below what the board can measure."""
    if board.subject != "attack":
        return {}
    undefended = {row: value for (row, _), value in board.values.items() if value.point["defense"] == "none"}
    return {row: value.drop for row, value in undefended.items() if value.drop is not None and value.drop < board.least_drop}


def _faint(board: Board) -> list[str]:
    rows = faint_rows(board)
    if not rows:
        return []
    shown = ", ".join(f"{row} ({100 * drop:.1f})" for row, drop in rows.items())
    limit = f"{100 * board.least_drop:g}"
    return [f"Not measurable at this cost, and not ranked, since undefended the drop is below {limit} points: {shown}."]


def _twice_made(board: Board) -> list[str]:
    found: dict[tuple[str, str, int], dict[str, str]] = defaultdict(dict)  # -> the poison's checksum -> where it was made
    for (row, column), value in board.values.items():
        label = row if board.subject == "attack" else column
        for record in _poisoned(value):
            assert record.poison is not None, "these records are of poisons"
            found[label, *_recipe(record.cell)].setdefault(record.poison.checksum, _where(record))
    return [
        f"{label}: the records show {len(made)} poisons of seed {seed}, "
        + ", ".join(f"{checksum[:12]} ({where})" for checksum, where in sorted(made.items()))
        + "; numbers of different poisons are not of one training set."
        for (label, _, seed), made in found.items()
        if len(made) > 1
    ]


def _poisoned(value: Value) -> list[Record]:
    return [record for record in value.used if record.poison is not None]


def _recipe(cell: Cell) -> tuple[str, int]:
    """What decides about a poison, the seed apart, hashed; and the seed."""
    content = cell.resolved()
    fields = [part["fields"] for part in content["attack"]]
    seed = fields[-1].get("seed", fields[0].get("seed", cell.seed))
    return digest([content["attack"], content["dataset"]]), int(seed)


def _where(record: Record) -> str:
    """On which kind of device a poison was made, as far as its record says."""
    numerics = record.poison.numerics if record.poison else {}
    words = [str(numerics[key]) for key in ("device", "dtype") if key in numerics]
    return f"{' '.join(words)}, torch {record.versions.get('torch', 'unknown')}".removeprefix(", ")
