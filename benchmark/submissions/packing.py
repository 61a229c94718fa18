"""Packs records for others to publish, those alone that a receiver will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from unlearnable_bench.benchmark import provenance
from unlearnable_bench.benchmark.submissions.judging import judge
from unlearnable_bench.registry import outdated
from unlearnable_bench.results import FileError, Record, Records, bundle
from unlearnable_bench.results.bundle import Examined
from unlearnable_bench.results.record import sha256
from unlearnable_bench.results.submission import Submission


@dataclass
class Chosen:
    """Records to pack, and how many of what was asked for were left out, by why."""

    records: list[Record] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)


def choose_records(cell_ids: Iterable[str], records: Records, named: bool) -> Chosen:
    """Choose records to submit by the ids of their cells; with `named` each of them must be there. FileError."""
    chosen, refusals = Chosen(), []
    for cell_id in dict.fromkeys(cell_ids):
        record = records.read(cell_id)
        refusal = _refusal(cell_id, record, records, named)
        omission = "" if refusal else _omission(cell_id, record, records)
        if refusal:
            refusals.append(refusal)
        elif omission or record is None:
            chosen.left[omission] += 1
        else:
            chosen.records.append(record)
    if refusals:
        raise FileError(first_of(refusals, "; or choose the others by ids or selectors"))
    if not chosen.records:
        left = write_counts(chosen.left) or "there are no records"
        raise FileError(f"nothing to submit: {left}; `bench run` makes records")
    return chosen


def _refusal(cell_id: str, record: Record | None, records: Records, named: bool) -> str:
    """Say why nothing can be submitted while this cell is asked for, or return ''."""
    if record is None:
        return _absence(cell_id, records, named)
    origin = records.origins.get(cell_id)
    if record.state != "done" or (origin is not None and not named):
        return ""  # it is left out
    if origin is not None:
        return f"record {cell_id} is {origin.who}'s, of submission {origin.digest}; submit what was measured here"
    if old := outdated(record.versions, record.cell.parts):
        return f"record {cell_id} ({record.cell.label}) is stale: {old}; run the grid again"
    if record.commit.endswith("-dirty"):
        return f"record {cell_id} ({record.cell.label}) is of changed code: commit, then run it again by --force"
    return ""


def _absence(cell_id: str, records: Records, named: bool) -> str:
    """Say why the record of a cell should be there and is not, or return ''."""
    failure = records.failure(cell_id)
    if failure is not None:
        return f"cell {cell_id} ({failure.cell.label}) failed, {failure.kind}; `bench retry` runs it again"
    return f"there is no record of cell {cell_id!r}; `bench run --dry-run` shows the ids of cells" if named else ""


def _omission(cell_id: str, record: Record | None, records: Records) -> str:
    """Say why a cell that was asked for is left out, or return ''."""
    if record is None:
        return "not run yet"
    if record.state != "done":
        return "not applicable"
    return "measured by others" if cell_id in records.origins else ""


def first_of(sentences: Sequence[str], advice: str = "") -> str:
    """Return the first of some sentences, and how many more there are."""
    more = f" (and {len(sentences) - 1} more such{advice})" if len(sentences) > 1 else ""
    return sentences[0] + more


def write_counts(counts: Mapping[str, int]) -> str:
    """Write counts behind each other, without those that are 0."""
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def pack_records(chosen: Sequence[Record], records: Records, name: str, contact: str, note: str) -> tuple[bytes, Examined]:
    """Return the bundle of records and what a keeper would find in it. FileError for what one would refuse."""
    contents = {record.id: records.path(record.id).read_bytes() for record in chosen}
    sums = {cell_id: sha256(content) for cell_id, content in sorted(contents.items())}
    program, trees = provenance.versions()["unlearnable-bench"], sorted({record.tree for record in chosen})
    try:
        submission = Submission(name=name, contact=contact, note=note, program=program, trees=trees, records=sums)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise FileError(f"--{first['loc'][0]}: {first['msg']}") from None
    content = bundle.pack(submission, contents)
    examined = bundle.examine(content)
    if examined.ok:
        judge(examined, {})
    if not examined.ok:
        raise FileError(first_of(examined.reasons))
    return content, examined
