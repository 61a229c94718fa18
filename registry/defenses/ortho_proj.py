"""Orthogonal projection: learn the most predictive linear directions of the poisoned pixels, then remove them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import DEFENSES, Defense, ImageSet, Job
from unlearnable_bench.registry._papers import LEARN_FROM_UNLEARNABLE


@DEFENSES.register("ortho-proj")
@dataclass(frozen=True)
class OrthogonalProjection(Defense):
    """Fit a linear classifier to the pixels, then project every training image away from the span of its weights.

    Softmax regression without bias by SGD; its weight columns, normalised and made orthogonal by QR, span what is removed.
    Batches are shuffled, which the code does not do. The result stays float32 and leaves [0, 1] here and there: rounding would
    bring part of the removed component back. Not in the paper: `center` fits and projects around the mean image. With fewer
    images than pixels an uncentred fit explains the images themselves, and its projection poisons clean data.
    """

    epochs: int = 20  # the code's; the text names 60 for CIFAR-100
    batch: int = 1024  # images; 0: the whole set in one step
    lr: float = 0.1  # of the linear classifier
    momentum: float = 0.0  # of its descent
    weight_decay: float = 0.0  # of its weights
    drops: bool = True  # divide the learning rate by ten at half and at three quarters of the epochs
    center: bool = False  # fit and project around the mean image; not in the paper

    display_name = "Orthogonal projection"
    label = "Ortho. projection"
    paper = LEARN_FROM_UNLEARNABLE

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        values = train.images[0].numel()
        mean = torch.zeros(values, device=job.device)
        if self.center:
            for where in train.batches():
                mean += train.pixels(where, job.device).flatten(1).sum(0)
            mean /= len(train)
        weights = self._fit(train, mean, job)  # (d, K)
        basis, _ = torch.linalg.qr(F.normalize(weights, dim=0))  # (d, K), orthonormal columns
        result = job.empty(train.images.shape, torch.float32)
        room, projected = (torch.empty(0, values, device=job.device) for _ in range(2))
        for where in train.batches():
            x = _pixels(train, torch.arange(where.start, where.stop), room).sub_(mean)  # (n, d)
            torch.mm(x @ basis, basis.T, out=projected.resize_(x.shape))
            result[where] = x.sub_(projected).add_(mean).view(-1, *train.images.shape[1:])
        return replace(train, images=result)

    def _fit(self, train: ImageSet, mean: Tensor, job: Job) -> Tensor:
        batch = self.batch or len(train)
        weights = torch.empty(train.num_classes, len(mean)).uniform_(-1, 1, generator=job.generator)
        weights = (weights / len(mean) ** 0.5).to(job.device).requires_grad_(True)  # as torch initialises a linear layer
        optimizer = torch.optim.SGD([weights], self.lr, self.momentum, weight_decay=self.weight_decay)
        drops = [self.epochs // 2, self.epochs * 3 // 4]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops if self.drops else [])
        room = torch.empty(0, len(mean), device=job.device)
        for epoch in range(self.epochs):
            order = torch.randperm(len(train), generator=job.generator)
            for rows in order.split(batch):
                x = _pixels(train, rows, room)
                x = x.sub_(mean) if self.center else x
                loss = F.cross_entropy(x @ weights.T, train.labels[rows].to(job.device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
            job.progress(epoch + 1, self.epochs)
        fitted: Tensor = weights.detach().T.contiguous()
        return fitted


def _pixels(train: ImageSet, rows: Tensor, room: Tensor) -> Tensor:
    """Return the images at `rows` as `ImageSet.pixels` does, flat (n, d), in memory that `room` keeps for the next ones.

    Fresh memory for every batch took a third of the time of a projection.
    """
    chosen = train.images.index_select(0, rows).flatten(1)  # whole images at once: far faster than [rows]
    x = room.resize_(chosen.shape).copy_(chosen)
    return x.div_(255) if chosen.dtype.itemsize == 1 else x
