"""Computes again what a submission says: its poisons, and some of its cells."""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from unlearnable_bench.benchmark import driver, provenance, runs
from unlearnable_bench.benchmark.submissions.keeping import now
from unlearnable_bench.benchmark.task import Finder, Task
from unlearnable_bench.poisons.recipe import PoisonRecipe
from unlearnable_bench.registry import EntryError, MissingDataError, child, data
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.results import Cell, FileError, Record, Records, Workspace
from unlearnable_bench.results.cell import digest
from unlearnable_bench.results.spread import Spread
from unlearnable_bench.results.submission import Rerun, Taken, Verified

SETTING = ("protocol", "dataset", "architecture")  # axes that cells share whose seeds are compared


@dataclass
class Finding:
    """One thing that was computed again: what it is of, what the submitter says, what was found here."""

    what: str
    records: list[str]
    reported: str
    found: str
    agrees: bool | None  # None: it could not be judged, `found` says why


@dataclass
class ReportedPoison:
    """A poison of a submission, and all records that were trained on it."""

    recipe: PoisonRecipe
    dataset: ConfiguredEntry
    records: list[Record] = field(default_factory=list)

    def finding(self, records: Sequence[Record], found: str, agrees: bool | None) -> Finding:
        """Return what was found about the poison, for some of its records."""
        what = f"{self.recipe.text} on {self.recipe.dataset.text}, seed {self.recipe.seed}, {len(records)} records"
        return Finding(what, [record.id for record in records], _checksum(records[0])[:12], found, agrees)


def _theirs(one: Taken, records: Records) -> list[Record]:
    """The records of a submission that still are the submitter's."""
    cell_ids = sorted(cell_id for cell_id, origin in records.origins.items() if origin.digest == one.short)
    read = map(records.read, cell_ids)
    return [record for record in read if record is not None]


def _task(record: Record, space: Workspace) -> Task:
    """Find the entries of a record's cell. EntryError; MissingDataError where a dataset of it is not here."""
    task = Task.of(record.cell, Finder(runs.remembered(space)))
    for part in task.datasets.values():
        if sentence := data.missing(part):
            raise MissingDataError(sentence)
    return task


def verify_poisons(one: Taken, space: Workspace, device: str, quiet: bool = False) -> list[Finding]:
    """Craft (or find) every poison of a submission here, compare checksums, and write down what came of it."""
    records = Records(space.records)
    findings: list[Finding] = []
    claims: dict[str, ReportedPoison] = {}
    datasets: dict[str, ConfiguredEntry] = {}
    for record in _theirs(one, records):
        if record.poison is None:
            continue
        try:
            task = _task(record, space)
        except EntryError as error:
            findings.append(Finding(record.cell.label, [record.id], record.poison.checksum[:12], str(error), None))
            continue
        claims.setdefault(task.poison.key, ReportedPoison(task.poison, task.dataset)).records.append(record)
        datasets |= task.datasets
    child.decode(list(datasets.values()))
    for number, claim in enumerate(claims.values(), 1):
        if not quiet:
            print(f"[{number}/{len(claims)}] {claim.recipe.text} on {claim.dataset.text}", file=sys.stderr, flush=True)
        findings += _verify(claim, one, space, device)
        one.write(records.folder)  # after each: crafting takes long
    return findings


def _verify(claim: ReportedPoison, one: Taken, space: Workspace, device: str) -> list[Finding]:
    """Craft one poison and note in the submission which of its records were trained on it."""
    from unlearnable_bench.poisons.store import CraftError, Store

    try:
        here = Store(space.poisons, device).poison(claim.recipe, data.load(claim.dataset)).checksum
    except (CraftError, EntryError) as error:
        return [claim.finding(claim.records, str(error), None)]
    name = provenance.device_name(device)
    findings = []
    for theirs in {_checksum(record) for record in claim.records}:
        alike = [record for record in claim.records if _checksum(record) == theirs]
        agrees = theirs == here
        verified = Verified(agrees=agrees, checksum=here, device=name, tree=provenance.tree(), finished=now())
        one.poisons |= {record.id: verified for record in alike}
        findings.append(claim.finding(alike, f"{here[:12]} on {name}, theirs on {alike[0].device}", agrees))
    return findings


