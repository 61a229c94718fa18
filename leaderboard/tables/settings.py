"""What the labels of a table stand for: every field, where the method comes from, what it costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from leaderboard.tables.score import Score
from registry import CATALOGS, EntryError, Paper, child
from registry.catalog import Part as Installed
from registry.item import write
from results import Part

NAMED = attrgetter("name", "text")
AXES = ("attack", "defense", "protocol", "dataset", "architecture")


@dataclass(frozen=True)
class Setting:
    """What stands behind a label: all fields, defaults included, and where the method comes from."""

    text: str
    fields: str
    summary: str = ""
    needs: tuple[str, ...] = ()
    papers: tuple[Paper, ...] = ()
    cost: float = 1.0  # of a training with a defense, in plain ones


def settings(scores: Iterable[Score]) -> dict[str, dict[str, Setting]]:
    """Return the settings of scores by axis and text."""
    parts: dict[str, dict[str, Sequence[Any]]] = {axis: {} for axis in AXES}
    for score in scores:
        for axis in AXES if score.runs else ():
            text = score.point[axis]
            if text not in parts[axis]:
                parts[axis][text] = _parts(score, axis)
    made = {axis: {text: _setting(axis, text, chain) for text, chain in chains.items()} for axis, chains in parts.items()}
    for text, cost in _costs(parts["defense"]).items():
        made["defense"][text] = replace(made["defense"][text], cost=cost)
    return made


def _parts(score: Score, axis: str) -> Sequence[Any]:
    if axis == "defense" and score.rest:  # stands for others, of which the cells name one each
        return CATALOGS["defenses"].resolve(score.point[axis])
    part = getattr(score.runs[0].cell, axis)
    return part if isinstance(part, tuple) else (part,)


def _setting(axis: str, text: str, chain: Sequence[Part]) -> Setting:
    installed = _installed(axis, chain)
    papers = filter(None, map(attrgetter("entry.paper"), installed))
    return Setting(
        text,
        fields=" + ".join(write(part.name, _values(axis, part)) for part in chain),
        summary=" ".join(map(attrgetter("entry.summary"), installed)),
        needs=tuple(itertools.chain.from_iterable(map(attrgetter("needs"), installed))),
        papers=tuple(dict.fromkeys(filter(attrgetter("url"), papers))),
    )


def _costs(defenses: Mapping[str, Sequence[Part]]) -> dict[str, float]:
    """Return what a training with each chain of defenses costs, in plain trainings."""
    chains = {text: _installed("defense", chain) for text, chain in defenses.items()}
    asked = list(itertools.chain.from_iterable(chains.values()))
    prices = dict(zip(map(NAMED, asked), child.costs(asked), strict=True))

    def price(chain: Iterable[Installed]) -> float:
        return 1 + sum(prices[NAMED(part)] - 1 for part in chain)

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
