"""Printed tables with records: ours beside the paper's, verdicts with their tolerance, every format, agreement."""

import csv
import io
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from statistics import fmean, stdev

import pytest
from conftest import in_process
from markdown_it import MarkdownIt
from scipy.stats import kendalltau, t
from tables import with_fields

from unlearnable_bench.leaderboard.formats import comparison
from unlearnable_bench.leaderboard.formats import text as formats
from unlearnable_bench.leaderboard.formats.view import view
from unlearnable_bench.leaderboard.formats.words import measured_value
from unlearnable_bench.leaderboard.pages import build, printed
from unlearnable_bench.leaderboard.pages.site import Site
from unlearnable_bench.leaderboard.pages.start import OwnTables, starts
from unlearnable_bench.leaderboard.tables import agreement
from unlearnable_bench.leaderboard.tables.measured import grid_table
from unlearnable_bench.leaderboard.tables.printed import printed_tables, tidy_rows
from unlearnable_bench.leaderboard.tables.table import Table, slug_of
from unlearnable_bench.leaderboard.tables.verdict import (
    ALIKE,
    DEVIATES,
    ILLEGIBLE,
    INCOMPARABLE,
    INCONSISTENT,
    REDUCED,
    UNJUDGED,
    UNMEASURED,
    WITHIN,
)
from unlearnable_bench.registry import ATTACKS, lacking, resolve
from unlearnable_bench.results import Grid, Record, Records, read_grid, read_table
from unlearnable_bench.results.cells import RequestedCells
from unlearnable_bench.results.record import Curve, Failure, Metrics
from unlearnable_bench.results.reference import Printed
from unlearnable_bench.results.table_file import table_names
from unlearnable_bench.results.tidy import TIDY_COLUMNS

TABLE = "d-vae/table-2"
OFFSETS = {0: 0.00, 1: 0.01, 2: 0.02}  # by seed: each place has a deviation of one point


def record(cell, accuracy: float, **changes) -> Record:
    best = min(1.0, accuracy + 0.1)
    metrics = Metrics(test_acc=accuracy, test_acc_best=best, curve=Curve(test_acc=[best, accuracy]))
    fields = {"id": cell.id, "cell": cell, "metrics": metrics, "seconds": {"purify": 600.0, "train": 3000.0, "craft": 7200.0}}
    return Record(**fields | changes)


def measure(records: Records, grid: Grid, off: float = 0.0, step: float = 1.0) -> None:
    """Write records for all cells of a grid that can be run: the paper's value, `off` points besides, and steps per seed."""
    for one in grid.requested_cells(resolve, lacking):
        value = one.request.printed.value if one.request.printed and one.request.printed.value is not None else 50.0
        for cell in one.cells:
            accuracy = value / one.request.unit + off / 100 + step * (OFFSETS[cell.seed] - 0.01)
            records.write(record(cell, min(1.0, max(0.0, accuracy))))


def chosen(name: str = TABLE, **wishes) -> Grid:
    return read_grid(name).selected({axis: [value] for axis, value in wishes.items()}, resolve)


def runnable(grid: Grid) -> int:
    """How many places that can be run here, with no more than the data, have a number of the paper."""
    return numbered(judged(grid))


def numbered(wanted: list[RequestedCells]) -> int:
    """How many of the places have a number of the paper."""
    places = [one.request for one in wanted]
    assert places
    return sum(place.printed is not None and place.printed.value is not None for place in places)


def beyond_doubt(wanted: list[RequestedCells]) -> int:
    """How many of the places have a number of the paper that is neither inferred nor contradicted."""
    return numbered([one for one in wanted if one.request.printed is not None and one.request.printed.quality == "ok"])


def judged(grid: Grid) -> list[RequestedCells]:
    """The places that are run as in the paper: those that want weights from elsewhere run with weights of our own."""
    wanted = grid.requested_cells(resolve, lacking)
    return [one for one in wanted if one.cells and "selftrained" not in one.cells[0].texts["defense"]]


def sheet(records: Records, name: str = TABLE, grid: Grid | None = None) -> Table:
    return next(one for one in printed_tables(grid or read_grid(name), records, resolve, lacking) if one.name == name)


def spot(made: Table, row, column):
    row, column = ((label,) if isinstance(label, str) else label for label in (row, column))
    return made.scores[row, column]


@pytest.fixture
def records(tmp_path) -> Records:
    folder = tmp_path / "results" / "records"
    folder.mkdir(parents=True)
    return Records(folder)


@pytest.fixture
def without_ntga(monkeypatch):
    """NTGA as an attack that is not installed."""
    monkeypatch.setattr(ATTACKS, "rows", tuple(row for row in ATTACKS.rows if row.name != "ntga"))


# Ours beside the paper's


def test_ours_is_the_mean_over_seeds_in_the_unit_of_the_table(records):
    """Percent beside percent, with sample deviation and number of seeds."""
    measure(records, chosen(), off=0.5)
    one = spot(sheet(records), "OPS", "JPEG")
    assert one.mean == pytest.approx(77.33 + 0.5) and one.std == pytest.approx(1.0) and one.n == 3
    assert one.difference == pytest.approx(0.5) and one.state == "done" and len(one.records) == 3


def test_a_seed_that_was_added_counts_in_a_printed_table(records):
    """Four seeds of one place, three of the others: the mean is over what was measured."""
    measure(records, chosen())
    wanted = next(one for one in chosen(attack="OPS", defense="JPEG").requested_cells(resolve, lacking))
    records.write(record(wanted.cells[0].model_copy(update={"seed": 7}), 0.5))
    made = sheet(records)
    assert list(spot(made, "OPS", "JPEG").per_seed) == [0, 1, 2, 7] and spot(made, "OPS", "JPEG").state == "done"
    assert spot(made, "OPS", "w/o").n == 3


