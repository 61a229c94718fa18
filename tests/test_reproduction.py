"""docs/results/reproduction.md: counts are those of the sheets, reasons are said, and a direction has to be felt."""

import re

import pytest
from test_leaderboard import record
from writers import reproduction
from writers.reproduction import Reproduction

from unlearnable_bench.results import Records, read_grid


def hours(cells):
    """An hour each, so that sums can be seen."""
    return float(len(list(cells)))


def one_table(records, name="transferable-unlearnable/table-3"):
    """The reproduction of one small table."""
    made = Reproduction(records, hours)
    made.__dict__["grid"] = read_grid(name)
    return made


def test_a_paper_without_records_says_what_it_would_take(tmp_path):
    """A number that is missing has a reason and a price."""
    made = one_table(Records(tmp_path))
    text = made.papers()
    cells = {cell.id for one in made.wanted.values() for cell in one.cells}
    assert f"one training: {len(cells)} trainings are left, {len(cells)} hours" in text and "trainings on a GPU" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| 3 |")]
    assert row.split(" | ")[2:9] == ["0", "0", "0", "0", "0", "0", "4"], "nothing measured, four numbers not"


def test_a_measured_number_is_counted_where_it_belongs(tmp_path):
    """Exact, or reduced; never both, and no longer among the missing."""
    records = Records(tmp_path)
    made = one_table(records)
    first, second = [one for one in made.wanted.values() if one.cells][:2]
    for cell in first.cells:
        records.write(record(cell, 0.5))
    part = second.cells[0]
    few = part.protocol.model_copy(update={"fields": part.protocol.fields | {"scale": 0.1}})
    records.write(record(part.model_copy(update={"protocol": few}), 0.5))
    (row,) = [line for line in one_table(records).papers().splitlines() if line.startswith("| 3 |")]
    numbers, exact, stand_in, reduced, *_, missing = map(int, row.split(" | ")[1:9])
    assert (numbers, exact, stand_in, reduced, missing) == (4, 1, 0, 1, 2)


@pytest.mark.parametrize(
    ("change", "sign"), [(-5.0, "lower"), (-4.9, "about the same"), (0, "about the same"), (5.0, "higher"), (60, "higher")]
)
def test_a_direction_is_felt_from_five_points_on(change, sign):
    """The spread over seeds at toy scale is of two or three points."""
    assert reproduction._sign(change) == sign


def test_changes_are_written_with_both_ends():
    """Several variants of an attack must not become their mean."""
    assert reproduction._points([-33.4, -26.8]) == "−33 to −27" and reproduction._points([1.2]) == "+1"  # noqa: RUF001
    assert reproduction._points([0.2, -0.3]) == "0" and reproduction._points([]) == ""


def test_methods_that_nobody_tried_say_so(tmp_path):
    """No blank without a reason."""
    text = reproduction.methods(Records(tmp_path))
    for line in filter(None, text.splitlines()):
        assert all(cell.strip() for cell in line.strip("| ").split(" | ")), line
    assert re.search(r"\| lsp \| 0 \| not tried: no record \| −\d+ to −\d+ \| – \|", text)  # noqa: RUF001


def test_variants_of_attacks_that_nobody_tried_are_named(tmp_path):
    """A method may stand on the records of one variant; what was never run has to be told from what was."""
    records = Records(tmp_path)
    cells = [cell for one in one_table(records).wanted.values() for cell in one.cells if "variant" in cell.attack[0].fields]
    part = cells[0].attack[0]
    own = f"`{part.name}(variant={part.fields['variant']})`"
    before = reproduction._untried_variants(records)
    records.write(record(cells[0], 0.5))
    after = reproduction._untried_variants(Records(tmp_path))
    assert own in before and before.replace(f"{own}, ", "") == after
    assert "`ucl(variant=cp-s)`" in after and "`lsp" not in after, "which has no variants"
