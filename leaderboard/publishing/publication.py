"""A publication: the site with the data behind it, checksums and a citation, to a folder or to a branch of a git repository.

The pages are made from the very records that are published beside them, so that anybody can make them again. The same records
give the same files: no file has a time of its own, dates are those of the latest record.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from leaderboard.formats.text import FRACTION
from leaderboard.formats.text import tidy as tidy_csv
from leaderboard.formats.words import inert
from leaderboard.pages.build import Shown
from leaderboard.pages.site import TITLE, Site
from leaderboard.publishing.changes import (
    APPEARED,
    CHANGES,
    KEY,
    MOVED,
    NUMBERS,
    VANISHED,
    History,
    compared,
    links,
    numbers,
    written,
)
from leaderboard.publishing.targets import DESCRIPTION, SUMS, Before, OvertakenError, Place, quiet
from leaderboard.tables.lookup import UNREADABLE
from leaderboard.tables.printed import TIDY, tidy
from registry._places import hide_paths
from results import FileError, Record, Records
from results.record import COMMITS
from results.submission import FOLDER, taken

PROGRAM = "unlearnable-bench"
FORMAT = 1  # of a publication
CITATION = "CITATION.cff"
DIRTY = "measured with uncommitted changes of the code"
DAMAGED = "damaged"
RECORDS = ("id", *(axis for axis in KEY if axis != "metric"), "seed", "state", "reason", "test_acc", "test_acc_best")
RECORDS += (
    "figures",
    "epochs",
    "craft",
    "purify",
    "train",
    "measure_seconds",
    "peak_memory",
    "device",
    "poison",
    "norm",
    "spent",
)
RECORDS += ("allowed", "dataset_fingerprint", "tree", "commit", "finished", "tier", "by", "unit")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """The records that are published, in a folder of their own, and those that are not."""

    records: Records
    all: list[Record]
    left_out: Mapping[str, list[str]]  # why -> ids
    dirty: int  # of the chosen ones

    @property
    def date(self) -> str:
        """The day of the latest record; of a record of others, the day on which it was taken in."""
        origins = self.records.origins
        times = (origins[record.id].accepted if record.id in origins else record.finished for record in self.all)
        return max((time[:10] for time in times if re.match(r"\d{4}-\d\d-\d\d", time)), default="")


@contextmanager
def chosen(source: Records, workspace: Path, allow_dirty: bool) -> Iterator[Chosen]:
    """Copy what may be published: whole records, unless of changed code, and failures without the places of this machine."""
    found: list[Record] = []
    left: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-publish-") as name:
        folder = Path(name)
        for cell_id in sorted(source.ids()):
            try:
                record, content = source.read(cell_id), source.path(cell_id).read_bytes()
            except UNREADABLE as error:
                log.info("left out: %s", error)
                left.setdefault(DAMAGED, []).append(cell_id)
                continue
            if record is not None and record.commit.endswith("-dirty") and not allow_dirty:
                left.setdefault(DIRTY, []).append(cell_id)
            elif record is not None:
                found.append(record)
                (folder / f"{cell_id}.json").write_bytes(content)
        there = {record.id for record in found} | {cell_id for several in left.values() for cell_id in several}
        for path in sorted(source.folder.glob("*.failed.json")):
            cell_id = path.name.removesuffix(".failed.json")
            try:
                failure = None if cell_id in there else source.failure(cell_id)
            except UNREADABLE as error:
                log.info("left out: %s", error)
                left.setdefault(DAMAGED, []).append(cell_id)
                continue
            if failure is not None and failure.id == failure.cell.id == cell_id:
                message = hide_paths(failure.message, workspace)
                Records(folder).fail(failure.model_copy(update={"log": "", "message": message}))
        Records(folder).add_commits(source.commits)
        for one in taken(source.folder):  # whose the numbers of others are
            if any(record.id in one.kept for record in found):
                one.write(folder)
        yield Chosen(Records(folder), found, left, sum(record.commit.endswith("-dirty") for record in found))


@dataclass(frozen=True)
class Outcome:
    """What was published, or would be."""

    files: Mapping[str, bytes]
    before: Before
    rows: list[dict[str, str]]  # of this publication's numbers
    changes: list[dict[str, str]]  # since the one before
    where: str = ""  # the commit, for a branch

    @property
    def added(self) -> list[str]:
        return sorted(set(self.files) - set(self.before.files))

    @property
    def changed(self) -> list[str]:
        both = set(self.before.files) & set(self.files)
        return sorted(name for name in both if self.before.files[name] != _sum(self.files[name]))

    @property
    def removed(self) -> list[str]:
        return sorted(set(self.before.files) - set(self.files))

    @property
    def differs(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def counts(self) -> dict[str, int]:
        """How many numbers there are, and how many moved, appeared and vanished since the publication before."""
        count = Counter(row["change"] for row in self.changes)
        return {"numbers": len(self.rows)} | {kind: count[kind] for kind in (MOVED, APPEARED, VANISHED)}


@dataclass(frozen=True)
class Publication:
    """Everything of a publication that does not depend on the one before it."""

    chosen: Chosen
    site: Site
    texts: Mapping[str, str | bytes]  # of the site
    rows: list[dict[str, str]] = field(default_factory=list)
    papers: str = ""  # CSV
    citation: str = ""  # the workspace's own; may be empty
    release: str = ""

    @classmethod
    def of(cls, made: Chosen, workspace: Path, changelog: str, store: Path | None, release: str) -> Publication:
        """Render the site of the chosen records. FileError if CITATION.cff of the workspace is none."""
        if release and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}", release):
            raise FileError(f"--release {release!r}: expected up to 40 letters, digits, dots and dashes, such as 2026.1")
        path = workspace / CITATION
        citation = path.read_text(encoding="utf-8") if path.is_file() else ""
        if citation and not re.search(r"^cff-version:", citation, re.MULTILINE):
            raise FileError(f"{path} has no line `cff-version: 1.2.0`; see citation-file-format.github.io, or remove it")
        shown = Shown.of(None, {}, made.records)
        site = replace(shown.site(store, changelog), history=History())
        rows = numbers(site, made.records)
        return cls(made, site, site.files(), rows, tidy_csv(tidy(shown.sheets)), citation, release)

    def after(self, before: Before) -> Outcome:
        """Return the files as they follow a publication; its changes are added to the history of it."""
        changes = compared(before.numbers, self.rows) if before.count else []
        count = before.count + (bool(changes) or not before.count)
        stamp = {"publication": str(count), "date": self.chosen.date, "release": self.release}
        history = [*before.changes, *(stamp | row for row in changes)]
        site = replace(self.site, history=History(history, links(self.rows)))
        texts: dict[str, str | bytes] = {
            **self.texts,
            "changes.html": site.changes(),
            ".nojekyll": "",
            "data/numbers.csv": written(NUMBERS, self.rows),
            "data/changes.csv": written(CHANGES, history),
            "data/papers.csv": self.papers,
            "data/records.csv": written(RECORDS, (_line(record, self.chosen.records) for record in self.chosen.all)),
            CITATION: self._citation(count),
        }
        files = {name: text.encode() if isinstance(text, str) else text for name, text in texts.items()}
        folder = self.chosen.records.folder
        for path in sorted([*folder.glob("*.json"), *folder.glob(f"{FOLDER}/*.json"), *folder.glob(COMMITS)]):
            files[f"data/records/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
        files["README.md"] = self._readme(files[CITATION].decode()).encode()
        files[DESCRIPTION] = self._description(count, files).encode()
        files[SUMS] = "".join(f"{_sum(files[name])}  {name}\n" for name in sorted(files)).encode()
        return Outcome(files, before, self.rows, changes)

    def _citation(self, count: int) -> str:
        """CITATION.cff: the workspace's own with version and date, else one that cites this publication and the program."""
        if not self.citation:
            return _CITATION.format(
                version=json.dumps(self.release or str(count)),
                date=f"date-released: {self.chosen.date}\n" if self.chosen.date else "",
                program=importlib.metadata.version(PROGRAM),
            )
        text = self.citation.rstrip("\n") + "\n"
        if self.release or not _stated(text, "version"):
            text = _with(text, "version", json.dumps(self.release or str(count)))
        return _with(text, "date-released", self.chosen.date) if self.chosen.date else text

    def _readme(self, citation: str) -> str:
        done = sum(record.state == "done" for record in self.chosen.all)
        title = _stated(citation, "title") or TITLE
        return _README.format(
            title=title, numbers=len(self.rows), records=len(self.chosen.all), done=done, date=self.chosen.date
        )

    def _description(self, count: int, files: Mapping[str, bytes]) -> str:
        """datapackage.json (Frictionless): what the files of data are, and what their columns mean."""
        version = _stated(files[CITATION].decode(), "version")
        licence = _stated(self.citation, "license")
        resources = [
            {
                "name": name,
                "path": f"data/{name}.csv",
                "description": text,
                "format": "csv",
                "mediatype": "text/csv",
                "encoding": "utf-8",
                "bytes": len(files[f"data/{name}.csv"]),
                "hash": f"sha256:{_sum(files[f'data/{name}.csv'])}",
                "schema": {"fields": [_field(column) for column in columns]},
            }
            for name, (text, columns) in _TABLES.items()
        ]
        content: dict[str, Any] = {
            "profile": "data-package",
            "name": PROGRAM,
            "title": _stated(files[CITATION].decode(), "title") or TITLE,
            "description": "Availability poisons against the defenses that learn from them anyway: numbers and records.",
            "version": version,
            "resources": resources,
            "unlearnable_bench": {
                "format": FORMAT,
                "publication": count,
                "release": self.release,
                "program": importlib.metadata.version(PROGRAM),
                "numbers": len(self.rows),
                "records": len(self.chosen.all),
                "latest_record": self.chosen.date,
            },
        }
        if licence:
            content["licenses"] = [{"name": licence}]
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def publish(
    place: Place,
    source: Records,
    workspace: Path,
    *,
    changelog: str = "",
    store: Path | None = None,
    since: Path | None = None,
    release: str = "",
    allow_dirty: bool = False,
    dry_run: bool = False,
) -> tuple[Outcome, Chosen]:
    """Publish the records of a workspace to a place. Writes nothing where nothing differs, nor in a dry run.

    `since` is a folder with the publication to compare with, where that is not the one at the place. FileError, with a
    sentence, for whatever stands in the way; the place is then as it was.
    """
    before = place.before(since)  # and the seconds of rendering after it
    with chosen(source, workspace, allow_dirty) as made:
        if not made.all:
            why = "".join(f"; {len(ids)} left out: {why}" for why, ids in made.left_out.items())
            hint = " (--allow-dirty publishes those)" if DIRTY in made.left_out else ""
            raise FileError(f"no record to publish in {source.folder}{why}{hint}; `bench run` makes records")
        ready = Publication.of(made, workspace, changelog, store, release)
        for _ in range(2):
            outcome = ready.after(before)
            taken = sorted(name for name in outcome.files if outcome.before.collides(name))
            if taken:
                raise FileError(f"{place} has a file {taken[0]} that `bench publish` did not write; move it away")
            if dry_run or not outcome.differs:
                return outcome, made
            try:
                counts = ", ".join(f"{n} {kind}" for kind, n in outcome.counts.items())
                where = place.put(outcome.files, outcome.before, f"Publish {len(made.all)} records: {counts}")
                return replace(outcome, where=where), made
            except OvertakenError:
                before = place.before(since)
    raise FileError(f"{place} was changed twice by others during this publication; try again")


