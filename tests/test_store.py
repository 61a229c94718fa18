"""The store: crafted once, checked after rounding, kept whole, shared by all that ask, and never trusted blindly."""

import dataclasses
import json
import logging
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import as_data, in_process, plug_in, poison, recipe, start, tiny
from hypothesis import example, given
from hypothesis import strategies as st

from unlearnable_bench.poisons.lease import leased
from unlearnable_bench.poisons.numerics import Numerics
from unlearnable_bench.poisons.recipe import PoisonRecipe, PurifiedRecipe
from unlearnable_bench.poisons.store import (
    BudgetError,
    BusyError,
    CraftError,
    DamagedError,
    Store,
    checksum,
    chosen_images,
    read_manifest,
    verify_set,
)
from unlearnable_bench.registry import Attack, Budget, Defense, EntryError, Job, NotApplicable, resolve
from unlearnable_bench.registry._from_source import describe
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.contract import ImageSet

# Entries that do what they must not


@dataclasses.dataclass(frozen=True)
class Misbehaving(Attack):
    """An attack that breaks its contract in one way."""

    mode: str = "good"
    epsilon: float = 8 / 255

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def craft(self, clean: ImageSet, job: Job):
        delta = torch.full(clean.images.shape, self.epsilon)
        if self.mode == "beyond":
            delta[5, 0, 0, 0] = 9 / 255
        if self.mode == "short":
            return delta[:-1]
        if self.mode == "shape":
            return delta[:, :, 1:]
        if self.mode == "dtype":
            return delta.double()
        if self.mode == "nan":
            delta[3, 0, 0, 0] = float("nan")
        if self.mode == "gap":
            return ((slice(i, i + 8), delta[i : i + 8]) for i in (0, 16))
        if self.mode == "threads":
            job.note(threads=float(torch.get_num_threads()))
        if self.mode == "stops":
            return ((slice(i, i + 8), delta[i : i + 8]) for i in (0, 8))
        if self.mode == "slices":
            return ((where, delta[where]) for where in clean.batches(7))
        if self.mode == "leaves out":
            job.leave_out(np.arange(len(clean)) % 5 == 0)
            delta[::5] = 0
        if self.mode == "leaves out all":
            job.leave_out(np.ones(len(clean), bool))
        if self.mode == "leaves out by number":
            job.leave_out(np.arange(3))
        if self.mode == "raises":
            raise RuntimeError("out of luck")
        return delta


@dataclasses.dataclass(frozen=True)
class Shuffling(Defense):
    """A purifier that breaks its contract in one way."""

    mode: str = "labels"

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        if self.mode == "labels":
            return dataclasses.replace(train, labels=train.labels.flip(0))
        if self.mode == "dtype":
            return dataclasses.replace(train, images=train.images.double())
        return dataclasses.replace(train, images=train.images[:, :1])


def misbehaving(mode: str) -> PoisonRecipe:
    entry = describe("attacks", "misbehaving", "tests", __name__, "Misbehaving", Path(__file__))
    part = ConfiguredEntry(entry, "misbehaving", {"mode": mode, "epsilon": 8 / 255})
    return PoisonRecipe(resolve("datasets", "digits")[0], (part,), 0)


def purified(attack: str, defense: str, seed: int = 0, ratio: float = 1.0, part: str = "all") -> PurifiedRecipe:
    return PurifiedRecipe(recipe(attack, seed), ratio, part, resolve("defenses", defense), seed)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture(scope="module")
def data():
    return as_data(tiny(32))


# Once


def test_a_poison_is_crafted_once_and_found_afterwards(store, data):
    """A grid crafts each poison once, however many cells use it."""
    first = store.poison(recipe("lsp"), data)
    again = store.poison(recipe("lsp"), data)
    assert not first.cached and again.cached
    assert first.path == again.path and first.checksum == again.checksum
    assert torch.equal(first.images, again.images) and store.has(recipe("lsp"))
    assert [folder.name for folder in store.folders()] == [recipe("lsp").folder]


