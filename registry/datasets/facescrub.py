"""Ten identities of FaceScrub, from images that the user has prepared."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from unlearnable_bench.registry import DATASETS, EntryError, ImageSet, MissingDataError, _images

IDENTITIES = 10
PER_IDENTITY = {"train": 102, "test": 18}  # 120 images, 15 % of them for testing
SEED = 0
T = TypeVar("T")


def _download(root: Path) -> None:
    raise EntryError(
        "facescrub cannot be downloaded, its authors publish addresses and boxes of faces: get the images, choose "
        f"{IDENTITIES} identities and {sum(PER_IDENTITY.values())} images of each, cut out the faces, and put them into "
        f"{root}/<identity>/*"
    )


@DATASETS.register("facescrub", display_name="FaceScrub, ten people", label="FaceScrub", folder="facescrub", download=_download)
def facescrub(
    root: Path,
    size: int = 112,  # side of the square images, pixels
) -> tuple[ImageSet, ImageSet]:
    """Faces of ten people from FaceScrub (Ng and Winkler 2014), 120 images each, as the SEM paper has it (table 8).

    1,020 training and 180 test images of 3 x size x size, 10 classes of equal size, in alphabetical order of the names. To
    prepare: choose ten identities at random, 120 images of each, cut them to the boxes that the list of addresses has, and
    put them into <identity>/*; we set aside 18 of each for testing with a fixed seed. Or split them yourself, 102 into
    train/<identity>/* and 18 into test/<identity>/*. The short side is resized to `size`, centre cropped.
    Neither the identities nor size and cut are known of the paper; 112 is ours. One test image is 0.56 points: use many seeds.
    """
    if any((root / part).is_dir() for part in _images.PARTS):
        parts = _listed(_images.folder_tree, root)
        for part, people in parts.items():
            _check(root / part, people, PER_IDENTITY[part])
        return _images.decode_images(parts, size)
    people = _listed(_people, root)
    _check(root, people, sum(PER_IDENTITY.values()))
    return _images.decode_images(_split(people), size)


def _listed(files: Callable[[Path], T], root: Path) -> T:
    """Return the files below a folder. MissingDataError says how to get them."""
    try:
        return files(root)
    except MissingDataError as error:
        raise _wrong(str(error)) from None


def _people(root: Path) -> dict[str, list[Path]]:
    """Return identity -> images of a folder that is not split."""
    return {folder.name: _images.files(folder) for folder in _images.classes(root)}


def _check(folder: Path, people: dict[str, list[Path]], expected: int) -> None:
    if len(people) != IDENTITIES:
        raise _wrong(f"{folder} holds {len(people)} identities, expected {IDENTITIES}")
    for name, paths in people.items():
        if len(paths) != expected:
            raise _wrong(f"{folder / name} holds {len(paths)} images, expected {expected} of each identity")


def _split(people: dict[str, list[Path]]) -> dict[str, dict[str, list[Path]]]:
    """Draw the test images of each identity; both parts stay in the order of the names."""
    import numpy as np

    draw = np.random.default_rng(SEED)
    train, test = {}, {}
    for name, paths in people.items():
        tested = set(draw.permutation(len(paths))[: PER_IDENTITY["test"]].tolist())
        train[name] = [path for row, path in enumerate(paths) if row not in tested]
        test[name] = [path for row, path in enumerate(paths) if row in tested]
    return {"train": train, "test": test}


def _wrong(text: str) -> MissingDataError:
    return MissingDataError(f"dataset facescrub: {text}; `bench data get facescrub` says how")
