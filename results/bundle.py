"""Bundles: records packed for others to publish, and what is checked of one before anything of it is kept.

A bundle is an uncompressed zip archive of `submission.json` and `records/<id>.json`, byte for byte as `pack` writes it: what
the format leaves open (names, order, comments, links, hidden data) is thereby closed. Nothing of it is extracted, executed or
unpickled; it is read in memory, after a look at its sizes.
"""

from __future__ import annotations

import io
import json
import math
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from unlearnable_bench.results.cell import NONE
from unlearnable_bench.results.record import CLOSE, Curve, FileError, Metrics, Record, Records, sha256
from unlearnable_bench.results.submission import Submission, SubmittedRecord, one_line, unfit

MOST_BYTES = 64 << 20  # bytes of a bundle
MOST_RECORDS = 5000  # records
MOST_RECORD_BYTES = 1 << 20  # bytes of one record; the longest of ours have 8,000
DEEPEST = 10  # of lists and objects within each other; records have 5
LONGEST_TEXT = 1000  # characters of a text
LONGEST_LIST = 100_000  # values of a list
GREATEST_INTEGER = 2**53  # of a number without a fraction
MOST_REASONS = 20  # reasons that are listed
SUBMISSION_FILE = "submission.json"
MEMBER_NAME = re.compile(r"records/([0-9a-f]{16})\.json")
EARLIEST = "2026-01-01T00:00:00+00:00"  # no program could measure before
BROKEN_ARCHIVE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    RuntimeError,
)

Model = TypeVar("Model", bound=BaseModel)


class _WrongError(ValueError):
    """Why a file of a bundle is refused."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `detail` says what was found; `reasons` why it is refused."""

    name: str
    detail: str = ""
    reasons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.reasons


@dataclass
class Examined:
    """A bundle and what was found. Records are there only as far as they could be read."""

    digest: str
    checks: list[Check] = field(default_factory=list)
    submission: Submission | None = None
    contents: dict[str, bytes] = field(default_factory=dict)  # of records, by cell
    records: dict[str, Record] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)  # that are here already, byte for byte

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def new(self) -> int:
        """How many of its records are not here yet."""
        return len(self.contents) - len(self.known)

    @property
    def reasons(self) -> list[str]:
        return [reason for check in self.checks for reason in check.reasons]

    def look(self, name: str, reasons: Iterator[str] | Sequence[str], detail: str = "") -> bool:
        """Add a check; at most TOLD of its reasons are kept. Return whether it is passed."""
        told = tuple(islice(reasons, MOST_REASONS)) if isinstance(reasons, Iterator) else tuple(reasons[:MOST_REASONS])
        self.checks.append(Check(name, detail, told))
        return not told


def canonical(content: Any) -> bytes:
    """The text of a JSON value as records are written: ASCII, sorted, one blank of indentation. ValueError for NaN."""
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def pack(submission: Submission, contents: Mapping[str, bytes]) -> bytes:
    """Return the bundle of records: the same ones give the same bytes. FileError if it is too large."""
    files = {SUBMISSION_FILE: canonical(submission.model_dump(mode="json"))}
    files |= {f"records/{cell_id}.json": contents[cell_id] for cell_id in sorted(contents)}
    total = sum(map(len, files.values()))
    if len(contents) > MOST_RECORDS or total + 200 * len(files) > MOST_BYTES:
        limit = f"{MOST_RECORDS:,} of {MOST_BYTES:,} bytes"
        raise FileError(
            f"{len(contents)} records of {total:,} bytes are too many for one bundle, which takes {limit}"
            "; make several by selectors"
        )
    return _zipped(files)


