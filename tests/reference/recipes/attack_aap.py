"""Augmented adversarial poisoning: signed steps towards the next label behind random views, and the surrogate's rates."""

from types import SimpleNamespace

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch.nn import functional as F

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._views import contrastive_look
from unlearnable_bench.registry.attacks.aap import AugmentedAdversarialPoisoning

REPOSITORY = "EhanW/AUE-AAP"
FUNCTION = "aap.error_opt, utils.cosine_annealing"
SEED = 0
TOLERANCE = 1e-5
REASON = "8-bit levels after 20 steps; views are our draws on both sides; our rate falls to 0, not to 1e-6"
STEPS, STRENGTH, DRAWN, EPOCHS = 20, 0.4, 12, 40


def given(rng: np.random.Generator) -> tuple[ImageSet, torch.nn.Module]:
    """Images, and a trained surrogate."""
    return inputs.image_set(rng), inputs.network(rng)


@inputs.double()
def official(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    dice, look = torch.Generator().manual_seed(DRAWN), contrastive_look(STRENGTH)
    args = SimpleNamespace(eps=8, perturb_iters=STEPS, untargeted=False, label_translation=1, num_classes=inputs.CLASSES)
    move = inputs.part_of("aap", "error_opt", torch=torch, F=F, args=args)
    rate = inputs.part_of("utils", "cosine_annealing", np=np)
    before, rows = torch.zeros(clean.images.shape).double(), torch.arange(len(clean))
    noise = move(net, inputs.pixels(clean), clean.labels, rows, before, lambda x: look(x, dice)(x))
    rates = [0.5 * rate(epoch, EPOCHS, 1, 1e-6 / 0.5, warmup_steps=10) for epoch in range(EPOCHS)]
    return {"noise": (255 * noise).round().to(torch.int16).numpy(), "rates": np.array(rates)}


@inputs.double()
def ours(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    attack = AugmentedAdversarialPoisoning(strength=STRENGTH, steps=STEPS, epochs=EPOCHS)
    levels = attack.poison(inputs.run(clean, DRAWN), net)
    rates = [attack.recipe.rate(epoch, EPOCHS, 1) for epoch in range(EPOCHS)]
    return {"noise": levels.numpy(), "rates": np.array(rates)}
