"""Our numbers beside the papers', and the papers' claims, as people read them on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from unlearnable_bench.leaderboard.formats.escaping import environment
from unlearnable_bench.leaderboard.tables.agreement import coverage_sentence
from unlearnable_bench.leaderboard.tables.claims import DOUBTFUL, FAILS, HOLDS, UNMEASURED, CheckedClaim
from unlearnable_bench.leaderboard.tables.verdict import ALIKE, DEVIATES, UNJUDGED, WITHIN

SHOWN = 10  # deviations, and disputes
Counts = Mapping[str, Any]


def comparison_text(comparison: Mapping[str, Any]) -> str:
    """Write a comparison for people: coverage, a line per table with a number and per paper, what deviates most."""
    rows = _labelled_counts(comparison)
    columns = [column for column in COLUMNS if column.is_shown(rows.values())]
    page = {
        "coverage": coverage_sentence(comparison["overall"]),
        "measured": _has_numbers(comparison["overall"]),
        "lines": _aligned([["", *(column.head for column in columns)], *_body(rows, columns)]),
        "columns": columns,
        "deviations": comparison["deviations"][:SHOWN],
        "disputes": comparison["disputes"][:SHOWN],
    }
    return environment("txt").get_template("comparison.txt").render(page).removesuffix("\n")


def claims_text(checked: Sequence[CheckedClaim]) -> str:
    """Write claims for people, one a line: in our numbers, in those that the paper itself prints, the claim."""
    printed = Counter(claim.printed for claim in checked)
    page = {
        "claims": checked,
        "width": max(map(len, [UNMEASURED, *printed])),
        "ours": Counter(claim.ours for claim in checked),
        "printed": printed,
        "HOLDS": HOLDS,
        "FAILS": FAILS,
        "UNDECIDED": (UNMEASURED, DOUBTFUL),
    }
    return environment("txt").get_template("claims.txt").render(page).removesuffix("\n")


def _labelled_counts(comparison: Mapping[str, Any]) -> dict[str, Counts]:
    """The counts that are printed: of tables with numbers; of papers and of all, where there are several or nothing else."""
    labelled = {counts["table"]: counts for counts in comparison["tables"] if _has_numbers(counts)}
    papers = {counts["paper"]: counts for counts in comparison["papers"]}
    if len(papers) > 1:
        return labelled | papers | {"all": comparison["overall"]}
    return labelled or papers


def _has_numbers(counts: Counts) -> bool:
    return bool(counts["measured"] + counts["reduced"])


def _body(rows: Mapping[str, Counts], columns: Sequence[CountColumn]) -> list[list[str]]:
    return [[label, *(column.text(counts) or "-" for column in columns)] for label, counts in rows.items()]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns under their heads: labels to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_padded(row, widths)) for row in rows]


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    label, *numbers = row
    return [label.ljust(widths[0]), *(number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))]


# Columns


@dataclass(frozen=True)
class CountColumn:
    """A column of counts: its number, None where nothing is printed, and what that means."""

    head: str
    number: Callable[[Counts], float | None]
    means: str = ""
    form: str = ","
    always: bool = False  # shown, even if nothing stands in it

    def text(self, counts: Counts) -> str:
        number = self.number(counts)
        return "" if number is None else format(number, self.form)

    def is_shown(self, rows: Iterable[Counts]) -> bool:
        return self.always or any(self.text(counts) for counts in rows)


def _count(key: str) -> Callable[[Counts], int | None]:
    """A count; nothing is printed for 0."""
    return lambda counts: counts[key] or None


def _judged(*verdicts: str) -> Callable[[Counts], int | None]:
    """The number of scores that have one of these verdicts; nothing is printed for 0."""
    return lambda counts: sum(counts["verdicts"].get(verdict, 0) for verdict in verdicts) or None


COLUMNS = (
    CountColumn("printed", itemgetter("cells"), "numbers in the papers' tables, means and changes left out", always=True),
    CountColumn("measured", itemgetter("measured"), "with a number of ours at full size", always=True),
    CountColumn("exact", _count("exact"), "of them on the paper's own data, with nothing in place of anything"),
    CountColumn("reduced", _count("reduced"), "fewer epochs or images, not judged"),
    CountColumn("within", _judged(WITHIN), "within the tolerance that the spread over seeds gives"),
    CountColumn("deviate", _judged(DEVIATES), "beyond it"),
    CountColumn("unjudged", _judged(UNJUDGED, ALIKE), "one seed, or seeds that change nothing"),
    CountColumn("<=1", _count("within_1"), "test accuracies within 1 point of the paper's, and within 2 and 5"),
    CountColumn("<=2", _count("within_2")),
    CountColumn("<=5", _count("within_5")),
    CountColumn("mean diff", itemgetter("mean_abs_diff"), "mean of the absolute differences, points", ".2f"),
    CountColumn(
        "tau attacks", itemgetter("tau_attacks"), "Kendall's tau of the order of attacks, ours against the paper's", ".2f"
    ),
    CountColumn("tau defenses", itemgetter("tau_defenses"), "the same of defenses", ".2f"),
)
