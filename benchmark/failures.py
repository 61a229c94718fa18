"""Every way in which a cell can fail, and what `bench run` does about each by itself: a table, as data."""

from __future__ import annotations

from dataclasses import dataclass

from unlearnable_bench.results.record import Failure


@dataclass(frozen=True)
class Rule:
    """What follows a failure of one kind."""

    meaning: str
    attempts: int = 1  # in all, before the cell is left to `bench retry`
    time: float = 1.0  # factor on the time limit of the next attempt, up to the profile's `max_time`
    memory: float = 1.0  # factor on the memory of the next attempt, up to the profile's `max_memory`

    @property
    def then(self) -> str:
        """What `bench run` does, in words."""
        if self.attempts == 1:
            return "left to `bench retry`"
        more = [
            f"{factor:g} x as much {what}" for what, factor in (("time", self.time), ("memory", self.memory)) if factor != 1
        ]
        return f"tried again, {self.attempts} attempts in total" + (f", each with {' and '.join(more)}" if more else "")


FAILURE_RULES: dict[str, Rule] = {
    "out-of-memory": Rule("the machine or the job had too little memory", attempts=3, memory=2.0),
    "gpu-memory": Rule("the GPU had too little memory"),
    "gpu-error": Rule(
        "the GPU reported an error that ends its process; another process continues with the other cells", attempts=3
    ),
    "time-limit": Rule("the job reached its time limit; a training continues from its checkpoint", attempts=20, time=1.5),
    "node-failure": Rule("the machine of the job went down", attempts=5),
    "preempted": Rule("a more urgent job replaced it, and SLURM did not start it again", attempts=20),
    "lost": Rule("the job disappeared without a message", attempts=5),
    "killed": Rule("the process was killed, often because memory ran out", attempts=3),
    "disk": Rule("the disk was full or could not be written", attempts=3),
    "no-device": Rule("the job got no working GPU", attempts=3),
    "code": Rule("the copy of the code for the job differs from what was submitted", attempts=3),
    "plug-in": Rule("an entry raised an error"),
    "diverged": Rule("the loss was not finite"),
    "budget": Rule("the poison exceeds its budget"),
}

GROWING = ("out-of-memory",)  # failures that another attempt changes only if it gets more


def is_tried_again(failure: Failure, grows: bool) -> bool:
    """Whether `bench run` tries a failed cell again by itself. `grows`: whether this executor can give it more memory."""
    rule = FAILURE_RULES.get(failure.kind, Rule(""))
    return failure.attempts < rule.attempts and (grows or failure.kind not in GROWING)


def growth(failure: Failure | None) -> tuple[float, float]:
    """Return the factors on time and memory with which a cell is tried again."""
    rule = FAILURE_RULES.get(failure.kind, Rule("")) if failure else Rule("")
    times = failure.attempts if failure else 0
    return rule.time**times, rule.memory**times
