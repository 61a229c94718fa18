"""Published poisons: every format that authors use comes in as the same bytes, nothing in a file is run, ours go out again."""

import argparse
import io
import json
import os
import pickle
import shutil
import stat
import zipfile

import numpy as np
import pytest
import torch
from conftest import as_data, bench, call_bench, recipe, tiny
from PIL import Image

from unlearnable_bench.poisons.exports import hand_out
from unlearnable_bench.poisons.imports import import_poison, word
from unlearnable_bench.poisons.options import UNITS, ImportOptions
from unlearnable_bench.poisons.store import BudgetError, Store
from unlearnable_bench.registry import ATTACKS, EntryError, ImageSet, Job, NotApplicable, data, resolve
from unlearnable_bench.registry._painter import Painter

LEVELS = torch.randint(-8, 9, (24, 3, 32, 32), generator=torch.Generator().manual_seed(5))  # noise, whole levels
BOUND = {"norm": "linf", "epsilon": 8 / 255}


@pytest.fixture(scope="module")
def whole():
    return as_data(smooth(24, 4))


def smooth(count: int, classes: int) -> ImageSet:
    """Images that look different when they are small, as photographs do; white noise does not."""
    images = torch.nn.functional.interpolate(tiny(count, classes, (3, 4, 4)).images.float(), size=32, mode="nearest")
    return ImageSet(images.byte(), torch.arange(count) % classes, classes, tuple("abcdefgh"[:classes]))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "cache")


def take(store, path, whole, labels="", **options):
    return import_poison(store, path, resolve("datasets", "digits")[0], whole, ImportOptions(**options), "", str(labels))


def poisoned(whole, levels=LEVELS) -> torch.Tensor:
    return (whole.train.images.int() + levels).clamp(0, 255).to(torch.uint8)


def saved(path, array):
    np.save(path, array)
    return path


def torch_saved(path, content, **options):
    torch.save(content, path, **options)
    return path


def png(image: torch.Tensor) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
        return file.getvalue()


def folder(path, images):
    (path / "data").mkdir(parents=True)
    for row, image in enumerate(images):
        (path / "data" / f"{row}.png").write_bytes(png(image))
    (path / "readme.txt").write_text("by us")
    return path


def zipped(path, images, name="data/{}.png"):
    with zipfile.ZipFile(path, "w") as archive:
        for row, image in enumerate(images):
            archive.writestr(name.format(row), png(image))
    return path


def pixels(levels=LEVELS) -> torch.Tensor:
    return levels.float() / 255


def last(images) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


def parts(path, **arrays):
    path.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return path


def deviations(images) -> torch.Tensor:
    """The standard deviation of each channel, (3, 1, 1), as TAP's authors divide by it."""
    return (images.double() / 255).transpose(0, 1).flatten(1).std(1, unbiased=False).view(3, 1, 1).float()


def packed(path, x, ids):
    """TAP's packed export: a list of the noise in normalised units and the numbers of its images."""
    return torch_saved(path, [pixels(LEVELS[ids]) / deviations(x.train.images), ids])


def hot(labels, kind=np.float64) -> np.ndarray:
    return np.eye(4, dtype=kind)[labels.numpy()]


