"""What papers print and what was measured here, as results of methods: which of them count, and in percent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from unlearnable_bench.leaderboard.tables.groups import known
from unlearnable_bench.leaderboard.tables.methods import Axis, Method, as_printed, method_of
from unlearnable_bench.leaderboard.tables.pairing import is_accuracy_of_training
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.registry import resolve
from unlearnable_bench.results.cell import Cell
from unlearnable_bench.results.cells import CellMaker
from unlearnable_bench.results.spread import Spread

OTHER: dict[Axis, Axis] = {"attack": "defense", "defense": "attack"}


@dataclass(frozen=True)
class Result:
    """The accuracy of a victim, in percent, and who says so: a paper, or `ours`."""

    attack: Method
    defense: Method
    source: str  # the paper's folder; '' for ours
    table: str  # that has it
    value: float
    low: float
    high: float
    spec: str  # of the attack, as the table ran it
    has_interval: bool = False  # whether seeds say how far it may be off
    defense_spec: str = ""
    errata: tuple[str, ...] = ()

    def method(self, axis: Axis) -> Method:
        """Return the method on one of its two axes."""
        return self.attack if axis == "attack" else self.defense

    def spec_of(self, axis: Axis) -> str:
        """Return the spec of one of its two axes, as the table ran it."""
        return self.spec if axis == "attack" else self.defense_spec


def ranked_columns(table: Table) -> dict[Axis, list[Method]]:
    """Return the methods over which the rows of each axis are ranked, as the file of a table of our own names them."""
    return {axis: _of_specs(other, table.ranked.get(other, ())) for axis, other in OTHER.items()}


def _of_specs(axis: Axis, specs: Iterable[str]) -> list[Method]:
    maker = CellMaker(resolve)
    return known(method_of(axis, maker.parts(f"{axis}s", spec)) for spec in specs)


def published_results(tables: Iterable[Table]) -> defaultdict[tuple[str, str], list[Result]]:
    """Return what papers print of test accuracies after training with labels, by dataset and network.

    Where papers print only of partly poisoned datasets, there is a setting without results.
    """
    results: defaultdict[tuple[str, str], list[Result]] = defaultdict(list)
    for table, score in accuracies(tables):
        of_setting = results[setting_of(score)]
        if score.request.fields["ratio"] == 1:
            errata = score.printed.errata if score.printed else ()
            of_score = _result(score, table.name.partition("/")[0], table.name, score.published_percent)
            of_setting += [replace(result, defense=as_printed(result.defense), errata=errata) for result in of_score]
    return results


def repeated_results(tables: Iterable[Table]) -> defaultdict[tuple[str, str], list[Result]]:
    """Return what was measured here of the same accuracies, at full size by the paper's own recipe, by dataset and network."""
    results: defaultdict[tuple[str, str], list[Result]] = defaultdict(list)
    for table, score in accuracies(tables):
        if score.is_full_size and score.is_ours_and_current and score.request.fields["ratio"] == 1:
            source = table.name.partition("/")[0]
            results[setting_of(score)] += _result(score, source, table.name, 100 * (score.accuracy or 0.0))
    return results


def setting_of(score: Score) -> tuple[str, str]:
    """Return the dataset and the network of a score."""
    return str(score.request.fields["dataset"]), str(score.request.fields["architecture"])


def accuracies(tables: Iterable[Table]) -> list[tuple[Table, Score]]:
    """Return the scores of papers' tables whose published value is a test accuracy after training with labels."""
    own = [table for table in tables if table.source]
    scores = [(table, score) for table in own for score in table.direct if score.runs]
    return [(table, score) for table, score in scores if is_accuracy_of_training(score)]


def measured(table: Table) -> list[Result]:
    """Return what was measured here of a table of attacks and defenses under one recipe, with what seeds leave open.

    A defense that stands for others is left out: its number is that of one of them, which has a column.
    """
    scores = [score for score in table.in_order if score.is_full_size and score.runs and not score.rest]
    spread = Spread.of([score.accuracies for score in scores])
    results = []
    for score in scores:
        of_score = _result(score, "", table.slug, 100 * (score.measured_here or 0.0), spread)
        results += [replace(result, errata=score.errata) for result in of_score]
    return results


@dataclass(frozen=True)
class FineTuned:
    """What was measured of a network that began with weights, so many of whose first layers stood still."""

    frozen: int
    results: Sequence[Result]


def fine_tuned(table: Table) -> list[FineTuned]:
    """Return what was measured of each network with weights, column by column; columns without are its controls."""
    columns = [replace(table, columns=(column,)) for column in table.columns]
    several = known(_fine_tuned(column) for column in columns)
    return [one for one in several if one.results]


def _fine_tuned(column: Table) -> FineTuned | None:
    """What is known of a column; None where its network has no weights."""
    cell = column.in_order[0].runs[0].cell
    if not cell.architecture.fields.get("weights"):
        return None
    return FineTuned(_frozen(cell), measured(column))


def _frozen(cell: Cell) -> int:
    """How many layers of its network stand still."""
    count = cell.protocol.fields.get("frozen", 0)
    return count if isinstance(count, int) else 0


def _result(score: Score, source: str, table: str, value: float, spread: Spread | None = None) -> list[Result]:
    """Return the result of a score, percent; none where its attack or defense is an ablation."""
    cell = score.runs[0].cell
    attack, defense = method_of("attack", cell.attack), method_of("defense", cell.defense)
    if attack is None or defense is None:
        return []
    reach = 100 * spread.half_width(score.n) if spread else 0.0
    bounds = value - reach, value + reach
    specs = score.point["attack"], score.point["defense"]
    return [Result(attack, defense, source, table, value, *bounds, specs[0], spread is not None, specs[1])]
