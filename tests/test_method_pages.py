"""Pages of attacks and defenses: what papers print beside ours, every published result, and two methods side by side."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from test_worst_case import attack, defense, result

from unlearnable_bench.leaderboard.pages.compare import Comparison, keys_of
from unlearnable_bench.leaderboard.pages.entry_pages import published_index
from unlearnable_bench.leaderboard.pages.method_pages import Facts
from unlearnable_bench.leaderboard.pages.methods import deviations_of
from unlearnable_bench.leaderboard.pages.references import References
from unlearnable_bench.leaderboard.pages.site import Site
from unlearnable_bench.leaderboard.pages.start import Start
from unlearnable_bench.leaderboard.tables.naming import labels_of
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.registry import ATTACKS, CATALOGS, lacking, resolve
from unlearnable_bench.registry.entry import Entry
from unlearnable_bench.results import Records, read_grid

EVIL = '</script><script>alert(1)</script>"><img src=x onerror=alert(1)>'
PUBLISHED = [
    result("none", "none", 94.0),
    result("em", "none", 20.0),
    result("em", "none", 24.0, "paper-b"),
    result("em", "jpeg", 80.0),
    result("em", "jpeg", 90.0, "paper-b"),
    result("em", "grayscale", 70.0),
    result("em", "early-stop", 93.0),
    result("em(epsilon=16/255)", "jpeg", 60.0),
    result("rem", "jpeg", 50.0),
    result("rem", "none", 30.0),
]
OURS = [
    result("em", "none", 15.0, "", half_width=1.0),
    result("em", "jpeg", 82.0, "", half_width=1.0),
    result("em", "cutout", 16.0, "", half_width=1.0),
    result("tap", "jpeg", 44.0, "", half_width=1.0),
]


def start(published=PUBLISHED, ours=OURS, network="resnet18"):
    tables = {one.table for one in (*published, *ours)}
    pages = {name: (name.title(), f"{name.replace('/', '.')}.html") for name in tables}
    return Start("cifar10", network, network == "resnet18", published, ours, pages, {"attack": (), "defense": ()})


def page(kind, name, home=None, entry=None):
    """The page of an entry on a site whose first page has this evidence."""
    site = Site([])
    site.home = home or start()
    site.comparison = Comparison.of(site.home)
    return site.entry_page(kind, entry or CATALOGS[f"{kind}s"].entry(name))


def section(text, name):
    found = re.search(rf'<section aria-labelledby="{name}">.*?</section>', text, re.DOTALL)
    return found[0] if found else ""


def rows(text):
    """The rows of the first table of a text, tags taken out."""
    body = text.partition("<tbody>")[2].partition("</tbody>")[0]
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in body.split("</tr>")[:-1]]


def test_the_card_has_published_ranges_beside_ours_for_each_budget():
    """A reader asks how the attack stands undefended and against its best defense, and who says so."""
    card = section(page("attack", "em"), "card")
    first, second = rows(card)
    assert first.startswith("EM, ℓ∞ 8/255") and second.startswith("EM, ℓ∞ 16/255")
    for text in ("22.0 20.0–24.0", "85.0 80.0–90.0 JPEG 10", "15.0 ± 1.0", "82.0 ± 1.0 JPEG 10"):  # noqa: RUF001
        assert text in first, text
    assert 'href="paper-a.table-1.html"' in card and 'href="paper-b.table-1.html"' in card
    assert 'title="em"' in card and 'title="em(epsilon=16/255)"' in card


def test_the_card_of_a_defense_has_clean_images_and_its_strongest_attack():
    """A defense is judged by what it leaves of the accuracy, and by the attack that it holds least against."""
    (row,) = rows(section(page("defense", "jpeg"), "card"))
    assert row.startswith("JPEG 10") and "50.0 REM" in row and "44.0 ± 1.0 TAP" in row
    assert "clean images" in section(page("defense", "jpeg"), "card")


def test_the_matrix_begins_with_no_defense_and_then_the_best():
    """Every defense that papers or we have a number for, by its label; those that need more are in it and say so."""
    matrix = section(page("attack", "em"), "matrix")
    assert [row.partition(" ")[0] for row in rows(matrix)] == ["None", "Early", "JPEG", "Grayscale", "Cutout"]
    assert "needs clean-data" in rows(matrix)[1]
    assert rows(matrix)[-1].startswith("Cutout") and "not published" in rows(matrix)[-1] and "16.0" in rows(matrix)[-1]
    assert '<a href="defense.jpeg.html" title="' in matrix


def test_values_that_papers_contest_are_marked_and_name_both_sides():
    """Ten points apart is no range to be read past."""
    text = page("attack", "em")
    (row,) = [row for row in rows(section(text, "matrix")) if row.startswith("JPEG")]
    assert "contested" in row and "Paper-A/Table-1 80.0" in row and "Paper-B/Table-1 90.0" in row
    assert "papers lie more than five points apart on 1 defense<" in section(text, "card")
    calm = page("attack", "em", start([one for one in PUBLISHED if one.value != 90.0]))
    assert "contested" not in calm


def test_a_method_without_a_published_number_says_so_and_shows_ours():
    """TAP is measured here alone; SEM by nobody."""
    text = page("attack", "tap")
    assert "No paper here prints it on CIFAR-10 with ResNet-18" in text
    assert "44.0 ± 1.0" in rows(section(text, "card"))[0]
    nobody = page("attack", "sem")
    assert "did not measure it" in nobody and not section(nobody, "card") and not section(nobody, "matrix")
    assert 'href="compare.html#' not in nobody


def test_clean_images_have_a_matrix_and_no_worst_case():
    """Clean training is what others are held against."""
    text = page("attack", "none")
    assert not section(text, "card") and rows(section(text, "matrix"))[0].startswith("None 94.0")


def test_every_published_result_of_an_attack_is_on_its_page(tmp_path):
    """The page of EM once said that no paper prints it."""
    tables = printed_tables(read_grid("d-vae/table-2"), Records(tmp_path), resolve, lacking)
    own = [score for score in tables[0].compared if any(part.name == "em" for part in score.runs[0].cell.attack)]
    assert len(own) > 5
    text = Site(tables).entry_page("attack", ATTACKS.entry("em"))
    shown = rows(section(text, "published"))
    assert [row.partition(" ")[0] for row in shown] == [score.printed.text for score in own]
    assert all("D-VAE" in row and "test accuracy" in row for row in shown)
    assert set(published_index(tables)) >= {("attack", "em"), ("defense", "jpeg")}


def test_the_page_links_to_other_settings_that_have_results():
    """What is published of another network is on that start page."""
    there, empty = start(PUBLISHED[:4], [], "resnet50"), start([], [], "vgg16")
    facts = Facts.of(start(), [start(), there, empty], "attack", "em")
    assert [(link.text, link.href, link.results) for link in facts.elsewhere] == [
        ("CIFAR-10 with ResNet-50", f"{there.file}#attacks", 3)
    ]


def test_hostile_texts_are_texts():
    """Names and papers come from packages of others, and records from anybody."""
    strange = replace(attack("em"), label=EVIL, display_name=EVIL)
    published = [replace(one, attack=strange, spec=EVIL) for one in PUBLISHED if one.attack == attack("em")]
    home = start(published)
    entry = Entry("attacks", "em", EVIL, "m", "a", doc=f"{EVIL}\n\nChanged from {EVIL}: {EVIL}", facts={"display_name": EVIL})
    site = Site([])
    site.home, site.comparison = home, Comparison.of(home)
    for text in (site.entry_page("attack", entry), page("defense", "jpeg", home), str(site.comparison.data)):
        assert EVIL not in text and "<img" not in text and "<script>alert" not in text
    assert json.loads(str(site.comparison.data))["attacks"][0]["label"].startswith(EVIL)


def test_what_is_long_is_folded_and_deviations_are_not():
    """The prose of EM has ten paragraphs; what differs from the authors' code is two sentences."""
    text = page("attack", "em")
    assert deviations_of(ATTACKS.entry("em")).startswith("Changed from the authors' code: images are visited")
    assert "images are visited in one fixed random order" in section(text, "deviations")
    assert "<details" not in section(text, "deviations") and "<details" in section(text, "details")
    order = [
        text.index(f'id="{name}"') for name in ("card", "matrix", "parameters", "deviations", "threat", "paper", "details")
    ]
    assert order == sorted(order)
    assert "(ℓ∞ 8/255 by default)" in text and "surrogate network, by default <code>resnet18</code>" in text
    assert "It needs images that are known to be clean." in page("defense", "early-stop")
    assert "It needs nothing besides the training set." in page("defense", "jpeg")


