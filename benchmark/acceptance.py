"""Submissions: which records are packed for others, how theirs are judged, kept, and checked again here.

`results/bundle.py` looks at a bundle by itself; here its cells meet the registry. Entries are imported by the names that are
installed here, and asked for their budget and recipe; nothing of a bundle is run. Crafting and training again happen only
when they are asked for.
"""

from __future__ import annotations

import dataclasses
import math
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from benchmark import driver, provenance, runs
from benchmark.grid import KINDS
from benchmark.task import Finder, Task
from poisons.recipe import PoisonRecipe
from registry import CATALOGS, EntryError, MissingDataError, child, data, outdated
from registry.catalog import Entry, Part, singular
from registry.item import parse, value, write_value
from results import Cell, FileError, Record, Records, Workspace, bundle
from results import cell as cells_
from results.bundle import Examined
from results.cell import digest
from results.record import CLOSE, Metrics, create_file, plain
from results.spread import Spread
from results.submission import Rerun as Again
from results.submission import Submission, Taken, Verified, taken
from results.table import NONE

LARGEST_SIDE = 4096  # pixels, for the slack of an l2 budget where the images are not here
LONGEST_CURVE = 100_000  # epochs, of a defense that ends or lengthens a training


# Packing


@dataclass
class Chosen:
    """Records to pack, and how many of what was asked for were left out, by why."""

    records: list[Record] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)


def choose(wanted: Iterable[str], records: Records, named: bool) -> Chosen:
    """Choose records to submit by the ids of their cells; with `named` each of them must be there. FileError."""
    chosen, wrong = Chosen(), []
    for cell_id in dict.fromkeys(wanted):
        record, failure = records.read(cell_id), records.failure(cell_id)
        whose = records.origins.get(cell_id)
        if record is None and failure is not None:
            wrong.append(f"cell {cell_id} ({failure.cell.label}) failed, {failure.kind}; `bench retry` runs it again")
        elif record is None and named:
            wrong.append(f"there is no record of cell {cell_id!r}; `bench run --dry-run` shows the ids of cells")
        elif record is None:
            chosen.left["not run yet"] += 1
        elif record.state != "done":
            chosen.left["not applicable"] += 1
        elif whose is not None and named:
            wrong.append(f"record {cell_id} is {whose.who}'s, of submission {whose.digest}; submit what was measured here")
        elif whose is not None:
            chosen.left["measured by others"] += 1
        elif old := outdated(record.versions, record.cell.parts):
            wrong.append(f"record {cell_id} ({record.cell.label}) is stale: {old}; run the grid again")
        elif record.commit.endswith("-dirty"):
            wrong.append(f"record {cell_id} ({record.cell.label}) is of changed code: commit, then run it again by --force")
        else:
            chosen.records.append(record)
    if wrong:
        more = f" (and {len(wrong) - 1} more such; or choose the others by ids or selectors)" if len(wrong) > 1 else ""
        raise FileError(wrong[0] + more)
    if not chosen.records:
        raise FileError(f"nothing to submit: {_listed(chosen.left) or 'there are no records here'}; `bench run` makes records")
    return chosen


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what}" for what, n in counts.items() if n)


def packed(chosen: Sequence[Record], records: Records, name: str, contact: str, note: str) -> tuple[bytes, Examined]:
    """Return the bundle of records and what a keeper would find in it. FileError for what one would refuse."""
    from pydantic import ValidationError

    contents = {record.id: records.path(record.id).read_bytes() for record in chosen}
    listed = {cell_id: bundle.sha256(content) for cell_id, content in sorted(contents.items())}
    program, trees = provenance.versions()["unlearnable-bench"], sorted({record.tree for record in chosen})
    try:
        submission = Submission(name=name, contact=contact, note=note, program=program, trees=trees, records=listed)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise FileError(f"--{first['loc'][0]}: {first['msg']}") from None
    content = bundle.pack(submission, contents)
    found = bundle.examine(content)
    if found.ok:
        judge(found, {})
    if not found.ok:
        reasons = found.reasons
        raise FileError(reasons[0] + (f" (and {len(reasons) - 1} more such)" if len(reasons) > 1 else ""))
    return content, found


