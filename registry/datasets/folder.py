"""A folder of images: how users bring their own data."""

from pathlib import Path

from unlearnable_bench.registry import DATASETS, ImageSet, _images


@DATASETS.register("folder", display_name="Images of a folder", label="Folder", small={"size": 32})
def folder(
    root: Path,
    size: int = 32,  # side of the square images, pixels
) -> tuple[ImageSet, ImageSet]:
    """Your own images: `folder:PATH` reads PATH/train/<class>/* and PATH/test/<class>/*.

    Any common format, mode and size: RGB (alpha over black), short side resized to `size`, centre cropped. Hidden files and
    names without an image ending are skipped. In records and on pages it is folder-<base name>-<8 digits of the fingerprint
    of its files>; the path stays on this machine.
    """
    return _images.decode_images(_images.folder_tree(root), size)
