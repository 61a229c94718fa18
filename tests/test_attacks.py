"""What every attack promises, once for all of them; then what each method is, against slow and obvious versions."""

import dataclasses
import functools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import craft, poison, small, small_item, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from unlearnable_bench.poisons.store import Kept
from unlearnable_bench.registry import ATTACKS, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry.attacks import ar
from unlearnable_bench.registry.contract import LEFT_OUT

DETERMINISTIC = {"none", "ops"}
SHAPES = [(1, 28, 28), (3, 20, 36), (4, 16, 16)]


def applicable(name: str, clean: ImageSet) -> None:
    try:
        small(ATTACKS[name]).applies(clean.info)
    except NotApplicable as why:
        pytest.skip(f"{name} {why}")


# Promises of every attack


@dataclasses.dataclass
class Crafted:
    """A poison of `tiny()` as the store publishes it, with the set that the attack was given, and that set as it was."""

    kept: Kept
    given: ImageSet
    before: ImageSet


@pytest.fixture(scope="module")
def crafted(tmp_path_factory):
    """Craft with the fields `small` and seed 0, once for all tests of an attack."""

    @functools.cache
    def craft_once(name: str) -> Crafted:
        given = tiny()
        applicable(name, given)
        torch.manual_seed(1)
        return Crafted(poison(tmp_path_factory.mktemp("crafted"), small_item(ATTACKS.entry(name)), given), given, tiny())

    return craft_once


@pytest.mark.parametrize("name", ATTACKS)
def test_a_poison_stays_in_its_budget_after_rounding_to_8_bits(name, crafted):
    """A poison is published as 8-bit images; the bound must hold there, not only in float."""
    made, clean = crafted(name).kept, crafted(name).before
    assert made.images.dtype == torch.uint8
    assert small(ATTACKS[name]).budget.holds(clean.images, made.images)
    assert made.manifest["budget"]["spent"] == small(ATTACKS[name]).budget.measure(clean.images, made.images)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_poison_comes_from_its_seed_alone(name, crafted, tmp_path):
    """Same seed, same bytes; another seed, other bytes where anything is drawn: the cache and error bars rest on it."""
    first, item = crafted(name).kept, small_item(ATTACKS.entry(name))
    torch.manual_seed(2)
    again = poison(tmp_path / "again", item, tiny())
    other = poison(tmp_path / "other", item, tiny(), seed=1)
    assert torch.equal(first.images, again.images) and first.checksum == again.checksum
    assert (first.checksum == other.checksum) == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", ATTACKS)
def test_crafting_leaves_the_clean_set_and_its_labels_alone(name, crafted):
    """All attacks of a grid are handed the same arrays."""
    made, given, before = crafted(name).kept, crafted(name).given, crafted(name).before
    assert torch.equal(given.images, before.images) and torch.equal(given.labels, before.labels)
    assert torch.equal(made.labels, before.labels)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_changes_images_unless_it_is_none(name):
    """An attack that does nothing would look like a perfect defense."""
    clean = tiny()
    applicable(name, clean)
    kept: dict[str, np.ndarray] = {}
    delta = craft(small(ATTACKS[name]), clean, kept=kept)
    assert delta.dtype == torch.float32 and delta.shape == clean.images.shape
    changed = delta.flatten(1).abs().amax(1) > 0
    trained_on = ~kept.get(LEFT_OUT, np.zeros(len(clean), bool))
    if name == "classes":  # which leaves all but the first class alone
        trained_on &= (clean.labels == 0).numpy()
    assert not changed.any() if ATTACKS[name].identity else changed[trained_on].all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_runs_on_any_image_or_says_why_not(name, shape):
    """Users bring gray, oblong and four-channel images; "not applicable" must come before any work."""
    clean = tiny(10, 3, shape)
    applicable(name, clean)
    attack = small(ATTACKS[name])
    delta = craft(attack, clean)
    poisoned = (clean.images.float() + 255 * delta).round().clamp(0, 255).to(torch.uint8)
    assert attack.budget.holds(clean.images, poisoned)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_class_without_images_is_no_fault(name):
    """`part=clean` and hand-made folders can leave a class empty."""
    clean = dataclasses.replace(tiny(6, 3), num_classes=4)
    applicable(name, clean)
    assert craft(small(ATTACKS[name]), clean).isfinite().all()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_a_frozen_dataclass_that_pickles(name):
    """Its fields are its hyperparameters: they go into keys, and entries go to worker processes."""
    attack = ATTACKS[name]()
    assert pickle.loads(pickle.dumps(attack)) == attack  # noqa: S301  (our own object)
    with pytest.raises(dataclasses.FrozenInstanceError):
        attack.epsilon = 1.0


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_names_its_paper(name):
    """Printed beside every number; baselines of ours say so."""
    paper = ATTACKS[name].paper
    assert paper.title and paper.venue
    assert paper.url.startswith("https://") or paper.venue == "this repository"


