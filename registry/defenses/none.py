"""No defense: plain training on the poison."""

from dataclasses import dataclass

from unlearnable_bench.registry import DEFENSES, Defense


@DEFENSES.register("none")
@dataclass(frozen=True)
class Nothing(Defense):
    """No defense: plain training, the reference column."""

    display_name = "No defense"
    label = "None"
