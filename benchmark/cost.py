"""How long cells will take, from records of like cells, else from multiply-adds. Needs no torch."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from unlearnable_bench.poisons.recipe import PoisonRecipe, PurifiedRecipe
from unlearnable_bench.registry import DEFENSES, PROTOCOLS, EntryError
from unlearnable_bench.results import Cell, Record
from unlearnable_bench.results.cell import NONE

FORWARD_PASSES = 3  # a training step is worth so many forward passes


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_name("cost.toml").read_text(encoding="utf-8"))


class Cost:
    """Seconds of training per cell. Crafting and purifying are left out: they are shared by many cells."""

    def __init__(self, past: Iterable[Record] = ()) -> None:
        seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for record in past:
            if record.metrics is not None and record.device.startswith("cuda") and record.seconds.get("train"):
                seconds[_like(record.cell)].append(record.seconds["train"])
        self._past = {key: fmean(several) for key, several in seconds.items()}

    def seconds(self, cell: Cell) -> float | None:
        """Return the seconds of one training on a GPU; None for a network or data of which nothing is known."""
        if cell.architecture.name == NONE:
            return 0.0  # an analysis that trains no victim
        found = self._past.get(_like(cell))
        if found is not None:
            return found
        work = multiply_adds(cell)
        return None if work is None else work / float(_table()["multiply_adds_per_second"])

    def hours(self, cells: Iterable[Cell]) -> float | None:
        """Return the GPU-hours of several cells; None if one of them is unknown."""
        total = 0.0
        for cell in cells:
            seconds = self.seconds(cell)
            if seconds is None:
                return None
            total += seconds / 3600
        return total


@dataclass(frozen=True)
class Arithmetic:
    """Seconds of stages from multiply-adds: on a GPU, or on one core of a CPU. None for what nobody has counted."""

    device: str

    def train(self, cell: Cell) -> float | None:
        """The seconds of one training."""
        work = multiply_adds(cell)
        return None if work is None else work / self.speed

    def craft(self, recipe: PoisonRecipe) -> float | None:
        """The seconds of crafting a poison, its parents apart. Without a surrogate it takes next to none."""
        counted = _table()["crafting"].get(recipe.text)
        if counted is None and "surrogate" in recipe.attack[-1].fields:
            return None
        return self._of_all_images(counted or 0.0, recipe)

    def purify(self, recipe: PurifiedRecipe) -> float | None:
        """The seconds of purifying a set. Only purifiers that train networks take long."""
        counted = sum(_table()["purifying"].get(part.text, 0.0) for part in recipe.purifiers)
        return self._of_all_images(counted, recipe.poison)

    @property
    def speed(self) -> float:
        """Multiply-adds per second."""
        key = "multiply_adds_per_second" if self.device.startswith("cuda") else "multiply_adds_per_core_second"
        return float(_table()[key])

    def _of_all_images(self, billions: float, recipe: PoisonRecipe) -> float | None:
        images = _table()["images"].get(recipe.dataset.name)
        if not billions:
            return 0.0
        return None if images is None else 1e9 * billions * images / self.speed


def _like(cell: Cell) -> tuple[str, ...]:
    texts = cell.texts
    return texts["protocol"], texts["dataset"], texts["architecture"], texts["defense"]


def plain_trainings(cell: Cell) -> float:
    """Return how many trainings without a defense a training is worth, by multiply-adds; 1 where nobody has counted."""
    work, plain = multiply_adds(cell), multiply_adds(cell.model_copy(update={"defense": ()}))
    return work / plain if work and plain else 1.0


def multiply_adds(cell: Cell) -> float | None:
    """Return the multiply-adds of a training. A defense with `steps` of its own runs the network so many times more."""
    table = _table()
    name, data = cell.architecture.name, cell.dataset.name
    if name not in table["gmac"] or data not in table["images"]:
        return None
    try:
        protocol = PROTOCOLS.stored(cell.protocol.name, cell.protocol.fields)
        inner = [part for part in cell.defense if "loss" in DEFENSES.entry(part.name).hooks and "steps" in part.fields]
    except EntryError:
        return None
    facts = protocol.entry.facts
    recipe: dict[str, Any] = protocol.values | dict(facts.get("per_dataset", {}).get(data, {}))
    recipe |= dict(facts.get("adversarial", {})) if inner else {}
    images = float(table["images"][data])
    if cell.part == "clean":
        images *= 1 - cell.ratio
    visits = recipe["steps"] * recipe["batch"] if recipe["steps"] else recipe["epochs"] * images
    passes = FORWARD_PASSES * (1 + sum(int(str(part.fields["steps"])) for part in inner))
    area = (table["side"].get(data, 32) / 32) ** 2
    return float(visits * recipe["scale"] * passes * table["gmac"][name] * 1e9 * area)
