"""Adversarial training: whatever hides inside the ball around an image cannot be relied on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Paper, Protocol
from unlearnable_bench.registry._steps import direction_of_gradient, into_ball, into_box, sign_of_gradient, still


@DEFENSES.register("at")
@dataclass(frozen=True)
class AdversarialTraining(Defense):
    """PGD adversarial training: every batch is replaced by its worst case within `epsilon`.

    The network is in evaluation mode with frozen parameters while its input is attacked; only the adversarial batch is
    trained on. Length and learning rate are the protocol's own for adversarial training. Papers differ in radius, steps and
    start. linf: ours and the stable-error-minimizing paper's start is uniform in the box; `begin=gaussian` (d-vae, EM, APBench)
    has the step as its deviation and is projected before the first step, where those codes first project after it. l2: the
    delusive-poisons code starts `epsilon` away in a random direction (`begin=uniform`; epsilon 0.5, 7 steps of 0.1), APBench
    one step away (`begin=gaussian`), and takes steps too short to reach its radius.
    """

    epsilon: float = 8 / 255  # radius in the units of `norm`, pixels in [0, 1]
    steps: int = 10  # of the adversary, in every training step
    step_size: float = 0.0  # in the units of `norm`; 0: 2 epsilon / steps in linf (1.6/255 at the defaults), 2.5 in l2
    norm: str = "linf"  # linf or l2
    begin: str = "uniform"  # uniform, gaussian or none

    display_name = "Adversarial training"
    label = "AT {epsilon}"
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
        if self.norm not in ("linf", "l2"):
            raise EntryError(f"defense at: unknown norm {self.norm!r}; norms are linf and l2")
        if self.begin not in ("uniform", "gaussian", "none"):
            raise EntryError(f"defense at: unknown begin {self.begin!r}; expected uniform, gaussian or none")

    @property
    def cost(self) -> float:
        """A step on the input needs no gradients of weights: two passes of the three of plain training."""
        return (3 + 2 * self.steps) / 3 if self.epsilon else 1.0

    def configure(self, protocol: Protocol) -> Protocol:
        return protocol.varied(protocol.adversarial)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        if self.epsilon and self.steps:
            attack = self._in_linf if self.norm == "linf" else self._in_l2
            x = attack(model, x, y)
        return F.cross_entropy(model(x), y)

    def _in_linf(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        step = self.step_size or 2 * self.epsilon / self.steps
        z = x
        if self.begin != "none":
            noise = torch.empty_like(x)
            z = x + (noise.uniform_(-self.epsilon, self.epsilon) if self.begin == "uniform" else noise.normal_(0, step))
        z = into_box(z, x, self.epsilon)
        with still(model):
            for _ in range(self.steps):
                z = into_box(z + step * sign_of_gradient(model, z, y), x, self.epsilon)
        return z

    def _in_l2(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        step = self.step_size or 2.5 * self.epsilon / self.steps
        z = x
        if self.begin != "none":
            length = self.epsilon if self.begin == "uniform" else step
            z = x + length * F.normalize(torch.randn_like(x).flatten(1), dim=1).view_as(x)
        z = into_ball(z, x, self.epsilon)
        with still(model):
            for _ in range(self.steps):
                z = into_ball(z + step * direction_of_gradient(model, z, y), x, self.epsilon)
        return z
