"""What the pages' templates get: boards, cells and entries as lists of words, numbers and links."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from leaderboard.formats import figures
from leaderboard.formats.bibtex import bibtex
from leaderboard.formats.escaping import moment
from leaderboard.formats.figures import Line
from leaderboard.formats.scatter import Plane
from leaderboard.formats.words import brief, change, note, number, spread
from leaderboard.tables.lookup import Run
from leaderboard.tables.ranking import Labels, joined
from leaderboard.tables.remarks import remarks
from leaderboard.tables.score import POINT, Score
from leaderboard.tables.settings import Setting
from leaderboard.tables.table import Table, slugged
from registry import CATALOGS, EntryError, Paper
from registry.entry import Entry
from registry.item import write, write_value
from results import Record, submission

if TYPE_CHECKING:
    from markupsafe import Markup

SETTING = tuple(axis for axis in POINT if axis not in ("attack", "defense"))
WORDS = {"part": "trained on"}
DURING = ("augment", "loss", "start", "model", "configure")
HOOKS = {"purify": "before training"} | dict.fromkeys(DURING, "during training")
LARGE = 2000  # places of a board, cells on the page of an entry
Tags = Mapping[str, Mapping[str, list[str]]]  # axis -> text -> what its rows or columns can be filtered by
CURVE = 24  # points of a curve inside a board's page; the page of sources has all


@dataclass(frozen=True)
class Cell:
    """A combination that was run, in the table that shows it first."""

    table: Table
    score: Score

    @property
    def key(self) -> str:
        return self.score.runs[0].id

    @property
    def attack(self) -> str:
        """The first of its attacks, an entry."""
        return self.score.runs[0].cell.attack[0].name

    @property
    def page(self) -> str:
        """The page of sources that has it: one per attack as people write it."""
        return f"sources.{slugged(self.score.point['attack'])}.html"

    @property
    def href(self) -> str:
        return f"{self.page}#c-{self.key}"

    def names(self, kind: str) -> list[str]:
        """The names of its entries of a kind."""
        parts = getattr(self.score.runs[0].cell, kind)
        return [part.name for part in (parts if isinstance(parts, tuple) else (parts,))]

    @property
    def setting(self) -> str:
        return setting(self.score.point)


def setting(point: Mapping[str, str]) -> str:
    """Where a cell was measured, in a few words."""
    share = f", ratio {point['ratio']}" if point["ratio"] != "1" else ""
    part = f", {point['part']} images" if point["part"] != "all" else ""
    return f"{point['protocol']}, {point['dataset']}, {point['architecture']}{share}{part}"


# A board


def board(shown: Table, links: Mapping[str, str], other: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the page of a table gets, with the provenance of its numbers for the drawer, which its `other` side shares."""
    tags = {axis: _tags(shown, axis) for axis in ("attack", "defense")}
    by_row = {row: [shown.scores[row, column] for column in shown.columns] for row in shown.rows}
    by_column = {column: [shown.scores[row, column] for row in shown.rows] for column in shown.columns}
    rows = [_head(shown, row, shown.row_axes, scores, tags) for row, scores in by_row.items()]
    columns = [_head(shown, column, shown.column_axes, scores, tags) for column, scores in by_column.items()]
    records = [record for score in shown.scores.values() if not score.reported for record in score.used]
    tiers = {score.tier for score in shown.scores.values()}
    clean_columns = shown.subject == "defense" and any(head["clean"] for head in columns)
    return {
        "spread": spread(shown),
        "large": large(shown),
        "latest": max((record.finished for record in records), default=""),
        "heads": columns,
        "lines": [head | _line(shown, row, links) for row, head in zip(shown.rows, rows, strict=True)],
        "tags": [sorted({tag for head in side for tag in head["tags"]}) for side in (rows, columns)],
        "tiers": {tier: text for tier, text in submission.TIERS.items() if tier in tiers},
        "ranked": any(summary.rank is not None for summary in shown.ranking.values()),
        "averaged": any(summary.mean is not None for summary in shown.ranking.values()),
        "most": len(shown.columns) - clean_columns,
        "brief": brief(labels_of(shown)),
        "remarks": remarks(shown),
        "data": other["data"] if other else data(shown),
    }


def labels_of(shown: Table) -> list[str]:
    """The labels of all rows and columns."""
    return [joined(labels) for labels in (*shown.rows, *shown.columns)]


