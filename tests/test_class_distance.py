"""Distance of classes over spread within, and the theorem of D-VAE that makes it matter."""

import dataclasses
import itertools
import math

import pytest
import torch
from conftest import tiny
from hypothesis import given
from hypothesis import strategies as st

from unlearnable_bench.registry import ANALYSES, Context, ImageSet, Job, NotApplicable
from unlearnable_bench.registry.analyses.class_distance import rate

SHAPE = (3, 4, 4)


def measured(noise: torch.Tensor, labels: torch.Tensor, **fields) -> dict[str, float]:
    """The figures of noise, in levels, on grey images."""
    images = torch.full((len(labels), *SHAPE), 128, dtype=torch.uint8)
    clean = ImageSet(images, labels, int(labels.max()) + 1)
    poison = dataclasses.replace(clean, images=(images.int() + noise).byte())
    chosen = noise.flatten(1).any(1)
    context = Context(job=Job(), clean=clean, test=clean, poison=poison, purified=poison, chosen=chosen)
    return ANALYSES["class-distance"](**fields).measure(context)


def noise(classes: int, each: int, amplitude: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of one deviation around a pattern per class, in levels."""
    dice = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(each)
    pattern = amplitude * torch.randn(classes, *SHAPE, generator=dice)
    return (pattern[labels] + 10 * torch.randn(len(labels), *SHAPE, generator=dice)).round().int(), labels


def normal(v: torch.Tensor, mean: float, deviation: float) -> torch.Tensor:
    """The density of a normal."""
    return torch.exp(-((v - mean) ** 2) / (2 * deviation**2)) / (math.sqrt(2 * math.pi) * deviation)


@given(st.floats(1e-3, 1e3), st.floats(1.0, 10.0))
def test_the_rate_lies_between_the_bounds_of_theorem_3_3_and_grows(r, factor):
    """0.5 ln(1 + r^2) - ln 2 <= S(r) <= 0.5 ln(1 + r^2), and more r, more rate: why strong perturbations go first."""
    value, above = rate(torch.tensor([r, r * factor], dtype=torch.float64)).tolist()
    bound = 0.5 * math.log1p(r * r)
    assert max(0, bound - math.log(2)) - 1e-9 <= value <= bound + 1e-9 and above >= value - 1e-9


@pytest.mark.parametrize("r", [0.1, 0.7, 1.0, 3.0, 20.0])
def test_the_rate_is_the_divergence_of_the_mixture_from_a_normal(r):
    """Equation 9 to 10 as they stand: the integral of p ln(p / q) over the mixture of two normals."""
    v = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    deviation = 1 / math.sqrt(1 + r * r)
    p = sum(normal(v, side * r * deviation, deviation) for side in (-1, 1)) / 2
    slow = torch.trapezoid(torch.where(p > 0, p * (p / normal(v, 0, 1)).log(), 0), v)
    assert float(rate(torch.tensor(r, dtype=torch.float64))) == pytest.approx(float(slow), abs=1e-9)


@given(st.integers(2, 4), st.integers(4, 9), st.floats(0, 30), st.integers(0, 2**12))
def test_distance_spread_and_r_are_those_of_loops_over_classes(classes, each, amplitude, seed):
    """From their definitions: lines through the centres of every other image, the rest projected on them."""
    delta, labels = noise(classes, each, amplitude, seed)
    x = delta.double().flatten(1) / 255
    halves = [(x[labels == k][0::2], x[labels == k][1::2]) for k in range(classes)]
    distances, r = [], []
    for a, b in itertools.combinations(range(classes), 2):
        line = halves[a][0].mean(0) - halves[b][0].mean(0)
        shadows = [halves[k][1] @ line for k in (a, b)]
        apart = max(0.0, float(shadows[0].mean() - shadows[1].mean()))
        distances.append(math.sqrt(apart))
        within = sum(float(shadow.var(correction=0)) for shadow in shadows) / 2
        r.append(apart / (2 * math.sqrt(within)))
    spread = sum(float((far - far.mean(0)).square().sum(1).mean().sqrt()) for _, far in halves) / classes
    expected = {"distance": sum(distances) / len(r), "spread": spread, "r": sum(r) / len(r)}
    expected |= {"ratio": expected["distance"] / spread, "rate": float(rate(torch.tensor(r, dtype=torch.float64)).mean())}
    assert measured(delta, labels) == pytest.approx(expected, rel=1e-4, abs=1e-5)  # images are float32


def test_noise_that_knows_no_class_has_no_distance_and_a_pattern_per_class_has_a_large_one():
    """The order that the theorem wants; without halves the first would have an r of a half by chance alone."""
    none, some, much = (measured(*noise(4, 200, amplitude, 0)) for amplitude in (0, 5, 40))
    assert none["r"] < 0.1 < 0.5 < some["r"] < much["r"] and none["rate"] < 0.01 < some["rate"] < much["rate"]
    assert none["ratio"] < some["ratio"] < much["ratio"]


def test_one_noise_per_class_has_a_distance_and_no_ratio():
    """Nothing varies within a class; a number without bound would be no figure."""
    labels = torch.arange(3).repeat(5)
    pattern = torch.randint(-30, 31, (3, *SHAPE), generator=torch.Generator().manual_seed(0))
    found = measured(pattern[labels].int(), labels)
    true = [float((pattern[a] - pattern[b]).double().norm()) / 255 for a, b in itertools.combinations(range(3), 2)]
    assert set(found) == {"distance", "spread"} and found["spread"] < 1e-6
    assert found["distance"] == pytest.approx(sum(true) / 3, rel=1e-5)


def test_it_says_why_there_is_nothing_to_measure():
    """A clean set, or classes of too few images, are no failure; images themselves can be measured all the same."""
    clean = tiny(16)
    context = Context(
        job=Job(), clean=clean, test=clean, poison=clean, purified=clean, chosen=torch.zeros(16, dtype=torch.bool)
    )
    with pytest.raises(NotApplicable, match="no image is poisoned"):
        ANALYSES["class-distance"]().measure(context)
    assert ANALYSES["class-distance"](of="image").measure(context)["spread"] > 0
    delta, labels = noise(2, 3, 5, 0)
    with pytest.raises(NotApplicable, match="class 0 has 3 images; expected 4 or more"):
        measured(delta, labels)