def test_fractions_stay_fractions(tmp_path):
    """Tables 8 and 11 print 0.1009 where others print 10.09."""
    grid = read_grid("d-vae/table-8")
    place = next(place for place in grid.requests if place.labels["measure"] == "Test Acc.")
    assert place.unit == 1.0 and place.printed.value == 0.1009


@pytest.mark.usefixtures("without_ntga")
def test_an_unmeasured_place_says_why(records):
    """Not run, not available, failed: three different things to do."""
    made = sheet(records)
    assert spot(made, "OPS", "JPEG").state == "missing"
    assert spot(made, "NTGA", "JPEG").reason == "not available: attack ntga"
    cell = next(one.cells[0] for one in chosen(attack="ops", defense="none").requested_cells(resolve, lacking))
    records.fail(Failure(id=cell.id, cell=cell, kind="diverged", message="loss is not finite"))
    assert spot(sheet(records), "OPS", "w/o").reason == "diverged: loss is not finite"


def test_a_partial_place_says_how_many_seeds(records):
    """One of three seeds is a number, but not yet the table's."""
    measure(records, chosen(seed="1"))
    one = spot(sheet(records), "OPS", "JPEG")
    assert (one.state, one.n, one.std, one.reason) == ("partial", 1, None, "1 of 3 seeds; seed 0 not run yet")


def test_a_mean_over_attacks_needs_all_of_them_and_leaves_clean_training_out(records):
    """By seed: a mean of numbers of different seeds would have no spread of its own."""
    grid = Grid.of(with_fields(read_table(TABLE), attack=[
        {"label": "Clean", "attack": "none"}, {"label": "A", "attack": "ops(seed=0)"}, {"label": "B", "attack": "ar(seed=0)"},
        {"label": "Mean", "attack": "mean", "aggregate": "mean"},
    ], defense=["none", {"label": "Gray", "defense": "grayscale"}], marks={}))  # fmt: skip
    for one in grid.requested_cells(resolve, lacking):
        base = {"Clean": 0.9, "A": 0.2, "B": 0.4}[one.request.labels["attack"]]
        for cell in one.cells[: 3 if one.request.labels["defense"] == "none" else 2]:
            records.write(record(cell, base + cell.seed / 100))
    made = printed_tables(grid, records, resolve, lacking)[0]
    mean = spot(made, "Mean", "none")
    assert mean.per_seed == pytest.approx({0: 30.0, 1: 31.0, 2: 32.0}) and mean.std == pytest.approx(1.0)
    assert spot(made, "Mean", "Gray").n == 2 and spot(made, "Mean", "none").request.aggregate is not None


def test_times_come_from_the_seconds_of_records(records):
    """Table II prints hours of purifying and training, averaged over networks; crafting is not the trainer's."""
    name = "progressive-staged-training/table-ii"
    measure(records, chosen(name, attack="none", defense="none"))
    made = sheet(records, name)
    assert spot(made, ("Clean", "NT"), "Avg. Time (h)").mean == pytest.approx(1.0)
    assert spot(made, ("Clean", "NT"), "Avg. Acc. (%)").mean == pytest.approx(93.195, abs=0.01)


def test_the_best_epoch_is_told_from_the_last(records):
    """Table 13 prints the best epoch of UEraser, table 2 the last one: one cell, two numbers of its record."""
    two, thirteen = read_table("d-vae/table-2"), read_table("d-vae/table-13")
    metrics = {place.metric for table in (two, thirteen) for place in table.requests() if place.labels["defense"] == "AA"}
    assert metrics == {"test_acc", "test_acc_mean", "test_acc(best)"}
    table = with_fields(thirteen, defense=[{"label": "AA", "defense": "none", "metric": "test_acc(best)"}], marks={})
    measure(records, chosen(attack="none", defense="none"))
    made = printed_tables(Grid.of(table), records, resolve, lacking)[0]
    assert spot(made, "Clean", "AA").mean == pytest.approx(100.0)  # 94.57 + 10 is more than there is


# Verdicts


def test_the_tolerance_is_a_prediction_interval_from_the_spread_over_seeds(records):
    """Pooled over the table: deviation 1 point everywhere, two degrees of freedom per place; plus half a printed digit."""
    measure(records, chosen(), off=0.5)
    made = sheet(records)
    deviation, freedom = made.spread["test_acc"].deviation, made.spread["test_acc"].freedom
    places = len(judged(read_grid(TABLE)))
    assert deviation == pytest.approx(1.0, abs=0.02) and freedom == 2 * places
    expected = t.ppf(0.975, freedom) * deviation * math.sqrt(1 + 1 / 3) + 0.005
    assert spot(made, "OPS", "JPEG").tolerance == pytest.approx(expected)
    assert f", {freedom} degrees of freedom" in made.tolerances[0]


@pytest.mark.parametrize(("off", "verdict"), [(0.0, WITHIN), (2.0, WITHIN), (3.0, DEVIATES), (-3.0, DEVIATES)])
def test_a_verdict_is_within_tolerance_or_deviates(records, off, verdict):
    """The tolerance is 2.3 points here."""
    measure(records, chosen(), off=off)
    assert spot(sheet(records), "AR", "Gray").verdict == verdict


def test_what_a_paper_contradicts_itself_is_not_held_against_ours(records):
    """A value of which another table of the paper prints something else; and what is not measured."""
    made = sheet(records)
    assert spot(made, "OPS", "Ours").verdict == UNMEASURED and spot(made, "NTGA", "BDR").verdict == ""
    name = "stable-error-minimizing/table-3"
    measure(records, chosen(name, attack="none"), off=20)
    made = sheet(records, name)
    assert spot(made, ("CIFAR-100", "RN-18"), "Clean").verdict == INCONSISTENT
    assert spot(made, ("CIFAR-10", "RN-50"), "Clean").verdict == DEVIATES


