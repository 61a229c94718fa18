"""Datasets: the one that comes with the program, the user's own folders, and archives read by torchvision's real code."""

import errno
import hashlib
import io
import itertools
import json
import os
import pickle
import re
import shutil
import tarfile
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unlearnable_bench.benchmark.commands import data as commands
from unlearnable_bench.poisons.imports import import_poison
from unlearnable_bench.poisons.options import ImportOptions
from unlearnable_bench.poisons.store import Store
from unlearnable_bench.registry import DATASETS, EntryError, ImageSet, MissingDataError, data, resolve
from unlearnable_bench.registry.datasets import cifar


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Every test here has data and cache folders of its own."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def load(item: str) -> data.Data:
    return data.load(resolve("datasets", item)[0])


def picture(path, value=100, size=(8, 8), mode="RGB", **options):
    """One image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode != "RGB" else (value,) * 3).save(path, **options)
    return path


@pytest.fixture
def pets(tmp_path):
    """Two classes; values tell the files apart."""
    root = tmp_path / "My Pets"
    for part, count in (("train", 3), ("test", 2)):
        for k, name in enumerate(("cat", "dog")):
            for i in range(count):
                picture(root / part / name / f"{i}.png", 100 * k + 10 * i)
    return root


# digits


def test_digits_have_the_stated_sizes_and_every_class_in_the_test_set_equally():
    """The embedded default: real images without a download."""
    found = load("digits")
    assert found.train.images.shape == (1347, 3, 32, 32) and found.test.images.shape == (450, 3, 32, 32)
    assert found.train.images.dtype == torch.uint8 and found.train.labels.dtype == torch.int64
    assert found.test.labels.bincount().tolist() == [45] * 10
    assert found.train.num_classes == 10 and found.train.classes == tuple("0123456789")


def test_digits_are_the_same_bytes_every_time():
    """Fingerprints of records refer to them."""
    first, again = (DATASETS["digits"](None) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    assert data.fingerprint(*first) == load("digits").fingerprint


def test_no_digit_is_in_both_halves():
    """A test image that was trained on would make every number too good."""
    train, test = DATASETS["digits"](None)
    seen = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in seen for image in test.images)


def test_brightness_alone_does_not_give_a_digit_away():
    """Colours are drawn, not given by the class: the mean colour of an image is a poor classifier."""
    train, test = DATASETS["digits"](None)
    mean = [part.images.float().mean((2, 3)) for part in (train, test)]
    centres = torch.stack([mean[0][train.labels == k].mean(0) for k in range(10)])
    assert float((torch.cdist(mean[1], centres).argmin(1) == test.labels).float().mean()) < 0.2


# Part of each class, for every set


@given(per_class=st.integers(1, 100), test_per_class=st.integers(1, 45))
@settings(max_examples=5)
def test_part_of_each_class_is_a_seeded_choice_in_the_order_of_the_set(per_class, test_per_class):
    """Small runs see the same images each time, and smaller choices are contained in larger ones."""
    everything = load("digits")
    some = load(f"digits(per_class={per_class},test_per_class={test_per_class})")
    assert some.train.labels.bincount().tolist() == [per_class] * 10
    assert some.test.labels.bincount().tolist() == [test_per_class] * 10
    rows = {image.numpy().tobytes(): row for row, image in enumerate(everything.train.images)}
    chosen = [rows[image.numpy().tobytes()] for image in some.train.images]
    assert chosen == sorted(chosen)
    more = load(f"digits(per_class={per_class + 20},test_per_class={test_per_class})")
    assert set(chosen) <= {rows[image.numpy().tobytes()] for image in more.train.images}
    assert some.fingerprint not in (everything.fingerprint, more.fingerprint)


def test_the_test_set_stays_whole_unless_asked():
    """Accuracies of small runs stay comparable."""
    assert len(load("digits(per_class=3)").test) == 450


def test_more_images_than_a_class_has_is_refused_with_the_figures():
    """Silently taking fewer would make classes unequal."""
    with pytest.raises(EntryError, match=r"digits: 5000 images per class were asked for, class 0 has \d+ training images"):
        load("digits(per_class=5000)")


def test_what_is_known_without_opening_the_images_is_what_they_are():
    """Planning asks entries whether they apply, from this."""
    (part,) = resolve("datasets", "digits(per_class=7)")
    assert data.info(part) is None
    assert data.load(part).train.info == data.info(part)


# Decoded once


def test_arrays_are_decoded_once(monkeypatch, pets):
    """Decoding 60,000 files takes a minute; every worker of a grid needs them."""
    first = load(f"folder:{pets}(size=8)")
    monkeypatch.setattr("unlearnable_bench.registry._images.decode_images", lambda *_: pytest.fail("decoded again"))
    again = load(f"folder:{pets}(size=8)")
    assert torch.equal(first.train.images, again.train.images) and first.fingerprint == again.fingerprint


def test_fields_that_change_the_images_have_arrays_of_their_own(pets):
    """Another size must never be served from the cache of the first."""
    assert load(f"folder:{pets}(size=8)").train.info.shape == (3, 8, 8)
    assert load(f"folder:{pets}(size=4)").train.info.shape == (3, 4, 4)


def test_large_arrays_are_mapped_and_small_ones_read(monkeypatch, pets):
    """ImageNet does not fit into memory; a mapped set must behave the same, and writing must never reach the file."""
    item = f"folder:{pets}(size=8)"
    read = load(item)
    monkeypatch.setattr("unlearnable_bench.registry._paths.MAP_FROM", 0)
    opened = []
    real = np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: opened.append(k["mmap_mode"]) or real(*a, **k))
    mapped = load(item)
    assert opened == ["c"] * 4
    assert torch.equal(read.train.images, mapped.train.images)
    mapped.train.images.zero_()
    assert torch.equal(read.train.images, load(item).train.images)


def test_what_one_decodes_the_others_of_a_group_may_read(pets):
    """`$BENCH_DATA` may be shared: who may read is a matter of the umask."""
    before = os.umask(0o002)
    try:
        folder = data.decoded(resolve("datasets", f"folder:{pets}(size=8)")[0])
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o775
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o664}


def test_forgetting_decodes_again(pets):
    """The remedy when arrays on disk are damaged."""
    (part,) = resolve("datasets", f"folder:{pets}(size=8)")
    folder = data.decoded(part)
    data.forget_decoded(part)
    assert not folder.exists() and data.decoded(part) == folder


def test_an_unwritable_data_folder_is_named(tmp_path, monkeypatch):
    """BENCH_DATA often points to a read-only share."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(EntryError, match=r"cannot write decoded images to .* set BENCH_DATA"):
        load("digits")


