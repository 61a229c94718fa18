"""The tidy form of what papers print: one row per number, named as the papers' transcriptions name things."""

from __future__ import annotations

from unlearnable_bench.results.reference import Printed, Source, source
from unlearnable_bench.results.table_file import Place, TableFile

TIDY_COLUMNS = (
    "paper",
    "table",
    "dataset",
    "attack",
    "defense",
    "architecture",
    "params",
    "metric",
    "value",
    "std",
    "quality",
    "note",
)
OUR_TABLES = Source(title="", authors="", venue="", year=0, url="", bibtex="", short="")  # calls entries as we do
NOT_PRINTED = Printed("", None)


def tidy_row(place: Place, table: TableFile) -> dict[str, str]:
    """One place in the tidy form: entries by name, the printed digits, the condition as the paper's transcription names it."""
    paper = source(table.paper) if table.paper else OUR_TABLES
    params = paper.ordered(place.params)
    if not params and not table.paper:
        params = _conditions(place)
    printed = place.printed or NOT_PRINTED
    row = dict.fromkeys(TIDY_COLUMNS, "")
    row["paper"] = table.paper
    row["table"] = table.table
    for axis in ("dataset", "attack", "defense", "architecture"):
        spec = str(place.fields[axis])
        name = spec.partition("(")[0]
        if axis != "dataset":
            name = name.partition("+")[0]
        row[axis] = place.cited.get(axis) or paper.name_of(name)
    row["params"] = params
    row["metric"] = place.metric.partition("(")[0]
    row["std"] = printed.std
    row["note"] = printed.note
    if printed.value is not None:
        row["value"] = printed.text
        row["quality"] = printed.quality
    return row


def _conditions(place: Place) -> str:
    """What the names of entries leave out, where no paper says how to call it."""
    pairs = []
    for axis in ("protocol", "dataset", "attack", "defense", "architecture"):
        text = str(place.fields[axis])
        if set(text) & set("(@+"):
            pairs.append(f"{axis}={text}")
    if place.fields["ratio"] != 1:
        pairs.append(f"ratio={place.fields['ratio']:g}")
    if place.fields["part"] != "all":
        pairs.append(f"part={place.fields['part']}")
    return ";".join(pairs)
