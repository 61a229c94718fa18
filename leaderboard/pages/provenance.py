"""Where numbers come from: in words for the pages of sources, and as JSON for the drawer of a table's page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unlearnable_bench.leaderboard.formats.escaping import moment
from unlearnable_bench.leaderboard.pages.cells import was_run
from unlearnable_bench.leaderboard.tables.lookup import SeedRun
from unlearnable_bench.leaderboard.tables.methods import StatedBudget
from unlearnable_bench.leaderboard.tables.score import Score
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.results import Record

if TYPE_CHECKING:
    from markupsafe import Markup

STAGES = ("craft", "purify", "train", "measure")
CURVE = 24  # points of a curve inside a table's page; the page of sources has all
Facts = dict[str, str]


# In words


def facts(record: Record) -> Facts:
    """Where a number comes from: what is known of it."""
    texts = {
        "device": record.device,
        "numerics": ", ".join(f"{key} {value}" for key, value in record.numerics.items()),
        "commit": record.commit,
        "sha256 of the code": record.tree,
        "fingerprint of the dataset": record.dataset_fingerprint,
        "finished": record.finished,
    }
    texts |= {f"{key} version": text for key, text in record.versions.items()}
    return {key: text for key, text in texts.items() if text}


def lasting_facts(record: Record) -> Facts:
    """The facts but the time, which every record has for itself."""
    texts = facts(record)
    texts.pop("finished", None)
    return texts


def poison_facts(record: Record) -> Facts:
    """Which training set was used."""
    note = record.poison
    if note is None:
        return {"poison": "none"}
    if not note.norm:
        return {"poison": note.checksum}
    return {"poison": note.checksum, "budget": StatedBudget(note.norm, note.allowed or 0.0).spent(note.spent)}


def seconds(record: Record) -> str:
    """What the stages of a cell took: seconds on the wall and, where the record has them, of the processor."""
    stages = []
    for stage in STAGES:
        if stage in record.seconds:
            cpu = record.cpu_seconds.get(stage)
            processor = "" if cpu is None else f" (CPU {cpu:.1f})"
            stages.append(f"{stage} {record.seconds[stage]:.1f}{processor}")
    return ", ".join(stages)


# As JSON


def embedded_json(content: Any) -> Markup:
    """JSON that can stand in a page: nothing in it can end its element."""
    from markupsafe import Markup

    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  (escaped above)


def data(table: Table) -> Markup:
    """The provenance of a table's numbers, short: what many records share is written once."""
    drawer = _Drawer()
    cells = {score.runs[0].id: drawer.runs(score) for score in table.scores.values() if was_run(score)}
    return embedded_json({"shared": list(map(dict, drawer.shared)), "cells": cells})


class _Drawer:
    """The runs of scores as the script reads them."""

    def __init__(self) -> None:
        self.shared: dict[tuple[tuple[str, str], ...], int] = {}  # facts of several records -> their number

    def runs(self, score: Score) -> list[dict[str, Any]]:
        """What is known of every seed of a score."""
        return [self._run(run, score) for run in score.runs]

    def _run(self, run: SeedRun, score: Score) -> dict[str, Any]:
        row: dict[str, Any] = {"seed": run.cell.seed, "id": run.id}
        numbers = self._numbers(run.record)
        row |= numbers or {"why": f"{run.state.replace('-', ' ')}: {run.reason}"}
        if run.origin:
            row["by"] = run.origin.text
        if numbers and run.state == "stale":
            row["why"] = f"stale: {run.reason}"
        if run.errata:
            row["errata"] = list(run.errata)
        if _is_apart(run, score):
            row["apart"] = True
        return row

    def _numbers(self, record: Record | None) -> dict[str, Any]:
        """What was measured; empty without an accuracy."""
        if record is None or record.metrics is None or record.metrics.test_acc is None:
            return {}
        curve = thinned(record.metrics.curve.test_acc)
        return {
            "acc": record.metrics.test_acc,
            "best": record.metrics.test_acc_best,
            "curve": [round(1000 * accuracy) for accuracy in curve],
            "seconds": seconds(record),
            "memory": f"{record.peak_memory / 2**20:,.0f} MiB" if record.peak_memory else "",
            "shared": [self._number(poison_facts(record)), self._number(lasting_facts(record))],
            "finished": moment(record.finished),
        }

    def _number(self, texts: Mapping[str, str]) -> int:
        """The number of some facts in the list of those that are shared."""
        return self.shared.setdefault(tuple(texts.items()), len(self.shared))


def _is_apart(run: SeedRun, score: Score) -> bool:
    """Whether its number is in no mean: a stale one beside fresh ones, one of others beside ours."""
    return run.record is not None and bool(score.used) and run.id not in score.records


def thinned(curve: Sequence[float]) -> list[float]:
    """Some of the points of a curve, the first and the last among them."""
    if not curve:
        return []
    step = max(1, -(-len(curve) // CURVE))
    return [*curve[:-1:step], curve[-1]]