def test_what_was_made_is_described_beside_it(store, data):
    """The manifest is what makes a poison citable: recipe, seed, budget as measured, and the images it was made for."""
    kept = store.poison(recipe("lsp", seed=3), data)
    manifest = json.loads((kept.path / "manifest.json").read_text())
    assert manifest["recipe"] == recipe("lsp", seed=3).plain()
    assert manifest["recipe"]["seed"] == 3 and manifest["dataset_fingerprint"] == data.fingerprint
    budget = manifest["budget"]
    assert budget["norm"] == "l2" and 1.2 < budget["spent"] <= budget["allowed"] == Budget("l2", 1.3041).allowed((3, 32, 32))
    assert manifest["checksum"] == checksum(kept.path) and manifest["seconds"] >= 0
    assert manifest["numerics"] == {"dtype": "fp32", "compile": False, "threads": 1}


def test_a_large_set_is_crafted_on_one_thread_like_a_small_one(store):
    """Bytes depend on the number of threads; with all cores of a machine, every machine would make another poison."""
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8).expand(6000, -1, -1, -1).contiguous()
    clean = ImageSet(images, torch.arange(6000) % 4, 4, ("a", "b", "c", "d"))
    torch.set_num_threads(2)
    try:
        kept = store.poison(misbehaving("threads"), as_data(clean))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert kept.manifest["notes"]["threads"] == 1 and kept.numerics["threads"] == 1
    assert kept.numerics == {"device": "cpu", "dtype": "fp32", "compile": False, "threads": 1}


def test_half_precision_is_for_steps_against_a_surrogate_on_a_gpu(monkeypatch):
    """Every CPU makes the same poison, whether it multiplies bf16 faster or not."""
    monkeypatch.setattr("unlearnable_bench.poisons.numerics.fast_bf16", lambda device: True)
    assert Numerics.pinned("cpu", surrogate=True) == Numerics("fp32", False, 1)
    assert Numerics.pinned("cuda:0", surrogate=True).dtype == "bf16" and Numerics.pinned("cuda:0").dtype == "fp32"


def test_what_an_attack_keeps_and_notes_lies_beside_the_poison(store, data):
    """Side products such as coefficients are for analyses."""
    kept = store.poison(recipe("ar"), data)
    assert np.load(kept.path / "coefficients.npy").shape == (4, 3, 3, 3)
    em = store.poison(recipe("em(surrogate=small-cnn,batch=16,max_rounds=1,noise_steps=1)"), data)
    assert em.manifest["notes"]["rounds"] == 1
    for name in ("images", "labels", "left_out", "../out", "a/b", ""):
        with pytest.raises(ValueError, match="cannot be kept under the name"):
            Job().keep(name, np.zeros(1))


@pytest.mark.parametrize(
    "other",
    [recipe("lsp(patch=4)"), recipe("lsp", 1), recipe("lsp", dataset="svhn"), recipe("random-noise"), recipe("lsp(seed=5)")],
)
def test_another_recipe_is_another_poison(other):
    """All that a poison depends on is in its key."""
    assert other.key != recipe("lsp").key and other.folder != recipe("lsp").folder


def test_a_poison_does_not_depend_on_what_is_done_to_it_later():
    """An attack that fixes its seed is crafted once for victims of all seeds; fields of later stages never enter."""
    assert recipe("lsp(seed=5)", 1).key == recipe("lsp(seed=5)", 2).key == recipe("lsp", 5).key
    assert purified("lsp", "jpeg").key != purified("lsp", "jpeg(quality=50)").key
    assert purified("lsp", "jpeg").poison.key == purified("lsp", "bdr").poison.key


def test_a_clean_set_is_purified_once_whatever_attack_was_not_applied():
    """`none` of every seed is the same clean set."""
    assert purified("none", "jpeg").key == dataclasses.replace(purified("none", "jpeg"), poison=recipe("none", 7)).key


