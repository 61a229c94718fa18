"""How far two runs of one setting may lie apart, from the spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import variance

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """The standard deviation over seeds, in the unit of the numbers, and the degrees of freedom behind it."""

    deviation: float
    freedom: int

    @classmethod
    def of(cls, groups: Iterable[Sequence[float]]) -> Spread | None:
        """Pool the variance over seeds of several settings; None where none of them has two seeds."""
        several = [values for values in groups if len(values) > 1]
        freedom = sum(len(values) - 1 for values in several)
        if not freedom:
            return None
        return cls(math.sqrt(sum(variance(values) * (len(values) - 1) for values in several) / freedom), freedom)

    def apart(self, seeds: int = 1) -> float:
        """How far one more run lies from the mean over so many seeds at most, in 95 % of cases: two-sided, Student's t."""
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, (1 + CONFIDENCE) / 2)) * self.deviation * math.sqrt(1 + 1 / seeds)

    def half_width(self, seeds: int) -> float:
        """Half the interval in which the mean over so many seeds has the true one, in 95 % of cases: Student's t, two-sided."""
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, (1 + CONFIDENCE) / 2)) * self.deviation / math.sqrt(seeds)
