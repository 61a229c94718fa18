"""Why a number is not as it was in the publication before, as far as the rows of both say it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

NEW, WITHDRAWN = "new", "withdrawn"
REPLACED = "record replaced"
COMPUTED = "computed anew from the same records"

Row = Mapping[str, str]


def reason(old: Row, new: Row) -> str:
    """Return why a number differs; a row is empty where there was no number."""
    if not old:
        return NEW
    if not new:
        return WITHDRAWN
    return _raised(old, new) or _exchanged(old, new) or COMPUTED


def _raised(old: Row, new: Row) -> str:
    """Which entries have another version; '' where none has, or where the older publication does not say."""
    before, after = _versions(old), _versions(new)
    changed = [key for key in before.keys() & after.keys() if before[key] != after[key]]
    words = [f"{key} {', '.join(before[key])} → {', '.join(after[key])}" for key in sorted(changed)]
    return f"version raised: {', '.join(words)}" if words else ""


def _versions(row: Row) -> dict[str, list[str]]:
    """The versions of each entry, by `kind:name`."""
    versions: dict[str, list[str]] = defaultdict(list)
    for part in row["versions"].split("; "):
        key, _, version = part.rpartition(" ")
        versions[key].append(version)
    return versions


def _exchanged(old: Row, new: Row) -> str:
    """Whether records came, went or were measured again; '' if not."""
    before, after = _ids(old), _ids(new)
    if before == after:
        return REPLACED if _is_measured_again(old, new) else ""
    if before < after:
        return f"{_records(after - before)} more"
    if after < before:
        return f"{_records(before - after)} fewer"
    return REPLACED


def _is_measured_again(old: Row, new: Row) -> bool:
    """Whether the latest record is another one; earlier publications do not say when theirs was finished."""
    earlier = old["finished"]
    return bool(earlier) and earlier != new["finished"]


def _ids(row: Row) -> set[str]:
    text = row["records"]
    return set(text.split(";"))


def _records(ids: set[str]) -> str:
    count = len(ids)
    return "1 record" if count == 1 else f"{count} records"
