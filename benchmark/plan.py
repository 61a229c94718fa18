"""What a run of a grid means: every cell with its state, the cells to run, and how long they take. Needs no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from unlearnable_bench.benchmark.estimate import Estimate, estimate_run
from unlearnable_bench.benchmark.failures import is_tried_again
from unlearnable_bench.benchmark.task import Finder, Task, poisons, recipes
from unlearnable_bench.registry import MissingDataError, child, data, outdated
from unlearnable_bench.registry._weights import check_weights
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.results import Cell, Records
from unlearnable_bench.results.record import Failure, RecordSummary

DURING_TRAINING = {"augment", "loss", "model", "start", "configure"}  # hooks of defenses that contrastive protocols lack
ANSWERING = {"applies", "__post_init__"}  # hooks that say whether an entry applies; the latter refuses wrong values
UNFINISHED = ("queued", "running")  # states of cells that somebody works on, or will


Question = tuple[ConfiguredEntry, ConfiguredEntry]  # whether an entry with these values applies to a dataset


@dataclass(frozen=True)
class Policy:
    """Which cells a run takes."""

    force: bool = False  # finished ones too
    retry: bool = False  # failed ones of every kind
    detached: bool = False  # none that is queued or running; and more memory can be had


ORDINARY = Policy()


@dataclass
class Plan:
    """Every cell of a grid with its state, and the cells to run."""

    name: str
    tasks: list[Task]
    states: dict[str, str]  # cell id -> done, stale, failed, missing, queued, running, lost, cancelled, not-applicable
    reasons: dict[str, str] = field(default_factory=dict)  # why a cell is not applicable, stale or failed
    to_run: list[Task] = field(default_factory=list)
    roots: dict[str, str] = field(default_factory=dict)  # folders of images
    estimate: Estimate = field(default_factory=Estimate)  # of how long the run takes
    absent: Sequence[tuple[str, str]] = ()  # cells that no entry can run yet, and why
    failures: dict[str, Failure] = field(default_factory=dict)
    past: Mapping[str, RecordSummary] = field(default_factory=dict)  # the index of records

    def counts(self) -> dict[str, Any]:
        """The keys of `bench run --json` and `bench status --json`."""
        count = Counter(self.states.values())
        return {
            "grid": self.name,
            "cells": len(self.tasks) + len(self.absent),
            "done": count["done"],
            "ran": 0,
            "failed": count["failed"],
            "running": count["running"],
            "queued": count["queued"],
            "missing": count["missing"],
            "not_applicable": count["not-applicable"],
            "not_available": len(self.absent),
            "stale": count["stale"],
            "lost": count["lost"],
            "cancelled": count["cancelled"],
        }

    def stages(self) -> dict[str, int]:
        """How many stages the run shares: each poison is crafted once, each (poison, purifier) pair purified once."""
        return {
            "craft": len(poisons(self.to_run)),
            "purify": len(recipes(self.to_run, lambda task: task.purified)),
            "train": sum(task.trains for task in self.to_run),
        }

    def in_state(self, *states: str) -> list[Task]:
        """The cells that are in one of some states."""
        return [task for task in self.tasks if self.states[task.cell.id] in states]

    def datasets(self) -> list[ConfiguredEntry]:
        """The datasets that the cells to run need, each once."""
        by_text: dict[str, ConfiguredEntry] = {}
        for task in self.to_run:
            by_text |= task.datasets
        return list(by_text.values())

    def require_data(self) -> None:
        """Refuse a plan that needs a dataset which is not on this machine. MissingDataError says what to do."""
        for part in self.datasets():
            obstacle = _obstacle(part)
            if obstacle:
                raise MissingDataError(obstacle + self._cells_without(part))

    def _cells_without(self, dataset: ConfiguredEntry) -> str:
        """Say how many of the cells to run do without a dataset, '' if none does."""
        without = sum(dataset.text not in task.datasets for task in self.to_run)
        if not without:
            return ""
        return f", and {without} of {len(self.to_run)} cells do without: name their datasets with --dataset"

    def note_missing_data(self) -> None:
        """Give cells whose dataset is not on this machine that as their reason, where they have none."""
        obstacles = {part.text: _obstacle(part) for part in self.datasets()}
        for task in self.to_run:
            obstacle = obstacles[task.dataset.text].partition(";")[0]
            self.reasons[task.cell.id] = self.reasons[task.cell.id] or obstacle

    def ask_entries(self) -> None:
        """Move cells whose attack, defense or analysis does not apply to their dataset out of the cells to run.

        EntryError where the weights of a network are not here, or others.
        """
        for part in {task.architecture.text: task.architecture for task in self.to_run}.values():
            check_weights(
                f"architecture {part.name}", {field.name: part.values.get(field.name, "") for field in part.entry.common}
            )
        questions: dict[tuple[str, str], Question] = {}
        for task in self.to_run:
            questions |= _questions(task)
        answers = dict(zip(questions, child.reasons(list(questions.values())), strict=True))
        applicable = []
        for task in self.to_run:
            refusal = next(filter(None, (answers[question] for question in _questions(task))), "")
            if refusal:
                self.states[task.cell.id], self.reasons[task.cell.id] = "not-applicable", refusal
            else:
                applicable.append(task)
        self.to_run = applicable

    def keep(self, limit: int | None) -> None:
        """Take the first of the cells to run and no more; all where there is no limit."""
        self.to_run = self.to_run[:limit]

    def estimate_time(self, workers: int = 1, device: str = "cpu") -> None:
        """Estimate the seconds of the run on a machine of its own: from records of like cells, else from FLOPs."""
        self.estimate = estimate_run(self.to_run, self.past.values(), workers, device)


def plan_cells(
    name: str,
    cells: Sequence[Cell],
    roots: dict[str, str],
    records: Records,
    policy: Policy = ORDINARY,
    unfinished: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> Plan:
    """Say how some cells stand and which a run takes, from files alone. EntryError, FileError for what cannot be a cell.

    `unfinished` has the states and reasons of cells of unfinished runs.
    """
    finder = Finder(roots)
    tasks = [Task.of(cell, finder) for cell in cells]
    failures = {failure.id: failure for failure in records.failures()}
    result = Plan(name, tasks, {}, roots=roots, failures=failures, past=records.summaries())
    for task in tasks:
        cell_id = task.cell.id
        state, reason = _state(task, result.past.get(cell_id), failures.get(cell_id))
        if state not in ("done", "not-applicable"):
            state, reason = unfinished.get(cell_id, (state, reason))
        result.states[cell_id], result.reasons[cell_id] = state, reason
        if _taken(state, failures.get(cell_id), policy):
            result.to_run.append(task)
    return result


def _state(task: Task, record: RecordSummary | None, failure: Failure | None) -> tuple[str, str]:
    """Return the state of a cell and its reason, as its record or its failure says."""
    if record is not None:
        old = outdated(record.versions, task.cell.parts)
        return ("stale", old) if old else (record.state, record.reason)
    if why := _impossible(task):
        return "not-applicable", why
    return ("failed", f"{failure.kind}: {failure.message}") if failure else ("missing", "")


def _impossible(task: Task) -> str:
    """Say in a sentence why a cell means nothing, or return ''."""
    if task.cell.part == "clean" and task.cell.ratio == 1:
        return "at ratio 1 no clean images are left to train on"
    if not task.unlabelled:
        return ""
    if task.analysis and task.needs & {"network", "epochs"}:
        return f"{task.analysis.name} looks at a victim; {task.protocol.name} trains one without labels"
    acting = [part.text for part in task.defense if part.entry.hooks & DURING_TRAINING]
    return f"{acting[0]} acts while classes are trained; {task.protocol.name} trains without labels" if acting else ""


def _taken(state: str, failure: Failure | None, policy: Policy) -> bool:
    """Whether a run takes a cell of this state."""
    if state == "not-applicable":
        return False
    if state in UNFINISHED:
        return not policy.detached
    if policy.force:
        return True
    if state == "failed" and failure is not None:
        return policy.retry or is_tried_again(failure, policy.detached)
    return state != "done"


def _questions(task: Task) -> dict[tuple[str, str], Question]:
    """What is asked of entries for a cell, part and dataset: every attack of its poison and of those behind it with the data
    set that it runs on, the defenses, the analysis."""
    asked = [(recipe.attack[-1], recipe.dataset) for recipe in task.poison.family]
    asked += [(part, task.dataset) for part in task.defense]
    if task.analysis:
        asked.append((task.analysis, task.dataset))
    return {
        (f"{part.entry.kind}:{part.text}", dataset.text): (part, dataset)
        for part, dataset in asked
        if part.entry.hooks & ANSWERING and not data.missing(dataset)
    }


def _obstacle(dataset: ConfiguredEntry) -> str:
    """Say in a sentence why a dataset cannot be used on this machine, or return ''."""
    return data.missing(dataset) or data.complaint(dataset)
