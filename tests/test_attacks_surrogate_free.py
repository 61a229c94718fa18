"""Poisons that need no network: against slow and obvious versions, and the checks that tell each method from the others."""

import dataclasses
import math

import pytest
import torch
from conftest import craft, poison, tiny, whole
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from speed import generators
from torch.nn import functional as F

from unlearnable_bench.poisons.store import CraftError, add
from unlearnable_bench.registry import ATTACKS, DEFENSES, Attack, Budget, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry.attacks import ar

SHAPES = [(3, 32, 32), (1, 12, 20), (3, 17, 9)]


def made(attack: Attack, clean: ImageSet, seed: int = 0) -> torch.Tensor:
    """The poisoned images as the store publishes them."""
    return torch.cat([add(clean.images[where], delta, "") for where, delta in attack.craft(clean, Job(seed=seed))])


# Slow versions


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lsp_is_what_drawing_enlarging_and_scaling_image_by_image_gives(shape):
    """The fast version scales before it enlarges and draws by matrix products; a tie may round the other way."""
    clean, attack = tiny(50, 3, shape), ATTACKS["lsp"](patch=4)
    slow = torch.stack(generators.lsp_slowly(attack, clean, Job()))
    off = (made(attack, clean).int() - slow.int()).abs()
    assert off.max() <= 1 and off.float().mean() < 1e-4


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 10, 14)], ids=str)
def test_ar_is_what_the_recurrence_gives_pixel_by_pixel(shape):
    """One matrix product per class and channel instead of a convolution per pixel: equal up to float32's rounding."""
    clean, attack = tiny(4, 2, shape), ATTACKS["ar"]()
    weights = ar.find_processes(2, shape[0], 3.0, Job())
    slow = torch.stack(generators.ar_images_slowly(attack, weights, clean, Job(seed=7)))
    fast = torch.cat([add(clean.images[where], delta, "") for where, delta in attack.noise(weights, clean, Job(seed=7))])
    off = (fast.int() - slow.int()).abs()
    assert off.max() <= 1 and off.float().mean() < 1e-3


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("pixels", [1, 3])
def test_ops_is_what_a_search_on_floats_finds(shape, pixels):
    """Sums of levels and of their squares are exact; the bytes are those of means and deviations of all distances."""
    clean, attack = tiny(60, 3, shape), ATTACKS["ops"](epsilon=pixels)
    assert torch.equal(made(attack, clean), torch.stack(generators.ops_slowly(attack, clean)))


