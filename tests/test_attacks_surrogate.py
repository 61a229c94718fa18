"""Attacks that train or ask a surrogate: their loops against slow versions, and the signs that their cards list.

What every attack promises is tested in test_attacks.py; here is what makes each of these the method of its name.
"""

from dataclasses import replace
from functools import cache

import pytest
import torch
from conftest import craft, tiny, whole
from torch.nn import functional as F

from benchmark.train import evaluate, train
from registry import ARCHITECTURES, ATTACKS, EntryError, ImageSet, Job, Protocol, _loops, resolve
from registry._loops import Run
from registry._steps import sign_of_gradient, still
from registry._views import crop_flip, jitter_gray, shift_flip
from registry.data import load


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


def victim(train_set: ImageSet, test_set: ImageSet, **fields) -> tuple[torch.nn.Module, float]:
    """A network trained on a set without augmentation, and its accuracy on another."""
    torch.manual_seed(7)
    net = ARCHITECTURES["small-cnn"](train_set.num_classes, *train_set.info.shape[:2])
    train(net, train_set, test_set, Protocol(**{"epochs": 8, "batch": 64, "lr": 0.05, **fields}))
    return net, evaluate(net, test_set)[0]


class Killed(Exception):  # noqa: N818  (not an error of the program)
    """Stands for the end of a process."""


def killed_and_resumed(attack, clean: ImageSet, folder, monkeypatch, after: int) -> torch.Tensor:
    """Craft, with a checkpoint at every chance, die at the report number `after`, and craft again as the store does."""
    monkeypatch.setattr(_loops, "EVERY", 0.0)
    monkeypatch.setattr(_loops, "SPENT_SAVING", 1e9)
    reports = []

    def dies(done: int, total: int) -> None:
        reports.append(done)
        if len(reports) == after:
            raise Killed

    with torch.random.fork_rng():
        torch.manual_seed(0)
        with pytest.raises(Killed):
            whole(attack.craft(clean, Job(on_progress=dies, folder=folder)), clean)
        assert (folder / "checkpoint.pt").exists()
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
    run = Run(clean, Job())
    _loops._noise_pass(run, net, ATTACKS["em"](surrogate="small-cnn", **fields).rounds(len(clean)), delta, None)


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
    """The stop rule, and card A01 (iv): rounding to 8 bits does not undo it."""
    clean = tiny()
    torch.manual_seed(0)
    run = Run(clean, Job())
    net = _loops.surrogate(run, "small-cnn")
    delta = _loops.persistent(run, net, ATTACKS["em"](batch=32, noise_steps=10, step_size=1.6 / 255).rounds(64))
    assert run.log["surrogate_error"][-1] <= 0.01 and len(run.log["surrogate_error"]) < 50
    assert _loops.hits(run, net, published(clean, delta), clean.labels) >= 0.99
    assert run.passes > len(run.log["surrogate_error"]) * 20


def test_em_stops_at_its_last_round():
    """`max_rounds` bounds the search where the surrogate never learns."""
    job, clean = Job(), tiny(16)
    whole(ATTACKS["em"](surrogate="small-cnn", batch=8, noise_steps=1, max_rounds=2, stop_error=-1.0).craft(clean, job), clean)
    assert job.notes["rounds"] == 2 and len(job.kept["surrogate_loss"]) == 2


def test_a_victim_of_em_learns_its_training_set_and_nothing_else():
    """Section 2 of the cards: without augmentation, loss on the poison is nothing and the clean test set is at chance."""
    train_set, test_set = digits()
    item = "em(surrogate=small-cnn,weight_steps=30,batch=128,noise_steps=5,step_size=1.6/255)"
    delta = craft(resolve("attacks", item)[0].build(), train_set)
    poisoned = replace(train_set, images=published(train_set, delta))
    net, accuracy = victim(poisoned, test_set)
    assert evaluate(net, poisoned)[0] >= 0.99 and accuracy <= 0.25
    assert victim(train_set, test_set)[1] >= 0.9


def test_the_loaders_that_truncate_do_so():
    """The published numbers rest on it: one keeps the brightening half alone, the other moves everything down."""
    clean = tiny(8)
    delta = (torch.randint(-80, 80, clean.images.shape) + 0.5) / 2550  # on no whole level
    x = clean.images.double()
    as_loaded = (x + (255 * delta.double()).clamp(0, 255)).clamp(0, 255).to(torch.uint8)  # a float to uint8 truncates
    original = ATTACKS["em"](variant="original").exported(delta)
    assert torch.equal(published(clean, original), as_loaded) and (original >= 0).all()
    as_loaded = (x + 255 * delta.double()).clamp(0, 255).floor().to(torch.uint8)
    assert torch.equal(published(clean, ATTACKS["em"](variant="lfu").exported(delta)), as_loaded)
    edge = torch.full((1, 1, 1, 1), 8 / 255)
    assert float(ATTACKS["em"](variant="original").exported(edge)) == pytest.approx(8 / 255)
    assert float(ATTACKS["em"](variant="lfu").exported(-edge - 1e-4)) == pytest.approx(-8 / 255)


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
    run = Run(clean, Job())
    plan = replace(ATTACKS["em"](variant="rem").alternation(), train_steps=1, batch=8)
    with still(net := Spot()):
        x, y = run.batch(slice(None))
        seen = plan.looked_at(x, run)
        assert not torch.equal(seen, x)
        delta = plan.minimize(run, net, seen, y)
    assert (seen + delta).min() >= -1e-6 and (seen + delta).max() <= 1 + 1e-6
    assert plan.views(x, run.dice)[0](x) is x  # what is learnt is that view, not a new one


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