# folder


def test_a_folder_is_read_in_the_order_of_its_names(pets):
    """Labels are the alphabetical classes, images the sorted files: another machine must get the same rows."""
    found = load(f"folder:{pets}(size=8)")
    assert found.train.classes == ("cat", "dog") and found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.train.images[:, 0, 0, 0].tolist() == [0, 10, 20, 100, 110, 120]
    assert found.test.images[:, 0, 0, 0].tolist() == [0, 10, 100, 110]


ODD = {  # name: (mode, colour, expected RGB, options)
    "gray.png": ("L", 77, (77, 77, 77), {}),
    "one-bit.png": ("1", 1, (255, 255, 255), {}),
    "half.png": ("RGBA", (200, 100, 50, 128), (100, 50, 25), {}),
    "nothing.png": ("RGBA", (200, 100, 50, 0), (0, 0, 0), {}),
    "gray-alpha.png": ("LA", (200, 128), (100, 100, 100), {}),
    "sixteen.png": ("I;16", 0x4D00 + 200, (77, 77, 77), {}),
    "palette.png": ("P", 3, None, {}),
    "clear.gif": ("P", 3, (0, 0, 0), {"transparency": 3}),
    "plain.gif": ("P", 3, None, {}),
    "ink.jpg": ("CMYK", (0, 0, 0, 255), (0, 0, 0), {}),
    "photo.JPEG": ("RGB", (10, 200, 30), (10, 200, 30), {"quality": 95}),
    "small.bmp": ("RGB", (1, 2, 3), (1, 2, 3), {}),
    "web.webp": ("RGB", (9, 8, 7), (9, 8, 7), {"lossless": True}),
    "scan.tiff": ("I;16", 0x1100, (17, 17, 17), {}),
    "plain.pgm": ("L", 5, (5, 5, 5), {}),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_become_rgb(pets, name):
    """Alpha over black, high byte of 16 bits, first frame: users' folders hold everything."""
    mode, colour, expected, options = ODD[name]
    path = pets / "train" / "ant" / name
    path.parent.mkdir()
    image = Image.new(mode, (12, 12), colour)
    if mode == "P":
        image.putpalette([v for i in range(256) for v in (i * 20 % 256, 40, i)])
        expected = expected or (60, 40, 3)
    image.save(path, **options)
    shutil.copytree(path.parent, pets / "test" / "ant")
    pixels = load(f"folder:{pets}(size=8)").train.images[0]
    assert pixels.shape == (3, 8, 8)
    found = pixels.flatten(1).float().mean(1)
    assert (found - torch.tensor(expected)).abs().max() <= (2.5 if mode == "RGB" and name.endswith("JPEG") else 1)
    assert pixels.flatten(1).unique(dim=1).shape[1] == 1


def test_an_oblong_image_is_resized_by_its_short_side_and_cropped_in_the_middle(pets):
    """Squeezing would change what the image shows."""
    wide = np.zeros((16, 64, 3), np.uint8)
    wide[:, 24:40] = 255  # the middle square
    (pets / "train" / "cat" / "0.png").unlink()
    Image.fromarray(wide).save(pets / "train" / "cat" / "0.png")
    pixels = load(f"folder:{pets}(size=16)").train.images[0]
    assert (pixels == 255).all()
    smaller = load(f"folder:{pets}(size=8)").train.images[0]
    assert smaller.shape == (3, 8, 8) and smaller[:, :, 2:6].min() > 250


def test_hidden_files_and_other_files_are_skipped(pets):
    """Macs leave ._0.png and .DS_Store, people leave notes."""
    for name in (".DS_Store", "._0.png", "Thumbs.db", "notes.txt", "README"):
        (pets / "train" / "cat" / name).write_bytes(b"nothing")
    (pets / "train" / ".cache").mkdir()
    (pets / "train" / "notes.txt").write_text("")
    (pets / "train" / "cat" / "folder.png").mkdir()
    assert len(load(f"folder:{pets}(size=8)").train) == 6


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda root: shutil.rmtree(root), r"no folder .*My Pets; expected a tree"),
        (lambda root: shutil.rmtree(root / "test"), r"no folder .*My Pets/test; expected"),
        (lambda root: [shutil.rmtree(p) for p in (root / "train").iterdir()], r"train holds no class folders"),
        (lambda root: [p.unlink() for p in (root / "train" / "dog").iterdir()], r"class folder .*dog holds no image"),
        (
            lambda root: (root / "test" / "dog").rename(root / "test" / "eel"),
            r"test has the class 'eel', which .*train has not",
        ),
        (lambda root: (root / "train" / "dog" / "1.png").write_bytes(b"no image"), r"cannot read the image .*dog/1\.png"),
        (lambda root: (root / "train" / "dog" / "1.png").write_bytes(b""), r"cannot read the image .*dog/1\.png"),
        (lambda root: (root / "train" / "dog" / "9.png").symlink_to("nowhere"), r"cannot read .*dog/9\.png"),
        (lambda root: os.mkfifo(root / "train" / "dog" / "9.png"), r"dog/9\.png is a pipe or a device"),
        (lambda root: (root / "train" / "dog" / "9.png").symlink_to("/dev/zero"), r"dog/9\.png is a pipe or a device"),
        (lambda root: (root / "train" / "\udcff").mkdir(), r"class folder '\\udcff' of .*train has a name that is not UTF-8"),
    ],
    ids=[
        *("no root", "no test", "no classes", "empty class", "unknown class", "no image", "empty file", "dead link"),
        *("a pipe", "a device", "a class of bytes"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_sentence(pets, break_it, told):
    """With the path to look at, and what was expected there."""
    break_it(pets)
    with pytest.raises(EntryError, match=told) as caught:
        load(f"folder:{pets}(size=8)")
    assert "\n" not in str(caught.value)


def test_no_image_is_handed_to_an_interpreter(pets, tmp_path, monkeypatch):
    """Pillow looks at the first bytes of a file, not at its ending, and gives PostScript to Ghostscript."""
    program, called = tmp_path / "bin" / "gs", tmp_path / "called"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{called}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # it looks for the program once
    (pets / "train" / "cat" / "0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    with pytest.raises(EntryError, match=r"cannot read the image .*cat/0\.png"):
        load(f"folder:{pets}(size=8)")
    assert not called.exists()


def test_an_image_may_have_a_name_that_is_no_text(pets):
    """Linux allows any bytes, and old archives have them."""
    (pets / "train" / "cat" / "\udcff.png").write_bytes((pets / "train" / "cat" / "0.png").read_bytes())
    assert len(load(f"folder:{pets}(size=8)").train) == 7


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow also warns about some of them
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "webp", "tiff", "ppm"])
def test_a_file_that_breaks_off_is_named(pets, ending):
    """Half-copied files are frequent; wherever they end, the sentence names the file, or the pixels are whole."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, {"jpg": "jpeg"}.get(ending, ending))
    content = buffer.getvalue()
    from unlearnable_bench.registry import _images

    path = pets / f"broken.{ending}"
    for length in range(0, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:length])
        try:
            assert _images._decode(path, 8).shape == (3, 8, 8)
        except EntryError as error:
            assert f"broken.{ending}" in str(error)


def test_a_size_below_one_is_refused(pets):
    """Zero pixels are no image."""
    with pytest.raises(EntryError, match="size=0"):
        load(f"folder:{pets}(size=0)")


def name_of(root) -> str:
    return resolve("datasets", f"folder:{root}")[0].name


def test_a_folder_is_named_by_what_is_in_it_not_by_where_it_is(pets, tmp_path):
    """The name is in ids and records: a copy on another machine is the same dataset, a changed byte is another."""
    name = name_of(pets)
    assert re.fullmatch(r"folder-my-pets-[0-9a-f]{8}", name)
    copy = tmp_path / "elsewhere" / "My Pets"
    shutil.copytree(pets, copy)
    for path in copy.rglob("*.png"):
        os.utime(path, (1, 1))
    assert name_of(copy) == name
    assert str(tmp_path) not in resolve("datasets", f"folder:{copy}")[0].text
    image = copy / "test" / "dog" / "1.png"
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(content)
    assert name_of(copy) != name


@pytest.mark.parametrize("change", [lambda p: p.rename(p.with_name("z.png")), lambda p: p.unlink()], ids=["renamed", "removed"])
def test_another_set_of_files_is_another_data_set(pets, change):
    """The order of images follows the names."""
    name = name_of(pets)
    change(pets / "train" / "cat" / "0.png")
    assert name_of(pets) != name


def test_files_are_hashed_once(pets, monkeypatch):
    """A folder of a million files is hashed in minutes; planning must not pay that each time."""
    from pathlib import Path

    name = name_of(pets)
    monkeypatch.setattr(Path, "read_bytes", lambda *_: pytest.fail("hashed again"))
    assert name_of(pets) == name


@pytest.mark.parametrize("base", ["data", "Ünï & <co>", "..."])
def test_the_name_of_a_folder_is_fit_for_files_and_pages(tmp_path, base):
    """Names of directories can hold anything."""
    root = tmp_path / base
    for part in ("train", "test"):
        picture(root / part / "a" / "0.png")
    assert re.fullmatch(r"folder-[a-z0-9._-]+-[0-9a-f]{8}", name_of(root))


# CIFAR and SVHN through torchvision, on tiny archives


def batch(path, labels, key, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), np.uint8)
    path.write_bytes(pickle.dumps({"data": values, key: labels}))
    return values, hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324  (torchvision's choice)


@pytest.fixture
def cifar10(home, monkeypatch):
    DATASETS["cifar10"]  # an entry that is loaded has torchvision prepared
    from torchvision.datasets import CIFAR10

    folder = home / "data" / "cifar10" / CIFAR10.base_folder
    values, sums = [], {}
    for i, name in enumerate(["data_batch_1", "data_batch_2", "test_batch"]):
        found, sums[name] = batch(folder / name, [3, 1, 2], "labels", i)
        values.append(found)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"name-{k}" for k in range(10)]}))
    meta = hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()  # noqa: S324
    monkeypatch.setattr(CIFAR10, "train_list", [[n, sums[n]] for n in ("data_batch_1", "data_batch_2")])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})
    return folder, values


def test_cifar10_is_read_channel_first_in_its_own_order(cifar10):
    """torchvision hands out channel-last images; a wrong permutation would still train."""
    _, values = cifar10
    found = load("cifar10")
    assert found.train.images.shape == (6, 3, 32, 32) and found.train.labels.tolist() == [3, 1, 2, 3, 1, 2]
    assert torch.equal(found.train.images[3], torch.from_numpy(values[1][0].reshape(3, 32, 32)))
    assert torch.equal(found.test.images[0], torch.from_numpy(values[2][0].reshape(3, 32, 32)))
    assert found.train.num_classes == 10 and found.train.classes[3] == "name-3"


@pytest.mark.parametrize("harm", ["remove", "change"])
def test_a_damaged_archive_says_how_to_get_a_whole_one(cifar10, harm):
    """Checksums are torchvision's; the remedy is ours."""
    path = cifar10[0] / "data_batch_2"
    path.unlink() if harm == "remove" else path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MissingDataError, match=r"cifar10 is not whole at .*; run `bench data get cifar10`"):
        load("cifar10")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "cifar10-jpeg75"])
