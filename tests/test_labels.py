"""What readers call methods: every entry has a display name and a short label, and no two of a table read alike."""

import pytest

from unlearnable_bench.registry import CATALOGS, resolve
from unlearnable_bench.registry.labels import display_name, label, labels


@pytest.mark.parametrize("kind", CATALOGS)
def test_every_entry_of_ours_has_a_display_name_and_no_two_share_it(kind):
    """Pages, LaTeX and figures write `Adversarial training` and `AT 8/255`, never `at`."""
    names = [row.facts.get("display_name") for row in CATALOGS[kind].rows if row.source == "built-in"]
    assert all(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", [kind for kind in CATALOGS if kind != "datasets"])
def test_labels_of_a_kind_differ_and_are_short(kind):
    """They head the columns of tables."""
    rows = [row.name for row in CATALOGS[kind].rows if row.source == "built-in"]
    made = [label(resolve(kind, name)) for name in rows if name not in ("swap", "transfer")]
    assert len(set(made)) == len(made)
    assert max(map(len, made)) <= 24
    assert not [name for name in made if "{" in name]


def test_a_label_shows_the_parameter_that_readers_ask_for():
    """The radius of adversarial training cannot be seen in `at(steps=3)`."""
    assert label(resolve("defenses", "at(steps=3)")) == "AT 8/255"
    assert label(resolve("defenses", "jpeg(quality=30)+grayscale")) == "JPEG 30 + Grayscale"
    assert display_name(resolve("defenses", "jpeg+at")) == "JPEG compression + Adversarial training"


def test_what_would_read_alike_says_in_what_it_differs():
    """A table of ablations has the same method many times."""
    asked = ["em", "em(variant=apb)", "lsp", "at(epsilon=4/255)"]
    kinds = ["attacks", "attacks", "attacks", "defenses"]
    made = labels([resolve(kind, spec) for kind, spec in zip(kinds, asked, strict=True)])
    assert made == ["EM (variant paper)", "EM (variant apb)", "LSP", "AT 4/255"]
    twice = labels([resolve("defenses", spec) for spec in ("jpeg+at", "jpeg+at(steps=3)", "at+jpeg")])
    assert twice == ["JPEG 10 + AT 8/255 (steps 10)", "JPEG 10 + AT 8/255 (steps 3)", "AT 8/255 + JPEG 10"]
