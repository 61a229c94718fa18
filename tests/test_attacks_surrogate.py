"""Attacks that train or ask a surrogate: their loops against slow versions, and the signs that their cards list.

What every attack promises is tested in test_attacks.py; here is what makes each of these the method of its name.
"""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from conftest import craft, drawn_as_torch, recipe, tiny, whole
from test_attacks_surrogate_free import softmax
from torch.nn import functional as F

from unlearnable_bench.benchmark.train import judge_network, train
from unlearnable_bench.poisons.store import Store
from unlearnable_bench.registry import (
    ARCHITECTURES,
    ATTACKS,
    EntryError,
    ImageSet,
    Job,
    Protocol,
    _adversaries,
    _batch_noise,
    _contrastive_noise,
    _crafting,
    _frozen_networks,
    _kernels,
    _noise,
    _painter,
    _persistent_noise,
    _staged,
    _surrogates,
    resolve,
)
from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._steps import sign_of_gradient, still
from unlearnable_bench.registry._views import crop_flip, jitter_gray, shift_flip
from unlearnable_bench.registry.attacks import rem, sep
from unlearnable_bench.registry.data import load


@pytest.fixture
def surrogate():
    torch.manual_seed(0)
    return ARCHITECTURES["small-cnn"](4)


@cache
def digits() -> tuple[ImageSet, ImageSet]:
    """Handwritten digits of scikit-learn, real images on which a small network learns in seconds."""
    data = load(resolve("datasets", "digits")[0])
    return data.train, data.test


def published(clean: ImageSet, delta: torch.Tensor) -> torch.Tensor:
    """The images as the store makes them."""
    return (clean.images.float() + 255 * delta).round_().clamp_(0, 255).to(torch.uint8)


def loss_of(net: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The mean loss of a network, in evaluation mode, on 8-bit images."""
    with still(net), torch.no_grad():
        return float(F.cross_entropy(net(images.float() / 255), labels))


def victim(train_set: ImageSet, test_set: ImageSet, **fields) -> tuple[torch.nn.Module, float]:
    """A network trained on a set without augmentation, and its accuracy on another."""
    torch.manual_seed(7)
    net = ARCHITECTURES["small-cnn"](train_set.num_classes, *train_set.info.shape[:2])
    train(net, train_set, test_set, Protocol(**{"epochs": 8, "batch": 64, "lr": 0.05, **fields}))
    return net, judge_network(net, test_set)[0]


@cache
def clean_victim() -> tuple[torch.nn.Module, float]:
    """The control."""
    return victim(*digits())


class Killed(Exception):  # noqa: N818  (not an error of the program)
    """Stands for the end of a process."""


def killed_and_resumed(attack, clean: ImageSet, folder, monkeypatch, after: int) -> torch.Tensor:
    """Craft, with a checkpoint at every chance, die at the report number `after`, and craft again as the store does."""
    monkeypatch.setattr(_crafting, "EVERY", 0.0)
    monkeypatch.setattr(_crafting, "SPENT_SAVING", 1e9)
    reports = []

    def dies(done: int, total: int) -> None:
        reports.append(done)
        if len(reports) == after:
            raise Killed

    with torch.random.fork_rng():
        torch.manual_seed(0)
        with pytest.raises(Killed):
            whole(attack.craft(clean, Job(on_progress=dies, folder=folder)), clean)
        assert (folder / "checkpoint-cpu.pt").exists()
        torch.manual_seed(0)
        second: list[int] = []
        made = whole(attack.craft(clean, Job(on_progress=lambda done, total: second.append(done), folder=folder)), clean)
    assert len(second) < len(reports) + len(second) and second[0] > 1, "it began again"
    return made


# Views


def test_a_crop_moves_whole_pixels_in_from_black_and_mirrors_half():
    """Against slices of a padded image, one by one: every result is one of the 9 x 9 x 2 views of its image, several differ."""
    x = torch.rand(40, 3, 16, 16) + 0.1
    found = set()
    seen = crop_flip(x, torch.Generator().manual_seed(0))(x)
    for image, view in zip(x, seen, strict=True):
        padded = F.pad(image, (2, 2, 2, 2))
        places = [(i, j, m) for i in range(5) for j in range(5) for m in (False, True)]
        cuts = {(i, j, m): padded[:, i : i + 16, j : j + 16] for i, j, m in places}
        hit = [p for p, cut in cuts.items() if torch.equal(cut.flip(2) if p[2] else cut, view)]
        assert len(hit) == 1
        found.add(hit[0])
    assert {i for i, _, _ in found} == {j for _, j, _ in found} == set(range(5)) and {m for _, _, m in found} == {False, True}


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 20, 12)], ids=str)
def test_a_bilinear_shift_is_that_of_a_sampling_grid(shape):
    """The pieces are written out for gradients that repeat; torch's own sampler says whether they are right."""
    channels, height, width = shape
    x, fill = torch.rand(6, *shape), torch.rand(1, channels, 1, 1)
    view = shift_flip(x, torch.Generator().manual_seed(1), fill)
    dice = torch.Generator().manual_seed(1)
    down = torch.empty(6, 1, 1, 1).uniform_(-height / 8, height / 8, generator=dice).flatten()
    across = torch.empty(6, 1, 1, 1).uniform_(-width / 8, width / 8, generator=dice).flatten()
    mirrored = (torch.rand(6, 1, 1, 1, generator=dice) < 0.5).flatten()
    theta = torch.eye(2, 3).repeat(6, 1, 1)
    theta[:, 0, 2], theta[:, 1, 2] = 2 * across / width, 2 * down / height
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    slow = F.grid_sample(x - fill, grid, padding_mode="zeros", align_corners=False) + fill
    slow[mirrored] = slow[mirrored].flip(3)
    assert torch.allclose(view(x), slow, atol=1e-5)  # float32 coordinates


def test_colours_that_do_not_change_leave_the_image_bit_for_bit():
    """Card A03: with no chance of jitter and of gray the adaptive form is the plain one."""
    x = torch.rand(5, 3, 8, 8) * 1.2 - 0.1
    assert torch.equal(jitter_gray(x, torch.Generator(), 0.0, 0.0)(x), x)


def test_gray_gives_all_channels_one_gradient_up_to_their_weights():
    """Card A03: noise made behind the grayscale has no colour of its own."""
    x = torch.rand(5, 3, 8, 8, requires_grad=True)
    (jitter_gray(x, torch.Generator(), 0.0, 1.0)(x) * torch.randn(5, 3, 8, 8)).sum().backward()
    assert torch.allclose(x.grad[:, 0] / 0.299, x.grad[:, 1] / 0.587, atol=1e-5)


def test_colour_jitter_changes_most_images_and_passes_a_gradient():
    """Four of five images are jittered; a transform that stops gradients would leave the noise at nothing."""
    x = (torch.rand(200, 3, 8, 8) * 0.5 + 0.25).requires_grad_(True)
    seen = jitter_gray(x, torch.Generator().manual_seed(0))(x)
    changed = (seen != x).flatten(1).any(1).float().mean()
    assert 0.75 < changed < 0.92  # 1 - 0.2 x 0.8 = 0.84, standard deviation 0.026
    seen.square().sum().backward()
    assert (x.grad.flatten(1).abs().amax(1) > 0).all()


# EM, card A01


def em_pass(clean: ImageSet, net: torch.nn.Module, delta: torch.Tensor, **fields) -> None:
    run = Crafting(clean, Job())
    _persistent_noise.noise_pass(run, net, ATTACKS["em"](surrogate="small-cnn", **fields).rounds(len(clean)), delta, None)


def test_one_noise_step_from_zero_is_the_signed_gradient(surrogate):
    """Card A01 (i): -a sign(grad) everywhere, not cut off where the pixel leaves [0, 1]."""
    clean, a = tiny(), 0.8 / 255
    delta = torch.zeros(clean.images.shape)
    em_pass(clean, surrogate, delta, noise_steps=1, step_size=a)
    with still(surrogate):
        sign = sign_of_gradient(surrogate, clean.pixels(slice(None)), clean.labels)
    x = clean.pixels(slice(None)).requires_grad_(True)
    F.cross_entropy(surrogate.eval()(x), clean.labels).backward()
    assert torch.equal(sign, x.grad.sign())
    assert torch.allclose(delta, -a * sign, atol=1e-7)  # x + delta - x in float32
    assert ((clean.images == 0) & (delta < 0)).any()


def test_the_noise_pass_lowers_the_loss_of_every_image_and_stays_in_the_box(surrogate):
    """Card A01 (ii) and (iii): the noise is error-minimizing, and never beyond epsilon although steps sum to more."""
    clean, epsilon = tiny(), 4 / 255
    delta = torch.zeros(clean.images.shape)
    x, y = clean.pixels(slice(None)), clean.labels
    surrogate.eval()
    before = F.cross_entropy(surrogate(x), y, reduction="none")
    for _ in range(2):
        em_pass(clean, surrogate, delta, epsilon=epsilon, noise_steps=10, step_size=0.8 / 255)
    after = F.cross_entropy(surrogate.eval()(x + delta), y, reduction="none")
    assert (after < before).float().mean() >= 0.99
    assert delta.abs().max() <= torch.tensor(epsilon)
    assert (delta.abs() == delta.abs().max()).float().mean() > 0.5


def test_em_brings_the_surrogate_to_no_error_on_what_is_published():
    """The stop rule, and card A01 (iv): its loss collapses on the noise alone, and rounding to 8 bits does not undo it."""
    clean = tiny()
    torch.manual_seed(0)
    run = Crafting(clean, Job())
    net = _surrogates.surrogate(run, "small-cnn")
    delta = _persistent_noise.persistent(run, net, ATTACKS["em"](batch=32, noise_steps=10, step_size=1.6 / 255).rounds(64))
    assert run.log["surrogate_error"][-1] <= 0.01 and len(run.log["surrogate_error"]) < 50
    stored = published(clean, delta)
    assert _surrogates.hits(run, net, stored, clean.labels) >= 0.99
    assert 3 * loss_of(net, stored, clean.labels) < loss_of(net, clean.images, clean.labels)
    assert run.passes > len(run.log["surrogate_error"]) * 20


def test_em_stops_at_its_last_round():
    """`max_rounds` bounds the search where the surrogate never learns."""
    job, clean = Job(), tiny(16)
    whole(ATTACKS["em"](surrogate="small-cnn", batch=8, noise_steps=1, max_rounds=2, stop_error=-1.0).craft(clean, job), clean)
    assert job.notes["rounds"] == 2 and len(job.kept["surrogate_loss"]) == 2


@cache
def em_of_digits() -> torch.Tensor:
    """Noise of em on the digits."""
    item = "em(surrogate=small-cnn,weight_steps=30,batch=128,noise_steps=5,step_size=1.6/255)"
    return craft(resolve("attacks", item)[0].build(), digits()[0])


def test_a_victim_of_em_learns_its_training_set_and_nothing_else():
    """Section 2 of the cards: without augmentation, loss on the poison is nothing and the clean test set is at chance."""
    train_set, test_set = digits()
    poisoned = replace(train_set, images=published(train_set, em_of_digits()))
    net, accuracy = victim(poisoned, test_set)
    assert judge_network(net, poisoned)[0] >= 0.99 and accuracy <= 0.25
    assert clean_victim()[1] >= 0.6


@pytest.mark.parametrize("name", ["em", "lsp"])
def test_a_linear_model_and_the_mean_of_a_class_tell_this_noise(name):
    """Cards A01 (v) and F01: on images that neither was fitted to, both name the class; of AR a linear model cannot (F02)."""
    clean, _ = digits()
    delta = em_of_digits() if name == "em" else craft(ATTACKS["lsp"](), clean)
    told = softmax(delta, clean), by_class_mean(delta, clean)
    assert min(told) > 0.9, told


def by_class_mean(delta: torch.Tensor, clean: ImageSet) -> float:
    """Accuracy of one filter per class, the mean of its noise on two thirds of the images, on the rest."""
    cut = len(delta) * 2 // 3
    flat = delta.flatten(1)
    filters = torch.stack([flat[:cut][clean.labels[:cut] == k].mean(0) for k in range(clean.num_classes)])
    return float(((flat[cut:] @ F.normalize(filters).T).argmax(1) == clean.labels[cut:]).float().mean())


def test_making_noise_leaves_the_surrogate_as_it_is():
    """Section 1 of the cards: noise made in training mode would move running statistics, and couple the images of a batch."""
    clean = tiny(24, shape=(3, 16, 16))
    run = Crafting(clean, Job())
    torch.manual_seed(0)
    net = _surrogates.surrogate(run, "resnet18")
    net.train()
    before = copy.deepcopy(net.state_dict())
    delta = torch.zeros(clean.images.shape)
    em_pass(clean, net, delta, noise_steps=1)
    alone = torch.zeros(clean.images.shape)
    em_pass(replace(clean, images=clean.images[:1], labels=clean.labels[:1]), net, alone[:1], noise_steps=1)
    plan = ATTACKS["rem"](noise_steps=1, samples=2, adversary_steps=1).alternation()
    with still(net):
        plan.minimize(run, net, *run.batch(slice(None)))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items()) and net.training
    assert (delta[0] != alone[0]).float().mean() < 0.01, "an image's noise depends on the others of its batch"


