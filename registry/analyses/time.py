"""What defending and crafting cost in time."""

from dataclasses import dataclass
from typing import ClassVar

from unlearnable_bench.registry import ANALYSES, Analysis, Context
from unlearnable_bench.registry._papers import D_VAE, STABLE_UNLEARNABLE


@ANALYSES.register("time")
@dataclass(frozen=True)
class DefenseTime(Analysis):
    """Wall-clock time of purifying and of training the victim; crafting is left out.

    Table 16 of D-VAE. Figures, each in `seconds`, `minutes` and `hours`: the sum, and in parentheses `purify` and `train`,
    with `fit` and `inference` where the purifier notes the seconds that it trains (`fit_seconds`). Only figures of one device
    and one number of processes at a time compare, best as a ratio to those of `none`. A set that was purified before keeps
    the time that it took then.
    """

    display_name = "Training time"
    label = "Time"
    paper = D_VAE
    needs: ClassVar[tuple[str, ...]] = ("purify-log", "epochs")

    def measure(self, context: Context) -> dict[str, float]:
        purify = context.purify_log.get("seconds", 0.0)
        figures = in_units("purify", purify) | in_units("train", context.seconds) | in_units("", purify + context.seconds)
        if "fit_seconds" in context.purify_log:
            fit = context.purify_log["fit_seconds"]
            figures |= in_units("fit", fit) | in_units("inference", max(0.0, purify - fit))
        return figures


@ANALYSES.register("craft-time")
@dataclass(frozen=True)
class CraftTime(Analysis):
    """Wall-clock time of crafting the poison, the surrogate's training included, a chain's earlier parts not.

    Tables 1 and 15 of SEM. Figures: `seconds`, `minutes` and `hours`. A poison that was crafted before keeps the time that it
    took then.
    """

    display_name = "Crafting time"
    label = "Crafting time"
    paper = STABLE_UNLEARNABLE
    needs: ClassVar[tuple[str, ...]] = ("craft-log",)

    def measure(self, context: Context) -> dict[str, float]:
        return in_units("", context.craft_log.get("seconds", 0.0))


def in_units(stage: str, seconds: float) -> dict[str, float]:
    """Return a time in every unit that tables print."""
    units = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
    return {f"{unit}({stage})" if stage else unit: seconds / length for unit, length in units.items()}
