"""What mixup and cutmix share: partners within the batch, labels as rows of probabilities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def as_rows(y: Tensor) -> Tensor:
    """Return labels as float32 (B, K). The loop hands them over so; classes alone, K is the largest of them and one."""
    return y if y.ndim == 2 else F.one_hot(y).float()


def shares(x: Tensor, alpha: float, probability: float) -> Tensor:
    """Draw for every image of x which part of itself it keeps, Beta(alpha, alpha), 1 where nothing is mixed in: (B,)."""
    beta = torch.distributions.Beta(torch.tensor(alpha, device=x.device), torch.tensor(alpha, device=x.device))
    keep = beta.sample((len(x),))
    return torch.where(torch.rand(len(x), device=x.device) < probability, keep, torch.ones_like(keep))


def blended(y: Tensor, partner: Tensor, keep: Tensor) -> Tensor:
    """Return the labels (B, K) with `keep` (B,) of an image's own and the rest of its partner's."""
    return keep[:, None] * y + (1 - keep[:, None]) * y[partner]
