"""Ten questions of readers, walked in a browser on the site of the published records, by what a reader sees."""

import tomllib
from pathlib import Path

import pytest
from test_browser import CHROMIUM, DRIVER, Browser, driver  # noqa: F401  (a fixture)

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
def browser(driver, published_site):  # noqa: F811  (the fixture)
    """A window on the site of the records that come with the repository."""
    return Browser(driver, published_site)


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
    question = QUESTIONS[1]
    assert missing(browser, question | {"clicks": []}) == question["answer"][1:]
    assert missing(browser, question | {"row": "EM"}) != []
    with pytest.raises(AssertionError, match="cannot be seen"):
        missing(browser, {"start": "index.html", "clicks": [{"text": "no such link"}], "answer": []})


def test_there_are_ten_questions():
    """And nobody asks one twice."""
    assert len({question["question"] for question in QUESTIONS}) == len(QUESTIONS) == 10


# The start page and its phone, on all that is published


LONG = (  # a page of each kind, those that would be longest without folding
    "index.html",
    "index.html#defenses",
    "start.cifar100.resnet18.html#defenses",
    "attack.em.html",
    "defense.at.html",
    "defenses.html",
    "methods.html",
    "papers.html",
    "d-vae.table-2.html",
    "toy-analyses.html",
    "toy-defending.html",
    "cifar10.html",
    "sources.none.html",
    "sources.ops.html",
    "sources.em-surrogate-small-cnn-weight_steps-30-batch-128-n-1c1dfbf6.html",
    "agreement.html",
    "prediction.html",
    "coverage.html",
    "changes.html",
    "changelog.html",
)
SEEN = """
    const seen = [...document.querySelectorAll(arguments[0])].filter((one) => one.checkVisibility());
    return seen.map((one) => one.innerText.replace(/\\s+/g, " ").trim());
"""


@pytest.mark.parametrize("page", LONG)
def test_a_phone_folds_what_is_long_and_scrolls_no_page_sideways(browser, page):
    """Nobody scrolls ten screens for what is on the next tab."""
    browser.open(page, width=390)
    tall, wide = browser.run("const page = document.documentElement; return [page.scrollHeight, page.scrollWidth]")
    assert tall < 6000 and wide <= 390


def test_a_phone_unfolds_rows_with_one_box_and_without_script(browser):
    """What is folded is there, and other screens never fold it."""
    rows = "#attacks tbody th"
    for script in (True, False):
        browser.open("index.html", width=390, script=script)
        browser.cdp("Emulation.setScriptExecutionDisabled", value=False)
        few = browser.run(SEEN, rows)
        browser.run("document.querySelector('#attacks .more').click()")
        assert len(few) == 10 < len(browser.run(SEEN, rows))
    assert len(browser.open("index.html").run(SEEN, rows)) > 20 and not browser.run(SEEN, ".more")


def test_a_row_that_a_link_names_is_seen_though_its_table_is_folded(browser):
    """A number's source must not hide behind a box."""
    folded = browser.open("toy-analyses.html", width=390).run("return document.querySelectorAll('tr[id]')[40].id")
    assert not browser.run(SEEN, f"[id='{folded}']")
    browser.open(f"toy-analyses.html#{folded}", width=390)
    assert len(browser.run(SEEN, f"[id='{folded}']")) == 1


def test_one_tab_is_seen_on_screens_and_both_in_print(browser):
    """Tabs are links that need no script."""
    for script in (True, False):
        for page, tab in (("index.html", "attacks"), ("index.html#attacks", "attacks"), ("index.html#defenses", "defenses")):
            browser.open(page, script=script)
            browser.cdp("Emulation.setScriptExecutionDisabled", value=False)
            assert browser.run(
                "return [...document.querySelectorAll('.start')].filter((s) => s.checkVisibility()).map((s) => s.id)"
            ) == [tab]
    browser.cdp("Emulation.setEmulatedMedia", media="print")
    assert len(browser.run(SEEN, ".start table")) == 2
    browser.cdp("Emulation.setEmulatedMedia", media="")


