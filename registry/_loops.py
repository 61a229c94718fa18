"""The three loops in which surrogates and noise are made: networks held still, noise that persists, and batch by batch.

`descend` moves a chunk of images against frozen networks; `persistent` takes turns between some training steps and a pass over
the whole set; `alternate` makes fresh noise for every batch that it trains on, and all noise anew at the end. `fit` trains a
surrogate on clean images. A `Run` carries random numbers, the count of passes, and checkpoints from which each loop goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from registry import ARCHITECTURES, ImageSet, Job
from registry._adversaries import Adversary
from registry._blocks import weights_by_layer
from registry._staged import GAMMA, Stages
from registry._steps import sign_of_gradient, still
from registry._views import View, crop_flip, identity, jitter_gray, shift_flip
from registry.architectures._network import begin, draw_as_he

EVERY = 60.0  # seconds between two checkpoints, or longer where they take long
SPENT_SAVING = 0.05  # largest part of the time that goes into checkpoints
LARGE = 1 << 28  # values of noise from which half precision keeps them; its error is 0.01 of a level
DIGITS = 1e-5  # 8-bit levels, of float32, before values are cut to whole levels
PIXELS = 1 << 19  # positions that go through a surrogate together where no paper says how many: 512 images of 32x32


class Run:
    """One crafting: the data, random numbers on the device, passes so far, and a checkpoint once a minute."""

    def __init__(self, clean: ImageSet, job: Job, stages: int = 0) -> None:
        """`stages` above 0: surrogates of `persistent`, `class_wise` and `alternate` are trained in so many stages."""
        self.stages = stages
        self.clean, self.job, self.device = clean, job, job.device
        seed = int(torch.randint(2**62, (1,), generator=job.generator))
        self.dice = torch.Generator(job.device).manual_seed(seed)
        self.passes = 0.0  # through the surrogate, forward or back, per training image
        self.log: dict[str, list[float]] = {}
        self._state = job.load()
        self._due = time.monotonic() + EVERY

    @property
    def stage(self) -> str:
        """The stage in which the process that went before died, '' if there was none or its state is taken up."""
        return "" if self._state is None else str(self._state["stage"])

    def resume(self, stage: str) -> dict[str, Any] | None:
        """Return what this stage kept, and take up its random numbers; None if it starts at its beginning."""
        if self._state is None or self._state["stage"] != stage:
            return None
        state, self._state = self._state, None
        self.dice.set_state(state["dice"].cpu())
        self.job.generator.set_state(state["job"].cpu())
        torch.set_rng_state(state["torch"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"].cpu(), self.device)
        self.passes, self.log = state["passes"], state["log"]
        found: dict[str, Any] = state["loop"]
        return found

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is long enough ago."""
        return time.monotonic() >= self._due

    def keep(self, stage: str, loop: dict[str, Any]) -> None:
        """Save what a loop of this stage goes on from."""
        start = time.monotonic()
        state = {"stage": stage, "loop": loop, "passes": self.passes, "log": self.log}
        state |= {"dice": self.dice.get_state(), "job": self.job.generator.get_state(), "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        self.job.save(state)
        now = time.monotonic()
        self._due = now + max(EVERY, (now - start) / SPENT_SAVING)

    def count(self, passes: float, images: int) -> None:
        """Add `passes` for each of so many images."""
        self.passes += passes * images / len(self.clean)

    def write(self, **figures: float) -> None:
        """Add figures to trajectories that are kept beside the poison."""
        for name, value in figures.items():
            self.log.setdefault(name, []).append(value)

    def close(self, **figures: float) -> None:
        """Hand passes, trajectories with their first and last values, and figures to the manifest."""
        ends = {f"{name}_{end}": values[at] for name, values in self.log.items() for end, at in (("first", 0), ("last", -1))}
        self.job.note(passes=self.passes, **ends, **figures)
        for name, values in self.log.items():
            self.job.keep(name, np.array(values, np.float32))

    def batch(self, rows: Any) -> tuple[Tensor, Tensor]:
        """Return x, float32 in [0, 1] units, and y of some images on the device."""
        return self.clean.pixels(rows, self.device), self.clean.labels[rows].to(self.device)

    @property
    def at_once(self) -> int:
        """How many images go through a surrogate together where it makes no difference: less of large ones."""
        return max(1, min(512, PIXELS // (self.clean.images.shape[2] * self.clean.images.shape[3])))


def mixed(device: torch.device) -> AbstractContextManager[Any]:
    """Compute in bf16 where only signs of gradients are wanted of networks that stay as they are; on GPUs that have it.

    On a CPU never, so that every CPU makes the same poison. `poisons.numerics.Numerics.pinned` says the same in manifests.
    """
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


# Surrogates


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


def surrogate(run: Run, name: str, sees: str = "pixels", drawn: str = "torch") -> nn.Module:
    """Make a network on the device. It sees `pixels`, `centred` ones (less 0.5), or `standard` ones (mean 0, std 1).

    `drawn` torch is as the architecture has it; he draws convolutions normally by their fan out.
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
class Recipe:
    """How a surrogate is trained before it is held still."""

    epochs: int = 0
    steps: int = 0  # instead of epochs, where above 0
    batch: int = 128  # images
    lr: float = 0.1
    drops: tuple[float, ...] = ()  # parts of training after which the learning rate is divided by ten
    warmup: int = 0  # epochs in which the learning rate climbs from a hundredth
    nesterov: bool = False
    weight_decay: float = 5e-4
    view: str = "crop"  # crop, shift or none
    adversary: Adversary = field(default=Adversary("none", 0.0))

    def rate(self, step: int, total: int, per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rate = self.lr * 0.1 ** sum(step >= round(part * total) for part in self.drops)
        if step < self.warmup * per_epoch:
            return rate * (0.01 + 0.99 * step / (self.warmup * per_epoch))
        return rate


def draw_view(name: str, x: Tensor, dice: torch.Generator, fill: Tensor | None = None) -> View:
    """Draw a view by its name: none, crop, shift or cg."""
    if name == "crop":
        return crop_flip(x, dice)
    if name == "shift":
        return shift_flip(x, dice, fill)
    return jitter_gray(x, dice) if name == "cg" else identity


def through(net: nn.Module, view: View) -> Callable[[Tensor], Tensor]:
    """Return the network as it answers to a view of its input."""
    return lambda x: net(view(x))


def fit(
    run: Run,
    net: nn.Module,
    recipe: Recipe,
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
        x = draw_view(recipe.view, x, run.dice, fill)(x)
        if recipe.adversary.passes:
            with still(net), mixed(run.device):
                x = recipe.adversary(net, x, y, run.dice)
        spent += _learn(net, optimizer, x, y)
        run.count(3 + recipe.adversary.passes, len(y))
        if place == per_epoch - 1 or step == total - 1:
            run.write(surrogate_loss=spent / (place + 1))
            spent = 0.0
            after_epoch(step // per_epoch + 1)
        run.job.progress(step + 1, total)
        if run.due:
            run.keep("fit", _snapshot(net, optimizer, others=kept.state_dict(), order=order, step=step + 1, spent=spent))


def _learn(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, clip: float = 0.0) -> float:
    """Take one training step; return the loss before it."""
    net.train()
    loss = F.cross_entropy(net(x).float(), y)
    optimizer.zero_grad()
    loss.backward()
    if clip:
        nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimizer.step()
    return float(loss.detach())


def _snapshot(net: nn.Module, optimizer: torch.optim.Optimizer, **rest: Any) -> dict[str, Any]:
    return {"net": net.state_dict(), "optimizer": optimizer.state_dict(), **rest}


class Watched:
    """Staged training of a surrogate, for poisoners who know that defense: what `_staged.Stages` asks of a training.

    An epoch is one pass over the set, however many noise steps lie between. Taking it back restores weights, momentum and
    normalisation, not the noise.
    """

    def __init__(
        self, run: Run, net: nn.Module, optimizer: torch.optim.Optimizer, noise: Tensor, tied: bool, per_epoch: int
    ) -> None:
        self.run, self.net, self.optimizer = run, net, optimizer
        self.train, self.generator = run.clean, run.job.generator
        self.noise, self.tied, self.per_epoch = noise, tied, per_epoch  # tied: one perturbation per class
        self.weights = weights_by_layer(parts_of(net))
        self.steps, self.total = 0, 0
        self.saved = deepcopy(_snapshot(net, optimizer))
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
            self.saved = deepcopy(_snapshot(self.net, self.optimizer))

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


def hits(run: Run, net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return which part of 8-bit images a network gives these labels, in evaluation mode."""
    found = 0
    with still(net), torch.no_grad():
        for start in range(0, len(images), run.at_once):
            rows = slice(start, start + run.at_once)
            found += int((net(images[rows].to(run.device).float() / 255).argmax(1).cpu() == labels[rows]).sum())
    return found / len(images)


# Noise that persists


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
    view: str = "none"  # or cg
    warm: Adversary = field(default=Adversary("none", 0.0))  # climbs from where it was before each pass, if its radius is > 0

    def lower(self, run: Run, net: nn.Module, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        """Return the noise of a batch after the descent of one pass, within epsilon, not cut to valid pixels."""
        z = (x + noise).clamp(0, 1)
        for _ in range(self.noise_steps):
            view = draw_view(self.view, z, run.dice)
            z = z - self.step_size * sign_of_gradient(through(net, view), z, y)
            noise = (z - x).clamp(-self.epsilon, self.epsilon)
            z = (x + noise).clamp(0, 1)
        return noise

    def learn(self, run: Run, net: nn.Module, optimizer: torch.optim.Optimizer, rows: Tensor, noise: Tensor) -> float:
        """Take one training step on noisy images, which are not cut to valid pixels; return its loss."""
        x, y = run.batch(rows)
        x = x + noise.to(run.device)
        run.count(3, len(y))
        return _learn(net, optimizer, draw_view(self.view, x, run.dice)(x), y, clip=5.0)


def room(shape: tuple[int, ...]) -> Tensor:
    """Return zeros for the noise of a whole set, in half precision where it is large."""
    return torch.zeros(shape, dtype=torch.float32 if torch.Size(shape).numel() < LARGE else torch.float16)


def batches_of(order: Tensor, size: int) -> list[Tensor]:
    """Split rows into batches; a last batch of one image, which no normalisation can train on, is left out."""
    found = list(order.split(size))
    return found[:-1] if len(found) > 1 and len(found[-1]) == 1 else found


def persistent(run: Run, net: nn.Module, plan: Rounds) -> Tensor:
    """Make one perturbation per image by rounds; return (N, C, H, W) in pixel units, on the CPU."""
    order = torch.randperm(len(run.clean), generator=run.job.generator)
    batches = batches_of(order, plan.batch)
    optimizer = descent_of(net, plan.lr, plan.weight_decay)
    noise = room(tuple(run.clean.images.shape))
    if plan.start == "uniform":
        for where in run.clean.batches():
            noise[where] = torch.empty(noise[where].shape).uniform_(-plan.epsilon, plan.epsilon, generator=run.job.generator)
    risen = room(tuple(run.clean.images.shape)) if plan.warm.radius else None
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
        for step in range(number * plan.weight_steps, (number + 1) * plan.weight_steps):
            rows = batches[step % len(batches)]
            losses.append(plan.learn(run, net, optimizer, rows, noise[rows].float()))
            if watched:
                watched.after_step()
        error = _noise_pass(run, net, plan, noise, risen)
        run.write(surrogate_loss=sum(losses) / len(losses), surrogate_error=error)
        run.job.progress(number + 1, plan.max_rounds)
        if error <= plan.stop_error:
            break
        if run.due:
            state = _snapshot(net, optimizer, noise=noise, risen=risen, round=number + 1, order=order)
            run.keep("noise", state | {"watched": watched.state_dict() if watched else None})
    return noise


def _noise_pass(run: Run, net: nn.Module, plan: Rounds, noise: Tensor, risen: Tensor | None) -> float:
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


def class_wise(run: Run, net: nn.Module, plan: Rounds, part: float) -> Tensor:
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
        run.write(surrogate_loss=sum(losses) / len(losses), surrogate_error=error)
        run.job.progress(number + 1, plan.max_rounds)
        if error <= plan.stop_error:
            break
    return noise.cpu()


def move_classes(run: Run, net: nn.Module, plan: Rounds, rows: Tensor, noise: Tensor) -> None:
    """Update the noise of the classes of some images in place: the mean over each class of its images' noise."""
    x, y = run.batch(rows)
    own = plan.lower(run, net, x, y, noise[y])
    members = F.one_hot(y, len(noise)).to(own.dtype)  # (B, K); a product adds in the same order every time, index_add does not
    count = members.sum(0)
    mean = (members.T @ own.flatten(1)).view_as(noise) / count.clamp(min=1).view(-1, 1, 1, 1)
    there = count > 0
    noise[there] = mean[there].clamp(-plan.epsilon, plan.epsilon)
    run.count(2 * plan.noise_steps, len(y))


def _class_hits(run: Run, net: nn.Module, chosen: Tensor, noise: Tensor) -> float:
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


# Networks held still


Pull = Callable[[Tensor, View], tuple[Tensor, Tensor]]
"""`pull(z, view)`: the gradient of what is to fall with respect to z, and that loss of every image (B,)."""


@dataclass(frozen=True)
class Descent:
    """Steps of one size down the gradient of a loss of frozen networks, within a ball and within valid pixels."""

    epsilon: float  # pixel units, in `norm`
    norm: str  # linf: signed steps in a box; l2: normalised ones in a ball
    steps: int
    step_size: float  # pixel units
    start: str = "zero"  # zero; uniform in the box; gaussian: epsilon times a normal draw, cut to the box
    view: str = "none"  # none, crop or shift; a new one each step

    def begin(self, run: Run, x: Tensor) -> Tensor:
        """Return the perturbation of step 0."""
        if self.start == "uniform":
            return torch.empty_like(x).uniform_(-self.epsilon, self.epsilon, generator=run.dice)
        if self.start == "gaussian":
            drawn = self.epsilon * torch.empty_like(x).normal_(generator=run.dice)
            return drawn.clamp_(-self.epsilon, self.epsilon)
        return torch.zeros_like(x)

    def move(self, x: Tensor, delta: Tensor, gradient: Tensor) -> Tensor:
        """Return the perturbation after one step; its images are valid."""
        if self.norm == "linf":
            delta = (delta - self.step_size * gradient.sign()).clamp_(-self.epsilon, self.epsilon)
        else:
            delta = delta - self.step_size * F.normalize(gradient.flatten(1), dim=1).view_as(x)
            length = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            delta = delta * (self.epsilon / length.clamp(min=self.epsilon))
        return (x + delta).clamp_(0, 1) - x

    def apply(self, run: Run, x: Tensor, pull: Pull, fill: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the perturbation after all steps, and the loss of every image (B,) before the last one."""
        delta, losses = self.begin(run, x), torch.zeros(len(x))
        for _ in range(self.steps):
            gradient, losses = pull(x + delta, draw_view(self.view, x, run.dice, fill))
            delta = self.move(x, delta, gradient)
        return delta, losses


def toward(run: Run, nets: list[nn.Module], labels: Tensor, sign: float = 1.0) -> Pull:
    """Lower the mean cross-entropy of some networks to `labels`; or raise it, with sign -1."""

    def pull(z: Tensor, view: View) -> tuple[Tensor, Tensor]:
        total, losses = torch.zeros_like(z), torch.zeros(len(z), device=z.device)
        for net in nets:
            z = z.detach().requires_grad_(True)
            with torch.enable_grad(), mixed(run.device):
                loss = sign * F.cross_entropy(net(view(z)).float(), labels, reduction="none")
                (gradient,) = torch.autograd.grad(loss.sum(), z)
            total, losses = total + gradient / len(nets), losses + loss.detach() / len(nets)
        run.count(2 * len(nets), len(z))
        return total, losses

    return pull


Chunk = Callable[[Tensor, Tensor, slice], tuple[Tensor, Tensor]]
"""`chunk(x, y, where)`: the perturbation of some images, and their losses (B,)."""


def frozen(run: Run, nets: nn.ModuleList, chunk: Chunk, whole_levels: torch.dtype, restarts: int = 1) -> Tensor:
    """Move all images, chunk by chunk, each with all its steps; of several starts keep that of the lowest mean loss.

    Returns 8-bit levels (N, C, H, W) on the CPU: networks and images are looked at one by one, so that chunks do not matter.
    """
    size = len(run.clean)
    best = torch.zeros(run.clean.images.shape, dtype=whole_levels)
    levels = best if restarts == 1 else torch.zeros_like(best)
    first, done, spent, lowest = 0, 0, 0.0, float("inf")
    if found := run.resume("noise"):
        nets.load_state_dict(found["nets"])
        best, first, done = found["best"].cpu(), found["restart"], found["done"]
        levels = best if restarts == 1 else found["levels"].cpu()
        spent, lowest = found["spent"], found["lowest"]
    with still(nets):
        for number in range(first, restarts):
            while done < size:
                where = slice(done, min(done + run.at_once, size))
                delta, losses = chunk(*run.batch(where), where)
                levels[where] = (255 * delta).round_().cpu().to(whole_levels)
                spent, done = spent + float(losses.sum()), where.stop
                run.job.progress(number * size + done, restarts * size)
                if run.due:
                    state = {"nets": nets.state_dict(), "best": best, "levels": None if restarts == 1 else levels}
                    run.keep("noise", state | {"restart": number, "done": done, "spent": spent, "lowest": lowest})
            run.write(loss_of_start=spent / size)
            if spent < lowest and levels is not best:
                best.copy_(levels)
            lowest, spent, done = min(lowest, spent), 0.0, 0
    return best


# Batch by batch


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

    def views(self, x: Tensor, dice: torch.Generator) -> tuple[View, View]:
        """Draw what happens to images before the adversary, and between it and the network."""
        if self.mirrored_frame:
            return identity, identity
        crop = crop_flip(x, dice)
        if not self.colours:
            return crop, identity
        colour = jitter_gray(x, dice)
        return identity, lambda z: crop(colour(z))

    def minimize(self, run: Run, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return noise for a batch; the surrogate must be `still`. The adversary's step counts as a constant offset."""
        delta = self.settled(x, torch.empty_like(x).uniform_(-self.epsilon, self.epsilon, generator=run.dice))
        targets = y.repeat(self.samples)
        for _ in range(self.noise_steps):
            delta.requires_grad_(True)
            with torch.enable_grad(), mixed(run.device):
                stacked = (x + delta).clamp(0, 1).repeat(self.samples, 1, 1, 1)  # (J*B, C, H, W)
                before, after = self.views(stacked, run.dice)
                v = before(stacked)
                fixed = v.detach()
                with torch.no_grad():
                    offset = self.noise_adversary(through(net, after), fixed, targets, run.dice) - fixed
                loss = F.cross_entropy(net(after(v + offset)).float(), targets, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, delta)
            delta = self.settled(x, (delta.detach() - self.step_size * gradient.sign_()).clamp_(-self.epsilon, self.epsilon))
        run.count(self.passes, len(y))
        return delta

    def settled(self, x: Tensor, delta: Tensor) -> Tensor:
        """Return noise as a step leaves it: with `mirrored_frame` cut to valid pixels, the start too, as in that code base."""
        return (x + delta).clamp_(0, 1) - x if self.mirrored_frame else delta

    def looked_at(self, x: Tensor, run: Run) -> Tensor:
        """Return the images for which noise is made."""
        return crop_flip(x, run.dice)(x) if self.mirrored_frame else x


def alternate(run: Run, net: nn.Module, plan: Alternation) -> Tensor:
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
            run.write(surrogate_loss=_robust_step(run, net, optimizer, plan, x, y, kept, step))
            if watched:
                watched.after_step()
        run.job.progress(step + 1, total)
        if run.due:
            state = _snapshot(net, optimizer, order=order, step=step + 1, levels=levels)
            run.keep("noise", state | {"watched": watched.state_dict() if watched else None})
    return levels


def _robust_step(
    run: Run,
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
    before, after = plan.views(x, run.dice)
    v = before((x + delta).clamp(0, 1))
    with still(net), mixed(run.device):
        v = plan.weight_adversary(through(net, after), v, y, run.dice)
    run.count(3 + plan.weight_adversary.passes, len(y))
    return _learn(net, optimizer, after(v), y)


def in_slices(clean: ImageSet, noise: Tensor, scale: float = 1.0) -> Iterator[tuple[slice, Tensor]]:
    """Hand noise to the store part by part, as float32 in pixel units."""
    for where in clean.batches():
        yield where, noise[where].float() * scale


def exported(delta: Tensor, variant: str, epsilon: float) -> Tensor:
    """Cut noise to whole levels as a loader that truncates does: images are whole, so the sum truncates as the noise does.

    original: above zero only. lfu: both halves, which truncating moves down by half a level; kept within epsilon.
    """
    if variant not in ("original", "lfu"):
        return delta
    levels = (255 * delta + DIGITS).floor_()
    lowest = 0.0 if variant == "original" else -round(255 * epsilon)
    return levels.clamp_(min=lowest) / 255
