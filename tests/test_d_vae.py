"""D-VAE, card D13, with a narrow network on small images."""

import dataclasses
import math

import pytest
import torch
from conftest import small, tiny
from torch.nn import functional as F

from benchmark.conformance import tiny as smooth
from poisons.numerics import Numerics, seeded
from registry import DEFENSES, EntryError, Job, NotApplicable, _vae

RECIPE = _vae.Recipe(epochs=30, batch=16, lr=0.005, width=8, disentangle=True)


def fitted(train, kld, **changes):
    with seeded(0, Numerics()):
        return _vae.trained(train, kld, dataclasses.replace(RECIPE, **changes), Job(seed=0), (0, 1))


def purified(train, **fields):
    with seeded(0, Numerics()):
        return small(DEFENSES["d-vae"], **fields).purify(train, Job(seed=0))


def tiled(train, levels):
    """Each class has a pattern of coarse tiles, plus or minus so many levels: a class-wise shortcut."""
    signs = torch.randint(0, 2, (train.num_classes, 3, 4, 4), generator=torch.Generator().manual_seed(1)) * 2 - 1
    pattern = signs.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return dataclasses.replace(train, images=(train.images.int() + levels * pattern[train.labels]).clamp(0, 255).byte())


def test_the_network_has_the_published_number_of_parameters():
    """Card D13: 1,181,382 with ten classes at 32x32, a spatial embedding per class among them."""
    model = _vae.DVae((3, 32, 32), 10, 64)
    assert sum(p.numel() for p in model.parameters()) == 1_181_382
    assert model.class_code.shape == (10, 128, 16, 16)
    image, perturbation, rate = model(torch.rand(2, 3, 32, 32), torch.tensor([0, 9]))
    assert image.shape == perturbation.shape == (2, 3, 32, 32) and rate.ndim == 0
    assert image.min() > 0 and image.max() < 1


def test_the_rate_is_the_divergence_from_a_standard_normal():
    """Summed over channels, averaged over images and positions, against torch's own."""
    torch.manual_seed(0)
    model = _vae.DVae((3, 8, 8), 4, 8)
    x, y = torch.rand(5, 3, 8, 8), torch.arange(5) % 4
    _, _, rate = model.eval()(x, y)
    hidden = model.encoder(x)
    own = torch.distributions.Normal(model.mean(hidden), (0.5 * model.log_variance(hidden)).exp())
    slow = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    assert float(rate.detach()) == pytest.approx(float(slow.detach()), rel=1e-4)


def test_more_rate_gives_a_better_image_and_the_rate_settles_at_its_target():
    """Card D13: the target is a floor, and PSNR increases with it; the perturbation is an offer that the class makes."""
    train = smooth(64, side=16)
    found = []
    for kld in (1.0, 3.0):
        model = fitted(train, kld)
        x, y = train.pixels(slice(None)), train.labels
        with torch.no_grad(), seeded(0, Numerics()):
            image, perturbation, rate = model(x, y)
            other = model(x, (y + 1) % 4)[1]
        found.append(-10 * math.log10(float(F.mse_loss(image, x))))
        assert float(rate) == pytest.approx(kld, rel=0.15)
        assert (perturbation - other).abs().max() > 1e-4
    assert found[1] > found[0] + 0.3


def test_what_is_subtracted_resembles_the_perturbation():
    """Card D13, amended: the error of what was found is below the mean square of the perturbation itself."""
    clean = smooth(64, side=16)
    poisoned = tiled(clean, 40)
    true = (poisoned.images.float() - clean.images.float()) / 255
    model = fitted(poisoned, 0.5)
    with seeded(0, Numerics()):
        found = torch.cat([perturbation for *_, perturbation in _vae.passed(model, poisoned, Job())])
    assert F.mse_loss(found, true) < 0.95 * true.square().mean()
    assert torch.corrcoef(torch.stack([found.flatten(), true.flatten()]))[0, 1] > 0.3


def test_both_rounds_are_algorithm_1(monkeypatch):
    """Subtract by round one; subtract and reconstruct by round two, trained on what round one left, from scratch."""
    calls = []

    class Fake:
        def __init__(self, number):
            self.number = number

        def __call__(self, x, y):
            step = 0.1 if self.number == 1 else 0.2
            return x * 0.5, torch.full_like(x, step), torch.tensor(0.0)

    def trained(train, target, recipe, job, done):
        calls.append((target, train.images.clone()))
        return Fake(len(calls))

    monkeypatch.setattr(_vae, "trained", trained)
    train = tiny(12)

    def level(values):
        return (values.clamp(0, 1) * 255).round() / 255

    x = train.images.float() / 255
    found = purified(train, kld=1.5, kld2=2.5).images
    first = level(x - 0.1)
    assert [target for target, _ in calls] == [1.5, 2.5]
    assert torch.equal(calls[0][1], train.images) and torch.allclose(calls[1][1].float() / 255, first, atol=1e-6)
    assert torch.allclose(found.float() / 255, level(level(first - 0.2) * 0.5), atol=1.1 / 255)
    calls.clear()
    assert torch.allclose(purified(train, stages=1).images.float() / 255, first, atol=1e-6) and len(calls) == 1
    calls.clear()
    plain = purified(train, stages=1, disentangle=False).images
    assert torch.allclose(plain.float() / 255, level(x * 0.5), atol=1.1 / 255), "a plain autoencoder keeps its images"


def test_detection_flags_what_the_poisoned_half_has_in_common():
    """Card D13: recall near 1, precision well above the base rate. Labels are unrelated to these images, so clean ones
    cannot be learnt but by heart."""
    clean, half = smooth(384, side=16), torch.arange(384) < 192
    images = torch.where(half.view(-1, 1, 1, 1), tiled(clean, 40).images, clean.images)
    fields = {"detect": True, "epochs": 10, "kld": 0.5, "detector_epochs": 3}
    with seeded(0, Numerics()):
        flagged = small(DEFENSES["d-vae"], **fields).flagged(dataclasses.replace(clean, images=images), Job(seed=0))
    assert flagged[half].float().mean() > 0.98
    assert half[flagged].float().mean() > 0.6


def test_only_flagged_images_are_purified(monkeypatch):
    """What looks clean stays as it is, to the byte, and the manifest says how many were flagged."""
    mask = torch.arange(24) % 3 == 0
    monkeypatch.setattr(type(small(DEFENSES["d-vae"])), "flagged", lambda self, train, job: mask)
    train, job = tiny(24), Job(seed=0)
    with seeded(0, Numerics()):
        found = small(DEFENSES["d-vae"], detect=True).purify(train, job).images
    same = (found == train.images).flatten(1).all(1)
    assert torch.equal(same, ~mask) and job.notes["flagged"] == pytest.approx(8 / 24)
    with seeded(0, Numerics()):
        part = dataclasses.replace(train, images=train.images[mask], labels=train.labels[mask])
        assert torch.equal(small(DEFENSES["d-vae"]).purify(part, Job(seed=0)).images, found[mask])


def test_odd_sides_and_wrong_fields_are_refused():
    """Said while planning."""
    with pytest.raises(NotApplicable, match="even sides"):
        DEFENSES["d-vae"]().applies(tiny(shape=(3, 17, 32)).info)
    for fields in ({"stages": 3}, {"kld": -1.0}, {"detect": True, "disentangle": False}, {"width": 1}):
        with pytest.raises(EntryError, match="defense d-vae"):
            DEFENSES["d-vae"](**fields)