# Judging


def judge(found: Examined, roots: Mapping[str, str]) -> None:
    """Add what the registry says about a bundle's records. `roots` as in `Task.of`. Never raises for what a bundle holds."""
    wrongs: dict[str, list[str]] = {name: [] for name in ("entries", "versions", "recipes", "budgets", "data sets", "counts")}
    strange: dict[str, str] = {}
    compared: Counter[str] = Counter()
    poisons: dict[str, dict[str, str]] = defaultdict(dict)  # recipe -> checksum -> cell
    for cell_id, record in found.records.items():
        try:
            task, missing = _task(record, roots)
            strange |= missing
            wrongs["versions"] += _versions(task, record, missing)
            wrongs["recipes"] += _recipe(task, record, missing)
            wrongs["budgets"] += _budget(task, record, missing)
            wrongs["data sets"] += _fingerprint(task, record, missing, compared)
            wrongs["counts"] += _counts(task, record, missing)
        except Exception as error:  # entries of other packages are asked here, with values of a stranger's
            text = str(error) if isinstance(error, EntryError) else f"{type(error).__name__}: {error}"
            wrongs["entries"].append(f"record {cell_id}: {bundle.clipped(text, 300)}")
            continue
        if record.poison is not None and not missing:
            poisons[f"{task.poison.key} {record.dataset_fingerprint}"].setdefault(record.poison.checksum, cell_id)
    said = "all installed here"
    if strange:
        listed = ", ".join(f"{key} ({version})" for key, version in sorted(strange.items()))
        said = f"not installed here, shown as reported and never verified: {bundle.clipped(listed, 300)}"
    found.look("entries", wrongs["entries"], said)
    found.look("versions", wrongs["versions"], "those of today")
    found.look("recipes", wrongs["recipes"], "protocols as registered, as long as they say")
    found.look("budgets", wrongs["budgets"], "those that the attacks promise")
    found.look("data sets", wrongs["data sets"], _listed(compared))
    found.look("counts", wrongs["counts"], "every accuracy is a number of test images, where these are known")
    several = (
        f"records {' and '.join(list(checksums.values())[:2])} were trained on different poisons of one recipe; "
        "if two machines crafted them, submit them apart"
        for checksums in poisons.values()
        if len({found.records[cell_id].device for cell_id in checksums.values()}) < len(checksums)
    )
    found.look("poisons", several, f"{len(poisons)}, one checksum each")
    if found.submission is not None and not found.reasons:
        own = provenance.tree() in found.submission.trees and len(found.submission.trees) == 1
        found.look(
            "code", (), "the same as here" if own else f"{len(found.submission.trees)} versions, not all are the one here"
        )


def _task(record: Record, roots: Mapping[str, str]) -> tuple[Task, dict[str, str]]:
    """Find a record's entries; what is not installed is told with its version. EntryError for what nobody can have written."""
    cell = record.cell
    missing: dict[str, str] = {}
    found = {noun: _found(kind, _parts(cell, noun), record, missing) for noun, kind in KINDS.items()}
    analysis = None
    if isinstance(cell.measure, cells_.Part):
        (analysis,) = _found("analyses", (cell.measure,), record, missing)
    if not missing:
        return Task.of(cell, Finder(roots)), {}
    (protocol,), (dataset,), (architecture,) = found["protocol"], found["dataset"], found["architecture"]
    return Task(cell, protocol, dataset, found["attack"], found["defense"], architecture, analysis), missing


def _parts(cell: Cell, noun: str) -> tuple[cells_.Part, ...]:
    value = getattr(cell, noun)
    return value if isinstance(value, tuple) else (value,)