@given(count=st.integers(1, 700), darkest=st.sampled_from([0, 250, 255]), pixels=st.integers(1, 3), seed=st.integers(0, 9))
@example(count=700, darkest=254, pixels=1, seed=0)
@settings(max_examples=12, deadline=None)
def test_ops_adds_up_any_number_of_bright_images(count, darkest, pixels, seed):
    """Levels and squares add up in 16 bits for 257 images at most: more of them, all white, must not run over."""
    clean = tiny(count, 2, (2, 3, 5), seed=seed)
    clean.images[clean.images < darkest] = darkest
    found = made(ATTACKS["ops"](epsilon=pixels), clean)
    assert torch.equal(found, torch.stack(generators.ops_slowly(ATTACKS["ops"](epsilon=pixels), clean)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("regions", [4, 9])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_regions_are_what_painting_image_by_image_gives(shape, regions, norm):
    """Bytes, on sides that the grid divides and on others."""
    clean, attack = tiny(20, 5, shape), ATTACKS["regions-4"](regions=regions, norm=norm)
    slow = torch.stack(generators.regions_slowly(attack, clean, Job()))
    assert (made(attack, clean).int() - slow.int()).abs().max() <= (norm == "l2")  # the length is summed in another order
    assert norm == "l2" or torch.equal(made(attack, clean), slow)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [3, 5])
def test_cuda_is_what_scipys_filter_gives_image_by_image(shape, size):
    """Black beyond the border, every channel by the filter of its class, the brightest value white."""
    clean, attack = tiny(20, 5, shape), ATTACKS["cuda"](size=size)
    filters = attack.filters(5, Job().generator).double().numpy()
    found = made(attack, clean)
    for image, label, other in zip(clean.images, clean.labels.tolist(), found, strict=True):
        slow = ndimage.correlate(image.double().numpy(), filters[label][None], mode="constant")
        assert abs(255 * slow / slow.max() - other.double().numpy()).max() <= 0.5001


@pytest.mark.parametrize("size", [1, 3, 9])
def test_a_filter_of_cuda_has_one_peak_and_all_else_below_the_blur(size):
    """The peak keeps the image visible, the rest is what tells classes apart; peaks are anywhere in the filter."""
    filters = ATTACKS["cuda"](size=size, blur=0.2).filters(400, Job().generator).flatten(1)
    assert filters.shape == (400, size**2) and (filters.amax(1) == 1).all()
    assert ((filters < 0.2).sum(1) == size**2 - 1).all() and filters.min() >= 0
    assert len(filters.argmax(1).unique()) == size**2


def test_a_black_image_stays_black_under_cuda():
    """Divided by its maximum it would have no values."""
    clean = tiny(4)
    clean.images[1] = 0
    assert not made(ATTACKS["cuda"](), clean)[1].any()


def spectra_tell(images: torch.Tensor, labels: torch.Tensor) -> float:
    """How many of the second half of the images have the spectrum of their class in the first half: a fraction."""
    gray = images.mean(1)
    spectra = torch.fft.rfft2(gray - gray.mean((1, 2), keepdim=True)).abs().log1p().flatten(1)
    half = len(labels) // 2
    means = torch.stack([spectra[:half][labels[:half] == label].mean(0) for label in labels.unique()])
    return float((torch.cdist(spectra[half:], means).argmin(1) == labels[half:]).float().mean())


def test_a_filter_is_read_off_the_spectrum_until_pixels_are_moved_at_random():
    """The shortcut of CUDA on noise, where nothing else tells classes apart; JPEG leaves it, COIN and RSK take most of it."""
    clean = tiny(400)
    poisoned = dataclasses.replace(clean, images=made(ATTACKS["cuda"](), clean))
    x, y = poisoned.pixels(slice(None)), clean.labels
    torch.manual_seed(0)
    told = {name: spectra_tell(DEFENSES[name]().augment(x, y)[0], y) for name in ("none", "coin", "rsk")}
    told["jpeg"] = spectra_tell(DEFENSES["jpeg"]().purify(poisoned, Job()).pixels(slice(None)), y)
    assert spectra_tell(clean.pixels(slice(None)), y) < 0.4
    assert told["none"] > 0.95 and told["jpeg"] > 0.8
    assert told["coin"] < 0.7 and told["rsk"] < 0.8


@pytest.mark.parametrize("fields", [{"blur": -0.1}, {"blur": 1.5}, {"size": 2}, {"size": -1}], ids=str)
def test_cuda_refuses_a_filter_that_cannot_be(fields):
    """An even filter has no middle; a weight above the peak would be the peak."""
    with pytest.raises(EntryError, match="attack cuda"):
        ATTACKS["cuda"](**fields)


# Rounding and measuring, which every poison goes through


@given(st.data())
@settings(max_examples=15)
def test_adding_block_by_block_is_adding_all_at_once(data):
    """The store adds what a cache holds at a time; bytes must not depend on it."""
    count, side = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([1, 32, 500]))
    clean = tiny(count, 1, (3, side, side), seed=count)
    delta = torch.randn(clean.images.shape, generator=torch.Generator().manual_seed(side)) * 0.1
    assert torch.equal(add(clean.images, delta, ""), (clean.images.float() + 255 * delta).round().clamp(0, 255).byte())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_noise_that_is_not_finite_is_found_anywhere(bad):
    """One value among millions; huge values whose sum overflows are finite all the same."""
    clean = tiny(200)
    delta = torch.zeros(clean.images.shape)
    delta[199, 2, 31, 31] = bad
    with pytest.raises(CraftError, match="not finite"):
        add(clean.images, delta, "x")
    assert add(clean.images, torch.full(clean.images.shape, 3e38), "x").min() == 255


