"""The project's own recipe for full-size sets: all of CIFAR-10 in minutes of one CPU core, seconds of a GPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearnable_bench.registry import PROTOCOLS, Protocol


@PROTOCOLS.register("fast")
@dataclass(frozen=True)
class Fast(Protocol):
    """Eight epochs of SGD with what published speed records use, as a victim could who does not know of the poison.

    From no paper; numbers are compared within this protocol, never with a paper's. Made for the network `resnet9`. Rates,
    momentum, label smoothing, shifts and alternating flips are close to Keller Jordan's "94% on CIFAR-10 in 3.29 Seconds on a
    Single GPU" (https://arxiv.org/abs/2404.00498); there is no averaging of weights and no test-time augmentation.
    The length was chosen on clean images alone, by a rule that was written down first: the shortest even number of epochs at
    which clean accuracy is within one and a half points of twice the length.
    Frozen on 2026-11-30: whatever would change its numbers is another protocol, or raises the version.
    Adversarial training has hard labels, as in the papers, and half the learning rate.
    """

    display_name = "Fast recipe, eight epochs"
    label = "Fast"

    epochs: int = 8
    batch: int = 512
    drop_last: bool = True
    lr: float = 0.52
    momentum: float = 0.85
    nesterov: bool = True
    weight_decay: float = 0.002
    decay_all: bool = False
    bias_lr: float = 64.0
    label_smoothing: float = 0.2
    schedule: str = "linear"
    warmup: float = 0.23
    augmentation: tuple[str, ...] = ("shift", "flip-alternating")
    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)
    threads: int = 1

    adversarial: ClassVar[Mapping[str, Any]] = {"label_smoothing": 0.0, "lr": 0.26}
