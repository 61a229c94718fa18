"""What readers call the rows and columns of tables."""

from tables import with_fields
from test_leaderboard import TABLE, fill, made

from unlearnable_bench.leaderboard.pages.build import WRITERS
from unlearnable_bench.leaderboard.pages.table_page import TableView
from unlearnable_bench.leaderboard.tables.naming import Names
from unlearnable_bench.results import Records


def table_of(tmp_path, **changes):
    records = Records(tmp_path)
    fill(records)
    return made(records, with_fields(TABLE, **changes))


def test_rows_and_columns_have_names_and_clean_training_is_no_defense(tmp_path):
    """`none` among the attacks is not `none` among the defenses."""
    names = Names.of(table_of(tmp_path))
    assert names.rows["ops"] == "OPS" and names.columns["grayscale"] == "Grayscale"
    assert (names.rows["none"], names.columns["none"]) == ("Clean", "None")


def test_two_of_one_label_say_what_they_differ_in_and_strangers_keep_their_spec(tmp_path):
    """No two rows are called alike."""
    names = Names.of(table_of(tmp_path, defense=["none", "at(steps=3)", "at(steps=5)"]))
    assert names.columns["at(steps=3)"] == "AT 8/255 (steps 3)" and len(set(names.columns.values())) == 3


def test_latex_has_names_and_says_what_they_stand_for(tmp_path):
    """A spec of twelve parameters makes a table of a thousand points."""
    latex = WRITERS["latex"](table_of(tmp_path))
    assert "OPS & " in latex and "OPS is ops." in latex


def test_heads_of_pages_have_names_and_the_figures_too(tmp_path):
    """The spec is in the tooltip, and exports for programs keep it."""
    table = table_of(tmp_path)
    heads = [row.head for row in TableView(table, {}).rows]
    assert [(head.label, head.name) for head in heads if head.label == "ops"] == [("ops", "OPS")]
