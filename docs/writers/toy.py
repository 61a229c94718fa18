"""The tables at toy scale as documents show them: what we measured, the marks of an attack, and what papers print at full size.

A paper's figure stands beside a toy one because both are of the same methods; they are no reference, for networks, images and
recipes differ. It is looked up by the names of the methods, whatever version of them the paper ran.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import fmean, stdev

from unlearnable_bench.leaderboard.formats.escaping import DASH
from unlearnable_bench.leaderboard.formats.words import measured_value
from unlearnable_bench.leaderboard.tables import lookup
from unlearnable_bench.leaderboard.tables.lookup import look_up
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.registry import lacking, outdated, resolve
from unlearnable_bench.results import Grid, Record, Records, TableFile, read_grid
from unlearnable_bench.results.reference import source
from unlearnable_bench.results.table_file import ScoreRequest

Methods = tuple[tuple[str, ...], ...]
"""What tells two scores apart here: the attack's parts and the defense's, each by its name and what changes its nature."""

NATURE = {  # fields, and values of fields, that make another method of one name
    "attacks": ("kind", "augment", "staged", "mode", "norm", "backbone", "variant=cp-c"),
    "defenses": ("mode", "norm", "epsilon", "quality", "bits"),
}
FULL = {"protocols": ("dvae", "st", "sem", "lfu", "tue", "apbench"), "dataset": "cifar10", "architecture": "resnet18"}
SHORT = {
    "d-vae": "DV",
    "progressive-staged-training": "ST",
    "stable-error-minimizing": "SE",
    "learn-from-unlearnable": "LU",
    "transferable-unlearnable": "TU",
    "apbench": "AP",
}
OF_DEFENSES = ("toy-defenses", "toy-blocks")  # tables of one network each, defense by attack
STALE = " †"  # of numbers measured with an earlier version of an entry
LEGEND = "; ".join(f"{short} {source(paper).short}" for paper, short in SHORT.items())


def methods(attack: str, defense: str) -> Methods:
    """Name the methods of a score. EntryError for one that does not exist."""
    found = []
    for kind, item in (("attacks", attack), ("defenses", defense)):
        for part in resolve(kind, item):
            fields = {name: value for name, value in part.values.items() if {name, f"{name}={value}"} & {*NATURE[kind]}}
            found.append((kind, part.name, *(f"{name}={value}" for name, value in sorted(fields.items()))))
    return tuple(found)


def printed(protocols: Collection[str] = FULL["protocols"]) -> Mapping[Methods, Mapping[str, tuple[float, ...]]]:
    """Return what papers print of CIFAR-10, ResNet-18, all images poisoned, trained by one of these protocols: test accuracies
    in percent, by paper.
    """
    full = read_grid("full")
    found: dict[Methods, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for request in full.requests:
        fields, value = request.fields, request.printed
        if value is None or value.value is None or value.quality != "ok" or request.metric != "test_acc":
            continue
        whole = fields["ratio"] == 1 and fields["part"] == "all"
        same = whole and fields["measure"] == "accuracy" and request.aggregate is None
        here = fields["dataset"] == FULL["dataset"] and fields["architecture"] == FULL["architecture"]
        if not (same and here and _family(request) in protocols):
            continue
        if any(lacking(kind, str(fields[axis])) for kind, axis in (("attacks", "attack"), ("defenses", "defense"))):
            continue
        key = methods(str(fields["attack"]), str(fields["defense"]))
        found[key][full.tables[request.table].paper].append(value.value)
    return {key: {paper: tuple(values) for paper, values in papers.items()} for key, papers in found.items()}


def incomparable(request: ScoreRequest) -> bool:
    """Whether no paper's figure may stand beside a score: its images are JPEGs, and JPEG is, or may be, part of its defense."""
    parts = resolve("defenses", str(request.fields["defense"]))
    texts = [text for part in parts for text in (part.text, *part.members)]
    return lookup.incomparable(str(request.fields["dataset"]).partition("(")[0], [*texts, request.metric])


def beside(request: ScoreRequest, known: Mapping[Methods, Mapping[str, tuple[float, ...]]]) -> Mapping[str, tuple[float, ...]]:
    """Return the papers' figures that may stand beside a score, by paper."""
    if incomparable(request):
        return {}
    return known.get(methods(str(request.fields["attack"]), str(request.fields["defense"])), {})


def quoted(papers: Mapping[str, Sequence[float]]) -> str:
    """Write the figures of every paper, DV 12.3; two ends where a paper prints several."""
    parts = []
    for paper, short in SHORT.items():
        if values := papers.get(paper, ()):
            low, high = min(values), max(values)
            parts.append(f"{short} {low:.1f}" if high - low < 0.05 else f"{short} {low:.1f}–{high:.1f}")  # noqa: RUF001
    return ", ".join(parts) or "–"  # noqa: RUF001


def spanned(papers: Mapping[str, Sequence[float]]) -> str:
    """Write from where to where the figures of all papers reach."""
    values = [value for several in papers.values() for value in several]
    if not values:
        return ""
    low, high = min(values), max(values)
    return f" ({low:.0f})" if round(low) == round(high) else f" ({low:.0f}–{high:.0f})"  # noqa: RUF001