def test_raising_a_version_makes_another_poison():
    """A cached poison must not outlive a change to its attack, or to its surrogate."""
    (part,) = resolve("attacks", "lsp")
    newer = dataclasses.replace(part, entry=dataclasses.replace(part.entry, facts={"version": 2}))
    assert dataclasses.replace(recipe("lsp"), attack=(newer,)).key != recipe("lsp").key
    assert recipe("em").plain()["attack"][0]["surrogate"] == 1


def test_a_purified_set_is_kept_like_a_poison(store, data):
    """Purified once per poison and purifier; float32 stays where the purifier must not round."""
    first = store.purified(purified("lsp", "jpeg"), data)
    assert not first.cached and store.purified(purified("lsp", "jpeg"), data).cached
    assert store.poison(recipe("lsp"), data).cached, "its poison was crafted on the way"
    assert store.purified(purified("lsp", "ortho-proj(epochs=1)"), data).images.dtype == torch.float32


def test_purifiers_run_from_left_to_right(store, data):
    """`jpeg+bdr` ends on the values of `bdr`, `bdr+jpeg` does not."""
    values = {
        chain: store.purified(purified("none", chain), data).images.unique().numel() for chain in ("jpeg+bdr", "bdr+jpeg")
    }
    assert values["jpeg+bdr"] == 4 < values["bdr+jpeg"]


# Several processes

SLOW = '''
"""Slow: takes its time."""
import os, time
from dataclasses import dataclass
from unlearnable_bench.registry import Attack, Budget, Paper
@dataclass(frozen=True)
class Slow(Attack):
    epsilon: float = 8 / 255
    paper = Paper("Slow", venue="nowhere", url="")
    @property
    def budget(self):
        return Budget("linf", self.epsilon)
    def craft(self, clean, job):
        import torch
        with open(os.environ["TALLY"], "a") as file:
            file.write("crafted\\n")
        time.sleep(float(os.environ["NAP"]))
        return torch.full(clean.images.shape, self.epsilon)
'''
ASK = """
    import sys
    from pathlib import Path
    import torch
    from unlearnable_bench.poisons.recipe import PoisonRecipe
    from unlearnable_bench.poisons.store import Store
    from unlearnable_bench.registry import ImageSet, resolve
    from unlearnable_bench.registry.data import Data
    images = torch.arange(96, dtype=torch.uint8).view(8, 3, 2, 2)
    train = ImageSet(images, torch.arange(8) % 2, 2)
    recipe = PoisonRecipe(resolve("datasets", "digits")[0], resolve("attacks", "slow"), 0)
    kept = Store(Path(sys.argv[1])).poison(recipe, Data(train, train, "f"))
    print(kept.cached, kept.checksum)
"""


@pytest.fixture
def slow(tmp_path):
    plug_in(tmp_path / "site", "bench-slow", SLOW, "[bench.attacks]\nslow = bench_slow:Slow\n")
    return tmp_path / "site", tmp_path / "tally"


