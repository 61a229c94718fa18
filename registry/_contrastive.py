"""The objectives of contrastive learning: SimCLR, MoCo, SimSiam and BYOL around an encoder, with their projections and losses.

Each has a loss of two views, that of training; those for which noise is made have another, `easy`, which noise lowers that is
to make training easy.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the normalised cross-entropy of SimCLR over 2B projections, (B, D) each: every view has to find its twin."""
    z = F.normalize(torch.cat([first, second]).float(), dim=1)
    similar = z @ z.T / temperature
    similar.fill_diagonal_(float("-inf"))
    twins = torch.arange(len(z), device=z.device).roll(len(first))
    return F.cross_entropy(similar, twins)


def info_nce(queries: Tensor, keys: Tensor, others: Tensor, temperature: float) -> Tensor:
    """Return the loss of MoCo: each query (B, D) has to tell its key (B, D) from `others` (K, D), which are normalised."""
    queries, keys = F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)
    own = (queries * keys).sum(1, keepdim=True)
    logits = torch.cat([own, queries @ others.T], 1) / temperature  # (B, 1 + K)
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def width(encoder: nn.Module) -> int:
    """Return the number of an encoder's features."""
    head: nn.Linear = encoder.head  # type: ignore[assignment]
    return head.in_features


def plain_projection(encoder: nn.Module) -> nn.Module:
    """Return D-D-128 without normalisation: that of the second version of MoCo, and of contrastive poisoning."""
    wide = width(encoder)
    return nn.Sequential(nn.Linear(wide, wide), nn.ReLU(inplace=True), nn.Linear(wide, 128))


