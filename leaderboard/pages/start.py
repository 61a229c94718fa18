"""The start page: do unlearnable examples hold against defenses? One page per dataset and network that papers print much of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from unlearnable_bench.leaderboard.formats import figures
from unlearnable_bench.leaderboard.pages.coverage import in_plain_trainings
from unlearnable_bench.leaderboard.tables.evidence import (
    OTHER,
    FineTuned,
    Result,
    accuracies,
    fine_tuned,
    measured,
    published_results,
    ranked_columns,
    repeated_results,
    setting_of,
)
from unlearnable_bench.leaderboard.tables.groups import known
from unlearnable_bench.leaderboard.tables.methods import Axis, Method
from unlearnable_bench.leaderboard.tables.table import Table, slugged
from unlearnable_bench.leaderboard.tables.worst_case import MethodOutcomes, PairOutcome, Ranking, is_rival
from unlearnable_bench.registry import resolve
from unlearnable_bench.registry.labels import label

if TYPE_CHECKING:
    from markupsafe import Markup

    from unlearnable_bench.results.reference import Source

HOME = ("cifar10", "resnet18")
LEAST = 30  # published results of a dataset and network that are shown on a page of their own
PLOT = "What published defenses cost on clean images, and what they leave in the worst case"
NEAR = 10.0  # points below clean training: a defense that lets a victim come as near has undone the attack
HEADINGS: Mapping[Axis, str] = {"attack": "Attacks", "defense": "Defenses"}
SHOWN = 5  # of the results that papers contest most
FEW_POINTS = 3  # a plot of fewer shows nothing
ORACLE = "oracle"
NEEDS = {
    "clean-data": "clean data",
    "weights": "weights",
    "attack": "knowledge of the attack",
    ORACLE: "the test accuracy, to choose",
}
"""What a method may need beside the poison: as entries say it, and as the filter does."""


@dataclass(frozen=True)
class Number:
    """An outcome as a cell of the table shows it: texts, and the value that sorts it."""

    value: float
    text: str
    range: str  # of several papers, or what seeds leave open; empty for one number alone
    tint: int  # 0..10
    who: tuple[tuple[str, str, str], ...]  # what each source has: its name, the number, the page
    contested: bool
    errata: tuple[str, ...]

    @classmethod
    def of(cls, outcome: PairOutcome, top: float, names: Callable[[Result], tuple[str, str]]) -> Number:
        reach = (outcome.high - outcome.low) / 2
        seeds = any(result.has_interval for result in outcome.results)
        papers = "" if len(outcome.by_source) < 2 else _range(outcome.low, outcome.high)
        who = sorted({(*names(result), f"{result.value:.1f}") for result in outcome.results})
        return cls(
            outcome.value,
            f"{outcome.value:.1f}",
            f"± {reach:.1f}" if seeds else papers,
            min(10, round(10 * outcome.value / top)),
            tuple((name, value, page) for name, page, value in who),
            outcome.is_contested,
            outcome.errata,
        )


@dataclass(frozen=True)
class Bar:
    """One column of the strip: a method of the other axis."""

    label: str
    value: float
    text: str
    tint: int


@dataclass(frozen=True)
class Side:
    """What one source says of a method: papers, or we."""

    rank: int | None
    rivals: int  # how many are ranked in its class
    plain: Number | None
    ranked: Number | None  # the worst case over the ranked columns
    ranked_against: str  # label of the method that it is of
    worst: Number | None  # over all that is known
    against: str
    free: Number | None  # the worst case with oracles and methods that need more than the poison
    free_against: str
    missing: str  # the ranked columns that it lacks
    bars: tuple[Bar | None, ...]


@dataclass(frozen=True)
class Beside:
    """Results of ours by other recipes, in columns of their own: they are never ranked. `key` is the class of the columns."""

    key: str
    heading: str
    whose: str  # as boxes and labels say it
    note: str  # sentences that say what the columns are
    results: Sequence[Result] = ()

    @property
    def has_worst(self) -> bool:
        """Whether something of it is an attack under a defense."""
        return not all(result.attack.is_plain or result.defense.is_plain for result in self.results)


REPEATED = Beside(
    "repeated",
    "papers' recipes",
    "ours by papers' recipes",
    "Ours by papers' recipes: measured here at full size, as each paper trains; never ranked.",
)
FINE_TUNED: Mapping[int, Beside] = {
    0: Beside(
        "tuned",
        "fine-tuned",
        "ours, fine-tuned",
        "Ours, fine-tuned: the victim is a ResNet-9 that was trained on other images before; protocol finetune trains all its "
        "layers on the poison. The table finetune says which images these were, and has the same network from scratch. "
        "Never ranked.",
    ),
    2: Beside(
        "frozen",
        "fine-tuned, two layers frozen",
        "ours, fine-tuned with two layers frozen",
        "With two layers frozen: the same, but the first two layers stay as the other images left them. Never ranked.",
    ),
}
"""The columns of networks that began with weights, by how many of their first layers are frozen."""


def _beside(repeated: Sequence[Result], tuned: Sequence[FineTuned]) -> tuple[Beside, ...]:
    """The columns beside ours that have results."""
    shown = [replace(REPEATED, results=repeated)] if repeated else []
    shown += [replace(FINE_TUNED[one.frozen], results=one.results) for one in tuned if one.frozen in FINE_TUNED]
    return tuple(shown)


@dataclass(frozen=True)
class MethodRow:
    """A row of the table."""

    method: Method
    href: str
    venue: str
    published: Side | None
    ours: Side | None
    place_of_ours: int  # among the rows as ours order them
    beside: tuple[Side | None, ...]  # by other recipes, in the order of the view's
    cost: float | None  # of crafting or of training with it, in plain trainings, as the fast recipe took

    @property
    def needs(self) -> list[str]:
        """What a victim must have for it, as the filter knows it."""
        return [*self.method.needs, *([ORACLE] if self.method.is_oracle else [])]


@dataclass(frozen=True)
class View:
    """One tab: the rows of an axis, the methods of the other axis that strips show, in order."""

    axis: Axis
    heading: str
    lines: tuple[MethodRow, ...]
    others: tuple[str, ...]  # their labels
    ranked: tuple[str, ...]  # labels of the methods over which rows are ranked
    beside: tuple[Beside, ...]  # what has columns of its own

    @property
    def needs(self) -> dict[str, str]:
        """What some of its rows need, and how the filter calls it."""
        needed = {need for line in self.lines for need in line.needs}
        return {need: text for need, text in NEEDS.items() if need in needed}

    @property
    def has_ours(self) -> bool:
        return any(line.ours for line in self.lines)

    @property
    def has_costs(self) -> bool:
        return any(line.cost for line in self.lines)


Setting = tuple[str, str]
"""A dataset and a network, as specs name them."""


class CitedPaper(NamedTuple):
    """A paper whose results count among the published ones."""

    year: int
    short: str
    folder: str

    @classmethod
    def of(cls, table: Table, source: Source) -> CitedPaper:
        return cls(source.year, source.short, table.paper)


@dataclass(frozen=True)
class FromPapers:
    """What papers' tables say, by dataset and network, and what was measured here by the same recipes."""

    published: Mapping[Setting, Sequence[Result]]
    repeated: Mapping[Setting, Sequence[Result]]
    pages: Mapping[str, tuple[str, str]]  # of tables: the short name of their paper, and their page
    cited: Sequence[CitedPaper]  # the oldest first

    @classmethod
    def of(cls, tables: Sequence[Table]) -> FromPapers:
        pages = {table.name: (table.source.short, f"{table.slug}.html") for table in tables if table.source}
        cited = {CitedPaper.of(table, table.source) for table in tables if table.source}
        return cls(published_results(tables), repeated_results(tables), pages, sorted(cited))

    def cited_for(self, setting: Setting) -> list[CitedPaper]:
        """The papers that print results of a dataset and network."""
        sources = {result.source for result in self.published[setting]}
        return [paper for paper in self.cited if paper.folder in sources]


