"""LFU, EPIC, friendly noise, early stopping with clean images, cards D15 to D18; JPEG against TAP, mixing against EM."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import recipe
from torch.nn import functional as F

from unlearnable_bench.benchmark.conformance import tiny
from unlearnable_bench.benchmark.train import Training
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.poisons.store import Store
from unlearnable_bench.registry import ARCHITECTURES, DEFENSES, PROTOCOLS, EntryError, Job, Protocol, resolve
from unlearnable_bench.registry._medoids import medoids
from unlearnable_bench.registry.data import load

DIGITS = "digits(per_class=60)"
SHORT = Protocol(epochs=4, batch=16, lr=0.05)


def fit(defense, data=None):
    data = data or tiny()
    with seeded(0, Numerics()):
        run = Training(ARCHITECTURES["small-cnn"](data.num_classes), data, SHORT, [defense], "cpu", Numerics())
        return run, run.run(data, None, None)


# LFU


def test_lfu_projects_as_ortho_proj_does():
    """Card D15: steps one and two of D14, and no image is rounded."""
    data = tiny()
    found = DEFENSES["lfu"](epochs=2).purify(data, Job(seed=3)).images
    assert torch.equal(found, DEFENSES["ortho-proj"](epochs=2).purify(data, Job(seed=3)).images)


def test_lfu_without_its_augmentations_changes_no_batch():
    """Each of them has a strength, and at none the batch passes as it is."""
    data = tiny(16)
    x = data.pixels(slice(None))
    calm = DEFENSES["lfu"](rotation=0.0, shear=0.0, zoom=0.0, jitter=0.0, cutmix=0.0)
    found, y = calm.augment(x, data.labels)
    assert torch.allclose(found, x, atol=1e-6) and torch.equal(y, F.one_hot(data.labels, 4).float())
    for field, value in {"rotation": 10.0, "shear": 10.0, "zoom": 0.2, "jitter": 0.2, "cutmix": 1.0}.items():
        changed, _ = dataclasses.replace(calm, **{field: value}).augment(x, data.labels)
        assert (changed - x).abs().amax((1, 2, 3)).gt(0.01).float().mean() > 0.5, field


def test_lfu_scales_around_the_centre():
    """A square of known size grows and shrinks within a fifth."""
    x = torch.zeros(300, 1, 32, 32)
    x[:, :, 8:24, 8:24] = 1
    torch.manual_seed(0)
    found, _ = DEFENSES["lfu"](rotation=0.0, shear=0.0, jitter=0.0, cutmix=0.0).augment(x, torch.zeros(300, dtype=torch.long))
    side = found.sum((1, 2, 3)).sqrt() / 16
    assert 0.74 < side.min() < 0.88 and 1.12 < side.max() < 1.26  # in whole pixels of 16
    middle = (found.sum((1, 2)) * torch.arange(32)).sum(1) / found.sum((1, 2, 3))
    assert (middle - 15.5).abs().max() < 0.6


def test_lfu_trains_as_its_own_code_does_where_it_is_asked_to():
    """Under the recipe of another paper, whose batch, peak and mean stay: 50 epochs in stairs at 25 and 37, decay 1e-4."""
    dvae = PROTOCOLS["dvae"]()
    found = DEFENSES["lfu"](recipe="released").configure(dvae)
    assert (found.epochs, found.weight_decay, found.schedule, found.gamma) == (50, 1e-4, "milestones", 0.1)
    assert [50 * part for part in found.milestones] == [25, 37]
    assert (found.batch, found.lr, found.clip) == (dvae.batch, dvae.lr, dvae.clip)
    assert DEFENSES["lfu"]().configure(dvae) == dvae


# EPIC


def test_lazy_greedy_picks_what_plain_greedy_picks():
    """Card D16: facility location, the gain of every candidate computed in every round."""
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    distances = torch.cdist(points.double(), points.double()).numpy()
    similar = np.exp(-distances / 3)
    chosen, covered = [], np.zeros(40)
    for _ in range(8):
        gains = np.maximum(similar - covered, 0).sum(1)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        covered = np.maximum(covered, similar[chosen[-1]])
    picked, medoid = medoids(points, 8)
    assert picked == chosen
    assert torch.equal(medoid, torch.from_numpy(distances[:, chosen].argmin(1)))


def test_epic_drops_the_outlier_of_every_class_and_keeps_duplicates(monkeypatch):
    """Card D16: synthetic outputs, one image of each class far from the rest."""
    data = tiny(64)
    outliers = [0, 1, 2, 3]

    def outputs(self, rows, features=False):
        logits = 8.0 * F.one_hot(self.train.labels[rows], 4)
        for number, row in enumerate(rows.tolist()):
            if row in outliers:
                logits[number] = 8.0 * F.one_hot((self.train.labels[row] + 1) % 4, 4)
        return logits

    monkeypatch.setattr(Training, "outputs", outputs)
    run, _ = fit(DEFENSES["epic"](alpha=0.1, warmup=0.25, every=0.5), data)
    assert sorted(set(range(64)) - set(run.kept.tolist())) == outliers


def test_epic_clusters_the_whole_set_at_every_selection(monkeypatch):
    """As the published code: among what is left alone, each selection would make new loners of images that had company."""
    sizes = []
    outputs = Training.outputs
    monkeypatch.setattr(Training, "outputs", lambda self, rows: sizes.append(rows.tolist()) or outputs(self, rows))
    run, _ = fit(DEFENSES["epic"](alpha=0.5, warmup=0.25, every=0.25, until=1.0), tiny())
    assert sizes == [list(range(64))] * len(sizes) and len(sizes) > 1
    assert len(run.kept) < 64


def test_epic_selects_when_it_should_and_dropped_images_never_return():
    """After the warm-up, at intervals, until the learning rate's last drop."""
    sizes = {}

    class Watched(Training):
        def keep(self, mask):
            before = set(self.kept.tolist()) if self.kept is not None else set(range(64))
            super().keep(mask)
            assert set(self.kept.tolist()) <= before
            sizes[self.epoch] = len(self.kept)

    data = tiny()
    with seeded(0, Numerics()):
        protocol = dataclasses.replace(SHORT, epochs=10)
        defense = DEFENSES["epic"](alpha=0.5, warmup=0.2, every=0.2, until=0.8)
        Watched(ARCHITECTURES["small-cnn"](4), data, protocol, [defense], "cpu", Numerics()).run(data, None, None)
    assert list(sizes) == [2, 4, 6, 8] and sizes[8] < 64


