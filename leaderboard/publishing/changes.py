"""The numbers of the pages as data, and which of them moved, appeared or vanished between two publications.

A number is known by what was measured, not by the page that shows it or by the ids of its cells: a table that is renamed moves
nothing, and a cell that got a new id moves its number.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from unlearnable_bench.leaderboard.formats.escaping import exact
from unlearnable_bench.leaderboard.formats.text import FRACTION
from unlearnable_bench.leaderboard.formats.words import inert
from unlearnable_bench.leaderboard.publishing.reasons import reason
from unlearnable_bench.leaderboard.tables.groups import group_by
from unlearnable_bench.leaderboard.tables.score import POINT, SHARES, Score
from unlearnable_bench.results.cell import name_in

if TYPE_CHECKING:
    from unlearnable_bench.leaderboard.pages.site import Site
    from unlearnable_bench.leaderboard.publishing.releases import FrozenCopy
    from unlearnable_bench.leaderboard.tables.table import Table
    from unlearnable_bench.results import Records

KEY = (*POINT, "measure", "metric")
NUMBERS = (*KEY, "value", "std", "n", "state", "oracle", "tier", "page", "records", "unit", "versions", "finished", "errata")
CHANGES = (
    *("publication", "date", "release", "change", *KEY, "before", "before_n", "after", "after_n", "unit"),
    *("records", "reason"),
)
SINCE = {  # columns that earlier publications may lack
    NUMBERS: {"unit", "versions", "finished", "errata"},
    CHANGES: {"unit", "records", "reason"},
}
KINDS = MOVED, APPEARED, VANISHED = "moved", "appeared", "vanished"
SHOWN = 200  # changes of a kind and a publication that the page lists

Row = Mapping[str, str]
Key = tuple[str, ...]  # the fields of `KEY`


def measured_numbers(site: Site, records: Records) -> list[dict[str, str]]:
    """Return every measured number of the pages once: accuracies of tables of grids, then what else printed tables show.

    Accuracies and other shares are fractions. Settings that read alike and differ get a number, as in the tables.
    """
    rows: dict[Key, dict[str, str]] = {}
    for cell in site.index.cells:
        if cell.score.mean is not None:
            row = _row(cell.score, cell.score.point, "accuracy") | {"page": cell.href}
            row["attack"] = _distinct_attack(row, rows)
            rows[_key(row)] = row
    for table in site.printed_tables:
        for row in _printed_rows(table, records):
            rows.setdefault(_key(row), row)
    return list(rows.values())


def _distinct_attack(row: Row, rows: Mapping[Key, Row]) -> str:
    """The attack of a row, with a number where another setting reads alike."""
    attack, again = row["attack"], 1
    while _key({**row, "attack": attack}) in rows:
        again += 1
        attack = f"{row['attack']} [{again}]"
    return attack


def _printed_rows(table: Table, records: Records) -> list[dict[str, str]]:
    scores = [score for score in table.direct if score.mean is not None and score.records]
    return [_printed_row(score, records) | {"page": f"{table.slug}.html"} for score in scores]


def _printed_row(score: Score, records: Records) -> dict[str, str]:
    """A score of a printed table, named by what its records measured."""
    record = records.read(score.records[0])
    assert record is not None
    chosen = {"defense": str(score.request.fields["defense"])} if score.oracle else {}
    return _row(score, record.cell.texts | chosen, record.cell.measured)


def _row(score: Score, point: Mapping[str, str], measure: str) -> dict[str, str]:
    assert score.mean is not None
    unit = _Unit.of(score)
    return {
        **{axis: inert(point[axis]) for axis in POINT},
        "measure": inert(measure),
        "metric": inert(score.request.metric),
        "value": exact(score.mean / unit.size),
        "std": "" if score.std is None else exact(score.std / unit.size),
        "n": str(score.n),
        "state": score.state,
        "oracle": inert(score.oracle),
        "records": ";".join(score.records),
        "tier": score.trust,
        "unit": unit.name,
        "versions": _versions(score),
        "finished": max((record.finished for record in score.used), default=""),
        "errata": inert("; ".join(score.errata)),
    }


def _versions(score: Score) -> str:
    """The versions of the entries that its records were measured with."""
    versions: set[str] = set()
    for record in score.used:
        versions |= {inert(f"{key} {text}") for key, text in record.versions.items() if ":" in key}
    return "; ".join(sorted(versions))


class _Unit(NamedTuple):
    """The unit of a published number, and its size in the unit of its table."""

    name: str
    size: float

    @classmethod
    def of(cls, score: Score) -> _Unit:
        if _is_share(score.metric_name):
            return cls(FRACTION, score.request.unit)
        return cls(score.unit, 1.0)


def _is_share(metric: str) -> bool:
    """Whether a figure is a fraction, by its name."""
    return bool(SHARES.intersection(metric.split("_")))


def _key(row: Row) -> Key:
    return tuple(row[axis] for axis in KEY)


def _by_key(rows: Iterable[Row]) -> dict[Key, Row]:
    return {_key(row): row for row in rows}


def changes_between(before: Iterable[Row], after: Iterable[Row]) -> list[dict[str, str]]:
    """Return what differs between the numbers of two publications: moved ones, then appeared, then vanished.

    A number moved if its value is another one or is the mean over more or fewer seeds.
    """
    old, new = _by_key(before), _by_key(after)
    by_kind = group_by({**new, **old}, lambda key: _kind(old.get(key), new.get(key)))
    changes: list[dict[str, str]] = []
    for kind in KINDS:
        changes += [{"change": kind, **_figures(key, old.get(key, {}), new.get(key, {}))} for key in by_kind[kind]]
    return changes


def _kind(old: Row | None, new: Row | None) -> str:
    """What happened to a number; '' for nothing."""
    if old is None:
        return APPEARED
    if new is None:
        return VANISHED
    return MOVED if _number(old) != _number(new) else ""


def _number(row: Row) -> tuple[str, str]:
    """The value of a row and the count of its seeds; earlier publications have the last bits of binary fractions too."""
    return exact(float(row["value"])), row["n"]


def _figures(key: Key, old: Row, new: Row) -> dict[str, str]:
    return dict(zip(KEY, key, strict=True)) | {
        "before": old.get("value", ""),
        "before_n": old.get("n", ""),
        "after": new.get("value", ""),
        "after_n": new.get("n", ""),
        "unit": new.get("unit", old.get("unit", "")),
        "records": new.get("records", old.get("records", "")),
        "reason": reason(old, new),
    }


class Detail(NamedTuple):
    """What the page of changes says of a setting, but for its usual value."""

    axis: str
    usual: str
    text: str


DETAILS = (Detail("ratio", "1", "ratio {}"), Detail("part", "all", "{} images"), Detail("metric", "test_acc", "{}"))


@dataclass(frozen=True)
class History:
    """Every change between publications of one place, the oldest first: rows of `CHANGES`. What the page of changes gets."""

    rows: Sequence[Row] = ()
    pages: Mapping[Key, str] = field(default_factory=dict)  # of today's numbers, by their key
    releases: Sequence[FrozenCopy] = ()

    @property
    def publications(self) -> list[dict[str, Any]]:
        """One per publication in which a number moved, appeared or vanished, the latest first."""
        by_number = group_by(self.rows, lambda row: row["publication"])
        return [self._publication(number, by_number[number]) for number in reversed(by_number)]

    def _publication(self, number: str, rows: Sequence[Row]) -> dict[str, Any]:
        by_kind = group_by(rows, lambda row: row["change"])
        return {
            "number": number,
            "date": rows[0]["date"],
            "release": rows[0]["release"],
            "kinds": [self._of_kind(kind, by_kind[kind]) for kind in KINDS if by_kind[kind]],
        }

    def _of_kind(self, kind: str, rows: Sequence[Row]) -> dict[str, Any]:
        return {"kind": kind, "count": len(rows), "lines": [self._line(row) for row in rows[:SHOWN]]}

    def _line(self, row: Row) -> dict[str, str]:
        words = [row[axis] for axis in ("protocol", "dataset", "architecture")]
        words += [detail.text.format(row[detail.axis]) for detail in DETAILS if row[detail.axis] != detail.usual]
        return {
            "attack": row["attack"],
            "defense": row["defense"],
            "setting": ", ".join(words),
            "before": _said(row, "before"),
            "after": _said(row, "after"),
            "href": self.pages.get(_key(row), ""),
            "records": row["records"].replace(";", ", "),
            "reason": row["reason"],
        }


def links(rows: Iterable[Row]) -> dict[Key, str]:
    """Where each number is, by its key."""
    return {_key(row): row["page"] for row in rows}


def _said(row: Row, which: str) -> str:
    """A number of a change with the count of its seeds; '' where there was none."""
    try:
        value = float(row[which])
    except ValueError:
        return ""
    name = name_in(row["metric"])
    text = f"{100 * value:.1f}" if _is_share(name) else f"{value:.4g}"
    return f"{text} (n = {row[f'{which}_n']})"


def read_rows(text: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read such a CSV, of a later version with more columns too, or of an earlier one. ValueError: no such column."""
    try:
        rows = list(csv.DictReader(io.StringIO(text)))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if rows:
        _check_columns(rows[0], columns)
    return [_whole(row, columns) for row in rows]


def _check_columns(row: Mapping[str, str | None], columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if row.get(column) is None and column not in SINCE[columns]]
    if missing:
        raise ValueError(f"no column {missing[0]}")


def _whole(row: Mapping[str, str | None], columns: Sequence[str]) -> dict[str, str]:
    """These columns of a row; what it does not have is empty."""
    return {column: row.get(column) or "" for column in columns}
