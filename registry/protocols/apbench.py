"""How APBench trains and judges its classifiers, with what is peculiar to its code."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearnable_bench.registry import PROTOCOLS, Paper, Protocol
from unlearnable_bench.registry._papers import APBENCH


@PROTOCOLS.register("apbench")
@dataclass(frozen=True)
class ApBench(Protocol):
    """200 epochs of SGD without shuffling, the rate halved once, plain and adversarial; the last epoch counts.

    From the code: batch 256, one fixed order of the images in all epochs but on ImageNet, the incomplete batch dropped (so that
    on CIFAR the same 80 images are never used), SGD from 0.1 with momentum 0.9 and weight decay 5e-4, x0.5 at epoch 100, images
    in [0, 1], crop with a border of 4 and flip, nothing on SVHN; adversarial training the same 200 epochs. On ImageNet a
    cosine, flip and colour jitter of images resized to 224.
    Changed: the fixed order is a random one, drawn once for all trainings, where the code takes that of the files: the archives
    of CIFAR and SVHN are in random order, but a set that is stored class by class would give batches of one class. On ImageNet
    its clean runs have a random resized crop instead, so that its clean row is not comparable with its others; we train clean
    and poisoned sets alike. It takes a fifth of training and test images of other classes than `imagenet100` has; we take what
    the item says, such as `imagenet100(per_class=260,test_per_class=10)`.
    Not stated: the strengths of the jitter; we take 0.4, 0.4, 0.4, 0.2. A step of the cosine; we take one per epoch.
    Datasets that it has not; we take the recipe of CIFAR-10, on SVHN-small that of SVHN. Transformers have Adam without weight
    decay at the rate that is given, which would be 0.1 and diverges; we take 1e-4.
    """

    epochs: int = 200
    batch: int = 256
    drop_last: bool = True
    shuffle: bool = False
    schedule: str = "milestones"
    milestones: tuple[float, ...] = (0.5,)
    gamma: float = 0.5
    augmentation: tuple[str, ...] = ("crop", "flip")

    display_name = "Recipe of APBench"
    label = "APBench"
    paper: ClassVar[Paper | None] = APBENCH
    per_dataset: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "svhn": {"augmentation": ()},
        "svhn-small": {"augmentation": ()},
        "imagenet100": {
            "shuffle": True,
            "schedule": "cosine-epoch",
            "milestones": (),
            "gamma": 0.1,
            "augmentation": ("flip", "jitter"),
            "input_size": 224,
        },
    }
    per_architecture: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "vit-apb": {"optimizer": "adam", "lr": 1e-4, "weight_decay": 0.0},
        "cait-apb": {"optimizer": "adam", "lr": 1e-4, "weight_decay": 0.0},
    }
