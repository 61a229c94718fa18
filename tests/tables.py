"""Tables that tests make of ours."""

from typing import Any

from unlearnable_bench.results import TableFile


def with_fields(table: TableFile, **fields: Any) -> TableFile:
    """Return a table with other values of some fields, without what a paper prints. ValidationError."""
    return TableFile.model_validate(table.model_dump() | fields)
