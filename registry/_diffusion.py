"""Diffusion: networks that predict noise, the user's or one trained on the set at hand, and the way down from a noise level.

Levels are steps of DDPM: at level t, 0..1000, an image is sqrt(k) x + sqrt(1 - k) noise with k = `kept()[t]`, x in [-1, 1].
That is the variance-preserving SDE of Song et al. with beta from 0.1 to 20 at time t / 1000. Networks come from the library
`diffusers`, which is imported where one is made.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import _vision
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._weights import verified_folder
from unlearnable_bench.registry.contract import DataInfo, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry.spec import SELFTRAINED

AnyNet = TypeVar("AnyNet", bound=nn.Module)

LEVELS = 1000
BETAS = (0.1, 20.0)  # of the continuous SDE at its ends, per unit of time
SPREAD = 0.5  # usual deviation of a pixel, images in [-1, 1]


def betas() -> Tensor:
    """The variance of the noise of every step, float64 (1000,): Ho et al. (2020)."""
    return torch.linspace(1e-4, 0.02, LEVELS, dtype=torch.float64)


def beta_dt(level: int) -> float:
    """Return how much noise the SDE of variance preserved adds per level, at a level: Song et al. (2021), equation 32."""
    return (BETAS[0] + (BETAS[1] - BETAS[0]) * level / LEVELS) / LEVELS


def remaining(level: int) -> float:
    """Return the part of the signal's variance that this SDE leaves at a level, where its levels are no steps."""
    time = level / LEVELS
    return math.exp(-(BETAS[1] - BETAS[0]) * time**2 / 2 - BETAS[0] * time)


def kept() -> Tensor:
    """The part of the signal's variance that is left at every level, float64 (1001,); 1 at level 0."""
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas()).cumprod(0)])


def stairs(top: int, steps: int) -> list[int]:
    """Return the levels from `top` down to 0: all of them, or `steps` and 0, closer the lower they are, without repeats."""
    if steps >= top:
        return list(range(top, -1, -1))
    return sorted({round(top * (step / steps) ** 2) for step in range(steps + 1)}, reverse=True)


def ddpm_mean(x: Tensor, noise: Tensor, above: float, below: float) -> Tensor:
    """Return the mean of x at a lower level, if this is its noise: Ho et al. (2020), equation 7, the image clipped.

    `above` and `below` are the parts of the signal's variance that are left at the level of x and at the lower one.
    """
    between = above / below
    image = ((x - (1 - above) ** 0.5 * noise) / above**0.5).clamp(-1, 1)
    mean: Tensor = below**0.5 * (1 - between) / (1 - above) * image + between**0.5 * (1 - below) / (1 - above) * x
    return mean


class Denoiser(nn.Module):
    """A UNet of diffusers behind one question: which noise is in x, float32 (B, C, H, W) around [-1, 1], at a level?"""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, level: int | Tensor) -> Tensor:
        """`level` 1..1000, one for all or (B,)."""
        noise: Tensor = self.unet(x.contiguous(memory_format=torch.channels_last), level - 1).sample
        return noise


class Small(Denoiser):
    """One that learns quickly: it adds what a linear guess leaves over, and sees patches of pixels as channels.

    The guess takes pixels for independent with deviation SPREAD (Karras et al. 2022, their preconditioning).
    """

    def __init__(self, unet: nn.Module, patch: int) -> None:
        super().__init__(unet)
        self.patch = patch
        self.register_buffer("left", kept().float())

    def forward(self, x: Tensor, level: int | Tensor) -> Tensor:
        left = self.get_buffer("left")[level].view(-1, 1, 1, 1)
        variance = left * SPREAD**2 + 1 - left
        rest = super().forward(F.pixel_unshuffle(x / variance.sqrt(), self.patch), level)
        return (1 - left).sqrt() / variance * x + self.leftover(level) * F.pixel_shuffle(rest, self.patch)

    def leftover(self, level: int | Tensor) -> Tensor:
        """The deviation of what the linear guess leaves over, (B or 1, 1, 1, 1)."""
        left = self.get_buffer("left")[level].view(-1, 1, 1, 1)
        return (left * SPREAD**2 / (left * SPREAD**2 + 1 - left)).sqrt()


@dataclass(frozen=True)
class Model:
    """Which network a defense asks for."""

    owner: str  # the defense, for messages
    weights: str  # 'selftrained', or the name of a folder
    checksum: str  # of that folder
    top: int  # the highest level that is asked for; a network of the set at hand learns no other
    width: int  # channels of such a network
    epochs: int  # of its training
    batch: int = 32  # images
    lr: float = 4e-3  # of Adam, cosine to 0


Walk = Callable[[Denoiser, Tensor, Callable[[Tensor], Tensor]], Tensor]
"""(network, x, noise) -> the images at the end of the way, both (B, C, H, W) around [-1, 1]; `noise(x)` draws like x."""


