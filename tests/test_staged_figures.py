"""The figures of the paper on staged training: defenses and analyses made for them, their tables, and curves on pages."""

import copy
import dataclasses
import itertools
import re

import pytest
import torch
from conftest import tiny
from torch import nn
from torch.nn import functional as F

from unlearnable_bench.benchmark import grid
from unlearnable_bench.benchmark.measure import Looked
from unlearnable_bench.benchmark.train import Checkpoint, Training, judge_network
from unlearnable_bench.leaderboard.formats import curves
from unlearnable_bench.leaderboard.pages import printed
from unlearnable_bench.leaderboard.pages.sketches import sketches
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import (
    ANALYSES,
    ARCHITECTURES,
    DEFENSES,
    Context,
    EntryError,
    Job,
    NotApplicable,
    Protocol,
    _staged,
    lacking,
    resolve,
)
from unlearnable_bench.registry._blocks import residual_blocks, seen
from unlearnable_bench.registry.architectures._network import GlobalPool, Network, PreActivation
from unlearnable_bench.results import Record, Records, read_grid
from unlearnable_bench.results.record import Curve, Metrics, write_json

SHORT = Protocol(epochs=4, batch=16, lr=0.05)


def residual(classes=4):
    """A small network of four residual blocks: layers 2 to 5 of stem, blocks, head."""
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
    return Network([stem, *(PreActivation(4, 4, 1) for _ in range(4)), GlobalPool()], nn.Linear(4, classes))


def training(defenses=(), net=None, data=None, clean=None, protocol=SHORT):
    return Training(net or residual(), data or tiny(), protocol, list(defenses), "cpu", Numerics(), clean)


def weights(layer):
    return {name: value.clone() for name, value in layer.named_parameters()}


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


# Frozen blocks


@pytest.mark.parametrize(
    ("fields", "held"),
    [
        ({"which": "first"}, {1, 2}),
        ({"which": "first", "blocks": 1, "edge": True}, {0, 1}),
        ({"which": "last"}, {3, 4}),
        ({"which": "last", "edge": True}, {3, 4, 5}),
    ],
)
def test_blocks_of_a_network_trained_on_clean_images_stay_as_they_are(fields, held, monkeypatch):
    """Figure 3: they come from the other network, no step moves them, and all others move."""
    twins = []
    original = Training.twin
    monkeypatch.setattr(Training, "twin", lambda self, data: twins.append(original(self, data)) or twins[-1])
    poison, clean = tiny(seed=1), tiny(seed=2)
    with seeded(0, Numerics()):
        run = training([DEFENSES["frozen-blocks"](**fields)], data=poison, clean=clean)
        before = [weights(layer) for layer in run.layers]
        run.run(poison, None, None)
    (twin,) = twins
    assert sorted(image.sum().item() for image in twin.train.images) == sorted(image.sum().item() for image in clean.images)
    assert twin.curve.train_acc and not twin.defenses and len(twin.curve.train_acc) == 4
    for number, layer in enumerate(run.layers):
        assert same(weights(layer), weights(twin.layers[number])) == (number in held)
        assert not same(weights(layer), before[number])


def test_the_other_network_is_drawn_anew():
    """From the victim's own first weights its blocks would fit the rest of it better than those of a stranger."""
    run = training(protocol=dataclasses.replace(SHORT, epochs=1, lr=0.0, weight_decay=0.0))
    layers = run.twin(tiny()).layers
    convolutions = [(layer.conv1, other.conv1) for layer, other in zip(run.layers[1:5], layers[1:5], strict=True)]
    assert not any(torch.equal(one.weight, other.weight) for one, other in convolutions)


def test_a_network_without_enough_residual_blocks_is_not_applicable():
    """Said in a sentence with both numbers, before any training."""
    with pytest.raises(NotApplicable, match="needs a network of 2 residual blocks or more, this one has 0"):
        training([DEFENSES["frozen-blocks"]()], ARCHITECTURES["small-cnn"](4))
    for name, count in (("resnet18", 8), ("resnet50", 16), ("senet18", 8)):
        assert len(residual_blocks(ARCHITECTURES[name](4).layers())) == count, name


def test_frozen_blocks_want_clean_images_and_say_so():
    """`needs` is what pages show; without such images the training stops with a sentence."""
    assert DEFENSES["frozen-blocks"].needs == ("clean-data",)
    with pytest.raises(EntryError, match="asks for clean images, and this training was not given any"):
        training([DEFENSES["frozen-blocks"]()]).run(tiny(), None, None)
    with pytest.raises(EntryError, match="expected blocks of 1 or more, found 0"):
        DEFENSES["frozen-blocks"](blocks=0)


