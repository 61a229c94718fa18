"""How well the fast recipe predicts what papers print: rank correlations over pairs, a plot of them, a table of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from unlearnable_bench.leaderboard.formats import figures
from unlearnable_bench.leaderboard.formats.escaping import DASH, MINUS, escape_markdown
from unlearnable_bench.leaderboard.formats.figures import Compared
from unlearnable_bench.leaderboard.formats.words import brief, listed
from unlearnable_bench.leaderboard.tables.correlation import (
    RESAMPLES,
    Coefficient,
    coefficient,
    kendall_of_lines,
    spearman_of_lines,
)
from unlearnable_bench.leaderboard.tables.groups import first_of_each, group_by
from unlearnable_bench.leaderboard.tables.naming import labels_of
from unlearnable_bench.leaderboard.tables.pairing import EFFORT, STEPS, TRAINING, Pair, pairs
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.results.reference import source
from unlearnable_bench.results.table_file import ScoreRequest

if TYPE_CHECKING:
    from markupsafe import Markup

    from unlearnable_bench.leaderboard.tables.correlation import Statistic

GRID = "cifar10"  # whose table is compared
SEEN = frozenset(("lsp", "ops", "ar", "em", "tap"))  # attacks that were looked at while the recipe was chosen
ENOUGH, AIM = 30, 0.85  # pairs, and Spearman's rho over them
LINE = 5  # pairs of a row or column from which its order is told
HEADING = "How well the fast recipe predicts the papers"
FIGURE = "prediction"  # stem of the plot's files

HEADS = (  # of the table of pairs
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
class PredictionRow:
    """How well the order within one row or column is predicted."""

    label: str
    tau: Coefficient
    name: str  # what readers call it

    @property
    def row(self) -> tuple[str, ...]:
        """Its line of a table."""
        return self.label, str(self.tau.pairs), written(self.tau)


@dataclass(frozen=True)
class Selection:
    """Some of the pairs, and how well the order within them is predicted; None for fewer than three."""

    name: str
    pairs: int
    rho: Coefficient | None

    @property
    def row(self) -> tuple[str, ...]:
        """Its line of a table."""
        return self.name, str(self.pairs), written(self.rho)

    @property
    def value(self) -> float | None:
        return self.rho.value if self.rho else None


@dataclass(frozen=True)
class Prediction:
    """Pairs of a table of ours and the papers, measured or not."""

    pairs: Sequence[Pair]

    @classmethod
    def of(cls, table: Table, requests: Iterable[ScoreRequest]) -> Prediction:
        """Compare a table with what is printed for `requests` of papers' tables."""
        return cls(pairs(table, requests))

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
    def names(self) -> dict[str, dict[str, str]]:
        """What readers call attacks and defenses, by their specs."""
        specs = {"attack": self.attacks, "defense": self.defenses}
        return {axis: labels_of(axis, labels) for axis, labels in specs.items()}

    @cached_property
    def selections(self) -> list[Selection]:
        kinds: dict[str, Callable[[Pair], bool]] = {
            "all pairs": lambda pair: True,
            f"without {', '.join(sorted(SEEN))}": lambda pair: not pair.names & SEEN,
            "without poisons of fewer steps": lambda pair: not pair.fewer_steps,
        }
        return [self._selected(name, belongs) for name, belongs in kinds.items()]

    def _selected(self, name: str, belongs: Callable[[Pair], bool]) -> Selection:
        selected = [pair for pair in self.measured if belongs(pair)]
        return Selection(name, len(selected), _order(spearman_of_lines, selected, at_least=3))

    @cached_property
    def lines(self) -> list[PredictionRow]:
        """The rows, then the columns, that have enough pairs."""
        return self._lines("attack", self.attacks) + self._lines("defense", self.defenses)

    def _lines(self, axis: str, labels: Mapping[str, str]) -> list[PredictionRow]:
        pairs_of = group_by(self.measured, lambda pair: getattr(pair, axis))
        taus = {label: _order(kendall_of_lines, pairs_of[text], at_least=LINE) for text, label in labels.items()}
        names = {label: self.names[axis][text] for text, label in labels.items()}
        return [PredictionRow(f"{axis} {label}", tau, f"{axis} {names[label]}") for label, tau in taus.items() if tau]

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
                "difference": cast(float, pair.ours) - pair.median,
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
            "selections": [(*selection.row, selection.value) for selection in self.selections],
            "lines": [(line.name, *line.row, line.tau.value) for line in self.lines],
            "rows": [row | self._named(pair) | {"links": _links(pair, files)} for row, pair in rows],
            "caution": self.caution,
            "rule": RULE,
            "drawing": self.figure,
            "file": FIGURE,
        }

    def _named(self, pair: Pair) -> dict[str, str]:
        """What readers call the attack and the defense of a pair."""
        return {"attack_name": self.names["attack"][pair.attack], "defense_name": self.names["defense"][pair.defense]}

    def markdown(self, picture: str) -> str:
        """Return it as a part of a document; `picture` is the file of the plot."""
        lines = [" ".join(self.paragraph), ""]
        if not self.measured:
            return "\n".join(lines[:1]) + "\n"
        lines += [f"![Published test accuracy against that of the fast recipe, one numbered point a pair]({picture})", ""]
        lines += [*_table(("pairs", "number", "Spearman's rho"), [selection.row for selection in self.selections]), ""]
        if self.lines:
            lines += [*_table(("order within", "pairs", "Kendall's tau"), [line.row for line in self.lines]), ""]
        return "\n".join([*lines, self.caution, "", *_table(HEADS, [_row(row) for row in self.rows])]) + "\n"


def rule() -> str:
    """Return the rule as a Markdown table."""
    return "\n".join(_table(("", "what counts"), RULE)) + "\n"


def written(order: Coefficient | None) -> str:
    """`0.91 (0.85 to 0.95)`, or a dash."""
    if order is None:
        return DASH
    return f"{order.value:.2f} ({order.low:.2f} to {order.high:.2f})".replace("-", MINUS)


def effort(pair: Pair) -> str:
    """How the search for the poison differs from the papers', in words."""
    fewer = f"fewer steps: {', '.join(pair.fewer_steps)}" if pair.fewer_steps else ""
    surrogate = f"surrogate {pair.other_surrogate}" if pair.other_surrogate else ""
    return listed(fewer, surrogate) or "as published"


def _links(pair: Pair, files: Mapping[str, str]) -> list[dict[str, str]]:
    """The papers of a pair, each with the page of the first table that prints it."""
    first = first_of_each(pair.published, lambda value: value.paper)
    return [{"short": source(value.paper).short, "file": files.get(value.table, "")} for value in first]


def _order(statistic: Statistic, measured: Sequence[Pair], at_least: int) -> Coefficient | None:
    """How well the order of measured pairs is predicted; None for fewer than `at_least`."""
    if len(measured) < at_least:
        return None
    ours = [cast(float, pair.ours) for pair in measured]
    return coefficient(statistic, ours, [pair.median for pair in measured])


def _range(values: Sequence[float]) -> str:
    return f"{values[0]:.1f} to {values[-1]:.1f}" if len(values) > 1 else ""


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (f"{row['ours']:.1f}", str(row["seeds"]), f"{row['median']:.1f}", row["range"])
    difference = f"{row['difference']:+.1f}".replace("-", MINUS)
    papers = ", ".join(source(paper).short for paper in row["papers"])
    return str(row["number"]), row["attack"], row["defense"], *numbers, difference, papers, row["effort"]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for row in rows:
        texts = [escape_markdown(text) for text in row]
        lines.append(f"| {' | '.join(texts)} |")
    return lines
