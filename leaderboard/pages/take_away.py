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
from unlearnable_bench.leaderboard.tables.evidence import OTHER, Result, accuracies, measured, published
from unlearnable_bench.leaderboard.tables.methods import Axis, Method, method_of
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.leaderboard.tables.worst_case import Outcome, Row, Standing, is_rival

FORMAT = 1  # of both JSON files
UNIT = "percent"
OURS = "ours"  # the source of what was measured here; of published results it is the folder of the paper
SCHEMA = "schema.json"
COLUMNS = (
    *("dataset", "network", "protocol", "attack", "attack_label", "attack_spec", "budget", "defense", "defense_label"),
    *("value", "low", "high", "unit", "source", "table", "page", "records"),
)
Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Where results were measured. Recipes of papers differ, so theirs have no protocol."""

    dataset: str
    network: str
    protocol: str = ""


@dataclass(frozen=True)
class TakeAway:
    """The files of numbers of a site. `tables` are those of papers, `fast` is the one of the fast recipe."""

    starts: Sequence[Start]
    tables: Sequence[Table]
    fast: Table | None

    def files(self) -> dict[str, str]:
        """Return every file by name. The same tables give the same bytes."""
        return {
            "data/results.json": _json({"results": self.rows}),
            "data/results.csv": _csv(self.rows),
            "data/leaderboard.json": _json({"settings": [_leaderboard(start, self._ours) for start in self.starts]}),
            f"data/{SCHEMA}": asset("results.schema.json"),
        }

    @cached_property
    def rows(self) -> list[Json]:
        """Every result, published ones first."""
        rows = []
        for setting in self._settings:
            results = published(self.tables, setting.dataset, setting.network)
            rows += [self._row(setting, result) for result in results]
        if self.fast is not None and self._ours is not None:
            once = dict.fromkeys(measured(self.fast))  # a defense that stands for others repeats the best of them
            rows += [self._row(self._ours, result) for result in once]
        return rows

    @property
    def _settings(self) -> list[Setting]:
        """The datasets and networks of the papers' tables, in their order."""
        fields = [score.place.fields for _, score in accuracies(self.tables)]
        return list(dict.fromkeys(Setting(str(one["dataset"]), str(one["architecture"])) for one in fields))

    @property
    def _ours(self) -> Setting | None:
        if self.fast is None:
            return None
        fixed = self.fast.fixed
        return Setting(fixed["dataset"], fixed["architecture"], fixed["protocol"])

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
            "source": result.source or OURS,
            "table": result.table,
            "page": self._pages[result.table],
            "records": [] if result.source else list(self._records[_key(result)]),
        }

    @cached_property
    def _pages(self) -> dict[str, str]:
        """The page of each table, by its name or, of our own, by its slug."""
        ours = {} if self.fast is None else {self.fast.slug: f"{self.fast.slug}.html"}
        return {table.name: f"{table.slug}.html" for table in self.tables} | ours

    @cached_property
    def _records(self) -> dict[tuple[str, Method | None, float], tuple[str, ...]]:
        """The ids of the records behind our results."""
        scores = [] if self.fast is None else [score for score in self.fast.in_order if score.own is not None and score.runs]
        records = {}
        for score in scores:
            defense = method_of("defense", score.runs[0].cell.defense)
            records[score.point["attack"], defense, 100 * (score.own or 0.0)] = score.records
        return records


def _key(result: Result) -> tuple[str, Method, float]:
    return result.spec, result.defense, result.value


def _leaderboard(start: Start, ours: Setting | None) -> Json:
    """How methods stand on one dataset and network; ours is of the fast recipe, with the network that it names."""
    return {
        "name": start.name,
        "dataset": start.dataset,
        "network": start.network,
        "page": start.file,
        "ours": {"protocol": ours.protocol, "network": ours.network} if ours and start.ours else None,
        "attacks": _standings(start, "attack"),
        "defenses": _standings(start, "defense"),
    }


def _standings(start: Start, axis: Axis) -> list[Json]:
    columns = start.columns[axis]
    theirs = Standing.of(axis, start.published, columns)
    ours = Standing.of(axis, start.ours, columns)
    by_theirs, by_ours = _by_method(theirs), _by_method(ours)
    return [
        {
            "method": _method(method),
            "published": _side(by_theirs.get(method), theirs),
            "ours": _side(by_ours.get(method), ours),
        }
        for method in dict.fromkeys([*by_theirs, *by_ours])
    ]


def _by_method(standing: Standing) -> dict[Method, Row]:
    return {row.method: row for row in standing.rows}


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


def _side(row: Row | None, standing: Standing) -> Json | None:
    """What papers say of a method, or what we do."""
    if row is None:
        return None
    return {
        "rank": row.rank,
        "plain": _outcome(row.plain),
        "worst_case": _against(row.worst(is_rival)),
        "ranked_worst_case": None if row.missing else _against(row.worst(standing.counts)),
        "missing": list(row.missing),
        "outcomes": [{OTHER[row.method.axis]: other.label, **_numbers(outcome)} for other, outcome in row.outcomes.items()],
    }


def _against(worst: tuple[Method, Outcome] | None) -> Json | None:
    return worst and {"against": worst[0].label, **_numbers(worst[1])}


def _outcome(outcome: Outcome | None) -> Json | None:
    return outcome and _numbers(outcome)


def _numbers(outcome: Outcome) -> Json:
    sources = {source or OURS: _rounded(value) for source, value in outcome.by_source.items()}
    return {**_interval(outcome), "unit": UNIT, "sources": sources}


def _interval(one: Result | Outcome) -> dict[str, float]:
    return {"value": _rounded(one.value), "low": _rounded(one.low), "high": _rounded(one.high)}


def _rounded(value: float) -> float:
    """Without the last bits of a product of binary fractions."""
    return round(value, 6)


def _csv(rows: Sequence[Json]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        texts = {name: inert(value) for name, value in row.items() if isinstance(value, str)}
        writer.writerow({**row, **texts, "records": ";".join(row["records"])})
    return file.getvalue()


def _json(content: Mapping[str, Any]) -> str:
    head = {"$schema": SCHEMA, "format": FORMAT, "unit": UNIT}
    return json.dumps(head | dict(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
