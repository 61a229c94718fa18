"""Takes in records of ours that were made where there is no repository: `bench accept --own`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from unlearnable_bench.benchmark import provenance
from unlearnable_bench.benchmark.submissions.keeping import measured_meanwhile
from unlearnable_bench.registry import outdated
from unlearnable_bench.results import FileError, Record, Records
from unlearnable_bench.results.bundle import Examined


@dataclass
class Arrival:
    """The records of a tar of ours beside those that are here, by cell."""

    new: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)  # here already, byte for byte
    stale: list[str] = field(default_factory=list)  # here by older versions: replaced
    other: list[str] = field(default_factory=list)  # here with another outcome: kept, unless they are to be replaced

    def by_fate(self, force: bool) -> dict[str, list[str]]:
        """Return which records come in, are here already, replace one that is here, or leave that one in its place."""
        if force:
            return {"new": self.new, "same": self.same, "replaced": [*self.stale, *self.other], "kept": []}
        return {"new": self.new, "same": self.same, "replaced": self.stale, "kept": self.other}


def judge_code(examined: Examined, repository: provenance.Repository) -> provenance.Search:
    """Add whether the code of all records is that of a commit of the repository. FileError where commits cannot be read."""
    trees = {record.tree for record in examined.records.values()}
    search = repository.find(trees)
    commits = ", ".join(f"commit {commit[:12]}" for commit in search.commits.values())
    examined.look("commits", _unfounded(examined, repository, search), f"the code is that of {commits}")
    return search


def _unfounded(examined: Examined, repository: provenance.Repository, search: provenance.Search) -> Iterator[str]:
    """Yield which records are of code, or name a commit, that the repository does not know."""
    trees: dict[str, str] = {}  # of the commits that records name
    for record in examined.records.values():
        if record.tree not in search.commits:
            yield _unknown_code(record, search)
            continue
        if not record.commit:
            continue
        if record.commit not in trees:
            trees[record.commit] = ""
            with suppress(FileError):
                trees[record.commit] = repository.tree(record.commit)
        if trees[record.commit] != record.tree:
            yield f"record {record.id} names commit {record.commit[:12]}, which is not here or has other code"


def _unknown_code(record: Record, search: provenance.Search) -> str:
    return (
        f"record {record.id} was made by code with the tree {record.tree[:12]}, which none of the {search.looked_at:,} "
        "commits looked at from HEAD has; check out the commit that made it, or measure it again by committed code"
    )


def compare_with_records(examined: Examined, records: Records) -> Arrival:
    """Sort the records of a tar by what is here of their cells. FileError for a record here that cannot be read."""
    arrival = Arrival()
    for cell_id, content in examined.contents.items():
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
    examined: Examined, commits: Mapping[str, str], records: Records, *, new: Iterable[str], replaced: Iterable[str]
) -> None:
    """Write records of ours with their bytes, each as a whole, and before them which commits have their code. FileError.

    A cell of `new` that was measured here meanwhile keeps its record.
    """
    assert examined.ok, "only records that passed every check are kept"
    nameless = {record.tree for record in examined.records.values() if not record.commit}
    written = 0
    try:
        records.add_commits({tree: commit for tree, commit in commits.items() if tree in nameless})
        for cell_id in new:
            if not records.add(cell_id, examined.contents[cell_id]):
                raise measured_meanwhile(cell_id)
            written += 1
        for cell_id in replaced:
            records.put(cell_id, examined.contents[cell_id])
            written += 1
    except OSError as error:
        met = isinstance(error, FileExistsError)
        reason = str(error) if met else f"cannot write to {records.folder}: {error.strerror}"
        sentence = f"{reason}; {written} records were written, each as a whole"
        raise FileError(f"{sentence}; the same command goes on with the others") from None
