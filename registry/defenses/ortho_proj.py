"""Orthogonal projection: learn the most predictive linear directions of the poisoned pixels, then remove them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from registry import DEFENSES, Defense, ImageSet, Job
from registry._papers import LEARN_FROM_UNLEARNABLE


@DEFENSES.register("ortho-proj")
@dataclass(frozen=True)
class OrthogonalProjection(Defense):
    """Fit a linear classifier to the pixels, then project every training image away from the span of its weights.

    Softmax regression without bias by SGD; its weight columns, normalised and made orthogonal by QR, span what is removed.
    The result stays float32 and leaves [0, 1] here and there: rounding would bring part of the removed component back.
    Not in the paper: `center` fits and projects around the mean image. With fewer images than pixels an uncentred fit
    explains the images themselves, and its projection poisons clean data.
    """

    epochs: int = 20  # the code's; the text names 60 for CIFAR-100
    batch: int = 1024  # images; 0: the whole set in one step
    lr: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    drops: bool = True  # divide the learning rate by ten at half and at three quarters of the epochs
    center: bool = False

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
        result = torch.empty(train.images.shape, dtype=torch.float32)
        for where in train.batches():
            x = train.pixels(where, job.device).flatten(1) - mean  # (n, d)
            kept = x - (x @ basis) @ basis.T + mean
            result[where] = kept.view(-1, *train.images.shape[1:]).cpu()
        return replace(train, images=result)

    def _fit(self, train: ImageSet, mean: Tensor, job: Job) -> Tensor:
        batch = self.batch or len(train)
        weights = torch.empty(train.num_classes, len(mean)).uniform_(-1, 1, generator=job.generator)
        weights = (weights / len(mean) ** 0.5).to(job.device).requires_grad_(True)  # as torch initialises a linear layer
        optimizer = torch.optim.SGD([weights], self.lr, self.momentum, weight_decay=self.weight_decay)
        drops = [self.epochs // 2, self.epochs * 3 // 4]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops if self.drops else [])
        for epoch in range(self.epochs):
            order = torch.randperm(len(train), generator=job.generator)
            for rows in order.split(batch):
                drawn = replace(
                    train, images=train.images.index_select(0, rows)
                )  # whole images at once: far faster than [rows]
                x = drawn.pixels(slice(None), job.device).flatten(1)
                x = x - mean if self.center else x
                loss = F.cross_entropy(x @ weights.T, train.labels[rows].to(job.device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
            job.progress(epoch + 1, self.epochs)
        fitted: Tensor = weights.detach().T.contiguous()
        return fitted