FILES = {
    "EM and TUE: a float tensor": (lambda p, x: torch_saved(p / "perturbation.pt", pixels()), {}),
    "the same in the container of old": (
        lambda p, x: torch_saved(p / "old.pt", pixels(), _use_new_zipfile_serialization=False),
        {},
    ),
    "REM and SEM, converted: int8 levels": (lambda p, x: saved(p / "noise.npy", LEVELS.to(torch.int8).numpy()), {}),
    "LfU: float64 channels last": (lambda p, x: saved(p / "perturbation.npy", last(LEVELS.double() / 255)), {}),
    "UCL: a checkpoint in units of the radius": (
        lambda p, x: torch_saved(
            p / "ucl.pth", {"model": {"delta": LEVELS.float() / 8}, "opt": argparse.Namespace(lr=0.5), "epoch": 160}
        ),
        {"units": "radius"},
    ),
    "HYPO: images and labels in a tuple": (
        lambda p, x: torch_saved(p / "hypo.pt", (poisoned(x).float() / 255, x.train.labels)),
        {"rounding": "down"},
    ),
    "TAP: float64 levels of images": (lambda p, x: saved(p / "poisoned.npy", last(poisoned(x).double())), {}),
    "SEP: float images": (lambda p, x: saved(p / "sep.npy", (poisoned(x).float() / 255).numpy()), {"rounding": "down"}),
    "SEP: float images in parts": (
        lambda p, x: parts(
            p / "sep",
            **{f"cifar10_eps8_{n}": part.numpy() for n, part in enumerate((poisoned(x).float() / 255).split(7))},
        ),
        {"rounding": "down"},
    ),
    "TAP: levels and labels, float64, in a folder": (
        lambda p, x: parts(
            p / "tap",
            poisoned_training_data=last(poisoned(x).double()),
            poisoned_training_labels=x.train.labels.double().numpy(),
        ),
        {},
    ),
    "TAP packed: noise divided by deviations, by number": (
        lambda p, x: packed(p / "poisons_packed_2021-06-01.pth", x, torch.randperm(24).tolist()),
        {"units": "normalised"},
    ),
    "DeepConfuse on ImageNet: clean images, poison and labels": (
        lambda p, x: torch_saved(p / "train_bin.pt", (x.train.pixels(slice(None)), poisoned(x).float() / 255, x.train.labels)),
        {},
    ),
    "an archive of ours": (
        lambda p, x: (np.savez(p / "ours.npz", images=last(poisoned(x)), labels=x.train.labels.numpy()), p / "ours.npz")[1],
        {},
    ),
    "a dictionary of tensors": (lambda p, x: torch_saved(p / "d.pt", {"noise": LEVELS.to(torch.int16)}), {}),
    "AR and TAP: a folder of PNG": (lambda p, x: folder(p / "released", poisoned(x)), {}),
    "AR: a zip of PNG": (lambda p, x: zipped(p / "released.zip", poisoned(x)), {}),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_authors_publish_comes_in_byte_for_byte(store, whole, tmp_path, kind):
    """One noise in every format: the same images, the budget measured, where it came from kept."""
    make, options = FILES[kind]
    path = make(tmp_path, whole)
    kept = take(store, path, whole, **BOUND, **options)
    assert torch.equal(kept.images, poisoned(whole)) and torch.equal(kept.labels, whole.train.labels)
    assert kept.manifest["budget"] == {"norm": "linf", "allowed": 8 / 255, "spent": 8 / 255}
    source = kept.manifest["source"]
    assert source["file"] == path.name and len(source["sha256"]) == 64 and source["units"] in UNITS[1:]
    again = store.poison(recipe(kept.manifest["text"], seed=7), whole)
    assert again.cached and again.checksum == kept.checksum, "found by its item, whatever the seed of the cell"
    assert not list(store.root.glob(".import-*"))


def test_one_pattern_per_class_goes_to_all_images_of_the_class(store, whole, tmp_path):
    """EM class-wise is published as (K, 3, 32, 32)."""
    path = torch_saved(tmp_path / "class.pt", pixels(LEVELS[:4]))
    kept = take(store, path, whole, **BOUND)
    assert torch.equal(kept.images, poisoned(whole, LEVELS[:4][whole.train.labels]))


def test_noise_by_rank_in_its_class_finds_its_images(store, whole, tmp_path):
    """LSP as Learn-from-unlearnable stores it: own order, labels in a second file."""
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    noise = saved(tmp_path / "simple_data.npy", last(LEVELS[order].float() / 255))
    labels = saved(tmp_path / "simple_label.npy", whole.train.labels[order].numpy())
    kept = take(store, noise, whole, labels, order="class", **BOUND)
    wanted = LEVELS.clone()
    for label in range(4):  # the t-th row of a class is its t-th image's
        wanted[whole.train.labels == label] = LEVELS[order][whole.train.labels[order] == label]
    assert torch.equal(kept.images, poisoned(whole, wanted))
    assert kept.manifest["source"]["labels"] == "simple_label.npy"


def test_images_in_another_order_are_matched_or_refused(store, whole, tmp_path):
    """NTGA shuffles: images are found by likeness, labels one-hot agree; read by place they are refused."""
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))
    hot = torch.nn.functional.one_hot(whole.train.labels[order], 4)
    path = torch_saved(tmp_path / "ntga.pt", (poisoned(whole)[order], hot))
    assert torch.equal(take(store, path, whole, order="match", **BOUND).images, poisoned(whole))
    with pytest.raises(EntryError, match=r"most like the clean image of their own place: the file is in another order"):
        take(store, path, whole)