@pytest.mark.parametrize("norm", ["linf", "l2", "l0"])
def test_a_budget_is_measured_as_its_definition_says(norm):
    """Integers, a block at a time, against floats of the whole set."""
    clean = tiny(400)
    poisoned = made(ATTACKS["lsp"](), clean)
    poisoned[5] = clean.images[5]
    clean.images[6, 0, 0, 0], poisoned[6, 0, 0, 0] = 255, 0  # the largest difference is a darkening
    difference = (poisoned.double() - clean.images.double()) / 255
    spent = {
        "linf": difference.abs().max(),
        "l2": difference.flatten(1).norm(dim=1).max(),
        "l0": difference.ne(0).any(1).flatten(1).sum(1).max(),
    }
    assert math.isclose(Budget(norm, 4000).measure(clean.images, poisoned), float(spent[norm]), rel_tol=1e-12)


def test_an_attack_may_hand_over_the_images_themselves(tmp_path):
    """OPS sets pixels: to add a difference would be slower, and the same."""
    clean = tiny()
    kept = poison(tmp_path, "ops", clean)
    assert kept.manifest["budget"]["spent"] == 1
    assert torch.equal(kept.images, made(ATTACKS["ops"](), clean))


# LSP


def test_lsp_in_linf_is_its_mosaic_cut_off():
    """`norm=linf` is ours: tiles at the bound where the mosaic is beyond it, the same signs elsewhere."""
    clean = tiny(20)
    cut = craft(ATTACKS["lsp"](norm="linf", epsilon=8 / 255), clean)
    mosaic = craft(ATTACKS["lsp"](epsilon=8 / 255 * math.sqrt(3072)), clean)
    assert torch.equal(cut, mosaic.clamp(-8 / 255, 8 / 255)) and (cut.abs() == cut.max()).float().mean() > 0.3


@pytest.mark.parametrize("item", ["lsp", "ar"])
def test_a_length_is_no_linf_radius(item):
    """Whoever writes norm=linf alone would keep the default length, which as a bound on pixels is none."""
    with pytest.raises(EntryError, match="is not an linf radius in pixel units; try epsilon=8/255"):
        ATTACKS[item](norm="linf", epsilon=1.3041)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_lsp_is_linearly_separable_for_any_number_of_classes(classes):
    """Card F01: the nearest class mean names the class of fresh noise, 100 % of the time."""
    clean = tiny(classes * 6, classes)
    delta = craft(ATTACKS["lsp"](), clean).flatten(1)
    means = torch.stack([delta[: classes * 3][clean.labels[: classes * 3] == k].mean(0) for k in range(classes)])
    assert (torch.cdist(delta[classes * 3 :], means).argmin(1) == clean.labels[classes * 3 :]).float().mean() > 0.995


# AR


@pytest.mark.parametrize(("height", "width"), [(32, 32), (9, 30), (40, 6)])
def test_ar_along_diagonals_is_ar_by_matrices(height, width):
    """Large images take the other way round; both are the recurrence in float64, rounded once."""
    job = Job(seed=2)
    weights = ar.find_processes(1, 3, 3.0, job)[0]
    border = torch.randn(3, 3, ar.border_size(height, width), generator=job.generator)
    matrices = torch.einsum("ncb,cbp->ncp", border, ar.impulse_responses(weights, height, width))
    diagonals = ar.along_diagonals(weights, border, height, width)
    assert (matrices - diagonals).abs().max() < 1e-5 * matrices.abs().max()


def test_ar_takes_diagonals_where_matrices_have_no_room(monkeypatch):
    """The noise of a set is the same either way."""
    clean, weights = tiny(6, 2), ar.find_processes(2, 3, 3.0, Job())
    by_matrix = whole(ATTACKS["ar"]().noise(weights, clean, Job()), clean)
    monkeypatch.setattr(ar, "MATRICES", 0)
    monkeypatch.setattr(ar, "TOGETHER", 4 * 3072)
    monkeypatch.setattr(ar, "impulse_responses", None)
    assert torch.allclose(whole(ATTACKS["ar"]().noise(weights, clean, Job()), clean), by_matrix, atol=1e-6)


def test_ar_in_linf_has_its_largest_value_at_the_radius():
    """The linf variant divides by the largest magnitude."""
    delta = craft(ATTACKS["ar"](norm="linf", epsilon=8 / 255), tiny(8, 2))
    assert torch.allclose(delta.flatten(1).abs().amax(1), torch.tensor(8 / 255))


