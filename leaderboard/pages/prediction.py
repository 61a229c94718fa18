"""How well the fast recipe predicts what papers print: rank correlations over pairs, a plot of them, a table of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from unlearnable_bench.leaderboard.formats import figures
from unlearnable_bench.leaderboard.formats.escaping import DASH, MINUS, escape_markdown
from unlearnable_bench.leaderboard.formats.figures import Compared
from unlearnable_bench.leaderboard.formats.words import brief
from unlearnable_bench.leaderboard.tables.correlation import (
    RESAMPLES,
    Coefficient,
    coefficient,
    kendall_of_lines,
    spearman_of_lines,
)
from unlearnable_bench.leaderboard.tables.pairing import EFFORT, STEPS, TRAINING, Pair, pairs
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.results.reference import source
from unlearnable_bench.results.table_file import Place

if TYPE_CHECKING:
    from markupsafe import Markup

GRID = "cifar10"  # whose board is compared
SEEN = frozenset(("lsp", "ops", "ar", "em", "tap"))  # attacks that were looked at while the recipe was chosen
ENOUGH, AIM = 30, 0.85  # pairs, and Spearman's rho over them
LINE = 5  # pairs of a row or column from which its order is told
HEADING = "How well the fast recipe predicts the papers"
FIGURE = "prediction"  # stem of the plot's files

RULE = (
    (
        "published value",
        "the last epoch of a ResNet-18 on CIFAR-10, all images poisoned, trained with labels by the paper's recipe",
    ),
    (
        "left out",
        "best epochs, means and changes, values that the paper contradicts elsewhere, defenses whose weights we trained",
    ),
    ("attack", "the same name and the same value of every field, but for the seed and the effort of the search"),
    ("effort of the search", ", ".join(sorted(EFFORT))),
    ("fewer steps", f"a smaller value of {', '.join(STEPS)} than in a paper that prints the pair"),
    (
        "defense",
        "the same name and the same value of every field, but for how the victim is trained; of iss, its members",
    ),
    ("how the victim is trained", "; ".join(f"{name}: {', '.join(fields)}" for name, fields in TRAINING.items())),
    ("several values", "the median; a value that one paper prints in several tables counts once"),
)
"""What counts as a pair, as the document and the page print it."""


@dataclass(frozen=True)
class Line:
    """How well the order within one row or column is predicted."""

    label: str
    tau: Coefficient


@dataclass(frozen=True)
class Selection:
    """Some of the pairs, and how well the order within them is predicted; None for fewer than three."""

    name: str
    pairs: int
    rho: Coefficient | None


@dataclass(frozen=True)
class Prediction:
    """Pairs of a board and the papers, measured or not."""

    pairs: Sequence[Pair]

    @classmethod
    def of(cls, table: Table, places: Iterable[Place]) -> Prediction:
        """Compare a table with what is printed at `places` of papers' tables."""
        return cls(pairs(table, places))

    @cached_property
    def measured(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.ours is not None]

    @cached_property
    def attacks(self) -> dict[str, str]:
        """The labels of attacks, each with the parameters alone that tell it from another of its name."""
        return brief(list(dict.fromkeys(pair.attack for pair in self.pairs)))

    @cached_property
    def defenses(self) -> dict[str, str]:
        return brief(list(dict.fromkeys(pair.defense for pair in self.pairs)))

    @cached_property
    def selections(self) -> list[Selection]:
        kinds: dict[str, Callable[[Pair], bool]] = {
            "all pairs": lambda pair: True,
            f"without {', '.join(sorted(SEEN))}": lambda pair: not pair.names & SEEN,
            "without poisons of fewer steps": lambda pair: not pair.fewer_steps,
        }
        return [self._selected(name, list(filter(kept, self.measured))) for name, kept in kinds.items()]

    def _selected(self, name: str, some: Sequence[Pair]) -> Selection:
        rho = coefficient(spearman_of_lines, _ours(some), _medians(some)) if len(some) > 2 else None
        return Selection(name, len(some), rho)

    @cached_property
    def lines(self) -> list[Line]:
        """The rows, then the columns, that have enough pairs."""
        return self._lines("attack", self.attacks) + self._lines("defense", self.defenses)

    def _lines(self, axis: str, labels: Mapping[str, str]) -> list[Line]:
        found = []
        for text, label in labels.items():
            some = [pair for pair in self.measured if getattr(pair, axis) == text]
            tau = coefficient(kendall_of_lines, _ours(some), _medians(some)) if len(some) >= LINE else None
            found += [Line(f"{axis} {label}", tau)] if tau else []
        return found

    @property
    def paragraph(self) -> list[str]:
        """What was found, sentence by sentence."""
        told = f"{len(self.measured)} of {len(self.pairs)} pairs of attack and defense that papers print are measured."
        rho = self.selections[0].rho
        if rho is None:
            return [told, "That is too few to compare an order."]
        return [told, f"Spearman's rank correlation over them is {written(rho)}.", self._verdict(rho)]

    def _verdict(self, rho: Coefficient) -> str:
        aim = f"{AIM} over at least {ENOUGH} pairs"
        if rho.pairs < ENOUGH:
            return f"The aim is {aim}; with fewer pairs the figure stands for these alone."
        return f"The aim, {aim}, is {'met' if rho.value >= AIM else 'missed'}."

    @property
    def caution(self) -> str:
        """What the intervals are, and what they are not."""
        return (
            f"In parentheses stands the interval of a bootstrap: the middle 95 % of {RESAMPLES:,} samples of as many pairs, "
            "drawn with replacement by a generator of fixed seed. Pairs of one attack are not independent, so the true "
            f"interval is wider. Kendall's tau is given for rows and columns with {LINE} pairs or more."
        )

    @cached_property
    def figure(self) -> Markup | None:
        """Published against fast, a point a pair; None where nothing is measured."""
        points = [self._point(str(number), pair) for number, pair in enumerate(self.measured, 1)]
        if not points:
            return None
        return figures.facing(
            "Test accuracy with the fast recipe against that published by papers",
            "published: median, and range of several values, %",
            "fast recipe, %",
            points,
            "attack that was not looked at while the recipe was chosen, and clean training",
            "attack that was looked at: " + ", ".join(sorted(SEEN)),
        )

    def _point(self, number: str, pair: Pair) -> Compared:
        assert pair.ours is not None
        name = f"{self.attacks[pair.attack]} / {self.defenses[pair.defense]}"
        low, middle, high = (value / 100 for value in (pair.values[0], pair.median, pair.values[-1]))
        return Compared(number, name, middle, low, high, pair.ours / 100, bool(pair.names & SEEN))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The measured pairs as a table shows them, numbered as in the figure."""
        return [
            {
                "number": number,
                "attack": self.attacks[pair.attack],
                "defense": self.defenses[pair.defense],
                "ours": pair.ours,
                "seeds": pair.score.n,
                "median": pair.median,
                "range": _range(pair.values),
                "difference": (pair.ours or 0.0) - pair.median,
                "papers": pair.papers,
                "effort": effort(pair),
            }
            for number, pair in enumerate(self.measured, 1)
        ]

    def view(self, files: Mapping[str, str]) -> dict[str, Any]:
        """What the page gets; `files` are the pages of papers' tables by their names."""
        rows = zip(self.rows, self.measured, strict=True)
        return {
            "known": len(self.pairs),
            "paragraph": self.paragraph,
            "selections": [(*_selection(one), one.rho.value if one.rho else None) for one in self.selections],
            "lines": [(*_line(one), one.tau.value) for one in self.lines],
            "rows": [row | {"links": _links(pair, files)} for row, pair in rows],
            "caution": self.caution,
            "rule": RULE,
            "drawing": self.figure,
            "file": FIGURE,
        }

    def markdown(self, picture: str) -> str:
        """Return it as a part of a document; `picture` is the file of the plot."""
        lines = [" ".join(self.paragraph), ""]
        if not self.measured:
            return "\n".join(lines[:1]) + "\n"
        lines += [f"![Published test accuracy against that of the fast recipe, one numbered point a pair]({picture})", ""]
        lines += [*_table(("pairs", "number", "Spearman's rho"), map(_selection, self.selections)), ""]
        if self.lines:
            lines += [*_table(("order within", "pairs", "Kendall's tau"), map(_line, self.lines)), ""]
        heads = (
            "",
            "attack",
            "defense",
            "fast",
            "seeds",
            "published",
            "range",
            "difference",
            "papers",
            "search for the poison",
        )
        return "\n".join([*lines, self.caution, "", *_table(heads, map(_row, self.rows))]) + "\n"


