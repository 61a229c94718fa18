"""Defenses that stand for several (`iss`): what is run, and how the best of them is shown."""

import csv
import io
import json

import pytest
from test_leaderboard import EVIL, record
from test_printed import record as printed_record

from unlearnable_bench.benchmark import grid
from unlearnable_bench.benchmark.plan import plan_cells
from unlearnable_bench.benchmark.task import Task
from unlearnable_bench.leaderboard.formats import text as formats
from unlearnable_bench.leaderboard.pages import printed
from unlearnable_bench.leaderboard.pages.site import Site
from unlearnable_bench.leaderboard.tables.measured import grid_table
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.registry import DEFENSES, EntryError, lacking, resolve
from unlearnable_bench.results import Records, read_grid
from unlearnable_bench.results.cell import Cell
from unlearnable_bench.results.record import Failure

MEMBERS = ("bdr", "grayscale", "jpeg")
ACCURACY = {"bdr": 0.5, "grayscale": 0.7, "jpeg": 0.6, "none": 0.2}
WISHES = {"attack": ["lsp"], "defense": ["iss"], "dataset": ["digits"]}


def plan(records, **axes):
    table = grid.adhoc(WISHES | {axis: list(values) for axis, values in axes.items()})
    return table, plan_cells("t", *grid.expand(table), records)


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path)


def measured(records, table, accuracy=ACCURACY, without=()):
    for cell in table.cells(resolve, lacking):
        name = cell.defense[0].name
        if name in accuracy and name not in without:
            records.write(record(cell, accuracy[name]))


def place(records, table):
    return grid_table(table, records, "t", resolve).scores[("lsp",), ("iss",)]


def test_iss_has_the_settings_of_its_paper():
    """The three compressions at 2 bits, luma and quality 10: the columns that the papers take the best of."""
    (part,) = DEFENSES.resolve("iss")
    resolved = [DEFENSES.resolve(item)[0] for item in part.members]
    assert [one.name for one in resolved] == list(MEMBERS)
    assert resolved[0].fields["bits"] == 2 and resolved[2].fields["quality"] == 10


def test_a_plan_runs_the_members_and_shares_them(records):
    """The oracle is a way to read results: it must cost no training beside that of its members."""
    alone = plan(records)[1]
    assert [task.cell.defense[0].name for task in alone.to_run] == list(MEMBERS)
    both = plan(records, defense=["iss", "jpeg", "none"])[1]
    assert len(both.to_run) == 4 and {t.cell.id for t in alone.to_run} < {t.cell.id for t in both.to_run}
    chained = plan(records, defense=["iss+cutout"], seed=["0", "1"])[1]
    assert [task.cell.texts["defense"] for task in chained.to_run[:3]] == [f"{name}+cutout" for name in MEMBERS]


def test_a_cell_of_iss_itself_is_refused(records):
    """A record named iss could only be of somebody who ran something else; the sentence says what to run."""
    cell = plan(records)[1].tasks[0].cell
    wrong = cell.model_copy(update={"defense": (cell.defense[0].model_copy(update={"name": "iss", "fields": {}}),)})
    with pytest.raises(EntryError, match=r"no cell of its own; it stands for bdr\(bits=2\), grayscale, jpeg"):
        Task.of(Cell.model_validate(wrong.model_dump()))


def test_a_board_shows_the_best_member_and_names_it_in_every_format(records):
    """Whoever reads the number must see that it was chosen by looking at the test set, and which defense it is of."""
    table = plan(records, defense=["none", "iss"], attack=["none", "lsp"])[0]
    measured(records, table)
    made = grid_table(table, records, "t", resolve)
    value = made.scores[("lsp",), ("iss",)]
    assert value.mean == 0.7 and value.state == "done" and value.oracle == "oracle grayscale, best of 3"
    assert value.records == (value.runs[0].id,) and value.runs[0].cell.texts["defense"] == "grayscale"
    site = Site([made]).files()
    shown = [site[name] for name in ("index.html", "t.html", "t.defenses.html") if name in site]
    assert len(shown) > 1
    for text in [*shown, formats.markdown(made), formats.csv(made), formats.json_(made), formats.latex(made)]:
        assert "oracle grayscale, best of 3" in text
    assert "oracle grayscale, best of 3" in site["defense.iss.html"].partition("All measured results")[2]  # which no cell names
    assert made.coverage == {"cells": 8, "done": 8, "stale": 0, "failed": 0, "not-applicable": 0, "missing": 0}
    assert made.settings["defense"]["iss"].text == "iss" and len(made.shown) == 8
    rows = list(csv.DictReader(io.StringIO(formats.csv(made))))
    assert [row["oracle"] for row in rows if row["defense"] == "none"] == ["", ""]


def test_an_oracle_is_neither_the_best_defense_nor_part_of_a_ranking(records):
    """It would count one of its members twice."""
    table = plan(records, defense=["iss", "grayscale", "none"], attack=["none", "lsp"])[0]
    measured(records, table)
    standing = grid_table(table, records, "t", resolve).ranking["lsp",]
    assert standing.worst == "grayscale" and standing.over == 2 and standing.mean == pytest.approx(0.45)


