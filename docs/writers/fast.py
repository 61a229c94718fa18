"""The fast recipe in documents, from records alone: what it is, what it costs, how long it trains, its curves."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from unlearnable_bench.leaderboard.formats import figures, words
from unlearnable_bench.leaderboard.formats.escaping import DASH, MINUS, escape_markdown
from unlearnable_bench.leaderboard.formats.figures import Line
from unlearnable_bench.leaderboard.pages.prediction import FIGURE, GRID, Prediction
from unlearnable_bench.leaderboard.tables.lookup import look_up
from unlearnable_bench.leaderboard.tables.measured import grid_table
from unlearnable_bench.leaderboard.tables.pairing import DATASET, FAST, OUR_NETWORK
from unlearnable_bench.leaderboard.tables.ranking import Labels, joined
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.registry import PROTOCOLS, Protocol, resolve
from unlearnable_bench.registry.spec import write_value
from unlearnable_bench.results import Record, Records, read_grid
from unlearnable_bench.results.record import plain
from writers import toy

if TYPE_CHECKING:
    from markupsafe import Markup

CURVED = ("none", "lsp", "ops", "ar", "em", "tap")  # attacks whose curves are shown
DEFENSES = {"none": "no defense", "jpeg": "JPEG 10"}  # that they are shown under, by name
RATIOS = {0.5: "half", 1.0: "once", 2.0: "twice"}  # the lengths that are compared, times the recipe's
TOLERANCE = 1.5  # points that twice the length may gain
BROKEN, REPAIRED = 40.0, 70.0  # %: where an undefended poison should end below, and JPEG 10 above
ROWS = 8  # of the table, in the README
SETTING = {"dataset": DATASET, "architecture": OUR_NETWORK, "ratio": "1", "part": "all"}
LENGTH = {"epochs", "scale"}  # fields of a protocol that say how long it trains
MEASURED = ("done", "partial")  # states of a score whose number is of today's versions
NOTHING = "Not measured yet.\n"


@dataclass(frozen=True)
class Group:
    """Records that differ in their seed alone."""

    attack: str
    defense: str
    epochs: int
    records: tuple[Record, ...]

    @property
    def name(self) -> str:
        """The name of its attack; of a chain all of it."""
        return "+".join(part.name for part in self.records[0].cell.attack)

    @cached_property
    def accuracies(self) -> list[float]:
        """The test accuracy of every seed, in percent."""
        return [toy.accuracy(record) for record in self.records]

    @property
    def mean(self) -> float:
        return fmean(self.accuracies)

    @property
    def spread(self) -> str:
        """`92.4 ± 0.2`, or `92.4` of one seed."""
        deviation = f" ± {stdev(self.accuracies):.1f}" if len(self.accuracies) > 1 else ""
        return f"{self.mean:.1f}{deviation}"

    @property
    def curve(self) -> list[tuple[float, float]]:
        """Epochs that were judged, and the mean test accuracy over seeds, a fraction."""
        curves = [record.metrics.curve for record in self.records if record.metrics]
        means = [fmean(values) for values in zip(*(curve.test_acc for curve in curves), strict=False)]
        epochs = curves[0].epochs or range(1, len(means) + 1)
        return [(float(epoch), mean) for epoch, mean in zip(epochs, means, strict=False)]


@dataclass(frozen=True)
class Fast:
    """What the records of a folder say of the fast recipe."""

    records: Records

    # recipe and cost

    def recipe(self) -> str:
        """Return the recipe in the words of its entry, and its fields as far as they are its own."""
        entry, usual = PROTOCOLS.entry(FAST), {field.name: field.default for field in dataclasses.fields(Protocol)}
        own = [field for field in entry.fields if not field.hidden and field.default != usual.get(field.name)]
        rows = [(f"`{field.name}`", _value(field.default), escape_markdown(field.comment)) for field in own]
        paragraphs = (" ".join(part.split()) for part in entry.doc.split("\n\n"))
        return "\n\n".join([*paragraphs, _table(("field", "value", "what it is"), rows)])

    def cost(self) -> str:
        """Return the Markdown table of clean trainings, seed by seed."""
        clean = self._clean.get(self.length)
        if clean is None:
            return NOTHING
        rows = []
        for record, accuracy in zip(clean.records, clean.accuracies, strict=True):
            precision = str(record.numerics.get("dtype", DASH))
            rows.append((str(record.cell.seed), f"{accuracy:.2f}", _core_minutes([record]), precision, record.device))
        rows.append(("mean", f"{clean.mean:.2f}", _core_minutes(clean.records), "", ""))
        return _table(("seed", "clean accuracy, %", "core-minutes", "precision", "processor"), rows)

    # length

    @cached_property
    def length(self) -> int:
        """Epochs of the recipe."""
        return int(resolve("protocols", FAST)[0].fields["epochs"])

    def lengths(self) -> str:
        """Return the Markdown table of clean accuracy by length, and the length that the rule gives."""
        if not self._clean:
            return NOTHING
        gains = {epochs: self._gain(epochs) for epochs in self._clean}
        rows = [
            (str(epochs), group.spread, str(len(group.records)), _signed(gains[epochs]))
            for epochs, group in self._clean.items()
        ]
        chosen = [epochs for epochs, gain in gains.items() if epochs % 2 == 0 and gain <= TOLERANCE]
        told = f"The rule gives {chosen[0]} epochs" if chosen else "No length that was tried fulfils the rule yet"
        heads = ("epochs", "clean accuracy, %", "seeds", "twice the epochs, points")
        return _table(heads, rows) + f"\n{told}; the recipe has {self.length}.\n"

    @cached_property
    def _clean(self) -> dict[int, Group]:
        """Clean trainings by their epochs, the shortest first."""
        return {group.epochs: group for group in self.groups if (group.attack, group.defense) == ("none", "none")}

    def _gain(self, epochs: int) -> float:
        """Points of clean accuracy that twice the epochs add; not a number where that was not trained."""
        double = self._clean.get(2 * epochs)
        return math.nan if double is None else double.mean - self._clean[epochs].mean

    @cached_property
    def groups(self) -> list[Group]:
        """All trainings by the recipe at any length, on all of the data and by our network."""
        found: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
        for record in filter(self._counts, self.records):
            found[record.cell.texts["attack"], record.cell.texts["defense"], _epochs(record)].append(record)
        return [Group(*key, tuple(sorted(several, key=_seed))) for key, several in sorted(found.items())]

    def _counts(self, record: Record) -> bool:
        cell = record.cell
        if cell.protocol.name != FAST or cell.measure != "accuracy" or not SETTING.items() <= cell.texts.items():
            return False
        run = look_up(self.records, cell, "")
        return self._recipe == _without_length(cell.protocol.fields) and run.state == "done" and run.ours

    @cached_property
    def _recipe(self) -> dict[str, object]:
        return _without_length(resolve("protocols", FAST)[0].fields)

    # curves

    @cached_property
    def curved(self) -> dict[tuple[str, float], list[Group]]:
        """The trainings whose curves are shown, by the name of the defense and the length, in their orders."""
        found: dict[tuple[str, float], list[Group]] = {(defense, ratio): [] for defense in DEFENSES for ratio in RATIOS}
        for group in sorted(self.groups, key=_place_of_attack):
            key = (group.records[0].cell.texts["defense"].partition("(")[0], group.epochs / self.length)
            if group.name in CURVED and key in found:
                found[key].append(group)
        return {key: several for key, several in found.items() if several}

    @cached_property
    def labels(self) -> dict[str, str]:
        """The attacks that have curves, by their texts."""
        return words.brief(list(dict.fromkeys(group.attack for some in self.curved.values() for group in some)))

    def drawings(self) -> dict[str, str]:
        """The figures of the document by the names of their files."""
        found: dict[str, Markup] = {self._file(*key): self._drawing(*key) for key in self.curved}
        if (plot := self.prediction.figure) is not None:
            found[f"fast-{FIGURE}.svg"] = plot
        return {name: figures.standalone(drawing) for name, drawing in found.items()}

    def _file(self, defense: str, ratio: float) -> str:
        return f"fast-{defense}-{RATIOS[ratio]}.svg"

    def _title(self, defense: str, ratio: float) -> str:
        return f"Test accuracy by epoch, {DEFENSES[defense]}, {round(ratio * self.length)} epochs"

    def _drawing(self, defense: str, ratio: float) -> Markup:
        lines = [Line(figures.shortened(self.labels[group.attack], 20), group.curve) for group in self.curved[defense, ratio]]
        return figures.lines(self._title(defense, ratio), "epoch", lines)

    def curves(self) -> str:
        """Return the figures of curves, the table of their ends, and which ends are not as expected."""
        keys = list(self.curved)
        if not keys:
            return NOTHING
        pictures = [f"![{self._title(*key)}]({self._file(*key)})\n" for key in keys]
        ends = {(group.attack, *key): group.spread for key in keys for group in self.curved[key]}
        heads = ["attack", *(f"{DEFENSES[defense]}, {round(ratio * self.length)} epochs" for defense, ratio in keys)]
        rows = [(label, *(ends.get((text, *key), DASH) for key in keys)) for text, label in self.labels.items()]
        return "\n".join([*pictures, _table(heads, rows), self._unexpected()])

    def _unexpected(self) -> str:
        """Say of the recipe's own length which poisons break less, or are repaired less, than expected."""
        plain, jpeg = (self._poisoned(defense) for defense in DEFENSES)
        weak = [group for group in plain if group.mean >= BROKEN]
        strong = [group for group in jpeg if group.mean <= REPAIRED]
        return (
            f"After {self.length} epochs without a defense, {len(plain) - len(weak)} of {len(plain)} poisons measured leave "
            f"less than {BROKEN:.0f} %{self._but(weak)}; with JPEG 10, {len(jpeg) - len(strong)} of {len(jpeg)} let more than "
            f"{REPAIRED:.0f} % be learned{self._but(strong)}.\n"
        )

    def _poisoned(self, defense: str) -> list[Group]:
        return [group for group in self.curved.get((defense, 1.0), []) if group.name != "none"]

    def _but(self, several: Sequence[Group]) -> str:
        names = ", ".join(f"{self.labels[group.attack]} ({group.mean:.1f})" for group in several)
        return f" (not {names})" if names else ""

    # the table and the papers

    @cached_property
    def table(self) -> Table:
        return grid_table(read_grid(GRID), self.records, GRID, resolve)

    @cached_property
    def prediction(self) -> Prediction:
        return Prediction.of(self.table, read_grid("full").requests)

    def predicted(self) -> str:
        """Return how well the table predicts the papers."""
        return self.prediction.markdown(f"fast-{FIGURE}.svg")

    def first_rows(self) -> str:
        """Return the first rows of the table that have a number, without derived columns, and how much is measured."""
        there = [key for key, score in self.table.scores.items() if score.state in MEASURED and not score.rest]
        if not there:
            return f"Nothing of the grid `{GRID}` is measured yet.\n"
        rows = _in_order(self.table.rows, [row for row, _ in there])[:ROWS]
        columns = _in_order(self.table.columns, [column for row, column in there if row in rows])
        heads, labels = (words.brief([joined(one) for one in side]) for side in (self.table.columns, self.table.rows))
        cells = [(labels[joined(row)], *(_place(self.table.scores[row, column]) for column in columns)) for row in rows]
        counts = self.table.coverage
        told = f"{counts['done']} of {counts['cells']} cells of the grid `{GRID}` are measured; {words.spread(self.table)}.\n"
        return "\n".join([_table(("attack", *(heads[joined(column)] for column in columns)), cells), told])


