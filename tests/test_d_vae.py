"""D-VAE as a defense, card D13, and as an attack, card F13, with a narrow network on small images."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from conftest import as_data, noisy, poison, recipe, small, tiny, whole
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from unlearnable_bench.benchmark.conformance import tiny as smooth
from unlearnable_bench.poisons import store as stores
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.poisons.recipe import PurifiedRecipe
from unlearnable_bench.poisons.store import Store, add
from unlearnable_bench.registry import ATTACKS, DEFENSES, Budget, EntryError, Job, NotApplicable, Parent, _vae, resolve
from unlearnable_bench.registry._spent import Spent
from unlearnable_bench.registry.attacks.d_vae import projected

RECIPE = _vae.AutoencoderRecipe(epochs=30, batch=16, lr=0.005, width=8)


def fitted(train, kld, **changes):
    with seeded(0, Numerics()):
        return _vae.SuccessiveNetworks(train, Job(seed=0), 1).autoencoder(train, kld, dataclasses.replace(RECIPE, **changes))


def purified(train, job=None, **fields):
    with seeded(0, Numerics()):
        return small(DEFENSES["d-vae"], **fields).purify(train, job or Job(seed=0))


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


def test_the_network_for_large_images_is_the_published_one():
    """Card D13: an eighth of the side, 512 channels there, 256 latents, decoders of 512-256-128-64-32-3."""
    with torch.device("meta"):
        model = _vae.DVae((3, 224, 224), 10, 64, 8)
    assert model.class_code.shape == (10, 512, 28, 28) and model.mean.out_channels == 256
    parts = [(part.out_channels, part.stride[0]) if hasattr(part, "stride") else type(part).__name__ for part in model.image]
    norm = ["InstanceNorm2d", "ReLU"]
    assert parts == [(256, 2), (128, 1), *norm, (64, 2), (32, 1), *norm, (3, 2)]
    image, perturbation, _ = _vae.DVae((3, 16, 24), 4, 8, 8)(torch.rand(3, 3, 16, 24), torch.arange(3))
    assert image.shape == perturbation.shape == (3, 3, 16, 24)


def test_more_rate_gives_a_better_image_and_the_rate_settles_at_its_target():
    """Card D13: the target is a floor, and PSNR increases with it; the perturbation is an offer that the class makes."""
    train = smooth(64, side=16)
    found = []
    for kld in (1.0, 3.0):
        model = fitted(train, kld)
        other = dataclasses.replace(train, labels=(train.labels + 1) % 4)
        dice = model.device_generator.get_state()
        ((_, x, image, own),) = model.passed(train)
        model.device_generator.set_state(dice)
        ((*_, theirs),) = model.passed(other)
        assert model.psnr == pytest.approx(-10 * math.log10(float(F.mse_loss(image, x))), abs=1e-3)
        found.append(model.psnr)
        assert model.rate == pytest.approx(kld, rel=0.15)
        assert (own - theirs).abs().max() > 1e-4
    assert found[1] > found[0] + 0.3


class Offering(torch.nn.Module):
    """An image without an error, a perturbation of 0.1 everywhere, and a rate of 2, all of them parameters."""

    def __init__(self):
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(2.0))
        self.size = torch.nn.Parameter(torch.tensor(0.1))

    def forward(self, x, y, dice=None):
        return x, self.size.expand_as(x), self.rate


@pytest.mark.parametrize(
    ("target", "epochs", "epoch", "weight", "penalty"),
    [
        (0.5, 60, 10, 0.5, 0.0),
        (0.99, 60, 10, 0.5, 0.0),
        (1.0, 60, 10, 0.01, 0.0),
        (2.0, 60, 11, 0.01, 0.01),
        (1.5, 20, 10, 0.01, 0.0),
        (1.5, 20, 11, 0.01, 0.01),
        (1.0, 10, 9, 0.01, 0.0),
    ],
)
def test_the_weight_of_the_rate_and_the_free_epochs_are_the_published_ones(target, epochs, epoch, weight, penalty, monkeypatch):
    """With 0.01 a rate of 0.5 ended at 0.98; on ImageNet, 20 epochs, the perturbation is free for 11 as it is in 60."""
    made = []
    monkeypatch.setattr(_vae.SuccessiveNetworks, "fit", lambda self, model, train, loss, *rest: made.append(loss))
    train = tiny(8, shape=(3, 8, 8))
    fitted(train, target, epochs=epochs)
    x = torch.full((2, 3, 8, 8), 0.5)
    value = made[0](Offering(), x, torch.arange(2), epoch / epochs)
    assert float(value.detach()) == pytest.approx(weight * max(2.0, target) + 0.1**2 + penalty)


def test_what_is_subtracted_resembles_the_perturbation():
    """Card D13, amended: the error of what was found is below the mean square of the perturbation itself."""
    clean = smooth(64, side=16)
    poisoned = tiled(clean, 40)
    true = (poisoned.images.float() - clean.images.float()) / 255
    found = torch.cat([perturbation for *_, perturbation in fitted(poisoned, 0.5).passed(poisoned)])
    assert F.mse_loss(found, true) < 0.95 * true.square().mean()
    assert torch.corrcoef(torch.stack([found.flatten(), true.flatten()]))[0, 1] > 0.3


class Fake(torch.nn.Module):
    """Halves an image and finds a tenth in round one, a fifth in round two."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x, y, dice=None):
        return x * 0.5, torch.full_like(x, self.step), torch.tensor(1.5)