def test_members_that_are_not_measured_make_the_place_partial(records):
    """The best of one of three is no ISS yet, and the page says what is missing."""
    table = plan(records)[0]
    assert place(records, table).state == "missing"
    measured(records, table, without=["grayscale", "jpeg"])
    value = place(records, table)
    assert (value.state, value.mean, value.oracle) == ("partial", 0.5, "oracle bdr, best of 1 of 3")
    assert value.reason.startswith("1 of 3 runs; grayscale, seed 0 not run yet")
    cell = next(cell for cell in table.cells(resolve, lacking) if cell.defense[0].name == "jpeg")
    records.write(Failure(id=cell.id, cell=cell, kind="error", message=EVIL))
    assert place(records, table).state == "partial"
    for name in ("grayscale", "jpeg"):  # what cannot be run on a dataset is not waited for
        cell = next(cell for cell in table.cells(resolve, lacking) if cell.defense[0].name == name)
        records.write(record(cell, metrics=None, state="not-applicable", reason="gray images"), replace=True)
    value = place(records, table)
    assert (value.state, value.oracle) == ("done", "oracle bdr, best of 1")


def of_paper(records, accuracy=ACCURACY, without=()):
    """The place LSP x ISS of a table of D-VAE, with records for it."""
    made = read_grid("d-vae/table-3").selected({"defense": ["iss"], "attack": ["lsp*"]}, resolve)
    for one in made.requested_cells(resolve, lacking):
        for cell in one.cells:
            name = cell.defense[0].name
            if name not in without:
                records.write(printed_record(cell, accuracy[name]))
    (sheet,) = printed_tables(made, records, resolve, lacking)
    (spot,) = sheet.scores.values()
    return sheet, spot


def test_a_table_of_a_paper_takes_the_best_as_the_paper_does(records):
    """D-VAE prints the best of the three as ISS: the same choice here, with the member's name."""
    sheet, spot = of_paper(records)
    assert spot.mean == pytest.approx(70) and spot.state == "done" and spot.marks == ()
    assert spot.oracle == "oracle grayscale, best of 3" and len(spot.records) == spot.n == len(sheet.file.seed)
    for form in (printed.html, *formats.FORMATS.values()):
        assert "oracle grayscale, best of 3" in form(sheet)
    assert json.loads(formats.json_(sheet))["values"][0]["oracle"] == spot.oracle


def test_a_table_of_a_paper_says_which_members_are_missing(records):
    """Half of an oracle's choice is not its number."""
    spot = of_paper(records, without=["grayscale"])[1]
    assert (spot.state, spot.oracle) == ("partial", "oracle jpeg, best of 2 of 3")
    assert spot.reason == "6 of 9 runs; grayscale, seed 0 not run yet"


def test_members_are_compared_only_where_they_were_measured_alike(records):
    """A member that was trained for a tenth of the epochs must not win, or lose, against one trained in full."""
    made = read_grid("d-vae/table-3").selected({"defense": ["iss"], "attack": ["lsp*"]}, resolve)
    short = made.scaled(0.1)
    for grid_, names, accuracy in ((made, ("bdr", "jpeg"), 0.4), (short, ("grayscale",), 0.9)):
        for one in grid_.requested_cells(resolve, lacking):
            for cell in one.cells:
                if cell.defense[0].name in names:
                    records.write(printed_record(cell, accuracy))
    (sheet,) = printed_tables(made, records, resolve, lacking)
    (spot,) = sheet.scores.values()
    assert spot.mean == pytest.approx(40) and spot.oracle == "oracle bdr, best of 2 of 3" and not spot.reduced


def test_a_stale_member_is_not_the_best_of_a_printed_table(records):
    """A number of an earlier version is shown only where no member has one of today's: the same rule as on boards."""
    grid_ = read_grid("d-vae/table-3").selected({"defense": ["iss"], "attack": ["lsp*"]}, resolve)
    of_paper(records)
    (wanted,) = grid_.requested_cells(resolve, lacking)
    for cell in wanted.cells:
        if cell.defense[0].name == "grayscale":
            records.write(printed_record(cell, 0.9, versions={"defense:grayscale": "0"}), replace=True)
    (table,) = printed_tables(grid_, records, resolve, lacking)
    (score,) = table.scores.values()
    assert (score.state, score.oracle) == ("partial", "oracle jpeg, best of 2 of 3")
    assert score.mean == pytest.approx(60) and "grayscale, seed 0 stale: " in score.reason


def test_a_member_that_does_not_apply_hides_none_that_was_not_run(records):
    """Else the place would say that nothing can be measured there."""
    table = plan(records)[0]
    cell = next(cell for cell in table.cells(resolve, lacking) if cell.defense[0].name == "bdr")
    records.write(record(cell, metrics=None, state="not-applicable", reason="too few levels"))
    score = place(records, table)
    assert (score.state, score.oracle, score.n) == ("missing", "", 0) and "not run yet" in score.reason