def _head(shown: Table, labels: Labels, axes: Sequence[str], scores: Sequence[Score], tags: Tags) -> dict[str, Any]:
    """The head of a row or column with its scores."""
    first = scores[0]
    subject = next((axis for axis in ("attack", "defense") if axis in axes), "")
    settings = _settings(shown, first, axes)
    run = next((run for score in scores for run in score.runs), None)
    return {
        "label": joined(labels),
        "slug": slugged(joined(labels)),
        "href": _page_of(subject, run) if run and subject else "",
        "clean": first.clean and subject == "attack",
        "tags": tags[subject].get(first.point[subject], []) if subject else [],
        "words": " ".join(paper.title for setting in settings for paper in setting.papers),
        "needs": [need for setting in settings for need in setting.needs],
        "cost": max((setting.cost for setting in settings), default=1.0),
    }


def _settings(shown: Table, score: Score, axes: Sequence[str]) -> list[Setting]:
    """What the labels of a score on some axes stand for, as far as it is known."""
    texts = [(axis, score.point[axis]) for axis in axes]
    return [shown.settings[axis][text] for axis, text in texts if text in shown.settings.get(axis, ())]


def _line(shown: Table, row: Labels, links: Mapping[str, str]) -> dict[str, Any]:
    return {
        "reported": any(shown.scores[row, column].reported for column in shown.columns),
        "faint": row in shown.faint,
        "summary": shown.ranking.get(row),
        "cells": [_cell(shown, row, column, links) for column in shown.columns],
    }


def tint(score: Score, shown: Table) -> int | None:
    """The number of a score's color, 0 strong to 10 none, on the scale of its table."""
    return None if score.mean is None else figures.step(score.mean, shown.top)


def large(shown: Table) -> bool:
    """Whether a board shows less of each place, and its rows are laid out only when they are scrolled to."""
    return len(shown.scores) > LARGE


def _page_of(axis: str, run: Run) -> str:
    parts = getattr(run.cell, axis)
    return f"{axis}.{slugged(parts[0].name)}.html"


def _tags(shown: Table, axis: str) -> dict[str, list[str]]:
    """What rows and columns can be filtered by: the norm of an attack's budget; when a defense acts, and what it needs."""
    tags: dict[str, list[str]] = {}
    for score in shown.scores.values():
        text = score.point[axis]
        if not tags.get(text):
            tags[text] = _budget(score) if axis == "attack" else _moments(score)
    return tags


def _budget(score: Score) -> list[str]:
    norm = next((record.poison.norm for record in score.used if record.poison), "")
    unbounded = "unbounded" if norm == "none" else norm
    return [f"budget {unbounded}"] if norm and not score.clean else []


def _moments(score: Score) -> list[str]:
    parts = score.runs[0].cell.defense if score.runs else ()
    entries = [entry for part in parts if (entry := _entry("defense", part.name))]
    when = [HOOKS[hook] for entry in entries for hook in HOOKS if hook in entry.hooks]
    needs = [f"needs {need}" for entry in entries for need in entry.facts.get("needs", ())]
    return list(dict.fromkeys([*when, *needs]))


def _entry(kind: str, name: str) -> Entry | None:
    try:
        return CATALOGS[f"{kind}s"].entry(name)
    except EntryError:
        return None


def _cell(shown: Table, row: Labels, column: Labels, links: Mapping[str, str]) -> dict[str, Any]:
    score = shown.scores[row, column]
    linked = [links[run.id] for run in score.runs if run.id in links]
    return {
        "score": score,
        "number": number(score),
        "note": note(score, shown.seeds),
        "change": "" if large(shown) else change(score),
        "heat": tint(score, shown),
        "best": shown.is_worst(row, column),
        "reported": score.reported,
        "href": linked[0] if linked else "",
    }


def data(shown: Table) -> Markup:
    """The provenance of a table's numbers as JSON, short: what many records share is written once."""
    texts: dict[tuple[tuple[str, str], ...], int] = {}
    cells = {}
    for score in shown.scores.values():
        if any(run.state != "missing" for run in score.runs):
            cells[score.runs[0].id] = [_run(run, texts) | _apart(run, score) for run in score.runs]
    return _json({"shared": [dict(text) for text in texts], "cells": cells})


def _apart(run: Run, score: Score) -> dict[str, bool]:
    """Mark a run whose number is in no mean: stale ones beside fresh ones, others' beside ours."""
    apart = run.record is not None and bool(score.used) and run.id not in score.records
    return {"apart": True} if apart else {}