def as_json(to: str, outcome: Outcome, made: Chosen, dry_run: bool) -> dict[str, Any]:
    """Return what `--json` prints. Keys are stable: more may come, none is renamed."""
    return {
        "to": quiet(to),
        "dry_run": dry_run,
        "published": outcome.differs and not dry_run,
        "commit": outcome.where,
        "files": len(outcome.files),
        "bytes": sum(map(len, outcome.files.values())),
        "added": outcome.added,
        "changed": outcome.changed,
        "removed": outcome.removed,
        "records": len(made.all),
        "dirty": made.dirty,
        "left_out": made.left_out,
        "numbers": outcome.counts,
        "changes": outcome.changes,
    }


def text(to: str, outcome: Outcome, made: Chosen, dry_run: bool) -> str:
    """Say what was published, or would be, in a few lines."""
    counts = outcome.counts
    size = sum(map(len, outcome.files.values())) / 2**20
    lines = [f"{len(made.all)} records, {counts['numbers']} numbers, {len(outcome.files)} files, {size:.1f} MiB"]
    for why, ids in made.left_out.items():
        hint = "; --allow-dirty publishes them" if why == DIRTY else "; -v says what is wrong" if why == DAMAGED else ""
        lines.append(f"left out: {len(ids)} records, {why}{hint}")
    if made.dirty:
        lines.append(f"warning: {made.dirty} of the records were {DIRTY}, so they cannot be reproduced")
    if outcome.before.count:
        said = ", ".join(f"{counts[kind]} {kind}" for kind in (MOVED, APPEARED, VANISHED))
        lines.append(f"numbers since the previous publication: {said}")
    if not outcome.differs:
        return "\n".join([*lines, f"{quiet(to)} is up to date; nothing was written"])
    files = f"{len(outcome.added)} files added, {len(outcome.changed)} changed, {len(outcome.removed)} removed"
    done = "would be published to" if dry_run else "published to"
    commit = f", commit {outcome.where[:12]}" if outcome.where else ""
    return "\n".join([*lines, files, f"{done} {quiet(to)}{commit}"])


