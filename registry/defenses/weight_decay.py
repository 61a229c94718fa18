"""Weight decay: smaller weights cannot amplify a faint pattern as far."""

from dataclasses import dataclass, replace

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Protocol
from unlearnable_bench.registry._papers import STAGED_TRAINING


@DEFENSES.register("weight-decay")
@dataclass(frozen=True)
class WeightDecay(Defense):
    """Train with another weight decay than the protocol's.

    One of the single measures of the paper's tables: 1e-4, 1e-3 and 1e-2, none of which helps. Nothing was changed.
    """

    value: float = 1e-2  # of the optimizer

    display_name = "Weight decay"
    label = "Weight decay {value}"
    paper = STAGED_TRAINING

    def __post_init__(self) -> None:
        if self.value < 0:
            raise EntryError(f"defense weight-decay: value={self.value}, expected 0 or more")

    def configure(self, protocol: Protocol) -> Protocol:
        return replace(protocol, weight_decay=self.value)
