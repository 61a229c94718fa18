"""Poisons made from poisons: tools in chains (`lsp+swap`, `lsp(dataset=...)+transfer`) and attacks with parents (`ops-em`)."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import as_data, bench, call_bench, noisy, poison, recipe, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnable_bench.benchmark import grid
from unlearnable_bench.benchmark.plan import plan_cells
from unlearnable_bench.poisons import store as stores
from unlearnable_bench.poisons.lease import leased
from unlearnable_bench.poisons.store import BusyError, Store, promise
from unlearnable_bench.registry import ATTACKS, Budget, EntryError, Job, NotApplicable, Parent, resolve
from unlearnable_bench.registry.attacks.transfer import Transfer
from unlearnable_bench.registry.contract import DataInfo
from unlearnable_bench.results import Grid, Records, TableFile


@pytest.fixture(scope="module")
def data():
    return as_data(tiny(48))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "cache")


def kinds(found: Store) -> list[str]:
    return sorted(folder.name.rsplit("-", 1)[0] for folder in found.folders())


# Items


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("swap+swap", "swap acts on the poison at its left, and there is none"),
        ("lsp+ar", "ar makes a poison of its own; only tools may follow a '[+]' .*swap, transfer"),
        ("lsp+swap(mode=over)", "mode=over is none of intra, inter, shuffle"),
        ("lsp(dataset=digits)", "write lsp.dataset=digits.[+]transfer"),
        ("lsp(dataset=digits)+swap", "must be transferred to the dataset of the cell"),
        ("lsp+transfer(dataset=digits)", "dataset= belongs to the first part, lsp"),
        ("lsp(dataset=digts)+transfer", "unknown dataset 'digts'; did you mean 'digits'"),
        ("ops-em(noise=emm)", "unknown attack 'emm'; did you mean 'em'"),
        (
            "ops-em(noise=lsp(epsilon=2.0))",
            "epsilon does not go into noise=lsp.epsilon=2.0.; it is a parameter of attack ops-em",
        ),
        (f"ops-em(noise=lsp(patch={'1' * 300}))", "at most 256 are read"),
        ("small-cnn+small-cnn", "only defenses and attacks can be chained"),
    ],
)
def test_a_chain_that_means_nothing_is_refused_in_a_sentence(item, told):
    """Before any work, with what to write instead."""
    with pytest.raises(EntryError, match=told):
        resolve("architectures" if item.startswith("small") else "attacks", item)


@pytest.mark.parametrize(
    "item",
    [
        "lsp(patch=4)+swap(mode=inter)",
        "lsp(dataset=digits(per_class=20),seed=3)+swap+transfer(low=0.1)",
        "ops-em(epsilon=4/255,noise=random-noise(kind=sample))",
    ],
)
def test_a_chain_reads_back_from_what_it_is_written_as(item):
    """Records and pages show this text; `bench run` must find the same cell by it."""
    parts = resolve("attacks", item)
    text = "+".join(part.text for part in parts)
    again = resolve("attacks", text)
    assert [p.fields for p in again] == [p.fields for p in parts] and "+".join(p.text for p in again) == text


def test_a_tool_alone_is_no_poison(tmp_path):
    """Two commands and a nested item say it in the same sentence."""
    for arguments in (("craft", "swap"), ("run", "--attack", "swap", "--dry-run")):
        assert "swap acts on the poison at its left; write lsp+swap" in call_bench(*arguments, code=2, workspace=tmp_path)[1]
    with pytest.raises(EntryError, match=r"write lsp\+swap"):
        assert recipe("ops-em(noise=swap)").family


def test_a_poison_has_one_folder_however_its_fields_are_ordered():
    """Records sort their fields; the command line does not."""
    one = recipe("ar(epsilon=2.0,response=3.0,seed=1)")
    (part,) = one.attack
    other = dataclasses.replace(
        one, attack=(dataclasses.replace(part, fields=dict(sorted(part.fields.items(), reverse=True))),)
    )
    assert (one.folder, one.text) == (other.folder, other.text)


# Recipes


def test_a_chain_depends_on_all_that_is_at_its_left():
    """The poison's key holds its parents' keys: fields, versions, dataset and seed."""
    keys = {
        recipe(item, seed).key
        for item, seed in [
            *[("lsp+swap", 0), ("lsp+swap", 1), ("lsp(patch=4)+swap", 0), ("lsp+swap(mode=inter)", 0), ("lsp", 0)],
            *[("lsp+transfer", 0), ("lsp(dataset=svhn)+transfer", 0), ("lsp(seed=1)+swap(seed=0)", 0)],
            *[("lsp+swap+transfer", 0), ("lsp+transfer+swap", 0)],
        ]
    }
    assert len(keys) == 10
    (part, swap) = resolve("attacks", "lsp+swap")
    newer = dataclasses.replace(part, entry=dataclasses.replace(part.entry, facts={**part.entry.facts, "version": 9}))
    assert dataclasses.replace(recipe("lsp+swap"), attack=(newer, swap)).key != recipe("lsp+swap").key


def test_a_poison_in_a_chain_is_the_poison_alone():
    """A grid with `lsp` and `lsp+swap` crafts `lsp` once; a fixed seed of the first part fixes the whole."""
    assert recipe("lsp+swap", 1).parents == (recipe("lsp", 1),)
    assert recipe("lsp(seed=5)+swap", 1).key == recipe("lsp(seed=5)+swap", 2).key
    assert recipe("lsp(seed=5)+swap(seed=7)").parents[0].key == recipe("lsp", 5).key
    assert recipe("ops-em(noise=random-noise)", 1).parents[0].key == recipe("random-noise", 1).key
    assert [one.text for one in recipe("lsp+swap+transfer").family] == ["lsp", "lsp+swap", "lsp+swap+transfer"]


def test_tools_left_of_transfer_act_on_the_first_data_set_and_others_on_the_cells():
    """`dataset=` says where a poison was made; `transfer` is where it changes hands."""
    family = recipe("lsp(dataset=svhn)+swap+transfer+swap", dataset="digits").family
    assert [one.dataset.name for one in family] == ["svhn", "svhn", "digits", "digits"]


def test_ops_em_hands_its_radius_to_its_noise():
    """The radius is the field `epsilon` everywhere."""
    (parent,) = recipe("ops-em(epsilon=4/255,noise=random-noise(kind=sample))").parents
    assert parent.text == "random-noise(kind=sample,epsilon=4/255)"


# The store


def test_parents_are_crafted_first_and_kept(store, data):
    """Whoever asks for `lsp` later finds it, and the manifest says what a chain was made of."""
    made = store.poison(recipe("lsp+swap"), data)
    assert kinds(store) == ["lsp", "lsp-swap"]
    parent = store.poison(recipe("lsp"), data)
    assert parent.cached and made.manifest["parents"] == [parent.checksum]
    assert torch.equal(store.poison(recipe("lsp+swap"), data).images, made.images)


def test_a_chain_waits_for_its_parent_or_is_told(store, data):
    """Another process crafts the parent: a worker that does not want to wait takes another cell."""
    (store.root / ".locks").mkdir(parents=True)
    with (
        leased(store.root / ".locks" / f"{recipe('lsp').key}.lock"),
        pytest.raises(BusyError, match="another process is making lsp"),
    ):
        store.poison(recipe("lsp+swap"), data, wait=False)
    assert not store.poison(recipe("lsp+swap"), data, wait=False).cached


def test_only_the_first_classes_keep_their_noise(store, data):
    """And those have all of it."""
    whole, part = (store.poison(recipe(item), data).images for item in ("lsp", "lsp+classes(count=2)"))
    poisoned = data.train.labels < 2
    assert 0 < poisoned.sum() < len(poisoned)
    assert torch.equal(part[poisoned], whole[poisoned]) and torch.equal(part[~poisoned], data.train.images[~poisoned])
    with pytest.raises(NotApplicable, match="200 classes are to be poisoned, the dataset has 4"):
        ATTACKS["classes"](count=200).applies(DataInfo(64, 4, 3, 32))


@pytest.mark.parametrize(
    "item", ["lsp+swap", "ar+swap(mode=inter)", "lsp+transfer", "lsp+classes(count=2)", "ops+transfer", "random-noise+swap"]
)
def test_a_tool_keeps_the_budget_of_the_poison_at_its_left(store, data, item):
    """Clipping and mixing only shrink; the store checks what was published all the same."""
    budget, left = promise(recipe(item)), promise(recipe(item.partition("+")[0]))
    assert (budget.norm, budget.epsilon) == (left.norm, left.epsilon * (4 if item == "ops+transfer" else 1))
    kept = store.poison(recipe(item), data)
    assert kept.manifest["budget"]["allowed"] == budget.allowed((3, 32, 32)) >= kept.manifest["budget"]["spent"]


def test_a_poison_of_another_data_set_is_made_there(store, data, monkeypatch):
    """The parent lies in the store under the dataset that it was crafted on."""
    other = as_data(tiny(80, 4, seed=5))
    monkeypatch.setattr(stores, "load", lambda part: other if part.name == "svhn" else None)
    kept = store.poison(recipe("lsp(dataset=svhn)+transfer"), data)
    parent = store.poison(recipe("lsp", dataset="svhn"), other)
    assert parent.cached
    t = torch.arange(48) // 4 * 4 + torch.arange(48) % 4  # the t-th noise of a class: both sets go round the classes
    moved = data.train.images.short() + parent.images[t].short() - other.train.images[t].short()
    assert torch.equal(kept.images, moved.clamp(0, 255).byte())


def test_images_of_another_size_get_no_noise(store, data, monkeypatch):
    """Not applicable, with the sizes."""
    monkeypatch.setattr(stores, "load", lambda part: as_data(tiny(8, 4, (3, 8, 8))))
    with pytest.raises(NotApplicable, match=r"noise for images of \(3, 8, 8\) does not fit images of \(3, 32, 32\)"):
        store.poison(recipe("lsp(dataset=svhn,patch=4)+transfer"), data)


# swap, card F11

labelled = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(torch.tensor)


@given(labels=labelled, seed=st.integers(0, 99))
def test_intra_class_swap_keeps_the_class_of_every_noise_and_no_place(labels, seed):
    """The multiset of noises stays; where a class has one image there is nobody to swap with."""
    source = ATTACKS["swap"]().source(labels, Job(seed=seed))
    assert torch.equal(source.sort().values, torch.arange(len(labels)))
    assert torch.equal(labels[source], labels)
    assert all((source[row] != row) == ((labels == labels[row]).sum() > 1) for row in range(len(labels)))


@given(labels=labelled, seed=st.integers(0, 99))
def test_inter_class_swap_moves_whole_classes(labels, seed):
    """Each class receives noises of exactly one other class, no two of the same one, each noise once while they last."""
    source = ATTACKS["swap"](mode="inter").source(labels, Job(seed=seed))
    classes = labels.unique().tolist()
    givers = [labels[source[labels == label]].unique().tolist() for label in classes]
    assert all(len(giver) == 1 for giver in givers) and sorted(g[0] for g in givers) == classes
    for label, (giver,) in zip(classes, givers, strict=True):
        assert (giver != label) == (len(classes) > 1)
        used = source[labels == label].unique()
        assert len(used) == min((labels == label).sum(), (labels == giver).sum())


@given(labels=labelled, seed=st.integers(0, 99))
def test_shuffling_leaves_nobody_its_own_noise(labels, seed):
    """The control: noise goes anywhere."""
    source = ATTACKS["swap"](mode="shuffle").source(labels, Job(seed=seed))
    assert torch.equal(source.sort().values, torch.arange(len(labels)))
    assert len(labels) == 1 or (source != torch.arange(len(labels))).all()


def test_swapping_moves_the_noise_as_published(tmp_path):
    """Integer arithmetic: the other image's difference, clipped anew."""
    clean = tiny(40)
    left, swapped = (poison(tmp_path, item, clean).images.short() for item in ("lsp", "lsp+swap"))
    source = torch.from_numpy(np.load(next(tmp_path.glob("lsp-swap-*/source.npy"))))
    expected = (clean.images.short() + (left - clean.images)[source]).clamp(0, 255)
    assert torch.equal(swapped, expected) and (source != torch.arange(40)).all()


