"""How well the fast recipe predicts the papers: what a pair is, what the coefficients are, and that nothing is mixed."""

import re
from xml.etree import ElementTree

import html5lib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from tables import with_fields
from test_leaderboard import record

from unlearnable_bench.leaderboard.formats import figures
from unlearnable_bench.leaderboard.formats.figures import Compared
from unlearnable_bench.leaderboard.formats.pdf import pdf
from unlearnable_bench.leaderboard.formats.svg import LETTER
from unlearnable_bench.leaderboard.pages.prediction import GRID, SEEN, Prediction, rule, written
from unlearnable_bench.leaderboard.pages.site import Site
from unlearnable_bench.leaderboard.tables import agreement, correlation, pairing
from unlearnable_bench.leaderboard.tables.measured import grid_table
from unlearnable_bench.leaderboard.tables.pairing import EFFORT, IMPLIED, defense_method, method
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.registry import ATTACKS, PROTOCOLS, lacking, resolve
from unlearnable_bench.results import Grid, Records, TableFile, read_grid, read_table
from unlearnable_bench.results.reference import paper_tables, source

EM = "em(variant=apb,surrogate=resnet9,max_rounds=18,seed=0)"
TAP = "tap(surrogate=resnet9,epochs=10,steps=20,step_size=0.8/255,restarts=1,seed=0)"
ATTACKS_OF_TABLE = ["none", "lsp", "ops", "ar", "regions-4", "random-noise(kind=class)", "em(seed=0)", EM, TAP]
DEFENSES_OF_TABLE = ["none", "grayscale", "jpeg(quality=10)", "bdr", "ortho-proj", "cutout", "median-filter", "cutmix"]
TABLE = TableFile(
    title="All of CIFAR-10",
    protocol=["fast"],
    dataset=["cifar10"],
    architecture=["resnet9"],
    attack=ATTACKS_OF_TABLE,
    defense=DEFENSES_OF_TABLE,
    seed=[0],
)
FULL = read_grid("full")
VERSIONS = {f"attack:{name}": str(ATTACKS.entry(name).version) for name in ("none", "em", "tap")}


def predicted(records, table=TABLE):
    return Prediction.of(grid_table(Grid.of(table), records, GRID, resolve), FULL.requests)


def fill(records, table=TABLE, off=lambda pair: 0.0):
    """Records whose accuracies are the published medians, moved by `off` points."""
    for pair in predicted(records, table).pairs:
        (run,) = pair.score.runs
        versions = {key: version for key, version in VERSIONS.items() if key.endswith(f":{run.cell.attack[0].name}")}
        records.write(record(run.cell, min(99.0, max(1.0, pair.median + off(pair))) / 100, versions=versions))
    return predicted(records, table)


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path)


def pair_of(made, attack, defense):
    return next((pair for pair in made.pairs if (pair.attack, pair.defense) == (attack, defense)), None)


# Coefficients

NUMBERS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=12)


@given(NUMBERS)
def test_rank_correlations_are_scipys_ties_included(points):
    """Against a second opinion; where one side is the same everywhere there is no order, and so no number."""
    ours, theirs = zip(*points, strict=True)
    for statistic, other in ((correlation.spearman_of_lines, spearmanr), (correlation.kendall_of_lines, kendalltau)):
        found = correlation._one(statistic, ours, theirs)
        if len(set(ours)) < 2 or len(set(theirs)) < 2:
            assert found is None
        else:
            assert found == pytest.approx(other(ours, theirs).statistic)


def test_an_interval_is_the_same_each_time_and_narrows_with_more_pairs():
    """A page must not change because it was made anew; few pairs tell little, and must look like it."""
    few, many = ([(n * 7 % 11) + n / 3 for n in range(count)] for count in (6, 60))
    short = correlation.coefficient(correlation.spearman_of_lines, few, range(6))
    long = correlation.coefficient(correlation.spearman_of_lines, many, range(60))
    assert short == correlation.coefficient(correlation.spearman_of_lines, few, range(6))
    assert short.low < short.value < short.high and long.high - long.low < short.high - short.low
    assert short.pairs == 6 and short.low >= -1 and short.high <= 1


# Pairs


def test_the_first_attacks_and_defenses_have_53_pairs_none_of_them_of_an_attack_that_no_paper_ran(records):
    """Of em the papers that do not say which code they ran count for the variant of the text; APBench has its own."""
    made = predicted(records)
    rows = grid_table(Grid.of(TABLE), records, GRID, resolve).rows
    count = {attack: sum(pair.attack == attack for pair in made.pairs) for (attack,) in rows}
    assert list(count.values()) == [5, 7, 7, 7, 2, 6, 6, 6, 7]


