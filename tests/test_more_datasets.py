"""Datasets that users bring: the first classes of ImageNet, part of SVHN, ten faces; on small trees of the same shape."""

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unlearnable_bench.registry import DATASETS, EntryError, MissingDataError, _images, data, resolve
from unlearnable_bench.registry._paths import MAP_FROM


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Every test here has data and cache folders of its own."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def root_of(name: str) -> Path:
    return data.root_of(resolve("datasets", name)[0])


def load(item: str) -> data.Data:
    return data.load(resolve("datasets", item)[0])


def complaint(item: str) -> str:
    with pytest.raises(EntryError) as caught:
        load(item)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def picture(path: Path, value: int, size: tuple[int, int] = (10, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path)


# imagenet100: four classes of five, three training images and two of validation each

SYNSETS = ["n01440764", "n01443537", "n01484850", "n01491361", "n01494475"]


@pytest.fixture
def imagenet(home, monkeypatch) -> Path:
    from unlearnable_bench.registry.datasets import imagenet100

    monkeypatch.setattr(imagenet100, "CLASSES", 4)
    monkeypatch.setattr(imagenet100, "ENDS", (SYNSETS[0], SYNSETS[3]))
    monkeypatch.setattr(imagenet100, "IMAGES", {"train": 12, "test": 8})
    root = root_of("imagenet100")
    for part, count in (("train", 3), ("val", 2)):
        for k, name in enumerate(SYNSETS):
            for i in range(count):
                picture(root / part / name / f"{name}_{i}.png", 40 * k + i)
    return root


def test_imagenet100_is_the_first_classes_in_sorted_order(imagenet):
    """The papers agree on the class set; a tree of all of ImageNet holds ten times as many."""
    found = load("imagenet100(size=8)")
    assert found.train.images.shape == (12, 3, 8, 8) and found.test.images.shape == (8, 3, 8, 8)
    assert found.train.classes == tuple(SYNSETS[:4]) and found.train.num_classes == 4
    assert found.train.labels.tolist() == [k for k in range(4) for _ in range(3)]
    assert found.train.images[:, 0, 0, 0].tolist() == [40 * k + i for k in range(4) for i in range(3)]
    assert found.test.images[:, 0, 0, 0].tolist() == [40 * k + i for k in range(4) for i in range(2)]


def test_imagenet100_expects_the_sizes_of_the_published_subset():
    """129,395 and 5,000 images, 224 pixels, tench to goose: what the small tree of these tests stands for."""
    from unlearnable_bench.registry.datasets import imagenet100

    assert imagenet100.CLASSES == 100 and imagenet100.IMAGES == {"train": 129_395, "test": 5_000}
    assert imagenet100.ENDS == ("n01440764", "n01855672")
    assert resolve("datasets", "imagenet100")[0].fields["size"] == 224


def test_the_classes_after_the_first_hundred_are_not_looked_into(imagenet):
    """Listing a million files takes minutes; a broken folder there is nobody's business."""
    shutil.rmtree(imagenet / "train" / SYNSETS[4])
    (imagenet / "train" / SYNSETS[4]).mkdir()
    assert len(load("imagenet100(size=8)").train) == 12


def test_imagenet100_takes_test_for_val(imagenet):
    """Both names are in use."""
    (imagenet / "val").rename(imagenet / "test")
    assert len(load("imagenet100(size=8)").test) == 8


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda root: shutil.rmtree(root / "val"), r"no folder .*val, expected .*val/<synset>/\*"),
        (lambda root: shutil.rmtree(root / "train"), r"no folder .*train, expected"),
        (
            lambda root: [shutil.rmtree(root / "train" / n) for n in SYNSETS[3:]],
            "train holds 3 classes, expected at least 4",
        ),
        (
            lambda root: (root / "train" / SYNSETS[1]).rename(root / "train" / "goldfish"),
            "train holds a folder 'goldfish', expected ids of synsets such as n01440764",
        ),
        (
            lambda root: shutil.rmtree(root / "train" / SYNSETS[0]),
            "go from n01443537 to n01494475, expected n01440764 to n01491361; .*folder:PATH",
        ),
        (
            lambda root: (root / "val" / SYNSETS[1]).rename(root / "val" / "n01450000"),
            "the class n01443537 is not in both parts",
        ),
        (lambda root: next((root / "val" / SYNSETS[2]).iterdir()).unlink(), "val holds 7 images of the first 4 .*expected 8"),
        (lambda root: [p.unlink() for p in (root / "val" / SYNSETS[2]).iterdir()], "class folder .*n01484850 holds no image"),
        (
            lambda root: [shutil.rmtree(p) for p in (root / "val").iterdir()],
            r"val holds no class folders; expected .*val/<class>/\*",
        ),
        (
            lambda root: (root / "train" / SYNSETS[0] / f"{SYNSETS[0]}_1.png").write_bytes(b""),
            r"cannot read the image .*_1\.png",
        ),
    ],
    ids=["no val", "no train", "few", "no synset", "another choice", "unlike", "one less", "empty", "flat val", "damaged"],
)
def test_a_tree_that_is_not_imagenet_is_refused(imagenet, harm, told):
    """Numbers on other classes, or on part of them, must not enter a table of this dataset."""
    harm(imagenet)
    assert re.search(told, complaint("imagenet100(size=8)"))