def _found(kind: str, parts: Sequence[cells_.Part], record: Record, missing: dict[str, str]) -> tuple[Part, ...]:
    """Read the parts of an item of somebody's as if they had been written here: they must say what their fields say."""
    noun = CATALOGS[kind].noun
    later = {row.name: row.later for row in CATALOGS[kind].rows}
    for part in parts:
        named, *more = parse(part.text)
        values = {**later.get(part.name, {}), **part.fields}
        same = {key: values[key] for key in named.given if key in values}
        if more or named.name != part.name or digest(dict(named.given)) != digest(same):
            raise EntryError(f"{noun} {part.text!r} does not stand for {part.name} with the fields that it has")
        for key, given in part.fields.items():
            if not key.isidentifier() or not key.isascii() or not _sayable(given) or "folder:" in str(given):
                raise EntryError(f"{noun} {part.name} has the field {key!r} with {given!r}, which no item can say")
    if kind == "architectures" and parts[0].name == NONE:
        return (Part(Entry(kind, NONE, "built-in", "", ""), NONE, {}),)
    installed = {row.name for row in CATALOGS[kind].rows}
    own = [part.name.startswith("folder-") if kind == "datasets" else False for part in parts]
    if any(own):
        return tuple(Part(CATALOGS[kind].entry("folder"), part.name, part.fields) for part in parts)
    for part in parts:
        if part.name not in installed:
            key = f"{singular(kind)}:{part.name}"
            version = record.versions.get(key, "")
            if " of " not in version:
                sentence = f"{noun} {part.name!r} is not of this version of the program, nor does the record name its package"
                raise EntryError(f"{sentence}; update, or ask the submitter")
            missing[key] = version
    if any(part.name not in installed for part in parts):
        return tuple(
            Part(CATALOGS[kind].entry(part.name), part.name, part.fields)
            if part.name in installed
            else Part(Entry(kind, part.name, "not installed here", "", ""), part.name, part.fields)
            for part in parts
        )
    resolved = CATALOGS[kind].resolve("+".join(part.text for part in parts))
    for part, again in zip(parts, resolved, strict=True):
        if digest(plain(again.fields)) != digest(part.fields) or again.text != part.text:
            raise EntryError(f"{noun} {part.text!r} has other fields than {again.text!r} has here")
    return resolved


def _sayable(given: Any) -> bool:
    """Whether a value of a field is one that can be written in an item, so a word at most. EntryError says why not."""
    if isinstance(given, list):
        return all(map(_sayable, given))
    return given is None or given == "" or digest(value(write_value(given))) == digest(given)


def _versions(task: Task, record: Record, missing: Mapping[str, str]) -> Iterator[str]:
    if old := outdated(record.versions, record.cell.parts):
        yield f"record {record.id} is stale: {old}"
        return
    for key, here in (task.versions() if not missing else {}).items():
        there = record.versions.get(key, "")
        if _package(there) != _package(here):
            yield f"record {record.id}: {key} is version {there!r}, here it is {here!r}"


def _package(version: str) -> tuple[str, str]:
    """An entry's version and the package that it is of, whatever version that has."""
    number, _, package = version.partition(" of ")
    return number, package.rpartition(" ")[0]


def _recipe(task: Task, record: Record, missing: Mapping[str, str]) -> Iterator[str]:
    from benchmark.cell import recipe

    if not task.needs & {"network", "epochs"} and task.analysis is not None and not missing:
        if record.recipe:
            yield f"record {record.id} has a recipe, though nothing is trained for {task.analysis.name}"
        return
    if any(key.startswith(("protocol:", "analysis:")) for key in missing):
        return  # nobody here knows what it takes
    protocol = recipe(task)
    unknown = any(key.startswith("defense:") for key in missing)
    if not task.unlabelled:
        for part in task.defense if not unknown else ():
            protocol = part.build().configure(protocol)
    expected = plain(dataclasses.asdict(protocol))
    trained = plain(task.protocol.entry.later) | record.recipe
    different = [key for key in expected if digest(trained.get(key)) != digest(expected[key])]
    if set(trained) != set(expected):
        yield f"record {record.id}: its recipe has other fields than protocol {record.cell.protocol.text} has"
    elif different and not unknown:
        key = different[0]
        yield (
            f"record {record.id} was trained with {key}={bundle.clipped(str(trained[key]))}, "
            f"protocol {record.cell.protocol.text} says {expected[key]}"
        )
    else:
        yield from _epochs(task, record, protocol, unknown)


