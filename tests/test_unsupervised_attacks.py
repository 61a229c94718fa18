"""Poisons against training without labels: views, discriminant, and turns of encoder and noise, against slow versions."""

import copy
import dataclasses
import math

import pytest
import torch
from conftest import craft, drawn_as_torch, tiny, whole
from hypothesis import given
from hypothesis import strategies as st
from test_run import run_json
from torch.nn import functional as F

from unlearnable_bench.registry import (
    ARCHITECTURES,
    ATTACKS,
    EntryError,
    ImageSet,
    Job,
    _contrastive_noise,
    _crafting,
    _surrogates,
)
from unlearnable_bench.registry._contrastive import MoCoObjective, SimClrObjective, SimSiamObjective, nt_xent
from unlearnable_bench.registry._contrastive_noise import Turns, objective, poisoning, take_turns, transferable
from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._views import contrastive_view, resized_part
from unlearnable_bench.registry.architectures._network import GlobalPool, Network, draw_as_he
from unlearnable_bench.registry.attacks.tue import csd


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Views


@pytest.mark.parametrize("shape", [(3, 3, 8, 8), (2, 1, 6, 9)])
def test_a_resized_part_is_bilinear_interpolation_pixel_by_pixel(shape):
    """The products along both sides against four neighbours of every sample, from the same draws."""
    x = torch.rand(shape)
    found = resized_part(x, dice(), 0.1)(x)
    draws = dice()
    count, _, height, width = shape
    area = torch.empty(count, 1, 1, 1).uniform_(0.1, 1, generator=draws).flatten() * height * width
    ratio = torch.empty(count, 1, 1, 1).uniform_(math.log(3 / 4), math.log(4 / 3), generator=draws).flatten().exp()
    w = [min(math.sqrt(float(a * r)), width) for a, r in zip(area, ratio, strict=True)]
    h = [min(math.sqrt(float(a / r)), height) for a, r in zip(area, ratio, strict=True)]
    left = [float(u) * (width - w[i]) for i, u in enumerate(torch.rand(count, generator=draws))]
    top = [float(u) * (height - h[i]) for i, u in enumerate(torch.rand(count, generator=draws))]
    for i in range(count):
        for row in range(height):
            for column in range(width):
                v = min(max(top[i] + h[i] * (row + 0.5) / height - 0.5, 0), height - 1)
                u = min(max(left[i] + w[i] * (column + 0.5) / width - 0.5, 0), width - 1)
                a, b = min(int(v), height - 2), min(int(u), width - 2)
                dv, du = v - a, u - b
                upper = x[i, :, a, b] * (1 - du) + x[i, :, a, b + 1] * du
                lower = x[i, :, a + 1, b] * (1 - du) + x[i, :, a + 1, b + 1] * du
                expected = upper * (1 - dv) + lower * dv
                assert torch.allclose(found[i, :, row, column], expected, atol=1e-4), "float32 positions"


def test_a_view_is_drawn_for_each_image_or_shared_by_the_batch():
    """The authors of TUE move noise behind one view per batch; their training draws one per image."""
    x = torch.rand(1, 3, 16, 16).expand(40, -1, -1, -1).clone()
    own, shared = contrastive_view(x, dice(), 0.08)(x), contrastive_view(x, dice(), 0.08, shared=True)(x)
    assert len({tuple(image.flatten().tolist()) for image in own}) > 35
    assert (shared == shared[0]).all()
    assert not torch.equal(shared, contrastive_view(x, dice(1), 0.08, shared=True)(x)), "another draw, another view"
    x.requires_grad_(True)
    view = contrastive_view(x, dice(), 0.08)
    view(x).sum().backward()
    assert (x.grad.abs().amax((1, 2, 3)) > 0).all()
    assert torch.equal(view(x), view(x)), "a view is drawn once"


# The discriminant, card F10


