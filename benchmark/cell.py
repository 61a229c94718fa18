"""The stages of a cell: find or make its training set, train a victim on it, write down what was measured."""

from __future__ import annotations

import gc
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unlearnable_bench.benchmark import provenance
from unlearnable_bench.benchmark.contrastive import pretrain_and_probe
from unlearnable_bench.benchmark.measure import Measurement
from unlearnable_bench.benchmark.task import Task
from unlearnable_bench.benchmark.train import Checkpoint, EpochFigures, Report, Training
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.poisons.store import Kept, Progress, Store
from unlearnable_bench.registry import Contrastive, DataInfo, Defense, ImageSet, Protocol, data
from unlearnable_bench.registry._spent import Spent
from unlearnable_bench.registry.architectures._network import pretrained
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.data import Data
from unlearnable_bench.results import Record, record

_LOADED: dict[str, Data] = {}


def load_dataset(task: Task) -> Data:
    """Return the dataset of a task; the last two stay in memory."""
    if _key(task) not in _LOADED:
        hold(task, data.load(task.dataset))
    return _LOADED[_key(task)]


def hold(task: Task, whole: Data) -> None:
    """Have these images as the dataset of a task: those that no folder has."""
    while len(_LOADED) > 1:
        _LOADED.pop(next(iter(_LOADED)))
    _LOADED[_key(task)] = whole


def _key(task: Task) -> str:
    return f"{task.dataset.name} {sorted(task.dataset.fields.items())}"


def open_store(root: Path, device: str, progress: Progress) -> Store:
    """Open the store of poisons and purified sets in a folder."""
    return Store(root, device, progress)


def craft_poison(task: Task, store: Store, wait: bool) -> Kept:
    """Make the poison of a task if it is not there. BusyError unless told to `wait`."""
    return store.poison(task.poison, load_dataset(task), wait)


def purify_set(task: Task, store: Store, wait: bool) -> Kept:
    """Make the purified training set of a task if it is not there. BusyError unless told to `wait`."""
    assert task.purified is not None, "only cells with a purifier are purified"
    return store.purified(task.purified, load_dataset(task), wait)


def run_cell(task: Task, store: Store, report: Report | None = None, checkpoints: Path | None = None) -> Record:
    """Run a cell to its record; stages that are there already are read, a training that was killed goes on."""
    cell, device = task.cell, store.device
    if device.startswith("cuda") and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats(device)
    whole = load_dataset(task)
    spent: dict[str, Spent] = {}
    note = poison = None
    if task.needs_poison:
        poison = craft_poison(task, store, wait=True)
        spent["craft"] = poison.spent
        note = record.PoisonNote(
            checksum=poison.checksum,
            **poison.manifest["budget"],
            notes=poison.manifest.get("notes", {}),
            numerics=poison.numerics,
        )
    purified, mixes = task.purified, task.needs_poison or cell.part == "clean"
    if purified is not None:
        kept = purify_set(task, store, wait=True)
        spent["purify"] = kept.spent
        training = ImageSet(kept.images, kept.labels, whole.train.num_classes, whole.train.classes)
    elif mixes:
        training = store.training_set(task.poison, whole, cell.ratio, cell.part)
    else:
        training = whole.train

    measurement = Measurement(task, store, whole, training, poison) if task.analysis else None
    victim, curve, checkpoint = None, EpochFigures(), None
    if task.needs & {"network", "epochs"}:
        # of other code, another kind of device or other numerics: begun anew
        name = f"{cell.id}-{provenance.tree()[:16]}-{_numerics(task, device).on(device)}.pt"
        checkpoint = Checkpoint(checkpoints / name) if checkpoints is not None else None
        start = Spent.now()
        unpoisoned = store.unpoisoned(task.poison, whole, cell.ratio, cell.part) if mixes else whole.train
        victim, curve = _victim(task, training, whole, device, report, checkpoint, measurement, unpoisoned)
        if task.trains:
            spent["train"] = victim.earlier + (Spent.now() - start) - (measurement.spent if measurement else Spent())
    metrics = _metrics(curve) if task.trains else {}
    if measurement is not None:
        measurement.context.seconds = spent.get("train", Spent()).seconds
        figures, curves = measurement.figures()
        metrics |= {"figures": figures, "curves": {name: [float(v) for v in values] for name, values in curves.items()}}
        spent["measure"] = measurement.spent
    if checkpoint is not None:
        checkpoint.remove()
    numerics = victim.numerics if victim is not None else Numerics.pinned(device)
    return Record(
        id=cell.id,
        cell=cell,
        metrics=record.Metrics(**metrics),
        recipe=record.plain(asdict(victim.protocol)) if victim is not None else {},
        seconds={stage: round(value.seconds, 3) for stage, value in spent.items()},
        cpu_seconds={stage: round(value.cpu_seconds, 3) for stage, value in spent.items() if value.cpu_seconds},
        peak_memory=_peak_memory(device),
        device=provenance.device_name(device),
        numerics=asdict(numerics),
        versions=provenance.versions() | task.versions(),
        dataset_fingerprint=whole.fingerprint,
        poison=note,
        **provenance.stamp(task),
    )


