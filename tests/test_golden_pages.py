"""A change to the code of the leaderboard changes no page that nobody looked at."""

from golden.pages import Pages, differences, published, sums


def test_every_file_of_the_site_is_as_it_was(published_site):
    """Readers cite numbers and link to pages. `tests/golden/pages.py` says what to do about a difference that is meant."""
    assert differences(Pages.read().files, sums(published_site)) == []


def test_golden_pages_show_published_records():
    """A record is never taken back, so the pages can be rendered at any commit."""
    assert set(Pages.read().records) <= set(published())


def test_differences_are_told_by_file():
    """Whoever sees the first test fail needs to know which page to look at."""
    before = {"a.html": "1", "b.html": "1", "c.html": "1"}
    after = {"a.html": "1", "b.html": "2", "d.html": "1"}
    assert differences(before, after) == ["changed  b.html", "gone     c.html", "new      d.html"]
