"""Reference vectors: what the official code of a method computed, recorded, and how ours is compared with it.

A vector is a file `<kind>.<method>.npz`, or `<kind>.<method>.<part>.npz` where a method has several. Beside its arrays `out_*`
it has a JSON text, `about`: repository, commit and function of the official code, seed of the inputs, the tolerance with its
reason, and the versions it was computed with. Inputs are drawn anew from `numpy.random.default_rng(seed)` and never stored.

Each vector has a recipe, the module of its name in `recipes/`, with the constants REPOSITORY, FUNCTION, SEED, TOLERANCE and
REASON and functions that return arrays of the same names: `official(rng)`, which imports the authors' code, and `ours(rng)`.
Both draw the same inputs from `rng`.
"""

from __future__ import annotations

import importlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
KINDS = ("attack", "defense", "protocol")  # every method of these kinds has a vector or a reason
STATES = ("no public code", "deviates", "not compared", "ours")  # of a reason
STATED = ("repository", "function", "seed", "tolerance", "reason")  # what `about` repeats from the recipe

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Vector:
    """Results of official code, and what is known of them."""

    outputs: Arrays
    about: Mapping[str, Any]

    def save(self, name: str) -> Path:
        """Write the vector; return its file."""
        path = FOLDER / f"{name}.npz"
        arrays = {f"out_{key}": value for key, value in self.outputs.items()}
        np.savez_compressed(path, about=np.array(json.dumps(self.about)), **arrays)
        return path

    @classmethod
    def load(cls, name: str) -> Vector:
        """Read the vector of this name."""
        with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as stored:
            outputs = {key.removeprefix("out_"): stored[key] for key in stored.files if key.startswith("out_")}
            return cls(outputs, json.loads(str(stored["about"])))

    def errors(self, ours: Arrays) -> dict[str, float]:
        """Return for every array the largest difference, as a part of the largest official value of that array.

        ValueError if names or shapes differ.
        """
        if set(ours) != set(self.outputs):
            raise ValueError(f"ours has the arrays {sorted(ours)}, the vector {sorted(self.outputs)}")
        return {key: _error(key, value, ours[key]) for key, value in self.outputs.items()}


def _error(name: str, official: np.ndarray, ours: np.ndarray) -> float:
    if official.shape != ours.shape:
        raise ValueError(f"the array {name} of ours has shape {ours.shape}, that of the vector {official.shape}")
    scale = np.abs(official.astype(np.float64)).max()
    difference = np.abs(ours.astype(np.float64) - official.astype(np.float64)).max()
    return float(difference / scale)


def recipe(name: str) -> ModuleType:
    """Return the recipe of a vector: of `attack.em-class` the module `recipes/attack_em_class.py`."""
    return importlib.import_module(f"reference.recipes.{name.replace('.', '_').replace('-', '_')}")


def stated(module: ModuleType) -> dict[str, Any]:
    """Return what a recipe says of its vector."""
    return {key: getattr(module, key.upper()) for key in STATED}


def names() -> list[str]:
    """The vectors that are stored."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def reasons(kind: str) -> dict[str, dict[str, str]]:
    """Return by method what takes the place of a vector, or limits one: `state`, one of STATES, and `why`."""
    return tomllib.loads((FOLDER / "reasons" / f"{kind}.toml").read_text(encoding="utf-8"))


def unexplained(kind: str, methods: Iterable[str], stored: Iterable[str], reasons: Iterable[str]) -> list[str]:
    """Return the methods of a kind that have neither a vector among `stored` nor one of `reasons`."""
    covered = {name.split(".")[1] for name in stored if name.startswith(f"{kind}.")}
    return [method for method in methods if method not in covered.union(reasons)]
