"""Releases: frozen copies of a publication, each in a folder of its own name beside the pages that go on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from unlearnable_bench.results import FileError

OWN_KEY = "unlearnable_bench"  # of the description: tells our publications from other data packages
RESERVED = ("data", "badge")  # folders of the site
RESOLVER = "https://doi.org/"


@dataclass(frozen=True)
class FrozenCopy:
    """A release that is published."""

    name: str
    sums: str  # sha256 of its list of checksums
    date: str = ""  # of its latest record
    doi: str = ""

    @classmethod
    def read(cls, name: str, sums: bytes, description: bytes) -> FrozenCopy | None:
        """Return the release in a folder, from two files of it; None where the folder is no publication."""
        own = own_description(description)
        if own is None:
            return None
        address = str(json.loads(description).get("id", ""))
        return cls(name, hashlib.sha256(sums).hexdigest(), str(own.get("latest_record", "")), address.removeprefix(RESOLVER))


def own_description(description: bytes | None) -> dict[str, Any] | None:
    """Return what a description of data says of our publications; None for one of something else."""
    try:
        content = json.loads(description or b"null")
        own = content[OWN_KEY]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return own if isinstance(own, dict) else None


def check_release(name: str, doi: str) -> None:
    """FileError for what cannot name a folder beside those of the site, or is no DOI; both may be empty."""
    if name and (not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}", name) or name in RESERVED):
        raise FileError(f"--release {name!r}: expected up to 40 letters, digits, dots and dashes, such as 2026.1")
    if doi and not re.fullmatch(r"10\.[0-9]{4,9}/[A-Za-z0-9._;()/:+-]+", doi):
        raise FileError(f"--doi {doi!r}: expected a DOI without an address before it, such as 10.5281/zenodo.1234567")
    if doi and not name:
        raise FileError("--doi is of a release; add --release, or write `doi:` into CITATION.cff for all publications")


def files_of_release(copy: FrozenCopy, files: Mapping[str, bytes], known: FrozenCopy | None) -> dict[str, bytes]:
    """Return the files of a release in its folder; none where they are there already.

    FileError where the release is `known` with other files, or named as a file of the site.
    """
    if copy.name in files:
        raise FileError(f"--release {copy.name!r} is the name of a file of the site; choose another one, such as 2026.1")
    if known is None:
        return {f"{copy.name}/{name}": content for name, content in files.items()}
    if known.sums != copy.sums:
        raise FileError(f"release {copy.name} is published already, and a release never changes; choose another name")
    return {}


def latest_first(copies: Iterable[FrozenCopy]) -> list[FrozenCopy]:
    """Return releases by the day of their latest record, and those of one day by name."""
    return sorted(copies, key=lambda copy: (copy.date, copy.name), reverse=True)
