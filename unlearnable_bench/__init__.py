"""Unlearnable Bench: what a plug-in needs, by name. Importing this imports no torch.

The five packages lie inside this one when it is installed from a wheel, and beside its folder in a checkout:
`unlearnable_bench.registry`, `.poisons`, `.benchmark`, `.results` and `.leaderboard`.
"""

from pathlib import Path as _Path

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
    "Protocol",
    "TrainedVictim",
    "TrainingRun",
]
