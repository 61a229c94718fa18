"""Sets that are poisoned in part: one choice of images for all attacks and defenses, and the clean rest of it as a control."""

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import as_data, call_bench, recipe, small_item, tiny
from hypothesis import given
from hypothesis import strategies as st
from test_run import accuracies, run_json

from unlearnable_bench.benchmark import driver
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.poisons.recipe import PurifiedRecipe
from unlearnable_bench.poisons.store import Kept, Store
from unlearnable_bench.registry import ATTACKS, DEFENSES, Job, lacking, resolve
from unlearnable_bench.registry.spec import write_spec
from unlearnable_bench.results import FileError

PURIFIERS = [name for name in DEFENSES if "purify" in DEFENSES.entry(name).hooks]


class Negatives(Store):
    """A store whose every poison is the negative of the images, so that each image tells whether it was poisoned."""

    def poison(self, recipe, data, wait=True):
        assert wait
        return Kept(Path("nowhere"), {}, 255 - data.train.images, data.train.labels, True)


def poisoned(mixed, clean):
    """Which images are negatives; every other one must be as it was."""
    found = (mixed.images != clean.images).flatten(1).any(1)
    assert torch.equal(mixed.images[found], 255 - clean.images[found]) and torch.equal(mixed.labels, clean.labels)
    return found


@given(ratio=st.floats(0.01, 1), seed=st.integers(0, 50), size=st.integers(1, 40), classes=st.integers(1, 5))
def test_the_poisoned_images_and_the_clean_rest_share_out_every_class(ratio, seed, size, classes):
    """Stratified and whole: of each class its share is poisoned, and the control has the others, in their order."""
    clean = dataclasses.replace(tiny(size, classes, (1, 2, 2), seed=seed), num_classes=classes)
    data, store = as_data(clean), Negatives(Path("nowhere"))
    where = poisoned(store.training_set(recipe("lsp", seed), data, ratio, "all"), clean)
    for label in range(classes):
        members = clean.labels == label
        assert int(where[members].sum()) == round(ratio * int(members.sum()))
    rest = store.training_set(recipe("lsp", seed), data, ratio, "clean")
    assert torch.equal(rest.images, clean.images[~where]) and torch.equal(rest.labels, clean.labels[~where])


@pytest.mark.parametrize("name", [name for name in ATTACKS if not ATTACKS.entry(name).facts.get("identity")])
def test_every_attack_poisons_the_same_images(name):
    """Curves over the ratio compare attacks, not choices; a seed that an attack fixes for itself is not the choice's."""
    clean = tiny(40)
    data, store = as_data(clean), Negatives(Path("nowhere"))
    item = small_item(ATTACKS.entry(name))
    for seed in (0, 1):
        wanted = poisoned(store.training_set(recipe("lsp", seed), data, 0.3, "all"), clean)
        assert torch.equal(poisoned(store.training_set(recipe(item, seed), data, 0.3, "all"), clean), wanted)
        rest = store.training_set(recipe(item, seed), data, 0.3, "clean")
        assert torch.equal(rest.images, clean.images[~wanted])
    if "epsilon" in {field.name for field in ATTACKS.entry(name).fields}:
        fixed = item[:-1] + ",seed=7)" if item.endswith(")") else item + "(seed=7)"
        assert torch.equal(poisoned(store.training_set(recipe(fixed, 1), data, 0.3, "all"), clean), wanted)


@pytest.mark.parametrize("name", PURIFIERS)
def test_every_purifier_is_given_the_part_that_is_trained_on(name, tmp_path):
    """The control goes through the same defense, alone: nothing of the poisoned images may reach it."""
    clean = tiny(32)
    data, store = as_data(clean), Store(tmp_path)
    defense = resolve("defenses", write_spec(name, DEFENSES[name].small))
    asked = PurifiedRecipe(recipe("lsp"), 0.5, "clean", defense, 0)
    kept = store.purified(asked, data)
    rest = store.training_set(recipe("lsp"), data, 0.5, "clean")
    with seeded(asked.stage_seed, Numerics(threads=1)):
        own = defense[0].build().purify(rest, Job(seed=asked.stage_seed, unpoisoned=rest)).images
    assert torch.equal(kept.images, own) and torch.equal(kept.labels, rest.labels) and len(kept.labels) == 16
    assert [folder.name for folder in store.folders()] == [kept.path.name], "no poison was made for it"


def test_a_clean_rest_is_purified_once_whatever_attack_left_it():
    """The attack does not enter; ratio, seed and defense do."""
    defense = resolve("defenses", "jpeg")

    def folder(attack, part, ratio=0.5, seed=0):
        return PurifiedRecipe(recipe(attack, seed), ratio, part, defense, seed).folder

    assert folder("lsp", "clean") == folder("ops", "clean") != folder("lsp", "all") != folder("ops", "all")
    assert len({folder("lsp", "clean"), folder("lsp", "clean", 0.4), folder("lsp", "clean", seed=1)}) == 3


@pytest.mark.slow
def test_the_command_runs_a_ratio_and_its_control(tmp_path):
    """What a ratio curve needs, from selectors alone: one poison, two cells, the control without a poison."""
    choice = ["--dataset", "digits(per_class=20,test_per_class=5)", "--scale", "0.1", "--ratio", "0.5", "--part", "all,clean"]
    run_json(*choice, "--attack", "lsp", "--defense", "grayscale", "--executor", "inline", workspace=tmp_path)
    assert sorted(label.split("/")[2] for label in accuracies(tmp_path)) == ["all-0.5", "clean-0.5"]
    made = [folder.name.rpartition("-")[0] for folder in Store(tmp_path / "poisons/cache").folders()]
    assert sorted(made) == ["lsp", "lsp-grayscale", "none-grayscale"]


def test_a_papers_grid_can_be_run_on_its_clean_rests():
    """Replaced like any other axis."""
    _, grid = driver.choose_grid("d-vae/table-9", {"part": ["all=clean"]})
    cells = grid.cells(resolve, lacking)
    assert len(cells) == 168 and {cell.part for cell in cells} == {"clean"}


@pytest.mark.parametrize(
    ("grid", "selectors"),
    [
        (None, {"part": ["rest"]}),
        ("quick", {"part": ["all=rest"]}),
        ("d-vae/table-9", {"part": ["all=rest"]}),
        ("quick", {"ratio": ["1=1.5"]}),
        ("d-vae/table-9", {"ratio": ["0.2=-1"]}),
    ],
    ids=str,
)
def test_a_share_that_no_table_may_hold_is_refused_in_a_sentence(grid, selectors):
    """Before any plan, on all three kinds of grid."""
    with pytest.raises(FileError, match=r"--(part rest: expected all or clean|ratio .*: expected a number from 0 to 1)"):
        driver.choose_grid(grid, selectors)


def test_at_ratio_one_there_is_no_clean_rest(tmp_path):
    """Not a failure: the plan says so."""
    out, _ = call_bench("run", "--attack", "lsp", "--part", "clean", "--dry-run", workspace=tmp_path)
    assert "at ratio 1 no clean images are left to train on" in out