def bib(shown: Table, citation: str) -> Markup:
    """BibTeX by the labels of rows and columns, for the export of what is in view; under '' that of the leaderboard."""
    cited = {"": [citation]}
    for axis, settings in shown.settings.items():
        sides = ((shown.rows, shown.row_axes), (shown.columns, shown.column_axes))
        labels = [one for side, axes in sides if axis in axes for one in side]
        for setting in settings.values():
            entries = [bibtex(paper) for paper in setting.papers]
            cited |= {joined(one): entries for one in labels if entries and setting.text in one}
    return _json(cited)


def _json(content: Any) -> Markup:
    """JSON that can stand in a page: nothing in it can end its element."""
    from markupsafe import Markup

    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  (escaped above)


def _run(run: Run, texts: dict[tuple[tuple[str, str], ...], int]) -> dict[str, Any]:
    record: Record | None = run.record
    by = {"by": run.origin.text} if run.origin else {}
    if record is None or record.metrics is None or record.metrics.test_acc is None or record.metrics.test_acc_best is None:
        return {"seed": run.cell.seed, "id": run.id, "why": f"{run.state.replace('-', ' ')}: {run.reason}"} | by
    several = (poison(record), {key: text for key, text in facts(record).items() if text and key != "finished"})
    found: dict[str, Any] = {
        "seed": run.cell.seed,
        "id": run.id,
        "acc": record.metrics.test_acc,
        "best": record.metrics.test_acc_best,
        "curve": [round(1000 * y) for y in thinned(record.metrics.curve.test_acc)],
        "seconds": seconds(record),
        "memory": f"{record.peak_memory / 2**20:,.0f} MiB" if record.peak_memory else "",
        "shared": [texts.setdefault(tuple(one.items()), len(texts)) for one in several],
        "finished": moment(record.finished),
    }
    return found | by | ({"why": f"stale: {run.reason}"} if run.state == "stale" else {})


