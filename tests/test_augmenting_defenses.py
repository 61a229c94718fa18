"""Defenses that change batches: every operation against a library that treats one image at a time, every draw per image."""

import math

import pytest
import torch
from conftest import tiny
from scipy import fft

from unlearnable_bench.benchmark.train import train
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import ARCHITECTURES, DEFENSES, EntryError, NotApplicable, Protocol, _photo, _policies
from unlearnable_bench.registry._vision import prepare
from unlearnable_bench.registry.defenses import cutmix

prepare()
from torchvision import transforms  # noqa: E402
from torchvision.transforms import functional  # noqa: E402

PLAIN = ["gamma", "brightness", "hue", "solarize", "color-jitter", "cg", "autoaugment", "randaugment", "coin", "rsk"]


def batch(n: int = 64, shape: tuple[int, int, int] = (3, 32, 32)) -> tuple[torch.Tensor, torch.Tensor]:
    data = tiny(n, shape=shape)
    return data.pixels(slice(None)), data.labels


def augmented(name: str, x: torch.Tensor, y: torch.Tensor, seed: int = 0, **fields) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DEFENSES[name](**fields).augment(x, y)


# Operations, one image at a time


def affine(image: torch.Tensor, shear: tuple[float, float] = (0, 0), move: tuple[float, float] = (0, 0)) -> torch.Tensor:
    degrees = [math.degrees(math.atan(value)) for value in shear]
    corner = {"center": [0, 0]} if any(shear) else {}  # as torchvision's own policies shear
    return functional.affine(image, 0, [int(value) for value in move], 1, degrees, **corner)


ONE_BY_ONE = {
    "brightness": (functional.adjust_brightness, [0, 0.5, 1, 1.5, 1.9]),
    "contrast": (functional.adjust_contrast, [0, 0.5, 1, 1.5, 1.9]),
    "saturation": (functional.adjust_saturation, [0, 0.5, 1, 1.5, 1.9]),
    "sharpness": (functional.adjust_sharpness, [0, 0.5, 1, 1.5, 1.9]),
    "hue": (functional.adjust_hue, [-0.5, -0.1, 0, 0.3, 0.5]),
    "gamma": (functional.adjust_gamma, [0.5, 0.7, 1, 1.2, 1.5]),
    "solarize": (functional.solarize, [0, 0.2, 128 / 255, 0.9, 1]),
    "autocontrast": (lambda image, _: functional.autocontrast(image), [0] * 5),
    "rotate": (functional.rotate, [-30, 20.3, 0, 5, 11]),
    "shear_x": (lambda image, by: affine(image, shear=(by, 0)), [-0.3, 0.1, 0, 0.2, 0.25]),
    "shear_y": (lambda image, by: affine(image, shear=(0, by)), [-0.3, 0.1, 0, 0.2, 0.25]),
    "translate_x": (lambda image, by: affine(image, move=(by, 0)), [-5, 3, 0, 2, 14]),
    "translate_y": (lambda image, by: affine(image, move=(0, by)), [-5, 3, 0, 2, 14]),
    "posterize": (lambda image, bits: functional.posterize((image * 255).byte(), int(bits)) / 255, [1, 2, 4, 7, 8]),
    "equalize": (lambda image, _: functional.equalize((image * 255).byte()) / 255, [0] * 5),
}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_an_operation_does_to_a_batch_what_torchvision_does_to_each_image(name):
    """2e-4: torchvision rounds one weight of the luma to 0.2989. Nearest-pixel ties differ in 1 of 500 sheared pixels."""
    x, _ = batch(5)
    slow, strengths = ONE_BY_ONE[name]
    found = getattr(_photo, name)(x, torch.tensor(strengths, dtype=torch.float32))
    wanted = torch.stack([slow(image, float(value)) for image, value in zip(x, strengths, strict=True)])
    different = ((found - wanted).abs() > 2e-4).float().mean()
    assert different <= (0.002 if name.startswith("shear") else 0)


def test_equalizing_and_stretching_leave_a_constant_image():
    """Division by an empty range is the usual fault of both."""
    x = torch.full((2, 3, 8, 8), 0.4)
    for operation in (_photo.equalize, _photo.autocontrast):
        assert torch.allclose(operation(x, torch.zeros(2)), x, atol=0.5 / 255)