def test_a_matched_filter_tells_ar_and_a_linear_model_does_not():
    """Card F02: the one poison here that no linear check sees, and that a 3x3 filter names at once."""
    clean, job = tiny(1200, 4, (3, 16, 16)), Job(seed=3)
    delta = whole(ATTACKS["ar"](response=3.0).craft(clean, job), clean)
    filters = torch.from_numpy(job.kept["coefficients"])
    filters[..., 2, 2] = -1
    response = F.conv2d(delta, filters).relu().flatten(2).sum(2)
    assert torch.equal(response.argmin(1), clean.labels)
    assert softmax(delta, clean) < 0.45 < 0.95 < softmax(craft(ATTACKS["lsp"](patch=4), clean), clean)


def softmax(delta: torch.Tensor, clean: ImageSet) -> float:
    """Accuracy of a softmax regression on noise that it was not fitted to: 15 epochs, learnt on two thirds."""
    torch.manual_seed(0)
    cut = len(delta) * 2 // 3
    x = delta.flatten(1) / delta.std()
    net = torch.nn.Linear(x.shape[1], clean.num_classes)
    adam = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(15):
        for rows in torch.randperm(cut).split(64):
            adam.zero_grad()
            F.cross_entropy(net(x[rows]), clean.labels[rows]).backward()
            adam.step()
    return float((net(x[cut:]).argmax(1) == clean.labels[cut:]).float().mean())


# OPS


def test_a_class_without_images_takes_no_pixel_from_the_others():
    """Its best pair would be the first of all, which another class may need."""
    clean = tiny(12, 3)
    clean.images[:, :, 0, 0] = 255  # black in the first place is best for the first class that comes
    gap = dataclasses.replace(clean, labels=clean.labels * 2 + 1, num_classes=6)
    assert torch.equal(made(ATTACKS["ops"](), gap), made(ATTACKS["ops"](), clean))


@pytest.mark.parametrize("classes", [2, 100])
def test_ops_marks_every_class_of_any_number_with_a_pair_of_its_own(classes):
    """Card F03: one pixel per image, one pair of position and colour per class, all pairs distinct."""
    clean = tiny(classes * 3, classes, (3, 8, 8))
    positions, colours = ATTACKS["ops"]().search(clean, Job())
    assert len({(int(p), *c[0].tolist()) for p, c in zip(positions, colours, strict=True)}) == classes
    changed = (made(ATTACKS["ops"](), clean) != clean.images).any(1).flatten(1).sum(1)
    assert (changed == 1).all()


# Regions


@given(classes=st.integers(1, 60), regions=st.sampled_from([4, 16]))
@settings(max_examples=10)
def test_regions_are_distinct_flat_patches_of_the_two_extremes(classes, regions):
    """Card F05: exactly K patterns, only -epsilon and epsilon, constant on patches."""
    clean = tiny(classes, classes, (3, 16, 16))
    delta = craft(ATTACKS["regions-4"](regions=regions), clean)
    assert len(delta.unique(dim=0)) == classes
    assert torch.equal(delta.abs().unique(), torch.tensor([8 / 255]))
    side = 16 // math.isqrt(regions)
    patches = delta.unfold(2, side, side).unfold(3, side, side).flatten(4)
    assert (patches == patches[..., :1]).all()


def test_all_sixteen_patterns_of_four_gray_regions_are_found():
    """Sixteen classes need every one of them: a draw that repeats one is drawn again."""
    assert len(craft(ATTACKS["regions-4"](), tiny(16, 16, (1, 8, 8))).unique(dim=0)) == 16


def test_regions_of_length_one_have_that_length():
    """The l2 form of the card."""
    delta = craft(ATTACKS["regions-4"](norm="l2", epsilon=1.0), tiny(8))
    assert torch.allclose(delta.flatten(1).norm(dim=1), torch.ones(8), rtol=1e-5)


def test_regions_say_what_they_cannot_be():
    """While planning, not in the middle of a loop that never ends."""
    with pytest.raises(EntryError, match="regions=5, expected a square number"):
        ATTACKS["regions-4"](regions=5)
    with pytest.raises(NotApplicable, match="17 classes do not find different patterns of 4 regions"):
        ATTACKS["regions-4"]().applies(tiny(17, 17, (1, 8, 8)).info)
    with pytest.raises(NotApplicable, match="4 patches in a row do not fit 3x32 pixels"):
        ATTACKS["regions-4"](regions=16).applies(tiny(4, 4, (3, 3, 32)).info)