# Large sets


def test_large_sets_are_decoded_into_a_file_that_leaves_nothing_behind(imagenet, home, monkeypatch):
    """ImageNet's hundred classes are 19.5 GB: decoding must not need them in memory, and not litter when it fails."""
    small = load("imagenet100(size=8)")
    data.forget_decoded(resolve("datasets", "imagenet100(size=8)")[0])
    made = []
    monkeypatch.setattr("unlearnable_bench.registry._paths.MAP_FROM", 8 * 3 * 8 * 8)  # bytes: both parts are large
    monkeypatch.setattr(_images, "empty_images", lambda shape, room=_images.empty_images: made.append(room(shape)) or made[-1])
    large = load("imagenet100(size=8)")
    assert [type(array) for array in made] == [np.memmap, np.memmap]
    assert large.fingerprint == small.fingerprint and torch.equal(large.train.images, small.train.images)
    assert [p.name for p in (home / "data" / ".decoded").iterdir()] == [
        data._key(resolve("datasets", "imagenet100(size=8)")[0])
    ]


def test_a_part_of_a_large_set_is_no_copy_in_memory(imagenet, home, monkeypatch):
    """Half of ImageNet's hundred classes is 10 GB in every worker."""
    item = "imagenet100(size=8,per_class=1)"
    small = load(item)
    made = []
    monkeypatch.setattr("unlearnable_bench.registry._paths.MAP_FROM", 1)
    monkeypatch.setattr(data, "COPIED_IMAGES", 3)
    monkeypatch.setattr(_images, "empty_images", lambda shape, room=_images.empty_images: made.append(room(shape)) or made[-1])
    large = load(item)
    assert type(made[0]) is np.memmap
    assert torch.equal(large.train.images, small.train.images) and large.fingerprint == small.fingerprint


def test_a_small_set_is_decoded_in_memory(tmp_path):
    """No file for a thousand small images."""
    assert type(_images.empty_images((2, 3, 8, 8))) is np.ndarray and MAP_FROM == 1 << 30


def test_a_disk_without_room_is_found_before_decoding(home, monkeypatch):
    """A file that cannot grow under a map ends the process without a word."""
    monkeypatch.setattr("unlearnable_bench.registry._paths.MAP_FROM", 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 10**9))
    with pytest.raises(EntryError, match=r"decoding needs 39.0 GB in .*\.decoded, where 1.0 GB are free.*BENCH_DATA"):
        _images.empty_images((129_395, 3, 224, 224))


