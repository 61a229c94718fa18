"""Targeted adversarial poisoning: signed steps towards the next label from a normal start, behind random shifts."""

from types import SimpleNamespace

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._surrogates import Normalised
from unlearnable_bench.registry._views import shift_flip
from unlearnable_bench.registry.attacks.tap import TargetedAdversarialPoisoning

REPOSITORY = "lhfowl/adversarial_poisons"
FUNCTION = "village.shop.ForgemasterTargeted._batched_step"
SEED = 7
TOLERANCE = 0.0
REASON = "8-bit levels after 20 steps from one start; start and shifts are our draws on both sides"
STEPS, DRAWN, EPSILON = 20, 13, 8 / 255
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]).double(), torch.tensor([0.2, 0.25, 0.3]).double()


def given(rng: np.random.Generator) -> tuple[ImageSet, torch.nn.Module]:
    """Images, and a surrogate of pixels of mean 0 and deviation 1."""
    return inputs.image_set(rng), inputs.network(rng)


class Client:
    """Stands in for theirs, which runs a closure on one network and hands gradients on."""

    def __init__(self, net: torch.nn.Module) -> None:
        self.net = net

    def compute(self, closure):
        return closure(self.net, torch.nn.CrossEntropyLoss(), None)

    def sync_gradients(self, delta: Tensor) -> Tensor:
        return delta


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("village.clients", "village.materials"):
        from village.shop.forgemaster_targeted import ForgemasterTargeted

    clean, net = given(rng)
    mean, std = MEAN.view(1, 3, 1, 1), STD.view(1, 3, 1, 1)
    x = inputs.pixels(clean)
    dice = torch.Generator().manual_seed(DRAWN)
    start = (EPSILON * torch.empty_like(x).normal_(generator=dice)).clamp(-EPSILON, EPSILON)
    args = SimpleNamespace(eps=255 * EPSILON, tau=0.05, attackoptim="PGD", paugment=True, recipe="targeted")
    args.ensemble, args.local_rank, args.clean_grad = 1, None, False
    furnace = SimpleNamespace(dm=mean, ds=std, poison_lookup={number: number for number in range(len(clean))})
    furnace.augment = lambda seen, randgen: shift_flip(seen, dice)(seen)
    smith, client = ForgemasterTargeted(args, {"device": torch.device("cpu"), "dtype": torch.float64}), Client(net)
    smith._initialize_forge(SimpleNamespace(eval=lambda dropout: None), furnace)
    delta = start / std
    for _ in range(STEPS):
        example = ((x - mean) / std, clean.labels, torch.arange(len(clean)))
        smith._batched_step(delta, None, example, client, furnace)
    return {"noise": (255 * std * delta).round().to(torch.int16).numpy()}


def ours(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    whole = Normalised(net, MEAN, STD).eval()
    return {"noise": TargetedAdversarialPoisoning(steps=STEPS, restarts=1).poison(inputs.run(clean, DRAWN), whole).numpy()}
