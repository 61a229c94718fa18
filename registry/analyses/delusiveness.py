"""How far a poison misleads a victim, and how much of that a small perturbation more takes away."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from unlearnable_bench.registry import ANALYSES, Analysis, Context, EntryError, ImageSet
from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._papers import STABLE_UNLEARNABLE


@ANALYSES.register("delusiveness")
@dataclass(frozen=True)
class Delusiveness(Analysis):
    """The loss of a poison's victim on clean test images, and the stability of that under a perturbation added to the poison.

    Definitions 4 and 5 of the paper, which prints no numbers. `delusiveness` is the mean cross-entropy of the cell's victim on
    the test set. Stability is its minimum over all perturbations of radius rho_a that are added to the training images, a new
    victim for each; here over three: none, uniform noise (`delusiveness(random)`), and signed steps that raise the loss of the
    first victim on its training images (`delusiveness(pgd)`), which hide what it learned. So `stability` is an upper bound of
    the paper's. Figures besides: the accuracies of the new victims, `test_acc(random)` and `test_acc(pgd)`. What is
    added is rounded to 8 bits where the training images are.
    """

    epsilon: float = 4 / 255  # rho_a: linf radius of what is added, pixel units
    steps: int = 10  # of a fifth of it each

    display_name = "Delusiveness and its stability"
    label = "Delusiveness"
    paper = STABLE_UNLEARNABLE
    needs: ClassVar[tuple[str, ...]] = ("poison", "purified", "epochs")
    small: ClassVar[dict[str, Any]] = {"steps": 2}

    def __post_init__(self) -> None:
        if self.epsilon <= 0 or self.steps < 1:
            raise EntryError(f"analysis delusiveness: epsilon={self.epsilon}, steps={self.steps}; both have to be above 0")

    def measure(self, context: Context) -> dict[str, float]:
        assert context.train is not None, "an analysis that needs epochs can train victims"
        assert context.victim is not None, "an analysis that needs epochs has a victim"
        logits = context.victim.logits(context.test)
        figures = {"delusiveness": float(F.cross_entropy(logits, context.test.labels))}
        for kind in ("random", "pgd"):
            adversary = Adversary("uniform" if kind == "random" else kind, self.epsilon, self.steps)
            accuracy, loss = context.train(added(context, adversary))
            figures |= {f"delusiveness({kind})": loss, f"test_acc({kind})": accuracy}
        return figures | {"stability": min(value for name, value in figures.items() if name.startswith("delusiveness"))}


def added(context: Context, adversary: Adversary) -> ImageSet:
    """Return what the cell's victim trained on, moved by an adversary of that victim."""
    train, device = context.purified, context.job.device
    assert context.victim is not None, "an analysis that needs epochs has a victim"
    generator = torch.Generator(device).manual_seed(int(torch.randint(2**62, (1,), generator=context.job.generator)))
    moved = torch.empty_like(train.images)
    with context.victim.still() as net:
        for where in train.batches(250):
            x = adversary(net, train.pixels(where, device), train.labels[where].to(device), generator)
            moved[where] = (x.mul(255).round() if moved.dtype == torch.uint8 else x).to(moved.dtype).cpu()
    return replace(train, images=moved)
