"""The numbers of the pages as data, and which of them moved, appeared or vanished between two publications.

A number is known by what was measured, not by the page that shows it or by the ids of its cells: a table that is renamed moves
nothing, and a cell that got a new id moves its number.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leaderboard.render import FRACTION, inert
from leaderboard.sheet import SHARES, Spot
from leaderboard.table import POINT

if TYPE_CHECKING:
    from leaderboard.pages import Site
    from results import Records

KEY = (*POINT, "measure", "metric")
NUMBERS = (*KEY, "value", "std", "n", "state", "oracle", "tier", "page", "records", "unit")
CHANGES = ("publication", "date", "release", "change", *KEY, "before", "before_n", "after", "after_n", "unit")
MOVED, APPEARED, VANISHED = "moved", "appeared", "vanished"
SHOWN = 200  # changes of a kind and a publication that the page lists

Row = Mapping[str, str]


def numbers(site: Site, records: Records) -> list[dict[str, str]]:
    """Return every measured number of the pages once: accuracies of boards, then what else printed tables show.

    Accuracies and other shares are fractions. Settings that read alike and differ get a number, as on the boards.
    """
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for cell in site.cells:
        value = cell.value
        if value.mean is None:
            continue
        row = _row(
            value.point, "accuracy", "test_acc", value.mean, value.std, value.n, value.state, value.oracle, value.records
        ) | {"tier": value.tier, "unit": FRACTION}
        key, again = _key(row), 1
        while _key(row) in found:
            again += 1
            row["attack"] = f"{key[KEY.index('attack')]} [{again}]"
        found[_key(row)] = row | {"page": cell.href}
    for sheet in site.sheets:
        for spot in sheet.cells:
            if spot.mean is not None and spot.records:
                row = _of(spot, records)
                found.setdefault(_key(row), row | {"page": f"{sheet.slug}.html"})
    return list(found.values())


def _of(spot: Spot, records: Records) -> dict[str, str]:
    """A place of a printed table, named by what its records measured."""
    record = records.read(spot.records[0])
    assert record is not None and spot.mean is not None
    point = record.cell.texts | ({"defense": str(spot.place.fields["defense"])} if spot.oracle else {})
    name = spot.place.metric.partition("(")[0]
    share = name == "test_acc" or (record.cell.measure != "accuracy" and SHARES.intersection(name.split("_")))
    unit = spot.place.unit if share else 1.0
    std = None if spot.std is None else spot.std / unit
    return _row(
        point, record.cell.measured, spot.place.metric, spot.mean / unit, std, spot.n, spot.state, spot.oracle, spot.records
    ) | {"tier": spot.tier, "unit": FRACTION if share else spot.unit}


def _row(
    point: Mapping[str, str],
    measure: str,
    metric: str,
    value: float,
    std: float | None,
    n: int,
    state: str,
    oracle: str,
    records: Sequence[str],
) -> dict[str, str]:
    return {
        **{axis: inert(point[axis]) for axis in POINT},
        "measure": inert(measure),
        "metric": inert(metric),
        "value": repr(value),
        "std": "" if std is None else repr(std),
        "n": str(n),
        "state": state,
        "oracle": inert(oracle),
        "records": ";".join(records),
    }


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[axis] for axis in KEY)


def compared(before: Iterable[Row], after: Iterable[Row]) -> list[dict[str, str]]:
    """Return what differs between the numbers of two publications: moved ones, then appeared, then vanished.

    A number moved if its value is another one or is the mean over more or fewer seeds.
    """
    old, new = {_key(row): row for row in before}, {_key(row): row for row in after}
    changes: list[dict[str, str]] = []
    kinds = {
        MOVED: [key for key in new if key in old and any(new[key][part] != old[key][part] for part in ("value", "n"))],
        APPEARED: [key for key in new if key not in old],
        VANISHED: [key for key in old if key not in new],
    }
    for kind, keys in kinds.items():
        for key in keys:
            was, now = old.get(key, {}), new.get(key, {})
            figures = {"before": was.get("value", ""), "before_n": was.get("n", "")}
            figures |= {"after": now.get("value", ""), "after_n": now.get("n", "")}
            figures |= {"unit": now.get("unit", was.get("unit", ""))}
            changes.append({"change": kind, **dict(zip(KEY, key, strict=True)), **figures})
    return changes


@dataclass(frozen=True)
class History:
    """Every change between publications of one place, the oldest first: rows of `CHANGES`. What the page of changes gets."""

    rows: Sequence[Row] = ()
    pages: Mapping[tuple[str, ...], str] = field(default_factory=dict)  # of today's numbers, by their key

    @property
    def publications(self) -> list[dict[str, Any]]:
        """One per publication in which a number moved, appeared or vanished, the latest first."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row["publication"], []).append(row)
        return [self._publication(number, found[number]) for number in reversed(found)]

    def _publication(self, number: str, rows: Sequence[Row]) -> dict[str, Any]:
        kinds = {kind: [row for row in rows if row["change"] == kind] for kind in (MOVED, APPEARED, VANISHED)}
        return {
            "number": number,
            "date": rows[0]["date"],
            "release": rows[0]["release"],
            "kinds": [
                {"kind": kind, "count": len(several), "lines": [self._line(row) for row in several[:SHOWN]]}
                for kind, several in kinds.items()
                if several
            ],
        }

    def _line(self, row: Row) -> dict[str, str]:
        words = [row[axis] for axis in ("protocol", "dataset", "architecture")]
        words += [f"ratio {row['ratio']}"] if row["ratio"] != "1" else []
        words += [f"{row['part']} images"] if row["part"] != "all" else []
        words += [row["metric"]] if row["metric"] != "test_acc" else []
        return {
            "attack": row["attack"],
            "defense": row["defense"],
            "setting": ", ".join(words),
            "before": _said(row, "before"),
            "after": _said(row, "after"),
            "href": self.pages.get(_key(row), ""),
        }


def links(rows: Iterable[Row]) -> dict[tuple[str, ...], str]:
    """Where each number is, by its key."""
    return {_key(row): row["page"] for row in rows}


def _said(row: Row, which: str) -> str:
    """A number of a change with the count of its seeds; '' where there was none."""
    try:
        value = float(row[which])
    except ValueError:
        return ""
    name = row["metric"].partition("(")[0]
    share = name == "test_acc" or SHARES.intersection(name.split("_"))
    text = f"{100 * value:.1f}" if share else f"{value:.4g}"
    return f"{text} (n = {row[f'{which}_n']})"


def written(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Return rows as CSV."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[row[column] for column in columns] for row in rows])
    return file.getvalue()


def read(text: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read such a CSV, of a later version with more columns too, or of one from before `unit`. ValueError: no such column."""
    try:
        rows = list(csv.DictReader(io.StringIO(text)))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    missing = [column for column in columns if rows and rows[0].get(column) is None and column != "unit"]
    if missing:
        raise ValueError(f"no column {missing[0]}")
    return [{column: row.get(column) or "" for column in columns} for row in rows]
