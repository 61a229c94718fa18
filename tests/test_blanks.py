"""The site from the records that come with the repository, read as a stranger reads it: every blank says why it is one."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
CELLS = {"td", "th", "dd", "dt", "li", "p", "h1", "h2", "h3", "figcaption", "summary", "option", "legend"}
SHAPES = {"img", "svg", "meter", "input", "ul", "dl", "table"}  # what says something without a letter of its own
SAYS = re.compile(r"[^\W_]")


class Node:
    """An element: its attributes, what is inside, what it is inside of."""

    def __init__(self, name, attributes, parent):
        self.name, self.attributes, self.parent, self.inside = name, dict(attributes), parent, []

    @property
    def text(self):
        parts = (part if isinstance(part, str) else part.text for part in self.inside)
        return "" if self.name in ("script", "style") else "".join(parts)

    def all(self, *names):
        for part in self.inside:
            if isinstance(part, Node):
                if not names or part.name in names:
                    yield part
                yield from part.all(*names)

    def above(self, *names):
        node = self.parent
        while node is not None and node.name not in names:
            node = node.parent
        return node

    @property
    def place(self):
        """Where the element is, in words."""
        section = getattr(self.above("section"), "attributes", "")
        return f"<{self.name} {self.attributes}> in {section}: {self.text.strip()[:60]!r}"

    def says(self, *attributes):
        """Whether one of these attributes, here or inside, has words."""
        return any(SAYS.search(node.attributes.get(name) or "") for node in (self, *self.all()) for name in attributes)


class Page(HTMLParser):
    """A page as a tree. Written for our own pages, which are valid (`test_every_page_is_valid_html`)."""

    def __init__(self, text):
        super().__init__()
        self.root = self.here = Node("", (), None)
        self.feed(text)

    def handle_starttag(self, name, attributes):
        node = Node(name, attributes, self.here)
        self.here.inside.append(node)
        if name not in VOID:
            self.here = node

    def handle_startendtag(self, name, attributes):
        self.here.inside.append(Node(name, attributes, self.here))

    def handle_endtag(self, name):
        closed = self.here if self.here.name == name else self.here.above(name)
        self.here = closed.parent if closed is not None else self.here

    def handle_data(self, text):
        self.here.inside.append(text)


def blanks(root):
    """What has no word and does not say why: a cell, a term, a heading, a section, a picture, a link, a control."""
    for node in root.all():
        if node.above("dialog") or node.name == "dialog":
            continue  # filled by the script
        if node.name in CELLS and not SAYS.search(node.text) and not any(True for _ in node.all(*SHAPES)):
            table = node.above("table")
            caption = " ".join(one.text for one in table.all("caption")) if table else ""
            legend = "the paper prints a dash" if node.text.strip() else "An empty place: "
            if legend not in caption and not node.says("title", "aria-label"):
                yield f"nothing in {node.place}"
        elif node.name == "section":
            said = "".join(part.text for part in node.all("p", "td", "li", "dd", "summary"))
            if not SAYS.search(said) and not any(True for _ in node.all("svg", "img")):
                yield f"an empty section {node.place}"
        elif node.name == "img" and not node.says("alt"):
            yield f"a picture without words {node.place}"
        elif node.name == "svg" and not (node.says("aria-label") or "aria-hidden" in node.attributes):
            yield f"a drawing without words {node.place}"
        elif node.name in ("a", "button") and not (SAYS.search(node.text) or node.says("aria-label", "alt")):
            yield f"a link or button without words {node.place}"
        elif node.name in ("input", "select", "textarea", "meter", "output"):
            label = node.above("label")
            if not (label and SAYS.search(label.text)) and not node.says("aria-label") and node.name in ("input", "select"):
                yield f"a control without a label {node.place}"


@pytest.fixture(scope="module")
def site(published_site):
    """The pages of the whole site, parsed, and the names of all its files."""
    files = {path.relative_to(published_site).as_posix(): path for path in published_site.rglob("*") if path.is_file()}
    return {name: Page(path.read_text("utf-8")).root for name, path in files.items() if name.endswith(".html")}, set(files)


def test_no_blank_of_the_published_site_is_without_a_reason(site):
    """A dash, an empty cell, a section with a heading alone: each says why, in itself or in the caption of its table."""
    found = [f"{name}: {what}" for name, root in site[0].items() for what in blanks(root)]
    assert found == []


def test_every_link_of_the_published_site_leads_to_a_file_and_a_place_in_it(site):
    """Also where no record is: tables of papers, methods that nobody measured."""
    pages, files = site
    places = {name: {node.attributes.get("id") for node in root.all()} for name, root in pages.items()}
    for name, root in pages.items():
        for node in root.all("a"):
            address = node.attributes["href"]
            if not re.match(r"https?:", address):
                page, _, place = address.partition("#")
                assert (page or name) in files, f"{name} links to {address}"
                is_view = page == "compare.html" and "=" in place  # which the script reads
                assert not place or is_view or unquote(place) in places[page or name], f"{name} links to {address}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<table><tbody><tr><td>\u2013</td></tr></tbody></table>", "nothing in <td"),
        ("<table><tbody><tr><td>\u2013<small>not run yet</small></td></tr></tbody></table>", ""),
        ('<table><tbody><tr><td title="not run yet">\u2013</td></tr></tbody></table>', ""),
        ("<table><caption>An empty place: none there.</caption><tbody><tr><td></td></tr></tbody></table>", ""),
        (
            "<table><caption>An empty place: none there.</caption><tbody><tr><td>\u2013</td></tr></tbody></table>",
            "nothing in <td",
        ),
        ("<section><h2>Curves</h2></section>", "an empty section"),
        ('<section><h2>Curves</h2><svg aria-label="One"></svg></section>', ""),
        ("<img>", "a picture without words"),
        ("<input>", "a control without a label"),
        ("<label>Search <input></label>", ""),
        ('<a href="#x"></a>', "a link or button"),
    ],
)
def test_the_search_for_blanks_finds_them(text, why):
    """The judge is judged: otherwise a parser that sees nothing would let everything pass."""
    found = list(blanks(Page(text).root))
    assert [one.startswith(why) for one in found] == ([True] if why else [])
