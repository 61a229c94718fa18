"""Stage 5: what was killed goes on to the bytes of what was not; what another device began is begun anew."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from gpu import Figures, Notes, Setting, must
from gpu.repeat import fingerprint_of
from gpu.same import pictures
from unlearnable_bench.benchmark.contrastive import Views
from unlearnable_bench.benchmark.train import Checkpoint, Training, TrainingProgress
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.poisons.recipe import PoisonRecipe, PurifiedRecipe, Recipe
from unlearnable_bench.poisons.store import Kept, Store
from unlearnable_bench.registry import (
    ARCHITECTURES,
    ATTACKS,
    DATASETS,
    DEFENSES,
    PROTOCOLS,
    Contrastive,
    Defense,
    Job,
    Protocol,
)
from unlearnable_bench.registry.data import Data, fingerprint

STEPS, EPOCH, KILLED = 50, 5, 25
VICTIMS = {  # defense and network
    "none": "small-cnn",
    "early-stop": "small-cnn",
    "epic": "small-cnn",
    "at(steps=2)": "small-cnn",
    "frozen-blocks": "resnet18-imagenet",
}
POISONS = [
    "em(surrogate=small-cnn,max_rounds=4,noise_steps=2,stop_error=0)",
    "tap(surrogate=small-cnn,epochs=4,steps=3,restarts=1)",
]
PURIFIERS = ["d-vae(epochs=3,width=8,batch=16,kld1=0.2)"]


class KilledError(BaseException):
    """Stands for the signal that ends a process: nothing catches it, and what goes on knows files alone."""


def run(setting: Setting, notes: Notes) -> None:
    """Victims, poisons, a purifier, training without labels; then checkpoints of others."""
    for item in setting.some(list(VICTIMS), ("none",)):
        notes.check(f"victim, {item}", lambda item=item: _victim(setting, item))  # type: ignore[misc]
    if not setting.tiny:
        notes.check("victim, simclr", lambda: _unlabelled(setting))
    for item in POISONS[:1] if setting.tiny else POISONS:
        notes.check(f"poison, {item}", lambda item=item: _poison(setting, item))  # type: ignore[misc]
    for item in () if setting.tiny else PURIFIERS:
        notes.check(f"purifier, {item}", lambda item=item: _purified(setting, item))  # type: ignore[misc]
    notes.check("a victim of another device", lambda: _refused_victim(setting))
    notes.check("a poison of another device", lambda: _refused_poison(setting))


def _victim(setting: Setting, item: str) -> Figures:
    chain: list[Defense] = [part.build() for part in DEFENSES.resolve(item)]
    protocol = Protocol(epochs=STEPS // EPOCH, batch=16, lr=0.02, augmentation=("crop", "flip"))
    return _resumed(_Victim(setting, VICTIMS[item], protocol, chain))


def _unlabelled(setting: Setting) -> Figures:
    protocol = PROTOCOLS["simclr"](epochs=STEPS // EPOCH, batch=16)
    return _resumed(_Victim(setting, "small-cnn", protocol, [Views(protocol)]))


@dataclass(frozen=True)
class _Victim:
    """A training that is run several times."""

    setting: Setting
    network: str
    protocol: Protocol
    chain: list[Defense]

    def train(self, checkpoint: Checkpoint, kill: int = 0) -> str:
        """Train and return the sha256 of the weights; KilledError after step `kill`, 0: never."""
        device = self.setting.device
        data, numerics = pictures(EPOCH * 16), Numerics.choose(device, "auto", 1)

        def report(now: TrainingProgress) -> None:
            if kill and now.step > kill:
                raise KilledError

        with seeded(0, numerics, device):
            training = Training(ARCHITECTURES[self.network](4), data, self.protocol, self.chain, device, numerics, data)
            training.run(None if isinstance(self.protocol, Contrastive) else data, report, checkpoint)
        return fingerprint_of(training.model)


def _resumed(victim: _Victim) -> Figures:
    """Train in one go, then with a kill in the middle; both must end with the same weights."""
    with tempfile.TemporaryDirectory() as folder:
        whole = victim.train(Checkpoint(Path(folder) / "whole.pt", seconds=0.0))
        checkpoint = Checkpoint(Path(folder) / "killed.pt", seconds=0.0)
        with suppress(KilledError):
            victim.train(checkpoint, KILLED)
        must(checkpoint.path.exists(), f"no checkpoint was there after {KILLED} steps")
        resumed = victim.train(checkpoint)
    must(whole == resumed, "the training that was killed ended with other weights")
    return {"sha256": whole[:16]}


def _poison(setting: Setting, item: str) -> Figures:
    recipe = PoisonRecipe(DATASETS.resolve("digits")[0], ATTACKS.resolve(item), 0)
    return _made(setting, recipe, lambda store, data: store.poison(recipe, data))


def _purified(setting: Setting, item: str) -> Figures:
    poison = PoisonRecipe(DATASETS.resolve("digits")[0], ATTACKS.resolve("lsp"), 0)
    recipe = PurifiedRecipe(poison, 1.0, "all", DEFENSES.resolve(item), 0)
    return _made(setting, recipe, lambda store, data: store.purified(recipe, data))


def _made(setting: Setting, recipe: Recipe, make: Callable[[Store, Data], Kept]) -> Figures:
    """Make a set in one go, then with a kill in the middle; both must have one checksum."""
    clean = pictures(64)
    data, steps = Data(clean, clean, fingerprint(clean, clean)), [0]

    def count(done: int, total: int) -> None:
        steps[0] += 1

    def kill(done: int, total: int) -> None:
        count(done, total)
        if steps[0] > middle:
            raise KilledError

    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two, _checkpoints_always():
        calm = make(Store(Path(one), setting.device, count), data).checksum
        middle, steps[0] = steps[0] // 2, 0
        with suppress(KilledError):
            make(Store(Path(two), setting.device, kill), data)
        kept = list((Path(two) / ".checkpoints").rglob("*.pt"))
        must(bool(kept), "no checkpoint was there when it was killed")
        again = make(Store(Path(two), setting.device), data).checksum
    must(calm == again, "what was killed ended as another set")
    return {"sha256": calm[:16], "steps": middle}


@contextmanager
def _checkpoints_always() -> Iterator[None]:
    with (
        mock.patch("unlearnable_bench.registry._crafting.EVERY", 0.0),
        mock.patch("unlearnable_bench.registry._crafting.SPENT_SAVING", float("inf")),
    ):
        yield


def _refused_victim(setting: Setting) -> Figures:
    """A checkpoint of the CPU lies where the device's would: the training must take all its steps."""
    data, protocol = pictures(EPOCH * 16), Protocol(epochs=2, batch=16, lr=0.02)
    numerics = Numerics.choose(setting.device, "auto", 1)
    steps: list[int] = []
    with tempfile.TemporaryDirectory() as folder, seeded(0, numerics, setting.device):
        checkpoint = Checkpoint(Path(folder) / "victim.pt", seconds=0.0)
        other = replace(numerics, dtype="fp32" if numerics.dtype == "bf16" else "bf16")
        begun = Training(ARCHITECTURES["small-cnn"](4), data, protocol, (), "cpu", other if not setting.on_gpu else numerics)
        begun.run(data, None, checkpoint)
        training = Training(ARCHITECTURES["small-cnn"](4), data, protocol, (), setting.device, numerics)
        training.run(data, lambda now: steps.append(now.step), checkpoint)
    must(steps[0] == 1, f"the training began with step {steps[0]}; expected 1")
    return {"steps": max(steps)}


def _refused_poison(setting: Setting) -> Figures:
    numerics = Numerics.pinned(setting.device, surrogate=True).on(setting.device)
    with tempfile.TemporaryDirectory() as folder:
        begun = Job("cpu", folder=Path(folder), numerics="cpu-fp32-2")
        begun.save({"loop": 1})
        must(begun.load() is not None, "a checkpoint of the CPU was not taken up on the CPU")
        for path in Path(folder).glob("*.pt"):  # as if it lay there under the device's name
            path.rename(Path(folder) / f"checkpoint-{numerics}.pt")
        must(Job(setting.device, folder=Path(folder), numerics=numerics).load() is None, "a checkpoint of the CPU was taken up")
    return {"numerics": numerics}
