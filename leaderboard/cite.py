"""BibTeX of the methods that are in view."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from leaderboard.language import escape_latex
from registry import Paper


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
    fields |= {"howpublished": escape_latex(paper.venue), "url": re.sub(r"[^!-~]|[{}\\%]", "", paper.url)}
    lines = [f"  {name} = {{{text}}}," for name, text in fields.items() if text]
    return "\n".join([f"@misc{{{key(paper)},", *lines, "}"]) + "\n"


def bibliography(papers: Iterable[Paper]) -> str:
    """Return the entries of several papers, each once, in the order of their keys."""
    found = {bibtex(paper): key(paper) for paper in papers if paper.title}
    return "\n".join(sorted(found, key=lambda text: (found[text], text)))