def slow_csd(delta: torch.Tensor, y: list[int]) -> float:
    """Equations 2 to 4, class by class and noise by noise, in double precision; 1e-5 as in the authors' code."""
    points = {label: [d.flatten().double() for d, own in zip(delta, y, strict=True) if own == label] for label in set(y)}
    centres = {label: sum(found) / len(found) for label, found in points.items()}
    spread = {label: sum(math.dist(p, centres[label]) for p in found) / len(found) for label, found in points.items()}
    pairs = [(i, j) for i in centres for j in centres if i != j]
    total = sum((spread[i] + spread[j] + 1e-5) / (math.dist(centres[i], centres[j]) + 1e-5) for i, j in pairs)
    return total / len(pairs) if pairs else 0.0


@given(count=st.integers(1, 12), classes=st.integers(1, 5), seed=st.integers(0, 99))
def test_csd_is_the_equations_of_its_paper_pair_by_pair(count, classes, seed):
    """It is most of what TUE adds; classes that are absent and classes of one noise belong to batches."""
    delta = (torch.rand(count, 2, 3, 3, generator=dice(seed)) - 0.5) / 16
    y = torch.randint(0, classes, (count,), generator=dice(seed))
    assert float(csd(delta, y)) == pytest.approx(slow_csd(delta, y.tolist()), rel=1e-3, abs=1e-6)


@given(seed=st.integers(0, 99), scale=st.sampled_from([0.5, 2.0, 10.0]))
def test_csd_is_the_same_for_noise_that_is_moved_or_scaled(seed, scale):
    """Card F10: only distances count, and only their ratios; the 1e-5 in it is small beside distances of 1."""
    delta, y = torch.rand(12, 3, 4, 4, generator=dice(seed)), torch.arange(12) % 3
    plain = float(csd(delta, y))
    assert float(csd(delta + torch.rand(3, 4, 4, generator=dice(seed)), y)) == pytest.approx(plain, rel=1e-3)
    assert float(csd(scale * delta, y)) == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("flows", [False, True])
