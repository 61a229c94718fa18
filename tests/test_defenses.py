"""What every defense promises, once for all of them; then what each method is, against slow and obvious versions."""

import dataclasses
import functools
import io
import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from conftest import small, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.nn import functional as F

from unlearnable_bench.registry import (
    ARCHITECTURES,
    DEFENSES,
    PROTOCOLS,
    Defense,
    EntryError,
    ImageSet,
    Job,
    NotApplicable,
    _paths,
)

SHAPES = [(3, 32, 32), (1, 28, 28), (3, 20, 36)]


def applicable(name: str, train: ImageSet) -> None:
    try:
        small(DEFENSES[name]).applies(train.info)
    except NotApplicable as why:
        pytest.skip(f"{name} {why}")


def purify(defense: Defense, train: ImageSet, seed: int = 0) -> ImageSet:
    """Purify as the store does: torch's global generator seeded too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return defense.purify(train, Job(seed=seed, unpoisoned=train))


@functools.cache
def purified(name: str) -> ImageSet:
    """`tiny(24)` after a defense with the fields `small` and seed 0, made once for all tests that compare with it."""
    return purify(small(DEFENSES[name]), tiny(24))


def batch(n: int = 16, shape: tuple[int, int, int] = (3, 32, 32)) -> tuple[torch.Tensor, torch.Tensor]:
    train = tiny(n, shape=shape)
    return train.pixels(slice(None)), train.labels


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES["small-cnn"](4).train()


# Promises of every defense


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", DEFENSES)
def test_purifying_keeps_labels_order_size_and_a_plain_dtype(name, shape):
    """Labels stay with their images, and what is stored is uint8, or float32 where a purifier must not round."""
    train = tiny(24, shape=shape)
    applicable(name, train)
    images, labels = train.images.clone(), train.labels.clone()
    after = purify(small(DEFENSES[name]), train)
    assert after.images.shape == images.shape and after.images.dtype in (torch.uint8, torch.float32)
    assert torch.equal(after.labels, labels) and after.num_classes == 4 and after.classes == train.classes
    assert after.images.isfinite().all()
    assert torch.equal(train.images, images) and torch.equal(train.labels, labels), "the input is shared: it is not ours"


@pytest.mark.parametrize("name", DEFENSES)
def test_purifying_comes_from_its_seed_alone(name):
    """A purified set is cached under its seed and shared by all victims."""
    train = tiny(24)
    applicable(name, train)
    assert torch.equal(purify(small(DEFENSES[name]), train).images, purified(name).images)


@pytest.mark.parametrize("name", [n for n in DEFENSES if DEFENSES[n].per_image])
def test_a_purifier_per_image_gives_the_same_for_any_part(name):
    """`per_image` lets the store hand it a set in chunks."""
    train = tiny(24)
    applicable(name, train)
    rows = torch.arange(5, 17)
    part = dataclasses.replace(train, images=train.images[rows], labels=train.labels[rows])
    assert torch.equal(purified(name).images[rows], purify(small(DEFENSES[name]), part).images)


@pytest.mark.parametrize("name", [n for n in DEFENSES if "purify" in DEFENSES.entry(n).hooks and not DEFENSES[n].per_image])
def test_a_purifier_of_a_whole_set_fills_room_that_a_large_set_has_in_a_file(name, tmp_path, monkeypatch):
    """A result of ImageNet's size does not fit into memory; `Job.empty` knows where else."""
    train, filled = tiny(24), []
    applicable(name, train)
    monkeypatch.setattr("unlearnable_bench.registry._paths.MAP_FROM", 1)
    monkeypatch.setattr(
        "unlearnable_bench.registry.contract.empty_array", lambda *a, of=_paths.empty_array: filled.append(of(*a)) or filled[-1]
    )
    with torch.random.fork_rng():
        result = small(DEFENSES[name]).purify(train, Job(seed=0, folder=tmp_path, unpoisoned=train)).images.numpy()
    assert any(np.shares_memory(result, array) for array in filled) and all(type(array) is np.memmap for array in filled)