def _line(record: Record, records: Records) -> dict[str, Any]:
    """A record as a row of records.csv."""
    origin = records.origins.get(record.id)
    cell, metrics, poison, seconds = record.cell, record.metrics, record.poison, record.seconds
    figures = json.dumps(metrics.figures, sort_keys=True) if metrics and metrics.figures else ""
    return {
        "id": record.id,
        **{axis: inert(text) for axis, text in cell.texts.items()},
        "measure": inert(cell.measured),
        "state": record.state,
        "reason": inert(record.reason),
        "test_acc": metrics.test_acc if metrics else None,
        "test_acc_best": metrics.test_acc_best if metrics else None,
        "figures": figures,
        "epochs": max(metrics.curve.judged, default=0) if metrics else None,
        **{stage: seconds.get(stage) for stage in ("craft", "purify", "train")},
        "measure_seconds": seconds.get("measure"),
        "peak_memory": record.peak_memory or None,
        "device": inert(record.device),
        "poison": poison.checksum if poison else "",
        "norm": poison.norm if poison else "",
        "spent": poison.spent if poison else None,
        "allowed": poison.allowed if poison else None,
        "dataset_fingerprint": record.dataset_fingerprint,
        "tree": record.tree,
        "commit": records.commit_of(record),
        "finished": record.finished,
        "tier": origin.tier if origin else "",
        "by": inert(origin.who) if origin else "",
        "unit": FRACTION if metrics and metrics.test_acc is not None else "",
    }


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _stated(text: str, key: str) -> str:
    """The value of a key at the top level of a CITATION.cff, where it stands on one line; else ''."""
    match = re.search(rf"^{key}:[ \t]*(.*?)[ \t]*(?: #.*)?$", text, re.MULTILINE)
    return match[1].strip("\"'") if match else ""