def test_the_loaders_that_truncate_do_so():
    """The published numbers rest on it: one keeps the brightening half alone, the other moves everything down."""
    clean = tiny(8)
    delta = (torch.randint(-80, 80, clean.images.shape) + 0.5) / 2550  # on no whole level
    x = clean.images.double()
    as_loaded = (x + (255 * delta.double()).clamp(0, 255)).clamp(0, 255).to(torch.uint8)  # a float to uint8 truncates
    original = _noise.exported(delta, "original", 8 / 255)
    assert torch.equal(published(clean, original), as_loaded) and (original >= 0).all()
    as_loaded = (x + 255 * delta.double()).clamp(0, 255).floor().to(torch.uint8)
    assert torch.equal(published(clean, _noise.exported(delta, "lfu", 8 / 255)), as_loaded)
    edge = torch.full((1, 1, 1, 1), 8 / 255)
    assert float(_noise.exported(edge, "original", 8 / 255)) == pytest.approx(8 / 255)
    assert float(_noise.exported(-edge - 1e-4, "lfu", 8 / 255)) == pytest.approx(-8 / 255)


def test_each_em_variant_has_the_schedule_of_its_source():
    """Table of card A01: mixing these up is the commonest way to miss a number."""
    em, size, eps = ATTACKS["em"], 50_000, 8 / 255
    found = {v: em(variant=v).rounds(size) for v in ("paper", "original", "lfu", "tue", "apb")}
    assert {v: (p.weight_steps, p.batch, p.noise_steps) for v, p in found.items()} == {
        "paper": (10, 512, 20),
        "original": (10, 512, 20),
        "lfu": (10, 512, 20),
        "tue": (98, 512, 20),
        "apb": (10, 128, 5),
    }
    assert found["paper"].step_size == pytest.approx(0.8 / 255) and found["apb"].step_size == pytest.approx(eps / 5)
    plan = em(variant="rem").alternation()
    assert (plan.train_steps, plan.batch, plan.noise_steps, plan.samples, plan.mirrored_frame) == (5000, 128, 10, 1, True)
    assert plan.step_size == pytest.approx(1.6 / 255) and plan.passes == 20