def test_a_data_set_that_is_not_there_says_how_to_get_it(name):
    """Found while planning, without torch; only `bench data get` uses the network."""
    (part,) = resolve("datasets", name)
    assert f"`bench data get {name}`" in data.missing(part)
    with pytest.raises(MissingDataError, match=f"`bench data get {name}`"):
        data.load(part)


@pytest.fixture
def cifar100(home, monkeypatch):
    """Two training and two test images with the names that the archive has."""
    DATASETS["cifar100"]
    from torchvision.datasets import CIFAR100

    folder = home / "data" / "cifar100" / CIFAR100.base_folder
    sums = {name: batch(folder / name, [98, 4], "fine_labels", i)[1] for i, name in enumerate(("train", "test"))}
    names = sorted(itertools.chain(*(names.split() for names in cifar.SUPERCLASSES.values())))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    meta = hashlib.md5((folder / "meta").read_bytes()).hexdigest()  # noqa: S324
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": meta})


def test_cifar100_has_its_fine_labels(home, cifar100):
    """The papers' CIFAR-100 has a hundred classes, not the twenty coarse ones."""
    found = load("cifar100")
    assert found.train.num_classes == 100 and found.train.labels.tolist() == [98, 4] and found.train.classes[98] == "woman"


def test_superclasses_are_other_labels_on_the_same_images(home, cifar100):
    """Twenty groups of five; the ids of sets with fine labels stay as they were."""
    fine, coarse = load("cifar100"), load("cifar100(labels=superclass)")
    assert torch.equal(fine.train.images, coarse.train.images) and coarse.train.num_classes == 20
    named = dict(zip(fine.train.classes, range(100), strict=True))
    assert fine.train.labels.tolist() == [named["woman"], named["beaver"]]
    assert [coarse.train.classes[label] for label in coarse.train.labels] == ["people", "aquatic_mammals"]
    groups = [names.split() for names in cifar.SUPERCLASSES.values()]
    assert {len(names) for names in groups} == {5} and len(set(itertools.chain(*groups))) == 100
    assert "labels" not in resolve("datasets", "cifar100")[0].fields
    with pytest.raises(EntryError, match="labels=coarse is none of fine, superclass"):
        load("cifar100(labels=coarse)")


