"""Trains a victim by a protocol and judges it on the clean test set: the one training loop."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from unlearnable_bench.benchmark.augment import AUGMENTATIONS, Batch, fit_size, floats
from unlearnable_bench.poisons.numerics import WORTH_COMPILING, Numerics, can_compile, compiles
from unlearnable_bench.registry import Defense, EntryError, Hooks, ImageSet, Protocol
from unlearnable_bench.registry._blocks import weights_by_layer
from unlearnable_bench.registry._paths import CELLS_PER_GPU
from unlearnable_bench.registry._spent import Spent
from unlearnable_bench.registry.architectures._network import begin

LOOKED = 50  # steps after which a GPU is asked for the loss: asking makes it wait
EVALUATED = 250  # test images judged at once
RESIDENT = 0.4  # part of a GPU's free memory that a training set may take; larger ones are streamed
COPIED_BYTES = 1 << 31  # bytes of a training set up to which a CPU keeps a copy in the order that it likes best
GRAPHS = 64  # that the code of a network may be compiled to in one cell; a defense doubles those of plain training, 2
AHEAD = 2  # batches that are prepared while one is trained on


class DivergedError(RuntimeError):
    """A loss is no number any more."""


@dataclass
class EpochFigures:
    """One value per epoch. Accuracies are fractions; training figures are taken on the batches as they were trained on.

    Test figures are of the epochs in `epochs`, or of every epoch where that is empty.
    """

    train_acc: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    test_acc: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    objective: list[float] = field(default_factory=list)  # of a contrastive protocol, before its probe
    shifts: list[float] = field(default_factory=list)  # of the last epoch alone, see `judge_network`
    epochs: list[int] = field(default_factory=list)  # that were judged, from 1, where not all were


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

    def normalised(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std if self.scaled else x

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(self.normalised(x))
        if self.training:
            self.last = logits.detach()
        return logits

    def features(self, x: Tensor) -> Tensor:
        """Return what enters the head, (B, D)."""
        net: Any = self.net
        features: Tensor = net.features(self.normalised(x))
        return features


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps its state, at most every `seconds`, so that a killed one goes on and ends the same."""

    path: Path
    seconds: float = 60.0

    def save(self, state: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".tmp")
        torch.save(state, scratch)
        scratch.replace(self.path)

    def load(self) -> dict[str, Any] | None:
        """Return the last state, on the CPU; None if there is none or it cannot be read."""
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception:  # a damaged checkpoint costs time, nothing else
            return None
        return state

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is. A training that began a second schedule counts the steps of both."""

    step: int  # steps that are done
    steps: int
    epoch: int  # epochs that are over: trained and judged
    epochs: int
    images_per_second: float | None  # trained on in this epoch; None until the loss was read once
    loss: float | None  # mean of this epoch, when it was read last
    accuracy: float | None  # on the test set, of the epoch that was judged last
    judged: float | None  # fraction of the test set that is judged by now; None while training


Report = Callable[[TrainingProgress], None]  # called after every step, every batch of test images and every epoch


def train(
    net: nn.Module,
    data: ImageSet,
    test: ImageSet,
    protocol: Protocol,
    defenses: Sequence[Defense] = (),
    device: str = "cpu",
    report: Report | None = None,
    numerics: Numerics | None = None,
    checkpoint: Checkpoint | None = None,
) -> EpochFigures:
    """Train `net` in place on `data` and judge it on `test` after every epoch.

    Call inside `poisons.numerics.seeded`. Per batch: gather, the protocol's augmentation, `augment` of the defenses from
    left to right, what their hooks do, normalisation, loss. DivergedError as soon as a loss is seen not to be finite.
    """
    return Training(net, data, protocol, defenses, device, numerics or Numerics()).run(test, report, checkpoint)


class Training:
    """One training that has begun. `Defense.start` is given it as a `registry.TrainingRun`."""

    def __init__(
        self,
        net: nn.Module,
        data: ImageSet,
        protocol: Protocol,
        defenses: Sequence[Defense],
        device: str,
        numerics: Numerics,
        clean: ImageSet | None = None,
    ) -> None:
        """`clean` is the training set image by image before it was poisoned, for defenses that need clean data."""
        for defense in defenses:
            protocol = defense.configure(protocol)
        if wrong := [name for name in protocol.augmentation if name not in AUGMENTATIONS]:
            raise EntryError(f"protocol: unknown augmentation {wrong[0]!r}; known are {', '.join(AUGMENTATIONS)}")
        plain = net
        for defense in defenses:
            net = defense.model(net)
        self.protocol, self.defenses, self.device, self.train = protocol, defenses, device, data
        self.unpoisoned = clean
        self.judge = next((d for d in defenses if type(d).loss is not Defense.loss), Defense())
        ordered: Any = getattr(net, "layers", None)
        self.layers: list[nn.Module] = ordered() if callable(ordered) else [net]
        self.weights = weights_by_layer(self.layers)
        self.held_still = _frozen(self.layers, protocol.frozen)
        self.begun_with = copy.deepcopy(net.state_dict()) if getattr(plain, "pretrained", False) else None
        self.size = protocol.input_size or data.images.shape[2]
        victim = Victim(net, protocol.mean, protocol.std)
        begin(plain, data, lambda x: victim.normalised(fit_size(x, self.size)))
        self.model: Victim = victim.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.kept: Tensor | None = None  # rows to train on, None: all
        self.earlier = Spent()  # what a process spent whose checkpoint was taken up
        self.curve = EpochFigures()
        self.begin, self.epoch, self.step = 0, 0, 0  # epoch in which the schedule began; epochs and steps done since
        self.total, self.per_epoch = protocol.length(len(data))
        self.report: Report | None = None
        self.loss: float | None = None  # mean of this epoch and images per second in it, when the loss was read last
        self.images_per_second: float | None = None
        self.numerics = replace(numerics, compile=numerics.compile or self._pays_to_compile(plain))
        self.bf16 = numerics.dtype == "bf16"
        if self.numerics.compile:
            _compile(net)
        starting = [defense for defense in defenses if type(defense).start is not Defense.start]
        self.optimizer = _optimizer(self.model, protocol, self.weights if starting else None)
        self.schedule = _schedule(self.optimizer, protocol, self.total, self.per_epoch)
        self.source = _Source(data, device)
        self.generator = torch.Generator().manual_seed(torch.initial_seed() & (2**63 - 1))
        self._before: dict[str, Any] | None = None
        self.hooks: list[Hooks] = [defense.start(self) for defense in starting]
        self.judge_every = protocol.judge_every if not self.hooks else 1  # a defense may end the training at any epoch

    def work(self, net: nn.Module) -> float:
        """Return the FLOPs that the training of `net` needs, three passes of forward multiply-adds per plain step."""
        shape = (1, self.train.images.shape[1], self.size, self.size)
        flops = FlopCounterMode(display=False)
        with flops:
            copy.deepcopy(net).to("meta").eval().requires_grad_(False)(torch.empty(shape, device="meta"))
        cost = 1 + sum(defense.cost - 1 for defense in self.defenses)
        return 3 * cost * float(flops.get_total_flops()) * self.protocol.batch * self.total

    def _pays_to_compile(self, net: nn.Module) -> bool:
        if not can_compile(self.device):
            return False
        try:
            work = self.work(net)
        except (NotImplementedError, RuntimeError):  # of others, and of no use without values: not counted, not compiled
            return False
        return work >= WORTH_COMPILING and compiles(self.device)

    # what hooks may do

    def keep(self, mask: Tensor) -> None:
        """Train on the images of `mask` (bool, (N,)) alone from the next epoch on."""
        self.kept = torch.nonzero(mask.cpu()).flatten()
        if not len(self.kept):
            raise EntryError("a defense keeps no image at all")

    def rollback(self) -> None:
        """Put weights, buffers and the optimizer's memory back to where they were before the last epoch."""
        assert self._before is not None, "there is an epoch to take back once hooks run"
        self.model.load_state_dict(self._before["model"])
        self.optimizer.load_state_dict(
            self._before["optimizer"] | {"param_groups": self.optimizer.state_dict()["param_groups"]}
        )

    def factors(self, values: Sequence[float]) -> None:
        """Multiply the learning rate of each of `weights` by its own factor from now on."""
        if self.protocol.schedule == "onecycle":
            raise EntryError("a defense scales learning rates by layer; schedule onecycle cannot, choose another")
        shape = self.schedule.lr_lambdas[0](self.schedule.last_epoch)
        for number, group in enumerate(self.optimizer.param_groups):
            peak = self.protocol.lr * group["factor"] * values[group["layer"]]
            self.schedule.base_lrs[number] = peak
            group["lr"] = peak * shape

    def restart(self, lr: float, epochs: int) -> None:
        """Begin a new schedule of `epochs` epochs with the peak learning rate `lr`, all layers at factor 1."""
        self.total, self.step, self.begin = epochs * self.per_epoch, 0, self.epoch
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] = lr * group["factor"]
        self.schedule = _schedule(self.optimizer, self.protocol, self.total, self.per_epoch)

    def outputs(self, rows: Tensor, features: bool = False, of: ImageSet | None = None) -> Tensor:
        """Return logits, or what enters the head, of the training images `rows`, or those of another set: float32 (n, D).

        Evaluation mode, no augmentation; on the CPU.
        """
        seen: list[Tensor] = []
        data = self.train if of is None else of
        training = self.model.training
        self.model.eval()
        with self._eager(), torch.no_grad(), torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=self.bf16):
            for part in rows.cpu().split(EVALUATED):
                x = fit_size(data.pixels(part, self.device), self.size).contiguous(memory_format=torch.channels_last)
                seen.append((self.model.features(x) if features else self.model(x)).float().cpu())
        self._mode(training)
        return torch.cat(seen)

    def clean(self, n: int, rows: Tensor | None = None) -> ImageSet:
        """Return n seeded images of the training set, of `rows` where given, as they were before they were poisoned.

        EntryError unless the defense says that it needs clean data.
        """
        if not any("clean-data" in defense.needs for defense in self.defenses):
            raise EntryError('a defense asks for clean images; one that does declares needs = ("clean-data",)')
        if self.unpoisoned is None:
            raise EntryError("a defense asks for clean images, and this training was not given any")
        rows = torch.arange(len(self.unpoisoned)) if rows is None else rows.cpu()
        if not 0 <= n <= len(rows):
            raise EntryError(f"a defense asks for {n} clean images, there are {len(rows)}")
        rows = rows[torch.randperm(len(rows), generator=self.generator)[:n]]
        return replace(self.unpoisoned, images=self.unpoisoned.images[rows], labels=self.unpoisoned.labels[rows])

    def twin(self, data: ImageSet) -> Training:
        """Train a network like this one, drawn anew as torch draws weights, on another set by the same protocol, plainly.

        One that is pretrained begins with its weights again.
        """
        net = copy.deepcopy(self.model.net)
        for module in net.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
        if self.begun_with is not None:
            net.load_state_dict(self.begun_with)
        other = Training(net, data, self.protocol, (), self.device, self.numerics)
        other.run(None, None, None)
        return other

    def exchange(self, images: Tensor) -> None:
        """Train on these images, one for each of the set and of its shape, from the next epoch on."""
        self.train = replace(self.train, images=images)
        self.source = _Source(self.train, self.device)

    def end(self, epoch: int) -> None:
        """End the training here; what counts is how it stood after `epoch`, and the curve ends there."""
        self.total = self.step
        if epoch < len(self.curve.test_acc):
            self.curve.shifts = []  # of the last epoch, not of that one
        for values in (v for name, v in vars(self.curve).items() if name != "shifts"):
            del values[epoch:]

    # the loop

    def run(self, test: ImageSet | None, report: Report | None, checkpoint: Checkpoint | None) -> EpochFigures:
        """Train to the end, judging on `test` as often as the protocol says; None: nothing is judged, there are no classes."""
        self.report = report
        began = Spent.now()
        state = checkpoint.load() if checkpoint is not None else None
        if state is not None and state.get("computed") == self.numerics.on(self.device):
            self._resume(state)
        saved = time.monotonic()
        while self.step < self.total:
            if self.hooks:
                model = {name: value.clone() for name, value in self.model.state_dict().items()}
                self._before = {"model": model, "optimizer": _copied(self.optimizer.state_dict())}
            self._one_epoch()
            self.epoch += 1
            if test is not None and (self.epoch % self.judge_every == 0 or self.step >= self.total):
                self._judge(test)
            for hooks in self.hooks:
                hooks.after_epoch(self.epoch)
            if checkpoint is not None and self.step < self.total and time.monotonic() - saved >= checkpoint.seconds:
                checkpoint.save(self._state() | asdict(self.earlier + (Spent.now() - began)))
                saved = time.monotonic()
            self._tell(self.epoch)
        return self.curve

    def _tell(self, epoch: int, judged: float | None = None) -> None:
        """Report how far the training is. Asks the device for nothing."""
        if self.report is None:
            return
        before = self.begin * self.per_epoch  # steps of an earlier schedule
        epochs = self.begin + math.ceil(self.total / self.per_epoch)
        accuracy = self.curve.test_acc[-1] if self.curve.test_acc else None
        steps = before + self.step, before + self.total
        self.report(TrainingProgress(*steps, epoch, epochs, self.images_per_second, self.loss, accuracy, judged))

    def _mode(self, training: bool) -> None:
        """Let statistics move or stand; those of frozen layers always stand."""
        self.model.train(training)
        for part in self.held_still:
            part.eval()

    def _one_epoch(self) -> None:
        protocol, model, device = self.protocol, self.model, self.device
        self._mode(training=True)
        rows = self.kept if self.kept is not None else torch.arange(len(self.train))
        order = rows[torch.randperm(len(rows), generator=None if protocol.shuffle else _fixed())]
        steps = min(self.per_epoch, math.ceil(len(rows) / protocol.batch), self.total - self.step)
        batches = list(order.split(protocol.batch))[:steps]
        images = sum(map(len, batches))
        loss_sum, right, seen = torch.zeros((), device=device), torch.zeros((), device=device), 0
        classes = self.train.num_classes
        began = time.monotonic()
        for index, x, y in self.source.batches(batches):
            batch = Batch(self.size, index, self.epoch, torch.initial_seed())
            for name in protocol.augmentation:
                x = AUGMENTATIONS[name](x, batch)
            x = floats(x)
            if any(defense.soft for defense in self.defenses):
                y = F.one_hot(y, classes).float()
            for defense in self.defenses:
                x, y = defense.augment(x, y)
            for hooks in self.hooks:
                x, y = hooks.batch(x, y, index)
            if protocol.label_smoothing:
                y = smoothed(y, classes, protocol.label_smoothing)
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=self.bf16):
                loss = self.judge.loss(model, x, y, self.step / self.total)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if protocol.clip:
                nn.utils.clip_grad_norm_(model.parameters(), protocol.clip)
            self.optimizer.step()
            self.schedule.step()
            self.step += 1
            loss_sum += loss.detach() * len(index)
            if model.last is not None and len(model.last) == len(y):
                right += (model.last.argmax(1) == (y if y.ndim == 1 else y.argmax(1))).sum()
            seen += len(index)
            looked = device == "cpu" or self.step % LOOKED == 0 or seen == images
            if looked:
                self.loss = float(loss_sum) / seen
                self.images_per_second = seen / max(time.monotonic() - began, 1e-9)
                if not math.isfinite(self.loss):
                    raise DivergedError(f"the training loss was {float(loss.detach())} in step {self.step} of {self.total}")
            self._tell(self.epoch)
        # an epoch of fewer images than the schedule counts on still takes its share of the schedule
        for _ in range(min(self.per_epoch - len(batches), self.total - self.step) if self.kept is not None else 0):
            self.schedule.step()
            self.step += 1
        self.curve.train_loss.append(float(loss_sum) / images)
        self.curve.train_acc.append(float(right) / images)

    def _judge(self, test: ImageSet) -> None:
        def tell(images: int) -> None:
            self._tell(self.epoch - 1, images / len(test))

        with self._eager():
            accuracy, loss, shifts = judge_network(self.model, test, self.device, self.size, self.bf16, tell)
        if not math.isfinite(loss):
            raise DivergedError(f"the test loss was {loss} after epoch {self.epoch}")
        if self.judge_every > 1:
            self.curve.epochs.append(self.epoch)
        self.curve.test_acc.append(accuracy)
        self.curve.test_loss.append(loss)
        self.curve.shifts = shifts

    def _eager(self) -> AbstractContextManager[Any]:
        """Judge without compiling: two more graphs would cost a minute each, for few of the passes."""
        return torch.compiler.set_stance("force_eager") if self.numerics.compile else nullcontext()

    def _state(self) -> dict[str, Any]:
        return {
            "computed": self.numerics.on(self.device),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "counters": [self.begin, self.epoch, self.step, self.total],
            "curve": asdict(self.curve),
            "kept": self.kept,
            "hooks": [hooks.state_dict() for hooks in self.hooks],
            "generator": self.generator.get_state(),
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.startswith("cuda") else None,
        }

    def _resume(self, state: dict[str, Any]) -> None:
        self.begin, self.epoch, self.step, self.total = state["counters"]
        self.earlier = Spent(state["seconds"], state["cpu_seconds"])
        if self.begin:
            self.schedule = _schedule(self.optimizer, self.protocol, self.total, self.per_epoch)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.curve, self.kept = EpochFigures(**state["curve"]), state["kept"]
        for hooks, own in zip(self.hooks, state["hooks"], strict=True):
            hooks.load_state_dict(own)
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["cpu"].cpu())
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"].cpu(), self.device)


