"""Training without labels: losses against slow obvious versions, the queue, views, checkpoints, and a cell end to end."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from unlearnable_bench.benchmark import driver
from unlearnable_bench.benchmark.conformance import tiny
from unlearnable_bench.benchmark.contrastive import Views, pretrain_and_probe
from unlearnable_bench.benchmark.train import Checkpoint
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import ARCHITECTURES, PROTOCOLS, Contrastive
from unlearnable_bench.registry._contrastive import (
    ByolObjective,
    MoCoObjective,
    SimClrObjective,
    SimSiamObjective,
    info_nce,
    nt_xent,
)
from unlearnable_bench.registry._views import contrasted
from unlearnable_bench.results import Records, Workspace

NAMES = [name for name in PROTOCOLS if issubclass(PROTOCOLS[name], Contrastive)]


@given(count=st.integers(2, 6), temperature=st.sampled_from([0.1, 0.5, 1.0]), seed=st.integers(0, 99))
def test_nt_xent_is_the_formula_of_simclr_view_by_view(count, temperature, seed):
    """SimCLR, equation 1: for every view the twin against all other views of the batch."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, count, 5, generator=generator)
    z = [*first, *second]
    total = 0.0
    for i, one in enumerate(z):
        twin = (i + count) % (2 * count)
        others = [math.exp(float(F.cosine_similarity(one, other, dim=0)) / temperature) for k, other in enumerate(z) if k != i]
        total -= math.log(math.exp(float(F.cosine_similarity(one, z[twin], dim=0)) / temperature) / sum(others))
    assert float(nt_xent(first, second, temperature)) == pytest.approx(total / len(z), rel=1e-4)


def test_info_nce_is_the_formula_of_moco_query_by_query():
    """MoCo, equation 1: the own key against the queue."""
    queries, keys, others = torch.randn(3, 5), torch.randn(3, 5), F.normalize(torch.randn(7, 5), dim=1)
    total = 0.0
    for query, key in zip(queries, keys, strict=True):
        own = math.exp(float(F.cosine_similarity(query, key, dim=0)) / 0.2)
        rest = sum(math.exp(float(F.cosine_similarity(query, other, dim=0)) / 0.2) for other in others)
        total -= math.log(own / (own + rest))
    assert float(info_nce(queries, keys, others, 0.2)) == pytest.approx(total / 3, rel=1e-4)


def encoder():
    return ARCHITECTURES["small-cnn"](4)


def test_mocos_queue_holds_the_last_keys_and_its_copy_follows_slowly():
    """A queue that skips or repeats keys, or a copy that learns by gradient, is another method."""
    net = MoCoObjective(encoder(), 0.2, queue=12, momentum=0.9, splits=2)
    before = [p.clone() for p in net.slow.parameters()]
    seen = []
    enqueue = net._enqueue
    net._enqueue = lambda keys: (seen.append(keys.clone()), enqueue(keys))
    for _ in range(2):
        net(torch.rand(8, 3, 32, 32), torch.rand(8, 3, 32, 32)).backward()
        with torch.no_grad():
            for parameter in net.encoder.parameters():
                parameter += 1.0
    expected = {tuple(row.tolist()) for row in torch.cat(seen)[-12:]}
    assert {tuple(row.tolist()) for row in net.queue} == expected
    moved = [float((new - old).abs().max()) for new, old in zip(net.slow.parameters(), before, strict=True)]
    assert moved[0] == pytest.approx(0.1, rel=1e-4), "a tenth of the way in the second step, nothing in the first"
    assert all(p.grad is None for p in net.slow.parameters())


def test_statistics_of_moco_move_once_a_step_by_the_mean_of_the_parts():
    """As its code does: eight steps in turn made the probe see statistics of some 1,200 images instead of 10,000."""
    net = MoCoObjective(encoder(), 0.2, queue=16, momentum=0.9, splits=4).train()
    x = torch.rand(12, 3, 32, 32)
    first = net.encoder.layers()[0]
    convolved = first[0](x).detach()
    norm = next(module for module in first.modules() if isinstance(module, torch.nn.BatchNorm2d))
    parts = torch.stack([part.mean((0, 2, 3)) for part in convolved.split(3)])
    spread = torch.stack([part.var((0, 2, 3)) for part in convolved.split(3)])
    net(x, x).backward()
    assert torch.allclose(norm.running_mean, 0.1 * parts.mean(0), atol=1e-6)
    assert torch.allclose(norm.running_var, 0.9 + 0.1 * spread.mean(0), atol=1e-5)


def test_simsiam_stops_the_gradient_of_the_view_that_is_predicted():
    """Without it everything collapses to one point."""
    net = SimSiamObjective(encoder())
    first, second = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
    net(first, second).backward()
    whole = [p.grad.clone() for p in net.project.parameters()]
    net.zero_grad()
    a, b = net.project(net.encoder.features(first)), net.project(net.encoder.features(second))
    flowing = -0.5 * (F.cosine_similarity(net.predict(a), b).mean() + F.cosine_similarity(net.predict(b), a).mean())
    flowing.backward()
    assert any(not torch.allclose(p.grad, g) for p, g in zip(net.project.parameters(), whole, strict=True))


