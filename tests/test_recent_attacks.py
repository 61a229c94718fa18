"""AUE, AAP, GUE, EntF and DUNE, attacks since 2023. Their steps are compared with the authors' in `tests/reference`."""

import math
from dataclasses import replace

import pytest
import torch
from conftest import craft, small, tiny
from test_attacks_surrogate import digits, killed_and_resumed, published
from torch.nn import functional as F

from unlearnable_bench.registry import ARCHITECTURES, ATTACKS, DataInfo, EntryError, Job, NotApplicable, _crafting
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._persistent_noise import persistent
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._surrogates import SurrogateRecipe, cosine_rate, draw_view, fit_surrogate, hits, surrogate
from unlearnable_bench.registry._views import contrastive_look, contrastive_view
from unlearnable_bench.registry._weight_noise import BlurredRounds, blurred
from unlearnable_bench.registry.attacks import dune, entf, gue


@pytest.fixture(autouse=True)
def seeded():
    """Networks are drawn from torch's own generator."""
    torch.manual_seed(0)


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def first(clean, count):
    """The first images of a set."""
    return replace(clean, images=clean.images[:count], labels=clean.labels[:count])


def test_full_strength_is_the_view_of_contrastive_learning_and_none_leaves_colours_alone():
    """The strength scales every part of it; a smaller one changes images less."""
    x = torch.rand(32, 3, 16, 16)
    assert torch.equal(contrastive_look(1.0)(x, dice())(x), contrastive_view(x, dice(), 0.1)(x))
    flat = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1).expand(32, 3, 16, 16)
    changed = [float((contrastive_look(strength)(flat, dice())(flat) - flat).abs().mean()) for strength in (0, 0.4, 1)]
    assert changed[0] < 1e-6 and 0.005 < changed[1] < changed[2] / 2


def test_a_rate_climbs_in_equal_steps_and_falls_along_a_cosine():
    """The authors' schedule of AAP, by epochs: ten of forty to climb."""
    rates = [cosine_rate(0.5, epoch, 40, 10) for epoch in range(40)]
    assert rates[0] == pytest.approx(0.05) and rates[9] == rates[10] == 0.5
    assert rates[25] == pytest.approx(0.25) and rates[39] == pytest.approx(0.25 * (1 + math.cos(math.pi * 29 / 30)))
    assert [cosine_rate(0.1, epoch, 60) for epoch in (0, 30)] == pytest.approx([0.1, 0.05])


def test_the_defaults_are_the_authors_for_cifar10():
    aue, aap = ATTACKS["aue"]().rounds(50_000), ATTACKS["aap"]().recipe
    assert (aue.weight_steps, aue.max_rounds, aue.noise_steps, aue.lr, aue.weight_decay) == (391, 60, 5, 0.1, 1e-4)
    assert aue.step_size == pytest.approx(0.8 / 255)
    assert (aap.epochs, aap.warmup, aap.lr, aap.weight_decay) == (40, 10, 0.5, 1e-4)


def test_noise_of_aue_lowers_the_loss_behind_views_and_stays_within_valid_pixels():
    """What it is for: the surrogate answers right on what it sees through a view, more than on clean images."""
    clean = first(digits()[0], 256)
    run, attack = Crafting(clean, Job()), ATTACKS["aue"](strength=0.2, epochs=6, batch=32, epsilon=32 / 255)
    net = surrogate(run, "small-cnn", drawn="he")
    noise = persistent(run, net, attack.rounds(len(clean)))
    x, y = clean.pixels(slice(None)), clean.labels
    assert noise.abs().max() <= 32 / 255 + 1e-6 and (x + noise).min() >= 0 and (x + noise).max() <= 1
    with still(net), torch.no_grad():
        view = draw_view(contrastive_look(0.2), x, dice())
        losses = [float(F.cross_entropy(net(view(z)), y)) for z in (x + noise, x)]
    assert losses[0] < 0.5 * losses[1]
    assert len(run.log["surrogate_error"]) == 6, "no round ends the search"


