"""BibTeX: of the methods that are in view, and of this leaderboard."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from unlearnable_bench.leaderboard.formats.escaping import escape_latex
from unlearnable_bench.leaderboard.formats.imprint import Imprint
from unlearnable_bench.registry import Paper


class Venue(NamedTuple):
    """Where papers appear: the type of an entry, and the field that says where."""

    kind: str
    field: str
    name: str


def _conference(name: str) -> Venue:
    return Venue("inproceedings", "booktitle", name)


VENUES = {  # by the first word of a paper's venue
    "AAAI": _conference("AAAI Conference on Artificial Intelligence"),
    "ACM": _conference("ACM International Conference on Multimedia"),
    "CVPR": _conference("IEEE/CVF Conference on Computer Vision and Pattern Recognition"),
    "ICCV": _conference("IEEE/CVF International Conference on Computer Vision"),
    "ICLR": _conference("International Conference on Learning Representations"),
    "ICML": _conference("International Conference on Machine Learning"),
    "KDD": _conference("ACM SIGKDD Conference on Knowledge Discovery and Data Mining"),
    "NeurIPS": _conference("Advances in Neural Information Processing Systems"),
    "SaTML": _conference("IEEE Conference on Secure and Trustworthy Machine Learning"),
    "TMLR": Venue("article", "journal", "Transactions on Machine Learning Research"),
}


def key(paper: Paper) -> str:
    """First author, year and first long word: `huang2021unlearnable`."""
    given = re.match(r"@\w+\{([^,\s]+),", paper.bibtex.strip())
    if given:
        return given[1]
    plain = unicodedata.normalize("NFKD", f"{paper.authors}|{paper.title}").encode("ascii", "ignore").decode().lower()
    authors, _, title = plain.partition("|")
    name = re.sub(r"[^a-z]", "", authors.partition(",")[0].split()[-1]) if authors.split() else "anonymous"
    word, *_ = (*re.findall(r"[a-z]{4,}", title), "untitled")
    return f"{name}{_year(paper)}{word}"


def _year(paper: Paper) -> str:
    return str(paper.year or "")


def bibtex(paper: Paper) -> str:
    """Return an entry: the paper's own, else one made of what is known."""
    if paper.bibtex.strip():
        return paper.bibtex.strip() + "\n"
    names = " and ".join(name.strip() for name in paper.authors.split(",") if name.strip())
    venue = VENUES.get(paper.venue.partition(" ")[0], Venue("misc", "howpublished", escape_latex(paper.venue)))
    fields = {
        "title": f"{{{escape_latex(paper.title)}}}",
        "author": escape_latex(names),
        "year": _year(paper),
        venue.field: venue.name,
        "url": _address(paper.url),
    }
    return _entry(venue.kind, key(paper), fields)


def leaderboard(date: str, imprint: Imprint) -> str:
    """Return an entry for this leaderboard; `date` is the day of its latest record, ISO 8601, or empty."""
    note = f"Leaderboard, latest record of {date}" if date else "Leaderboard"
    return _entry("misc", _key_of_ours(date), _ours(date) | _named_by(imprint) | {"note": note})


def number_entry(sentence: str, name: str, date: str, url: str, imprint: Imprint) -> str:
    """Return an entry for one number of it. `url` may be empty."""
    fields = _ours(date) | _named_by(imprint) | {"note": escape_latex(sentence), "url": _address(url)}
    return _entry("misc", f"{_key_of_ours(date)}-{name}", fields)


def _named_by(imprint: Imprint) -> dict[str, str]:
    """Which publication is cited."""
    return {"version": escape_latex(imprint.release), "doi": _address(imprint.doi)}


def _address(text: str) -> str:
    """An address without what would end its field."""
    return re.sub(r"[^!-~]|[{}\\%]", "", text)


def _key_of_ours(date: str) -> str:
    return f"unlearnablebench{date[:4]}"


def _ours(date: str) -> dict[str, str]:
    return {
        "title": "{Unlearnable Bench: availability poisons against the defenses that learn from them anyway}",
        "author": "{The Unlearnable Bench authors}",
        "year": date[:4],
    }


def _entry(kind: str, name: str, fields: Mapping[str, str]) -> str:
    lines = [f"  {field} = {{{text}}}," for field, text in fields.items() if text]
    return "\n".join([f"@{kind}{{{name},", *lines, "}"]) + "\n"


def bibliography(papers: Iterable[Paper]) -> str:
    """Return the entries of several papers, each once, in the order of their keys."""
    keys = {bibtex(paper): key(paper) for paper in papers if paper.title}  # of each entry
    return "\n".join(sorted(keys, key=lambda entry: (keys[entry], entry)))
