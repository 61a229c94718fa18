"""A changelog in Markdown as what its page prints."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise

PIECES = re.compile(r"\n(?=#|- )|\n\s*\n")
MOVED = "Moved numbers"
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class ChangelogBlock:
    """A heading, a paragraph or a list."""

    kind: str
    text: str = ""
    points: list[str] = field(default_factory=list)


def changelog_blocks(markdown: str) -> list[ChangelogBlock]:
    """Return a changelog block by block; links keep their words alone."""
    found: list[ChangelogBlock] = []
    for piece in PIECES.split(markdown):
        text = LINK.sub(r"\1", " ".join(piece.split()))
        if text.startswith("- "):
            _list_at_the_end(found).points.append(text.removeprefix("- "))
        elif text:
            found.append(_block(text))
    return found


def moved_numbers(markdown: str, most: int = 3) -> list[str]:
    """Return the first entries of the first list of a changelog that is headed `Moved numbers`."""
    found = changelog_blocks(markdown)
    for heading, after in pairwise(found):
        if heading.text == MOVED:
            return after.points[:most]
    return []


def _list_at_the_end(found: list[ChangelogBlock]) -> ChangelogBlock:
    """The last block if it is a list, else a new one."""
    if not found or found[-1].kind != "list":
        found.append(ChangelogBlock("list"))
    return found[-1]


def _block(text: str) -> ChangelogBlock:
    if text.startswith("#"):
        return ChangelogBlock("heading", text.lstrip("# "))
    return ChangelogBlock("paragraph", text)