@dataclass(frozen=True)
class OwnTables:
    """The tables of ours that have columns on start pages."""

    fast: Table | None = None  # of the fast recipe
    finetune: Table | None = None  # of networks that began with weights

    @property
    def pages(self) -> dict[str, tuple[str, str]]:
        """Whose their numbers are, and their page."""
        return {table.slug: ("measured here", f"{table.slug}.html") for table in known((self.fast, self.finetune))}

    def tuned_on(self, dataset: str) -> list[FineTuned]:
        """What is measured of networks with weights on a dataset."""
        table = self.finetune
        return fine_tuned(table) if table is not None and table.fixed.get("dataset") == dataset else []


@dataclass(frozen=True)
class Start:
    """Everything that the start page of one dataset and network is made from. `ours` is the table of the fast recipe."""

    dataset: str
    network: str
    is_home: bool  # whether the site opens with it
    published: Sequence[Result]
    ours: Sequence[Result]
    pages: Mapping[str, tuple[str, str]]  # of tables: the short name of their paper, and their page
    columns: Mapping[Axis, Sequence[Method]]  # of the other axis, over which the rows of an axis are ranked
    beside: Sequence[Beside] = ()
    costs: Mapping[Method, float] = field(default_factory=dict)  # in plain trainings
    cited: Sequence[CitedPaper] = ()  # the oldest first

    @classmethod
    def of(cls, setting: Setting, papers: FromPapers, own: OwnTables, is_home: bool) -> Start:
        """Gather what is published of a dataset and network, and what we measured on that dataset."""
        fast = own.fast
        pages = {**papers.pages, **own.pages}
        mine = measured(fast) if fast is not None and fast.fixed.get("dataset") == setting[0] else []
        columns: dict[Axis, list[Method]] = {"attack": [], "defense": []} if fast is None else ranked_columns(fast)
        costs = in_plain_trainings(fast) if mine and fast is not None else {}
        beside = _beside(papers.repeated[setting], own.tuned_on(setting[0]))
        published, cited = papers.published[setting], papers.cited_for(setting)
        return cls(*setting, is_home, published, mine, pages, columns, beside, costs, cited)

    @property
    def name(self) -> str:
        """The dataset and the network as readers call them: `CIFAR-10 with ResNet-18`."""
        return f"{self.dataset_label} with {self.network_label}"

    @property
    def years(self) -> str:
        """When its papers are from: ` (2023 to 2025)`."""
        if not self.cited:
            return ""
        first, last = self.cited[0].year, self.cited[-1].year
        return f" ({first})" if first == last else f" ({first} to {last})"

    @property
    def dataset_label(self) -> str:
        return label(resolve("datasets", self.dataset))

    @property
    def network_label(self) -> str:
        return label(resolve("architectures", self.network))

    @property
    def file(self) -> str:
        """The page of the site that it is."""
        return "index.html" if self.is_home else f"start.{slugged(f'{self.dataset}.{self.network}')}.html"

    def view(self, axis: Axis) -> View:
        """Return the tab of an axis."""
        theirs = {row.method: row for row in Ranking.of(axis, self.published, self.columns[axis]).rows}
        mine = {row.method: row for row in Ranking.of(axis, self.ours, self.columns[axis]).rows}
        columns = self._beside_on(axis)
        beside = [{row.method: row for row in Ranking.of(axis, one.results).rows} for one in columns]
        places = {method: place for place, method in enumerate([*mine, *(method for method in theirs if method not in mine)])}
        others = self._others(OTHER[axis])
        top = self.clean
        lines = [
            MethodRow(
                method,
                f"{axis}.{slugged(method.name)}.html",
                method.paper.venue if method.paper else "",
                self._side(theirs.get(method), others, top),
                self._side(mine.get(method), others, top),
                places[method],
                tuple(self._side(rows.get(method), (), top) for rows in beside),
                self.costs.get(method),
            )
            for method in dict.fromkeys([*theirs, *mine])
        ]
        return View(
            axis,
            HEADINGS[axis],
            tuple(lines),
            tuple(method.full_label for method in others),
            tuple(method.full_label for method in self.columns[axis]),
            tuple(columns),
        )

    def _beside_on(self, axis: Axis) -> list[Beside]:
        """The columns that say something of the methods of an axis."""
        return [one for one in self.beside if Ranking.of(axis, one.results).rows]

    def _others(self, axis: Axis) -> list[Method]:
        """The methods of an axis, those with most results first; the plain one leads."""
        counts = Counter(result.method(axis) for result in (*self.published, *self.ours))
        return sorted(counts, key=lambda method: (not method.is_plain, -counts[method], method.label))

    def _side(self, row: MethodOutcomes | None, others: Sequence[Method], top: float) -> Side | None:
        if row is None:
            return None
        counts = Ranking([], self.columns[row.method.axis]).counts
        ranked = None if row.missing else row.worst(counts)
        worst, free = row.worst(is_rival), row.worst(_is_no_reference)
        return Side(
            row.rank,
            row.rivals,
            self.number(row.plain, top),
            self.number(ranked[1], top) if ranked else None,
            ranked[0].full_label if ranked else "",
            self.number(worst[1], top) if worst else None,
            worst[0].full_label if worst else "",
            self.number(free[1], top) if free else None,
            free[0].full_label if free else "",
            ", ".join(row.missing),
            tuple(_bar(other, row.outcomes.get(other), top) for other in others),
        )

    def plot(self) -> Markup | None:
        """Published defenses: clean accuracy against the worst case over the ranked attacks; None of too few."""
        points = []
        for line in self.view("defense").lines:
            side = line.published
            if side and side.plain and side.ranked:
                points.append((side.plain.value / 100, side.ranked.value / 100, line.method.label))
        if len(points) < FEW_POINTS:
            return None
        return figures.scatter(PLOT, "test accuracy on clean images, %", "worst case, %", points, figures.WIDE)

    def number(self, outcome: PairOutcome | None, top: float) -> Number | None:
        """Return an outcome as cells show it, tinted up to `top`."""
        return Number.of(outcome, top, self._source) if outcome else None

    def _source(self, result: Result) -> tuple[str, str]:
        """Who says a result: the name, and the page."""
        return self.pages[result.table]

    @property
    def answer(self) -> str:
        """The computed sentence."""
        rows = Ranking.of("attack", self.published).rows
        held = [(row, worst) for row in rows if (worst := row.worst(is_rival)) is not None]
        held.sort(key=lambda one: one[1][1].value)
        if not held:
            return "Nothing is published here yet."
        best, (defense, outcome) = held[0]
        undone = sum(worst[1].value >= self.clean - NEAR for _, worst in held)
        return (
            f"On {self.name}, {undone} of {len(held)} published attacks are undone by some defense: "
            f"it brings test accuracy back to within {NEAR:g} points of clean training. "
            f"{best.method.label} ({best.method.budget_text}) holds best, at {outcome.value:.1f} % under {defense.label}."
        )

    @property
    def clean(self) -> float:
        """The accuracy of clean training without defense, percent: the median of what is published, else the highest result."""
        plain = [result.value for result in self.published if result.attack.is_plain and result.defense.is_plain]
        return median(plain) if plain else max((result.value for result in self.published), default=100.0)

    @property
    def counts(self) -> str:
        """What there is, in a line."""
        attacks, defenses = (
            {result.method(axis) for result in (*self.published, *self.ours)} for axis in ("attack", "defense")
        )
        papers = {result.source for result in self.published}
        contested = sum(outcome.is_contested for _, _, outcome in self._outcomes)
        return (
            f"{_plain_left_out(attacks)} attacks × {_plain_left_out(defenses)} defenses · "  # noqa: RUF001
            f"{len(self.published)} published results of {_counted(len(papers), 'paper')}{self.years} · "
            f"{len(self.ours)} measured here · {contested} on which papers lie more than five points apart"
        )

    @property
    def _outcomes(self) -> list[tuple[Method, Method, PairOutcome]]:
        rows = Ranking.of("attack", self.published).rows
        return [(row.method, defense, outcome) for row in rows for defense, outcome in row.outcomes.items()]

    @property
    def disputes(self) -> list[tuple[str, str, Number]]:
        """What papers contest most: attack, defense, and what each prints."""
        found = [one for one in self._outcomes if one[2].is_contested]
        found.sort(key=lambda one: one[2].low - one[2].high)
        return [
            (a.full_label, d.label, Number.of(e, 100.0, lambda result: self.pages[result.table])) for a, d, e in found[:SHOWN]
        ]