def test_what_is_not_legible_is_said_once_and_nothing_is_judged_by_it(records):
    """A value that we had to infer is no value of the paper; and a page does not repeat on every line what is true of all."""
    measure(records, chosen(defense="none"), off=9.0)
    made = sheet(records)
    inferred, read = spot(made, "EM", "w/o"), spot(made, "SEP", "w/o")
    assert (inferred.verdict, inferred.points) == (ILLEGIBLE, None) and (read.verdict, read.points) != (ILLEGIBLE, None)
    for text in (printed.html(made), formats.markdown(made)):
        assert text.count("Not legible in our source") == 1 and "our copy" not in text and "lost" not in text.lower()
    assert '<i title="not legible">?</i>' in printed.html(made)
    assert "Not legible" not in printed.html(sheet(records, "d-vae/table-1"))
    assert [one for one in agreement.compare_tables([made])["deviations"] if one["row"] == ["EM"]] == []


def test_a_page_claims_no_measured_number_where_there_is_none(records):
    """And one degree of freedom is one degree."""
    assert "No number above was measured by Unlearnable Bench" in printed.html(sheet(records))
    measure(records, read_grid(TABLE).selected({"attack": ["ops"], "defense": ["jpeg"], "seed": ["0", "1"]}, resolve))
    made = sheet(records)
    assert "Numbers above were measured by Unlearnable Bench; those in italics" in printed.html(made)
    assert [sentence for sentence in made.tolerances if sentence.endswith(", 1 degree of freedom)")]


def test_one_seed_alone_gives_no_verdict(records):
    """Nothing says how far two runs lie apart."""
    measure(records, chosen(seed="0"))
    assert spot(sheet(records), "OPS", "JPEG").verdict == UNJUDGED


def test_seeds_that_change_nothing_give_no_verdict(records):
    """A deterministic analysis of one poison is alike in all seeds: nothing follows for a difference of 0.03."""
    measure(records, chosen(), step=0.0)
    one = spot(sheet(records), "OPS", "JPEG")
    assert (one.verdict, one.tolerance, one.n) == (ALIKE, None, 3)


def test_what_was_measured_is_coloured_and_what_is_published_is_not(records):
    """On boards a colour is a measured number; so it is here. It ends where clean training does, and can be taken off."""
    measure(records, chosen(defense="jpeg"))
    page = printed.html(sheet(records))
    cells = re.findall(r'<td class="([^"]*)"[^>]*>(?:<a [^>]*>)?([\d.]*)', page)
    measured = [kind for kind, number in cells if number]
    assert measured and all(re.search(r" h\d+$", kind) for kind in measured)
    assert not any(re.search(r" h\d+$", kind) for kind, number in cells if not number)
    assert '<input type="checkbox" class="heat" checked>' in page
    assert 'class="heat"' not in printed.html(sheet(records, "d-vae/table-3"))


# Stand-ins


def test_a_stand_in_counts_with_a_mark(records):
    """CIFAR-10 re-encoded as JPEG is not CIFAR-10: measured, not exact."""
    measure(records, chosen(dataset="cifar10=cifar10-jpeg75"))
    made = sheet(records)
    assert spot(made, "OPS", "JPEG").marks == ("cifar10-jpeg75 instead of cifar10",)
    counts = agreement.compare_grid(read_grid(TABLE), records)["tables"][0]
    own = len([one for one in read_grid(TABLE).requested_cells(resolve, lacking) if one.cells]) - len(judged(read_grid(TABLE)))
    apart = sum(spot.incomparable for spot in made.direct if spot.published is not None)
    assert (counts["measured"], counts["exact"], counts["reduced"]) == (runnable(read_grid(TABLE)) - apart, 0, own)
    page = printed.html(made)
    assert (
        page.count("<dd>cifar10-jpeg75 instead of cifar10</dd>") == 1
        and page.count('href="#condition-1"') >= counts["measured"]
    )
    assert page.count("✓") - 1 + page.count("✗") - 1 == sum(spot.verdict in (WITHIN, DEVIATES) for spot in made.scores.values())
    assert "cifar10-jpeg75 instead of cifar10" in printed.html(made) and "cifar10-jpeg75 instead" in formats.markdown(made)


def test_a_number_on_fewer_test_images_is_reduced(records):
    """It is of another test set than the paper's, and stands in only where nothing is closer."""
    (wanted,) = chosen(attack="OPS", defense="JPEG").requested_cells(resolve, lacking)
    for per_class, accuracy in ((10, 0.1), (100, 0.5)):
        for cell in wanted.cells:
            dataset = cell.dataset.model_copy(update={"fields": {**cell.dataset.fields, "test_per_class": per_class}})
            records.write(record(fewer := cell.model_copy(update={"dataset": dataset}), accuracy, id=fewer.id))
    one = spot(sheet(records), "OPS", "JPEG")
    assert one.marks == ("100 test images per class",) and one.verdict == REDUCED and one.mean == pytest.approx(50.0)
    counts = agreement.compare_named(TABLE, {}, records)["overall"]
    assert (counts["measured"], counts["exact"], counts["reduced"]) == (0, 0, 1)


def test_the_sources_of_a_number_are_the_records_that_have_it(records):
    """A record of an analysis may lack the figure that those of other seeds have."""
    (wanted,) = chosen(attack="OPS", defense="JPEG").requested_cells(resolve, lacking)
    first, *others = wanted.cells
    records.write(record(first, 0.5, metrics=Metrics(figures={"extent": 1.0})))
    for cell in others:
        records.write(record(cell, 0.5))
    sources = view(sheet(records))["sources"]
    assert [(source["seed"], source["id"]) for source in sources] == [(cell.seed, cell.id) for cell in others]


