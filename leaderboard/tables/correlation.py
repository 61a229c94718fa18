"""Rank correlation of two lists of numbers, and how far it may be chance: Spearman, Kendall, a bootstrap over pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray  # float64 (B, n): a line per sample
    Statistic = Callable[[Numbers, Numbers], Numbers]  # -> (B,), nan where one side is the same everywhere

RESAMPLES = 2_000
SEED = 0
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Coefficient:
    """A rank correlation, -1 to 1, over a number of pairs; from where to where 95 % of resampled ones reach."""

    pairs: int
    value: float
    low: float
    high: float


def kendall(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Kendall's tau-b; None where one side is the same everywhere."""
    return _one(kendall_of_lines, ours, theirs)


def coefficient(statistic: Statistic, ours: Sequence[float], theirs: Sequence[float]) -> Coefficient | None:
    """A statistic with the interval of a bootstrap that draws pairs anew; None where one side is the same everywhere.

    The same numbers give the same interval: the generator has a fixed seed. Samples in which one side is the same everywhere
    tell nothing and are left out.
    """
    import numpy as np

    value = _one(statistic, ours, theirs)
    if value is None:
        return None
    drawn = np.random.default_rng(SEED).integers(0, len(ours), (RESAMPLES, len(ours)))
    found = statistic(np.asarray(ours, float)[drawn], np.asarray(theirs, float)[drawn])  # (B,)
    outside = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(found, (outside, 100 - outside))
    return Coefficient(len(ours), value, float(low), float(high))


def _one(statistic: Statistic, ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    import numpy as np

    if len(set(ours)) < 2 or len(set(theirs)) < 2:
        return None
    return float(statistic(np.asarray([ours], float), np.asarray([theirs], float))[0])


def spearman_of_lines(ours: Numbers, theirs: Numbers) -> Numbers:
    """Spearman's rho of each line: the correlation of ranks, equal numbers sharing the mean of theirs."""
    import numpy as np
    from scipy.stats import rankdata

    ranks = [rankdata(side, axis=1) for side in (ours, theirs)]
    one, other = (side - side.mean(1, keepdims=True) for side in ranks)
    size = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    return _ratio((one * other).sum(1), size)


def kendall_of_lines(ours: Numbers, theirs: Numbers) -> Numbers:
    """Kendall's tau-b of each line."""
    import numpy as np

    one, other = (np.sign(side[:, :, None] - side[:, None, :]) for side in (ours, theirs))  # (B, n, n)
    size = np.sqrt((one**2).sum((1, 2)) * (other**2).sum((1, 2)))
    return _ratio((one * other).sum((1, 2)), size)


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    import numpy as np

    found: Numbers = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return found