def _with(text: str, key: str, value: str) -> str:
    """A CITATION.cff with another value of such a key."""
    line = f"{key}: {value}"
    changed, count = re.subn(rf"^{key}:.*$", lambda _: line, text, count=1, flags=re.MULTILINE)
    return changed if count else f"{text}{line}\n"


def _field(column: str) -> dict[str, str]:
    kind, text = _COLUMNS.get(column, ("string", ""))
    return {"name": column, "type": kind} | ({"description": text} if text else {})


_TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "numbers": ("Every measured number of the pages, once; mean over seeds.", NUMBERS),
    "changes": ("Which numbers moved, appeared or vanished from one publication to the next.", CHANGES),
    "papers": ("What the papers' tables print, and ours in their units.", TIDY),
    "records": ("One row per record: one training, or one analysis. The records themselves are in data/records/.", RECORDS),
}
_COLUMNS = {
    "protocol": ("string", "recipe by which the victim is trained and judged"),
    "dataset": ("string", "training and test set"),
    "attack": ("string", "what made the poison; none is clean training"),
    "ratio": ("string", "fraction of the training images that is poisoned, 0..1"),
    "part": ("string", "trained on all images, or on the clean rest alone"),
    "defense": ("string", "what was done against the poison"),
    "architecture": ("string", "network of the victim"),
    "measure": ("string", "accuracy, or the analysis that gave the number"),
    "metric": ("string", "test_acc: fraction of the clean test set that is right after the last epoch"),
    "value": ("number", "accuracies and other shares as fractions; in papers.csv as printed"),
    "std": ("number", "sample standard deviation over seeds; empty for one seed"),
    "n": ("integer", "number of seeds"),
    "state": (
        "string",
        "done; partial: seeds are missing; stale: of an earlier version of a method; not-applicable",
    ),
    "oracle": ("string", "which member of a defense with members is shown: the best one, chosen on the test set"),
    "tier": ("string", "of a number that others measured: how far it was checked; empty for our own"),
    "by": ("string", "who measured it, where that was somebody else"),
    "page": ("string", "where on the site the number and its sources are"),
    "records": ("string", "ids of the records behind the number, joined by semicolons"),
    "record": ("string", "ids of the records behind ours, joined by semicolons"),
    "publication": ("integer", "counts the publications in which a number changed, from 1"),
    "date": ("string", "day of the latest record of that publication"),
    "release": ("string", "name of the release, where it has one"),
    "change": ("string", "moved, appeared or vanished"),
    "before": ("number", "value in the publication before"),
    "before_n": ("integer", "its number of seeds"),
    "after": ("number", "value since this publication"),
    "after_n": ("integer", "its number of seeds"),
    "id": ("string", "hash of all fields of the cell; names the file in data/records/"),
    "test_acc": ("number", "fraction of the clean test set that is right after the last epoch"),
    "test_acc_best": ("number", "the same after the best epoch, chosen on the test set: an oracle"),
    "figures": ("string", "figures of an analysis, a JSON object"),
    "craft": ("number", "seconds of crafting the poison, whichever cell ran it"),
    "purify": ("number", "seconds of purifying, whichever cell ran it"),
    "train": ("number", "seconds of training"),
    "measure_seconds": ("number", "seconds of the analysis"),
    "peak_memory": ("integer", "bytes"),
    "poison": ("string", "sha256 over images and labels of the training set"),
    "spent": ("number", "largest perturbation, in the norm, pixel units"),
    "allowed": ("number", "declared bound, pixel units"),
    "tree": ("string", "sha256 over the files of the program"),
    "commit": ("string", "of the program, or the one that has its code; empty where it was installed"),
    "finished": ("string", "UTC, ISO 8601"),
    "unit": (
        "string",
        "of value, before and after, ours, test_acc: fraction, percent, points, hours, ...; empty where a figure has none",
    ),
    "ours": ("number", "our mean over seeds, in the unit of value"),
    "ours_std": ("number", "our standard deviation over seeds"),
}
_CITATION = """cff-version: 1.2.0
message: "If you use these numbers, please cite them, the program that measured them, and the papers of the methods."
title: "A leaderboard of unlearnable examples"
abstract: "Availability poisons against the defenses that learn from them anyway, measured with Unlearnable Bench."
type: dataset
authors:
  - name: "anonymous"
version: {version}
{date}references:
  - type: software
    title: "Unlearnable Bench"
    authors:
      - name: "The Unlearnable Bench authors"
    version: {program}
    license: MIT
"""
_README = """# {title}

A leaderboard made with Unlearnable Bench: {numbers} numbers from {records} records ({done} measured, the rest
not applicable), the latest of {date}. Open `index.html`; it needs no server.

| file | what it is |
| --- | --- |
| `data/numbers.csv` | every measured number, with the ids of its records |
| `data/changes.csv` | which numbers moved, appeared or vanished from one publication to the next |
| `data/papers.csv` | what papers print, and ours |
| `data/records.csv`, `data/records/` | every record, as a row and whole |
| `datapackage.json` | what the columns mean |
| `CITATION.cff` | how to cite this |
| `SHA256SUMS` | checksums; `sha256sum -c SHA256SUMS` compares |

`BENCH_RESULTS=data/records bench report --output pages` makes the pages again from the records.
"""
