"""Things by what they share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Shared = TypeVar("Shared", bound=Hashable)


def group_by(items: Iterable[Item], shared: Callable[[Item], Shared]) -> defaultdict[Shared, list[Item]]:
    """Return the items by what `shared` says of them, in the order in which they came; a group that is not there is empty."""
    groups: defaultdict[Shared, list[Item]] = defaultdict(list)
    for item in items:
        groups[shared(item)].append(item)
    return groups
