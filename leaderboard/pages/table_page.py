"""What the page of a measured table gets: heads, rows, sentences, and the links to the other tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from unlearnable_bench.leaderboard.formats import figures
from unlearnable_bench.leaderboard.formats.bibtex import bibtex
from unlearnable_bench.leaderboard.formats.words import brief, change, note, number, spread
from unlearnable_bench.leaderboard.pages.cells import LARGE, file_of, tint
from unlearnable_bench.leaderboard.pages.methods import entries_of, tags_of
from unlearnable_bench.leaderboard.pages.provenance import embedded_json
from unlearnable_bench.leaderboard.tables.naming import Names
from unlearnable_bench.leaderboard.tables.ranking import Labels, RowSummary, joined
from unlearnable_bench.leaderboard.tables.remarks import remarks
from unlearnable_bench.leaderboard.tables.score import POINT, Score
from unlearnable_bench.leaderboard.tables.settings import SpecDetails
from unlearnable_bench.leaderboard.tables.table import Table, slugged
from unlearnable_bench.registry import Paper
from unlearnable_bench.results import Record, submission

if TYPE_CHECKING:
    from markupsafe import Markup

SETTING = tuple(axis for axis in POINT if axis not in ("attack", "defense"))
WORDS = {"part": "trained on"}
SIDES = {"attack": "Attacker", "defense": "Defender"}
FIGURE_NAMES = {"heat": "heat map", "pareto": "Pareto plot"}
Tags = dict[str, list[str]]  # what people write for a method -> what its rows or columns can be filtered by


@dataclass(frozen=True)
class Head:
    """The head of a row or column."""

    label: str
    name: str  # what readers call it
    href: str  # the page of its attack or defense; empty where no cell names it
    clean: bool  # whether it is training on the clean set
    blank: bool  # whether it has no number
    tags: Sequence[str]
    settings: Sequence[SpecDetails]  # what its labels stand for, as far as it is known

    @property
    def slug(self) -> str:
        return slugged(self.label)

    @property
    def words(self) -> str:
        """What a search finds it by beside its label: the titles of its papers."""
        return " ".join(paper.title for paper in _papers(self.settings))

    @property
    def needs(self) -> list[str]:
        """What it takes beside the images, such as weights."""
        found: list[str] = []
        for setting in self.settings:
            found += setting.needs
        return found

    @property
    def cost(self) -> float:
        """Of its training, in plain ones."""
        return max((setting.cost for setting in self.settings), default=1.0)


@dataclass(frozen=True)
class ShownScore:
    """A score as its place in the table shows it."""

    score: Score
    number: str
    note: str
    change: str
    heat: int | None
    best: bool  # the worst case of its row
    href: str  # its sources

    @property
    def reported(self) -> bool:
        return self.score.reported


@dataclass(frozen=True)
class TableRow:
    """A row with its scores."""

    head: Head
    cells: Sequence[ShownScore]
    summary: RowSummary | None
    faint: bool  # an attack that does less than the table can measure

    @property
    def reported(self) -> bool:
        """Whether others report any of its numbers."""
        return any(cell.reported for cell in self.cells)


class TableView:
    """A measured table from one side, as its page shows it."""

    def __init__(self, table: Table, links: Mapping[str, str]) -> None:
        self.table = table
        self.links = links  # where the sources of a cell are, by its id
        self._names = Names.of(table)
        self._tags = {"attack": _tags(table, "attack", _budget), "defense": _tags(table, "defense", _moments)}
        self.rows = [self._row(row) for row in table.rows]
        self.heads = [self._column(column) for column in table.columns]

    def context(self) -> dict[str, Any]:
        """What its template gets."""
        return {
            "spread": spread(self.table),
            "large": self.large,
            "latest": self._latest,
            "heads": self.heads,
            "lines": self.rows,
            "tags": [_all_tags(row.head for row in self.rows), _all_tags(self.heads)],
            "trust_levels": self._trust_levels,
            "most": len(self.heads) - self._has_clean_column,
            "names": self._names,
            "remarks": remarks(self.table),
        }

    @property
    def large(self) -> bool:
        """Whether it shows less of each score, and its rows are laid out only when they are scrolled to."""
        return len(self.table.scores) > LARGE

    @property
    def _latest(self) -> str:
        """When the latest of our own records was finished."""
        return max((record.finished for record in _own_records(self.table)), default="")

    @property
    def _trust_levels(self) -> dict[str, str]:
        """The trust levels of its numbers, and what each means."""
        trust_levels = {score.trust for score in self.table.scores.values()}
        return {trust: text for trust, text in submission.TRUST_LEVELS.items() if trust in trust_levels}

    @property
    def _has_clean_column(self) -> bool:
        return self.table.subject == "defense" and any(head.clean for head in self.heads)

    def _row(self, row: Labels) -> TableRow:
        cells = [self._shown(row, column) for column in self.table.columns]
        return TableRow(
            head=self._head(row, self._names.rows, self.table.row_axes, row_scores(self.table, row)),
            cells=cells,
            summary=self.table.ranking.get(row),
            faint=row in self.table.faint,
        )

    def _column(self, column: Labels) -> Head:
        scores = [self.table.scores[row, column] for row in self.table.rows]
        return self._head(column, self._names.columns, self.table.column_axes, scores)

    def _head(self, labels: Labels, names: Mapping[str, str], axes: Sequence[str], scores: Sequence[Score]) -> Head:
        subject = _subject(axes)
        first = scores[0]
        return Head(
            label=joined(labels),
            name=names[joined(labels)],
            href=_method_page(subject, scores),
            clean=first.clean and subject == "attack",
            blank=all(score.mean is None for score in scores),
            tags=self._tags[subject].get(first.point[subject], []) if subject else [],
            settings=self._settings(first, axes),
        )

    def _settings(self, score: Score, axes: Sequence[str]) -> list[SpecDetails]:
        """What the labels of a score on some axes stand for."""
        known = []
        for axis in axes:
            by_text = self.table.settings.get(axis, {})
            if score.point[axis] in by_text:
                known.append(by_text[score.point[axis]])
        return known

    def _shown(self, row: Labels, column: Labels) -> ShownScore:
        score = self.table.scores[row, column]
        return ShownScore(
            score=score,
            number=number(score),
            note=note(score, self.table.seeds),
            change="" if self.large else change(score),
            heat=tint(score, self.table),
            best=self.table.is_worst(row, column),
            href=next((self.links[run.id] for run in score.runs if run.id in self.links), ""),
        )


def row_scores(table: Table, row: Labels) -> list[Score]:
    """The scores of a row, from left to right."""
    return [table.scores[row, column] for column in table.columns]


def _subject(axes: Sequence[str]) -> str:
    """The method that rows or columns with such axes are about."""
    return next((axis for axis in SIDES if axis in axes), "")


def _method_page(subject: str, scores: Sequence[Score]) -> str:
    run = next((score.runs[0] for score in scores if score.runs), None)
    if run is None or not subject:
        return ""
    return file_of(subject, getattr(run.cell, subject)[0].name)


def _own_records(table: Table) -> Iterable[Record]:
    for score in table.scores.values():
        if not score.reported:
            yield from score.used


# What rows and columns can be filtered by


def _tags(table: Table, axis: str, of_score: Callable[[Score], list[str]]) -> Tags:
    """The tags of each method: of the first score that tells any."""
    tags: Tags = {}
    for score in table.scores.values():
        text = score.point[axis]
        tags[text] = tags.get(text) or of_score(score)
    return tags


def _all_tags(heads: Iterable[Head]) -> list[str]:
    return sorted({tag for head in heads for tag in head.tags})


def _budget(score: Score) -> list[str]:
    """The norm of an attack's budget."""
    norm = next((record.poison.norm for record in score.used if record.poison), "")
    if score.clean or not norm:
        return []
    return ["budget unbounded" if norm == "none" else f"budget {norm}"]