def _epochs(task: Task, record: Record, protocol: Any, unknown: bool) -> Iterator[str]:
    """Yield whether a curve is not as long as the training was, in epochs that were judged."""
    assert record.metrics is not None, "submitted records have metrics"
    if record.metrics.test_acc is None:
        return
    epochs, info = len(record.metrics.curve.test_acc), data.info(task.dataset) if task.dataset.entry.path else None
    if task.unlabelled:
        expected = protocol.probe_epochs
    elif protocol.steps:
        total, per_epoch = protocol.length(info.size) if info is not None else (0, 1)
        expected = math.ceil(total / per_epoch) or epochs
    else:
        expected = max(1, round(protocol.epochs * protocol.scale))
    expected = math.ceil(expected / protocol.judge_every)
    acts = unknown or any("start" in part.entry.hooks for part in task.defense)  # may end a training, or begin another
    if epochs != expected and not (acts and epochs <= LONGEST_CURVE):
        yield f"record {record.id} has a curve of {epochs} epochs, its recipe takes {expected}"


def _budget(task: Task, record: Record, missing: Mapping[str, str]) -> Iterator[str]:
    from poisons.store import promise

    if any(key.startswith("attack:") for key in missing):
        return  # what its record declares was compared with what it spent
    if task.needs_poison != (record.poison is not None):
        yield f"record {record.id} {'lacks' if task.needs_poison else 'has'} a poison, unlike its cell"
    elif record.poison is not None:
        budget, info = promise(task.poison), data.info(task.dataset) if task.dataset.entry.path else None
        least = budget.allowed(info.shape if info is not None else (0,))
        most = budget.allowed(info.shape if info is not None else (3, LARGEST_SIDE, LARGEST_SIDE))
        said = record.poison.allowed
        if record.poison.norm != budget.norm:
            yield f"record {record.id} measures its poison in {record.poison.norm}, {task.poison.text} promises {budget.norm}"
        elif said is not None and not (least or 0) - 1e-9 <= said <= (most or 0) + 1e-9:
            yield f"record {record.id} allows {said:.6g} of {budget.norm}, {task.poison.text} promises {budget.epsilon:.6g}"


def _fingerprint(task: Task, record: Record, missing: Mapping[str, str], compared: Counter[str]) -> Iterator[str]:
    known = "" if f"dataset:{task.dataset.name}" in missing else data.known_fingerprint(task.dataset)
    compared[
        f"of {task.dataset.text}, " + ("the same images as here" if known else "whose images are not here to compare")
    ] += 1
    if known and known != record.dataset_fingerprint:
        yield (
            f"record {record.id} was measured on other images of {task.dataset.text}: fingerprint "
            f"{record.dataset_fingerprint[:12]}, here {known[:12]}"
        )


def _counts(task: Task, record: Record, missing: Mapping[str, str]) -> Iterator[str]:
    """Yield whether an accuracy is no whole number of test images, which no victim can have right."""
    assert record.metrics is not None, "submitted records have metrics"
    images = 0 if f"dataset:{task.dataset.name}" in missing else data.judged_images(task.dataset)
    for share in (*record.metrics.curve.test_acc, *record.metrics.curve.shifts):
        if abs(share * images - round(share * images)) > images * CLOSE:
            yield f"record {record.id}: {share:.6g} is no share of the {images:,} test images of {task.dataset.text}"
            return


# Our own


@dataclass
class Arrival:
    """The records of a tar of ours beside those that are here, by cell."""

    new: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)  # here already, byte for byte
    stale: list[str] = field(default_factory=list)  # here by older versions: replaced
    other: list[str] = field(default_factory=list)  # here with another outcome: kept, unless they are to be replaced