def test_a_poison_of_fine_labels_is_imported_for_superclasses(home, cifar100):
    """The images are the same and in the same order, so that a file without labels fits both."""
    poisoned = load("cifar100").train.images ^ 1
    np.save(home / "images.npy", poisoned.numpy())
    item, coarse = resolve("datasets", "cifar100(labels=superclass)")[0], load("cifar100(labels=superclass)")
    kept = import_poison(Store(home / "poisons"), home / "images.npy", item, coarse, ImportOptions())
    assert torch.equal(kept.images, poisoned) and torch.equal(kept.labels, coarse.train.labels)


def test_svhn_calls_the_digit_ten_zero(home, monkeypatch):
    """The files label 0 as 10; torchvision maps it, and images are stored with their number last."""
    DATASETS["svhn"]
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    root, table, pixels = home / "data" / "svhn", {}, {}
    root.mkdir(parents=True)
    for i, split in enumerate(("train", "test")):
        pixels[split] = np.random.default_rng(i).integers(0, 256, (32, 32, 3, 4), np.uint8)
        path = root / f"{split}_32x32.mat"
        savemat(path, {"X": pixels[split], "y": np.array([[10], [1], [9], [10]], np.uint8)})
        table[split] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]  # noqa: S324
    monkeypatch.setattr(SVHN, "split_list", table)
    found = load("svhn")
    assert found.train.labels.tolist() == [0, 1, 9, 0] and found.train.labels.dtype == torch.int64
    assert torch.equal(found.train.images[2], torch.from_numpy(pixels["train"][..., 2].transpose(2, 0, 1)))
    (root / "test_32x32.mat").unlink()
    data.forget_decoded(resolve("datasets", "svhn")[0])
    with pytest.raises(MissingDataError, match="svhn is not whole"):
        load("svhn")


