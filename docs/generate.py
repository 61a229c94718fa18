"""Writes the generated parts of the documents anew from the published records: `make docs`."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from writers import fast, program, reproduction, toy

from unlearnable_bench.benchmark.cost import Cost
from unlearnable_bench.leaderboard.formats import text as formats
from unlearnable_bench.leaderboard.pages import prediction
from unlearnable_bench.leaderboard.tables.measured import grid_table
from unlearnable_bench.registry import CATALOGS, resolve
from unlearnable_bench.registry.entry import plural
from unlearnable_bench.results import Records, read_grid, read_table

ROOT = Path(__file__).parent.parent
# tables that a document shows in a form of its own
OWN = {"toy-attacks": toy.attacks, "toy-contrastive": toy.contrastive}
OWN |= dict.fromkeys(toy.OF_DEFENSES, toy.defenses)
OWN |= dict.fromkeys(("toy-analyses", "toy-defending", "toy-detection", "toy-making"), toy.analyses)
COUNTED = ROOT / "docs" / "explanation" / "reliability.json"  # what `make reliability` wrote
FIGURES = ROOT / "docs" / "results"  # beside the document that shows them
VECTORS = ROOT / "tests" / "reference"  # what official code computed
PUBLISHED = Records(ROOT / "results" / "records")
MARK = re.compile(r"(<!-- generated: ([\w/-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

PARAMETERS = re.compile(r"\([^()|]*=[^()|]*\)")  # of specs: the table file has them, a document shows names


@cache
def writers() -> dict[str, Callable[[], str]]:
    """Return what writes each generated part, by the name of the part. Parts of one subject share what they have read."""
    papers = reproduction.Reproduction(PUBLISHED, Cost(PUBLISHED).hours)
    quick = fast.Fast(PUBLISHED)
    return {
        "fast/recipe": quick.recipe,
        "fast/cost": quick.cost,
        "fast/lengths": quick.lengths,
        "fast/curves": quick.curves,
        "fast/rule": prediction.rule,
        "fast/prediction": quick.predicted,
        "fast/board": quick.first_rows,
        "reproduction/papers": papers.papers,
        "reproduction/claims": papers.claims,
        "reproduction/values": papers.values,
        "reproduction/methods": partial(reproduction.methods, PUBLISHED),
        "reliability": reliability,
        "program/commands": program.commands,
        "program/contract": program.contract,
        "program/failures": program.failures,
        "program/record": program.record,
        "program/specs": program.specs,
        "program/table-file": program.table_file,
        **{f"reference/{path.stem}": partial(reference, path.stem) for path in (VECTORS / "reasons").glob("*.toml")},
    }


def generated(text: str) -> str:
    """Return a document with every part between its marks written anew."""
    return MARK.sub(lambda match: match[1] + part(match[2]) + match[3], text)


def part(name: str) -> str:
    """Return a generated part by its name: what a writer writes, or the Markdown table of the grid of this name."""
    if name in writers():
        return writers()[name]()
    if name in OWN:
        return OWN[name](read_table(name), PUBLISHED)
    table = formats.markdown(grid_table(read_grid(name), PUBLISHED, name, resolve))
    rows = [PARAMETERS.sub("", line) for line in table.splitlines() if line.startswith("|")]
    return "\n".join(rows) + "\n"


def reliability() -> str:
    """Return the Markdown table of what the robustness campaign counted."""
    lines = ["| what is tried | trials | how they ended | not as it must be |", "| --- | ---: | --- | ---: |"]
    stamps = {}
    for name, found in json.loads(COUNTED.read_text(encoding="utf-8")).items():
        ends = "; ".join(f"{count:,} {end}" for end, count in found["ends"].items() if end != "wrong")
        figures = "; ".join(f"{figure}: {value:,}" for figure, value in found["figures"].items())
        told = found["skipped"] or "; ".join(filter(None, (ends, figures)))
        wrong = found["ends"].get("wrong", 0)
        cells = (f"**{name.replace('_', ' ')}.** {found['what']}", f"{found['trials']:,}", told, str(wrong))
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        stamps[name] = f"{found['date']}, commit {found['commit'][:12]}, {found['machine']}"
    groups: dict[str, list[str]] = {}
    for name, stamp in stamps.items():
        groups.setdefault(stamp, []).append(name.replace("_", " "))
    told = [f"{stamp}: {', '.join(names)}." for stamp, names in groups.items()]
    return "\n".join([*lines, "", *(f"- {one}" for one in told)]) + "\n"


def reference(kind: str) -> str:
    """Return the Markdown table that says how every method of a kind compares with its authors' code."""
    reasons = tomllib.loads((VECTORS / "reasons" / f"{kind}.toml").read_text(encoding="utf-8"))
    vectors = {path.stem: about(path) for path in sorted(VECTORS.glob(f"{kind}.*.npz"))}
    lines = [f"| {kind} | agreement | official code | remarks |", "| --- | --- | --- | --- |"]
    for method in CATALOGS[plural(kind)]:
        reason = reasons.get(method)
        for name, vector in vectors.items():
            if name.split(".")[1] == method:
                lines.append(f"| `{method}` | {agreement(vector)} | {source(vector)} | {vector['reason']} |")
        if reason:
            lines.append(f"| `{method}` | {reason['state']} | | {reason['why']} |")
    return "\n".join(lines) + "\n"


def about(path: Path) -> dict[str, Any]:
    """Return what a reference vector says of itself."""
    with np.load(path, allow_pickle=False) as stored:
        return json.loads(str(stored["about"]))


def agreement(vector: dict[str, Any]) -> str:
    """Say how near our step comes to the official one."""
    return f"equal within {vector['tolerance']:g}" if vector["tolerance"] else "equal"


def source(vector: dict[str, Any]) -> str:
    """Return the Markdown of the official code behind a reference vector."""
    repository, commit = vector["repository"], vector["commit"]
    functions = ", ".join(f"`{name}`" for name in vector["function"].split(", "))
    return f"[{repository}](https://github.com/{repository}/tree/{commit}) `{commit[:7]}`: {functions}"


def schemas() -> dict[Path, str]:
    """Return the JSON Schemas of the reference pages by their files."""
    return {ROOT / "docs" / "reference" / name: text for name, text in program.schemas().items()}


def drawings() -> dict[Path, str]:
    """Return the figures of the documents by their files."""
    made = fast.Fast(PUBLISHED).drawings()
    return {FIGURES / name: text for name, text in made.items()}


def drawn() -> set[Path]:
    """The files of figures that are there."""
    return set(FIGURES.glob("*.svg"))


def documents() -> list[Path]:
    """The documents of the project."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").glob("*/*.md"))]


if __name__ == "__main__":
    figures = drawings()
    for path in drawn() - set(figures):
        path.unlink()
    for path, text in (figures | schemas()).items():
        path.write_text(text, encoding="utf-8")
    for path in documents():
        path.write_text(generated(path.read_text(encoding="utf-8")), encoding="utf-8")
