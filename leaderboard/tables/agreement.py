"""How far our numbers agree with the papers': coverage, points, ranks, and where they part most."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from leaderboard.tables import correlation
from leaderboard.tables.printed import printed_tables
from leaderboard.tables.score import POINT, Score
from leaderboard.tables.table import Table
from leaderboard.tables.verdict import ALIKE, DEVIATES, UNJUDGED, WITHIN
from registry import PROTOCOLS, EntryError, lacking, resolve
from results import FileError, Grid, Records, read_grid
from results.reference import paper_tables

LARGEST, SHOWN = 20, 10  # deviations that are listed, and on a terminal
FELT = 5.0  # points: papers that differ by less have recipes that explain it


def chosen(name: str | None, wishes: Mapping[str, Sequence[str]]) -> Grid:
    """Return the tables of a paper, one table, those of a glob, or all of them. FileError for a name that nobody has."""
    papers = {table.partition("/")[0] for table in paper_tables()}
    grid = read_grid("full" if name is None else f"{name}/*" if name in papers else name)
    if not any(table.paper for table in grid.tables.values()):
        raise FileError(f"{name} is not a table of a paper; papers are {', '.join(sorted(papers))}")
    return grid.selected(wishes, resolve)


def compare(name: str | None, wishes: Mapping[str, Sequence[str]], records: Records) -> dict[str, Any]:
    """Compare a paper, a table, a glob or everything with the records. FileError for a name that nobody has."""
    return of(chosen(name, wishes), records)


def of(grid: Grid, records: Records) -> dict[str, Any]:
    """Compare a grid with the records."""
    return summed(printed_tables(grid, records, resolve, lacking))


def summed(made: Sequence[Table]) -> dict[str, Any]:
    """Compare what was measured of printed tables with what they print, and papers with each other."""
    papers: dict[str, list[Table]] = defaultdict(list)
    for table in made:
        papers[_paper(table)].append(table)
    scores = [(table, score) for table in made for score in _compared(table)]
    once = {
        (score.records, score.place.metric, score.published): (table, score)
        for table, score in reversed(scores)
        if score.points is not None
    }
    far = sorted(once.values(), key=lambda one: (-abs(one[1].points or 0.0), one[0].name, one[1].place.key))
    return {
        "tables": [{"table": table.name} | counts([table]) for table in made],
        "papers": [{"paper": paper} | counts(several) for paper, several in papers.items()],
        "overall": counts(made),
        "deviations": [
            {
                "table": table.name,
                "row": list(score.place.row),
                "column": list(score.place.column),
                "unit": score.unit,
                "ours": score.mean,
                "std": score.std,
                "n": score.n,
                "paper": score.published,
                "difference": score.difference,
                "verdict": score.verdict,
                "instead": list(score.marks),
            }
            for table, score in far[:LARGEST]
        ],
        "disputes": disputes(made),
    }


def disputes(made: Sequence[Table]) -> list[dict[str, Any]]:
    """What two papers print of one attack, defense, dataset and network, where it is `FELT` points apart: the farthest first.

    Recipes of training differ between papers; training with labels and without is never compared.
    """
    groups: dict[tuple[str, ...], list[tuple[Table, Score]]] = defaultdict(list)
    for table in made:
        for score in table.direct:
            fields = score.place.fields
            if score.place.metric == "test_acc" and score.undoubted is not None:
                rest = tuple(str(fields[axis]) for axis in POINT if axis != "protocol")
                groups[(*rest, str(fields["measure"]), str(_without_labels(str(fields["protocol"]))))].append((table, score))
    found = []
    for several in groups.values():
        values: dict[tuple[str, float], tuple[Table, Score]] = {}
        for table, score in several:
            values.setdefault((_paper(table), 100 * (score.published or 0.0) / score.place.unit), (table, score))
        apart = max((abs(a - b) for p, a in values for q, b in values if p != q), default=0.0)
        if apart >= FELT:
            fields = several[0][1].place.fields
            found.append(
                {axis: str(fields[axis]) for axis in ("dataset", "attack", "defense", "architecture", "ratio")}
                | {"apart": round(apart, 4)}
                | {"values": [{"paper": p, "table": table.name, "value": v} for (p, v), (table, _) in values.items()]}
            )
    return sorted(found, key=lambda row: (-row["apart"], row["dataset"], row["attack"], row["defense"]))


def _paper(table: Table) -> str:
    return table.file.paper if table.file else ""


def _without_labels(protocol: str) -> bool:
    try:
        return "objective" in PROTOCOLS.entry(protocol.partition("(")[0].partition("@")[0]).hooks
    except EntryError:
        return False


def _compared(table: Table) -> list[Score]:
    """The places that a paper prints a number for and that are measured, aggregates left out."""
    return [score for score in table.direct if score.published is not None]


def counts(several: Sequence[Table]) -> dict[str, Any]:
    """Counts of places. Points are of accuracies; scaled protocols count in `reduced` and nowhere else."""
    scores = [score for table in several for score in _compared(table)]
    there = [score for score in scores if score.own is not None]
    whole = [score for score in there if not score.reduced]
    points = [abs(score.points) for score in whole if score.points is not None]
    return {
        "cells": len(scores),
        "measured": len(whole),
        "exact": sum(not score.marks for score in whole),
        "reduced": len(there) - len(whole),
        "accuracies": sum(score.place.metric.partition("(")[0] == "test_acc" for score in whole),
        **{f"within_{limit}": sum(point <= limit for point in points) for limit in (1, 2, 5)},
        "mean_abs_diff": fmean(points) if points else None,
        "tau_attacks": _tau(several, "attack"),
        "tau_defenses": _tau(several, "defense"),
        "verdicts": dict(sorted(Counter(score.verdict for score in scores).items())),
    }


def _tau(several: Sequence[Table], axis: str) -> float | None:
    """Kendall's tau of the order of attacks (or defenses), ours against the paper's; None where fewer than three meet.

    The mean over all settings of the other axes; clean training is no attack, no defense is one of the defenses.
    """
    taus = []
    for table in several:
        groups: dict[tuple[Any, ...], list[Score]] = defaultdict(list)
        for score in _compared(table):
            if (
                score.points is not None
                and not score.reduced
                and not score.reported
                and (axis != "attack" or score.place.fields["attack"] != "none")
            ):
                rest = tuple(str(score.place.fields[other]) for other in POINT if other != axis)
                groups[(*rest, score.place.metric)].append(score)
        for group in groups.values():
            if len({score.place.fields[axis] for score in group}) >= 3 and (tau := kendall(group)) is not None:
                taus.append(tau)
    return fmean(taus) if taus else None


def kendall(scores: Sequence[Score]) -> float | None:
    """Kendall's tau-b of ours against the paper's values; None where one of them is the same everywhere."""
    return correlation.kendall([score.mean or 0.0 for score in scores], [score.published or 0.0 for score in scores])


def text(found: Mapping[str, Any]) -> str:
    """Write a comparison for people: coverage, a line per table with a number and per paper, what deviates most."""
    overall, papers = found["overall"], found["papers"]
    there = [row for row in found["tables"] if row["measured"] or row["reduced"]]
    lines = [coverage(overall) + "."]
    if not there:
        lines.append("nothing of it is measured here yet; `bench run --grid NAME` measures, `bench list grids` names")
    rows = [(row["table"], row) for row in there] + [(row["paper"], row) for row in papers if len(papers) > 1 or not there]
    rows += [("all", overall)] if len(papers) > 1 else []
    shown = [column for column in COLUMNS if column.always or any(column.of(row) for _, row in rows)]
    body = [(name, *(column.of(row) or "-" for column in shown)) for name, row in rows]
    lines += ["", *_aligned([("", *(column.head for column in shown)), *body])]
    lines += ["", *(f"{column.head}: {column.means}" for column in shown if column.means)]
    if found["deviations"]:
        lines += ["", "largest differences from the papers, in points:"]
    for row in found["deviations"][:SHOWN]:
        place = " / ".join((*row["row"], *row["column"]))
        rest = "; ".join((row["verdict"], *row["instead"]))
        lines.append(
            f"  {row['difference']:+7.2f}  {row['table']}  {place}: {row['ours']:.2f}, paper {row['paper']:g} ({rest})"
        )
    if found["disputes"]:
        lines += ["", "where papers differ most from each other, in points:"]
    for row in found["disputes"][:SHOWN]:
        values = "; ".join(f"{value['table']} {value['value']:g}" for value in row["values"])
        lines.append(
            f"  {row['apart']:7.2f}  {row['dataset']}, {row['attack']} x {row['defense']}, {row['architecture']}: {values}"
        )
    return "\n".join(lines)


def coverage(row: Mapping[str, Any]) -> str:
    """Say how much of what papers print is measured."""
    said = f"{row['measured']:,} of {row['cells']:,} published results are measured at full size"
    if row["measured"] != row["exact"]:
        said += f" ({row['exact']:,} of them on the paper's own data, {row['measured'] - row['exact']:,} with a stand-in)"
    if row["measured"] and not row["accuracies"]:
        said += ", none of them a test accuracy after training"
    return said + (f", {row['reduced']:,} more at reduced size" if row["reduced"] else "")


@dataclass(frozen=True)
class _Column:
    head: str
    of: Callable[[Mapping[str, Any]], str]  # '' where there is nothing to print
    means: str = ""
    always: bool = False


def _count(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: f"{row[key]:,}" if row[key] else ""


def _judged(*verdicts: str) -> Callable[[Mapping[str, Any]], str]:
    def text(row: Mapping[str, Any]) -> str:
        count = sum(row["verdicts"].get(verdict, 0) for verdict in verdicts)
        return f"{count:,}" if count else ""

    return text


def _number(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "" if row[key] is None else f"{row[key]:.2f}"


COLUMNS = (
    _Column("printed", lambda row: f"{row['cells']:,}", "numbers in the papers' tables, means and changes left out", True),
    _Column("measured", lambda row: f"{row['measured']:,}", "with a number of ours at full size", True),
    _Column("exact", _count("exact"), "of them on the paper's own data, with nothing in place of anything"),
    _Column("reduced", _count("reduced"), "fewer epochs or images, not judged"),
    _Column("within", _judged(WITHIN), "within the tolerance that the spread over seeds gives"),
    _Column("deviate", _judged(DEVIATES), "beyond it"),
    _Column("unjudged", _judged(UNJUDGED, ALIKE), "one seed, or seeds that change nothing"),
    _Column("<=1", _count("within_1"), "test accuracies within 1 point of the paper's, and within 2 and 5"),
    _Column("<=2", _count("within_2")),
    _Column("<=5", _count("within_5")),
    _Column("mean diff", _number("mean_abs_diff"), "mean of the absolute differences, points"),
    _Column("tau attacks", _number("tau_attacks"), "Kendall's tau of the order of attacks, ours against the paper's"),
    _Column("tau defenses", _number("tau_defenses"), "the same of defenses"),
)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns under their heads: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