def test_a_checkout_knows_its_reference_vectors(tmp_path):
    """A reader who doubts our EM wants the function that it was held against."""
    references = References.read(Path(__file__).parent / "reference")
    assert any("min_min_attack" in vector.function for vector in references.vectors_of("attack", "em"))
    assert references.remark_on("attack", "em").startswith("Differs from the official code on purpose. Images are visited")
    site = Site([], references=references)
    assert "tests/reference/attack.em.npz" in site.entry_page("attack", ATTACKS.entry("em"))
    nothing = References.read(tmp_path)
    assert not nothing.vectors_of("attack", "em") and not nothing.remark_on("attack", "em")


def test_labels_of_specs_tell_neighbors_apart_and_leave_strangers():
    """Two settings of one attack are two rows; what is not installed here keeps its spec."""
    named = labels_of("attack", ["em", "em(variant=apb)", "sparkle(x=1)"])
    assert named["sparkle(x=1)"] == "sparkle(x=1)" and len(set(named.values())) == 3
    assert named["em"].startswith("EM")


def test_what_two_methods_are_compared_by_is_in_the_page_once():
    """Addresses name an entry; its other budgets have addresses of their own."""
    made = Comparison.of(start())
    data = json.loads(str(made.data))
    keys = [one["key"] for one in data["attacks"]]
    assert keys[0] == "em" and set(keys) == {"em", "rem", "em.em-16-255", "tap"}
    em = next(one for one in data["attacks"] if one["key"] == "em")
    assert em["page"] == "attack.em.html" and em["label"] == "EM, ℓ∞ 8/255"
    jpeg = next(pair for pair in em["against"] if pair[0] == "JPEG 10")
    assert jpeg == ["JPEG 10", "defense.jpeg.html", "85.0", "80.0–90.0", 85.0, "82.0", "± 1.0", 82.0]  # noqa: RUF001
    assert made.rivals("attack", "em") == [attack("rem"), attack("tap")] and made.rivals("attack", "sem") == []
    assert keys_of([defense("at"), defense("at(epsilon=4/255)")])[defense("at(epsilon=4/255)")] == "at.at-4-255"


@pytest.mark.parametrize("kind", ["attack", "defense"])
def test_pages_offer_the_comparison(kind):
    """From a method to two of them in one click."""
    name, other = {"attack": ("em", "rem"), "defense": ("jpeg", "grayscale")}[kind]
    assert f'href="compare.html#a={name}&amp;b={other}"' in page(kind, name)
