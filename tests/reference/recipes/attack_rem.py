"""Robust noise of Fu et al.: its descent over random views with an adversary in each, and the adversary of the surrogate."""

from collections.abc import Callable, Iterator
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._batch_noise import Alternation
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._surrogates import Normalised
from unlearnable_bench.registry._views import crop_flip
from unlearnable_bench.registry.attacks.rem import RobustErrorMinimizing

REPOSITORY = "fshp971/robust-unlearnable-examples"
FUNCTION = "attacks.RobustMinimaxPGDDefender.perturb, attacks.PGDAttacker.perturb"
SEED = 3
TOLERANCE = 1e-6
REASON = "float64 on both sides, but for our loss, which is float32; views and starts are our draws, replayed"
PLAN = RobustErrorMinimizing(noise_steps=4, samples=3, adversary_steps=4).alternation()
DRAWN = 11  # seed of the views and starts


def given(rng: np.random.Generator) -> tuple[ImageSet, torch.nn.Module]:
    """Images, and the surrogate, which sees pixels less 0.5."""
    clean = inputs.image_set(rng, 2)
    return clean, inputs.network(rng)


class Replayed:
    """Our random draws of a noise update in the order in which the official code asks for them, view by view.

    We draw the views, and the starts of the adversary, of all samples of a step at once; they, sample by sample.
    """

    def __init__(self, plan: Alternation, x: Tensor) -> None:
        self.plan, self.count = plan, len(x)
        self.device_generator = torch.Generator().manual_seed(DRAWN)
        self.start = torch.empty_like(x).uniform_(-plan.epsilon, plan.epsilon, generator=self.device_generator)
        self.steps = self._steps(x.repeat(plan.samples, 1, 1, 1))

    def _steps(self, stacked: Tensor) -> Iterator[tuple[Callable[[Tensor], Tensor], Tensor]]:
        while True:
            view = crop_flip(stacked, self.device_generator)
            drawn = torch.empty_like(stacked).uniform_(0, 1, generator=self.device_generator)
            for part in range(self.plan.samples):
                yield self._part(view, part), drawn[self._rows(part)]

    def _rows(self, part: int) -> slice:
        return slice(part * self.count, (part + 1) * self.count)

    def _part(self, view: Callable[[Tensor], Tensor], part: int) -> Callable[[Tensor], Tensor]:
        return lambda x: view(x.repeat(self.plan.samples, 1, 1, 1))[self._rows(part)]

    def look(self, x: Tensor) -> Tensor:
        """What their random transform does: x in [0, 255], seen as [-0.5, 0.5]."""
        view, self.drawn = next(self.steps)
        return view(x / 255) - 0.5


def update(defender: type, plan: Alternation, clean: ImageSet, net: torch.nn.Module) -> Tensor:
    """Return the noise that the official defender makes of our draws, in pixel units."""
    x = inputs.pixels(clean)
    replayed = Replayed(plan, x)
    adversary = plan.noise_adversary
    made = defender(
        samp_num=plan.samples,
        trans=replayed.look,
        radius=255 * plan.epsilon,
        steps=plan.noise_steps,
        step_size=255 * plan.step_size,
        random_start=True,
        atk_radius=255 * adversary.radius,
        atk_steps=adversary.steps,
        atk_step_size=51 * adversary.radius,
        atk_random_start=True,
    )
    draw = torch.Tensor.uniform_

    def uniform(target: Tensor, low: float, high: float, generator: torch.Generator | None = None) -> Tensor:
        return target.copy_(replayed.start) if generator is None else draw(target, low, high, generator=generator)

    with (
        patch.object(torch.Tensor, "uniform_", uniform),
        patch.object(torch, "rand_like", lambda like: replayed.drawn),
    ):
        return made.perturb(net, torch.nn.CrossEntropyLoss(), 255 * x, clean.labels)


def centred(net: torch.nn.Module) -> torch.nn.Module:
    """The network as our surrogates see pixels."""
    return Normalised(net, torch.full((3,), 0.5).double(), torch.ones(3).double()).eval()


def official(rng: np.random.Generator) -> Arrays:
    import attacks

    clean, net = given(rng)
    noise = update(attacks.RobustMinimaxPGDDefender, PLAN, clean, net)
    worst = PLAN.weight_adversary
    attacker = attacks.PGDAttacker(255 * worst.radius, worst.steps, 51 * worst.radius, True, "l-infty")
    x = inputs.pixels(clean) - 0.5
    drawn = torch.empty_like(x).uniform_(0, 1, generator=torch.Generator().manual_seed(DRAWN))
    with patch.object(torch, "rand_like", lambda like: drawn):
        moved = attacker.perturb(net, torch.nn.CrossEntropyLoss(), x, clean.labels) - x
    return {"noise": noise.numpy(), "adversary": moved.numpy()}


def ours(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    run, net, x = inputs.run(clean, DRAWN), centred(net), inputs.pixels(clean)
    with still(net):
        noise = PLAN.minimize(run, net, x, clean.labels)
        moved = PLAN.weight_adversary(net, x, clean.labels, torch.Generator().manual_seed(DRAWN)) - x
    return {"noise": noise.numpy(), "adversary": moved.numpy()}