@pytest.mark.slow
def test_of_two_processes_that_want_the_same_poison_one_crafts_and_the_other_waits(tmp_path, slow):
    """Workers of a grid start at the same moment and ask for the same poison first."""
    site, tally = slow
    both = [start(ASK, tmp_path / "cache", site=site, TALLY=str(tally), NAP="1.5") for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert all(process.returncode == 0 for process in both), told
    cached, sums = zip(*(out.split() for out, _ in told), strict=True)
    assert tally.read_text() == "crafted\n", "crafted by one of them only"
    assert sorted(cached) == ["False", "True"] and len(set(sums)) == 1


@pytest.mark.slow
def test_what_a_killed_process_left_is_cleared_away(tmp_path, slow):
    """Out of memory or out of time: the system frees the lock, and the half-made folder is nobody's poison."""
    site, tally = slow
    killed = start(ASK, tmp_path / "cache", site=site, TALLY=str(tally), NAP="60")
    until = time.monotonic() + 60
    while not tally.exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    (left,) = Store(tmp_path / "cache").folders()
    assert left.name.endswith(".making") and not (left / "manifest.json").exists()
    assert in_process(ASK, tmp_path / "cache", site=site, TALLY=str(tally), NAP="0").startswith("False")
    (made,) = Store(tmp_path / "cache").folders()
    assert not made.name.endswith(".making")


def test_who_does_not_want_to_wait_is_told(store, data):
    """A worker takes another cell instead of sleeping."""
    with (
        leased(store.root / ".locks" / f"{recipe('lsp').key}.lock"),
        pytest.raises(BusyError, match="another process is making lsp"),
    ):
        store.poison(recipe("lsp"), data, wait=False)
    assert not store.poison(recipe("lsp"), data, wait=False).cached


def test_a_craft_that_fails_leaves_nothing_that_looks_like_a_poison(store, data):
    """The next attempt starts afresh."""
    with pytest.raises(RuntimeError, match="out of luck"):
        store.poison(misbehaving("raises"), data)
    assert store.folders() == [] and not store.has(misbehaving("raises"))


def test_a_budget_that_is_no_property_is_told_so(store, data, monkeypatch):
    """The first slip of somebody who writes an attack; `'function' object has no attribute 'measure'` helps nobody."""
    monkeypatch.setattr(Misbehaving, "budget", lambda self: Budget("linf", self.epsilon))
    with pytest.raises(CraftError, match=r"`budget` is not a Budget; expected a property \(@property\) that returns one"):
        store.poison(misbehaving("good"), data)


# Damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-7] ^= 16
    path.write_bytes(content)


DAMAGES = {
    "images cut off": ("images.npy", cut),
    "a bit of the images flipped": ("images.npy", flip),
    "a label flipped": ("labels.npy", flip),
    "images empty": ("images.npy", lambda path: path.write_bytes(b"")),
    "images gone": ("images.npy", Path.unlink),
    "images no array": ("images.npy", lambda path: path.write_bytes(b"x" * 1000)),
    "labels a pickle": ("labels.npy", lambda path: np.save(path, np.array([{}], object), allow_pickle=True)),
    "manifest cut off": ("manifest.json", cut),
    "manifest gone": ("manifest.json", Path.unlink),
    "manifest of another kind": ("manifest.json", lambda path: path.write_text("[1, 2]")),
    "manifest without a checksum": ("manifest.json", lambda path: path.write_text('{"recipe": {}}')),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_set_is_named_set_aside_and_made_again(store, data, caplog, damage):
    """Disks fill up and files get cut: a victim must never train on what is not the published poison."""
    name, harm = DAMAGES[damage]
    first = store.poison(recipe("lsp"), data)
    wanted, path = first.images.clone(), first.path
    harm(path / name)
    with caplog.at_level(logging.WARNING):
        again = store.poison(recipe("lsp"), data)
    assert not again.cached and torch.equal(again.images, wanted) and again.checksum == first.checksum
    (message,) = caplog.messages
    assert str(path) in message and name.partition(".")[0] in message and "set aside as" in message
    assert {folder.name for folder in store.folders()} == {path.name, f"{path.name}.damaged-1"}
    verify_set(path)


def test_verifying_reads_everything_again(store, data):
    """`bench poisons verify` must not rely on what this process remembers."""
    path = store.poison(recipe("lsp"), data).path
    verify_set(path)
    status = (path / "images.npy").stat()
    flip(path / "images.npy")
    os.utime(path / "images.npy", ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DamagedError, match=r"images\.npy or labels\.npy was changed"):
        verify_set(path)


def test_a_poison_of_other_images_is_not_used(store, data):
    """A data folder that was replaced keeps its name; its old poisons would not fit its images."""
    store.poison(recipe("lsp"), data)
    other = as_data(tiny(32, seed=9))
    again = store.poison(recipe("lsp"), other)
    assert not again.cached and again.manifest["dataset_fingerprint"] == other.fingerprint


def test_a_manifest_is_read_or_refused(tmp_path):
    """The reader of other people's poisons says what is wrong."""
    with pytest.raises(DamagedError, match=r"manifest\.json is not a whole manifest"):
        read_manifest(tmp_path)


# Contracts


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("beyond", r"misbehaving\(mode=beyond\) spent 9/255 of linf, allowed 8/255"),
        ("short", "returned noise for 31 of 32 images"),
        ("shape", r"returned noise of torch.float32 \(32, 3, 31, 32\), expected float32 \(32, 3, 32, 32\)"),
        ("dtype", "returned noise of torch.float64"),
        ("nan", "returned noise that is not finite"),
        ("gap", "skipped from image 8 to 16"),
        ("stops", "returned noise for 16 of 32 images"),
        ("leaves out all", "leaves out all 32 images"),
        ("leaves out by number", r"leaves out int64 \(3,\); expected bool \(32,\)"),
    ],
)
def test_noise_that_breaks_the_contract_is_refused_and_not_kept(store, data, mode, told):
    """An attack must not look strong because it spent more than it says."""
    with pytest.raises(BudgetError if mode == "beyond" else CraftError, match=told):
        store.poison(misbehaving(mode), data)
    assert store.folders() == []