def thinned(curve: Sequence[float]) -> list[float]:
    step = max(1, -(-len(curve) // CURVE))
    return [*curve[:-1:step], curve[-1]] if curve else []


def facts(record: Record) -> dict[str, str]:
    """Where a number comes from, in words."""
    return {
        "device": record.device,
        "numerics": ", ".join(f"{key} {value}" for key, value in record.numerics.items()),
        "commit": record.commit,
        "sha256 of the code": record.tree,
        "fingerprint of the dataset": record.dataset_fingerprint,
        "finished": record.finished,
        **{f"{key} version": text for key, text in record.versions.items()},
    }


def poison(record: Record) -> dict[str, str]:
    """Which training set was used, in words."""
    note = record.poison
    if note is None:
        return {"poison": "none"}
    figures = [
        f"{name} {amount:.4g}" for name, amount in (("spent", note.spent), ("allowed", note.allowed)) if amount is not None
    ]
    return {"poison": note.checksum} | (
        {"budget": f"{note.norm}: {', '.join(figures)}" if figures else note.norm} if note.norm else {}
    )


def seconds(record: Record) -> str:
    """What the stages of a cell took, in words: seconds on the wall and, where the record has them, of the processor."""
    return ", ".join(_taken(record, stage) for stage in ("craft", "purify", "train", "measure") if stage in record.seconds)


def _taken(record: Record, stage: str) -> str:
    cpu = record.cpu_seconds.get(stage)
    return f"{stage} {record.seconds[stage]:.1f}" + ("" if cpu is None else f" (CPU {cpu:.1f})")


def papers(shown: Table) -> list[Paper]:
    """The papers of all methods of a board."""
    settings = (one for several in shown.settings.values() for one in several.values())
    return list(dict.fromkeys(paper for one in settings for paper in one.papers))


def sides(base: Table, subject: str, home: bool) -> list[dict[str, Any]]:
    """A board seen as an attacker sees it and as a defender does; `subject` is what is seen now, none if there is one side."""
    words = {"attack": "Attacker", "defense": "Defender"}
    if not base.other:
        return []
    plain = "index.html" if home else f"{base.slug}.html"
    files = {axis: plain if axis == base.subject else f"{base.slug}{base.other}.html" for axis in words}
    return [{"text": text, "file": files[axis], "here": axis == subject} for axis, text in words.items()]


def switch(boards: Sequence[Table], current: Table, subject: str) -> list[dict[str, Any]]:
    """The axes in which boards differ, each with links to the board that has another value and the most else in common.

    `subject` is whose view is on show: links keep it where the other board has it.
    """
    found = []
    for axis in SETTING:
        if axis not in current.fixed:
            continue
        texts = list(dict.fromkeys(board.fixed[axis] for board in boards if axis in board.fixed))
        names, options = brief(texts), []
        for text in sorted(texts):
            fits = [board for board in boards if board.fixed.get(axis) == text]
            nearest = max(fits, key=lambda b: sum(b.fixed.get(a) == t for a, t in current.fixed.items() if a != axis))
            sided = nearest.other if nearest.subject != subject else ""
            file, here = f"{nearest.slug}{sided}.html", text == current.fixed[axis]
            options.append({"text": text, "brief": names[text], "file": file, "here": here})
        if len(options) > 1:
            found.append({"name": axis, "axis": WORDS.get(axis, axis), "options": options})
    return found


def pareto(shown: Table) -> Markup | None:
    """What each defense costs on clean data against what it saves in the worst case."""
    if not shown.other:
        return None
    turned = shown if shown.subject == "defense" else shown.transposed()
    names = brief([joined(row) for row in turned.rows])
    points = [
        (summary.clean, summary.worst_case, names[joined(row)])
        for row, summary in turned.ranking.items()
        if summary.clean is not None and summary.worst_case is not None
    ]
    if len(points) < 2:
        return None
    title = f"{shown.title}: accuracy without a poison against the worst case over attacks, one point per defense"
    return figures.scatter(title, "test accuracy on the clean training set, %", "worst case over attacks, %", points)


# Cells and entries


def sources(cells: Sequence[Cell]) -> dict[str, Any]:
    """All that is known of where numbers come from; `common` is the same for all of their records."""
    known = [facts(record) for cell in cells for record in cell.score.used]
    common = (
        {key: text for key, text in known[0].items() if text and all(one.get(key) == text for one in known)} if known else {}
    )

    def only(record: Record) -> dict[str, str]:
        found = poison(record) | facts(record)
        return {key: text for key, text in found.items() if text and key not in common and key != "finished"}

    return {
        "attack": cells[0].score.point["attack"],
        "common": common,
        "cells": [
            {
                "cell": cell,
                "number": number(cell.score),
                "curve": _curve(cell),
                "only": _merged([(run.cell.seed, only(run.record)) for run in cell.score.runs if run.record]),
                "runs": [{"run": run, "seconds": seconds(run.record) if run.record else ""} for run in cell.score.runs],
            }
            for cell in cells
        ],
    }


def _merged(several: Sequence[tuple[int, Mapping[str, str]]]) -> list[tuple[str, str]]:
    """Facts of several seeds: what they share once, the rest with its seed."""
    found = []
    for key in dict.fromkeys(key for _, one in several for key in one):
        texts = {one.get(key, "") for _, one in several}
        if len(texts) == 1:
            found.append((key, texts.pop()))
        else:
            found += [(f"{key}, seed {seed}", one[key]) for seed, one in several if key in one]
    return found


def _curve(cell: Cell) -> Markup | None:
    drawn = []
    for record in cell.score.used:
        curve = record.metrics.curve if record.metrics else None
        if curve is None:
            continue
        trained = list(enumerate(curve.train_acc, 1))
        for name, points in (("test", list(zip(curve.judged, curve.test_acc, strict=True))), ("train", trained)):
            if len(points) > 1:
                drawn.append(Line(f"{name}, seed {record.cell.seed}", points))
    title = f"Accuracy per epoch: {described(cell)}"
    return figures.lines(title, "epoch", drawn, up="accuracy, %", dots=False) if drawn else None


def described(cell: Cell) -> str:
    return f"{cell.score.point['attack']} × {cell.score.point['defense']}"  # noqa: RUF001


def line(cell: Cell) -> dict[str, Any]:
    """A row of the table of an entry's cells."""
    score = cell.score
    return {
        "cell": cell,
        "axes": score.point,
        "number": number(score),
        "change": change(score),
        "heat": tint(score, cell.table),
        "note": note(score, score.n),
    }


def row(entry: Entry, idea: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """A row of the list of entries; of the idea its first line, which spells a short name out."""
    measured = [
        cell for cell in cells if cell.score.mean is not None and cell.score.state != "stale" and not cell.score.reported
    ]
    return {
        "entry": entry,
        "idea": idea.partition("\n")[0],
        "file": f"{entry.kind[:-1]}.{slugged(entry.name)}.html",
        "cells": len(measured),
        "settings": len({cell.setting for cell in measured}),
        "tags": list(
            dict.fromkeys(
                [*(HOOKS[h] for h in HOOKS if h in entry.hooks), *(f"needs {n}" for n in entry.facts.get("needs", ()))]
            )
        )
        if entry.kind == "defenses"
        else [],
    }


@dataclass(frozen=True)
class Plot:
    """A figure of an entry, and its file without the ending."""

    title: str
    svg: Markup
    file: str


def plots(kind: str, stem: str, cells: Sequence[Cell]) -> list[Plot]:
    """Curves of an entry, whose files begin with `stem`.

    Accuracy per epoch on its first board, accuracy over the radius, over the protection ratio.
    """
    found = []
    cells = [cell for cell in cells if not cell.score.reported]  # in a picture no mark would say whose a number is
    first = [cell for cell in cells if cell.table is cells[0].table and cell.score.current]
    other = {"attack": "defense", "defense": "attack"}.get(kind, "")
    if other:
        names = brief(list(dict.fromkeys(cell.score.point[other] for cell in first)))
        drawn = {text: Line(names[text], _mean_curve(cell.score)) for cell in first for text in [cell.score.point[other]]}
        drawn = {text: one for text, one in drawn.items() if len(one.points) > 1}
        if drawn:
            kept = sorted(drawn.values(), key=lambda one: (one.name != "none", one.points[-1][1]))[: figures.COLOURS + 5]
            title = f"Test accuracy per epoch, {cells[0].setting}"
            found.append((title, figures.lines(title, "epoch", kept)))
    if kind == "attack":
        for axis, across in (("epsilon", "radius epsilon"), ("ratio", "share of the training images that is poisoned")):
            found += _sweeps(cells, axis, across)
    return [Plot(title, svg, f"{stem}.curve-{number}") for number, (title, svg) in enumerate(found, 1)]


def _mean_curve(score: Score) -> list[figures.Point]:
    curves = [record.metrics.curve for record in score.used if record.metrics]
    if not curves:
        return []
    means = map(fmean, zip(*(curve.test_acc for curve in curves), strict=False))
    return list(zip(map(float, curves[0].judged), means, strict=False))


def _sweeps(cells: Iterable[Cell], axis: str, across: str) -> list[tuple[str, Markup]]:
    """One figure per setting in which only `axis` varies, one line per defense, from clean training on where that is known."""
    groups: dict[tuple[str, ...], dict[str, dict[float, tuple[float, float]]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        part, score = cell.score.runs[0].cell.attack[0], cell.score
        x = score.runs[0].cell.ratio if axis == "ratio" else part.fields.get("epsilon")
        if isinstance(x, int | float) and score.mean is not None and len(score.runs[0].cell.attack) == 1:
            rest = {name: given for name, given in part.fields.items() if name != axis}
            named = write(part.name, rest) if axis == "epsilon" else score.point["attack"]
            where = setting({**score.point, **({"ratio": "1"} if axis == "ratio" else {})})
            points = groups[named, where][score.point["defense"]]
            points[float(x)] = (score.mean, score.std or 0.0)
            if score.reference is not None:  # nothing added, nobody poisoned: clean training with the same defense
                points.setdefault(0.0, (score.reference, 0.0))
    found = []
    for (named, where), several in groups.items():
        names = brief(list(several))
        drawn = [
            Line(
                names[defense],
                [(x, mean) for x, (mean, _) in sorted(points.items())],
                [std for _, (_, std) in sorted(points.items())],
            )
            for defense, points in several.items()
            if len(points) > 1 + (0.0 in points)
        ]
        if drawn:
            xs = sorted({x for one in drawn for x, _ in one.points})
            over = {"epsilon": "the radius", "ratio": "the protection ratio"}[axis]
            title = f"Accuracy over {over}: {named.partition('(')[0]}, {where}"
            found.append((title, figures.lines(title, across, drawn[: figures.COLOURS + 5], [(x, write_value(x)) for x in xs])))
    return found


FIGURE_NAMES = (("heat", "heat map"), ("pareto", "Pareto plot"))


def planes(several: Sequence[Plane]) -> list[dict[str, Any]]:
    """Perturbations side by side, for their page."""
    from markupsafe import Markup

    return [
        {"plane": plane, "file": f"perturbations.{plane.slug}", "drawing": Markup(plane.drawing())}  # noqa: S704  (escaped there)
        for plane in several
    ]


def figure_files(shown: Table) -> list[tuple[str, str]]:
    """The figures that a board may have: file without its ending, and title."""
    return [(f"{shown.slug}.{name}", title) for name, title in FIGURE_NAMES]