def judge_code(found: Examined, repository: provenance.Repository) -> provenance.Search:
    """Add whether the code of all records is that of a commit of the repository. FileError where commits cannot be read."""
    trees = {record.tree for record in found.records.values()}
    search = repository.find(trees)
    listed = ", ".join(f"commit {commit[:12]}" for commit in search.commits.values())
    found.look("commits", _unfounded(found, repository, search), f"the code is that of {listed}")
    return search


def _unfounded(found: Examined, repository: provenance.Repository, search: provenance.Search) -> Iterator[str]:
    """Yield which records are of code, or name a commit, that the repository does not know."""
    trees: dict[str, str] = {}  # of the commits that records name
    for record in found.records.values():
        if record.tree not in search.commits:
            yield (
                f"record {record.id} was made by code with the tree {record.tree[:12]}, which none of the {search.looked_at:,} "
                "commits looked at from HEAD has; check out the commit that made it, or measure it again by committed code"
            )
            continue
        if record.commit and record.commit not in trees:
            try:
                trees[record.commit] = repository.tree(record.commit)
            except FileError:
                trees[record.commit] = ""
        if record.commit and trees[record.commit] != record.tree:
            yield f"record {record.id} names commit {record.commit[:12]}, which is not here or has other code"


def compare(found: Examined, records: Records) -> Arrival:
    """Sort the records of a tar by what is here of their cells. FileError for a record here that cannot be read."""
    arrival = Arrival()
    for cell_id, content in found.contents.items():
        here = records.read(cell_id)
        if here is None:
            arrival.new.append(cell_id)
        elif records.path(cell_id).read_bytes() == content:
            arrival.same.append(cell_id)
        elif outdated(here.versions, here.cell.parts):
            arrival.stale.append(cell_id)
        else:
            arrival.other.append(cell_id)
    return arrival


def take_own(
    found: Examined, commits: Mapping[str, str], records: Records, *, new: Iterable[str], replaced: Iterable[str]
) -> None:
    """Write records of ours with their bytes, each as a whole, and before them which commits have their code. FileError.

    A cell of `new` that was measured here meanwhile keeps its record.
    """
    assert found.ok, "only what passed every check is kept"
    nameless = {record.tree for record in found.records.values() if not record.commit}
    written = 0
    try:
        records.add_commits({tree: commit for tree, commit in commits.items() if tree in nameless})
        for cell_id in new:
            if not records.add(cell_id, found.contents[cell_id]):
                raise _measured_meanwhile(cell_id)
            written += 1
        for cell_id in replaced:
            records.put(cell_id, found.contents[cell_id])
            written += 1
    except FileExistsError as error:
        sentence = f"{error}; {written} records were written, each as a whole"
        raise FileError(f"{sentence}; the same command goes on with the others") from None
    except OSError as error:
        sentence = f"cannot write to {records.folder}: {error.strerror}; {written} records were written, each as a whole"
        raise FileError(f"{sentence}; the same command goes on with the others") from None


# Keeping


def take(found: Examined, records: Records) -> Taken:
    """Keep the records of a bundle that was examined and judged, those that are not here yet.

    All of them or none, where the disk refuses or a cell was measured here meanwhile; killed in between, the same bundle
    again completes it. FileError.
    """
    assert found.ok and found.submission is not None, "only what passed every check is kept"
    before = next((one for one in taken(records.folder) if one.digest == found.digest), None)  # whole, or interrupted
    new = sorted(set(found.contents) - found.known)
    one = before or Taken(digest=found.digest, accepted=_now(), submission=found.submission, kept=new)
    if not set(new) <= set(one.kept):
        raise FileError(f"submission {one.short} was taken in before; withdraw it (--withdraw), then take it in again")
    written: list[str] = []
    try:
        one.write(records.folder)  # first: a record without it would pass for one of ours
        for cell_id in new:
            _create(cell_id, found, records)
            written.append(cell_id)
    except OSError as error:
        for cell_id in written:
            records.path(cell_id).unlink(missing_ok=True)
        if before is None:
            one.path(records.folder).unlink(missing_ok=True)
        reason = f"cannot write to {records.folder}: {error.strerror}" if error.strerror else str(error)
        raise FileError(f"{reason}; nothing was taken in") from None
    for cell_id in written:
        records.seal(cell_id, found.contents[cell_id])
        records.failure_path(cell_id).unlink(missing_ok=True)
    return one


