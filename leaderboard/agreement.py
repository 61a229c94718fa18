"""How far our numbers agree with the papers': coverage, points, ranks, and where they part most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from leaderboard.sheet import Sheet, Spot, sheets
from leaderboard.table import POINT
from registry import lacking, resolve
from results import FileError, Grid, Records, read_grid
from results.papers import paper_tables

LARGEST = 20  # deviations that are listed


def chosen(name: str | None, wishes: Mapping[str, Sequence[str]]) -> Grid:
    """Return the tables of a paper, one table, those of a glob, or all of them. FileError for a name that nobody has."""
    papers = {table.partition("/")[0] for table in paper_tables()}
    grid = read_grid("full" if name is None else f"{name}/*" if name in papers else name)
    if not isinstance(grid, Grid) or not any(table.paper for table in grid.tables.values()):
        raise FileError(f"{name} is no table of a paper; papers are {', '.join(sorted(papers))}")
    return grid.selected(wishes)


def compare(name: str | None, wishes: Mapping[str, Sequence[str]], records: Records) -> dict[str, Any]:
    """Compare a paper, a table, a glob or everything with the records. FileError for a name that nobody has."""
    return of(chosen(name, wishes), records)


def of(grid: Grid, records: Records) -> dict[str, Any]:
    """Compare a grid with the records."""
    made = sheets(grid, records, resolve, lacking)
    papers: dict[str, list[Sheet]] = defaultdict(list)
    for sheet in made:
        papers[sheet.table.paper].append(sheet)
    spots = [(sheet, spot) for sheet in made for spot in _compared(sheet)]
    once = {
        (spot.records, spot.place.metric, spot.paper): (sheet, spot)
        for sheet, spot in reversed(spots)
        if spot.points is not None
    }
    far = sorted(once.values(), key=lambda one: (-abs(one[1].points or 0.0), one[0].name, one[1].place.key))
    return {
        "tables": [{"table": sheet.name} | counts([sheet]) for sheet in made],
        "papers": [{"paper": paper} | counts(several) for paper, several in papers.items()],
        "overall": counts(made),
        "deviations": [
            {
                "table": sheet.name,
                "row": list(spot.place.row),
                "column": list(spot.place.column),
                "ours": spot.mean,
                "std": spot.std,
                "n": spot.n,
                "paper": spot.paper,
                "difference": spot.difference,
                "verdict": spot.verdict,
                "instead": list(spot.marks),
            }
            for sheet, spot in far[:LARGEST]
        ],
    }


def _compared(sheet: Sheet) -> list[Spot]:
    """The places that a paper prints a number for and that are measured, aggregates left out."""
    return [spot for spot in sheet.cells if spot.paper is not None]


def counts(several: Sequence[Sheet]) -> dict[str, Any]:
    """Counts of places. Points are of accuracies; scaled protocols count in `reduced` and nowhere else."""
    spots = [spot for sheet in several for spot in _compared(sheet)]
    there = [spot for spot in spots if spot.own is not None]
    whole = [spot for spot in there if not spot.reduced]
    points = [abs(spot.points) for spot in whole if spot.points is not None]
    return {
        "cells": len(spots),
        "measured": len(whole),
        "exact": sum(not spot.marks for spot in whole),
        "reduced": len(there) - len(whole),
        **{f"within_{limit}": sum(point <= limit for point in points) for limit in (1, 2, 5)},
        "mean_abs_diff": fmean(points) if points else None,
        "tau_attacks": _tau(several, "attack"),
        "tau_defenses": _tau(several, "defense"),
        "verdicts": {verdict: sum(spot.verdict == verdict for spot in spots) for verdict in sorted({s.verdict for s in spots})},
    }


def _tau(several: Sequence[Sheet], axis: str) -> float | None:
    """Kendall's tau of the order of attacks (or defenses), ours against the paper's; None where fewer than three meet.

    The mean over all settings of the other axes; clean training is no attack, no defense is one of the defenses.
    """
    taus = []
    for sheet in several:
        groups: dict[tuple[Any, ...], list[Spot]] = defaultdict(list)
        for spot in _compared(sheet):
            if (
                spot.points is not None
                and not spot.reduced
                and not spot.reported
                and (axis != "attack" or spot.place.fields["attack"] != "none")
            ):
                rest = tuple(str(spot.place.fields[other]) for other in POINT if other != axis)
                groups[(*rest, spot.place.metric)].append(spot)
        for group in groups.values():
            if len({spot.place.fields[axis] for spot in group}) >= 3 and (tau := kendall(group)) is not None:
                taus.append(tau)
    return fmean(taus) if taus else None


def kendall(spots: Sequence[Spot]) -> float | None:
    """Kendall's tau-b of ours against the paper's values; None where one of them is the same everywhere."""
    concordant = ours = papers = 0
    for i, one in enumerate(spots):
        for other in spots[:i]:
            a, b = (one.mean or 0.0) - (other.mean or 0.0), (one.paper or 0.0) - (other.paper or 0.0)
            concordant += (a * b > 0) - (a * b < 0)
            ours += a != 0
            papers += b != 0
    return concordant / (ours * papers) ** 0.5 if ours and papers else None


def text(found: Mapping[str, Any]) -> str:
    """Write a comparison for people."""
    shown = [row for row in found["tables"] if row["measured"] or row["reduced"]]
    lines = [_line(row["table"], row) for row in shown]
    lines += [_line(row["paper"], row) for row in found["papers"] if len(found["papers"]) > 1]
    lines.append(_line("all", found["overall"]))
    if not shown:
        lines.append("nothing of it is measured here yet; `bench run --grid NAME` measures, `bench list grids` names")
    if found["deviations"]:
        lines.append("largest deviations, in points:")
    for row in found["deviations"][:10]:
        place = " / ".join((*row["row"], *row["column"]))
        instead = f" ({'; '.join(row['instead'])})" if row["instead"] else ""
        lines.append(
            f"  {row['difference']:+7.2f}  {row['table']}  {place}: {row['ours']:.2f}, paper {row['paper']:g}{instead}"
        )
    return "\n".join(lines)


def _line(name: str, row: Mapping[str, Any]) -> str:
    parts = [f"{name}: {row['measured']} of {row['cells']} cells measured"]
    if row["measured"] != row["exact"]:
        parts.append(f"{row['exact']} of them without stand-ins")
    if row["reduced"]:
        parts.append(f"{row['reduced']} reduced ones besides")
    if row["mean_abs_diff"] is not None:
        parts.append(", ".join(f"{row[f'within_{k}']} within {k}" for k in (1, 2, 5)) + " points")
        parts.append(f"mean difference {row['mean_abs_diff']:.2f}")
    for axis in ("attacks", "defenses"):
        if row[f"tau_{axis}"] is not None:
            parts.append(f"tau of {axis} {row[f'tau_{axis}']:.2f}")
    return "; ".join(parts)