def test_the_gradient_of_csd_is_that_of_finite_differences(flows):
    """With spreads as constants, as the authors compute it, or as part of what falls."""
    delta, y = torch.rand(6, 1, 2, 2, generator=dice()).double(), torch.tensor([0, 1, 2, 0, 1, 2])
    leaf = delta.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(csd(leaf, y, flows), leaf)
    assert float(gradient.abs().max()) > 0.01

    def value(moved: torch.Tensor) -> float:
        if flows:
            return slow_csd(moved, y.tolist())
        centres = [moved[y == k].mean(0) for k in range(3)]
        old = [delta[y == k].mean(0) for k in range(3)]
        spread = [sum(math.dist(d.flatten(), old[k].flatten()) for d in delta[y == k]) / 2 for k in range(3)]
        pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
        parts = [(spread[i] + spread[j] + 1e-5) / (float((centres[i] - centres[j]).norm()) + 1e-5) for i, j in pairs]
        return sum(parts) / len(parts)

    for place in range(4):
        step = torch.zeros_like(delta).flatten()
        step[5 * place] = 1e-5
        step = step.view_as(delta)
        slope = (value(delta + step) - value(delta - step)) / 2e-5
        assert float((gradient * step).sum()) / 1e-5 == pytest.approx(slope, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("flows", [False, True])
def test_csd_of_no_noise_pulls_nowhere(flows):
    """On MoCo noise starts at zero: all centres coincide, and a gradient that is no number would spoil everything."""
    delta = torch.zeros(8, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(csd(delta, torch.arange(8) % 2, flows), delta)
    assert (gradient == 0).all()


# What noise lowers


def encoder():
    return ARCHITECTURES["small-cnn"](4)


def test_noise_sees_both_branches_of_moco_and_of_simsiam():
    """In training the gradient stops at keys and at what is predicted; both papers let it through for noise."""
    for net, options in ((MoCoObjective(encoder(), 0.2, 32, 0.9, 2), {}), (SimSiamObjective(encoder()), {})):
        reached = []
        for loss in (net.forward, net.easy):
            first, second = (torch.rand(8, 3, 32, 32, generator=dice(k)).requires_grad_(True) for k in range(2))
            net.eval()
            loss(first, second, **options).backward()
            reached.append((first.grad is not None, second.grad is not None, first.grad))
        assert reached[1][:2] == (True, True)
        assert not reached[0][1] or not torch.allclose(reached[0][2], reached[1][2]), type(net).__name__


def test_keys_of_noise_steps_are_queued_and_the_slow_copy_follows_only_where_it_is_told_to():
    """Contrastive poisoning moves it in noise steps, TUE's code does not."""
    net = MoCoObjective(encoder(), 0.2, 32, 0.5, 2, deep=True, shuffled=False).eval()
    with torch.no_grad():
        for parameter in net.encoder.parameters():
            parameter += 1
        slow = next(net.slow.parameters()).clone()
        net.easy(torch.rand(8, 3, 32, 32), torch.rand(8, 3, 32, 32))
        assert int(net.place) == 8 and torch.equal(next(net.slow.parameters()), slow)
        net.easy(torch.rand(8, 3, 32, 32), torch.rand(8, 3, 32, 32), follow=True)
    assert int(net.place) == 16 and torch.allclose(next(net.slow.parameters()), slow + 0.5)


# Turns


def test_the_schedules_are_those_of_the_papers_on_fifty_thousand_images():
    """Appendix B.1 of TUE, and the table of contrastive poisoning: 98 batches of 512, 97 whole ones."""
    assert transferable("simclr", 0.1).turns(98) == [[20, 20, 20, 20, 18]] * 40
    assert transferable("simsiam", 0.1).turns(98) == [[25, 25, 25, 23]] * 50
    assert transferable("moco", 0.1).turns(97) == [[97]] * 200
    assert poisoning("simclr", 0.1, tied=True).turns(97) == [[20]] * 1000
    assert poisoning("simclr", 0.1, tied=False).turns(97) == [[97]] * 160
    assert poisoning("moco", 0.1, tied=False).turns(97) == [[97]] * 200
    assert [ATTACKS["tue"](backbone=b).plan().noise_steps for b in ("simclr", "moco", "simsiam")] == [20, 5, 20]
    ours = [ATTACKS["ucl"](variant="tue", backbone=b).images().noise_steps for b in ("simclr", "moco", "simsiam")]
    assert ours == [20, 10, 20]
    plan = poisoning("moco", 8 / 255, tied=False)
    assert plan.lr == 0.3 and plan.rate(99) == pytest.approx(0.3 * 0.5005) and plan.rate(199) == pytest.approx(3e-4)
    assert plan.rate(0) < plan.lr, "their first epoch has number one"
    assert plan.step_size == pytest.approx(0.8 / 255) and plan.scale == pytest.approx(0.2 / 0.07)


def test_the_gradient_of_simclr_is_what_four_devices_make_of_it():
    """Each hands back its own part of the gradient of the loss over all projections, and the mean over devices is taken."""
    weights = torch.rand(6, 5, generator=dice()).requires_grad_(True)
    views = [torch.rand(16, 6, generator=dice(k)).chunk(4) for k in (1, 2)]

    def gradient(device: int | None) -> torch.Tensor:
        own = [weights if device in (None, number) else weights.detach() for number in range(4)]
        projected = [torch.cat([part @ w for part, w in zip(view, own, strict=True)]) for view in views]
        return torch.autograd.grad(nt_xent(*projected, 0.5), weights)[0]

    theirs = 0.5 / 0.07 * sum(gradient(device) for device in range(4)) / 4
    assert torch.allclose(poisoning("simclr", 0.1, tied=False).scale * gradient(None), theirs, rtol=1e-4, atol=1e-6)


def test_tue_is_its_two_steps_taken_in_turn_image_by_image():
    """Equation 6 against a loop that keeps one noise per image in a dictionary and spells every step out."""
    clean, epsilon = tiny(40), 8 / 255
    plan = dataclasses.replace(transferable("simclr", epsilon), epochs=2, passes=2, noise_steps=2, batch=16)

    def term(delta, y):
        return 0.1 * csd(delta, y)

    torch.manual_seed(0)
    run = Crafting(clean, Job(seed=3))
    found = take_turns(run, objective(run, "small-cnn", "simclr"), plan, "images", term=term)

    torch.manual_seed(0)
    run = Crafting(clean, Job(seed=3))
    net = objective(run, "small-cnn", "simclr")
    adam = torch.optim.Adam(net.parameters(), 1e-3, weight_decay=1e-6)
    start = torch.empty(40, 3, 32, 32).uniform_(-epsilon, epsilon, generator=run.job.generator)
    noise = dict(enumerate(start))
    pixels = clean.images.float() / 255
    for _epoch in range(2):
        order = torch.randperm(40, generator=run.job.generator).tolist()
        for number, batch in enumerate((order[:16], order[16:32], order[32:])):
            x = torch.stack([pixels[i] + noise[i] for i in batch])
            net.train()
            first = contrastive_view(x, run.device_generator, 0.08)(x)
            second = contrastive_view(x, run.device_generator, 0.08)(x)
            z = [net.project(net.encoder.features(view)) for view in (first, second)]
            adam.zero_grad()
            nt_xent(*z, 0.5).backward()
            adam.step()
            if number == 0:
                continue  # noise moves after every half of an epoch: two batches, and one
            net.eval()
            again = torch.randperm(40, generator=run.job.generator).tolist()
            for part in (again[:16], again[16:32], again[32:]):
                y = clean.labels[part]
                for _step in range(2):
                    leaf = torch.stack([noise[i] for i in part]).requires_grad_(True)
                    u = (pixels[part] + leaf).clamp(0, 1)
                    first = contrastive_view(u, run.device_generator, 0.08, shared=True)(u)
                    second = contrastive_view(u, run.device_generator, 0.08, shared=True)(u)
                    loss = nt_xent(*(net.project(net.encoder.features(view)) for view in (first, second)), 0.5)
                    loss = loss + term(
                        leaf, y
                    )  # sees noise that is not cut to valid pixels, where the step starts from cut one
                    (gradient,) = torch.autograd.grad(loss, leaf)
                    for i, image, slope in zip(part, u.detach(), gradient, strict=True):
                        noise[i] = (image - epsilon / 10 * slope.sign() - pixels[i]).clamp(-epsilon, epsilon)
    expected = torch.stack([noise[i] for i in range(40)])
    assert ((found - expected).abs() < 1e-6).float().mean() > 0.999, "a sign of a gradient near nothing may differ"


@pytest.mark.parametrize("backbone", ["simclr", "moco"])
def test_class_wise_noise_takes_the_step_that_all_images_of_the_class_ask_for(backbone):
    """Card F08: signs of summed gradients, through clipping and normalisation; classes that are absent stay."""
    clean = tiny(24)
    clean = ImageSet(clean.images[clean.labels != 3], clean.labels[clean.labels != 3], 4)
    plan = dataclasses.replace(poisoning(backbone, 8 / 255, tied=True), epochs=1, steps=1, batch=18, area=0.5, cosine=False)
    begun = (torch.rand(4, 3, 32, 32, generator=dice()) - 0.5) / 16
    torch.manual_seed(0)
    run = Crafting(clean, Job(seed=1))
    theirs = objective(run, "small-cnn", backbone, code="cp")
    found = take_turns(run, theirs, plan, "classes", begun.clone())

    torch.manual_seed(0)
    run = Crafting(clean, Job(seed=1))
    net = objective(run, "small-cnn", backbone, code="cp")
    sgd = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], plan.lr, momentum=0.9, weight_decay=1e-4)
    mean, std = (f.view(1, 3, 1, 1) for f in _surrogates.statistics(clean))
    order = torch.randperm(18, generator=run.job.generator)
    x, y = clean.images[order].float() / 255, clean.labels[order]
    z = (x + begun[y]).clamp(0, 1)
    loss = net(*((contrastive_view(z, run.device_generator, 0.5)(z) - mean) / std for _ in range(2)))
    (loss * net.temperature / 0.07 / (4 if backbone == "simclr" else 1)).backward()
    sgd.step()
    order = torch.randperm(18, generator=run.job.generator)
    x, y = clean.images[order].float() / 255, clean.labels[order]
    leaf = begun.clone().requires_grad_(True)
    with still(net):
        z = (x + leaf[y]).clamp(0, 1)
        views = [(contrastive_view(z, run.device_generator, 0.5)(z) - mean) / std for _ in range(2)]
        loss = net.easy(*views, **({"follow": True} if backbone == "moco" else {}))
        (gradient,) = torch.autograd.grad(loss, leaf)
    expected = (begun - 0.8 / 255 * gradient.sign()).clamp(-8 / 255, 8 / 255)
    assert ((found - expected).abs() < 1e-6).float().mean() > 0.999
    assert torch.equal(found[3], begun[3])
    assert (found[:3] != begun[:3]).any((1, 2, 3)).all()
    state = theirs.state_dict()
    assert all(torch.allclose(state[key].float(), value.float(), atol=1e-5) for key, value in net.state_dict().items())


