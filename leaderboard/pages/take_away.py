"""The numbers of the start page as files for other programs: `data/results.json`, the same as CSV, `data/leaderboard.json`.

A result is the test accuracy of a victim that was trained on a poison of an attack, under a defense, in percent: one that a
paper prints, or one that the fast recipe gave here. `data/schema.json` describes both JSON files.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from unlearnable_bench.leaderboard.formats.escaping import asset
from unlearnable_bench.leaderboard.formats.words import inert
from unlearnable_bench.leaderboard.pages.start import Start
from unlearnable_bench.leaderboard.tables.evidence import OTHER, Result, measured, published_results
from unlearnable_bench.leaderboard.tables.methods import Axis, Method, method_of
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.leaderboard.tables.worst_case import MethodOutcomes, PairOutcome, Ranking, is_rival

FORMAT = 1  # of both JSON files
UNIT = "percent"
OURS = "ours"  # the source of what was measured here; of published results it is the folder of the paper
SCHEMA = "schema.json"
COLUMNS = (
    *("dataset", "network", "protocol", "attack", "attack_label", "attack_spec", "budget", "defense", "defense_label"),
    *("value", "low", "high", "unit", "source", "table", "page", "records", "errata"),
)
TEXTS = ("attack", "attack_label", "attack_spec", "defense", "defense_label", "source", "table", "errata")  # that others write
Json: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str, Method | None, float]  # of a result: its table, the spec of its attack, its defense, its value


@dataclass(frozen=True)
class Setting:
    """Where results were measured. Recipes of papers differ, so theirs have no protocol."""

    dataset: str
    network: str
    protocol: str = ""


@dataclass(frozen=True)
class TakeAway:
    """The files of numbers of a site. `printed` are the tables of papers, each of `ours` has what one recipe gave here."""

    starts: Sequence[Start]
    printed: Sequence[Table]
    ours: Sequence[Table]

    def files(self) -> dict[str, str]:
        """Return every file by name. The same tables give the same bytes."""
        settings = [self._leaderboard(start) for start in self.starts]
        return {
            "data/results.json": _json({"results": self.rows}),
            "data/results.csv": _csv(self.rows),
            "data/leaderboard.json": _json({"settings": settings}),
            f"data/{SCHEMA}": asset("results.schema.json"),
        }

    @cached_property
    def rows(self) -> list[Json]:
        """Every result, published ones first."""
        rows = []
        for setting, results in published_results(self.printed).items():
            rows += self._rows(Setting(*setting), results)
        for table in self.ours:
            rows += self._rows(_setting(table), measured(table))
        return rows

    def _rows(self, setting: Setting, results: Sequence[Result]) -> list[Json]:
        once = {_key(result): result for result in results}  # a defense that stands for others repeats the best of them
        return [self._row(setting, result) for result in once.values()]

    def _row(self, setting: Setting, result: Result) -> Json:
        return {
            "dataset": setting.dataset,
            "network": setting.network,
            "protocol": setting.protocol,
            "attack": result.attack.name,
            "attack_label": result.attack.label,
            "attack_spec": result.spec,
            "budget": "" if result.attack.is_plain else result.attack.budget_text,
            "defense": result.defense.name,
            "defense_label": result.defense.label,
            **_interval(result),
            "unit": UNIT,
            "source": _named(result.source),
            "table": result.table,
            "page": self._pages[result.table],
            "records": list(self._records.get(_key(result), ())),
            "errata": list(result.errata),
        }

    @cached_property
    def _pages(self) -> dict[str, str]:
        """The page of each table, by its name or, of our own, by its slug."""
        pages = {table.name: f"{table.slug}.html" for table in self.printed}
        return pages | {table.slug: f"{table.slug}.html" for table in self.ours}

    @cached_property
    def _records(self) -> dict[Key, tuple[str, ...]]:
        """The ids of the records behind our results."""
        records = {}
        for table in self.ours:
            for score in table.in_order:
                if _is_ours(score):
                    records[_key_of(score, table)] = score.records
        return records

    def _leaderboard(self, start: Start) -> Json:
        """How methods stand on one dataset and network; ours is by the recipe and with the network that it names."""
        recipes = [_setting(table) for table in self.ours if table.fixed["dataset"] == start.dataset]
        return {
            "name": start.name,
            "dataset": start.dataset,
            "network": start.network,
            "page": start.file,
            "ours": [{"protocol": recipe.protocol, "network": recipe.network} for recipe in recipes],
            "attacks": _standings(start, "attack"),
            "defenses": _standings(start, "defense"),
        }


def _setting(table: Table) -> Setting:
    """Where a table of ours was measured."""
    return Setting(table.fixed["dataset"], table.fixed["architecture"], table.fixed["protocol"])


def _is_ours(score: Score) -> bool:
    return score.measured_here is not None and bool(score.runs)


def _key(result: Result) -> Key:
    return result.table, result.spec, result.defense, result.value


def _key_of(score: Score, table: Table) -> Key:
    """The key of the result of a score."""
    assert score.measured_here is not None
    return table.slug, score.point["attack"], method_of("defense", score.runs[0].cell.defense), 100 * score.measured_here


def _standings(start: Start, axis: Axis) -> list[Json]:
    columns = start.columns[axis]
    theirs = Ranking.of(axis, start.published, columns)
    ours = Ranking.of(axis, start.ours, columns)
    by_theirs, by_ours = _by_method(theirs), _by_method(ours)
    return [
        {
            "method": _method(method),
            "published": _side(by_theirs.get(method), theirs),
            "ours": _side(by_ours.get(method), ours),
        }
        for method in dict.fromkeys([*by_theirs, *by_ours])
    ]


def _by_method(ranking: Ranking) -> dict[Method, MethodOutcomes]:
    return {row.method: row for row in ranking.rows}


def _method(method: Method) -> Json:
    budget = method.budget and {"norm": method.budget.norm, "radius": method.budget.epsilon, "text": method.budget_text}
    return {
        "axis": method.axis,
        "name": method.name,
        "label": method.label,
        "display_name": method.display_name,
        "budget": budget,
        "needs": list(method.needs),
        "is_oracle": method.is_oracle,
        "venue": method.paper.venue if method.paper else "",
    }


def _side(row: MethodOutcomes | None, ranking: Ranking) -> Json | None:
    """What papers say of a method, or what we do."""
    if row is None:
        return None
    return {
        "rank": row.rank,
        "plain": _outcome(row.plain),
        "worst_case": _against(row.worst(is_rival)),
        "ranked_worst_case": None if row.missing else _against(row.worst(ranking.counts)),
        "missing": list(row.missing),
        "outcomes": [{OTHER[row.method.axis]: other.label, **_numbers(outcome)} for other, outcome in row.outcomes.items()],
    }


def _against(worst: tuple[Method, PairOutcome] | None) -> Json | None:
    return {"against": worst[0].label, **_numbers(worst[1])} if worst else None


def _outcome(outcome: PairOutcome | None) -> Json | None:
    return _numbers(outcome) if outcome else None


def _numbers(outcome: PairOutcome) -> Json:
    sources = {_named(source): _rounded(value) for source, value in outcome.by_source.items()}
    return {**_interval(outcome), "unit": UNIT, "sources": sources, "errata": list(outcome.errata)}


def _named(source: str) -> str:
    return source or OURS


def _interval(one: Result | PairOutcome) -> dict[str, float]:
    return {"value": _rounded(one.value), "low": _rounded(one.low), "high": _rounded(one.high)}


def _rounded(value: float) -> float:
    """Without the last bits of a product of binary fractions."""
    return round(value, 6)


def _csv(rows: Sequence[Json]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        row = row | {"records": ";".join(row["records"]), "errata": "; ".join(row["errata"])}
        writer.writerow(row | {name: inert(row[name]) for name in TEXTS})
    return file.getvalue()


def _json(content: Mapping[str, Any]) -> str:
    head = {"$schema": SCHEMA, "format": FORMAT, "unit": UNIT}
    return json.dumps(head | dict(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
