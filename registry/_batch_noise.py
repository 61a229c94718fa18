"""The loop that makes fresh noise for every batch that it trains on, and the noise of all images anew at the end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._crafting import Crafting, mixed
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._surrogates import Watched, descent_of, snapshot, through, train_step
from unlearnable_bench.registry._views import View, crop_flip, identity, jitter_gray


@dataclass(frozen=True)
class Alternation:
    """Fresh noise for every batch, one training step on it, and at the end the noise of all images from the last surrogate."""

    epsilon: float  # linf, pixel units
    noise_steps: int  # per batch
    step_size: float  # pixel units
    samples: int  # random views per noise step
    noise_adversary: Adversary  # acts on the views while the noise is made
    weight_adversary: Adversary  # acts on the noisy images that the surrogate learns
    train_steps: int
    batch: int  # images
    lr: float
    weight_decay: float
    colours: bool = False  # the adversary sits before a colour transform and the crop, instead of after the crop
    mirrored_frame: bool = False  # noise of a cropped, mirrored image is kept as if it were of the image
    drops: tuple[float, ...] = (0.4, 0.8)  # parts of training after which the learning rate is divided by ten

    @property
    def passes(self) -> int:
        """What making the noise of one image costs."""
        return self.noise_steps * self.samples * (self.noise_adversary.passes + 2)

    def views(self, x: Tensor, generator: torch.Generator) -> tuple[View, View]:
        """Draw what happens to images before the adversary, and between it and the network."""
        if self.mirrored_frame:
            return identity, identity
        crop = crop_flip(x, generator)
        if not self.colours:
            return crop, identity
        colour = jitter_gray(x, generator)
        return identity, lambda z: crop(colour(z))

    def minimize(self, run: Crafting, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return noise for a batch; the surrogate must be `still`. The adversary's step counts as a constant offset."""
        delta = self.settled(x, torch.empty_like(x).uniform_(-self.epsilon, self.epsilon, generator=run.device_generator))
        targets = y.repeat(self.samples)
        for _ in range(self.noise_steps):
            delta.requires_grad_(True)
            with torch.enable_grad(), mixed(run.device):
                stacked = (x + delta).clamp(0, 1).repeat(self.samples, 1, 1, 1)  # (J*B, C, H, W)
                before, after = self.views(stacked, run.device_generator)
                v = before(stacked)
                fixed = v.detach()
                with torch.no_grad():
                    offset = self.noise_adversary(through(net, after), fixed, targets, run.device_generator) - fixed
                loss = F.cross_entropy(net(after(v + offset)).float(), targets, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, delta)
            delta = self.settled(x, (delta.detach() - self.step_size * gradient.sign_()).clamp_(-self.epsilon, self.epsilon))
        run.count(self.passes, len(y))
        return delta

    def settled(self, x: Tensor, delta: Tensor) -> Tensor:
        """Return noise as a step leaves it: with `mirrored_frame` cut to valid pixels, the start too, as in that code base."""
        return (x + delta).clamp_(0, 1) - x if self.mirrored_frame else delta

    def looked_at(self, x: Tensor, run: Crafting) -> Tensor:
        """Return the images for which noise is made."""
        return crop_flip(x, run.device_generator)(x) if self.mirrored_frame else x


def alternate(run: Crafting, net: nn.Module, plan: Alternation) -> Tensor:
    """Make one perturbation per image batch by batch; return 8-bit levels, int8 (N, C, H, W), on the CPU."""
    size = len(run.clean)
    batch = min(plan.batch, size)
    per_epoch = size // batch  # incomplete batches are left out of training
    optimizer = descent_of(net, plan.lr, plan.weight_decay)
    levels = torch.zeros(run.clean.images.shape, dtype=torch.int8)
    total = plan.train_steps + -(-size // batch)
    watched = Watched(run, net, optimizer, levels, False, per_epoch) if run.stages else None
    order, first = torch.empty(0, dtype=torch.long), 0
    if state := run.resume("noise"):
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        order, first, levels[:] = state["order"].cpu(), state["step"], state["levels"].cpu()
        if watched:
            watched.load_state_dict(state["watched"])
    for step in range(first, total):
        training = step < plan.train_steps
        if training:
            place = step % per_epoch
            if place == 0:
                order = torch.randperm(size, generator=run.job.generator)
            rows = order[place * batch : (place + 1) * batch]
        else:  # all noise anew; incomplete batches too
            place = step - plan.train_steps
            rows = torch.arange(place * batch, min((place + 1) * batch, size))
        x, y = run.batch(rows)
        x = plan.looked_at(x, run)
        with still(net):
            delta = plan.minimize(run, net, x, y)
        found = (255 * delta).round_()
        levels[rows] = found.to(torch.int8).cpu()
        if training:
            kept = delta if plan.mirrored_frame else found / 255
            run.write(surrogate_loss=robust_step(run, net, optimizer, plan, x, y, kept, step))
            if watched:
                watched.after_step()
        run.job.progress(step + 1, total)
        if run.due:
            state = snapshot(net, optimizer, order=order, step=step + 1, levels=levels)
            run.keep("noise", state | {"watched": watched.state_dict() if watched else None})
    return levels


def robust_step(
    run: Crafting,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    plan: Alternation,
    x: Tensor,
    y: Tensor,
    delta: Tensor,
    step: int,
) -> float:
    """Train on the worst case around a new view of the noisy images; return the loss."""
    for group in optimizer.param_groups:
        drops = sum(step >= round(part * plan.train_steps) for part in plan.drops)
        group["lr"] = group["base"] * group["rate"] * 0.1**drops
    before, after = plan.views(x, run.device_generator)
    v = before((x + delta).clamp(0, 1))
    with still(net), mixed(run.device):
        v = plan.weight_adversary(through(net, after), v, y, run.device_generator)
    run.count(3 + plan.weight_adversary.passes, len(y))
    return train_step(net, optimizer, after(v), y)
