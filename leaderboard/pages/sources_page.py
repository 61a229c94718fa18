"""What a page of sources gets: all that is known of where the numbers of an attack come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from unlearnable_bench.leaderboard.formats import figures
from unlearnable_bench.leaderboard.formats.figures import Line
from unlearnable_bench.leaderboard.formats.imprint import Imprint
from unlearnable_bench.leaderboard.formats.words import number
from unlearnable_bench.leaderboard.pages.cells import ScoredCell
from unlearnable_bench.leaderboard.pages.citation import Citation, citation
from unlearnable_bench.leaderboard.pages.provenance import Facts, facts, lasting_facts, poison_facts, seconds
from unlearnable_bench.results import Record

if TYPE_CHECKING:
    from markupsafe import Markup


class SeedFacts(NamedTuple):
    """What is known of one seed of a cell."""

    seed: int
    facts: Facts


@dataclass(frozen=True)
class CellSource:
    """A cell with what is known of it alone."""

    cell: ScoredCell
    number: str
    curve: Markup | None
    facts: Sequence[tuple[str, str]]
    citation: Citation | None


def sources(cells: Sequence[ScoredCell], url: str, imprint: Imprint) -> dict[str, Any]:
    """What the template gets of the cells of an attack; `common` is the same for all of their records, `url` is the site's."""
    common = _common(cells)
    return {
        "attack": cells[0].score.point["attack"],
        "common": common,
        "sources": [_source(cell, common, citation(cell, url, imprint)) for cell in cells],
        "seconds": seconds,
    }


def _source(cell: ScoredCell, common: Mapping[str, str], cited: Citation | None) -> CellSource:
    return CellSource(cell, number(cell.score), _curve(cell), _own_facts(cell, common), cited)


def _common(cells: Iterable[ScoredCell]) -> Facts:
    """The facts that all records share."""
    records: list[Record] = []
    for cell in cells:
        records += cell.score.used
    if not records:
        return {}
    shared = facts(records[0])
    for record in records:
        shared = _in_both(shared, facts(record))
    return shared


def _in_both(some: Facts, others: Facts) -> Facts:
    return {key: text for key, text in some.items() if others.get(key) == text}


def _own_facts(cell: ScoredCell, common: Mapping[str, str]) -> list[tuple[str, str]]:
    """What its records do not share with all others."""
    by_seed = []
    for run in cell.score.runs:
        if run.record:
            texts = poison_facts(run.record) | lasting_facts(run.record)
            by_seed.append(SeedFacts(run.cell.seed, {key: text for key, text in texts.items() if key not in common}))
    return facts_of_seeds(by_seed)


def facts_of_seeds(by_seed: Sequence[SeedFacts]) -> list[tuple[str, str]]:
    """Facts of several seeds: what they share once, the rest with its seed."""
    rows = []
    for key in _keys(by_seed):
        texts = {known.facts.get(key, "") for known in by_seed}
        if len(texts) == 1:
            rows.append((key, texts.pop()))
        else:
            rows += [(f"{key}, seed {known.seed}", known.facts[key]) for known in by_seed if key in known.facts]
    return rows


def _keys(by_seed: Iterable[SeedFacts]) -> dict[str, None]:
    """The names of all facts, in the order in which they come."""
    keys: dict[str, None] = {}
    for known in by_seed:
        keys |= dict.fromkeys(known.facts)
    return keys


def _curve(cell: ScoredCell) -> Markup | None:
    """The accuracy of every seed, epoch by epoch."""
    lines = [line for record in cell.score.used for line in _lines(record)]
    if not lines:
        return None
    return figures.lines(f"Accuracy per epoch: {cell.title}", "epoch", lines, up="accuracy, %", dots=False)


def _lines(record: Record) -> Iterator[Line]:
    if record.metrics is None:
        return
    curve = record.metrics.curve
    tested = list(zip(curve.judged, curve.test_acc, strict=True))
    trained = list(enumerate(curve.train_acc, 1))
    for name, points in {"test": tested, "train": trained}.items():
        if len(points) > 1:
            yield Line(f"{name}, seed {record.cell.seed}", points)