@pytest.mark.parametrize("like", ["labels one-hot", "no labels"])
def test_images_of_a_part_of_the_set_leave_the_rest_clean(store, whole, tmp_path, like):
    """NTGA's release: 40,000 of 50,000, shuffled, floats with the channels last, labels one-hot in a second file."""
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))[:17]
    path = saved(tmp_path / "x_train_cifar10_ntga_cnn_best.npy", last(poisoned(whole)[order].double() / 255))
    labels = saved(tmp_path / "y_train_cifar10.npy", hot(whole.train.labels[order])) if like == "labels one-hot" else ""
    kept = take(store, path, whole, labels, order="match", rounding="nearest", **BOUND)
    covered = torch.zeros(24, dtype=torch.bool)
    covered[order] = True
    assert torch.equal(kept.images[covered], poisoned(whole)[covered])
    assert torch.equal(kept.images[~covered], whole.train.images[~covered])
    assert (np.load(kept.path / "keep.npy") == covered.numpy()).all() and kept.manifest["source"]["covers"] == 17
    with pytest.raises(EntryError, match=r"holds 17 rows; the dataset has 24 images .* found by --order match"):
        take(store, path, whole)
    if labels:
        np.save(labels, hot(whole.train.labels[order].flip(0)))
        with pytest.raises(EntryError, match="of 17 labels of the file are not the dataset's"):
            take(store, path, whole, labels, order="match")


def test_images_that_are_alike_when_small_are_told_apart_in_full(store, tmp_path):
    """CIFAR-10 has near-doubles; exact doubles may be taken for each other, but each row has an image of its own."""
    clean = smooth(40, 4)
    clean.images.clamp_(20, 235)
    stripes = (torch.arange(32) % 2 * 40 - 20).expand(3, 32, 32)  # nothing on average
    clean.images[1:38:2] = (clean.images[0:38:2].int() + stripes).byte()
    clean.images[39], clean.labels[1::2] = clean.images[38], clean.labels[::2]
    twins = as_data(clean)
    levels = torch.randint(-3, 4, clean.images.shape, generator=torch.Generator().manual_seed(6))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(4))
    path = torch_saved(tmp_path / "x.pt", (poisoned(twins, levels).float() / 255)[order])
    made = take(store, path, twins, order="match").images
    assert torch.equal(made[:38], poisoned(twins, levels)[:38])
    doubles = {bytes(image.numpy()) for image in made[38:]}
    assert doubles == {bytes(image.numpy()) for image in poisoned(twins, levels)[38:]} and len(doubles) == 2


def test_packed_noise_of_a_part_is_for_the_images_of_its_numbers(store, whole, tmp_path):
    """TAP's budget below 1: a list of the poisoned images; its units are never guessed."""
    ids = [3, 0, 21, 8, 9]
    path = packed(tmp_path / "poisons_packed.pth", whole, ids)
    kept = take(store, path, whole, units="normalised", **BOUND)
    wanted = torch.zeros_like(LEVELS)
    wanted[ids] = LEVELS[ids]
    assert torch.equal(kept.images, poisoned(whole, wanted)) and kept.manifest["source"]["units"] == "normalised"
    assert np.flatnonzero(np.load(kept.path / "keep.npy")).tolist() == sorted(ids)
    with pytest.raises(EntryError, match="noise for numbered images, as TAP packs it: say its units, --units normalised"):
        take(store, path, whole)


def authors_generator(width: int, channels: int = 3) -> tuple[Painter, dict[str, torch.Tensor]]:
    """A generator of DeepConfuse, and its weights under the names that its authors gave them."""
    torch.manual_seed(0)
    painter = Painter(channels, width)
    painter(torch.rand(8, channels, 16, 16))  # moves the statistics of its normalisation
    theirs = {"down.0": "dconv_down1", "down.1": "dconv_down2", "down.2": "dconv_down3", "down.3": "dconv_down4"}
    theirs |= {"up.0": "dconv_up3", "up.1": "dconv_up2", "up.2": "dconv_up1"}
    weights = {}
    for key, value in painter.state_dict().items():
        block, rest = key.rsplit(".", 2)[0], key.rsplit(".", 2)[1:]
        weights[".".join([theirs.get(block, "conv_last"), *rest])] = value
    return painter.eval(), weights