def purified(defense: Any, train: ImageSet, job: Job, model: Model, calls: int, walk: Walk) -> Tensor:
    """Return what `walk` makes of every image, uint8 (N, C, H, W). `calls` are its passes per image, for the progress."""
    run = Crafting(train, job)
    learnt = 3 * model.epochs if model.weights == SELFTRAINED else 0  # passes per image
    state = run.resume(f"{defense} walks")
    if model.weights != SELFTRAINED:
        net = loaded(model.owner, verified_folder(f"defense {model.owner}", model.weights, model.checksum), train, run.device)
    else:
        net = small = _untrained(model, train).to(run.device)
        if state is None:
            _fit(small, train, model, run, f"{defense} trains", lambda done: job.progress(done, learnt + calls))
        else:
            small.load_state_dict(state["net"])
    net.eval().requires_grad_(False)
    return walked(net, train, run, Way(f"{defense} walks", partial(walk, net), calls, learnt), state)


@dataclass(frozen=True)
class Way:
    """How every image is purified once there is a network, and how that came to be."""

    stage: str  # of checkpoints
    walk: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]  # as `Walk`, of a network that is known
    calls: int  # passes of the network per image
    learnt: int = 0  # passes per image that its training took; 0: it was loaded


def walked(net: nn.Module, train: ImageSet, run: Crafting, way: Way, state: dict[str, Any] | None) -> Tensor:
    """Return every image at the end of its way, uint8 (N, C, H, W); `state` is what `run` resumes from."""
    job, total = run.job, way.learnt + way.calls
    result = job.empty(train.images.shape, torch.uint8)
    done = 0
    if state is not None:
        done = int(state["done"])
        result[:done] = state["images"]

    def noise(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=job.generator).to(x.device)

    side = math.sqrt(train.images[0, 0].numel())
    size = max(1, int((512 if run.device.type == "cuda" else 64) * min(1.0, (32 / side) ** 2)))
    with torch.no_grad():
        for start in range(done, len(train), size):
            where = slice(start, min(start + size, len(train)))
            x = way.walk(train.pixels(where, run.device) * 2 - 1, noise)
            result[where] = ((x + 1) * 127.5).round_().clamp_(0, 255).byte().cpu()
            run.count(way.calls, where.stop - where.start)
            job.progress(way.learnt + way.calls * where.stop // len(train), total)
            if run.due:
                parts = {"net": net.state_dict()} if way.learnt else {}
                run.keep(way.stage, {"done": where.stop, "images": result[: where.stop], **parts})
    run.close()
    return result


def diffusers_library(owner: str) -> Any:
    """Return the library, which is optional. EntryError if it is missing."""
    _vision.prepare()
    try:
        import diffusers
    except ImportError:
        raise EntryError(
            f"defense {owner} needs the package diffusers; install it by: pip install 'unlearnable-bench[diffusion]'"
        ) from None
    return diffusers


# A network of the set at hand


def _untrained(model: Model, train: ImageSet) -> Small:
    channels, height, width = train.info.shape
    patch = 2 if height % 4 == 0 and width % 4 == 0 else 1
    unet = diffusers_library(model.owner).UNet2DModel(
        sample_size=(height // patch, width // patch),
        in_channels=channels * patch**2,
        out_channels=channels * patch**2,
        layers_per_block=1,
        block_out_channels=(model.width, model.width),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=math.gcd(8, model.width),
        add_attention=False,
    )
    return Small(unet.to(memory_format=torch.channels_last), patch)


def _fit(net: Small, train: ImageSet, model: Model, run: Crafting, stage: str, progress: Callable[[int], None]) -> None:
    """Train it to find noise, up to the highest level that is asked for. Labels are not looked at."""
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), model.lr)
    steps = max(1, model.epochs * math.ceil(len(train) / model.batch))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    state, generator, left = run.resume(stage), run.job.generator, kept().float().to(run.device)
    if state is not None:
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
    for epoch in range(state["epoch"] if state else 0, model.epochs):
        for rows in torch.randperm(len(train), generator=generator).split(model.batch):
            x = train.pixels(rows, run.device) * 2 - 1
            noise = torch.randn(x.shape, generator=generator).to(run.device)
            level = torch.randint(1, model.top + 1, (len(x),), generator=generator).to(run.device)
            part = left[level].view(-1, 1, 1, 1)
            off = (net(part.sqrt() * x + (1 - part).sqrt() * noise, level) - noise) / net.leftover(level)
            loss = off.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        run.count(3, len(train))
        progress(3 * (epoch + 1))
        if run.due:
            parts = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            run.keep(stage, {"epoch": epoch + 1, **parts})


@dataclass(frozen=True)
class Averaging:
    """How long a network trains and how slowly its averaged weights follow it."""

    stage: str  # of checkpoints
    steps: int
    batch: int  # images, for the count of passes
    ema: float  # part of the averaged weights that a step keeps