def test_a_folder_that_cannot_be_written_is_named(home, monkeypatch):
    """Data folders are often read-only and shared."""
    monkeypatch.setattr("unlearnable_bench.registry._paths.MAP_FROM", 10)
    (home / "data").write_text("a file, not a folder")
    with pytest.raises(EntryError, match=r"cannot write decoded images to .*\.decoded: .*; set BENCH_DATA"):
        _images.empty_images((1, 3, 8, 8))


# svhn-small


@pytest.fixture
def svhn(home, monkeypatch) -> dict[str, np.ndarray]:
    """Twelve training images, of which class 0 (called 10 in the files) has six, class 1 four and class 2 two."""
    DATASETS["svhn"]  # an entry that is loaded has torchvision prepared
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    from unlearnable_bench.registry.datasets import svhn_small

    monkeypatch.setattr(svhn_small, "PER_CLASS", 3)
    labels = {"train": [10, 1, 2, 10, 10, 1, 1, 10, 2, 10, 1, 10], "test": [10] * 5 + [1, 2]}
    pixels, table = {}, {}
    root = root_of("svhn-small")
    root.mkdir(parents=True)
    for i, split in enumerate(("train", "test")):
        n = len(labels[split])
        pixels[split] = np.random.default_rng(i).integers(0, 256, (32, 32, 3, n), np.uint8)
        path = root / f"{split}_32x32.mat"
        savemat(path, {"X": pixels[split], "y": np.array(labels[split], np.uint8)[:, None]})
        table[split] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]  # noqa: S324  (torchvision's choice)
    monkeypatch.setattr(SVHN, "split_list", table)
    return pixels


def test_svhn_small_keeps_at_most_so_many_of_a_class_in_the_order_of_the_set(svhn):
    """Classes that have fewer keep all; the test set stays whole."""
    found = load("svhn-small")
    assert found.train.labels.bincount().tolist() == [3, 3, 2] and len(found.test) == 7
    whole = svhn["train"].transpose(3, 2, 0, 1)
    rows = [int(np.flatnonzero((whole == image.numpy()).all((1, 2, 3)))[0]) for image in found.train.images]
    assert rows == sorted(rows) and len(set(rows)) == 8
    assert found.train.num_classes == 10 and found.train.classes == tuple("0123456789")


def test_svhn_small_is_the_same_choice_every_time(svhn):
    """Poisons refer to images by their place in the set."""
    first = load("svhn-small").fingerprint
    data.forget_decoded(resolve("datasets", "svhn-small")[0])
    assert load("svhn-small").fingerprint == first


def test_svhn_small_keeps_what_the_paper_keeps():
    """No more than 5,000 images of a class (section 5.1 of the paper on transferable poisons)."""
    from unlearnable_bench.registry.datasets import svhn_small

    assert svhn_small.PER_CLASS == 5000
    assert DATASETS.entry("svhn-small").facts["folder"] == "svhn"


def test_svhn_small_says_when_the_files_of_svhn_are_not_whole(svhn):
    """They are SVHN's, and `bench data get` gets them."""
    (root_of("svhn-small") / "test_32x32.mat").unlink()
    assert re.search(r"svhn is not whole at .*; run `bench data get svhn`", complaint("svhn-small"))


# tiny-imagenet: two classes, three training images and two of validation each


@pytest.fixture
def tiny_imagenet(home, monkeypatch) -> Path:
    from unlearnable_bench.registry.datasets import tiny_imagenet

    monkeypatch.setattr(tiny_imagenet, "CLASSES", 2)
    monkeypatch.setattr(tiny_imagenet, "PER_CLASS", {"train": 3, "test": 2})
    root = root_of("tiny-imagenet")
    lines = []
    for k, name in enumerate(SYNSETS[:2]):
        for i in range(3):
            picture(root / "train" / name / "images" / f"{name}_{i}.JPEG", 40 * k + i, (64, 64))
        for i in range(2):
            picture(root / "val" / "images" / f"val_{2 * i + k}.JPEG", 100 + 40 * k + i, (64, 64))
            lines.append(f"val_{2 * i + k}.JPEG\t{name}\t0\t0\t62\t62\n")
        (root / "train" / name / f"{name}_boxes.txt").write_text("not an image")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