def normalised_projection(encoder: nn.Module) -> nn.Module:
    """Return D-512-128 with batch normalisation between."""
    wide = [nn.Linear(width(encoder), 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(inplace=True)]
    return nn.Sequential(*wide, nn.Linear(512, 128))


class SimClrObjective(nn.Module):
    """Encoder and a projection, `normalised_projection` unless told; views go through one after the other."""

    def __init__(self, encoder: nn.Module, temperature: float, project: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder, self.temperature = encoder, temperature
        self.project = project or normalised_projection(encoder)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = (self.project(self.encoder.features(x)) for x in (first, second))  # type: ignore[operator]
        return nt_xent(a, b, self.temperature)

    easy = forward


class MoCoObjective(nn.Module):
    """Encoder, a slow copy of it that makes keys, and a queue of the last keys.

    Batch normalisation sees an eighth of a batch at a time, keys in another order than queries, as it is done on eight devices:
    statistics of a whole batch would tell a query which key is its own. Running statistics move once a step, by the mean of the
    parts, as in the code of the transferable paper. `deep` has the projection of the second version, a hidden layer wide;
    `shuffled` false leaves keys in the order of queries.
    """

    queue: Tensor
    place: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        temperature: float,
        queue: int,
        momentum: float,
        splits: int,
        deep: bool = False,
        shuffled: bool = True,
    ) -> None:
        super().__init__()
        self.encoder, self.temperature, self.momentum, self.splits = encoder, temperature, momentum, splits
        self.shuffled = shuffled
        self.project = plain_projection(encoder) if deep else nn.Linear(width(encoder), 128)
        self.slow = copy.deepcopy(nn.ModuleList([encoder, self.project])).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(queue, 128), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        queries = self._split(first, self.encoder, self.project)
        with torch.no_grad():
            move_after(self.slow, [self.encoder, self.project], self.momentum)
            draw = torch.randperm if self.shuffled else torch.arange
            order = draw(len(second), device=second.device)
            encoder, project = self.slow
            keys = F.normalize(self._split(second[order], encoder, project)[order.argsort()].float(), dim=1)
        loss = info_nce(queries, keys, self.queue.clone(), self.temperature)
        self._enqueue(keys)
        return loss

    def easy(self, first: Tensor, second: Tensor, follow: bool = False) -> Tensor:
        """Return the loss with gradients through keys too; they are queued, the slow copy moves if it is to `follow`."""
        if follow:
            move_after(self.slow, [self.encoder, self.project], self.momentum)
        encoder, project = self.slow
        queries, keys = self._split(first, self.encoder, self.project), self._split(second, encoder, project)
        loss = info_nce(queries, keys, self.queue.clone(), self.temperature)
        self._enqueue(F.normalize(keys.detach().float(), dim=1))
        return loss

    def _split(self, x: Tensor, encoder: nn.Module, project: nn.Module) -> Tensor:
        parts = max(1, min(self.splits, len(x) // 2)) if self.training else 1  # batch normalisation needs two images
        statistics = _running(encoder, project)
        before, moved = [value.clone() for value in statistics], [torch.zeros_like(value) for value in statistics]
        found = []
        for piece in x.tensor_split(parts):
            _set(statistics, before)
            found.append(project(encoder.features(piece)))  # type: ignore[operator]
            for total, value in zip(moved, statistics, strict=True):
                total += value / parts
        _set(statistics, moved)
        return torch.cat(found)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        keys = keys[-len(self.queue) :]
        rows = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[rows] = keys
        self.place.copy_((self.place + len(keys)) % len(self.queue))


def _running(*networks: nn.Module) -> list[Tensor]:
    """Return the running means and variances of batch normalisation."""
    modules = chain.from_iterable(network.modules() for network in networks)
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    pairs = chain.from_iterable((norm.running_mean, norm.running_var) for norm in norms)
    return [value.data for value in pairs if value is not None]


def _set(statistics: list[Tensor], values: list[Tensor]) -> None:
    for own, value in zip(statistics, values, strict=True):
        own.copy_(value)


class SimSiamObjective(nn.Module):
    """Encoder, a projection D-2048-2048 and a predictor 2048-512-2048: each view predicts the other, which stands still."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        inner = [nn.Linear(width(encoder), 2048, bias=False), nn.BatchNorm1d(2048), nn.ReLU(inplace=True)]
        self.project = nn.Sequential(*inner, nn.Linear(2048, 2048, bias=False), nn.BatchNorm1d(2048))
        narrow = [nn.Linear(2048, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(inplace=True)]
        self.predict = nn.Sequential(*narrow, nn.Linear(512, 2048))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = (self.project(self.encoder.features(x)) for x in (first, second))  # type: ignore[operator]
        return -0.5 * (_cosine(self.predict(a), b.detach()) + _cosine(self.predict(b), a.detach()))

    def easy(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss with gradients through what is predicted too: noise cannot make a frozen encoder collapse."""
        a, b = (self.project(self.encoder.features(x)) for x in (first, second))  # type: ignore[operator]
        return -0.5 * (_cosine(self.predict(a), b) + _cosine(self.predict(b), a))


class ByolObjective(nn.Module):
    """Encoder with a projection D-2048-128, a slow copy of both, and a predictor: each view predicts the other's of the copy.

    The slow copy moves before a step; its normalization takes the statistics of the batch, and both views are one batch.
    """

    def __init__(self, encoder: nn.Module, momentum: float) -> None:
        super().__init__()
        self.encoder, self.momentum = encoder, momentum
        self.project, self.predict = _two_layers(width(encoder)), _two_layers(128)
        self.slow = copy.deepcopy(nn.ModuleList([encoder, self.project])).requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        views = torch.cat([first, second])
        predicted = self.predict(self.project(self.encoder.features(views)))  # type: ignore[operator]
        with torch.no_grad():
            move_after(self.slow, [self.encoder, self.project], self.momentum)
            encoder, project = self.slow
            seen = project(encoder.features(views))  # type: ignore[operator]
        return 4 - 4 * _cosine(predicted, seen.roll(len(first), 0))


def _two_layers(wide: int) -> nn.Module:
    return nn.Sequential(nn.Linear(wide, 2048), nn.BatchNorm1d(2048), nn.ReLU(inplace=True), nn.Linear(2048, 128))


@torch.no_grad()
def move_after(slow: nn.Module, fast: Iterable[nn.Module], momentum: float) -> None:
    """Move the weights of a slow copy a little towards those of the networks that it is a copy of."""
    here = chain.from_iterable(network.parameters() for network in fast)
    for behind, ahead in zip(slow.parameters(), here, strict=True):
        behind.lerp_(ahead, 1 - momentum)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a.float(), b.float(), dim=1).mean()