def averaged(
    net: AnyNet,
    optimizer: torch.optim.Optimizer,
    plan: Averaging,
    loss: Callable[[], Tensor],
    run: Crafting,
    progress: Callable[[int], None],
) -> AnyNet:
    """Follow a loss, which draws a batch at every call, at a constant rate; return the network of the averaged weights."""
    average = copy.deepcopy(net).requires_grad_(False)
    parts: dict[str, Any] = {"net": net, "average": average, "optimizer": optimizer}
    state = run.resume(plan.stage)
    if state is not None:
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for done in range(state["step"] if state else 0, plan.steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), net.parameters(), strict=True):
                kept.lerp_(new, 1 - plan.ema)
        run.count(3, plan.batch)
        progress(done + 1)
        if run.due:
            run.keep(plan.stage, {"step": done + 1, **{name: part.state_dict() for name, part in parts.items()}})
    return average


# Weights of the user


def loaded(owner: str, folder: Path, train: ImageSet, device: torch.device) -> Denoiser:
    """Read a UNet2DModel of diffusers, safetensors only. EntryError if it does not fit the images or the levels above."""
    diffusers = diffusers_library(owner)
    home = folder / "unet" if (folder / "unet").is_dir() else folder
    plan = next((p for p in (folder / "scheduler/scheduler_config.json", folder / "scheduler_config.json") if p.exists()), None)
    told = json.loads(plan.read_text(encoding="utf-8")) if plan else {}
    usual = {"num_train_timesteps": LEVELS, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    usual |= {"prediction_type": "epsilon"}
    if wrong := next((key for key, value in usual.items() if told.get(key, value) != value), ""):
        raise EntryError(f"defense {owner}: {plan} has {wrong}={told[wrong]}; expected {usual[wrong]}")
    try:
        unet = diffusers.UNet2DModel.from_pretrained(
            str(home), local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, torch_dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        text = str(error).splitlines()[0]
        raise EntryError(f"defense {owner}: {home} holds no UNet2DModel of diffusers in safetensors: {text}") from None
    side = unet.config.sample_size
    sides = tuple(side) if isinstance(side, list | tuple) else (side, side)
    has, wanted = (unet.config.in_channels, *sides), train.info.shape
    if has != wanted or unet.config.out_channels != wanted[0]:
        raise EntryError(f"defense {owner}: the network in {home} is for images {has}, the set has {wanted}")
    return Denoiser(unet.to(memory_format=torch.channels_last)).to(device)


def check_denoiser(owner: str, weights: str, checksum: str, info: DataInfo) -> None:
    """Ask, while planning, whether weights are what a spec says and images can be purified. EntryError, NotApplicable."""
    if weights == SELFTRAINED:
        if checksum:
            raise EntryError(f"defense {owner}: checksum={checksum} belongs to weights, and none are named")
        if info.shape[1] % 2 or info.shape[2] % 2:
            raise NotApplicable(f"needs even sides, the images are {info.shape[1]}x{info.shape[2]}")
    else:
        verified_folder(f"defense {owner}", weights, checksum)


class Perceptual(nn.Module):
    """LPIPS: how differently an AlexNet sees two images. Without weights it is random, and all channels count alike.

    Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018.
    """

    def __init__(self, owner: str, weights: str, checksum: str) -> None:
        super().__init__()
        self.features = nn.Sequential(  # of AlexNet, numbered as torchvision does
            *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
        )
        self.channels: list[Tensor | None] = [None] * 5
        if weights != SELFTRAINED:
            self._read(owner, verified_folder(f"defense {owner}", weights, checksum) / "lpips.safetensors")
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("spread", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def _read(self, owner: str, path: Path) -> None:
        from safetensors.torch import load_file

        if not path.exists():
            raise EntryError(f"defense {owner}: there is no {path}, the weights of LPIPS; its docstring says what is in it")
        try:
            found = load_file(path)
            features = {key.removeprefix("features."): value for key, value in found.items() if key.startswith("features.")}
            self.features.load_state_dict(features)
            for number in range(5):
                self.register_buffer(f"lin{number}", found[f"lin{number}"].float().view(1, -1, 1, 1))
        except (KeyError, RuntimeError, ValueError) as error:
            raise EntryError(f"defense {owner}: {path} is not LPIPS: {str(error).splitlines()[0]}") from None
        self.channels = [self.get_buffer(f"lin{number}") for number in range(5)]

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        """Return the distances, (B,), of images (B, C, H, W) in [-1, 1]."""
        total = torch.zeros(len(x), device=x.device)
        pairs = zip(self._looks(x), self._looks(reference), strict=True)
        for number, (one, two) in enumerate(pairs):
            apart = (one - two).square()
            channels = self.get_buffer(f"lin{number}") if self.channels[number] is not None else None
            total = total + (apart if channels is None else apart * channels).sum(1).mean((1, 2))
        return total

    def _looks(self, x: Tensor) -> list[Tensor]:
        """What each of the five stages sees, every place's channels of length 1."""
        times = max(1, -(-32 // min(x.shape[2:])))
        if times > 1:
            x = x.repeat_interleave(times, 2).repeat_interleave(times, 3)
        x = (x.expand(-1, 3, -1, -1) - self.get_buffer("shift")) / self.get_buffer("spread")
        seen = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                seen.append(x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt())
        return seen
