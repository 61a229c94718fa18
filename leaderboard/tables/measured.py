"""Records to tables without printed labels: what a grid asks for, or what lies in a workspace beside the grids.

Everything that is printed about a score comes from its runs, one per seed; a score without a number always has a sentence that
says why.
"""

from __future__ import annotations

import itertools
import logging
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from unlearnable_bench.leaderboard.tables.groups import group_by, without
from unlearnable_bench.leaderboard.tables.lookup import UNREADABLE, Lookup, SeedRun
from unlearnable_bench.leaderboard.tables.naming import name_with_fields
from unlearnable_bench.leaderboard.tables.ranking import Labels
from unlearnable_bench.leaderboard.tables.runs import MeasuredScore, best_member
from unlearnable_bench.leaderboard.tables.score import POINT, Score
from unlearnable_bench.leaderboard.tables.settings import settings
from unlearnable_bench.leaderboard.tables.table import Table, axis_values, slug_of, slugged
from unlearnable_bench.registry import lacking
from unlearnable_bench.registry.spec import SELFTRAINED, write_spec
from unlearnable_bench.results import Cell, Grid, Part, Records
from unlearnable_bench.results.cell import digest
from unlearnable_bench.results.cells import CellMaker, Resolve
from unlearnable_bench.results.reference import Key
from unlearnable_bench.results.table_file import ScoreRequest

SUBJECTS = ("attack", "defense")
LABELS = {"ratio": "ratio {}", "part": "part {}"}  # of rows and columns, by axis; other texts say what they are
NOTE = "All that is measured in this setting beside the tables of grids, whichever table or command asked for it."

log = logging.getLogger(__name__)


class Point(NamedTuple):
    """Every axis but the seed, as people write it."""

    protocol: str
    dataset: str
    attack: str
    ratio: str
    part: str
    defense: str
    architecture: str

    @property
    def setting(self) -> Point:
        """Every axis but those that are the rows and columns of its table; these are empty."""
        return self._replace(**dict.fromkeys(SUBJECTS, ""))

    @property
    def clean(self) -> Point:
        """The clean training in this setting."""
        return self._replace(attack="none")

    @property
    def whole(self) -> Point:
        """The same on the whole set, as any share of no attack is."""
        return self._replace(ratio="1", part="all")

    def score(self, runs: Iterable[SeedRun]) -> MeasuredScore:
        """Return its score, a fraction; where it stands in a table is decided when all scores are there."""
        by_seed = tuple(sorted(runs, key=lambda run: run.cell.seed))
        fields = self._asdict() | {"measure": "accuracy"}
        request = ScoreRequest(
            table="",
            row=(),
            column=(),
            labels={},
            fields=fields,
            seeds=tuple(run.cell.seed for run in by_seed),
            metric="test_acc",
            better="high",
            params="unit=fraction",
        )
        return MeasuredScore(request, by_seed)


# Tables of grids


def grid_table(grid: Grid, records: Records, name: str, resolve: Resolve) -> Table:
    """Return the table of a grid of one file. `name` is what `bench run --grid` takes; `resolve` as for `Grid.cells`.

    A damaged record is a failed cell here, never an error. EntryError for specs that nobody has.
    """
    (file,) = grid.tables.values()
    lookup = Lookup(records)
    missing = f"not run yet: `bench run --grid {shlex.quote(name)}`"
    scores = [_score(point, members, lookup, missing) for point, members in _combinations(grid, resolve).items()]
    table = _arranged(_with_references(scores, lookup), file.rows, file.columns)
    return replace(
        table,
        title=file.title,
        note=file.note,
        slug=slug_of(name),
        name=name,
        ranks=file.ranks,
        least_drop=file.least_drop,
        ranked=file.ranked,
    )


Members = Mapping[str, Mapping[str, Cell]]
"""The cells of a point by id, by member of its defense; a defense of its own is its only member."""


def _combinations(grid: Grid, resolve: Resolve) -> Mapping[Point, Members]:
    """The cells of accuracies of a grid. Figures of analyses are printed where a table names one."""
    combinations: dict[Point, dict[str, dict[str, Cell]]] = {}
    maker = CellMaker(resolve)
    for wanted in grid.requested_cells(resolve, lacking):
        defense = maker.text("defenses", wanted.request.fields["defense"])
        for cell in wanted.cells:
            if cell.measure != "accuracy":
                continue
            texts = cell.texts
            point = Point(**{axis: texts[axis] for axis in POINT} | {"defense": defense})
            members = combinations.setdefault(point, {})
            members.setdefault(texts["defense"], {}).setdefault(cell.id, cell)
    return combinations


def _score(point: Point, members: Members, lookup: Lookup, missing: str) -> Score:
    """The score of a point; that of the best member, where its defense stands for several."""
    scores = {}
    for member, cells in members.items():
        seeds = lookup.with_siblings(list(cells.values()))
        scores[member] = point.score([lookup.run(cell, missing) for cell in seeds])
    return best_member(scores)


# Clean training beside them


def _with_references(scores: Sequence[Score], lookup: Lookup) -> list[Score]:
    """Give every score what clean training has in its setting: by the clean row of its table, else by any other record."""
    by_point = {Point(**score.point): score for score in scores}
    return [replace(score, reference=_reference(score, _clean(score, by_point, lookup))) for score in scores]


def _clean(score: Score, by_point: Mapping[Point, Score], lookup: Lookup) -> Score:
    """The score of clean training in the setting of another one; one without runs where nothing of it is known."""
    point = Point(**score.point).clean
    row = by_point.get(point) or by_point.get(point.whole)
    if row is not None:
        return row
    runs = lookup.clean_runs(score.runs[0].cell) if score.runs else ()
    return point.whole.score(runs)