def _zipped(files: Mapping[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, (stat.S_IFREG | 0o644) << 16  # the same on every system
            archive.writestr(member, content)
    return whole.getvalue()


# Reading


def read_bundle(path: Path) -> bytes:
    """Return the bytes of a bundle. FileError if there is none, or more than a bundle may have."""
    if not path.is_file():
        raise FileError(f"there is no bundle {path}; `bench submit` makes one")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise FileError(f"{path} has {path.stat().st_size:,} bytes, a bundle has {MOST_BYTES:,} at most; ask for several")
    return content


def examine(content: bytes, records: Records | None = None) -> Examined:
    """Look at a bundle by itself, and beside the `records` that are here. Never raises for what it holds."""
    found = Examined(sha256(content))
    files: dict[str, bytes] = {}
    wrongs = _archive(content, files)
    if not found.look("archive", wrongs, f"{len(files)} files, {len(content):,} bytes, nothing else in it"):
        return found
    try:
        found.submission = _read(files.pop(SUBMISSION_FILE), SUBMISSION_FILE, Submission)
    except _WrongError as wrong:
        found.look("submission.json", [str(wrong)])
        return found
    found.contents = {name.removeprefix("records/").removesuffix(".json"): data for name, data in files.items()}
    if not found.look("submission.json", list(_manifest(found.submission, found.contents)), f"by {found.submission.name}"):
        return found
    if not examine_records(found):
        return found
    trees = sorted({record.tree for record in found.records.values()})
    if trees != found.submission.trees:
        found.look("code", ["submission.json names other code than its records; pack them again by `bench submit`"])
    here = [] if records is None else _siblings(found, records)
    found.look("copies", _copies([*here, *found.records.values()]), "none of a curve under another seed")
    if records is not None:
        found.look("duplicates", list(_duplicates(found, records)), f"{len(found.known)} are here already, the same bytes")
    return found


def examine_records(found: Examined) -> bool:
    """Read the records of `contents` and look at each by itself. Return whether all could be read."""
    wrongs = []
    for cell_id, data in found.contents.items():
        try:
            found.records[cell_id] = _read(data, f"record {cell_id}", SubmittedRecord)
        except _WrongError as wrong:
            wrongs.append(str(wrong))
    if not found.look("records", wrongs, f"{len(found.records)} of the form of records, by the JSON Schema"):
        return False
    for check in RECORD_CHECKS:
        found.look(check.name, check.of_all(found.records), check.detail)
    return True


def _archive(content: bytes, files: dict[str, bytes]) -> list[str]:
    """Read an archive into `files` and return why it is refused."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            reasons = _members(members)
            if reasons:
                return reasons
            for member in members:
                files[member.filename] = archive.read(member)
    except BROKEN_ARCHIVE as error:
        return [f"it is not a zip archive that can be read ({clipped(str(error)) or type(error).__name__})"]
    if SUBMISSION_FILE not in files:
        return [f"there is no {SUBMISSION_FILE}"]
    in_order = {SUBMISSION_FILE: files[SUBMISSION_FILE]} | dict(sorted(files.items()))
    if _zipped(in_order) != content:
        return ["it is not byte for byte what `bench submit` writes: another order, a comment, or more than its files show"]
    return []


def _members(members: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Say why the files of an archive are refused, before one of them is read."""
    if len(members) > MOST_RECORDS + 1:
        return [f"{len(members)} files, a bundle has {MOST_RECORDS + 1} at most"]
    reasons = [reason for member in members if (reason := _member(member))]
    if reasons:
        return reasons
    count = Counter(member.filename for member in members)
    return [f"{name} is there {often} times" for name, often in count.most_common(1) if often > 1]


def _member(member: zipfile.ZipInfo) -> str:
    """Say why a file of an archive is refused, or ''."""
    name = clipped(member.filename)
    if member.filename != SUBMISSION_FILE and not MEMBER_NAME.fullmatch(member.filename):
        return f"it holds {name!r}; expected {SUBMISSION_FILE} and records/<16 hexadecimal digits>.json alone"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        return f"{name} is a link or a device, expected a plain file"
    if member.flag_bits & 1 or member.compress_type != zipfile.ZIP_STORED:
        return f"{name} is compressed or encrypted; a bundle is stored as it is"
    most = MOST_BYTES if member.filename == SUBMISSION_FILE else MOST_RECORD_BYTES
    if max(member.file_size, member.compress_size) > most:
        return f"{name} has {member.file_size:,} bytes, allowed are {most:,}"
    return ""


def _read(data: bytes, name: str, model: type[Model]) -> Model:
    """Read JSON of a bundle into a model, by nothing but its schema. _WrongError."""
    try:
        value = json.loads(data.decode("ascii"), parse_constant=_no_constant)
        reason = next(_walk(value), "")
        same = not reason and canonical(value) == data
    except RecursionError:
        reason = f"lists within lists beyond a depth of {DEEPEST}"
    except _WrongError:
        raise
    except (UnicodeError, ValueError) as error:
        raise _WrongError(f"{name} is not the JSON of a record ({clipped(str(error))})") from None
    if reason:
        raise _WrongError(f"{name}: {reason}")
    if not same:
        raise _WrongError(f"{name} is not as the program writes it: a key twice, or other blanks or numbers")
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise _WrongError(f"{name}: {clipped(place)}: {clipped(first['msg'])}") from None


def _no_constant(name: str) -> Any:
    raise _WrongError(f"{name} is not a number")


def _walk(value: Any, depth: int = 1) -> Iterator[str]:
    """Yield what of a JSON value is refused, whatever it stands for."""
    if depth > DEEPEST:
        yield f"lists within lists beyond a depth of {DEEPEST}"
    elif not isinstance(value, list | dict):
        yield from _scalar(value)
    elif len(value) > LONGEST_LIST:
        yield f"{len(value):,} values in one place, allowed are {LONGEST_LIST:,}"
    else:
        inner = value if isinstance(value, list) else chain(value.keys(), value.values())
        for one in inner:
            yield from _walk(one, depth + 1)


def _scalar(value: Any) -> Iterator[str]:
    """Yield why a text or a number is refused."""
    match value:
        case str() if len(value) > LONGEST_TEXT:
            yield f"a text of {len(value):,} characters, allowed are {LONGEST_TEXT:,}"
        case str() if reason := unfit(value):
            yield f"the text {clipped(ascii(value))} {reason}"
        case int() if abs(value) > GREATEST_INTEGER:
            yield "a number beyond 2^53 is too large"
        case float() if not math.isfinite(value):
            yield f"the number {value} is too large"


def clipped(text: str, longest: int = 120) -> str:
    """A text of others in a sentence of ours: short, on one line, nothing in it that steers a terminal."""
    text = " ".join(text.split())
    return one_line(text if len(text) <= longest else f"{text[:longest]}...")


# Rules


@dataclass(frozen=True)
class RecordCheck:
    """What every record must fulfill by itself. `wrongs` yields why one is refused, given the cell that its file names."""

    name: str
    wrongs: Callable[[str, Record], Iterator[str]]
    detail: str  # what is said where nothing is wrong

    def of_all(self, records: Mapping[str, Record]) -> Iterator[str]:
        """Yield why records are refused."""
        for cell_id, record in records.items():
            yield from self.wrongs(cell_id, record)


def _manifest(submission: Submission, contents: Mapping[str, bytes]) -> Iterator[str]:
    for name, text in (("name", submission.name), ("contact", submission.contact), ("note", submission.note)):
        if text != " ".join(text.split()):
            yield f"{name}: blanks at an end, or several; expected words on one line"
    if not any(map(str.isalnum, submission.name)):
        yield "name: no letter or digit in it; expected who measured"
    if missing := sorted(set(submission.records) - set(contents)):
        yield f"it lists record {missing[0]}, which the bundle lacks"
    if strange := sorted(set(contents) - set(submission.records)):
        yield f"it does not list record {strange[0]}, which the bundle holds"
    for cell_id in sorted(set(submission.records) & set(contents)):
        if sha256(contents[cell_id]) != submission.records[cell_id]:
            yield f"record {cell_id} was changed: it has another sha256 than the one that is listed"


def _identity(cell_id: str, record: Record) -> Iterator[str]:
    if not cell_id == record.id == record.cell.id:
        yield f"record {cell_id} has the id {record.id}, and its cell hashes to {record.cell.id}"
    if record.command != f"bench run --cell {record.id}":
        yield f"record {cell_id}: its command is not the one that the program writes"
    if record.cell.part not in ("all", "clean"):
        yield f"record {cell_id}: part {clipped(record.cell.part)!r} is none of all, clean"


def _accuracy(cell_id: str, record: Record) -> Iterator[str]:
    metrics, cell = record.metrics, record.cell
    assert metrics is not None, "submitted records have metrics"
    if (cell.measure == "accuracy") == bool(metrics.figures):
        yield f"record {cell_id}: figures belong to cells with an analysis, and only to them"
    if cell.measure == "accuracy":
        yield from _without_analysis(cell_id, record, metrics)
    if min(metrics.curve.test_loss, default=0) < 0:
        yield f"record {cell_id}: a test loss is below zero, which cross-entropy never is"
    if metrics.test_acc is not None:
        yield from _curve(cell_id, metrics, metrics.test_acc)


def _without_analysis(cell_id: str, record: Record, metrics: Metrics) -> Iterator[str]:
    """Yield what is wrong with a record that measures an accuracy and nothing else."""
    if metrics.test_acc is None:
        yield f"record {cell_id} measures accuracy and has no test_acc"
    if metrics.curves:
        yield f"record {cell_id}: curves of an analysis belong to cells with an analysis, and only to them"
    if record.cell.architecture.name == NONE:
        yield f"record {cell_id} measures the accuracy of no network; architecture {NONE} belongs to analyses"


def _curve(cell_id: str, metrics: Metrics, accuracy: float) -> Iterator[str]:
    """Yield where an accuracy and its curve contradict each other, or a curve itself."""
    curve = metrics.curve
    shares = [*curve.train_acc, *curve.test_acc, *curve.shifts]
    if not all(0 <= share <= 1 for share in shares):
        yield f"record {cell_id}: a share of its curves is not within 0..1"
    lengths = set(map(len, (curve.train_acc, curve.train_loss, curve.test_acc, curve.test_loss)))
    if lengths == {0} or len(lengths) > 1:
        yield f"record {cell_id}: its curves are empty or of different lengths"
        return
    if metrics.contradiction:
        yield f"record {cell_id}: {metrics.contradiction}"
    if curve.shifts and abs(curve.shifts[0] - accuracy) > CLOSE:
        yield f"record {cell_id}: shifts is {curve.shifts[0]:.6g}, its curve says {accuracy:.6g}"


def _dates(cell_id: str, record: Record) -> Iterator[str]:
    latest = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
    if not EARLIEST <= record.finished <= latest:
        yield f"record {cell_id} was finished at {record.finished}, expected a time from {EARLIEST[:10]} to now"


def _siblings(found: Examined, records: Records) -> list[Record]:
    """The records here of the same settings as those of a bundle, seeds apart. FileError for one that is not whole."""
    settings = {_setting(record.cell.texts) for record in found.records.values()}
    elsewhere = {cell_id: summary for cell_id, summary in records.summaries().items() if cell_id not in found.records}
    alike = [cell_id for cell_id, summary in elsewhere.items() if _setting(summary.texts) in settings]
    return [record for cell_id in alike if (record := records.read(cell_id)) is not None]


def _copies(several: Sequence[Record]) -> Iterator[str]:
    """Yield which records have the curve of the same setting with another seed: a copy is no seed."""
    seen: dict[tuple[Any, ...], Record] = {}
    for record in several:
        curve = record.metrics.curve if record.metrics is not None else Curve()
        key = (_setting(record.cell.texts), *map(tuple, (curve.train_loss, curve.test_loss, curve.test_acc)))
        other = seen.setdefault(key, record)
        if curve.test_acc and other.cell.seed != record.cell.seed:
            pair = f"record {record.id} of seed {record.cell.seed} has the curve of record {other.id} of seed {other.cell.seed}"
            yield f"{pair}, number by number, which two trainings never have"


def _setting(texts: Mapping[str, str]) -> tuple[str, ...]:
    """What is trained on what, as people write it: the texts of a cell, or of a summary, which has fewer of them."""
    return tuple(texts[axis] for axis in ("protocol", "dataset", "attack", "defense", "architecture"))


def _budget(cell_id: str, record: Record) -> Iterator[str]:
    note = record.poison
    if note is None:
        return
    if (note.allowed is None) != (note.norm == "none"):
        yield f"record {cell_id}: a poison has a norm and what it allows, or neither"
    elif note.allowed is not None and (note.spent or 0) > note.allowed + CLOSE:
        yield f"record {cell_id}: its poison spent {note.spent:.6g} of {note.norm}, allowed {note.allowed:.6g}"


def _provenance(cell_id: str, record: Record) -> Iterator[str]:
    cell = record.cell
    required = {"python", "torch", "unlearnable-bench", f"protocol:{cell.protocol.name}", f"dataset:{cell.dataset.name}"}
    required |= {f"attack:{part.name}" for part in cell.attack} | {f"defense:{part.name}" for part in cell.defense}
    missing = sorted(required - record.versions.keys())
    if missing:
        yield f"record {cell_id} does not say the version of {clipped(missing[0])}"
    numerics = record.numerics
    if numerics.keys() != {"dtype", "compile", "threads"}:
        yield f"record {cell_id}: numerics have dtype, compile and threads"
    elif numerics["dtype"] not in ("fp32", "bf16") or type(numerics["compile"]) is not bool:
        yield f"record {cell_id}: numerics have a dtype, fp32 or bf16, and compile, true or false"
    elif type(numerics["threads"]) is not int or not 1 <= numerics["threads"] <= 4096:
        yield f"record {cell_id}: threads are a whole number from 1 to 4096"


RECORD_CHECKS = (
    RecordCheck("identity", _identity, "ids are the hashes of the cells"),
    RecordCheck("accuracy", _accuracy, "within 0..1, the curves' last and best"),
    RecordCheck("budget", _budget, "spent at most what is allowed"),
    RecordCheck("provenance", _provenance, "versions, threads, code"),
    RecordCheck("dates", _dates, "days between the first program and today"),
)


def _duplicates(found: Examined, records: Records) -> Iterator[str]:
    """Yield which cells are measured here with another outcome; remember those that are the same."""
    for cell_id, data in found.contents.items():
        path = records.path(cell_id)
        if not path.exists():
            continue
        if path.read_bytes() == data:
            found.known.add(cell_id)
        else:
            yield _contradiction(cell_id, found.records[cell_id], records)


def _contradiction(cell_id: str, record: Record, records: Records) -> str:
    """Say that the record of a cell is not the one that is here."""
    try:
        here = records.read(cell_id)
    except FileError as error:
        return str(error)
    origin = records.origins.get(cell_id)
    owner = f"from submission {origin.digest}" if origin else "measured here"
    already = f"cell {cell_id} ({clipped(record.cell.label)}) is there already, {owner}"
    return f"{already}: {_accuracy_of(here)}, the bundle says {_accuracy_of(record)}; leave it out"


def _accuracy_of(record: Record | None) -> str:
    """Write the accuracy of a record in percent."""
    if record is None or record.metrics is None or record.metrics.test_acc is None:
        return "other figures"
    return f"{100 * record.metrics.test_acc:.2f}%"
