"""Error-minimizing noise as the robust-error-minimizing code makes it, which other papers ran: from a random start."""

from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.recipes.attack_rem import DRAWN, centred, given
from reference.vectors import Arrays

from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry.attacks.em import ErrorMinimizing

REPOSITORY = "fshp971/robust-unlearnable-examples"
FUNCTION = "attacks.PGDAttacker.perturb"
SEED = 17
TOLERANCE = 1e-6
REASON = "float64 on both sides, but for our loss, which is float32; the start is ours on both sides"
PLAN = ErrorMinimizing(variant="rem").alternation()


def official(rng: np.random.Generator) -> Arrays:
    import attacks

    clean, net = given(rng)
    attacker = attacks.PGDAttacker(255 * PLAN.epsilon, PLAN.noise_steps, 255 * PLAN.step_size, True, "l-infty", False)
    x = inputs.pixels(clean) - 0.5
    drawn = torch.empty_like(x).uniform_(0, 1, generator=torch.Generator().manual_seed(DRAWN))
    with patch.object(torch, "rand_like", lambda like: drawn):
        return {"noise": (attacker.perturb(net, torch.nn.CrossEntropyLoss(), x, clean.labels) - x).numpy()}


def ours(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    net = centred(net)
    with still(net):
        return {"noise": PLAN.minimize(inputs.run(clean, DRAWN), net, inputs.pixels(clean), clean.labels).numpy()}
