"""An Atom feed of the numbers that moved, one entry per publication in which any did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unlearnable_bench.leaderboard.formats.escaping import environment, presentable
from unlearnable_bench.leaderboard.pages.addresses import FEED
from unlearnable_bench.leaderboard.publishing.changes import MOVED, History


def feed(history: History, url: str, date: str) -> str:
    """Return the feed of a site at `url`, the latest publication first. `date` is the day of the latest record."""
    entries = []
    for publication in history.publications:
        entries += [_entry(publication, kind) for kind in publication["kinds"] if kind["kind"] == MOVED]
    return presentable(environment("html").get_template(FEED).render(url=url, date=date, entries=entries))


def _entry(publication: Mapping[str, Any], moved: Mapping[str, Any]) -> dict[str, Any]:
    """What the template gets of a publication and of its numbers that moved."""
    release = f", release {publication['release']}" if publication["release"] else ""
    numbers = "number" if moved["count"] == 1 else "numbers"
    return {
        "number": publication["number"],
        "date": publication["date"],
        "title": f"Publication {publication['number']}{release}: {moved['count']} {numbers} moved",
        "count": moved["count"],
        "lines": moved["lines"],
    }
