"""Handwritten digits, real images that come with scikit-learn, made into 32x32 colour images: needs no download."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from unlearnable_bench.registry import DATASETS, ImageSet

TEST_PER_CLASS = 45
SEED = 3  # of colours and split; which digits are tested moves the clean accuracy by two points


@DATASETS.register("digits", display_name="Handwritten digits", label="Digits")
def digits(root: Path) -> tuple[ImageSet, ImageSet]:
    """Handwritten digits of scikit-learn in random colours, the embedded default.

    1,347 training and 450 test images (45 of each class) of 3x32x32, 10 classes. The 8x8 grey digits (UCI, Optical
    Recognition of Handwritten Digits, CC BY 4.0) are enlarged to 28x28 (bicubic) inside a 2 pixel border and serve as a
    mask between two colours: the background, uniform in [0.45, 0.55] per channel, and the stroke, lighter or darker by
    0.25 to 0.45 (random sign, flipped where the mean would leave [0.05, 0.95]) and up to 0.05 more per channel; Gaussian
    noise of 0.02 on every value; all from one fixed seed. The random sign keeps brightness from giving the class away.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    labels = raw.target.astype(np.int64)
    count = len(labels)
    small = torch.from_numpy(raw.images).float().div(16)[:, None]  # (N, 1, 8, 8), 0..1
    mask = F.pad(F.interpolate(small, size=28, mode="bicubic").clamp(0, 1), (2, 2, 2, 2)).double().numpy()  # (N, 1, 32, 32)

    draw = np.random.default_rng(SEED)
    background = draw.uniform(0.45, 0.55, (count, 3))
    step = draw.uniform(0.25, 0.45, count) * draw.choice([-1, 1], count)
    mean = background.mean(1) + step
    step = np.where((mean < 0.05) | (mean > 0.95), -step, step)
    stroke = background + step[:, None] + draw.uniform(-0.05, 0.05, (count, 3))
    clear = background[:, :, None, None] * (1 - mask) + stroke[:, :, None, None] * mask  # (N, 3, 32, 32)
    noisy = clear + draw.normal(0, 0.02, clear.shape)
    images = torch.from_numpy((noisy.clip(0, 1) * 255).round().astype(np.uint8))

    test = np.zeros(count, bool)
    for label in range(10):
        test[draw.permutation(np.flatnonzero(labels == label))[:TEST_PER_CLASS]] = True
    names = tuple(str(label) for label in range(10))
    train_set, test_set = (
        ImageSet(images[torch.from_numpy(half)], torch.from_numpy(labels[half]), 10, names) for half in (~test, test)
    )
    return train_set, test_set
