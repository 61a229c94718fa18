"""Classes: keep the noise of a poison on some classes alone. A tool: `lsp+classes(count=5)`.

What is learned of classes that nobody protects, and whether they help to learn those that are protected.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._papers import EM
from unlearnable_bench.registry.contract import DataInfo


@ATTACKS.register("classes")
@dataclass(frozen=True)
class Classes(Attack):
    """The noise of a poison on the images of the first classes; the images of all others are as they were.

    Huang et al. poison one class, or several, and ask what is learned of them. Classes count in the order of the dataset. What
    is kept is the noise as published; it was made while all classes had some.
    """

    count: int = 5  # poisoned classes, the first of the dataset

    chained: ClassVar[bool] = True
    display_name = "Some classes alone"
    label = "{count} classes"
    small: ClassVar[dict[str, Any]] = {"count": 1}
    paper = EM

    def __post_init__(self) -> None:
        if self.count < 1:
            raise EntryError(f"attack classes: count={self.count}; expected 1 or more")

    @property
    def budget(self) -> Budget:
        return Budget("none")

    def promise(self, parents: Sequence[Budget]) -> Budget:
        return parents[0]

    def applies(self, info: DataInfo) -> None:
        if info.num_classes < self.count:
            raise NotApplicable(f"{self.count} classes are to be poisoned, the dataset has {info.num_classes}")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        (poison,) = job.parents
        for where in clean.blocks():
            rows = torch.arange(where.start, where.stop)
            poisoned = clean.labels[where] < self.count
            yield where, poison.delta(rows) * poisoned.view(-1, 1, 1, 1)
            job.progress(where.stop, len(clean))