@pytest.mark.parametrize("named", [False, True])
def test_jpeg_on_images_that_are_jpegs_already_is_shown_and_not_compared(records, named):
    """Compressed once more they lose less than the originals: no difference, no verdict, no claim, whoever asks for them."""
    stand_in = chosen(dataset="cifar10=cifar10-jpeg75")
    measure(records, stand_in)
    made = sheet(records, grid=stand_in if named else None)
    one, beside = spot(made, "OPS", "JPEG"), spot(made, "OPS", "Gray")
    assert one.mean is not None and one.verdict == INCOMPARABLE
    assert one.difference is None and one.measured_here is None and one.open
    assert beside.difference is not None and beside.verdict in (WITHIN, DEVIATES) and not beside.open
    assert INCOMPARABLE in printed.html(made) and INCOMPARABLE in formats.markdown(made)
    with_jpeg = {spot.request.fields["defense"] for spot in made.direct if spot.incomparable}
    assert with_jpeg == {"jpeg(quality=10)"}
    assert all(row["ours"] is None for row in tidy_rows([made]) if row["defense"] == "jpeg")
    measure(records, chosen())
    assert spot(sheet(records), "OPS", "JPEG").verdict == WITHIN, "the paper's own data are compared"


def test_a_psnr_of_images_that_are_jpegs_already_is_not_compared(records):
    """Its reference is an image that was compressed before."""
    name = "d-vae/table-17"
    for one in chosen(name, dataset="cifar10=cifar10-jpeg75", attack="PSNR").requested_cells(resolve, lacking):
        for cell in one.cells:
            records.write(record(cell, 0.0, metrics=Metrics(figures={"psnr": 28.0})))
    made = sheet(records, name)
    shown = [spot for spot in made.direct if spot.mean is not None]
    assert len(shown) == 5 and all(spot.verdict == INCOMPARABLE for spot in shown)
    assert agreement.compare_grid(read_grid(name), records)["overall"]["measured"] == 0


def test_a_stand_in_of_an_earlier_version_is_stale(records):
    """What is measured with code of yesterday says so, whatever data it was measured on."""
    (wanted,) = chosen(dataset="cifar10=cifar10-jpeg75", attack="ops", defense="gray*").requested_cells(resolve, lacking)
    for cell in wanted.cells:
        records.write(record(cell, 0.5, versions={"attack:ops": "0"}))
    one = spot(sheet(records), "OPS", "Gray")
    assert one.state == "stale" and one.mean == pytest.approx(50.0) and one.reason.endswith("run it again")
    assert one.marks == ("cifar10-jpeg75 instead of cifar10",)


def test_a_scaled_protocol_counts_as_reduced_and_nowhere_else(records):
    """A tenth of the epochs is another experiment: it shows, but is not judged."""
    measure(records, read_grid(TABLE).scaled(0.1))
    made = sheet(records)
    one = spot(made, "OPS", "JPEG")
    assert one.verdict == REDUCED and one.marks == ("epochs x 0.1",) and one.mean is not None
    counts = agreement.compare_grid(read_grid(TABLE), records)["tables"][0]
    everything = [one for one in read_grid(TABLE).requested_cells(resolve, lacking) if one.cells]
    assert counts["reduced"] == numbered(everything) > runnable(read_grid(TABLE))
    assert (counts["measured"], counts["exact"], counts["within_5"]) == (0, 0, 0)
    assert counts["mean_abs_diff"] is None


def test_the_papers_own_data_win_over_a_stand_in_and_that_over_a_reduced_run(records):
    """One number per place, the closest there is."""
    measure(records, read_grid(TABLE).scaled(0.1), off=30)
    assert spot(sheet(records), "OPS", "Gray").marks == ("epochs x 0.1",)
    measure(records, chosen(dataset="cifar10=cifar10-jpeg75"), off=20)
    assert spot(sheet(records), "OPS", "Gray").marks == ("cifar10-jpeg75 instead of cifar10",)
    measure(records, chosen(), off=10)
    assert spot(sheet(records), "OPS", "Gray").marks == ()
    assert spot(sheet(records), "OPS", "Gray").difference == pytest.approx(10)


def test_a_replaced_axis_is_marked(records):
    """`--architecture vgg16-mlp=resnet18` in `bench run`, and the same words in `bench report`."""
    name, wishes = "stable-error-minimizing/table-3", {"architecture": "vgg16-mlp=resnet18", "attack": "none"}
    measure(records, chosen(name, **wishes))
    assert spot(sheet(records, name), ("CIFAR-10", "VGG-16"), "Clean").mean is None
    made = sheet(records, name, chosen(name, **wishes))
    assert spot(made, ("CIFAR-10", "VGG-16"), "Clean").marks == ("resnet18 instead of vgg16-mlp",)
    found = agreement.compare_grid(chosen(name, **wishes), records)["overall"]
    assert found["measured"] == found["exact"] + 2


# Agreement


def test_agreement_counts_places_within_1_2_and_5_points(records):
    """The keys that scripts rely on."""
    places, measured = {}, 0
    for off, defense in ((0.5, "none"), (1.5, "grayscale"), (4.0, "jpeg"), (9.0, "bdr")):
        measure(records, chosen(defense=defense), off=off)
        measured += runnable(chosen(defense=defense))
        places[off] = beyond_doubt(judged(chosen(defense=defense)))
    found = agreement.compare_named(TABLE, {}, records)
    row = found["tables"][0]
    keys = {"table", "cells", "measured", "exact", "reduced", "within_1", "within_2", "within_5", "mean_abs_diff"}
    assert keys <= set(row) and row["table"] == TABLE and row["cells"] == 100
    assert row["measured"] == row["exact"] == found["papers"][0]["measured"] == measured
    assert [row[f"within_{k}"] for k in (1, 2, 5)] == [sum(n for off, n in places.items() if off <= k) for k in (1, 2, 5)]
    assert row["mean_abs_diff"] == pytest.approx(sum(off * n for off, n in places.items()) / sum(places.values()))
    assert [one["difference"] for one in found["deviations"][: places[9.0]]] == pytest.approx([9.0] * places[9.0])
    assert f"{measured} of 100 published results are measured" in comparison.comparison_text(found)