def test_noise_that_takes_no_steps_stays_where_it_began():
    """Card F08: what moves noise is the descent, not the training of the encoder."""
    clean, begun = tiny(20), (torch.rand(20, 3, 32, 32, generator=dice()) - 0.5) / 16
    run = Crafting(clean, Job())
    plan = dataclasses.replace(poisoning("simclr", 8 / 255, tied=False), epochs=2, noise_steps=0, batch=8)
    assert torch.equal(take_turns(run, objective(run, "small-cnn", "simclr"), plan, "images", begun.clone()), begun)


@pytest.mark.parametrize(("backbone", "epochs"), [("simclr", 5), ("moco", 4), ("simsiam", 2)])
def test_noise_makes_contrastive_training_easy(backbone, epochs):
    """What it is for: an encoder that was trained on noisy images has a lower loss there than on the images without noise."""
    clean = tiny(32)
    plan = ATTACKS["ucl"](variant="tue", backbone=backbone, epochs=epochs, passes=2, noise_steps=5, batch=16).images()
    torch.manual_seed(0)
    run = Crafting(clean, Job())
    net = objective(run, "small-cnn", backbone)
    noise = take_turns(run, net, plan, "images")
    x, losses = clean.images.float() / 255, []
    with still(net), torch.no_grad():
        net.train(backbone == "simsiam")  # as its noise was made
        for images in (x, x + noise):
            judge = copy.deepcopy(net)  # the queue of MoCo moves on
            draws = dice(7)
            views = [[contrastive_view(images, draws, 0.08)(images) for _ in range(2)] for _ in range(8)]
            losses.append(sum(float(judge.easy(*pair)) for pair in views))
    assert losses[1] < losses[0]
    assert float(noise.abs().max()) <= 8 / 255 + 1e-7


