"""Which records a publication has, in a folder of their own; and what the row of each says in records.csv."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from unlearnable_bench.leaderboard.formats.text import FRACTION
from unlearnable_bench.leaderboard.formats.words import inert
from unlearnable_bench.leaderboard.publishing.changes import KEY
from unlearnable_bench.leaderboard.tables.lookup import UNREADABLE
from unlearnable_bench.registry._paths import hide_paths
from unlearnable_bench.results import Record, Records
from unlearnable_bench.results.errata import ERRATA
from unlearnable_bench.results.record import Failure, Metrics, PoisonNote
from unlearnable_bench.results.submission import Origin, taken

DIRTY = "measured with uncommitted changes of the code"
DAMAGED = "damaged"
FAILED = ".failed.json"

Content = TypeVar("Content")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedRecords:
    """The records that are published, in a folder of their own, and those that are not."""

    records: Records
    all: list[Record]
    left_out: Mapping[str, list[str]]  # why -> ids

    @property
    def dirty(self) -> int:
        """How many of the published ones are of changed code."""
        return len([record for record in self.all if _is_dirty(record)])

    @property
    def date(self) -> str:
        """The day of the latest record; of a record of others, the day on which it was taken in."""
        times = [self._time(record) for record in self.all]
        return max([time[:10] for time in times if re.match(r"\d{4}-\d\d-\d\d", time)], default="")

    def _time(self, record: Record) -> str:
        origin = self.records.origins.get(record.id)
        return origin.accepted if origin else record.finished

    def rows(self) -> list[dict[str, Any]]:
        """The rows of records.csv."""
        return [_row(record, self.records) for record in self.all]


def _is_dirty(record: Record) -> bool:
    return record.commit.endswith("-dirty")


@contextmanager
def published_records(source: Records, workspace: Path, allow_dirty: bool) -> Iterator[PublishedRecords]:
    """Copy what may be published: whole records, unless of changed code, and failures without the paths of this machine."""
    with tempfile.TemporaryDirectory(prefix="bench-publish-") as name:
        copy = _Copy(source, workspace, allow_dirty, Records(Path(name)))
        copy.copy_records()
        copy.copy_failures()
        copy.copy_origins()
        yield PublishedRecords(copy.target, copy.records, dict(copy.left_out))


class _Stored(NamedTuple):
    """A record and the bytes of its file."""

    record: Record
    content: bytes


@dataclass
class _Copy:
    """Copies what may be published to a folder, and keeps why anything was left out."""

    source: Records
    workspace: Path
    allow_dirty: bool
    target: Records
    records: list[Record] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def copy_records(self) -> None:
        for cell_id in sorted(self.source.ids()):
            stored = self._readable(cell_id, self._stored)
            if stored is not None:
                self._copy(stored)

    def _stored(self, cell_id: str) -> _Stored | None:
        content = self.source.path(cell_id).read_bytes()
        record = self.source.read(cell_id)
        return None if record is None else _Stored(record, content)

    def _copy(self, stored: _Stored) -> None:
        record = stored.record
        if _is_dirty(record) and not self.allow_dirty:
            self.left_out[DIRTY].append(record.id)
            return
        self.records.append(record)
        self.target.path(record.id).write_bytes(stored.content)

    def copy_failures(self) -> None:
        """Copy the failures of cells of which there is no record, without their logs."""
        recorded = {record.id for record in self.records}.union(*self.left_out.values())
        for path in sorted(self.source.folder.glob(f"*{FAILED}")):
            cell_id = path.name.removesuffix(FAILED)
            failure = None if cell_id in recorded else self._readable(cell_id, self.source.failure)
            if failure is not None and failure.id == failure.cell.id == cell_id:
                self.target.fail(self._without_paths(failure))

    def _without_paths(self, failure: Failure) -> Failure:
        return failure.model_copy(update={"log": "", "message": hide_paths(failure.message, self.workspace)})

    def copy_origins(self) -> None:
        """Copy which commits have the code of records, whose the numbers of others are, and what is wrong with any."""
        self.target.add_commits(self.source.commits)
        ids = {record.id for record in self.records}
        errata = self.source.errata.text(ids)
        if errata:
            (self.target.folder / ERRATA).write_text(errata, encoding="utf-8")
        for submission in taken(self.source.folder):
            if ids & set(submission.kept):
                submission.write(self.target.folder)

    def _readable(self, cell_id: str, read: Callable[[str], Content]) -> Content | None:
        """Return what is read; None for what is damaged, which is left out."""
        try:
            return read(cell_id)
        except UNREADABLE as error:
            log.info("left out: %s", error)
            self.left_out[DAMAGED].append(cell_id)
            return None


# records.csv

COLUMNS = (
    *("id", *(axis for axis in KEY if axis != "metric"), "seed", "state", "reason", "test_acc", "test_acc_best", "figures"),
    *("epochs", "craft", "purify", "train", "measure_seconds", "peak_memory", "device", "poison", "norm", "spent", "allowed"),
    *("dataset_fingerprint", "tree", "commit", "finished", "tier", "by", "unit"),
)
STAGES = ("craft", "purify", "train")


def _row(record: Record, records: Records) -> dict[str, Any]:
    """A record as a row of records.csv; what it does not have is empty."""
    cell, seconds = record.cell, record.seconds
    return {
        **dict.fromkeys(COLUMNS, ""),
        "id": record.id,
        **{axis: inert(text) for axis, text in cell.texts.items()},
        "measure": inert(cell.measured),
        "state": record.state,
        "reason": inert(record.reason),
        **_of_metrics(record.metrics),
        **{stage: seconds.get(stage) for stage in STAGES},
        "measure_seconds": seconds.get("measure"),
        "peak_memory": record.peak_memory or None,
        "device": inert(record.device),
        **_of_poison(record.poison),
        "dataset_fingerprint": record.dataset_fingerprint,
        "tree": record.tree,
        "commit": records.commit_of(record),
        "finished": record.finished,
        **_of_origin(records.origins.get(record.id)),
    }


def _of_metrics(metrics: Metrics | None) -> dict[str, Any]:
    if metrics is None:
        return {}
    return {
        "test_acc": metrics.test_acc,
        "test_acc_best": metrics.test_acc_best,
        "figures": json.dumps(metrics.figures, sort_keys=True) if metrics.figures else "",
        "epochs": max(metrics.curve.judged, default=0),
        "unit": "" if metrics.test_acc is None else FRACTION,
    }


def _of_poison(poison: PoisonNote | None) -> dict[str, Any]:
    if poison is None:
        return {}
    return {"poison": poison.checksum, "norm": poison.norm, "spent": poison.spent, "allowed": poison.allowed}


def _of_origin(origin: Origin | None) -> dict[str, Any]:
    return {} if origin is None else {"tier": origin.trust, "by": inert(origin.who)}
