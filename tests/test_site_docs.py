"""The site of the documents: it builds, and a link that leads nowhere, or to no heading, stops it."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site():
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("zensical is not installed; `pip install -c constraints.txt zensical` brings it")
    # by its path: docs/ is no package
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs" / "build_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_builds_and_has_every_document(site, tmp_path):
    """Links and headings are checked by the generator; what documents link to lies beside them."""
    site.stage(tmp_path)
    assert site.build(tmp_path) == 0
    pages = {str(path.relative_to(tmp_path / "docs-site")) for path in (tmp_path / "docs-site").rglob("*.html")}
    assert {"index.html", "CONTRIBUTING.html", "docs/tutorial.html", "docs/reference/commands.html"} <= pages
    assert (tmp_path / "docs-site" / "results" / "tables" / "quick.toml").is_file()


@pytest.mark.parametrize("link", ["nowhere.md", "docs/glossary.md#no-such-heading"])
def test_a_link_that_leads_nowhere_stops_the_build(site, tmp_path, link):
    """A reader must not be the first to find out."""
    site.stage(tmp_path)
    page = tmp_path / "docs-source" / "SECURITY.md"
    page.write_text(f"{page.read_text(encoding='utf-8')}\n[somewhere]({link})\n", encoding="utf-8")
    assert site.build(tmp_path) != 0


def test_every_page_of_the_menu_is_a_document():
    """A page that was moved must not stay in the menu under its old name."""
    config = tomllib.loads((ROOT / "docs" / "zensical.toml").read_text(encoding="utf-8"))
    assert all((ROOT / path).is_file() for path in _paths(config["project"]["nav"]))


def _paths(entry):
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [path for part in parts for path in _paths(part)]
