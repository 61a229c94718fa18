"""Which published accuracies are of the same attack and defense as a score of a table whose victims have another recipe.

The victim's recipe and network may differ. Nothing that an attack or a defense is given may, except how hard the poison was
searched for, the fields in `EFFORT`, and how a defense trains its victim, those in `TRAINING`.
docs/results/fast.md prints the rule.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from unlearnable_bench.leaderboard.tables.groups import known, without
from unlearnable_bench.leaderboard.tables.score import Score, scaled
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.registry import ATTACKS, lacking, resolve
from unlearnable_bench.registry.spec import SELFTRAINED, write_value
from unlearnable_bench.results import Cell
from unlearnable_bench.results.cell import Part
from unlearnable_bench.results.cells import CellMaker
from unlearnable_bench.results.table_file import ScoreRequest

FAST, OUR_NETWORK = "fast", "resnet9"  # protocol and architecture of our side
RECIPES = ("dvae", "st", "sem", "lfu", "tue", "apbench", "entf", "eclipse", "bridge-pure")  # of papers, training with labels
DATASET, NETWORK = "cifar10", "resnet18"  # of the papers' side
THEIR_SIDE = {"dataset": DATASET, "architecture": NETWORK, "ratio": 1}
WHOLE = {"part": "all", "measure": "accuracy"}

STEPS = (  # fields that count how often something is done in the search for a poison
    "epochs",
    "steps",
    "train_steps",
    "weight_steps",
    "noise_steps",
    "passes",
    "max_rounds",
    "restarts",
    "samples",
    "trials",
    "checkpoints",
    "inner_steps",
    "class_epochs",
    "class_batches",
    "adversary_steps",
    "train_attack_steps",
)
SETTINGS = ("surrogate", "batch", "step_size", "adversary_step_size", "lr", "weight_decay", "stop_error", "width", "judges")
EFFORT = {*STEPS, *SETTINGS}
"""Fields of attacks that say how a poison is searched for; every other field says what the poison is."""

TRAINING: Mapping[str, Collection[str]] = {
    "at": ("step_size", "begin"),
    "ueraser": ("epochs", "lr", "schedule"),
    "lfu": ("recipe",),
}
"""Fields of defenses that say how the victim is trained with them: the protocol's business here."""

IMPLIED: Mapping[tuple[str, str], Mapping[str, int]] = {  # what a field at 0 stands for, by variant; '' is any other
    ("em", "weight_steps"): {"": 10, "tue": 98},  # an epoch of 50,000 images
    ("em", "noise_steps"): {"": 20, "rem": 10, "apb": 5},
    ("rem", "noise_steps"): {"": 10, "apb": 5},
    ("tap", "restarts"): {"": 8, "rem": 1},
    ("hypo", "epochs"): {"": 10, "p2": 150},
    ("sep", "checkpoints"): {"": 30, "fa-vr": 15},
}

Method = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]  # the parts of a chain: name, and the fields that count


@dataclass(frozen=True)
class Published:
    """A test accuracy that a paper prints, in percent, and the attack that it ran."""

    table: str  # <paper>/table-<label>
    value: float
    attack: tuple[Part, ...]

    @property
    def paper(self) -> str:
        return self.table.partition("/")[0]


@dataclass(frozen=True)
class Pair:
    """A score beside what papers print of the same attack and defense. Accuracies are in percent."""

    score: Score
    published: tuple[Published, ...]

    @property
    def attack(self) -> str:
        return self.score.point["attack"]

    @property
    def defense(self) -> str:
        return self.score.point["defense"]

    @property
    def ours(self) -> float | None:
        """The mean over the seeds that were measured here with today's versions."""
        return scaled(self.score.mean, 100) if self.score.is_ours_and_current else None

    @cached_property
    def values(self) -> list[float]:
        """What papers print; a value that one paper prints in several tables counts once."""
        return sorted(value for _, value in {(one.paper, one.value) for one in self.published})

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def papers(self) -> list[str]:
        return list(dict.fromkeys(one.paper for one in self.published))

    @property
    def names(self) -> set[str]:
        """The names of the attack and of the tools that act on it."""
        return {part.name for part in self._attack}

    @property
    def fewer_steps(self) -> list[str]:
        """The counts in which the poison falls short of a paper's: `epochs 10 of 40`. A limit that was not met is none."""
        limits = {"max_rounds"} if self._ended_by_itself else set()
        found: dict[str, None] = {}
        for one in self.published:
            found |= dict.fromkeys(shortfalls(self._attack, one.attack, limits))
        return list(found)

    @property
    def _ended_by_itself(self) -> bool:
        """Whether the search met its goal before its last round, in every record."""
        limit = self._attack[0].fields.get("max_rounds", 0)
        poisons = known(record.poison for record in self.score.used)
        rounds = [poison.notes.get("rounds", math.inf) for poison in poisons]
        return isinstance(limit, int) and max(rounds, default=math.inf) < limit

    @property
    def other_surrogate(self) -> str:
        """The surrogate, where no paper that prints the pair had it; else ''."""
        own = _surrogates(self._attack)
        return "" if own in [_surrogates(one.attack) for one in self.published] else ", ".join(own)

    @property
    def _attack(self) -> tuple[Part, ...]:
        return self.score.runs[0].cell.attack


