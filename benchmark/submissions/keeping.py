"""Keeps the records of a submission, all of them or none, and takes them out again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from unlearnable_bench.results import FileError, Records
from unlearnable_bench.results.bundle import Examined
from unlearnable_bench.results.record import create_file
from unlearnable_bench.results.submission import Taken, taken


def now() -> str:
    """Return the time as records have it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def keep_submission(examined: Examined, records: Records) -> Taken:
    """Keep the records of a bundle that was examined and judged, those that are not here yet.

    All of them or none, where the disk refuses or a cell was measured here meanwhile; killed in between, the same bundle
    again completes it. FileError.
    """
    assert examined.ok and examined.submission is not None, "only records that passed every check are kept"
    before = by_digest(examined.digest, records.folder)  # whole, or interrupted
    new = sorted(set(examined.contents) - examined.known)
    one = before or Taken(digest=examined.digest, accepted=now(), submission=examined.submission, kept=new)
    if not set(new) <= set(one.kept):
        raise FileError(f"submission {one.short} was accepted before; withdraw it (--withdraw), then accept it again")
    written: list[str] = []
    try:
        one.write(records.folder)  # first: a record without it would pass for one of ours
        for cell_id in new:
            _create(cell_id, examined, records)
            written.append(cell_id)
    except OSError as error:
        _remove(written, records)
        if before is None:
            one.path(records.folder).unlink(missing_ok=True)
        reason = f"cannot write to {records.folder}: {error.strerror}" if error.strerror else str(error)
        raise FileError(f"{reason}; nothing was accepted") from None
    for cell_id in written:
        records.seal(cell_id, examined.contents[cell_id])
        records.failure_path(cell_id).unlink(missing_ok=True)
    return one


def by_digest(digest: str, folder: Path) -> Taken | None:
    """Return the submission with this digest among those that were taken into a folder of records."""
    return {one.digest: one for one in taken(folder)}.get(digest)


def _create(cell_id: str, examined: Examined, records: Records) -> None:
    """Write a record that was not here a moment ago; it is sealed when all of its bundle are there."""
    try:
        create_file(records.path(cell_id), examined.contents[cell_id])
    except FileExistsError:
        raise measured_meanwhile(cell_id) from None


def measured_meanwhile(cell_id: str) -> FileExistsError:
    """Return the error for a cell that got a record here while one was on its way."""
    return FileExistsError(f"cell {cell_id} was measured here meanwhile and keeps its record")


def withdraw(one: Taken, records: Records) -> int:
    """Remove a submission with its records, as far as they were not measured here since; return how many."""
    theirs = [cell_id for cell_id, origin in records.origins.items() if origin.digest == one.short]
    _remove(theirs, records)
    one.path(records.folder).unlink()
    return len(theirs)


def _remove(cell_ids: list[str], records: Records) -> None:
    for cell_id in cell_ids:
        records.path(cell_id).unlink(missing_ok=True)


def find(beginning: str, records: Records) -> Taken:
    """Return the submission whose digest begins so. FileError if there is none, or several."""
    everyone = taken(records.folder)
    fitting = [one for one in everyone if one.digest.startswith(beginning)]
    if len(beginning) < 4 or len(fitting) != 1:
        there = ", ".join(one.short for one in everyone) or "none"
        raise FileError(f"{beginning} is neither a bundle nor the digest of one submission; accepted are: {there}")
    return fitting[0]
