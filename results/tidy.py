"""The tidy form of what papers print: one row per number, named as the papers' transcriptions name things."""

from __future__ import annotations

from unlearnable_bench.results.cell import name_in
from unlearnable_bench.results.reference import Printed, Source, source
from unlearnable_bench.results.table_file import ScoreRequest, TableFile

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


def tidy_row(request: ScoreRequest, table: TableFile) -> dict[str, str]:
    """One score in the tidy form: entries by name, the printed digits, the condition as the paper's transcription names it."""
    paper = source(table.paper) if table.paper else OUR_TABLES
    params = paper.ordered(request.params)
    if not params and not table.paper:
        params = _conditions(request)
    printed = request.printed or NOT_PRINTED
    row = dict.fromkeys(TIDY_COLUMNS, "")
    row["paper"] = table.paper
    row["table"] = table.table
    for axis in ("dataset", "attack", "defense", "architecture"):
        spec = str(request.fields[axis])
        name = name_in(spec)
        if axis != "dataset":
            name = name.partition("+")[0]
        row[axis] = request.cited.get(axis) or paper.name_of(name)
    row["params"] = params
    row["metric"] = name_in(request.metric)
    row["std"] = printed.std
    row["note"] = printed.note
    if printed.value is not None:
        row["value"] = printed.text
        row["quality"] = printed.quality
    return row


def _conditions(request: ScoreRequest) -> str:
    """What the names of entries leave out, where no paper says how to call it."""
    pairs = []
    for axis in ("protocol", "dataset", "attack", "defense", "architecture"):
        text = str(request.fields[axis])
        if set(text) & set("(@+"):
            pairs.append(f"{axis}={text}")
    if request.fields["ratio"] != 1:
        pairs.append(f"ratio={request.fields['ratio']:g}")
    if request.fields["part"] != "all":
        pairs.append(f"part={request.fields['part']}")
    return ";".join(pairs)