def pairs(table: Table, requests: Iterable[ScoreRequest]) -> list[Pair]:
    """Return the scores of a table of protocol `fast` that `requests` of papers' tables print a value for, row by row."""
    by_method = published_accuracies(requests)
    ours = [score for score in table.in_order if score.runs and not score.rest]
    paired = [Pair(score, tuple(_same_method(score.runs[0].cell, by_method))) for score in ours]
    return [pair for pair in paired if pair.published]


def _same_method(cell: Cell, by_method: Mapping[tuple[Method, Method], Sequence[Published]]) -> Sequence[Published]:
    """What papers print of the attack and the defense of a cell; nothing for one that is not of our side."""
    if not comparable(cell):
        return ()
    return by_method.get((method(cell.attack, EFFORT), defense_method(cell.defense)), ())


def comparable(cell: Cell) -> bool:
    """Whether a cell is one of our side: all of CIFAR-10, poisoned, unscaled `fast`, `resnet9`, no weights of our own."""
    our_side = {
        "protocol": _part("protocols", FAST),
        "dataset": _part("datasets", DATASET),
        "architecture": _part("architectures", OUR_NETWORK),
        "ratio": 1,
        "part": "all",
        "measure": "accuracy",
    }
    own_weights = any(part.fields.get("weights") == SELFTRAINED for part in cell.defense)
    return not own_weights and {axis: getattr(cell, axis) for axis in our_side} == our_side


def published_accuracies(requests: Iterable[ScoreRequest]) -> Mapping[tuple[Method, Method], Sequence[Published]]:
    """What papers print of undoubted test accuracies of whole CIFAR-10 on ResNet-18, by attack and defense."""
    maker = CellMaker(resolve)
    by_method = defaultdict(list)
    theirs = [Score(request) for request in requests if THEIR_SIDE.items() <= request.fields.items()]
    for score in theirs:
        if not is_accuracy_of_training(score) or _lacks_method(score):
            continue
        attack = maker.parts("attacks", score.point["attack"])
        defense = maker.parts("defenses", score.point["defense"])
        result = Published(score.request.table, score.published_percent, attack)
        by_method[method(attack, EFFORT), defense_method(defense)].append(result)
    return by_method


def _lacks_method(score: Score) -> bool:
    """Whether its attack or defense is not here."""
    return bool(lacking("attacks", score.point["attack"]) or lacking("defenses", score.point["defense"]))


def is_accuracy_of_training(score: Score) -> bool:
    """Whether a paper prints an undoubted test accuracy for it, after training with labels on all images."""
    fields = score.request.fields
    is_recipe = fields["protocol"] in RECIPES and WHOLE.items() <= fields.items()
    return is_recipe and score.request.is_accuracy and score.undoubted is not None


def method(parts: Iterable[Part], left_out: Collection[str] = ()) -> Method:
    """What two chains share that are one method: names and all fields but the seed and those that are left out.

    Where an attack is made from another one, that one counts in the same way.
    """
    return tuple((part.name, _fields(part, {*left_out, "seed"})) for part in parts)


def defense_method(parts: Iterable[Part]) -> Method:
    """What two chains of defenses share that are one method: names and all fields but those in `TRAINING`."""
    return tuple((part.name, _fields(part, TRAINING.get(part.name, ()))) for part in parts)


def _fields(part: Part, left_out: Collection[str]) -> tuple[tuple[str, Any], ...]:
    made_from = _parents(part)
    plain = {name: value for name, value in part.fields.items() if name not in {*left_out, *made_from}}
    nested = {name: method(parts, left_out) for name, parts in made_from.items()}
    return tuple(sorted((plain | nested).items()))


def _parents(part: Part) -> dict[str, tuple[Part, ...]]:
    """The attacks that an attack is made from, by the fields that name them."""
    attacks = set(ATTACKS)  # names: asked itself, a catalog imports the entry, and with it torch
    names = ATTACKS.entry(part.name).facts.get("parents", {}) if part.name in attacks else {}
    return {name: CellMaker(resolve).parts("attacks", str(part.fields[name])) for name in names}


def _flat(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts of a chain, each followed by those that it is made from."""
    for part in parts:
        yield part
        for several in _parents(part).values():
            yield from _flat(several)


def shortfalls(ours: Iterable[Part], theirs: Iterable[Part], left_out: Collection[str] = ()) -> list[str]:
    """In which counts the search for a poison falls short of another one for the same method."""
    found = []
    counted = without(STEPS, left_out)
    for own, other in zip(_flat(ours), _flat(theirs), strict=True):
        shorter = [name for name in counted if _count(own, name) < _count(other, name)]
        found += [f"{name} {write_value(own.fields[name])} of {_goal(other, name)}" for name in shorter]
    return found


def _goal(part: Part, name: str) -> str:
    """How often something is done, in words."""
    count = _count(part, name)
    return "more" if math.isinf(count) else f"{count:g}"


def _count(part: Part, name: str) -> float:
    """How often something is done; infinity where a 0 stands for a number that is not known here, 0 where it is never done."""
    value = part.fields.get(name)
    if not isinstance(value, int):
        return 0.0
    implied = {"": math.inf, **IMPLIED.get((part.name, name), {})}
    return value or implied.get(str(part.fields.get("variant", "")), implied[""])


def _surrogates(parts: Iterable[Part]) -> list[str]:
    return [str(part.fields["surrogate"]) for part in _flat(parts) if "surrogate" in part.fields]


def _part(kind: str, spec: str) -> Part:
    return CellMaker(resolve).parts(kind, spec)[0]