def _reference(score: Score, clean: Score) -> float | None:
    """The accuracy of clean training that a number may be compared with: none for stale ones, nor ours with that of others."""
    are_current = score.current and clean.current
    if score.clean or not are_current:
        return None
    return clean.mean if score.reported or not clean.reported else None


# Tables of what no grid asks for


def other_tables(records: Records, shown: set[str]) -> list[Table]:
    """Return tables, attack x defense, for the records and failures whose ids are not in `shown`.

    One per protocol, dataset, architecture, ratio and part. Texts of records are other people's: a text that stands for
    two different things gets a number, so that nothing is averaged that differs in more than its seed.
    """
    lookup, texts = Lookup(records), _Texts()
    runs = sorted(_other_runs(lookup, shown), key=lambda run: run.cell.seed)
    by_point = group_by(runs, lambda run: texts.point(run.cell))
    by_setting = group_by(by_point, lambda point: point.setting)
    tables = []
    for setting, points in sorted(by_setting.items()):
        tables.append(_other_table(setting, {point: by_point[point] for point in points}, lookup))
    return tables


def _other_runs(lookup: Lookup, shown: set[str]) -> Iterator[SeedRun]:
    records = lookup.records
    for cell_id in sorted((lookup.recorded | lookup.failed) - shown):
        try:
            entry = records.read(cell_id) or records.failure(cell_id)
        except UNREADABLE as error:
            log.warning("left out: %s", error)
            continue
        if entry is not None and entry.cell.id == cell_id and entry.cell.measure == "accuracy":
            yield lookup.run(entry.cell, "no record")


@dataclass
class _Texts:
    """Texts of cells, told apart by a number where one text stands for several things."""

    meanings: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def point(self, cell: Cell) -> Point:
        fields = cell.resolved()
        return Point(**{axis: self._numbered(axis, _honest_text(cell, axis), digest(fields[axis])) for axis in POINT})

    def _numbered(self, axis: str, text: str, meaning: str) -> str:
        known = self.meanings[axis, text]
        if meaning not in known:
            known.append(meaning)
        number = known.index(meaning)
        return f"{text} [{number + 1}]" if number else text


def _honest_text(cell: Cell, axis: str) -> str:
    """A cell's text of an axis; of entries all fields where the text speaks of another entry."""
    value = getattr(cell, axis)
    chain = value if isinstance(value, tuple) else (value,)
    return "+".join(map(_honest, chain)) if isinstance(chain[0], Part) else cell.texts[axis]


def _honest(part: Part) -> str:
    trained = f"-{SELFTRAINED}" if part.fields.get("weights") == SELFTRAINED else ""
    rest = part.text.removeprefix(part.name + trained)
    honest = part.text.startswith(part.name) and rest[:1] in ("", "(", "@")
    return part.text if honest else write_spec(part.name, part.fields)


def _other_table(setting: Point, group: Mapping[Point, Sequence[SeedRun]], lookup: Lookup) -> Table:
    attacks = _clean_first(point.attack for point in group)
    defenses = _clean_first(point.defense for point in group)
    scores = []
    for attack, defense in itertools.product(attacks, defenses):
        point = setting._replace(attack=attack, defense=defense)
        scores.append(point.score(group.get(point, ())))
    table = _arranged(_with_references(scores, lookup), ["attack"], ["defense"])
    slug = slugged(".".join(["others", *without(setting, ("", "1", "all"))]))
    return replace(table, title=_title(setting), note=NOTE, slug=slug)


def _clean_first(texts: Iterable[str]) -> list[str]:
    return sorted(set(texts), key=lambda text: (text != "none", text))


def _title(point: Point) -> str:
    share = f", ratio {point.ratio}" if point.ratio != "1" else ""
    subset = f", {point.part} images alone" if point.part != "all" else ""
    dataset, network = name_with_fields("dataset", point.dataset), name_with_fields("architecture", point.architecture)
    return f"{dataset}, {network}, protocol {point.protocol}{share}{subset}"


# Rows and columns


def _arranged(scores: Sequence[Score], rows: Sequence[str], columns: Sequence[str]) -> Table:
    """Lay scores out. An axis that varies and is in neither rows nor columns becomes a row axis: only seeds are averaged."""
    values = axis_values(scores)
    column_axes = tuple(without(dict.fromkeys(columns), rows))
    left_over = without(POINT, (*rows, *columns))
    row_axes = (*dict.fromkeys(rows), *(axis for axis in left_over if len(values[axis]) > 1))
    fixed = {axis: values[axis][0] for axis in without(left_over, row_axes)}
    placed = _placed(scores, row_axes, column_axes)
    return Table(
        title="",
        note="",
        slug="",
        row_axes=row_axes,
        column_axes=column_axes,
        rows=tuple(dict.fromkeys(row for row, _ in placed)),
        columns=tuple(dict.fromkeys(column for _, column in placed)),
        scores=placed,
        fixed=fixed,
        settings=settings(scores),
    )


def _placed(scores: Iterable[Score], row_axes: Sequence[str], column_axes: Sequence[str]) -> dict[Key, Score]:
    """The scores by their place in the table."""
    placed = {}
    for score in scores:
        request = replace(score.request, row=_labels(score, row_axes), column=_labels(score, column_axes))
        placed[request.key] = replace(score, request=request)
    return placed


def _labels(score: Score, axes: Sequence[str]) -> Labels:
    labels = [LABELS.get(axis, "{}").format(score.point[axis]) for axis in axes]
    return tuple(labels) or ("test accuracy",)