def test_aap_moves_towards_the_next_label_or_away_from_its_own():
    """Both of the authors' attacks, on one surrogate."""
    clean = first(digits()[0], 256)
    run = Crafting(clean, Job())
    attack = ATTACKS["aap"](surrogate="small-cnn", epochs=12, batch=32, lr=0.1, steps=20, epsilon=32 / 255)
    net = surrogate(run, "small-cnn", drawn="he")
    fit_surrogate(run, net, attack.recipe)
    toward, away = (published(clean, replace(attack, targeted=t).poison(run, net).float() / 255) for t in (True, False))
    following = (clean.labels + 1) % 10
    assert hits(run, net, toward, following) > hits(run, net, away, following) + 0.2
    assert (
        max(hits(run, net, images, clean.labels) for images in (toward, away))
        < hits(run, net, clean.images, clean.labels) - 0.2
    )


def test_entf_moves_features_from_their_class_or_to_another():
    """Push leaves the own centroid, pull ends beside another one."""
    clean = first(digits()[0], 256)
    run, y, rows = Crafting(clean, Job()), clean.labels, torch.arange(256)
    net = surrogate(run, "small-cnn")
    fit_surrogate(run, net, SurrogateRecipe(16, batch=32, lr=0.05, view="none"))
    centres = entf.centroids(run, net)
    distances = {"clean": distances_to(centres, net, clean.images)}
    for variant in ("push", "pull"):
        levels = ATTACKS["entf"](variant=variant, steps=20, epsilon=32 / 255).poison(run, net, centres)
        distances[variant] = distances_to(centres, net, published(clean, levels.float() / 255))
    own = {name: float(found[rows, y].mean()) for name, found in distances.items()}
    near = {name: float((found.argmin(1) == y).float().mean()) for name, found in distances.items()}
    assert own["push"] > max(1.2 * own["clean"], own["pull"])
    assert near["clean"] > 0.9 and max(near["push"], near["pull"]) < 0.75


def distances_to(centres, net, images):
    """From the features of 8-bit images to every centroid."""
    with still(net), torch.no_grad():
        return torch.cdist(net.features(images.float() / 255), centres)


def test_centroids_are_the_means_of_the_features_of_each_class():
    """Against a loop; a class without images has no features and stands at zero."""
    clean = replace(tiny(20, 4), num_classes=5, classes=tuple("abcde"))
    run = Crafting(clean, Job())
    net = surrogate(run, "small-cnn")
    with still(net), torch.no_grad():
        features = net.features(clean.pixels(slice(None)))
    expected = [features[clean.labels == label].mean(0) for label in range(4)]
    assert torch.allclose(entf.centroids(run, net), torch.stack([*expected, torch.zeros(64)]), atol=1e-5)


def test_the_goal_of_gue_is_the_largest_loss_to_a_wrong_label():
    """Against a loop over labels; it has a bound, since the sum of wrong probabilities has one."""
    outputs, labels = torch.randn(6, 5), torch.arange(6) % 5
    losses = [[F.cross_entropy(outputs[i : i + 1], torch.tensor([k])) for k in range(5) if k != labels[i]] for i in range(6)]
    assert gue.largest_wrong_loss(outputs, labels) == pytest.approx(float(torch.stack([max(one) for one in losses]).mean()))


def test_the_players_of_gue_move_as_the_rule_says():
    """The classifier's move lowers its goal and the gap; without a gap to close it is plain descent on the goal."""
    clean = first(digits()[0], 64)
    run, attack = Crafting(clean, Job()), ATTACKS["gue"](surrogate="small-cnn", width=4, steps=3, copy_lr=0.0)
    painter, net = attack.painter(run), surrogate(run, "small-cnn")
    x, y = clean.pixels(slice(None)), clean.labels
    before = [p.detach().clone() for p in net.parameters()]
    painted = [p.detach().clone() for p in painter.parameters()]
    net.train()
    expected = torch.autograd.grad(gue.largest_wrong_loss(net(x), y), list(net.parameters()))
    _, gap = attack.play(painter, net, x, y)
    moved = [(b - p.detach()) / attack.lr for b, p in zip(before, net.parameters(), strict=True)]
    assert gap == pytest.approx(0, abs=1e-5), "a copy that does not learn is the classifier itself"
    assert not all(torch.allclose(m, e, atol=1e-4) for m, e in zip(moved, expected, strict=True)), "the loss on pictures counts"
    assert all(torch.allclose(p, q, atol=1e-3) for p, q in zip(painted, painter.parameters(), strict=True))