def rule() -> str:
    """Return the rule as a Markdown table."""
    return "\n".join(_table(("", "what counts"), RULE)) + "\n"


def written(found: Coefficient | None) -> str:
    """`0.91 (0.85 to 0.95)`, or a dash."""
    if found is None:
        return DASH
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})".replace("-", MINUS)


def effort(pair: Pair) -> str:
    """How the search for the poison differs from the papers', in words."""
    fewer = f"fewer steps: {', '.join(pair.fewer_steps)}" if pair.fewer_steps else ""
    return (
        "; ".join(filter(None, [fewer, f"surrogate {pair.other_surrogate}" if pair.other_surrogate else ""])) or "as published"
    )


def _links(pair: Pair, files: Mapping[str, str]) -> list[dict[str, str]]:
    """The papers of a pair, each with the page of the first table that prints it."""
    first: dict[str, str] = {}
    for one in pair.published:
        first.setdefault(one.paper, one.table)
    return [{"short": source(paper).short, "file": files.get(table, "")} for paper, table in first.items()]


def _ours(some: Sequence[Pair]) -> list[float]:
    return [pair.ours or 0.0 for pair in some]


def _medians(some: Sequence[Pair]) -> list[float]:
    return [pair.median for pair in some]


def _range(values: Sequence[float]) -> str:
    return f"{values[0]:.1f} to {values[-1]:.1f}" if len(values) > 1 else ""


def _selection(one: Selection) -> tuple[str, ...]:
    return one.name, str(one.pairs), written(one.rho)


def _line(one: Line) -> tuple[str, ...]:
    return one.label, str(one.tau.pairs), written(one.tau)


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (f"{row['ours']:.1f}", str(row["seeds"]), f"{row['median']:.1f}", row["range"])
    difference = f"{row['difference']:+.1f}".replace("-", MINUS)
    papers = ", ".join(source(paper).short for paper in row["papers"])
    return str(row["number"]), row["attack"], row["defense"], *numbers, difference, papers, row["effort"]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return [*lines, *(f"| {' | '.join(map(escape_markdown, row))} |" for row in rows)]
