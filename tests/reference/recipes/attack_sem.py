"""Stable noise of Liu et al.: its descent over random views, a uniform draw added to each."""

import numpy as np
from reference import inputs
from reference.recipes import attack_rem
from reference.vectors import Arrays

from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry.attacks.sem import StableErrorMinimizing

REPOSITORY = "liuyixin-louis/Stable-Unlearnable-Example"
FUNCTION = "attacks.StablePGDDefender.perturb"
SEED = 4
TOLERANCE = attack_rem.TOLERANCE
REASON = attack_rem.REASON
PLAN = StableErrorMinimizing(noise_steps=5, samples=4).alternation()


def official(rng: np.random.Generator) -> Arrays:
    import attacks

    clean, net = attack_rem.given(rng)
    return {"noise": attack_rem.update(attacks.StablePGDDefender, PLAN, clean, net).numpy()}


def ours(rng: np.random.Generator) -> Arrays:
    clean, net = attack_rem.given(rng)
    net = attack_rem.centred(net)
    with still(net):
        noise = PLAN.minimize(inputs.run(clean, attack_rem.DRAWN), net, inputs.pixels(clean), clean.labels)
    return {"noise": noise.numpy()}
