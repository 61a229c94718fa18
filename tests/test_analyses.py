"""Analyses: each against a slow, obvious version, and cells that measure them from plan to printed table."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import in_process, tiny
from hypothesis import given
from hypothesis import strategies as st

from unlearnable_bench.benchmark import driver, grid
from unlearnable_bench.benchmark.conformance import check_entry
from unlearnable_bench.benchmark.driver import RunOptions
from unlearnable_bench.benchmark.measure import Looked
from unlearnable_bench.benchmark.plan import plan_cells
from unlearnable_bench.benchmark.task import Finder, Task
from unlearnable_bench.benchmark.train import Training
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import (
    ANALYSES,
    ARCHITECTURES,
    ATTACKS,
    Context,
    EntryError,
    ImageSet,
    Job,
    NotApplicable,
    Protocol,
    lacking,
    resolve,
)
from unlearnable_bench.registry._figures import reweighted
from unlearnable_bench.results import Grid, Record, Records, TableFile, Workspace, read_grid
from unlearnable_bench.results.record import Metrics, write_json

KINDS = ("pearson", "spearman", "kendall")
DIGITS = "digits(per_class=60,test_per_class=15)"
LSP = "lsp(norm=l2,epsilon=2.2)"


def context(clean: ImageSet, poison: ImageSet | None = None, **fields) -> Context:
    """What an analysis is handed, everything poisoned."""
    poison = poison or clean
    chosen = (poison.images != clean.images).flatten(1).any(1)
    usual = {"test": clean, "poison": poison, "purified": poison, "chosen": chosen}
    return Context(**{"job": Job(), "clean": clean, **usual, **fields})


def noised(clean: ImageSet, noise: torch.Tensor) -> ImageSet:
    """The set with noise, in levels, added and clipped."""
    return dataclasses.replace(clean, images=(clean.images.int() + noise).clamp(0, 255).to(torch.uint8))


class FakeVictim:
    """Features are given numbers: whatever is asked, row k of a set has the features `table[first value of image k]`."""

    def __init__(self, features):
        self.features = self.logits = features


# Entries


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_keeps_the_promises_of_its_kind(name):
    """What `bench check` says of ours and of anybody's: documented, frozen, finite figures, the same again, inputs left."""
    found = check_entry(ANALYSES.entry(name))
    assert [one for one in found if not one["ok"]] == [] and len(found) == 5


def test_a_broken_promise_is_named(monkeypatch):
    """An analysis that writes into the poison, or forgets what it needs, does not pass."""
    monkeypatch.setattr(ANALYSES["psnr"], "measure", lambda self, c: {"psnr": float(c.poison.images.fill_(0).sum())})
    assert "it changed a set it was given" in "".join(one["detail"] for one in check_entry(ANALYSES.entry("psnr")))
    entry = dataclasses.replace(ANALYSES.entry("acm"), facts={"needs": ("clean", "fun")})
    assert "expected some of clean" in "".join(one["detail"] for one in check_entry(entry))


@given(level=st.integers(-9, 9).filter(bool), share=st.sampled_from([0.25, 0.5, 1.0]))
def test_amplitudes_of_a_constant_perturbation_are_known(level, share):
    """By hand: so many values of one size; images that are not poisoned do not count."""
    clean = dataclasses.replace(tiny(8), images=torch.full((8, 3, 4, 4), 128, dtype=torch.uint8))
    noise = torch.zeros(8, 3, 4, 4, dtype=torch.int32)
    noise[: int(8 * share), :, 0] = level  # a row of four pixels
    size = abs(level) / 255
    found = ANALYSES["amplitude"]().measure(context(clean, noised(clean, noise)))
    expected = {"l0_norm": 4, "l1_norm": 12 * size, "l2_norm": math.sqrt(12) * size, "linf_norm": size, "linf_largest": size}
    expected |= {"mse": size**2 / 4, "mse_1e-4": 1e4 * size**2 / 4, "psnr": -10 * math.log10(size**2 / 4)}
    assert found == pytest.approx(expected, abs=1e-6)


def test_estimates_are_compared_with_the_true_perturbations():
    """Table 10 of D-VAE: the norm is the estimate's own, the mean square that of the difference."""
    clean = dataclasses.replace(tiny(4), images=torch.full((4, 3, 4, 4), 100, dtype=torch.uint8))
    poison = noised(clean, torch.full((4, 3, 4, 4), 5))
    kept = {"p_hat": np.full((4, 3, 4, 4), 3 / 255, np.float32)}
    found = ANALYSES["amplitude"](of="estimate").measure(context(clean, poison, purify_kept=kept.get))
    assert found["linf_norm"] == pytest.approx(3 / 255, rel=1e-5) and found["mse"] == pytest.approx((2 / 255) ** 2, rel=1e-4)
    with pytest.raises(NotApplicable, match=r"kept the perturbations that it found \(p_hat\); d-vae does"):
        ANALYSES["amplitude"](of="estimate").measure(context(clean, poison))
    with pytest.raises(NotApplicable, match="no image is poisoned"):
        ANALYSES["amplitude"]().measure(context(clean))


