"""Stage 3: one fp32 step of every architecture, defense and attack, with the same weights and batch on both devices."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gpu import Figures, Notes, Setting, must
from gpu.same import THREADS, Smooth, agreeing, on_both, pictures, relative
from unlearnable_bench.benchmark.train import Training
from unlearnable_bench.poisons.numerics import Numerics
from unlearnable_bench.poisons.recipe import PoisonRecipe
from unlearnable_bench.poisons.store import Store
from unlearnable_bench.registry import (
    ARCHITECTURES,
    ATTACKS,
    DATASETS,
    DEFENSES,
    Defense,
    ImageSet,
    Job,
    NotApplicable,
    Protocol,
)
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.data import Data, fingerprint
from unlearnable_bench.registry.entry import Entry

LOSS = 1e-5  # relative
GRADIENT = 1e-3  # of all weights together, length of the difference in parts of the length; ReLU is smoothed for it
SIGNS = 0.995  # part of the input gradient's signs that agree
LEVELS = 0.995  # part of an attack's or a purifier's values that agree to a level, where it trains no network
NOISE = 0.95  # the same of an attack that trains one: the steps of its `small` fields make small differences larger
IMAGES = 0.05  # of a purifier that trains one: length of the difference in parts of the length

FEW_ARCHITECTURES = ("resnet9", "small-cnn")
FEW_DEFENSES = ("at", "bdr", "cutmix", "early-stop")
FEW_ATTACKS = ("em", "lsp")

LARGE = ("wrn28-10", "wrn28-10-preact", "wrn34-10", "wrn34-10-preact")  # a CPU takes seconds for a few images
SMALL_MAPS = ("imagenet",)  # of whose last layers batch normalization sees a pixel per image: more images tame it
LEFT = ("imported", "none")  # attacks that make nothing
NETWORKS = ("surrogate", "epochs", "detector", "ema")  # fields that tell that a method trains one
PLAIN = Protocol(epochs=1, batch=16, lr=0.05, schedule="constant")


def architectures(setting: Setting, notes: Notes) -> None:
    """Loss, gradients of the weights and signs of the input's gradient, in training mode."""
    for name in setting.some(list(ARCHITECTURES), FEW_ARCHITECTURES):
        notes.check(name, lambda name=name: _network(setting, name))  # type: ignore[misc]


def _network(setting: Setting, name: str) -> Figures:
    batch = pictures(_images(name))

    def step(device: str) -> tuple[float, Tensor, Tensor]:
        net = ARCHITECTURES[name](4).to(device, memory_format=torch.channels_last).train()
        x = batch.pixels(slice(None), device).contiguous(memory_format=torch.channels_last).requires_grad_(True)
        with Smooth():
            loss = F.cross_entropy(net(x), batch.labels.to(device))
        loss.backward()
        assert x.grad is not None
        return float(loss.detach()), _gradients(net), x.grad.cpu()

    here, there = on_both(setting.device, step)
    signs = agreeing(here[2].sign(), there[2].sign())
    figures = _compared(here[0], there[0], here[1], there[1]) | {"signs": signs}
    must(signs >= SIGNS, f"{signs:.2%} of the signs of the input's gradient agree; expected {SIGNS:.1%}", figures)
    return _within(figures)


def _images(name: str) -> int:
    if name in LARGE:
        return 4
    return 64 if name.endswith(SMALL_MAPS) else 16


def _gradients(net: torch.nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten().cpu() for p in net.parameters() if p.grad is not None])


def _compared(loss: float, other_loss: float, gradient: Tensor, other_gradient: Tensor) -> Figures:
    loss_error = abs(loss - other_loss) / max(abs(loss), 1e-12)
    return {"loss": loss, "loss_error": loss_error, "gradient_error": relative(gradient, other_gradient)}


