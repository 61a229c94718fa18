"""Recipes of training sets: what a poison or a purified set is made from, and the address that follows. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from unlearnable_bench.registry import ARCHITECTURES, DATASETS, EntryError
from unlearnable_bench.registry.catalog import ConfiguredEntry


def _plain(part: ConfiguredEntry) -> dict[str, Any]:
    fields = {k: v for k, v in part.fields.items() if k not in ("seed", "dataset") or part.entry.kind != "attacks"}
    found: dict[str, Any] = {"name": part.name, "version": part.entry.version, "fields": fields}
    if part.revisions:
        found["revisions"] = part.revisions
    if "surrogate" in fields:
        (network,) = ARCHITECTURES.resolve(str(fields["surrogate"]))
        found["surrogate"] = network.entry.version
        if network.revisions:
            found["surrogate_revisions"] = network.revisions
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-.")[:60]


class _Recipe(ABC):
    @abstractmethod
    def plain(self) -> dict[str, Any]:
        """All that the set depends on, as JSON values."""

    @property
    @abstractmethod
    def text(self) -> str:
        """How people write it."""

    @cached_property
    def key(self) -> str:
        """Hash of `plain`: 16 hexadecimal digits."""
        text = json.dumps(self.plain(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def stage_seed(self) -> int:
        """The seed of this stage: fields of later stages never enter it."""
        return int(self.key, 16) >> 1

    @property
    def folder(self) -> str:
        """The name of the set's folder in a store."""
        return f"{_slug(self.text)}-{self.key}"


@dataclass(frozen=True)
class PoisonRecipe(_Recipe):
    """A poison, always of all images. The spec of an attack may fix the seed; else it is the cell's.

    A chain `a+b` is the poison that the tool b makes of the poison a: its recipe has that one as its parent.
    """

    dataset: ConfiguredEntry
    attack: tuple[ConfiguredEntry, ...]
    cell_seed: int

    @property
    def seed(self) -> int:
        if self.attack[-1].entry.facts.get("seedless"):
            return 0
        return int(self.attack[-1].fields.get("seed", self.attack[0].fields.get("seed", self.cell_seed)))

    @cached_property
    def parents(self) -> tuple[PoisonRecipe, ...]:
        """The poisons that it is made from: they are made first, and shared like any other."""
        *left, last = self.attack
        if left:
            source = left[0].fields.get("dataset")
            first_move = last.entry.facts.get("onto") and not any(part.entry.facts.get("onto") for part in left)
            if not (source and first_move):
                return (PoisonRecipe(self.dataset, tuple(left), self.cell_seed),)
            left[0] = replace(left[0], fields={key: value for key, value in left[0].fields.items() if key != "dataset"})
            return (PoisonRecipe(DATASETS.resolve(str(source))[0], tuple(left), self.cell_seed),)
        if last.entry.facts.get("chained"):
            raise EntryError(f"{last.name} acts on the poison at its left; write lsp+{self.text}, for example")
        return tuple(PoisonRecipe(self.dataset, chain, self.seed) for chain in last.parents)

    @property
    def family(self) -> tuple[PoisonRecipe, ...]:
        """All that must be crafted for it, itself last."""
        return (*(one for parent in self.parents for one in parent.family), self)

    @property
    def identity(self) -> bool:
        """True if the set is the clean one, which needs no storing."""
        return all(part.entry.facts.get("identity", False) for part in self.attack)

    @property
    def text(self) -> str:
        return "+".join(part.text for part in self.attack)

    def plain(self) -> dict[str, Any]:
        attack = [_plain(part) for part in self.attack]
        plain = {"stage": "craft", "dataset": _plain(self.dataset), "attack": attack, "seed": self.seed}
        return plain | ({"parents": [parent.plain() for parent in self.parents]} if self.parents else {})


@dataclass(frozen=True)
class PurifiedRecipe(_Recipe):
    """What purifiers make of a training set: a poison mixed at a ratio, or the clean rest of it."""

    poison: PoisonRecipe
    ratio: float
    part: str  # all or clean
    purifiers: tuple[ConfiguredEntry, ...]
    cell_seed: int

    @property
    def unpoisoned(self) -> bool:
        """True if no image of it is poisoned, whatever the attack."""
        return self.poison.identity or self.part == "clean"

    @property
    def text(self) -> str:
        return "+".join(["none" if self.unpoisoned else self.poison.text, *(part.text for part in self.purifiers)])

    def plain(self) -> dict[str, Any]:
        # a clean set is the same whatever attack was not applied to it
        poison = {"dataset": _plain(self.poison.dataset)} if self.unpoisoned else self.poison.plain()
        return {
            "stage": "purify",
            "poison": poison,
            "ratio": self.ratio,
            "part": self.part,
            "defense": [_plain(part) for part in self.purifiers],
            "seed": self.cell_seed,
        }


Recipe = PoisonRecipe | PurifiedRecipe