@pytest.fixture
def calls(monkeypatch):
    """Every autoencoder is a fake; what each was trained on, with which rate and how far it shrinks."""
    made = []

    def autoencoder(self, train, target, recipe, factor=2):
        made.append((target, factor, train.images.clone()))
        return _vae.Fitted(Fake(0.1 if target == 1.5 else 0.2), self.job, 0)

    monkeypatch.setattr(_vae.SuccessiveNetworks, "autoencoder", autoencoder)
    return made


def level(values):
    return (values.clamp(0, 1) * 255).round() / 255


SUBTRACTED = {
    "full": lambda x: level(level(level(x - 0.1) - 0.2) * 0.5),
    "wo_s1": lambda x: level(level(x - 0.2) * 0.5),
    "wo_i2_in_s2": lambda x: level(level(x - 0.1) * 0.5),
    "wo_s2": lambda x: level(x - 0.1),
    "wo_i3": lambda x: level(level(x - 0.1) - 0.2),
    "s1_then_i3": lambda x: level(level(x - 0.1) * 0.5),
}


@pytest.mark.parametrize("ablation", SUBTRACTED)
def test_rounds_and_passes_are_algorithm_1_and_what_table_7_leaves_of_it(ablation, calls):
    """Subtract by round one; subtract and reconstruct by round two, trained on what round one left, from scratch."""
    train, job = tiny(12, shape=(3, 16, 16)), Job(seed=0)
    x = train.images.float() / 255
    found = purified(train, job, kld1=1.5, kld2=2.5, shrink=8, ablation=ablation).images
    assert torch.allclose(found.float() / 255, SUBTRACTED[ablation](x), atol=1.1 / 255)
    first, second = (1.5, 8, train.images), (2.5, 2, (level(x - 0.1) * 255).round().byte())
    wanted = {"wo_s1": [(2.5, 2, train.images)], "wo_s2": [first], "s1_then_i3": [first]}.get(ablation, [first, second])
    assert [call[:2] for call in calls] == [call[:2] for call in wanted]
    assert all((one[2].int() - other[2].int()).abs().max() <= 1 for one, other in zip(calls, wanted, strict=True))
    assert job.notes["rate2" if ablation == "wo_s1" else "rate1"] == pytest.approx(1.5)


@pytest.mark.parametrize(("disentangle", "kept"), [(True, True), (False, False)])
def test_one_stage_keeps_the_images_of_its_autoencoder(disentangle, kept, calls):
    """Figures 2 and 6: plain or with its second decoder, accuracy is that of training on what the rate lets through."""
    train, job = tiny(12), Job(seed=0)
    found = purified(train, job, stages=1, disentangle=disentangle).images
    assert torch.allclose(found.float() / 255, level(train.images.float() / 255 * 0.5), atol=1.1 / 255)
    assert len(calls) == 1 and ("p_hat" in job.kept) == kept