def _within(figures: Figures) -> Figures:
    must(figures["loss_error"] <= LOSS, f"the loss differs by {figures['loss_error']:.1e}; expected {LOSS:.0e}", figures)
    error = figures["gradient_error"]
    must(error <= GRADIENT, f"the gradients differ by {error:.1e} of their length; expected {GRADIENT:.0e}", figures)
    return figures


def defenses(setting: Setting, notes: Notes) -> None:
    """What a purifier makes of the images, and a step of training under each defense."""
    for name in setting.some(list(DEFENSES), FEW_DEFENSES):
        entry = DEFENSES.entry(name)
        if "purify" in entry.hooks:
            notes.check(f"{name}, purified", lambda entry=entry: _purified(setting, entry))  # type: ignore[misc]
        if entry.hooks - {"purify", "__post_init__", "applies"} or name == "none":
            notes.check(f"{name}, a step", lambda entry=entry: _defended(setting, entry))  # type: ignore[misc]


def _built(entry: Entry) -> Defense:
    defense: Defense = _small(entry).build()
    return defense


def _small(entry: Entry) -> ConfiguredEntry:
    fields = {f.name: f.default for f in entry.fields} | dict(entry.facts.get("small", {}))
    return ConfiguredEntry(entry, entry.name, fields)


def _purified(setting: Setting, entry: Entry) -> Figures:
    clean, defense = pictures(64), _built(entry)
    here, there = on_both(setting.device, lambda device: defense.purify(clean, Job(device, unpoisoned=clean)).images.cpu())
    if _trains(entry):
        error = relative(here, there)
        must(error <= IMAGES, f"the images differ by {error:.1%} of their length; expected {IMAGES:.0%}")
        return {"images_error": error}
    return _mostly(here, there, 1 if here.dtype == torch.uint8 else 1 / 255, LEVELS)


def _trains(entry: Entry) -> bool:
    return bool(_small(entry).fields.keys() & set(NETWORKS))


def _mostly(here: Tensor, there: Tensor, level: float, expected: float) -> Figures:
    """Compare images: they may differ by a level where a value lies at the border of two."""
    part = agreeing(here, there, level)
    figures = {"agreeing": part, "same": agreeing(here, there)}
    must(part >= expected, f"{part:.2%} of the values agree to a level; expected {expected:.1%}", figures)
    return figures


def _defended(setting: Setting, entry: Entry) -> Figures:
    clean, defense = pictures(16), _built(entry)

    def step(device: str) -> tuple[float, Tensor]:
        try:
            training = _begun("small-cnn", clean, defense, device)
        except NotApplicable:  # it wants residual blocks
            training = _begun("resnet18", clean, defense, device)
        with Smooth():
            training._one_epoch()
        return training.curve.train_loss[-1], _gradients(training.model)

    here, there = on_both(setting.device, step)
    return _within(_compared(here[0], there[0], here[1], there[1]))


def _begun(network: str, clean: ImageSet, defense: Defense, device: str) -> Training:
    return Training(ARCHITECTURES[network](4), clean, PLAIN, [defense], device, Numerics(threads=THREADS), clean)


def attacks(setting: Setting, notes: Notes) -> None:
    """The poisons of the `small` fields, as the store publishes them: 8-bit, their budget checked."""
    for name in setting.some([name for name in ATTACKS if name not in LEFT], FEW_ATTACKS):
        notes.check(name, lambda name=name: _poisoned(setting, ATTACKS.entry(name)))  # type: ignore[misc]


def _poisoned(setting: Setting, entry: Entry) -> Figures:
    clean = pictures(64)
    left = ATTACKS.resolve("random-noise(kind=sample)") if entry.facts.get("chained") else ()
    recipe = PoisonRecipe(DATASETS.resolve("digits")[0], (*left, _small(entry)), 0)  # the name alone: the images are ours
    data = Data(clean, clean, fingerprint(clean, clean))

    def craft(device: str) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            images: Tensor = Store(Path(folder), device).poison(recipe, data).images.clone()
        return images

    here, there = on_both(setting.device, craft)
    return _mostly(here, there, 1, NOISE if _trains(entry) else LEVELS)
