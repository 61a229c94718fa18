"""A publication: the site with the data behind it, checksums and a citation, to a folder or to a branch of a git repository.

The pages are made from the very records that are published beside them, so that anybody can make them again. The same records
give the same files: no file has a time of its own, dates are those of the latest record.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unlearnable_bench.leaderboard.formats.escaping import environment
from unlearnable_bench.leaderboard.formats.imprint import Imprint
from unlearnable_bench.leaderboard.formats.text import csv_text, tidy_csv
from unlearnable_bench.leaderboard.pages.addresses import FEED, site_url
from unlearnable_bench.leaderboard.pages.build import ShownTables
from unlearnable_bench.leaderboard.pages.frame import TITLE
from unlearnable_bench.leaderboard.pages.site import Site
from unlearnable_bench.leaderboard.publishing.changes import (
    CHANGES,
    KINDS,
    NUMBERS,
    History,
    changes_between,
    links,
    measured_numbers,
)
from unlearnable_bench.leaderboard.publishing.description import PROGRAM, description, stated
from unlearnable_bench.leaderboard.publishing.feed import feed
from unlearnable_bench.leaderboard.publishing.records import COLUMNS, DAMAGED, DIRTY, PublishedRecords, published_records
from unlearnable_bench.leaderboard.publishing.releases import FrozenCopy, check_release, files_of_release, latest_first
from unlearnable_bench.leaderboard.publishing.targets import DESCRIPTION, SUMS, Before, OvertakenError, Target, quiet
from unlearnable_bench.leaderboard.tables.printed import tidy_rows
from unlearnable_bench.results import FileError, Records
from unlearnable_bench.results.errata import ERRATA
from unlearnable_bench.results.record import COMMITS, sha256
from unlearnable_bench.results.submission import FOLDER

FORMAT = 1  # of a publication
LICENSE = "CC-BY-4.0"  # of records and pages, where the citation is that of a program
CITATION = "CITATION.cff"
HINTS = {DIRTY: "; --allow-dirty publishes them", DAMAGED: "; -v says what is wrong"}  # by why a record was left out


@dataclass(frozen=True)
class PublicationOutcome:
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
        return sorted(name for name in both if self.before.files[name] != sha256(self.files[name]))

    @property
    def removed(self) -> list[str]:
        return sorted(set(self.before.files) - set(self.files))

    @property
    def differs(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(map(len, self.files.values()))

    def message(self, records: int) -> str:
        """What the commit on a branch says."""
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        return f"Publish {records} records: {counts}"

    @property
    def counts(self) -> dict[str, int]:
        """How many numbers there are, and how many moved, appeared and vanished since the publication before."""
        count = Counter(row["change"] for row in self.changes)
        return {"numbers": len(self.rows)} | {kind: count[kind] for kind in KINDS}


@dataclass(frozen=True)
class Rendered:
    """A site with its files, but for the pages that name earlier publications."""

    site: Site
    texts: Mapping[str, str | bytes]

    @classmethod
    def of(cls, site: Site) -> Rendered:
        return cls(site, site.files())


@dataclass(frozen=True)
class Publication:
    """Everything of a publication that does not depend on the one before it."""

    published: PublishedRecords
    pages: Rendered
    release: Rendered | None = None  # as its frozen copy has them
    rows: list[dict[str, str]] = field(default_factory=list)
    papers: str = ""  # CSV
    citation: str = ""  # the workspace's own; may be empty

    @classmethod
    def of(cls, published: PublishedRecords, citation: str, shown: ShownTables, site: Site, release: Imprint) -> Publication:
        """Render a site of the chosen records, and once more as a release where that has a name."""
        imprint = Imprint(_license(citation), stated(citation, "doi"), repository=_web(stated(citation, "repository-code")))
        site = replace(site, history=History(), imprint=imprint)
        copy = None
        if release.release:
            own = replace(imprint, release=release.release, doi=release.doi or imprint.doi, current=site.url)
            address = f"{site.url}{release.release}/" if site.url else ""
            copy = Rendered.of(replace(site, url=address, imprint=own))
        rows = measured_numbers(site, published.records)
        return cls(published, Rendered.of(site), copy, rows, tidy_csv(tidy_rows(shown.printed_tables)), citation)

    @property
    def name(self) -> str:
        """That of its release; '' without one."""
        return self.release.site.imprint.release if self.release else ""

    def after(self, before: Before) -> PublicationOutcome:
        """Return the files as they follow a publication; its changes are added to the history of it."""
        changes = changes_between(before.numbers, self.rows) if before.count else []
        count = before.count + (bool(changes) or not before.count)
        stamp = {"publication": str(count), "date": self.published.date, "release": self.name}
        past = History([*before.changes, *(stamp | row for row in changes)], links(self.rows))
        copies, kept = dict(before.releases), dict[str, bytes]()
        if self.release:
            files = self._files(self.release, past, count)
            copy = FrozenCopy(self.name, sha256(files[SUMS]), self.published.date, self.release.site.imprint.doi)
            kept = files_of_release(copy, files, before.releases.get(self.name))
            copies[self.name] = copy
        files = self._files(self.pages, replace(past, releases=latest_first(copies.values())), count)
        return PublicationOutcome(files | kept, before, self.rows, changes)

    def _files(self, rendered: Rendered, past: History, count: int) -> dict[str, bytes]:
        """All files of the publication of a number, by name."""
        site = replace(rendered.site, history=past)
        contents: dict[str, str | bytes] = {
            **rendered.texts,
            **site.past(),
            ".nojekyll": "",
            "data/numbers.csv": csv_text(NUMBERS, self.rows),
            "data/changes.csv": csv_text(CHANGES, past.rows),
            "data/papers.csv": self.papers,
            "data/records.csv": csv_text(COLUMNS, self.published.rows()),
            CITATION: self._citation(count, site.imprint.doi),
        }
        if site.url:
            contents[FEED] = feed(past, site.url, self.published.date)
        files = {name: text.encode() if isinstance(text, str) else text for name, text in contents.items()}
        folder = self.published.records.folder
        for path in sorted(
            [*folder.glob("*.json"), *folder.glob(f"{FOLDER}/*.json"), *folder.glob(COMMITS), *folder.glob(ERRATA)]
        ):
            files[f"data/records/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
        files["README.md"] = self._readme(files[CITATION].decode()).encode()
        files[DESCRIPTION] = self._description(count, files).encode()
        files[SUMS] = "".join(f"{sha256(files[name])}  {name}\n" for name in sorted(files)).encode()
        return files

    def _citation(self, count: int, doi: str) -> str:
        """CITATION.cff: the workspace's own with version and date, else one that cites this publication and the program."""
        text = self._citation_of_workspace(count) if self.citation else self._citation_of_ours(count)
        return text if stated(text, "doi") == doi else _with(text, "doi", doi)

    def _citation_of_workspace(self, count: int) -> str:
        text = self.citation.rstrip("\n") + "\n"
        if self.name or not stated(text, "version"):
            text = _with(text, "version", self._version(count))
        return _with(text, "date-released", self.published.date) if self.published.date else text

    def _citation_of_ours(self, count: int) -> str:
        date = f"date-released: {self.published.date}\n" if self.published.date else ""
        return _CITATION.format(version=self._version(count), date=date, program=importlib.metadata.version(PROGRAM))

    def _version(self, count: int) -> str:
        return json.dumps(self.name or str(count))

    def _readme(self, citation: str) -> str:
        done = sum(record.state == "done" for record in self.published.all)
        title = stated(citation, "title") or TITLE
        text = _README.format(
            title=title, numbers=len(self.rows), records=len(self.published.all), done=done, date=self.published.date
        )
        license_id = _license(self.citation)
        return f"{text}\nLicense of records and pages: {license_id}\n" if license_id else text

    def _description(self, count: int, files: Mapping[str, bytes]) -> str:
        """datapackage.json."""
        own = {
            "format": FORMAT,
            "publication": count,
            "release": self.name,
            "program": importlib.metadata.version(PROGRAM),
            "numbers": len(self.rows),
            "records": len(self.published.all),
            "latest_record": self.published.date,
        }
        citation = files[CITATION].decode()
        title = stated(citation, "title") or TITLE
        return description(files, own, title, citation, _license(self.citation))


