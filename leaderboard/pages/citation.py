"""How one number is cited: a sentence, an address that stays, BibTeX."""

from __future__ import annotations

from dataclasses import dataclass, field

from unlearnable_bench.leaderboard.formats import bibtex
from unlearnable_bench.leaderboard.formats.imprint import Imprint
from unlearnable_bench.leaderboard.formats.words import number
from unlearnable_bench.leaderboard.pages.cells import ScoredCell
from unlearnable_bench.leaderboard.tables.score import Score


@dataclass(frozen=True)
class Citation:
    """Of the number of a cell. Without the address `url` of the site its own is relative."""

    cell: ScoredCell
    url: str = ""
    imprint: Imprint = field(default_factory=Imprint)

    @property
    def address(self) -> str:
        return f"{self.url}{self.cell.href}"

    @property
    def sentence(self) -> str:
        score = self.cell.score
        trust = f", {score.trust}" if score.trust else ""
        return (
            f"{self.cell.title}: {number(score)} % test accuracy ({self.cell.setting}; {_seeds(score)}{trust}). "
            f"Unlearnable Bench{self._release}, records until {_date(score)}."
        )

    @property
    def _release(self) -> str:
        return f", release {self.imprint.release}" if self.imprint.release else ""

    @property
    def bibtex(self) -> str:
        address = self.address if self.url else ""
        return bibtex.number_entry(self.sentence, self.cell.key, _date(self.cell.score), address, self.imprint)


def citation(cell: ScoredCell, url: str, imprint: Imprint) -> Citation | None:
    """Return how the number of a cell is cited; None where it has none."""
    return None if cell.score.mean is None else Citation(cell, url, imprint)


def _seeds(score: Score) -> str:
    return "1 seed" if score.n == 1 else f"{score.n} seeds"


def _date(score: Score) -> str:
    return max(record.finished[:10] for record in score.used)