def test_noise_in_slices_is_noise_in_one_piece(store, data):
    """Generators are for sets over 2 GB; the bytes must not depend on it."""
    assert store.poison(misbehaving("slices"), data).checksum == store.poison(misbehaving("good"), data).checksum


@pytest.mark.parametrize(
    ("mode", "told"), [("labels", "changed the labels"), ("dtype", "returned torch.float64"), ("shape", r"\(32, 1, 32, 32\)")]
)
def test_a_purifier_that_breaks_the_contract_is_refused(store, data, mode, told):
    """Labels in another order train a victim to nothing, which would look like a failed defense."""
    entry = describe("defenses", "shuffling", "tests", __name__, "Shuffling", Path(__file__))
    wrong = dataclasses.replace(purified("none", "jpeg"), purifiers=(ConfiguredEntry(entry, "shuffling", {"mode": mode}),))
    with pytest.raises(CraftError, match=told):
        store.purified(wrong, data)
    assert store.folders() == []


def test_crafting_neither_uses_nor_changes_the_callers_random_numbers(store, data):
    """A victim trained after crafting is the one trained after finding the poison."""
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    store.poison(recipe("random-noise"), data)
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == 1


# Rounding and budgets: laws

epsilons = st.floats(0, 1.5) | st.integers(0, 120).map(lambda n: n / 2 / 255) | st.integers(0, 60).map(lambda n: n / 255)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))


def perturbed(shape, seed, within):
    """A clean image and a poisoned one, rounded as the store rounds; `within` shapes the noise."""
    from unlearnable_bench.poisons.store import add

    draw = np.random.default_rng(seed)
    clean = torch.from_numpy(draw.integers(0, 256, (1, *shape), np.uint8))
    delta = torch.from_numpy(within(draw).astype(np.float32)).view(1, *shape)
    return clean, add(clean, delta, "test")


@given(epsilon=epsilons, shape=shapes, seed=st.integers(0, 10**6), extreme=st.booleans())
@example(epsilon=6.5 / 255, shape=(3, 4, 4), seed=0, extreme=True)
def test_noise_within_an_linf_radius_keeps_its_budget_after_rounding(epsilon, shape, seed, extreme):
    """No attack that keeps its word in float may be refused for the rounding that we do; half levels included."""

    def within(draw):
        unit = draw.choice([-1.0, 1.0], shape) if extreme else draw.uniform(-1, 1, shape)
        return unit * epsilon

    assert Budget("linf", epsilon).holds(*perturbed(shape, seed, within))


