"""BibTeX: of the methods that are in view, and of this leaderboard."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from unlearnable_bench.leaderboard.formats.escaping import escape_latex
from unlearnable_bench.registry import Paper

PROCEEDINGS = {  # the first word of a venue -> `booktitle`
    "AAAI": "AAAI Conference on Artificial Intelligence",
    "ACM": "ACM International Conference on Multimedia",
    "CVPR": "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
    "ICCV": "IEEE/CVF International Conference on Computer Vision",
    "ICLR": "International Conference on Learning Representations",
    "ICML": "International Conference on Machine Learning",
    "KDD": "ACM SIGKDD Conference on Knowledge Discovery and Data Mining",
    "NeurIPS": "Advances in Neural Information Processing Systems",
    "SaTML": "IEEE Conference on Secure and Trustworthy Machine Learning",
}
JOURNALS = {"TMLR": "Transactions on Machine Learning Research"}


def key(paper: Paper) -> str:
    """First author, year and first long word: `huang2021unlearnable`."""
    given = re.match(r"@\w+\{([^,\s]+),", paper.bibtex.strip())
    if given:
        return given[1]
    plain = unicodedata.normalize("NFKD", f"{paper.authors}|{paper.title}").encode("ascii", "ignore").decode().lower()
    authors, _, title = plain.partition("|")
    name = re.sub(r"[^a-z]", "", authors.partition(",")[0].split()[-1]) if authors.split() else "anonymous"
    word = next((word for word in re.findall(r"[a-z]+", title) if len(word) > 3), "untitled")
    return f"{name}{paper.year or ''}{word}"


def bibtex(paper: Paper) -> str:
    """Return an entry: the paper's own, else one made of what is known."""
    if paper.bibtex.strip():
        return paper.bibtex.strip() + "\n"
    names = " and ".join(name.strip() for name in paper.authors.split(",") if name.strip())
    fields = {"title": f"{{{escape_latex(paper.title)}}}", "author": escape_latex(names), "year": str(paper.year or "")}
    kind, published = _published(paper.venue)
    fields |= published | {"url": re.sub(r"[^!-~]|[{}\\%]", "", paper.url)}
    return _entry(kind, key(paper), fields)


def leaderboard(date: str) -> str:
    """Return an entry for this leaderboard; `date` is the day of its latest record, ISO 8601, or empty."""
    note = f"Leaderboard, latest record of {date}" if date else "Leaderboard"
    return _entry("misc", _key_of_ours(date), _ours(date) | {"note": note})


def number(sentence: str, name: str, date: str, url: str) -> str:
    """Return an entry for one number of it. `url` may be empty."""
    fields = _ours(date) | {"note": escape_latex(sentence), "url": re.sub(r"[^!-~]|[{}\\%]", "", url)}
    return _entry("misc", f"{_key_of_ours(date)}-{name}", fields)


def _key_of_ours(date: str) -> str:
    return f"unlearnablebench{date[:4]}"


def _ours(date: str) -> dict[str, str]:
    return {
        "title": "{Unlearnable Bench: availability poisons against the defenses that learn from them anyway}",
        "author": "{The Unlearnable Bench authors}",
        "year": date[:4],
    }


def _published(venue: str) -> tuple[str, dict[str, str]]:
    """The type of an entry, and the field that says where the paper appeared."""
    name = venue.partition(" ")[0]
    if name in PROCEEDINGS:
        return "inproceedings", {"booktitle": PROCEEDINGS[name]}
    if name in JOURNALS:
        return "article", {"journal": JOURNALS[name]}
    return "misc", {"howpublished": escape_latex(venue)}


def _entry(kind: str, name: str, fields: Mapping[str, str]) -> str:
    lines = [f"  {field} = {{{text}}}," for field, text in fields.items() if text]
    return "\n".join([f"@{kind}{{{name},", *lines, "}"]) + "\n"


def bibliography(papers: Iterable[Paper]) -> str:
    """Return the entries of several papers, each once, in the order of their keys."""
    found = {bibtex(paper): key(paper) for paper in papers if paper.title}
    return "\n".join(sorted(found, key=lambda text: (found[text], text)))
