"""What the pages' templates get: boards, cells and entries as lists of words, numbers and links."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from leaderboard import figures
from leaderboard.cite import bibtex
from leaderboard.figures import Line
from leaderboard.language import moment
from leaderboard.render import brief, difference, is_worst, number, short, spread
from leaderboard.scatter import Plane
from leaderboard.table import POINT, Board, Key, Value, slugged
from registry import CATALOGS, EntryError, Paper
from registry.entry import Entry
from registry.item import write, write_value
from results import Record, submission

if TYPE_CHECKING:
    from markupsafe import Markup

SETTING = tuple(axis for axis in POINT if axis not in ("attack", "defense"))
WORDS = {"dataset": "data set", "part": "trained on"}
DURING = ("augment", "loss", "start", "model", "configure")
HOOKS = {"purify": "before training"} | dict.fromkeys(DURING, "during training")
LARGE = 2000  # places of a board, cells on the page of an entry
CURVE = 24  # points of a curve inside a board's page; the page of sources has all


@dataclass(frozen=True)
class Cell:
    """A combination that was run, on the board that shows it first."""

    board: Board
    value: Value

    @property
    def key(self) -> str:
        return self.value.runs[0].id

    @property
    def attack(self) -> str:
        """The first of its attacks, an entry."""
        return self.value.runs[0].cell.attack[0].name

    @property
    def page(self) -> str:
        """The page of sources that has it: one per attack as people write it."""
        return f"sources.{slugged(self.value.point['attack'])}.html"

    @property
    def href(self) -> str:
        return f"{self.page}#c-{self.key}"

    def names(self, kind: str) -> list[str]:
        """The names of its entries of a kind."""
        parts = getattr(self.value.runs[0].cell, kind)
        return [part.name for part in (parts if isinstance(parts, tuple) else (parts,))]

    @property
    def setting(self) -> str:
        return setting(self.value.point)


def setting(point: Mapping[str, str]) -> str:
    """Where a cell was measured, in a few words."""
    share = f", ratio {point['ratio']}" if point["ratio"] != "1" else ""
    part = f", {point['part']} images" if point["part"] != "all" else ""
    return f"{point['protocol']}, {point['dataset']}, {point['architecture']}{share}{part}"


# A board


def board(shown: Board, links: Mapping[str, str], other: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The table of a board, and the provenance behind its numbers for the drawer; that of its `other` side is the same."""
    tags = {axis: _tags(shown, axis) for axis in ("attack", "defense")}

    def side(labels: Sequence[str], axes: Sequence[str], along: Callable[[str], Iterable[Key]]) -> dict[str, dict[str, Any]]:
        found = {}
        for label in labels:
            first = next(iter(along(label)))
            point = shown.values[first].point
            axis = next((axis for axis in ("attack", "defense") if axis in axes), "")
            settings = [shown.settings[a][point[a]] for a in axes if point[a] in shown.settings.get(a, ())]
            run = next((run for place in along(label) for run in shown.values[place].runs), None)
            found[label] = {
                "label": label,
                "slug": slugged(label),
                "href": _page_of(axis, run.cell) if run and axis else "",
                "clean": shown.values[first].clean and axis == "attack",
                "tags": tags[axis].get(point[axis], []) if axis else [],
                "words": " ".join(paper.title for one in settings for paper in one.papers),
                "needs": [need for one in settings for need in one.needs],
                "cost": max((one.cost for one in settings), default=1.0),
            }
        return found

    rows = side(shown.rows, shown.row_axes, lambda row: ((row, column) for column in shown.columns))
    columns = side(shown.columns, shown.column_axes, lambda column: ((row, column) for row in shown.rows))
    records = [record for value in shown.values.values() if not value.reported for record in value.used]
    return {
        "spread": spread(shown),
        "large": large(shown),
        "latest": max((record.finished for record in records), default=""),
        "heads": list(columns.values()),
        "lines": [
            rows[row]
            | {"reported": any(shown.values[row, c].reported for c in shown.columns), "faint": row in shown.faint}
            | {"standing": shown.standings.get(row), "cells": [_cell(shown, row, c, links) for c in shown.columns]}
            for row in shown.rows
        ],
        "tags": [sorted({tag for one in side.values() for tag in one["tags"]}) for side in (rows, columns)],
        "tiers": {t: submission.TIERS[t] for t in submission.TIERS if t in {v.tier for v in shown.values.values()}},
        "ranked": any(standing.rank is not None for standing in shown.standings.values()),
        "averaged": any(standing.mean is not None for standing in shown.standings.values()),
        "most": len(shown.columns) - (shown.subject == "defense" and any(one["clean"] for one in columns.values())),
        "brief": brief([*shown.rows, *shown.columns]),
        "data": other["data"] if other else data(shown),
    }