def test_the_generator_of_deepconfuse_paints_the_images(store, whole, tmp_path):
    """Its authors publish a network (atk.*.pth), not noise: x + 0.032 net(x), in evaluation mode."""
    painter, weights = authors_generator(4)
    path = torch_saved(tmp_path / "atk.0.032.best.pth", weights)
    kept = take(store, path, whole, norm="linf", epsilon=0.032)
    with torch.no_grad():
        x = whole.train.pixels(slice(None))
        wanted = (255 * (x + 0.032 * painter(x)).clamp(0, 1)).round().byte()
    assert (kept.images.int() - wanted.int()).abs().max() <= 1 and (kept.images == wanted).float().mean() > 0.999
    assert kept.manifest["source"]["units"] == "weights" and (kept.images != whole.train.images).any()
    several = torch_saved(tmp_path / "parallel.pth", {f"module.{key}": value for key, value in weights.items()})
    assert take(store, several, whole, norm="linf", epsilon=0.032).checksum == kept.checksum
    with pytest.raises(EntryError, match=r"in units of the radius: give --norm linf --epsilon 0\.032, as its authors"):
        take(store, path, whole)


def test_a_gray_set_may_come_without_its_channel(store, tmp_path):
    """DeepConfuse's training_adv.pt of MNIST: float images (N, 28, 28)."""
    colour = smooth(24, 4)
    gray = as_data(ImageSet(colour.images[:, :1, :28, :28].clone(), colour.labels, 4, colour.classes))
    levels = LEVELS[:, :1, :28, :28]
    path = torch_saved(tmp_path / "training_adv.pt", (poisoned(gray, levels).float() / 255)[:, 0])
    assert torch.equal(take(store, path, gray, **BOUND).images, poisoned(gray, levels))


def test_negative_noise_is_dropped_on_demand(store, whole, tmp_path):
    """The loader of Huang et al. does so; later papers keep it. The two are different poisons."""
    path = torch_saved(tmp_path / "em.pt", pixels())
    drop, keep = (take(store, path, whole, negative=how) for how in ("drop", "keep"))
    assert torch.equal(drop.images, poisoned(whole, LEVELS.clamp(min=0))) and drop.checksum != keep.checksum


def test_rounding_down_is_what_most_loaders_do(store, whole, tmp_path):
    """Half a level: nearest is up or even, down is down; a pixel without noise stays in both."""
    noise = torch.zeros(24, 3, 32, 32)
    noise[:, 0] = 1.6 / 255
    path = torch_saved(tmp_path / "half.pt", noise)
    for how, step in (("nearest", 2), ("down", 1)):
        levels = torch.zeros_like(LEVELS)
        levels[:, 0] = step
        assert torch.equal(take(store, path, whole, rounding=how).images, poisoned(whole, levels))


@pytest.mark.parametrize("container", [list, torch.stack], ids=["ten classes: a list", "a hundred: one tensor"])
def test_coefficients_of_ar_become_its_noise(store, whole, tmp_path, container):
    """Its authors publish the processes, not the noise; they have no radius, which must be given."""
    weights = torch.from_numpy(np.load(Store(tmp_path / "s").poison(recipe("ar"), whole).path / "coefficients.npy"))
    path = torch_saved(tmp_path / "params-classes-10-mr-10.pt", container(list(weights)))
    kept = take(store, path, whole, norm="l2", epsilon=1.0)
    attack = ATTACKS["ar"]()
    delta = torch.cat([part for _, part in attack.noise(weights, whole.train, Job())])
    assert torch.equal(kept.images, (whole.train.images.float() + 255 * delta).round().clamp(0, 255).byte())
    with pytest.raises(EntryError, match=r"give --norm l2 --epsilon 1\.0"):
        take(store, path, whole)


