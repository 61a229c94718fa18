"""Adversarial training: whatever hides inside the ball around an image cannot be relied on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from registry import DEFENSES, Defense, EntryError, Paper, Protocol
from registry._steps import into_box, sign_of_gradient, still


@DEFENSES.register("at")
@dataclass(frozen=True)
class AdversarialTraining(Defense):
    """PGD adversarial training in linf: every batch is replaced by its worst case within `epsilon`.

    Uniform random start in the box; the network is in evaluation mode with frozen parameters while its input is attacked;
    only the adversarial batch is trained on. Length and learning rate are the protocol's own for adversarial training.
    """

    epsilon: float = 8 / 255  # linf radius, pixel units
    steps: int = 10
    step_size: float = 0.0  # pixel units; 0: 2 epsilon / steps, which is 1.6/255 at the defaults

    paper = Paper(
        "Towards Deep Learning Models Resistant to Adversarial Attacks",
        venue="ICLR 2018",
        url="https://arxiv.org/abs/1706.06083",
        authors="Aleksander Madry, Aleksandar Makelov, Ludwig Schmidt, Dimitris Tsipras, Adrian Vladu",
        year=2018,
    )

    def __post_init__(self) -> None:
        if self.epsilon < 0 or self.steps < 0 or self.step_size < 0:
            raise EntryError(f"defense at: epsilon, steps and step_size cannot be negative, found {self}")

    @property
    def cost(self) -> float:
        """A step on the input needs no gradients of weights: two passes of the three of plain training."""
        return (3 + 2 * self.steps) / 3 if self.epsilon else 1.0

    def configure(self, protocol: Protocol) -> Protocol:
        return protocol.varied(protocol.adversarial)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        step = self.step_size or 2 * self.epsilon / max(1, self.steps)
        if self.epsilon and self.steps:
            z = into_box(x + torch.empty_like(x).uniform_(-self.epsilon, self.epsilon), x, self.epsilon)
            with still(model):
                for _ in range(self.steps):
                    z = into_box(z + step * sign_of_gradient(model, z, y), x, self.epsilon)
            x = z
        return F.cross_entropy(model(x), y)
