"""What the pages about the site as a whole get: coverage, cost, changes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from leaderboard.formats.view import KINDS
from leaderboard.formats.view import SIGNS as MARKS
from leaderboard.tables import agreement as agreeing
from leaderboard.tables import claims as claimed
from leaderboard.tables.table import STATES, Table
from leaderboard.tables.verdict import DEVIATES, WITHIN
from results.submission import TIERS

TROUBLES = ("failed", "stale", "not-applicable", "partial")


def coverage(boards: Sequence[Table], sheets: Sequence[Table]) -> dict[str, Any]:
    """How much there is, what is wrong, and what it cost."""
    costs = [_costs_by_axis(table) for table in boards]
    return {
        "boards": [{"file": f"{one.slug}.html", "title": one.title, "counts": one.coverage} for one in boards],
        "sheets": [
            {
                "file": f"{table.slug}.html",
                "title": table.heading,
                "cells": len(table.direct),
                "measured": table.measured,
                "available": sum(score.state != "not-available" for score in table.direct),
                "within": table.verdicts[WITHIN],
                "deviates": table.verdicts[DEVIATES],
            }
            for table in sheets
        ],
        "states": STATES,
        "troubles": list(_troubles(boards).items()),
        "costs": [cost for cost in costs if cost["attacks"] or cost["defenses"]],
        "total": _total(boards),
        "submissions": _submissions(boards),
        "tiers": TIERS,
    }


def _troubles(tables: Sequence[Table]) -> dict[str, list[str]]:
    """Why numbers are missing or unusual: each reason with the attacks and defenses it is about."""
    troubles: dict[str, list[str]] = defaultdict(list)
    for table in tables:
        for score in table.scores.values():
            if score.reason and score.runs and score.state in TROUBLES:
                troubles[score.reason].append(f"{score.point['attack']} × {score.point['defense']}")  # noqa: RUF001
    return troubles


def whole(boards: Sequence[Table], sheets: Sequence[Table]) -> dict[str, Any]:
    """How much of what papers print is measured, and which tables of ours have numbers: said before any of them is shown."""
    total = agreeing.counts([table for table in sheets if table.source])
    made = [(f"{one.slug}.html", one.title, one.coverage["done"], one.coverage["cells"]) for one in boards if one.command]
    made += [(f"{one.slug}.html", one.title, one.measured, len(one.direct)) for one in sheets if not one.source]
    keys = ("file", "title", "done", "of")
    return {"printed": total["cells"], "coverage": agreeing.coverage(total), "measured": total["measured"]} | {
        "tables": [dict(zip(keys, one, strict=True)) for one in made if one[2]]
    }


SIGNS = {  # class, sign: those of a number beside a printed one
    claimed.HOLDS: (KINDS[WITHIN], MARKS[WITHIN]),
    claimed.FAILS: (KINDS[DEVIATES], MARKS[DEVIATES]),
    claimed.UNMEASURED: ("why", ""),
    claimed.DOUBTFUL: ("why", ""),
}


def agreement(sheets: Sequence[Table]) -> dict[str, Any]:
    """Ours beside the papers' numbers, what became of their claims, and papers beside each other."""
    own = {table.name: table for table in sheets if table.source}
    found = agreeing.compare_tables(list(own.values()))
    links = {name: {"file": f"{table.slug}.html", "heading": table.heading} for name, table in own.items()}
    shorts = {table.file.paper: table.source.short for table in own.values() if table.source and table.file}
    return {
        "papers": [
            row
            | {"short": shorts[row["paper"]]}
            | {"within": row["verdicts"].get(WITHIN, 0), "deviates": row["verdicts"].get(DEVIATES, 0)}
            for row in found["papers"]
        ],
        "total": found["overall"],
        "coverage": agreeing.coverage(found["overall"]),
        "signs": SIGNS,
        "claims": [row | links[row["table"]] for row in claimed.rows(claimed.check_claims(list(own.values())))],
        "deviations": [row | links[row["table"]] for row in found["deviations"]],
        "disputes": [row | {"values": [value | links[value["table"]] for value in row["values"]]} for row in found["disputes"]],
        "felt": f"{agreeing.FELT:g}",
    }


def _submissions(boards: Sequence[Table]) -> list[dict[str, Any]]:
    """Who measured records of the boards elsewhere, and how many of them are in which tier."""
    runs = {run.id: run for table in boards for score in table.scores.values() for run in score.every if run.origin}
    found: dict[str, dict[str, Any]] = {}
    for run in runs.values():
        if (origin := run.origin) is not None:
            row = found.setdefault(origin.digest, {"origin": origin, "counts": dict.fromkeys(TIERS, 0)})
            row["counts"][origin.tier] += 1
    return sorted(found.values(), key=lambda row: (row["origin"].accepted, row["origin"].digest))


def _costs_by_axis(table: Table) -> dict[str, Any]:
    rows = _costs(table)
    return {"board": table} | {f"{axis}s": [row for row in rows if row["axis"] == axis] for axis in ("attack", "defense")}


def _costs(table: Table) -> list[dict[str, Any]]:
    """Seconds per attack (crafting) and per defense (purifying, training), means over the records of a board."""
    spent: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in table.scores.values():
        for record in score.used:
            for stage, amount in record.seconds.items():
                axis = "attack" if stage == "craft" else "defense"
                if not (score.clean and axis == "attack"):
                    spent[axis, score.point[axis]][stage].append(amount)
            memory = spent["defense", score.point["defense"]]["memory"]
            memory.append(record.peak_memory / 2**20)
    plain = spent.get(("defense", "none"), {}).get("train")
    return [
        {
            "axis": axis,
            "text": text,
            "stages": {
                stage: fmean(found[stage]) if found.get(stage) else None for stage in ("craft", "purify", "train", "memory")
            },
            "times": fmean(found["train"]) / fmean(plain) if plain and found.get("train") and fmean(plain) else None,
        }
        for (axis, text), found in spent.items()
    ]


def _total(boards: Sequence[Table]) -> dict[str, Any]:
    """Seconds of all records, a poison's crafting counted once; by device."""
    records = {record.id: record for table in boards for score in table.scores.values() for record in score.used}
    crafted = {r.poison.checksum: r.seconds.get("craft", 0.0) for r in records.values() if r.poison}
    trained: dict[str, float] = defaultdict(float)
    for record in records.values():
        trained[record.device or "unknown device"] += sum(s for stage, s in record.seconds.items() if stage != "craft")
    return {"records": len(records), "craft": sum(crafted.values()), "devices": dict(sorted(trained.items()))}


def blocks(markdown: str) -> list[dict[str, Any]]:
    """A changelog as headings, paragraphs and lists; links keep their words alone."""
    found: list[dict[str, Any]] = []
    for piece in re.split(r"\n(?=#|- )|\n\s*\n", markdown):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(piece.split()))
        if text.startswith("#"):
            found.append({"kind": "heading", "text": text.lstrip("# ")})
        elif text.startswith("- "):
            if not found or found[-1]["kind"] != "list":
                found.append({"kind": "list", "items": []})
            found[-1]["items"].append(text[2:])
        elif text:
            found.append({"kind": "paragraph", "text": text})
    return found
