"""Stage 4: the same training twice gives the same bytes, and follows the CPU's."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from unittest import mock

import torch

from gpu import Figures, Notes, Setting, must
from gpu.same import on_both, pictures
from unlearnable_bench.benchmark.train import Training, train
from unlearnable_bench.poisons.numerics import Numerics, compiles, seeded
from unlearnable_bench.poisons.recipe import PoisonRecipe
from unlearnable_bench.poisons.store import Store
from unlearnable_bench.registry import ARCHITECTURES, ATTACKS, DATASETS, DEFENSES, Protocol
from unlearnable_bench.registry.data import Data, fingerprint

CURVE = 0.02  # relative, of the mean loss of five steps
STEPS, EPOCH = 50, 5
TWICE = [  # network, defense, precision
    ("small-cnn", "none", "fp32"),
    ("resnet9", "none", "fp32"),
    ("resnet9", "none", "bf16"),
    ("resnet9", "cg", "bf16"),
    ("resnet9", "at(steps=2)", "bf16"),
    ("resnet9", "ueraser", "bf16"),
    ("resnet18", "none", "fp32"),
    ("resnet18", "none", "bf16"),
    ("resnet18-imagenet", "cutmix", "bf16"),
    ("googlenet", "none", "bf16"),
    ("densenet121", "none", "bf16"),
    ("vgg16", "none", "bf16"),
    ("vit-lfu", "none", "bf16"),
]
POISONS = ("em(surrogate=resnet9,max_rounds=2,noise_steps=2)", "tap(surrogate=resnet9,epochs=1,steps=3,restarts=1)")


def run(setting: Setting, notes: Notes) -> None:
    """Trainings of 50 steps, and two poisons."""
    for network in ("small-cnn",) if setting.tiny else ("small-cnn", "resnet9"):
        notes.check(f"{network} beside the CPU", lambda network=network: _followed(setting, network))  # type: ignore[misc]
    for case in TWICE[:1] if setting.tiny else TWICE:
        notes.check(f"{' / '.join(case)} twice", lambda case=case: _twice(setting, *case))  # type: ignore[misc]
    for item in () if setting.tiny else POISONS:
        notes.check(f"{item} twice", lambda item=item: _crafted_twice(setting, item))  # type: ignore[misc]
    if setting.on_gpu and compiles(setting.device):
        notes.check("resnet9 compiled, twice", lambda: _compiled_twice(setting))


def _followed(setting: Setting, network: str) -> Figures:
    """Fifty steps; the curve has the mean loss of every five."""
    batch = 16 if setting.tiny else 32
    protocol = Protocol(epochs=STEPS // EPOCH, batch=batch, lr=0.02)
    data = pictures(EPOCH * batch)

    def curve(device: str) -> list[float]:
        net = ARCHITECTURES[network](4)
        return train(net, data, data.rows(torch.arange(8)), protocol, device=device).train_loss

    here, there = on_both(setting.device, curve)
    error = max(abs(one - other) / one for one, other in zip(here, there, strict=True))
    figures = {"error": error, "first": here[0], "last": here[-1]}
    must(error <= CURVE, f"the loss lies up to {error:.1%} beside the CPU's; expected {CURVE:.0%}", figures)
    return figures


def _twice(setting: Setting, network: str, defense: str, precision: str) -> Figures:
    first, second = (_weights(setting, network, defense, Numerics(precision)) for _ in range(2))
    must(first == second, "two trainings ended with other weights")
    return {"sha256": first[:16]}


def _weights(setting: Setting, network: str, defense: str, numerics: Numerics) -> str:
    """Train for fifty steps and return the sha256 of all weights and buffers."""
    batch = 16 if setting.tiny else 64
    data = pictures(EPOCH * batch)
    protocol = Protocol(epochs=STEPS // EPOCH, batch=batch, lr=0.02, augmentation=("crop", "flip"))
    chain = [part.build() for part in DEFENSES.resolve(defense)]
    with seeded(0, numerics, setting.device):
        training = Training(ARCHITECTURES[network](4), data, protocol, chain, setting.device, numerics, data)
        training.run(None, None, None)
    return fingerprint_of(training.model)


def fingerprint_of(model: torch.nn.Module) -> str:
    """Return the sha256 of all weights and buffers of a network."""
    whole = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        whole.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def _crafted_twice(setting: Setting, item: str) -> Figures:
    clean = pictures(256)
    recipe = PoisonRecipe(DATASETS.resolve("digits")[0], ATTACKS.resolve(item), 0)
    sums = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            kept = Store(Path(folder), setting.device).poison(recipe, Data(clean, clean, fingerprint(clean, clean)))
            sums.append(kept.checksum)
    must(sums[0] == sums[1], "two craftings gave different poisons")
    return {"sha256": sums[0][:16]}


def _compiled_twice(setting: Setting) -> Figures:
    """Compiled again in between, as by another worker. Kernels that are chosen by timing would show here."""
    with mock.patch("unlearnable_bench.benchmark.train.WORTH_COMPILING", 0.0):
        first = _weights(setting, "resnet9", "none", Numerics("bf16"))
        torch.compiler.reset()
        second = _weights(setting, "resnet9", "none", Numerics("bf16"))
    torch.compiler.reset()
    must(first == second, "two compiled trainings ended with other weights")
    return {"sha256": first[:16]}
