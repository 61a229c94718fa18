"""Staged training, card D03."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from unlearnable_bench.benchmark.conformance import tiny
from unlearnable_bench.benchmark.train import Training
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import ARCHITECTURES, DEFENSES, EntryError, Protocol, _staged
from unlearnable_bench.registry._blocks import weights_by_layer

SHORT = Protocol(epochs=4, batch=16, lr=0.05)


def fit(defense, protocol=SHORT, data=None):
    data = data or tiny()
    with seeded(0, Numerics()):
        run = Training(ARCHITECTURES["small-cnn"](data.num_classes), data, protocol, [defense], "cpu", Numerics())
        return run, run.run(data, None, None)


def clustered(monkeypatch, measure=1.0):
    """Let every epoch look clustered, without the time that t-SNE takes."""
    monkeypatch.setattr(_staged, "activation_cluster_measure", lambda points, labels: measure)
    monkeypatch.setattr(_staged, "embedded", lambda features: torch.rand(len(features), 2) * 50)


def slow_measure(points, labels):
    """Equations 2 to 4, term by term."""
    classes = sorted(set(labels))
    total = 0.0
    for i in classes:
        for j in classes:
            if i == j:
                continue
            a = [p for p, label in zip(points, labels, strict=True) if label == i]
            b = [p for p, label in zip(points, labels, strict=True) if label == j]
            weights = 0.0
            for group in (a, b):
                centre = np.mean(group, 0)
                distances = [np.linalg.norm(p - centre) for p in group]
                weights += max(distances) * np.mean(distances)
            total += min(np.linalg.norm(u - v) for u in a for v in b) / weights
    return total / (len(classes) * (len(classes) - 1))


def test_the_measure_is_the_papers_term_by_term():
    """Closest points, not centres; radius times mean distance of both classes."""
    points = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) * 20
    labels = torch.arange(40) % 4
    found = _staged.activation_cluster_measure(points, labels)
    assert found == pytest.approx(slow_measure(points.double().numpy(), labels.tolist()), rel=1e-9)


def test_tight_far_clusters_measure_more_and_the_measure_has_a_unit():
    """Card D03: two tight far clusters above two overlapping ones; coordinates times s, measure by s."""
    points = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 2
    far = points + 50 * labels[:, None]
    measure = _staged.activation_cluster_measure
    assert measure(far, labels) > 100 * measure(points, labels)
    assert measure(7 * far, labels) == pytest.approx(measure(far, labels) / 7)
    assert math.isnan(measure(points, torch.zeros(60))) and not math.nan > 1, "one class: nothing to take back"


def test_layer_factors_are_equation_5():
    """Card D03: beta 1/2, tau 1, l 20: sigmoid(2 i - 20), a half at layer 10; figure 6: beta 1/5, at 4, 8, 12 and 16."""
    found = _staged.factors(20, 1, 2)
    assert found == pytest.approx([1 / (1 + math.exp(20 - 2 * i)) for i in range(1, 21)]) and found[9] == 0.5
    for stage in (1, 2, 3, 4):
        values = _staged.factors(20, stage, 5)
        assert values[4 * stage - 1] == pytest.approx(0.5) and values == sorted(values)


@pytest.mark.parametrize(
    ("name", "layers"),
    [("resnet18", 20), ("resnet18-imagenet", 20), ("resnet50", 53), ("vgg16", 13), ("small-cnn", 3), ("vit-lfu", 30)],
)
def test_layers_are_convolutions_and_linear_maps_in_order(name, layers):
    """Figure 6 has 20 layers, as a ResNet-18 has convolutions; counted in blocks, the first ones went on learning."""
    with torch.device("meta"):
        net = ARCHITECTURES[name](10)
    weights = weights_by_layer(net.layers())
    assert len(weights) == layers
    assert len({id(p) for layer in weights for p in layer}) == sum(map(len, weights)) == len(list(net.parameters()))
    assert any(p is net.head.weight for p in weights[-1]), "the head goes with the last layer"


def test_the_first_blocks_of_a_resnet18_stand_still_in_stage_one():
    """Stem and layer1 get 5e-5 of the learning rate at most, the second block of layer2 a tenth and a half."""
    with torch.device("meta"):
        net = ARCHITECTURES["resnet18"](10)
    parts, rate = net.layers(), _staged.factors(20, 1, 2)
    rates = {id(p): rate[number] for number, layer in enumerate(weights_by_layer(parts)) for p in layer}
    highest = [max(rates[id(p)] for p in part.parameters()) for part in parts]
    assert highest[:5] == pytest.approx([1.5e-8, 8.3e-7, 4.5e-5, 0.018, 0.5], rel=0.02)
    assert highest[5] == pytest.approx(1 / (1 + math.exp(-6)))


@pytest.mark.parametrize(("per_class", "warnings"), [(100, 0), (99, 1)])
def test_staged_training_warns_of_a_measure_of_few_points(per_class, warnings, caplog):
    """With 20 of each class a random network on shuffled labels is beyond the threshold by a factor of five."""
    data = tiny(1000, classes=10, side=8)
    with seeded(0, Numerics()):
        Training(ARCHITECTURES["small-cnn"](10), data, SHORT, [DEFENSES["st"](per_class=per_class)], "cpu", Numerics())
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warnings
    assert all("fewer than 1000" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(("stages", "backs"), [(1, 0), (2, 1), (3, 2)])
def test_an_epoch_beyond_the_threshold_is_taken_back_while_stages_are_left(stages, backs, monkeypatch):
    """Algorithm 1 with a measure that is always too high: weights return, first layers slow down, then it goes on."""
    clustered(monkeypatch)
    states, rates = [], []
    original = Training._one_epoch

    def remember(self):
        states.append({k: v.clone() for k, v in self.model.state_dict().items()})
        rates.append(
            [group["lr"] / self.schedule.lr_lambdas[0](self.step) / self.protocol.lr for group in self.optimizer.param_groups]
        )
        original(self)

    monkeypatch.setattr(Training, "_one_epoch", remember)
    run, curve = fit(DEFENSES["st"](stages=stages, per_class=12))
    same = [all(torch.equal(a[k], b[k]) for k in a) for a, b in itertools.pairwise(states)]
    assert same == [True] * backs + [False] * (3 - backs), "an epoch that was taken back starts where the last one started"
    assert run.hooks[0].stage == backs and len(curve.test_acc) == 4, "it still costs its share of the schedule"
    wanted = _staged.factors(len(run.weights), backs, stages) if backs else [1.0] * len(run.weights)
    assert rates[-1] == pytest.approx(wanted, rel=1e-6)


def test_a_small_embedding_is_not_judged(monkeypatch):
    """Amendment of card D03: the threshold has a unit, below an extent of 20 it means nothing."""
    monkeypatch.setattr(_staged, "activation_cluster_measure", lambda points, labels: 1.0)
    monkeypatch.setattr(_staged, "embedded", lambda features: torch.rand(len(features), 2) * 19)
    assert fit(DEFENSES["st"](per_class=12))[0].hooks[0].stage == 0


def test_all_points_are_embedded_and_the_first_ten_classes_measured(monkeypatch):
    """Amendment of card D03: in the other order the measure exceeds the threshold at once."""
    seen = []
    monkeypatch.setattr(_staged, "embedded", lambda features: seen.append(len(features)) or torch.rand(len(features), 2) * 50)
    monkeypatch.setattr(
        _staged, "activation_cluster_measure", lambda points, labels: seen.append(labels.unique().tolist()) or 0.0
    )
    run, _ = fit(DEFENSES["st"](per_class=3), dataclasses.replace(SHORT, epochs=1), tiny(60, classes=12))
    assert seen == [36, list(range(10))]
    assert run.train.labels[run.hooks[0].rows].bincount().tolist() == [3] * 12


def test_the_watched_images_are_the_papers_number():
    """100 of each of up to ten classes, 50 beyond; never more than there are."""
    for classes, size, each in ((4, 480, 100), (12, 720, 50), (4, 64, 16)):
        with seeded(0, Numerics()):
            run = Training(
                ARCHITECTURES["small-cnn"](classes), tiny(size, classes=classes), SHORT, [DEFENSES["st"]()], "cpu", Numerics()
            )
        assert run.train.labels[run.hooks[0].rows].bincount().tolist() == [each] * classes


def test_staged_training_holds_the_measure_down_where_a_network_falls_into_a_shortcut():
    """Card D03: without stages features cluster by epoch 3 beyond any doubt; with them an epoch later, more loosely."""
    data = tiny(320, side=16)
    patterns = torch.randint(-16, 17, (4, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    images = (data.images.int() + patterns[data.labels]).clamp(0, 255).byte()
    poisoned = dataclasses.replace(data, images=images)
    protocol = dataclasses.replace(SHORT, lr=0.02, epochs=5)
    watched = fit(DEFENSES["st"](stages=1, per_class=50), protocol, poisoned)[0].hooks[0]
    staged = fit(DEFENSES["st"](stages=2, per_class=50), protocol, poisoned)[0].hooks[0]
    assert staged.stage == 1 and watched.stage == 0
    assert max(watched.measured) > 10 * 2.6e-4, "the shortcut shows"
    judged = zip(staged.measured, staged.extents, strict=True)
    back = next(k for k, (measure, extent) in enumerate(judged) if measure > 2.6e-4 and extent >= 20)
    assert staged.measured[back + 1] < watched.measured[back + 1]


def test_full_staged_training_ends_with_all_layers_moving_on_a_schedule_of_its_own(monkeypatch):
    """Step two: no watching, no slow layer, a learning rate and a length of its own; colours changed in both steps."""
    clustered(monkeypatch)
    rates = []
    original = Training._one_epoch
    monkeypatch.setattr(
        Training, "_one_epoch", lambda self: rates.append([g["lr"] for g in self.optimizer.param_groups]) or original(self)
    )
    run, curve = fit(DEFENSES["st-full"](per_class=12, tuning=0.5, tuning_factor=0.2))
    assert len(curve.test_acc) == 6 and len(run.hooks[0].measured) == 4
    assert rates[0] == pytest.approx([0.1] * 3), "twice the protocol's"
    assert rates[3][0] < 0.3 * rates[3][-1], "a slow first layer at the end of step one"
    assert rates[4] == pytest.approx([0.01] * 3), "a fifth of the protocol's, all alike"


def test_stages_need_a_schedule_that_can_slow_layers():
    """The quick protocol's one-cycle cannot: a cosine takes its place."""
    recipe = DEFENSES["st-cg"]().configure(Protocol(schedule="onecycle", lr=0.03))
    assert recipe.schedule == "cosine" and recipe.lr == 0.06
    assert DEFENSES["st"]().configure(Protocol(schedule="cosine-epoch")).schedule == "cosine-epoch"


@pytest.mark.parametrize("name", ["st", "st-cg", "st-full"])
def test_a_value_out_of_range_is_refused_by_name(name):
    """Before any work, with the value that was found."""
    with pytest.raises(EntryError, match=f"defense {name}"):
        DEFENSES[name](stages=0)