def publish(
    target: Target,
    source: Records,
    workspace: Path,
    *,
    changelog: str = "",
    store: Path | None = None,
    since: Path | None = None,
    release: str = "",
    doi: str = "",
    url: str = "",
    allow_dirty: bool = False,
    dry_run: bool = False,
) -> tuple[PublicationOutcome, PublishedRecords]:
    """Publish the records of a workspace to a target. Writes nothing where nothing differs, nor in a dry run.

    `since` is a folder with the publication to compare with, where that is not the one at the target; `url` is where the site
    will be; `release` names a frozen copy, and `doi` is its own. FileError, with a sentence, for whatever stands in the way;
    the target is then as it was.
    """
    check_release(release, doi)
    citation, address = _citation_file(workspace), site_url(url)
    before = target.before(since)  # and the seconds of rendering after it
    with published_records(source, workspace, allow_dirty) as published:
        _refuse_nothing(published, source)
        shown = ShownTables.of(None, {}, published.records)
        site = replace(shown.site(store, changelog), url=address)
        publication = Publication.of(published, citation, shown, site, Imprint(release=release, doi=doi))
        for _ in range(2):
            outcome = publication.after(before)
            _refuse_collision(outcome, target)
            if dry_run or not outcome.differs:
                return outcome, published
            try:
                where = target.put(outcome.files, outcome.before, outcome.message(len(published.all)))
                return replace(outcome, where=where), published
            except OvertakenError:
                before = target.before(since)
    raise FileError(f"{target} was changed twice by others during this publication; try again")