@pytest.mark.parametrize(
    ("attack", "same"),
    [
        ("tap(surrogate=vgg11,steps=3,step_size=1/255,batch=9)", True),
        ("tap(seed=7)", True),
        ("tap(epsilon=4/255)", False),
        ("tap(variant=rem)", False),
        ("tap(targeted=false)", False),
        ("hypo", False),
    ],
)
def test_an_attack_is_the_same_but_for_its_seed_and_the_effort_of_its_search(attack, same):
    """Another budget or another author's code is another attack; a shorter search is a worse poison of the same one."""
    assert (method(pairing.CellMaker(resolve).parts("attacks", attack), EFFORT) == tap()) == same


def tap():
    return method(pairing.CellMaker(resolve).parts("attacks", "tap"), EFFORT)


def test_an_attack_made_from_another_one_is_the_same_if_that_one_is():
    """`ops-em` names the attack whose noise it adds to; a cheaper surrogate there is effort, another noise is not."""
    of = {item: method(pairing.CellMaker(resolve).parts("attacks", f"ops-em(noise={item})"), EFFORT) for item in NOISES}
    assert of["em-class"] == of["em-class(surrogate=vgg11)"] != of["random-noise"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("at(epsilon=8/255)", "at(epsilon=8/255,step_size=2/255,begin=gaussian)", True),
        ("at(epsilon=8/255)", "at(epsilon=8/255,steps=3)", False),
        ("ueraser(mode=max)", "ueraser(mode=max,epochs=200,lr=0.01,schedule=constant)", True),
        ("ueraser(mode=max)", "ueraser(mode=max,copies=3)", False),
        ("lfu", "lfu(recipe=released)", True),
        ("lfu", "lfu(epochs=5)", False),
    ],
)
def test_a_defense_is_the_same_whatever_recipe_its_authors_trained_by(one, other, same):
    """The length of a training and its rates are the protocol's; `epochs` of lfu are those of its linear model."""
    parts = pairing.CellMaker(resolve).parts
    assert (defense_method(parts("defenses", one)) == defense_method(parts("defenses", other))) == same


NOISES = ("em-class", "em-class(surrogate=vgg11)", "random-noise")


@pytest.mark.parametrize(
    "defense", ["jpeg(quality=30)", "bdr(bits=3)", "cutout(size=8)", "ortho-proj(epochs=5)", "cutmix(mixes=2)"]
)
def test_a_defense_with_another_parameter_is_another_defense(records, defense):
    """What helps at one strength may not at another."""
    table = with_fields(TABLE, attack=["tap(seed=0)"], defense=[defense])
    assert not predicted(records, table).pairs


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": ["fast@0.5"]},
        {"protocol": ["fast(batch=8)"]},
        {"architecture": ["resnet18"]},
        {"dataset": ["cifar10(per_class=9)"]},
        {"ratio": [0.8]},
        {"defense": ["avatar"]},  # with weights of ours
    ],
)
def test_a_place_that_was_trained_otherwise_has_no_pair(records, change):
    """The page says what our side is; a scaled recipe or a part of the data is not that."""
    assert not predicted(records, with_fields(TABLE, **{"attack": ["lsp"]} | change)).pairs


def test_a_paper_counts_once_for_a_value_that_it_prints_in_several_tables(records):
    """D-VAE repeats a column in three tables; its weight in the median must not be three."""
    pair = pair_of(predicted(records), "ops", "jpeg")
    assert len(pair.published) == 4 and pair.values == [77.33, 78.48] and pair.median == pytest.approx(77.905)
    assert pair.papers == ["d-vae", "apbench"]


def test_values_that_their_paper_contradicts_and_best_epochs_are_left_out():
    """A doubtful digit would be blamed on the recipe."""
    known = pairing.published_accuracies(FULL.requests)
    values = {(one.table, one.value) for several in known.values() for one in several}
    assert ("transferable-unlearnable/table-4", 19.23) not in values, "marked suspect"
    assert ("d-vae/table-13", 67.61) not in values, "the best epoch"
    assert ("d-vae/table-2", 49.14) in values


# Effort


def test_what_a_zero_stands_for_is_what_the_attack_does():
    """`0` takes the variant's value; a poison with the paper's steps written out has not fewer of them."""
    for variant in ("paper", "apb", "tue"):
        plan = ATTACKS["em"](variant=variant).rounds(50_000)
        for name in ("weight_steps", "noise_steps"):
            assert implied("em", name, variant) == getattr(plan, name)
    assert implied("em", "noise_steps", "rem") == ATTACKS["em"](variant="rem").alternation().noise_steps
    assert implied("rem", "noise_steps", "paper") == ATTACKS["rem"]().alternation().noise_steps
    assert implied("rem", "noise_steps", "apb") == ATTACKS["rem"](variant="apb").rounds().noise_steps