# The attacks


@pytest.mark.parametrize(
    ("name", "fields", "after"),
    [
        ("ucl", {"variant": "tue", "backbone": "moco"}, 5),
        ("ucl", {"variant": "cp-s", "class_epochs": 2, "class_batches": 2}, 3),
        ("ucl", {"variant": "cp-s", "class_epochs": 2, "class_batches": 2}, 12),
        ("tue", {"backbone": "simclr", "passes": 2}, 6),
    ],
)
def test_a_killed_crafting_goes_on_to_the_same_noise(name, fields, after, tmp_path, monkeypatch):
    """At full size both take days on a CPU; the report numbers fall into training, noise, class-wise and sample-wise turns."""
    attack, clean = ATTACKS[name](surrogate="small-cnn", epochs=2, noise_steps=2, batch=12, **fields), tiny(40)
    undisturbed = craft(attack, clean)
    monkeypatch.setattr(_crafting, "EVERY", 0.0)
    monkeypatch.setattr(_crafting, "SPENT_SAVING", 1e9)
    reports: list[int] = []

    class DiedError(Exception):
        pass

    def dies(done: int, total: int) -> None:
        reports.append(done)
        if len(reports) == after:
            raise DiedError

    with torch.random.fork_rng():
        torch.manual_seed(0)
        with pytest.raises(DiedError):
            whole(attack.craft(clean, Job(on_progress=dies, folder=tmp_path)), clean)
        torch.manual_seed(0)
        second: list[int] = []
        made = whole(attack.craft(clean, Job(on_progress=lambda done, total: second.append(done), folder=tmp_path)), clean)
    assert second[0] > 1, "it began again"
    assert torch.equal(made, undisturbed)


