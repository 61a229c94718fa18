"""What a reader of a table has to know beside its numbers, computed from its records: sentences, one remark each."""

from __future__ import annotations

from collections import defaultdict

from unlearnable_bench.leaderboard.tables.ranking import joined
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.results import Record
from unlearnable_bench.results.cell import Cell, digest
from unlearnable_bench.results.record import PoisonNote


def remarks(table: Table) -> list[str]:
    """Return the remarks on a table: attacks that do nothing, rows of two poisons."""
    return [*_faint(table), *_twice_made(table)]


def _faint(table: Table) -> list[str]:
    if not table.faint:
        return []
    shown = ", ".join(f"{joined(row)} ({100 * drop:.1f})" for row, drop in table.faint.items())
    limit = f"{100 * table.least_drop:g}"
    return [f"Not measurable at this cost, and not ranked, since undefended the drop is below {limit} points: {shown}."]


def _twice_made(table: Table) -> list[str]:
    poisons: dict[tuple[str, str, int], dict[str, str]] = defaultdict(dict)  # -> the poison's checksum -> where it was made
    for (row, column), score in table.scores.items():
        label = joined(row if table.subject == "attack" else column)
        for record in score.used:
            if record.poison is not None:
                poisons[label, *_recipe(record.cell)].setdefault(record.poison.checksum, _where(record, record.poison))
    return [_two_poisons(label, seed, made) for (label, _, seed), made in poisons.items() if len(made) > 1]


def _two_poisons(label: str, seed: int, made: dict[str, str]) -> str:
    shown = ", ".join(f"{checksum[:12]} ({where})" for checksum, where in sorted(made.items()))
    several = f"the records show {len(made)} poisons of seed {seed}, {shown}"
    return f"{label}: {several}; numbers of different poisons are not of one training set."


def _recipe(cell: Cell) -> tuple[str, int]:
    """What decides about a poison, the seed apart, hashed; and the seed."""
    content = cell.resolved()
    fields = [part["fields"] for part in content["attack"]]
    seed = fields[-1].get("seed", fields[0].get("seed", cell.seed))
    return digest([content["attack"], content["dataset"]]), int(seed)


def _where(record: Record, poison: PoisonNote) -> str:
    """On which kind of device a poison was made, as far as its record says."""
    words = [str(poison.numerics[key]) for key in ("device", "dtype") if key in poison.numerics]
    return f"{' '.join(words)}, torch {record.versions.get('torch', 'unknown')}".removeprefix(", ")