@pytest.mark.parametrize("name", DEFENSES)
def test_purifying_takes_a_float_set_as_well(name):
    """In a chain a purifier may follow one that does not round, such as `ortho-proj`; values may leave [0, 1]."""
    train = tiny(24)
    applicable(name, train)
    floats = dataclasses.replace(train, images=train.images.float() / 255)
    defense = small(DEFENSES[name])
    found = purify(defense, floats)
    assert torch.allclose(found.pixels(slice(None)), purified(name).pixels(slice(None)), atol=1e-5)
    outside = dataclasses.replace(train, images=floats.images * 1.2 - 0.1)
    assert purify(defense, outside).images.isfinite().all()


@pytest.mark.parametrize("name", DEFENSES)
def test_augmenting_keeps_shapes_and_leaves_the_batch_alone(name):
    """The loop reuses its arrays; labels may become soft, one row per image."""
    x, y = batch()
    applicable(name, tiny())
    x_before, y_before = x.clone(), y.clone()
    torch.manual_seed(0)
    x_after, y_after = small(DEFENSES[name]).augment(x, y)
    assert x_after.shape == x.shape and x_after.dtype == torch.float32 and x_after.isfinite().all()
    assert len(y_after) == len(y) and y_after.ndim in (1, 2)
    assert torch.equal(x, x_before) and torch.equal(y, y_before)


@pytest.mark.parametrize("name", DEFENSES)
def test_the_loss_is_a_finite_number_with_gradients_for_the_network(name, net):
    """What the loop calls `backward` on; afterwards the network is ready for the next step."""
    x, y = batch()
    applicable(name, tiny())
    loss = small(DEFENSES[name]).loss(net, x, y, 0.5)
    assert loss.ndim == 0 and loss.isfinite()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert net.training and all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("name", DEFENSES)
def test_a_defense_is_a_frozen_dataclass_that_pickles(name):
    """Its fields go into ids, and entries go to worker processes."""
    defense = DEFENSES[name]()
    assert pickle.loads(pickle.dumps(defense)) == defense  # noqa: S301  (our own object)
    assert dataclasses.is_dataclass(defense) and type(defense).__dataclass_params__.frozen


@pytest.mark.parametrize("name", DEFENSES)
def test_a_defense_overrides_a_hook_or_is_none(name):
    """A defense that does nothing under its name would be a row of lies."""
    hooks = DEFENSES.entry(name).hooks & {"purify", "augment", "loss", "configure", "model", "start"}
    assert bool(hooks or DEFENSES.entry(name).facts.get("members")) == (name != "none")


