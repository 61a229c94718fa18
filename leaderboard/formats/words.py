"""What a score, a label and a table say in every format and on pages."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from unlearnable_bench.leaderboard.formats.escaping import DASH, MINUS, percent
from unlearnable_bench.leaderboard.tables.score import SHARES, Score
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.results.cell import name_in

STATES = {"missing": "not run yet", "stale": "stale"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")
_INNER = re.compile(r"\(([^()]*)\)")  # parameters, the innermost ones where a spec stands among them


# Labels


def brief(labels: Sequence[str]) -> dict[str, str]:
    """Return each label with those parameters alone that tell it from another of the same name.

    >>> list(brief(["jpeg(quality=10)", "at(steps=3,epsilon=1)", "at(steps=3,epsilon=2)"]).values())
    ['jpeg', 'at(epsilon=1)', 'at(epsilon=2)']
    """
    parameters = {label: _parameters(label) for label in labels}
    names = {label: _INNER.sub("", label) for label in labels}
    shared: dict[str, set[str]] = {}  # what all labels of a name have
    for label, name in names.items():
        shared[name] = shared.get(name, parameters[label]) & parameters[label]
    shorter = {label: _without(label, shared[name]) for label, name in names.items()}
    count = Counter(shorter.values())
    return {label: short if count[short] == 1 else label for label, short in shorter.items()}


def _parameters(label: str) -> set[str]:
    return set(itertools.chain.from_iterable(inner.split(",") for inner in _INNER.findall(label)))


def _without(label: str, parameters: Collection[str]) -> str:
    """The label without such parameters."""

    def kept(match: re.Match[str]) -> str:
        others = [parameter for parameter in match[1].split(",") if parameter not in parameters]
        return f"({','.join(others)})"

    return _INNER.sub(kept, label).replace("()", "")


def inert(text: str) -> str:
    """Quote text by an apostrophe that a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


# Accuracies, as fractions


def number(score: Score) -> str:
    """Return `92.4 ± 1.2`, `92.4` where one seed tells no spread, or a dash."""
    return DASH if score.mean is None else _with_spread(percent(score.mean), score.std, percent)


def _with_spread(mean: str, std: float | None, write: Callable[[float], str]) -> str:
    return mean if std is None else f"{mean} ± {write(std)}"


def change(score: Score) -> str:
    """Return the change from clean training with its sign, in points: `−85.3`; '' where it is not known."""  # noqa: RUF002
    return "" if score.drop is None else _signed(f"{-100 * score.drop:+.1f}")


def note(score: Score, seeds: int) -> str:
    """Return in a few words what is unusual about a number, or why there is none. `seeds` is the table's usual n."""
    if score.current:
        return listed(score.oracle, _share(score, seeds), score.trust)
    if score.state == "failed":
        return f"failed: {_clipped(score.reason.partition(':')[0], 40)}"
    if score.state == "not-applicable":
        return f"not applicable: {_clipped(score.reason, 60)}"
    return listed(STATES[score.state], score.trust) if score.runs else score.reason


def _share(score: Score, seeds: int) -> str:
    """How much of a score is done; '' where it has as many seeds as its table."""
    if score.state == "partial":
        return score.share
    return "" if score.n == seeds else f"n = {score.n}"


def listed(*texts: str) -> str:
    """Return the texts that are not empty, behind one another."""
    return "; ".join([text for text in texts if text])


def _clipped(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def spread(table: Table) -> str:
    """Say what the numbers of a table are."""
    if table.seeds == 0:
        return "nothing measured yet"
    return f"mean ± standard deviation over {table.seeds} seeds" if table.seeds > 1 else "one seed, so no spread is known"


# Numbers in the unit of a printed table


def measured_value(score: Score) -> str:
    """Return ours with its spread, or '' where nothing is measured."""
    if score.mean is None:
        return ""
    places = decimal_places(score)
    return _with_spread(f"{score.mean:.{places}f}".replace("-", MINUS), score.std, lambda std: f"{std:.{places}f}")


def difference(score: Score) -> str:
    """Return the difference from the published value with its sign; '' where there is none."""
    return "" if score.difference is None else _signed(f"{score.difference:+.{decimal_places(score)}f}")


def _signed(text: str) -> str:
    return f"±{text[1:]}" if float(text) == 0 else text.replace("-", MINUS)


def decimal_places(score: Score) -> int:
    """How many digits behind the point: as many as the paper prints, else those of a share or three that count."""
    name = name_in(score.request.metric)
    if score.printed and not name.startswith("test_acc"):
        return len(score.printed.text.partition(".")[2])
    if SHARES.intersection(name.split("_")):
        return 1 if score.request.unit > 1 else 3
    size = abs(score.mean or 0.0)
    return max(0, 2 - math.floor(math.log10(size))) if size else 0
