"""The conformance tests that `bench check` runs on one entry, ours or anybody's, with its `small` fields on tiny data."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unlearnable_bench.benchmark.contrastive import pretrain_and_probe
from unlearnable_bench.benchmark.measure import Looked
from unlearnable_bench.benchmark.train import Training, judge_network, train
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.poisons.recipe import PoisonRecipe
from unlearnable_bench.poisons.store import Kept, Store
from unlearnable_bench.registry import (
    ARCHITECTURES,
    ATTACKS,
    DATASETS,
    DEFENSES,
    Context,
    Contrastive,
    ImageSet,
    Job,
    NotApplicable,
    Protocol,
)
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.contract import NEEDS
from unlearnable_bench.registry.data import Data, fingerprint
from unlearnable_bench.registry.entry import Entry, check_history, singular
from unlearnable_bench.results import record

SECONDS = 5.0  # that an entry may take with its `small` fields


class _BrokenPromiseError(AssertionError):
    """An entry does not do what its kind promises; the text says what was found and what was expected."""


def tiny(size: int = 64, classes: int = 4, side: int = 32, channels: int = 3) -> ImageSet:
    """Return a small training set, every class there: uint8, smooth random images, a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(size, channels, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear").mul(255).round().to(torch.uint8)
    return ImageSet(images, torch.arange(size) % classes, classes, tuple(f"class{k}" for k in range(classes)))


def check_entry(entry: Entry) -> list[dict[str, Any]]:
    """Run every promise of the entry's kind; return findings (entry, name, ok, detail)."""
    findings = []
    for name, promise in PROMISES[entry.kind].items():
        start = time.perf_counter()
        try:
            detail, ok = promise(entry) or "", True
        except NotApplicable as why:
            detail, ok = f"not checked: {why}", True
        except Exception as error:  # whatever an entry raises is the finding
            kind = "" if isinstance(error, _BrokenPromiseError) else f"{type(error).__name__}: "
            detail, ok = f"{kind}{error}", False
        seconds = time.perf_counter() - start
        findings.append(
            {"entry": f"{singular(entry.kind)}:{entry.name}", "name": name, "ok": ok, "detail": detail, "seconds": seconds}
        )
    return findings


def _must(holds: bool, sentence: str) -> None:
    if not holds:
        raise _BrokenPromiseError(sentence)


def _part(entry: Entry) -> ConfiguredEntry:
    fields = {f.name: f.default for f in entry.fields} | dict(entry.facts.get("small", {}))
    return ConfiguredEntry(entry, entry.name, entry.hashed(fields))


def _documented(entry: Entry) -> str:
    _must(bool(entry.doc.strip()), "it has no docstring; say in two lines what it does and where it was published")
    if entry.kind == "attacks":
        _must(entry.paper is not None, "an attack needs `paper = Paper(...)`")
    return ""


def _history(entry: Entry) -> str:
    check_history(entry)
    found = [f"{name} came later, {neutral!r} before" for name, neutral in entry.later.items()]
    found += [f"revision {number} of {condition}" for condition, number in entry.revisions.items()]
    return ", ".join(found)


def _plain_dataclass(entry: Entry) -> str:
    found = entry.load()
    _must(dataclasses.is_dataclass(found), "it is not a dataclass")
    _must(found.__dataclass_params__.frozen, "its dataclass is not frozen")
    made = _part(entry).build()
    _must(pickle.loads(pickle.dumps(made)) == made, "it is not the same after pickling")  # noqa: S301  (our own bytes)
    return repr(made)


def _craft(entry: Entry, clean: ImageSet, folder: Path, seed: int) -> Kept:
    """Craft as a run does; a tool is given noise to act on."""
    left = ATTACKS.resolve("random-noise(kind=sample)") if entry.facts.get("chained") else ()
    recipe = PoisonRecipe(DATASETS.resolve("digits")[0], (*left, _part(entry)), seed)
    return Store(folder).poison(recipe, Data(clean, clean, fingerprint(clean, clean)))


def _poison(entry: Entry, clean: ImageSet, folder: Path, seed: int) -> ImageSet:
    made = _craft(entry, clean, folder, seed)
    return dataclasses.replace(clean, images=made.images, labels=made.labels)


def _keeps_budget(entry: Entry) -> str:
    clean = tiny()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        budget = _craft(entry, clean, Path(folder), seed=0).manifest["budget"]  # the store refuses a poison beyond it
        seconds = time.perf_counter() - start
    _must(seconds < SECONDS * 4, f"crafting 64 images took {seconds:.0f} s; give smaller fields in `small`")
    return f"{budget['norm']} {budget['spent']:.4g}, allowed {budget['allowed']}, {seconds:.1f} s"


def _repeats(entry: Entry) -> str:
    clean = tiny()
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first, second = _poison(entry, clean, Path(one), seed=0), _poison(entry, clean, Path(two), seed=0)
    _must(torch.equal(first.images, second.images), "two runs with one seed gave different poisons; draw from job.generator")
    return ""


def _leaves_input(entry: Entry) -> str:
    clean = tiny()
    before = copy.deepcopy(clean)
    with tempfile.TemporaryDirectory() as folder:
        _poison(entry, clean, Path(folder), seed=0)
    _must(
        torch.equal(clean.images, before.images) and torch.equal(clean.labels, before.labels), "it changed the set it was given"
    )
    return ""


def _other_shapes(entry: Entry) -> str:
    clean = tiny(size=48, classes=3, side=24)
    try:
        _part(entry).build().applies(clean.info)
    except NotApplicable as why:
        return f"not applicable to 24x24 images of 3 classes: {why}"
    with tempfile.TemporaryDirectory() as folder:
        _poison(entry, clean, Path(folder), seed=1)
    return "24x24, 3 classes"


def _purifies(entry: Entry) -> str:
    clean = tiny()
    before = copy.deepcopy(clean)
    results = []
    for _ in range(2):
        with seeded(0, Numerics()):
            results.append(_part(entry).build().purify(clean, Job(seed=0, unpoisoned=clean)))
    first, second = results
    _must(torch.equal(clean.images, before.images), "purify changed the set it was given; write into a new tensor")
    _must(first.images.shape == clean.images.shape, f"purify returned {tuple(first.images.shape)}")
    _must(
        first.images.dtype in (torch.uint8, torch.float32), f"purify returned {first.images.dtype}, expected uint8 or float32"
    )
    _must(torch.equal(first.labels, clean.labels), "purify changed labels or their order")
    _must(torch.equal(first.images, second.images), "two runs with one seed gave different images; draw from job.generator")
    return str(first.images.dtype).removeprefix("torch.")


def _augments(entry: Entry) -> str:
    clean = tiny()
    x, y = clean.pixels(slice(0, 16)), clean.labels[:16]
    with seeded(0, Numerics()):
        new_x, new_y = _part(entry).build().augment(x.clone(), y.clone())
    _must(new_x.shape == x.shape and new_x.dtype == x.dtype, f"augment returned {new_x.dtype} {tuple(new_x.shape)}")
    _must(len(new_y) == len(y), f"augment returned {len(new_y)} labels for {len(y)} images")
    return ""


def _trains(entry: Entry) -> str:
    clean, defense = tiny(), _part(entry).build()
    protocol = Protocol(epochs=2, batch=16, lr=0.05)
    with seeded(0, Numerics()):
        start = time.perf_counter()
        purified = defense.purify(clean, Job(unpoisoned=clean))

        def begun(network: str) -> Training:
            return Training(ARCHITECTURES[network](4), purified, protocol, [defense], "cpu", Numerics(), clean)

        try:
            training = begun("small-cnn")
        except NotApplicable:  # it may want residual blocks
            training = begun("resnet18-imagenet")
        curve = training.run(clean, None, None)
    _must(len(curve.test_acc) >= 1, "training under it recorded no epoch")
    return f"loss {curve.train_loss[-1]:.3g}, {time.perf_counter() - start:.1f} s"


def _network(entry: Entry) -> str:
    with seeded(0, Numerics()):
        net = entry.load()(4)
    x = torch.rand(2, 3, 32, 32)
    net.eval()
    with torch.no_grad():
        logits, features = net(x), net.features(x)
        again = net.head(features)
    _must(tuple(logits.shape) == (2, 4), f"logits are {tuple(logits.shape)}, expected (2, 4)")
    _must(torch.allclose(logits, again, atol=1e-5), "head(features(x)) is not the network's output")
    layers = net.layers()
    _must(len(layers) > 1, "layers() needs at least two parts in order")
    held = {id(p) for layer in layers for p in layer.parameters()}
    _must({id(p) for p in net.parameters()} == held, "layers() does not cover all parameters")
    return f"{sum(p.numel() for p in net.parameters()):,} parameters for 4 classes, features {features.shape[1]}"


def _loads(entry: Entry) -> str:
    from unlearnable_bench.registry import data

    if entry.name == "folder":
        return "reads what you name; nothing to load here"
    part = DATASETS.resolve(entry.name)[0]
    if sentence := data.missing(part):
        return f"not checked: {sentence}"
    loaded = data.load(part)
    for half in (loaded.train, loaded.test):
        _must(
            half.images.dtype == torch.uint8 and half.images.ndim == 4,
            f"images are {half.images.dtype} {tuple(half.images.shape)}",
        )
        _must(half.labels.dtype == torch.int64, f"labels are {half.labels.dtype}, expected int64")
        _must(sorted(half.labels.unique().tolist()) == list(range(half.num_classes)), "a class has no images")
    return f"{len(loaded.train)} + {len(loaded.test)} images {loaded.train.info.shape}, {loaded.train.num_classes} classes"


def _protocol(entry: Entry) -> str:
    protocol: Protocol = _part(entry).build()
    clean = tiny()
    short = dataclasses.replace(protocol, epochs=1, steps=0, scale=1.0)
    with seeded(0, Numerics()):
        net = ARCHITECTURES["small-cnn"](4)
        if isinstance(short, Contrastive):
            pretrain_and_probe(net, clean, clean, clean, dataclasses.replace(short, probe_epochs=1))
        else:
            train(net, clean, clean, short)
            judge_network(net, clean)
    return f"{protocol.length(50_000)[0]} steps for 50,000 images, batch {protocol.batch}, {protocol.optimizer} {protocol.lr}"


def _needs(entry: Entry) -> str:
    needs = entry.facts.get("needs", ())
    wrong = [need for need in needs if need not in NEEDS]
    _must(not wrong and bool(needs), f"needs is {needs}, expected some of {', '.join(NEEDS)}")
    _must("after_epoch" not in entry.hooks or "epochs" in needs, "it has after_epoch and does not need epochs")
    return ", ".join(needs)


def _context(entry: Entry) -> Context:
    """What an analysis is handed of a small cell: noise on every other image, a defense that takes half of it back."""
    needs, clean = set(entry.facts.get("needs", ())), tiny()
    chosen = torch.arange(len(clean)) % 2 == 0
    noise = torch.randint(-8, 9, clean.images.shape, generator=torch.Generator().manual_seed(1))
    noise[~chosen] = 0
    poison, purified = (
        dataclasses.replace(clean, images=(clean.images + part).clamp(0, 255).to(torch.uint8)) for part in (noise, noise // 2)
    )
    job, log = Job(seed=0), {"seconds": 3.0, "fit_seconds": 2.0}
    kept = {"p_hat": (noise / 510).numpy(), "flagged": chosen.numpy()}
    context = Context(job, clean, tiny(32), poison, purified, chosen, craft_log=log, purify_log=log, purify_kept=kept.get)
    rem = ATTACKS["rem"]
    context.attack = (rem(**{**rem.small, "train_steps": 3}),)
    context.defenses = (DEFENSES["at"](steps=2),)
    if needs & {"network", "epochs"}:
        protocol = Protocol(epochs=2 if "epochs" in needs else 0, batch=16, lr=0.05)
        training = Training(ARCHITECTURES["small-cnn"](4), purified, protocol, (), "cpu", Numerics())
        context.victim, context.seconds = Looked(training), 1.0

        def another(other: ImageSet) -> tuple[float, float]:
            curve = train(ARCHITECTURES["small-cnn"](4), other, clean, protocol)
            return curve.test_acc[-1], curve.test_loss[-1]

        context.train = another
        analysis = _part(entry).build()
        training.run(context.test, lambda *_: analysis.after_epoch(context), None) if "epochs" in needs else None
    return context


def _measures(entry: Entry) -> str:
    results = []
    for _ in range(2):
        with seeded(0, Numerics()):
            context = _context(entry)
            before = copy.deepcopy((context.clean.images, context.poison.images, context.purified.images))
            figures = _part(entry).build().measure(context)
        results.append((figures, context.curves))
        now = (context.clean.images, context.poison.images, context.purified.images)
        _must(all(torch.equal(one, other) for one, other in zip(before, now, strict=True)), "it changed a set it was given")
    _must(bool(figures), "it returned no figure")
    record.Metrics(figures=figures, curves=context.curves)  # refuses what is no finite number
    _must(results[0] == results[1], "two measurements of the same gave different figures; draw from job.generator")
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


Promise = Callable[[Entry], str]
PROMISED_HISTORY = "has the fields that `later` and `revisions` name"

PROMISES: dict[str, dict[str, Promise]] = {
    "attacks": {
        PROMISED_HISTORY: _history,
        "is documented and names its paper": _documented,
        "is a frozen dataclass that pickles": _plain_dataclass,
        "keeps its budget after rounding to 8 bits": _keeps_budget,
        "gives the same poison for the same seed": _repeats,
        "leaves the clean set as it was": _leaves_input,
        "runs on other sizes and class counts, or says why not": _other_shapes,
    },
    "defenses": {
        PROMISED_HISTORY: _history,
        "is documented": _documented,
        "is a frozen dataclass that pickles": _plain_dataclass,
        "purifies without touching labels, order or input, the same for a seed": _purifies,
        "keeps the shape of a batch": _augments,
        "trains a victim": _trains,
    },
    "architectures": {
        PROMISED_HISTORY: _history,
        "is documented": _documented,
        "is a network with features, head and layers": _network,
    },
    "datasets": {PROMISED_HISTORY: _history, "is documented": _documented, "loads": _loads},
    "analyses": {
        PROMISED_HISTORY: _history,
        "is documented": _documented,
        "is a frozen dataclass that pickles": _plain_dataclass,
        "says what it needs": _needs,
        "measures finite figures, the same again, and leaves what it is given": _measures,
    },
    "protocols": {
        PROMISED_HISTORY: _history,
        "is documented": _documented,
        "is a frozen dataclass that pickles": _plain_dataclass,
        "trains": _protocol,
    },
}
