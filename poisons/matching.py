"""Finds out which row of a published file belongs to which image of the dataset."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.poisons.arrays import Contents, Values
from unlearnable_bench.poisons.options import ImportOptions
from unlearnable_bench.registry import EntryError, ImageSet
from unlearnable_bench.registry.contract import blocks

ALIGNED = 0.9  # share of the images that must be most like the clean image of their own place
SAMPLE = 500  # images on which this is tried
LIKELY = 8  # clean images that an image of a file is compared with in full


def rows_of(contents: Contents, values: Values, clean: ImageSet, options: ImportOptions) -> np.ndarray:
    """Return which row of the file belongs to each image, -1 where none does. EntryError where that cannot be told."""
    count, size, own = len(values), len(clean), clean.labels.numpy()
    labels = None if contents.labels is None else _classes(contents.labels)
    if labels is not None and len(labels) != count:
        raise EntryError(f"the file holds {count} rows and {len(labels)} labels")
    if contents.ids is not None:
        return _by_number(contents.ids, count, size)
    if labels is None and values.units != "images" and count == clean.num_classes != size:
        return own  # one pattern per class
    rows = _ordered(labels, values, clean, options)
    if labels is not None:
        _check_labels(labels, rows, own)
    return rows


def _ordered(labels: np.ndarray | None, values: Values, clean: ImageSet, options: ImportOptions) -> np.ndarray:
    """Return the row of each image by `options.order`."""
    count, size = len(values), len(clean)
    if options.order == "match":
        if values.units != "images":
            raise EntryError("--order match compares images with images; this file holds noise")
        return _matched(values, clean)
    if count != size:
        text = f"the file holds {count} rows; the dataset has {size} images of {clean.num_classes} classes"
        raise EntryError(f"{text} (images of a part of them are found by --order match)")
    if options.order == "class":
        return _by_class(labels, clean.labels.numpy())
    if values.units == "images":
        _check_order(values, clean)
    return np.arange(count)


def _check_labels(labels: np.ndarray, rows: np.ndarray, own: np.ndarray) -> None:
    there = rows >= 0
    wrong = int((labels[rows[there]] != own[there]).sum())
    if wrong:
        raise EntryError(
            f"{wrong} of {len(labels)} labels of the file are not the dataset's; it is in another order or of another set"
        )


def _check_order(values: Values, clean: ImageSet) -> None:
    """EntryError where images of a file are not most like the clean images of their own places."""
    count = len(values)
    tried = np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).astype(np.int64))
    share = float((_nearest(values, clean, tried, 1)[:, 0] == tried).mean())
    if share < ALIGNED:
        text = f"only {share:.0%} of the images are most like the clean image of their own place"
        raise EntryError(f"{text}: the file is in another order (try --order match) or of another dataset")


def _classes(labels: np.ndarray) -> np.ndarray:
    """Return labels, numbers or rows with a one in the place of the class, as int64 (rows,)."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _from_one_hot(labels)
    flat = labels.reshape(-1)
    if labels.ndim > 2 or not _are_whole(flat):
        raise EntryError(f"the file's labels are {labels.dtype} {labels.shape}, expected one whole number for each row")
    return flat.astype(np.int64)


def _from_one_hot(labels: np.ndarray) -> np.ndarray:
    zeros_and_ones = ((labels == 0) | (labels == 1)).all()
    if not zeros_and_ones or (labels.sum(1) != 1).any():
        raise EntryError(f"the file's labels are rows of {labels.shape[1]} numbers, expected one 1 in each and 0 elsewhere")
    classes: np.ndarray = labels.argmax(1)
    return classes


def _are_whole(numbers: np.ndarray) -> bool:
    if numbers.dtype.kind not in "iuf":
        return False
    return bool((np.isfinite(numbers) & (numbers == np.floor(numbers))).all())


def _by_number(ids: np.ndarray, count: int, size: int) -> np.ndarray:
    """Return the row of each image where the file says the number of the image of each row."""
    different = len(ids) == len(np.unique(ids)) == count
    if not different or ids.min(initial=0) < 0 or ids.max(initial=0) >= size:
        raise EntryError(
            f"the file numbers its {count} rows by {len(ids)} values, expected different ones from 0 to {size - 1}"
        )
    rows = np.full(size, -1)
    rows[ids] = np.arange(count)
    return rows


def _by_class(labels: np.ndarray | None, own: np.ndarray) -> np.ndarray:
    """Return the row of each image where the t-th row of a class is for its t-th image."""
    if labels is None:
        raise EntryError("--order class needs the labels of the rows: --labels FILE.npy")
    if not np.array_equal(np.sort(labels), np.sort(own)):
        raise EntryError("the file's labels count other classes than the dataset's")
    rows = np.empty(len(labels), np.int64)
    rows[np.argsort(own, kind="stable")] = np.argsort(labels, kind="stable")
    return rows


def _matched(values: Values, clean: ImageSet) -> np.ndarray:
    """Return which row of a file shows each image, -1 for none: the likest first, of the few that are alike when small."""
    count, size = len(values), len(clean)
    if count > size:
        raise EntryError(f"the file holds {count} rows, more than the {size} images of the dataset")
    likely = _nearest(values, clean, np.arange(count), LIKELY)  # (rows, choices)
    apart = _apart(values, clean, likely)
    own = len(np.unique(np.take_along_axis(likely, apart.argmin(1, keepdims=True), 1)))
    rows, free = np.full(size, -1), np.ones(count, bool)
    for place in np.argsort(apart, axis=None, kind="stable").tolist():
        row, image = place // likely.shape[1], int(likely.flat[place])
        if free[row] and rows[image] < 0:
            rows[image], free[row] = row, False
    if own < ALIGNED * count or free.any():
        raise EntryError(f"only {min(own, count - int(free.sum()))} of {count} images are most like a clean image of their own")
    return rows


def _apart(values: Values, clean: ImageSet, likely: np.ndarray) -> np.ndarray:
    """Return the mean difference, in levels, of each row from its likely clean images: (rows, choices), float32."""
    apart = np.empty(likely.shape, np.float32)
    for where in blocks(len(values), likely.shape[1] * values.array[0].size):
        theirs = clean.images[torch.from_numpy(likely[where].reshape(-1))].float().view(*likely[where].shape, -1)
        mine = values.levels(np.arange(where.start, where.stop)).flatten(1)[:, None]
        apart[where] = (theirs - mine).abs().mean(2).numpy()
    return apart


def _nearest(values: Values, clean: ImageSet, rows: np.ndarray, choices: int) -> np.ndarray:
    """Return the clean images (n, choices) that rows of a file are most like at 4x4 pixels, the likest first."""
    theirs = torch.cat([_small(clean.images[where]) for where in clean.blocks()])
    nearest = []
    for part in np.array_split(rows, -(-len(rows) // 256)):
        distance = torch.cdist(_small(values.levels(part)), theirs)
        nearest.append(distance.topk(min(choices, len(clean)), 1, largest=False).indices.numpy())
    return np.concatenate(nearest)


def _small(images: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(images.float(), 4).flatten(1)
