"""Swap: give the noise of a poison to other images, of the same class or of another. A tool: `lsp+swap(mode=inter)`.

A class-wise shortcut survives it, noise that was made for its image does not: it tells linear separability from the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._papers import TRANSFERABLE_UNLEARNABLE
from unlearnable_bench.registry.contract import DataInfo


@ATTACKS.register("swap")
@dataclass(frozen=True)
class Swap(Attack):
    """Move the noise of a poison to other images, within a class or across classes (Ren et al., tables 2 and 5).

    intra: within a class no image keeps its own noise (a class of one image does). inter: whole classes move along a random
    cycle, one noise to one image; a class that receives fewer noises than it has images gets some of them twice. The paper
    says only that the labels differ; since LSP survives its inter-class swap, classes must stay together. shuffle: noise
    goes to any other image, a control. What moves is the noise as published, after clipping and rounding at its first
    image, where the authors' was not yet clipped.
    """

    mode: Literal["intra", "inter", "shuffle"] = "intra"  # to images of the same class, of another, or of any

    chained: ClassVar[bool] = True
    display_name = "Swapped perturbations"
    label = "Swap {mode}-class"
    small: ClassVar[dict[str, Any]] = {"mode": "inter"}
    paper = TRANSFERABLE_UNLEARNABLE

    @property
    def budget(self) -> Budget:
        return Budget("none")

    def promise(self, parents: Sequence[Budget]) -> Budget:
        return parents[0]

    def applies(self, info: DataInfo) -> None:
        if self.mode == "inter" and info.num_classes < 2:
            raise NotApplicable("noise cannot go to another class, there is one class only")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        (poison,) = job.parents
        source = self.source(clean.labels, job)
        job.keep("source", source.numpy())
        for where in clean.blocks():
            yield where, poison.delta(source[where])
            job.progress(where.stop, len(clean))

    def source(self, labels: Tensor, job: Job) -> Tensor:
        """Return whose noise every image gets, int64 (N,)."""
        source = torch.arange(len(labels))
        classes = labels.unique()
        members = [torch.nonzero(labels == label).flatten() for label in classes]
        if self.mode == "inter":
            cycle = torch.randperm(len(classes), generator=job.generator)
            for place in range(len(cycle)):
                rows, giving = members[int(cycle[place])], members[int(cycle[place - 1])]
                source[rows] = giving[_spread(len(giving), len(rows), job)]
            return source
        for rows in [source.clone()] if self.mode == "shuffle" else members:
            order = rows[torch.randperm(len(rows), generator=job.generator)]
            source[order] = order.roll(1)
        return source


def _spread(stock: int, wanted: int, job: Job) -> Tensor:
    """Return `wanted` indices below `stock`: different ones as long as they last, then some again."""
    once = torch.randperm(stock, generator=job.generator)
    again = torch.randint(0, stock, (max(0, wanted - stock),), generator=job.generator)
    return torch.cat([once, again])[:wanted]