def tint(value: Value, shown: Board) -> int | None:
    """The number of a place's colour, 0 strong to 10 none, on the scale of its board."""
    return None if value.mean is None else figures.step(value.mean, shown.top)


def large(shown: Board) -> bool:
    """Whether a board shows less of each place, and its rows are laid out only when they are scrolled to."""
    return len(shown.values) > LARGE


def _page_of(axis: str, cell: Any) -> str:
    parts = getattr(cell, axis)
    return f"{axis}.{slugged(parts[0].name)}.html"


def _tags(shown: Board, axis: str) -> dict[str, list[str]]:
    """What rows and columns can be filtered by: the norm of an attack's budget; when a defense acts, and what it needs."""
    found: dict[str, list[str]] = {}
    for value in shown.values.values():
        text = value.point[axis]
        if axis == "attack" and not value.clean and not found.get(text):
            norm = next((record.poison.norm for record in value.used if record.poison), "")
            found[text] = [f"budget {norm if norm != 'none' else 'unbounded'}"] if norm else []
        if axis == "defense" and text not in found and value.runs:
            entries = [entry for part in value.runs[0].cell.defense if (entry := _entry("defense", part.name))]
            when = [HOOKS[hook] for entry in entries for hook in HOOKS if hook in entry.hooks]
            needs = [f"needs {need}" for entry in entries for need in entry.facts.get("needs", ())]
            found[text] = list(dict.fromkeys([*when, *needs]))
    return found


def _entry(kind: str, name: str) -> Entry | None:
    try:
        return CATALOGS[f"{kind}s"].entry(name)
    except EntryError:
        return None


def _cell(shown: Board, row: str, column: str, links: Mapping[str, str]) -> dict[str, Any]:
    value = shown.values[row, column]
    run = next((run for run in value.runs if run.id in links), None)
    return {
        "value": value,
        "number": number(value),
        "note": short(value, shown.seeds),
        "change": difference(value.drop) if value.drop is not None and not large(shown) else "",
        "heat": tint(value, shown),
        "best": is_worst(shown, row, column),
        "reported": value.reported,
        "href": links[run.id] if run else "",
    }


def data(shown: Board) -> Markup:
    """The provenance of a board's numbers as JSON, short: what many records share is written once."""
    texts: dict[tuple[tuple[str, str], ...], int] = {}
    cells = {}
    for value in shown.values.values():
        if any(run.state != "missing" for run in value.runs):
            used = set(value.records)
            apart = {run.id for run in value.runs if run.record is not None and used and run.id not in used}
            cells[value.runs[0].id] = [
                _run(run, texts) | ({"apart": True} if run.id in apart else {}) for run in value.runs
            ]  # those are in no mean: stale ones beside fresh ones, others' beside ours
    return _json({"shared": [dict(text) for text in texts], "cells": cells})


def bib(shown: Board, citation: str) -> Markup:
    """BibTeX by the labels of rows and columns, for the export of what is in view; under '' that of the leaderboard."""
    found = {"": [citation]}
    for axis, several in shown.settings.items():
        side = [
            label
            for labels, axes in ((shown.rows, shown.row_axes), (shown.columns, shown.column_axes))
            if axis in axes
            for label in labels
        ]
        for text, one in several.items():
            if one.papers:
                found |= {label: [bibtex(paper) for paper in one.papers] for label in side if text in label.split(" / ")}
    return _json(found)


def _json(content: Any) -> Markup:
    """JSON that can stand in a page: nothing in it can end its element."""
    from markupsafe import Markup

    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  (escaped above)


def _run(run: Any, texts: dict[tuple[tuple[str, str], ...], int]) -> dict[str, Any]:
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
        "fingerprint of the data set": record.dataset_fingerprint,
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


def papers(shown: Board) -> list[Paper]:
    """The papers of all methods of a board."""
    settings = (one for several in shown.settings.values() for one in several.values())
    return list(dict.fromkeys(paper for one in settings for paper in one.papers))


def sides(base: Board, subject: str, home: bool) -> list[dict[str, Any]]:
    """A board seen as an attacker sees it and as a defender does; `subject` is what is seen now, none if there is one side."""
    words = {"attack": "Attacker", "defense": "Defender"}
    if not base.other:
        return []
    plain = "index.html" if home else f"{base.slug}.html"
    files = {axis: plain if axis == base.subject else f"{base.slug}{base.other}.html" for axis in words}
    return [{"text": text, "file": files[axis], "here": axis == subject} for axis, text in words.items()]


def switch(boards: Sequence[Board], current: Board, subject: str) -> list[dict[str, Any]]:
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


