"""Noise that makes contrastive learning easy: an encoder and the noise of its training images are trained in turns.

The loop of contrastive poisoning (`ucl`) and of transferable unlearnable examples (`tue`), which adds a term of its own. A
turn is some training steps on the noisy images, then a pass of signed descent steps over the noise. The papers' schedules are
`poisoning` and `transferable`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import EntryError
from unlearnable_bench.registry._contrastive import MoCoObjective, SimClrObjective, SimSiamObjective, plain_projection
from unlearnable_bench.registry._crafting import Crafting, batches_of, mixed
from unlearnable_bench.registry._noise import zero_noise
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._surrogates import statistics, surrogate
from unlearnable_bench.registry._views import contrastive_view

Term = Callable[[Tensor, Tensor], Tensor]
"""`term(delta, y)`: what noise (B, C, H, W) of classes y (B,) is to lower beside the contrastive loss; a scalar."""


@dataclass(frozen=True)
class Turns:
    """How encoder and noise take turns."""

    epsilon: float  # linf, pixel units
    epochs: int  # passes of the encoder over the set; with `steps`, turns
    noise_steps: int  # signed steps of each batch in a noise pass
    step_size: float  # pixel units
    batch: int  # images
    optimizer: str  # adam, or sgd with momentum 0.9
    lr: float
    weight_decay: float
    passes: int = 1  # noise passes per epoch, evenly spread
    steps: int = 0  # above 0: training steps of a turn, and batches of its noise pass
    drop_last: bool = False  # leave incomplete batches out of training
    start: str = "zero"  # of the noise; or uniform
    cosine: bool = False  # the learning rate falls to a thousandth, epoch by epoch; else it is constant
    stop: float = 1.0  # part of the epochs after which the noise is taken
    area: float = 0.08  # smallest part of an image's area that a view shows, 0..1
    shared: bool = False  # one view per batch while noise is moved, else one per image
    valid: bool = False  # each noise step starts from noise cut to valid pixels, and noisy images are trained on uncut
    standard: bool = False  # the encoder sees pixels of mean 0 and deviation 1
    unsettled: bool = False  # batch normalisation uses and updates batch statistics while noise is moved, too
    follow: bool = False  # MoCo's slow copy moves in noise steps too
    tied: bool = False  # one perturbation per class, else one per image
    scale: float = 1.0  # factor on the loss of training
    weight: float = 1.0  # factor on the contrastive loss of the noise; 0: the noise sees no encoder

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.passes) < 1 or min(self.noise_steps, self.step_size, self.steps) < 0:
            raise EntryError("epochs, batch and passes must be 1 or more, steps and their size not negative")
        if not 0 < self.area <= 1:
            raise EntryError(f"area={self.area}: the smallest part of an image that a view shows is above 0, at most 1")

    def turns(self, batches: int) -> list[list[int]]:
        """Return the training steps of every turn of every epoch, for a set of so many batches."""
        every = self.steps or -(-batches // self.passes)
        whole, rest = (1, 0) if self.steps else divmod(batches, every)
        return [[every] * whole + [rest] * (rest > 0)] * max(1, round(self.stop * self.epochs))

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0; a cosine is at the end of the epoch already in all of it."""
        if not self.cosine:
            return self.lr
        return self.lr * (0.001 + 0.999 * (1 + math.cos(math.pi * (epoch + 1) / self.epochs)) / 2)

    def learner(self, net: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of encoder and projection."""
        parameters = [p for p in net.parameters() if p.requires_grad]
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(parameters, self.lr, momentum=0.9, weight_decay=self.weight_decay)


class Stream:
    """Rows of a set batch by batch, without end, in a new order each time all have come."""

    def __init__(self, run: Crafting, plan: Turns) -> None:
        self.run, self.plan = run, plan
        self.order, self.place = torch.empty(0, dtype=torch.long), 0

    @property
    def batches(self) -> int:
        """Batches of one order."""
        return len(self._parts(torch.arange(len(self.run.clean))))

    def next(self) -> Tensor:
        """Return the rows of the next batch."""
        parts = self._parts(self.order) if len(self.order) else []
        if self.place >= len(parts):
            self.order, self.place = torch.randperm(len(self.run.clean), generator=self.run.job.generator), 0
            parts = self._parts(self.order)
        self.place += 1
        return parts[self.place - 1]

    def _parts(self, order: Tensor) -> list[Tensor]:
        parts = batches_of(order, self.plan.batch)
        return parts[:-1] if self.plan.drop_last and len(parts) > 1 and len(parts[-1]) < self.plan.batch else parts


def take_turns(
    run: Crafting, net: nn.Module, plan: Turns, stage: str, noise: Tensor | None = None, term: Term | None = None
) -> Tensor:
    """Return noise, pixel units, on the CPU: (N, C, H, W) one per image, or (K, C, H, W) one per class.

    `net` is an objective of `_contrastive`; `noise`, if given, is where the noise starts, and is changed.
    """
    noise = _beginning(run, plan) if noise is None else noise
    seen = _sight(run, plan)
    optimizer, stream = plan.learner(net), Stream(run, plan)
    epochs = plan.turns(stream.batches)
    turns = [(epoch, steps) for epoch, each in enumerate(epochs) for steps in each]
    searched = len(batches_of(torch.arange(len(run.clean)), plan.batch))
    searched = min(plan.steps or searched, searched)
    total = sum(steps for _, steps in turns) + len(turns) * searched
    order, first, place, trained, moved = torch.empty(0, dtype=torch.long), 0, 0, 0.0, 0.0
    if state := run.resume(stage):
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        noise[:] = state["noise"].cpu()
        stream.order, stream.place, order = state["stream"].cpu(), state["streamed"], state["order"].cpu()
        first, place, trained, moved = state["turn"], state["place"], state["trained"], state["moved"]
    done = sum(steps + searched for _, steps in turns[:first]) + place
    for number in range(first, len(turns)):
        epoch, steps = turns[number]
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(epoch)
        while place < steps + searched:
            if place < steps:
                trained += _learn(run, net, optimizer, plan, seen, stream.next(), noise)
            else:
                if place == steps:
                    order = torch.randperm(len(run.clean), generator=run.job.generator)
                rows = batches_of(order, plan.batch)[place - steps]
                moved += _move(run, net, plan, seen, rows, noise, term)
            place, done = place + 1, done + 1
            run.job.progress(done, total)
            if run.due:
                kept = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "noise": noise, "order": order}
                kept |= {"stream": stream.order, "streamed": stream.place, "turn": number, "place": place}
                run.keep(stage, kept | {"trained": trained, "moved": moved})
        run.write(**{f"{stage}_training_loss": trained / steps, f"{stage}_noise_loss": moved / searched})
        place, trained, moved = 0, 0.0, 0.0
    return noise


def _sight(run: Crafting, plan: Turns) -> Callable[[Tensor], Tensor]:
    """Return how the encoder sees pixels."""
    if not plan.standard:
        return lambda x: x
    mean, std = (figure.to(run.device).view(1, -1, 1, 1) for figure in statistics(run.clean))
    return lambda x: (x - mean) / std


def _beginning(run: Crafting, plan: Turns) -> Tensor:
    """Return the noise before the first turn."""
    noise = zero_noise((run.clean.num_classes if plan.tied else len(run.clean), *run.clean.images.shape[1:]))
    if plan.start == "uniform":
        for part in noise.split(512):
            part[:] = torch.empty(part.shape).uniform_(-plan.epsilon, plan.epsilon, generator=run.job.generator)
    return noise


def _learn(
    run: Crafting,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    plan: Turns,
    seen: Callable[[Tensor], Tensor],
    rows: Tensor,
    noise: Tensor,
) -> float:
    """Take one training step on noisy images; return the loss before it."""
    x, _ = run.batch(rows)
    x = x + noise[run.clean.labels[rows] if plan.tied else rows].to(run.device).float()
    x = x if plan.valid else x.clamp(0, 1)
    net.train()
    loss: Tensor = net(*(seen(contrastive_view(x, run.device_generator, plan.area)(x)) for _ in range(2)))
    optimizer.zero_grad()
    (plan.scale * loss).backward()
    optimizer.step()
    run.count(4 if isinstance(net, MoCoObjective) else 6, len(rows))
    return float(loss.detach())


def _move(
    run: Crafting, net: nn.Module, plan: Turns, seen: Callable[[Tensor], Tensor], rows: Tensor, noise: Tensor, term: Term | None
) -> float:
    """Move the noise of some images in place, all its steps; return the loss before the last of them."""
    x, y = run.batch(rows)
    places = slice(None) if plan.tied else rows
    delta, lost = noise[places].to(run.device).float(), 0.0
    follow = {"follow": True} if plan.follow else {}
    with still(net):
        if plan.unsettled:
            net.train()
        for _ in range(plan.noise_steps):
            own = (delta[y] if plan.tied else delta).requires_grad_(True)
            with torch.enable_grad():
                z = (x + own).clamp(0, 1)
                loss = torch.zeros((), device=run.device) if term is None else term(own, y)
                if plan.weight:
                    views = [seen(contrastive_view(z, run.device_generator, plan.area, plan.shared)(z)) for _ in range(2)]
                    with mixed(run.device):
                        loss = loss + plan.weight * net.easy(*views, **follow).float()  # type: ignore[operator]
                    run.count(4, len(rows))
                (gradient,) = torch.autograd.grad(loss, own)
            if plan.tied:  # of a class: what its images in the batch ask for together; a product adds in one order
                members = F.one_hot(y, len(delta)).float()
                gradient = (members.T @ gradient.flatten(1)).view_as(delta)
            begun = (z - x if plan.valid else delta).detach()
            delta = (begun - plan.step_size * gradient.sign()).clamp(-plan.epsilon, plan.epsilon)
            lost = float(loss.detach())
    noise[places] = delta.to(noise.dtype).cpu()
    return lost


# What the papers ran

BACKBONES = ("simclr", "moco", "simsiam")


def objective(run: Crafting, name: str, backbone: str, code: str = "tue") -> nn.Module:
    """Return an encoder of an architecture in the objective of a backbone, on the device.

    With code=tue as in that of the transferable paper: SimCLR projects D-512-128 with normalisation, MoCo linearly, in batches
    split in eight. With code=cp as in that of contrastive poisoning: both project D-D-128 without; MoCo's batches are split in
    four, for four devices, keys in the order of queries.
    """
    encoder = _encoder(run, name, backbone, code)
    net: nn.Module
    if backbone == "simsiam":
        net = SimSiamObjective(encoder)
    elif backbone == "simclr":
        net = SimClrObjective(encoder, TEMPERATURES[backbone], plain_projection(encoder) if code == "cp" else None)
    elif code == "cp":
        net = MoCoObjective(encoder, TEMPERATURES[backbone], QUEUE, 0.99, splits=DEVICES, deep=True, shuffled=False)
    else:
        net = MoCoObjective(encoder, TEMPERATURES[backbone], QUEUE, 0.99, splits=8)
    return net.to(run.device)


def _encoder(run: Crafting, name: str, backbone: str, code: str) -> nn.Module:
    """Return an encoder drawn as theirs, convolutions initialized by fan-out.

    Of the transferable paper's, the first convolution of SimCLR and MoCo is drawn as torch does, and residual blocks of SimSiam
    begin as identities.
    """
    net = surrogate(run, name, drawn="he")
    if code == "cp":
        return net
    if backbone == "simsiam":
        for block in net.modules():
            if hasattr(block, "zero_init_last"):
                block.zero_init_last()  # type: ignore[operator]
        return net
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    first.reset_parameters()
    return net


TEMPERATURES = {"simclr": 0.5, "moco": 0.2}
QUEUE = 4096  # keys of MoCo
DEVICES = 4  # on which contrastive poisoning was made


def transferable(backbone: str, epsilon: float) -> Turns:
    """Return the schedule of appendix B.1 of "Transferable Unlearnable Examples"; what it leaves open, of its code."""
    random = Turns(
        epsilon=epsilon,
        epochs=40,
        noise_steps=20,
        step_size=epsilon / 10,
        batch=512,
        optimizer="adam",
        lr=1e-3,
        weight_decay=1e-6,
        passes=5,
        start="uniform",
        shared=True,
        valid=True,
    )
    if backbone == "moco":
        return replace(
            random,
            epochs=200,
            noise_steps=5,
            optimizer="sgd",
            lr=0.3,
            weight_decay=1e-4,
            passes=1,
            start="zero",
            drop_last=True,
        )
    if backbone == "simsiam":
        return replace(random, epochs=50, optimizer="sgd", lr=0.06, weight_decay=5e-4, passes=4, unsettled=True)
    return random


def poisoning(backbone: str, epsilon: float, tied: bool) -> Turns:
    """Return the schedule of contrastive poisoning, of its code: class-wise (`tied`) or sample-wise noise.

    On SimCLR each device hands back its own part of the gradient of the loss of all, and the mean over devices is taken.
    """
    scale = TEMPERATURES[backbone] / 0.07
    return Turns(
        epsilon=epsilon,
        epochs=1000 if tied else 200,
        noise_steps=1 if tied else 5,
        step_size=epsilon / 10,
        batch=512,
        optimizer="sgd",
        lr={"simclr": 0.5, "moco": 0.3}[backbone],
        weight_decay=1e-4,
        steps=20 if tied else 0,
        drop_last=True,
        start="uniform",
        cosine=True,
        stop=0.8 if backbone == "simclr" and not tied else 1.0,  # the file that the authors' victims train on
        area=0.2,
        standard=True,
        tied=tied,
        follow=backbone == "moco",
        scale=scale / DEVICES if backbone == "simclr" else scale,
    )
