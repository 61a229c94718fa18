"""Defenses that change how a victim is trained: each against its card, and killed and resumed."""

import dataclasses
import math

import pytest
import torch
from conftest import small
from torch import nn
from torch.nn import functional as F

from unlearnable_bench.benchmark.conformance import tiny
from unlearnable_bench.benchmark.train import Checkpoint, Training
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import ARCHITECTURES, DEFENSES, EntryError, ImageSet, Job, Protocol, _plasma, _policies

SHORT = Protocol(epochs=4, batch=16, lr=0.05)


def training(defenses, protocol=SHORT, data=None, seed=0):
    data = data or tiny()
    net = ARCHITECTURES["small-cnn"](data.num_classes)
    return Training(net, data, protocol, defenses, "cpu", Numerics())


def fit(defenses, protocol=SHORT, data=None, checkpoint=None, report=None):
    data = data or tiny()
    with seeded(0, Numerics()):
        run = training(defenses, protocol, data)
        return run, run.run(data, report, checkpoint)


# frozen-blocks wants a network of residual blocks: tests/test_staged_figures.py
STAGED = [name for name in DEFENSES if "start" in DEFENSES.entry(name).hooks and name != "frozen-blocks"]


@pytest.mark.parametrize("name", STAGED)
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_killed_training_goes_on_to_the_same_result(name, epoch, tmp_path):
    """Whatever a defense remembers between epochs is in the checkpoint."""
    calm, curve = fit([small(DEFENSES[name])])
    checkpoint = Checkpoint(tmp_path / "state.pt", seconds=0)

    def kill(now):
        if now.epoch == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit([small(DEFENSES[name])], checkpoint=checkpoint, report=kill)
    resumed, again = fit([small(DEFENSES[name])], checkpoint=checkpoint)
    assert dataclasses.asdict(again) == dataclasses.asdict(curve)
    for one, other in zip(calm.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


# Regularisers, card D09


def test_dropout_acts_before_the_head_and_only_in_training():
    """Features are zeroed or doubled; in evaluation the network is as it was, and its weights keep their names."""
    torch.manual_seed(0)
    net = ARCHITECTURES["small-cnn"](4)
    names, x = list(net.state_dict()), torch.rand(400, 3, 32, 32)
    plain = net.eval()(x)
    dropped = DEFENSES["dropout"](probability=0.5).model(net)
    assert torch.equal(dropped.eval()(x), plain) and list(dropped.state_dict()) == names
    seen = []
    dropped.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    dropped.train()(x)
    zero = float((seen[0] == 0).float().mean())
    assert 0.48 < zero < 0.6, "half of them, and the few that were zero before"


def test_weight_decay_is_the_optimizers():
    """The protocol's own gives way."""
    run, _ = fit([DEFENSES["weight-decay"](value=0.3)], dataclasses.replace(SHORT, epochs=1))
    assert {group["weight_decay"] for group in run.optimizer.param_groups} == {0.3}


# Early stopping, card D18


def stopped(accuracies, patience, monkeypatch, **fields):
    """Train with validation accuracies as given; return the run and its curve."""
    told = iter(accuracies)

    def outputs(self, rows, features=False):
        right = round(next(told) * len(rows))
        found = torch.where(torch.arange(len(rows)) < right, self.train.labels[rows], (self.train.labels[rows] + 1) % 4)
        return F.one_hot(found, 4).float()

    monkeypatch.setattr(Training, "outputs", outputs)
    protocol = dataclasses.replace(SHORT, epochs=len(accuracies))
    return fit([DEFENSES["early-stop"](patience=patience, part=0.25, **fields)], protocol)


@pytest.mark.parametrize(
    ("accuracies", "epochs", "chosen", "trained"),
    [
        ([0.25, 0.5, 0.5, 0.25, 0.25, 0.25, 1.0], 2, 2, 4),  # stops before the best of all
        ([0.25, 0.5, 0.25, 0.75, 0.5], 2, 4, 5),  # runs to the end and goes back
        ([1.0, 1.0, 1.0], 9, 1, 3),  # of equal ones the first
        ([0.0, 0.25, 0.5], 1, 3, 3),  # rises all the time
    ],
    ids=str,
)
def test_early_stopping_chooses_the_first_best_epoch_within_its_patience(accuracies, epochs, chosen, trained, monkeypatch):
    """Card D18, on synthetic curves; an epoch of 64 images is 4 steps."""
    weights = {}
    original = Training._one_epoch

    def remember(self):
        original(self)
        weights[self.epoch + 1] = {k: v.clone() for k, v in self.model.state_dict().items()}

    monkeypatch.setattr(Training, "_one_epoch", remember)
    run, curve = stopped(accuracies, epochs * 4, monkeypatch)
    assert len(weights) == trained
    assert len(curve.test_acc) == len(curve.train_loss) == chosen
    assert all(torch.equal(v, run.model.state_dict()[k]) for k, v in weights[chosen].items())


def test_early_stopping_never_trains_on_what_it_holds_out():
    """A quarter of every class is set aside; the rest is the training set."""
    run, _ = fit([DEFENSES["early-stop"](part=0.25)])
    held = run.hooks[0].rows
    assert run.train.labels[held].bincount().tolist() == [4, 4, 4, 4]
    assert not set(held.tolist()) & set(run.kept.tolist()) and len(held) + len(run.kept) == 64


# UEraser, card D10


def test_plasma_is_smooth_and_differs_from_image_to_image():
    """Card D10: neighbouring pixels correlate above 0.6; kornia's maps have a mean below a half and reach beyond 1."""
    torch.manual_seed(0)
    found = _plasma.maps(torch.zeros(64, 3, 32, 32), torch.full((64,), 0.5))
    assert found.shape == (64, 3, 32, 32) and found.min() >= 0 and 1 < found.max() < 1.5
    assert abs(float(found.mean()) - 0.48) < 0.02
    both = torch.stack([found[..., 1:].flatten(), found[..., :-1].flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.6
    rough = _plasma.maps(torch.zeros(64, 3, 32, 32), torch.full((64,), 0.9))
    assert rough.diff(dim=3).abs().mean() > 1.5 * found.diff(dim=3).abs().mean()
    flat = found.flatten(1)
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().mean() < 0.45, "every image its own"
    assert _plasma.maps(torch.zeros(2, 1, 20, 36), torch.full((2,), 0.5)).shape == (2, 1, 20, 36)


def test_a_point_of_plasma_is_the_mean_of_its_neighbours_where_it_is_not_rough():
    """Without noise the map is the bilinear-like average of its nine seeds; at a border the inner neighbour counts twice."""
    torch.manual_seed(0)
    found = _plasma.maps(torch.zeros(1, 1, 5, 5), torch.zeros(1))[0, 0]
    centre = (found[0, 0] + found[0, 2] + found[2, 0] + found[2, 2]) / 4
    assert torch.allclose(found[1, 1], centre)
    assert torch.allclose(found[0, 1], (found[0, 0] + found[0, 2] + 2 * centre) / 3), "at the border"
    assert torch.allclose(found[1, 2], (found[0, 2] + found[2, 2] + found[1, 1] + found[1, 3]) / 4)
    assert torch.allclose(found[2, 2], (found[0, 0] + found[0, 4] + found[4, 0] + found[4, 4]) / 4), "the seed in the middle"
    assert torch.allclose(found[0, 2], found[0, 0] + found[0, 4] + found[2, 2]), "a seed on a border is three times as large"


def test_shuffling_keeps_the_channels_of_an_image():
    """Colours change places, nothing else."""
    torch.manual_seed(0)
    x = torch.rand(100, 3, 4, 4)
    found = _plasma.shuffled(x)
    assert torch.equal(found.sort(1)[0], x.sort(1)[0])
    assert 5 < int((found == x).all((1, 2, 3)).sum()) < 35, "one order of six is the identity"


def test_ueraser_trains_on_the_worst_copy_of_every_image():
    """Card D10: the loss of what it chooses is the largest of the copies; statistics do not move while it looks."""
    data = tiny()
    x, y = data.pixels(slice(None)), data.labels
    torch.manual_seed(0)
    net, defense = ARCHITECTURES["small-cnn"](4).train(), DEFENSES["ueraser"](mode="max", copies=4)
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
    torch.manual_seed(1)
    copies = [defense._changed(x) for _ in range(4)]
    torch.manual_seed(1)
    worst = defense.worst(net, x, y)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
    assert all(m.momentum == 0.1 for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    losses = torch.stack([F.cross_entropy(net(copy), y, reduction="none") for copy in copies])
    for image, number in enumerate(losses.argmax(0).tolist()):
        assert torch.equal(worst[image], copies[number][image])


def test_ueraser_forgets_the_weights_that_it_cast_without_gradients(monkeypatch):
    """Under autocast older versions of torch trained no convolution: the next pass took the weights of the looking one."""
    data, looked = tiny(8), []
    net, defense = ARCHITECTURES["small-cnn"](4).train(), DEFENSES["ueraser"](mode="max", copies=2)
    net.register_forward_hook(lambda *_: looked.append("pass"))
    clear = torch.clear_autocast_cache
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: looked.append("cleared") or clear())
    with torch.autocast("cpu", torch.bfloat16):
        defense.loss(net, data.pixels(slice(None)), data.labels, 0.0).backward()
    assert looked[:4] == ["pass", "pass", "cleared", "pass"]
    assert all(m.weight.grad.abs().sum() > 0 for m in net.modules() if isinstance(m, nn.Conv2d))


def test_modes_of_ueraser_differ_in_when_they_look_for_the_worst():
    """Card D10: one copy is `lite`; `standard` stops after its share; labels may be mixed."""
    data = tiny(16)
    x, y = data.pixels(slice(None)), F.one_hot(data.labels, 4).float()
    calls = []

    class Counting(nn.Module):
        def forward(self, x):
            calls.append(torch.is_grad_enabled())
            return x.mean((2, 3)).repeat(1, 2)[:, :4].requires_grad_()

    def passes(progress, **fields):
        calls.clear()
        DEFENSES["ueraser"](**fields).loss(Counting(), x, y, progress)
        return calls

    assert passes(0.0, mode="lite") == [True] == passes(0.0, mode="max", copies=1)
    assert passes(0.2) == [False] * 5 + [True] and passes(0.25) == [True]
    assert passes(0.99, mode="max", copies=3) == [False] * 3 + [True]
    assert DEFENSES["ueraser"](mode="lite").cost == 1 and DEFENSES["ueraser"](mode="max").cost == pytest.approx(8 / 3)


def test_every_copy_of_a_batch_draws_an_operation_for_all_its_images(monkeypatch):
    """The scripts that train change each copy by a call of its own; copies of one operation are easier to learn from."""
    drawn = []

    def watched(operation):
        return lambda x, by: drawn.append((operation, len(x))) or operation(x, by)

    table = [(watched(operation), *rest) for operation, *rest in _policies.TRIVIAL]
    monkeypatch.setattr(_policies, "TRIVIAL", table)
    data = tiny(8)
    net = ARCHITECTURES["small-cnn"](4).train()
    for seed in range(20):
        torch.manual_seed(seed)
        DEFENSES["ueraser"](mode="max", copies=3).worst(net, data.pixels(slice(None)), data.labels)
    assert len(drawn) == 60 and {size for _, size in drawn} == {8}
    assert len({operation for operation, _ in drawn}) == 12
    assert len({operation for operation, _ in drawn[:3]} | {operation for operation, _ in drawn[3:6]}) > 2


NAMES = "autocontrast equalize posterize solarize contrast brightness sharpness rotate shear_x shear_y translate_x translate_y"
TRIVIAL = dict(zip(NAMES.split(), _policies.TRIVIAL, strict=True))


def test_brightness_of_trivialaugment_adds_and_its_contrast_multiplies():
    """As kornia names them; torchvision's multiply, and stretch around the mean."""
    x = torch.tensor([0.2, 0.6]).expand(3, 1, 2, 2)
    by = torch.tensor([-0.3, 0.0, 0.5])
    assert torch.allclose(TRIVIAL["brightness"][0](x, by), (x + by.view(3, 1, 1, 1)).clamp(0, 1))
    assert torch.allclose(TRIVIAL["contrast"][0](x, by + 1), (x * (by + 1).view(3, 1, 1, 1)).clamp(0, 1))


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_trivialaugment_turns_shears_and_moves_half_of_the_images(name, monkeypatch):
    """kornia multiplies by 0 or 1 where a sign is meant; what is sheared or turned keeps its centre, up to 54 degrees."""
    monkeypatch.setattr(_policies, "TRIVIAL", [TRIVIAL[name]])
    torch.manual_seed(0)
    x = torch.zeros(400, 1, 9, 9)
    x[:, :, 4, :] = 1
    x[:, :, :, 4] = 1
    found = _policies.trivialaugment(x)
    still = (found - x).abs().amax((1, 2, 3)) < 0.01
    assert 0.4 < still.float().mean() < 0.6
    if not name.startswith("translate"):
        assert (found[:, 0, 4, 4] - 1).abs().max() < 1e-5, "the centre stays"
    if name == "shear_x":
        far = found[:, 0, 0].argmax(1).max()
        assert 4 + 0.7 * 4 < far <= 8, "at 54 degrees a row moves by 1.4 pixels for each row from the centre"


@pytest.mark.parametrize("where", ["first", "last"])
def test_ueraser_compresses_where_it_is_told(where, monkeypatch):
    """The variant for TAP and AR: behind all else at quality 10, the same bytes as the defense jpeg; or before it."""
    x = tiny(8).pixels(slice(None))
    monkeypatch.setattr("unlearnable_bench.registry._policies.trivialaugment", lambda x: x.clone())
    monkeypatch.setattr("unlearnable_bench.registry._photo.some", lambda x, p: torch.zeros(len(x), dtype=torch.bool))
    torch.manual_seed(0)
    found = DEFENSES["ueraser"](jpeg=where)._changed(x)
    torch.manual_seed(0)
    quality = int(torch.randint(10, 96, ())) if where == "first" else 10
    expected = DEFENSES["jpeg"](quality=quality).purify(tiny(8), Job()).images
    assert torch.equal(found.mul(255).round().byte(), expected)
    assert torch.equal(DEFENSES["ueraser"]()._changed(x), x)


def test_ueraser_takes_its_own_length_where_it_is_given_one():
    """Papers that run it for 200 epochs at a constant rate can be followed under their protocol."""
    recipe = DEFENSES["ueraser"](epochs=200, lr=0.01, schedule="constant").configure(Protocol(steps=400))
    assert (recipe.epochs, recipe.steps, recipe.lr, recipe.schedule) == (200, 0, 0.01, "constant")
    assert DEFENSES["ueraser"]().configure(SHORT) == SHORT


# Chains and wrong fields


@pytest.mark.parametrize("chain", [["median-filter", "at"], ["cutmix", "ueraser"], ["early-stop", "at"], ["dropout", "cg"]])
def test_chains_of_the_papers_train(chain):
    """A filter and adversarial training, mixing and adversarial augmentation, patience and adversarial training."""
    fields = {"at": {"epsilon": 2 / 255, "steps": 1}, "ueraser": {"copies": 2}}
    defenses = [small(DEFENSES[name], **fields.get(name, {})) for name in chain]
    data = tiny()
    for defense in defenses:
        from unlearnable_bench.registry import Job

        data = defense.purify(data, Job())
    assert isinstance(data, ImageSet)
    _, curve = fit(defenses, dataclasses.replace(SHORT, epochs=2), data)
    assert curve.test_acc and all(math.isfinite(loss) for loss in curve.train_loss)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("dropout", {"probability": 1.0}),
        ("weight-decay", {"value": -1.0}),
        ("early-stop", {"part": 0.0}),
        ("ueraser", {"mode": "huge"}),
        ("ueraser", {"copies": 0}),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_refused_by_name(name, fields):
    """Before any work, with the value that was found."""
    with pytest.raises(EntryError, match=f"defense {name}"):
        DEFENSES[name](**fields)
