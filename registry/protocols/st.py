"""How the paper on progressive staged training trains and judges its classifiers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearnable_bench.registry import PROTOCOLS, Paper, Protocol
from unlearnable_bench.registry._papers import STAGED_TRAINING


@PROTOCOLS.register("st")
@dataclass(frozen=True)
class St(Protocol):
    """60 epochs of SGD with a cosine and a weight decay of 1e-4, plain and adversarial; the last epoch counts.

    Stated (section IV-A4): SGD from 0.1, cosine, momentum 0.9, weight decay 1e-4, the same under adversarial training,
    flip, random crop to 32, on ImageNet-mini (the first 100 classes) to 224; the learning rate is adjusted every epoch
    (section III). `st-cg` starts from 0.2: that is the defense's.
    Not stated: epochs; we take 60, which fits the printed run times. Batch; we take 128. Border of the crop; we take 4
    pixels, on ImageNet too. Mean and deviation; we take none. Which epoch counts; we take the last. There is no code.
    """

    epochs: int = 60  # not stated
    batch: int = 128  # not stated
    schedule: str = "cosine-epoch"
    weight_decay: float = 1e-4
    augmentation: tuple[str, ...] = ("crop", "flip")

    display_name = "Recipe of staged training"
    label = "ST"
    paper: ClassVar[Paper | None] = STAGED_TRAINING
    per_dataset: ClassVar[Mapping[str, Mapping[str, Any]]] = {"imagenet100": {"input_size": 224}}
