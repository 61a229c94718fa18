"""What `compare.html` embeds: every attack and defense of the start page, and what is known of each pair, once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unlearnable_bench.leaderboard.pages.method_pages import AXES, Opponent, Portrait, page_of, portraits, without_plain
from unlearnable_bench.leaderboard.pages.provenance import embedded_json
from unlearnable_bench.leaderboard.pages.start import Number, Start
from unlearnable_bench.leaderboard.tables.methods import Axis, Method

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_RIVALS = 5


def keys_of(methods: Iterable[Method]) -> dict[Method, str]:
    """Return what addresses call methods: the first of an entry by its name, others by name and label: `at.at-4-255`."""
    seen: Counter[str] = Counter()
    keys = {}
    for method in methods:
        words = "-".join(re.findall("[a-z0-9]+", method.full_label.lower()))
        keys[method] = f"{method.name}.{words}" if seen[method.name] else method.name
        seen[method.name] += 1
    return keys


@dataclass(frozen=True)
class Comparison:
    """The methods that can be compared, axis by axis, those with most published results first."""

    by_axis: Mapping[Axis, Sequence[Portrait]]

    @classmethod
    def of(cls, home: Start) -> Comparison:
        """Gather all methods of the start page, whether papers print them or they were measured here."""
        return cls({axis: without_plain(portraits(home, axis)) for axis in AXES})

    def rivals(self, axis: Axis, name: str) -> list[Method]:
        """Return the methods of other entries with most results, which the page of an entry offers to compare it with."""
        firsts: dict[str, Method] = {}
        for portrait in self.by_axis[axis]:
            firsts.setdefault(portrait.method.name, portrait.method)
        own = firsts.pop(name, None)
        return list(firsts.values())[:MOST_RIVALS] if own else []

    @property
    def data(self) -> Markup:
        """Everything as JSON: texts, and the numbers that rows are sorted and counted by."""
        return embedded_json({f"{axis}s": _methods(several) for axis, several in self.by_axis.items()})


def _methods(several: Sequence[Portrait]) -> list[dict[str, Any]]:
    keys = keys_of(portrait.method for portrait in several)
    return [_method(portrait, keys[portrait.method]) for portrait in several]


def _method(portrait: Portrait, key: str) -> dict[str, Any]:
    method = portrait.method
    return {
        "key": key,
        "label": method.full_label,
        "name": method.display_name,
        "spec": method.name,
        "page": page_of(method),
        "against": [_pair(opponent) for opponent in portrait.opponents],
    }


def _pair(opponent: Opponent) -> list[Any]:
    """The other method's label and page, then text and value of what papers print, and of ours."""
    name = opponent.method.full_label
    return [name, opponent.href, *_texts(opponent.published), *_texts(opponent.ours)]


def _texts(number: Number | None) -> tuple[str, str, float | None]:
    return (number.text, number.range, round(number.value, 2)) if number else ("", "", None)
