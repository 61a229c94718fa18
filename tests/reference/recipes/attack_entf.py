"""Entangled features: signed steps that push features from their centroid, and that pull them to the nearest other one."""

from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._views import shift_flip
from unlearnable_bench.registry.attacks.entf import EntangledFeatures

REPOSITORY = "WenRuiUSTC/EntF"
FUNCTION = "village.shop.ForgemasterPush._define_objective, ForgemasterPull._define_objective, _Forgemaster._batched_step"
SEED = 3
TOLERANCE = 0.0
REASON = "8-bit levels after 20 steps; start and shifts are our draws on both sides"
STEPS, DRAWN, EPSILON = 20, 13, 8 / 255
MEAN, STD = torch.zeros(1, 3, 1, 1).double(), torch.ones(1, 3, 1, 1).double()


def given(rng: np.random.Generator) -> tuple[ImageSet, torch.nn.Module, torch.Tensor]:
    """Images, a surrogate, and centroids of its features."""
    clean, net = inputs.image_set(rng), inputs.network(rng)
    spread = 0.2 * torch.from_numpy(rng.normal(size=(inputs.CLASSES, 64)))
    with torch.no_grad():
        return clean, net, net.features(inputs.pixels(clean)) + spread


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("village.materials"):
        from village.shop.forgemaster_pull import ForgemasterPull
        from village.shop.forgemaster_push import ForgemasterPush

    clean, net, centres = given(rng)
    args = SimpleNamespace(eps=255 * EPSILON, tau=0.05, attackoptim="PGD", paugment=True, recipe="push", ensemble=1)
    args.local_rank, args.clean_grad, args.centroid_path, args.dataset, args.robust_eps = None, False, "", "", 4
    found = {}
    for name, kind in (("push", ForgemasterPush), ("pull", ForgemasterPull)):
        dice, x = torch.Generator().manual_seed(DRAWN), inputs.pixels(clean)
        start = (EPSILON * torch.empty_like(x).normal_(generator=dice)).clamp(-EPSILON, EPSILON)
        furnace = SimpleNamespace(dm=MEAN, ds=STD, poison_lookup={number: number for number in range(len(clean))})
        furnace.augment = lambda seen, randgen, dice=dice: shift_flip(seen, dice)(seen)
        smith = kind(args, {"device": torch.device("cpu"), "dtype": torch.float64})
        seen = SimpleNamespace(eval=lambda: None)
        smith._initialize_forge(seen, furnace)
        delta = start.clone()
        with patch.object(torch, "load", lambda *_, **__: centres):
            for _ in range(STEPS):
                example = (x.clone(), clean.labels, torch.arange(len(clean)))
                smith._batched_step(delta, None, example, lambda z: (net.features(z), net(z)), furnace)
        found[name] = (255 * delta).round().to(torch.int16).numpy()
    return found


def ours(rng: np.random.Generator) -> Arrays:
    clean, net, centres = given(rng)
    attacks = {name: EntangledFeatures(variant=name, steps=STEPS) for name in ("push", "pull")}
    return {name: attack.poison(inputs.run(clean, DRAWN), net, centres).numpy() for name, attack in attacks.items()}