def test_psnr_is_that_of_a_loop_over_images():
    """The pooled figure, and the mean over the images that changed; nothing is given for an untouched set."""
    clean = tiny(6)
    noise = torch.randint(-20, 21, clean.images.shape, generator=torch.Generator().manual_seed(1))
    noise[0] = 0
    purified = noised(clean, noise)
    found = ANALYSES["psnr"]().measure(context(clean, purified=purified))
    errors = [((a.double() - b.double()) / 255).square().mean() for a, b in zip(clean.images, purified.images, strict=True)]
    pooled = -10 * math.log10(sum(errors) / 6)
    each = sum(-10 * math.log10(error) for error in errors[1:]) / 5
    assert found["psnr"] == pytest.approx(pooled) and found["psnr_image"] == pytest.approx(each)
    assert found["psnr_input"] == found["psnr"] and "psnr_poison" not in found  # what went in was clean
    other = ANALYSES["psnr"]().measure(context(clean, poison=purified, purified=clean))
    assert other["psnr_input"] == other["psnr_poison"] == found["psnr"] and "psnr" not in other
    assert ANALYSES["psnr"]().measure(context(clean)) == {"mse": 0.0}


@given(st.lists(st.booleans(), min_size=2, max_size=12).filter(any), st.integers(0, 2**12))
def test_detection_counts_what_a_loop_counts(poisoned, seed):
    """Recall, precision, accuracy and F1 from their definitions, kept flags or changed images alike."""
    chosen = torch.tensor(poisoned)
    flagged = torch.randint(0, 2, (len(poisoned),), generator=torch.Generator().manual_seed(seed)).bool()
    pairs = list(zip(poisoned, flagged.tolist(), strict=True))
    hits = pairs.count((True, True))
    recall = hits / sum(poisoned)
    precision = hits / max(1, int(flagged.sum()))
    clean = tiny(len(poisoned), shape=(3, 2, 2))
    purified = dataclasses.replace(clean, images=torch.where(flagged[:, None, None, None], 255 - clean.images, clean.images))
    expected = {
        "detection_acc": sum(a == b for a, b in pairs) / len(pairs),
        "detection_recall": recall,
        "detection_precision": precision,
        "detection_f1": 2 * recall * precision / (recall + precision) if hits else 0.0,
        "flagged_share": float(flagged.float().mean()),
    }
    for more in ({"purify_kept": {"flagged": flagged.numpy()}.get}, {"purified": purified}):
        found = ANALYSES["detection"]().measure(context(clean, chosen=chosen, **more))
        assert found == pytest.approx(expected, abs=1e-6)


def test_detection_says_why_there_is_nothing_to_detect():
    """A clean set, or a defense that does not purify, is no failure."""
    clean = tiny(4)
    with pytest.raises(NotApplicable, match="no image is poisoned"):
        ANALYSES["detection"]().measure(context(clean))
    poison = noised(clean, torch.full(clean.images.shape, 3))
    with pytest.raises(NotApplicable, match="no defense of the cell purifies"):
        ANALYSES["detection"]().measure(context(clean, poison))


# Separability


def test_class_wise_noise_is_separable_and_independent_noise_is_not():
    """The controls of the card; the negative one has more images than a linear model can learn by heart (24 values)."""
    clean = dataclasses.replace(tiny(600, shape=(1, 4, 6)), images=torch.full((600, 1, 4, 6), 128, dtype=torch.uint8))
    dice = torch.Generator().manual_seed(0)
    patterns = torch.randint(-8, 9, (4, 1, 4, 6), generator=dice)
    free = torch.randint(-8, 9, clean.images.shape, generator=dice)
    torch.manual_seed(0)
    wise = ANALYSES["separability"]().measure(context(clean, noised(clean, patterns[clean.labels])))
    other = ANALYSES["separability"](steps=20).measure(context(clean, noised(clean, free)))
    assert wise["train_acc"] == 1.0 and wise["steps"] < 20
    assert 0.25 < other["train_acc"] < 0.55
    with pytest.raises(NotApplicable, match="the same everywhere, or there are none"):
        ANALYSES["separability"]().measure(context(clean))