def test_a_killed_training_goes_on_without_training_the_other_network_again(tmp_path, monkeypatch):
    """The blocks are in the checkpoint; the end is the same."""

    class KilledError(Exception):
        pass

    def kill(now):
        if now.epoch == 2:
            raise KilledError

    def go(report=None, checkpoint=None):
        with seeded(0, Numerics()):
            run = training([DEFENSES["frozen-blocks"]()], clean=tiny(seed=2))
            return run, run.run(tiny(), report, checkpoint)

    whole, curve = go()
    kept = Checkpoint(tmp_path / "c.pt", seconds=0.0)
    with pytest.raises(KilledError):
        go(kill, kept)
    monkeypatch.setattr(Training, "twin", lambda self, data: pytest.fail("trained again"))
    again, other = go(None, kept)
    assert other == curve and same(dict(whole.model.state_dict()), dict(again.model.state_dict()))


# Staged training that is given up


@pytest.mark.parametrize("wait", [0, 1])
def test_all_layers_move_alike_again_some_epochs_after_the_first_that_was_taken_back(wait, monkeypatch):
    """Figure 10: stages, then plain training; nothing is watched any more."""
    monkeypatch.setattr(_staged, "activation_cluster_measure", lambda points, labels: 1.0)
    monkeypatch.setattr(_staged, "embedded", lambda features: torch.rand(len(features), 2) * 50)
    rates, states = [], []
    original = Training._one_epoch

    def remember(self):
        groups, shape = self.optimizer.param_groups, self.schedule.lr_lambdas[0](self.step)
        rates.append([group["lr"] / shape / self.protocol.lr for group in groups])
        states.append({k: v.clone() for k, v in self.model.state_dict().items()})
        original(self)

    monkeypatch.setattr(Training, "_one_epoch", remember)
    with seeded(0, Numerics()):
        run = training([DEFENSES["st-release"](per_class=12, wait=wait)])
        run.run(None, None, None)
    slow = _staged.factors(len(run.weights), 1, 2)
    same_rate = [1.0] * len(run.weights)
    wanted = [same_rate, *([slow] * wait), *([same_rate] * (3 - wait))]
    assert [pytest.approx(values, rel=1e-6) for values in wanted] == rates
    assert [same(a, b) for a, b in itertools.pairwise(states)] == [True, False, False], "one epoch was taken back"
    assert len(run.hooks[0].measured) == 1 + wait and not run.hooks[0].watching


def test_where_nothing_clusters_giving_up_is_staged_training(monkeypatch):
    """The same weights to the last bit; and a value out of range is refused."""
    monkeypatch.setattr(_staged, "embedded", lambda features: torch.zeros(len(features), 2))
    ends = []
    for name in ("st", "st-release"):
        with seeded(0, Numerics()):
            run = training([DEFENSES[name](per_class=12)])
            run.run(None, None, None)
        ends.append(dict(run.model.state_dict()))
    assert same(*ends)
    with pytest.raises(EntryError, match="defense st-release: expected stages of 2 or more"):
        DEFENSES["st-release"](stages=1)


# What is measured inside a network


def context(victim, data):
    usual = {"test": data, "poison": data, "purified": data, "chosen": torch.zeros(len(data), dtype=torch.bool)}
    return Context(**{"job": Job(), "clean": data, **usual, "victim": Looked(victim)})


def test_the_gradient_of_a_layer_is_that_of_the_whole_set_and_leaves_no_trace():
    """Figure 9, against autograd on all images at once; also of a layer that is held still."""
    run, data = training(), tiny(300)
    run.layers[1].requires_grad_(False)
    found = [Looked(run).gradient(data, number) for number in (1, 2)]
    assert all(p.grad is None for p in run.model.parameters())
    assert [p.requires_grad for p in run.layers[1].parameters()] == [False] * len(list(run.layers[1].parameters()))
    other = copy.deepcopy(run.model).eval().requires_grad_(True)
    F.cross_entropy(other(data.pixels(slice(None))), data.labels).backward()
    for number, value in zip((1, 2), found, strict=True):
        parts = torch.cat([p.grad.flatten() for p in other.net.layers()[number - 1].parameters()])
        assert value == pytest.approx(float(parts.abs().mean()), rel=1e-4)