def test_one_class_has_no_other():
    """Said while planning."""
    with pytest.raises(NotApplicable, match="one class only"):
        ATTACKS["swap"](mode="inter").applies(tiny(4, 1).info)


# transfer, card F12


def slowly(tool: Transfer, stock: torch.Tensor, noises: torch.Tensor, wanted: torch.Tensor, job: Job) -> torch.Tensor:
    """Equations 7 and 8, image by image, from the rows and weights that were drawn."""
    rows, weights = tool.mixture(stock, wanted, job)
    return torch.stack(
        [sum(w * noises[r] for r, w in zip(rs, ws, strict=True)) for rs, ws in zip(rows, weights.double(), strict=True)]
    )


@given(st.data())
@settings(max_examples=30)
def test_mixtures_are_convex_and_of_the_right_classes(data):
    """Weights are 0 or more and sum to 1; an old class is made of itself, a new one of two others, weights alike in a class."""
    stock = torch.tensor(data.draw(st.permutations([0, 0, 0, 1, 1, 2, 2, 2, 2])))
    wanted = torch.tensor(data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=40)))
    rows, weights = Transfer().mixture(stock, wanted, Job(seed=data.draw(st.integers(0, 9))))
    assert (weights >= 0).all() and torch.allclose(weights.sum(1), torch.ones(len(wanted)))
    recipes = {}
    for label in wanted.unique().tolist():
        mine = wanted == label
        share = torch.zeros(int(mine.sum()), 3).scatter_add_(1, stock[rows[mine]], weights[mine])  # (images, source classes)
        assert torch.allclose(share, share[0].expand_as(share), atol=1e-6)
        assert (share[0] > 0).sum() == (1 if label < 3 else 2) and (label > 2 or share[0, label] == 1)
        recipes[label] = tuple(round(v, 4) for v in share[0].tolist())
    assert len(set(recipes.values())) == len(recipes), "no two classes are the same mixture"


