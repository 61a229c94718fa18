"""The start page's question: which results are of one method, what is a worst case, and who has a rank."""

from dataclasses import replace

import pytest

from unlearnable_bench.leaderboard.pages.changelog import moved_numbers
from unlearnable_bench.leaderboard.pages.start import NEAR, Chip, Number, Start, chips
from unlearnable_bench.leaderboard.tables.evidence import Result
from unlearnable_bench.leaderboard.tables.methods import StatedBudget, as_printed, budget_of, method_of
from unlearnable_bench.leaderboard.tables.worst_case import PairOutcome, Ranking, is_rival
from unlearnable_bench.registry import ATTACKS, resolve
from unlearnable_bench.results.cells import CellMaker

MAKER = CellMaker(resolve)


def attack(spec):
    return method_of("attack", MAKER.parts("attacks", spec))


def defense(spec):
    return method_of("defense", MAKER.parts("defenses", spec))


def result(one, other, value, source="paper-a", half_width=None):
    reach = half_width or 0.0
    bounds = value - reach, value + reach
    theirs = as_printed(defense(other)) if source else defense(other)
    return Result(attack(one), theirs, source, f"{source}/table-1", value, *bounds, one, half_width is not None)


@pytest.mark.parametrize("name", [name for name in ATTACKS if not ATTACKS.entry(name).facts.get("chained")])
def test_the_budget_is_known_without_importing_the_attack(name):
    """The site is rendered where torch is not installed."""
    (part,) = resolve("attacks", name)
    promised = part.build().budget
    known = budget_of(part)
    assert known.norm == promised.norm
    assert promised.norm == "none" or known.epsilon == promised.epsilon


def test_budgets_are_written_as_the_field_writes_them():
    """`8/255` of l2 is no bound on pixels."""
    assert attack("em").budget.text == "ℓ∞ 8/255"
    assert attack("lsp").budget.text == "ℓ2 1.30"
    assert attack("ops").budget.text == "ℓ0 1 pixel"
    assert attack("ops-em").budget.text == "unbounded"
    assert StatedBudget("l0", 3).text == "ℓ0 3 pixels"


def test_code_and_effort_make_no_other_method_and_ablations_are_none():
    """A reader asks how EM stands, whoever's code ran and however many steps were affordable."""
    assert attack("em(variant=apb,surrogate=resnet9,max_rounds=18,seed=0)") == attack("em")
    assert attack("em(epsilon=16/255)") != attack("em")
    assert attack("em(augment=cg)") is None
    assert attack("lsp+swap") is None
    assert defense("at(epsilon=8/255,step_size=2/255)") == defense("at")
    assert defense("at(epsilon=4/255)") != defense("at")
    assert defense("jpeg+grayscale") is None


def test_the_worst_case_is_the_median_over_papers_of_the_best_defense():
    """A paper that prints a value in two tables counts once."""
    printed = [
        result("em", "none", 20.0),
        result("em", "jpeg", 80.0),
        result("em", "jpeg", 80.0),
        result("em", "jpeg", 90.0, "paper-b"),
        result("em", "grayscale", 84.0),
    ]
    (row,) = Ranking.of("attack", printed).rows
    method, outcome = row.worst(is_rival)
    assert (method.label, outcome.value, outcome.low, outcome.high) == ("JPEG 10", 85.0, 80.0, 90.0)
    assert row.plain.value == 20.0 and outcome.is_contested


def test_papers_that_print_one_value_have_no_range():
    """`88.6` says all that `88.6–88.6` says."""  # noqa: RUF002
    for low, high, range_ in ((88.6, 88.6, ""), (80.0, 88.6, "80.0–88.6")):  # noqa: RUF001
        outcome = PairOutcome((result("em", "jpeg", low), result("em", "jpeg", high, "paper-b")))
        assert Number.of(outcome, 100.0, lambda one: (one.source, "x.html")).range == range_
    twice = PairOutcome((result("em", "jpeg", 80.0), result("em", "jpeg", 88.6)))  # in two tables of one paper
    assert Number.of(twice, 100.0, lambda one: (one.source, "x.html")).range == ""


def test_oracles_and_defenses_with_needs_are_nobodys_worst_case():
    """A victim who has clean data, or who may choose by the test set, is no measure of an attack."""
    printed = [result("em", "jpeg", 50.0), result("em", "iss", 95.0), result("em", "le", 96.0)]
    (row,) = Ranking.of("attack", printed).rows
    assert row.worst(is_rival)[0].label == "JPEG 10"


def test_a_rank_is_one_more_than_the_rivals_that_lie_wholly_on_the_better_side():
    """Within one class of budgets; one paper gives a value and no rank; a missing column leaves a row unranked."""
    columns = [defense("jpeg"), defense("bdr")]
    printed = []
    for spec, low, high in (("em", 80, 84), ("rem", 83, 86), ("tap", 85, 90), ("lsp", 10, 12)):
        for value, source in ((low, "paper-a"), (high, "paper-b")):
            printed += [result(spec, "jpeg", value, source), result(spec, "bdr", 20.0, source)]
    printed += [result("sem", "jpeg", 30.0), result("sem", "bdr", 31.0)]  # one paper
    printed += [result("hypo", "jpeg", 30.0), result("hypo", "jpeg", 35.0, "paper-b")]  # lacks a column
    rows = {row.method.label: row for row in Ranking.of("attack", printed, columns).rows}
    assert {name: row.rank for name, row in rows.items()} == {
        **{"EM": 1, "REM": 1, "TAP": 2, "LSP": 1},
        **{"SEM": None, "HYPO": None},
    }
    assert rows["HYPO"].missing == ("BDR 2 bits",)
    assert list(rows)[-2:] == ["SEM", "HYPO"], "the unranked stand below, the strongest first"


