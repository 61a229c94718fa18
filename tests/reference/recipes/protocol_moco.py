"""MoCo: the loss of a batch against a queue, and the running statistics of batch normalisation by parts of a batch."""

from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry._contrastive import MoCoObjective

REPOSITORY = "renjie3/TUE"
FUNCTION = "unsupervised.moco.moco_utils.SplitBatchNorm, unsupervised.moco.moco_utils.ModelMoCo.contrastive_loss"
SEED = 0
TOLERANCE = 1e-5
REASON = "ours is float32; its parts are neighbours in a batch, where the official ones are every fourth image"
PARTS, TEMPERATURE, QUEUE = 4, 0.2, 24


class Encoder(nn.Module):
    """A convolution, batch normalisation and a mean over positions."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.convolution, self.norm, self.head = nn.Conv2d(3, 8, 3), norm, nn.Linear(8, 8)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.convolution(x))).mean((2, 3))


class Whole(nn.Module):
    """An encoder and its projection in one, as the official network is."""

    def __init__(self, encoder: Encoder, project: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.project = encoder, project

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.encoder.features(x))


def given(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Two views of eight images, the queue (K, D), and weights."""
    first, second = (torch.from_numpy(rng.uniform(size=(8, 3, 6, 6))) for _ in range(2))
    queue = F.normalize(torch.from_numpy(rng.normal(size=(QUEUE, 128))), dim=1)
    return first, second, queue, inputs.drawn(rng, Whole(Encoder(nn.BatchNorm2d(8)), nn.Linear(8, 128))).state_dict()


def arrays(loss: Tensor, net: nn.Module) -> Arrays:
    """The loss in front of the gradients of weights, and the statistics afterwards."""
    weights = [value for name, value in net.named_parameters() if "head" not in name]
    gradients = torch.autograd.grad(loss, weights)
    flat = torch.cat([loss.detach()[None].double(), *(gradient.flatten() for gradient in gradients)])
    norm = net.encoder.norm
    return {"loss_and_gradients": flat.numpy(), "statistics": torch.cat([norm.running_mean, norm.running_var]).numpy()}


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("utils", "tqdm", "torchvision", "torchvision.models"):
        from unsupervised.moco import moco_utils as moco
    first, second, queue, weights = given(rng)
    query, key = (Whole(Encoder(moco.SplitBatchNorm(8, PARTS)), nn.Linear(8, 128)).double() for _ in range(2))
    for net in (query, key):
        net.load_state_dict(weights)
        net.train()
    model = SimpleNamespace(encoder_q=query, encoder_k=key, queue=queue.T, T=TEMPERATURE)
    for name in ("_batch_shuffle_single_gpu", "_batch_unshuffle_single_gpu"):
        setattr(model, name, partial(getattr(moco.ModelMoCo, name), model))
    still = patch.object(torch, "randperm", torch.arange)
    here = patch.object(torch.Tensor, "cuda", lambda self, **fields: self)
    with still, here:
        loss, _, _ = moco.ModelMoCo.contrastive_loss(model, first, second)
    return arrays(loss, query)


def ours(rng: np.random.Generator) -> Arrays:
    first, second, queue, weights = given(rng)
    net = MoCoObjective(Encoder(nn.BatchNorm2d(8)), TEMPERATURE, QUEUE, 0.99, PARTS, shuffled=False).train()
    query = Whole(net.encoder, net.project)
    query.load_state_dict(weights)
    Whole(*net.slow).load_state_dict(weights)
    net.queue.copy_(queue)
    by_parts = torch.arange(len(first)).view(-1, PARTS).T.flatten()
    return arrays(net(first[by_parts].float(), second[by_parts].float()), query)
