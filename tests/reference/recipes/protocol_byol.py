"""The loss of BYOL: the slow copy moves, then both views through encoder, projection and predictor meet its projections."""

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn

from unlearnable_bench.registry._contrastive import ByolObjective

REPOSITORY = "EhanW/AUE-AAP"
FUNCTION = "models.byol.BYOL.forward, momentum_update_target_encoder, utils.byol_mse"
SEED = 2
TOLERANCE = 1e-5
REASON = "ours takes cosines in float32; the encoder is one layer on both sides"
WIDTH, MOMENTUM = 8, 0.7


class Encoder(nn.Module):
    """One layer in front of the head, by the names of both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(WIDTH, WIDTH)
        self.head = self.fc = nn.Linear(WIDTH, 2)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x))


def given(rng: np.random.Generator) -> Tensor:
    """Two views, one after the other, (2, B, D)."""
    return torch.from_numpy(rng.normal(size=(2, 6, WIDTH)))


def put(rng: np.random.Generator, *modules: nn.Module) -> None:
    """Draw the weights of the quick encoder and projection, of the slow ones and of the predictor."""
    for module in modules:
        inputs.drawn(rng, module).train()


def arrays(loss: Tensor, online: nn.Linear, slow: nn.Linear, norm: nn.BatchNorm1d) -> Arrays:
    """The loss in front of a gradient, the weights of the copy after it moved, and the statistics that it saw."""
    (gradient,) = torch.autograd.grad(loss, online.weight)
    flat = torch.cat([loss.detach()[None].double(), gradient.flatten()])
    statistics = torch.cat([norm.running_mean, norm.running_var])[::32]
    return {"loss_and_gradient": flat.numpy(), "slow": slow.weight.detach().numpy(), "statistics": statistics.numpy()}


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("torchvision", "torchvision.models"):
        from models.byol import BYOL
    mse = inputs.part_of("utils", "byol_mse", F=nn.functional)
    net = type("Given", (BYOL,), {"_get_encoder": lambda self: Encoder()})("", m=MOMENTUM)
    views, online, slow = given(rng), net.online_encoder, net.target_encoder
    put(rng, online.body, online.fc, slow.body, slow.fc, net.online_predictor)
    net.momentum_update_target_encoder()
    loss = mse(*net(views.transpose(0, 1).reshape(-1, WIDTH)))
    return arrays(loss, online.body, slow.body, slow.fc[1])


def ours(rng: np.random.Generator) -> Arrays:
    net, views = ByolObjective(Encoder(), MOMENTUM), given(rng)
    encoder, project = net.slow
    put(rng, net.encoder.body, net.project, encoder.body, project, net.predict)
    return arrays(net(*views), net.encoder.body, encoder.body, project[1])
