"""What the page of an attack or a defense begins with: what papers print of it, and beside it what was measured here.

An entry is one method or several: an attack within each of its budgets, a defense in each setting that its label shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from unlearnable_bench.leaderboard.pages.start import Number, Start
from unlearnable_bench.leaderboard.tables.evidence import OTHER, Result
from unlearnable_bench.leaderboard.tables.groups import group_by
from unlearnable_bench.leaderboard.tables.methods import Axis, Method
from unlearnable_bench.leaderboard.tables.table import slugged
from unlearnable_bench.leaderboard.tables.worst_case import MethodOutcomes, PairOutcome, is_rival

AXES: tuple[Axis, ...] = ("attack", "defense")
Printer = Callable[[PairOutcome | None], Number | None]  # an outcome as a cell shows it


@dataclass(frozen=True)
class Opponent:
    """A row of the matrix: a method of the other axis, and the accuracies of the two together."""

    method: Method
    specs: str  # as tables ran it
    published: Number | None
    ours: Number | None

    @property
    def href(self) -> str:
        return page_of(self.method)

    @property
    def remark(self) -> str:
        """Why it is nobody's worst case; '' if it can be."""
        if self.method.is_oracle:
            return "chosen by the test accuracy"
        return f"needs {', '.join(self.method.needs)}" if self.method.needs else ""


@dataclass(frozen=True)
class Extremes:
    """What one source says of a method: an attack undefended or a defense on clean images, and its worst case."""

    plain: Number | None
    worst: Number | None
    against: str  # label of the method that the worst case is of

    @classmethod
    def of(cls, row: MethodOutcomes, printer: Printer) -> Extremes:
        """Find the worst case of a row among the methods that can be one."""
        plain = printer(row.plain)
        worst = row.worst(is_rival)
        if worst is None:
            return cls(plain, None, "")
        return cls(plain, printer(worst[1]), worst[0].label)


@dataclass(frozen=True)
class Portrait:
    """What is known of one method. `published` and `ours` are its rows of results, empty where there are none."""

    method: Method
    published: MethodOutcomes
    ours: MethodOutcomes
    printer: Printer

    @property
    def results(self) -> int:
        """How many published results it has."""
        return sum(len(outcome.results) for outcome in self.published.outcomes.values())

    @property
    def specs(self) -> str:
        """The specs that tables ran, for a tooltip."""
        axis = self.method.axis
        outcomes = (*self.published.outcomes.values(), *self.ours.outcomes.values())
        return "; ".join(dict.fromkeys(_specs(axis, outcomes)))

    @property
    def in_papers(self) -> Extremes:
        return Extremes.of(self.published, self.printer)

    @property
    def here(self) -> Extremes:
        return Extremes.of(self.ours, self.printer)

    @cached_property
    def opponents(self) -> list[Opponent]:
        """The methods of the other axis: the plain one, then what hurts most by what papers print, then by ours."""
        methods = {**self.published.outcomes, **self.ours.outcomes}
        return sorted(map(self._opponent, methods), key=self._order)

    def _opponent(self, other: Method) -> Opponent:
        published, ours = self.published.outcomes.get(other), self.ours.outcomes.get(other)
        outcomes = filter(None, (published, ours))
        specs = "; ".join(_specs(other.axis, outcomes))
        return Opponent(other, specs, self.printer(published), self.printer(ours))

    def _order(self, opponent: Opponent) -> tuple[bool, bool, float, str]:
        value = _value(opponent)
        hurts = -value if self.method.axis == "attack" else value
        return not opponent.method.is_plain, opponent.published is None, hurts, opponent.method.label

    @property
    def contested(self) -> int:
        """On how many rows papers lie more than five points apart."""
        return sum(outcome.is_contested for outcome in self.published.outcomes.values())


def _specs(axis: Axis, outcomes: Iterable[PairOutcome]) -> list[str]:
    """The specs of an axis that some outcomes are of, each once."""
    specs: set[str] = set()
    for outcome in outcomes:
        specs.update(result.spec_of(axis) for result in outcome.results)
    return sorted(specs)


def _value(opponent: Opponent) -> float:
    """What a row is sorted by: what papers print, else ours."""
    number = opponent.published or opponent.ours
    return number.value if number else 0.0


def page_of(method: Method) -> str:
    """Return the page of a method's entry."""
    return f"{method.axis}.{slugged(method.name)}.html"


def portraits(start: Start, axis: Axis, name: str = "") -> list[Portrait]:
    """Return what is known of the methods that an entry is, that with most published results first; of all without a name."""
    theirs = _rows(start.published, axis, name)
    ours = _rows(start.ours, axis, name)
    printer = partial(start.number, top=start.clean)
    made = []
    for method in {**theirs, **ours}:
        empty = MethodOutcomes(method, {})
        made.append(Portrait(method, theirs.get(method, empty), ours.get(method, empty), printer))
    return sorted(made, key=lambda portrait: (-portrait.results, portrait.method.label))


def without_plain(several: Iterable[Portrait]) -> list[Portrait]:
    """Return those that a card shows: clean images, and no defense, have no worst case of their own."""
    return [portrait for portrait in several if not portrait.method.is_plain]


def _rows(results: Iterable[Result], axis: Axis, name: str) -> dict[Method, MethodOutcomes]:
    chosen = [result for result in results if name in ("", result.method(axis).name)]
    grouped = group_by(chosen, lambda result: result.method(axis))
    return {method: MethodOutcomes.of(method, several) for method, several in grouped.items()}


@dataclass(frozen=True)
class Elsewhere:
    """Another dataset or network on which papers print results of a method."""

    text: str
    href: str
    results: int


def elsewhere(starts: Sequence[Start], axis: Axis, name: str) -> list[Elsewhere]:
    """Return the start pages, but for the first, that have results of an entry."""
    links = []
    for start in starts[1:]:
        count = len([result for result in start.published if result.method(axis).name == name])
        links.append(Elsewhere(start.name, f"{start.file}#{axis}s", count))
    return [link for link in links if link.results]


@dataclass(frozen=True)
class Facts:
    """Everything that the top of a page gets of an entry's results."""

    axis: Axis
    setting: str  # the dataset and the network of published results, in words
    portraits: Sequence[Portrait]
    elsewhere: Sequence[Elsewhere]

    @classmethod
    def of(cls, home: Start, starts: Sequence[Start], axis: Axis, name: str) -> Facts:
        """Gather the results of an entry; `home` is the setting that is shown in full."""
        return cls(axis, home.name, portraits(home, axis, name), elsewhere(starts, axis, name))

    @property
    def card(self) -> list[Portrait]:
        return without_plain(self.portraits)

    @property
    def results(self) -> int:
        """How many published results all portraits rest on."""
        return sum(portrait.results for portrait in self.portraits)

    @property
    def other(self) -> Axis:
        return OTHER[self.axis]

    @property
    def plain(self) -> str:
        """What a method is without the other axis, in words."""
        return "undefended" if self.axis == "attack" else "clean images"

    @property
    def worst(self) -> str:
        return "best defense" if self.axis == "attack" else "strongest attack"