@given(epsilon=epsilons, shape=shapes, seed=st.integers(0, 10**6))
@example(epsilon=0.499 / 255, shape=(1, 1, 1), seed=1)
def test_noise_within_an_l2_radius_keeps_its_budget_after_rounding(epsilon, shape, seed):
    """Rounding moves every value by up to half a level, which the allowance covers."""

    def within(draw):
        noise = draw.normal(size=shape)
        return noise / np.linalg.norm(noise) * epsilon

    assert Budget("l2", epsilon).holds(*perturbed(shape, seed, within))


@given(shape=shapes, seed=st.integers(0, 10**6), count=st.integers(0, 16))
def test_an_l0_budget_counts_positions_not_values(shape, seed, count):
    """A pixel of three channels is one pixel; its values may change as far as they like."""
    positions = shape[1] * shape[2]
    count = min(count, positions)

    def within(draw):
        mask = np.zeros(positions)
        mask[draw.permutation(positions)[:count]] = 1
        return draw.uniform(-1, 1, shape) * mask.reshape(shape[1:])

    clean, poisoned = perturbed(shape, seed, within)
    assert Budget("l0", count).holds(clean, poisoned)
    assert Budget("l0", count).measure(clean, poisoned) == int((clean != poisoned).any(1).sum())


@given(levels=st.integers(0, 100), extra=st.integers(1, 20))
def test_one_level_too_much_breaks_an_linf_budget(levels, extra):
    """The allowance for rounding must not let an attack through that spends more."""
    clean = torch.full((2, 3, 4, 4), 100, dtype=torch.uint8)
    beyond = clean.clone()
    beyond[1, 2, 3, 3] += levels + extra
    assert not Budget("linf", levels / 255).holds(clean, beyond)
    assert Budget("linf", (levels + extra) / 255).holds(clean, beyond)
    assert Budget("linf", 0).measure(clean, beyond) == (levels + extra) / 255


def test_an_l2_budget_is_per_image():
    """A quiet image does not pay for a loud one."""
    clean = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    beyond = clean.clone()
    beyond[0] = 255
    assert Budget("l2", 0).measure(clean, beyond) == 4.0
    assert not Budget("l2", 3.5).holds(clean, beyond) and Budget("l2", 4.0).holds(clean, beyond)


def test_without_a_norm_everything_is_allowed_and_measured():
    """Some published poisons have no radius."""
    clean = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    assert Budget("none").holds(clean, clean + 200) and Budget("none").measure(clean, clean + 200) == 200 / 255


@pytest.mark.parametrize(("norm", "epsilon"), [("l1", 1.0), ("linf", -0.1), ("l2", float("nan")), ("linf", float("inf"))])
def test_a_budget_that_means_nothing_is_refused(norm, epsilon):
    """A forgotten radius is infinite."""
    with pytest.raises(EntryError, match=r"norm|radius"):
        Budget(norm, epsilon)


# Mixing at a ratio: laws

label_lists = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(labels=label_lists, ratio=st.floats(0, 1), seed=st.integers(0, 100))
def test_a_ratio_holds_within_every_class(labels, ratio, seed):
    """Stratified: a class that escaped the poison would carry the whole accuracy."""
    values = torch.tensor(labels)
    chosen = chosen_images(values, 4, ratio, seed)
    assert chosen.dtype == torch.bool and chosen.shape == values.shape
    for label in range(4):
        members = values == label
        assert int(chosen[members].sum()) == round(ratio * int(members.sum()))


@given(labels=label_lists, ratios=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 100))
def test_a_smaller_ratio_is_contained_in_a_larger(labels, ratios, seed):
    """Nested: curves over the ratio differ by added images, not by other ones."""
    less, more = (chosen_images(torch.tensor(labels), 4, ratio, seed) for ratio in sorted(ratios))
    assert (~less | more).all()


