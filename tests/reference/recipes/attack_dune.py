"""DUNE: the authors' script from checkpoints to images, with its color alone and with both; and its price."""

import pickle
import runpy
import sys
import tempfile
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import nn

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry.attacks.dune import Colors, DualBranch

REPOSITORY = "wxldragon/DUNE"
FUNCTION = "generate_unlearnable.py, its calculate_penalty"
SEED = 6
TOLERANCE = 1e-5
REASON = "colors of a swarm, theirs in float32, and 8-bit levels of noise and color after 20 steps; draws are ours"
STEPS, CHECKPOINTS, SIDE = 20, 2, 12
FLOORS = (12, 1.0, 0.03)  # of PSNR one that some of the images reach, of SSIM one that none does
OUTSIDE = ("torchvision", "torchvision.models", "torchvision.transforms", "torchvision.utils", "lpips", "classifiers.resnet")
OTHERS = ("classifiers", "utils")


def given(rng: np.random.Generator) -> tuple[ImageSet, list[nn.Module]]:
    """Two images of each of the ten classes that the script counts on, and checkpoints."""
    clean = inputs.image_set(rng, 20, SIDE)
    nets = [inputs.network(rng, classes=10, side=SIDE) for _ in range(CHECKPOINTS)]
    return ImageSet(clean.images, torch.arange(20) // 2, 10), nets


def utilities(net: nn.Module) -> ModuleType:
    """Return what stands in for the module `utils` of the script, whose names it takes all."""
    found = ModuleType("utils")
    found.get_model, found.os, found.np, found.torch = lambda *asked, **named: net, __import__("os"), np, torch
    found.pickle = pickle
    return found


def at_home(*asked: Any, make: Callable[..., Any] = torch.utils.data.DataLoader, **named: Any) -> Any:
    """Make a loader that starts no processes."""
    return make(*asked, **named | {"num_workers": 0})


def run_script(branch: str, clean: ImageSet, nets: list[nn.Module]) -> np.ndarray:
    """Run the script in an empty folder; return the images that it saves, class by class, as the set has them."""
    dice = inputs.run(clean).job.generator
    script = f"{sys.path[0]}/generate_unlearnable.py"
    with (
        tempfile.TemporaryDirectory() as folder,
        chdir(folder),
        inputs.absent(*OUTSIDE, *OTHERS),
        patch.object(sys, "argv", [script, branch, f"--num_model={CHECKPOINTS}", f"--num_step={STEPS}"]),
        patch.object(np.random, "rand", lambda *shape: torch.rand(shape, generator=dice, dtype=torch.float64).numpy()),
        patch.object(torch.utils.data, "DataLoader", at_home),
        patch.object(torch.Tensor, "cuda", lambda tensor: tensor),
        patch.object(torch.nn.Module, "cuda", lambda module: module),
    ):
        sys.modules["utils"] = utilities(inputs.network(np.random.default_rng(0), classes=10, side=SIDE))
        sys.modules["lpips"].LPIPS = lambda net: MagicMock(cuda=lambda: lambda one, other: torch.zeros(1))
        pairs = list(zip(inputs.pixels(clean), clean.labels.tolist(), strict=True))
        sys.modules["torchvision"].datasets.CIFAR10 = lambda **named: pairs
        Path("ckpt/cifar10/ResNet18").mkdir(parents=True)
        for number, net in enumerate(nets):
            torch.save({"net": net.state_dict()}, f"ckpt/cifar10/ResNet18/s1-s2-e{number + 1}-x")
        runpy.run_path(script, run_name="__main__")
        (saved,) = Path("UEs").rglob("*.pkl")
        found = np.stack([image for image, _ in pickle.loads(saved.read_bytes())])  # noqa: S301  (made a moment ago)
    return found


def changed(rng: np.random.Generator, clean: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Return soft images, of which SSIM has its constants to say, and the same brighter and noisy."""
    x = 0.4 + 0.2 * inputs.pixels(clean)
    bright = torch.linspace(0.01, 0.3, len(x)).double().view(-1, 1, 1, 1)
    return x, x + bright + inputs.noise(rng, x.shape, 0.03)


def official(rng: np.random.Generator) -> Arrays:
    clean, nets = given(rng)
    before = inputs.pixels(clean).numpy()
    noise, color = (run_script(branch, clean, nets) - before for branch in ("--ours", "--colorshift"))
    from skimage import metrics

    known = {"psnr": metrics.peak_signal_noise_ratio, "ssim": metrics.structural_similarity}
    penalty = inputs.part_of("generate_unlearnable", "calculate_penalty", **known)
    same = lambda one, other: torch.zeros(1)  # noqa: E731
    pairs = zip(*(z[:, None] for z in changed(rng, clean)), strict=True)
    lacking = [penalty(after, before, FLOORS, same) for before, after in pairs]
    return {"color": color.astype(np.float32), "levels": np.round(255 * noise).astype(np.int16), "lacking": np.array(lacking)}


def ours(rng: np.random.Generator) -> Arrays:
    clean, nets = given(rng)
    run, colors = inputs.run(clean), Colors(clean)
    DualBranch().find_colors(run, nets, colors)
    color, _ = DualBranch(steps=0).moved(run, nets, colors, *run.batch(slice(None)))
    levels = DualBranch(steps=STEPS).poison(inputs.run(clean), nets)
    before, after = changed(rng, clean)
    lacking = DualBranch(psnr=FLOORS[0], ssim=FLOORS[1]).lacking(after, before)
    return {"color": color.numpy().astype(np.float32), "levels": levels.numpy(), "lacking": lacking.numpy()}
