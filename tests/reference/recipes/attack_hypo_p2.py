"""Delusive noise P2: steps towards the true label on a surrogate that was trained cleanly, without shifts."""

from types import SimpleNamespace

import numpy as np
from reference import inputs
from reference.recipes.attack_hypo import STEPS, given, levels, poison
from reference.vectors import Arrays

from registry.attacks.hypo import Hypocritical

REPOSITORY = "TLMichael/Delusive-Adversary"
FUNCTION = "poison.batch_poison"
SEED = 6
TOLERANCE = 0.0
REASON = "8-bit levels after 20 steps"


def official(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    args = SimpleNamespace(constraint="L2", eps=0.5, step_size=0.5 / 5, num_steps=STEPS)
    return {"l2": levels(clean, poison().batch_poison(net, inputs.pixels(clean), clean.labels, args, "hyp"))}


def ours(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    entry = Hypocritical(variant="p2", norm="l2", epsilon=0.5, steps=STEPS)
    return {"l2": entry.poison(inputs.run(clean), net).numpy()}