def test_a_plain_autoencoder_never_trains_its_second_decoder():
    """Equation 3: neither the term that it enters nor the one that holds it small."""
    before = fitted(tiny(16, shape=(3, 8, 8)), 1.0, epochs=0, disentangle=False).model
    after = fitted(tiny(16, shape=(3, 8, 8)), 1.0, epochs=2, disentangle=False).model
    assert torch.equal(before.class_code, after.class_code)
    assert not torch.equal(before.image[0].weight, after.image[0].weight)
    assert torch.equal(before.perturbation[0].weight, after.perturbation[0].weight)


def test_what_round_one_found_is_kept_in_float_beside_the_set(tmp_path, monkeypatch):
    """Tables 8, 10 and 11 measure estimates that 8 bits would round away; a set of millions is not doubled."""
    train = tiny(16, shape=(3, 16, 16))
    defense = resolve("defenses", "d-vae(ablation=wo_s2,epochs=2,width=8,batch=8)")
    asked = PurifiedRecipe(recipe("lsp"), 0.5, "all", defense, 0)
    kept = Store(tmp_path).purified(asked, as_data(train))
    found = torch.from_numpy(np.load(kept.path / "p_hat.npy"))
    before = Store(tmp_path).training_set(asked.poison, as_data(train), 0.5, "all").images.float() / 255
    assert found.dtype == torch.float16 and found.abs().max() > 1 / 255
    assert torch.allclose(level(before - found.float()), kept.images.float() / 255, atol=1.1 / 255)
    assert {"rate1", "psnr1"} <= set(kept.manifest["notes"])
    monkeypatch.setattr(_vae, "KEPT", train.images.numel() - 1)
    job = Job()
    purified(train, job)
    assert not job.kept


def test_detection_flags_what_the_poisoned_half_has_in_common():
    """Card D13: recall near 1, precision well above the base rate. Labels are unrelated to these images, so clean ones
    cannot be learnt but by heart."""
    clean, half = smooth(384, side=16), torch.arange(384) < 192
    images = torch.where(half.view(-1, 1, 1, 1), tiled(clean, 40).images, clean.images)
    mixed = dataclasses.replace(clean, images=images)
    defense = small(DEFENSES["d-vae"], detect=True, epochs=10, kld1=1.0, detector_epochs=6)
    with seeded(0, Numerics()):
        flagged = defense.flagged(mixed, _vae.SuccessiveNetworks(mixed, Job(seed=0), 4))
    assert flagged[half].float().mean() > 0.98
    assert half[flagged].float().mean() > 0.6