def test_a_gray_image_passes_through_colour_operations():
    """Datasets of one channel have neither hue nor saturation."""
    x, y = batch(8, (1, 28, 28))
    for name in set(PLAIN) - {"hue"}:
        assert augmented(name, x, y)[0].shape == x.shape
    with pytest.raises(NotApplicable, match="three colour channels"):
        DEFENSES["hue"]().applies(tiny(shape=(1, 28, 28)).info)


# Single transforms, cards D04, D08 and D09


@pytest.mark.parametrize("name", PLAIN)
def test_every_image_has_its_own_draw_and_labels_stay(name):
    """One draw for a whole batch would be a constant that a network can learn."""
    x, _ = batch(1)
    many, y = x.expand(200, -1, -1, -1).contiguous(), torch.arange(200) % 4
    new, labels = augmented(name, many, y)
    assert torch.equal(labels, y)
    different = {tuple(image.flatten()[::7].tolist()) for image in new}
    assert len(different) == 2 if name == "solarize" else len(different) > 20
    assert new.min() >= 0 and new.max() <= 1 + 1e-5


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("gamma", {"low": 1.0, "high": 1.0}),
        ("brightness", {"strength": 0.0}),
        ("hue", {"strength": 0.0}),
        ("solarize", {"threshold": 256 / 255}),
        ("solarize", {"probability": 0.0}),
        ("color-jitter", {"probability": 0.0}),
        ("color-jitter", {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}),
        ("cg", {"jitter": 0.0, "gray": 0.0}),
        ("rsk", {"center": 1.0, "deviation": 0.0, "kept": 1.0}),
        ("randaugment", {"operations": 0}),
        ("mixup", {"probability": 0.0}),
        ("cutmix", {"probability": 0.0}),
        ("mixup", {"mixes": 0}),
    ],
    ids=str,
)
def test_the_neutral_setting_changes_nothing(name, fields):
    """Cards D04, D07 and D09: the end of a sweep is plain training."""
    x, y = batch()
    assert torch.allclose(augmented(name, x, y, **fields)[0], x, atol=2e-6)


def test_cg_makes_a_fifth_of_the_images_gray():
    """Card D04: 0.20 +- 0.012 in 10,000 draws."""
    x, y = batch(1, (3, 8, 8))
    new, _ = augmented("cg", x.expand(10_000, -1, -1, -1).contiguous(), y)
    gray = (new - new[:, :1]).abs().amax((1, 2, 3)) < 1e-6
    assert abs(float(gray.float().mean()) - 0.2) < 0.012
    jittered = ((new - x).abs().amax((1, 2, 3)) > 1e-6) & ~gray
    assert abs(float(jittered.float().mean()) - 0.64) < 0.015, "0.8 of the rest"


