"""How fast the generators of surrogate-free poisons are, as ratios: `python -m speed.generators`, or `make generators`.

The references work as the authors' scripts do, an image (AR: a pixel; OPS: a class, a position and a colour) at a time, and
are the slow, obvious versions that the tests compare the bytes with. They are timed on few images, for they are slow, ours on
many (OPS on as many as ours: each of its steps takes a time of its own, which a larger class shares among more images); a row
shows the least, the middle and the largest ratio per image over the rounds, from labels or images to 8-bit images, seconds of
the processor, one thread. The search of AR's coefficients is left out on both sides. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from speed.engine import images
from unlearnable_bench.benchmark import provenance
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.poisons.store import add
from unlearnable_bench.registry import ImageSet, Job
from unlearnable_bench.registry.attacks.ar import CROP, Autoregressive, border_size, find_processes
from unlearnable_bench.registry.attacks.lsp import LSP, distinct_corners
from unlearnable_bench.registry.attacks.ops import OnePixelShortcut
from unlearnable_bench.registry.attacks.regions_4 import Regions

Way = Callable[[ImageSet], Iterable[Tensor]]


def rounded(image: Tensor, noise: Tensor) -> Tensor:
    """One poisoned image as published, rounded to 8 bits."""
    return (image.float() + 255 * noise).round().clamp(0, 255).to(torch.uint8)


def lsp_slowly(attack: LSP, clean: ImageSet, job: Job) -> list[Tensor]:
    """Draw, enlarge, scale and add the mosaics of LSP image by image."""
    channels, height, width = clean.images.shape[1:]
    down, across = -(-height // attack.patch), -(-width // attack.patch)
    d = channels * down * across
    corners = distinct_corners(clean.num_classes, d, job.generator)
    mosaics = torch.empty(len(clean), d)
    for label in range(clean.num_classes):
        mixing = torch.rand(d, d, generator=job.generator) * 2 - 1
        members = torch.nonzero(clean.labels == label).flatten().tolist()
        drawn = torch.randn(len(members), d, generator=job.generator)
        for row, g in zip(members, drawn, strict=True):
            mosaics[row] = g @ mixing + 10 * corners[label]
    result = []
    for image, mosaic in zip(clean.images, mosaics, strict=True):
        tiles = mosaic.numpy().reshape(channels, down, across)
        large = np.kron(tiles, np.ones((1, attack.patch, attack.patch), np.float32))[:, :height, :width]
        length = float(np.linalg.norm(large.astype(np.float64)))
        result.append(rounded(image, torch.from_numpy(attack.epsilon * large / length)))
    return result


def ar_slowly(weights: Tensor, border: Tensor, height: int, width: int) -> Tensor:
    """Return the noise (C, H, W) of one image before scaling: the recurrence pixel by pixel, a convolution each."""
    channels = len(weights)
    canvas = torch.zeros(channels, height + CROP, width + CROP)
    on_border = torch.zeros(height + CROP, width + CROP, dtype=torch.bool)
    on_border[:2], on_border[:, :2] = True, True
    canvas[:, on_border] = border
    kernel = weights[:, None]  # (C, 1, 3, 3): one filter for each channel
    for i in range(2, height + CROP):
        for j in range(2, width + CROP):
            around = canvas[None, :, i - 2 : i + 1, j - 2 : j + 1]  # its last value is still 0
            canvas[:, i, j] = F.conv2d(around, kernel, groups=channels).flatten()
    return canvas[:, CROP:, CROP:]


def ar_images_slowly(attack: Autoregressive, weights: Tensor, clean: ImageSet, job: Job) -> list[Tensor]:
    """Poison by AR image by image."""
    channels, height, width = clean.images.shape[1:]
    borders = torch.randn(len(clean), channels, border_size(height, width), generator=job.generator)
    result = []
    for image, label, border in zip(clean.images, clean.labels.tolist(), borders, strict=True):
        noise = ar_slowly(weights[label], border, height, width)
        result.append(rounded(image, attack.epsilon * noise / noise.norm()))
    return result


def ops_slowly(attack: OnePixelShortcut, clean: ImageSet) -> list[Tensor]:
    """Score every position with every colour for each class on floats, then change the images one by one.

    So does the authors' script, which computes each distance a second time and truncates. Noise is kept for the whole set.
    """
    images, labels = clean.images.permute(0, 2, 3, 1).numpy(), clean.labels.numpy()  # (N, H, W, C)
    height, width, channels = images.shape[1:]
    colours = [np.array([code >> (channels - 1 - c) & 1 for c in range(channels)], float) for code in range(2**channels)]
    noise = np.zeros(images.shape)
    taken: set[tuple[int, int]] = set()
    for label in range(clean.num_classes):
        members = images[labels == label] / 255
        scores = np.zeros((height * width, len(colours)))
        for position in range(height * width if len(members) else 0):
            row, column = divmod(position, width)
            for code, colour in enumerate(colours):
                if (position, code) in taken:
                    continue
                distance = np.abs(colour - members[:, row, column])
                mean, spread = np.mean(distance), np.std(distance)
                scores[position, code] = mean / spread if spread > 1e-12 else (1e12 if mean > 0 else 0.0)
        best = np.argsort(-scores.flatten(), kind="stable")[: attack.epsilon]
        for flat in best[::-1] if len(members) else ():
            position, code = divmod(int(flat), len(colours))
            taken.add((position, code))
            row, column = divmod(position, width)
            noise[labels == label, row, column] = colours[code] - members[:, row, column]
    result = []
    for image, change in zip(images, noise, strict=True):
        poisoned = np.clip(image / 255 + change, 0, 1) * 255
        result.append(torch.from_numpy(np.round(poisoned).astype(np.uint8)).permute(2, 0, 1))
    return result


def regions_slowly(attack: Regions, clean: ImageSet, job: Job) -> list[Tensor]:
    """Paint the regions of each image one by one."""
    channels, height, width = clean.images.shape[1:]
    signs, side = attack.signs(clean.num_classes, channels, job), attack.side
    result = []
    for image, label in zip(clean.images, clean.labels.tolist(), strict=True):
        noise = torch.zeros(channels, height, width)
        for row in range(side):
            for column in range(side):
                down = slice(row * height // side, (row + 1) * height // side)
                across = slice(column * width // side, (column + 1) * width // side)
                noise[:, down, across] = signs[label, row * side + column].float()[:, None, None]
        scale = attack.epsilon if attack.norm == "linf" else attack.epsilon / float(noise.norm())
        result.append(rounded(image, scale * noise))
    return result


def added(crafted: Iterator[tuple[slice, Tensor]], clean: ImageSet) -> Iterator[Tensor]:
    """Add noise as the store does: parts of the poisoned set."""
    return (add(clean.images[where], delta, "") for where, delta in crafted)


def ways() -> dict[str, tuple[int, Way, Way]]:
    """Name -> how many images the reference is timed on, the reference, ours."""
    lsp, ar, ops, regions = LSP(), Autoregressive(), OnePixelShortcut(), Regions()
    weights = find_processes(10, 3, 10.0, Job())

    return {
        "lsp": (200, lambda x: lsp_slowly(lsp, x, Job()), lambda x: added(lsp.craft(x, Job()), x)),
        "ar, coefficients given": (
            20,
            lambda x: ar_images_slowly(ar, weights, x, Job()),
            lambda x: added(ar.noise(weights, x, Job()), x),
        ),
        "ops": (50_000, lambda x: ops_slowly(ops, x), lambda x: added(ops.craft(x, Job()), x)),
        "regions-4": (200, lambda x: regions_slowly(regions, x, Job()), lambda x: added(regions.craft(x, Job()), x)),
    }


def per_image(way: Way, clean: ImageSet) -> float:
    """Return seconds of the processor per image, which other programs on the machine disturb least."""
    start = time.process_time()
    for _ in way(clean):
        pass
    return (time.process_time() - start) / len(clean)


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000, help="images of 3x32x32 that ours is timed on")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    clean = images(chosen.images)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {provenance.device_name('cpu')}, 1 thread, torch {torch.__version__}, ", end="")
    print(f"tree {provenance.tree()[:12]}; ours on {chosen.images:,} images of 3x32x32, {chosen.rounds} rounds.\n")
    print("| generator | least | middle | largest | the reference | ours |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    with seeded(0, Numerics()):
        for name, (count, slow, fast) in ways().items():
            few = images(min(count, chosen.images))
            per_image(slow, few), per_image(fast, few)
            pairs = [(per_image(slow, few), per_image(fast, clean)) for _ in range(chosen.rounds)]
            found = [theirs / ours for theirs, ours in pairs]
            theirs, ours = (1e6 * min(column) for column in zip(*pairs, strict=True))
            row = f"{min(found):,.0f} | {statistics.median(found):,.0f} | {max(found):,.0f}"
            print(f"| {name} | {row} | {theirs:,.0f} µs an image | {ours:,.1f} µs |")


if __name__ == "__main__":
    main()
