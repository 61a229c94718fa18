"""The first hundred classes of ImageNet, from the user's own copy of it."""

import re
from pathlib import Path

from unlearnable_bench.registry import DATASETS, EntryError, ImageSet, MissingDataError, _images

CLASSES = 100
ENDS = ("n01440764", "n01855672")  # the first and the hundredth synset of ILSVRC 2012 in sorted order: tench and goose
IMAGES = {"train": 129_395, "test": 5_000}


def _download(root: Path) -> None:
    raise EntryError(
        "imagenet100 cannot be downloaded without an account: get ILSVRC 2012 from https://image-net.org, unpack it to "
        f"{root}/train/<synset>/* and {root}/val/<synset>/* (or link these two folders there); the first 100 synsets are enough"
    )


@DATASETS.register(
    "imagenet100", display_name="ImageNet, first 100 classes", label="ImageNet-100", folder="imagenet100", download=_download
)
def imagenet100(
    root: Path,
    size: int = 224,  # side of the square images, pixels
) -> tuple[ImageSet, ImageSet]:
    """The first 100 synsets of ImageNet (ILSVRC 2012) in sorted order, called ImageNet-mini or ImageNet subset in papers.

    129,395 training images of unequal classes and the 5,000 validation images of these classes as the test set, colour, the
    short side resized to `size`, bicubic, centre cropped. Read from a tree train/<synset>/* and val/<synset>/* (or test/)
    of all of ImageNet or of these classes, which `bench data get imagenet100` says how to get. Decoding takes a quarter of
    an hour and twice 19.5 GB of disk, half of which stays. Not the "ImageNet-100" of other classes that contrastive
    learning and APBench use: read that as folder:PATH(size=224). Non-commercial research only, say its authors.
    """
    found = {
        "train": _part(root / "train", "train"),
        "test": _part(root / ("test" if (root / "test").is_dir() and not (root / "val").is_dir() else "val"), "test"),
    }
    if odd := sorted(set(found["train"]) ^ set(found["test"])):
        raise _wrong(f"the class {odd[0]} is not in both parts of {root}, expected the same {CLASSES} classes in both")
    return _images.decode_images(found, size)


def _part(folder: Path, part: str) -> dict[str, list[Path]]:
    """Return the images of the first classes in `folder`. MissingDataError if these are not ImageNet's."""
    if not folder.is_dir():
        raise _wrong(f"no folder {folder}, expected {folder}/<synset>/*")
    folders = _images.classes(folder)
    if strange := next((p.name for p in folders if not re.fullmatch(r"n\d{8}", p.name)), None):
        raise _wrong(f"{folder} holds a folder {strange!r}, expected ids of synsets such as {ENDS[0]}")
    if len(folders) < CLASSES:
        raise _wrong(f"{folder} holds {len(folders)} classes, expected at least {CLASSES}")
    chosen = folders[:CLASSES]
    if (chosen[0].name, chosen[-1].name) != ENDS:
        raise _wrong(
            f"the first {CLASSES} classes in {folder} go from {chosen[0].name} to {chosen[-1].name}, expected {ENDS[0]} to "
            f"{ENDS[1]}; another choice of classes is another dataset, read it as folder:PATH"
        )
    found = {p.name: _images.files(p) for p in chosen}
    if (count := sum(map(len, found.values()))) != IMAGES[part]:
        raise _wrong(f"{folder} holds {count} images of the first {CLASSES} classes, expected {IMAGES[part]}")
    return found


def _wrong(text: str) -> MissingDataError:
    return MissingDataError(f"dataset imagenet100: {text}; `bench data get imagenet100` says how")