def test_separability_reaches_the_loss_of_plain_gradient_descent():
    """L-BFGS on rescaled rows finds the minimum that slow descent on the same convex loss approaches."""
    clean = dataclasses.replace(tiny(200, shape=(1, 3, 3)), images=torch.full((200, 1, 3, 3), 100, dtype=torch.uint8))
    poison = noised(clean, torch.randint(-9, 10, clean.images.shape, generator=torch.Generator().manual_seed(3)))
    torch.manual_seed(0)
    found = ANALYSES["separability"](steps=40).measure(context(clean, poison))
    x = (poison.images.double() - clean.images.double()).flatten(1) / 255
    x = (x - x.min()) / (x.max() - x.min())
    weight, bias = (
        torch.zeros(4, 9, dtype=torch.double, requires_grad=True),
        torch.zeros(4, dtype=torch.double, requires_grad=True),
    )
    optimizer = torch.optim.SGD([weight, bias], 2.0)
    for _ in range(1500):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, clean.labels)
        loss.backward()
        optimizer.step()
    right = float(((x @ weight.T + bias).argmax(1) == clean.labels).double().mean())
    assert found["train_loss"] == pytest.approx(float(loss.detach()), abs=1e-4)
    assert found["train_acc"] == pytest.approx(right, abs=0.011)  # an image at the border may fall either way


def test_a_hidden_layer_separates_what_a_line_cannot():
    """Exclusive or, the reason for the field `hidden`."""
    signs = torch.tensor([[1, 1], [-1, -1], [1, -1], [-1, 1]]).repeat(8, 1)
    clean = ImageSet(torch.full((32, 1, 1, 2), 100, dtype=torch.uint8), torch.tensor([0, 0, 1, 1]).repeat(8), 2)
    given = context(clean, noised(clean, 9 * signs[:, None, None]))
    torch.manual_seed(1)
    assert ANALYSES["separability"](steps=20).measure(given)["train_acc"] <= 0.75
    assert ANALYSES["separability"](steps=20, hidden=12).measure(given)["train_acc"] == 1.0


# Analyses that look at a victim


def test_reweighting_is_a_logistic_regression_on_standardised_features():
    """Against scikit-learn called by hand; features whose scales differ by thousands must not matter."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    dice = torch.Generator().manual_seed(0)
    clean, test = tiny(120), tiny(80, seed=1)
    tables = {len(s): torch.randn(len(s), 6, generator=dice) + 1.5 * torch.eye(6)[s.labels] for s in (clean, test)}
    scale = torch.tensor([1e-3, 1.0, 1e3, 1.0, 1.0, 1.0])
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))

    def features(data):
        rows = order if len(data) == 120 else torch.arange(len(data))
        return tables[len(data)][rows] * scale + 7.0

    given = context(clean, test=test, victim=FakeVictim(features))
    analysis = ANALYSES["dfr"]()
    for _ in range(2):
        analysis.after_epoch(given)
    x, z = tables[120].double().numpy(), tables[80].double().numpy()
    x, z = ((part - x.mean(0)) / x.std(0) for part in (x, z))
    model = LogisticRegression().fit(x, clean.labels)
    found = analysis.measure(given)
    assert found["dfr_max_test_acc"] == pytest.approx(model.score(z, test.labels), abs=1e-9)
    assert found["dfr_min_test_loss"] == pytest.approx(log_loss(test.labels, model.predict_proba(z)), abs=1e-4)
    assert found["best_epoch"] == 1 and len(given.curves["dfr_test_acc"]) == 2


def test_the_published_estimator_trains_the_victims_own_head_and_stops_where_it_diverges():
    """15 epochs of L-BFGS without a penalty, from the head as it is, which stays; an infinite feature makes it diverge."""
    clean, test = tiny(200), tiny(80, seed=1)
    dice = torch.Generator().manual_seed(0)
    tables = {len(s): torch.randn(len(s), 6, generator=dice) + 3 * torch.eye(6)[s.labels] for s in (clean, test)}
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    head = torch.nn.Linear(6, 4)
    before = head.weight.detach().clone()

    def judged():
        victim = FakeVictim(lambda data: tables[200][order] if len(data) == 200 else tables[80])
        victim.layers = [head]
        return ANALYSES["dfr-random"](estimator="lbfgs").measure(context(clean, test=test, victim=victim))

    found = judged()
    assert found["dfr_max_test_acc"] > 0.8 and torch.equal(head.weight, before)
    rows = tables[200][order], clean.labels[order]
    plain = reweighted(rows, (tables[80], test.labels), 10.0)
    assert found["dfr_max_test_acc"] == pytest.approx(plain[0], abs=0.05)
    tables[200][7] = math.inf
    with torch.no_grad():
        own = float(torch.nn.functional.cross_entropy(head(tables[80]).double(), test.labels))
    assert judged()["dfr_min_test_loss"] == pytest.approx(own), "the head before it diverged"


def test_statistics_of_the_clean_images_serve_as_long_as_the_head_is_fitted():
    """In training mode a network sees the images that it is shown, not those that it was trained on."""
    data, other = tiny(64), tiny(64, seed=5)
    with seeded(0, Numerics()):
        training = Training(ARCHITECTURES["small-cnn"](4), data, Protocol(epochs=1, batch=16), (), "cpu", Numerics())
        training.run(None, None, None)
    victim, model = Looked(training), training.model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    with torch.no_grad():
        in_training_mode = model.features(other.pixels(slice(None)))
    model.load_state_dict(before)
    with victim.adapted(other):
        found = victim.features(other)
    assert torch.allclose(found, in_training_mode, atol=2e-2)
    assert not torch.allclose(victim.features(other), in_training_mode, atol=5e-2)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.momentum == 0.1 for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))


def test_the_best_epoch_of_reweighting_is_the_first_of_the_best():
    """The maximum over checkpoints, and the least loss, which need not be the same epoch's."""
    given = context(tiny(4))
    given.curves = {"dfr_test_acc": [0.2, 0.5, 0.5, 0.4], "dfr_test_loss": [1.2, 1.1, 0.9, 1.0]}
    expected = {"dfr_max_test_acc": 0.5, "dfr_min_test_loss": 0.9, "dfr_last_test_acc": 0.4, "best_epoch": 2.0}
    assert ANALYSES["dfr"]().measure(given) == expected