def test_another_seed_chooses_other_images():
    """Error bars over seeds include the choice."""
    labels = torch.arange(200) % 4
    assert (chosen_images(labels, 4, 0.5, 0) != chosen_images(labels, 4, 0.5, 1)).any()


def test_a_mixed_set_takes_the_chosen_images_from_the_poison_and_the_others_clean(store, data):
    """All attacks and defenses share the choice; the poison is crafted of all images."""
    chosen = chosen_images(data.train.labels, 4, 0.25, 0)
    for attack in ("lsp", "random-noise"):
        poisoned = store.poison(recipe(attack), data).images
        mixed = store.training_set(recipe(attack), data, 0.25, "all")
        assert torch.equal(mixed.images[chosen], poisoned[chosen])
        assert torch.equal(mixed.images[~chosen], data.train.images[~chosen])
        assert torch.equal(mixed.labels, data.train.labels)
    assert torch.equal(data.train.images, tiny(32).images), "the clean set is nobody's scratch paper"


def test_the_clean_rest_is_what_was_not_chosen(store, data):
    """The control of a ratio curve: what the clean images alone would give; nothing is crafted for it."""
    rest = store.training_set(recipe("lsp"), data, 0.25, "clean")
    chosen = chosen_images(data.train.labels, 4, 0.25, 0)
    assert torch.equal(rest.images, data.train.images[~chosen]) and torch.equal(rest.labels, data.train.labels[~chosen])
    assert store.folders() == []


@pytest.mark.parametrize(("attack", "ratio"), [("none", 1.0), ("none", 0.5), ("lsp", 0.0)])
def test_nothing_is_stored_for_a_set_that_is_clean(store, data, attack, ratio):
    """A copy of the dataset per seed would fill disks."""
    assert store.training_set(recipe(attack), data, ratio, "all") is data.train
    assert store.folders() == []


def test_the_whole_poison_is_the_training_set_at_ratio_one(store, data):
    """The usual case."""
    found = store.training_set(recipe("lsp"), data, 1.0, "all")
    assert torch.equal(found.images, poison(store.root, "lsp", data.train).images)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_what_a_poison_leaves_out_is_in_no_training_set(store, data, ratio):
    """Images that noise was judged by: a victim that learned them would undo it. Clean images of others are nobody's loss."""
    made = misbehaving("leaves out")
    chosen, left_out = chosen_images(data.train.labels, 4, ratio, 0), torch.arange(32) % 5 == 0
    kept = ~(chosen & left_out)
    mixed, before = (f(made, data, ratio, "all") for f in (store.training_set, store.unpoisoned))
    poisoned = torch.where(chosen[:, None, None, None], store.poison(made, data).images, data.train.images)
    assert torch.equal(mixed.images, poisoned[kept]) and torch.equal(mixed.labels, data.train.labels[kept])
    assert torch.equal(before.images, data.train.images[kept]) and torch.equal(before.labels, mixed.labels)
    assert torch.equal(store.trained_rows(made, data, ratio, "all"), torch.nonzero(kept).flatten())
    assert store.poison(made, data).manifest["notes"] == {"left_out": 7}
    rest = store.training_set(made, data, ratio, "clean")
    assert torch.equal(rest.images, data.train.images[~chosen]), "part of them are clean images that somebody else has"


def test_a_tool_is_not_given_a_poison_that_leaves_images_out(store, data):
    """It would move their absent noise onto images that are trained on."""
    swapped = PoisonRecipe(misbehaving("good").dataset, (*misbehaving("leaves out").attack, *resolve("attacks", "swap")), 0)
    with pytest.raises(NotApplicable, match="leaves images out of training"):
        store.poison(swapped, data)


def test_a_store_lists_nothing_where_there_is_none(tmp_path):
    """`bench poisons ls` in an empty workspace."""
    assert Store(tmp_path / "none").folders() == []