def test_kendalls_tau_is_scipys(records):
    """Against a second opinion, ties included."""
    measure(records, chosen())
    spots = [one for one in sheet(records).direct if one.mean is not None and one.published is not None]
    expected = kendalltau([one.mean for one in spots], [one.published for one in spots]).statistic
    assert agreement.rank_correlation(spots) == pytest.approx(expected)


def test_ranks_are_compared_within_one_setting(records):
    """Attacks under one defense, defenses under one attack: the order of our numbers is the paper's here."""
    measure(records, chosen())
    row = agreement.compare_named(TABLE, {}, records)["tables"][0]
    assert row["tau_attacks"] == pytest.approx(1.0) and row["tau_defenses"] == pytest.approx(1.0)
    assert agreement.compare_named("d-vae/table-3", {}, records)["tables"][0]["tau_attacks"] is None


def test_a_comparison_reads_as_a_table_with_its_verdicts(records):
    """Coverage first, then columns under their heads, each explained; a column without a number is left out."""
    measure(records, chosen(defense="jpeg"), off=9.0)
    found = agreement.compare_named(TABLE, {}, records)
    first, _, heads, row, *rest = comparison.comparison_text(found).splitlines()
    verdicts, measured = found["overall"]["verdicts"], found["overall"]["measured"]
    assert first == f"{measured} of 100 published results are measured at full size."
    assert heads.split() == ["printed", "measured", "exact", "deviate", "mean", "diff", "tau", "attacks"]
    assert row.split() == [TABLE, "100", str(measured), str(measured), str(verdicts[DEVIATES]), "9.00", "1.00"]
    assert len(heads) == len(row) and "deviate: beyond it" in rest


def test_what_two_papers_print_of_one_setting_is_compared_without_records(records):
    """A reader asks where papers differ from each other; training with labels is never held against training without."""
    found = agreement.compare_named(None, {}, records)["disputes"]
    assert [row["apart"] for row in found] == sorted((row["apart"] for row in found), reverse=True) and found[-1]["apart"] >= 5
    assert all(len({value["paper"] for value in row["values"]}) > 1 for row in found)
    ops = next(
        row for row in found if (row["dataset"], row["attack"], row["defense"]) == ("cifar10", "ops(seed=0)", "bdr(bits=2)")
    )
    assert {value["table"]: value["value"] for value in ops["values"]} == {"d-vae/table-2": 19.58, "apbench/table-1": 37.32}
    clean = [row for row in found if row["attack"] == "none" and row["dataset"] == "cifar10" and row["defense"] == "none"]
    assert not clean  # 94 % with labels and 90 % without are no dispute
    text = comparison.comparison_text(agreement.compare_named(None, {}, records))
    assert "61.01  cifar10, em(seed=0) x avatar, resnet18: bridge-pure/table-1 88.46; eclipse/table-1 27.45" in text
    assert agreement.compare_named(TABLE, {}, records)["disputes"] == []


def test_agreement_names_what_it_knows(records):
    """A grid of ours has no paper to agree with."""
    with pytest.raises(ValueError, match="quick is not a table of a paper; papers are apbench, bridge-pure, cuda, d-vae"):
        agreement.compare_named("quick", {}, records)
    assert (
        agreement.compare_named("d-vae", {}, records)["overall"]["cells"]
        == agreement.compare_named("d-vae/*", {}, records)["overall"]["cells"]
    )
    assert "nothing of it is measured here yet" in comparison.comparison_text(agreement.compare_named(None, {}, records))


# The tidy form


def test_the_tidy_form_has_every_printed_value_and_nothing_else(records):
    """3,457 rows: what an analysis of the papers' numbers starts from."""
    rows = list(csv.DictReader(io.StringIO(build.ShownTables.of(None, {}, records, tidy=True).tidy())))
    assert len(rows) == 3457 and all(row["value"] for row in rows)
    assert list(rows[0]) == [*TIDY_COLUMNS, "ours", "ours_std", "n", "state", "record", "unit"]
    assert {row["unit"] for row in rows if row["metric"] == "test_acc"} <= {"percent", "fraction"}
    assert {row["unit"] for row in rows if row["metric"] == "hours"} == {"hours"}
    assert {row["quality"] for row in rows} == {"ok", "inferred", "suspect", "copied"}
    assert [sum(row["quality"] == q for row in rows) for q in ("ok", "inferred", "suspect", "copied")] == [3234, 84, 89, 50]
    assert not any("apbench" in row["paper"] for row in rows)


def test_the_tidy_form_has_ours_in_the_unit_of_the_paper(records):
    """Unrounded, with the records behind it."""
    measure(records, chosen(), off=0.5)
    row = next(r for r in tidy_rows([sheet(records)]) if (r["attack"], r["defense"]) == ("ops", "jpeg"))
    assert row["ours"] == pytest.approx(77.83) and row["ours_std"] == pytest.approx(1.0) and row["n"] == 3
    assert row["value"] == "77.33" and len(row["record"].split(";")) == 3 and row["state"] == "done"