def test_ten_classes_become_a_hundred_as_the_card_counts_them():
    """10 kept, 45 pairs by halves, 45 of the 90 by thirds."""
    stock, wanted = torch.arange(100) % 10, torch.arange(300) % 100
    _, weights = Transfer().mixture(stock, wanted, Job())
    first = weights[:100, :2].sum(1)  # share of the first class
    assert [(first[a:b] - share).abs().max() < 1e-6 for a, b, share in [(0, 10, 1), (10, 55, 0.5), (55, 100, 1 / 3)]] == [
        True
    ] * 3


def test_an_image_takes_the_noise_of_its_rank_until_they_run_out():
    """Equation 8 begins where the stock ends; a class of one noise gives it to all."""
    stock, wanted = torch.tensor([0, 1, 0]), torch.zeros(60, dtype=torch.int64)
    rows, weights = Transfer().mixture(stock, wanted, Job())
    assert rows[:2, 0].tolist() == [0, 2] and (weights[:2, 0] == 1).all()
    assert ((weights[2:, :2] >= 0.25) & (weights[2:, :2] <= 0.75)).all() and (rows[2:, 0] != rows[2:, 1]).all()
    rows, weights = Transfer().mixture(torch.tensor([0]), wanted, Job())
    assert (rows == 0).all() and (weights[:, 0] == 1).all()
    with pytest.raises(NotApplicable, match="the poison has one class only"):
        Transfer().mixture(torch.tensor([0]), torch.tensor([1]), Job())