def _create(cell_id: str, found: Examined, records: Records) -> None:
    """Write a record that was not here a moment ago; it is sealed when all of its bundle are there."""
    try:
        create_file(records.path(cell_id), found.contents[cell_id])
    except FileExistsError:
        raise _measured_meanwhile(cell_id) from None


def _measured_meanwhile(cell_id: str) -> FileExistsError:
    return FileExistsError(f"cell {cell_id} was measured here meanwhile and keeps its record")


def withdraw(one: Taken, records: Records) -> int:
    """Remove a submission with its records, as far as they were not measured here since; return how many."""
    mine = [cell_id for cell_id, origin in records.origins.items() if origin.digest == one.short]
    for cell_id in mine:
        records.path(cell_id).unlink(missing_ok=True)
    one.path(records.folder).unlink()
    return len(mine)


def find(wish: str, records: Records) -> Taken:
    """Return the submission whose digest begins so. FileError if there is none, or several."""
    several = taken(records.folder)
    fits = [one for one in several if len(wish) >= 4 and one.digest.startswith(wish)]
    if len(fits) != 1:
        there = ", ".join(one.short for one in several) or "none"
        raise FileError(f"{wish} is neither a bundle nor the digest of one submission; taken in are: {there}")
    return fits[0]


# Checking again


@dataclass
class Finding:
    """One thing that was computed again: what it is of, what the submitter says, what was found here."""

    what: str
    records: list[str]
    reported: str
    found: str
    agrees: bool | None  # None: it could not be judged, `found` says why


def _own(one: Taken, records: Records) -> list[Record]:
    """The records of a submission that still are the submitter's."""
    mine = sorted(cell_id for cell_id, origin in records.origins.items() if origin.digest == one.short)
    return [record for cell_id in mine if (record := records.read(cell_id)) is not None]


def verify_poisons(one: Taken, space: Workspace, device: str, quiet: bool = False) -> list[Finding]:
    """Craft (or find) every poison of a submission here, compare checksums, and write down what came of it."""
    records, findings = Records(space.records), []
    recipes: dict[str, tuple[PoisonRecipe, Task, list[Record]]] = {}
    for record in _own(one, records):
        if record.poison is None:
            continue
        try:
            task = Task.of(record.cell, Finder(runs.remembered(space)))
            if sentence := next((s for part in task.datasets.values() if (s := data.missing(part))), ""):
                raise MissingDataError(sentence)
        except (EntryError, MissingDataError) as error:
            findings.append(Finding(record.cell.label, [record.id], record.poison.checksum[:12], str(error), None))
            continue
        recipes.setdefault(task.poison.key, (task.poison, task, []))[2].append(record)
    if recipes:
        from poisons.store import CraftError, Store

        store, name = Store(space.poisons, device), provenance.device_name(device)
        child.decode(list({text: part for _, task, _ in recipes.values() for text, part in task.datasets.items()}.values()))
        for number, (recipe, task, several) in enumerate(recipes.values(), 1):
            if not quiet:
                print(f"[{number}/{len(recipes)}] {recipe.text} on {task.dataset.text}", file=sys.stderr, flush=True)
            try:
                here = store.poison(recipe, data.load(task.dataset)).checksum
            except (CraftError, EntryError) as error:
                findings.append(_finding(several, recipe, str(error), None))
                continue
            for theirs in {_checksum(record) for record in several}:
                alike, agrees = [record for record in several if _checksum(record) == theirs], theirs == here
                made = Verified(agrees=agrees, checksum=here, device=name, tree=provenance.tree(), finished=_now())
                one.poisons |= {record.id: made for record in alike}
                findings.append(_finding(alike, recipe, f"{here[:12]} on {name}, theirs on {alike[0].device}", agrees))
            one.write(records.folder)  # after each: crafting takes long
    return findings