# Archives from local files, for machines without internet


def md5(path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324  (the publishers' choice)


@pytest.fixture
def published(cifar10, tmp_path, monkeypatch):
    """The archive of a tiny CIFAR-10 as it is published, the dataset itself not being there."""
    from torchvision.datasets import CIFAR10

    archive = tmp_path / "downloads" / "renamed.tgz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(cifar10[0], CIFAR10.base_folder)
    shutil.rmtree(cifar10[0].parent)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
    return archive


def left_behind(home) -> list[str]:
    """All that lies under the folder of the data."""
    return sorted(str(path.relative_to(home / "data")) for path in (home / "data").rglob("*"))


def test_an_archive_is_taken_from_a_file_as_if_it_was_downloaded(published, cifar10, home, capsys):
    """Clusters have no internet; the same checksums hold, whatever the file is called."""
    commands.get("cifar10", [published], as_json=True)
    out, error = capsys.readouterr()
    (row,) = json.loads(out)
    assert (row["name"], row["train"], row["test"]) == ("cifar10", 6, 3)
    assert "cifar10: checking renamed.tgz" in error and "cifar10: unpacking renamed.tgz" in error
    assert torch.equal(load("cifar10").train.images[3], torch.from_numpy(cifar10[1][1][0].reshape(3, 32, 32)))
    assert [path.name for path in (home / "data" / "cifar10").iterdir()] == ["cifar-10-batches-py"]
    commands.get("cifar10", [published])
    assert "unpacking" not in capsys.readouterr().err, "what is there and whole is not written again"


def test_an_archive_replaces_what_is_not_whole_and_nothing_else(published, cifar10, home):
    """A download that broke off left half of the files; what else lies there is the user's."""
    folder = cifar10[0]
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(b"half")
    (folder.parent / "notes.txt").write_text("mine")
    commands.get("cifar10", [published])
    assert len(load("cifar10").train) == 6
    assert {path.name for path in folder.parent.iterdir()} == {"cifar-10-batches-py", "notes.txt"}


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:1000]), r"has 1,000 bytes .*, expected cifar-10.*170,498,071 bytes"),
        (lambda file: file.write_bytes(file.read_bytes() + b"0"), "expected cifar-10-python.tar.gz .* download it again"),
        (lambda file: file.write_bytes(b""), "has 0 bytes"),
        (lambda file: file.unlink(), "is not there; --from takes the file that cifar10 is published as"),
        (lambda file: (file.unlink(), file.mkdir()), "is a folder; --from takes"),
        (lambda file: (file.unlink(), os.mkfifo(file)), "is not a regular file"),
    ],
    ids=["cut off", "longer", "empty", "not there", "a folder", "a pipe"],
)
def test_a_file_that_is_not_the_archive_is_told_in_a_sentence(published, home, harm, told):
    """And nothing is written."""
    harm(published)
    with pytest.raises(EntryError, match=told) as error:
        commands.get("cifar10", [published])
    assert "\n" not in str(error.value) and left_behind(home) == []


