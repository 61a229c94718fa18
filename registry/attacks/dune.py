"""DUNE: noise and a color shift, each made to look like a label three places on, and added up.

Both branches ask checkpoints of a clean training: signed steps move every image, a particle swarm finds one color per class.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry import ATTACKS, Attack, Budget, DataInfo, EntryError, ImageSet, Job, NotApplicable, Paper
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._frozen_networks import Descent, frozen, toward
from unlearnable_bench.registry._noise import in_slices
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._surrogates import SurrogateRecipe, checkpoints_of

SIDE = 7  # of the windows of SSIM, pixels
C1, C2 = 0.01**2, 0.03**2  # of SSIM, where pixels are 0 to 1
REACH, PUSH = 0.1, 0.01  # largest first color, pixel units, and its largest first move
INERTIA, PULL = 0.5, 0.3  # parts of the last move, and of the ways to the own and the common best color


@ATTACKS.register("dune")
@dataclass(frozen=True)
class DualBranch(Attack):
    """Noise towards label y + 3 on several checkpoints, plus one color per class found by a particle swarm (Wang et al.).

    Noise: signed steps along the mean gradient of the checkpoints. Color: what is added to the channels of all images of a
    class lowers their mean loss to the same label, plus what the images lack of `psnr` and `ssim`; a price, no bound, so that
    no norm holds. Both branches see clean images; the color is added to the noisy ones.
    released: the authors' code, where the best color goes on with its particle, so that the color that is published was never
    judged. best: it stays where it was lowest. `steps=0` is their color alone, `iterations=0` their noise alone.
    Changed from the authors' code: the floor of LPIPS, 0.03, is left out, since it wants the weights of an AlexNet: colors may
    be stronger than theirs; checkpoints are evenly spaced over a clean training like that of `sep`, whose file names the code
    expects and whose length it does not state; values are rounded, not truncated, to 8 bits; pixels' mean and deviation are
    those of the data; a class without images gets no color; on a GPU, the steps of the noise are taken in bf16.
    """

    variant: Literal["released", "best"] = "released"  # where the swarm ends, see above
    radius: float = 8 / 255  # linf, of the noise alone, pixel units
    surrogate: str = "resnet18"  # the network that both are made against: any architecture
    epochs: int = 120  # of the surrogate
    batch: int = 128  # images per training step
    checkpoints: int = 5  # evenly spaced, the last epoch's among them
    offset: int = 3  # from an image's label to the one that it is made to look like
    steps: int = 30  # signed steps of the noise
    step_size: float = 0.5 / 255  # pixel units
    particles: int = 10  # of the swarm
    iterations: int = 10  # of the swarm
    judged: int = 1000  # images of a class, the first ones, that judge its colors
    psnr: float = 20.0  # dB; every dB that an image has less costs 1
    ssim: float = 0.8  # what an image has less is added to the loss

    display_name = "Dual-branch unlearnable ensemble"
    label = "DUNE"
    small: ClassVar[dict[str, Any]] = {
        "surrogate": "small-cnn",
        "epochs": 2,
        "batch": 16,
        "checkpoints": 2,
        "steps": 2,
        "particles": 3,
        "iterations": 2,
        "judged": 4,
    }
    budget_norm: ClassVar[str] = "none"
    paper = Paper(
        "Dual-branch Robust Unlearnable Examples",
        venue="ICML 2026",
        url="https://arxiv.org/abs/2605.01718",
        authors="Xianlong Wang, Hangtao Zhang, Wenbo Pan, Ziqi Zhou, Changsong Jiang, Li Zeng, Xiaohua Jia",
        year=2026,
    )

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.checkpoints, self.particles, self.judged) < 1:
            raise EntryError("attack dune: epochs, batch, checkpoints, particles and judged must be 1 or more")
        if min(self.radius, self.steps, self.step_size, self.iterations) < 0:
            raise EntryError("attack dune: radius, steps, step_size and iterations cannot be negative")

    @property
    def budget(self) -> Budget:
        return Budget("none")

    def applies(self, info: DataInfo) -> None:
        if self.offset % info.num_classes == 0:
            raise NotApplicable(f"label y + {self.offset} of {info.num_classes} classes is the own one")
        if min(info.shape[1:]) < SIDE:
            raise NotApplicable(f"SSIM has windows of {SIDE}x{SIDE} pixels, the images are {info.shape[1]}x{info.shape[2]}")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        run = Crafting(clean, job)
        recipe = SurrogateRecipe(self.epochs, batch=self.batch, drops=(75 / 120, 90 / 120), warmup=1)
        levels = self.poison(run, checkpoints_of(run, self.surrogate, recipe, self.checkpoints))
        run.close()
        yield from in_slices(clean, levels, 1 / 255)

    def poison(self, run: Crafting, nets: list[nn.Module]) -> Tensor:
        """Return 8-bit levels of noise and color together against trained checkpoints."""
        colors = Colors(run.clean)
        self.find_colors(run, nets, colors)
        whole = nn.ModuleList([*nets, colors])  # so that a checkpoint has the colors too

        def chunk(x: Tensor, y: Tensor, where: slice) -> tuple[Tensor, Tensor]:
            return self.moved(run, nets, colors, x, y)

        return frozen(run, whole, chunk, torch.int16)

    def moved(self, run: Crafting, nets: list[nn.Module], colors: "Colors", x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is added to images, and their losses (B,) before the last step of the noise."""
        plan = Descent(self.radius, "linf", self.steps, self.step_size)
        delta, losses = plan.apply(run, x, toward(run, nets, self.goal(run, y)))
        return (x + delta + colors(y).to(x)).clamp(0, 1) - x, losses

    def goal(self, run: Crafting, y: Tensor) -> Tensor:
        """Return the labels that images are made to look like."""
        return (y + self.offset) % run.clean.num_classes

    def find_colors(self, run: Crafting, nets: list[nn.Module], colors: "Colors") -> None:
        """Find the color of every class. Skipped where the noise is taken up, whose checkpoint has them."""
        whole, first = nn.ModuleList([*nets, colors]), 0
        if run.stage == "noise":
            return
        if found := run.resume("colors"):
            whole.load_state_dict(found["nets"])
            first = found["done"]
        with still(whole):
            for label in range(first, run.clean.num_classes):
                rows = (run.clean.labels == label).nonzero().flatten()[: self.judged]
                colors.of_class[label] = self.color(run, nets, rows)
                run.job.progress(label + 1, run.clean.num_classes)
                if run.due:
                    run.keep("colors", {"nets": whole.state_dict(), "done": label + 1})

    def color(self, run: Crafting, nets: list[nn.Module], rows: Tensor) -> Tensor:
        """Return the color (C,) of a class, some of whose images are at `rows`."""
        if len(rows) == 0:
            return torch.zeros(run.clean.images.shape[1])
        shape, dice = (self.particles, run.clean.images.shape[1]), run.job.generator
        places, moves = ((2 * torch.rand(shape, generator=dice, dtype=torch.float64) - 1) * reach for reach in (REACH, PUSH))

        def price(color: Tensor) -> float:
            return self.price(run, nets, rows, color)

        found, lowest = swarm(price, places, moves, self.iterations, self.variant == "released")
        run.write(price_of_color=lowest)
        return found

    def price(self, run: Crafting, nets: list[nn.Module], rows: Tensor, color: Tensor) -> float:
        """Return the mean loss of some images in a color (C,), and what they lack of PSNR and SSIM."""
        total = 0.0
        for part in rows.split(run.at_once):
            x, y = run.batch(part)
            z, goal = (x + color.to(x).view(-1, 1, 1)).clamp(0, 1), self.goal(run, y)
            with torch.no_grad():
                loss = torch.stack([F.cross_entropy(net(z).float(), goal, reduction="none") for net in nets]).mean(0)
            total += float((loss + self.lacking(z, x)).sum())
            run.count(len(nets), len(part))
        return total / len(rows)

    def lacking(self, z: Tensor, x: Tensor) -> Tensor:
        """Return what changed images lack of PSNR and SSIM, (B,)."""
        return (self.psnr - signal_to_noise(z, x)).clamp(min=0) + (self.ssim - structure(z, x)).clamp(min=0)


