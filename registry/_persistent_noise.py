"""The loop of noise that persists: some training steps on the noisy images, then a pass over the noise of the whole set.

`persistent` makes one perturbation per image, `class_wise` one per class.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._crafting import Crafting, batches_of
from unlearnable_bench.registry._noise import zero_noise
from unlearnable_bench.registry._steps import sign_of_gradient, still
from unlearnable_bench.registry._surrogates import Watched, cosine_rate, descent_of, draw_view, snapshot, through, train_step
from unlearnable_bench.registry._views import Look


@dataclass(frozen=True)
class Rounds:
    """Some training steps on the noisy images, then a pass that lowers the loss of every image, until few are wrong."""

    epsilon: float  # linf, pixel units
    weight_steps: int  # per round
    batch: int  # images per training step
    noise_steps: int  # per round
    step_size: float  # pixel units
    lr: float
    weight_decay: float
    stop_error: float  # part of the images
    max_rounds: int
    start: str = "zero"  # or uniform
    view: str | Look = "none"  # cg, or what draws one
    clip: float = 5.0  # of the gradient's length in training; 0: none
    cosine: bool = False  # the learning rate falls to nothing over all rounds
    is_valid: bool = False  # noise is cut to valid pixels
    warm: Adversary = field(default=Adversary("none", 0.0))  # climbs from where it was before each pass, if its radius is > 0

    @property
    def passes(self) -> int:
        """Through the surrogate, forward and back, that `lower` takes for an image."""
        return 2 * self.noise_steps

    def after(self, error: float) -> Rounds:
        """The plan of the next round, told the part of the images that the surrogate gets wrong."""
        return self

    def lower(self, run: Crafting, net: nn.Module, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        """Return the noise of a batch after the descent of one pass, within epsilon, not cut to valid pixels."""
        z = (x + noise).clamp(0, 1)
        for _ in range(self.noise_steps):
            view = draw_view(self.view, z, run.device_generator)
            z = z - self.step_size * sign_of_gradient(through(net, view), z, y)
            noise = (z - x).clamp(-self.epsilon, self.epsilon)
            z = (x + noise).clamp(0, 1)
        return z - x if self.is_valid else noise

    def learn(self, run: Crafting, net: nn.Module, optimizer: torch.optim.Optimizer, rows: Tensor, noise: Tensor) -> float:
        """Take one training step on noisy images, which are not cut to valid pixels; return its loss."""
        x, y = run.batch(rows)
        x = x + noise.to(run.device)
        run.count(3, len(y))
        return train_step(net, optimizer, draw_view(self.view, x, run.device_generator)(x), y, self.clip)


def persistent(run: Crafting, net: nn.Module, plan: Rounds) -> Tensor:
    """Make one perturbation per image by rounds; return (N, C, H, W) in pixel units, on the CPU."""
    order = torch.randperm(len(run.clean), generator=run.job.generator)
    batches = batches_of(order, plan.batch)
    optimizer = descent_of(net, plan.lr, plan.weight_decay)
    noise = zero_noise(tuple(run.clean.images.shape))
    if plan.start == "uniform":
        for where in run.clean.batches():
            noise[where] = torch.empty(noise[where].shape).uniform_(-plan.epsilon, plan.epsilon, generator=run.job.generator)
    risen = zero_noise(tuple(run.clean.images.shape)) if plan.warm.radius else None
    watched = Watched(run, net, optimizer, noise, False, len(batches)) if run.stages else None
    first, error = 0, 1.0
    if state := run.resume("noise"):
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        noise[:], first = state["noise"].cpu(), state["round"]
        risen = None if risen is None else state["risen"].cpu()
        order = state["order"].cpu()
        batches = batches_of(order, plan.batch)
        if watched:
            watched.load_state_dict(state["watched"])
    for number in range(first, plan.max_rounds):
        losses = []
        if plan.cosine:
            for group in optimizer.param_groups:
                group["lr"] = cosine_rate(plan.lr, number, plan.max_rounds)
        for step in range(number * plan.weight_steps, (number + 1) * plan.weight_steps):
            rows = batches[step % len(batches)]
            losses.append(plan.learn(run, net, optimizer, rows, noise[rows].float()))
            if watched:
                watched.after_step()
        error = noise_pass(run, net, plan, noise, risen)
        run.write(surrogate_loss=sum(losses) / len(losses), surrogate_error=error)
        run.job.progress(number + 1, plan.max_rounds)
        if error <= plan.stop_error:
            break
        if run.due:
            state = snapshot(net, optimizer, noise=noise, risen=risen, round=number + 1, order=order)
            run.keep("noise", state | {"watched": watched.state_dict() if watched else None})
    return noise


def noise_pass(run: Crafting, net: nn.Module, plan: Rounds, noise: Tensor, risen: Tensor | None) -> float:
    """Update the noise of all images in place; return the part of them that the surrogate then gets wrong."""
    wrong = 0
    with still(net):
        for where in run.clean.batches(run.at_once):
            x, y = run.batch(where)
            own = noise[where].to(run.device).float()
            if risen is not None:  # climb from where the last round's climb ended, and start the descent there
                own = risen[where].to(run.device).float()
                for _ in range(plan.warm.steps):
                    z = (x + own).clamp(0, 1)
                    z = z + plan.warm.step_size * sign_of_gradient(net, z, y)
                    own = (z - x).clamp(-plan.warm.radius, plan.warm.radius)
                risen[where] = own.cpu().to(risen.dtype)
                run.count(2 * plan.warm.steps, len(y))
            own = plan.lower(run, net, x, y, own)
            with torch.no_grad():
                wrong += int((net(x + own).argmax(1) != y).sum())
            noise[where] = own.cpu().to(noise.dtype)
            run.count(2 * plan.noise_steps + 1, len(y))
    return wrong / len(run.clean)


def class_wise(run: Crafting, net: nn.Module, plan: Rounds, part: float) -> Tensor:
    """Make one perturbation per class by rounds, searched on a `part` of each class; return (K, C, H, W) in pixel units.

    The noise of a class moves, batch after batch, to the mean of what its images in the batch ask for; the surrogate learns
    from all images.
    """
    clean, draws = run.clean, run.job.generator
    chosen = _stratified(clean, part, draws)
    optimizer = descent_of(net, plan.lr, plan.weight_decay)
    noise = torch.zeros(clean.num_classes, *clean.images.shape[1:], device=run.device)
    batch, searched = min(plan.batch, len(clean)), min(plan.batch, len(chosen))
    queue: list[Tensor] = []
    watched = Watched(run, net, optimizer, noise, True, max(1, len(clean) // batch)) if run.stages else None
    for number in range(plan.max_rounds):
        losses = []
        for _ in range(plan.weight_steps):
            if not queue:
                order = torch.randperm(len(clean), generator=draws)
                queue = [rows for rows in order.split(batch) if len(rows) == batch]
            rows = queue.pop(0)
            losses.append(plan.learn(run, net, optimizer, rows, noise[clean.labels[rows].to(run.device)]))
            if watched:
                watched.after_step()
        order = chosen[torch.randperm(len(chosen), generator=draws)]
        with still(net):
            for rows in order.split(searched):
                if len(rows) == searched:
                    move_classes(run, net, plan, rows, noise)
        error = 1 - _class_hits(run, net, chosen, noise)
        plan = plan.after(error)
        run.write(surrogate_loss=sum(losses) / len(losses), surrogate_error=error)
        run.job.progress(number + 1, plan.max_rounds)
        if error <= plan.stop_error:
            break
    return noise.cpu()


def move_classes(run: Crafting, net: nn.Module, plan: Rounds, rows: Tensor, noise: Tensor) -> None:
    """Update the noise of the classes of some images in place: the mean over each class of its images' noise."""
    x, y = run.batch(rows)
    own = plan.lower(run, net, x, y, noise[y])
    members = F.one_hot(y, len(noise)).to(own.dtype)  # (B, K); a product adds in the same order every time, index_add does not
    count = members.sum(0)
    mean = (members.T @ own.flatten(1)).view_as(noise) / count.clamp(min=1).view(-1, 1, 1, 1)
    there = count > 0
    noise[there] = mean[there].clamp(-plan.epsilon, plan.epsilon)
    run.count(plan.passes, len(y))


def _class_hits(run: Crafting, net: nn.Module, chosen: Tensor, noise: Tensor) -> float:
    right = 0
    with still(net), torch.no_grad():
        for rows in chosen.split(run.at_once):
            x, y = run.batch(rows)
            right += int((net(x + noise[y]).argmax(1) == y).sum())
            run.count(1, len(y))
    return right / len(chosen)


def _stratified(clean: ImageSet, part: float, draws: torch.Generator) -> Tensor:
    """Return rows of a part of every class, at least one image of each that has any, in the order of the set."""
    found = []
    for label in range(clean.num_classes):
        members = torch.nonzero(clean.labels == label).flatten()
        wanted = max(round(part * len(members)), min(1, len(members)))
        found.append(members[torch.randperm(len(members), generator=draws)[:wanted]])
    return torch.cat(found).sort().values
