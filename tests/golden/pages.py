"""Writes `pages.json`: the sha256 of every file that the leaderboard renders from the records of one day.

    python tests/golden/pages.py [--out DIR] [--write] [--records]

A change to the code of the leaderboard should change no page, or only those that it is meant to change. Without options this
program prints which files changed. `--out` keeps the files, so that those of two commits can be compared by `diff -r`. After
every difference was looked at, `--write` writes the file anew, and the commit says what changed and why. `--records` also takes
in the records that were published since; do that in a commit of its own.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from argparse import ArgumentParser
from dataclasses import dataclass, field
from pathlib import Path

from unlearnable_bench.leaderboard.formats import comparison
from unlearnable_bench.leaderboard.pages.build import FORMATS, ShownTables, changelog
from unlearnable_bench.leaderboard.tables import agreement, claims
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.registry import lacking, resolve
from unlearnable_bench.results import Records

FILE = Path(__file__).with_name("pages.json")
PUBLISHED = Path(__file__).parents[2] / "results/records"
CHANGELOG = "changelog.html"


@dataclass
class Pages:
    """The ids of the records that are rendered, and the sha256 of every file by its name."""

    records: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Pages:
        return cls(**json.loads(FILE.read_text(encoding="utf-8")))

    def write(self) -> None:
        FILE.write_text(json.dumps({"records": self.records, "files": self.files}, indent=0) + "\n", encoding="utf-8")


def published() -> list[str]:
    """Return the ids of all published records, sorted."""
    return sorted(Records(PUBLISHED).ids())


def render(ids: list[str], folder: Path) -> None:
    """Write the whole site in every format, and the comparisons with the papers."""
    with tempfile.TemporaryDirectory() as scratch:
        for cell_id in ids:
            (Path(scratch) / f"{cell_id}.json").symlink_to(PUBLISHED / f"{cell_id}.json")
        records = Records(Path(scratch))
        ShownTables.of(None, {}, records).write(folder, ["html", *FORMATS], changelog=changelog(folder))
        compared = agreement.compare_named(None, {}, records)
        checked = claims.check_claims(printed_tables(agreement.paper_grid(None, {}), records, resolve, lacking))
        texts = {
            "tidy.csv": ShownTables.of(None, {}, records, tidy=True).tidy(),
            "tidy-d-vae.csv": ShownTables.of("d-vae/*", {}, records, tidy=True).tidy(),
            "compare.json": json.dumps(compared, indent=1),
            "compare.txt": comparison.comparison_text(compared),
            "claims.json": json.dumps(claims.rows(checked), indent=1),
            "claims.txt": comparison.claims_text(checked),
        }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file by its name, but for the changelog, which every commit may change."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHANGELOG)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Say of every file that is not as it was whether it is new, gone or changed."""
    gone = [f"gone     {name}" for name in before.keys() - after.keys()]
    new = [f"new      {name}" for name in after.keys() - before.keys()]
    changed = [f"changed  {name}" for name in before.keys() & after.keys() if before[name] != after[name]]
    return sorted(gone + new + changed)


def main() -> int:
    parser = ArgumentParser(description="Compare the pages of the leaderboard with those of pages.json.")
    parser.add_argument("--out", type=Path, help="keep the files in this folder")
    parser.add_argument("--write", action="store_true", help="write pages.json anew")
    parser.add_argument("--records", action="store_true", help="take in the records published since; with --write")
    options = parser.parse_args()
    before = Pages.read() if FILE.exists() else Pages(published())
    ids = published() if options.records else before.records
    with tempfile.TemporaryDirectory() as scratch:
        render(ids, options.out or Path(scratch))
        after = Pages(ids, sums(options.out or Path(scratch)))
    found = differences(before.files, after.files)
    print("\n".join([*found, f"{len(found)} of {len(after.files)} files are not as they were"]))
    if options.write:
        after.write()
    return 1 if found and not options.write else 0


if __name__ == "__main__":
    sys.exit(main())
