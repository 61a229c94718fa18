"""A cell: one number of a table, described by plain strings and numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
)

NONE = "na"
"""The architecture of a cell whose analysis looks at no victim."""

Plain = bool | int | FiniteFloat | str | None | list[bool | int | FiniteFloat | str]


def name_in(text: str) -> str:
    """Return what stands before the fields in the text of a spec or of a metric: `lsp` of `lsp(patch=4)`."""
    return text.partition("(")[0]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Strict):
    """One entry with all its fields, defaults included, but for later ones at their neutral value.

    `text` is how people write it, short; it is not in the id.
    """

    name: str
    fields: dict[str, Plain] = Field(default_factory=dict)
    text: str = ""


class Cell(_Strict):
    """Protocol x dataset x attack x ratio x part x defense x architecture x seed, and what is measured."""

    protocol: Part
    dataset: Part
    attack: tuple[Part, ...] = Field(min_length=1)
    ratio: float = Field(1.0, ge=0, le=1)  # fraction of the training images that is poisoned
    part: str = "all"  # train on all images, or on the clean rest alone
    defense: tuple[Part, ...] = Field(min_length=1)
    architecture: Part
    seed: int = Field(0, ge=0)
    measure: Literal["accuracy"] | Part = "accuracy"

    # fields that were added after records had been published, each with the value that those records have, which is its
    # default for ever: at that value a field is neither hashed nor written
    later: ClassVar[Mapping[str, Any]] = {}

    @model_serializer(mode="wrap")
    def _without_neutral_values(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = plain(self)
        neutral = {name for name, value in self.later.items() if getattr(self, name) == value}
        return {name: value for name, value in content.items() if name not in neutral}

    @cached_property
    def id(self) -> str:
        """Hash of all resolved fields: 16 hexadecimal digits."""
        return digest(self.resolved())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Cell:
        """Copy with other fields; the remembered id is not copied."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("id", None)
        return copied

    def resolved(self) -> dict[str, Any]:
        """All fields without the short texts, as JSON values."""
        return without_texts(self.model_dump(mode="json"))

    @property
    def parts(self) -> tuple[tuple[str, Part], ...]:
        """Every part with its kind: protocol, dataset, architecture, attack, defense or analysis."""
        single = (("protocol", self.protocol), ("dataset", self.dataset), ("architecture", self.architecture))
        analysis = () if isinstance(self.measure, str) else (("analysis", self.measure),)
        chains = (*(("attack", part) for part in self.attack), *(("defense", part) for part in self.defense))
        return (*single, *chains, *analysis)

    @property
    def measured(self) -> str:
        """What is measured, as people write it: accuracy, or an analysis."""
        return self.measure if isinstance(self.measure, str) else self.measure.text

    @property
    def texts(self) -> dict[str, str]:
        """Every axis as people write it."""
        return {
            "protocol": self.protocol.text,
            "dataset": self.dataset.text,
            "attack": "+".join(part.text for part in self.attack),
            "ratio": f"{self.ratio:g}",
            "part": self.part,
            "defense": "+".join(part.text for part in self.defense),
            "architecture": self.architecture.text,
            "seed": str(self.seed),
        }

    @property
    def label(self) -> str:
        """A line for logs: digits/lsp/jpeg/small-cnn/s0."""
        texts = self.texts
        share = "" if self.ratio == 1 and self.part == "all" else f"/{self.part}-{self.ratio:g}"
        measure = "" if self.measure == "accuracy" else f"/{self.measured}"
        return f"{texts['dataset']}/{texts['attack']}{share}/{texts['defense']}/{texts['architecture']}{measure}/s{self.seed}"


def without_texts(cell: dict[str, Any]) -> dict[str, Any]:
    """Take the short texts out of a cell's JSON value; what is left are all its fields."""
    analysis = [] if isinstance(cell["measure"], str) else [cell["measure"]]
    for part in (cell["protocol"], cell["dataset"], cell["architecture"], *cell["attack"], *cell["defense"], *analysis):
        del part["text"]
    return cell


def digest(value: Any, length: int = 16) -> str:
    """Hash a JSON value: sha256 of its canonical text, shortened."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