def test_the_features_of_a_block_are_its_whole_output():
    """Figures 11 and 13: channels and positions; block 0 is what enters the head; a block too many is not applicable."""
    run, data = training(), tiny(10)
    found = seen(Looked(run), data, 2)
    with torch.no_grad():
        expected = run.model.eval().net.parts[:3](data.pixels(slice(None))).flatten(1)
    assert found.shape == (10, 4 * 16 * 16) and torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(seen(Looked(run), data, 0), Looked(run).features(data))
    with pytest.raises(NotApplicable, match="5 residual blocks or more, this one has 4"):
        seen(Looked(run), data, 5)
    with pytest.raises(NotApplicable, match="the network has 6 layers, layer=7 is beyond them"):
        ANALYSES["acm"](per_class=4, layer=7).after_epoch(context(run, data))


@pytest.mark.parametrize("epochs", [4, 5])
def test_pictures_are_taken_after_epochs_that_double_and_the_last(epochs, monkeypatch):
    """Figure 5: early epochs matter most; the last picture is once in the record, as `x` and `y`."""
    monkeypatch.setattr(_staged, "embedded", lambda features: features[:, :2] * 50)
    given = context(training(protocol=dataclasses.replace(SHORT, epochs=epochs)), tiny())
    analysis = ANALYSES["tsne-features"](per_class=8, pictures="doubling", block=1)
    over = 0

    def report(progress):  # called after every step; an epoch is over where its number is a new one
        nonlocal over
        if progress.epoch > over:
            over = progress.epoch
            analysis.after_epoch(given)

    given.victim.training.run(None, report, None)
    figures = analysis.measure(given)
    wanted = {"x", "y", "label", "picture_epoch", "picture_acm", "picture_extent"}
    early = [1, 2] if epochs == 4 else [1, 2, 4]
    assert set(given.curves) == wanted | {f"{axis}_{epoch}" for axis in "xy" for epoch in early}
    assert given.curves["picture_epoch"] == [*early, epochs] and figures["acm"] == given.curves["picture_acm"][-1]
    rows = _staged.watched(given.purified, 8, torch.Generator().manual_seed(0))
    last = seen(given.victim, given.purified.rows(rows), 1)[:, 0] * 50
    assert given.curves["x"] == pytest.approx(last.tolist(), abs=1e-3) and given.curves["x_1"] != given.curves["x"]


def test_what_looks_at_parts_also_sees_those_of_a_compiled_network():
    """A compiled network does not call hooks that came later; on a GPU long trainings are compiled."""
    run, data = training(), tiny(8)
    plain = context(run, data)
    ANALYSES["channel-means"](images=8).measure(plain)
    run.model.net.compile(backend="eager", dynamic=False)
    judge_network(run.model, data)  # as after an epoch, before the analysis
    compiled = context(run, data)
    ANALYSES["channel-means"](images=8).measure(compiled)
    assert compiled.curves == plain.curves and len(plain.curves) == 6
    assert len(seen(compiled.victim, data, 3)) == 8


def test_a_few_images_and_the_rest_are_the_test_set():
    """Section IV-C4: two shares of the same images, none in both."""

    class Fake:
        def logits(self, data):
            right = torch.arange(len(data)) % 3 == 0
            return F.one_hot(torch.where(right, data.labels, (data.labels + 1) % 4), 4).float()

    given = context(training(), tiny(60))
    given.victim = Fake()
    found = ANALYSES["few-images"](images=15).measure(given)
    assert 15 * found["few_test_acc"] + 45 * found["rest_test_acc"] == pytest.approx(20)
    assert (15 * found["few_test_acc"]) % 1 == pytest.approx(0)
    with pytest.raises(EntryError, match="images=60, the test set has 60; leave some over"):
        ANALYSES["few-images"](images=60).measure(given)
    for item in ("few-images(images=0)", "acm(layer=0)", "acm(block=-1)", "tsne-features(block=-1)"):
        with pytest.raises(EntryError, match="expected"):
            ANALYSES.resolve(item)[0].build()


# Tables and pages


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("transplant", 48),
        ("learning", 24),
        ("embedding", 18),
        ("clusters", 18),
        ("release", 10),
        ("channels", 6),
        ("gamma", 22),
    ],
)
def test_the_tables_of_staged_trainings_figures_plan_whole(name, count):
    """Every cell of the papers' recipe, no two alike, and the network of clean images once where it is compared with."""
    cells = grid.expand(read_grid(f"figures-{name}"))[0]
    assert len(cells) == count and {cell.protocol.name for cell in cells} == {"st"}
    compared = {(cell.attack[0].name, cell.defense[0].name) for cell in cells}
    if name in ("embedding", "channels"):
        assert compared == {("none", "none"), ("rem", "none"), ("rem", "st")}


