"""Tars of our own records, made on a machine without a repository: packed there, read here for `bench accept --own`.

A tar is `<id>.json` files and nothing else but perhaps one `gpu.json`. It is read in memory, header by header, after a look at
every size: nothing is extracted, and a link, a device, a path or an extended header ends the reading.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from results.record import FileError, Record, Records, write_file

PART = 16 << 20  # bytes that a tar stays below
BLOCK = tarfile.BLOCKSIZE  # bytes; a header is one, contents are filled up to whole ones


def pack_own(records: Records, folder: Path, ids: Iterable[str] | None = None, limit: int = PART) -> list[Path]:
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
        needed = BLOCK + -(-len(content) // BLOCK) * BLOCK
        if 2 * BLOCK + needed >= limit:
            raise FileError(f"record {record.id} has {len(content):,} bytes, a tar stays below {limit:,}; raise the limit")
        if size + needed >= limit:
            parts.append({})
            size = 2 * BLOCK  # the end of a tar
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
        blocks.write(content + bytes(-len(content) % BLOCK))
    blocks.write(bytes(2 * BLOCK))
    return blocks.getvalue()
