"""How the D-VAE paper trains and judges its classifiers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearnable_bench.registry import PROTOCOLS, Paper, Protocol
from unlearnable_bench.registry._papers import D_VAE


@PROTOCOLS.register("dvae")
@dataclass(frozen=True)
class DVae(Protocol):
    """60 epochs of SGD with a cosine, 100 epochs on CIFAR-100 and ImageNet; the last epoch counts.

    Stated (section 4.1): SGD from 0.1, cosine, batch 128, the epochs, images in [0, 1], no mean and deviation.
    From the code: momentum 0.9, weight decay 5e-4, a step of the cosine per epoch, gradients cut at norm 5, crop with a border
    of 4 and flip, on ImageNet a random resized crop to 224 and flip; the incomplete batch dropped on CIFAR and ImageNet;
    adversarial training 100 epochs, x0.1 at 75 and 90.
    Not stated: other datasets. We take the recipe of CIFAR-10, the last batch kept. ImageNet is stored at 224 here, judged
    whole; the code resizes the short side of test images to 256 and cuts out 224: `imagenet100(size=256)` does.
    """

    epochs: int = 60
    schedule: str = "cosine-epoch"
    clip: float = 5.0
    augmentation: tuple[str, ...] = ("crop", "flip")

    display_name = "Recipe of D-VAE"
    label = "D-VAE"
    paper: ClassVar[Paper | None] = D_VAE
    adversarial: ClassVar[Mapping[str, Any]] = {"epochs": 100, "schedule": "milestones", "milestones": (0.75, 0.9)}
    per_dataset: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": {"drop_last": True},
        "cifar10-jpeg75": {"drop_last": True},
        "cifar100": {"epochs": 100, "drop_last": True},
        "imagenet100": {"epochs": 100, "drop_last": True, "augmentation": ("resized-crop", "flip"), "input_size": 224},
    }