def _frozen(layers: Sequence[nn.Module], count: int) -> list[nn.Module]:
    """Hold the first layers of a network still, or all but its head, for -1, and return them. EntryError."""
    most = len(layers) - 1
    least = -1 if most else 0  # what is trained without labels is one piece
    if not least <= count <= most:
        expected = f"{least} to {most}" if most else "0"
        raise EntryError(f"protocol: frozen={count}, and the network has {most} layers before its head; expected {expected}")
    frozen = list(layers[:most] if count < 0 else layers[:count])
    for part in frozen:
        part.requires_grad_(False)
    return frozen


class _Source:
    """Batches of a training set: gathered on the device where the whole set fits, else prepared ahead by a thread."""

    def __init__(self, data: ImageSet, device: str) -> None:
        self.data, self.device = data, device
        size = data.images.numel() * data.images.dtype.itemsize
        self.resident = not device.startswith("cuda") or size <= _room(device)
        copied = self.resident and (device != "cpu" or size <= COPIED_BYTES)  # beyond that a memory map stays one
        order = torch.channels_last  # whole pixels side by side: cropping copies them, not single values
        self.images = data.images.to(device, memory_format=order) if copied else data.images
        self.labels = data.labels.to(device) if self.resident else data.labels

    def batches(self, rows: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (index on the CPU, x as the set holds it, y) for each batch of rows, in order."""
        if self.resident:
            order = torch.cat(list(rows)).to(self.device)  # once: a copy per batch would make a GPU wait
            for index, there in zip(rows, order.split([len(index) for index in rows]), strict=True):
                yield index, self._gather(there), self.labels[there]
            return
        with ThreadPoolExecutor(1, initializer=self._choose_gpu) as pool:
            ahead = [pool.submit(self._prepare, index) for index in rows[:AHEAD]]
            for number, index in enumerate(rows):
                images, labels = ahead.pop(0).result()
                if number + AHEAD < len(rows):
                    ahead.append(pool.submit(self._prepare, rows[number + AHEAD]))
                yield index, images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def _gather(self, index: Tensor) -> Tensor:
        if self.images.is_contiguous():
            return self.images.index_select(0, index)
        return self.images.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)

    def _choose_gpu(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.set_device(self.device)  # of the thread, which else pins its batches by way of the first GPU

    def _prepare(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return self._gather(index).pin_memory(), self.labels[index].pin_memory()


def _fixed() -> torch.Generator:
    """Return the generator of the one order of a protocol that does not shuffle: the same in every epoch and every training."""
    return torch.Generator().manual_seed(0)


def _room(device: str) -> float:
    """Bytes of a GPU that a training set may take; all processes that share the GPU may find the same memory free at once."""
    sharing = int(os.environ.get(CELLS_PER_GPU, "1"))
    return RESIDENT * torch.cuda.mem_get_info(device)[0] / sharing


def smoothed(y: Tensor, classes: int, part: float) -> Tensor:
    """Return labels, int64 (B,) or rows (B, K), as rows of probabilities of which `part` is spread over all classes."""
    rows = y if y.ndim == 2 else F.one_hot(y, classes).float()
    return rows * (1 - part) + part / classes


def judge_network(
    model: nn.Module,
    test: ImageSet,
    device: str = "cpu",
    size: int = 0,
    bf16: bool = False,
    tell: Callable[[int], None] | None = None,
) -> tuple[float, float, list[float]]:
    """Return accuracy (fraction), mean cross-entropy and shifts on a clean test set. `size`: the side seen, 0: as is.

    Shifts: the part of the images that is taken for class y + k, for k from 0 to the number of classes less 1. A poison of
    adversarial examples towards y + 1 shows in the last of them: its victim says y - 1. `tell` is called after every batch
    with the number of images that are judged.
    """
    model.eval()
    classes = test.num_classes
    counts, loss = torch.zeros(classes, device=device, dtype=torch.long), torch.zeros((), device=device)
    with torch.no_grad(), torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=bf16):
        for where in test.batches(EVALUATED):
            x = fit_size(test.pixels(where, device), size or test.images.shape[2])
            y = test.labels[where].to(device)
            logits = model(x.contiguous(memory_format=torch.channels_last)).float()
            counts += ((logits.argmax(1) - y) % classes == torch.arange(classes, device=device)[:, None]).sum(1)
            loss += F.cross_entropy(logits, y, reduction="sum")
            if tell is not None:
                tell(where.stop)
    shifts = [count / len(test) for count in counts.tolist()]
    return shifts[0], float(loss) / len(test), shifts


def _compile(net: nn.Module) -> None:
    """Compile in place, so that names of weights, features and layers stay.

    Beyond its limit torch goes on without compiling, by a warning alone; here it raises, so that a record is right.
    """
    import torch._dynamo

    torch._dynamo.config.recompile_limit = GRAPHS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    net.compile(dynamic=False)


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    memory = {
        number: {name: value.clone() if isinstance(value, Tensor) else value for name, value in own.items()}
        for number, own in state["state"].items()
    }
    return {"state": memory, "param_groups": state["param_groups"]}


def _groups(model: nn.Module, protocol: Protocol, layers: Sequence[Sequence[nn.Parameter]] | None) -> list[dict[str, Any]]:
    """Group parameters by `layer`, where a defense may scale learning rates by layer, and by `factor` on the learning rate.

    Biases and the weights of normalizations, which are vectors, may have another rate and decay than all other weights.
    """
    apart = protocol.bias_lr != 1 or not protocol.decay_all
    groups = []
    for number, parameters in enumerate(layers if layers is not None else [list(model.parameters())]):
        trained = [p for p in parameters if p.requires_grad]
        vectors = [p for p in trained if apart and p.ndim <= 1]
        weights = [p for p in trained if not apart or p.ndim > 1]
        decay = protocol.weight_decay if protocol.decay_all else 0.0
        for members, factor, weight_decay in ((weights, 1.0, protocol.weight_decay), (vectors, protocol.bias_lr, decay)):
            rates = {"lr": protocol.lr * factor, "weight_decay": weight_decay / factor}
            groups.append({"params": members, "layer": number, "factor": factor, **rates})
    return [group for group in groups if group["params"]]


def _optimizer(model: nn.Module, protocol: Protocol, layers: Sequence[Sequence[nn.Parameter]] | None) -> torch.optim.Optimizer:
    """Make the optimizer; `layers`, lists of parameters, where a defense may scale their learning rates."""
    groups = _groups(model, protocol, layers)
    fused = True if next(model.parameters()).is_cuda else None
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(groups, protocol.lr, protocol.momentum, nesterov=protocol.nesterov, fused=fused)
    if protocol.optimizer in ("adam", "adamw"):
        kind = torch.optim.Adam if protocol.optimizer == "adam" else torch.optim.AdamW
        return kind(groups, protocol.lr, fused=fused)
    raise EntryError(f"protocol: unknown optimizer {protocol.optimizer!r}; known are sgd, adam and adamw")


def _schedule(optimizer: torch.optim.Optimizer, protocol: Protocol, total: int, per_epoch: int) -> Any:
    if protocol.schedule == "onecycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total, pct_start=protocol.warmup)
    if protocol.schedule not in SHAPES:
        known = ", ".join(sorted([*SHAPES, "onecycle"]))
        raise EntryError(f"protocol: unknown schedule {protocol.schedule!r}; known are {known}")
    shape, climb = SHAPES[protocol.schedule], protocol.warmup * total

    def factor(step: int) -> float:
        if step < climb:
            return (step + 1) / (climb + 1)
        return shape(protocol, step - math.floor(climb), total - math.floor(climb), per_epoch)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _milestones(protocol: Protocol, step: int, total: int, per_epoch: int) -> float:
    return float(protocol.gamma ** sum(step >= round(part * total) for part in protocol.milestones))


def _cosine(protocol: Protocol, step: int, total: int, per_epoch: int) -> float:
    return protocol.floor + (1 - protocol.floor) * 0.5 * (1 + math.cos(math.pi * step / total))


def _cosine_epoch(protocol: Protocol, step: int, total: int, per_epoch: int) -> float:
    return _cosine(protocol, step // per_epoch * per_epoch, total, per_epoch)


def _linear(protocol: Protocol, step: int, total: int, per_epoch: int) -> float:
    return 1 + (protocol.floor - 1) * step / total


SHAPES: dict[str, Callable[[Protocol, int, int, int], float]] = {
    "cosine": _cosine,
    "cosine-epoch": _cosine_epoch,
    "linear": _linear,
    "milestones": _milestones,
    "constant": lambda protocol, step, total, per_epoch: 1.0,
}
"""Factors of the peak learning rate by step, warm-up apart."""
