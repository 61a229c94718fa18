"""Ten questions of readers, walked in a browser on the site of the published records, by what a reader sees."""

import tomllib
from pathlib import Path

import pytest
from test_browser import CHROMIUM, DRIVER, Browser, driver  # noqa: F401  (a fixture)

from unlearnable_bench.leaderboard.formats import text as formats
from unlearnable_bench.leaderboard.pages.build import ShownTables
from unlearnable_bench.results import Records

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs the packages chromium and chromium-driver")
ROOT = Path(__file__).parent.parent
QUESTIONS = tomllib.loads((ROOT / "tests" / "questions.toml").read_text(encoding="utf-8"))["question"]
PLACES = """
    const norm = (text) => text.replace(/\\s+/g, " ").trim();
    const heads = (row) => [...row.querySelectorAll("th[scope=row]")].map((head) => head.dataset.label ?? norm(head.innerText));
    const places = ({ row, column }) => {
        if (!row) return [document.body];
        const rows = [...document.querySelectorAll("tr")].filter((one) => one.checkVisibility() && heads(one).includes(row));
        return column ? rows.flatMap((one) => [...one.querySelectorAll(`[data-head="${column}"]`)]) : rows;
    };
"""
TARGET = f"""{PLACES}
    const [click] = arguments;
    const known = places(click).flatMap((one) => [...one.querySelectorAll("a, summary, button")]);
    const seen = known.filter((one) => one.checkVisibility());
    if (click.number) return seen.find((one) => /^[0-9]/.test(norm(one.innerText))) ?? null;
    const says = (test) => seen.find((one) => test(norm(one.innerText)));
    return says((text) => text === click.text) ?? says((text) => text.startsWith(click.text)) ?? null;
"""
TEXT = f"{PLACES} return norm(places({{ row: arguments[0] }}).map((one) => one.innerText).join(' '));"


@pytest.fixture(scope="module")
def browser(driver, tmp_path_factory):  # noqa: F811  (the fixture)
    """A window on the site of the records that come with the repository."""
    folder = tmp_path_factory.mktemp("site")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    formats.write_tables(
        [], folder, (), more=ShownTables.of(None, {}, Records(ROOT / "results" / "records")).site(changelog=changelog).files()
    )
    return Browser(driver, folder)


def missing(browser, question):
    """Walk to the answer of a question; return what of it is not seen there."""
    browser.open(question["start"])
    for click in question["clicks"]:
        target = browser.run(TARGET, click)
        assert target is not None, f"{click} cannot be seen"
        target.click()
    seen = browser.run(TEXT, question.get("row"))
    return [text for text in question["answer"] if text not in seen]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one["question"])
def test_a_question_is_answered_with_two_clicks_at_most(browser, question):
    """What readers of the field ask first; a page that is moved or reworded must not lose them."""
    assert len(question["clicks"]) <= 2
    assert missing(browser, question) == []


def test_the_walk_misses_what_is_not_there(browser):
    """Folded parts are not seen, neither is another row, nor can what is hidden be clicked."""
    question = QUESTIONS[0]
    assert missing(browser, question | {"clicks": question["clicks"][:1]}) == question["answer"][2:]
    assert missing(browser, question | {"row": "BDR 2 bits"}) != []
    with pytest.raises(AssertionError, match="cannot be seen"):
        missing(browser, {"start": "index.html", "clicks": [{"text": "no such link"}], "answer": []})


def test_there_are_ten_questions():
    """And nobody asks one twice."""
    assert len({question["question"] for question in QUESTIONS}) == len(QUESTIONS) == 10
