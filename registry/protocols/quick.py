"""The recipe of the quick look: a small network, small images, seconds per cell on one CPU thread."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearnable_bench.registry import PROTOCOLS, Protocol


@PROTOCOLS.register("quick")
@dataclass(frozen=True)
class Quick(Protocol):
    """Ten epochs of AdamW with a one-cycle schedule, without crops or flips, which hide most poisons from a small network.

    From no paper: made so that the contrasts of the published tables show in seconds. Not comparable with any of them.
    """

    display_name = "Quick recipe for digits"
    label = "Quick"

    epochs: int = 10
    batch: int = 64
    drop_last: bool = True
    optimizer: str = "adamw"
    lr: float = 0.03
    weight_decay: float = 0.01
    schedule: str = "onecycle"
    warmup: float = 0.2
    precision: str = "fp32"
    threads: int = 1

    adversarial: ClassVar[Mapping[str, Any]] = {"epochs": 12, "lr": 0.02}
