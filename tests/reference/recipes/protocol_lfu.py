"""Learning rates of learn-from-unlearnable's classifiers, plain and in the stairs of its adversarial training."""

from types import SimpleNamespace

import numpy as np
import torch
from reference import inputs, rates
from reference.vectors import Arrays

REPOSITORY = "psandovalsegura/learn-from-unlearnable"
FUNCTION = "dfr_step_1.lr_scheduler"
SEED = 0
TOLERANCE = 1e-12
REASON = "schedulers of torch as the script makes them; the sums of rounded cosines differ from the cosine itself"


def official(rng: np.random.Generator) -> Arrays:
    def scheduled(start: str, epochs: int) -> np.ndarray:
        args = SimpleNamespace(epochs=epochs)
        return rates.of_epochs(
            0.1, epochs, lambda optim: inputs.expression_of("dfr_step_1", start, torch=torch, optim=optim, args=args)
        )

    kind = "torch.optim.lr_scheduler"
    return {"plain": scheduled(f"{kind}.CosineAnnealingLR(", 60), "adversarial": scheduled(f"{kind}.MultiStepLR(", 100)}


def ours(rng: np.random.Generator) -> Arrays:
    return {"plain": rates.ours("lfu"), "adversarial": rates.ours("lfu", adversarial=True)}