@pytest.mark.parametrize("name", DEFENSES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_configuring_gives_a_protocol_again(name, protocol):
    """A defense may bring its own length or optimiser, within what a protocol can say."""
    recipe = PROTOCOLS[protocol]()
    assert isinstance(small(DEFENSES[name]).configure(recipe), type(recipe))


# none


def test_none_is_the_identity(net):
    """The reference column: plain training, same images, same batch, cross-entropy."""
    train, (x, y), none = tiny(), batch(), DEFENSES["none"]()
    assert none.purify(train, Job()) is train
    assert none.augment(x, y) == (x, y)
    assert none.loss(net, x, y, 0.0) == F.cross_entropy(net(x), y)
    recipe = PROTOCOLS["quick"]()
    assert none.configure(recipe) is recipe and none.model(net) is net


# Adversarial training, card D02


class Spy(nn.Module):
    """A linear network that remembers every input it saw, and in which mode."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.linear = nn.Linear(values, 4)
        self.seen: list[tuple[torch.Tensor, bool, bool]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((x.detach().clone(), self.training, self.linear.weight.requires_grad))
        return self.linear(x.flatten(1))


@pytest.mark.parametrize("fields", [{"epsilon": 0.0}, {"steps": 0}], ids=str)
def test_at_without_radius_or_steps_is_plain_training_bit_for_bit(fields, net):
    """Card D02: otherwise the column at radius 0 would differ from plain training for no reason."""
    x, y = batch()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    plain = Defense().loss(net, x, y, 0.0)
    net.load_state_dict(state)
    torch.manual_seed(0)
    assert torch.equal(DEFENSES["at"](**fields).loss(net, x, y, 0.0), plain)


@given(epsilon=st.floats(1e-6, 1), steps=st.integers(1, 5), step_size=st.sampled_from([0.0, 0.01, 10.0]))
@settings(max_examples=20)
def test_the_adversary_never_leaves_the_ball_nor_the_box(epsilon, steps, step_size):
    """Card D02: max |x_K - x| <= epsilon, pixels in [0, 1], in every step, however large the steps are."""
    x, y = batch(8, (3, 8, 8))
    spy = Spy(192)
    DEFENSES["at"](epsilon=epsilon, steps=steps, step_size=step_size).loss(spy, x, y, 0.0)
    assert len(spy.seen) == steps + 1
    for z, _, _ in spy.seen:
        assert (z - x).abs().max() <= epsilon + 1e-6
        assert z.min() >= 0 and z.max() <= 1


@given(epsilon=st.floats(1e-3, 20), steps=st.integers(1, 4), start=st.sampled_from(["uniform", "gaussian", "none"]))
@settings(max_examples=20)
def test_the_adversary_in_l2_never_leaves_its_ball_nor_the_box(epsilon, steps, start):
    """Card D02: the Euclidean distance of every image stays within epsilon in every step, the start included."""
    x, y = batch(8, (3, 8, 8))
    spy = Spy(192)
    DEFENSES["at"](epsilon=epsilon, steps=steps, norm="l2", begin=start).loss(spy, x, y, 0.0)
    assert len(spy.seen) == steps + 1
    for z, _, _ in spy.seen:
        assert (z - x).flatten(1).norm(dim=1).max() <= epsilon * (1 + 1e-4)
        assert z.min() >= 0 and z.max() <= 1


def test_the_adversary_of_a_linear_model_in_l2_walks_along_the_weights():
    """Two classes and a linear score: the worst case of the ball lies epsilon away in the direction of the weights."""
    torch.manual_seed(0)
    x, epsilon = torch.rand(8, 3, 8, 8) * 0.2 + 0.4, 0.5
    y = torch.arange(8) % 2
    spy = Spy(192)
    spy.linear = nn.Linear(192, 2)
    DEFENSES["at"](epsilon=epsilon, steps=20, norm="l2", begin="none").loss(spy, x, y, 0.0)
    difference = spy.linear.weight.detach()[1 - y] - spy.linear.weight.detach()[y]  # (B, 192), raises the loss
    moved = (spy.seen[-1][0] - x).flatten(1)
    assert torch.allclose(moved.norm(dim=1), torch.full((8,), epsilon), atol=1e-4)
    assert F.cosine_similarity(moved, difference).min() > 0.99


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 8 / 255), ("l2", 0.5)])
def test_starts_are_where_the_papers_put_them(norm, epsilon):
    """Card D02: uniform in the box or epsilon away; gaussian with the step as its size; none at the image itself."""
    x, y = torch.full((8, 3, 8, 8), 0.5), torch.arange(8) % 4
    starts = {}
    for start in ("uniform", "gaussian", "none"):
        spy = Spy(192)
        DEFENSES["at"](epsilon=epsilon, steps=10, norm=norm, begin=start).loss(spy, x, y, 0.0)
        starts[start] = (spy.seen[0][0] - x).flatten(1)
    assert not starts["none"].any()
    if norm == "linf":
        assert starts["uniform"].abs().max() > 0.95 * epsilon
        assert starts["gaussian"].std() == pytest.approx(1.6 / 255, rel=0.1)
    else:
        assert torch.allclose(starts["uniform"].norm(dim=1), torch.full((8,), 0.5), atol=1e-4)
        assert torch.allclose(starts["gaussian"].norm(dim=1), torch.full((8,), 0.125), atol=1e-4)


def test_the_network_is_held_still_while_its_input_is_attacked():
    """Card D02: evaluation mode and frozen parameters for the steps, training mode and gradients for the loss."""
    x, y = batch(8, (3, 8, 8))
    spy = Spy(192).train()
    DEFENSES["at"](steps=3).loss(spy, x, y, 0.0)
    assert [mode for _, *mode in spy.seen] == [[False, False]] * 3 + [[True, True]]


def test_the_adversary_of_a_linear_model_is_the_closed_form():
    """Two classes and a linear score: the worst case moves every pixel by epsilon against the weights."""
    torch.manual_seed(0)
    x, epsilon = torch.rand(8, 3, 8, 8) * 0.5 + 0.25, 0.1
    y = torch.arange(8) % 2
    spy = Spy(192)
    spy.linear = nn.Linear(192, 2)
    DEFENSES["at"](epsilon=epsilon, steps=4).loss(spy, x, y, 0.0)
    difference = spy.linear.weight.detach()[1 - y] - spy.linear.weight.detach()[y]  # (B, 192), raises the loss
    worst = x + epsilon * difference.sign().view_as(x)
    assert torch.allclose(spy.seen[-1][0], worst, atol=1e-6)


def test_the_step_that_is_not_given_crosses_the_box():
    """2 epsilon / steps: 1.6/255 at the defaults, as in the papers."""
    x, y = batch(8, (3, 8, 8))
    torch.manual_seed(5)
    by_default, by_hand = Spy(192), Spy(192)
    by_hand.load_state_dict(by_default.state_dict())
    for spy, step in ((by_default, 0.0), (by_hand, 1.6 / 255)):
        torch.manual_seed(0)
        DEFENSES["at"](step_size=step).loss(spy, x, y, 0.0)
    assert torch.allclose(by_default.seen[-1][0], by_hand.seen[-1][0], atol=1e-6)


@pytest.mark.parametrize("objective", ["TRADES", "MART", "AWP"])
def test_an_objective_leaves_weights_alone_and_gives_rows_of_labels_the_same_loss(objective, net):
    """AWP moves a copy of the weights; labels are rows where they are smoothed or mixed."""
    x, y = batch()
    defense = DEFENSES["at"](objective=objective, steps=2, begin="none")
    before = [p.clone() for p in net.parameters()]
    soft = defense.loss(deepcopy(net), x, F.one_hot(y, 4).float(), 0.0)
    hard = defense.loss(net, x, y, 0.0)
    hard.backward()
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))
    assert soft.item() == pytest.approx(hard.item(), rel=1e-5)


def test_weights_are_moved_by_their_part_against_the_loss(net):
    """AWP: every matrix by a part of its norm, uphill; statistics of batch normalization move once, as in plain training."""
    x, y = batch()
    plain, unmoved = deepcopy(net), deepcopy(net)
    loss = DEFENSES["at"](steps=0).loss(plain, x, y, 0.0)
    assert DEFENSES["at"](objective="AWP", awp=0.0, steps=0).loss(unmoved, x, y, 0.0).item() == pytest.approx(loss.item())
    means = {name: value for name, value in plain.state_dict().items() if "running" in name}
    assert means and all(torch.allclose(value, unmoved.state_dict()[name]) for name, value in means.items())
    matrices = [p for p in plain.parameters() if p.ndim > 1]
    for matrix, gradient in zip(matrices, torch.autograd.grad(loss, matrices), strict=True):
        matrix.data += 0.05 * matrix.data.norm() * gradient / gradient.norm()
    slow = F.cross_entropy(plain(x), y).item()
    found = DEFENSES["at"](objective="AWP", awp=0.05, steps=0).loss(net, x, y, 0.0).item()
    assert found == pytest.approx(slow, rel=1e-5) and found > loss.item()


def test_trades_looks_for_what_changes_the_output_and_needs_no_labels_for_it(net):
    """Its adversary raises the divergence on the clean output, whatever the labels say; `near` is where it begins."""
    x, y = batch()
    trades = DEFENSES["at"](objective="TRADES", begin="near", steps=5)

    def found(labels: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return trades.adversary(net, x, labels)

    def divergence(z: torch.Tensor) -> float:
        net.eval()
        with torch.no_grad():
            clean, other = net(x).softmax(1), net(z).log_softmax(1)
        net.train()
        return float(F.kl_div(other, clean, reduction="batchmean"))

    assert torch.equal(found(y), found(y.roll(1)))
    assert divergence(found(y)) > 2 * divergence(DEFENSES["at"](steps=5).adversary(net, x, y).lerp(x, 0.9))
    assert (found(y) - x).abs().max() <= 8 / 255 + 1e-6
    start = DEFENSES["at"](steps=1, step_size=1e-9, begin="near").adversary(net, x, y)
    assert 0 < (start - x).abs().max() < 0.01


def test_mart_asks_for_a_margin_to_the_best_wrong_class():
    """Against the sum over images, one after the other, on outputs that are given."""
    from unlearnable_bench.registry._adversarial_losses import mart_loss

    clean, attacked, y = torch.randn(6, 4), torch.randn(6, 4), torch.arange(6) % 4
    answers = iter([clean, attacked])
    terms = []
    for natural, other, label in zip(clean.softmax(1), attacked.softmax(1), y, strict=True):
        wrong = max(float(other[k]) for k in range(4) if k != label)
        divergence = sum(float(natural[k]) * (float(natural[k].log()) - float(other[k].log())) for k in range(4))
        terms.append(-float(other[label].log()) - np.log(1.0001 - wrong) + 6 * divergence * (1 - float(natural[label])))
    assert float(mart_loss(lambda _: next(answers), clean, attacked, y, 6.0)) == pytest.approx(np.mean(terms), rel=1e-4)


def test_adversarial_training_takes_the_protocols_own_length_for_it():
    """The quick protocol trains longer and slower under `at`."""
    recipe = PROTOCOLS["quick"]()
    changed = DEFENSES["at"]().configure(recipe)
    assert {k: getattr(changed, k) for k in recipe.adversarial} == dict(recipe.adversarial)


# Image shortcut squeezing, card D05


def test_grayscale_has_the_bytes_of_pillow():
    """Card D05: all 2^24 colours would take long; 300,000 drawn ones and the corners do not."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (100, 3, 50, 60), generator=generator, dtype=torch.uint8)
    images[0, :, 0, :8] = torch.tensor([[255 * (i >> c & 1) for i in range(8)] for c in range(3)], dtype=torch.uint8)
    found = purify(DEFENSES["grayscale"](), ImageSet(images, torch.zeros(100, dtype=torch.int64), 1)).images
    assert (found == found[:, :1]).all()
    for image, gray in zip(images, found, strict=True):
        assert np.array_equal(np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")), gray[0].numpy())


def test_grayscale_says_that_it_needs_colours():
    """A gray dataset has no row for it in the table, with the reason instead."""
    with pytest.raises(NotApplicable, match="three colour channels"):
        DEFENSES["grayscale"]().applies(tiny(shape=(1, 28, 28)).info)


@pytest.mark.parametrize("quality", [10, 75])
def test_jpeg_has_the_bytes_of_pillow(quality):
    """Card D05: encoded and decoded by libjpeg at its own chroma subsampling."""
    train = tiny(12)
    found = purify(DEFENSES["jpeg"](quality=quality), train).images
    for image, decoded in zip(train.images, found, strict=True):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        with Image.open(file) as opened:
            assert np.array_equal(np.asarray(opened), decoded.permute(1, 2, 0).numpy())


@given(bits=st.integers(1, 8))
@settings(max_examples=8)
def test_bdr_keeps_the_high_bits_and_nothing_changes_the_second_time(bits):
    """Card D05: values 0, 64, 128 and 192 at two bits; idempotent."""
    train, defense = tiny(), DEFENSES["bdr"](bits=bits)
    once = purify(defense, train)
    assert torch.equal(once.images, torch.floor(train.images.float() / 2 ** (8 - bits)).mul(2 ** (8 - bits)).byte())
    assert torch.equal(purify(defense, once).images, once.images)
    assert len(once.images.unique()) == 2**bits


# Cutout, card D07


def test_cutout_blacks_out_the_expected_area():
    """Card D07: (1/4)(7/8)^2 = 0.1914 of a 32x32 image on average, because squares are cut at the border."""
    torch.manual_seed(0)
    x, _ = DEFENSES["cutout"]().augment(torch.ones(20000, 1, 32, 32), torch.zeros(20000))
    assert abs(float((x == 0).float().mean()) - 0.1914) < 0.0015  # two standard errors of 20,000 draws are 0.0009


def test_cutout_blacks_out_one_square_per_image_in_all_channels():
    """A hole that differs between channels would be noise, not occlusion."""
    torch.manual_seed(0)
    x, _ = DEFENSES["cutout"](size=6).augment(torch.ones(200, 3, 20, 24), torch.zeros(200))
    hole = x == 0
    assert (hole == hole[:, :1]).all()
    rows, columns = hole[:, 0].any(2), hole[:, 0].any(1)  # (B, H), (B, W)
    assert torch.equal(hole[:, 0], rows[:, :, None] & columns[:, None, :])
    for line in (rows, columns):
        edges = line.int().diff(dim=1).ne(0).sum(1) + line[:, 0].int() + line[:, -1].int()
        assert (edges == 2).all(), "one run, possibly cut at the border"
        assert line.sum(1).max() == 6 and line.sum(1).min() >= 3
    assert len({tuple(h.flatten().tolist()) for h in hole[:, 0]}) > 100, "every image its own square"


def test_cutout_of_no_size_changes_nothing():
    """The end of a sweep is plain training."""
    x, y = batch()
    assert torch.equal(DEFENSES["cutout"](size=0).augment(x, y)[0], x)


# Orthogonal projection, card D14


@pytest.mark.parametrize("center", [False, True])
def test_what_the_linear_model_saw_is_gone_from_the_images(center):
    """Card D14: |Q^T x| < 1e-4 for the directions that were fitted, the rest of every image stays; idempotent."""
    train, defense = tiny(200), DEFENSES["ortho-proj"](epochs=3, center=center)
    x = train.pixels(slice(None)).flatten(1)
    mean = x.mean(0) if center else torch.zeros(3072)
    weights = defense._fit(train, mean, Job())  # (d, K), the fit that `purify` makes with this seed
    after = purify(defense, train).images.flatten(1)
    basis, _ = torch.linalg.qr(weights)
    assert ((after - mean) @ basis).abs().max() < 1e-4
    removed = x - after
    assert torch.allclose(removed, (removed @ basis) @ basis.T, atol=1e-4), "only those directions are touched"
    again = after - mean
    assert torch.allclose(again - (again @ basis) @ basis.T, again, atol=1e-4)


def test_the_projection_stays_float():
    """Rounding to 8 bits would bring part of the removed component back."""
    after = purify(small(DEFENSES["ortho-proj"]), tiny()).images
    assert after.dtype == torch.float32 and not torch.equal((after * 255).round() / 255, after)


def test_the_projection_takes_a_linear_shortcut_away():
    """Why it works: what a linear model can read of a class-wise pattern before, it cannot after."""
    train = tiny(400)
    patterns = torch.randint(0, 2, (4, 3, 32, 32), generator=torch.Generator().manual_seed(1)) * 60
    images = (train.images // 2 + patterns[train.labels]).byte()
    after = purify(DEFENSES["ortho-proj"](), dataclasses.replace(train, images=images))

    def spread(x):
        means = torch.stack([x[train.labels == k].flatten(1).mean(0) for k in range(4)])
        centred = patterns.flatten(1).float() - patterns.flatten(1).float().mean(0)
        return float((means - means.mean(0)).mul(centred).sum(1).mean())

    assert spread(after.images) < 0.3 * spread(images.float() / 255)


# Wrong fields


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("jpeg", {"quality": 0}),
        ("jpeg", {"quality": 101}),
        ("bdr", {"bits": 0}),
        ("bdr", {"bits": 9}),
        ("cutout", {"size": -1}),
        ("at", {"epsilon": -1.0}),
        ("at", {"steps": -1}),
        ("at", {"norm": "l1"}),
        ("at", {"begin": "anywhere"}),
        ("at", {"beta": -1.0}),
        ("at", {"awp": -0.1}),
        ("coin", {"alpha": -1.0}),
        ("rsk", {"deviation": -0.1}),
        ("rsk", {"kept": 0.0}),
        ("rsk", {"kept": 1.5}),
        ("sda-an", {"strength": 2.0}),
        ("sda-an", {"epochs": 0}),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_refused_by_name(name, fields):
    """Before any work, with the value that was found."""
    with pytest.raises(EntryError, match=f"defense {name}"):
        DEFENSES[name](**fields)


# SDA+AN


def told_by_two_layers(train: ImageSet, net: nn.Module) -> float:
    """The part of a set that a network gets right."""
    with torch.no_grad():
        return float((net(train.pixels(slice(None))).argmax(1) == train.labels).float().mean())


def test_the_noise_of_sda_an_hides_what_a_two_layer_network_reads_off_a_poison():
    """A shortcut per class on images of noise: read before, not after; the noise keeps its radius in 8 bits."""
    from unlearnable_bench.registry._two_layer import TwoLayerTraining, fit, two_layer

    labels = torch.arange(96) % 4
    drawn = torch.Generator().manual_seed(0)
    noise, marks = (torch.randint(-most, most + 1, (n, 3, 16, 16), generator=drawn) for most, n in ((6, 96), (16, 4)))
    poison = ImageSet((128 + noise + marks[labels]).byte(), labels, 4)
    torch.manual_seed(0)
    net = two_layer(768, 4, 64)
    fit(net, poison, TwoLayerTraining(30, 32, 0.003), Job())
    after = purify(DEFENSES["sda-an"](epochs=30, batch=32, width=64, lr=0.003), poison)
    assert told_by_two_layers(poison, net) > 0.95
    assert told_by_two_layers(after, net) < 0.3
    assert (after.images.int() - poison.images.int()).abs().max() == 8


def test_a_two_layer_network_goes_on_from_its_checkpoint(tmp_path):
    """Hours at full size: what is taken up ends in the same weights."""
    from unlearnable_bench.registry._two_layer import TwoLayerTraining, fit, two_layer

    train = tiny(24)
    torch.manual_seed(0)
    whole, part, rest = (two_layer(3072, 4, 8) for _ in range(3))
    part.load_state_dict(whole.state_dict())
    fit(whole, train, TwoLayerTraining(4, 8, 0.01), Job())

    class DiedError(Exception):
        """The process died."""

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise DiedError

    with pytest.raises(DiedError):
        fit(part, train, TwoLayerTraining(4, 8, 0.01), Job(folder=tmp_path, on_progress=stop))
    fit(rest, train, TwoLayerTraining(4, 8, 0.01), Job(folder=tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), rest.parameters(), strict=True))


def test_sda_an_takes_the_place_of_the_protocols_augmentation():
    """Its crops are its own; at strength 0 the noise is alone."""
    recipe = PROTOCOLS["fast"]()
    assert DEFENSES["sda-an"]().configure(recipe).augmentation == ()
    assert DEFENSES["sda-an"](strength=0.0).configure(recipe) == recipe
    x, y = batch()
    assert DEFENSES["sda-an"](strength=0.0).augment(x, y)[0] is x
    with pytest.raises(NotApplicable, match="square"):
        DEFENSES["sda-an"]().applies(tiny(shape=(3, 20, 36)).info)
