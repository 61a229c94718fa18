"""To add a method, add a file here: one file in `attacks/`, `defenses/`, `architectures/`, `datasets/` or `protocols/`.

`contract.py` says what each kind must look like, `catalog.py` finds entries by name, ours and other packages'.
Importing this package never imports torch: planning and reporting stay light.
"""

from registry.catalog import ARCHITECTURES, ATTACKS, CATALOGS, DATASETS, DEFENSES, PROTOCOLS, lacking, outdated, resolve
from registry.contract import (
    Attack,
    Budget,
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

__all__ = [
    "ARCHITECTURES",
    "ATTACKS",
    "CATALOGS",
    "DATASETS",
    "DEFENSES",
    "PROTOCOLS",
    "Attack",
    "Budget",
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
    "lacking",
    "outdated",
    "resolve",
]
