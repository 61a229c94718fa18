"""The tables at toy scale: what stands beside our numbers, and that every method has a row."""

import pytest

from leaderboard import toy
from registry import ATTACKS, DEFENSES, resolve
from results import read_table


def test_figures_beside_ours_are_those_of_the_papers_tables():
    """A reader compares the two; the figure must be of the same methods, on CIFAR-10, with every image poisoned."""
    known = toy.printed()
    assert known[toy.methods("ops", "none")]["d-vae"][0] == 22.03
    assert 48.16 in known[toy.methods("rem", "at(epsilon=4/255)")]["stable-error-minimizing"]
    assert toy.methods("rem", "at(epsilon=8/255)") != toy.methods("rem", "at(epsilon=4/255)")
    assert toy.methods("em(variant=rem)", "none") == toy.methods("em", "none") != toy.methods("em(staged=true)", "none")


def test_figures_beside_training_without_labels_are_of_the_same_backbone():
    """What a poison leaves to a victim with labels must not stand in the column of one without."""
    ucl, tue = toy.methods("ucl(variant=tue)", "none"), toy.methods("tue", "none")
    without, paper = toy.printed(("simclr",)), "transferable-unlearnable"
    assert 47.78 in without[ucl][paper] and 52.38 in without[tue][paper] and toy.printed(("moco",))[tue][paper] == (63.38,)
    assert set(toy.printed()[ucl][paper]) == {92.86, 92.62, 93.50}, "supervised, of the three backbones"


def test_figures_of_papers_are_written_with_both_ends():
    """Two figures of one paper must not become their mean."""
    papers = {"d-vae": (12.26, 10.09), "apbench": (20.78,)}
    assert toy.quoted(papers) == "DV 10.1–12.3, AP 20.8" and toy.spanned(papers) == " (10–21)"  # noqa: RUF001
    assert toy.quoted({}) == "–" and toy.spanned({}) == ""  # noqa: RUF001


@pytest.mark.parametrize(
    ("table", "axis", "catalog", "apart"),
    [
        ("toy-attacks", "attack", ATTACKS, {"imported", "transfer", "ucl", "tue", "d-vae"}),
        ("toy-defenses", "defense", DEFENSES, set()),
    ],
)
def test_every_method_has_a_row_at_toy_scale(table, axis, catalog, apart):
    """A method that nobody ever saw at work would stand beside the others as if it had been tried."""
    kind = f"{axis}s"
    shown = {part.name for _, item in read_table(table).items(axis) for part in resolve(kind, getattr(item, axis))}
    own = {name for name in catalog if catalog.entry(name).source == catalog.entry("none").source}
    assert shown == own - apart