def test_a_grid_of_ours_has_a_tidy_form_too(records):
    """In percent, and with the items as they are written: no paper says how to name them."""
    grid = read_grid("quick")
    one = next(
        w
        for w in grid.requested_cells(resolve, lacking)
        if w.request.row[0].startswith("lsp") and w.request.column[0].startswith("jpeg")
    )
    for cell in one.cells:
        records.write(record(cell, 0.4))
    rows = list(csv.DictReader(io.StringIO(build.ShownTables.of("quick", {}, records, tidy=True).tidy())))
    row = next(row for row in rows if row["ours"])
    assert len(rows) == 42 and (row["attack"], row["defense"], row["value"], row["ours"], row["n"]) == (
        "lsp",
        "jpeg",
        "",
        "40.0",
        "2",
    )
    assert row["params"] == "attack=lsp(norm=l2,epsilon=2.2);defense=jpeg(quality=10)"


# Every format


class Page(HTMLParser):
    """Checks that tags match; gathers the text of cells, links and anchors."""

    VOID = frozenset({"meta", "link", "br", "wbr", "input", "img"})

    def __init__(self):
        super().__init__()
        self.open, self.links, self.ids, self.cells = [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found["href"]] if tag == "a" else []
        self.ids += [found["id"]] if "id" in found else []
        self.cells += [""] if tag in ("td", "th") else []
        self.open += [tag] if tag not in self.VOID else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.cells and {"td", "th"} & set(self.open):
            self.cells[-1] += data


def parsed(text: str, script: bool = False) -> Page:
    page = Page()
    page.feed(text)
    assert not page.open and "Content-Security-Policy" in text and (script or "<script" not in text)
    assert len(page.ids) == len(set(page.ids))
    return page


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> tuple[Records, list[Table]]:
    """Every table of every paper, some of it measured."""
    folder = tmp_path_factory.mktemp("records")
    records = Records(folder)
    measure(records, chosen(), off=0.5)
    return records, printed_tables(read_grid("full"), records, resolve, lacking)


def texts(one: Printed) -> str:
    return one.text + (f" ± {one.std}" if one.std else "")


def test_every_table_renders_in_html_with_values_as_the_paper_prints_them(everything):
    """All digits, signs as typography has them, one place of the page for each printed value."""
    for made in everything[1]:
        page = parsed(printed.html(made))
        words = " ".join(page.cells).replace("−", "-")  # noqa: RUF001
        for one in made.scores.values():
            if one.printed.value is not None:
                assert texts(one.printed) in words, (made.name, one.request.key)
        assert all(f"mark-{mark}" in page.ids for mark in made.doubts)
        assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))


def test_every_table_renders_in_markdown_with_one_column_per_printed_column(everything):
    """As GitHub reads it: a table with the printed layout."""
    for made in everything[1]:
        text = formats.markdown(made)
        tokens = [token.type for token in MarkdownIt("commonmark").enable("table").parse(text)]
        width, height = len(made.file.rows) + len(made.columns), 1 + len(made.rows)
        assert tokens.count("tr_open") == height, made.name
        assert tokens.count("th_open") + tokens.count("td_open") == width * height, made.name
        for one in made.scores.values():
            if one.printed.value is not None:
                assert f"*{texts(one.printed)}*" in text.replace("−", "-").replace("\\", ""), (made.name, one.request.key)  # noqa: RUF001


def body(text: str) -> str:
    return text.partition("\\begin{document}\n")[2].partition("\\end{document}")[0]


def test_every_table_is_whole_latex(everything):
    """Braces match and every row has as many columns as the head, whether or not there is a TeX here."""
    for made in everything[1]:
        text = body(formats.latex(made))
        bare = re.sub(r"\\[{}&%$#_]", "", text.replace("\\\\", "\n"))
        assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
        columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
        assert columns and len(columns[1]) == len(made.file.rows) + len(made.columns)
        lines = re.sub(r"\\&", "", text).partition("\\midrule")[2].partition("\\bottomrule")[0].strip().splitlines()
        for line in lines:
            assert line.count("&") + 1 == len(columns[1]) and line.endswith("\\\\"), (made.name, line)


@pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="no pdflatex here; Debian: texlive-latex-base texlive-latex-recommended"
)
def test_all_tables_compile_in_one_run_of_latex(everything, tmp_path):
    """With a real TeX: one document of all tables, and one table as it comes."""
    documents = [formats.latex(made) for made in everything[1]]
    head = documents[0].partition("\\begin{document}")[0]
    head = re.sub(r"paperwidth=\d+mm,paperheight=\d+mm", "paperwidth=1200mm,paperheight=1600mm", head)
    whole = head + "\\begin{document}\n" + "\\clearpage\n".join(map(body, documents)) + "\\end{document}\n"
    for name, text in (("all", whole), ("one", formats.latex(sheet(everything[0])))):
        (tmp_path / f"{name}.tex").write_text(text, encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
        assert done.returncode == 0, done.stdout[-1500:]
        assert (tmp_path / f"{name}.pdf").exists() and "Float too large" not in done.stdout


def test_a_table_as_csv_keeps_the_layout(everything):
    """Under each printed column ours, its deviation, n, the paper's, the difference, the verdict."""
    rows = list(csv.reader(io.StringIO(formats.csv(sheet(everything[0])))))
    parts = ["ours", "std", "n", "paper", "difference", "verdict", "unit"]
    assert rows[0][1:8] == ["w/o"] * 7 and rows[1][:8] == ["attack", *parts]
    ops = next(row for row in rows if row[0] == "OPS")
    assert ops[4] == "22.03" and float(ops[1]) == pytest.approx(22.53) and ops[6:8] == [WITHIN, "percent"]
    assert {len(row) for row in rows} == {1 + 7 * 12}


def test_a_table_as_json_has_everything_about_a_place(everything):
    """For programs."""
    found = json.loads(formats.json_(sheet(everything[0])))
    one = next(v for v in found["values"] if (v["row"], v["column"]) == (["OPS"], ["JPEG"]))
    assert (
        one["unit"] == "percent"
        and one["printed"] == "77.33"
        and one["paper"] == 77.33
        and one["n"] == 3
        and one["verdict"] == WITHIN
    )
    assert found["name"] == TABLE and found["rows"][0] == ["Clean (no poison)"]


def test_whatever_a_table_file_says_is_escaped(tmp_path, records):
    """Titles and labels of other people's tables end up on pages."""
    evil = "<script>alert(1)</script> | $x$ \\\\input{y} & 50%"
    (tmp_path / "mine.toml").write_text(f'''
title = "{evil}"
protocol = "quick"
dataset = "digits"
architecture = "small-cnn"
seed = [0]
attack = ["none", {{label = "{evil}", attack = "ops"}}]
defense = "none"
''')
    made = printed_tables(read_grid(str(tmp_path / "mine.toml")), records, resolve, lacking)[0]
    assert "<script" not in printed.html(made) and "<script" not in formats.markdown(made)
    assert "\\input" not in formats.latex(made)
    parsed(printed.html(made))


# The site and the command


def test_the_site_has_every_table_and_its_links_lead_somewhere(published_site):
    """From file://: an index, a page per table, all links relative and there."""
    names = {path.relative_to(published_site).as_posix() for path in published_site.rglob("*") if path.is_file()}
    assert {"index.html", "papers.html", "d-vae.table-2.html", "summary.html"} <= names
    laid_out, of_papers = {name for name in table_names() if read_table(name).has_layout}, set(read_grid("full").tables)
    assert {f"{slug_of(name)}.html" for name in laid_out | of_papers} <= names and len(of_papers) == 69
    for name in names:
        assert re.fullmatch(r"[a-z0-9._/-]+", name)
        if name.endswith(".html"):
            page = parsed((published_site / name).read_text(encoding="utf-8"), script=True)
            for link in page.links:
                assert link.startswith(("#", "https://")) or link.partition("#")[0] in names, (name, link)


def test_what_was_measured_by_a_papers_own_recipe_has_columns_of_its_own_on_the_start_page_and_no_rank(records):
    """Beside the published numbers, never among them: at full size alone, with the recipe's paper named."""
    measure(records, chosen(attack="OPS"), off=0.5)
    made = printed_tables(read_grid(TABLE), records, resolve, lacking)
    (page,) = starts(made, OwnTables(), opens=True)
    (bare,) = starts(bare_tables(records), OwnTables(), opens=True)
    lines = {line.method.name: line for line in page.view("attack").lines}
    side = lines["ops"].beside[0]
    assert side.plain.value == pytest.approx(22.53) and side.worst.value == pytest.approx(86.96) and side.against == "LfU"
    assert [who for who, *_ in side.worst.who] == ["D-VAE"] and lines["lsp"].beside == (None,)
    assert [(line.method, line.published) for line in lines.values()] == [
        (line.method, line.published) for line in bare.view("attack").lines
    ]
    assert bare.view("attack").beside == () and page.ours == bare.ours == []
    shown, without = (Site(tables).files()["index.html"] for tables in (made, bare_tables(records)))
    assert "undefended, ours by papers' recipes" in unescape(shown) and 'class="num repeated"' in shown
    assert "papers' recipes" not in unescape(without) and "fine-tuned" not in without


def test_a_network_that_began_with_weights_has_columns_of_its_own_on_the_start_page_and_no_rank(records):
    """Never taken for a victim from scratch: its control has no column, nor what is empty, nor another dataset."""
    papers = bare_tables(records)
    cells = read_grid("finetune").cells(resolve, lacking)
    for cell in [cell for cell in cells if "frozen" not in cell.protocol.fields]:
        records.write(record(cell, 0.3 if cell.architecture.fields else 0.9))
    table = grid_table(read_grid("finetune"), records, "finetune", resolve)
    (page,) = starts(papers, OwnTables(finetune=table), opens=True)
    (bare,) = starts(papers, OwnTables(), opens=True)
    attacks, defenses = page.view("attack"), page.view("defense")
    assert [(one.key, one.has_worst) for one in attacks.beside] == [("tuned", False)] and defenses.beside == ()
    shown = {line.method.name: line.beside[0] for line in attacks.lines}
    assert shown["ops"].plain.value == pytest.approx(30.0) and shown["ops"].worst is None and shown["ntga"] is None
    assert [line.published for line in attacks.lines] == [line.published for line in bare.view("attack").lines]
    elsewhere = replace(table, fixed={**table.fixed, "dataset": "cifar100"})
    assert starts(papers, OwnTables(finetune=elsewhere), opens=True)[0].beside == ()
    shown_page = Site([table, *papers]).files()[page.file.replace("index", "start.cifar10.resnet18")]
    assert 'data-label="undefended, ours, fine-tuned">undefended, ours<small>fine-tuned</small>' in shown_page
    assert "best defense, ours, fine-tuned" not in shown_page


def test_the_start_page_names_the_papers_of_its_published_numbers_with_their_year(records):
    """A number of 2024 is no news of 2026; papers without a result of this dataset and network are not named."""
    none = Records(records.folder / "none")
    others = [read_grid(name) for name in ("cuda/table-2", "apbench/table-4")]
    tables = [table for grid in others for table in printed_tables(grid, none, resolve, lacking)]
    (page,) = starts([*bare_tables(records), *tables], OwnTables(), opens=True)
    assert [(paper.short, paper.year) for paper in page.cited] == [("CUDA", 2023), ("D-VAE", 2024)]
    text = Site(bare_tables(records)).files()["index.html"]
    assert 'apart</summary><p><a href="papers.html#p-d-vae">D-VAE</a> (2024)</p>' in text and " of 1 paper (2024) · " in text


def bare_tables(records):
    return printed_tables(read_grid(TABLE), Records(records.folder / "none"), resolve, lacking)


def test_our_own_summary_shows_the_worst_case_and_the_best_defense(records):
    """The defender's and the attacker's view, over what is measured, and of how much."""
    some = {"attack": ["none", "lsp", "ar", "ops"], "defense": ["none", "jpeg", "grayscale"]}
    measure(records, read_grid("summary").selected(some, resolve))
    for cell in chosen("summary", attack="ops", defense="jpeg*").cells(resolve, lacking):
        records.write(record(cell, 0.2), replace=True)
    made = sheet(records, "summary")
    worst, best = spot(made, "worst case", "jpeg"), spot(made, "ops", "best defense")
    attacks, defenses = chosen("summary", defense="jpeg").requested_cells(resolve, lacking), chosen("summary", attack="ops")
    assert worst.mean == pytest.approx(20.0) and worst.marks == (f"over 3 of {len(attacks) - 1}",)  # clean training is none
    places = len(defenses.requested_cells(resolve, lacking))
    assert best.mean == pytest.approx(50.0) and best.marks == (f"over 4 of {places}",)  # iss has two of its members
    assert ("worst case",) in made.rows and (("worst case",), ("best defense",)) not in made.scores


COMMANDS = """
    import contextlib, io, json, sys
    from unlearnable_bench.benchmark import cli
    from unlearnable_bench.registry import ATTACKS
    ATTACKS.rows = tuple(row for row in ATTACKS.rows if row.name != "ntga")
    answers = []
    for arguments in json.loads(sys.argv[1]):
        sys.argv = ["bench", *arguments]
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
            cli.main()
        answers.append(out.getvalue())
    assert "torch" not in sys.modules, "torch was imported"
    print(json.dumps(answers))
"""


@pytest.mark.usefixtures("without_ntga")
def test_the_commands_answer_without_torch(tmp_path, records):
    """`bench report`, `compare`, `list grids`, `status` and a dry run, as a user types them."""
    measure(records, chosen())
    lines = [
        "list grids d-vae/table-* --json",
        f"run --grid {TABLE} --dry-run --json",
        f"run --grid {TABLE} --dry-run",
        "status --grid d-vae/* --json",
        f"compare {TABLE} --json",
        *(f"report --table {TABLE} --format {form}" for form in ("markdown", "csv", "latex", "json")),
        "report --format csv --tidy",
        f"report --table d-vae/* --format markdown,csv --output {tmp_path / 'out'}",
    ]
    commands = [[*line.split(), "--workspace", str(tmp_path)] for line in lines]
    listed, counted, planned, status, compared, *formats, tidied, written = json.loads(
        in_process(COMMANDS, json.dumps(commands))
    )
    runs, absent = chosen().cells(resolve, lacking), chosen().absent(resolve, lacking)
    ntga = next(label for label, reason in absent if reason == "not available: attack ntga")
    two = next(row for row in json.loads(listed) if row["name"] == TABLE)
    assert (two["cells"], two["runnable"], two["done"], two["gpu_hours"]) == (324, len(runs), len(runs), 0.0)
    plan = json.loads(counted)
    assert (plan["cells"], plan["done"], plan["to_run"], plan["not_available"]) == (324, len(runs), 0, len(absent))
    assert f"not available: attack ntga  {ntga}" in planned
    counts = json.loads(status)
    assert counts["cells"] == counts["done"] + counts["missing"] + counts["not_available"]
    assert counts["not_available"] == len(read_grid("d-vae/*").absent(resolve, lacking)) >= len(absent)
    assert json.loads(compared)["tables"][0]["measured"] == runnable(chosen())
    for text, start in zip(formats, ("## D-VAE, table 2", ",w/o", "% compiles", "{"), strict=True):
        assert text.startswith(start)
    assert len(tidied.splitlines()) == 3458
    assert len(written.split()) == 36 and (tmp_path / "out" / "d-vae.table-2.md").exists()


def test_spread_and_mean_agree_with_the_standard_library(records):
    """The numbers that people cite, once more by another road."""
    measure(records, chosen(), off=0.25)
    for one in sheet(records).direct:
        if one.n:
            accuracies = [100 * records.read(name).metrics.test_acc for name in one.records]
            assert one.mean == pytest.approx(fmean(accuracies)) and one.std == pytest.approx(stdev(accuracies))


def test_a_figure_of_an_analysis_keeps_its_digits_that_count(records):
    """A cluster measure of 0.00026 must not be shown as 0.00, nor an accuracy as a fraction beside it."""
    grid = read_grid("toy-analyses")
    figures = {"acm": 0.000263, "acm_max": 0.000263, "train_acc": 0.5, "l2_norm": 1.2345, "linf_norm": 0.0, "seconds": 1234.5}
    for one in grid.requested_cells(resolve, lacking):
        for cell in one.cells:
            if cell.measure != "accuracy":
                records.write(record(cell, 0.3, metrics=Metrics(figures=figures)))
    made = sheet(records, "toy-analyses", grid)
    shown = {column[0]: measured_value(made.scores[row, column]) for row, column in made.scores if row == ("lsp",)}
    assert shown["its t-SNE, cluster measure"] == "0.000263 ± 0.000000" and shown["crafting, s"].startswith("1234 ")
    assert shown["linear model on perturbations"] == "50.0 ± 0.0" and shown["mean l2 norm"].startswith("1.23 ")
    assert shown["mean linf norm"] == "0 ± 0" and "Test accuracy in %" not in formats.markdown(made)
    without = made.scores[("lsp",), ("PSNR, dB",)]
    assert (without.state, without.reason) == ("not-applicable", "what was measured has no psnr here"), "done, and blank"
