"""Tiny-ImageNet, from the user's own copy of it."""

from collections import defaultdict
from pathlib import Path
from typing import NoReturn

from unlearnable_bench.registry import DATASETS, EntryError, ImageSet, MissingDataError, _images

CLASSES = 200
PER_CLASS = {"train": 500, "test": 50}
SIDE = 64  # pixels
ANNOTATIONS = "val_annotations.txt"  # a line per image: its file, its synset, a box


def _download(root: Path) -> NoReturn:
    raise EntryError(
        "tiny-imagenet is not downloaded by this program: get tiny-imagenet-200.zip from http://cs231n.stanford.edu and unpack "
        f"it, so that {root}/train/<synset>/images/* and {root}/val/{ANNOTATIONS} are there"
    )


@DATASETS.register("tiny-imagenet", display_name="Tiny-ImageNet", folder="tiny-imagenet", download=_download)
def tiny_imagenet(root: Path) -> tuple[ImageSet, ImageSet]:
    """200 classes of ImageNet at 64x64 (Le and Yang 2015), as the course CS231n hands them out.

    100,000 training images, 500 of each class, and the 10,000 validation images as the test set, since those of the test set
    have no labels; colour (grey images have three equal channels). Read from the published archive as it is unpacked:
    train/<synset>/images/* and val/images/* with val/val_annotations.txt. Decoding takes minutes and 1.4 GB of disk.
    Non-commercial research only, as ImageNet.
    """
    train = _train(root / "train")
    test = _validation(root / "val", set(train))
    for part, found in (("train", train), ("test", test)):
        _check(part, found)
    return _images.decode_images({"train": train, "test": test}, SIDE)


def _train(folder: Path) -> dict[str, list[Path]]:
    """Return synset -> images."""
    if not folder.is_dir():
        raise _wrong(f"no folder {folder}, expected {folder}/<synset>/images/*")
    return {one.name: _listed(one / "images") for one in _images.classes(folder)}


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise _wrong(f"no folder {folder}, expected {PER_CLASS['train']} images in it")
    return _images.files(folder)


def _validation(folder: Path, synsets: set[str]) -> dict[str, list[Path]]:
    """Return synset -> images, in the order of the synsets."""
    path = folder / ANNOTATIONS
    if not path.is_file():
        raise _wrong(f"no file {path}, expected a line of it for every image of {folder / 'images'}")
    found: dict[str, list[Path]] = defaultdict(list)
    seen: set[Path] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        name, _, rest = line.partition("\t")
        synset = rest.partition("\t")[0]
        image = folder / "images" / Path(name).name
        if synset not in synsets or not image.is_file():
            raise _wrong(f"{path}, line {number} names {name!r} of {synset!r}, expected an image and a synset that are there")
        if image in seen:
            raise _wrong(f"{path}, line {number} names {name!r} again, expected every image once")
        seen.add(image)
        found[synset].append(image)
    return {synset: sorted(found[synset]) for synset in sorted(found)}


def _check(part: str, found: dict[str, list[Path]]) -> None:
    if len(found) != CLASSES:
        raise _wrong(f"the {part} images have {len(found)} classes, expected {CLASSES}")
    for name, paths in found.items():
        if len(paths) != PER_CLASS[part]:
            raise _wrong(f"class {name} has {len(paths)} {part} images, expected {PER_CLASS[part]}")


def _wrong(text: str) -> MissingDataError:
    return MissingDataError(f"dataset tiny-imagenet: {text}; `bench data get tiny-imagenet` says how")
