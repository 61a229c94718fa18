"""Lays out the documents for the site generator, which then builds them: `make site-docs`.

Documents link to files outside of docs/: table files, models of entries, workflows. So the site has the folders of the
repository: every document, and every file that one links to, lies where it lies in the repository. No link is rewritten.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import generate

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "docs" / "zensical.toml"
LINK = re.compile(r"\]\(([^)#\s]+)")
CODE = re.compile(r"```.*?```", re.DOTALL)


def linked(document: Path) -> Iterator[Path]:
    """Yield the files of the repository that a document links to."""
    text = CODE.sub("", document.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if "://" not in target:
            yield Path(os.path.normpath(document.parent / target))


def files() -> set[Path]:
    """Return every document and every file that one links to."""
    documents = generate.documents()
    return {*documents, *(path for document in documents for path in linked(document) if path.is_file())}


def stage(folder: Path) -> None:
    """Copy these files into `docs-source` of a folder, laid out as in the repository, and the configuration beside it."""
    source = folder / "docs-source"
    shutil.rmtree(source, ignore_errors=True)
    for path in sorted(files()):
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copyfile(CONFIG, folder / CONFIG.name)


def build(folder: Path) -> int:
    """Build `docs-site` of a staged folder; return the exit code, which is not 0 where a link leads nowhere."""
    program = Path(sys.executable).with_name("zensical")
    command = [str(program), "build", "--clean", "--strict", "--config-file", str(folder / CONFIG.name)]
    return subprocess.run(command, check=False).returncode  # noqa: S603  (our own command)


if __name__ == "__main__":
    stage(ROOT / "build")
    sys.exit(build(ROOT / "build"))
