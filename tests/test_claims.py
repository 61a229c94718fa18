"""What the papers claim with a number: predicates over places of their tables."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard import claims
from leaderboard.claims import FAILS, HOLDS, UNMEASURED, Checked, Claim, Places
from leaderboard.sheet import Sheet, sheets
from registry import lacking, resolve
from results import Records, read_grid
from results.papers import paper_tables

CONTRADICTED = {"For seven of eleven poisons orthogonal projection achieves above 80 %."}
"""What the papers' own tables contradict: six of eleven in table 3; at radius 0 table 6 has lower values than at 0."""
CONTRADICTED |= {"The random perturbation is best with the radius of the adversary, here 0."}


def made(name: str, folder) -> Sheet:
    (sheet,) = sheets(read_grid(name), Records(folder), resolve, lacking)
    return sheet


TABLE_3 = made("learn-from-unlearnable/table-3", Path("/nonexistent"))


def filled(sheet: Sheet, change=lambda spot: spot.paper) -> Sheet:
    """The sheet as if ours were what `change` says of a place, one seed."""
    values = {key: change(spot) for key, spot in sheet.spots.items()}
    spots = {
        key: dataclasses.replace(spot, per_seed={} if values[key] is None else {0: values[key]})
        for key, spot in sheet.spots.items()
    }
    return dataclasses.replace(sheet, spots=spots)


def test_every_claim_is_about_places_that_are_there(tmp_path):
    """A label that was mistyped would be a claim that is never measured; and the papers' own numbers decide every claim."""
    tables = {claim.table for claim in claims.claims()}
    assert tables <= set(paper_tables()) and all(c.table.startswith(f"{c.paper}/") for c in claims.claims())
    found = [one for name in sorted(tables) for one in claims.checked([made(name, tmp_path)])]
    assert len(found) == len(claims.claims()) and all(one.over >= max(1, one.claim.count) for one in found)
    assert {one.ours for one in found} == {UNMEASURED} and {one.printed for one in found} == {HOLDS, FAILS}
    assert {one.claim.text for one in found if one.printed == FAILS} == CONTRADICTED


def test_numbers_of_ours_that_equal_the_printed_ones_give_the_printed_verdict():
    """And a claim falls when the one number that carries it does."""
    (one,) = claims.checked([filled(TABLE_3)])
    assert (one.ours, one.printed, one.measured, one.over) == (FAILS, FAILS, 11, 11)
    (one,) = claims.checked([filled(TABLE_3, lambda spot: 81.0 if spot.place.row == ("AR",) else spot.paper)])
    assert (one.ours, one.printed) == (HOLDS, FAILS)
    assert "6 of" not in claims.text([one]) and claims.rows([one])[0]["verdict"] == HOLDS


@given(st.lists(st.sampled_from([None, 60.0, 90.0]), min_size=11, max_size=11), st.integers(0, 11))
def test_a_verdict_is_that_of_every_way_to_fill_the_blanks(values, count):
    """It holds or fails only where no number that is still missing could turn it."""
    keys = [key for key in TABLE_3.spots if key[1] == ("Ortho Proj (Ours)",) and key[0] != ("Clean",)]
    ours = dict(zip(keys, values, strict=True))
    whole = filled(TABLE_3, lambda spot: ours.get(spot.place.key))
    left = Places(row="*", column="Ortho Proj (Ours)")
    claim = Claim(paper="", place="", text="", table="", left=left, relation=">", right=80.0, count=count, without=("Clean",))
    wanted = count or len(values)
    least, most = (sum((v if v is not None else blank) > 80 for v in values) for blank in (0, 100))
    expected = HOLDS if least >= wanted else FAILS if most < wanted else UNMEASURED
    assert claims._checked(claim, whole).ours == expected


def test_a_selector_may_leave_out_what_a_claim_is_about(tmp_path):
    """Then it is not measured; never an error."""
    grid = read_grid("learn-from-unlearnable/table-2").selected({"attack": ["ops*"]})
    (sheet,) = sheets(grid, Records(tmp_path), resolve, lacking)
    (one,) = claims.checked([sheet])
    assert isinstance(one, Checked) and one.ours == one.printed == UNMEASURED


@pytest.mark.parametrize("changes", [{"relation": "=="}, {"left": {"row": "a"}}, {"more": 1}])
def test_a_claim_that_cannot_be_read_is_refused(changes):
    """A word that nobody knows in the file is a mistake."""
    fields = {
        "paper": "",
        "place": "",
        "text": "",
        "table": "",
        "left": {"row": "a", "column": "b"},
        "relation": ">",
        "right": 1,
    }
    Claim.model_validate(fields)
    with pytest.raises(ValueError, match=r"relation|column|more"):
        Claim.model_validate(fields | changes)