TABLE = """
title = "t"
curves = {shown}
protocol = "quick"
dataset = "digits"
architecture = "small-cnn"
attack = [{{label = "clean", attack = "none"}}, {{label = "LSP", attack = "lsp"}}]
defense = "none"
measure = "tsne-features"
metric = "acm"
seed = [0, 1]
rows = "attack"
columns = "measure"
"""


@pytest.mark.parametrize("shown", [True, False])
def test_a_page_shows_the_curves_of_its_records_where_its_table_says_so(tmp_path, shown):
    """Where a figure is a curve, a number is not enough: epochs as lines, the mean of both seeds; pictures as points."""
    (tmp_path / "t.toml").write_text(TABLE.format(shown=str(shown).lower()))
    made, records = read_grid(str(tmp_path / "t.toml")), Records(tmp_path)
    for cell in grid.expand(made)[0]:
        more = {"x": [0.0, 1.0], "y": [2.0, 3.0], "x_1": [5.0, 6.0], "y_1": [0.0, 1.0], "label": [0.0, 1.0]}
        more |= {"acm": [1e-4, (2 + cell.seed) * 1e-4, 3e-4], "layer_1": [0.1, -0.2]}
        accuracy = Curve(test_acc=[0.2, 0.3 + cell.seed / 10, 0.5], train_acc=[0.1, 0.2, 0.3])
        metrics = Metrics(test_acc=0.5, test_acc_best=0.5, curve=accuracy, figures={"acm": 3e-4}, curves=more)
        record = Record(id=cell.id, cell=cell, metrics=metrics, versions={})
        write_json(records.path(cell.id), record.model_dump(mode="json"))
    (sheet,) = printed_tables(made, records, resolve, lacking)
    plots = {one.title: str(one.drawing) for one in sketches(sheet)}
    page = printed.html(sheet)
    assert "0.000300" in page, "a small number keeps its digits"
    assert next(iter(plots)) == "Points: t" and plots["Points: t"].count('class="frame"') == 4
    assert plots["Points: t"].index("clean, epoch 1") < plots["Points: t"].index("clean<")
    if not shown:
        assert len(plots) == 1
        return
    assert list(plots)[1:] == [
        "Test accuracy by epoch, mean over seeds",
        "Training accuracy by epoch, mean over seeds",
        "Activation cluster measure by epoch, mean over seeds",
        "Mean activation of layer 1 by channel, seed 0",
    ]
    measure = plots["Activation cluster measure by epoch, mean over seeds"]
    assert "activation cluster measure, 1e-4" in measure and "LSP 3" in measure and "clean 3" in measure
    heights = [float(point.partition(",")[2]) for point in re.search(r'points="([^"]+)"', measure)[1].split()]
    assert (heights[0] - heights[1]) / (heights[0] - heights[2]) == pytest.approx(0.75, abs=0.01), "2.5e-4 between 1 and 3"
    assert page.count("<svg") == 5


def test_lines_are_as_many_as_there_are_colours_and_one_record_is_drawn_once(tmp_path):
    """Two figures of one analysis are one curve; nine places are split by the first label of their rows."""
    text = TABLE.format(shown="true").replace(
        'measure = "tsne-features"', "measure = [{measure = 'acm'}, {label = 'b', measure = 'acm', metric = 'b'}]"
    )
    text = text.replace('defense = "none"', 'defense = ["none", "jpeg", "grayscale", "bdr"]').replace(
        'rows = "attack"', 'rows = ["attack", "defense"]'
    )
    (tmp_path / "t.toml").write_text(text)
    made, records = read_grid(str(tmp_path / "t.toml")), Records(tmp_path)
    for cell in grid.expand(made)[0]:
        metrics = Metrics(test_acc=0.5, test_acc_best=0.5, curve=Curve(test_acc=[0.2, 0.5]), figures={"acm": 1.0, "b": 2.0})
        record = Record(id=cell.id, cell=cell, metrics=metrics, versions={})
        write_json(records.path(cell.id), record.model_dump(mode="json"))
    (sheet,) = printed_tables(made, records, resolve, lacking)
    plots = {plot.title: str(plot.svg) for plot in curves.curve_figures(sheet)}
    assert list(plots) == [f"Test accuracy by epoch, {row}, mean over seeds" for row in ("clean", "LSP")]
    for svg in plots.values():
        assert re.findall(r'class="name c\d"[^>]*>(\w+) 50.0<', svg) == ["none", "jpeg", "grayscale", "bdr"]
