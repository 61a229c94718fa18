"""Records: what one cell measured, one JSON file each, written once; and where the files of a workspace lie."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import from_json

from unlearnable_bench.results.cell import Cell, Plain, digest, without_texts

if TYPE_CHECKING:
    from unlearnable_bench.results.errata import Errata
    from unlearnable_bench.results.submission import Origin


RECORD_FORMAT = 1  # of records
CLOSE = 1e-6  # fraction; curves are rounded to six decimals
SUMMARIES = ".briefs"  # beside the records: what was remembered of them
SUMS = ".sums"  # beside the records: the sha256 of every one that was written there
COMMITS = "commits.txt"  # beside the records: which commit has the code of those that name none
FOR_ALL = 0o666  # rights of a new file before the umask takes some


def sha256(content: bytes) -> str:
    """Return the sha256 of the bytes of a file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class FileError(ValueError):
    """A file that cannot be used as it is; the text names it and says what to do."""

    exit_code = 2  # of `bench`: wrong use or input


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


_Read = TypeVar("_Read", bound=BaseModel)


class _Grown(_Strict):
    """Fields that are younger than published records are left out where they are empty: old records keep their bytes."""

    younger: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_blanks(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = plain(self)
        return {key: value for key, value in content.items() if key not in self.younger or value}


class Curve(_Grown):
    """Per epoch; accuracies are fractions. Training figures are running means over the batches as they were trained on.

    Test figures are of the epochs in `epochs`, the last always among them; without that list, of every epoch.
    """

    train_acc: list[FiniteFloat] = Field(default_factory=list)
    train_loss: list[FiniteFloat] = Field(default_factory=list)
    test_acc: list[FiniteFloat] = Field(default_factory=list)
    test_loss: list[FiniteFloat] = Field(default_factory=list)
    # mean contrastive loss per epoch of pre-training; the others are then of the probe
    objective: list[FiniteFloat] = Field(default_factory=list)
    younger: ClassVar[tuple[str, ...]] = ("shifts", "epochs")
    # last epoch alone: part of the test images taken for class y + k, by k from 0
    shifts: list[FiniteFloat] = Field(default_factory=list)
    # the epochs that were judged, from 1, where a protocol does not judge all
    epochs: list[int] = Field(default_factory=list)

    @property
    def judged(self) -> Sequence[int]:
        """The epochs, from 1, that `test_acc` and `test_loss` are of."""
        return self.epochs or range(1, len(self.test_acc) + 1)

    @model_validator(mode="after")
    def _as_many_as_judged(self) -> Curve:
        if self.epochs and len(self.epochs) != len(self.test_acc):
            raise ValueError(f"{len(self.epochs)} judged epochs and {len(self.test_acc)} test accuracies; expected as many")
        return self


class Metrics(_Grown):
    """The accuracy of a victim, where one was trained, and the figures of an analysis, where the cell asks for one."""

    test_acc: float | None = Field(default=None, ge=0, le=1)  # of the last epoch
    test_acc_best: float | None = Field(default=None, ge=0, le=1)  # of the best epoch, chosen on the test set: an oracle
    curve: Curve = Field(default_factory=Curve)
    younger: ClassVar[tuple[str, ...]] = ("figures", "curves")
    # of an analysis, by name; shares and accuracies are fractions
    figures: dict[str, FiniteFloat] = Field(default_factory=dict)
    # of an analysis: one value per epoch, or per point of a picture
    curves: dict[str, list[FiniteFloat]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something(self) -> Metrics:
        if self.test_acc is None and not self.figures:
            raise ValueError("no test_acc and no figures; a measured cell has one of them")
        if (self.test_acc is None) != (self.test_acc_best is None):
            raise ValueError("test_acc without test_acc_best, or the other way round")
        return self

    @property
    def contradiction(self) -> str:
        """In which figure the metrics contradict their curve, ''. Both are written from the same numbers."""
        if self.test_acc is None or self.test_acc_best is None or not self.curve.test_acc:
            return ""
        last, best = self.curve.test_acc[-1], max(self.curve.test_acc)
        for name, value, expected in (("test_acc", self.test_acc, last), ("test_acc_best", self.test_acc_best, best)):
            if abs(value - expected) > CLOSE:
                return f"{name} is {value:.6g}, its curve says {expected:.6g}"
        return ""


class PoisonNote(_Grown):
    """Which training set was used: `checksum` is the sha256 of images and labels."""

    checksum: str
    norm: str = ""
    spent: FiniteFloat | None = None
    allowed: FiniteFloat | None = None
    younger: ClassVar[tuple[str, ...]] = ("notes", "numerics")
    # what the attack noted: passes per image, the surrogate's last error or loss
    notes: dict[str, FiniteFloat] = Field(default_factory=dict)
    # under which it was made: device, dtype, compile, threads
    numerics: dict[str, str | int | bool] = Field(default_factory=dict)


class Record(_Grown):
    """One finished cell: done with its metrics, or not applicable with the reason."""

    format: Literal[1] = 1
    id: str
    cell: Cell
    state: Literal["done", "not-applicable"] = "done"
    reason: str = ""
    metrics: Metrics | None = None
    # the protocol as it was trained: dataset's variant and defense's changes applied
    recipe: dict[str, Plain] = Field(default_factory=dict)
    # craft, purify, train, measure; of the stage, whichever cell ran it
    seconds: dict[str, FiniteFloat] = Field(default_factory=dict)
    younger: ClassVar[tuple[str, ...]] = ("cpu_seconds",)
    # of the same stages: of the processor, all threads together; other work on the machine does not lengthen them
    cpu_seconds: dict[str, FiniteFloat] = Field(default_factory=dict)
    peak_memory: int = 0  # bytes
    device: str = ""
    numerics: dict[str, str | int | bool] = Field(default_factory=dict)  # dtype, compile, threads
    versions: dict[str, str] = Field(default_factory=dict)  # python and libraries, and `kind:name` of every entry
    dataset_fingerprint: str = ""
    poison: PoisonNote | None = None
    tree: str = ""  # sha256 over the files of the five packages
    commit: str = ""  # with -dirty where files differ from it
    command: str = ""  # that reproduces it
    finished: str = ""  # UTC, ISO 8601

    @property
    def outcome(self) -> dict[str, Any]:
        """What a line about it says: its `figures`, its `accuracy` or the `reason`."""
        if self.metrics is None:
            return {"reason": self.reason}
        return {"figures": self.metrics.figures} if self.metrics.figures else {"accuracy": self.metrics.test_acc}


class Failure(_Strict):
    """Why a cell has no record. Replaced by the next attempt, removed by success."""

    id: str
    cell: Cell
    kind: str  # see benchmark/failures.py
    message: str
    attempts: int = 1
    log: str = ""  # path of the log with the traceback
    finished: str = ""


def expand_home(path: Path) -> Path:
    """Return a path with the home of `~` or `~user` written out. FileError where there is no such home."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise FileError(f"{path}: there is no home of this user; write the path out") from None


@dataclass(frozen=True)
class Workspace:
    """The folder that a run reads and writes, each part movable by an environment variable."""

    root: Path

    @classmethod
    def find(cls, given: Path | None) -> Workspace:
        chosen = given or Path(os.environ.get("BENCH_WORKSPACE") or ".")
        return cls(expand_home(chosen).absolute())

    def _part(self, variable: str, default: str) -> Path:
        moved = os.environ.get(variable)
        return expand_home(Path(moved)).absolute() if moved else self.root / default

    @property
    def poisons(self) -> Path:
        return self._part("BENCH_POISONS", "poisons/cache")

    @property
    def records(self) -> Path:
        return self._part("BENCH_RESULTS", "results/records")

    @property
    def figures(self) -> Path:
        """What is shown beside records and measures nothing: planes of perturbations."""
        return self.records.parent / "figures"

    @property
    def site(self) -> Path:
        return self._part("BENCH_SITE", "leaderboard/site")

    @property
    def private(self) -> Path:
        """Plans, logs and leases of runs; never published."""
        return self.root / ".bench"

    def writable(self) -> None:
        """Create the folders. FileError if that is not allowed."""
        for folder in (self.poisons, self.records, self.private):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except OSError as error:
                sentence = f"cannot write to {folder}: {error.strerror}; choose another folder by --workspace"
                raise FileError(sentence) from None


@dataclass(frozen=True)
class RecordSummary:
    """What planning wants to know of a record."""

    state: str
    reason: str
    versions: dict[str, str]
    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    device: str
    threads: int
    texts: dict[str, str]  # of the cell's axes
    seed: int

    def undisturbed(self, stage: str) -> float:
        """Estimate the seconds of a stage on a machine that does nothing else; 0 where the stage was not run.

        On a CPU they follow from CPU seconds, since other work lengthens those on the wall. They are never more than those
        on the wall: a stage may have used more threads than the record says, which are those of training.
        """
        wall, cpu = self.seconds.get(stage, 0.0), self.cpu_seconds.get(stage, 0.0)
        if not cpu or not self.device.startswith("cpu"):
            return wall
        return min(wall, cpu / self.threads)


SUMMARY_FIELDS = {field.name for field in fields(RecordSummary)}


@dataclass(frozen=True)
class Records:
    """The records of a folder."""

    folder: Path

    @cached_property
    def origins(self) -> Mapping[str, Origin]:
        """Whose the records are that others measured, by cell. FileError if that is unknown: they must not pass for ours."""
        from unlearnable_bench.results.submission import origins  # which reads files by what is defined here

        return origins(self.folder)

    @cached_property
    def errata(self) -> Errata:
        """What is known to be wrong with records and published results. FileError if that names what nobody has."""
        from unlearnable_bench.results.errata import Errata  # which reads tables

        return Errata.read(self)

    def path(self, cell_id: str) -> Path:
        return self.folder / f"{cell_id}.json"

    def failure_path(self, cell_id: str) -> Path:
        return self.folder / f"{cell_id}.failed.json"

    def read(self, cell_id: str) -> Record | None:
        """Return the record of a cell, None if there is none. FileError if the file is no record of it."""
        path = self.path(cell_id)
        record = read_record(path) if path.exists() else None
        if record is not None and record.id != cell_id:
            raise FileError(f"{path} is the record of cell {record.id}; a record's file is named by its cell, rename it")
        return record

    def failure(self, cell_id: str) -> Failure | None:
        path = self.failure_path(cell_id)
        if not path.exists():
            return None
        return _read_json(path, Failure)

    def write(self, record: Record, replace: bool = False) -> bool:
        """Write a record and remove its failure. False, with nothing changed, if there is one and `replace` is not set."""
        content = _text_of(record.model_dump(mode="json")).encode()
        if not replace:
            return self.add(record.id, content)
        self.put(record.id, content)
        return True

    def add(self, cell_id: str, content: bytes) -> bool:
        """Write the bytes of a record, seal them, and remove its failure. False, with nothing changed, if there is one."""
        try:
            create_file(self.path(cell_id), content)
        except FileExistsError:
            return False
        self.seal(cell_id, content)
        self.failure_path(cell_id).unlink(missing_ok=True)
        return True

    def put(self, cell_id: str, content: bytes) -> None:
        """Write the bytes of a record over the one that is there, if any; seal them, and remove its failure."""
        self.seal(cell_id, content)
        write_file(self.path(cell_id), content)
        self.failure_path(cell_id).unlink(missing_ok=True)

    @cached_property
    def commits(self) -> Mapping[str, str]:
        """The commits that have the code of records which name none, by `tree`; a line that is not of this form is skipped."""
        try:
            text = (self.folder / COMMITS).read_text(encoding="ascii", errors="replace")
        except OSError:
            return {}
        return dict(re.findall(r"^([0-9a-f]{64})  ([0-9a-f]{40})$", text, re.MULTILINE))

    def add_commits(self, commits: Mapping[str, str]) -> None:
        """Remember which commits have the code of records, by `tree`. A tree that is known keeps its commit."""
        known = Records(self.folder).commits  # as it is now
        if missing := {tree: commit for tree, commit in commits.items() if tree not in known}:
            lines = sorted(f"{tree}  {commit}\n" for tree, commit in {**known, **missing}.items())
            write_file(self.folder / COMMITS, "".join(lines))

    def commit_of(self, record: Record) -> str:
        """The commit of a record: the one that it names, else the one that was found to have its code, else ''."""
        return record.commit or self.commits.get(record.tree, "")

    def seal(self, cell_id: str, content: bytes) -> None:
        """Note the sha256 of a record that is about to be written, in a line at the end of a file that all writers share.

        A line that a full disk or a file server loses costs nothing but the notice of a change.
        """
        line = f"{sha256(content)}  {cell_id}.json\n".encode()
        with suppress(OSError):
            handle = os.open(self.folder / SUMS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(handle, line)  # whole lines, whoever else writes
            finally:
                os.close(handle)

    def seals(self) -> dict[str, set[str]]:
        """The sha256 of every record that was written here, by cell; several where one was measured again."""
        found: dict[str, set[str]] = {}
        try:
            lines = (self.folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return {}
        for line in lines:
            seal, _, name = line.partition("  ")
            if len(seal) == 64 and name.endswith(".json"):
                found.setdefault(name.removesuffix(".json"), set()).add(seal)
        return found

    def changed(self) -> list[str]:
        """The cells whose records were written here and have other bytes by now. Records that came otherwise have no seal."""
        seals, found = self.seals(), []
        for cell_id in sorted(seals.keys() & self.ids()):
            with suppress(FileNotFoundError):
                if sha256(self.path(cell_id).read_bytes()) not in seals[cell_id]:
                    found.append(cell_id)
        return found

    def fail(self, failure: Failure) -> None:
        write_json(self.failure_path(failure.id), failure.model_dump(mode="json"))

    def ids(self) -> set[str]:
        """The cells that have a record, whole or not."""
        if not self.folder.is_dir():
            return set()
        names = (entry.name for entry in os.scandir(self.folder))
        names = (name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith("."))
        return {name for name in names if not name.endswith(".failed")}

    def failures(self) -> Iterator[Failure]:
        for path in sorted(self.folder.glob("*.failed.json")):
            yield _read_json(path, Failure)

    def summaries(self) -> dict[str, RecordSummary]:
        """Return a summary of every record by its cell. FileError if a file is no record of its cell.

        What was read before is remembered in a file of this folder, by size and time of the records, so that ten thousand
        of them are not opened each time.
        """
        if not self.folder.is_dir():
            return {}
        memory = self.folder / SUMMARIES
        known = _remembered(memory)
        found: dict[str, Any] = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                cell_id = entry.name.removesuffix(".json")
                if not entry.name.endswith(".json") or cell_id.startswith(".") or cell_id.endswith(".failed"):
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                stamp = [status.st_size, status.st_mtime_ns]
                there = known.get(cell_id)
                found[cell_id] = there if there and there[0] == stamp else [stamp, self._read_summary(cell_id)]
        if found != known:
            with suppress(OSError):  # a reader without the right to write reads again next time
                write_json(memory, found, indent=None)
        return {cell_id: RecordSummary(**summary) for cell_id, (_, summary) in found.items()}

    def _read_summary(self, cell_id: str) -> dict[str, Any]:
        try:
            content = from_json(self.path(cell_id).read_bytes())  # twice as fast as json
            parts = {
                axis: _text(content["cell"][axis]) for axis in ("protocol", "dataset", "attack", "defense", "architecture")
            }
            summary = _summary_of(content)
            measured = content["format"] == RECORD_FORMAT and (content["state"] == "done") == bool(content["metrics"])
            if measured and content["id"] == cell_id == digest(without_texts(content["cell"])):
                return summary | {"texts": parts, "seed": content["cell"]["seed"]}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            pass
        record = self.read(cell_id)  # says what is wrong with it, or finds nothing
        if record is None:
            raise FileError(f"{self.path(cell_id)} was removed while it was read; run the command again")
        return _summary_of(record.model_dump()) | {"texts": record.cell.texts, "seed": record.cell.seed}

    def seeds(self) -> set[int]:
        """The seeds of all records; of those that can be read, where one is damaged."""
        try:
            return {summary.seed for summary in self.summaries().values()}
        except FileError:
            found = set()
            for cell_id in self.ids():
                with suppress(FileError):
                    found.add(self._read_summary(cell_id)["seed"])
            return found

    def __iter__(self) -> Iterator[Record]:
        for cell_id in sorted(self.ids()):
            record = self.read(cell_id)
            if record is not None:
                yield record


def _remembered(memory: Path) -> dict[str, Any]:
    """Read what was remembered of records: by cell, their stamp and their summary. What is not of this form is forgotten."""
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
        known = {cell_id: [stamp, summary] for cell_id, (stamp, summary) in content.items() if set(summary) == SUMMARY_FIELDS}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return known


def _summary_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """What is remembered of a record beside its cell."""
    summary = {key: content[key] for key in ("state", "reason", "versions", "seconds", "device")}
    threads = content["numerics"].get("threads")
    counted = threads if type(threads) is int and threads > 0 else 1
    return summary | {"cpu_seconds": content.get("cpu_seconds", {}), "threads": counted}


def _text(part: Any) -> str:
    return "+".join(one["text"] for one in part) if isinstance(part, list) else str(part["text"])


def plain(values: Mapping[str, Any]) -> dict[str, Plain]:
    """Return fields as a record keeps them: tuples become lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def read_record(path: Path) -> Record:
    """Read a record. FileError if the file is half written, of another kind, or not what its id says."""
    record = _read_json(path, Record)
    if record.id != record.cell.id:
        raise FileError(f"{path} was changed: its cell hashes to {record.cell.id}, its id says {record.id}; remove the file")
    if (record.state == "done") != (record.metrics is not None):
        raise FileError(f"{path} is not a record: only a done cell has metrics; remove the file and run it again")
    if contradiction := record.metrics.contradiction if record.metrics is not None else "":
        raise FileError(f"{path} was changed: {contradiction}; put the file back as it was, or remove it and run again")
    return record


def _read_json(path: Path, model: type[_Read]) -> _Read:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and type(newer := content.get("format")) is int and newer > RECORD_FORMAT:
            sentence = (
                f"has format {newer}, this program reads format {RECORD_FORMAT}; keep the file and update unlearnable-bench"
            )
            raise FileError(f"{path} {sentence}")
        return model.model_validate(content)
    except FileError:
        raise
    except (ValueError, ValidationError, RecursionError) as error:
        where = ""
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where = f" ({'.'.join(map(str, first['loc']))}: {first['msg']})"
        raise FileError(f"{path} is not a whole {model.__name__.lower()}{where}; remove the file and run again") from None


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write JSON as `write_file` does."""
    write_file(path, _text_of(content, indent))


def _text_of(content: Any, indent: int | None = 1) -> str:
    return json.dumps(content, indent=indent, sort_keys=indent is not None, allow_nan=False) + "\n"


def write_file(path: Path, content: str | bytes, sync: bool = True) -> None:
    """Write a file to a scratch name beside `path`, then rename: readers see all of it or nothing.

    Without `sync`, for what can be made again, a machine that goes down may lose it.
    """
    with _written(path, content, sync) as scratch:
        scratch.replace(path)


def create_file(path: Path, content: str | bytes) -> None:
    """Write a file as `write_file` does, but never over another one: FileExistsError where `path` is there by then."""
    with _written(path, content) as scratch:
        try:
            os.link(scratch, path)
        except FileExistsError:
            if scratch.stat().st_nlink != 2:  # else the answer of a file server was lost, and it tried again
                raise
        except OSError:  # no hard links here: take the name, then fill it
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FOR_ALL))
            scratch.replace(path)


@contextmanager
def _written(path: Path, content: str | bytes, sync: bool = True) -> Iterator[Path]:
    """Write a scratch file beside `path`, with the rights that the umask leaves, for a block that puts it there."""
    scratch = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with os.fdopen(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FOR_ALL), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        yield scratch
    except FileExistsError:
        raise
    except OSError as error:  # of a full disk: it names no file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        scratch.unlink(missing_ok=True)
