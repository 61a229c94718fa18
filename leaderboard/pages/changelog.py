"""A changelog in Markdown as what its page prints."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PIECES = re.compile(r"\n(?=#|- )|\n\s*\n")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class Block:
    """A heading, a paragraph or a list."""

    kind: str
    text: str = ""
    points: list[str] = field(default_factory=list)


def blocks(markdown: str) -> list[Block]:
    """Return a changelog block by block; links keep their words alone."""
    found: list[Block] = []
    for piece in PIECES.split(markdown):
        text = LINK.sub(r"\1", " ".join(piece.split()))
        if text.startswith("- "):
            _list_at_the_end(found).points.append(text.removeprefix("- "))
        elif text:
            found.append(_block(text))
    return found


def _list_at_the_end(found: list[Block]) -> Block:
    """The last block if it is a list, else a new one."""
    if not found or found[-1].kind != "list":
        found.append(Block("list"))
    return found[-1]


def _block(text: str) -> Block:
    if text.startswith("#"):
        return Block("heading", text.lstrip("# "))
    return Block("paragraph", text)