def test_the_archive_of_another_data_set_is_told_by_name(published, home):
    """CIFAR-10 and CIFAR-100 are easily mistaken for each other."""
    with pytest.raises(EntryError, match="is an archive of cifar10, not of cifar100; say `bench data get cifar10 --from"):
        commands.get("cifar100", [published])
    assert left_behind(home) == []
    for name in ("digits", "facescrub"):
        with pytest.raises(EntryError, match=f"{name} is not published as a file .*; `bench data get {name}` without --from"):
            commands.get(name, [published])


def test_a_data_set_of_two_files_wants_both(home, tmp_path, monkeypatch):
    """SVHN is published in two files, told apart by their checksums."""
    from scipy.io import savemat

    DATASETS["svhn"]
    from torchvision.datasets import SVHN

    files, table = [], {}
    for i, split in enumerate(("train", "test")):
        files.append(tmp_path / f"{i}.mat")
        savemat(files[i], {"X": np.full((32, 32, 3, 2), i, np.uint8), "y": np.array([[10], [1]], np.uint8)})
        table[split] = ["", f"{split}_32x32.mat", md5(files[i])]
    monkeypatch.setattr(SVHN, "split_list", table)
    with pytest.raises(EntryError, match=r"published as train_32x32.mat and .*; say --from FILE for test_32x32.mat"):
        commands.get("svhn", files[:1])
    with pytest.raises(EntryError, match=r"are both test_32x32.mat"):
        commands.get("svhn", [files[1], files[1]])
    assert left_behind(home) == []
    commands.get("svhn-small", files[::-1])
    assert load("svhn").train.labels.tolist() == [0, 1] and load("svhn").test.images.unique().tolist() == [1]


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_what_was_there(published, cifar10, home, monkeypatch, there):
    """Half of a dataset must not pass for one that is to be repaired by hand."""
    if there:
        cifar10[0].mkdir(parents=True)
        (cifar10[0] / "data_batch_1").write_bytes(b"half")
    before = left_behind(home)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "makefile", full)
    with pytest.raises(
        EntryError, match=r"cannot write dataset cifar10 to .*: No space left on device; files that were there are"
    ):
        commands.get("cifar10", [published])
    assert left_behind(home) == before