# What is refused


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_in_a_file_is_run(store, whole, tmp_path):
    """Pickles in four wrappings: each is refused in a sentence, and none ran."""
    pickled = tmp_path / "rem-def-noise.pkl"
    pickled.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    np.save(tmp_path / "object.npy", np.array([Bomb(tmp_path / "ran")], object), allow_pickle=True)
    np.savez(tmp_path / "object.npz", images=np.array([Bomb(tmp_path / "ran")], object))
    torch.save({"noise": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pt")
    torch.save({"noise": Bomb(tmp_path / "ran")}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    told = {
        "rem-def-noise.pkl": r"holds more than arrays, numbers, lists and dictionaries: 'posix.mkdir'",
        "object.npy": "without unpickling",
    }
    told |= {"object.npz": "without unpickling", "bomb.pt": "holds more than tensors", "old.pt": "holds more than tensors"}
    for name, text in told.items():
        with pytest.raises(EntryError, match=text):
            take(store, tmp_path / name, whole)
    assert not (tmp_path / "ran").exists()
    assert store.folders() == []


def test_an_archive_cannot_reach_out_of_itself(store, whole, tmp_path):
    """Absolute paths, parents, links, doubles, and a few bytes that unpack to gigabytes."""
    for number, name in enumerate(["../{}.png", "/tmp/{}.png", "a/../../{}.png", "..\\{}.png"]):  # noqa: S108
        path = zipped(tmp_path / f"{number}.zip", poisoned(whole)[:2], name)
        with pytest.raises(EntryError, match="leads out of it; nothing was read"):
            take(store, path, whole)
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        link = zipfile.ZipInfo("0.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(EntryError, match="a link"):
        take(store, tmp_path / "link.zip", whole)
    with zipfile.ZipFile(tmp_path / "large.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(10_000_000))
    with pytest.raises(EntryError, match="10,000,000 bytes, too many for such an image"):
        take(store, tmp_path / "large.zip", whole)
    with zipfile.ZipFile(tmp_path / "large.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", bytes(30_000_000))
    with pytest.raises(EntryError, match="unpacks to 30,000,000 bytes, more than these images can need"):
        take(store, tmp_path / "large.npz", whole)
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        for place in "ab":
            archive.writestr(f"{place}/0.png", png(poisoned(whole)[0]))
    with pytest.raises(EntryError, match="two files of number 0"):
        take(store, tmp_path / "twice.zip", whole)


@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("gone.npy", lambda p: p, "there is no file"),
        ("text.csv", lambda p: p.write_text("1"), "expected .npy, .npz, .pt"),
        ("cut.npy", lambda p: p.write_bytes(b"\x93NUMPY"), "not an array that can be read"),
        ("cut.pt", lambda p: p.write_bytes(b"PK"), "is not opened"),
        ("shape.npy", lambda p: np.save(p, np.zeros((24, 3, 28, 28), np.int8)), r"\(24, 3, 28, 28\), expected"),
        ("five.npy", lambda p: np.save(p, np.zeros((1, 24, 3, 32, 32), np.int8)), "expected"),
        ("rows.npy", lambda p: np.save(p, np.zeros((23, 3, 32, 32), np.int8)), "holds 23 rows; the dataset has 24 images"),
        ("words.npy", lambda p: np.save(p, np.array(["a"])), "expected rows of real numbers"),
        ("units.npy", lambda p: np.save(p, np.linspace(-1, 1, 73728).reshape(24, 3, 32, 32)), "say which by --units"),
        ("keys.npz", lambda p: np.savez(p, other=np.zeros(1)), "holds other; expected an array called"),
        ("five.npz", lambda p: np.savez(p, images=np.full((24, 3, 32, 32), "abc")), "images of <U3 .*, expected rows of real"),
        ("dates.npz", lambda p: np.savez(p, images=np.zeros((24, 3, 32, 32), "M8[s]")), "images of datetime64"),
        ("mixed.npz", lambda p: np.savez(p, images=np.zeros((24, 3, 32, 32), "f4,i4")), "expected rows of real numbers"),
        ("void.npz", lambda p: np.savez(p, images=np.zeros((24, 3, 32, 32), "V4")), "expected rows of real numbers"),
        ("complex.npz", lambda p: np.savez(p, images=np.zeros((24, 3, 32, 32), "c8")), "images of complex64"),
        ("complex.pt", lambda p: torch.save(torch.zeros(24, 3, 32, 32, dtype=torch.complex64), p), "images of complex64"),
        ("none.npy", lambda p: np.save(p, np.zeros((0, 3, 32, 32))), r"\(0, 3, 32, 32\), expected rows"),
        ("none.npz", lambda p: np.savez(p, images=np.zeros((0, 3, 32, 32))), r"\(0, 3, 32, 32\), expected rows"),
        ("none.pt", lambda p: torch.save(torch.zeros(0, 3, 32, 32), p), r"\(0, 3, 32, 32\), expected rows"),
        ("labels.npz", lambda p: np.savez(p, x=LEVELS.numpy(), y=np.zeros(24, "f4,i4")), "labels of .*, expected rows of real"),
        ("header.npy", lambda p: long_header(p), "without unpickling"),
        ("rows.pt", lambda p: torch.save(expanded(0.0, 10**9, 3, 32, 32), p), "or than the file holds of it"),
        ("copy.pt", lambda p: torch.save(expanded(0.0, 24, 3, 32, 32), p), "or than the file holds of it"),
        ("labels.pt", lambda p: torch.save((pixels(), expanded(0.0, 2 * 10**9)), p), "or than the file holds of it"),
        ("wide.pt", lambda p: torch.save({"dconv_down1.0.weight": expanded(0.0, 4096, 3, 3, 3)}, p), "or than the file holds"),
        ("nan.npy", lambda p: np.save(p, np.full((24, 3, 32, 32), np.nan)), "may be noise in pixel units"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_a_sentence(store, whole, tmp_path, name, make, told):
    """What was found, what was expected, what to do."""
    make(tmp_path / name)
    with pytest.raises(EntryError, match=told) as caught:
        take(store, tmp_path / name, whole)
    assert "\n" not in str(caught.value) and store.folders() == []


def long_header(path) -> None:
    """A file whose header numpy refuses in two lines."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }" + b" " * 20_000 + b"\n"
    path.write_bytes(b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + bytes(4))


def expanded(value: float, *shape: int) -> torch.Tensor:
    """A tensor of any size that takes four bytes in a file."""
    return torch.full((1,), value).expand(shape)


@pytest.mark.parametrize(
    ("make", "options", "told"),
    [
        (
            lambda x: [pixels()[:3], [0, 1, 1]],
            {"units": "pixels"},
            "its 3 rows by 3 values, expected different ones from 0 to 23",
        ),
        (lambda x: [pixels()[:3], [0, 1, 24]], {"units": "pixels"}, "expected different ones from 0 to 23"),
        (lambda x: [pixels()[:3], [0, -1, 2]], {"units": "pixels"}, "expected different ones from 0 to 23"),
        (lambda x: [pixels()[:3], [0, 1]], {"units": "pixels"}, "its 3 rows by 2 values"),
        (lambda x: [pixels()[:3], [0, 2**70, 2]], {"units": "pixels"}, "holds a list; expected a tensor"),
        (lambda x: [pixels()[:3], ["0", "1", "2"]], {"units": "pixels"}, "holds a list; expected a tensor"),
        (lambda x: [torch.zeros(170, 3, 32, 32)] * 9, {}, "holds a list; expected a tensor"),
        (lambda x: torch.rand(20, 3, 32, 32), {"order": "match"}, "of 20 images are most like a clean image of their own"),
        (lambda x: poisoned(x)[[0] * 20], {"order": "match"}, "of 20 images are most like a clean image of their own"),
        (lambda x: poisoned(x).repeat(2, 1, 1, 1), {"order": "match"}, "48 rows, more than the 24 images of the dataset"),
        (lambda x: pixels()[:20], {"order": "match"}, "compares images with images; this file holds noise"),
        (lambda x: (poisoned(x), torch.full((24, 4), 0.25)), {}, "labels are rows of 4 numbers, expected one 1 in each"),
        (lambda x: (poisoned(x), x.train.labels + 0.5), {}, "labels are float32 .*, expected one whole number"),
        (lambda x: (poisoned(x), x.train.labels * float("nan")), {}, "labels are float32 .*, expected one whole number"),
    ],
)
def test_parts_numbers_and_labels_that_do_not_fit_are_refused(store, whole, tmp_path, make, options, told):
    """Whatever a file claims, each of its rows belongs to one image, told in a sentence."""
    path = torch_saved(tmp_path / "file.pth", make(whole))
    with pytest.raises(EntryError, match=told):
        take(store, path, whole, **options)
    assert store.folders() == []


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"a": np.zeros((12, 3, 32, 32)), "b": np.zeros((12, 32, 32, 3))}, r"a\.npy \(12, 3, 32, 32\), b\.npy .*of one shape"),
        ({"a": np.zeros((24, 3, 32, 32)), "y": np.zeros(24), "z": np.zeros(24)}, "and labels once at most"),
        ({"y": np.zeros(24)}, "expected parts of images"),
        ({"a": np.zeros((24, 3, 32, 32)), "n": np.zeros((1, 2, 3, 4, 5))}, "expected parts of images"),
        (
            {"a": np.zeros((400, 3, 32, 32)), "b": np.zeros((400, 3, 32, 32))},
            "bytes of arrays, more than these images can need",
        ),
        ({"a": np.zeros((24, 3, 32, 32)), "o": np.array([None])}, "without unpickling"),
    ],
)
def test_parts_in_a_folder_that_do_not_fit_are_refused(store, whole, tmp_path, arrays, told):
    """The second part of another shape, labels twice or alone, more than can be needed, a pickle among them."""
    (tmp_path / "sep").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / "sep" / f"{name}.npy", array, allow_pickle=True)
    with pytest.raises(EntryError, match=told):
        take(store, tmp_path / "sep", whole)
    assert store.folders() == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w | {"dconv_down1.0.weight": expanded(0.0, 10**9, 3, 3, 3)}, "or than the file holds of it"),
        (lambda w: w | {"dconv_down1.0.weight": torch.zeros(())}, "not those of DeepConfuse's generator"),
        (lambda w: w | {"more": torch.zeros(1)}, "Unexpected key"),
        (lambda w: {key: value for key, value in w.items() if "conv_last" not in key}, "Missing key"),
        (lambda w: w | {"conv_last.0.bias": torch.full((3,), float("nan"))}, "noise that is not finite"),
        (lambda w: w | {"conv_last.0.weight": torch.zeros(3, 4, 1, 1, dtype=torch.int64)}, "not those of DeepConfuse's"),
        (lambda w: authors_generator(4, 1)[1], "not those of DeepConfuse's generator for these images: size mismatch"),
    ],
)
def test_weights_of_another_network_are_refused(store, whole, tmp_path, change, told):
    """A width that no memory holds, missing and foreign layers, numbers that are none: a sentence each, and no hang."""
    path = torch_saved(tmp_path / "atk.pth", change(authors_generator(4)[1]))
    with pytest.raises(EntryError, match=told):
        take(store, path, whole, norm="linf", epsilon=0.032)
    assert store.folders() == []


def test_a_folder_must_have_each_image_once(store, whole, tmp_path):
    """A missing or strange file would shift or spoil a poison; sorting by letters would misalign nearly all."""
    released = folder(tmp_path / "released", poisoned(whole))
    (released / "data" / "7.png").rename(released / "data" / "24.png")
    with pytest.raises(EntryError, match=r"expected 24 files 0\.png to 23\.png"):
        take(store, released, whole)
    (released / "data" / "24.png").rename(released / "data" / "7.png")
    (released / "data" / "7.png").write_bytes(png(poisoned(whole)[0][:, :16]))
    with pytest.raises(EntryError, match=r"7\.png is 32x16 RGB, expected 32x32 with 3 channels"):
        take(store, released, whole)
    (released / "again").mkdir()
    (released / "again" / "07.png").write_bytes(png(poisoned(whole)[0]))
    with pytest.raises(EntryError, match="two files of number 7"):
        take(store, released, whole)
    shutil.rmtree(released / "again")
    (released / "data" / "7.png").write_bytes(b"GIF89a")
    with pytest.raises(EntryError, match=r"7\.png cannot be read"):
        take(store, released, whole)


def test_files_beside_images_may_have_names_that_are_no_text(store, whole, tmp_path):
    """Linux allows any bytes; they are hashed as they are."""
    released = folder(tmp_path / "released", poisoned(whole))
    (released / "\udcff.txt").write_text("by us")
    assert torch.equal(take(store, released, whole).images, poisoned(whole))


def test_a_pipe_is_no_file_of_labels(store, whole, tmp_path):
    """Opening one waits for somebody who writes into it, for ever."""
    os.mkfifo(tmp_path / "labels.npy")
    np.save(tmp_path / "x.npy", LEVELS.numpy())
    with pytest.raises(EntryError, match=r"there is no file .*labels\.npy"):
        take(store, tmp_path / "x.npy", whole, tmp_path / "labels.npy", order="class")


def test_labels_of_other_images_are_refused(store, whole, tmp_path):
    """A victim must never learn a poison under labels that its authors did not mean."""
    path = torch_saved(tmp_path / "hypo.pt", (poisoned(whole), whole.train.labels.flip(0)))
    with pytest.raises(EntryError, match="24 of 24 labels of the file are not the dataset's"):
        take(store, path, whole)


def test_a_poison_beyond_its_declared_radius_is_refused(store, whole, tmp_path):
    """The budget is measured on 8 bits, as for our own."""
    path = torch_saved(tmp_path / "em.pt", pixels())
    with pytest.raises(BudgetError, match=r"spent 8/255 of linf, allowed 4/255"):
        take(store, path, whole, norm="linf", epsilon=4 / 255)
    assert take(store, path, whole).manifest["budget"] == {"norm": "none", "allowed": None, "spent": 8 / 255}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"units": "inches"}, "--units inches: expected auto, images"),
        ({"units": "radius"}, "needs the radius, --epsilon 8/255"),
        ({"norm": "l3"}, "unknown norm 'l3'"),
        ({"norm": "linf", "epsilon": -1.0}, "not a radius of linf"),
    ],
)
def test_wrong_options_are_refused(options, told):
    """Before anything is read."""
    with pytest.raises(EntryError, match=told):
        ImportOptions(**options)


def test_an_imported_poison_is_not_crafted(store, whole):
    """In another workspace the item says how to get it; without content it applies to nothing."""
    with pytest.raises(EntryError, match=r"sha-0123456789abcdef\) is not in this store .*: bench poisons import FILE"):
        store.poison(recipe("imported(content=sha-0123456789abcdef)"), whole)
    with pytest.raises(NotApplicable, match="stands for a published poison"):
        ATTACKS["imported"]().applies(whole.train.info)


@pytest.mark.parametrize("name", ["1234", "8/255", "true", "a b+c(d)", "perturbation", "..", "inf"])
def test_any_file_name_becomes_a_word_of_an_item(name):
    """The item that the command prints must read back."""
    made = word(name)
    assert resolve("attacks", f"imported(name={made})")[0].fields["name"] == made


# Export


@pytest.mark.parametrize(("kind", "place"), [("png", "out"), ("npz", "out.npz")])
def test_what_goes_out_comes_in_again(store, whole, tmp_path, kind, place):
    """A poison of ours in the hands of others is the same bytes, with labels, recipe and budget."""
    kept = store.poison(recipe("lsp"), whole)
    hand_out(kept, whole.train, tmp_path / place, kind)
    back = take(Store(tmp_path / "other"), tmp_path / place, whole, norm="l2", epsilon=1.3041)
    assert back.checksum == kept.checksum
    if kind == "png":
        assert (tmp_path / place / "labels.csv").read_text().splitlines()[:3] == ["index,label,class", "0,0,a", "1,1,b"]
        assert json.loads((tmp_path / place / "manifest.json").read_text())["checksum"] == kept.checksum
    else:
        with np.load(tmp_path / place, allow_pickle=False) as archive:
            assert json.loads(str(archive["manifest"]))["recipe"] == kept.manifest["recipe"]
            assert (archive["labels"] == whole.train.labels.numpy()).all()
    with pytest.raises(EntryError, match="exists already"):
        hand_out(kept, whole.train, tmp_path / place, kind)
    assert not list(tmp_path.glob(".*.making"))


@pytest.mark.slow
def test_a_published_poison_becomes_a_cell(tmp_path):
    """The three commands in a row: export, import elsewhere, train on it under the printed item."""
    part = "digits(per_class=20,test_per_class=5)"
    out = tmp_path / "released"
    told = call_bench("poisons", "export", "ops", "--dataset", part, "--to", out, "--json", workspace=tmp_path / "a")[0]
    taken = bench(
        *("poisons", "import", out, "--dataset", part, "--name", "their-ops", "--norm", "l0", "--epsilon", "1", "--json"),
        workspace=tmp_path / "b",
    )[0]
    found = json.loads(taken)
    assert found["checksum"] == json.loads(told)["checksum"] and found["budget"]["spent"] == 1
    bench(
        *("run", "--attack", found["attack"], "--dataset", part, "--protocol", "quick@0.1", "--executor", "inline"),
        *("--seed", "3"),
        workspace=tmp_path / "b",
    )
    (path,) = (tmp_path / "b" / "results" / "records").glob("*.json")
    record = json.loads(path.read_text())
    assert record["poison"]["checksum"] == found["checksum"]
    assert data.load(resolve("datasets", part)[0]).fingerprint == record["dataset_fingerprint"]
    for arguments, sentence in [
        (("import", tmp_path / "no.npy", "--dataset", part), "there is no file"),
        (("import", out, "--dataset", part, "--epsilon", "much"), "--epsilon much: expected a number"),
        (("export", "ops", "--dataset", part, "--to", out), "exists already"),
        (("export", "ops", "--dataset", part, "--to", tmp_path / "x", "--format", "gif"), "expected png, npz"),
    ]:
        assert sentence in call_bench("poisons", *arguments, code=2, workspace=tmp_path / "b")[1]
