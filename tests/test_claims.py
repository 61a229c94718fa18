"""What the papers claim with a number: predicates over places of their tables."""

import dataclasses
from html import escape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearnable_bench.leaderboard.formats import comparison
from unlearnable_bench.leaderboard.formats.escaping import environment
from unlearnable_bench.leaderboard.pages import overview
from unlearnable_bench.leaderboard.tables import claims
from unlearnable_bench.leaderboard.tables.claims import DOUBTFUL, FAILS, HOLDS, UNMEASURED, CheckedClaim, Claim, Places
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.leaderboard.tables.score import AggregateScore
from unlearnable_bench.leaderboard.tables.table import Table
from unlearnable_bench.registry import lacking, resolve
from unlearnable_bench.results import Records, read_grid
from unlearnable_bench.results.reference import paper_tables

CONTRADICTED = {
    "The perturbations found have an l2 norm of about 0.7 to 1.0, but for OPS: at most 1.05.",  # EM has 1.24
    "D-VAE is better than every other defense on every poison, here with larger bounds.",  # LFU on REM, 83.10 against 79.18
    "For seven of eleven poisons orthogonal projection achieves above 80 %.",  # six
    "On CIFAR-100 orthogonal projection wins more than 20 points on sample-wise poisons.",  # 19.31 on adversarial poisoning
    "The random perturbation is best with the radius of the adversary, here 0.",  # four other radii are better
}
"""What the papers' own tables contradict."""


def made(name: str, folder) -> Table:
    (table,) = printed_tables(read_grid(name), Records(folder), resolve, lacking)
    return table


TABLE_3 = made("learn-from-unlearnable/table-3", Path("/nonexistent"))


def filled(table: Table, change=lambda score: score.published) -> Table:
    """The table as if ours were what `change` says of a place, one seed."""
    values = {key: change(score) for key, score in table.scores.items()}
    scores = {
        key: AggregateScore(score.request, combined={} if values[key] is None else {0: values[key]})
        for key, score in table.scores.items()
    }
    return dataclasses.replace(table, scores=scores)


def seven(table: Table) -> CheckedClaim:
    """The claim about seven of eleven poisons, checked."""
    return next(one for one in claims.check_claims([table]) if one.claim.count == 7)


def test_every_claim_is_about_places_that_are_there(tmp_path):
    """A label that was mistyped would be a claim that is never measured; and the papers' own numbers decide every claim."""
    tables = {claim.table for claim in claims.claims()}
    assert tables <= set(paper_tables()) and all(c.table.startswith(f"{c.paper}/") for c in claims.claims())
    found = [one for name in sorted(tables) for one in claims.check_claims([made(name, tmp_path)])]
    assert len(found) == len(claims.claims()) > 70 and all(one.over >= max(1, one.claim.count) for one in found)
    assert {one.ours for one in found} == {UNMEASURED} and {one.printed for one in found} == {HOLDS, FAILS, DOUBTFUL}
    assert all(bool(one.printed_against) == (one.printed == FAILS) for one in found)
    assert {one.claim.text for one in found if one.printed == FAILS} == CONTRADICTED


def test_numbers_of_ours_that_equal_the_printed_ones_give_the_printed_verdict():
    """And a claim falls when the one number that carries it does."""
    one = seven(filled(TABLE_3))
    assert (one.ours, one.printed, one.measured, one.over) == (FAILS, FAILS, 11, 11)
    one = seven(filled(TABLE_3, lambda score: 81.0 if score.request.row == ("AR",) else score.published))
    assert (one.ours, one.printed) == (HOLDS, FAILS)
    assert "of 11 places" not in comparison.claims_text([one]) and claims.rows([one])[0]["verdict"] == HOLDS


def test_a_claim_that_fails_shows_what_speaks_against_it(tmp_path):
    """A verdict against named authors comes with the numbers, so that anybody can look them up."""
    found = {
        one.claim.text: one for name in ("d-vae/table-5", TABLE_3.name) for one in claims.check_claims([made(name, tmp_path)])
    }
    larger = next(one for text, one in found.items() if "larger bounds" in text)
    assert larger.printed_against == ("REM / Ours 79.18, not > 83.10 (REM / LFU)",)
    first, *places, last = seven(TABLE_3).printed_against
    assert first == "6 of 11 do" and "AR / Ortho Proj (Ours) 13.03, not > 80.00" in places and last == "and 2 more"
    text, row = comparison.claims_text([larger]), claims.rows([larger])[0]
    assert "printed: REM / Ours 79.18, not > 83.10" in text and row["printed_against"] == list(larger.printed_against)
    left, right = Places(row="AR", column="Ortho Proj (Ours)"), Places(row="AR", column="Adv Training")
    claim = Claim(paper="", place="", text="", table="", left=left, relation=">", right=right, plus=20.0)
    (told,) = claims.check_claim(claim, TABLE_3).printed_against
    assert told.endswith(f"(from AR / Adv Training, {TABLE_3.scores[('AR',), ('Adv Training',)].published:.2f})")