def test_ours_are_ranked_by_what_seeds_leave_open_and_never_with_papers():
    """A defense is better with a higher worst case."""
    ours = [
        result(spec, name, value, "", half_width=1.0)
        for name, values in {"jpeg": (80, 70), "grayscale": (71.5, 90), "bdr": (60, 50)}.items()
        for spec, value in zip(("em", "lsp"), values, strict=True)
    ]
    rows = {row.method.label: row.rank for row in Ranking.of("defense", ours).rows}
    assert rows == {"Grayscale": 1, "JPEG 10": 1, "BDR 2 bits": 3}
    without = [result(spec, "jpeg", 80.0, "") for spec in ("em", "lsp")]
    assert [row.rank for row in Ranking.of("defense", without).rows] == [None]


def start(network, printed):
    pages = {"paper-a/table-1": ("A", "a.html"), "paper-b/table-1": ("B", "b.html")}
    return Start("cifar10", network, network == "resnet18", printed, [], pages, {"attack": (), "defense": ()})


def test_the_answer_counts_the_attacks_that_some_defense_undoes():
    """The first sentence of the site is computed."""
    printed = [
        result("none", "none", 94.0),
        result("em", "jpeg", 94.0 - NEAR),
        result("sem", "jpeg", 30.0),
        result("sem", "at", 40.0),
    ]
    page = start("resnet18", printed)
    assert page.answer.startswith("On CIFAR-10 with ResNet-18, 1 of 2 published attacks are undone by some defense")
    assert page.answer.endswith("holds best, at 40.0 % under AT 8/255.")
    assert "2 attacks × 2 defenses · 4 published results of 1 paper" in page.counts  # noqa: RUF001


def test_chips_keep_the_other_choice_where_it_is_there():
    """A reader who goes to another network stays on the dataset."""
    first, second = start("resnet18", []), start("resnet50", [])
    made = chips(first, [first, second])
    assert made["Network"] == [Chip("ResNet-18", "index.html", True), Chip("ResNet-50", second.file, False)]
    assert [chip.text for chip in made["Dataset"]] == ["CIFAR-10"]


def test_what_we_trained_ourselves_is_not_the_method_of_a_paper():
    """AVATAR and JCDP with networks of ours are rows of their own, beside those of the papers' weights."""
    ours, theirs = defense("avatar"), as_printed(defense("avatar"))
    assert (ours.label, theirs.label) == ("AVATAR, self-trained", "AVATAR") and ours != theirs
    assert as_printed(defense("jpeg")) == defense("jpeg")


def test_with_everything_counted_an_oracle_or_a_defense_with_needs_may_be_the_worst_case():
    """A column of its own, which readers choose."""
    printed = [result("em", "none", 20.0), result("em", "jpeg", 50.0), result("em", "le", 96.0)]
    (line,) = start("resnet18", printed).view("attack").lines
    assert (line.published.against, line.published.worst.text) == ("JPEG 10", "50.0")
    assert (line.published.free_against, line.published.free.text) == ("JCDP", "96.0")
    (le,) = [line for line in start("resnet18", printed).view("defense").lines if line.needs]
    assert le.needs == ["weights"]


def test_rows_know_their_place_in_the_order_of_ours():
    """Those that were not measured here come behind, in the order of the papers."""
    printed = [result(spec, "jpeg", value) for spec, value in (("em", 50.0), ("rem", 60.0), ("sem", 70.0))]
    page = start("resnet18", printed)
    ours = [result("sem", "jpeg", 40.0, "", half_width=1.0), result("rem", "jpeg", 45.0, "", half_width=1.0)]
    page = replace(page, ours=ours, pages={**page.pages, "/table-1": ("measured here", "cifar10.html")})
    places = {line.method.label: line.place_of_ours for line in page.view("attack").lines}
    assert places == {"SEM": 0, "REM": 1, "EM": 2}


def test_a_plot_needs_three_defenses_with_both_accuracies():
    """Two points are no front."""
    printed = []
    for place, spec in enumerate(("jpeg", "bdr", "grayscale")):
        printed += [result("none", spec, 80.0 + place), result("em", spec, 70.0 - place)]
    assert start("resnet18", printed[:4]).plot() is None
    assert "JPEG 10" in start("resnet18", printed).plot()


def test_what_moved_lately_is_read_from_the_changelog():
    """The first three entries, as links to the page of all changes promise."""
    points = "\n".join(f"- Number {number} moved." for number in range(4))
    assert moved_numbers(f"# Changelog\n\n### Added\n\n- New.\n\n### Moved numbers\n\n{points}\n") == [
        f"Number {number} moved." for number in range(3)
    ]
    assert moved_numbers("# Changelog\n") == []
