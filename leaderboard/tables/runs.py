"""A score that is measured: which of its runs count, what they amount to, and the best member of a defense that has several."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean

from unlearnable_bench.leaderboard.tables.groups import highest, known
from unlearnable_bench.leaderboard.tables.lookup import Deviations, RunState, SeedRun
from unlearnable_bench.leaderboard.tables.score import Score, State, numbers_by_seed
from unlearnable_bench.results import Record
from unlearnable_bench.results.submission import worst

BEST_FIRST: tuple[RunState, ...] = ("done", "stale", "failed", "not-applicable", "missing")


@dataclass(frozen=True)
class MeasuredScore(Score):
    """A score that cells are run for."""

    member: str = ""  # of a defense with members: the one that is shown, chosen by the test accuracy
    compared: int = 0  # members of which it is the best; 0 where none has a number
    deviations: Deviations = field(default_factory=Deviations)

    @cached_property
    def per_seed(self) -> Mapping[int, float]:
        return numbers_by_seed(self.used, self.request.metric, self.request.unit)

    # the runs behind the number

    @cached_property
    def _counted(self) -> list[SeedRun]:
        """The runs behind the number: those of today's versions, else the stale ones; ours, else those of others.

        Never two kinds in one mean.
        """
        return highest([run for run in self.runs if run.measured], lambda run: (run.state == "done", run.ours))

    @cached_property
    def used(self) -> tuple[Record, ...]:
        return tuple(known(run.record for run in self._counted))

    @cached_property
    def errata(self) -> tuple[str, ...]:
        sentences = itertools.chain.from_iterable(run.errata for run in self._counted)
        return tuple(dict.fromkeys(sentences))

    @cached_property
    def trust(self) -> str:
        return worst(run.origin for run in self._counted)

    @cached_property
    def marks(self) -> tuple[str, ...]:
        by_others = (self.trust,) if self.trust else ()
        return (*self.request.changes, *self.deviations.marks, *by_others)

    @property
    def reduced(self) -> bool:
        return self.deviations.reduced

    # its state

    @cached_property
    def state(self) -> State:
        if self._lacks_metric:
            return "not-applicable"
        return "partial" if self._best_state == "done" and not self._is_whole else self._best_state

    @property
    def _lacks_metric(self) -> bool:
        """Whether it was measured, but not what the table prints."""
        return bool(self.used) and not self.per_seed

    @property
    def _best_state(self) -> RunState:
        return min(self._states, key=BEST_FIRST.index, default="missing")

    @property
    def _is_whole(self) -> bool:
        """Whether no run is open, and every member of its defense was compared."""
        return self._states == {"done"} and self.compared in (0, len(self._able))

    @cached_property
    def _states(self) -> set[RunState]:
        """The states of its runs; other members of its defense that do not apply count for nothing."""
        others = {run.state for run in self.rest} - {"not-applicable"}
        return {run.state for run in self.runs} | others

    @property
    def _able(self) -> list[str]:
        """The members of its defense that can be applied here."""
        return list(dict.fromkeys(run.defense for run in self.every if run.state != "not-applicable"))

    # the same in words

    @property
    def reason(self) -> str:
        if self.state == "done":
            return ""
        if self._lacks_metric:
            return f"what was measured has no {self.request.metric} here"
        return self._why_partial if self.state == "partial" else self._why_none

    @property
    def _why_none(self) -> str:
        """Why there is no number of today's versions: the reason of the first run in the state of all."""
        reasons = [run.reason for run in self.every if run.state == self.state]
        return reasons[0] if reasons else "no record"

    @property
    def _why_partial(self) -> str:
        gaps = [run for run in self.every if run.state != "done"]
        if not gaps:
            return f"not all of {', '.join(self._able)} are measured in one way"
        first = gaps[0]
        member = f"{first.defense}, " if self.rest else ""
        return f"{self.share}; {member}seed {first.cell.seed} {first.excuse}"

    @property
    def share(self) -> str:
        if not self.rest:
            return f"{len(self.used)} of {len(self.runs)} seeds"
        states = Counter(run.state for run in self.every)
        able = states.total() - states["not-applicable"]
        return f"{states['done']} of {able} runs"

    @property
    def oracle(self) -> str:
        if not self.compared:
            return ""
        able = len(self._able)
        out_of = f" of {able}" if self.compared < able else ""
        return f"oracle {self.member}, best of {self.compared}{out_of}"


# The best of several


@dataclass(frozen=True, order=True)
class _Preference:
    """Which members of a defense are compared: those whose numbers were measured in the best way, the first field first."""

    current: bool
    ours: bool
    full_size: bool
    fewer_marks: int  # negative
    marks: tuple[str, ...]

    @classmethod
    def of(cls, score: Score) -> _Preference:
        return cls(
            current=score.current,
            ours=not score.reported,
            full_size=not score.reduced,
            fewer_marks=-len(score.marks),
            marks=score.marks,
        )


def best_member(scores: Mapping[str, MeasuredScore]) -> MeasuredScore:
    """Return the score of a defense by its members: that of the one with the highest test accuracy, where there are several.

    Only members that were measured in one way are compared: of today's versions before stale ones, measured here before
    reported by others, at full size before reduced, with few marks before many. Without any number the runs of the first
    member are shown that can be applied.
    """
    if len(scores) == 1:
        return next(iter(scores.values()))
    members = [replace(score, member=name) for name, score in scores.items()]
    alike = highest([score for score in members if score.n], _Preference.of)
    if not alike:
        shown = min(members, key=_is_impossible)
        return replace(shown, rest=_rest(members, shown))
    best = max(alike, key=_accuracy)
    apart = any(score.incomparable for score in alike)
    return replace(best, rest=_rest(members, best), compared=len(alike), incomparable=apart)


def _is_impossible(score: Score) -> bool:
    return score.state == "not-applicable"


def _rest(members: Sequence[Score], shown: Score) -> tuple[SeedRun, ...]:
    """The runs of the members that are not shown."""
    return tuple(itertools.chain.from_iterable(score.runs for score in members if score is not shown))


def _accuracy(score: Score) -> float:
    accuracies = numbers_by_seed(score.used, "test_acc", 1.0).values()
    return fmean(accuracies) if accuracies else 0.0  # of an analysis, whose records have none
