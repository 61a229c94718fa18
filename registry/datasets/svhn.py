"""SVHN through torchvision, which checks its files against known checksums."""

from pathlib import Path

import torch

from unlearnable_bench.registry import DATASETS, ImageSet, MissingDataError
from unlearnable_bench.registry._archives import Archive

SIZES = {"train": 182_040_794, "test": 64_275_384}  # bytes


def _download(root: Path) -> None:
    from torchvision.datasets import SVHN

    for split in ("train", "test"):
        SVHN(str(root), split=split, download=True)


def _archives() -> list[Archive]:
    from torchvision.datasets import SVHN

    return [Archive(SVHN.split_list[split][1], SVHN.split_list[split][2], size) for split, size in SIZES.items()]


@DATASETS.register("svhn", display_name="SVHN", folder="svhn", download=_download, archives=_archives)
def svhn(root: Path) -> tuple[ImageSet, ImageSet]:
    """Street View House Numbers, cropped digits (Netzer et al. 2011), as published, without the extra part.

    73,257 training and 26,032 test images of 3x32x32, 10 classes of unequal size. `bench data get svhn` downloads it
    (246 MB). Non-commercial use only, say its authors.
    """
    from torchvision.datasets import SVHN

    halves = []
    for split in ("train", "test"):
        try:
            part = SVHN(str(root), split=split)
        except RuntimeError as error:
            raise MissingDataError(f"dataset svhn is not whole at {root}; run `bench data get svhn`") from error
        names = tuple(str(label) for label in range(10))
        labels = torch.from_numpy(part.labels.astype("int64"))
        halves.append(ImageSet(torch.from_numpy(part.data).contiguous(), labels, 10, names))
    return halves[0], halves[1]
