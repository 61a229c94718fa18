"""The loss of SimCLR on projections that are given."""

from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch.nn import functional as F

from unlearnable_bench.registry._contrastive import nt_xent

REPOSITORY = "renjie3/TUE"
FUNCTION = "unsupervised.simclr.simclr_utils.train_simclr_noise_return_loss_tensor"
SEED = 0
TOLERANCE = 1e-6
REASON = "ours takes the loss in float32"
TEMPERATURE = 0.5


def given(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Projections of two views, (B, D), which the network hands on as they are."""
    first, second = (torch.from_numpy(rng.normal(size=(6, 16))) for _ in range(2))
    return first.requires_grad_(True), second.requires_grad_(True)


def arrays(loss: torch.Tensor, views: tuple[torch.Tensor, torch.Tensor]) -> Arrays:
    """The gradients of both views and, in front of those of the first, the loss."""
    first, second = torch.autograd.grad(loss, views)
    return {"loss_and_first": torch.cat([loss.detach()[None], first.flatten()]).numpy(), "second": second.numpy()}


class Passing(torch.nn.Module):
    """Returns features and normalised projections, both from what it is given."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, F.normalize(x, dim=1)


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("utils", "tqdm"):
        from unsupervised.simclr import simclr_utils as simclr
    views = given(rng)
    simclr.train_transform_no_totensor = lambda x: x
    with patch.object(torch.Tensor, "cuda", lambda self, **fields: self):
        loss = simclr.train_simclr_noise_return_loss_tensor(Passing(), *views, TEMPERATURE)
    return arrays(loss, views)


def ours(rng: np.random.Generator) -> Arrays:
    views = given(rng)
    return arrays(nt_xent(*views, TEMPERATURE), views)
