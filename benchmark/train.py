"""Trains a victim by a protocol and judges it on the clean test set: the one training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from registry import Defense, EntryError, ImageSet, Protocol

EVALUATED = 1000  # test images judged at once


class DivergedError(RuntimeError):
    """A loss is no number any more."""


@dataclass
class Curve:
    """One value per epoch. Accuracies are fractions; training figures are taken on the batches as they were trained on."""

    train_acc: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    test_acc: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)


class Victim(nn.Module):
    """A network with the protocol's mean and standard deviation in front, and a memory of its last training output."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.scaled = bool(mean)
        self.register_buffer("mean", torch.tensor(mean or [0.0]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std or [1.0]).view(1, -1, 1, 1))
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.scaled:
            x = (x - self.mean) / self.std
        logits: Tensor = self.net(x)
        if self.training:
            self.last = logits.detach()
        return logits


Report = Callable[[int, int, float], None]  # epoch, epochs, test accuracy


def train(
    net: nn.Module,
    data: ImageSet,
    test: ImageSet,
    protocol: Protocol,
    defenses: Sequence[Defense] = (),
    device: str = "cpu",
    report: Report | None = None,
) -> Curve:
    """Train `net` in place on `data` and judge it on `test` after every epoch.

    Call inside `poisons.numerics.seeded`. Per batch: gather, the protocol's augmentation, `augment` of the defenses from
    left to right, normalisation, loss. DivergedError if a mean loss of an epoch is not finite.
    """
    for defense in defenses:
        protocol = defense.configure(protocol)
    for defense in defenses:
        net = defense.model(net)
    judge = next((d for d in defenses if type(d).loss is not Defense.loss), Defense())
    model = Victim(net, protocol.mean, protocol.std).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = data.images.to(device), data.labels.to(device)
    dtype = torch.bfloat16 if protocol.precision == "bf16" else torch.float32

    whole, rest = divmod(len(data), protocol.batch)
    drop = protocol.drop_last and whole > 0
    steps = whole if drop or not rest else whole + 1
    epochs = protocol.total_epochs
    optimizer = _optimizer(model, protocol)
    schedule = _schedule(optimizer, protocol, steps * epochs)
    curve = Curve()
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(data)).to(device)
        loss_sum, right, seen = torch.zeros((), device=device), torch.zeros((), device=device), 0
        for step in range(steps):
            rows = order[step * protocol.batch : (step + 1) * protocol.batch]
            x, y = _floats(images[rows]), labels[rows]
            for name in protocol.augmentation:
                x = AUGMENTATIONS[name](x)
            for defense in defenses:
                x, y = defense.augment(x, y)
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=dtype is torch.bfloat16):
                loss = judge.loss(model, x, y, (epoch * steps + step) / (epochs * steps))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if protocol.clip:
                nn.utils.clip_grad_norm_(model.parameters(), protocol.clip)
            optimizer.step()
            schedule.step()
            loss_sum += loss.detach() * len(rows)
            if model.last is not None and len(model.last) == len(y):
                right += (model.last.argmax(1) == (y if y.ndim == 1 else y.argmax(1))).sum()
            seen += len(rows)
        accuracy, test_loss = evaluate(model, test, device)
        for part, value in (("training", float(loss_sum) / seen), ("test", test_loss)):
            if not math.isfinite(value):
                raise DivergedError(f"the {part} loss was {value} in epoch {epoch + 1} of {epochs}")
        curve.train_loss.append(float(loss_sum) / seen)
        curve.train_acc.append(float(right) / seen)
        curve.test_acc.append(accuracy)
        curve.test_loss.append(test_loss)
        if report is not None:
            report(epoch + 1, epochs, accuracy)
    return curve


def evaluate(model: nn.Module, test: ImageSet, device: str = "cpu") -> tuple[float, float]:
    """Return accuracy (fraction) and mean cross-entropy on a clean test set."""
    model.eval()
    right, loss = 0, 0.0
    with torch.no_grad():
        for where in test.batches(EVALUATED):
            x = test.pixels(where, device).contiguous(memory_format=torch.channels_last)
            y = test.labels[where].to(device)
            logits = model(x).float()
            right += int((logits.argmax(1) == y).sum())
            loss += float(F.cross_entropy(logits, y, reduction="sum"))
    return right / len(test), loss / len(test)


def _floats(x: Tensor) -> Tensor:
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()


def _optimizer(model: nn.Module, protocol: Protocol) -> torch.optim.Optimizer:
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), protocol.lr, protocol.momentum, weight_decay=protocol.weight_decay)
    if protocol.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), protocol.lr, weight_decay=protocol.weight_decay)
    raise EntryError(f"protocol: unknown optimizer {protocol.optimizer!r}; known are sgd and adamw")


def _schedule(optimizer: torch.optim.Optimizer, protocol: Protocol, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    if protocol.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    if protocol.schedule == "onecycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, protocol.lr, steps, pct_start=protocol.warmup)
    raise EntryError(f"protocol: unknown schedule {protocol.schedule!r}; known are cosine and onecycle")


def crop(x: Tensor) -> Tensor:
    """Shift every image by up to 4 pixels each way, its own way, black moving in."""
    count, channels, height, width = x.shape
    padded = F.pad(x, (4, 4, 4, 4))
    rows = torch.randint(0, 9, (count, 1), device=x.device) + torch.arange(height, device=x.device)  # (B, H)
    columns = torch.randint(0, 9, (count, 1), device=x.device) + torch.arange(width, device=x.device)  # (B, W)
    image = torch.arange(count, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def flip(x: Tensor) -> Tensor:
    """Mirror half of the images left to right."""
    mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(mirrored, x.flip(3), x)


AUGMENTATIONS = {"crop": crop, "flip": flip}
