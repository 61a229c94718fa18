"""How a number agrees with the published one beside it, and the tolerance that follows from seeds."""

from __future__ import annotations

from unlearnable_bench.results.reference import Printed
from unlearnable_bench.results.spread import CONFIDENCE, Spread

WITHIN, DEVIATES, INCONSISTENT, UNMEASURED = "within tolerance", "deviates", "paper inconsistent", "not measured"
UNJUDGED, ALIKE = "one seed, no tolerance", "all seeds alike, no tolerance"
REDUCED, BY_OTHERS = "reduced, not judged", "by others, not judged"
ILLEGIBLE = "printed value not legible, not compared"
COPIED = "taken over from another paper, not compared"
INCOMPARABLE = "on images that are JPEGs already, not compared"


def verdict_on(difference: float, tolerance: float | None, seeds: int) -> str:
    """Return the verdict on a number that may be compared: `difference` is ours less the published one."""
    if tolerance is None:
        return UNJUDGED if seeds < 2 else ALIKE
    return WITHIN if abs(difference) <= tolerance else DEVIATES


def doubt(quality: str) -> str:
    """Return the verdict on a published value of this quality, that nothing may rest on; '' where it is beyond doubt."""
    verdicts = {"ok": "", "suspect": INCONSISTENT, "copied": COPIED}
    return verdicts.get(quality, ILLEGIBLE)


def tolerance(published: Printed, spread: Spread, seeds: int) -> float:
    """Return how far one run of the paper may lie from the mean of so many of ours, besides rounding of the printed value."""
    rounding = 0.5 * 10.0 ** -len(published.text.partition(".")[2])
    return spread.apart(seeds) + rounding


def explained(metric: str, spread: Spread) -> str:
    """Say in a sentence what the tolerance of a metric rests on."""
    freedom = "1 degree of freedom" if spread.freedom == 1 else f"{spread.freedom} degrees of freedom"
    return (
        f"{metric.partition('(')[0]}: two runs differ by less than {spread.apart():.2g} in "
        f"{CONFIDENCE:.0%} of cases (deviation {spread.deviation:.2g} over seeds, {freedom})"
    )