def implied(attack, field, variant):
    return IMPLIED[attack, field].get(variant, IMPLIED[attack, field][""])


def test_fewer_steps_and_another_surrogate_are_told_from_the_specs(records):
    """The third coefficient leaves out what was searched for with fewer steps; nobody has to remember which that is."""
    made = predicted(records)
    of = {pair.attack: pair for pair in made.pairs if pair.defense == "none"}
    shorter = next(pair for attack, pair in of.items() if attack.startswith("tap"))
    assert shorter.fewer_steps == ["epochs 10 of 40", "steps 20 of 250", "restarts 1 of 8"]
    assert shorter.other_surrogate == "resnet9" and not of["lsp"].fewer_steps and not of["lsp"].other_surrogate
    written_out = with_fields(TABLE, attack=["tap(epochs=40,steps=250,restarts=8,seed=0)"])
    assert not any(pair.fewer_steps for pair in predicted(records, written_out).pairs)


@pytest.mark.parametrize(("rounds", "fewer"), [(17.0, []), (18.0, ["max_rounds 18 of 50"])])
def test_a_limit_of_rounds_is_fewer_steps_only_where_it_was_met(records, rounds, fewer):
    """The search of em ends when its surrogate is fooled; a limit that it did not need took nothing from it."""
    table = with_fields(TABLE, attack=[EM], defense=["none"])
    (pair,) = predicted(records, table).pairs
    cell = pair.score.runs[0].cell
    noted = record(cell, versions=VERSIONS)
    records.write(noted.model_copy(update={"poison": noted.poison.model_copy(update={"notes": {"rounds": rounds}})}))
    assert predicted(records, table).pairs[0].fewer_steps == fewer


# What is told


def test_coefficients_are_those_of_the_pairs_and_of_the_parts_that_are_named(records):
    """Recomputed from the numbers of the table by another library."""
    made = fill(records, off=lambda pair: (len(pair.attack) * 7 + len(pair.defense) * 5) % 23 - 8)
    rows = made.rows
    every, unseen, whole = made.selections
    assert every.rho.value == pytest.approx(spearmanr([row["ours"] for row in rows], [row["median"] for row in rows]).statistic)
    assert (every.pairs, unseen.pairs) == (53, 13) and whole.pairs == sum("fewer" not in row["effort"] for row in rows) == 40
    lines = {line.label: line.tau for line in made.lines}
    assert "attack none" in lines and "defense none" in lines and "attack regions-4" not in lines
    bdr = [row for row in rows if row["defense"] == "bdr"]
    expected = kendalltau([row["ours"] for row in bdr], [row["median"] for row in bdr]).statistic
    assert lines["defense bdr"].value == pytest.approx(expected) and lines["defense bdr"].pairs == len(bdr)
    assert f"correlation over them is {written(every.rho)}" in made.paragraph[1]


def test_the_verdict_says_whether_there_are_enough_pairs(records):
    """0.85 over nine pairs is no success."""
    assert fill(records).paragraph[2] == "The aim, 0.85 over at least 30 pairs, is met."
    few = with_fields(TABLE, attack=["none", "lsp"])
    assert "with fewer pairs the figure stands for these alone" in predicted(records, few).paragraph[2]
    assert predicted(records, few).selections[1].pairs == 5


def test_nothing_measured_is_said_and_draws_nothing(records):
    """The page is there before the numbers are."""
    made = predicted(records)
    assert made.paragraph == [
        "0 of 53 pairs of attack and defense that papers print are measured.",
        "That is too few to compare an order.",
    ]
    assert made.figure is None and made.markdown("x.svg").count("\n") == 1 and "| attack |" in rule()


def test_numbers_of_an_earlier_version_are_not_compared(records):
    """They are about to be measured again."""
    (pair,) = predicted(records, with_fields(TABLE, attack=["lsp"], defense=["none"])).pairs
    records.write(record(pair.score.runs[0].cell, 0.2, versions={"attack:lsp": "0"}))
    assert not predicted(records).measured


# Never mixed with papers


def test_no_number_of_the_fast_recipe_stands_in_a_papers_table(records):
    """Sheets, `bench compare` and claims look for cells of papers' recipes, and take neither this nor a scaled one instead."""
    fill(records)
    full = agreement.compare_grid(FULL, records)
    assert full["overall"]["measured"] == full["overall"]["reduced"] == 0 and not full["deviations"]
    for sheet in printed_tables(FULL, records, resolve, lacking):
        assert not any(spot.records or spot.marks for spot in sheet.scores.values()), sheet.name