def _in_order(every: Sequence[Labels], some: Collection[Labels]) -> list[Labels]:
    return sorted(set(some), key=every.index)


def _place(score: Score) -> str:
    """A number with its change from clean training, where it was measured with today's versions; else a dash."""
    if score.state not in MEASURED:
        return DASH
    change = words.change(score)
    return words.number(score) + (f" ({change})" if change else "")


def _epochs(record: Record) -> int:
    fields = record.cell.protocol.fields
    epochs, scale = fields["epochs"], fields["scale"]
    assert isinstance(epochs, int)
    assert isinstance(scale, float | int)
    return max(1, round(epochs * scale))


def _without_length(fields: Mapping[str, Any]) -> dict[str, object]:
    return plain(fields) | dict.fromkeys(LENGTH)


def _seed(record: Record) -> int:
    return record.cell.seed


def _place_of_attack(group: Group) -> int:
    return CURVED.index(group.name) if group.name in CURVED else len(CURVED)


def _core_minutes(several: Sequence[Record]) -> str:
    """Mean minutes of a core per training, as the processor counted them."""
    known = [record.cpu_seconds["train"] / 60 for record in several if "train" in record.cpu_seconds]
    return f"{fmean(known):.1f}" if known else DASH


def _signed(points: float) -> str:
    return DASH if math.isnan(points) else f"{points:+.2f}".replace("-", MINUS)


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(write_value, value)) or DASH
    return write_value(value)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