def _checksum(record: Record) -> str:
    return record.poison.checksum if record.poison is not None else ""


def rerun(
    one: Taken,
    space: Workspace,
    options: driver.RunOptions,
    count: int,
    seed: int,
    tolerance: float | None,
    quiet: bool = False,
) -> list[Finding]:
    """Measure `count` cells of a submission again, drawn by `seed`; compare accuracies and write down what came of it.

    `tolerance` is a fraction; without, it comes from the spread over seeds of like cells that were measured here.
    """
    records = Records(space.records)
    able = [record for record in _theirs(one, records) if _can_run(record, space)]
    if not able:
        raise FileError(f"no cell of submission {one.short} can be run here: its datasets or entries are not installed")
    findings = []
    for record in random.Random(seed).sample(able, min(count, len(able))):
        after = driver.run_again(record, space, options, quiet)
        allowed = spread_over_seeds(records, record) if tolerance is None else tolerance
        finding, again = _compared(record, after, allowed)
        findings.append(finding)
        if again is not None:
            one.reruns[record.id] = again
            one.write(records.folder)
    return findings


def _can_run(record: Record, space: Workspace) -> bool:
    """Whether a cell can be measured here: its entries are installed, its datasets there."""
    try:
        _task(record, space)
    except EntryError:
        return False
    return record.cell.measure == "accuracy"


def _compared(record: Record, after: Record | None, allowed: float | None) -> tuple[Finding, Rerun | None]:
    """Compare the accuracy of a record with that of a run of today; what the submission keeps of it, if there is anything."""
    before, now_ = accuracy(record), accuracy(after)
    if after is None or before is None or now_ is None:
        return Finding(record.cell.label, [record.id], f"{100 * (before or 0):.2f}%", "it failed here", None), None
    if now_ == before:
        agrees, limit = True, "the same"
    elif allowed is None:
        agrees, limit = None, "no tolerance is known: no like cell was measured here with two seeds; give --tolerance"
    else:
        agrees, limit = abs(now_ - before) <= allowed, f"tolerance {100 * allowed:.2f} points"
    again = Rerun(
        agrees=agrees, test_acc=now_, tolerance=allowed, device=after.device, tree=after.tree, finished=after.finished
    )
    told = f"{100 * now_:.2f}%, {limit}"
    return Finding(record.cell.label, [record.id], f"{100 * before:.2f}%", told, agrees), again


def accuracy(record: Record | None) -> float | None:
    """Return the test accuracy of a record, a fraction; None where there is none."""
    return record.metrics.test_acc if record is not None and record.metrics is not None else None


def spread_over_seeds(records: Records, like: Record) -> float | None:
    """Return how far two runs of a setting may differ in 95 % of cases, by the seeds that were measured here; a fraction.

    The variance over seeds is pooled over the cells of one protocol, dataset and architecture, as for the verdicts on
    papers' tables. None where no cell has two seeds. Numbers of others do not count: they are what is to be judged.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    texts = [like.cell.texts[axis] for axis in SETTING]
    for cell_id, summary in records.summaries().items():
        if cell_id in records.origins or [summary.texts[axis] for axis in SETTING] != texts:
            continue
        record = records.read(cell_id)
        found = accuracy(record)
        if record is None or found is None or record.cell.measure != "accuracy":
            continue
        if _setting(record.cell) == _setting(like.cell):
            groups[digest({**record.cell.resolved(), "seed": 0})].append(found)
    pooled = Spread.of(groups.values())
    return None if pooled is None else pooled.apart()


def _setting(cell: Cell) -> list[str]:
    return [digest(part.model_dump(mode="json")) for part in (cell.protocol, cell.dataset, cell.architecture)]
