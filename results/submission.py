"""Submissions: records that others measured, who they are, and how far their numbers were checked here.

A record keeps its bytes; whose it is stands beside it, in `submissions/<digest>.json` of the records' folder. A record counts
as somebody else's as long as it has the bytes that they sent: measured anew here (`bench run --force`), it is ours.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from unlearnable_bench.results.record import FileError, Metrics, PoisonNote, Record, Records, sha256, write_json

FOLDER = "submissions"  # in that of the records
SELF_REPORTED, VERIFIED, RERUN, DISPUTED = "self-reported", "poison verified", "re-run", "disputed"
TRUST_LEVELS = {
    SELF_REPORTED: "measured by somebody else; the files were checked, nothing was computed again",
    VERIFIED: "measured by somebody else; the poison was crafted here too and is the same, byte for byte",
    RERUN: "measured by somebody else, and once more here, with an accuracy within the tolerance",
    DISPUTED: "measured by somebody else, and once more here, with an accuracy beyond the tolerance",
}
REPORTED = (DISPUTED, SELF_REPORTED, VERIFIED)  # the least trusted first: numbers that nobody has measured here
LINE, NOTE = 100, 1000  # characters of a name, of a note
BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"  # letters, marks and a symbol that show nothing
MARKS = 4  # over one letter; Hebrew, Vietnamese and Thai need three

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _of_the_calendar(time: str) -> str:
    datetime.fromisoformat(time)
    return time


Time = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00$"),
    AfterValidator(_of_the_calendar),
]
PlainWord = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
VersionKey = Annotated[str, Field(pattern=r"^([a-z]+:)?[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]  # `numpy`, `attack:lsp`
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_ -]{0,99}$")]  # `1`, `1 of a-package 0.2`
Figure = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}(\([A-Za-z0-9._+,-]{1,64}\))?$")]  # `minutes(train)`
DeviceName = Annotated[str, Field(pattern=r"^(cpu|cuda): [ A-Za-z0-9()@.,:/+_-]{1,100}$")]
StageName = Literal["craft", "purify", "train", "measure"]
Seconds = Annotated[float, Field(ge=0, le=1e9)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SubmittedMetrics(Metrics):
    """What was measured, with a form for the names of figures and curves."""

    figures: dict[Figure, FiniteFloat] = Field(default={})
    curves: dict[Figure, list[FiniteFloat]] = Field(default={})


class SubmittedPoison(PoisonNote):
    """Which training set was used, with the forms that others' records must have."""

    checksum: Hash
    norm: Literal["linf", "l2", "l0", "none"]
    spent: FiniteFloat = Field(ge=0)
    allowed: FiniteFloat | None = Field(default=None, ge=0)
    notes: dict[Figure, FiniteFloat] = Field(default={})
    numerics: dict[PlainWord, PlainWord | bool | Annotated[int, Field(ge=1, le=4096)]] = Field(default={}, max_length=10)


class SubmittedRecord(Record):
    """A record as it may be submitted: done, with a form for every text that pages print."""

    id: Id
    state: Literal["done"] = "done"
    reason: Literal[""] = ""
    metrics: SubmittedMetrics
    seconds: dict[StageName, Seconds] = Field(default={})  # type: ignore[assignment]
    cpu_seconds: dict[StageName, Seconds] = Field(default={})  # type: ignore[assignment]
    peak_memory: int = Field(default=0, ge=0, le=2**50)
    device: DeviceName
    versions: dict[VersionKey, Version] = Field(max_length=200)
    dataset_fingerprint: Hash
    poison: SubmittedPoison | None = None
    tree: Hash
    commit: str = Field(pattern=r"^([0-9a-f]{40})?$")  # of an installed wheel: none
    command: str = Field(pattern=r"^bench run --cell [0-9a-f]{16}$")
    finished: Time

    @field_validator("commit", mode="before")
    @classmethod
    def _unchanged(cls, commit: Any) -> Any:
        if str(commit).endswith("-dirty"):
            raise PydanticCustomError("dirty", "measured by changed code; commit, then run the cell again by --force")
        return commit


class Submission(_Strict):
    """Who sends which records: `submission.json` of a bundle."""

    format: Literal[1] = 1
    name: str = Field(min_length=1, max_length=LINE)  # who measured; published
    contact: str = Field(default="", max_length=LINE)  # published too
    note: str = Field(default="", max_length=NOTE)
    program: Version  # that packed it
    trees: list[Hash]  # of the code that made the records
    records: dict[Id, Hash] = Field(min_length=1)  # sha256 of every file


class Verified(_Strict):
    """What crafting a poison again gave."""

    agrees: bool
    checksum: Hash
    device: str
    tree: Hash
    finished: Time


class Rerun(_Strict):
    """What measuring a cell again gave."""

    agrees: bool | None  # None: there was no tolerance to judge by
    test_acc: float = Field(ge=0, le=1)
    tolerance: float | None = Field(default=None, ge=0)  # fraction
    device: str
    tree: Hash
    finished: Time