def test_byol_predicts_the_other_view_of_a_slow_copy_that_no_gradient_reaches():
    """Pair by pair; the copy goes a tenth of the way before it looks, and each view is told what the other looks like to it."""
    net = ByolObjective(encoder(), 0.9)
    with torch.no_grad():
        for parameter in net.slow.parameters():
            parameter += 0.01
    ahead = [p.detach() for part in (net.encoder, net.project) for p in part.parameters()]
    expected = [0.9 * old + 0.1 * new for old, new in zip(net.slow.parameters(), ahead, strict=True)]
    first, second = torch.rand(2, 4, 3, 32, 32)
    loss = net(first, second)
    loss.backward()
    assert all(torch.allclose(p, e, atol=1e-6) and p.grad is None for p, e in zip(net.slow.parameters(), expected, strict=True))
    views, (slow, project) = torch.cat([first, second]), net.slow
    said, seen = net.predict(net.project(net.encoder.features(views))), project(slow.features(views))
    total = sum((F.normalize(said[i], dim=0) - F.normalize(seen[(i + 4) % 8], dim=0)).square().sum() for i in range(8))
    assert float(loss.detach()) == pytest.approx(float(total.detach()) / 4, rel=1e-4)


def test_an_objective_sees_every_image_twice_and_falls_when_trained():
    """The thinnest check that pre-training does something."""
    with seeded(0, Numerics()):
        net = SimClrObjective(encoder(), 0.5)
        sgd = torch.optim.Adam(net.parameters(), 1e-3)
        x = tiny().images.float() / 255
        losses = []
        for _ in range(20):
            loss = net(contrasted(x, 0.5), contrasted(x, 0.5))
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.3


def test_views_differ_between_images_and_between_draws_and_carry_gradients():
    """Attacks change images through them; one draw for a batch would be a constant."""
    x = torch.rand(1, 3, 16, 16).expand(64, -1, -1, -1).clone().requires_grad_(True)
    with seeded(0, Numerics()):
        first, second = contrasted(x, 0.08), contrasted(x, 0.08)
    assert first.shape == x.shape and first.min() >= 0 and first.max() <= 1 + 1e-6
    assert len({tuple(image.flatten()[:40].tolist()) for image in first.detach()}) > 60
    assert not torch.equal(first, second)
    colourless = (first - first.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-6
    assert 3 <= int(colourless.sum()) <= 25, "a fifth of 64"
    first.sum().backward()
    assert (x.grad.abs().amax((1, 2, 3)) > 0).all()


def short(name: str) -> Contrastive:
    return PROTOCOLS[name](epochs=3, batch=16, lr=0.01, probe_epochs=4, probe_batch=16)


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_pre_training_ends_the_same(name, tmp_path):
    """The queue, the slow copy and the random state belong to a checkpoint."""
    data = tiny()

    class DiedError(Exception):
        pass

    def go(checkpoint=None, report=None):
        with seeded(0, Numerics()):
            return pretrain_and_probe(encoder(), data, data, data, short(name), report=report, checkpoint=checkpoint)[0]

    def die(now):
        if now.epoch == 2:
            raise DiedError

    calm = go()
    with pytest.raises(DiedError):
        go(Checkpoint(tmp_path / "state.pt", seconds=0), die)
    assert dataclasses.asdict(go(Checkpoint(tmp_path / "state.pt"))) == dataclasses.asdict(calm)
    assert len(calm.objective) == 3 and len(calm.test_acc) == 4


def test_the_work_of_pre_training_is_that_of_the_encoder_twice(monkeypatch):
    """Whether to compile is asked before anything is trained, on GPUs, of every protocol."""
    from unlearnable_bench.benchmark import train as module

    monkeypatch.setattr(module, "can_compile", lambda device: True)
    data, protocol = tiny(), short("moco")
    with seeded(0, Numerics()):
        plain = module.Training(encoder(), data, protocol, (), "cpu", Numerics())
        twice = module.Training(encoder(), data, protocol, (Views(protocol),), "cpu", Numerics())
    assert not twice.numerics.compile
    assert twice.work(encoder()) == 2 * plain.work(encoder())


def test_the_probe_can_be_trained_on_the_clean_images():
    """The paper leaves open which; both are a field."""
    data = tiny()
    clean = dataclasses.replace(data, images=255 - data.images)
    curves = []
    for choice in ("poison", "clean"):
        protocol = dataclasses.replace(short("simclr"), probe_data=choice)
        with seeded(0, Numerics()):
            curves.append(pretrain_and_probe(encoder(), data, clean, clean, protocol)[0])
    assert curves[0].objective == curves[1].objective
    assert curves[0].train_loss != curves[1].train_loss


def test_pre_training_and_probe_learn_digits(tmp_path):
    """More than a random encoder's features tell: the encoder really learns without labels."""
    wishes = {"dataset": ["digits(per_class=40,test_per_class=20)"]}
    item = "simclr(epochs={},batch=64,area=0.5,probe_batch=64,probe_epochs=60,probe_lr=0.03,threads=1)"
    found = {}
    for epochs in (1, 20):
        space = Workspace.find(tmp_path / str(epochs))
        options = driver.RunOptions(executor="inline", device="cpu")
        table = driver.choose_grid(None, wishes | {"protocol": [item.format(epochs)], "defense": ["none", "cutout"]})
        states = driver.run_table(*table, space, options, quiet=True).after.states
        assert sorted(states.values()) == ["done", "not-applicable"]
        records = {record.state: record for record in Records(space.records)}
        assert "acts while classes are trained" in records["not-applicable"].reason
        found[epochs] = records["done"].metrics
        assert len(found[epochs].curve.objective) == epochs
        assert records["done"].recipe["probe_epochs"] == 60
    assert found[20].curve.objective[-1] < found[1].curve.objective[0] - 0.3
    assert found[20].test_acc > found[1].test_acc + 0.05
