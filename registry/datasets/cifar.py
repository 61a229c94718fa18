"""CIFAR-10 and CIFAR-100 through torchvision, which checks its files against known checksums."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unlearnable_bench.registry import DATASETS, EntryError, ImageSet, MissingDataError
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
    "cifar100",
    display_name="CIFAR-100",
    folder="cifar100",
    download=_download_cifar100,
    archives=_archives_cifar100,
    later={"labels": "fine"},
)
def cifar100(
    root: Path,
    labels: str = "fine",  # fine, or superclass: the 20 groups of five classes
) -> tuple[ImageSet, ImageSet]:
    """CIFAR-100 (Krizhevsky 2009), as published, with fine labels or those of the 20 superclasses.

    50,000 training and 10,000 test images of 3x32x32, 100 classes. `bench data get cifar100` downloads the archive of the
    University of Toronto (169 MB). With `labels=superclass` the images are the same, in the same order: whoever relabels
    what others protected class by class has such a set. A poison belongs to the labels that it was crafted for. To judge it
    with the others, import the `images.npy` of its folder in the store, or the noise alone, for the other labels:
    `bench poisons import images.npy --dataset "cifar100(labels=superclass)"`.
    """
    from torchvision.datasets import CIFAR100

    if labels not in ("fine", "superclass"):
        raise EntryError(f"dataset cifar100: labels={labels} is none of fine, superclass")
    train, test = _both("cifar100", CIFAR100, root)
    return (_grouped(train), _grouped(test)) if labels == "superclass" else (train, test)


SUPERCLASSES = {  # as the authors list them
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}


def _grouped(fine: ImageSet) -> ImageSet:
    """The same images with the labels of their superclasses, in the alphabetical order of these."""
    groups = {name: number for number, names in enumerate(SUPERCLASSES.values()) for name in names.split()}
    group_of = torch.tensor([groups[name] for name in fine.classes])
    return replace(fine, labels=group_of[fine.labels], num_classes=len(SUPERCLASSES), classes=tuple(SUPERCLASSES))


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
