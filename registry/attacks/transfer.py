"""Transfer: take the noise of a finished poison to another dataset, without training: `em(dataset=cifar10)+transfer`.

Where the other set has more classes or larger ones, noise is interpolated between two classes, or within one.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._papers import TRANSFERABLE_UNLEARNABLE

MIXED = 4  # noises of which one may be made: two classes, two images of each


@ATTACKS.register("transfer")
@dataclass(frozen=True)
class Transfer(Attack):
    """Take the noise of a poison to other images and classes, by interpolation (Ren et al.).

    Equation 7 is for new classes, equation 8 for more images of a class. Class k gets the noises of class k, the t-th image the
    t-th noise. A class beyond the last is a mixture of a pair of classes with one weight for all its images: pairs come in a
    seeded order, first all with weight 1/2, then with 1/3 and 2/3, then 1/4 and 3/4, and so on. An image beyond the last noise
    of a class gets a mixture of two noises of that class with a weight of its own between `low` and `high`. The paper leaves
    pairs, weights and order open. Nothing is rescaled: mixtures of unlike noises are shorter. What is mixed is the noise as
    published, after clipping and rounding.
    """

    low: float = 0.25  # smallest weight of equation 8, 0..1
    high: float = 0.75  # largest weight of equation 8, 0..1

    chained: ClassVar[bool] = True
    onto: ClassVar[bool] = True
    display_name = "Transferred perturbations"
    label = "Transfer"
    paper = TRANSFERABLE_UNLEARNABLE

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise EntryError(f"attack transfer: low={self.low}, high={self.high}; expected 0 <= low <= high <= 1")

    @property
    def budget(self) -> Budget:
        return Budget("none")

    def promise(self, parents: Sequence[Budget]) -> Budget:
        """A mixture is no longer than what it is made of; but it changes the pixels of all of them."""
        (left,) = parents
        return replace(left, epsilon=MIXED * left.epsilon) if left.norm == "l0" else left

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        (poison,) = job.parents
        there, here = poison.clean.info.shape, clean.info.shape
        if there != here:
            raise NotApplicable(f"noise for images of {there} does not fit images of {here}; images have to be of one size")
        rows, weights = self.mixture(poison.clean.labels, clean.labels, job)
        for where in clean.blocks():
            delta = torch.zeros(where.stop - where.start, *here)
            for number in range(MIXED):
                used = torch.nonzero(weights[where, number]).flatten()  # of most images one noise only
                if len(used):
                    share = weights[where, number][used].view(-1, 1, 1, 1)
                    delta[used] += share * poison.delta(rows[where, number][used])
            yield where, delta
            job.progress(where.stop, len(clean))

    def mixture(self, stock: Tensor, wanted: Tensor, job: Job) -> tuple[Tensor, Tensor]:
        """Return which noises every image gets and their weights, (N, 4) each, from the labels of both sets."""
        classes = stock.unique().tolist()
        rows = torch.zeros(len(wanted), MIXED, dtype=torch.int64)
        weights = torch.zeros(len(wanted), MIXED)
        pairs = self._pairs(classes, job)
        for label in range(int(wanted.max()) + 1):  # without gaps: a class's mixture must not depend on who else is there
            parts = [(label, 1.0)]
            if label not in classes:
                parts = next(pairs)
            images = torch.nonzero(wanted == label).flatten()
            for side, (origin, share) in enumerate(parts):
                noises = torch.nonzero(stock == origin).flatten()
                chosen, parted = self._within(noises, len(images), job)
                rows[images, 2 * side : 2 * side + 2] = chosen
                weights[images, 2 * side : 2 * side + 2] = share * parted
        return rows, weights

    def _pairs(self, classes: list[int], job: Job) -> Iterator[list[tuple[int, float]]]:
        """Yield (class, weight) twice for each new class, no two alike."""
        pairs = list(itertools.combinations(classes, 2))
        if not pairs:
            raise NotApplicable("new classes are mixtures of two, and the poison has one class only")
        order = torch.randperm(len(pairs), generator=job.generator).tolist()
        for parts in itertools.count(2):
            for one in dict.fromkeys((1, parts - 1)):
                for first, second in (pairs[number] for number in order):
                    yield [(first, one / parts), (second, 1 - one / parts)]

    def _within(self, noises: Tensor, count: int, job: Job) -> tuple[Tensor, Tensor]:
        """Return (count, 2) noises of a class and their weights: its own in order, then mixtures of two."""
        more = max(0, count - len(noises))
        chosen = noises[torch.arange(count).clamp(max=len(noises) - 1)].repeat(2, 1).T.clone()
        weights = torch.tensor([1.0, 0.0]).repeat(count, 1)
        if more and len(noises) > 1:
            first = torch.randint(0, len(noises), (more,), generator=job.generator)
            step = torch.randint(1, len(noises), (more,), generator=job.generator)  # to another noise
            chosen[-more:] = noises[torch.stack([first, (first + step) % len(noises)], 1)]
            share = torch.rand(more, generator=job.generator) * (self.high - self.low) + self.low
            weights[-more:] = torch.stack([share, 1 - share], 1)
        return chosen, weights
