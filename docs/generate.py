"""Writes the generated parts of the documents anew from the published records: `make docs`."""

from __future__ import annotations

import re
from pathlib import Path

from leaderboard import render, toy
from leaderboard.table import board
from registry import resolve
from results import Records, read_table

ROOT = Path(__file__).parent.parent
# tables that a document shows in a form of its own
OWN = {"toy-attacks": toy.attacks, "toy-defenses": toy.defenses, "toy-contrastive": toy.contrastive}
MARK = re.compile(r"(<!-- generated: ([\w/-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

PARAMETERS = re.compile(r"\([^()|]*=[^()|]*\)")  # of items: the table file has them, a document shows names


def generated(text: str) -> str:
    """Return a document with every part between its marks written anew: the Markdown table of the grid it names."""
    records = Records(ROOT / "results" / "records")

    def fresh(match: re.Match[str]) -> str:
        name = match[2]
        if name in OWN:
            return match[1] + OWN[name](read_table(name), records) + match[3]
        table = render.markdown(board(read_table(name), records, name, resolve))
        rows = [PARAMETERS.sub("", line) for line in table.splitlines() if line.startswith("|")]
        return match[1] + "\n".join(rows) + "\n" + match[3]

    return MARK.sub(fresh, text)


def documents() -> list[Path]:
    """The documents of the project."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/*.md"))]


if __name__ == "__main__":
    for path in documents():
        path.write_text(generated(path.read_text(encoding="utf-8")), encoding="utf-8")