# The tree of JPEG files that stands in for CIFAR-10


@pytest.fixture
def jpeg75(home, monkeypatch):
    from unlearnable_bench.registry.datasets import cifar10_jpeg75

    monkeypatch.setattr(cifar10_jpeg75, "PER_CLASS", {"train": 2, "test": 1})
    root = home / "data" / "cifar10-jpeg75"
    for part, count in cifar10_jpeg75.PER_CLASS.items():
        for k, name in enumerate(cifar10_jpeg75.CLASSES):
            for i in range(count):
                picture(root / part / name / f"{i:04}.jpg", 20 * k + i, (32, 32), quality=75)
    return root


def test_the_jpeg_tree_has_the_classes_of_cifar10_in_order(jpeg75):
    """Its alphabetical order is CIFAR's, so that labels mean the same."""
    found = load("cifar10-jpeg75")
    assert found.train.images.shape == (20, 3, 32, 32) and found.train.labels.tolist() == [k for k in range(10) for _ in "ab"]
    assert (found.train.images[::2, 0, 0, 0].int() - torch.arange(0, 200, 20)).abs().max() <= 2
    assert DATASETS.entry("cifar10-jpeg75").facts["stands_in_for"] == "cifar10"


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda root: (root / "train" / "cat" / "0001.jpg").unlink(), "train holds 19 images of 10 classes, expected 2 images"),
        (lambda root: shutil.rmtree(root / "test" / "frog"), "test holds 9 images of 9 classes, expected 1 images"),
        (lambda root: [(root / p / "cat").rename(root / p / "puma") for p in ("train", "test")], "train holds 20 images"),
        (lambda root: shutil.rmtree(root / "test"), "no folder .*test"),
    ],
    ids=["a file less", "a class less", "another class", "no test"],
)
def test_a_jpeg_tree_that_is_not_whole_is_refused(jpeg75, harm, told):
    """Numbers on half a dataset must not enter a table of CIFAR-10."""
    harm(jpeg75)
    with pytest.raises(MissingDataError, match=told):
        load("cifar10-jpeg75")


