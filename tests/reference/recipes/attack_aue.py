"""Augmented unlearnable examples: two epochs of the surrogate behind random views, each with a pass over the noise."""

import time
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from reference import inputs
from reference.recipes.attack_em import weights
from reference.vectors import Arrays
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._persistent_noise import persistent
from unlearnable_bench.registry._views import contrastive_look
from unlearnable_bench.registry.attacks.aue import AugmentedErrorMinimizing

REPOSITORY = "EhanW/AUE-AAP"
FUNCTION = "aue.train_epoch, aue.perturb, aue.error_minimizing"
SEED = 0
TOLERANCE = 1e-5
REASON = "views and orders are our draws on both sides; our loss is float32 in training, our rate falls to 0, not to 1e-6"
EPOCHS, STEPS, STRENGTH, DRAWN = 2, 5, 0.6, 11


def given(rng: np.random.Generator) -> tuple[ImageSet, torch.nn.Module]:
    """Images, and the surrogate."""
    return inputs.image_set(rng, 8), inputs.network(rng)


class Loader(list[Tensor]):
    """One batch of all images: in the drawn order for the surrogate, then in that of the set for the noise, and so on."""

    def __init__(self, clean: ImageSet) -> None:
        order, size = torch.randperm(len(clean), generator=inputs.run(clean).job.generator), len(clean)
        x = inputs.pixels(clean)
        self.turns = [[(x[rows], clean.labels[rows], rows)] for rows in (order, torch.arange(size))]
        super().__init__(x[:1])  # one batch long

    def __iter__(self):
        self.turns.reverse()
        return iter(self.turns[1])


@inputs.double()
def official(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    dice, look = torch.Generator().manual_seed(DRAWN), contrastive_look(STRENGTH)
    args = SimpleNamespace(eps=8, perturb_iters=STEPS, class_wise=False, num_updates=391, num_perturbs=391, epochs=EPOCHS)
    known = {"torch": torch, "F": F, "args": args, "time": time, "AverageMeter": inputs.part_of("utils", "AverageMeter")}
    known["error_minimizing"] = inputs.part_of("aue", "error_minimizing", **known)
    known["perturb"] = inputs.part_of("aue", "perturb", **known)
    train_epoch = inputs.part_of("aue", "train_epoch", **known)
    falling = inputs.part_of("utils", "cosine_annealing", np=np)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: falling(step, EPOCHS, 1, 1e-6 / 0.1))
    noise, loader = torch.zeros(clean.images.shape).double(), Loader(clean)
    with patch.object(torch.Tensor, "cuda", lambda tensor: tensor):
        for epoch in range(EPOCHS):
            seen = lambda x: look(x, dice)(x)  # noqa: E731
            noise = train_epoch(loader, net, noise, optimizer, scheduler, epoch, MagicMock(), seen)
    return {"noise": noise.numpy(), "weights": weights(net)}


@inputs.double()
def ours(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    attack = AugmentedErrorMinimizing(strength=STRENGTH, epochs=EPOCHS, batch=len(clean), noise_steps=STEPS)
    noise = persistent(inputs.run(clean, DRAWN), net, attack.rounds(len(clean)))
    return {"noise": noise.numpy(), "weights": weights(net)}