def test_a_victim_is_judged_on_the_poison_at_the_left_of_a_tool():
    """Table 1 of D-VAE: the set P is the poison from which the rebuilt one was made."""
    clean = tiny(8)
    other = noised(clean, torch.full(clean.images.shape, 9))
    right = {id(clean): 2, id(other): 6}

    def logits(data):
        labels = data.labels.clone()
        labels[right[id(data)] :] = (labels[right[id(data)] :] + 1) % 4
        return torch.nn.functional.one_hot(labels, 4).float()

    given = context(clean, victim=FakeVictim(logits))
    given.source = other
    assert ANALYSES["reevaluation"]().measure(given) == {"test_acc(clean-train)": 0.25, "test_acc(poison)": 0.75}


def test_who_learned_the_noise_of_classes_follows_it_to_other_images():
    """Right with the noise of the class, wrong with that of the next, whatever the images show."""
    clean = tiny(8)
    level = 10 * (1 + clean.labels.view(-1, 1, 1, 1))
    clean = dataclasses.replace(clean, images=torch.full_like(clean.images, 100))
    poison = dataclasses.replace(clean, images=(clean.images + level).to(torch.uint8))

    def answers(shift):
        def logits(data):
            level = (data.images[:, 0, 0, 0].long() - 100) // 10
            return torch.nn.functional.one_hot((level - 1 - shift) % 4, 4).float()

        given = context(clean, victim=FakeVictim(logits))
        given.poison, given.test = poison, clean
        return ANALYSES["poisoned-test"]().measure(given)

    assert answers(0) == {"test_acc(own-noise)": 1.0, "test_acc(next-noise)": 0.0}
    assert answers(1) == {"test_acc(own-noise)": 0.0, "test_acc(next-noise)": 1.0}  # class k has the noise of k + 1


@pytest.mark.parametrize("detector", ["two-layer", "linear"])
def test_a_set_whose_noise_tells_its_classes_is_taken_for_poisoned(detector):
    """Random images say nothing of a held-out image; with noise of their class the network is right on those too."""
    clean = tiny(160, shape=(3, 8, 8))
    noise = torch.randint(-60, 61, (4, 3, 1, 1), generator=torch.Generator().manual_seed(3)).expand(4, 3, 8, 8)
    sets = clean, noised(clean, noise[clean.labels])
    analysis = ANALYSES["set-detection"](detector=detector, epochs=40, batch=16, width=64, lr=0.02)
    unlike, alike = (analysis.measure(context(clean, images)) for images in sets)
    assert unlike["holdout_acc"] < 0.6 and unlike["taken_for_poisoned"] == 0
    assert alike["holdout_acc"] > 0.7 and alike["taken_for_poisoned"] == 1


def test_the_bias_is_added_to_what_is_trained_on_alone(monkeypatch):
    """Held-out images are judged as they are, a fifth of the set; the rest is seen darker by half of the range."""
    seen = []

    class Answers(torch.nn.Linear):
        def forward(self, x):
            seen.append((self.training, len(x), float(x.min()), float(x.max())))
            return super().forward(x.flatten(1))

    monkeypatch.setattr("unlearnable_bench.registry._surrogates.surrogate", lambda run, name: Answers(192, 4))
    analysis = ANALYSES["set-detection"](detector="bias", epochs=1, batch=16)
    found = analysis.measure(context(tiny(40, shape=(3, 8, 8))))
    assert set(found) == {"holdout_acc", "fit_acc", "taken_for_poisoned"}
    trained = [one for one in seen if one[0]]
    assert [size for _, size, *_ in trained] == [16, 16] and all(
        -0.5 <= low < -0.4 and 0.4 < high <= 0.5 for *_, low, high in trained
    )
    (held_out,) = [one for one in seen if one[1] == 8]
    assert not held_out[0] and held_out[2] >= 0 and held_out[3] > 0.9


