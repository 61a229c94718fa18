"""Aggregates of a printed table: means, extremes, differences and ratios, of what was measured and of what is printed alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from results.table_file import Item, Place

Index = Mapping[tuple[tuple[str, str], ...], Place]
"""The places of a table by their labels."""
OVER_AN_AXIS = ("mean", "min", "max")
EXTREMES = ("min", "max")

AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": fmean,
    "min": min,
    "max": max,
    "difference": lambda pair: pair[0] - pair[1],
    "ratio": lambda pair: pair[0] / pair[1],
}


def labels(by_axis: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The labels of a place as a key."""
    return tuple(sorted(by_axis.items()))


def operands(place: Place, index: Index) -> list[Place]:
    """The places that an aggregate is made of: those averaged, or the two compared; empty where the layout lacks them."""
    item = place.aggregate
    if item is None:
        return []
    if item.aggregate in OVER_AN_AXIS:
        return _along(place, item.of or place.own, index)
    return _pair(place, item, index)


def _along(place: Place, axis: str, index: Index) -> list[Place]:
    """The measured places that differ from a place in the label of one axis; clean training is no attack."""

    def beside(other: Place) -> bool:
        same = {**place.labels, axis: ""} == {**other.labels, axis: ""}
        alike = other.fields["measure"] == place.fields["measure"]
        no_attack = axis == "attack" and other.fields["attack"] == "none"
        return all((same, alike, other.runs, not no_attack))

    return list(filter(beside, index.values()))


def _pair(place: Place, item: Item, index: Index) -> list[Place]:
    base = {**place.labels, place.own: item.base}
    compared = {**base, item.of or place.own: item.to}
    pair = [index.get(labels(base)), index.get(labels(compared))]
    found = list(filter(None, pair))
    return found if len(found) == len(pair) else []


def basis(place: Place, index: Index) -> list[Place]:
    """The measured places behind a place: itself, or what its aggregate is made of."""
    if place.aggregate is None:
        return [place]
    return [part for operand in operands(place, index) for part in basis(operand, index)]


def combined(place: Place, index: Index, numbers: Callable[[Place], Mapping[int, float]]) -> Mapping[int, float]:
    """Evaluate an aggregate: `numbers(place)` gives them by seed; only seeds that all parts have count."""
    if place.aggregate is None:
        return numbers(place)
    kind = place.aggregate.aggregate
    parts = [combined(operand, index, numbers) for operand in operands(place, index)]
    if kind in EXTREMES:  # of what there is; a mark says of how much
        parts = list(filter(None, parts))
    if not parts:
        return {}
    per_seed = {}
    seeds = set.intersection(*map(set, parts))
    for seed in sorted(seeds):
        values = [part[seed] for part in parts]
        if (kind, values[-1]) != ("ratio", 0):
            per_seed[seed] = AGGREGATES[kind](values)
    return per_seed
