"""How accurate a network near the victim can be: a bound that holds for most of the networks around it."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from unlearnable_bench.registry import ANALYSES, Analysis, Context, EntryError
from unlearnable_bench.registry._papers import PUE

SURE = 0.99  # with this probability the bound holds


@ANALYSES.register("certified-learnability")
@dataclass(frozen=True)
class CertifiedLearnability(Analysis):
    """Upper bound on the test accuracy of networks whose weights lie within `distance` of the victim's (Wang et al.).

    The test accuracy of `draws` networks is measured, each the victim with Gaussian noise of `deviation` on all its weights.
    With probability 0.99 the same holds for every network within `distance` of the victim (Euclidean, over all weights): of the
    networks that such noise makes of it, the part `part` is at most `certified_acc` accurate, which is an order statistic of
    the accuracies that were measured. It is 1 where the draws are too few to say.
    Figures: `certified_acc`, `part_acc`, that of the part `part` of the draws themselves, and `mean_acc`.

    From the authors' code. Changed: accuracy is over all test images, where the code takes the mean over batches and leaves the
    last one out; their network is the surrogate that made the poison, ours is the victim of the cell.
    """

    draws: int = 1000  # of the noise on the weights
    deviation: float = 0.25  # of that noise
    part: float = 0.9  # of the networks, for which the bound holds
    distance: float = 0.1  # from the victim, Euclidean over all weights

    display_name = "Certified learnability"
    label = "Certified learnability"
    paper = PUE
    needs: ClassVar[tuple[str, ...]] = ("epochs",)
    small: ClassVar[dict[str, Any]] = {"draws": 4}

    def __post_init__(self) -> None:
        if self.draws < 1 or self.deviation <= 0 or not 0 < self.part < 1 or self.distance < 0:
            found = f"expected draws of 1 or more, deviation above 0, part in (0, 1), distance of 0 or more, found {self}"
            raise EntryError(f"analysis certified-learnability: {found}")

    def measure(self, context: Context) -> dict[str, float]:
        import numpy as np

        accuracies = sorted(self.accuracies(context))
        return {
            "certified_acc": self.bound(accuracies),
            "part_acc": float(np.percentile(accuracies, 100 * self.part)),
            "mean_acc": sum(accuracies) / len(accuracies),
        }

    def accuracies(self, context: Context) -> list[float]:
        """Return the test accuracy of each network around the victim."""
        from unlearnable_bench.registry._crafting import Crafting
        from unlearnable_bench.registry._weight_noise import blurred

        victim, run, found = context.victim, Crafting(context.test, context.job), []
        assert victim is not None, "an analysis that needs epochs has a victim"
        whole = nn.ModuleList(victim.layers)
        for number in range(self.draws):
            with blurred(whole, self.deviation, run.device_generator):
                answers = victim.logits(context.test).argmax(1)
            found.append(float((answers == context.test.labels).float().mean()))
            context.job.progress(number + 1, self.draws)
        return found

    def bound(self, ascending: list[float]) -> float:
        """Return the accuracy that a part of the networks around a victim nearby does not exceed; 1 where nothing is sure."""
        from scipy.stats import binom, norm

        count = len(ascending)
        within = norm.cdf(norm.ppf(self.part) + self.distance / self.deviation)
        for rank in range(math.ceil(within * count), count + 1):
            if binom.cdf(rank - 1, count, within) > SURE:
                return ascending[rank - 1]
        return 1.0