# Friendly noise


def test_friendly_noise_stays_in_its_radius_and_disturbs_less_than_random_noise_of_its_size():
    """Card D17: the divergence is at most that of random noise of equal norm; |noise| <= 16/255; larger than its start."""
    data = tiny()
    run, _ = fit(DEFENSES["none"](), data)
    x, defense = data.pixels(slice(None)), DEFENSES["friendly-noise"]()
    start = torch.empty_like(x).uniform_(-8 / 255, 8 / 255, generator=torch.Generator().manual_seed(0))
    found = defense.noise(run.model, x, start)
    assert found.abs().max() <= 16 / 255 + 1e-7
    run.model.eval()
    wanted = run.model(x).detach().softmax(1)

    def divergence(noise):
        with torch.no_grad():
            return float(F.kl_div(run.model((x + noise).clamp(0, 1)).log_softmax(1), wanted, reduction="batchmean"))

    signs = torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    size = found.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert divergence(found) <= divergence(signs * size / 3072**0.5)
    assert found.norm() > start.norm()


def test_friendly_noise_beyond_its_radius_is_not_pulled_further():
    """The published code weighs the clamped noise: where a network sees nothing, noise at the limit has no gradient at all."""
    x = torch.full((2, 3, 4, 4), 0.5)
    defense = DEFENSES["friendly-noise"](steps=1, step_size=1.0, epsilon=0.1)
    blind = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 4))
    torch.nn.init.zeros_(blind[1].weight)
    start = torch.full_like(x, 0.05)
    start[0] = 0.2
    gradients = []
    step = torch.optim.SGD.step

    def watched(self, *rest):
        gradients.append(self.param_groups[0]["params"][0].grad.clone())
        return step(self, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", watched)
        defense.noise(blind, x, start.detach())
    assert gradients[0][0].abs().max() == 0, "beyond the radius"
    assert torch.allclose(gradients[0][1], torch.tensor(-2 * 0.05 / 96)), "within it"


def test_images_carry_their_friendly_noise_from_the_epoch_on_that_found_it():
    """Before it the set as it was, behind it every image within the radius; random noise in every batch."""
    seen = {}

    class Watched(Training):
        def exchange(self, images):
            seen[self.epoch] = (images.int() - self.train.images.int()).abs().amax((1, 2, 3))
            super().exchange(images)

    data = tiny()
    with seeded(0, Numerics()):
        defense = DEFENSES["friendly-noise"](begin=0.5, steps=5)
        Watched(ARCHITECTURES["small-cnn"](4), data, SHORT, [defense], "cpu", Numerics()).run(data, None, None)
    assert list(seen) == [2]
    assert seen[2].max() <= 16 and seen[2].min() > 3
    x = torch.full((4, 3, 8, 8), 0.5)
    noisy, _ = defense.augment(x, torch.zeros(4))
    assert (
        torch.allclose((noisy - x).abs(), torch.tensor(8 / 255), atol=1e-6)
        and abs(float((noisy > x).float().mean()) - 0.5) < 0.1
    )


# Clean images, card D18


def watched(share, clean, data, seed=0, epochs=2):
    """Train under early stopping with a share of clean images in the part held out; return the run."""
    with seeded(seed, Numerics()):
        protocol = dataclasses.replace(SHORT, epochs=epochs)
        defense = DEFENSES["early-stop"](part=0.5, clean=share)
        run = Training(ARCHITECTURES["small-cnn"](4), data, protocol, [defense], "cpu", Numerics(), clean)
        run.run(data, None, None)
    return run


@pytest.mark.parametrize(("share", "each"), [(0.0, 0), (0.1, 1), (0.5, 4), (0.7, 6), (1.0, 8)])
def test_a_share_of_what_is_held_out_is_shown_unpoisoned(share, each):
    """Table 5 of SEM: of every class its share, in place of the poisoned ones, never images that are trained on."""
    clean = tiny()
    poisoned = dataclasses.replace(clean, images=255 - clean.images)
    run = watched(share, clean, poisoned)
    held, shown = run.hooks[0].rows, run.hooks[0].clean
    assert clean.labels[held].bincount(minlength=4).tolist() == [8 - each] * 4
    assert (0 if shown is None else len(shown)) == 4 * each
    if shown is not None:
        where = {image.numpy().tobytes(): row for row, image in enumerate(clean.images)}
        rows = [where[image.numpy().tobytes()] for image in shown.images]
        assert torch.equal(clean.labels[rows], shown.labels)
        assert not set(rows) & (set(held.tolist()) | set(run.kept.tolist()))


def test_a_poisoned_validation_set_praises_the_shortcut_and_a_clean_one_does_not():
    """Card D18: full marks for what nobody can use, chance on clean images."""
    clean = tiny(128)
    shade = (60 * clean.labels.view(-1, 1, 1, 1)).expand_as(clean.images)
    poisoned = dataclasses.replace(clean, images=shade.byte().contiguous())
    best = {share: watched(share, clean, poisoned, epochs=6).hooks[0].best for share in (0.0, 0.5, 1.0)}
    assert best[0.0] > 0.9 and best[1.0] < 0.5 and best[1.0] < best[0.5] < best[0.0]


def test_clean_images_are_drawn_by_the_seed_and_only_where_they_are_declared():
    """A defense that looks at clean data says so: its numbers stand beside those of defenses that have none."""
    data = tiny()
    clean = dataclasses.replace(data, images=255 - data.images)

    def run(name, given, seed=0):
        with seeded(seed, Numerics()):
            return Training(ARCHITECTURES["small-cnn"](4), data, SHORT, [DEFENSES[name]()], "cpu", Numerics(), given)

    first, again, other = (run("early-stop", clean, seed).clean(20) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    there = {image.numpy().tobytes(): int(label) for image, label in zip(clean.images, clean.labels, strict=True)}
    assert [there[image.numpy().tobytes()] for image in first.images] == first.labels.tolist()
    assert len({image.numpy().tobytes() for image in first.images}) == 20
    trained = run("early-stop", clean)
    with torch.no_grad():
        wanted = trained.model.eval()(first.pixels(slice(3, 9)))
    assert torch.allclose(trained.outputs(torch.arange(3, 9), of=first), wanted, atol=1e-5)
    with pytest.raises(EntryError, match="declares needs"):
        run("friendly-noise", clean).clean(20)
    with pytest.raises(EntryError, match="was not given any"):
        run("early-stop", None).clean(20)
    with pytest.raises(EntryError, match="65 clean images, there are 64"):
        run("early-stop", clean).clean(65)


# What helps and what does not, on handwritten digits; test_pipeline.py has the effects of the quick grid


@pytest.fixture(scope="module")
def digits():
    return load(resolve("datasets", DIGITS)[0])


def accuracy(images, data, *items):
    """Return the clean test accuracy of a small victim of these training images under each defense."""
    found = []
    for item in items:
        defense = resolve("defenses", item)[0].build()
        with seeded(0, Numerics()):
            train = defense.purify(dataclasses.replace(data.train, images=images), Job(seed=0))
            net, protocol = ARCHITECTURES["small-cnn"](10), PROTOCOLS["quick"]()
            found.append(Training(net, train, protocol, [defense], "cpu", Numerics()).run(data.test, None, None).test_acc[-1])
    return found


def test_mixing_images_rescues_nobody_from_error_minimizing_noise(digits, tmp_path):
    """Card D07: a shortcut in every image survives being blended, cut out and pasted; clean images do as well."""
    item = "em(surrogate=small-cnn,weight_steps=30,batch=128,noise_steps=5,step_size=1.6/255)"
    poisoned = Store(tmp_path).poison(recipe(item, dataset=DIGITS), digits)
    assert max(accuracy(poisoned.images, digits, "none", "cutout", "mixup", "cutmix")) < 0.25
    assert min(accuracy(digits.train.images, digits, "mixup", "cutmix")) > 0.55


def test_jpeg_helps_against_targeted_adversarial_noise(digits, tmp_path):
    """Card D05: quality 10 destroys what an adversary drew at high frequency."""
    item = "tap(surrogate=small-cnn,epochs=12,batch=64,steps=15,restarts=1,step_size=2/255,epsilon=16/255)"
    poisoned = Store(tmp_path).poison(recipe(item, dataset=DIGITS), digits)
    plain, squeezed = accuracy(poisoned.images, digits, "none", "jpeg(quality=10)")
    assert squeezed > plain + 0.1


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("lfu", {"zoom": 1.0}),
        ("epic", {"alpha": 0.0}),
        ("friendly-noise", {"begin": 2.0}),
        ("early-stop", {"clean": 1.5}),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_refused_by_name(name, fields):
    """Before any work, with the value that was found."""
    with pytest.raises(EntryError, match=f"defense {name}"):
        DEFENSES[name](**fields)


def test_early_stopping_asks_for_clean_data_only_where_it_takes_some():
    """A reader who filters by needs must not lose the row that has none."""
    assert resolve("defenses", "early-stop")[0].needs == ()
    assert resolve("defenses", "early-stop(clean=0.5)")[0].needs == ("clean-data",)