def test_noise_and_color_of_dune_each_look_like_the_label_three_places_on():
    """Both branches do what they are for; a color is one shift for all images of a class, and what lowers the price."""
    clean = first(digits()[0], 128)
    fields = {"psnr": 0.0, "ssim": 0.0, "step_size": 4 / 255, "radius": 32 / 255, "steps": 10, "particles": 4, "iterations": 3}
    run, attack = Crafting(clean, Job()), ATTACKS["dune"](variant="best", **fields)
    net, goal = surrogate(run, "small-cnn"), (clean.labels + 3) % 10
    fit_surrogate(run, net, SurrogateRecipe(8, batch=16, lr=0.05, view="none"))
    noise = replace(attack, iterations=0).poison(run, [net])
    assert noise.abs().max() <= 32
    assert hits(run, net, published(clean, noise.float() / 255), goal) > hits(run, net, clean.images, goal) + 0.5
    colors = dune.Colors(clean)
    attack.find_colors(run, [net], colors)
    classes = [(clean.labels == label).nonzero().flatten() for label in range(10)]
    with still(net):
        prices = [
            attack.price(run, [net], rows, color) - attack.price(run, [net], rows, 0 * color)
            for rows, color in zip(classes, colors.of_class, strict=True)
        ]
    assert sum(prices) < -2
    gray = torch.full((20, 3, 8, 8), 0.5)
    color = replace(attack, steps=0).moved(run, [net], colors, gray, torch.arange(20) % 10)[0]
    assert torch.allclose(color, colors.of_class.repeat(2, 1).float()[:, :, None, None].expand_as(gray), atol=1e-6)


def test_what_a_color_lacks_of_the_floors_is_its_price():
    """A shift of 0.1 has 20 dB; of 0.2 six less, each of which costs 1. Structure costs what it is below its floor."""
    attack, x = ATTACKS["dune"](), torch.rand(3, 3, 16, 16) * 0.5
    assert attack.lacking(x + 0.099, x).tolist() == [0, 0, 0]
    assert attack.lacking(x + 0.2, x).tolist() == pytest.approx([20 * math.log10(2)] * 3, abs=1e-3)
    assert dune.structure(x, x).tolist() == pytest.approx([1, 1, 1])
    faint = replace(attack, psnr=0.0).lacking(0.25 + 0.2 * (x - 0.25), x)
    assert (faint > 0.1).all() and (faint < 0.8).all()


@pytest.mark.parametrize("leader_moves", [True, False])
def test_a_swarm_ends_at_the_lowest_price_or_where_its_leader_has_gone(leader_moves):
    """Against particles one by one, as they are written down; where the best place stays, its price is the lowest."""
    places, moves = (torch.rand(6, 3, generator=dice(k), dtype=torch.float64) - 0.5 for k in (1, 2))
    seen: list[tuple[float, torch.Tensor]] = []

    def price(place):
        seen.append((float((place - 0.3).square().sum()), place.clone()))
        return seen[-1][0]

    found, lowest = dune.swarm(price, places, moves, 8, leader_moves)
    assert len(seen) == 48 and lowest == min(value for value, _ in seen)
    places, moves = places.numpy().copy(), moves.numpy().copy()
    for turn in range(8):
        values = [[float(((seen[6 * t + j][1] - 0.3) ** 2).sum()) for t in range(turn + 1)] for j in range(6)]
        leader = min(range(6), key=lambda j: min(values[j]))
        own = [seen[6 * values[j].index(min(values[j])) + j][1].numpy() for j in range(6)]
        goal = places[leader].copy() if leader_moves else own[leader]
        for j in range(6):
            moves[j] = 0.5 * moves[j] + 0.3 * (own[j] - places[j]) + 0.3 * (goal - places[j])
        places += moves
    assert found.numpy() == pytest.approx(places[leader] if leader_moves else own[leader])


