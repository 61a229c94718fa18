"""BridgePure: pairs for a purifier, and a diffusion bridge that leads protected images back to clean ones."""

import dataclasses

import pytest
import torch
from conftest import small, tiny

from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import DEFENSES, EntryError, Job, NotApplicable, _bridge, resolve
from unlearnable_bench.registry._bridge import FIRST, LAST, Scales, on_the_way, way_back
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry.contract import DataInfo

MEAN, DEVIATION = 0.2, 0.1  # of a clean pixel whose protected image is known, in [-1, 1] units


def knowing(x, clock, protected):
    """The network that knows the distribution of clean pixels: its answer makes the guess their mean, x known."""
    time = (clock / 250).exp().view(-1, 1, 1, 1)
    scales, part = Scales.at(time), time.square() / LAST**2
    seen = x / scales.of_x
    spread = time.square() * (1 - part)
    gain = DEVIATION**2 * (1 - part) / (DEVIATION**2 * (1 - part) ** 2 + spread)
    guess = MEAN + gain * (seen - part * protected - (1 - part) * MEAN)
    return (guess - scales.kept * seen) / scales.of_answer


@pytest.fixture
def dice():
    generator = torch.Generator().manual_seed(0)
    return lambda x: torch.randn(x.shape, generator=generator)


# Pairs


def test_pairs_are_the_same_images_before_and_after(dice):
    """A bridge between two different images is no protection's; which ones are taken follows from the seed."""
    clean = tiny(32)
    poisoned = dataclasses.replace(clean, images=255 - clean.images)
    before, after = Job(seed=0, unpoisoned=clean).pairs(poisoned, 12)
    assert torch.equal(after.images, 255 - before.images) and torch.equal(after.labels, before.labels)
    assert torch.equal(before.images, Job(seed=0, unpoisoned=clean).clean(12).images)
    with pytest.raises(EntryError, match="declares needs"):
        Job().pairs(poisoned, 1)


def test_pages_and_lists_say_that_it_needs_pairs():
    assert resolve("defenses", "bridge-pure")[0].needs == ("clean-data", "pairs")


def test_both_images_of_a_pair_are_flipped_or_neither(monkeypatch):
    """Half of the batch is; pairs that come apart would teach the bridge to flip."""
    seen, clean = [], tiny(32)
    monkeypatch.setattr(_bridge, "bridge_loss", lambda net, *given: seen.append(given) or torch.zeros(()))
    defense = dataclasses.replace(DEFENSES["bridge-pure"](), pairs=32, batch=400)
    defense._loss(None, (clean, clean), Job(seed=0))()
    ((before, after, time, _),) = seen
    whole = clean.pixels(slice(None)) * 2 - 1
    flipped = [not (image == whole).flatten(1).all(1).any() for image in before]
    assert torch.equal(before, after) and 0.4 < sum(flipped) / 400 < 0.6
    assert float(time.mean()) == pytest.approx(LAST / 2, rel=0.1) and FIRST <= float(time.min()) < 2


# The bridge


@pytest.mark.parametrize("churn", [0.33, 0.8])
def test_the_way_back_ends_in_the_distribution_of_clean_images(churn, dice):
    """From one protected image, where the network is exact and the pull to the end has its full force."""
    protected = torch.full((16, 3, 32, 32), -0.4)
    after = DEFENSES["bridge-pure"](churn=churn, guidance=1.0).led_back(knowing, protected, dice)
    assert float(after.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(after.std()) == pytest.approx(DEVIATION, rel=0.1)


def test_the_ways_begin_at_the_clean_image_and_end_at_the_protected_one(dice):
    clean, protected = torch.full((1, 3, 8, 8), -0.5), torch.full((1, 3, 8, 8), 0.5)
    ends = [on_the_way(clean, protected, torch.full((1, 1, 1, 1), time), dice(clean)) for time in (0.0, LAST)]
    assert torch.equal(ends[0], clean) and torch.equal(ends[1], protected)
    times = way_back(40)
    assert times == sorted(times, reverse=True) and len(times) == 41 and times[-2] == pytest.approx(FIRST)


def test_noise_before_all_else_has_its_variance(dice):
    """None at 0: then nothing is drawn."""
    x = torch.zeros(16, 3, 32, 32)
    assert float(DEFENSES["bridge-pure"](beta=0.02).noisy(x, dice).var()) == pytest.approx(0.02, rel=0.03)
    assert DEFENSES["bridge-pure"]().noisy(x, None) is x


@pytest.mark.slow
def test_a_process_that_dies_goes_on_to_the_same_images(tmp_path, monkeypatch):
    """The bridge trains for days; what a killed process had done must not be lost, nor change the result."""
    train = tiny(130, shape=(3, 16, 16))
    defense = small(DEFENSES["bridge-pure"], steps=3)

    def purify(**job):
        with seeded(0, Numerics()):
            return defense.purify(train, Job(seed=0, unpoisoned=train, **job)).images

    whole = purify()
    monkeypatch.setattr(Crafting, "due", True)
    for stop in (2, 3):  # in training, between images

        def dies(done, total, stop=stop, calls=[]):  # noqa: B006  (counts its calls)
            calls.append(done)
            if len(calls) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            purify(folder=tmp_path, on_progress=dies)
    assert torch.equal(purify(folder=tmp_path), whole)


# Where it cannot run


@pytest.mark.parametrize(
    ("info", "why"), [(DataInfo((3, 28, 28), 10, 60000), "sides that 8 divides"), (DataInfo((3, 32, 32), 10, 499), "500 pairs")]
)
def test_where_it_cannot_run_a_table_says_why(info, why):
    """A reason in the table, not a crash in a job."""
    with pytest.raises(NotApplicable, match=why):
        DEFENSES["bridge-pure"]().applies(info)


@pytest.mark.parametrize("fields", [{"beta": 1.0}, {"churn": 1.0}, {"width": 6}, {"pairs": 0}, {"ema": 1.1}])
def test_fields_that_cannot_be_are_refused(fields):
    """While planning, in one sentence."""
    with pytest.raises(EntryError, match="defense bridge-pure: expected"):
        DEFENSES["bridge-pure"](**fields)
