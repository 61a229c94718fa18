"""Friendly noise: the largest noise that changes no prediction drowns small perturbations; random noise does the rest."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Hooks, Paper, TrainingRun

TOGETHER = 128  # images whose noise is found together: the published step size belongs to this number


@DEFENSES.register("friendly-noise")
@dataclass(frozen=True)
class FriendlyNoise(Defense):
    """After an eighth of training, add to every image the largest noise that leaves the network's prediction as it is.

    Found by 30 steps on the divergence of predictions minus the size of the noise, once, without augmentation, then kept; to
    every batch comes fresh random noise, from the first epoch on, not clipped. Changed: the beginning is a part of training,
    by default that of the published 5 of 40 epochs; images with their noise are rounded to 8 bits where the set is; the
    random noise follows the protocol's crop and flip, where the code has it before. Made for targeted poisons.
    """

    epsilon: float = 16 / 255  # linf radius of the friendly noise, pixel units
    random: float = 8 / 255  # the random noise is this or minus this, pixel units
    begin: float = 0.125  # part of training after which the friendly noise is found, 0..1
    steps: int = 30  # of descent, in which the friendly noise is found
    step_size: float = 100.0  # learning rate; the code makes a schedule of it that it never steps
    size_weight: float = 1.0  # of the noise's mean square against the divergence

    display_name = "Friendly noise"
    label = "Friendly noise"
    version: ClassVar[int] = 2  # weighs the clamped noise, steps of one size
    paper = Paper(
        "Friendly Noise against Adversarial Noise: A Powerful Defense against Data Poisoning Attacks",
        venue="NeurIPS 2022",
        url="https://arxiv.org/abs/2208.10224",
        authors="Tian Yu Liu, Yu Yang, Baharan Mirzasoleiman",
        year=2022,
    )

    def __post_init__(self) -> None:
        if min(self.epsilon, self.random, self.steps, self.step_size) < 0 or not 0 <= self.begin <= 1:
            raise EntryError(f"defense friendly-noise: expected radii and steps of 0 or more, begin 0..1, found {self}")

    @property
    def cost(self) -> float:
        return 2.0  # a step is two passes of three, over the set once: 20 of the published 40 epochs, and what looks at them

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        signs = torch.randint(2, x.shape, device=x.device) * 2 - 1
        return x + self.random * signs, y

    def start(self, run: TrainingRun) -> Hooks:
        return _Befriending(self, run)

    def noise(self, model: Any, x: Tensor, start: Tensor) -> Tensor:
        """Return the friendly noise of images x, searched from `start`: within epsilon, pixel units."""
        from unlearnable_bench.registry._steps import still

        noise = start.clone().requires_grad_(True)
        optimizer = torch.optim.SGD([noise], self.step_size, momentum=0.9, nesterov=True)
        with still(model):
            with torch.no_grad():
                wanted = model(x).float().softmax(1)
            for _ in range(self.steps):
                within = noise.clamp(-self.epsilon, self.epsilon)
                moved = (x + within).clamp(0, 1)
                divergence = F.kl_div(model(moved).float().log_softmax(1), wanted, reduction="batchmean")
                loss = divergence - self.size_weight * within.square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return noise.detach().clamp_(-self.epsilon, self.epsilon)


class _Befriending(Hooks):
    def __init__(self, defense: FriendlyNoise, run: TrainingRun) -> None:
        self.defense, self.run = defense, run
        self.when = max(1, round(defense.begin * math.ceil(run.total / run.per_epoch)))
        self.images: Tensor | None = None  # with their noise, once it is found

    def after_epoch(self, epoch: int) -> None:
        if epoch != self.when:
            return
        run, train = self.run, self.run.train
        images = torch.empty_like(train.images, memory_format=torch.contiguous_format)
        for where in train.batches(TOGETHER):
            x = train.pixels(where, run.device)
            start = torch.empty(x.shape).uniform_(-self.defense.random, self.defense.random, generator=run.generator)
            x = (x + self.defense.noise(run.model, x, start.to(x.device))).clamp_(0, 1)
            images[where] = (x * 255).round_().byte().cpu() if images.dtype == torch.uint8 else x.cpu()
        self.images = images
        run.exchange(images)

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["images"] is not None:
            self.images = state["images"].cpu()
            self.run.exchange(self.images)
