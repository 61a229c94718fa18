"""Errata: what is wrong with a record or with a published result, told beside the number, which stays as it is.

They are kept in `errata.toml` beside the records:

    [[erratum]]
    record = "003a73cce777138e"        # the id of a record
    date = 2026-12-01
    text = "Measured with a test set of 9,000 images."

    [[erratum]]
    table = "d-vae/table-2"            # or a place of a paper's table, by its printed labels
    row = ["EM"]
    column = ["JPEG"]
    date = 2026-12-01
    text = "The authors corrected this value to 81.2."
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unlearnable_bench.results.grid import read_grid
from unlearnable_bench.results.record import FileError, Records
from unlearnable_bench.results.reference import Labels, Printed, read_toml
from unlearnable_bench.results.submission import unfit
from unlearnable_bench.results.table_file import ScoreRequest

ERRATA = "errata.toml"
LONGEST = 500  # characters of a text


class Erratum(BaseModel):
    """One sentence or a few about one number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    date: datetime.date
    text: str = Field(min_length=1, max_length=LONGEST)
    record: str = ""
    table: str = ""
    row: tuple[str, ...] = ()
    column: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What stands beside the number."""
        return f"erratum of {self.date.isoformat()}: {self.text}"

    @property
    def place(self) -> tuple[str, Labels, Labels]:
        """The table and the printed labels of what it is about."""
        return self.table, self.row, self.column

    @property
    def lines(self) -> str:
        """The erratum as its file has it; a string of JSON is one of TOML."""
        said = self.model_dump(exclude={"date"}, exclude_defaults=True)
        fields = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in said.items()]
        return "\n".join(["[[erratum]]", f"date = {self.date.isoformat()}", *fields]) + "\n"


@dataclass(frozen=True)
class Errata:
    """The errata of a folder of records, in the order of its file."""

    all: Sequence[Erratum] = ()

    @classmethod
    def read(cls, records: Records) -> Errata:
        """Read the file of a folder of records; without one there are none. FileError names what nobody has."""
        path = records.folder / ERRATA
        if not path.exists():
            return cls()
        content = read_toml(path)
        unknown = sorted(content.keys() - {"erratum"})
        if unknown:
            raise FileError(f"{path} has {unknown[0]!r}; expected nothing but [[erratum]]")
        listed = content.get("erratum", [])
        if not isinstance(listed, list):
            raise FileError(f"{path}: `erratum` is {listed!r}; expected a list, each one begun by [[erratum]]")
        return cls([_erratum(fields, records, f"{path}, erratum {n}") for n, fields in enumerate(listed, 1)])

    def of_record(self, cell_id: str) -> tuple[str, ...]:
        """The sentences about a record."""
        return tuple(erratum.sentence for erratum in self.all if erratum.record == cell_id)

    def with_marks(self, request: ScoreRequest) -> ScoreRequest:
        """Return what a table asks for with the errata on what its paper prints, as a mark of that."""
        if not self.all or request.printed is None:
            return request
        place = (request.table, *request.key)
        here = {n: one.sentence for n, one in enumerate(self.all, 1) if one.place == place}
        return replace(request, printed=_marked(request.printed, here)) if here else request

    def text(self, ids: Iterable[str]) -> str:
        """The file with the errata of these records, and of published results; '' where there are none."""
        shown = {"", *ids}
        return "\n".join(erratum.lines for erratum in self.all if erratum.record in shown)


def _marked(printed: Printed, sentences: Mapping[int, str]) -> Printed:
    """A published value with sentences by the number of their errata."""
    note = "; ".join([*([printed.note] if printed.note else []), *sentences.values()])
    return replace(printed, mark=f"{printed.mark}e{min(sentences)}", note=note, errata=tuple(sentences.values()))


def _erratum(fields: Any, records: Records, where: str) -> Erratum:
    try:
        erratum = Erratum.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "erratum"
        raise FileError(f"{where}: `{name}`: {first['msg']}; expected record, or table, row, column; date, text") from None
    bad = unfit(erratum.text)
    if bad:
        raise FileError(f"{where}: the text {bad}")
    if bool(erratum.record) == bool(erratum.table):
        raise FileError(f"{where}: expected either `record`, or `table`, `row` and `column`")
    if erratum.table:
        _check_place(erratum, where)
    elif erratum.record not in records.ids():
        raise FileError(
            f"{where}: there is no record {erratum.record!r} here; the sources of a number have the ids of its records"
        )
    return erratum


def _check_place(erratum: Erratum, where: str) -> None:
    """FileError where no paper prints what an erratum is about."""
    try:
        requests = read_grid(erratum.table).requests
    except FileError as error:
        raise FileError(f"{where}: {error}") from None
    if erratum.place not in [(request.table, *request.key) for request in requests if request.printed]:
        labels = f"row {list(erratum.row)}, column {list(erratum.column)}"
        raise FileError(f"{where}: {erratum.table} prints nothing at {labels}; its page has the labels")
