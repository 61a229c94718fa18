"""Tars of our own records, made on a machine without a repository: packed there, read here for `bench accept --own`.

A tar is `<id>.json` files and nothing else but perhaps one `gpu.json`. It is read in memory, header by header, after a look at
every size: nothing is extracted, and a link, a device, a path or an extended header ends the reading.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from unlearnable_bench.results.bundle import MOST_BYTES, MOST_RECORD_BYTES, MOST_RECORDS, clipped
from unlearnable_bench.results.record import FileError, Record, Records, write_file

MOST_TAR_BYTES = 16 << 20  # bytes that a tar stays below
TAR_BLOCK = tarfile.BLOCKSIZE  # bytes; a header is one, contents are filled up to whole ones
PLAIN_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
RECORD_FILE = re.compile(r"([0-9a-f]{16})\.json")
REPORT = "gpu.json"  # what `make gpu` found, beside the records; not read here
GZIP, ZIP = b"\x1f\x8b", b"PK"  # first bytes


def pack_own(records: Records, folder: Path, ids: Iterable[str] | None = None, limit: int = MOST_TAR_BYTES) -> list[Path]:
    """Write measured records, all or those of `ids`, as `records-<n>.tar`, each below `limit` bytes; return the tars.

    Records come in the order in which they were finished. So a call after every stage leaves full tars as they are, and the
    same records give the same bytes. Each tar is written by rename. Cells that do not apply have no number and are left out.
    FileError for a record that is not whole or larger than a tar.
    """
    chosen = [record for record in map(records.read, sorted(records.ids() if ids is None else set(ids))) if record is not None]
    measured = sorted((record for record in chosen if record.state == "done"), key=lambda record: (record.finished, record.id))
    folder.mkdir(parents=True, exist_ok=True)
    tars = []
    for number, contents in enumerate(_parts(measured, records, limit), 1):
        tars.append(folder / f"records-{number}.tar")
        write_file(tars[-1], _tar(contents))
    return tars


def _parts(measured: Iterable[Record], records: Records, limit: int) -> list[dict[str, bytes]]:
    """Share records among tars, by name: each tar is filled before the next one begins."""
    parts: list[dict[str, bytes]] = []
    size = limit
    for record in measured:
        content = records.path(record.id).read_bytes()
        needed = TAR_BLOCK + -(-len(content) // TAR_BLOCK) * TAR_BLOCK
        if 2 * TAR_BLOCK + needed >= limit:
            raise FileError(f"record {record.id} has {len(content):,} bytes, a tar stays below {limit:,}; raise the limit")
        if size + needed >= limit:
            parts.append({})
            size = 2 * TAR_BLOCK  # the end of a tar
        parts[-1][f"{record.id}.json"] = content
        size += needed
    return parts


def _tar(contents: dict[str, bytes]) -> bytes:
    """Return a tar of files that tells nothing of this machine: no owner, no time."""
    blocks = io.BytesIO()
    for name, content in contents.items():
        header = tarfile.TarInfo(name)
        header.size = len(content)
        blocks.write(header.tobuf(tarfile.USTAR_FORMAT))
        blocks.write(content + bytes(-len(content) % TAR_BLOCK))
    blocks.write(bytes(2 * TAR_BLOCK))
    return blocks.getvalue()


def read_own(path: Path) -> dict[str, bytes]:
    """Return the contents of the records of a tar, by cell. FileError, with a sentence, for any other file."""
    content = _whole(path)
    contents: dict[str, bytes] = {}
    names: set[str] = set()
    offset = 0
    while any(content[offset : offset + TAR_BLOCK]):
        member = _header(content[offset : offset + TAR_BLOCK], path)
        start, offset = offset + TAR_BLOCK, offset + TAR_BLOCK + -(-member.size // TAR_BLOCK) * TAR_BLOCK
        if offset > len(content):
            raise FileError(f"{path} ends within {member.name}; copy the whole file again")
        if member.name in names:
            raise FileError(f"{path} holds {member.name} twice; pack the records again")
        names.add(member.name)
        if member.name != REPORT:
            contents[member.name.removesuffix(".json")] = content[start : start + member.size]
    if offset == len(content) or any(content[offset:]):
        raise FileError(f"{path} has no end, or something behind it; copy the whole file again")
    if not contents:
        raise FileError(f"{path} holds no record; expected files <id>.json")
    if len(contents) > MOST_RECORDS:
        raise FileError(
            f"{path} holds {len(contents):,} records, {MOST_RECORDS:,} are taken at once; pack them into several files"
        )
    return contents


def _whole(path: Path) -> bytes:
    """Return the bytes of a tar, unpacked where it is a .tar.gz. FileError for what is none, is empty or too large."""
    if not path.is_file():
        raise FileError(f"there is no file {path}; expected a tar of records, such as records-1.tar of `make gpu`")
    with path.open("rb") as file:
        begin = file.read(len(GZIP))
        file.seek(0)
        try:
            content = (gzip.GzipFile(fileobj=file) if begin == GZIP else file).read(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise FileError(f"{path} cannot be read ({clipped(str(error))}); copy the whole file again") from None
    if not content:
        raise FileError(f"{path} is empty; expected a tar file of records")
    if begin == ZIP:
        raise FileError(f"{path} is a zip archive, not a tar file; accept a bundle of `bench submit` without --own")
    if len(content) > MOST_BYTES:
        raise FileError(
            f"{path} has more than {MOST_BYTES:,} bytes, the most that is taken at once; pack it into several files"
        )
    return content


def _header(block: bytes, path: Path) -> tarfile.TarInfo:
    """Read the header of a file. FileError for any but a plain file of an allowed name and size."""
    try:
        member = tarfile.TarInfo.frombuf(block, "ascii", "surrogateescape")
    except (tarfile.TarError, ValueError):
        raise FileError(f"{path} is not a tar file, or is damaged; expected .tar or .tar.gz of <id>.json files") from None
    name = clipped(member.name)
    if member.type not in PLAIN_FILES:
        raise FileError(f"{path} holds {name!r}, which is not a regular file; pack plain files, by `tar --format=ustar`")
    if member.name != REPORT and not RECORD_FILE.fullmatch(member.name):
        raise FileError(f"{path} holds {name!r}; expected <16 hexadecimal digits>.json, and {REPORT} at most")
    most = MOST_TAR_BYTES if member.name == REPORT else MOST_RECORD_BYTES
    if not 0 <= member.size <= most:
        raise FileError(f"{path}: {name} has {member.size:,} bytes, allowed are {most:,}")
    return member