def test_a_switch_says_which_side_ranks_and_the_two_are_never_mixed(browser):
    """Ours come first in the order of ours; the rank of papers is then not to be seen, and back."""
    names = "#attacks tbody th[scope=row] a"
    browser.open("index.html")
    assert browser.run(SEEN, ".needs-script") == [] and browser.run(SEEN, "#attacks .by-ours") == []
    published = browser.run(SEEN, names)
    browser.run("document.querySelector('#attacks .ranks [value=ours]').click()")
    assert browser.run(SEEN, "#attacks .by-theirs") == [] and browser.run(SEEN, "#attacks th.by-ours")[0].startswith(
        "rank, ours"
    )
    measured = browser.run(
        "return [...document.querySelectorAll('#attacks tbody tr')].map((row) => !!row.querySelector('.ours[data-v]'))"
    )
    assert measured == sorted(measured, reverse=True) and any(measured)
    ours = browser.run(SEEN, names)
    assert ours != published and browser.view() == "#tab=attacks&ranks=ours"
    assert browser.open(f"index.html{browser.view()}").run(SEEN, names) == ours
    assert browser.run("return [...document.querySelectorAll('.chips a')].every((chip) => chip.hash === location.hash)")
    browser.run("document.querySelector('#attacks .ranks [value=theirs]').click()")
    assert browser.run(SEEN, names) == published and browser.run(SEEN, "#attacks .by-ours") == []


def test_without_script_both_ranks_are_shown_and_the_page_says_why(browser):
    """No control that does nothing."""
    browser.open("index.html", script=False)  # script stays off: the style asks whether it runs
    assert browser.run(SEEN, "#attacks .needs-script")[0].startswith("Sorting, and choosing which side ranks, needs script")
    assert browser.run(SEEN, "#attacks .ranks") == []
    assert browser.run(SEEN, "#attacks thead .by-theirs, #attacks thead .by-ours") == ["rank", "rank, ours"]


def test_nothing_of_the_start_page_moves_when_its_script_runs(browser):
    """A reader who begins to read, or to click, must not lose the place; what script adds has its room before."""
    for width in (390, 1300):
        browser.open("index.html", width=width)
        heights = "return ['#attacks .tools', '#attacks thead'].map((one) => document.querySelector(one).offsetHeight)"
        after = browser.run(heights)
        browser.run("""
            for (const made of document.querySelectorAll('.sort, .tools .menu')) made.remove();
            for (const table of document.querySelectorAll('.sorts')) table.classList.remove('sorts');
            for (const section of document.querySelectorAll('.start')) delete section.dataset.ranks;
            for (const choice of document.querySelectorAll('.ranks')) choice.hidden = true;
        """)
        assert browser.run(heights) == after


def test_a_bar_that_is_pointed_at_says_whose_it_is(browser):
    """Forty bars of four pixels cannot be told apart; the tooltip names the method of the other axis and its number."""
    browser.open("index.html")
    names = browser.run("""
        const strip = document.querySelector("#attacks .strip"), { left, width, top } = strip.getBoundingClientRect();
        const count = strip.dataset.values.split(",").length;
        return [...Array(count).keys()].map((place) => {
            const at = { bubbles: true, clientX: left + (width * (place + 0.5)) / count, clientY: top + 1 };
            strip.dispatchEvent(new PointerEvent("pointermove", at));
            return strip.closest("td").title;
        });
    """)
    said = browser.run("return document.querySelector('#attacks .strip').getAttribute('aria-label')")
    bars = [name.replace(":", "") for name in names if not name.endswith(": no result")]
    assert said == f"published: {', '.join(bars)}" and len(bars) > 5 and bars[0].startswith("None ")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_columns_are_shown_and_hidden_by_boxes(browser, script):
    """Published, ours, cost, and the worst case of whatever a defense needs instead of the strict one."""
    browser.open("index.html", script=script)
    browser.cdp("Emulation.setScriptExecutionDisabled", value=False)
    heads = "#attacks thead th"
    assert not browser.run(SEEN, f"{heads}.cost, {heads}.free")
    for box, shown, hidden in (
        ("cost", "cost", ""),
        ("free", "free", "strict"),
        ("theirs", "", "theirs"),
        ("ours", "", "ours"),
    ):
        browser.run(f"document.querySelector('#attacks .see-{box}').click()")
        assert not shown or browser.run(SEEN, f"{heads}.{shown}"), box
        assert not hidden or not browser.run(SEEN, f"#attacks .{hidden}"), box


def test_defenses_are_filtered_by_what_they_need(browser):
    """A victim without weights of a diffusion model leaves AVATAR out."""
    rows = "#defenses tbody th[scope=row] a"
    browser.open("index.html#defenses")
    assert "AVATAR" in browser.run(SEEN, rows)
    browser.run("document.querySelector('#defenses .see-weights').click()")
    left = browser.run(SEEN, rows)
    assert "AVATAR" not in left and "JPEG 10" in left


def test_beside_the_table_stand_a_plot_the_disputes_and_what_moved(browser):
    """The plot has the full width, and is of published defenses alone."""
    browser.open("index.html")
    width = browser.run("return document.querySelector('[aria-labelledby=pareto] svg').getBoundingClientRect().width")
    assert width > 1100 and len(browser.run(SEEN, "[aria-labelledby=disputes] li")) == 5
    assert len(browser.run(SEEN, "[aria-labelledby=moved] li")) == 3
