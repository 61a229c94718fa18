"""SVHN with at most five thousand training images of a class, from the files of SVHN."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from unlearnable_bench.registry import DATASETS, ImageSet
from unlearnable_bench.registry.datasets.svhn import _archives, _download, svhn

PER_CLASS = 5000
SEED = 0


@DATASETS.register(
    "svhn-small",
    display_name="SVHN, 5,000 images of each class",
    label="SVHN small",
    folder="svhn",
    download=_download,
    archives=_archives,
)
def svhn_small(root: Path) -> tuple[ImageSet, ImageSet]:
    """SVHN (Netzer et al. 2011) with at most 5,000 training images of each class, as the paper on transferable poisons has it.

    49,607 training images (classes 9 and 0 have fewer than 5,000 and keep them all) and the 26,032 test images of 3x32x32,
    in the order of SVHN, whose files it reads. Which images the paper drew is not known: we draw them with a fixed seed.
    """
    train, test = svhn(root)
    draw = np.random.default_rng(SEED)
    labels = train.labels.numpy()
    chosen = [draw.permutation(np.flatnonzero(labels == k))[:PER_CLASS] for k in range(train.num_classes)]
    rows = torch.from_numpy(np.sort(np.concatenate(chosen)))
    return replace(train, images=train.images[rows], labels=train.labels[rows]), test
