"""Takes a dataset from local copies of the files that it is published as, for machines without internet."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from unlearnable_bench.registry.contract import EntryError

if TYPE_CHECKING:
    from unlearnable_bench.registry.catalog import ConfiguredEntry

BLOCK = 1 << 20  # bytes read at once

Progress = Callable[[int], None]  # is told how many more bytes were read


@dataclass(frozen=True)
class Archive:
    """A file that a dataset is published as. A `.tar.gz` is unpacked into the folder of the dataset, others are copied."""

    name: str
    md5: str  # of the publisher
    size: int  # bytes

    def __str__(self) -> str:
        return f"{self.name} ({self.size:,} bytes)"


def published_archives(part: ConfiguredEntry) -> list[Archive]:
    """Return the files that a dataset is published as, none where it has no archive with a checksum."""
    listed = getattr(part.entry.load(), "archives", None)
    return listed() if listed is not None else []


def recognize(part: ConfiguredEntry, files: Sequence[Path], progress: Progress) -> dict[Archive, Path]:
    """Return which archive of a dataset each file is, by its checksum. EntryError unless the files are all of them."""
    archives = published_archives(part)
    if not archives:
        remedy = f"`bench data get {part.name}` without --from gets it or says how"
        raise EntryError(f"{part.name} is not published as a file with a checksum that --from could take; {remedy}")
    found: dict[Archive, Path] = {}
    for file in files:
        archive = _recognized(part, file, archives, progress)
        if archive in found:
            raise EntryError(f"{found[archive]} and {file} are both {archive.name}; give it once")
        found[archive] = file
    if absent := [archive for archive in archives if archive not in found]:
        names = " and ".join(archive.name for archive in archives)
        raise EntryError(f"{part.name} is published as {names}; say --from FILE for {absent[0]}, too")
    return found


def _recognized(part: ConfiguredEntry, file: Path, archives: Sequence[Archive], progress: Progress) -> Archive:
    expected = " or ".join(map(str, archives))
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "is not there" if not file.exists() else "is not a regular file"
        raise EntryError(f"{file} {what}; --from takes the file that {part.name} is published as, {expected}")
    md5, size = _md5(file, progress), file.stat().st_size
    for archive in archives:
        if archive.md5 == md5:
            return archive
    if other := _owner(part, md5):
        raise EntryError(f"{file} is an archive of {other}, not of {part.name}; say `bench data get {other} --from {file}`")
    sums = " or ".join(archive.md5 for archive in archives)
    raise EntryError(f"{file} has {size:,} bytes and the md5 {md5}, expected {expected} with {sums}; copy or download it again")


def _md5(file: Path, progress: Progress) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with _opened(file) as source:
        for block in _blocks(source):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise EntryError(f"cannot read {file}: {error.strerror}") from None


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    while block := source.read(BLOCK):
        yield block


def _owner(part: ConfiguredEntry, md5: str) -> str:
    """Return the name of another dataset that has an archive with this checksum, or ''."""
    from unlearnable_bench.registry import DATASETS

    for entry in DATASETS.rows:
        if entry.error or entry.source != part.entry.source:
            continue
        if any(archive.md5 == md5 for archive in published_archives(DATASETS.resolve(entry.name)[0])):
            return entry.name
    return ""


def unpack(sources: Mapping[Archive, Path], root: Path, progress: Progress) -> None:
    """Put archives into the folder of their dataset, all of them or nothing. OSError where it cannot be written."""
    beside = root if root.is_dir() else root.parent
    beside.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".getting-", dir=beside))
    try:
        fresh = scratch / "fresh"
        fresh.mkdir()
        for archive, file in sources.items():
            with _opened(file) as source:
                if archive.name.endswith(".tar.gz"):
                    _extract(source, fresh, progress)
                else:
                    _copy(source, fresh / archive.name, progress)
        if root.is_dir():
            _exchange(fresh, root, scratch)
        else:
            fresh.rename(root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _extract(source: BinaryIO, folder: Path, progress: Progress) -> None:
    read = 0
    with tarfile.open(fileobj=source, mode="r:gz") as members:
        for member in members:
            members.extract(member, folder, filter="data")
            progress(source.tell() - read)
            read = source.tell()


def _copy(source: BinaryIO, target: Path, progress: Progress) -> None:
    with target.open("wb") as copy:
        for block in _blocks(source):
            copy.write(block)
            progress(len(block))


def _exchange(fresh: Path, root: Path, scratch: Path) -> None:
    """Rename what was unpacked into a folder that is there; what it replaces goes where it is removed."""
    for entry in sorted(fresh.iterdir()):
        target = root / entry.name
        if target.exists():
            target.rename(scratch / entry.name)
        entry.rename(target)