def test_transferred_noise_is_what_the_equations_say():
    """More classes and more images at once, against one image at a time in double precision; the bound is kept."""
    parent, clean, job = noisy(tiny(20, 3)), tiny(60, 7, seed=3), Job(seed=1, parents=(noisy(tiny(20, 3)),))
    delta = torch.cat([part for _, part in Transfer().craft(clean, job)])
    noises = parent.delta(torch.arange(20)).double()
    assert torch.allclose(delta.double(), slowly(Transfer(), parent.clean.labels, noises, clean.labels, Job(seed=1)), atol=1e-7)
    assert delta.abs().max() <= 8 / 255 + 1e-6


def test_classes_stay_apart_after_a_transfer_of_lsp(tmp_path):
    """Card F12: a nearest mean names the class of new noises at least 99 % of the time, new classes included."""
    source = tiny(300, 5, seed=1)
    images = poison(tmp_path, "lsp", source).images
    clean = tiny(600, 12)
    job = Job(parents=(Parent(source, images),))
    delta = torch.cat([part for _, part in Transfer().craft(clean, job)]).flatten(1)
    means = torch.stack([delta[:300][clean.labels[:300] == label].mean(0) for label in range(12)])
    assert (torch.cdist(delta[300:], means).argmin(1) == clean.labels[300:]).float().mean() >= 0.99


