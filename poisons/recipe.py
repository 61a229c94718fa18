"""Recipes of training sets: what a poison or a purified set is made from, and the address that follows. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from registry import ARCHITECTURES
from registry.catalog import Part


def _plain(part: Part) -> dict[str, Any]:
    fields = {k: v for k, v in part.fields.items() if k != "seed" or part.entry.kind != "attacks"}
    found: dict[str, Any] = {"name": part.name, "version": part.entry.version, "fields": fields}
    if "surrogate" in fields:
        found["surrogate"] = ARCHITECTURES.entry(str(fields["surrogate"])).version
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
    """A poison, always of all images. An attack item may fix the seed; else it is the cell's."""

    dataset: Part
    attack: tuple[Part, ...]
    cell_seed: int

    @property
    def seed(self) -> int:
        return int(self.attack[0].fields.get("seed", self.cell_seed))

    @property
    def identity(self) -> bool:
        """True if the set is the clean one, which needs no storing."""
        return all(part.entry.facts.get("identity", False) for part in self.attack)

    @property
    def text(self) -> str:
        return "+".join(part.text for part in self.attack)

    def plain(self) -> dict[str, Any]:
        attack = [_plain(part) for part in self.attack]
        return {"stage": "craft", "dataset": _plain(self.dataset), "attack": attack, "seed": self.seed}


@dataclass(frozen=True)
class PurifiedRecipe(_Recipe):
    """What purifiers make of a training set: a poison mixed at a ratio, or the clean rest of it."""

    poison: PoisonRecipe
    ratio: float
    part: str  # all or clean
    purifiers: tuple[Part, ...]
    cell_seed: int

    @property
    def text(self) -> str:
        return "+".join([self.poison.text, *(part.text for part in self.purifiers)])

    def plain(self) -> dict[str, Any]:
        # a clean set is the same whatever attack was not applied to it
        poison = {"dataset": _plain(self.poison.dataset)} if self.poison.identity else self.poison.plain()
        return {
            "stage": "purify",
            "poison": poison,
            "ratio": self.ratio,
            "part": self.part,
            "defense": [_plain(part) for part in self.purifiers],
            "seed": self.cell_seed,
        }


Recipe = PoisonRecipe | PurifiedRecipe
