"""CIFAR-10 and CIFAR-100 through torchvision, which checks its files against known checksums."""

from pathlib import Path
from typing import Any

import torch

from unlearnable_bench.registry import DATASETS, ImageSet, MissingDataError
from unlearnable_bench.registry._archives import Archive


def _download_cifar10(root: Path) -> None:
    from torchvision.datasets import CIFAR10

    CIFAR10(str(root), download=True)


def _download_cifar100(root: Path) -> None:
    from torchvision.datasets import CIFAR100

    CIFAR100(str(root), download=True)


def _archives_cifar10() -> list[Archive]:
    from torchvision.datasets import CIFAR10

    return [Archive(CIFAR10.filename, CIFAR10.tgz_md5, size=170_498_071)]


def _archives_cifar100() -> list[Archive]:
    from torchvision.datasets import CIFAR100

    return [Archive(CIFAR100.filename, CIFAR100.tgz_md5, size=169_001_437)]


@DATASETS.register("cifar10", display_name="CIFAR-10", folder="cifar10", download=_download_cifar10, archives=_archives_cifar10)
def cifar10(root: Path) -> tuple[ImageSet, ImageSet]:
    """CIFAR-10 (Krizhevsky 2009), as published.

    50,000 training and 10,000 test images of 3x32x32, 10 classes. `bench data get cifar10` downloads the archive of the
    University of Toronto (170 MB).
    """
    from torchvision.datasets import CIFAR10

    return _both("cifar10", CIFAR10, root)


@DATASETS.register(
    "cifar100", display_name="CIFAR-100", folder="cifar100", download=_download_cifar100, archives=_archives_cifar100
)
def cifar100(root: Path) -> tuple[ImageSet, ImageSet]:
    """CIFAR-100 (Krizhevsky 2009), as published, fine labels.

    50,000 training and 10,000 test images of 3x32x32, 100 classes. `bench data get cifar100` downloads the archive of the
    University of Toronto (169 MB).
    """
    from torchvision.datasets import CIFAR100

    return _both("cifar100", CIFAR100, root)


def _both(name: str, source: Any, root: Path) -> tuple[ImageSet, ImageSet]:
    halves = []
    for train in (True, False):
        try:
            part = source(str(root), train=train)
        except RuntimeError as error:
            raise MissingDataError(f"dataset {name} is not whole at {root}; run `bench data get {name}`") from error
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()  # (N, 3, 32, 32)
        halves.append(ImageSet(images, torch.tensor(part.targets), len(part.classes), tuple(part.classes)))
    return halves[0], halves[1]
