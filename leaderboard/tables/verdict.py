"""How a number agrees with the published one beside it, and the tolerance that follows from seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from leaderboard.tables.groups import group_by
from results.reference import Printed
from results.spread import CONFIDENCE, Spread

if TYPE_CHECKING:
    from leaderboard.tables.score import Score

WITHIN, DEVIATES, INCONSISTENT, UNMEASURED = "within tolerance", "deviates", "paper inconsistent", "not measured"
UNJUDGED, ALIKE = "one seed, no tolerance", "all seeds alike, no tolerance"
REDUCED, BY_OTHERS = "reduced, not judged", "by others, not judged"
ILLEGIBLE = "printed value not legible, not compared"
INCOMPARABLE = "on images that are JPEGs already, not compared"
NOTHING = 1e-9  # a deviation over seeds that is none: of a deterministic analysis of one poison


def judged(difference: float, tolerance: float | None, seeds: int) -> str:
    """Return the verdict on a number that may be compared: `difference` is ours less the published one."""
    if tolerance is None:
        return UNJUDGED if seeds < 2 else ALIKE
    return WITHIN if abs(difference) <= tolerance else DEVIATES


def doubt(published: Printed) -> str:
    """Return the verdict on a published value that nothing may rest on; '' where it is beyond doubt."""
    verdicts = {"ok": "", "suspect": INCONSISTENT}
    return verdicts.get(published.quality, ILLEGIBLE)


def pooled_spread(scores: Iterable[Score]) -> dict[str, Spread]:
    """Pool the spread over seeds of every metric, over the scores that were measured here as their table asks.

    A metric whose seeds change nothing has no spread: it tells no tolerance.
    """
    full_size = [score for score in scores if score.is_full_size]
    by_metric = group_by(full_size, lambda score: score.place.metric)
    spreads = {metric: Spread.of([score.accuracies for score in alike]) for metric, alike in by_metric.items()}
    return {metric: spread for metric, spread in spreads.items() if spread and spread.deviation > NOTHING}


def with_tolerance(score: Score, spread: Mapping[str, Spread]) -> Score:
    """Return a score with the tolerance that the spread of its metric gives, if it has a number beside a published one."""
    metric = score.place.metric
    if score.mean is None or score.printed is None or score.published is None or metric not in spread:
        return score
    return replace(score, tolerance=tolerance(score.printed, spread[metric], score.n))


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