def _citation_file(workspace: Path) -> str:
    """The text of CITATION.cff of the workspace; '' without one. FileError if it is none."""
    path = workspace / CITATION
    citation = path.read_text(encoding="utf-8") if path.is_file() else ""
    if citation and not re.search(r"^cff-version:", citation, re.MULTILINE):
        raise FileError(f"{path} has no line `cff-version: 1.2.0`; see citation-file-format.github.io, or remove it")
    return citation


def _license(citation: str) -> str:
    """The license of records and pages, as the workspace's citation says it; '' where nobody says it."""
    return LICENSE if stated(citation, "type") == "software" else stated(citation, "license")


def _web(address: str) -> str:
    """An address of the web; '' for anything else."""
    return address.rstrip("/") if re.fullmatch(r"https?://[^\s\"'<>]+", address) else ""


def _refuse_nothing(published: PublishedRecords, source: Records) -> None:
    if published.all:
        return
    why = "".join(f"; {len(ids)} left out: {why}" for why, ids in published.left_out.items())
    hint = " (--allow-dirty publishes those)" if DIRTY in published.left_out else ""
    raise FileError(f"no record to publish in {source.folder}{why}{hint}; `bench run` makes records")


def _refuse_collision(outcome: PublicationOutcome, target: Target) -> None:
    collisions = sorted(name for name in outcome.files if outcome.before.collides(name))
    if collisions:
        raise FileError(f"{target} has a file {collisions[0]} that `bench publish` did not write; move it away")


def publication_json(to: str, outcome: PublicationOutcome, published: PublishedRecords, dry_run: bool) -> dict[str, Any]:
    """Return what `--json` prints. Keys are stable: more may come, none is renamed."""
    return {
        "to": quiet(to),
        "dry_run": dry_run,
        "published": outcome.differs and not dry_run,
        "commit": outcome.where,
        "files": len(outcome.files),
        "bytes": outcome.size,
        "added": outcome.added,
        "changed": outcome.changed,
        "removed": outcome.removed,
        "records": len(published.all),
        "dirty": published.dirty,
        "left_out": published.left_out,
        "numbers": outcome.counts,
        "changes": outcome.changes,
    }


def publication_text(to: str, outcome: PublicationOutcome, published: PublishedRecords, dry_run: bool) -> str:
    """Say what was published, or would be, in a few lines."""
    page = {
        "records": len(published.all),
        "left_out": published.left_out,
        "hints": HINTS,
        "dirty": published.dirty,
        "DIRTY": DIRTY,
        "outcome": outcome,
        "counts": outcome.counts,
        "size": outcome.size / 2**20,
        "to": quiet(to),
        "dry_run": dry_run,
    }
    return environment("txt").get_template("published.txt").render(page).removesuffix("\n")


def _with(text: str, key: str, value: str) -> str:
    """A CITATION.cff with another value of such a key."""
    line = f"{key}: {value}"
    changed, count = re.subn(rf"^{key}:.*$", lambda _: line, text, count=1, flags=re.MULTILINE)
    return changed if count else f"{text}{line}\n"


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
| `data/results.csv`, `data/results.json`, `data/leaderboard.json` | published and measured results, in percent |
| `data/numbers.csv` | every measured number, with the ids of its records |
| `data/changes.csv` | which numbers moved, appeared or vanished from one publication to the next |
| `data/papers.csv` | what papers print, and ours |
| `data/records.csv`, `data/records/` | every record, as a row and whole |
| `datapackage.json` | what the columns mean |
| `CITATION.cff` | how to cite this |
| `SHA256SUMS` | checksums; `sha256sum -c SHA256SUMS` compares |

`BENCH_RESULTS=data/records bench report --output pages` makes the pages again from the records.
"""
