"""To add a method, add a file here, in `attacks/`, `defenses/`, `architectures/`, `datasets/`, `protocols/` or `analyses/`.

`contract.py` says what each kind must look like, `training.py` what a training offers to defenses, and `catalog.py` finds
entries by name, ours and other packages'.
Importing this package never imports torch: planning and reporting stay light.
"""

from unlearnable_bench.registry.catalog import (
    ANALYSES,
    ARCHITECTURES,
    ATTACKS,
    CATALOGS,
    DATASETS,
    DEFENSES,
    PROTOCOLS,
    lacking,
    resolve,
)
from unlearnable_bench.registry.contract import (
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
)
from unlearnable_bench.registry.training import TrainedVictim, TrainingRun
from unlearnable_bench.registry.versions import editions, outdated

__all__ = [
    "ANALYSES",
    "ARCHITECTURES",
    "ATTACKS",
    "CATALOGS",
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
    "editions",
    "lacking",
    "outdated",
    "resolve",
]
