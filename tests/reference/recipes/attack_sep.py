"""Self-ensemble protection: the authors' three scripts from checkpoints to noise."""

import runpy
import sys
import tempfile
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry.architectures.small_cnn import SmallCNN
from unlearnable_bench.registry.attacks.sep import SelfEnsembleProtection

REPOSITORY = "Sizhe-Chen/SEP"
FUNCTION = "ens.py, ens_feature.py, ens_feature_svre.py"
SEED = 11
TOLERANCE = 0.0
REASON = "8-bit levels after 4 steps against 3 checkpoints; the checkpoints drawn in the walk are ours on both sides"
STEPS, CHECKPOINTS = 4, 3
SCRIPTS = {"sep": "ens.py", "fa": "ens_feature.py", "fa-vr-released": "ens_feature_svre.py"}


def given(rng: np.random.Generator) -> tuple[ImageSet, list[nn.Module]]:
    """Sixteen images of eight of ten classes, and checkpoints; the scripts count on ten classes and 512 features.

    Classes 0 and 5 have no image: the scripts count rows of the set that were not loaded to class 0.
    """
    images = inputs.image_set(rng, 16).images
    labels = torch.tensor([1, 2, 3, 4, 6, 7, 8, 9]).repeat(2)
    return ImageSet(images, labels, 10), [inputs.drawn(rng, SmallCNN(10, 3, (8, 16, 512))) for _ in range(CHECKPOINTS)]


class Inner(nn.Module):
    """Their network: it keeps the features of the last batch."""

    def __init__(self) -> None:
        super().__init__()
        net = SmallCNN(10, 3, (8, 16, 512))
        self.body, self.head = net.body, net.head

    def forward(self, x: Tensor) -> Tensor:
        self.features = torch.mean(self.body(x), (2, 3))
        return self.head(self.features)


class Outer(nn.Module):
    """What wraps it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def utilities(clean: ImageSet) -> ModuleType:
    """Return what stands in for the module `utils` of the scripts."""
    loader = [(inputs.pixels(clean), clean.labels, torch.arange(len(clean)))]
    found = ModuleType("utils")
    found.cifar10csz = lambda *asked: (loader, loader, loader)
    found.get_model = lambda *asked, **named: Outer().eval()
    found.update_ckpt = lambda args: args
    found.LogProcessBar = lambda *asked: SimpleNamespace(refresh=lambda *shown: None)
    return found


def walk(clean: ImageSet) -> Callable[[range], int]:
    """Return what draws checkpoints as ours does."""
    generator = inputs.run(clean).job.generator
    return lambda places: int(torch.randint(len(places), (1,), generator=generator))


def copied(x: Tensor, *place: Any, to: Callable[..., Tensor] = torch.Tensor.to) -> Tensor:
    """Move a tensor as their GPU does: the copy is another tensor, whose gradient the first knows nothing of."""
    return to(x, *place).clone()


def run_script(name: str, clean: ImageSet, nets: list[nn.Module]) -> np.ndarray:
    """Run a script in an empty folder; return the images that it saves."""
    arguments = [name, f"--num_model={CHECKPOINTS}", f"--epoch={STEPS}", "--eps=2"]
    arguments += [f"--msvrg={CHECKPOINTS}"] * (name == "ens_feature_svre.py")
    checkout = sys.path[0]
    with (
        tempfile.TemporaryDirectory() as folder,
        chdir(folder),
        inputs.double(),
        inputs.absent("torchvision", "robustbench", "robustbench.utils", "pynvml", "utils"),
        patch.object(sys, "argv", arguments),
        patch.object(np.random, "choice", walk(clean)),
        patch.object(torch.Tensor, "to", copied),
    ):
        sys.modules["utils"] = utilities(clean)
        Path("ckpt/ResNet18").mkdir(parents=True)
        for number, net in enumerate(nets):
            state = {f"net.{key}": value for key, value in net.state_dict().items()}
            torch.save({"net": state}, f"ckpt/ResNet18/s1-s2-e{number + 1}-x")
        runpy.run_path(f"{checkout}/{name}", run_name="__main__")
        (saved,) = Path("samples").rglob("*.npy")
        found = np.load(saved)
    return found


def official(rng: np.random.Generator) -> Arrays:
    clean, nets = given(rng)
    found = {}
    for variant, name in SCRIPTS.items():
        noise = run_script(name, clean, nets) - inputs.pixels(clean).numpy()
        found[variant] = np.round(255 * noise).astype(np.int16)[:4]
    return found


class Single(nn.Module):
    """A checkpoint whose features leave it in float32, as ours has them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def features(self, x: Tensor) -> Tensor:
        return self.net.features(x).float()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def ours(rng: np.random.Generator) -> Arrays:
    clean, nets = given(rng)
    found = {}
    for variant in SCRIPTS:
        entry = SelfEnsembleProtection(variant=variant, steps=STEPS, inner_steps=CHECKPOINTS)
        run = inputs.run(clean)
        found[variant] = entry.poison(run, [Single(net) for net in nets]).numpy()[:4]
    return found