def test_no_claim_rests_on_a_value_that_is_inferred_or_contradicted(tmp_path):
    """What we cannot read, or what the paper prints in two ways, proves nothing for or against it."""
    two = made("d-vae/table-2", tmp_path)
    column = Places(row="*", column="AT")
    claim = Claim(paper="", place="", text="", table="", left=column, relation="<", right=100.0)
    assert claims.check_claim(claim, two).printed == DOUBTFUL
    sure = claim.model_copy(update={"left": Places(row="OPS", column="JPEG")})
    assert claims.check_claim(sure, two).printed == HOLDS


@given(st.lists(st.sampled_from([None, 60.0, 90.0]), min_size=11, max_size=11), st.integers(0, 11))
def test_a_verdict_is_that_of_every_way_to_fill_the_blanks(values, count):
    """It holds or fails only where no number that is still missing could turn it."""
    keys = [key for key in TABLE_3.scores if key[1] == ("Ortho Proj (Ours)",) and key[0] != ("Clean",)]
    ours = dict(zip(keys, values, strict=True))
    whole = filled(TABLE_3, lambda score: ours.get(score.request.key))
    left = Places(row="*", column="Ortho Proj (Ours)")
    claim = Claim(paper="", place="", text="", table="", left=left, relation=">", right=80.0, count=count, without=("Clean",))
    wanted = count or len(values)
    least, most = (sum((v if v is not None else blank) > 80 for v in values) for blank in (0, 100))
    expected = HOLDS if least >= wanted else FAILS if most < wanted else UNMEASURED
    assert claims.check_claim(claim, whole).ours == expected


def test_a_selector_may_leave_out_what_a_claim_is_about(tmp_path):
    """Then it is not measured; never an error."""
    grid = read_grid("learn-from-unlearnable/table-2").selected({"attack": ["ops*"]}, resolve)
    (table,) = printed_tables(grid, Records(tmp_path), resolve, lacking)
    found = claims.check_claims([table])
    assert len(found) == 2 and all(one.ours == one.printed == UNMEASURED for one in found)


def test_with_same_a_place_is_compared_with_those_of_its_own_label(tmp_path):
    """Attack by attack; without it the best of one column would be held against the worst of another."""
    left, right = Places(row="*", column="Ortho Proj (Ours)"), Places(row="*", column="Adv Training")
    claim = Claim(paper="", place="", text="", table="", left=left, relation=">", right=right, without=("Clean",), count=6)
    paired = claim.model_copy(update={"same": ("attack",)})
    printed = {key: score.published for key, score in TABLE_3.scores.items()}
    won = sum(
        printed[row, ("Ortho Proj (Ours)",)] > printed[row, ("Adv Training",)] for row in TABLE_3.rows if row != ("Clean",)
    )
    assert won == 6 and claims.check_claim(paired, TABLE_3).printed == HOLDS
    assert claims.check_claim(paired.model_copy(update={"count": 7}), TABLE_3).printed == FAILS
    assert claims.check_claim(claim, TABLE_3).printed == FAILS  # each against all


def test_a_place_without_anything_to_compare_with_proves_nothing():
    """What holds for want of a rival would be a verdict out of nothing; and a dash in the paper is no missing number."""
    left, right = Places(row="*", column="Ortho Proj (Ours)"), Places(row="Clean", column="Adv Training")
    claim = Claim(paper="", place="", text="", table="", left=left, relation=">", right=right, same=("attack",))
    assert claims.check_claim(claim, TABLE_3).printed == UNMEASURED
    assert claims.check_claim(claim.model_copy(update={"count": 1}), TABLE_3).printed == HOLDS  # clean against clean
    ten = made("d-vae/table-10", Path("/nonexistent"))
    found = next(one for one in claims.check_claims([ten]) if "smaller" in one.claim.text)
    assert (found.over, found.printed) == (9, HOLDS)  # five poisons on CIFAR-10, four on CIFAR-100, where NTGA has a dash


def test_the_site_shows_every_claim_beside_the_tables_of_its_paper():
    """With both verdicts in words, and with the table that it is about."""
    both = [TABLE_3, made("learn-from-unlearnable/table-1", Path("/nonexistent"))]
    frame = {"navigation": {}, "here": "", "home": False, "published": False, "title": "", "scripted": False}
    page = environment("html").get_template("agreement.html").render(frame | overview.agreement(both))
    mine = [one for one in claims.claims() if one.table in (TABLE_3.name, "learn-from-unlearnable/table-1")]
    assert len(mine) > 5 and all(escape(one.text) in page for one in mine)
    assert page.count("not measured</td>") + page.count("not measured </td>") == len(mine)
    assert page.count("fails ✗") == 1 and "AR / Ortho Proj (Ours) 13.03, not &gt; 80.00" in page
    assert page.count('<a href="learn-from-unlearnable.table-3.html">') >= 3


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