def test_every_table_of_a_paper_is_run_by_a_recipe_of_a_paper():
    """A recipe of ours in such a table would be judged by the paper's tolerance."""
    for name in paper_tables():
        for place in read_table(name).requests():
            protocol = str(place.fields["protocol"]).partition("(")[0].partition("@")[0]
            assert PROTOCOLS.entry(protocol).paper is not None, f"{name}: {protocol}"
    assert PROTOCOLS.entry("fast").paper is None


# The page and the figure


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The files of a site with everything measured, and with nothing."""
    records = Records(tmp_path_factory.mktemp("records"))
    empty = grid_table(Grid.of(TABLE), records, GRID, resolve)
    made = fill(records, off=lambda pair: len(pair.attack) % 7)
    shown = [grid_table(Grid.of(TABLE), records, GRID, resolve)]
    printed = printed_tables(FULL, records, resolve, lacking)
    return made, Site([*shown, *printed]).files(), Site([empty, *printed]).files()


def test_the_page_has_every_pair_with_its_papers_and_is_linked_from_the_board_and_from_reproduction(site):
    """A number without its source is none."""
    made, files, _ = site
    page = files["prediction.html"]
    html5lib.HTMLParser(strict=True).parse(page)
    body = page[page.index("<body") :]
    rows = re.findall(r'<tr><td class="num" data-v="(\d+)">', body)
    assert rows == [str(number) for number in range(1, len(made.measured) + 1)] and len(rows) == 53
    for paper in {name for pair in made.pairs for name in pair.papers}:
        assert re.search(rf'<a href="{paper}\.table-[^"]+\.html">{re.escape(source(paper).short)}</a>', body)
    assert all(link in files for link in re.findall(r'href="([^"#:]+\.(?:html|svg|pdf))"', body))
    assert "<style" not in body and body.count("<script") == 1
    hints = [files[name] for name in (f"{GRID}.html", f"{GRID}.defenses.html")]
    assert all('<p class="hint"><a href="prediction.html">' in text for text in hints)
    assert '<li><a href="prediction.html"' in files["reproduction.html"]
    assert all('<li><a href="reproduction.html"' in text for name, text in files.items() if name.endswith(".html"))


def test_the_page_without_numbers_says_so(site):
    """And has no figure."""
    _, _, files = site
    assert "0 of 53 pairs" in files["prediction.html"] and "<svg" not in files["prediction.html"]
    assert "This report has no table of the fast recipe" in Site([]).files()["prediction.html"]
    assert "prediction.svg" not in files and "What counts as a pair" in files["prediction.html"]


def test_the_figure_has_a_labeled_point_for_every_pair_in_both_colour_schemes(site):
    """Numbers lead from the figure to the table; attacks that were looked at are hollow, not only of another colour."""
    made, files, _ = site
    drawn = ElementTree.fromstring(files["prediction.svg"])  # noqa: S314  (ours)
    space = "{http://www.w3.org/2000/svg}"
    dots = drawn.findall(f"{space}circle")[:-2]
    names = [text.text for text in drawn.findall(f"{space}text") if text.get("class") == "name"]
    assert len(dots) == len(names) == 53 and names == [str(number) for number in range(1, 54)]
    titles = [dot.find(f"{space}title").text for dot in dots]
    assert titles[0] == "1: none / none" and all("ring" in dot.get("class") for dot in dots[5:26])
    assert sum("ring" in dot.get("class") for dot in dots) == sum(bool(pair.names & SEEN) for pair in made.measured)
    assert "prefers-color-scheme: dark" in files["prediction.svg"] and files["prediction.pdf"].startswith(b"%PDF")


@given(values=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=60))
def test_labels_of_points_touch_neither_points_nor_each_other(values):
    """Half of all pairs lie in one corner, where the poison works."""
    points = [Compared(str(n), "x", x / 100, x / 100, x / 100, y / 100) for n, (x, y) in enumerate(values)]
    text = figures.facing("t", "a", "u", points, "full", "hollow")
    labels = re.findall(r'<text class="name" x="([\d.]+)" y="([\d.]+)">(\d+)<', text)
    boxes = [(float(x), float(y) - 11, float(x) + LETTER * len(t), float(y) + 3) for x, y, t in labels]
    dots = [
        (float(x) - 4, float(y) - 4, float(x) + 4, float(y) + 4) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', text)
    ]
    for number, box in enumerate(boxes):
        for other in [*boxes[number + 1 :], *dots]:
            assert box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1]
    assert pdf(text).startswith(b"%PDF")