def test_tiny_imagenet_is_read_as_it_is_unpacked(tiny_imagenet):
    """Labels of the validation images stand in a file; the test images of the archive have none."""
    found = load("tiny-imagenet")
    assert found.train.images.shape == (6, 3, 64, 64) and found.train.classes == tuple(SYNSETS[:2])
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and found.test.labels.tolist() == [0, 0, 1, 1]
    assert found.test.images[:, 0, 5, 5].tolist() == pytest.approx([100, 101, 140, 141], abs=1)  # JPEG


def test_a_part_of_tiny_imagenet_is_drawn_from_a_whole_one(tiny_imagenet):
    """Counts are those of the archive, whatever part of it is asked for."""
    part = load("tiny-imagenet(per_class=2,test_per_class=1)")
    assert part.train.labels.tolist() == [0, 0, 1, 1] and part.test.labels.tolist() == [0, 1]


def say_twice(root: Path) -> None:
    """An image that counts twice would hide that another is not named."""
    path = root / "val" / "val_annotations.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-2]]))


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (say_twice, "line 4 names 'val_1.JPEG' again"),
        (lambda root: shutil.rmtree(root / "train"), "no folder .*/train, expected .*/train/<synset>/images"),
        (lambda root: shutil.rmtree(root / "train" / SYNSETS[0]), f"line 1 names 'val_0.JPEG' of '{SYNSETS[0]}'"),
        (lambda root: shutil.rmtree(root / "train" / SYNSETS[0] / "images"), "expected 3 images in it"),
        (lambda root: (root / "val" / "val_annotations.txt").unlink(), "no file .*val_annotations.txt"),
        (lambda root: next((root / "train" / SYNSETS[1] / "images").iterdir()).unlink(), "has 2 train images, expected 3"),
        (lambda root: (root / "val" / "images" / "val_0.JPEG").unlink(), "line 1 names 'val_0.JPEG'"),
        (lambda root: (root / "val" / "val_annotations.txt").write_bytes(b"\xff\n"), "line 1 names"),
    ],
)
def test_a_tiny_imagenet_that_is_not_whole_is_named(tiny_imagenet, break_it, told):
    """Half an archive would give another dataset under its name."""
    break_it(tiny_imagenet)
    sentence = complaint("tiny-imagenet")
    assert re.search(told, sentence) and "`bench data get tiny-imagenet` says how" in sentence


# facescrub: three people of ten images, two of them for testing

PEOPLE = ["Ada", "Bo", "Cy"]


@pytest.fixture
def faces(home, monkeypatch) -> Path:
    from unlearnable_bench.registry.datasets import facescrub

    monkeypatch.setattr(facescrub, "IDENTITIES", 3)
    monkeypatch.setattr(facescrub, "PER_IDENTITY", {"train": 8, "test": 2})
    root = root_of("facescrub")
    for k, name in enumerate(PEOPLE):
        for i in range(10):
            picture(root / name / f"{i}.png", 50 * k + i)
    return root


