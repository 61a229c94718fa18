"""What readers call the rows and columns of a table, and the specs that stand behind: `AT 8/255` for `at(step_size=2/255)`."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from unlearnable_bench.leaderboard.tables.ranking import Labels, joined
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.registry import EntryError, resolve
from unlearnable_bench.registry.labels import SELF_TRAINED, labels
from unlearnable_bench.registry.spec import SELFTRAINED

METHODS = ("attack", "defense")


def labels_of(axis: str, texts: Collection[str]) -> dict[str, str]:
    """Return what readers call some specs of an axis; a spec of what is not installed here stays as it is.

    The spec of a paper's table is its method with the paper's weights; what we trained ourselves says so in its text.
    """
    chains = {}
    for text in dict.fromkeys(texts):
        with contextlib.suppress(EntryError):
            chains[text] = resolve(f"{axis}s", text)
    named = dict(zip(chains, labels(list(chains.values())), strict=True))
    return {text: _as_written(text, named.get(text, text)) for text in texts}


def _as_written(text: str, name: str) -> str:
    return name if SELFTRAINED in text else name.replace(SELF_TRAINED, "")


def name_with_fields(axis: str, text: str) -> str:
    """Return the proper name of a spec with the fields that it gives, in words: `CIFAR-10 (per class 200)`."""
    name, bracket, fields = text.partition("(")
    (proper,) = labels_of(axis, [name]).values()
    words = fields.replace("_", " ").replace("=", " ").replace(",", ", ")
    return f"{proper} ({words}" if bracket else proper


@dataclass(frozen=True)
class Names:
    """What readers call each row and each column of a table, by its text."""

    rows: Mapping[str, str]
    columns: Mapping[str, str]

    @classmethod
    def of(cls, table: Table) -> Names:
        return cls(_names(table.rows, table.row_axes), _names(table.columns, table.column_axes))

    @property
    def specs(self) -> dict[str, str]:
        """The text behind each name that is not that text."""
        pairs = [*self.rows.items(), *self.columns.items()]
        return {name: text for text, name in pairs if name != text}


def _names(lines: Sequence[Labels], axes: Sequence[str]) -> dict[str, str]:
    """The rows, or the columns; two that would be called alike keep their texts."""
    known = {place: labels_of(axis, [line[place] for line in lines]) for place, axis in enumerate(axes) if axis in METHODS}
    named = {}
    for line in lines:
        parts = [known.get(place, {}).get(text, text) for place, text in enumerate(line)]
        named[joined(line)] = joined(tuple(parts))
    count = Counter(named.values())
    return {text: name if count[name] == 1 else text for text, name in named.items()}
