"""datapackage.json (Frictionless) of a publication: what the files of data are, and what their columns mean."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from unlearnable_bench.leaderboard.pages.take_away import COLUMNS as RESULTS
from unlearnable_bench.leaderboard.publishing.changes import CHANGES, NUMBERS
from unlearnable_bench.leaderboard.publishing.records import COLUMNS as RECORDS
from unlearnable_bench.leaderboard.tables.printed import TIDY
from unlearnable_bench.results.record import sha256

PROGRAM = "unlearnable-bench"


def stated(citation: str, key: str) -> str:
    """The value of a key at the top level of a CITATION.cff, where it stands on one line; else ''."""
    match = re.search(rf"^{key}:[ \t]*(.*?)[ \t]*(?: #.*)?$", citation, re.MULTILINE)
    return match[1].strip("\"'") if match else ""


def description(files: Mapping[str, bytes], own: Mapping[str, Any], title: str, citation: str, license_id: str) -> str:
    """Return datapackage.json of some files; `own` is what later publications ask for, `citation` a CITATION.cff."""
    content: dict[str, Any] = {
        "profile": "data-package",
        "name": PROGRAM,
        "title": title,
        "description": "Availability poisons against the defenses that learn from them anyway: numbers and records.",
        "version": stated(citation, "version"),
        "resources": [_resource(name, files[f"data/{name}.csv"]) for name in TABLES],
        "unlearnable_bench": own,
    }
    if license_id:
        content["licenses"] = [{"name": license_id}]
    doi = stated(citation, "doi")
    if doi:
        content["id"] = f"https://doi.org/{doi}"
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _resource(name: str, content: bytes) -> dict[str, Any]:
    text, columns = TABLES[name]
    return {
        "name": name,
        "path": f"data/{name}.csv",
        "description": text,
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "bytes": len(content),
        "hash": f"sha256:{sha256(content)}",
        "schema": {"fields": [_field(column) for column in columns]},
    }


def _field(column: str) -> dict[str, str]:
    kind, text = COLUMNS.get(column, ("string", ""))
    field = {"name": column, "type": kind, "description": text}
    return field if text else {"name": column, "type": kind}


TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "numbers": ("Every measured number of the pages, once; mean over seeds.", NUMBERS),
    "changes": ("Which numbers moved, appeared or vanished from one publication to the next.", CHANGES),
    "papers": ("What the papers' tables print, and ours in their units.", TIDY),
    "results": ("Test accuracies of attacks under defenses, published ones and ours by the fast recipe, in percent.", RESULTS),
    "records": ("One row per record: one training, or one analysis. The records themselves are in data/records/.", RECORDS),
}
COLUMNS = {
    "protocol": ("string", "recipe by which the victim is trained and judged"),
    "dataset": ("string", "training and test set"),
    "attack": ("string", "what made the poison; none is clean training"),
    "ratio": ("string", "fraction of the training images that is poisoned, 0..1"),
    "part": ("string", "trained on all images, or on the clean rest alone"),
    "defense": ("string", "what was done against the poison"),
    "architecture": ("string", "network of the victim"),
    "measure": ("string", "accuracy, or the analysis that gave the number"),
    "metric": ("string", "test_acc: fraction of the clean test set that is right after the last epoch"),
    "value": ("number", "accuracies and other shares as fractions; in papers.csv as printed, in results.csv percent"),
    "low": ("number", "value less what seeds leave open; equal to it for a published result"),
    "high": ("number", "value and what seeds leave open"),
    "network": ("string", "network of the victim"),
    "attack_label": ("string", "short label of the attack"),
    "attack_spec": ("string", "attack with its parameters, as its table file writes it"),
    "budget": ("string", "norm and radius of the attack, as pages write them"),
    "defense_label": ("string", "short label of the defense"),
    "source": ("string", "folder of the paper that prints the value; ours for what was measured here"),
    "table": ("string", "table that has the value"),
    "std": ("number", "sample standard deviation over seeds; empty for one seed"),
    "n": ("integer", "number of seeds"),
    "state": (
        "string",
        "done; partial: seeds are missing; stale: of an earlier version of a method; not-applicable",
    ),
    "oracle": ("string", "which member of a defense with members is shown: the best one, chosen on the test set"),
    "tier": ("string", "of a number that others measured: how far it was checked; empty for our own"),
    "by": ("string", "who measured it, where that was somebody else"),
    "page": ("string", "where on the site the number and its sources are"),
    "records": ("string", "ids of the records behind the number, joined by semicolons"),
    "record": ("string", "ids of the records behind ours, joined by semicolons"),
    "publication": ("integer", "counts the publications in which a number changed, from 1"),
    "date": ("string", "day of the latest record of that publication"),
    "release": ("string", "name of the release, where it has one"),
    "change": ("string", "moved, appeared or vanished"),
    "before": ("number", "value in the publication before"),
    "before_n": ("integer", "its number of seeds"),
    "after": ("number", "value since this publication"),
    "after_n": ("integer", "its number of seeds"),
    "reason": ("string", "why a number changed: new, version raised, record replaced, ...; of a record, why it has no result"),
    "errata": ("string", "what is known to be wrong with the number, which stays as it is"),
    "versions": ("string", "versions of the entries that the records were measured with, joined by semicolons"),
    "id": ("string", "hash of all fields of the cell; names the file in data/records/"),
    "test_acc": ("number", "fraction of the clean test set that is right after the last epoch"),
    "test_acc_best": ("number", "the same after the best epoch, chosen on the test set: an oracle"),
    "figures": ("string", "figures of an analysis, a JSON object"),
    "craft": ("number", "seconds of crafting the poison, whichever cell ran it"),
    "purify": ("number", "seconds of purifying, whichever cell ran it"),
    "train": ("number", "seconds of training"),
    "measure_seconds": ("number", "seconds of the analysis"),
    "peak_memory": ("integer", "bytes"),
    "poison": ("string", "sha256 over images and labels of the training set"),
    "spent": ("number", "largest perturbation, in the norm, pixel units"),
    "allowed": ("number", "declared bound, pixel units"),
    "tree": ("string", "sha256 over the files of the program"),
    "commit": ("string", "of the program, or the one that has its code; empty where it was installed"),
    "finished": ("string", "UTC, ISO 8601"),
    "unit": (
        "string",
        "of value, before and after, ours, test_acc: fraction, percent, points, hours, ...; empty where a figure has none",
    ),
    "ours": ("number", "our mean over seeds, in the unit of value"),
    "ours_std": ("number", "our standard deviation over seeds"),
}
