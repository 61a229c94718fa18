"""Hypocritical perturbations: signed steps towards the true label behind random bilinear shifts and mirrors."""

from types import ModuleType, SimpleNamespace

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._views import shift_flip
from unlearnable_bench.registry.attacks.hypo import Hypocritical

REPOSITORY = "TLMichael/Hypocritical-Perturbation"
FUNCTION = "poison.batch_poison"
SEED = 5
TOLERANCE = 0.0
REASON = "8-bit levels after 20 steps; the random shifts are ours on both sides"
STEPS, DRAWN = 20, 12  # DRAWN: seed of the shifts


def given(rng: np.random.Generator) -> tuple[ImageSet, torch.nn.Module]:
    """Images and the surrogate."""
    return inputs.image_set(rng), inputs.network(rng)


def poison() -> ModuleType:
    """Return the module of either repository of these authors."""
    with inputs.absent("torchvision", "torchvision.utils", "torch.utils.tensorboard", "tqdm", "utils"):
        import poison
    return poison


def levels(clean: ImageSet, images: Tensor) -> np.ndarray:
    """Return what was added, in 8-bit levels."""
    return (255 * (images - inputs.pixels(clean))).round().to(torch.int16).numpy()


def official(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    module, dice = poison(), torch.Generator().manual_seed(DRAWN)
    module.trans = lambda x: shift_flip(x, dice)(x)
    args = SimpleNamespace(poison_type="Hyp", poison_aug=True, poison_steps=STEPS)
    found = {}
    for constraint, radius in (("Linf", 8 / 255), ("L2", 0.5)):
        args.constraint, args.eps, args.step_size = constraint, radius, radius / 10
        found[constraint.lower()] = levels(clean, module.batch_poison(net, inputs.pixels(clean), clean.labels, args))
    return found


def ours(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    run = inputs.run(clean, DRAWN)
    entries = {"linf": Hypocritical(steps=STEPS), "l2": Hypocritical(steps=STEPS, norm="l2", epsilon=0.5)}
    return {name: entry.poison(run, net).numpy() for name, entry in entries.items()}