@pytest.mark.parametrize("name", [n for n in ATTACKS if "epsilon" in ATTACKS.entry(n).facts or ATTACKS.entry(n).fields])
def test_the_radius_is_the_field_epsilon_in_the_units_of_the_budget(name):
    """`epsilon` means the same everywhere: tables put attacks side by side by it."""
    attack = ATTACKS[name]()
    if hasattr(attack, "epsilon"):
        assert attack.budget.epsilon == attack.epsilon


@pytest.mark.parametrize("item", ["lsp(epsilon=-1)", "random-noise(epsilon=-8/255)", "ops(epsilon=0)", "em(epsilon=-1/255)"])
def test_a_radius_below_zero_is_refused(item, tmp_path):
    """A sign lost in a sweep must not craft for hours."""
    with pytest.raises(EntryError, match="epsilon"):
        poison(tmp_path, item, tiny(8))


# none


def test_none_changes_nothing(tmp_path):
    """The reference row is the clean training set, bit for bit."""
    clean = tiny()
    assert torch.equal(poison(tmp_path, "none", clean).images, clean.images)


# random-noise


def test_class_wise_noise_is_one_sign_pattern_per_class():
    """The floor for shortcuts: the class is written into every image, the image is not looked at."""
    clean = tiny()
    delta = craft(ATTACKS["random-noise"](), clean)
    assert set((delta * 255).round().unique().tolist()) == {-8, 8}
    patterns = [delta[clean.labels == label] for label in range(4)]
    assert all((pattern == pattern[0]).all() for pattern in patterns)
    assert all((patterns[a][0] != patterns[b][0]).any() for a in range(4) for b in range(a))
    assert abs(float(delta.sign().mean())) < 0.02  # fair signs: 4 x 3072 draws, two standard deviations


def test_sample_wise_noise_tells_nothing_of_the_class():
    """The negative control: the mean noise of a class, from half of the images, names the class of no other image."""
    clean = tiny(400)
    delta = craft(ATTACKS["random-noise"](kind="sample"), clean)
    assert (delta[0] != delta[4]).any()
    assert nearest_mean(delta, clean.labels) < 0.4  # chance is 0.25 +- 0.03


@given(epsilon=st.floats(0, 1), kind=st.sampled_from(["class", "sample"]))
@settings(max_examples=10)
def test_uniform_noise_fills_its_box(epsilon, kind):
    """`dist=uniform` is the form of Huang et al.; it averages half the radius."""
    delta = craft(ATTACKS["random-noise"](kind=kind, dist="uniform", epsilon=epsilon), tiny(8))
    assert delta.abs().max() <= epsilon * (1 + 1e-6)
    assert math.isclose(float(delta.abs().mean()), epsilon / 2, rel_tol=0.05, abs_tol=1e-9)


def nearest_mean(delta: torch.Tensor, labels: torch.Tensor) -> float:
    """Accuracy of the nearest class mean, learnt on the first half and judged on the second."""
    half = len(delta) // 2
    flat = delta.flatten(1)
    means = torch.stack([flat[:half][labels[:half] == label].mean(0) for label in labels.unique()])
    return float((torch.cdist(flat[half:], means).argmin(1) == labels[half:]).float().mean())


# LSP, card F01


def test_lsp_is_a_mosaic_of_fixed_length_that_a_nearest_mean_reads():
    """Card F01: constant on tiles, l2 norm epsilon, linearly separable although every image has its own."""
    clean = tiny(256, 8)
    delta = craft(ATTACKS["lsp"](), clean)
    assert (delta.flatten(1).norm(dim=1) - 1.3041).abs().max() < 1e-5
    tiles = delta.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)  # (N, C, 4, 4, 64)
    assert (tiles == tiles[..., :1]).all()
    assert nearest_mean(delta, clean.labels) == 1.0
    own = delta[clean.labels == 0]
    across = (own - own.mean(0)).flatten(1).norm(dim=1).mean() / 1.3041
    assert 0.3 < across < 0.45  # "roughly 37 % of its length is within-class"


