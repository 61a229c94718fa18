"""Delusive noise P2: steps towards the true label on a surrogate that was trained cleanly, without shifts."""

from types import SimpleNamespace

import numpy as np
from reference import inputs
from reference.recipes.attack_hypo import STEPS, given, levels, poison
from reference.vectors import Arrays

from unlearnable_bench.registry.attacks.hypo import Hypocritical

REPOSITORY = "TLMichael/Delusive-Adversary"
FUNCTION = "poison.batch_poison"
SEED = 6
TOLERANCE = 0.0
REASON = "8-bit levels after 20 steps, in linf with their step of epsilon / 5"


def official(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    found = {}
    for constraint, radius in (("Linf", 8 / 255), ("L2", 0.5)):
        args = SimpleNamespace(constraint=constraint, eps=radius, step_size=radius / 5, num_steps=STEPS)
        found[constraint.lower()] = levels(clean, poison().batch_poison(net, inputs.pixels(clean), clean.labels, args, "hyp"))
    return found


def ours(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    entries = {
        "linf": Hypocritical(variant="p2", steps=STEPS, step_size=8 / 255 / 5),
        "l2": Hypocritical(variant="p2", norm="l2", epsilon=0.5, steps=STEPS),
    }
    return {name: entry.poison(inputs.run(clean), net).numpy() for name, entry in entries.items()}