def _moments(score: Score) -> list[str]:
    """When a defense acts, and what it needs."""
    return tags_of(entries_of("defense", score.runs[0].cell.defense)) if score.runs else []


# Beside the table


def papers(table: Table) -> list[Paper]:
    """The papers of all methods of a table, each once."""
    found: dict[Paper, None] = {}
    for by_text in table.settings.values():
        found |= dict.fromkeys(_papers(by_text.values()))
    return list(found)


def _papers(settings: Iterable[SpecDetails]) -> list[Paper]:
    found: list[Paper] = []
    for setting in settings:
        found += setting.papers
    return found


def bibtex_by_label(table: Table, citation: str) -> Markup:
    """BibTeX by the labels of rows and columns, for the export of what is in view; under '' that of the leaderboard."""
    entries = {"": [citation]}
    for axis, settings in table.settings.items():
        labels = _labels_on(table, axis)
        for setting in settings.values():
            entries |= _entries_of(setting, labels)
    return embedded_json(entries)


def _labels_on(table: Table, axis: str) -> list[Labels]:
    """The labels of the rows or columns that have an axis."""
    rows = table.rows if axis in table.row_axes else ()
    columns = table.columns if axis in table.column_axes else ()
    return [*rows, *columns]


def _entries_of(setting: SpecDetails, labels: Iterable[Labels]) -> dict[str, list[str]]:
    """The papers of a setting under each of the labels that show it."""
    entries = [bibtex(paper) for paper in setting.papers]
    if not entries:
        return {}
    return {joined(label): entries for label in labels if setting.text in label}


