"""Aggregates of a printed table: means, extremes, differences and ratios, of what was measured and of what is printed alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from statistics import fmean
from typing import Any

from unlearnable_bench.leaderboard.tables.groups import group_by, known_items
from unlearnable_bench.results.table_file import AxisValue, ScoreRequest

Index = Mapping[tuple[tuple[str, str], ...], ScoreRequest]
"""The requests of a table by their labels."""
NumbersOf = Callable[[ScoreRequest], Mapping[int, float]]  # by seed
OVER_AN_AXIS = ("mean", "min", "max")
EXTREMES = ("min", "max")
NO_MEMBER = {"attack": "none"}  # what does not count along an axis


def _difference(pair: Sequence[float]) -> float:
    first, second = pair
    return first - second


def _ratio(pair: Sequence[float]) -> float | None:
    """None where the second is zero."""
    first, second = pair
    return first / second if second else None


AGGREGATES: dict[str, Callable[[Sequence[float]], float | None]] = {
    "mean": fmean,
    "min": min,
    "max": max,
    "difference": _difference,
    "ratio": _ratio,
}


def labels_key(by_axis: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The labels of a score as a key."""
    return tuple(sorted(by_axis.items()))


def operands(request: ScoreRequest, index: Index) -> list[ScoreRequest]:
    """The scores that an aggregate is made of: those averaged, or the two compared; empty where the layout lacks them."""
    aggregate = request.aggregate
    if aggregate is None:
        return []
    if aggregate.aggregate in OVER_AN_AXIS:
        return _along(request, aggregate.of or request.own, index)
    return _pair(request, aggregate, index)


def _along(request: ScoreRequest, axis: str, index: Index) -> list[ScoreRequest]:
    """The measured scores that differ from a score in the label of one axis; clean training is no attack."""
    beside = group_by(index.values(), lambda other: _setting(other, axis))[_setting(request, axis)]
    return [other for other in beside if other.runs and other.fields.get(axis) != NO_MEMBER.get(axis, "")]


def _setting(request: ScoreRequest, axis: str) -> tuple[Any, ...]:
    """What a score shares with those that differ from it in the label of one axis alone."""
    return (labels_key({**request.labels, axis: ""}), request.fields["measure"])


def _pair(request: ScoreRequest, aggregate: AxisValue, index: Index) -> list[ScoreRequest]:
    base = {**request.labels, request.own: aggregate.base}
    pair = [labels_key(base), labels_key({**base, aggregate.of or request.own: aggregate.to})]
    return [index[key] for key in pair] if set(pair) <= set(index) else []


def basis(request: ScoreRequest, index: Index) -> list[ScoreRequest]:
    """The measured scores behind a score: itself, or what its aggregate is made of."""
    if request.aggregate is None:
        return [request]
    return list(chain.from_iterable(basis(operand, index) for operand in operands(request, index)))


def by_shared_seed(parts: Sequence[Mapping[int, float]]) -> dict[int, list[float]]:
    """Return several numbers per seed seed by seed, of those seeds alone that all of them have."""
    if not parts:
        return {}
    seeds = set(parts[0]).intersection(*parts)
    return {seed: [part[seed] for part in parts] for seed in sorted(seeds)}


def combined(request: ScoreRequest, index: Index, numbers: NumbersOf) -> Mapping[int, float]:
    """Evaluate an aggregate: `numbers(request)` gives them by seed; only seeds that all parts have count."""
    if request.aggregate is None:
        return numbers(request)
    kind = request.aggregate.aggregate
    parts = [combined(operand, index, numbers) for operand in operands(request, index)]
    if kind in EXTREMES:  # of what there is; a mark says of how much
        parts = [part for part in parts if part]
    return known_items({seed: AGGREGATES[kind](values) for seed, values in by_shared_seed(parts).items()})