def test_dune_is_refused_where_the_label_or_the_images_cannot_bear_it():
    """Three places on from the own label of three classes is the own label; SSIM has windows of 7 pixels."""
    attack = ATTACKS["dune"]()
    for info in (DataInfo((3, 32, 32), 3, 9), DataInfo((1, 6, 6), 10, 9)):
        with pytest.raises(NotApplicable):
            attack.applies(info)
    attack.applies(DataInfo((1, 7, 7), 2, 9))
    assert attack.budget.norm == "none"


@pytest.mark.parametrize(("name", "after"), [("aue", 2), ("aap", 4), ("entf", 5), ("gue", 4)])
def test_killed_and_resumed_is_undisturbed(name, after, tmp_path, monkeypatch):
    """At full size they take hours on a CPU; the rate of a resumed run is that of its epoch."""
    attack, clean = ATTACKS[name](**ATTACKS[name].small | {"epochs": 3}), tiny(40)
    assert torch.equal(killed_and_resumed(attack, clean, tmp_path, monkeypatch, after), craft(attack, clean))


def test_pue_takes_its_steps_under_noise_once_half_is_right_and_gives_weights_back():
    """The plan of a round that is told of an error; at a deviation of 0 nothing is drawn, and weights are as they were."""
    plan = BlurredRounds(8 / 255, 1, 8, 1, 1 / 255, 0.1, 0.0, 0.1, 3, deviations=(0.0, 0.1), draws=2, noise_draws=4)
    assert plan.after(0.6) == plan and plan.passes == 2
    assert plan.after(0.4).after(0.9).is_blurred and plan.after(0.4).passes == 2 * (1 + 4)
    net, generator = ARCHITECTURES["small-cnn"](4), torch.Generator().manual_seed(0)
    before, dice = [p.clone() for p in net.parameters()], generator.get_state()
    with blurred(net, 0.0, generator):
        assert torch.equal(generator.get_state(), dice)
    with blurred(net, 0.3, generator):
        moved = torch.cat([(p.detach() - q.detach()).flatten() for p, q in zip(net.parameters(), before, strict=True)])
    assert 0.28 < float(moved.std()) < 0.32
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    assert ATTACKS["pue"]().deviations == pytest.approx((0, 0.05, 0.1, 0.15, 0.2, 0.25))


@pytest.mark.parametrize("after", [8, 12])
def test_dune_killed_among_colors_or_noise_is_dune_undisturbed(after, tmp_path, monkeypatch):
    """Six steps of training, four colors, three chunks of noise; a checkpoint of the noise has the colors."""
    monkeypatch.setattr(_crafting, "PIXELS", 16 * 1024)
    attack, clean = small(ATTACKS["dune"], epochs=3), tiny(40)
    assert torch.equal(killed_and_resumed(attack, clean, tmp_path, monkeypatch, after), craft(attack, clean))


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("aue", {"strength": 1.5}, "strength=1.5, expected 0 to 1"),
        ("aap", {"strength": -0.1}, "strength=-0.1, expected 0 to 1"),
        ("aue", {"epochs": 0}, "must be 1 or more"),
        ("aap", {"steps": 0}, "must be 1 or more"),
        ("entf", {"epochs": 0}, "must be 1 or more"),
        ("gue", {"eta": 0.0}, "eta must be above 0"),
        ("gue", {"batch": 1}, "must be 1 or more, batch 2"),
        ("pue", {"draws": 0}, "must be 1 or more"),
        ("pue", {"deviation_step": 0.0}, "deviation_step above 0"),
        ("dune", {"checkpoints": 0}, "must be 1 or more"),
        ("dune", {"step_size": -1.0}, "cannot be negative"),
        ("entf", {"train_epsilon": -1.0}, "cannot be negative"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(name, fields, sentence):
    with pytest.raises(EntryError, match=sentence):
        ATTACKS[name](**fields)