def pareto(shown: Board) -> Markup | None:
    """What each defense costs on clean data against what it saves in the worst case."""
    if not shown.other:
        return None
    turned = shown if shown.subject == "defense" else shown.transposed()
    names = brief(turned.rows)
    points = [
        (standing.clean, standing.worst_case, names[row])
        for row, standing in turned.standings.items()
        if standing.clean is not None and standing.worst_case is not None
    ]
    if len(points) < 2:
        return None
    title = f"{shown.title}: accuracy without a poison against the worst case over attacks, one point per defense"
    return figures.scatter(title, "test accuracy on the clean training set, %", "worst case over attacks, %", points)


# Cells and entries


def sources(cells: Sequence[Cell]) -> dict[str, Any]:
    """All that is known of where numbers come from; `common` is the same for all of their records."""
    known = [facts(record) for cell in cells for record in cell.value.used]
    common = (
        {key: text for key, text in known[0].items() if text and all(one.get(key) == text for one in known)} if known else {}
    )

    def only(record: Record) -> dict[str, str]:
        found = poison(record) | facts(record)
        return {key: text for key, text in found.items() if text and key not in common and key != "finished"}

    return {
        "attack": cells[0].value.point["attack"],
        "common": common,
        "cells": [
            {
                "cell": cell,
                "number": number(cell.value),
                "curve": _curve(cell),
                "only": _merged([(run.cell.seed, only(run.record)) for run in cell.value.runs if run.record]),
                "runs": [{"run": run, "seconds": seconds(run.record) if run.record else ""} for run in cell.value.runs],
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
    for record in cell.value.used:
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
    return f"{cell.value.point['attack']} × {cell.value.point['defense']}"  # noqa: RUF001


def line(cell: Cell) -> dict[str, Any]:
    """A row of the table of an entry's cells."""
    value = cell.value
    return {
        "cell": cell,
        "axes": value.point,
        "number": number(value),
        "change": difference(value.drop) if value.drop is not None else "",
        "heat": tint(value, cell.board),
        "note": short(value, value.n),
    }


def row(entry: Entry, idea: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """A row of the list of entries; of the idea its first line, which spells a short name out."""
    measured = [
        cell for cell in cells if cell.value.mean is not None and cell.value.state != "stale" and not cell.value.reported
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
    cells = [cell for cell in cells if not cell.value.reported]  # in a picture no mark would say whose a number is
    first = [cell for cell in cells if cell.board is cells[0].board and cell.value.state in ("done", "partial")]
    other = {"attack": "defense", "defense": "attack"}.get(kind, "")
    if other:
        names = brief(list(dict.fromkeys(cell.value.point[other] for cell in first)))
        drawn = {text: Line(names[text], _mean_curve(cell.value)) for cell in first for text in [cell.value.point[other]]}
        drawn = {text: one for text, one in drawn.items() if len(one.points) > 1}
        if drawn:
            kept = sorted(drawn.values(), key=lambda one: (one.name != "none", one.points[-1][1]))[: figures.COLOURS + 5]
            title = f"Test accuracy per epoch, {cells[0].setting}"
            found.append((title, figures.lines(title, "epoch", kept)))
    if kind == "attack":
        for axis, across in (("epsilon", "radius epsilon"), ("ratio", "share of the training images that is poisoned")):
            found += _sweeps(cells, axis, across)
    return [Plot(title, svg, f"{stem}.curve-{number}") for number, (title, svg) in enumerate(found, 1)]


def _mean_curve(value: Value) -> list[figures.Point]:
    curves = [record.metrics.curve for record in value.used if record.metrics]
    if not curves:
        return []
    means = map(fmean, zip(*(curve.test_acc for curve in curves), strict=False))
    return list(zip(map(float, curves[0].judged), means, strict=False))


def _sweeps(cells: Iterable[Cell], axis: str, across: str) -> list[tuple[str, Markup]]:
    """One figure per setting in which only `axis` varies, one line per defense, from clean training on where that is known."""
    groups: dict[tuple[str, ...], dict[str, dict[float, tuple[float, float]]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        part, value = cell.value.runs[0].cell.attack[0], cell.value
        x = value.runs[0].cell.ratio if axis == "ratio" else part.fields.get("epsilon")
        if isinstance(x, int | float) and value.mean is not None and len(value.runs[0].cell.attack) == 1:
            rest = {name: given for name, given in part.fields.items() if name != axis}
            named = write(part.name, rest) if axis == "epsilon" else value.point["attack"]
            where = setting({**value.point, **({"ratio": "1"} if axis == "ratio" else {})})
            points = groups[named, where][value.point["defense"]]
            points[float(x)] = (value.mean, value.std or 0.0)
            if value.reference is not None:  # nothing added, nobody poisoned: clean training with the same defense
                points.setdefault(0.0, (value.reference, 0.0))
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


def figure_files(shown: Board) -> list[tuple[str, str]]:
    """The figures that a board may have: file without its ending, and title."""
    return [(f"{shown.slug}.{name}", title) for name, title in FIGURE_NAMES]
