"""Surrogates: how a network is made for a crafting, trained on clean images, and trained in stages as a defense would.

`surrogate` makes a network, `fit_surrogate` trains it on clean images by a `SurrogateRecipe`, `checkpoints_of` keeps
several states of one training, `Watched` takes epochs back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import ARCHITECTURES, ImageSet
from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._blocks import weights_by_layer
from unlearnable_bench.registry._crafting import Crafting, mixed
from unlearnable_bench.registry._staged import GAMMA, Stages
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._views import Look, View, crop_flip, identity, jitter_gray, shift_flip
from unlearnable_bench.registry.architectures._network import begin, draw_as_he


class Normalised(nn.Module):
    """A network that sees (x - mean) / std, so that everybody else works in pixel units."""

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.net = net
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))

    def normalised(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.normalised(x))  # type: ignore[no-any-return]

    def features(self, x: Tensor) -> Tensor:
        return self.net.features(self.normalised(x))  # type: ignore[no-any-return, operator]


def surrogate(run: Crafting, name: str, sees: str = "pixels", drawn: str = "torch") -> nn.Module:
    """Make a network on the device. It sees `pixels`, `centred` ones (less 0.5), or `standard` ones (mean 0, std 1).

    `drawn` torch is as the architecture has it; he initializes convolutions normally by fan-out.
    """
    channels, height, width = run.clean.info.shape
    net: nn.Module = ARCHITECTURES[name](run.clean.num_classes, channels, min(height, width))
    if drawn == "he":
        draw_as_he(net)
    if sees == "pixels":
        begin(net, run.clean)
        return net.to(run.device)
    scale = statistics(run.clean) if sees == "standard" else (torch.full((channels,), 0.5), torch.ones(channels))
    whole = Normalised(net, *scale)
    begin(net, run.clean, whole.normalised)
    return whole.to(run.device)


def statistics(clean: ImageSet) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel, in pixel units."""
    total = square = torch.zeros(clean.images.shape[1], dtype=torch.float64)
    for where in clean.batches():
        x = clean.pixels(where).double()
        total, square = total + x.sum((0, 2, 3)), square + x.square().sum((0, 2, 3))
    count = clean.images.numel() / clean.images.shape[1]
    mean = total / count
    return mean.float(), (square / count - mean.square()).clamp(min=1e-6).sqrt().float()


