"""The tolerances of scores, from the spread over seeds of all scores with the same metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from unlearnable_bench.leaderboard.tables.groups import group_by, known_items
from unlearnable_bench.leaderboard.tables.score import Score, less
from unlearnable_bench.leaderboard.tables.verdict import tolerance
from unlearnable_bench.results.spread import Spread

NOTHING = 1e-9  # a deviation over seeds that is none: of a deterministic analysis of one poison


def pooled_spread(scores: Iterable[Score]) -> dict[str, Spread]:
    """Pool the spread over seeds of every metric, over the scores that were measured here as their table asks.

    A metric whose seeds change nothing has no spread: it tells no tolerance.
    """
    full_size = [score for score in scores if score.is_full_size]
    by_metric = group_by(full_size, lambda score: score.request.metric)
    pooled = {metric: Spread.of([score.accuracies for score in alike]) for metric, alike in by_metric.items()}
    return {metric: spread for metric, spread in known_items(pooled).items() if spread.deviation > NOTHING}


def with_tolerance(score: Score, spread: Mapping[str, Spread]) -> Score:
    """Return a score with the tolerance that the spread of its metric gives, if it has a number beside a published one."""
    of_metric = spread.get(score.request.metric)
    is_compared = less(score.mean, score.published) is not None
    if of_metric is None or score.printed is None or not is_compared:
        return score
    return replace(score, tolerance=tolerance(score.printed, of_metric, score.n))
