"""ECLIPSE: clean images for a purifier that declares them, a diffusion with learned variances, gray and noise in training."""

import dataclasses

import pytest
import torch
from conftest import as_data, poison, recipe, small, tiny

from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.poisons.recipe import PurifiedRecipe
from unlearnable_bench.poisons.store import Store
from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Job, NotApplicable, resolve
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._improved_diffusion import CosineSchedule, hybrid_loss
from unlearnable_bench.registry.catalog import ConfiguredEntry
from unlearnable_bench.registry.contract import DataInfo

MEAN, DEVIATION = 0.2, 0.3  # of the pixels of `exact`, in [-1, 1] units


@dataclasses.dataclass(frozen=True)
class Asking(Defense):
    """Shows the clean images that it is given, over and over."""

    def purify(self, train, job):
        given = job.clean(4)
        return dataclasses.replace(train, images=given.images.repeat(len(train) // 4, 1, 1, 1))


@pytest.fixture
def schedule():
    return CosineSchedule.on(torch.device("cpu"))


@pytest.fixture
def exact(schedule):
    """The network that knows the distribution of the pixels: its noise, and the variance of the step before."""

    def found(x, step):
        at = int(step[0])
        signal, noise = float(schedule.signal[at]), float(schedule.noise[at])
        guess = noise * (x - signal * MEAN) / (signal**2 * DEVIATION**2 + noise**2)
        left = (DEVIATION * noise) ** 2 / (signal**2 * DEVIATION**2 + noise**2)  # variance of the image, x known
        variance = schedule.log_least[at].exp() + schedule.from_image[at] ** 2 * left
        place = (variance.log() - schedule.log_least[at]) / (schedule.log_most[at] - schedule.log_least[at]) * 2 - 1
        return torch.cat([guess, place.expand_as(x)], 1)

    return found


# Clean images


def test_a_purifier_is_given_the_same_clean_images_for_a_seed_each_once():
    """A choice that changes makes a purified set that nobody can repeat; an image twice is an image too few."""
    train = tiny(32)
    first, again, other = (Job(seed=seed, unpoisoned=train).clean(12) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    assert len(first.images.unique(dim=0)) == len(first) == 12
    with pytest.raises(EntryError, match="asks for 33 clean images, there are 32"):
        Job(unpoisoned=train).clean(33)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_the_store_gives_clean_images_to_purifiers_that_declare_them_and_to_no_other(ratio, tmp_path):
    """What a defense knows beside the poison stands on its page; one that does not say so must not get it."""
    clean = tiny(32)
    made = poison(tmp_path, "lsp", clean).images
    entry = dataclasses.replace(DEFENSES.entry("none"), name="asking", module="test_eclipse", attribute="Asking")
    declared = dataclasses.replace(entry, facts={"needs": ("clean-data",)})
    silent, asking = (
        PurifiedRecipe(recipe("lsp"), ratio, "all", (ConfiguredEntry(one, one.name, {}),), 0) for one in (entry, declared)
    )
    with pytest.raises(EntryError, match="declares needs"):
        Store(tmp_path).purified(silent, as_data(clean))
    shown = Store(tmp_path).purified(asking, as_data(clean)).images
    assert all((image == clean.images).flatten(1).all(1).any() for image in shown[:4])
    assert not any((image == made).flatten(1).all(1).any() for image in shown[:4])


def test_pages_and_lists_say_that_it_needs_clean_data():
    assert resolve("defenses", "eclipse")[0].needs == ("clean-data",)


# The diffusion


def test_the_way_back_keeps_the_distribution_where_the_network_is_exact(schedule, exact):
    """From any level: the sampler must neither smooth images nor leave noise in them, nor draw at the last step."""
    generator = torch.Generator().manual_seed(0)
    draws = []

    def noise(x):
        draws.append(x)
        return torch.randn(x.shape, generator=generator)

    x = MEAN + DEVIATION * torch.randn(16, 3, 32, 32, generator=generator)
    for level in (1, 100, 400):
        draws.clear()
        after = DEFENSES["eclipse"](level=level).sampled(exact, schedule, x, noise)
        assert len(draws) == level  # at the start and at every step but the last
        assert float(after.mean()) == pytest.approx(MEAN, abs=0.01)
        assert float(after.std()) == pytest.approx(DEVIATION, rel=0.03)


def test_images_lose_little_at_the_level_of_the_paper_and_all_at_the_last(schedule):
    """Of 4,000 cosine levels the hundredth leaves an image nearly whole: AVATAR's hundredth is of 1,000 linear ones."""
    assert float(schedule.signal[99] ** 2) == pytest.approx(0.9979, abs=5e-4) and float(schedule.signal[-1]) < 1e-3
    assert torch.allclose(schedule.signal**2 + schedule.noise**2, torch.ones(4000), atol=1e-6)
    assert (schedule.log_most >= schedule.log_least - 1e-6)[1:].all()


def test_the_bound_trains_the_variance_and_not_the_noise(schedule):
    """Its gradients would drown those of the squared error; the best variance is that of the errors."""
    image = tiny(8, shape=(3, 8, 8)).pixels(slice(None)) * 2 - 1
    noise, step = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)), torch.full((8,), 50)
    guess, place = (0.5 * noise).requires_grad_(), torch.zeros_like(noise).requires_grad_()
    hybrid_loss(lambda x, at: torch.cat([guess, place], 1), schedule, image, noise, step).mean().backward()
    assert torch.allclose(guess.grad, 2 * (guess - noise).detach() / noise.numel(), atol=1e-8)
    assert (place.grad < 0).any(), "where the guess is off, more variance is worth its price"


@pytest.mark.slow
def test_a_process_that_dies_goes_on_to_the_same_images(tmp_path, monkeypatch):
    """The model trains for a day; what a killed process had done must not be lost, nor change the result."""
    train = tiny(130)
    defense = small(DEFENSES["eclipse"], steps=3)

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
    told = []
    assert torch.equal(purify(folder=tmp_path, on_progress=lambda *where: told.append(where)), whole)
    assert len(told) < 6 and told[-1][0] == told[-1][1]


# In training, and where it cannot run


def test_images_are_gray_as_often_as_it_says_and_noisy_all_of_them():
    """Both anew in every batch; values stay those of images."""
    x = (0.2 + 0.6 * tiny(1000, shape=(3, 8, 8)).pixels(slice(None))).clone()
    with seeded(0, Numerics()):
        gray = DEFENSES["eclipse"](deviation=0.0).augment(x, torch.zeros(1000))[0]
        noisy = DEFENSES["eclipse"](gray=0.0).augment(x, torch.zeros(1000))[0]
    share = (gray[:, 0] == gray[:, 2]).flatten(1).all(1).double().mean()
    assert float(share) == pytest.approx(0.4, abs=0.05)
    assert float((noisy - x).std()) == pytest.approx(0.05, rel=0.02) and float((noisy - x).mean().abs()) < 1e-3
    assert float(DEFENSES["eclipse"](deviation=1.0).augment(x, x)[0].min()) >= 0


@pytest.mark.parametrize(
    ("info", "why"),
    [(DataInfo((3, 28, 28), 10, 60000), "sides that 8 divides"), (DataInfo((3, 32, 32), 10, 1999), "2000 clean images")],
)
def test_where_it_cannot_run_a_table_says_why(info, why):
    """A reason in the table, not a crash in a job."""
    with pytest.raises(NotApplicable, match=why):
        DEFENSES["eclipse"]().applies(info)


@pytest.mark.parametrize("fields", [{"gray": 1.1}, {"level": 0}, {"level": 200, "top": 100}, {"width": 6}, {"images": 0}])
def test_fields_that_cannot_be_are_refused(fields):
    """While planning, in one sentence."""
    with pytest.raises(EntryError, match="defense eclipse: expected"):
        DEFENSES["eclipse"](**fields)
