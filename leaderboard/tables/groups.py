"""Things by what they share, by rank, and without what is left out or unknown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterable, Mapping
from typing import Any, TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key")
Shared = TypeVar("Shared", bound=Hashable)


def group_by(items: Iterable[Item], shared: Callable[[Item], Shared]) -> defaultdict[Shared, list[Item]]:
    """Return the items by what `shared` says of them, in the order in which they came; a group that is not there is empty."""
    groups: defaultdict[Shared, list[Item]] = defaultdict(list)
    for item in items:
        groups[shared(item)].append(item)
    return groups


def highest(items: Iterable[Item], rank: Callable[[Item], Any]) -> list[Item]:
    """Return the items of the highest rank, in the order in which they came; none of none."""
    groups = group_by(items, rank)
    return groups[max(groups, default=None)]


def without(items: Iterable[Item], left_out: Container[Item]) -> list[Item]:
    """Return the items that are not left out."""
    return [item for item in items if item not in left_out]


def known(values: Iterable[Item | None]) -> list[Item]:
    """Return the values that are not None."""
    return [value for value in values if value is not None]


def known_items(values: Mapping[Key, Item | None]) -> dict[Key, Item]:
    """Return the items of a dictionary whose values are not None."""
    return {key: value for key, value in values.items() if value is not None}


def first_of_each(items: Iterable[Item], shared: Callable[[Item], Hashable]) -> list[Item]:
    """Return the first item of every such group."""
    return [group[0] for group in group_by(items, shared).values()]