def test_facescrub_sets_aside_the_same_part_of_each_identity(faces):
    """15 % of each, drawn by a fixed seed, no image in both parts, none lost."""
    found = load("facescrub(size=8)")
    assert found.train.labels.tolist() == [k for k in range(3) for _ in range(8)]
    assert found.test.labels.tolist() == [k for k in range(3) for _ in range(2)]
    assert found.train.classes == tuple(PEOPLE)
    values = [part.images[:, 0, 0, 0].tolist() for part in (found.train, found.test)]
    assert sorted(values[0] + values[1]) == [50 * k + i for k in range(3) for i in range(10)]
    assert values[0] == sorted(values[0]) and values[1] == sorted(values[1])
    assert [v - 50 * (i // 2) for i, v in enumerate(values[1])] != [8, 9] * 3  # drawn, not the last ones
    data.forget_decoded(resolve("datasets", "facescrub(size=8)")[0])
    assert load("facescrub(size=8)").fingerprint == found.fingerprint


def test_facescrub_takes_a_split_that_the_user_made(faces):
    """Then nothing is drawn."""
    for name in PEOPLE:
        for i in range(10):
            target = faces / ("test" if i < 2 else "train") / name
            target.mkdir(parents=True, exist_ok=True)
            (faces / name / f"{i}.png").rename(target / f"{i}.png")
        (faces / name).rmdir()
    assert load("facescrub(size=8)").test.images[:, 0, 0, 0].tolist() == [0, 1, 50, 51, 100, 101]
    (faces / "test" / "Bo" / "0.png").unlink()
    data.forget_decoded(resolve("datasets", "facescrub(size=8)")[0])
    assert "test/Bo holds 1 images, expected 2 of each identity" in complaint("facescrub(size=8)")
    shutil.rmtree(faces / "test")
    assert re.search("no folder .*test", complaint("facescrub(size=8)"))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda root: shutil.rmtree(root / "Cy"), "facescrub holds 2 identities, expected 3"),
        (lambda root: shutil.copytree(root / "Cy", root / "Di"), "facescrub holds 4 identities, expected 3"),
        (lambda root: (root / "Bo" / "3.png").unlink(), "facescrub/Bo holds 9 images, expected 10 of each identity"),
        (lambda root: picture(root / "Bo" / "x.png", 1), "facescrub/Bo holds 11 images, expected 10 of each identity"),
        (lambda root: [p.unlink() for p in (root / "Bo").iterdir()], "class folder .*Bo holds no image"),
        (lambda root: [shutil.rmtree(p) for p in root.iterdir()], "facescrub holds no class folders"),
    ],
    ids=["one less", "one more", "an image less", "an image more", "empty", "nobody"],
)
def test_other_faces_than_expected_are_refused(faces, harm, told):
    """Ten identities of 120 images are what its table has; a set of another size is another dataset."""
    harm(faces)
    assert re.search(told, complaint("facescrub(size=8)"))


def test_facescrub_expects_the_sizes_of_the_paper():
    """1,200 images of ten people, 15 % for testing: 1,020 and 180."""
    from unlearnable_bench.registry.datasets import facescrub

    sizes = [facescrub.IDENTITIES * facescrub.PER_IDENTITY[part] for part in ("train", "test")]
    assert sizes == [1020, 180] and sizes[1] / sum(sizes) == 0.15


# Getting them


@pytest.mark.parametrize("name", ["imagenet100", "svhn-small", "facescrub"])
def test_a_data_set_that_is_not_there_says_how_to_get_it(name):
    """Found while planning, without torch."""
    (part,) = resolve("datasets", name)
    assert f"`bench data get {name}`" in data.missing(part)
    with pytest.raises(MissingDataError, match=f"`bench data get {name}`"):
        data.load(part)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("imagenet100", r"image-net\.org.*/there/train/<synset>/\*.*/there/val/<synset>/\*"),
        ("facescrub", r"10 identities and 120 images of each.*/there/<identity>/\*"),
    ],
)
def test_getting_what_cannot_be_downloaded_says_where_to_put_it(name, told):
    """Licences and dead links are in the way of a download."""
    with pytest.raises(EntryError, match=told):
        DATASETS[name].download(Path("/there"))


def test_svhn_small_reads_the_files_of_svhn():
    """One download serves both."""
    from unlearnable_bench.registry import data, resolve

    assert data.root_of(resolve("datasets", "svhn-small")[0]) == data.root_of(resolve("datasets", "svhn")[0])