def test_the_rem_code_keeps_noise_of_the_cropped_image_for_the_whole_one():
    """Card A01, pitfall 2: on a network that only looks at one place, noise would sit there alone if frames were aligned."""

    class Spot(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(1, 4)

        def forward(self, x):
            return self.head(x[:, :1, 8, 4])

    clean = tiny(16, shape=(3, 16, 16))
    run = Crafting(clean, Job())
    plan = replace(ATTACKS["em"](variant="rem").alternation(), train_steps=1, batch=8)
    with still(net := Spot()):
        x, y = run.batch(slice(None))
        seen = plan.looked_at(x, run)
        assert not torch.equal(seen, x)
        delta = plan.minimize(run, net, seen, y)
    assert (seen + delta).min() >= -1e-6 and (seen + delta).max() <= 1 + 1e-6
    assert plan.views(x, run.device_generator)[0](x) is x  # what is learnt is that view, not a new one


def test_noise_of_the_rem_code_starts_within_valid_pixels_and_that_of_rem_does_not():
    """Its EM cuts the random start; a pixel outside would have no gradient in the first step."""
    clean = tiny(16, shape=(3, 16, 16))
    run, net = Crafting(clean, Job()), torch.nn.Flatten()
    x, y = run.batch(slice(None))
    for attack, valid in ((ATTACKS["em"](variant="rem"), True), (ATTACKS["rem"](), False)):
        begun = x + replace(attack.alternation(), noise_steps=0).minimize(run, net, x, y)
        assert (begun.min() >= 0 and begun.max() <= 1) == valid


def test_colours_inside_em_change_the_noise_and_only_where_asked():
    """`augment=cg` must reach both halves; a flag that does nothing would pass every other test."""
    clean = tiny(32)
    fields = {"surrogate": "small-cnn", "batch": 16, "noise_steps": 3, "max_rounds": 2}
    plain, colour = (craft(ATTACKS["em"](augment=a, **fields), clean) for a in ("none", "cg"))
    assert (plain != colour).float().mean() > 0.1
    with pytest.raises(EntryError, match="variant=rem"):
        ATTACKS["em"](variant="rem", augment="cg")


@pytest.mark.parametrize(
    ("fields", "after"),
    [({"stop_error": -1.0, "max_rounds": 4, "augment": "cg"}, 3), ({"variant": "rem", "train_steps": 5}, 4)],
    ids=["rounds", "rem"],
)
def test_em_killed_and_resumed_is_em_undisturbed(fields, after, tmp_path, monkeypatch):
    """At full size it takes hours on a CPU; a resumed run must not be another poison."""
    attack, clean = ATTACKS["em"](surrogate="small-cnn", batch=12, noise_steps=2, start="uniform", **fields), tiny(40)
    made = killed_and_resumed(attack, clean, tmp_path, monkeypatch, after)
    assert torch.equal(made, craft(attack, clean))


# EM-class, card A02


def test_class_noise_moves_to_the_mean_of_what_its_images_ask(surrogate):
    """Against a loop over classes and images; a class that is not in the batch keeps its noise."""
    clean, plan = tiny(24), ATTACKS["em-class"](surrogate="small-cnn").rounds()
    run = Crafting(clean, Job())
    rows = torch.nonzero(clean.labels != 3).flatten()
    noise = (torch.rand(4, 3, 32, 32) * 2 - 1) * plan.epsilon
    before = noise.clone()
    x, y = run.batch(rows)
    with still(surrogate):
        sign = sign_of_gradient(surrogate, (x + before[y]).clamp(0, 1), y)
        _persistent_noise.move_classes(run, surrogate, plan, rows, noise)
    for label in range(3):
        asked = []
        for image in torch.nonzero(y == label).flatten().tolist():
            z = (x[image] + before[label]).clamp(0, 1) - 0.8 / 255 * sign[image]
            asked.append((z - x[image]).clamp(-plan.epsilon, plan.epsilon))
        assert torch.allclose(noise[label], torch.stack(asked).mean(0), atol=1e-6)
    assert torch.equal(noise[3], before[3])


def test_class_noise_is_a_trigger_on_images_that_it_was_not_made_from():
    """Card A02: the noise of class c on clean test images makes the surrogate answer c, and all images of a class share it."""
    train_set, test_set = digits()
    torch.manual_seed(0)
    run = Crafting(train_set, Job())
    net = _surrogates.surrogate(run, "small-cnn")
    attack = ATTACKS["em-class"](surrogate="small-cnn", batch=128, epsilon=16 / 255, part=0.5)
    noise = _persistent_noise.class_wise(run, net, attack.rounds(), attack.part)
    assert run.log["surrogate_error"][-1] <= 0.01 and run.log["surrogate_loss"][-1] < run.log["surrogate_loss"][0]
    x, answers = test_set.pixels(slice(None)), []
    with still(net), torch.no_grad():
        for label in range(10):
            answers.append(float((net(x + noise[label]).argmax(1) == label).float().mean()))
    assert sum(answers) / 10 > 0.6  # chance is 0.1


def test_one_perturbation_per_class():
    """Card A02, and the authors' loader leaves its brightening half."""
    clean = tiny(24)
    for variant in ("paper", "original"):
        delta = craft(ATTACKS["em-class"](**{**ATTACKS["em-class"].small, "variant": variant}), clean)
        assert all((delta[clean.labels == k] == delta[k]).all() for k in range(4)) and (delta[0] != delta[1]).any()
        assert (delta.min() >= 0) == (variant == "original")


# TAP, card A06


@cache
def trained_surrogate() -> tuple[Crafting, torch.nn.Module]:
    """A surrogate that was trained cleanly on the digits, with tap's own code at a small scale."""
    torch.manual_seed(0)
    run = Crafting(digits()[0], Job())
    attack = ATTACKS["tap"](surrogate="small-cnn", epochs=25, batch=64)
    net = attack.network(run)
    _surrogates.fit_surrogate(run, net, attack.recipe)
    return run, net


def shifts(net: torch.nn.Module, test_set: ImageSet) -> list[float]:
    """How often a network answers y - k, for every k."""
    with torch.no_grad():
        answers = net.eval()(test_set.pixels(slice(None))).argmax(1)
    classes = test_set.num_classes
    return [float(((test_set.labels - answers) % classes == k).float().mean()) for k in range(classes)]


def test_tap_raises_the_loss_of_its_surrogate_and_its_victims_answer_the_class_before():
    """Card A06 (i) and (ii): images look like y + 1 to the surrogate under label y, so that clean y is called y - 1."""
    run, net = trained_surrogate()
    clean, test_set = digits()
    levels = ATTACKS["tap"](epsilon=32 / 255, steps=20, step_size=6 / 255, restarts=1).poison(run, net)
    stored = published(clean, levels.float() / 255)
    assert _surrogates.hits(run, net, stored, (clean.labels + 1) % 10) > 0.6
    assert (
        _surrogates.hits(run, net, stored, clean.labels) < 0.15 < 0.7 < _surrogates.hits(run, net, clean.images, clean.labels)
    )
    assert loss_of(net, stored, clean.labels) > max(2.0, 4 * loss_of(net, clean.images, clean.labels))
    before, after = shifts(clean_victim()[0], test_set), shifts(victim(replace(clean, images=stored), test_set)[0], test_set)
    gained = [b - a for a, b in zip(before[1:], after[1:], strict=True)]
    assert gained[0] >= 0.06 and gained[0] > max(gained[1:])


def test_descent_is_the_plain_loop_of_signed_steps(surrogate):
    """Against the method written down for one image at a time, without a view; and in l2 with lengths and a ball."""
    clean = tiny(3)
    run, x, goal = Crafting(clean, Job()), clean.pixels(slice(None)), (clean.labels + 1) % 4
    for norm, epsilon, step in (("linf", 8 / 255, 2 / 255), ("l2", 0.5, 0.2)):
        plan = _frozen_networks.Descent(epsilon, norm, 6, step)
        with still(surrogate):
            delta, losses = plan.apply(run, x, _frozen_networks.toward(run, [surrogate], goal))
            for row in range(3):
                z = x[row : row + 1].clone()
                for _ in range(6):
                    last = F.cross_entropy(surrogate(z.requires_grad_(True)), goal[row : row + 1])
                    (gradient,) = torch.autograd.grad(last, z)
                    move = gradient.sign() if norm == "linf" else gradient / gradient.norm()
                    change = z.detach() - step * move - x[row]
                    if norm == "linf":
                        change = change.clamp(-epsilon, epsilon)
                    elif change.norm() > epsilon:
                        change = change * epsilon / change.norm()
                    z = (x[row] + change).clamp(0, 1).detach()
                assert (delta[row] - (z[0] - x[row])).abs().max() < 1e-4  # float32; a sign of an almost zero gradient apart
                assert losses[row] == pytest.approx(last.item(), abs=1e-3)


def test_tap_keeps_the_restart_with_the_lowest_mean_loss():
    """One start for the whole set, chosen by its last loss."""
    clean = tiny(6, shape=(1, 4, 4))
    run, losses = Crafting(clean, Job()), iter([3.0, 1.0, 2.0])
    torch.manual_seed(0)
    levels = _frozen_networks.frozen(
        run,
        torch.nn.ModuleList(),
        lambda x, y, where: (torch.full_like(x, (found := next(losses)) / 255), torch.full((len(x),), found)),
        torch.int16,
        restarts=3,
    )
    assert (levels == 1).all() and run.log["loss_of_start"] == [3.0, 1.0, 2.0]


def test_tap_killed_while_training_or_crafting_is_tap_undisturbed(tmp_path, monkeypatch):
    """Eight restarts take hours on a CPU; the report numbers fall into training and into the second restart."""
    monkeypatch.setattr(_crafting, "PIXELS", 16 * 1024)
    attack = ATTACKS["tap"](surrogate="small-cnn", epochs=2, batch=12, steps=2, restarts=2)
    clean = tiny(40)
    undisturbed = craft(attack, clean)
    for after in (4, 11):  # 3 steps an epoch, 3 chunks a restart
        folder = tmp_path / str(after)
        folder.mkdir()
        assert torch.equal(killed_and_resumed(attack, clean, folder, monkeypatch, after), undisturbed)


def test_the_two_code_bases_of_tap_differ_in_step_start_and_surrogate():
    """Their victims end 15 points apart; card A06."""
    paper, rem = (ATTACKS["tap"](variant=v) for v in ("paper", "rem"))
    assert (paper.recipe.epochs, paper.recipe.view, paper.recipe.nesterov) == (40, "shift", True)
    assert (rem.recipe.steps, rem.recipe.view, rem.recipe.drops) == (40_000, "crop", (0.4, 0.8))
    assert [round(40 * d) for d in paper.recipe.drops] == [14, 24, 35]
    assert paper.recipe.rate(13, 40, 1) == 0.1 and paper.recipe.rate(14, 40, 1) == pytest.approx(0.01)


# HYPO, card A07


def test_hypo_lowers_the_loss_of_every_image_and_shifts_no_answers():
    """Card A07: features are reinforced, not moved: the surrogate is surer of every label, errors of victims lean nowhere."""
    run, net = trained_surrogate()
    clean, test_set = digits()
    levels = ATTACKS["hypo"](epsilon=16 / 255, steps=20).poison(run, net)
    stored = published(clean, levels.float() / 255)
    with still(net), torch.no_grad():
        before = F.cross_entropy(net(clean.pixels(slice(None))), clean.labels, reduction="none")
        after = F.cross_entropy(net(stored.float() / 255), clean.labels, reduction="none")
    assert (after < before).float().mean() > 0.8 and after.mean() < 0.9 * before.mean()
    assert _surrogates.hits(run, net, stored, clean.labels) > _surrogates.hits(run, net, clean.images, clean.labels)
    gained = [
        b - a
        for a, b in zip(
            shifts(clean_victim()[0], test_set),
            shifts(victim(replace(clean, images=stored), test_set)[0], test_set),
            strict=True,
        )
    ]
    assert max(gained[1:]) < 0.12 and gained[1] < 0.1


def test_the_surrogate_of_hypo_is_trained_on_worst_cases_and_that_of_p2_is_not():
    """Card A07: a short adversarial training is what gives the noise its non-robust features."""
    clean, hypo = tiny(32), ATTACKS["hypo"]
    passes = {}
    for variant in ("paper", "p2"):
        job = Job()
        whole(hypo(**{**hypo.small, "variant": variant}).craft(clean, job), clean)
        passes[variant] = job.notes["passes"]
    assert passes == {"paper": 2 * (3 + 2 * 2) + 2 * 5, "p2": 2 * 3 + 2 * 5}
    assert (hypo().recipe.epochs, hypo(variant="p2").recipe.epochs) == (10, 150)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_hypo_p5_is_one_random_pattern_per_class_of_the_radius(norm):
    """What the staged-training paper most likely ran; no surrogate is trained."""
    clean = tiny(12)
    delta = craft(ATTACKS["hypo"](variant="p5", norm=norm, epsilon=0.5), clean)
    assert all((delta[clean.labels == k] == delta[k]).all() for k in range(4)) and (delta[0] != delta[1]).any()
    if norm == "l2":
        assert torch.allclose(delta.flatten(1).norm(dim=1), torch.tensor(0.5))
    else:
        assert 0.49 < delta.abs().max() <= 0.5


def test_steps_of_hypo_are_those_of_the_code_of_each_variant():
    """A tenth of the radius; of p2 a fifth in its own l2, and in linf the tenth that APBench takes."""
    for variant, norm, part in (("paper", "linf", 10), ("paper", "l2", 10), ("p2", "l2", 5), ("p2", "linf", 10)):
        assert ATTACKS["hypo"](variant=variant, norm=norm, epsilon=0.5).descent.step_size == 0.5 / part
    assert (ATTACKS["hypo"]().descent.view, ATTACKS["hypo"](variant="p2").descent.view) == ("shift", "none")


def test_surrogates_are_drawn_as_in_the_code_of_their_attack(monkeypatch):
    """By the fan out in hypo, as torch does in its p2 and in what APBench calls REM."""
    run = Crafting(tiny(8), Job())
    assert not any(drawn_as_torch(ATTACKS["hypo"](surrogate="small-cnn").network(run)))
    assert all(drawn_as_torch(ATTACKS["hypo"](variant="p2", surrogate="small-cnn").network(run)))

    def untrained(run, net, plan):
        raise LookupError(all(drawn_as_torch(net)))

    monkeypatch.setattr(rem, "persistent", untrained)
    with pytest.raises(LookupError, match="True"):
        craft(ATTACKS["rem"](variant="apb", surrogate="small-cnn"), tiny(8))


def test_hypo_in_l2_stays_in_the_ball():
    """Delusive noise is an l2 attack in its own paper."""
    delta = craft(ATTACKS["hypo"](**{**ATTACKS["hypo"].small, "variant": "p2", "norm": "l2", "epsilon": 0.5}), tiny(8))
    length = delta.flatten(1).norm(dim=1)
    assert length.max() <= 0.5 + 0.5 / 255 * 3072**0.5 and length.min() > 0.4


# REM and SEM, cards A04 and A05


@pytest.mark.parametrize("kind", ["uniform", "pgd", "fgsm", "tpgd", "apgd"])
def test_an_adversary_stays_in_its_box_and_raises_the_loss(kind, surrogate):
    """What the surrogate is trained against; APGD must do no worse than the plain steps of the same number."""
    clean, radius = tiny(32), 4 / 255
    v, y = clean.pixels(slice(None)), clean.labels
    with still(surrogate):
        w = Adversary(kind, radius)(surrogate, v, y, torch.Generator().manual_seed(0))
        before, after = (F.cross_entropy(surrogate(z), y, reduction="none") for z in (v, w))
        pgd = Adversary("pgd", radius)(surrogate, v, y, torch.Generator().manual_seed(0))
        strongest = F.cross_entropy(surrogate(pgd), y)
    assert (w - v).abs().max() <= radius + 1e-6 and w.min() >= 0 and w.max() <= 1
    if kind in ("pgd", "fgsm", "apgd"):
        assert (after > before).all()
    elif kind == "tpgd":
        assert (after - before).abs().mean() > 0.3 * float(strongest - before.mean())
    if kind == "apgd":
        assert after.mean() > 0.97 * strongest


def test_apgd_is_its_algorithm_for_one_image_at_a_time(surrogate):
    """Algorithm 1 of Croce and Hein with its checkpoints, momentum and returns to the best point, in float64."""
    surrogate, radius, steps = surrogate.double(), 4 / 255, 20
    clean = tiny(6, shape=(3, 16, 16))
    v, y = clean.pixels(slice(None)).double(), clean.labels
    dice = torch.Generator().manual_seed(2)
    start = torch.empty_like(v).uniform_(-radius, radius, generator=dice)
    with still(surrogate):
        fast = Adversary("apgd", radius, steps)(surrogate, v, y, torch.Generator().manual_seed(2))
        for row in range(6):
            image, label = v[row : row + 1], y[row : row + 1]

            def at(z: torch.Tensor, label=label) -> tuple[float, torch.Tensor]:
                z = z.clone().requires_grad_(True)
                loss = F.cross_entropy(surrogate(z).float(), label)
                return loss.item(), torch.autograd.grad(loss, z)[0]

            def into(z: torch.Tensor, image=image) -> torch.Tensor:
                return (image + (z - image).clamp(-radius, radius)).clamp(0, 1)

            points = [into(image + start[row : row + 1])]
            losses, slopes = [at(points[0])[0]], [at(points[0])[1]]
            best, eta, halved, best_before = 0, 2 * radius, False, losses[0]
            marks, rises, last_mark = [5, 9, 12, 14, 16, 18, 19, 20], 0, 0
            now, before = points[0], points[0]
            loss_now, slope_now = losses[0], slopes[0]
            for k in range(1, steps + 1):
                z = into(now + eta * slope_now.sign())
                new = z if k == 1 else into(now + 0.75 * (z - now) + 0.25 * (now - before))
                loss_new, slope_new = at(new)
                rises += loss_new > loss_now
                before, now, loss_now, slope_now = now, new, loss_new, slope_new
                points.append(new)
                losses.append(loss_new)
                slopes.append(slope_new)
                if loss_new > losses[best]:
                    best = len(points) - 1
                if k in marks:
                    stuck = rises < 0.75 * (k - last_mark) or (not halved and losses[best] <= best_before)
                    if stuck:
                        eta, now, loss_now, slope_now = eta / 2, points[best], losses[best], slopes[best]
                    halved, best_before, rises, last_mark = stuck, losses[best], 0, k
            assert _adversaries._checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
            assert (fast[row] - points[best][0]).abs().gt(1e-7).float().mean() < 0.01  # its steps are float32


def test_noise_of_views_is_what_a_loop_over_views_and_autograd_give(surrogate):
    """Card A04: stacking the views of a step along the batch changes no sign, and the adversary counts as an offset."""
    surrogate = surrogate.double()
    clean = tiny(4)
    run = Crafting(clean, Job())
    x, y = clean.pixels(slice(None)).double(), clean.labels
    plan = replace(ATTACKS["rem"](samples=3, adversary_steps=2).alternation(), noise_steps=1)
    start = run.device_generator.get_state()
    with still(surrogate):
        fast = plan.minimize(run, surrogate, x, y)
    dice = torch.Generator()
    dice.set_state(start)
    delta = torch.empty_like(x).uniform_(-plan.epsilon, plan.epsilon, generator=dice).requires_grad_(True)
    view = crop_flip(x.repeat(3, 1, 1, 1), dice)
    surrogate.eval()
    offset = torch.empty(12, 3, 32, 32, dtype=torch.float64).uniform_(-4 / 255, 4 / 255, generator=dice)
    total = torch.zeros_like(x)
    for j in range(3):
        part = slice(4 * j, 4 * j + 4)
        v = view((x + delta).clamp(0, 1).repeat(3, 1, 1, 1))[part]
        w = (v + offset[part]).clamp(0, 1).detach()
        for _ in range(2):
            w.requires_grad_(True)
            (up,) = torch.autograd.grad(F.cross_entropy(surrogate(w), y), w)
            w = (v + (w + 0.8 / 255 * up.sign() - v).clamp(-4 / 255, 4 / 255)).clamp(0, 1).detach()
        w.requires_grad_(True)
        (h,) = torch.autograd.grad(F.cross_entropy(surrogate(w), y), w)
        total += torch.autograd.grad((v * h).sum(), delta)[0]
    slow = (delta - plan.step_size * total.sign()).clamp(-plan.epsilon, plan.epsilon)
    assert (fast - slow).abs().gt(1e-9).float().mean() < 1e-3  # a gradient of zero up to rounding has no sign


def test_for_a_linear_network_the_offset_of_the_adversary_does_not_matter():
    """Card A04, straight-through: the gradient with respect to the noise is the same wherever the adversary went."""
    clean = tiny(4, shape=(3, 16, 16))

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.linspace(-1, 1, 3 * 256).view(3, 16, 16)

        def forward(self, x):
            score = (x * self.weight).flatten(1).sum(1)
            return torch.stack([score, -score], 1)

    noises = []
    for kind in ("none", "same"):
        run = Crafting(ImageSet(clean.images, clean.labels % 2, 2), Job())
        plan = ATTACKS["rem"](samples=1, noise_steps=1, noise_adversary=kind, adversary="fgsm").alternation()
        with still(net := Linear()):
            noises.append(plan.minimize(run, net, *run.batch(slice(None))))
    assert torch.equal(*noises)


def test_sem_is_rem_with_uniform_noise_and_at_radius_zero_rem_without_an_adversary():
    """Card A05: the same loop with the same random numbers, so that the ablation is of one thing."""
    clean, fields = tiny(16), dict(ATTACKS["sem"].small) | {"train_steps": 1, "batch": 16}
    sem, rem = ATTACKS["sem"], ATTACKS["rem"]
    assert torch.equal(craft(sem(**fields), clean), craft(rem(noise_adversary="uniform", **fields), clean))
    zero = craft(sem(random_epsilon=0.0, **fields), clean)
    assert torch.equal(zero, craft(rem(noise_adversary="none", **fields), clean))
    assert not torch.equal(zero, craft(sem(**fields), clean))


def test_rem_without_adversary_and_views_is_em_of_its_code_base_in_aligned_frames(surrogate, monkeypatch):
    """Card A04: what is left of the loop is the plain one; away from black and white, cutting to valid pixels is nothing."""
    monkeypatch.setattr(_batch_noise, "crop_flip", lambda x, dice: lambda z: z)
    clean = replace(tiny(8), images=tiny(8).images // 2 + 64)
    plans = [
        ATTACKS["rem"](adversary_epsilon=0.0, samples=1).alternation(),
        ATTACKS["em"](variant="rem").alternation(),
    ]
    noises = []
    for plan in plans:
        run = Crafting(clean, Job())
        x, y = run.batch(slice(None))
        with still(surrogate):
            noises.append(plan.minimize(run, surrogate, plan.looked_at(x, run), y))
    assert torch.allclose(*noises, atol=1e-6) and noises[0].abs().max() > 7.9 / 255


def test_the_rows_of_the_ablation_of_sem_are_those_of_the_two_loops():
    """Table 7 of its paper, loop B of the cards: what each row adds to noise and to weights, under both entries' names."""
    clean, sem, rem = tiny(16, shape=(3, 16, 16)), ATTACKS["sem"], ATTACKS["rem"]
    fields = dict(sem.small) | {"train_steps": 2, "batch": 8}
    same = {
        "both": {"noise_adversary": "uniform"},
        "noise": {"noise_adversary": "uniform", "weight_adversary": "none"},
        "weights": {"noise_adversary": "none"},
        "none": {"adversary_epsilon": 0.0},
    }
    made = {components: craft(sem(components=components, **fields), clean) for components in same}
    for components, as_rem in same.items():
        assert torch.equal(made[components], craft(rem(**fields, **as_rem), clean)), components
    assert len({bytes(delta.numpy()) for delta in made.values()}) == 4


def test_sem_needs_a_ninth_of_the_passes_of_rem():
    """Cards A04 and A05: 1,123 and 123 passes for each image of a step at the defaults; measured at half the size too."""
    plans = {name: ATTACKS[name]().alternation() for name in ("rem", "sem")}
    assert {name: p.passes + 3 + p.weight_adversary.passes for name, p in plans.items()} == {"rem": 1123, "sem": 123}
    counted = {}
    for name in plans:
        job, clean = Job(), tiny(8, shape=(3, 16, 16))
        attack = ATTACKS[name](surrogate="small-cnn", train_steps=2, batch=8, noise_steps=2, samples=1, adversary_steps=10)
        whole(attack.craft(clean, job), clean)
        counted[name] = job.notes["passes"]
    assert counted == {"rem": 3 * 2 * 22 + 2 * 23, "sem": 3 * 2 * 2 + 2 * 23}


def test_the_noise_of_sem_is_whole_levels_for_every_image_and_lowers_the_loss_of_views():
    """The final pass reaches the incomplete last batch too, which the published code leaves at older noise."""
    clean = tiny(21, shape=(3, 16, 16))
    torch.manual_seed(0)
    run = Crafting(clean, Job())
    net = _surrogates.surrogate(run, "small-cnn", "centred")
    plan = ATTACKS["sem"](train_steps=6, batch=8, samples=2, adversary_steps=2).alternation()
    levels = _batch_noise.alternate(run, net, plan)
    assert levels.dtype == torch.int8 and levels.abs().max() <= 8
    assert (levels.flatten(1) != 0).float().mean(1).min() > 0.8
    brief = craft(ATTACKS["sem"](**(dict(ATTACKS["sem"].small) | {"train_steps": 1, "batch": 8})), clean)
    assert (brief.flatten(1).abs().amax(1) > 0).all(), "one step sees 8 of 21 images; the rest have noise all the same"
    view = crop_flip(run.clean.pixels(slice(None)), torch.Generator().manual_seed(5))
    x, y = run.batch(slice(None))
    with still(net), torch.no_grad():
        before, after = (F.cross_entropy(net(view(z)), y) for z in (x, (x + levels / 255).clamp(0, 1)))
    assert after < before


def test_what_apbench_calls_rem_climbs_before_it_descends():
    """Card A04: no robust surrogate; each pass first goes up within half the radius, from where it went up to before."""
    clean = tiny(16)
    plan = replace(ATTACKS["rem"](variant="apb").rounds(), batch=8, max_rounds=2, stop_error=-1.0, noise_steps=1)
    torch.manual_seed(0)
    run = Crafting(clean, Job())
    net = _surrogates.surrogate(run, "small-cnn")
    delta = _persistent_noise.persistent(run, net, plan)
    # six steps of different signs: not reachable by one step of epsilon / 5 from nothing
    assert delta.abs().max() > plan.step_size + 1e-4 and delta.abs().max() <= plan.epsilon / 2 + plan.step_size + 1e-6
    assert run.passes == pytest.approx(2 * (3 * 80 / 16 + 2 * 5 + 2 * 1 + 1))
    starts = [torch.zeros_like(delta), torch.full_like(delta, 2 / 255)]

    def after_a_pass(noise: torch.Tensor, risen: torch.Tensor) -> torch.Tensor:
        noise, risen = noise.clone(), risen.clone()
        _persistent_noise.noise_pass(run, net, plan, noise, risen)
        return noise

    same, again, other = (after_a_pass(starts[a], starts[b]) for a, b in ((0, 0), (1, 0), (0, 1)))
    assert torch.equal(same, again) and not torch.equal(same, other)  # the climb's end counts, not the descent's


@pytest.mark.parametrize(
    "fields", [{"adversary": "apgd"}, {"augment": "cg"}, {"adversary": "tpgd", "weight_adversary": "none"}], ids=str
)
def test_rem_runs_with_each_inner_attack_and_with_colours(fields):
    """Table 14 and the adaptive form: each gives other noise than the paper's, of the same radius."""
    clean, rem = tiny(8, shape=(3, 16, 16)), ATTACKS["rem"]
    small = dict(rem.small) | {"batch": 8, "train_steps": 1}
    delta = craft(rem(**small, **fields), clean)
    assert (delta != craft(rem(**small), clean)).any() and delta.abs().max() <= 8 / 255 + 1e-6


def test_sem_killed_and_resumed_is_sem_undisturbed(tmp_path, monkeypatch):
    """At full size it takes days on a CPU; killed once in training and once in the final pass."""
    attack, clean = ATTACKS["sem"](**(dict(ATTACKS["sem"].small) | {"train_steps": 4, "batch": 8})), tiny(20, shape=(3, 16, 16))
    undisturbed = craft(attack, clean)
    for after in (3, 6):
        folder = tmp_path / str(after)
        folder.mkdir()
        assert torch.equal(killed_and_resumed(attack, clean, folder, monkeypatch, after), undisturbed)


# SEP, card A08


def checkpoints(count: int, run: Crafting) -> list[torch.nn.Module]:
    torch.manual_seed(3)
    return [_surrogates.surrogate(run, "small-cnn", "standard").eval() for _ in range(count)]


def test_sep_with_one_checkpoint_is_tap_without_views_towards_the_opposite_class():
    """Card A08: what is new are the checkpoints; half the classes away instead of one."""
    clean = tiny(6)
    run = Crafting(clean, Job())
    nets = checkpoints(1, run)
    levels = ATTACKS["sep"](variant="sep", epsilon=4 / 255, steps=5).poison(run, nets)
    x, y = run.batch(slice(None))
    plan = _frozen_networks.Descent(4 / 255, "linf", 5, 1 / 255)
    with still(nets[0]):
        delta, _ = plan.apply(run, x, _frozen_networks.toward(run, nets, (y + 2) % 4))
    assert torch.equal(levels, (255 * delta).round().to(torch.int16))


def test_sep_moves_answers_of_its_surrogate_to_the_opposite_class():
    """As TAP with another target; one trained checkpoint stands for the ensemble."""
    run, net = trained_surrogate()
    clean, _ = digits()
    levels = ATTACKS["sep"](variant="sep", epsilon=16 / 255, steps=12, step_size=2 / 255).poison(run, [net])
    stored = published(clean, levels.float() / 255)
    assert _surrogates.hits(run, net, stored, (clean.labels + 5) % 10) > 0.6
    assert _surrogates.hits(run, net, stored, clean.labels) < 0.3


def test_aligned_features_come_nearer_to_the_mean_of_the_target_class_step_by_step():
    """Card A08: the distance falls monotonically under full-gradient steps; class means against a plain mean."""
    clean = tiny(24)
    run = Crafting(clean, Job())
    nets = checkpoints(2, run)
    means = [sep.class_mean_features(run, net) for net in nets]
    x, y = run.batch(slice(None))
    with still(nets[0]), torch.no_grad():
        assert torch.allclose(means[0][2], nets[0].features(x)[y == 2].mean(0), atol=1e-5)
    distances = []
    for steps in range(1, 6):
        plan = _frozen_networks.Descent(8 / 255, "linf", steps, 1 / 255)
        with still(torch.nn.ModuleList(nets)):
            _, losses = plan.apply(run, x, sep.align(run, nets, means, (y + 2) % 4))
        distances.append(float(losses.mean()))
    assert all(b < a for a, b in pairwise(distances))


@pytest.mark.parametrize("variant", ["fa-vr", "fa-vr-released"])
def test_variance_reduced_steps_are_those_of_the_algorithm_written_down(variant):
    """Against the paper's two loops; the released code walks with the last checkpoint's means."""
    clean = tiny(5)
    run = Crafting(clean, Job(seed=4))
    nets = checkpoints(3, run)
    x, y = run.batch(slice(None))
    goal, step, epsilon = (y + 2) % 4, 1 / 255, 3 / 255
    means = [sep.class_mean_features(run, net) for net in nets]
    start = run.job.generator.get_state()
    levels = ATTACKS["sep"](variant=variant, epsilon=epsilon, steps=2, inner_steps=4, checkpoints=3).poison(run, nets)
    draws = torch.Generator()
    draws.set_state(start)

    def gradient(number: int, z: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        z = z.clone().requires_grad_(True)
        gap = ((nets[number].features(z) - mean[goal]) ** 2).mean(1).sum()
        return torch.autograd.grad(gap, z)[0]

    def into(z: torch.Tensor) -> torch.Tensor:
        return (x + (z - x).clamp(-epsilon, epsilon)).clamp(0, 1)

    outer = x.clone()
    for net in nets:
        net.eval()  # `still` put them back
    for _ in range(2):
        each = [gradient(c, outer, means[c]) for c in range(3)]
        inner, total = outer, torch.zeros_like(x)
        for _ in range(4):
            c = int(torch.randint(3, (1,), generator=draws))
            total = total + gradient(c, inner, means[c] if variant == "fa-vr" else means[2]) - (each[c] - sum(each) / 3)
            inner = into(inner - step * total.sign())
        outer = into(outer - step * total.sign())
    assert (levels != ((outer - x) * 255).round()).float().mean() < 0.01  # signs of sums that are nearly zero, in float32


def test_sep_keeps_evenly_spaced_checkpoints_that_end_with_the_last():
    """Card A08: epochs 3, 7, ..., 119 counted from 0 of 120; here 2, 4 and 6 of 6, each another network."""
    clean = tiny(16, shape=(3, 16, 16))
    torch.manual_seed(0)
    run = Crafting(clean, Job())
    attack = ATTACKS["sep"](surrogate="small-cnn", epochs=6, batch=8, checkpoints=3)
    nets = attack.ensemble(run)
    weights = [net.net.head.weight.detach() for net in nets]
    assert len(nets) == 3 and not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    seen = [int(net.net.body[0][1].num_batches_tracked) for net in nets]
    assert seen == [4, 8, 12]  # two steps an epoch
    assert [round(120 * (k + 1) / 30) - 1 for k in (0, 1, 29)] == [3, 7, 119]
    assert len(run.log["surrogate_loss"]) == 6


def test_sep_killed_and_resumed_is_sep_undisturbed(tmp_path, monkeypatch):
    """Checkpoints of the surrogate that were made before the process died are needed after it."""
    monkeypatch.setattr(_crafting, "PIXELS", 8 * 256)
    attack = ATTACKS["sep"](surrogate="small-cnn", epochs=4, batch=8, checkpoints=2, steps=2)
    clean = tiny(16, shape=(3, 16, 16))
    undisturbed = craft(attack, clean)
    for after in (6, 9):  # 8 training steps, then two chunks
        folder = tmp_path / str(after)
        folder.mkdir()
        assert torch.equal(killed_and_resumed(attack, clean, folder, monkeypatch, after), undisturbed)


# NTGA, card A09


def wide_network(kind: str, side: int) -> tuple[dict[str, torch.Tensor], Callable]:
    """A wide network in the scaling of the kernel: weights and biases standard normal, scaled where they act."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    if kind == "fnn":
        sizes = (side * side, 300, 240)
        weights = {f"w{k}": normal(b, a) for k, (a, b) in enumerate(pairwise(sizes))}
        weights |= {f"b{k}": normal(b) for k, b in enumerate(sizes[1:])}

        def net(p: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
            h = x.flatten(1)
            for k in range(2):
                h = torch.erf((1.76 / h.shape[1]) ** 0.5 * h @ p[f"w{k}"].T + 0.18**0.5 * p[f"b{k}"])
            return h[0]

        return weights, net
    flat = 320 * ((side + 1) // 2) ** 2
    weights = {"w0": normal(320, 1, 5, 5), "b0": normal(320)}
    for k, (a, b) in enumerate(pairwise((flat, 256, 256, 4)), start=1):
        weights |= {f"w{k}": normal(b, a), f"b{k}": normal(b)}

    def convolutional(p: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        padded = F.pad(x, (1, 2, 1, 2))  # SAME for an even side, 5x5 at stride 2
        h = (1.76 / 25) ** 0.5 * F.conv2d(padded, p["w0"], stride=2) + 0.18**0.5 * p["b0"].view(1, -1, 1, 1)
        h = h.relu().flatten(1)
        for k in (1, 2, 3):
            h = (1.76 / h.shape[1]) ** 0.5 * h @ p[f"w{k}"].T + 0.18**0.5 * p[f"b{k}"]
        return h[0]

    return weights, convolutional


@pytest.mark.parametrize(("kind", "depth"), [("fnn", 2), ("cnn", 1)])
def test_the_kernel_is_that_of_a_wide_network(kind, depth):
    """Against products of gradients of a real network of a few hundred units, whose kernel strays by some percent."""
    kernel = _kernels.dense_erf if kind == "fnn" else _kernels.conv_relu
    x = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[1] *= 2
    weights, net = wide_network(kind, 6)
    jacobian = [torch.func.jacrev(net)(weights, x[k : k + 1]) for k in range(2)]
    exact = kernel(x, x, depth)
    for a in range(2):
        for b in range(2):
            products = sum((jacobian[a][name] * jacobian[b][name]).flatten(1).sum(1) for name in weights)
            assert float(products.mean()) == pytest.approx(float(exact[a, b]), rel=0.12)


def test_answers_after_a_time_are_those_of_gradient_descent():
    """Against small steps of descent on the mean square; early, late, and where a matrix exponential is the closed form."""
    x, y = torch.rand(6, 1, 4, 4, dtype=torch.float64), F.one_hot(torch.arange(6) % 3).double()
    kernel = _kernels.dense_erf(x, x)
    matrix = kernel + 1e-4 * kernel.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    for time in (4.0, 500.0):
        weights = torch.zeros(6, 3, dtype=torch.float64)
        for _ in range(20_000):
            weights += time / 20_000 / 18 * (y - matrix @ weights)
        assert torch.allclose(_kernels.learnt(kernel, y, time), weights, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("kind", ["cnn", "fnn"])
def test_the_gradient_through_training_is_that_of_differences(kind):
    """In float64, although judges come in parts and eigenvalues are close: four equal images."""
    clean = tiny(10, 2, (1, 8, 8))
    attack, run = ATTACKS["ntga"](kernel=kind, time=300.0), Crafting(clean, Job())
    x, y = run.batch(torch.arange(6))
    x[:4] = x[0]
    judges = torch.arange(6, 10)
    found = attack.gradient(run, x, y, judges)
    kernel = _kernels.dense_erf if kind == "fnn" else _kernels.conv_relu

    def loss(z: torch.Tensor) -> float:
        answers = kernel(z, clean.pixels(judges).double()).T @ _kernels.learnt(kernel(z, z), F.one_hot(y, 2).double(), 300.0)
        return float(F.cross_entropy(answers, clean.labels[judges], reduction="sum"))

    for place in ((0, 0, 3, 3), (5, 0, 7, 1), (4, 0, 0, 0)):
        moved = torch.zeros_like(x).double()
        moved[place] = 1e-5
        difference = (loss(x.double() + moved) - loss(x.double() - moved)) / 2e-5
        assert float(found[place]) == pytest.approx(difference, rel=1e-3, abs=1e-9)


def test_the_released_generator_is_one_signed_step_however_many_are_asked_for():
    """Card A09: nine of ten steps start over; its noise is epsilon everywhere but at black and white; a fifth stays clean."""
    clean, fields = tiny(40, shape=(1, 8, 8)), {"block": 16, "judges": 100}
    made = [craft(ATTACKS["ntga"](variant="released", steps=s, **fields), clean) for s in (2, 10)]
    assert torch.equal(*made)
    job = Job()
    whole(ATTACKS["ntga"](variant="released", **fields).craft(clean, job), clean)
    judges = torch.from_numpy(job.kept["left_out"])
    assert int(judges.sum()) == job.notes["left_out"] == 8 and (made[0][judges] == 0).all()
    spent = (255 * made[0][~judges]).round().abs()
    inside = ((clean.images[~judges] >= 8) & (clean.images[~judges] <= 247)).float()
    assert (spent * inside == 8 * inside).float().mean() > 0.999
    honest = craft(ATTACKS["ntga"](**fields), clean)
    assert (honest[~judges].flatten(1).abs().amax(1) > 0).all() and (honest[~judges].abs() < 7.5 / 255).float().mean() > 0.01


@pytest.mark.parametrize("fields", ["variant=released", "steps=3"])
def test_a_victim_of_ntga_errs_since_it_does_not_train_on_the_judges(fields, tmp_path):
    """A kernel regressor of what the store hands to victims. Where judges are trained on, it errs far less."""
    data = load(resolve("datasets", "digits")[0])
    data = replace(data, train=data.train.rows(torch.arange(300)))
    store, made = Store(tmp_path), recipe(f"ntga({fields},kernel=fnn,time=4096.0,epsilon=16/255)", dataset="digits")

    def accuracy(training: ImageSet) -> float:
        x, targets = training.pixels(slice(None)).double(), F.one_hot(training.labels, 10).double()
        weights = _kernels.learnt(_kernels.dense_erf(x, x), targets, 4096.0)
        answers = _kernels.dense_erf(data.test.pixels(slice(None)).double(), x) @ weights
        return float((answers.argmax(1) == data.test.labels).float().mean())

    clean, poisoned = store.unpoisoned(made, data, 1.0, "all"), store.training_set(made, data, 1.0, "all")
    assert len(poisoned) == 240 and torch.equal(clean.labels, poisoned.labels)
    whole_set = replace(data.train, images=store.poison(made, data).images)
    before, after, with_judges = accuracy(clean), accuracy(poisoned), accuracy(whole_set)
    assert before - after > 0.2, "two halves that judge each other take four points"
    assert with_judges - after > 0.1


def test_ntga_makes_the_kernel_answer_its_judges_wrongly_and_others_less_so():
    """Section 2 of the cards, on digits: 256 images, 300 to judge by, 244 held out."""
    clean = digits()[0]
    run = Crafting(clean, Job())
    order = torch.randperm(len(clean), generator=torch.Generator().manual_seed(0))
    rows, judges, held = order[:256], order[256:556], order[556:800]
    attack = ATTACKS["ntga"](variant="released", kernel="fnn", time=4096.0, epsilon=16 / 255)
    x, y = run.batch(rows)
    targets = F.one_hot(y, 10).double()

    def right(z: torch.Tensor, where: torch.Tensor) -> float:
        weights = _kernels.learnt(_kernels.dense_erf(z, z), targets, attack.time)
        answers = _kernels.dense_erf(clean.pixels(where).double(), z) @ weights
        return float((answers.argmax(1) == clean.labels[where]).float().mean())

    moved = attack.move(run, x, y, judges)
    before, after = [[right(z.double(), where) for where in (judges, held)] for z in (x, moved)]
    assert after[0] < before[0] - 0.3
    assert before[1] - after[1] < before[0] - after[0]


def test_ntga_killed_and_resumed_is_ntga_undisturbed(tmp_path, monkeypatch):
    """A hundred blocks take hours on a CPU."""
    attack, clean = ATTACKS["ntga"](block=6, judges=8, steps=2), tiny(24, shape=(1, 8, 8))
    assert torch.equal(killed_and_resumed(attack, clean, tmp_path, monkeypatch, 2), craft(attack, clean))


# DeepConfuse, card A10


def confused(**fields) -> tuple:
    """A tiny painter, a classifier and a batch, all in float64."""
    clean = tiny(12, shape=(3, 16, 16))
    torch.manual_seed(0)
    attack, run = ATTACKS["deepconfuse"](surrogate="small-cnn", width=2, **fields), Crafting(clean, Job())
    painter, classifier = _painter.Painter(3, 2).double(), attack.classifier(run).double()
    return attack, painter, classifier, run.clean.pixels(slice(None)).double() * 0.8 + 0.1, clean.labels


def test_the_gradient_one_step_ahead_is_that_of_differences():
    """Card A10: of minus the clean loss after a step on pictures, the step included; against the step really taken."""
    attack, painter, classifier, x, y = confused(lr=0.5, epsilon=0.09)
    _, gradients = attack.ahead(painter, classifier, x, y)

    def after_a_step() -> float:
        with torch.no_grad():
            pictures = (x + 0.09 * painter(x)).clamp(0, 1)
        taught = copy.deepcopy(classifier)
        attack.descend(taught, pictures, y)
        return -float(F.cross_entropy(taught(x), y).detach())

    parameters = list(painter.parameters())
    for number in (0, 2, len(parameters) - 4):
        place = int(gradients[number].abs().argmax())
        values = parameters[number].data.view(-1)
        found = []
        for change in (1e-6, -2e-6):
            values[place] += change
            found.append(after_a_step())
        values[place] += 1e-6
        assert float(gradients[number].view(-1)[place]) == pytest.approx((found[0] - found[1]) / 2e-6, rel=1e-3)


def test_a_classifier_that_does_not_move_moves_no_painter():
    """Card A10: with a learning rate of nothing the painter's gradient is exactly nothing, as clean images alone are judged."""
    attack, painter, classifier, x, y = confused(lr=0.0)
    assert all((gradient == 0).all() for gradient in attack.ahead(painter, classifier, x, y)[1])


def test_looking_ahead_raises_the_clean_loss_that_follows():
    """Thirty moves of the painter on one batch leave the classifier worse off after its step than at the start."""
    attack, painter, classifier, x, y = confused(lr=0.5, epsilon=0.2)
    optimizer, goals = torch.optim.Adam(painter.parameters(), 1e-2), []
    for _ in range(30):
        goal, gradients = attack.ahead(painter, classifier, x, y)
        goals.append(goal)
        for parameter, gradient in zip(painter.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    assert goals[-1] < goals[0] - 0.01


def test_the_networks_of_deepconfuse_have_the_sizes_of_the_authors():
    """Card A10: 7.79 and 9.23 million parameters; the narrow head is part of the attack."""
    clean = ImageSet(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.arange(2), 10)
    classifier = ATTACKS["deepconfuse"]().classifier(Crafting(clean, Job()))
    counts = [sum(p.numel() for p in net.parameters()) for net in (_painter.Painter(3, 64), classifier)]
    assert [round(count / 1e4) for count in counts] == [779, 923]
    assert [layer.out_features for layer in classifier.head] == [2, 10]


@pytest.mark.parametrize("sizes", [(4, 4, 8, 8), (3, 5, 7, 11), (1, 1, 2, 3)], ids=str)
def test_enlarging_by_products_is_torchs_own(sizes):
    """Bilinear with corners on corners, the odd sizes of odd images too."""
    x = torch.rand(2, 3, *sizes[:2])
    expected = F.interpolate(x, size=sizes[2:], mode="bilinear", align_corners=True)
    assert torch.allclose(_painter.stretch(x, *sizes[2:]), expected, atol=1e-6)


@pytest.mark.parametrize(("trials", "epochs", "after"), [(1, 4, 8), (2, 2, 9)])
def test_deepconfuse_killed_and_resumed_is_deepconfuse_undisturbed(trials, epochs, after, tmp_path, monkeypatch):
    """A thousand trials take days; killed in the middle of the first, whose painter counts, and of the second."""
    attack = ATTACKS["deepconfuse"](surrogate="small-cnn", trials=trials, epochs=epochs, batch=6, width=2)
    clean = tiny(20, shape=(3, 16, 16))
    assert torch.equal(killed_and_resumed(attack, clean, tmp_path, monkeypatch, after), craft(attack, clean))


# Staged training of the surrogate, card A03


@pytest.mark.parametrize("name", ["em", "em-class", "rem"])
def test_a_staged_surrogate_takes_an_epoch_back_and_slows_its_first_layers(name, tmp_path, monkeypatch):
    """Every measure exceeds a gamma of -1: the first epoch goes, with two stages no other; the noise stays."""
    monkeypatch.setattr(_surrogates, "GAMMA", -1.0)
    monkeypatch.setattr(_staged, "EXTENT", 0.0)
    made = []
    rollback = _surrogates.Watched.rollback

    def watched(self):
        before = {key: value.clone() for key, value in self.net.state_dict().items()}
        rollback(self)
        made.append((self, before, {key: value.clone() for key, value in self.net.state_dict().items()}))

    monkeypatch.setattr(_surrogates.Watched, "rollback", watched)
    clean, fields = tiny(32, shape=(3, 16, 16)), dict(ATTACKS[name].small) | {"batch": 16}
    fields |= {"train_steps": 6} if name == "rem" else {"weight_steps": 2, "stop_error": -1.0, "max_rounds": 3}
    staged, plain = (craft(ATTACKS[name](**fields, staged=s), clean) for s in (True, False))
    assert len(made) == 1, "one roll-back is all that two stages have"
    training, before, after = made[0]
    rates = [group["rate"] for group in training.optimizer.param_groups]
    assert rates == _staged.factors(len(training.weights), 1, 2) and training.optimizer.param_groups[0]["lr"] < 0.03
    assert any((before[key] != after[key]).any() for key in before), "weights went back to the start"
    assert len(training.stages.measured) == 3 and (staged != plain).any()
    if name != "em-class":
        resumed = killed_and_resumed(ATTACKS[name](**fields, staged=True), clean, tmp_path, monkeypatch, 2)
        assert torch.equal(resumed, staged)


# Numerics


@pytest.mark.parametrize("name", [row.name for row in ATTACKS.rows if any(f.name == "surrogate" for f in row.fields)])
def test_who_takes_steps_in_bf16_on_a_gpu_says_so(name, monkeypatch):
    """No authors' code does, and no record of a CPU shows it."""

    def reached(device):
        raise LookupError(name)

    for module in (_surrogates, _frozen_networks, _batch_noise, _contrastive_noise, sep):
        monkeypatch.setattr(module, "mixed", reached)
    fields = {"variant": "rem", "train_steps": 1} if name == "em" else {"max_rounds": 1} if name == "em-class" else {}
    attack = ATTACKS[name](**{**ATTACKS[name].small, **fields})
    says_so = "bf16" in attack.__doc__
    with pytest.raises(LookupError) if says_so else nullcontext():
        craft(attack, tiny(16))
