"""From a table to a plan: its cells, what each needs, and what of it is there already. Needs no torch."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from benchmark import ends
from benchmark.cost import Arithmetic, plain_trainings
from poisons.recipe import PoisonRecipe, PurifiedRecipe, Recipe
from registry import CATALOGS, EntryError, MissingDataError, child, data, editions, outdated
from registry import catalog as entries
from registry.catalog import Entry, Part
from registry.item import split
from results import Cell, Grid, Records, Table
from results import cell as cells_
from results.record import Brief, Failure
from results.table import NONE, seeds_of

KINDS = {
    "protocol": "protocols",
    "dataset": "datasets",
    "attack": "attacks",
    "defense": "defenses",
    "architecture": "architectures",
}
NOBODY = Part(Entry("architectures", NONE, "built-in", "", ""), NONE, {})  # the architecture where no victim is looked at
DURING_TRAINING = {"augment", "loss", "model", "start", "configure"}  # hooks of defenses that contrastive protocols lack


@dataclass(frozen=True)
class Task:
    """A cell with its entries found, and the recipes of the stages before its training."""

    cell: Cell
    protocol: Part
    dataset: Part
    attack: tuple[Part, ...]
    defense: tuple[Part, ...]
    architecture: Part
    analysis: Part | None = None  # what is measured, where it is not accuracy alone

    @classmethod
    def of(cls, cell: Cell, roots: Mapping[str, str], known: dict[int, Part] | None = None) -> Task:
        """Find a cell's entries again. `roots` has the paths of folders of images by their names. EntryError.

        `known` remembers what was found for the parts of cells of one table, which share them.
        """
        known = {} if known is None else known

        def found(kind: str, part: cells_.Part) -> Part:
            if id(part) not in known:
                known[id(part)] = find(kind, part)
            return known[id(part)]

        def find(kind: str, part: cells_.Part) -> Part:
            name = "folder" if kind == "datasets" and part.name.startswith("folder-") else part.name
            root = None
            if name != part.name:
                if part.name not in roots:
                    raise EntryError(f"the path of {part.name} is not known here; name it by --dataset 'folder:PATH'")
                root = Path(roots[part.name])
            return Part(CATALOGS[kind].entry(name), part.name, part.fields, root)

        task = cls(
            cell,
            found("protocols", cell.protocol),
            found("datasets", cell.dataset),
            tuple(found("attacks", part) for part in cell.attack),
            tuple(found("defenses", part) for part in cell.defense),
            found("architectures", cell.architecture) if cell.architecture.name != NONE else NOBODY,
            None if isinstance(cell.measure, str) else found("analyses", cell.measure),
        )
        assert task.poison.family, "which says in a sentence what cannot be a poison"
        for part in task.defense:
            if part.members:
                raise EntryError(f"{part.text} has no cell of its own; it stands for {', '.join(part.members)}: run these")
        for hook in ("loss", "model", "start"):
            both = [part.text for part in task.defense if hook in part.entry.hooks]
            if len(both) > 1:
                raise EntryError(f"{both[0]} and {both[1]} cannot be chained: both bring their own {hook}")
        return task

    @property
    def poison(self) -> PoisonRecipe:
        return PoisonRecipe(self.dataset, self.attack, self.cell.seed)

    @property
    def needs(self) -> set[str]:
        """What is made for it: of an analysis what that names, else everything that a training takes."""
        return {"epochs"} if self.analysis is None else set(self.analysis.entry.facts.get("needs", ()))

    @property
    def trains(self) -> bool:
        return "epochs" in self.needs

    @property
    def purified(self) -> PurifiedRecipe | None:
        if not self.needs & {"purified", "purify-log", "epochs"}:
            return None
        purifiers = tuple(part for part in self.defense if "purify" in part.entry.hooks)
        if not purifiers:
            return None
        return PurifiedRecipe(self.poison, self.cell.ratio, self.cell.part, purifiers, self.cell.seed)

    @property
    def unlabelled(self) -> bool:
        """Whether the protocol is a contrastive one."""
        return "probe_epochs" in self.protocol.fields

    @property
    def needs_poison(self) -> bool:
        made = bool(self.needs - {"clean", "network"})
        return made and not self.poison.identity and self.cell.part == "all" and self.cell.ratio > 0

    @property
    def datasets(self) -> dict[str, Part]:
        """The data sets that must be there for it: its own, and those of poisons that are brought to it."""
        more = (recipe.dataset for recipe in self.poison.family) if self.needs_poison else ()
        return {part.text: part for part in (self.dataset, *more)}

    def versions(self) -> dict[str, str]:
        """`kind:name` -> edition of every entry that the cell uses, as its record keeps them."""
        parts = [self.protocol, self.dataset, *self.attack, *self.defense]
        if self.architecture is not NOBODY:
            parts.append(self.architecture)
        if self.analysis is not None:
            parts.append(self.analysis)
        return editions(parts)


@dataclass
class Plan:
    """What a run of a grid means: every cell with its state, and the cells to run."""

    name: str
    tasks: list[Task]
    states: dict[str, str]  # cell id -> done, stale, failed, missing, not-applicable
    reasons: dict[str, str] = field(default_factory=dict)  # why a cell is not applicable, stale or failed
    to_run: list[Task] = field(default_factory=list)
    roots: dict[str, str] = field(default_factory=dict)  # folders of images
    seconds_estimate: float | None = None
    estimated_from: str = "records of like cells"  # or FLOPs, where there is none of one
    uncounted: int = 0  # poisons whose crafting the estimate leaves out, since nobody knows how long it takes
    absent: Sequence[tuple[str, str]] = ()  # cells that no entry can run yet, and why
    failures: dict[str, Failure] = field(default_factory=dict)

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
            "craft": len(_poisons(self.to_run)),
            "purify": len({task.purified.key for task in self.to_run if task.purified}),
            "train": sum(task.trains for task in self.to_run),
        }


def expand(table: Table | Grid) -> tuple[list[Cell], dict[str, str]]:
    """Return the cells of a table, and the paths of the folders of images among its data sets, by their names."""
    roots: dict[str, str] = {}

    def resolve(kind: str, item: str) -> Sequence[Part]:
        parts = entries.resolve(kind, item)
        roots.update({part.name: str(part.root) for part in parts if part.root})
        return parts

    if isinstance(table, Grid):
        for item in {str(place.fields["dataset"]) for place in table.places}:
            if item.startswith("folder:"):
                resolve("datasets", item)
        return table.cells(resolve, entries.lacking), roots
    return table.cells(resolve), roots


def absent(table: Table | Grid) -> list[tuple[str, str]]:
    """Return the cells of a table that cannot be run yet: what each is, and why it is not available."""
    return table.absent(entries.resolve, entries.lacking) if isinstance(table, Grid) else []


def plan(
    name: str,
    cells: Sequence[Cell],
    roots: dict[str, str],
    records: Records,
    *,
    force: bool = False,
    retry: bool = False,
    limit: int | None = None,
    workers: int = 1,
    device: str = "cpu",
    ask: bool = True,
    decode: bool = False,
    standing: Mapping[str, tuple[str, str]] | None = None,
    detached: bool = False,
    strict: bool = True,
) -> Plan:
    """Say what of some cells is to be run. EntryError, FileError, MissingDataError for what cannot be.

    `force` runs finished cells too, `retry` failed ones of every kind; `ask` asks entries whether they apply;
    `decode` decodes data sets that never were, so that a fault of theirs is found before any work; `standing` has the states
    of cells of unfinished runs, of which a `detached` run leaves alone those that are queued or running.
    Without `strict` a data set that is not on this machine is the reason of its cells, not an error.
    """
    known: dict[int, Part] = {}
    tasks = [Task.of(cell, roots, known) for cell in cells]
    result = Plan(name, tasks, {}, roots=roots)
    there = records.briefs()
    result.failures = {failure.id: failure for failure in records.failures()}
    for task in tasks:
        failure = result.failures.get(task.cell.id)
        state, reason = _state(task, there.get(task.cell.id), failure)
        if state == "failed" and failure is not None:
            again = retry or ends.again(failure, detached)
        else:
            again = state in ("missing", "stale")
        if state not in ("done", "not-applicable") and task.cell.id in (standing or {}):
            state, reason = (standing or {})[task.cell.id]
            again = not (detached and state in ("queued", "running"))
        result.states[task.cell.id] = state
        result.reasons[task.cell.id] = reason
        if (again or force) and state != "not-applicable" and not (detached and state in ("queued", "running")):
            result.to_run.append(task)
    if result.to_run:
        for part in {text: part for task in result.to_run for text, part in task.datasets.items()}.values():
            if sentence := data.missing(part) or data.complaint(part):
                if strict:
                    without = sum(part.text not in task.datasets for task in result.to_run)
                    rest = f", and {without} of {len(result.to_run)} cells do without: name their data sets with --dataset"
                    raise MissingDataError(sentence + (rest if without else ""))
                for task in result.to_run:
                    if task.dataset.text == part.text and not result.reasons[task.cell.id]:
                        result.reasons[task.cell.id] = sentence.partition(";")[0]
    if ask:
        if decode:
            child.decode(list({text: part for task in result.to_run for text, part in task.datasets.items()}.values()))
        _ask(result)
    if limit is not None:
        result.to_run = result.to_run[:limit]
    _estimate(result, there.values(), workers, device)
    return result


def _state(task: Task, record: Brief | None, failure: Failure | None) -> tuple[str, str]:
    if record is not None:
        if old := outdated(record.versions, task.cell.parts):
            return "stale", old
        return record.state, record.reason
    if task.cell.part == "clean" and task.cell.ratio == 1:
        return "not-applicable", "at ratio 1 no clean images are left to train on"
    if task.unlabelled and task.analysis and task.needs & {"network", "epochs"}:
        return "not-applicable", f"{task.analysis.name} looks at a victim; {task.protocol.name} trains one without labels"
    if task.unlabelled and (acting := [part.text for part in task.defense if part.entry.hooks & DURING_TRAINING]):
        return "not-applicable", f"{acting[0]} acts while classes are trained; {task.protocol.name} trains without labels"
    return ("failed", f"{failure.kind}: {failure.message}") if failure else ("missing", "")


def _ask(result: Plan) -> None:
    """Move cells whose attack or defense does not apply to their data set from `to_run` to not applicable."""
    questions: dict[tuple[str, str], tuple[Part, Part]] = {}
    for task in result.to_run:
        for part, dataset in _asked(task):
            if part.entry.hooks & {"applies", "__post_init__"}:  # the latter refuses wrong values
                questions.setdefault((f"{part.entry.kind}:{part.text}", dataset.text), (part, dataset))
    answers = dict(zip(questions, child.reasons(list(questions.values())), strict=True))
    if not any(answers.values()):
        return
    left = []
    for task in result.to_run:
        keys = [(f"{part.entry.kind}:{part.text}", dataset.text) for part, dataset in _asked(task)]
        why = next((answers[key] for key in keys if answers.get(key)), "")
        if why:
            result.states[task.cell.id], result.reasons[task.cell.id] = "not-applicable", why
        else:
            left.append(task)
    result.to_run = left


def _asked(task: Task) -> list[tuple[Part, Part]]:
    """Every attack of a task's poison and of the poisons behind it with the data set that it runs on; the defenses and the
    analysis."""
    found = [(recipe.attack[-1], recipe.dataset) for recipe in task.poison.family]
    found += [(part, task.dataset) for part in (*task.defense, *([task.analysis] if task.analysis else []))]
    return [(part, dataset) for part, dataset in found if not data.missing(dataset)]


def _estimate(result: Plan, past: Iterable[Brief], workers: int, device: str) -> None:
    """Estimate the seconds of a run that has the machine to itself: from records of like cells, else from FLOPs."""
    known: dict[tuple[str, ...], list[float]] = {}
    crafted: dict[str, float] = {}
    for record in past:
        if record.state != "done" or "train" not in record.seconds:
            continue
        texts = record.texts
        known.setdefault(_setting(texts, texts["defense"]), []).append(record.undisturbed("train"))
        crafted[texts["dataset"] + texts["attack"]] = record.undisturbed("craft")
    arithmetic = Arithmetic(device)
    found: list[float | None] = []
    for task in result.to_run:
        texts = task.cell.texts
        if like := known.get(_setting(texts, texts["defense"])):
            found.append(fmean(like))
        elif plain := known.get(_setting(texts, "none")):
            found.append(fmean(plain) * plain_trainings(task.cell))
        else:
            found.append(arithmetic.train(task.cell))
            result.estimated_from = "FLOPs"
    if None in found:
        return
    for poison in _poisons(result.to_run):
        found.append(crafted.get(poison.dataset.text + poison.text, arithmetic.craft(poison)))
        result.uncounted += found[-1] is None
    purified = {task.purified.key: task.purified for task in result.to_run if task.purified}
    found += map(arithmetic.purify, purified.values())
    result.seconds_estimate = sum(seconds or 0.0 for seconds in found) / workers


def _poisons(tasks: Iterable[Task]) -> list[PoisonRecipe]:
    """All poisons that some cells need, each once, with those that they are made from."""
    families = (task.poison.family for task in tasks if task.needs_poison)
    return list({recipe.key: recipe for family in families for recipe in family}.values())


def _setting(texts: Mapping[str, str], defense: str) -> tuple[str, ...]:
    return texts["protocol"], texts["dataset"], texts["architecture"], defense


def select(table: Table | Grid, selectors: Mapping[str, Sequence[str]]) -> Table | Grid:
    """Keep the values of axes that match, or replace them: a value or a glob keeps, `old=new` replaces. Seeds that are named
    are those of the grid then, whether it had them or not. EntryError, FileError."""
    for axis in ("ratio", "part"):
        for wish in selectors.get(axis, ()):
            for changed in split(wish, "=")[1:]:
                _typed(axis, changed)  # raises for what no table may hold
    if isinstance(table, Grid):
        return table.selected(selectors)
    changes: dict[str, list[Any]] = {}
    for axis, wishes in selectors.items():
        if axis == "seed":
            changes |= {axis: list(seeds_of(wishes, table.seed, table.seed))} if wishes else {}
            continue
        values: list[Any] = list(getattr(table, axis))
        kept: list[Any] = []
        for wish in wishes:
            old, *new = split(wish, "=")
            if new:
                hits = [value for value in values if _matches(axis, value, old)]
                replaced = [_typed(axis, new[0]) if value in hits else value for value in values]
                kept = kept or replaced
                values = replaced
            else:
                hits = [value for value in values if _matches(axis, value, old)]
                kept += [value for value in hits if value not in kept]
            if not hits:
                shown = ", ".join(map(str, getattr(table, axis)))
                raise EntryError(f"--{axis} {wish}: the grid has no such {axis}; it has {shown}; old=new replaces one of them")
        if wishes:
            changes[axis] = kept
    return table.replaced(**changes)


def _matches(axis: str, value: Any, wish: str) -> bool:
    if axis == "ratio":
        return float(value) == float(_typed(axis, wish))
    names = {str(value), str(value).partition("(")[0]}
    if axis in KINDS:
        text = _spec(axis, str(value))
        if "(" in wish and not set(wish) & set("*?["):
            return text == _spec(axis, wish)  # one spec, however it is written; its name alone means all of its settings
        names.add(text)
    return any(fnmatch.fnmatchcase(name, wish) for name in names)


def _spec(axis: str, text: str) -> str:
    return "+".join(part.text for part in entries.resolve(KINDS[axis], text))


def _typed(axis: str, text: str) -> Any:
    try:
        value: Any = int(text) if axis == "seed" else float(text) if axis == "ratio" else text
        if (axis == "ratio" and not 0 <= value <= 1) or (axis == "part" and text not in ("all", "clean")):
            raise ValueError
    except ValueError:
        kinds = {"seed": "a whole number", "ratio": "a number from 0 to 1", "part": "all or clean"}
        raise EntryError(f"--{axis} {text}: expected {kinds[axis]}") from None
    return value


def adhoc(selectors: Mapping[str, Sequence[str]]) -> Table:
    """The grid that selectors alone define."""
    axes: dict[str, list[Any]] = {
        "protocol": ["quick"],
        "dataset": ["digits"],
        "attack": ["none"],
        "defense": ["none"],
        "architecture": ["small-cnn"],
        "measure": ["accuracy"],
        "seed": [0],
    }
    for axis, wishes in selectors.items():
        if wishes:
            axes[axis] = [_typed(axis, wish) for wish in wishes]
    try:
        return Table.model_validate({"title": "Cells chosen on the command line", **axes})
    except ValidationError as error:
        first = error.errors()[0]
        raise EntryError(f"--{first['loc'][0]}: {first['msg']}, found {first['input']!r}") from None


def scaled(table: Table | Grid, factor: float) -> Table | Grid:
    """The same grid with the epochs of its protocols multiplied by `factor`, which makes them other protocols."""
    if isinstance(table, Grid):
        return table.scaled(factor)
    return table.replaced(protocol=[f"{item}@{factor:g}" for item in table.protocol])


def recipes(tasks: Iterable[Task], kind: Callable[[Task], Recipe | None]) -> list[tuple[Recipe, Task]]:
    """The distinct recipes of one kind of stage, each with a task that needs it, in the order of the tasks."""
    found: dict[str, tuple[Recipe, Task]] = {}
    for task in tasks:
        recipe = kind(task)
        if recipe is not None:
            found.setdefault(recipe.key, (recipe, task))
    return list(found.values())
