"""Which settings of an entry are one method to a reader, and what budget an attack has.

A reader asks how EM or JPEG stand, not how `em(variant=apb,surrogate=resnet9,...)` does. A method is an entry with its budget
and the parameters that its label shows. How hard a poison was searched for, whose code made it, and how a defense trains its
victim make no other method; every other parameter that is not at its default makes an ablation, which is nobody's result.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from unlearnable_bench.leaderboard.tables.pairing import EFFORT, TRAINING
from unlearnable_bench.registry import CATALOGS, EntryError, Paper
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.labels import SELF_TRAINED, display_name, label
from unlearnable_bench.results import Part

Axis: TypeAlias = Literal["attack", "defense"]
CODE = {"variant", "kernel", "time", "block", "start", "seed"}  # whose code made a poison, and from which seed
BUDGET = {"epsilon", "norm"}
WRITTEN = {"linf": "ℓ∞", "l2": "ℓ2", "l0": "ℓ0", "none": "unbounded"}


@dataclass(frozen=True)
class StatedBudget:
    """What a spec states that its attack may change of an image: the norm, and the radius in pixel units (of l0: in pixels)."""

    norm: str
    epsilon: float

    @property
    def text(self) -> str:
        """As pages write it: `ℓ∞ 8/255`, `ℓ2 1.30`, `ℓ0 1 pixel`."""
        if self.norm == "linf":
            return f"{WRITTEN['linf']} {round(255 * self.epsilon, 2):g}/255"
        if self.norm == "l2":
            return f"{WRITTEN['l2']} {self.epsilon:.2f}"
        if self.norm == "l0":
            return f"{WRITTEN['l0']} {self.epsilon:g} pixel" + ("s" if self.epsilon != 1 else "")
        return WRITTEN["none"]

    def spent(self, amount: float | None) -> str:
        """Say how much of it a poison spends, where that was measured: `ℓ2 1.34 of 1.41`."""
        if amount is None or self.norm == "none":
            return self.text
        return f"{StatedBudget(self.norm, amount).text} of {self.text.partition(' ')[2]}"

    @property
    def group(self) -> str:
        """The class within which attacks are ranked: `ℓ∞ 8/255`, any other norm as a whole."""
        return self.text if self.norm == "linf" else WRITTEN[self.norm]


@dataclass(frozen=True)
class Method:
    """An attack or a defense as a reader names it. Of defenses, `needs` says what a victim must have for it."""

    axis: Axis
    name: str  # of the entry
    label: str
    display_name: str
    budget: StatedBudget | None = None  # of attacks
    needs: tuple[str, ...] = ()
    is_oracle: bool = False  # the best of several defenses, chosen by the test accuracy
    paper: Paper | None = None

    @property
    def budget_text(self) -> str:
        """The budget of an attack, as pages write it; '' for defenses."""
        return self.budget.text if self.budget else ""

    @property
    def full_label(self) -> str:
        """Its label, and of an attack its budget: `EM, ℓ∞ 8/255`."""
        return f"{self.label}, {self.budget_text}" if self.budget_text and not self.is_plain else self.label

    @property
    def is_plain(self) -> bool:
        """Whether it is clean training, or no defense."""
        return self.name == "none"


def method_of(axis: Axis, chain: Sequence[Part]) -> Method | None:
    """Return the method that a chain of one entry is; None for longer chains, ablations and entries that are not here."""
    if len(chain) != 1:
        return None
    try:
        part = CATALOGS[f"{axis}s"].stored(chain[0].name, chain[0].fields)
    except EntryError:
        return None
    if part.entry.facts.get("chained") or _is_ablation(axis, part):
        return None
    return Method(
        axis,
        part.name,
        label((part,)),
        display_name((part,)),
        budget_of(part) if axis == "attack" else None,
        tuple(part.entry.facts.get("needs", ())),
        bool(part.entry.facts.get("members")),
        part.entry.paper,
    )


def as_printed(method: Method) -> Method:
    """Return a method as papers have it, with weights of their own where those of our runs are self-trained."""
    return replace(method, label=method.label.removesuffix(SELF_TRAINED))


def budget_of(attack: ConfiguredEntry) -> StatedBudget:
    """Return the budget of an attack without importing it."""
    norm = str(attack.values.get("norm", attack.entry.facts.get("budget_norm", "linf")))
    return StatedBudget(norm, float(attack.values.get("epsilon", 0.0)))


def _is_ablation(axis: Axis, part: ConfiguredEntry) -> bool:
    free = {*CODE, *EFFORT, *BUDGET} if axis == "attack" else {*TRAINING.get(part.name, ()), *EFFORT}
    shown = {name for _, name, _, _ in string.Formatter().parse(part.entry.facts.get("label", "")) if name}
    fields = part.entry.by_name
    return any(
        name in fields and not fields[name].same(value, fields[name].default)
        for name, value in part.values.items()
        if name not in free | shown
    )
