"""How long a run will take, from what records say of like cells, else from multiply-adds. Needs no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from unlearnable_bench.benchmark.cost import Arithmetic, plain_trainings
from unlearnable_bench.benchmark.task import Task, poisons, recipes
from unlearnable_bench.poisons.recipe import PoisonRecipe
from unlearnable_bench.results import Cell
from unlearnable_bench.results.record import RecordSummary

FROM_RECORDS = "records of like cells"
FROM_FLOPS = "FLOPs"


@dataclass(frozen=True)
class Estimate:
    """The seconds of a run on a machine of its own."""

    seconds: float | None = None  # None where nobody can tell
    source: str = FROM_RECORDS  # of trainings; FLOPs where there is no record of like cells of one of them
    uncounted: int = 0  # poisons whose crafting is left out, since nobody knows how long it takes


def estimate_run(tasks: Sequence[Task], past: Iterable[RecordSummary], workers: int, device: str) -> Estimate:
    """Estimate how long `workers` processes take for some cells, given the index of records."""
    measured = MeasuredSeconds.of(past)
    arithmetic = Arithmetic(device)
    source = FROM_RECORDS
    trainings: list[float | None] = []
    for task in tasks:
        seconds = measured.training(task.cell)
        if seconds is None:
            source = FROM_FLOPS
            seconds = arithmetic.train(task.cell)
        trainings.append(seconds)
    if None in trainings:
        return Estimate(source=source)
    craftings = [measured.crafting(recipe, arithmetic.craft(recipe)) for recipe in poisons(tasks)]
    purified = [arithmetic.purify(recipe) for recipe, _ in recipes(tasks, lambda task: task.purified)]
    total = sum(seconds or 0.0 for seconds in (*trainings, *craftings, *purified))
    return Estimate(total / workers, source, craftings.count(None))


@dataclass(frozen=True)
class MeasuredSeconds:
    """Seconds that were measured: of trainings by their setting, of crafting by dataset and poison."""

    trained: Mapping[tuple[str, ...], Sequence[float]]
    crafted: Mapping[str, float]

    @classmethod
    def of(cls, past: Iterable[RecordSummary]) -> MeasuredSeconds:
        """Collect the seconds that records say."""
        trained: dict[tuple[str, ...], list[float]] = defaultdict(list)
        crafted: dict[str, float] = {}
        for record in past:
            if record.state == "done" and "train" in record.seconds:
                texts = record.texts
                trained[_setting(texts, texts["defense"])].append(record.undisturbed("train"))
                crafted[texts["dataset"] + texts["attack"]] = record.undisturbed("craft")
        return cls(trained, crafted)

    def training(self, cell: Cell) -> float | None:
        """Return the seconds of cells like this, else of plain ones by the passes of its defense; None if none was measured."""
        texts = cell.texts
        like = self.trained.get(_setting(texts, texts["defense"]))
        if like:
            return fmean(like)
        plain = self.trained.get(_setting(texts, "none"))
        return fmean(plain) * plain_trainings(cell) if plain else None

    def crafting(self, recipe: PoisonRecipe, otherwise: float | None) -> float | None:
        """Return the seconds in which a poison was crafted; `otherwise` where none like it was."""
        return self.crafted.get(recipe.dataset.text + recipe.text, otherwise)


def _setting(texts: Mapping[str, str], defense: str) -> tuple[str, ...]:
    return texts["protocol"], texts["dataset"], texts["architecture"], defense