def test_the_distance_is_the_quotient_of_layers_above_the_clean_networks_threshold(monkeypatch):
    """By hand: clusters around 1 and 9 in both epochs, the middle is 5; two layers of the clean network are above it."""
    rows = {"clean": [[1.0, 1, 9, 9], [9, 1, 1, 9]], "poison": [[1.0, 1, 1, 6], [4, 1, 1, 7]]}
    tables = iter(torch.tensor(values, dtype=torch.float64) for values in rows.values())
    analysis = ANALYSES["unlearnable-distance"]
    monkeypatch.setattr(analysis, "_learnabilities", lambda *_: next(tables))
    found = analysis().measure(context(tiny(8)))
    expected = {"unlearnable_distance": 0.5, "learnable_layers": 1.0, "learnable_layers(clean)": 2.0, "threshold": 5.0}
    assert found == expected


def test_learnability_leaves_the_network_and_grows_with_the_radius():
    """The weights that are moved come back; a layer may move further in a larger ball."""
    train = tiny(16, shape=(3, 16, 16))
    torch.manual_seed(0)
    net = ARCHITECTURES["small-cnn"](4).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    batches = [(train.pixels(where), train.labels[where]) for where in train.batches(8)]
    near, far = (
        ANALYSES["unlearnable-distance"](radius=radius, iterations=3).learnability(net, net.head.weight, batches)
        for radius in (1e-5, 0.05)
    )
    assert 0 < near < far
    assert net.training and all(value.requires_grad for value in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_certificate_is_an_order_statistic_and_says_nothing_of_too_few_draws():
    """Of 100 draws the largest bounds nine tenths nearby; of 20 none does (the vector has the authors' bounds)."""
    analysis = ANALYSES["certified-learnability"](distance=0.1)
    assert analysis.bound([0.001 * n for n in range(100)]) == pytest.approx(0.099)
    assert analysis.bound([0.1] * 20) == 1.0
    assert ANALYSES["certified-learnability"](distance=0.0).bound([0.001 * n for n in range(1000)]) < 0.93


def test_time_is_split_where_the_purifier_says_how_long_it_trained():
    """Table 16 of D-VAE: fitting, inference, training; the parts are the whole."""
    given = context(tiny(4), purify_log={"seconds": 90.0, "fit_seconds": 60.0}, seconds=30.0)
    found = ANALYSES["time"]().measure(given)
    parts = [found[f"minutes({stage})"] for stage in ("fit", "inference", "train")]
    assert parts == [1.0, 0.5, 0.5] and found["minutes"] == sum(parts) and found["hours"] == pytest.approx(2 / 60)
    assert "minutes(fit)" not in ANALYSES["time"]().measure(context(tiny(4), purify_log={"seconds": 1.0}))
    assert ANALYSES["craft-time"]().measure(context(tiny(4), craft_log={"seconds": 7200.0}))["hours"] == 2.0


@pytest.mark.parametrize(
    "item",
    ["separability(steps=0)", "separability(hidden=-1)", "dfr(images=0)", "acm(per_class=-1)", "channel-means(images=0)"],
)
def test_a_wrong_parameter_is_refused_with_what_was_expected(item):
    """Before any work, in one sentence that names the analysis."""
    with pytest.raises(EntryError, match=r"^analysis [a-z-]+: .*(expected|above 0|negative)"):
        ANALYSES.resolve(item)[0].build()


# Robustness terms


def rem(**fields):
    return ATTACKS["rem"](**{**ATTACKS["rem"].small, "batch": 16, "noise_steps": 4, "step_size": 2 / 255, **fields})


def test_correlations_are_those_of_the_points_that_are_kept():
    """Figures against ranks counted by hand; the noise of the last point is the attack's own at that step."""
    clean = tiny(32, shape=(3, 16, 16))
    accuracies = iter([0.9, 0.5, 0.7, 0.3])
    seen = []

    def train(images):
        seen.append(images.images.clone())
        return next(accuracies), 0.0

    given = context(clean, attack=(rem(train_steps=4),), train=train)
    torch.manual_seed(0)
    found = ANALYSES["correlation"](every=1, batches=1).measure(given)
    assert given.curves["protection"] == pytest.approx([0.1, 0.5, 0.3, 0.7]) and given.curves["step"] == [1, 2, 3, 4]
    for term in ("theta", "noise"):
        x, y = np.array(given.curves[term]), np.array(given.curves["protection"])
        pearson = float(((x - x.mean()) * (y - y.mean())).mean() / (x.std() * y.std()))
        signs = [np.sign(x[a] - x[b]) * np.sign(y[a] - y[b]) for a in range(4) for b in range(a)]
        assert found[f"correlation(pearson,{term})"] == pytest.approx(pearson)
        assert found[f"correlation(kendall,{term})"] == pytest.approx(sum(signs) / 6)
    spent = [(images.int() - clean.images.int()).abs().max() for images in seen]
    assert max(spent) <= 8 and (seen[0] != seen[3]).any()


def test_noise_that_is_fitted_longer_has_a_lower_loss():
    """Card E03: without an adversary the loss of refitted noise falls with its steps."""
    from unlearnable_bench.registry._crafting import Crafting
    from unlearnable_bench.registry._surrogates import surrogate
    from unlearnable_bench.registry.analyses.correlation import refitted_noise

    clean = tiny(32, shape=(3, 16, 16))
    torch.manual_seed(0)
    weights = surrogate(Crafting(clean, Job()), "small-cnn", sees="centred").state_dict()
    losses = []
    for steps in (1, 4, 12):
        plan = rem(adversary_epsilon=0.0, noise_steps=steps).alternation()
        losses.append(refitted_noise(context(clean), "small-cnn", weights, plan, batches=3))
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[-1]


def test_a_poison_that_is_not_made_batch_by_batch_has_no_robustness_terms():
    """Said in a sentence, as not applicable."""
    for attack in (ATTACKS["lsp"](), ATTACKS["rem"](variant="apb")):
        with pytest.raises(NotApplicable, match="not made batch by batch"):
            ANALYSES["correlation"]().measure(context(tiny(4), attack=(attack,)))


# Cells


def a_grid(**axes) -> Grid:
    usual = {"title": "t", "protocol": "quick(epochs=2,threads=1)", "dataset": DIGITS, "architecture": "small-cnn"}
    return Grid.of(TableFile(**usual | {"defense": "none", "attack": LSP, "seed": 0} | axes))


def tasks(**axes) -> list[Task]:
    cells, roots = grid.expand(a_grid(**axes))
    return [Task.of(cell, Finder(roots)) for cell in cells]


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict[str, Record]:
    """Records of a handful of measures of one poison at ratio 1 and at 0.5, run inline; by what was measured and the ratio."""
    space = Workspace(tmp_path_factory.mktemp("analyses"))
    measures = ["accuracy", "dfr(images=200)", "reevaluation", "separability(steps=5)", "acm(per_class=10)", "amplitude"]
    for ratio, several in ((1.0, measures), (0.5, ["amplitude", "separability(steps=5)"])):
        table = a_grid(dataset="digits", measure=several, ratio=ratio)
        driver.run_table("t", table, space, RunOptions("inline", device="cpu"), quiet=True)
    found = {f"{record.cell.measured}/{record.cell.ratio:g}": record for record in Records(space.records)}
    assert len(found) == len(measures) + 2
    return found


def test_an_analysis_looks_at_the_victim_whose_accuracy_stands_in_the_tables(measured):
    """Same seed, same numbers, whatever watches: the curve of every watched victim is that of the accuracy's own cell."""
    for name in ("dfr(images=200)", "reevaluation", "acm(per_class=10)"):
        assert measured[f"{name}/1"].metrics.curve == measured["accuracy/1"].metrics.curve
    assert measured["amplitude/1"].metrics.test_acc is None
    assert len(measured["dfr(images=200)/1"].metrics.curves["dfr_test_acc"]) == 2


def test_figures_have_their_effect_at_toy_scale(measured):
    """A shortcut: victims know the poison, not the clean images; perturbations separate; reweighting gets much back."""
    figures = {key: record.metrics.figures for key, record in measured.items()}
    assert figures["reevaluation/1"]["test_acc(poison)"] > figures["reevaluation/1"]["test_acc(clean-train)"] + 0.2
    assert figures["separability(steps=5)/1"]["train_acc"] > 0.99 > figures["separability(steps=5)/0.5"]["train_acc"]
    assert figures["dfr(images=200)/1"]["dfr_max_test_acc"] > measured["accuracy/1"].metrics.test_acc + 0.1
    assert figures["amplitude/1"]["l2_norm"] == pytest.approx(2.2, abs=0.02)
    assert figures["amplitude/0.5"]["l2_norm"] == pytest.approx(2.2, abs=0.02)  # over the poisoned half alone


def test_records_of_accuracies_have_no_word_of_analyses(measured, tmp_path):
    """They are the bytes that they were before there were analyses; those of analyses are read back as they were written."""
    plain = measured["accuracy/1"].model_dump(mode="json")
    assert set(plain["metrics"]) == {"test_acc", "test_acc_best", "curve"} and plain["cell"]["measure"] == "accuracy"
    for record in measured.values():
        assert Record.model_validate_json(record.model_dump_json()) == record
    versions = measured["dfr(images=200)/1"].versions
    assert versions["analysis:dfr"] == "1" and "architecture:na" not in measured["amplitude/1"].versions


def test_published_records_are_written_as_they_were_read():
    """Nothing that was published changes by reading and writing it; a younger field that is empty may go."""
    folder = Path(__file__).parent.parent / "results" / "records"
    for path in sorted(folder.glob("*.json")):
        before = json.loads(path.read_bytes())
        for part, field in ((before["poison"] or {}, "notes"), ((before["metrics"] or {}).get("curve", {}), "shifts")):
            if not part.get(field):
                part.pop(field, None)
        record = Record.model_validate_json(path.read_bytes())
        assert json.dumps(record.model_dump(mode="json"), sort_keys=True) == json.dumps(before, sort_keys=True)
        assert record.cell.id == record.id == path.stem


@pytest.mark.parametrize("metrics", [{}, {"test_acc": 0.5}, {"figures": {"a": math.nan}}, {"test_acc": 2, "test_acc_best": 2}])
def test_metrics_are_an_accuracy_or_figures(metrics):
    """A done record without a number, or with one that is none, is no record."""
    with pytest.raises(ValueError, match=r"no test_acc and no figures|without test_acc_best|finite|less than or equal"):
        Metrics(**metrics)


def test_the_stages_of_an_analysis_are_those_it_needs():
    """No victim is trained, no set purified for an amplitude; and networks make no other cell of it."""
    measures = ["amplitude", "separability", "dfr", "dfr-random", "accuracy"]
    found = {task.cell.measured: task for task in tasks(measure=measures, defense="grayscale")}
    assert [task.trains for task in found.values()] == [False, False, True, False, True]
    assert [task.purified is not None for task in found.values()] == [True, True, True, False, True]
    assert [task.needs_poison for task in found.values()] == [True, True, True, False, True]
    several = tasks(measure=["amplitude", "dfr"], architecture=["small-cnn", "resnet18"])
    assert sorted(task.cell.architecture.name for task in several) == ["na", "resnet18", "small-cnn"]
    planned = plan_cells("t", [task.cell for task in found.values()], {}, Records(Path("/nonexistent")))
    assert planned.stages() == {"craft": 1, "purify": 1, "train": 2}


def test_an_analysis_is_in_the_id_of_its_cell_with_all_its_fields():
    """Two settings of one analysis are two cells; the id of an accuracy's cell is as ever."""
    cells = {task.cell.measured: task.cell for task in tasks(measure=["accuracy", "separability", "separability(steps=9)"])}
    assert len({cell.id for cell in cells.values()}) == 3
    assert cells["separability"].measure.fields == {"of": "perturbation", "steps": 500, "lr": 0.5, "hidden": 0}
    assert cells["separability(steps=9)"].label.endswith("/na/separability(steps=9)/s0")
    assert cells["accuracy"].resolved()["measure"] == "accuracy"
    renamed = cells["separability"].measure.model_copy(update={"text": "other"})
    assert cells["separability"].model_copy(update={"measure": renamed}).id == cells["separability"].id


def test_no_victim_no_analysis_under_a_protocol_without_labels():
    """Said while planning; perturbations can be measured there all the same."""
    found = tasks(measure=["dfr", "amplitude"], protocol="simclr")
    planned = plan_cells("t", [task.cell for task in found], {}, Records(Path("/nonexistent")))
    reasons = {task.analysis.name: planned.reasons[task.cell.id] for task in found}
    assert reasons == {"dfr": "dfr looks at a victim; simclr trains one without labels", "amplitude": ""}


def test_an_unknown_analysis_is_refused_with_the_nearest_name():
    """In a grid and on the command line."""
    with pytest.raises(EntryError, match="unknown analysis 'separabilty'; did you mean 'separability'"):
        tasks(measure="separabilty")


def test_a_killed_measurement_goes_on_to_the_same_figures(tmp_path):
    """What an analysis collected over the epochs is in the checkpoint, with the weights."""
    from unlearnable_bench.benchmark import cell
    from unlearnable_bench.benchmark.train import Checkpoint

    (task,) = tasks(measure="dfr(images=100)", protocol="quick(epochs=3,threads=1)")

    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.epoch == 2:
            raise KilledError

    whole = cell.run_cell(task, cell.open_store(tmp_path / "store", "cpu", None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "__init__", lambda self, path: self.__dict__.update(path=path, seconds=0.0))
        with pytest.raises(KilledError):
            cell.run_cell(task, cell.open_store(tmp_path / "store", "cpu", None), kill, tmp_path)
        assert list(tmp_path.glob("*.pt"))
        again = cell.run_cell(task, cell.open_store(tmp_path / "store", "cpu", None), None, tmp_path)
    assert again.metrics == whole.metrics and len(again.metrics.curves["dfr_test_acc"]) == 3
    assert not list(tmp_path.glob("*.pt"))


# Tables


def test_a_sheet_takes_the_figure_that_its_table_names(tmp_path):
    """Fractions become percent, decibels stay; a figure that the record lacks is a blank, not a wrong number."""
    text = """
    title = "t"
    protocol = "quick"
    dataset = "digits"
    attack = "ops"
    defense = "none"
    architecture = "logreg"
    seed = [0, 1]
    rows = "attack"
    columns = "measure"
    measure = [
      {label = "Separable", measure = "separability", metric = "train_acc"},
      {label = "Norm", measure = "amplitude", metric = "l2_norm"},
      {label = "PSNR", measure = "amplitude", metric = "psnr"},
      {label = "Missing", measure = "amplitude", metric = "l7_norm"},
    ]
    """
    (tmp_path / "t.toml").write_text(text)
    made = read_grid(str(tmp_path / "t.toml"))
    cells = grid.expand(made)[0]
    assert len(cells) == 4, "three columns are one cell"
    records = Records(tmp_path)
    for number, one in enumerate(cells):
        figures = {"train_acc": 0.5 + one.seed / 10} if one.measure.name == "separability" else {"l2_norm": 1.5, "psnr": 30.0}
        record = Record(id=one.id, cell=one, metrics=Metrics(figures=figures), versions={})
        write_json(records.path(one.id), record.model_dump(mode="json"))
        assert number < 4
    (sheet,) = printed_tables(made, records, resolve, lacking)
    means = {spot.request.column[0]: spot.mean for spot in sheet.scores.values()}
    assert means == pytest.approx({"Separable": 55.0, "Norm": 1.5, "PSNR": 30.0, "Missing": None})
    assert plan_cells("t", cells, {}, records).counts()["done"] == 4


def test_every_analysis_that_a_papers_table_asks_for_is_there():
    """And the figure that a table names is one that the analysis gives, by its docstring or the metric's own name."""
    asked = set()
    for place in read_grid("full").requests:
        measure = str(place.fields["measure"])
        if measure != "accuracy" and place.runs:
            asked.add((measure.partition("(")[0], place.metric))
    given = {
        "amplitude": {"l2_norm", "mse_1e-4", "psnr"},
        "dfr": {"dfr_max_test_acc", "dfr_min_test_loss"},
        "dfr-random": {"dfr_max_test_acc", "dfr_min_test_loss"},
        "separability": {"train_acc"},
        "psnr": {"psnr"},
        "detection": {f"detection_{name}" for name in ("acc", "recall", "precision", "f1")},
        "reevaluation": {"test_acc(clean-train)", "test_acc(poison)"},
        "time": {"minutes", "minutes(fit)", "minutes(inference)", "minutes(train)"},
        "craft-time": {"hours"},
        "correlation": {f"correlation({kind},{term})" for kind in KINDS for term in ("theta", "noise")},
    }
    assert {name: metrics for name, metrics in given.items() if name in ANALYSES} == given
    for name, metric in asked:
        assert metric in given[name], (name, metric)


def test_planning_an_analysis_imports_no_torch():
    """`list`, `show` and a dry run on a login node."""
    code = """
        import sys
        from unlearnable_bench.benchmark import grid, listing
        from unlearnable_bench.benchmark.plan import plan_cells
        from unlearnable_bench.results import Grid, Records, TableFile
        from pathlib import Path
        assert {"dfr", "separability"} <= {row["name"] for row in listing.listing("analyses", "*")}
        assert "acts by after_epoch, measure" in listing.entry_details(listing.details(listing.find_entries("analysis:dfr")[0]))
        axes = dict(protocol="quick", dataset="digits", architecture="small-cnn", defense="none", attack="ops", seed=0)
        table = Grid.of(TableFile(title="t", measure=["dfr", "amplitude"], **axes))
        planned = plan_cells("t", *grid.expand(table), Records(Path("/nonexistent")))
        assert len(planned.to_run) == 2 and "torch" not in sys.modules
    """
    in_process(code)


def test_an_analysis_of_another_package_is_found_and_measured(tmp_path):
    """The same door as for attacks: an entry point, no line of ours."""
    from conftest import plug_in

    source = '''
        """Counts images."""
        from dataclasses import dataclass
        from unlearnable_bench.registry import Analysis

        @dataclass(frozen=True)
        class Count(Analysis):
            """How many images there are."""
            needs = ("clean",)
            def measure(self, context):
                return {"count": float(len(context.clean))}
        '''
    plug_in(tmp_path / "site", "counting", source, "[bench.analyses]\ncount = counting:Count\n")
    code = """
        import sys
        from pathlib import Path
        from unlearnable_bench.benchmark import driver
        from unlearnable_bench.benchmark.driver import RunOptions
        from unlearnable_bench.benchmark.grid import adhoc
        from unlearnable_bench.results import Records, Workspace
        space = Workspace(Path(sys.argv[1]))
        driver.run_table("t", adhoc({"measure": ["count"]}), space, RunOptions("inline", device="cpu"), quiet=True)
        (record,) = Records(space.records)
        assert record.versions["analysis:count"] == "1 of counting 1.0", record.versions
        print(record.metrics.figures["count"])
    """
    assert in_process(code, tmp_path / "space", site=tmp_path / "site").strip() == "1347.0"
