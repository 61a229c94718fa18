"""Unlearnable Bench: what a plug-in needs, and what scripts and notebooks call, by name. Importing this imports no torch.

The five packages lie inside this one when it is installed from a wheel, and beside its folder in a checkout:
`unlearnable_bench.registry`, `.poisons`, `.benchmark`, `.results` and `.leaderboard`.
"""

from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPED
from typing import Any as _Any

_FOLDER = _Path(__file__).parent
if not (_FOLDER / "registry").is_dir():
    __path__.append(str(_FOLDER.parent))

from unlearnable_bench.registry import (  # noqa: E402  (they are found by the lines above)
    ANALYSES,
    ARCHITECTURES,
    ATTACKS,
    DATASETS,
    DEFENSES,
    PROTOCOLS,
    Analysis,
    Attack,
    Budget,
    Context,
    Contrastive,
    DataInfo,
    Defense,
    EntryError,
    Hooks,
    ImageSet,
    Job,
    MissingDataError,
    NotApplicable,
    Paper,
    Parent,
    Protocol,
    TrainedVictim,
    TrainingRun,
)

if _TYPED:
    from unlearnable_bench.benchmark.interface import PoisonedSet, TrainingScore, craft, evaluate, load, purify

_FOR_SCRIPTS = (
    "PoisonedSet",
    "TrainingScore",
    "craft",
    "evaluate",
    "load",
    "purify",
)  # they import torch, when first asked for

__all__ = [
    "ANALYSES",
    "ARCHITECTURES",
    "ATTACKS",
    "DATASETS",
    "DEFENSES",
    "PROTOCOLS",
    "Analysis",
    "Attack",
    "Budget",
    "Context",
    "Contrastive",
    "DataInfo",
    "Defense",
    "EntryError",
    "Hooks",
    "ImageSet",
    "Job",
    "MissingDataError",
    "NotApplicable",
    "Paper",
    "Parent",
    "PoisonedSet",
    "Protocol",
    "TrainedVictim",
    "TrainingRun",
    "TrainingScore",
    "craft",
    "evaluate",
    "load",
    "purify",
]


def __getattr__(name: str) -> _Any:
    """Import what scripts call when it is asked for. AttributeError for what is not there."""
    if name not in _FOR_SCRIPTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from unlearnable_bench.benchmark import interface

    return getattr(interface, name)