def attacks(table: TableFile, records: Records) -> str:
    """Return the Markdown table of attacks without a defense."""
    known, found = printed(), measured(table, records)
    clean = {request.fields["dataset"]: runs for request, runs in found if request.fields["attack"] == "none"}
    heads = ("attack", "test accuracy", "change", "taken for the class before", "passes", "surrogate", "papers, full size")
    lines = [f"| {' | '.join(heads)} |", "| --- | ---: | ---: | ---: | ---: | --- | --- |"]
    for request, runs in found:
        reference = clean.get(request.fields["dataset"], [])
        other = bool(runs and reference) and runs is not reference
        change = f"{_mean(runs, accuracy) - _mean(reference, accuracy):+.1f}" if other else ""
        cells = (
            request.labels["attack"],
            _accuracy(runs),
            change.replace("-", "−"),  # noqa: RUF001
            _spread(runs, _before),
            _passes(runs),
            _surrogate(runs),
            quoted(beside(request, known)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def defenses(table: TableFile, records: Records) -> str:
    """Return the Markdown table of defenses against attacks; in parentheses what papers print at full size."""
    known, found = printed(), measured(table, records)
    columns = table.labels("attack")
    rows = table.labels("defense")
    at = {(str(request.fields["defense"]), str(request.fields["attack"])): (request, runs) for request, runs in found}
    names = [label.partition("(")[0] for label in columns]
    lines = [f"| defense | {' | '.join(names)} |", f"| --- |{' ---: |' * len(columns)}"]
    for row in rows:
        cells = []
        for column in columns:
            request, runs = at[row, column]
            cells.append(_accuracy(runs) + spanned(beside(request, known)))
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def contrastive(table: TableFile, records: Records) -> str:
    """Return the Markdown table of attacks against training with labels and without; in parentheses what papers print, and
    without labels the last contrastive loss.
    """
    columns = table.labels("protocol")
    found = measured(table, records)
    known = {family: printed(FULL["protocols"] if family == "toy" else (family,)) for family in {_family(p) for p, _ in found}}
    rows: dict[str, list[str]] = defaultdict(list)
    for request, runs in found:
        papers = spanned(beside(request, known[_family(request)]))
        losses = [run.metrics.curve.objective[-1] for run in runs if run.metrics is not None and run.metrics.curve.objective]
        loss = f", loss {fmean(losses):.2f}".replace("-", "−") if losses else ""  # noqa: RUF001
        rows[request.labels["attack"]].append(_accuracy(runs) + papers + loss)
    lines = [f"| attack | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    return "\n".join([*lines, *(f"| {row} | {' | '.join(cells)} |" for row, cells in rows.items())]) + "\n"


def analyses(table: TableFile, records: Records) -> str:
    """Return the Markdown table of what analyses measured, each column in its own unit."""
    (made,) = printed_tables(Grid.of(table), records, resolve, lacking)
    heads = [" ".join(column[-1:]) for column in made.columns]
    lines = [f"| {table.rows[0]} | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    for row in made.rows:
        cells = [measured_value(score) or DASH if (score := made.scores.get((row, column))) else "" for column in made.columns]
        lines.append(f"| {row[0]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _family(request: ScoreRequest) -> str:
    """The protocol of a score without its fields."""
    return str(request.fields["protocol"]).partition("(")[0]


def measured(table: TableFile, records: Records) -> list[tuple[ScoreRequest, list[Record]]]:
    """Return every score with its records: of a defense that stands for others those of the best."""
    grid = Grid.of(table)
    found = []
    for wanted in grid.requested_cells(resolve, lacking):
        members: dict[str, list[Record]] = {}
        for cell in wanted.cells:
            record = look_up(records, cell, "").record
            if record is not None and record.metrics is not None:
                members.setdefault(cell.texts["defense"], []).append(record)
        found.append((wanted.request, max(members.values(), key=lambda runs: _mean(runs, accuracy), default=[])))
    return found


def accuracy(record: Record) -> float:
    assert record.metrics is not None and record.metrics.test_acc is not None
    return 100 * record.metrics.test_acc


def stale(runs: Iterable[Record]) -> bool:
    """Whether some of the records were measured with an earlier version of an entry."""
    return any(outdated(run.versions, run.cell.parts) for run in runs)


def _accuracy(runs: Sequence[Record]) -> str:
    return _spread(runs, accuracy) + (STALE if stale(runs) else "")


def _before(record: Record) -> float:
    assert record.metrics is not None
    return 100 * record.metrics.curve.shifts[-1]


def _mean(runs: Sequence[Record], figure: Callable[[Record], float]) -> float:
    return fmean(figure(run) for run in runs) if runs else 0.0


def _spread(runs: Sequence[Record], figure: Callable[[Record], float]) -> str:
    if not runs:
        return "–"  # noqa: RUF001
    values = [figure(run) for run in runs]
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _notes(runs: Iterable[Record], name: str) -> list[float]:
    return [run.poison.notes[name] for run in runs if run.poison is not None and name in run.poison.notes]


def _passes(runs: Sequence[Record]) -> str:
    several = _notes(runs, "passes")
    return f"{fmean(several):,.0f}" if several else "0" if runs else ""


def _surrogate(runs: Sequence[Record]) -> str:
    """Its error on the noisy images where the attack watches it, else its loss: of the first look and of the last."""
    for name, noun in (("surrogate_error", "error"), ("surrogate_loss", "loss")):
        first, last = _notes(runs, f"{name}_first"), _notes(runs, f"{name}_last")
        if first and last:
            return f"{noun} {fmean(first):.2f} → {fmean(last):.2f}"
    return ""
