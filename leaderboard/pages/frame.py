"""What stands around every page of the site: its navigation, its title, how to cite it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import Any

from unlearnable_bench.leaderboard.formats.escaping import environment
from unlearnable_bench.leaderboard.formats.imprint import Imprint

TITLE = "Unlearnable Bench"
MENU = {
    "index": "Leaderboard",
    "papers": "Papers",
    "methods": "Methods",
    "reproduction": "Reproduction",
    "data": "Data",
    "submit": "Submit",
}
METHODS = {"attacks": "Attacks", "defenses": "Defenses", "architectures": "Architectures"}
REPRODUCTION = {
    "agreement": "Agreement",
    "prediction": "Prediction",
    "coverage": "Coverage and cost",
    "protocols": "Protocols",
}
SUBMIT = {"run": "Run it yourself"}
DATA = {"changes": "Changes", "changelog": "Changelog"}
NAVIGATION = {**MENU, **METHODS, **REPRODUCTION, **DATA, **SUBMIT, "compare": "Compare two methods"}
"""The pages that every site has, by the names of their files."""

UNDER = {
    **dict.fromkeys([*METHODS, "compare"], "methods"),
    **dict.fromkeys(REPRODUCTION, "reproduction"),
    **dict.fromkeys(DATA, "data"),
    **dict.fromkeys(SUBMIT, "submit"),
}
"""Pages that are no item of the menu, and the item that leads to them."""

SCRIPTED = {  # templates of tables that can be sorted
    "start.html",
    "table.html",
    "entries.html",
    "entry.html",
    "compare.html",
    "coverage.html",
    "agreement.html",
    "prediction.html",
}


@dataclass(frozen=True)
class Frame:
    """The frame of a site. `published` pages link to the data beside them."""

    citation: str  # BibTeX of this leaderboard
    published: bool
    imprint: Imprint = field(default_factory=Imprint)
    date: str = ""  # of the latest record, ISO 8601

    @cached_property  # every page says it
    def edition(self) -> str:
        """Which pages these are: the name of the release, or the version of the program."""
        return f"release {self.imprint.release}" if self.imprint.release else f"v{version('unlearnable-bench')}"

    def context(self, here: str) -> dict[str, Any]:
        """What every template gets; `here` is the page that it is, or belongs to."""
        return {
            "navigation": MENU,
            "here": UNDER.get(here, here),
            "home": False,
            "published": self.published,
            "citation": self.citation,
            "imprint": self.imprint,
            "edition": self.edition,
            "until": self.date,
        }

    def page(self, template: str, here: str, title: str = "", **context: Any) -> str:
        """Render a page; its title is that of the navigation where none is given."""
        frame = self.context(here)
        frame |= {"title": title or NAVIGATION[here], "scripted": template in SCRIPTED}
        return environment("html").get_template(template).render(frame | context)
