"""Stage 9: records until the time is over: the grid `cifar10`, then cells of papers' tables by value per second."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpu import Figures, Notes, Setting, must
from gpu.pool import run_cells
from gpu.speed import read_rates
from unlearnable_bench.benchmark import grid as grids
from unlearnable_bench.benchmark.cost import Arithmetic
from unlearnable_bench.benchmark.task import Finder, Task
from unlearnable_bench.registry import data
from unlearnable_bench.registry.catalog import lacking, resolve
from unlearnable_bench.results import Cell, Records, read_grid
from unlearnable_bench.results.own import pack_own

SEEDS = ["0", "1", "2"]
PACKED = 4  # records after which they are packed again
MOST = 300  # cells of papers that are planned: more than an hour has room for
SLOW = ("ntga", "d-vae")  # attacks that have no surrogate and take long all the same, unless somebody has counted them
STARTED = 1.0  # seconds that any cell takes beside its training
SLACK = 1.5  # a cell is begun if so many times its estimate is left
USUAL = "resnet18"  # whose speed stands for networks that were not measured
PRINTED = "full"  # the grid of all papers' tables
FEW_PRINTED = "d-vae/table-2"


@dataclass
class Packer:
    """Packs the records of this run whenever a few more are there."""

    setting: Setting
    seen: int = 0

    def __call__(self) -> None:
        there = len(Records(self.setting.space.records).ids())
        if there >= self.seen + PACKED:
            self.pack()
            self.seen = there

    def pack(self) -> list[str]:
        return [path.name for path in pack_own(Records(self.setting.space.records), self.setting.out)]


@dataclass(frozen=True)
class Estimate:
    """Seconds of cells on this device: counted operations at the speed that was just measured, a part of it for each worker."""

    arithmetic: Arithmetic
    rates: Mapping[str, float]  # multiply-adds a second, by network
    workers: int = 1

    def train(self, task: Task) -> float | None:
        """The seconds of a training while all workers are busy; None where nobody has counted it."""
        counted = self.arithmetic.train(task.cell)
        return None if counted is None else counted * self._factor(task.cell.architecture.name)

    def craft(self, task: Task) -> float | None:
        """The seconds of a cell's poison with those that it is made from; None where nobody has counted them."""
        total = 0.0
        for recipe in task.poison.family if task.needs_poison else ():
            counted = self.arithmetic.craft(recipe)
            if counted is None or (not counted and recipe.attack[-1].name in SLOW):
                return None
            total += counted * self._factor(str(recipe.attack[-1].values.get("surrogate", USUAL)))
        return total

    def purify(self, task: Task) -> float | None:
        """The seconds of what a purifier makes of its training set."""
        counted = self.arithmetic.purify(task.purified) if task.purified else 0.0
        return None if counted is None else counted * self._factor(USUAL)

    def _factor(self, network: str) -> float:
        """What turns the program's own estimate into seconds of this device."""
        rate = self.rates.get(network, self.rates.get(USUAL, self.arithmetic.speed))
        return self.workers * self.arithmetic.speed / rate


@dataclass(frozen=True)
class Fits:
    """Whether a cell can still end in time. One that nobody can estimate is begun."""

    estimate: Estimate
    setting: Setting

    def __call__(self, task: Task) -> bool:
        needed = self.estimate.train(task) or 0.0
        for recipe, seconds in ((task.poison, self.estimate.craft(task)), (task.purified, self.estimate.purify(task))):
            if recipe is not None and not (self.setting.space.poisons / recipe.folder).exists():
                needed += seconds or 0.0
        return SLACK * needed <= self.setting.seconds_left


def run(setting: Setting, notes: Notes) -> None:
    """Fill the time that is left. Which cells were reached is a matter of time, not of right or wrong; failures are."""
    estimate = Estimate(Arithmetic(setting.device), read_rates(setting.space.root), setting.workers)
    packer = Packer(setting)
    notes.check("grid cifar10, seeds 0 to 2", lambda: _filled(setting, "grid", grid_cells(setting), estimate, packer))
    if setting.seconds_left > 0:
        notes.check(
            "cells of papers' tables", lambda: _filled(setting, "papers", paper_cells(setting, estimate), estimate, packer)
        )
    else:
        notes.skip("cells of papers' tables", "the time was over")
    notes.check("packed", lambda: {"files": packer.pack()})


def _filled(setting: Setting, name: str, cells: Sequence[Cell], estimate: Estimate, packer: Packer) -> Figures:
    pool = run_cells(setting, cells, name=name, workers=setting.workers, fits=Fits(estimate, setting), look=packer)
    done = len(pool.done)
    figures: Figures = {"cells": len(cells), "done": done, "failed": len(pool.failures), "workers_restarted": pool.restarts}
    figures |= {"workers_killed": pool.killed, "seconds_left": round(setting.seconds_left, 1)}
    must(not pool.failures, pool.complaint(), figures)
    return figures


def grid_cells(setting: Setting) -> list[Cell]:
    """Return the cells of the grid in its order, each at three seeds before the next."""
    if setting.tiny:
        axes = {
            "protocol": ["quick@0.1(threads=1)"],
            "dataset": ["digits(per_class=8,test_per_class=4)"],
            "attack": ["lsp", "ops"],
        }
        return grids.expand(grids.adhoc(axes | {"seed": SEEDS[:2]}))[0]
    return grids.expand(grids.select(read_grid("cifar10"), {"seed": SEEDS}))[0]


def paper_cells(setting: Setting, estimate: Estimate) -> list[Cell]:
    """Return cells of papers' tables at seed 0, those first whose records answer most published results per second.

    The seconds of a poison or a purified set are shared by the cells that need it. Cells that nobody can estimate are left out,
    and those whose data are not here.
    """
    grid = read_grid(FEW_PRINTED if setting.tiny else PRINTED)
    answers: dict[str, int] = defaultdict(int)
    cells: dict[str, Cell] = {}
    for wanted in grid.requested_cells(resolve, lacking):
        first = [cell for cell in wanted.cells if cell.seed == min(wanted.request.seeds)]
        for cell in first:
            cells[cell.id] = cell
            answers[cell.id] += 1
    finder = Finder()
    tasks = [Task.of(cell, finder) for cell in cells.values()]
    return by_value_per_second([task for task in tasks if _has_data(task)], answers, estimate)[:MOST]


def _has_data(task: Task) -> bool:
    return not any(data.missing(part) for part in task.datasets.values())


def by_value_per_second(tasks: Sequence[Task], answers: Mapping[str, int], estimate: Estimate) -> list[Cell]:
    """Order cells by published results that they answer per second, those of one poison together where these are equal."""
    poisons = Counter(task.poison.key for task in tasks if task.needs_poison)
    sets = Counter(task.purified.key for task in tasks if task.purified)
    rates: dict[str, float] = {}
    for task in tasks:
        train, craft, purify = estimate.train(task), estimate.craft(task), estimate.purify(task)
        if train is None or craft is None or purify is None:
            continue
        shared = craft / max(1, poisons[task.poison.key])
        shared += purify / max(1, sets[task.purified.key]) if task.purified else 0.0
        rates[task.cell.id] = answers[task.cell.id] / (train + shared + STARTED)
    known = [task for task in tasks if task.cell.id in rates]
    ordered = sorted(known, key=lambda task: (-rates[task.cell.id], task.poison.key))
    return [task.cell for task in ordered]
