"""PGD adversarial training: the adversarial batch and the loss on it, from a Gaussian start."""

from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn

from unlearnable_bench.registry.defenses.at import AdversarialTraining

REPOSITORY = "lafeat/apbench"
FUNCTION = "madrys.MadrysLoss"
SEED = 0
TOLERANCE = 1e-6
REASON = "from a start within the radius and the range of pixels, where ours projects before the first step and theirs does not"
EPSILON, STEP = 8 / 255, 2 / 255


class Watched(nn.Module):
    """Keeps the batch that is trained on."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.batch = net, torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.batch = x.detach()
        return self.net(x)


def given(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Watched]:
    """Images, labels, Gaussian numbers, and the network."""
    clean = inputs.image_set(rng)
    drawn = torch.from_numpy(rng.normal(size=tuple(clean.images.shape))).clamp(-4, 4)
    x = inputs.pixels(clean)
    drawn = ((x + STEP * drawn).clamp(0, 1) - x) / STEP
    return x, clean.labels, drawn, Watched(inputs.network(rng))


def arrays(net: Watched, loss: Tensor) -> Arrays:
    """The batch that was trained on, and every seventh gradient of a weight."""
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    return {"batch": net.batch.numpy(), "gradients": torch.cat([value.flatten() for value in gradients])[::7].numpy()}


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("util"):
        import madrys

    x, y, drawn, net = given(rng)
    madrys.device = "cpu"
    with patch.object(torch, "randn", return_value=drawn):
        _, loss = madrys.MadrysLoss(epsilon=EPSILON)(net, x, y, torch.optim.SGD(net.parameters(), 0.1))
    return arrays(net, loss)


def ours(rng: np.random.Generator) -> Arrays:
    x, y, drawn, net = given(rng)
    net.train()
    defense = AdversarialTraining(epsilon=EPSILON, step_size=STEP, begin="gaussian")
    with patch.object(Tensor, "normal_", lambda self, mean, deviation: self.copy_(deviation * drawn)):
        loss = defense.loss(net, x, y, 0.0)
    return arrays(net, loss)