@dataclass(frozen=True)
class ViewLink:
    """A view of a table, and its file."""

    text: str
    file: str
    here: bool


def sides(base: Table, subject: str, home: bool) -> list[ViewLink]:
    """A table seen as an attacker sees it and as a defender does; `subject` is what is seen now, none if there is one side."""
    if not base.other:
        return []
    files = dict.fromkeys(SIDES, f"{base.slug}{base.other}.html")
    files[base.subject] = "index.html" if home else f"{base.slug}.html"
    return [ViewLink(text, files[axis], axis == subject) for axis, text in SIDES.items()]


@dataclass(frozen=True)
class Option:
    """A value of an axis, and the table that has it."""

    text: str
    brief: str
    file: str
    here: bool


@dataclass(frozen=True)
class Switch:
    """An axis in which tables differ."""

    name: str
    options: Sequence[Option]

    @property
    def axis(self) -> str:
        return WORDS.get(self.name, self.name)


def switches(tables: Sequence[Table], current: Table, subject: str) -> list[Switch]:
    """The axes in which tables differ, each with links to the table that has another value and the most else in common.

    `subject` is whose view is on show: links keep it where the other table has it.
    """
    found = []
    for axis in SETTING:
        options = _options(tables, current, subject, axis) if axis in current.fixed else []
        if len(options) > 1:
            found.append(Switch(axis, options))
    return found


def _options(tables: Sequence[Table], current: Table, subject: str, axis: str) -> list[Option]:
    fitting: dict[str, list[Table]] = defaultdict(list)
    for table in tables:
        if axis in table.fixed:
            fitting[table.fixed[axis]].append(table)
    shorter = brief(list(fitting))
    options = []
    for text in sorted(fitting):
        nearest = max(fitting[text], key=partial(_likeness, current, axis))
        side = nearest.other if nearest.subject != subject else ""
        options.append(Option(text, shorter[text], f"{nearest.slug}{side}.html", text == current.fixed[axis]))
    return options


def _likeness(current: Table, axis: str, table: Table) -> int:
    """In how many other axes a table is as the current one."""
    return sum(table.fixed.get(other) == text for other, text in current.fixed.items() if other != axis)


# Figures


def pareto(table: Table) -> Markup | None:
    """What each defense costs on clean data against what it saves in the worst case."""
    if not table.other:
        return None
    defenses = table if table.subject == "defense" else table.transposed()
    points = _pareto_points(defenses)
    if len(points) < 2:
        return None
    title = f"{table.title}: accuracy without a poison against the worst case over attacks, one point per defense"
    return figures.scatter(title, "test accuracy on the clean training set, %", "worst case over attacks, %", points)


def _pareto_points(defenses: Table) -> list[tuple[float, float, str]]:
    names = Names.of(defenses).rows
    points = []
    for row, summary in defenses.ranking.items():
        if summary.clean is not None and summary.worst_case is not None:
            points.append((summary.clean, summary.worst_case, names[joined(row)]))
    return points


def heat_map(table: Table) -> Markup:
    """The numbers that we measured as a picture, in which no mark could say that others report one."""
    names = Names.of(table)
    rows = [names.rows[joined(row)] for row in table.rows]
    columns = [names.columns[joined(column)] for column in table.columns]
    numbers = [list(map(_own_number, row_scores(table, row))) for row in table.rows]
    return figures.heat(table.title, rows, columns, numbers, table.top)


def _own_number(score: Score) -> float | None:
    return None if score.reported else score.mean


def drawings(table: Table) -> dict[str, Markup]:
    """The figures of a table by the names of their files, without endings."""
    drawn = {"heat": heat_map(table), "pareto": pareto(table)}
    return {f"{table.slug}.{name}": drawing for name, drawing in drawn.items() if drawing}