def test_ucl_of_images_looks_at_no_label_and_that_of_classes_is_one_pattern_each():
    """Cards F08, F09: TUE's table 4 rests on a UCL without labels; the authors' own starts from the classes' noise."""
    clean = tiny(32)
    other = dataclasses.replace(clean, labels=clean.labels.roll(1))
    small = {"surrogate": "small-cnn", "epochs": 1, "noise_steps": 2, "batch": 16, "class_epochs": 2, "class_batches": 2}
    for fields in ({"variant": "tue"}, {"variant": "cp-s", "class_epochs": 0}):
        attack = ATTACKS["ucl"](**small | fields)
        assert torch.equal(craft(attack, clean), craft(attack, other))
    delta = craft(ATTACKS["ucl"](**small, variant="cp-c"), clean)
    assert all((delta[clean.labels == k] == delta[clean.labels == k][0]).all() for k in range(4))
    assert not torch.equal(delta[0], delta[1])
    moved = craft(ATTACKS["ucl"](**small, variant="cp-s", step_size=1e-4), clean)
    assert float((moved - craft(ATTACKS["ucl"](**small, variant="cp-c", step_size=1e-4), clean)).abs().max()) <= 2e-4 + 1e-6


def test_noise_of_tue_tells_the_class_and_noise_of_ucl_does_not():
    """Card F10: a linear rule on noises; classes are no directions for UCL. The published commands come near random signs."""
    clean = tiny(64)
    fields = {"surrogate": "small-cnn", "epochs": 3, "passes": 2, "noise_steps": 5, "batch": 32}
    found = {
        "ucl": craft(ATTACKS["ucl"](variant="tue", **fields), clean),
        "tue": craft(ATTACKS["tue"](**fields), clean),
        "demo": craft(ATTACKS["tue"](variant="demo", **fields), clean),
    }
    told, gap = {}, {}
    for name, delta in found.items():
        half = torch.arange(64) < 32
        centres = torch.stack([delta[half & (clean.labels == k)].mean(0) for k in range(4)]).flatten(1)
        guess = torch.cdist(delta[~half].flatten(1), centres).argmin(1)
        told[name], gap[name] = float((guess == clean.labels[~half]).float().mean()), float(csd(delta, clean.labels))
    assert told["tue"] == told["demo"] == 1 and told["ucl"] < 0.6
    assert gap["demo"] < gap["tue"] < 3 and gap["ucl"] > 2 * gap["tue"], "random noise of 16 a class has about 5.8"
    assert float((found["demo"].abs() > 7.9 / 255).float().mean()) > 0.8
    closer = craft(ATTACKS["tue"](variant="demo", spread_gradient=True, **fields), clean)
    assert float(closer.norm()) < float(found["demo"].norm())


def test_a_batch_with_one_class_and_one_image_too_many_is_no_trouble():
    """A last batch of one image has no batch statistics, and a batch may hold one class."""
    clean = tiny(9)
    sorted_ = ImageSet(clean.images, clean.labels.sort().values, 4)
    for backbone in ("simclr", "simsiam"):
        delta = craft(ATTACKS["tue"](backbone=backbone, surrogate="small-cnn", epochs=1, noise_steps=1, batch=4), sorted_)
        assert torch.isfinite(delta).all()


