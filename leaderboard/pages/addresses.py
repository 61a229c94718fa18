"""Where a site will be, for search engines and for whoever is sent a link: absolute addresses, on pages and in a sitemap.

A site that does not know its own address has none of them: its pages link each other by relative addresses alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from unlearnable_bench.leaderboard.formats.escaping import environment
from unlearnable_bench.leaderboard.pages.picture import HEIGHT, WIDTH
from unlearnable_bench.results import FileError

HOME = "index.html"
SITEMAP = "sitemap.xml"
FEED = "feed.xml"
PICTURE = "picture.png"
BEFORE = "<style>"  # in the head of every page


def site_url(text: str) -> str:
    """Return what `--url` says with a slash at its end, '' for ''. FileError for what is no address of a folder on the web."""
    if text and not re.fullmatch(r"https?://[A-Za-z0-9][A-Za-z0-9._~:@/%+-]*", text):
        raise FileError(f"--url {text!r}: expected the address of the site's folder, such as https://example.org/board/")
    return f"{text.rstrip('/')}/" if text else ""


@dataclass(frozen=True)
class Addresses:
    """The absolute addresses of a site at `url`, which ends with a slash."""

    url: str
    picture: str = ""  # what the picture of the site shows, in words; '' where it has none

    def of(self, name: str) -> str:
        """Return the address of a file; the first page is the folder itself."""
        return self.url if name == HOME else f"{self.url}{name}"

    def on_page(self, name: str, page: str) -> str:
        """Return a page with its own address in its head, and those of the feed and the picture."""
        address = escape(self.of(name))
        links = (
            f'<link rel="canonical" href="{address}">\n'
            f'<meta property="og:url" content="{address}">\n'
            f'<link rel="alternate" type="application/atom+xml" title="Numbers that moved" href="{escape(self.of(FEED))}">\n'
        )
        return page.replace(BEFORE, links + self._picture_tags + BEFORE, 1)

    @property
    def _picture_tags(self) -> str:
        if not self.picture:
            return ""
        return (
            f'<meta property="og:image" content="{escape(self.of(PICTURE))}">\n'
            f'<meta property="og:image:width" content="{WIDTH}">\n'
            f'<meta property="og:image:height" content="{HEIGHT}">\n'
            f'<meta property="og:image:alt" content="{escape(self.picture)}">\n'
            '<meta name="twitter:card" content="summary_large_image">\n'
        )

    def sitemap(self, names: Iterable[str], date: str) -> str:
        """Return the sitemap of the pages among some files. `date` is the day of the latest record, or empty."""
        addresses = [self.of(name) for name in names if name.endswith(".html")]
        return environment("html").get_template(SITEMAP).render(addresses=addresses, date=date)