class Colors(nn.Module):
    """One color per class, (K, C) in pixel units, kept in checkpoints beside the networks."""

    def __init__(self, clean: ImageSet) -> None:
        super().__init__()
        self.of_class: Tensor
        self.register_buffer("of_class", torch.zeros(clean.num_classes, clean.images.shape[1], dtype=torch.float64))

    def forward(self, y: Tensor) -> Tensor:
        """Return what is added to images of some labels, (B, C, 1, 1)."""
        return self.of_class[y.cpu(), :, None, None]


def swarm(
    price: Callable[[Tensor], float], places: Tensor, moves: Tensor, iterations: int, leader_moves: bool
) -> tuple[Tensor, float]:
    """Return where a swarm ends that looks for the lowest price, and the lowest that it saw; zeros without iterations.

    Places and moves are (particles, dimensions). All go to their own best place and to that of the leader, who saw the lowest
    price; or to where the leader is now, if `leader_moves`.
    """
    own, lows = places.clone(), torch.full((len(places),), torch.inf, dtype=places.dtype)
    best = torch.zeros_like(places[0])
    for _ in range(iterations):
        prices = torch.tensor([price(place) for place in places], dtype=places.dtype)
        own = torch.where((prices < lows)[:, None], places, own)
        lows = torch.minimum(prices, lows)
        leader = int(lows.argmin())
        goal = places[leader] if leader_moves else own[leader]
        moves = INERTIA * moves + PULL * (own - places) + PULL * (goal - places)
        places = places + moves
        best = places[leader] if leader_moves else own[leader]
    return best, float(lows.min())


def signal_to_noise(a: Tensor, b: Tensor) -> Tensor:
    """Return the PSNR of every pair of images (B, C, H, W) of 0 to 1, in dB; at most 120."""
    return -10 * (a - b).square().mean((1, 2, 3)).clamp(min=1e-12).log10()


def structure(a: Tensor, b: Tensor) -> Tensor:
    """Return the SSIM of every pair of images (B, C, H, W) of 0 to 1: over plain windows, with the variance of a sample."""
    mean_a, mean_b = (F.avg_pool2d(z, SIDE, 1) for z in (a, b))
    of_sample = SIDE**2 / (SIDE**2 - 1)
    variance_a, variance_b, both = (
        of_sample * (F.avg_pool2d(product, SIDE, 1) - means)
        for product, means in ((a * a, mean_a**2), (b * b, mean_b**2), (a * b, mean_a * mean_b))
    )
    same = (2 * mean_a * mean_b + C1) * (2 * both + C2)
    return (same / ((mean_a**2 + mean_b**2 + C1) * (variance_a + variance_b + C2))).mean((1, 2, 3))
