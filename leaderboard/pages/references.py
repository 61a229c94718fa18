"""What a checkout knows of official code: which function a step of ours was compared with, and where we differ on purpose."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STATES = {
    "no public code": "There is no public code to compare with.",
    "deviates": "Differs from the official code on purpose.",
    "not compared": "Not compared with official code.",
    "ours": "The method is from this repository.",
}


@dataclass(frozen=True)
class Vector:
    """What official code computed, which a test holds ours against."""

    name: str  # its file under tests/reference, without ending
    repository: str
    commit: str
    function: str
    tolerance: float
    reason: str  # of the tolerance

    @property
    def agreement(self) -> str:
        return f"equal within {self.tolerance:g}" if self.tolerance else "equal"


@dataclass(frozen=True)
class References:
    """Vectors by `<kind>.<entry>`, and in words why one has none or what differs; empty without a checkout."""

    vectors: dict[str, list[Vector]] = field(default_factory=dict)
    remarks: dict[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> References:
        """Read the folder `tests/reference` of a checkout."""
        vectors: dict[str, list[Vector]] = {}
        for path in sorted(folder.glob("*.npz")):
            kind, name, *_ = path.stem.split(".")
            vectors.setdefault(f"{kind}.{name}", []).append(_vector(path))
        return cls(vectors, dict(_remarks(folder / "reasons")))

    def vectors_of(self, kind: str, name: str) -> list[Vector]:
        """Return the vectors of an entry."""
        return self.vectors.get(f"{kind}.{name}", [])

    def remark_on(self, kind: str, name: str) -> str:
        """Return what is said of an entry beside its vectors; '' for nothing."""
        state, why = self.remarks.get(f"{kind}.{name}", ("", ""))
        return f"{STATES.get(state, state)} {why}".strip()


def _vector(path: Path) -> Vector:
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        about: dict[str, Any] = json.loads(str(stored["about"]))
    names = ("repository", "commit", "function", "tolerance", "reason")
    return Vector(path.stem, *(about[name] for name in names))


def _remarks(folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    for path in sorted(folder.glob("*.toml")):
        for name, reason in tomllib.loads(path.read_text(encoding="utf-8")).items():
            yield f"{path.stem}.{name}", (reason["state"], reason["why"])