def test_getting_the_jpeg_tree_says_where_to_put_it(tmp_path):
    """There is no archive with a checksum to download."""
    with pytest.raises(EntryError, match="put its folders train and test into"):
        DATASETS["cifar10-jpeg75"].download(tmp_path)


# What a set of images is


@given(n=st.integers(0, 20), size=st.integers(1, 30))
def test_batches_cover_a_set_in_order(n, size):
    """Shared code walks over sets that are larger than the memory."""
    images = torch.zeros(n, 1, 2, 2, dtype=torch.uint8)
    part = ImageSet(images, torch.zeros(n, dtype=torch.int64), 1)
    assert [i for where in part.batches(size) for i in range(where.start, where.stop)] == list(range(n))


def test_a_folder_without_a_path_is_told_how_to_say_it():
    """Not where a cache of ours would have it."""
    (part,) = DATASETS.resolve("folder")
    assert "say folder:PATH" in data.missing(part)


@pytest.mark.parametrize(("side", "together"), [(8, 4096), (32, 4096), (224, 83), (8000, 1)])
def test_fewer_large_images_are_looked_at_together(side, together):
    """What one step holds must not grow with the images: 4,096 of ImageNet are 2.5 GB as floats."""
    images = torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(5000, 3, side, side)
    whole = ImageSet(images, torch.zeros(5000, dtype=torch.int64), 1)
    found = list(whole.batches())
    assert found[0] == slice(0, together) and found[-1].stop == 5000
    assert all(one.stop == other.start for one, other in pairwise(found))
