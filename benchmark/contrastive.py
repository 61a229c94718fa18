"""Judges a training set without labels: trains an encoder by a contrastive protocol, then a linear probe on its features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unlearnable_bench.benchmark.augment import fit_size
from unlearnable_bench.benchmark.train import EVALUATED, Checkpoint, EpochFigures, Report, Training
from unlearnable_bench.poisons.numerics import Numerics
from unlearnable_bench.registry import Contrastive, Defense, ImageSet, Protocol
from unlearnable_bench.registry._views import contrasted


@dataclass(frozen=True)
class Views(Defense):
    """Makes the training loop train the objective of a contrastive protocol on two views of every image."""

    protocol: Contrastive

    @property
    def cost(self) -> float:
        return 2.0

    def model(self, net: nn.Module) -> nn.Module:
        return self.protocol.objective(net)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        first, second = (model.normalised(contrasted(x, self.protocol.area)) for _ in range(2))  # type: ignore[operator]
        loss: Tensor = model.net(first, second)  # type: ignore[operator]
        return loss


def pretrain_and_probe(
    net: nn.Module,
    data: ImageSet,
    clean: ImageSet,
    test: ImageSet,
    protocol: Contrastive,
    device: str = "cpu",
    report: Report | None = None,
    numerics: Numerics | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[EpochFigures, Training]:
    """Train `net` as an encoder on `data`; return the curve of its linear probe, with the mean objective of every epoch.

    Call inside `poisons.numerics.seeded`. `clean` are the images before they were poisoned, for `probe_data=clean`.
    """
    training = Training(net, data, protocol, (Views(protocol),), device, numerics or Numerics())
    training.run(None, report, checkpoint)
    known = data if protocol.probe_data == "poison" else clean
    features, judged = (features_of(training, part) for part in (known, test))
    probe = Protocol(
        epochs=protocol.probe_epochs,
        batch=protocol.probe_batch,
        optimizer=protocol.probe_optimizer,
        lr=protocol.probe_lr,
        schedule=protocol.probe_schedule,
        weight_decay=0.0,
    )
    linear = nn.Sequential(nn.Flatten(), nn.Linear(features.images.shape[1], data.num_classes))
    curve = Training(linear, features, probe, (), device, Numerics(threads=training.numerics.threads)).run(judged, None, None)
    curve.objective = training.curve.train_loss
    return curve, training


@torch.no_grad()
def features_of(training: Training, data: ImageSet) -> ImageSet:
    """Return the encoder's features of a set as images of one pixel, float32 (N, D, 1, 1), with the set's labels."""
    model, device = training.model.eval(), training.device
    found = []
    for where in data.batches(EVALUATED):
        x = model.normalised(fit_size(data.pixels(where, device), training.size)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=training.bf16):
            found.append(model.net.encoder.features(x).float().cpu())  # type: ignore[operator, union-attr]
    return ImageSet(torch.cat(found)[:, :, None, None], data.labels, data.num_classes, data.classes)
