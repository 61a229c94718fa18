"""How far our numbers agree with the papers': coverage, points, ranks, and where they differ most."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, Literal, cast

from unlearnable_bench.leaderboard.tables import correlation
from unlearnable_bench.leaderboard.tables.groups import first_of_each, group_by
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.registry import PROTOCOLS, EntryError, lacking, resolve
from unlearnable_bench.results import FileError, Grid, Records, read_grid
from unlearnable_bench.results.cell import name_in
from unlearnable_bench.results.reference import paper_tables

LARGEST = 20  # deviations that are listed
FELT = 5.0  # points: papers that differ by less have recipes that explain it
FEWEST = 3  # attacks (or defenses) that have an order
Extent = Literal["none", "reduced", "stand-in", "exact"]  # how much of what a paper did was done here


# What is compared


def paper_grid(name: str | None, wishes: Mapping[str, Sequence[str]]) -> Grid:
    """Return the tables of a paper, one table, those of a glob, or all of them. FileError for a name that nobody has."""
    papers = {table.partition("/")[0] for table in paper_tables()}
    grid = read_grid(_grid_name(name, papers))
    if not any(table.paper for table in grid.tables.values()):
        raise FileError(f"{name} is not a table of a paper; papers are {', '.join(sorted(papers))}")
    return grid.selected(wishes, resolve)


def _grid_name(name: str | None, papers: set[str]) -> str:
    if name is None:
        return "full"
    return f"{name}/*" if name in papers else name


def compare_named(name: str | None, wishes: Mapping[str, Sequence[str]], records: Records) -> dict[str, Any]:
    """Compare a paper, a table, a glob or everything with the records. FileError for a name that nobody has."""
    return compare_grid(paper_grid(name, wishes), records)


def compare_grid(grid: Grid, records: Records) -> dict[str, Any]:
    """Compare a grid with the records."""
    return compare_tables(printed_tables(grid, records, resolve, lacking))


def compare_tables(tables: Sequence[Table]) -> dict[str, Any]:
    """Compare what was measured of printed tables with what they print, and papers with each other. Keys are stable."""
    return {
        "tables": _counts_by("table", group_by(tables, lambda table: table.name)),
        "papers": _counts_by("paper", group_by(tables, lambda table: table.paper)),
        "overall": counts(tables),
        "deviations": [_deviation_row(score) for score in deviating_scores(tables)[:LARGEST]],
        "disputes": [dispute.row for dispute in disputes(tables)],
    }


def _counts_by(key: str, groups: Mapping[str, Sequence[Table]]) -> list[dict[str, Any]]:
    return [{key: name} | counts(tables) for name, tables in groups.items()]


def comparable_scores(tables: Sequence[Table]) -> list[Score]:
    """The scores that a paper prints a number for and that are measured, aggregates left out."""
    return list(itertools.chain.from_iterable(table.compared for table in tables))


# Counts


def counts(tables: Sequence[Table]) -> dict[str, Any]:
    """Counts of scores. Points are of accuracies; scaled protocols count in `reduced` and nowhere else."""
    scores = comparable_scores(tables)
    by_extent = group_by(scores, _extent)
    full_size = by_extent["stand-in"] + by_extent["exact"]
    accuracies = group_by(full_size, lambda score: score.metric_name)["test_acc"]
    beyond_doubt = _beyond_doubt(accuracies)
    distances = sorted(score.distance for score in beyond_doubt)
    verdicts = Counter(score.verdict for score in scores)
    return {
        "cells": len(scores),
        "measured": len(full_size),
        "exact": len(by_extent["exact"]),
        "reduced": len(by_extent["reduced"]),
        "accuracies": len(accuracies),
        **{f"within_{limit}": bisect_right(distances, limit) for limit in (1, 2, 5)},  # how many are no larger
        "mean_abs_diff": _mean(distances),
        "tau_attacks": _tau_of_attacks(beyond_doubt),
        "tau_defenses": _tau_along("defense", beyond_doubt),
        "verdicts": dict(sorted(verdicts.items())),
    }


def _extent(score: Score) -> Extent:
    if score.is_full_size:
        return "stand-in" if score.marks else "exact"
    return "none" if score.measured_here is None else "reduced"


def _beyond_doubt(scores: Iterable[Score]) -> list[Score]:
    """The accuracies whose distance from the published ones is known, and rests on no doubtful value."""
    return [score for score in scores if score.points is not None]


def _tau_of_attacks(scores: Sequence[Score]) -> float | None:
    """`_tau_along` the attacks; clean training is none of them, no defense is one of the defenses."""
    return _tau_along("attack", [score for score in scores if not score.clean])


def _tau_along(axis: str, scores: Sequence[Score]) -> float | None:
    """Kendall's tau of the order along an axis, ours against the paper's; None where nothing has an order.

    The mean over the tables and all settings of the other axes.
    """

    def setting(score: Score) -> tuple[str, ...]:
        return (score.request.table, score.request.metric, *(score.point | {axis: ""}).values())

    taus = [_tau(axis, group) for group in group_by(scores, setting).values()]
    return _mean([tau for tau in taus if tau is not None])


def _mean(numbers: Sequence[float]) -> float | None:
    return fmean(numbers) if numbers else None


def _tau(axis: str, scores: Sequence[Score]) -> float | None:
    values = {score.request.fields[axis] for score in scores}
    return rank_correlation(scores) if len(values) >= FEWEST else None


def rank_correlation(scores: Sequence[Score]) -> float | None:
    """Kendall's tau-b of ours against the paper's values; None where one of them is the same everywhere."""
    ours = [cast(float, score.mean) for score in scores]
    theirs = [cast(float, score.published) for score in scores]
    return correlation.kendall(ours, theirs)


# Where ours and a paper's number differ


def deviating_scores(tables: Sequence[Table]) -> list[Score]:
    """The accuracies that differ from the published ones, the farthest first; one that several tables print counts once."""
    scores = _beyond_doubt(comparable_scores(tables))
    once = first_of_each(scores, lambda score: (score.records, score.request.metric, score.published))
    return sorted(once, key=lambda score: (-score.distance, score.request.table, score.request.key))


def _deviation_row(score: Score) -> dict[str, Any]:
    return {
        "table": score.request.table,
        "row": list(score.request.row),
        "column": list(score.request.column),
        "unit": score.unit,
        "ours": score.mean,
        "std": score.std,
        "n": score.n,
        "paper": score.published,
        "difference": score.difference,
        "verdict": score.verdict,
        "instead": list(score.marks),
    }


# Where papers differ from each other


@dataclass(frozen=True)
class PublishedValue:
    """An accuracy that a paper prints, in percent."""

    paper: str
    table: str
    percent: float

    @classmethod
    def of(cls, score: Score) -> PublishedValue:
        paper = score.request.table.partition("/")[0]
        return cls(paper, score.request.table, 100 * cast(float, score.published) / score.request.unit)

    def distance(self, other: PublishedValue) -> float:
        """How far the values of two papers are apart; 0 for those of one paper."""
        return 0.0 if self.paper == other.paper else abs(self.percent - other.percent)


@dataclass(frozen=True)
class Dispute:
    """What papers print of one attack, defense, dataset and network."""

    point: Mapping[str, str]
    values: Sequence[PublishedValue]  # one that a paper prints in several tables stands once

    @classmethod
    def of(cls, scores: Sequence[Score]) -> Dispute:
        values = [PublishedValue.of(score) for score in scores]
        return cls(scores[0].point, first_of_each(values, lambda value: (value.paper, value.percent)))

    @cached_property
    def apart(self) -> float:
        """How far two papers are apart at most, in points."""
        distances = [value.distance(other) for value, other in itertools.combinations(self.values, 2)]
        return max(distances, default=0.0)

    @property
    def row(self) -> dict[str, Any]:
        """The dispute as JSON values."""
        axes = ("dataset", "attack", "defense", "architecture", "ratio")
        values = [{"paper": value.paper, "table": value.table, "value": value.percent} for value in self.values]
        return {axis: self.point[axis] for axis in axes} | {"apart": round(self.apart, 4), "values": values}

    @property
    def order(self) -> tuple[float, str, str, str]:
        """The farthest come first."""
        return -round(self.apart, 4), self.point["dataset"], self.point["attack"], self.point["defense"]


def disputes(tables: Sequence[Table]) -> list[Dispute]:
    """What papers print of one attack, defense, dataset and network, where it is `FELT` points apart: the farthest first.

    Recipes of training differ between papers; training with labels and without is never compared.
    """
    scores = [score for score in comparable_scores(tables) if _is_sure_accuracy(score)]
    everything = [Dispute.of(group) for group in group_by(scores, _setting).values()]
    return sorted([dispute for dispute in everything if dispute.apart >= FELT], key=lambda dispute: dispute.order)


def _is_sure_accuracy(score: Score) -> bool:
    """Whether its paper leaves no doubt about the number, which is the accuracy after the last epoch."""
    return score.request.metric == "test_acc" and not score.doubtful


def _setting(score: Score) -> tuple[str, ...]:
    """What papers have to share so that their numbers are held against each other: all but the recipe of training."""
    labels = "without labels" if _without_labels(score.point["protocol"]) else "with labels"
    return (*(score.point | {"protocol": labels}).values(), str(score.request.fields["measure"]))


def _without_labels(protocol: str) -> bool:
    try:
        return "objective" in PROTOCOLS.entry(name_in(protocol).partition("@")[0]).hooks
    except EntryError:
        return False


# In words


def coverage_sentence(row: Mapping[str, Any]) -> str:
    """Say how much of what papers print is measured."""
    sentence = f"{row['measured']:,} of {row['cells']:,} published results are measured at full size"
    stand_ins = row["measured"] - row["exact"]
    if stand_ins:
        sentence += f" ({row['exact']:,} of them on the paper's own data, {stand_ins:,} with a stand-in)"
    if row["measured"] and not row["accuracies"]:
        sentence += ", none of them a test accuracy after training"
    if row["reduced"]:
        sentence += f", {row['reduced']:,} more at reduced size"
    return sentence
