"""A cell with its entries found, and the recipes of the stages before its training. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from unlearnable_bench.poisons.recipe import PoisonRecipe, PurifiedRecipe, Recipe
from unlearnable_bench.registry import CATALOGS, EntryError, editions
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.entry import Entry
from unlearnable_bench.registry.spec import is_folder
from unlearnable_bench.results import Cell
from unlearnable_bench.results import cell as cells_
from unlearnable_bench.results.cell import NONE

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)
NOBODY = ConfiguredEntry(
    Entry("architectures", NONE, "built-in", "", ""), NONE, {}
)  # the architecture where no victim is looked at


@dataclass(frozen=True)
class Finder:
    """Finds the entries of parts of cells, each once. `roots` has the paths of folders of images by their names."""

    roots: Mapping[str, str] = field(default_factory=dict)
    found: dict[tuple[str, str, str], ConfiguredEntry] = field(default_factory=dict)

    def __call__(self, kind: str, part: cells_.Part) -> ConfiguredEntry:
        """Return the resolved part. EntryError."""
        key = kind, part.name, part.text
        if key not in self.found or self.found[key].fields != part.fields:
            self.found[key] = self._find(kind, part)
        return self.found[key]

    def _find(self, kind: str, part: cells_.Part) -> ConfiguredEntry:
        if kind == "datasets" and is_folder(part.name):
            return ConfiguredEntry(CATALOGS[kind].entry("folder"), part.name, part.fields, self._root(part.name))
        return ConfiguredEntry(CATALOGS[kind].entry(part.name), part.name, part.fields)

    def _root(self, name: str) -> Path:
        if name not in self.roots:
            raise EntryError(f"the path of {name} is not known here; name it by --dataset 'folder:PATH'")
        return Path(self.roots[name])


@dataclass(frozen=True)
class Task:
    """A cell with its entries found, and the recipes of the stages before its training."""

    cell: Cell
    protocol: ConfiguredEntry
    dataset: ConfiguredEntry
    attack: tuple[ConfiguredEntry, ...]
    defense: tuple[ConfiguredEntry, ...]
    architecture: ConfiguredEntry
    analysis: ConfiguredEntry | None = None  # what is measured, where it is not accuracy alone

    @classmethod
    def of(cls, cell: Cell, finder: Finder | None = None) -> Task:
        """Find a cell's entries again. Cells of one table share a finder, since they share their parts. EntryError."""
        found = finder or Finder()
        task = cls(
            cell,
            found("protocols", cell.protocol),
            found("datasets", cell.dataset),
            tuple(found("attacks", part) for part in cell.attack),
            tuple(found("defenses", part) for part in cell.defense),
            NOBODY if cell.architecture.name == NONE else found("architectures", cell.architecture),
            None if isinstance(cell.measure, str) else found("analyses", cell.measure),
        )
        task._check()
        return task

    def _check(self) -> None:
        """Refuse what no victim can be trained on. EntryError."""
        assert self.poison.family, "which says in a sentence what cannot be a poison"
        for part in self.defense:
            if part.members:
                raise EntryError(f"{part.text} has no cell of its own; it stands for {', '.join(part.members)}: run these")
        for hook in ("loss", "model", "start"):
            both = [part.text for part in self.defense if hook in part.entry.hooks]
            if len(both) > 1:
                raise EntryError(f"{both[0]} and {both[1]} cannot be chained: both bring their own {hook}")

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
    def datasets(self) -> dict[str, ConfiguredEntry]:
        """The datasets that must be there for it: its own, and those of poisons that are brought to it."""
        more = (recipe.dataset for recipe in self.poison.family) if self.needs_poison else ()
        return {part.text: part for part in (self.dataset, *more)}

    def versions(self) -> dict[str, str]:
        """`kind:name` -> edition of every entry that the cell uses, as its record keeps them."""
        return editions(self.entries)

    @property
    def entries(self) -> list[ConfiguredEntry]:
        """Every entry that the cell uses."""
        entries = [self.protocol, self.dataset, *self.attack, *self.defense]
        if self.architecture is not NOBODY:
            entries.append(self.architecture)
        if self.analysis is not None:
            entries.append(self.analysis)
        return entries


def recipes(tasks: Iterable[Task], kind: Callable[[Task], AnyRecipe | None]) -> list[tuple[AnyRecipe, Task]]:
    """The distinct recipes of one kind of stage, each with a task that needs it, in the order of the tasks."""
    found: dict[str, tuple[AnyRecipe, Task]] = {}
    for task in tasks:
        recipe = kind(task)
        if recipe is not None:
            found.setdefault(recipe.key, (recipe, task))
    return list(found.values())


def poisons(tasks: Iterable[Task]) -> list[PoisonRecipe]:
    """Return all poisons that some cells need, each once, with those that they are made from."""
    families = [recipe for task in tasks if task.needs_poison for recipe in task.poison.family]
    return list({recipe.key: recipe for recipe in families}.values())