def test_jitter_runs_in_all_orders():
    """Contrast after brightness differs from brightness after contrast: each image draws its order."""
    x, _ = batch(1, (3, 8, 8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        calls, original = [], (_photo.brightness, _photo.contrast)
        many = x.expand(400, -1, -1, -1).contiguous()
        patch = pytest.MonkeyPatch()
        patch.setattr(_photo, "brightness", lambda x, f: calls.append(("b", len(x))) or original[0](x, f))
        patch.setattr(_photo, "contrast", lambda x, f: calls.append(("c", len(x))) or original[1](x, f))
        _photo.jitter(many, 0.4, 0.4, 0.0, 0.0)
        patch.undo()
    assert [name for name, _ in calls] == ["b", "c", "b", "c"]
    counts = [count for _, count in calls]
    assert 150 < counts[0] < 250 and counts[0] + counts[1] == 400 and counts[0] == counts[3]


@pytest.mark.parametrize("name", [name for name in DEFENSES if "augment" in DEFENSES.entry(name).hooks])
def test_a_batch_is_augmented_alike_however_it_lies_in_memory(name):
    """The loop hands over batches pixel by pixel (channels last), tests and other people channel by channel."""
    x, y = batch(96)
    plain = augmented(name, x, y)[0]
    assert torch.allclose(augmented(name, x.contiguous(memory_format=torch.channels_last), y)[0], plain, atol=1e-5)


# Automatic augmentation, card D08


def test_the_policy_of_autoaugment_is_torchvisions():
    """Card D08: the 25 pairs of the paper; strengths as torchvision has them at every bin."""
    library = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)
    which, probability, strengths = _policies._autoaugment(32)
    space, names = library._augmentation_space(10, (32, 32)), list(_policies.OPERATIONS)
    assert which.shape == (25, 2)
    for row, pair in enumerate(library.policies):
        for turn, (name, chance, magnitude) in enumerate(pair):
            assert names[which[row, turn]] == name and probability[row, turn] == pytest.approx(chance)
            if magnitude is not None:
                assert float(strengths[row, turn]) == pytest.approx(_known(space, name, magnitude), abs=1e-6)


def test_randaugment_has_the_operations_and_strengths_of_torchvision():
    """Card D08: fourteen operations, magnitude 9 of 30."""
    space = transforms.RandAugment()._augmentation_space(31, (32, 32))
    assert set(space) == set(_policies.RANDAUGMENT)
    for name, (values, signed) in space.items():
        assert signed == (name in _policies.SIGNED)
        if values.ndim:
            assert _policies.strength(name, 9 / 30, 32) == pytest.approx(_known(space, name, 9), abs=1e-6)


def _known(space, name, magnitude):
    value = float(space[name][0][magnitude])
    if name.startswith("Translate"):
        return int(value)
    return value / 255 if name == "Solarize" else value


def test_operations_hit_the_images_they_were_drawn_for():
    """Grouping by operation must put every image back in its place."""
    x, _ = batch(30)
    which = torch.arange(30) % len(_policies.OPERATIONS)
    strengths = torch.linspace(1, 4, 30)  # every image its own
    found = _policies.operate(x, which, strengths)
    for image, number, strength, out in zip(x, which.tolist(), strengths, found, strict=True):
        alone = list(_policies.OPERATIONS.values())[number](image[None], strength[None])[0]
        assert torch.allclose(out, alone, atol=1e-6)


# Mixing, card D07


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("fields", [{}, {"mixes": 2, "probability": 0.5}, {"alpha": 0.2}], ids=str)
def test_mixed_labels_are_probabilities_and_their_mean_is_kept(name, fields):
    """Card D07: label weights sum to one; a mix hands no class more than the batch has."""
    x, y = batch(400, (3, 8, 8))
    soft = torch.nn.functional.one_hot(y, 7).float()
    new, labels = augmented(name, x, soft, **fields)
    assert labels.shape == (400, 7) and labels.min() >= 0
    assert torch.allclose(labels.sum(1), torch.ones(400), atol=1e-5)
    assert (labels.mean(0) - soft.mean(0)).abs().max() < 0.05
    assert not torch.equal(new, x)


def test_mixup_blends_pixels_and_labels_in_one_proportion():
    """Images that are their label's one-hot code show both at once."""
    y = torch.nn.functional.one_hot(torch.arange(200) % 5, 5).float()
    x = y[:, :, None, None].expand(-1, -1, 4, 4).contiguous()  # (B, 5, 4, 4): channel k is 1 for class k
    new, labels = augmented("mixup", x, y)
    assert torch.allclose(new.mean((2, 3)), labels, atol=1e-6)
    assert len({round(v, 4) for v in labels.amax(1).tolist()}) > 100, "every image its own share"


def test_cutmix_pastes_one_rectangle_and_counts_its_pixels():
    """Card D07: the label's weight is the exact part of the pixels, edges cut at the border included."""
    y = torch.nn.functional.one_hot(torch.arange(300) % 5, 5).float()
    x = y[:, :, None, None].expand(-1, -1, 12, 10).contiguous()
    new, labels = augmented("cutmix", x, y)
    assert torch.allclose(new.mean((2, 3)), labels, atol=1e-6)
    hole = (new != x).any(1)  # (B, H, W): only where the partner is of another class
    rows, columns = hole.any(2), hole.any(1)
    assert torch.equal(hole, rows[:, :, None] & columns[:, None, :]), "a rectangle"
    for line in (rows, columns):
        assert (line.int().diff(dim=1).abs().sum(1) + line[:, 0].int() + line[:, -1].int() <= 2).all(), "of one run"
    assert len({round(v, 4) for v in labels.amax(1).tolist()}) > 20


def test_a_rectangle_of_cutmix_reaches_as_far_as_the_published_code_lets_it(monkeypatch):
    """Half of a side, in whole pixels, to either way of the centre: sides 0..9 are 0, 0, 2, 2, ... pixels; edges are cut."""
    monkeypatch.setattr(torch, "randint", lambda high, size, device: torch.full(size, high // 2))
    hole = cutmix._rectangles(torch.zeros(10, 1, 20, 30), torch.arange(10) / 20 + 0.01)
    for side, rows in enumerate(hole.any(3)[:, 0]):
        start, end = 10 - side // 2, 10 + side // 2
        assert torch.nonzero(rows).flatten().tolist() == list(range(start, end))


def test_the_loop_hands_over_rows_of_probabilities_where_labels_are_mixed():
    """A batch may lack the last class; the number of columns is the dataset's all the same."""
    data = tiny(64)
    protocol = Protocol(epochs=2, batch=3, lr=0.05)
    with seeded(0, Numerics()):
        chain = [DEFENSES["cutmix"](), DEFENSES["mixup"](), DEFENSES["at"](steps=1)]
        curve = train(ARCHITECTURES["small-cnn"](4), data, data, protocol, chain)
    assert all(math.isfinite(loss) for loss in curve.train_loss)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("mixup", {"alpha": 0.0}),
        ("cutmix", {"probability": 1.5}),
        ("gamma", {"low": 0.0}),
        ("brightness", {"strength": -1.0}),
        ("hue", {"strength": 0.6}),
        ("solarize", {"probability": 2.0}),
        ("color-jitter", {"hue": 1.0}),
        ("cg", {"gray": 2.0}),
        ("randaugment", {"magnitude": 31}),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_refused_by_name(name, fields):
    """Before any work, with the value that was found."""
    with pytest.raises(EntryError, match=f"defense {name}"):
        DEFENSES[name](**fields)


# Against convolutions


def test_coin_moves_each_pixel_on_its_own_and_all_its_channels_alike():
    """Neighbors that move together would only shift the picture; colors that part would be another defense."""
    ramp = torch.arange(16.0).expand(1, 1, 16, 16) / 15  # the value of a pixel is its column
    x, y = ramp.expand(300, 3, 16, 16).contiguous(), torch.zeros(300, dtype=torch.int64)
    new = augmented("coin", x, y, alpha=1.5)[0]
    assert torch.equal(new[:, 0], new[:, 1])
    assert torch.allclose(augmented("coin", x, y, alpha=0.0)[0], x, atol=1e-5)
    shift = (new - x)[:, 0, :, 3:-3] * 15  # pixels, away from the border
    assert shift.abs().max() <= 1.5 + 1e-4 and abs(float(shift.mean())) < 0.02
    assert float(shift.std()) == pytest.approx(1.5 / 3**0.5, rel=0.02), "uniform"
    flat = shift.flatten(1)
    assert abs(float(torch.corrcoef(torch.stack([flat[:, 0], flat[:, 1]]))[0, 1])) < 0.2


def test_the_kernels_of_rsk_are_drawn_around_those_of_ssk():
    """Of an image that is gray everywhere but in the middle, the middle shows the center, its neighbors the rest."""
    x = torch.zeros(4000, 1, 5, 5)
    x[:, :, 2, 2] = 0.2
    y = torch.zeros(4000, dtype=torch.int64)
    centers = augmented("rsk", x, y, kept=1.0)[0][:, 0, 2, 2] / 0.2
    assert float(centers.mean()) == pytest.approx(2.5, abs=0.01) and float(centers.std()) == pytest.approx(0.1, abs=0.01)
    inverse = 1 - x
    beside = (1 - augmented("rsk", inverse, y, kept=1.0, deviation=0.0)[0])[:, 0]
    assert beside.max() == 0.5, "2.5 times 0.2 less than white"
    assert not augmented("rsk", torch.full((2, 1, 5, 5), 0.4), y[:2], deviation=0.0, kept=1.0)[0].sub(0.4).abs().gt(1e-6).any()


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 20, 36)], ids=str)
def test_frequency_filtering_keeps_the_lowest_block_of_scipys_transform(shape):
    """A part of the rows and columns, rounded down; the rest is 0."""
    x, y = batch(4, shape)
    new = augmented("rsk", x * 0.2 + 0.4, y, center=1.0, deviation=0.0, kept=0.3)[0]
    waves = torch.from_numpy(fft.dctn(new.numpy(), axes=(2, 3), norm="ortho"))
    whole = torch.from_numpy(fft.dctn((x * 0.2 + 0.4).numpy(), axes=(2, 3), norm="ortho"))
    rows, columns = int(0.3 * shape[1]), int(0.3 * shape[2])
    assert torch.allclose(waves[:, :, :rows, :columns], whole[:, :, :rows, :columns], atol=1e-4)
    assert waves[:, :, rows:].abs().max() < 1e-4 and waves[:, :, :, columns:].abs().max() < 1e-4
