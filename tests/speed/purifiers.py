"""Prints how fast images are purified on this machine, as ratios against Pillow, one image at a time, in the same run.

`make speed-purifiers`. Nothing is asserted: a person reads it. Rounds alternate; minimum, median and maximum are over rounds.
"""

from __future__ import annotations

import io
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageFilter

from unlearnable_bench.benchmark.conformance import tiny
from unlearnable_bench.registry import DEFENSES, ImageSet, Job

IMAGES = 10_000  # of 3x32x32; figures are given for 50,000
ROUNDS = 5


def _jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=10)
    return Image.open(file)


def _posterize(image: Image.Image) -> Image.Image:
    return image.point([value & 0xC0 for value in range(256)] * 3)


PILLOW: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg": _jpeg,
    "grayscale": lambda image: image.convert("L").convert("RGB"),
    "bdr": _posterize,
    "mean-filter": lambda image: image.filter(ImageFilter.BoxBlur(1)),
    "median-filter": lambda image: image.filter(ImageFilter.MedianFilter(3)),
    "gaussian-filter": lambda image: image.filter(ImageFilter.Kernel((3, 3), [1, 2, 1, 2, 4, 2, 1, 2, 1])),
}


def _one_by_one(train: ImageSet, change: Callable[[Image.Image], Image.Image]) -> torch.Tensor:
    pixels = train.images.permute(0, 2, 3, 1).contiguous().numpy()
    changed = np.stack([np.asarray(change(Image.fromarray(image))) for image in pixels])
    return torch.from_numpy(changed).permute(0, 3, 1, 2)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    train = tiny(IMAGES, classes=10)
    print(f"{IMAGES} images of 3x32x32, {torch.get_num_threads()} threads; seconds for 50,000, and ratios to Pillow")
    print(f"{'purifier':<16}{'Pillow':>9}{'ours':>9}{'min':>8}{'median':>8}{'max':>8}  same bytes")
    for name in [*PILLOW, "ortho-proj"]:
        ours = partial(DEFENSES[name]().purify, train, Job())
        if name not in PILLOW:
            print(f"{name:<16}{'':>9}{_seconds(ours) * 50_000 / IMAGES:>9.2f}")
            continue
        theirs = partial(_one_by_one, train, PILLOW[name])
        same = "yes" if torch.equal(ours().images, theirs()) else "no: Pillow treats borders otherwise"
        pairs = [(_seconds(theirs), _seconds(ours)) for _ in range(ROUNDS)]
        ratios = sorted(their / our for their, our in pairs)
        figures = [statistics.median(values) * 50_000 / IMAGES for values in zip(*pairs, strict=True)]
        print(f"{name:<16}{figures[0]:>9.2f}{figures[1]:>9.2f}", end="")
        print(f"{ratios[0]:>8.1f}{statistics.median(ratios):>8.1f}{ratios[-1]:>8.1f}  {same}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
