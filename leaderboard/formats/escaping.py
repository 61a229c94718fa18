"""Escaping, and the templates of each language, which print through its own escaper."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent.parent / "templates"
DASH, MINUS = "–", "−"  # noqa: RUF001  (typography: an empty cell, a negative number)


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def exact(value: float) -> str:
    """All digits that a number has, without the last bits of a sum of binary fractions: 0.21, not 0.21000000000000002."""
    return f"{value:.10g}"


def moment(time: str) -> str:
    """An ISO time as people write it: `2026-11-21 14:00 UTC`; what is no such time stays."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):[\d.]+(?:\+00:00|Z)$", r"\1 \2 UTC", time)


@cache
def asset(name: str) -> str:
    """A style sheet or script that pages carry inside."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def policy_hash(text: str) -> str:
    """What a security policy calls an inline style or script: only what hashes to this is applied or run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


_PLANES = "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_NO_TEXT = re.compile(f"[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef{_PLANES}]")
_SUSPECT = re.compile("[^\t\n\r -~\xa0-\ufdcf\ufdf0-\ufffd]+")  # holds all of these; a page is searched in a tenth of the time


def presentable(text: str) -> str:
    """Replace what neither HTML nor XML may hold, control characters above all, in a page or a drawing."""
    return _SUSPECT.sub(lambda found: _NO_TEXT.sub("\ufffd", found[0]), text)


def escape_markdown(text: str) -> str:
    r"""Return text that Markdown prints as it is, also inside a table.

    >>> print(escape_markdown("a|b <i> `c`"))
    a\|b &lt;i&gt; \`c\`
    """
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", text.replace("&", "&amp;")).replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("://", ":\\//").replace("www.", "www\\.")  # or GitHub makes links of bare addresses


_LATEX = {character: f"\\{character}" for character in "{}$&#_%"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "-": "{-}",  # two of them would be one dash
    "[": "{[}",  # behind \\ it would be an argument
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "×": r"$\times$",  # noqa: RUF001
    "…": r"\ldots{}",
    MINUS: "$-$",
    DASH: "--",
    "\u2016": r"$\Vert$",
    "\u0302": r"\^{}",  # the hat of p-hat, behind its letter
    "\u207b": "$^{-}$",
    "\u2074": "$^{4}$",
}
_LATEX |= {chr(0x2080 + digit): f"$_{digit}$" for digit in range(10)}
_LATEX |= {"\u1d58": "$^{u}$", "\u02b3": "$^{r}$", "\u1d43": "$^{a}$"}
_LATEX |= {chr(code): rf"$\{name}$" for code, name in ((0x3B4, "delta"), (0x3B5, "epsilon"), (0x3B8, "theta"), (0x3C1, "rho"))}
_LATEX |= {"ℓ": r"$\ell$", "∞": r"$\infty$"}


def escape_latex(text: str) -> str:
    r"""Return text that LaTeX prints as it is.

    >>> print(escape_latex("50% of $x_1"))
    50\% of \$x\_1
    """
    return "".join(_LATEX.get(character, character) for character in re.sub(r"\s+", " ", text) if character.isprintable())


def parenthesized(text: str) -> list[str]:
    """Cut a text at its outermost parentheses; what stands in them keeps its own.

    >>> parenthesized("em(dataset=jpeg(quality=75))+transfer")
    ['em', '(dataset=jpeg(quality=75))', '+transfer']
    """
    pieces, start, depth = [], 0, 0
    for place, character in enumerate(text):
        if character == "(":
            depth += 1
            if depth == 1:
                pieces.append(text[start:place])
                start = place
        if character == ")" and depth:
            depth -= 1
            if depth == 0:
                pieces.append(text[start : place + 1])
                start = place + 1
    return [*pieces, text[start:]]


CODE = {"html": ("<code>", "</code>"), "md": ("`", "`"), "tex": (r"\texttt{", "}"), "txt": ("`", "`")}  # signs around code


@cache
def environment(language: str) -> Environment:
    """The templates of one language. An undefined name is an error; every value printed is escaped, unless it is Markup."""
    import jinja2
    from markupsafe import Markup, escape

    escapers: dict[str, Callable[[str], str]] = {"html": escape, "md": escape_markdown, "tex": escape_latex, "txt": str}
    escaper = escapers[language]

    def code(text: str) -> str:
        """Print `words between backticks` as code."""
        pieces = text.split("`")
        if len(pieces) % 2 == 0 or not all(pieces[1:-1]):  # one is missing, or two stand side by side
            return text
        before, after = CODE[language]
        inside: Callable[[str], str] = str if language == "md" else escaper  # Markdown prints code as it is
        printed = (f"{before}{inside(p)}{after}" if i % 2 else escaper(p) for i, p in enumerate(pieces))
        return Markup("".join(printed))  # noqa: S704  (escaped piece by piece)

    def prose(text: str) -> Markup:
        """Print a docstring: paragraphs, also those that begin as `word: `, and code between backticks."""
        paragraphs = re.split(r"\n\s*\n|(?<=\.)\n\s*(?=[\w-]+: )", text.strip())
        printed = "".join(f"<p>{escape(code(' '.join(part.split())))}</p>" for part in paragraphs if part)
        return Markup(printed)  # noqa: S704  (escaped part by part)

    def sort_of(annotation: str) -> str:
        """Say what a field takes where that is a choice."""
        words = re.findall(r"['\"]([^'\"]+)['\"]", annotation) if annotation.startswith("Literal[") else []
        return f"one of {', '.join(words)}" if len(words) > 1 else ""

    @lru_cache(4096)
    def spec(text: str) -> Markup:
        """Print a spec with its parameters small, and let it break behind commas, but in no number."""
        groups = parenthesized(str(escape(text)))
        small = "".join(f"<wbr><span class=args>{one}</span>" if one.startswith("(") else one for one in groups)
        return Markup(re.sub(r"(,(?![\d ])|[+@](?! )|/(?!span>|\d))", r"\1<wbr>", small))  # noqa: S704  (escaped first)

    options: dict[str, Any] = {"autoescape": True}
    if language != "html":
        options = {"finalize": lambda value: value if isinstance(value, Markup) else escaper(str(value))}
    if language == "tex":  # braces and percent signs are LaTeX's own
        options |= {"block_start_string": "<%", "block_end_string": "%>", "comment_start_string": "<#"}
        options |= {"comment_end_string": "#>", "variable_start_string": "<<", "variable_end_string": ">>"}
    environment = jinja2.Environment(  # noqa: S701  (what is not HTML is escaped by `finalize`)
        loader=jinja2.PackageLoader("unlearnable_bench.leaderboard"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters |= {
        "exact": exact,
        "code": code,
        "spec": spec,
        "percent": percent,
        "prose": prose,
        "sort_of": sort_of,
        "moment": moment,
    }
    environment.globals["memory"] = lambda amount: f"{amount / 2**20:,.0f} MiB"
    if language == "html":
        style, script = asset("figure.css") + asset("style.css"), asset("site.js")
        environment.globals |= {
            "style": Markup(style),  # noqa: S704  (our own files)
            "script": Markup(script),  # noqa: S704
            "style_hash": policy_hash(style),
            "script_hash": policy_hash(script),
        }
    environment.tests["web"] = lambda url: re.match(r"https?://", url) is not None
    return environment