class Taken(_Strict):
    """A submission that was taken in, and what was checked of it since."""

    format: Literal[1] = 1
    digest: Hash  # sha256 of the bundle
    accepted: Time
    submission: Submission
    kept: list[Id] = []  # the records that were not here before, in the order of their ids
    poisons: dict[Id, Verified] = {}  # by cell
    reruns: dict[Id, Rerun] = {}

    @property
    def short(self) -> str:
        """The digest as people write it."""
        return self.digest[:12]

    def trust(self, cell_id: str) -> str:
        """How far one of its records is to be trusted."""
        rerun, poison = self.reruns.get(cell_id), self.poisons.get(cell_id)
        if rerun is not None and rerun.agrees is not None:
            return RERUN if rerun.agrees else DISPUTED
        return VERIFIED if poison is not None and poison.agrees else SELF_REPORTED

    def detail(self, cell_id: str) -> str:
        """What was checked of one of its records, in words."""
        said = []
        if (poison := self.poisons.get(cell_id)) is not None:
            same = "the same poison" if poison.agrees else f"another poison ({poison.checksum[:12]})"
            said.append(f"{same} was crafted here on {poison.device}")
        if (rerun := self.reruns.get(cell_id)) is not None:
            allowed = "" if rerun.tolerance is None else f", tolerance {100 * rerun.tolerance:.1f} points"
            said.append(f"measured again here: {100 * rerun.test_acc:.1f}% on {rerun.device}{allowed}")
        return "; ".join(said)

    def path(self, records: Path) -> Path:
        """Its file, by the folder of the records."""
        return records / FOLDER / f"{self.short}.json"

    def write(self, records: Path) -> None:
        path = self.path(records)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.model_dump(mode="json"))


@dataclass(frozen=True)
class Origin:
    """Whose a record is that was not measured here."""

    trust: str
    who: str
    digest: str  # of the submission, short
    note: str = ""  # of the submitter
    accepted: str = ""
    detail: str = ""

    @property
    def trusted(self) -> bool:
        """Whether its number may stand among those measured here."""
        return self.trust not in REPORTED

    @property
    def text(self) -> str:
        """In a few words, for pages."""
        return f"{self.trust}, by {self.who}, submission {self.digest}" + (f"; {self.detail}" if self.detail else "")


def taken(records: Path) -> list[Taken]:
    """Return the submissions that a folder of records holds, the oldest first. FileError if one cannot be read."""
    found = []
    for path in sorted((records / FOLDER).glob("*.json")):
        try:
            one = Taken.model_validate_json(path.read_bytes(), strict=True)
        except (OSError, ValidationError) as error:
            why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            sentence = f"{path} does not say whose records are somebody else's ({why}); put the file back, or accept it again"
            raise FileError(sentence) from None
        if one.path(records) != path:
            raise FileError(f"{path} is the file of submission {one.short}; give it that name again")
        found.append(one)
    return sorted(found, key=lambda one: (one.accepted, one.digest))


def origins(records: Path) -> dict[str, Origin]:
    """Return whose the records of a folder are that still have the bytes that somebody sent."""
    found = {}
    for one in taken(records):
        for cell_id in one.kept:
            path, listed = records / f"{cell_id}.json", one.submission.records.get(cell_id)
            if path.is_file() and sha256(path.read_bytes()) == listed:
                sent = one.submission
                detail = one.detail(cell_id)
                found[cell_id] = Origin(one.trust(cell_id), sent.name, one.short, sent.note, one.accepted, detail)
    return found


def worst(several: Iterable[Origin | None]) -> str:
    """The trust level of a number: that of the least trusted of its records, '' where one of them was measured here."""
    found = [origin.trust if origin is not None else "" for origin in several]
    return "" if not found or "" in found else next(trust for trust in (*REPORTED, RERUN) if trust in found)


def unfit(text: str) -> str:
    """Say what of a text must not be on a page: control characters, directions of writing, invisible ones; or ''."""
    for character in text:
        if hidden(character):
            return f"holds the character U+{ord(character):04X}, which cannot be seen or changes how text is read"
    marks = 0
    for place, character in enumerate(text):
        marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
        if marks and place < marks:
            return f"begins with the mark U+{ord(character):04X}, which stands over nothing"
        if marks > MARKS:
            return f"has more than {MARKS} marks over one letter"
    return ""


def hidden(character: str) -> bool:
    """Whether a character cannot be seen or changes how text is read."""
    return character in BLANK or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def one_line(text: str) -> str:
    """A text on one line, with nothing in it that steers a terminal."""
    return "".join(f"\\u{ord(c):04x}" if hidden(c) else c for c in " ".join(text.splitlines()))


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a bundle's two kinds of files; what spans several fields is in docs/how-to/submit.md."""
    made = {"submission.json": Submission.model_json_schema(), "records/<id>.json": SubmittedRecord.model_json_schema()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "files": made}


def submission_rows(records: Records) -> list[dict[str, Any]]:
    """List the submissions of a folder: who, when, how many records are in which trust level or were replaced by ours since."""
    found = []
    for one in taken(records.folder):
        counts = dict.fromkeys((*TRUST_LEVELS, "replaced"), 0)
        for cell_id in one.kept:
            origin = records.origins.get(cell_id)
            counts[origin.trust if origin is not None and origin.digest == one.short else "replaced"] += 1
        sent = one.submission
        found.append({"digest": one.short, "name": sent.name, "note": sent.note, "accepted": one.accepted} | counts)
    return found
