"""The auto-encoder without a rate, beside which D-VAE puts its own."""

import math

import pytest
import torch
from conftest import small, tiny

from unlearnable_bench.benchmark.conformance import tiny as smooth
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import DEFENSES, EntryError, Job, NotApplicable, _vae


def purified(train, job=None, **fields):
    with seeded(0, Numerics()):
        return small(DEFENSES["auto-encoder"], **fields).purify(train, job or Job(seed=0))


def test_a_narrower_code_gives_a_worse_image():
    """What the figure's axis is made by; and the manifest's PSNR is that of the images, but for rounding."""
    train, found = smooth(48, side=16), []
    for latents in (1, 32):
        job = Job(seed=0)
        after = purified(train, job, latents=latents, epochs=24)
        error = (after.pixels(slice(None)) - train.pixels(slice(None))).square().mean()
        assert job.notes["psnr1"] == pytest.approx(-10 * math.log10(float(error)), abs=0.05)
        assert (after.labels == train.labels).all() and after.images.dtype == torch.uint8
        found.append(job.notes["psnr1"])
    assert found[1] > found[0] + 0.3


def test_an_image_passes_through_the_code_and_through_nothing_else():
    """A code of one channel at half the side: its values alone decide the image, and nothing is drawn."""
    torch.manual_seed(0)
    model, x = _vae.AutoEncoder(3, 8, 1).eval(), torch.rand(2, 3, 8, 8)
    codes = []
    model.narrow.register_forward_hook(lambda module, inputs, code: codes.append(code) or torch.zeros_like(code))
    image, perturbation, rate = model(x, torch.zeros(2, dtype=torch.int64))
    assert codes[0].shape == (2, 1, 4, 4) and torch.equal(image[0], image[1]) and image.shape == x.shape
    assert not perturbation.any() and float(rate) == 0


def test_encoder_and_decoder_are_those_of_d_vae():
    """Otherwise the figure would compare two networks, not a rate with a bottleneck."""
    ours, theirs = _vae.AutoEncoder(3, 64, 256), _vae.DVae((3, 32, 32), 10, 64)
    for part in ("encoder", "image", "code"):
        shapes = [[tuple(p.shape) for p in getattr(model, part).parameters()] for model in (ours, theirs)]
        assert shapes[0] == shapes[1]
    assert ours.narrow.weight.shape == theirs.mean.weight.shape


def test_what_cannot_be_is_told_in_a_sentence():
    """Sides that halve, and fields within their bounds."""
    with pytest.raises(NotApplicable, match="needs even sides, the images are 17x32"):
        DEFENSES["auto-encoder"]().applies(tiny(shape=(3, 17, 32)).info)
    for wrong in ({"width": 1}, {"latents": -1}, {"epochs": 0}, {"lr": 0.0}):
        with pytest.raises(EntryError, match="defense auto-encoder: expected width and batch of 2 or more"):
            DEFENSES["auto-encoder"](**wrong)