def test_wrong_fields_are_refused_in_one_sentence():
    """What a user can get wrong is said before hours of crafting."""
    with pytest.raises(EntryError, match=r"variant=cp-s has no backbone=simsiam; take variant=tue"):
        ATTACKS["ucl"](backbone="simsiam")
    for fields in ({"batch": 0}, {"epochs": -1}, {"variant": "cp-c", "class_epochs": 0}):
        with pytest.raises(EntryError, match="attack ucl: "):
            ATTACKS["ucl"](**fields)
    with pytest.raises(EntryError, match="attack tue: "):
        ATTACKS["tue"](noise_steps=-1)
    with pytest.raises(EntryError, match="area=2"):
        ATTACKS["tue"](area=2.0).plan()
    assert isinstance(ATTACKS["tue"]().plan(), Turns)


def test_encoders_of_both_papers_are_built_as_they_say():
    """Two MoCos: TUE's has a linear projection and eight splits, contrastive poisoning's the second version and four."""
    run = Crafting(tiny(8), Job())
    theirs, second = (objective(run, "small-cnn", "moco", code) for code in ("tue", "cp"))
    assert (theirs.splits, theirs.shuffled, len(list(theirs.project.parameters()))) == (8, True, 2)
    assert (second.splits, second.shuffled, len(list(second.project.parameters()))) == (4, False, 4)
    assert theirs.queue.shape == (4096, 128) and F.normalize(theirs.queue, dim=1).allclose(theirs.queue, atol=1e-5)
    theirs, second = (objective(run, "small-cnn", "simclr", code) for code in ("tue", "cp"))
    assert isinstance(theirs, SimClrObjective) and theirs.temperature == second.temperature == 0.5
    kinds = [[type(layer).__name__ for layer in net.project] for net in (theirs, second)]
    assert kinds == [["Linear", "BatchNorm1d", "ReLU", "Linear"], ["Linear", "ReLU", "Linear"]]
    features = theirs.encoder.head.in_features
    assert [layer.out_features for layer in second.project if hasattr(layer, "out_features")] == [features, 128]
    assert all(layer.bias is not None for layer in second.project if hasattr(layer, "bias"))


@pytest.mark.parametrize("code", ["cp", "tue"])
@pytest.mark.parametrize("backbone", ["simclr", "moco"])
def test_encoders_are_drawn_by_their_fan_out_but_for_a_first_layer_that_was_replaced(code, backbone):
    """He et al. draw all convolutions so; TUE takes torchvision's network and puts a first convolution of its own in it."""
    net = objective(Crafting(tiny(8), Job()), "small-cnn", backbone, code)
    assert drawn_as_torch(net.encoder) == [code == "tue", False, False]


def test_residual_blocks_of_simsiam_begin_as_identities(monkeypatch):
    """As in the code of TUE: the last normalisation of a block starts at zero; all convolutions are drawn by their fan out."""
    from timm.models.resnet import BasicBlock

    parts = [torch.nn.Conv2d(3, 16, 3, padding=1), BasicBlock(16, 16), BasicBlock(16, 16), GlobalPool()]
    blocks = Network(parts, torch.nn.Linear(16, 4))
    monkeypatch.setattr(_contrastive_noise, "surrogate", lambda run, name, drawn: draw_as_he(blocks) or blocks)
    net = objective(Crafting(tiny(8), Job()), "resnet18", "simsiam").encoder
    assert drawn_as_torch(net) == [False] * 5
    assert all((block.bn2.weight == 0).all() and (block.bn1.weight == 1).all() for block in net.parts[1:3])


def test_every_cell_of_the_papers_tables_can_be_run(tmp_path):
    """Tables 2 to 6 of TUE need both attacks, swaps, interpolation and SVHN-small; none of their cells is out of reach."""
    counts = run_json("--grid", "transferable-unlearnable/*", "--dry-run", workspace=tmp_path)
    assert counts["not_available"] == counts["not_applicable"] == 0 and counts["cells"] == counts["to_run"] == 255
