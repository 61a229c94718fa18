"""What the pages about the site as a whole get: how much of the papers is measured, and how far it agrees with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unlearnable_bench.leaderboard.formats.view import KINDS
from unlearnable_bench.leaderboard.formats.view import SIGNS as MARKS
from unlearnable_bench.leaderboard.tables import agreement as agreeing
from unlearnable_bench.leaderboard.tables import claims as claimed
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.leaderboard.tables.verdict import DEVIATES, WITHIN

SIGNS = {  # class, sign: those of a number beside a printed one
    claimed.HOLDS: (KINDS[WITHIN], MARKS[WITHIN]),
    claimed.FAILS: (KINDS[DEVIATES], MARKS[DEVIATES]),
    claimed.UNMEASURED: ("why", ""),
    claimed.DOUBTFUL: ("why", ""),
}


@dataclass(frozen=True)
class Progress:
    """A table of ours, and how much of it has numbers."""

    table: Table
    done: int
    of: int

    @classmethod
    def of_table(cls, table: Table) -> Progress:
        if table.file is None:
            return cls(table, table.coverage["done"], table.coverage["cells"])
        return cls(table, table.measured, len(table.direct))


def whole(tables: Sequence[Table]) -> dict[str, Any]:
    """How much of what papers print is measured, and which tables of ours have numbers: said before any of them is shown."""
    total = agreeing.counts(of_papers(tables))
    ours = [Progress.of_table(table) for table in tables if _is_grid_of_ours(table)]
    return {
        "printed": total["cells"],
        "coverage": agreeing.coverage_sentence(total),
        "measured": total["measured"],
        "tables": [progress for progress in ours if progress.done],
    }


def _is_grid_of_ours(table: Table) -> bool:
    """Whether a command runs it and no paper prints it."""
    return bool(table.name) and not table.source


def without_layout(tables: Sequence[Table]) -> list[Table]:
    """The tables of cells as they were measured."""
    return [table for table in tables if table.file is None]


def with_layout(tables: Sequence[Table]) -> list[Table]:
    """The tables whose file says how they are printed."""
    return [table for table in tables if table.file is not None]


def of_papers(tables: Sequence[Table]) -> list[Table]:
    """The tables that have published numbers beside ours."""
    return [table for table in tables if table.source]


def agreement(tables: Sequence[Table]) -> dict[str, Any]:
    """Ours beside the papers' numbers, what became of their claims, and papers beside each other."""
    published = of_papers(tables)
    comparison = agreeing.compare_tables(published)
    total = comparison["overall"]
    return {
        "papers": comparison["papers"],
        "total": total,
        "coverage": agreeing.coverage_sentence(total),
        "deviations": comparison["deviations"],
        "disputes": comparison["disputes"],
        "felt": f"{agreeing.FELT:g}",
        "claims": claimed.rows(claimed.check_claims(published)),
        "signs": SIGNS,
        "tables": {table.name: table for table in published},
        "sources": {table.paper: table.source for table in published},
        "within": WITHIN,
        "deviates": DEVIATES,
    }
