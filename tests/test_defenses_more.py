"""Defenses before training: filters and codecs against slow and obvious versions."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import tiny
from PIL import Image, ImageFilter
from scipy import ndimage

from unlearnable_bench.registry import DEFENSES, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry.defenses import jpeg


def purified(name: str, train: ImageSet, **fields) -> torch.Tensor:
    return DEFENSES[name](**fields).purify(train, Job()).images


# JPEG, card D05


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 17, 31)], ids=str)
def test_both_jpeg_decoders_give_the_same_bytes(shape, monkeypatch):
    """The fast one is optional; an installation without it must not make another poison's purified set."""
    pytest.importorskip("simplejpeg")
    train = tiny(12, shape=shape)
    monkeypatch.setattr(jpeg, "_decoded", jpeg._decoded_by_simplejpeg)
    fast = purified("jpeg", train)
    monkeypatch.setattr(jpeg, "_decoded", jpeg._decoded_by_pillow)
    assert torch.equal(purified("jpeg", train), fast)


# 3x3 filters, card D06

SHAPES = [(3, 32, 32), (1, 28, 28), (3, 17, 31), (3, 2, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_mean_filter_is_scipys_box_with_a_mirrored_border(shape):
    """Card D06: the border is mirrored without repeating the edge; the mean is rounded."""
    train = tiny(6, shape=shape)
    slow = ndimage.uniform_filter(train.images.double().numpy(), size=(1, 1, 3, 3), mode="mirror")
    assert np.array_equal(purified("mean-filter", train).numpy(), np.rint(slow))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gaussian_filter_has_a_quarter_a_half_and_a_quarter(shape):
    """Card D06: rounded half up, as integers of the authors' library are."""
    train = tiny(6, shape=shape)
    kernel = np.outer([1, 2, 1], [1, 2, 1])[None, None] / 16
    slow = ndimage.convolve(train.images.double().numpy(), kernel, mode="mirror")
    assert np.array_equal(purified("gaussian-filter", train).numpy(), np.floor(slow + 0.5))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_median_filter_is_scipys_with_a_repeated_edge(shape):
    """Card D06: channel by channel."""
    train = tiny(6, shape=shape)
    slow = ndimage.median_filter(train.images.numpy(), size=(1, 1, 3, 3), mode="nearest")
    assert np.array_equal(purified("median-filter", train).numpy(), slow)


def test_the_median_filter_has_the_bytes_of_pillow():
    """A second witness, of other authors."""
    train = tiny(6)
    for image, found in zip(train.images, purified("median-filter", train), strict=True):
        pillow = Image.fromarray(image.permute(1, 2, 0).numpy()).filter(ImageFilter.MedianFilter(3))
        assert np.array_equal(np.asarray(pillow), found.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("name", ["mean-filter", "median-filter", "gaussian-filter"])
def test_filters_leave_a_constant_image_and_shrink_noise(name):
    """Card D06: low-pass, with a gain of one."""
    flat = dataclasses.replace(tiny(4), images=torch.full((4, 3, 32, 32), 137, dtype=torch.uint8))
    assert torch.equal(purified(name, flat), flat.images)
    noisy = dataclasses.replace(flat, images=flat.images + torch.randint(0, 16, flat.images.shape, dtype=torch.uint8))
    assert purified(name, noisy).float().std() < 0.65 * noisy.images.float().std()


def test_the_gaussian_filter_of_other_benchmarks_changes_nothing():
    """Card D06: size 3 with deviation 0.1 is the identity in 8 bits, here as there; a wide one is scipy's."""
    train = tiny(6)
    assert torch.equal(purified("gaussian-filter", train, sigma=0.1), train.images)
    slow = ndimage.gaussian_filter(train.images.double().numpy(), 0.8, axes=(2, 3), radius=1, mode="mirror")
    found = purified("gaussian-filter", train, sigma=0.8).numpy()
    assert np.abs(found - slow).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("name", ["mean-filter", "gaussian-filter"])
def test_an_image_of_one_row_cannot_be_mirrored(name):
    """Said while planning instead of an error of a tensor library in the middle of a grid."""
    with pytest.raises(NotApplicable, match="2x2 or larger"):
        DEFENSES[name]().applies(tiny(shape=(3, 1, 9)).info)


# Wrong fields


@pytest.mark.parametrize(("name", "fields"), [("gaussian-filter", {"sigma": -1.0})], ids=str)
def test_a_value_out_of_range_is_refused_by_name(name, fields):
    """Before any work, with the value that was found."""
    with pytest.raises(EntryError, match=f"defense {name}"):
        DEFENSES[name](**fields)