def test_only_flagged_images_are_purified(monkeypatch):
    """What looks clean stays as it is, to the byte; which those were is kept beside the set."""
    mask = torch.arange(24) % 3 == 0
    monkeypatch.setattr(type(small(DEFENSES["d-vae"])), "flagged", lambda self, train, rounds: mask)
    train, job = tiny(24), Job(seed=0)
    found = purified(train, job, detect=True).images
    same = (found == train.images).flatten(1).all(1)
    assert torch.equal(same, ~mask) and job.notes["flagged"] == pytest.approx(8 / 24)
    assert torch.equal(torch.from_numpy(job.kept["flagged"]), mask)
    changed = dataclasses.replace(train, images=torch.where(mask.view(-1, 1, 1, 1), train.images, train.images // 2))
    again = purified(changed, detect=True).images
    assert torch.equal(again[mask], found[mask]), "what looks clean has no say in what becomes of the rest"


@pytest.mark.parametrize("died", [3, 6, 14])
def test_a_killed_purification_goes_on_to_the_same_images(died, tmp_path, monkeypatch):
    """In the first autoencoder (4 epochs each), in the deciding network, in the last: hours are not done twice."""
    monkeypatch.setattr("unlearnable_bench.registry._crafting.EVERY", 0.0)
    monkeypatch.setattr("unlearnable_bench.registry._crafting.SPENT_SAVING", math.inf)
    train, fields = tiny(24, shape=(3, 16, 16)), {"detect": True, "epochs": 4, "detector_epochs": 4, "batch": 8}
    calm = purified(train, **fields).images
    epochs = []

    def kill(done, total):
        epochs.append(done)
        if done == died and epochs.count(done) == 1 and len(epochs) == died:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        purified(train, Job(folder=tmp_path, on_progress=kill), **fields)
    began, job = Spent.now(), Job(folder=tmp_path, on_progress=kill)
    assert torch.equal(purified(train, job, **fields).images, calm)
    own, both = Spent.now() - began, job.spent
    assert both.seconds > own.seconds and both.cpu_seconds > own.cpu_seconds, "with those of the process that died"
    assert 0 < job.notes["fit_seconds"] < both.seconds
    assert epochs[died] == died, "the epoch in which it died, none before"


def test_odd_sides_and_wrong_fields_are_refused():
    """Said while planning."""
    with pytest.raises(NotApplicable, match="even sides"):
        DEFENSES["d-vae"]().applies(tiny(shape=(3, 17, 32)).info)
    with pytest.raises(NotApplicable, match="sides that 8 divides, the images are 20x32"):
        ATTACKS["d-vae"](shrink=8).applies(tiny(shape=(3, 20, 32)).info)
    wrong = [{"stages": 3}, {"kld1": -1.0}, {"detect": True, "disentangle": False}, {"width": 1}, {"shrink": 4}]
    for fields in (*wrong, {"ablation": "wo_s1", "stages": 1}):
        with pytest.raises(EntryError, match="defense d-vae"):
            DEFENSES["d-vae"](**fields)
    for fields in ({"seed_ratio": 0.0}, {"seed_ratio": 1.5}, {"steps": -1}, {"shrink": 3}):
        with pytest.raises(EntryError, match="attack d-vae"):
            ATTACKS["d-vae"](**fields)


# As an attack, card F13


def crafted(poison, job=None, **fields):
    """Return images and job of the tool on a poison: `poison` is a training set whose images lie over `poison.clean`."""
    job = job or Job(seed=0)
    job.parents = (poison,)
    with seeded(0, Numerics()):
        delta = whole(small(ATTACKS["d-vae"], **fields).craft(poison.clean, job), poison.clean)
    return add(poison.clean.images, delta, "d-vae"), job


def test_known_images_stay_and_all_others_change():
    """Of every class its share, at least one image; the attacker's own files are not touched."""
    poison = noisy(dataclasses.replace(tiny(60, 3), num_classes=4))
    found, job = crafted(poison, seed_ratio=0.1)
    known = torch.from_numpy(job.kept["known"])
    assert poison.clean.labels[known].bincount(minlength=4).tolist() == [2, 2, 2, 0]
    assert torch.equal(found[known], poison.images[known])
    assert (found != poison.clean.images).flatten(1).any(1).all()
    assert job.notes["known"] == 6
    assert crafted(poison, seed_ratio=0.01)[1].notes["known"] == 3


def test_more_poison_is_made_without_a_look_at_the_rest_of_it():
    """An attacker with one percent has not the other 99."""
    poison = noisy(tiny(48))
    found, job = crafted(poison)
    known = torch.from_numpy(job.kept["known"]).view(-1, 1, 1, 1)
    blind = dataclasses.replace(poison, images=torch.where(known, poison.images, torch.tensor(0, dtype=torch.uint8)))
    assert torch.equal(crafted(blind)[0], found)


def test_new_images_carry_the_perturbation_of_their_class():
    """Card F13: on images never seen the estimate points where the noise of the class does, and not where another's does."""
    clean = smooth(96, side=16)
    poison = Parent(clean, tiled(clean, 40).images)
    _, job = crafted(poison, seed_ratio=0.5, kld1=0.5, epochs=30)
    held = ~torch.from_numpy(job.kept["known"])
    estimate = torch.from_numpy(job.kept["p_hat"]).float()[held].flatten(1)
    noise = (poison.images.float() - clean.images.float()).flatten(1)
    means = torch.stack([noise[clean.labels == label].mean(0) for label in range(4)])
    likeness = F.cosine_similarity(estimate[:, None], means[None], dim=2)  # (n, 4)
    own = likeness.gather(1, clean.labels[held][:, None])
    assert own.mean() > 0.3 and (likeness.argmax(1) == clean.labels[held]).float().mean() > 0.95


def test_a_rebuilt_poison_is_the_clean_images_with_what_was_found_in_the_poisoned(calls, monkeypatch):
    """Table 1: estimated from poisoned images, added to clean ones, none left as it was."""
    poison = noisy(tiny(16))
    monkeypatch.setattr(Fake, "forward", lambda self, x, y, dice: (x, 0.2 * x, torch.tensor(0.0)))
    found, job = crafted(poison, mode="rebuild")
    assert torch.equal(calls[0][2], poison.images), "it learns from the whole poison"
    wanted = level(poison.clean.images.float() / 255 + 0.2 * poison.images.float() / 255)
    assert torch.allclose(found.float() / 255, wanted, atol=1.1 / 255)
    assert job.kept["p_hat"].shape == (16, 3, 32, 32) and job.kept["known"].all()


@given(
    norm=st.sampled_from(["linf", "l2", "l0"]),
    epsilon=st.sampled_from([0.02, 0.5, 1.0, 3.0]),
    seed=st.integers(0, 50),
    size=st.floats(0, 2),
)
def test_projecting_keeps_a_budget_and_leaves_what_is_within(norm, epsilon, seed, size):
    """In the poison's own norm, 8 bits included; twice is once."""
    clean = tiny(3, shape=(3, 6, 6), seed=seed)
    delta = torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * size
    budget = Budget(norm, round(epsilon) if norm == "l0" else epsilon)
    short = projected(delta, budget)
    assert budget.holds(clean.images, add(clean.images, short, "test"))
    assert torch.allclose(projected(short, budget), short, atol=1e-6)
    tiny_one = torch.zeros_like(delta)
    tiny_one[:, :, 2, 3] = 0.001
    assert torch.allclose(projected(tiny_one, budget), tiny_one) or budget.epsilon == 0
    assert torch.equal(projected(delta, Budget("none")), delta)


FAST = "epochs=2,steps=2,width=8,batch=8"


@pytest.mark.parametrize(("item", "norm"), [("lsp", "l2"), ("ops", "l0"), ("em-like", "linf")])
def test_a_projected_tool_promises_the_budget_at_its_left(item, norm, tmp_path):
    """Without `project` spending is measured, as nothing bounds an estimate."""
    left = {"em-like": "random-noise(kind=sample)"}.get(item, item)
    clean = tiny(16, shape=(3, 16, 16))
    free = poison(tmp_path, f"{left}+d-vae(mode=rebuild,{FAST})", clean).manifest["budget"]
    held = poison(tmp_path, f"{left}+d-vae(mode=rebuild,project=true,{FAST})", clean).manifest["budget"]
    assert (free["norm"], free["allowed"]) == ("none", None) and free["spent"] > 0
    assert held["norm"] == norm and 0 < held["spent"] <= held["allowed"]


def test_a_poison_that_was_made_of_a_part_alone_is_the_known_part(tmp_path, monkeypatch):
    """Card F13: EM and OPS look at all images of a class when they are made of the whole set."""
    whole_set = tiny(24, shape=(3, 16, 16))
    part = dataclasses.replace(whole_set, images=whole_set.images[[3, 8, 9, 14]], labels=whole_set.labels[[3, 8, 9, 14]])
    monkeypatch.setattr(stores, "load", lambda _: as_data(part))
    kept = poison(tmp_path, f"random-noise(dataset=digits(per_class=1),seed=0)+d-vae({FAST})", whole_set)
    assert np.flatnonzero(np.load(kept.path / "known.npy")).tolist() == [3, 8, 9, 14]
    own = Store(tmp_path).poison(recipe("random-noise(seed=0)", dataset="digits(per_class=1)"), as_data(part))
    assert own.cached and torch.equal(kept.images[[3, 8, 9, 14]], own.images) and kept.manifest["notes"]["known"] == 4
    with pytest.raises(NotApplicable, match="made of other images"):
        poison(tmp_path, f"random-noise(dataset=digits(per_class=1),seed=0)+d-vae({FAST})", tiny(24, shape=(3, 16, 16), seed=5))