@dataclass(frozen=True)
class SurrogateRecipe:
    """How a surrogate is trained before it is held still."""

    epochs: int = 0
    steps: int = 0  # instead of epochs, where above 0
    batch: int = 128  # images
    lr: float = 0.1
    drops: tuple[float, ...] = ()  # parts of training after which the learning rate is divided by ten
    warmup: int = 0  # epochs in which the learning rate climbs from a hundredth
    nesterov: bool = False
    weight_decay: float = 5e-4
    view: str | Look = "crop"  # crop, shift, none or what draws one
    adversary: Adversary = field(default=Adversary("none", 0.0))
    cosine: bool = False  # after the warm-up the rate falls to nothing, epoch by epoch; it climbs in equal steps then

    def rate(self, step: int, total: int, per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if self.cosine:
            return cosine_rate(self.lr, step // per_epoch, total // per_epoch, self.warmup)
        rate = self.lr * 0.1 ** sum(step >= round(part * total) for part in self.drops)
        if step < self.warmup * per_epoch:
            return rate * (0.01 + 0.99 * step / (self.warmup * per_epoch))
        return rate


def cosine_rate(peak: float, epoch: int, epochs: int, warmup: int = 0) -> float:
    """Return the learning rate of an epoch, counted from 0: it climbs by equal steps, then falls along a cosine."""
    if epoch < warmup:
        return peak * (epoch + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


def draw_view(name: str | Look, x: Tensor, generator: torch.Generator, fill: Tensor | None = None) -> View:
    """Draw a view by its name: none, crop, shift or cg; or by what draws one."""
    if callable(name):
        return name(x, generator)
    if name == "crop":
        return crop_flip(x, generator)
    if name == "shift":
        return shift_flip(x, generator, fill)
    return jitter_gray(x, generator) if name == "cg" else identity


def through(net: nn.Module, view: View) -> Callable[[Tensor], Tensor]:
    """Return the network as it answers to a view of its input."""
    return lambda x: net(view(x))


def fit_surrogate(
    run: Crafting,
    net: nn.Module,
    recipe: SurrogateRecipe,
    after_epoch: Callable[[int], None] = lambda epoch: None,
    others: Iterable[nn.Module] = (),
) -> None:
    """Train a surrogate on the clean images, or on their worst cases. Skipped where a later stage is taken up.

    `after_epoch` is told the epoch, the first being 1; `others` are networks that it changes, kept in checkpoints too.
    """
    kept = nn.ModuleList(others)
    if run.stage not in ("", "fit"):
        return
    optimizer = torch.optim.SGD(
        net.parameters(), recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
    )
    size = len(run.clean)
    per_epoch = max(1, size // recipe.batch)  # incomplete batches are left out
    total = recipe.steps or recipe.epochs * per_epoch
    fill = net.mean if isinstance(net, Normalised) else None
    order, first, spent = torch.empty(0, dtype=torch.long), 0, 0.0
    if state := run.resume("fit"):
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        kept.load_state_dict(state["others"])
        order, first, spent = state["order"].cpu(), state["step"], state["spent"]
    for step in range(first, total):
        place = step % per_epoch
        if place == 0:
            order = torch.randperm(size, generator=run.job.generator)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step, total, per_epoch)
        x, y = run.batch(order[place * recipe.batch : (place + 1) * recipe.batch])
        x = draw_view(recipe.view, x, run.device_generator, fill)(x)
        if recipe.adversary.passes:
            with still(net), mixed(run.device):
                x = recipe.adversary(net, x, y, run.device_generator)
        spent += train_step(net, optimizer, x, y)
        run.count(3 + recipe.adversary.passes, len(y))
        if place == per_epoch - 1 or step == total - 1:
            run.write(surrogate_loss=spent / (place + 1))
            spent = 0.0
            after_epoch(step // per_epoch + 1)
        run.job.progress(step + 1, total)
        if run.due:
            run.keep("fit", snapshot(net, optimizer, others=kept.state_dict(), order=order, step=step + 1, spent=spent))


def train_step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, clip: float = 0.0) -> float:
    """Take one training step; return the loss before it."""
    net.train()
    loss = F.cross_entropy(net(x).float(), y)
    optimizer.zero_grad()
    loss.backward()
    if clip:
        nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimizer.step()
    return float(loss.detach())


def snapshot(net: nn.Module, optimizer: torch.optim.Optimizer, **rest: Any) -> dict[str, Any]:
    return {"net": net.state_dict(), "optimizer": optimizer.state_dict(), **rest}


def checkpoints_of(run: Crafting, name: str, recipe: SurrogateRecipe, count: int) -> list[nn.Module]:
    """Train a surrogate; return its checkpoints, evenly spaced over the epochs, the last epoch's among them."""
    wanted = [round(recipe.epochs * (k + 1) / count) for k in range(min(count, recipe.epochs))]
    made = [surrogate(run, name, "standard") for _ in wanted]
    net = surrogate(run, name, "standard")

    def keep(epoch: int) -> None:
        for place, kept in zip(wanted, made, strict=True):
            if place == epoch:
                kept.load_state_dict(net.state_dict())

    fit_surrogate(run, net, recipe, keep, made)
    return made


class Watched:
    """Staged training of a surrogate, for poisoners who know that defense: what `_staged.Stages` asks of a training.

    An epoch is one pass over the set, however many noise steps lie between. Taking it back restores weights, momentum and
    normalisation, not the noise.
    """

    def __init__(
        self, run: Crafting, net: nn.Module, optimizer: torch.optim.Optimizer, noise: Tensor, tied: bool, per_epoch: int
    ) -> None:
        self.run, self.net, self.optimizer = run, net, optimizer
        self.train, self.generator = run.clean, run.job.generator
        self.noise, self.tied, self.per_epoch = noise, tied, per_epoch  # tied: one perturbation per class
        self.weights = weights_by_layer(parts_of(net))
        self.steps, self.total = 0, 0
        self.saved = deepcopy(snapshot(net, optimizer))
        self.stages = Stages(self, GAMMA, run.stages, 0)

    def outputs(self, rows: Tensor, features: bool = True) -> Tensor:
        """Return the features of noisy images, in evaluation mode, on the CPU."""
        found = []
        with still(self.net), torch.no_grad():
            for part in rows.split(self.run.at_once):
                x, _ = self.run.batch(part)
                noise = self.noise[self.train.labels[part] if self.tied else part].to(self.run.device).float()
                noise = noise / 255 if self.noise.dtype == torch.int8 else noise
                found.append(self.net.features(x + noise).cpu())  # type: ignore[operator]
                self.run.count(1, len(part))
        return torch.cat(found)

    def rollback(self) -> None:
        """Go back to the end of the last epoch that was let stand."""
        self.net.load_state_dict(self.saved["net"])
        self.optimizer.load_state_dict(deepcopy(self.saved["optimizer"]))  # else the next step writes into what is saved

    def factors(self, values: list[float]) -> None:
        """Set the part of the learning rate at which each layer goes on."""
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            group["rate"], group["lr"] = value, group["base"] * value

    def after_step(self) -> None:
        """Judge the epoch, if one is over."""
        self.steps += 1
        if self.steps % self.per_epoch:
            return
        stage = self.stages.stage
        self.stages.after_epoch(self.steps // self.per_epoch)
        self.run.write(cluster_measure=self.stages.measured[-1])
        if self.stages.stage == stage:
            self.saved = deepcopy(snapshot(self.net, self.optimizer))

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` goes on from."""
        return {"steps": self.steps, "saved": self.saved, "stages": self.stages.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.steps, self.saved = state["steps"], state["saved"]
        self.stages.load_state_dict(state["stages"])


def parts_of(net: nn.Module) -> list[nn.Module]:
    """Return the parts of a surrogate in order."""
    inside = net.net if isinstance(net, Normalised) else net
    found: list[nn.Module] = inside.layers()  # type: ignore[operator]
    return found


def descent_of(net: nn.Module, lr: float, weight_decay: float) -> torch.optim.SGD:
    """Return the optimiser of a surrogate, one group of parameters per layer."""
    groups = [{"params": weights, "base": lr, "rate": 1.0} for weights in weights_by_layer(parts_of(net))]
    return torch.optim.SGD(groups, lr, momentum=0.9, weight_decay=weight_decay)


def hits(run: Crafting, net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return which part of 8-bit images a network gives these labels, in evaluation mode."""
    found = 0
    with still(net), torch.no_grad():
        for start in range(0, len(images), run.at_once):
            rows = slice(start, start + run.at_once)
            found += int((net(images[rows].to(run.device).float() / 255).argmax(1).cpu() == labels[rows]).sum())
    return found / len(images)