def _finding(several: Sequence[Record], recipe: PoisonRecipe, found: str, agrees: bool | None) -> Finding:
    """What was found about one poison, for all records of it."""
    what = f"{recipe.text} on {recipe.dataset.text}, seed {recipe.seed}, {len(several)} records"
    return Finding(what, [record.id for record in several], _checksum(several[0])[:12], found, agrees)


def _checksum(record: Record) -> str:
    return record.poison.checksum if record.poison is not None else ""


def rerun(
    one: Taken, space: Workspace, options: driver.Options, count: int, seed: int, tolerance: float | None, quiet: bool = False
) -> list[Finding]:
    """Measure `count` cells of a submission again, drawn by `seed`; compare accuracies and write down what came of it.

    `tolerance` is a fraction; without, it comes from the spread over seeds of like cells that were measured here.
    """
    records, able = Records(space.records), []
    for record in _own(one, records):
        try:
            task = Task.of(record.cell, Finder(runs.remembered(space)))
        except EntryError:
            continue
        if record.cell.measure == "accuracy" and not any(data.missing(part) for part in task.datasets.values()):
            able.append(record)
    if not able:
        raise FileError(f"no cell of submission {one.short} can be run here: its data sets or entries are not installed")
    findings = []
    for record in random.Random(seed).sample(able, min(count, len(able))):
        after = driver.run_again(record, space, options, quiet)
        before, now = _accuracy(record.metrics), _accuracy(after.metrics if after is not None else None)
        if after is None or before is None or now is None:
            findings.append(Finding(record.cell.label, [record.id], f"{100 * (before or 0):.2f}%", "it failed here", None))
            continue
        allowed = tolerance if tolerance is not None else spread(records, record)
        agrees = True if now == before else None if allowed is None else abs(now - before) <= allowed
        one.reruns[record.id] = Again(
            agrees=agrees, test_acc=now, tolerance=allowed, device=after.device, tree=after.tree, finished=after.finished
        )
        one.write(records.folder)
        judged = "no tolerance is known: no like cell was measured here with two seeds; give --tolerance"
        limit = "the same" if now == before else judged if allowed is None else f"tolerance {100 * allowed:.2f} points"
        findings.append(Finding(record.cell.label, [record.id], f"{100 * before:.2f}%", f"{100 * now:.2f}%, {limit}", agrees))
    return findings


def _accuracy(metrics: Metrics | None) -> float | None:
    return metrics.test_acc if metrics is not None else None


def spread(records: Records, like: Record) -> float | None:
    """Return how far two runs of a setting may differ in 95 % of cases, by the seeds that were measured here; a fraction.

    The variance over seeds is pooled over the cells of one protocol, data set and architecture, as for the verdicts on
    papers' tables. None where no cell has two seeds. Numbers of others do not count: they are what is to be judged.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    setting = [digest(part.model_dump(mode="json")) for part in (like.cell.protocol, like.cell.dataset, like.cell.architecture)]
    for cell_id, brief in records.briefs().items():
        alike = all(brief.texts[axis] == like.cell.texts[axis] for axis in ("protocol", "dataset", "architecture"))
        if not alike or cell_id in records.origins:
            continue
        record = records.read(cell_id)
        if record is None or record.cell.measure != "accuracy" or (accuracy := _accuracy(record.metrics)) is None:
            continue
        cell = record.cell
        if [digest(part.model_dump(mode="json")) for part in (cell.protocol, cell.dataset, cell.architecture)] == setting:
            groups[digest({**cell.resolved(), "seed": 0})].append(accuracy)
    found = Spread.of(groups.values())
    return None if found is None else found.apart()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
