"""What readers call an entry: its display name, and a short label with the parameters that tell it from its neighbors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.spec import SELFTRAINED, write_value

SELF_TRAINED = ", self-trained"
"""What a label says of a method whose networks we trained, where its paper has weights of its own."""

Chain: TypeAlias = tuple[ConfiguredEntry, ...]


def display_name(chain: Chain) -> str:
    """Return the proper name of an entry, or of the links of a chain: `Adversarial training`."""
    return " + ".join(part.entry.facts.get("display_name", part.name) for part in chain)


def label(chain: Chain) -> str:
    """Return the short label of an entry, or of the links of a chain: `AT 8/255`."""
    return " + ".join(map(_label, chain))


def labels(chains: Sequence[Chain]) -> list[str]:
    """Return a label for each of several chains; those that would be alike say what they differ in: `EM (variant apb)`."""
    named = [label(chain) for chain in chains]
    alike = defaultdict(list)
    for name, chain in zip(named, chains, strict=True):
        alike[name].append(chain)
    return [name + _difference(chain, alike[name]) for name, chain in zip(named, chains, strict=True)]


def _label(part: ConfiguredEntry) -> str:
    facts = part.entry.facts
    template = facts.get("label") or facts.get("display_name") or part.name
    named = str(template).format_map({name: write_value(value) for name, value in part.values.items()})
    return named + SELF_TRAINED if part.values.get("weights") == SELFTRAINED else named


def _difference(chain: Chain, others: Iterable[Chain]) -> str:
    """The parameters of a chain that differ among those of its label, in brackets; '' where it is alone."""
    told: list[str] = []
    for part, *rivals in zip(chain, *others, strict=False):
        told += [f"{name} {write_value(value)}" for name, value in part.values.items() if _varies(name, rivals)]
    return f" ({', '.join(told)})" if told else ""


def _varies(name: str, parts: Sequence[ConfiguredEntry]) -> bool:
    return len({repr(part.values.get(name)) for part in parts}) > 1