@pytest.mark.parametrize("fields", [{"low": -0.1}, {"low": 0.8}, {"high": 1.2}])
def test_weights_outside_0_and_1_are_refused(fields):
    """They would not be convex, and could break the budget."""
    with pytest.raises(EntryError, match="expected 0 <= low <= high <= 1"):
        Transfer(**fields)


# ops-em, card F04


def test_ops_em_is_its_noise_but_for_one_pixel_found_on_clean_images(tmp_path):
    """The difference to the noise alone is the pixel of `ops`; what is not the pixel keeps the radius."""
    clean = tiny()
    both, noise, pixel = (poison(tmp_path, item, clean) for item in ("ops-em(noise=random-noise)", "random-noise", "ops"))
    marked = (pixel.images != clean.images).any(1, keepdim=True)
    assert torch.equal(both.images, torch.where(marked, pixel.images, noise.images))
    rest = (both.images.short() - clean.images.short()).abs().masked_fill(marked, 0)
    assert rest.max() == 8 and marked.flatten(1).sum(1).max() == 1
    assert both.manifest["budget"]["allowed"] is None and both.manifest["budget"]["norm"] == "none"


# Grids and commands


def test_a_plan_counts_each_poison_of_a_family_once(tmp_path):
    """The dry run says how much there is to craft, parents included, and records say which versions they rest on."""
    table = TableFile.model_validate(
        {
            "title": "t",
            "protocol": "quick",
            "dataset": "digits",
            "architecture": "small-cnn",
            "seed": [0],
            "defense": ["none", "jpeg"],
            "attack": ["lsp", "lsp+swap", "lsp+swap(mode=inter)", "ops-em(noise=random-noise)"],
        }
    )
    planned = plan_cells("t", *grid.expand(Grid.of(table)), Records(tmp_path))
    assert len(planned.to_run) == 8 and planned.stages()["craft"] == 5
    versions = planned.to_run[-1].versions()
    assert {"attack:ops-em", "attack:random-noise"} <= versions.keys()
    assert {"attack:lsp", "attack:swap"} <= planned.to_run[2].versions().keys()


def test_a_data_set_that_is_only_a_parents_must_be_there_too(tmp_path):
    """Said before any work, as for the cell's own."""
    arguments = ("run", "--attack", "lsp(dataset=svhn)+transfer", "--dry-run")
    assert (
        "dataset svhn is not at"
        in call_bench(*arguments, code=2, workspace=tmp_path, environment={"BENCH_DATA": str(tmp_path)})[1]
    )


@pytest.mark.slow
def test_a_cell_runs_with_a_chain_and_shows_it(tmp_path):
    """From the command line to the record; the chain stands there as it was written."""
    attack = "lsp(epsilon=2.2)+swap(mode=inter)"
    bench(
        *("run", "--attack", attack, "--dataset", "digits(per_class=20,test_per_class=5)", "--protocol", "quick@0.1"),
        *("--executor", "inline"),
        workspace=tmp_path,
    )
    (path,) = (tmp_path / "results" / "records").glob("*.json")
    record = json.loads(path.read_text())
    assert "+".join(part["text"] for part in record["cell"]["attack"]) == attack
    assert record["poison"]["norm"] == "l2" and "attack:swap" in record["versions"]
    rows = json.loads(call_bench("poisons", "ls", "--json", workspace=tmp_path)[0])
    assert {row["attack"] for row in rows} == {"lsp", "lsp+swap"}


def test_a_tool_alone_promises_nothing():
    """Only a chain has a budget."""
    assert ATTACKS["swap"]().budget == Budget("none") == ATTACKS["transfer"]().budget
