"""Analyses: hands them what they need of a cell, lets them watch a training, and collects their figures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.benchmark.augment import fit_size
from unlearnable_bench.benchmark.task import Task
from unlearnable_bench.benchmark.train import EVALUATED, Training
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.poisons.store import Kept, Store, chosen_images
from unlearnable_bench.registry import Analysis, Context, Defense, Hooks, ImageSet, Job, TrainingRun
from unlearnable_bench.registry._spent import Spent
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry.data import Data, load

ADAPTED = 1024  # images of a batch whose statistics are taken


class Looked:
    """A victim as analyses look at it: evaluation mode, no augmentation, results float32 on the CPU."""

    def __init__(self, training: Training) -> None:
        self.training = training

    @property
    def layers(self) -> list[Any]:
        """Its parts in order from input to output."""
        return self.training.layers

    @property
    def epoch(self) -> int:
        """The epochs that it was trained for so far."""
        return self.training.epoch

    def features(self, data: ImageSet) -> Tensor:
        """Return what enters the head: (N, D)."""
        return self._all(data, self.training.model.features)

    def logits(self, data: ImageSet) -> Tensor:
        """Return the logits: (N, classes)."""
        return self._all(data, self._logits)

    def _logits(self, x: Tensor) -> Tensor:
        """As the network computes them, part by part: a compiled whole would not call what looks at its parts."""
        net: Any = self.training.model.net
        logits: Tensor = net.head(self.training.model.features(x))
        return logits

    def gradient(self, data: ImageSet, number: int) -> float:
        """Return the mean absolute value of the gradient of the cross-entropy on a set, over the weights of a layer, from 1.

        What the victim has of gradients and of what is held still is left as it is.
        """
        layer = self.layers[number - 1]
        weights = list(layer.parameters())
        held = [not weight.requires_grad for weight in weights]
        layer.requires_grad_(True)
        sums = [torch.zeros_like(weight) for weight in weights]
        for where in data.batches(EVALUATED):
            y = data.labels[where].to(self.training.device)
            with torch.enable_grad():
                loss = F.cross_entropy(self._of(data, where, self._logits), y, reduction="sum")
            for total, part in zip(sums, torch.autograd.grad(loss, weights), strict=True):
                total += part / len(data)
        for weight, frozen in zip(weights, held, strict=True):
            weight.requires_grad_(not frozen)
        return float(torch.cat([total.abs().flatten() for total in sums]).mean())

    @contextmanager
    def still(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Hold it still, as a function from pixels on its device to logits, for gradients of what it sees."""
        model, size = self.training.model, self.training.size
        with still(model):
            yield lambda x: model(fit_size(x, size)).float()

    @contextmanager
    def adapted(self, data: ImageSet) -> Iterator[None]:
        """Let batch normalisation have the statistics of a set, as in training mode; the own ones come back after it."""
        norms = [module for module in self.training.model.modules() if isinstance(module, nn.BatchNorm2d)]
        before = [(norm.momentum, copy.deepcopy(norm.state_dict())) for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
        with torch.no_grad():
            for where in data.batches(ADAPTED):
                self._of(data, where, self.training.model.features, norms)
        try:
            yield
        finally:
            for norm, (momentum, state) in zip(norms, before, strict=True):
                norm.momentum = momentum
                norm.load_state_dict(state)

    @torch.no_grad()
    def _all(self, data: ImageSet, function: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.cat([self._of(data, where, function).cpu() for where in data.batches(EVALUATED)])

    def _of(
        self, data: ImageSet, where: slice, function: Callable[[Tensor], Tensor], learning: Sequence[nn.Module] = ()
    ) -> Tensor:
        training = self.training
        training.model.eval()
        for module in learning:
            module.train()
        x = fit_size(data.pixels(where, training.device), training.size).contiguous(memory_format=torch.channels_last)
        with torch.autocast(training.device.partition(":")[0], torch.bfloat16, enabled=training.bf16):
            return function(x).float()


class Measurement:
    """One analysis of one cell. `watching` goes with the victim's defenses and changes nothing about its training."""

    def __init__(self, task: Task, store: Store, whole: Data, training: ImageSet, poison: Kept | None) -> None:
        assert task.analysis is not None, "accuracy is measured without this"
        self.task, self.store = task, store
        self.analysis: Analysis = task.analysis.build()
        self.analysis.applies(training.info)
        self.spent = Spent()  # so far
        self.numerics = Numerics.pinned(store.device)
        self.context = self._context(whole, training, poison)
        self.watching = _Watching(self)

    def _context(self, whole: Data, training: ImageSet, poison: Kept | None) -> Context:
        task, store, cell = self.task, self.store, self.task.cell
        chosen = chosen_images(whole.train.labels, whole.train.num_classes, cell.ratio, cell.seed)
        chosen = chosen if not task.poison.identity else torch.zeros_like(chosen)
        clean = whole.train
        if task.needs_poison or cell.part == "clean":
            clean = store.unpoisoned(task.poison, whole, cell.ratio, cell.part)
            chosen = chosen[store.trained_rows(task.poison, whole, cell.ratio, cell.part)]
        mixed = store.training_set(task.poison, whole, cell.ratio, cell.part) if task.needs_poison else clean
        kept = store.purified(task.purified, whole) if task.purified else None
        context = Context(
            Job(store.device, int(cell.id, 16) >> 1, store.progress),
            clean,
            whole.test,
            mixed,
            training if kept else mixed,
            chosen,
            attack=tuple(part.build() for part in task.attack),
            defenses=tuple(part.build() for part in task.defense),
            craft_log=_log(poison),
            purify_log=_log(kept),
            purify_kept=lambda name: _side_product(kept, name),
        )
        if task.needs_poison and len(task.attack) > 1:
            parent = task.poison.parents[0]
            own = whole if parent.dataset == task.dataset else load(parent.dataset)
            context.source = replace(own.train, images=store.poison(parent, own).images)
        return context

    def look(self, victim: Training) -> None:
        """Take the victim, with the weights that it has now and gets."""
        self.context.victim = Looked(victim)

    def after_epoch(self) -> None:
        """Let the analysis look at the victim; numbers that it draws do not reach the training."""
        start = Spent.now()
        with seeded(int(self.task.cell.id, 16) >> 1, self.numerics, self.store.device):
            self.analysis.after_epoch(self.context)
        self.spent += Spent.now() - start

    def figures(self) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Return what was measured: figures, and curves."""
        start = Spent.now()
        with seeded(int(self.task.cell.id, 16) >> 1, self.numerics, self.store.device):
            found = self.analysis.measure(self.context)
        self.spent += Spent.now() - start
        return found, self.context.curves


@dataclass(frozen=True)
class _Watching(Defense):
    measurement: Measurement

    def start(self, run: TrainingRun) -> Hooks:
        return _Watch(self.measurement)


class _Watch(Hooks):
    def __init__(self, measurement: Measurement) -> None:
        self.measurement = measurement

    def after_epoch(self, epoch: int) -> None:
        self.measurement.after_epoch()

    def state_dict(self) -> dict[str, Any]:
        return {"curves": self.measurement.context.curves} | asdict(self.measurement.spent)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.measurement.context.curves = state["curves"]
        self.measurement.spent = Spent(state["seconds"], state["cpu_seconds"])


def _log(kept: Kept | None) -> dict[str, float]:
    return {} if kept is None else {**kept.manifest.get("notes", {}), "seconds": kept.manifest["seconds"]}


def _side_product(kept: Kept | None, name: str) -> np.ndarray | None:
    path = kept.path / f"{name}.npy" if kept else None
    return np.load(path, mmap_mode="r", allow_pickle=False) if path is not None and path.exists() else None