@given(height=st.integers(4, 40), width=st.integers(4, 40), patch=st.integers(1, 16), epsilon=st.floats(0.1, 10))
@settings(max_examples=20)
def test_lsp_has_its_length_on_any_image_size(height, width, patch, epsilon):
    """Tiles that do not divide the side are cut at the border, and the length is that of what is visible."""
    patch = max(patch, min(height, width) // 4)  # the mixing matrix is quadratic in the number of tiles
    delta = craft(ATTACKS["lsp"](epsilon=epsilon, patch=patch), tiny(6, 2, (1, height, width)))
    assert torch.allclose(delta.flatten(1).norm(dim=1), torch.tensor(float(epsilon)), rtol=1e-5)


def test_lsp_draws_distinct_corners_or_says_that_there_are_not_enough():
    """Two classes on one corner would not be separable; one tile of one channel has two corners."""
    with pytest.raises(EntryError, match="3 classes do not find different corners among 2"):
        craft(ATTACKS["lsp"](patch=8), tiny(6, 3, (1, 8, 8)))


# AR, card F02


@pytest.fixture(scope="module")
def autoregressive():
    clean, job = tiny(96), Job(seed=3)
    delta = torch.cat([part for _, part in ATTACKS["ar"]().craft(clean, job)])
    return clean, delta, torch.from_numpy(job.kept["coefficients"])


def test_ar_noise_has_length_epsilon(autoregressive):
    """Card F02: the norm is 1 within 1e-6 before rounding."""
    _, delta, _ = autoregressive
    assert (delta.flatten(1).norm(dim=1) - 1).abs().max() < 1e-6


def test_the_filter_of_a_class_cancels_its_noise_and_no_other(autoregressive):
    """Card F02: below 1e-5 on its own class, and the smallest response names the class of every image."""
    clean, delta, coefficients = autoregressive
    assert (coefficients[..., 2, 2] == 0).all()
    assert torch.allclose(coefficients.flatten(2).sum(2), torch.ones(4, 3), atol=1e-5)
    filters = coefficients.clone()
    filters[..., 2, 2] = -1
    response = F.conv2d(delta, filters)  # (N, K, 30, 30)
    own = response[torch.arange(96), clean.labels]
    assert own.abs().max() < 1e-5
    assert torch.equal(response.relu().flatten(2).sum(2).argmin(1), clean.labels)


@pytest.mark.parametrize("size", [(32, 32), (12, 20)], ids=str)
def test_the_fast_path_is_the_recurrence_in_reading_order(size):
    """The noise as a product with impulse responses, against the recurrence written down as the paper has it."""
    height, width = size
    job = Job()
    weights = ar.find_processes(2, 3, 3.0, job)[1].double()  # (C, 3, 3)
    border = torch.randn(3, ar.border_size(height, width), generator=job.generator)
    fast = torch.einsum("cb,cbp->cp", border, ar.impulse_responses(weights, height, width)).view(3, height, width)
    canvas = np.zeros((3, height + 4, width + 4))
    for c in range(3):
        drawn = iter(border[c].tolist())
        for i in range(height + 4):
            for j in range(width + 4):
                if i < 2 or j < 2:
                    canvas[c, i, j] = next(drawn)
                else:
                    around = canvas[c, i - 2 : i + 1, j - 2 : j + 1]  # its last value is still 0
                    canvas[c, i, j] = (weights[c].numpy() * around).sum()
    slow = canvas[:, 4:, 4:]
    assert np.abs(fast.numpy() - slow).max() < 1e-5 * np.abs(slow).max()  # float32 against float64


def test_accepted_processes_answer_each_other():
    """Appendix A.3: noise of a later class must show in the filters of all earlier ones, else classes look alike."""
    weights = ar.find_processes(3, 3, 10.0, Job(seed=1))
    assert weights.shape == (3, 3, 3, 3)
    assert (weights[0] != weights[1]).any()


# OPS, card F03


def changes(clean: ImageSet, delta: torch.Tensor) -> list[set[tuple[int, tuple[int, ...]]]]:
    """Per class, the (position, new colour) pairs that its images have in common."""
    poisoned = (clean.images.float() + 255 * delta).round().int().flatten(2)  # (N, C, H*W)
    moved = (poisoned != clean.images.int().flatten(2)).any(1)
    found = []
    for label in range(clean.num_classes):
        rows = torch.nonzero(clean.labels == label).flatten().tolist()
        positions = {int(p) for row in rows for p in torch.nonzero(moved[row]).flatten()}
        colours = {p: {tuple(poisoned[row, :, p].tolist()) for row in rows} for p in positions}
        assert all(len(found) == 1 for found in colours.values()), "one colour per position within a class"
        found.append({(p, next(iter(found))) for p, found in colours.items()})
    return found


def test_ops_changes_one_pixel_per_image_the_same_within_a_class_and_another_in_each():
    """Card F03."""
    clean = tiny(96)
    delta = craft(ATTACKS["ops"](), clean)
    assert (delta.ne(0).any(1).flatten(1).sum(1) == 1).all()
    pairs = changes(clean, delta)
    assert all(len(found) == 1 for found in pairs) and len(set.union(*pairs)) == 4
    assert all(value in (0, 255) for found in pairs for _, colour in found for value in colour)


def score(values: list[int], colour: int) -> tuple[bool, Fraction]:
    """Squared mean over variance of |colour - x|, exact; (True, 0) for a constant distance above zero."""
    distances = [abs(colour - v) for v in values]
    mean = Fraction(sum(distances), len(distances))
    variance = Fraction(sum(d * d for d in distances), len(distances)) - mean * mean
    return (mean > 0, Fraction(0)) if variance == 0 else (False, mean * mean / variance)


@given(st.data())
@settings(max_examples=25)
def test_ops_takes_the_best_pair_that_no_earlier_class_took(data):
    """Against a search over all positions and colours in exact fractions; few pixel values make ties and constants."""
    channels, side, classes = 2, 3, 3
    shape = (classes * 4, channels, side, side)
    drawn = data.draw(st.lists(st.sampled_from([0, 3, 100, 200, 255]), min_size=math.prod(shape), max_size=math.prod(shape)))
    images = torch.tensor(drawn, dtype=torch.uint8).view(shape)
    clean = ImageSet(images, torch.arange(len(images)) % classes, classes)
    delta = craft(ATTACKS["ops"](), clean)
    result = (images.float() + 255 * delta).round().int()
    taken = set()
    for label in range(classes):
        members = images[clean.labels == label].int()
        scores = {}
        for position in range(side * side):
            for code in range(2**channels):
                colour = [255 * (code >> (channels - 1 - c) & 1) for c in range(channels)]
                by_channel = [members[:, c].flatten(1)[:, position].tolist() for c in range(channels)]
                distances = [abs(v - x) for v, values in zip(colour, by_channel, strict=True) for x in values]
                scores[position, tuple(colour)] = score(distances, 0)
        best = max(value for pair, value in scores.items() if pair not in taken)
        fits = [
            pair
            for pair, value in scores.items()
            if pair not in taken
            and value[0] == best[0]
            and abs(float(value[1] - best[1])) <= 1e-9 * float(best[1])
            and all(r.flatten(1)[:, pair[0]].tolist() == list(pair[1]) for r in result[clean.labels == label])
        ]
        assert fits, f"class {label}: no pair of the best score {best} was set"
        taken.add(fits[0])
        others = torch.ones(side * side, dtype=torch.bool)
        others[fits[0][0]] = False
        assert torch.equal(result[clean.labels == label].flatten(2)[..., others], members.flatten(2)[..., others])


def test_ops_with_more_pixels_stays_within_that_many():
    """`epsilon` is the number of pixels; two best pairs may share a position."""
    clean = tiny()
    changed = craft(ATTACKS["ops"](epsilon=5), clean).ne(0).any(1).flatten(1).sum(1)
    assert changed.max() <= 5 and changed.min() >= 1


def test_ops_does_not_apply_where_pairs_run_out():
    """Said while planning, not after the search."""
    with pytest.raises(NotApplicable, match="3 classes do not find different pixels in 1x1"):
        ATTACKS["ops"]().applies(tiny(3, 3, (1, 1, 1)).info)


def test_an_attack_with_its_small_fields_reads_back_from_its_item():
    """`bench check` crafts with these fields; the item is what its report prints."""
    for row in ATTACKS.rows:
        assert ATTACKS.resolve(small_item(row))[-1].build() == small(ATTACKS[row.name])
