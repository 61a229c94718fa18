"""What stands around every page of the site: its navigation, its title, how to cite it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from leaderboard.formats.escaping import environment

TITLE = "Unlearnable Bench"
NAVIGATION = {
    "index": "Leaderboard",
    "papers": "Tables of papers",
    "agreement": "Agreement",
    "prediction": "Prediction",
    "attacks": "Attacks",
    "defenses": "Defenses",
    "architectures": "Architectures",
    "coverage": "Coverage and cost",
    "protocols": "Protocols",
    "changes": "Changes",
}
SCRIPTED = {  # templates of tables that can be sorted
    "start.html",
    "table.html",
    "entries.html",
    "entry.html",
    "coverage.html",
    "agreement.html",
    "prediction.html",
}


@dataclass(frozen=True)
class Frame:
    """The frame of a site. `published` pages link to the data beside them."""

    citation: str  # BibTeX of this leaderboard
    published: bool

    def context(self, here: str) -> dict[str, Any]:
        """What every template gets; `here` is the page of the navigation that it belongs to."""
        return {
            "navigation": NAVIGATION,
            "here": here,
            "home": False,
            "published": self.published,
            "citation": self.citation,
        }

    def page(self, template: str, here: str, title: str = "", **context: Any) -> str:
        """Render a page; its title is that of the navigation where none is given."""
        frame = self.context(here)
        frame |= {"title": title or NAVIGATION[here], "scripted": template in SCRIPTED}
        return environment("html").get_template(template).render(frame | context)
