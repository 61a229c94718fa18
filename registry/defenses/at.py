"""Adversarial training: whatever hides inside the ball around an image cannot be relied on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Paper, Protocol
from unlearnable_bench.registry._adversarial_losses import against_weights, mart_loss, trades_loss
from unlearnable_bench.registry._steps import direction_of_gradient, into_ball, into_box, sign_of_gradient, still

NEAR = 0.001  # how far from the image TRADES and MART begin: deviation of a Gaussian, in l2 its length; pixel units
PASSES = {"AT": 0, "TRADES": 4, "MART": 3, "AWP": 3}  # beside those of the adversary and of training on it


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

    `objective` says what is trained on. TRADES (Zhang et al., ICML 2019): clean images, and `beta` times the divergence of the
    outputs on adversaries that maximize it. MART (Wang et al., ICLR 2020): adversaries with a margin, and a divergence weighted
    by how unsure the network is. AWP (Wu et al., NeurIPS 2020): adversaries, at weights that are themselves moved against the
    loss by `awp` of their norm. The codes of TRADES and MART start at `begin=near`; all three take 10 steps.
    Changed from them: TRADES passes clean images once, not twice, so statistics of batch normalization move twice in a step;
    weight decay of AWP acts on the weights, not on the moved ones.
    """

    epsilon: float = 8 / 255  # radius in the units of `norm`, pixels in [0, 1]
    steps: int = 10  # of the adversary, in every training step
    step_size: float = 0.0  # in the units of `norm`; 0: 2 epsilon / steps in linf (1.6/255 at the defaults), 2.5 in l2
    norm: str = "linf"  # linf or l2
    begin: str = "uniform"  # uniform, gaussian, near or none
    objective: Literal["AT", "TRADES", "MART", "AWP"] = "AT"  # what is trained on, see above
    beta: float = 6.0  # weight of the divergence in TRADES and MART
    awp: float = 0.01  # of AWP: how far weights are moved, parts of their norm; the paper's gamma is 0.005 to 0.01

    later: ClassVar[Mapping[str, Any]] = {"objective": "AT", "beta": 6.0, "awp": 0.01}
    display_name = "Adversarial training"
    label = "{objective} {epsilon}"
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
        if self.begin not in ("uniform", "gaussian", "near", "none"):
            raise EntryError(f"defense at: unknown begin {self.begin!r}; expected uniform, gaussian, near or none")
        if self.beta < 0 or self.awp < 0:
            raise EntryError(f"defense at: beta and awp cannot be negative, found {self}")

    @property
    def cost(self) -> float:
        """A step on the input needs no gradients of weights: two passes of the three of plain training."""
        return (3 + PASSES[self.objective] + 2 * self.steps) / 3 if self.epsilon else 1.0

    def configure(self, protocol: Protocol) -> Protocol:
        return protocol.varied(protocol.adversarial)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        z = self.adversary(model, x, y)
        if self.objective == "TRADES":
            return trades_loss(model, x, z, y, self.beta)
        if self.objective == "MART":
            return mart_loss(model, x, z, y, self.beta)
        if self.objective == "AWP":
            return F.cross_entropy(against_weights(model, z, y, self.awp)(z), y)
        return F.cross_entropy(model(z), y)

    def adversary(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return the batch that is worst within the radius: for the labels, in TRADES for what the network says of x."""
        if not (self.epsilon and self.steps):
            return x
        attack = self._in_linf if self.norm == "linf" else self._in_l2
        with still(model):
            return attack(model, x, _outputs(model, x) if self.objective == "TRADES" else y)

    def _in_linf(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        step = self.step_size or 2 * self.epsilon / self.steps
        z = into_box(self._near_linf(x, step), x, self.epsilon)
        for _ in range(self.steps):
            z = into_box(z + step * sign_of_gradient(model, z, y), x, self.epsilon)
        return z

    def _near_linf(self, x: Tensor, step: float) -> Tensor:
        if self.begin == "none":
            return x
        noise = torch.empty_like(x)
        if self.begin == "uniform":
            return x + noise.uniform_(-self.epsilon, self.epsilon)
        return x + noise.normal_(0, step if self.begin == "gaussian" else NEAR)

    def _in_l2(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        step = self.step_size or 2.5 * self.epsilon / self.steps
        z = x
        if self.begin != "none":
            length = {"uniform": self.epsilon, "gaussian": step, "near": NEAR}[self.begin]
            z = x + length * F.normalize(torch.randn_like(x).flatten(1), dim=1).view_as(x)
        z = into_ball(z, x, self.epsilon)
        for _ in range(self.steps):
            z = into_ball(z + step * direction_of_gradient(model, z, y), x, self.epsilon)
        return z


def _outputs(model: nn.Module, x: Tensor) -> Tensor:
    """Return the probabilities that the network gives for x, (B, K)."""
    with torch.no_grad():
        logits: Tensor = model(x)
    return logits.float().softmax(1)
