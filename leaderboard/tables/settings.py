"""What the labels of a table stand for: every field, where the method comes from, what it costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unlearnable_bench.leaderboard.tables.groups import group_by
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.registry import CATALOGS, EntryError, Paper, child
from unlearnable_bench.registry.catalog import ConfiguredEntry as Installed
from unlearnable_bench.registry.spec import write_spec
from unlearnable_bench.results import Part

AXES = ("attack", "defense", "protocol", "dataset", "architecture")


@dataclass(frozen=True)
class SpecDetails:
    """What stands behind a label: all fields, defaults included, and where the method comes from."""

    text: str
    fields: str
    summary: str = ""
    needs: tuple[str, ...] = ()
    papers: tuple[Paper, ...] = ()
    cost: float = 1.0  # of a training with a defense, in plain ones


def settings(scores: Iterable[Score]) -> dict[str, dict[str, SpecDetails]]:
    """Return the settings of scores by axis and text."""
    measured = [score for score in scores if score.runs]
    made = {axis: _of_axis(axis, _chains(axis, measured)) for axis in AXES}
    for text, cost in _costs(_chains("defense", measured)).items():
        made["defense"][text] = replace(made["defense"][text], cost=cost)
    return made


def _chains(axis: str, scores: Iterable[Score]) -> dict[str, Sequence[Any]]:
    """What the texts of an axis stand for, in the order of the scores."""
    by_text = group_by(scores, lambda score: score.point[axis])
    return {text: _parts(alike[0], axis) for text, alike in by_text.items()}


def _of_axis(axis: str, chains: Mapping[str, Sequence[Part]]) -> dict[str, SpecDetails]:
    return {text: _setting(axis, text, chain) for text, chain in chains.items()}


def _parts(score: Score, axis: str) -> Sequence[Any]:
    if axis == "defense" and score.rest:  # stands for others, of which the cells name one each
        return CATALOGS["defenses"].resolve(score.point[axis])
    part = getattr(score.runs[0].cell, axis)
    return part if isinstance(part, tuple) else (part,)


def _setting(axis: str, text: str, chain: Sequence[Part]) -> SpecDetails:
    installed = _installed(axis, chain)
    papers = [part.entry.paper for part in installed if part.entry.paper and part.entry.paper.url]
    return SpecDetails(
        text,
        fields=" + ".join(write_spec(part.name, _values(axis, part)) for part in chain),
        summary=" ".join(part.entry.summary for part in installed),
        needs=tuple(itertools.chain.from_iterable(part.needs for part in installed)),
        papers=tuple(dict.fromkeys(papers)),
    )


def _costs(defenses: Mapping[str, Sequence[Part]]) -> dict[str, float]:
    """Return what a training with each chain of defenses costs, in plain trainings."""
    chains = {text: _installed("defense", chain) for text, chain in defenses.items()}
    asked = list(itertools.chain.from_iterable(chains.values()))
    prices = {(part.name, part.text): cost for part, cost in zip(asked, child.costs(asked), strict=True)}

    def price(chain: Iterable[Installed]) -> float:
        return 1 + sum(prices[part.name, part.text] - 1 for part in chain)

    return {text: price(chain) for text, chain in chains.items()}


def _installed(axis: str, chain: Iterable[Part]) -> list[Installed]:
    """Return those parts whose entries are here."""
    installed = []
    for part in chain:
        try:
            installed.append(CATALOGS[f"{axis}s"].stored(part.name, part.fields))
        except EntryError:  # a record of a method that is not installed here
            continue
    return installed


def _values(axis: str, part: Part) -> Mapping[str, Any]:
    """Return all fields of a part; of one whose entry is not here, those that its record has."""
    installed = _installed(axis, [part])
    return installed[0].values if installed else part.fields