def release(device: str) -> None:
    """Free what a stage left behind: networks and sets that refer to each other in circles, and the GPU's cached memory.

    Compiled graphs too: they are counted by the code that they come from, most of which all networks share.
    """
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def recipe(task: Task) -> Protocol:
    """Return the protocol as it is for the dataset and the network of a cell; its defenses may change it further."""
    protocol: Protocol = task.protocol.build()
    for name in (task.dataset.entry.facts.get("stands_in_for", ""), task.dataset.entry.name):
        protocol = protocol.varied(protocol.per_dataset.get(name, {}))
    return protocol.varied(protocol.per_architecture.get(task.architecture.name, {}))


def _numerics(task: Task, device: str) -> Numerics:
    protocol = recipe(task)
    return Numerics.choose(device, protocol.precision, protocol.threads)


def network(part: ConfiguredEntry, info: DataInfo, side: int) -> nn.Module:
    """Make the network of a cell for images of this side, with its weights where it is pretrained. EntryError."""
    common = {field.name for field in part.entry.common}
    own = {name: value for name, value in part.values.items() if name not in common}
    net: nn.Module = part.entry.load()(info.num_classes, info.shape[0], side, **own)
    shared = {name: str(part.values[name]) for name in common}
    return pretrained(net, part.entry.name, shared["weights"], shared["checksum"]) if shared.get("weights") else net


def _victim(
    task: Task,
    training: ImageSet,
    whole: Data,
    device: str,
    report: Report | None,
    checkpoint: Checkpoint | None,
    measurement: Measurement | None,
    unpoisoned: ImageSet | None,
) -> tuple[Training, EpochFigures]:
    """Train the victim of a cell, which an analysis may watch: the one whose accuracy is measured.

    `unpoisoned` is the training set image by image before it was poisoned.
    """
    protocol, numerics = recipe(task), _numerics(task, device)
    defenses: list[Defense] = [part.build() for part in task.defense]
    info = training.info
    judged = task.cell.model_copy(update={"measure": "accuracy"})
    with seeded(int(judged.id, 16) >> 1, numerics, device):
        side = protocol.input_size or info.shape[1]
        net = network(task.architecture, info, side)
        if isinstance(protocol, Contrastive):
            sets = training, whole.train, whole.test
            curve, victim = pretrain_and_probe(net, *sets, protocol, device, report, numerics, checkpoint)
            return victim, curve
        watches = task.analysis is not None and "after_epoch" in task.analysis.entry.hooks
        watching = [measurement.watching] if measurement and watches and task.trains else []
        victim = Training(net, training, protocol, [*defenses, *watching], device, numerics, unpoisoned)
        if measurement is not None:
            measurement.look(victim)
            measurement.context.train = lambda other: _other(task, other, whole, device)
        trained = task.trains or measurement is None  # without one, it is the cell's own or asked for by an analysis
        return victim, victim.run(whole.test, report, checkpoint) if trained else EpochFigures()


def _other(task: Task, training: ImageSet, whole: Data, device: str) -> tuple[float, float]:
    """Train a victim like the cell's on another set and return its accuracy and mean loss on the test set."""
    curve = _victim(task, training, whole, device, None, None, None, None)[1]
    return curve.test_acc[-1], curve.test_loss[-1]


def _metrics(curve: EpochFigures) -> dict[str, Any]:
    plain = {name: [round(value, 6) for value in values] for name, values in asdict(curve).items()}
    return {"test_acc": curve.test_acc[-1], "test_acc_best": max(curve.test_acc), "curve": record.Curve(**plain)}


def _peak_memory(device: str) -> int:
    """Bytes: of the GPU since the cell began where there is one, else of this process since it started."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
