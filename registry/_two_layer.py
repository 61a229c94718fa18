"""The two-layer network that tells perturbed images by what is simple about them: its training, and steps against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unlearnable_bench.registry._steps import into_box, sign_of_gradient, still
from unlearnable_bench.registry._surrogates import train_step
from unlearnable_bench.registry.contract import ImageSet, Job

Change = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Maps the network, images (B, C, H, W) and labels (B,) to the images that it is trained on."""


@dataclass(frozen=True)
class TwoLayerTraining:
    """SGD with momentum 0.9, a tenth of the rate from three quarters and nine tenths on."""

    epochs: int
    batch: int  # images
    lr: float
    weight_decay: float = 5e-4


@dataclass(frozen=True)
class Ascent:
    """Steps of signed gradients up the loss, from the image itself."""

    epsilon: float  # linf radius, pixel units
    step_size: float  # pixel units
    steps: int

    def __call__(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return x as it is after the steps, within the radius and in [0, 1]."""
        z = x
        with still(net):
            for _ in range(self.steps):
                z = into_box(z + self.step_size * sign_of_gradient(net, z, y), x, self.epsilon)
        return z


def two_layer(values: int, classes: int, width: int = 0) -> nn.Module:
    """Return the network, from images to logits; `width` hidden units, 0: as many as an image has values."""
    width = width or values
    return nn.Sequential(nn.Flatten(), nn.Linear(values, width), nn.ReLU(), nn.Linear(width, classes))


def sgd(net: nn.Module, plan: TwoLayerTraining) -> torch.optim.SGD:
    """Return the optimizer of the network."""
    return torch.optim.SGD(net.parameters(), plan.lr, momentum=0.9, weight_decay=plan.weight_decay)


def fit(net: nn.Module, images: ImageSet, plan: TwoLayerTraining, job: Job, change: Change | None = None) -> None:
    """Train the network on the images, each batch changed by `change`; goes on from a checkpoint of the job."""
    optimizer = sgd(net, plan)
    milestones = [plan.epochs * 3 // 4, plan.epochs * 9 // 10]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    parts: dict[str, Any] = {"net": net, "optimizer": optimizer, "schedule": schedule}
    kept = job.load()
    if kept:
        job.generator.set_state(kept["generator"])
        for name, part in parts.items():
            part.load_state_dict(kept[name])
    for epoch in range(schedule.last_epoch, plan.epochs):
        for chosen in torch.randperm(len(images), generator=job.generator).split(plan.batch):
            x, y = images.pixels(chosen, job.device), images.labels[chosen].to(job.device)
            train_step(net, optimizer, change(net, x, y) if change else x, y)
        schedule.step()
        job.save({name: part.state_dict() for name, part in parts.items()} | {"generator": job.generator.get_state()})
        job.progress(epoch + 1, plan.epochs)
