"""Imported: a poison that somebody else made and published, taken into the store by `bench poisons import`.

The command prints its item. Nothing is crafted: in a workspace whose store does not have it, the cell says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, NotApplicable, Paper
from unlearnable_bench.registry.contract import DataInfo


@ATTACKS.register("imported")
@dataclass(frozen=True)
class Imported(Attack):
    """Poisoned images from a published file, made by any method.

    `content` is a hash of the images and labels as they are used, so that two imports of one file with other options are
    two poisons. The manifest in the store has the file's name, its sha256 and the options. The budget is what the importer
    was told and has checked; none: measured only.
    """

    content: str = ""  # which poison: sha- and the first 16 digits of the sha256 of images and labels
    name: str = "poison"  # what it is, for people
    norm: Literal["none", "linf", "l2", "l0"] = "none"  # the bound that it must keep; none: measured only
    epsilon: float = 0.0  # radius in the norm, pixel units

    seedless: ClassVar[bool] = True
    display_name = "Imported poison"
    label = "{name}"
    paper = Paper("A poison published as a file", venue="this repository", url="")

    @property
    def budget(self) -> Budget:
        return Budget(self.norm, self.epsilon)

    def applies(self, info: DataInfo) -> None:
        if not self.content:
            raise NotApplicable("stands for a published poison; `bench poisons import FILE` imports it and prints its spec")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        found = f"the imported poison {self.name} ({self.content}) is not in this store for these images"
        raise EntryError(f"{found}; import its file again with the same options: bench poisons import FILE")