@dataclass(frozen=True)
class Chip:
    """A link to another dataset or network."""

    text: str
    href: str
    here: bool


def chips(here: Start, pages: Sequence[Start]) -> dict[str, list[Chip]]:
    """Return the links to other datasets, each with the network of `here` where it has it, and to networks of this dataset."""
    datasets: dict[str, Start] = {}
    for page in pages:
        if page.dataset not in datasets or page.network == here.network:
            datasets[page.dataset] = page
    networks = [page for page in pages if page.dataset == here.dataset]
    return {
        "Dataset": [Chip(page.dataset_label, page.file, page.dataset == here.dataset) for page in datasets.values()],
        "Network": [Chip(page.network_label, page.file, page is here) for page in networks],
    }


def starts(tables: Sequence[Table], own: OwnTables, opens: bool) -> list[Start]:
    """Return a page for each dataset and network that papers print much of; none of a smaller site.

    CIFAR-10 with ResNet-18 comes first, and is the page that the site `opens` with unless that is a table of its own.
    """
    counts = Counter(setting_of(score) for _, score in accuracies(tables))
    if counts[HOME] < LEAST:
        return []
    chosen = [setting for setting, count in counts.most_common() if count >= LEAST]
    ordered = sorted(chosen, key=lambda setting: setting != HOME)
    papers = FromPapers.of(tables)
    return [Start.of(setting, papers, own, opens and setting == HOME) for setting in ordered]


def home(tables: Sequence[Table], own: OwnTables) -> Start:
    """Return what papers print of the home setting, for a site that has no page of it."""
    return Start.of(HOME, FromPapers.of(tables), own, False)


def _range(low: float, high: float) -> str:
    """Two bounds as pages write them; '' where they read alike."""
    bounds = f"{low:.1f}", f"{high:.1f}"
    return "" if bounds[0] == bounds[1] else "–".join(bounds)  # noqa: RUF001


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _plain_left_out(methods: set[Method]) -> int:
    return sum(not method.is_plain for method in methods)


def _is_no_reference(method: Method) -> bool:
    """Whether a method can be a worst case where everything counts."""
    return not method.is_plain


def _bar(other: Method, outcome: PairOutcome | None, top: float) -> Bar | None:
    if outcome is None:
        return None
    return Bar(other.full_label, outcome.value, f"{outcome.value:.1f}", min(10, round(10 * outcome.value / top)))
