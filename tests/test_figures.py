"""What the papers' figures measure: each analysis against a slow, obvious version, and the pictures under their tables."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
import torch
from conftest import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_analyses import DIGITS, context, noised, rem

from unlearnable_bench.benchmark import driver
from unlearnable_bench.benchmark.driver import RunOptions
from unlearnable_bench.benchmark.grid import expand
from unlearnable_bench.benchmark.measure import Looked
from unlearnable_bench.benchmark.train import Training
from unlearnable_bench.leaderboard.pages.printed import html
from unlearnable_bench.leaderboard.pages.sketches import sketches
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.poisons.numerics import Numerics
from unlearnable_bench.registry import (
    ANALYSES,
    ARCHITECTURES,
    ATTACKS,
    DEFENSES,
    EntryError,
    ImageSet,
    Job,
    NotApplicable,
    Protocol,
    lacking,
    resolve,
)
from unlearnable_bench.registry._adversaries import Adversary
from unlearnable_bench.registry._figures import class_means
from unlearnable_bench.registry.analyses.adversaries import alike
from unlearnable_bench.registry.analyses.delusiveness import added
from unlearnable_bench.registry.analyses.luminance import steepest
from unlearnable_bench.results import Record, Records, Workspace, read_grid
from unlearnable_bench.results.record import Metrics, write_json
from unlearnable_bench.results.table_file import table_names

FIGURES = [name for name in table_names() if name.startswith("figures-")]


def grey(n: int = 8, shape: tuple[int, int, int] = (3, 10, 10), classes: int = 4) -> ImageSet:
    """Images of one middle grey, classes in turn."""
    return ImageSet(torch.full((n, *shape), 128, dtype=torch.uint8), torch.arange(n) % classes, classes)


@pytest.mark.parametrize("name", FIGURES)
def test_every_place_of_a_figures_grid_can_be_run(name):
    """A grid without a reference column is worth nothing where a method of it is missing."""
    wanted = list(read_grid(name).requested_cells(resolve, lacking))
    assert wanted and not [one.reason for one in wanted if one.reason]


# Luminance and edges


@given(level=st.integers(-20, 20).filter(bool))
def test_luminance_moves_by_what_was_added(level):
    """A constant on every value moves every weighted mean of channels by itself; an untouched image does not count."""
    clean = grey()
    noise = torch.full(clean.images.shape, level)
    noise[::2] = 0
    found = ANALYSES["luminance"]().measure(context(clean, noised(clean, noise)))
    assert found["luminance_shift"] == pytest.approx(level, rel=1e-4)  # pixels are float32
    assert found["luminance_change"] == pytest.approx(abs(level), rel=1e-4)


def test_opposite_changes_cancel_in_the_shift_alone():
    """Noise that darkens half of the images and brightens the others has no direction, but a size."""
    clean = grey()
    signs = torch.where(torch.arange(8) < 4, 6, -6).view(-1, 1, 1, 1).expand(clean.images.shape)
    found = ANALYSES["luminance"]().measure(context(clean, noised(clean, signs)))
    assert found["luminance_shift"] == pytest.approx(0, abs=1e-4) and found["luminance_change"] == pytest.approx(6, rel=1e-4)
    with pytest.raises(NotApplicable, match="no image is poisoned"):
        ANALYSES["luminance"]().measure(context(clean))


def test_edges_are_where_a_loop_over_pixels_finds_them():
    """Sobel by hand on a padded image, the largest fifth; noise on them alone is wholly on edges, noise everywhere a fifth."""
    clean = tiny(6, shape=(3, 10, 10))
    luma = (clean.images.double() * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1) / 255
    chosen = steepest(luma[:, None], 0.2)
    for image, mask in zip(luma, chosen, strict=True):
        padded = torch.nn.functional.pad(image[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
        slopes = []
        for i in range(10):
            for j in range(10):
                part = padded[i : i + 3, j : j + 3]
                right, down = part[:, 2] - part[:, 0], part[2] - part[0]
                weights = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
                slopes.append(float((right * weights).sum() ** 2 + (down * weights).sum() ** 2))
        assert int(mask.sum()) == 20
        assert min(torch.tensor(slopes)[mask]) >= max(torch.tensor(slopes)[~mask]) - 1e-9
    middle = dataclasses.replace(clean, images=clean.images.clamp(20, 235))
    again = (middle.images.double() * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1) / 255
    on_edges = 9 * steepest(again[:, None], 0.2).view(6, 1, 10, 10).expand(6, 3, 10, 10).int()
    share = [
        ANALYSES["luminance"]().measure(context(middle, noised(middle, noise)))["edge_share"]
        for noise in (on_edges, torch.full((6, 3, 10, 10), 9))
    ]
    assert share == pytest.approx([1.0, 0.2])


# Pictures of classes


def test_pictures_of_a_class_wise_pattern_are_that_pattern():
    """On equal images both the means and the learned weights point where the pattern does; noise per image has no pattern."""
    clean = grey(400, (3, 6, 6))
    dice = torch.Generator().manual_seed(0)
    pattern = torch.randint(-99, 100, (4, 3, 6, 6), generator=dice)[clean.labels]
    poison = noised(clean, pattern)
    means = ANALYSES["class-images"]().measure(context(clean, poison))
    learned = ANALYSES["class-images"](of="weights").measure(context(clean, poison))
    assert means["match"] == pytest.approx(1) and 0.4 < learned["match"] <= 1 and learned["train_acc"] > 0.9
    assert "match" not in ANALYSES["class-images"]().measure(context(clean))


def test_the_weights_are_those_that_the_projection_removes():
    """After the defense `ortho-proj` with the same numbers, no image has any part of the pictures left."""
    clean = tiny(40, shape=(3, 4, 4))
    given = context(clean, noised(clean, torch.full(clean.images.shape, 3)), job=Job(seed=5))
    weights = {}
    real = type(DEFENSES["ortho-proj"]())._fit

    def fit(self, train, mean, job):
        weights["w"] = real(self, train, mean, job)
        return weights["w"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(DEFENSES["ortho-proj"]()), "_fit", fit)
        ANALYSES["class-images"](of="weights").measure(given)
    after = DEFENSES["ortho-proj"]().purify(given.poison, Job(seed=5)).images.flatten(1)
    assert (after @ torch.nn.functional.normalize(weights["w"], dim=0)).abs().max() < 1e-4


@given(side=st.sampled_from([1, 3, 8]), channels=st.sampled_from([1, 3]), seed=st.integers(0, 99))
@settings(max_examples=10)
def test_a_picture_is_read_back_as_it_was(side, channels, seed):
    """One number per pixel holds three channels; the page shows the very levels of the mean images."""
    clean = tiny(4, shape=(channels, side, side), seed=seed)
    given = context(clean, noised(clean, torch.ones_like(clean.images, dtype=torch.int32)))
    ANALYSES["class-images"]().measure(given)
    for label, mean in enumerate(given.poison.images[given.poison.labels.argsort()]):
        numbers = torch.tensor(given.curves[f"picture_{label + 1}"]).long().view(side, side)
        assert torch.equal(torch.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255])[:channels], mean.long())


def test_large_pictures_are_kept_small():
    """A record of a hundred classes at 224 pixels must stay a record."""
    clean = ImageSet(torch.zeros(24, 3, 64, 80, dtype=torch.uint8), torch.arange(24) % 12, 12)
    given = context(clean)
    ANALYSES["class-images"]().measure(given)
    assert len(given.curves) == 10 and {len(values) for values in given.curves.values()} == {32 * 32}


# The trivial defense


def test_the_class_mean_is_subtracted_image_by_image():
    """Against a loop; what is left of a class has mean 0, and nothing is rounded or cut."""
    train = tiny(30, classes=4, shape=(3, 4, 4))
    after = DEFENSES["class-mean"]().purify(train, Job()).images
    assert after.dtype == torch.float32 and after.min() < 0
    for image, label, left in zip(train.images, train.labels, after, strict=True):
        mean = train.images[train.labels == label].double().mean(0)
        assert torch.allclose(left.double(), (image.double() - mean) / 255, atol=1e-6)
    means = class_means(dataclasses.replace(train, images=after))
    assert means.abs().max() < 1e-6


@given(levels=st.lists(st.integers(-8, 8), min_size=4, max_size=4))
def test_a_class_wise_pattern_leaves_no_trace_where_the_class_mean_is_taken_away(levels):
    """Whatever one value per class was added: the sets with and without it become the same."""
    train = dataclasses.replace(tiny(16, shape=(1, 2, 2)), images=tiny(16, shape=(1, 2, 2)).images.clamp(10, 240))
    poison = noised(train, torch.tensor(levels)[train.labels].view(-1, 1, 1, 1))
    defense = DEFENSES["class-mean"]()
    assert torch.allclose(defense.purify(poison, Job()).images, defense.purify(train, Job()).images, atol=1e-6)


# Delusiveness


def trained(train: ImageSet, epochs: int = 6) -> Looked:
    torch.manual_seed(0)
    training = Training(ARCHITECTURES["small-cnn"](4), train, Protocol(epochs=epochs, batch=16, lr=0.05), (), "cpu", Numerics())
    training.run(train, None, None)
    return Looked(training)


def test_what_is_added_stays_in_its_radius_and_steps_mislead_more_than_chance():
    """The two candidates of the minimum: 8-bit images within 4 levels; steps raise the victim's loss, a draw hardly does."""
    train = tiny(48, shape=(3, 16, 16))
    given = context(train, victim=trained(train))
    losses = []
    for kind in ("uniform", "pgd"):
        moved = added(given, Adversary(kind, 4 / 255, 5))
        assert moved.images.dtype == torch.uint8 and torch.equal(moved.labels, train.labels)
        assert 1 <= (moved.images.int() - train.images.int()).abs().max() <= 4
        losses.append(float(torch.nn.functional.cross_entropy(given.victim.logits(moved), train.labels)))
    assert losses[1] > losses[0] + 0.01


def test_stability_is_the_smallest_of_the_losses_that_were_found():
    """And the accuracies of the new victims are told beside it; nothing of the first victim changes."""
    train = tiny(24, shape=(3, 16, 16))
    given = context(train, victim=trained(train, 2))
    before = given.victim.logits(train)
    answers = iter([(0.5, 1.25), (0.75, 0.125)])
    given.train = lambda images: next(answers)
    found = ANALYSES["delusiveness"](steps=1).measure(given)
    own = float(torch.nn.functional.cross_entropy(before, train.labels))
    assert found == {
        "delusiveness": pytest.approx(own),
        "delusiveness(random)": 1.25,
        "test_acc(random)": 0.5,
        "delusiveness(pgd)": 0.125,
        "test_acc(pgd)": 0.75,
        "stability": 0.125,
    }
    assert torch.equal(given.victim.logits(train), before)


# Adversaries


@given(rows=st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3).filter(any), min_size=2, max_size=6))
def test_how_alike_rows_are_is_the_mean_over_pairs(rows):
    """Against a loop over all pairs; copies of one row are wholly alike."""
    values = torch.tensor(rows, dtype=torch.float32)
    pairs = [(a, b) for i, a in enumerate(values) for j, b in enumerate(values) if i != j]
    slow = sum(float(torch.dot(a, b) / (a.norm() * b.norm())) for a, b in pairs) / len(pairs)
    assert alike(values) == pytest.approx(slow, abs=1e-5)
    assert alike(values[:1].repeat(5, 1)) == pytest.approx(1)


def test_the_three_sets_of_perturbations_are_of_their_kinds():
    """SEM meets uniform noise while it is made, like the draws beside it; adversaries of REM and of victims go to the limit."""
    clean = tiny(32, shape=(3, 16, 16))
    seen = {}
    for name in ("rem", "sem"):
        attack = ATTACKS[name](**{**ATTACKS[name].small, "batch": 16, "adversary_steps": 6})
        defenses = (DEFENSES["at"](epsilon=4 / 255, steps=4),)
        given = context(clean, attack=(attack,), defenses=defenses, victim=trained(clean, 1), job=Job(seed=1))
        kept = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "unlearnable_bench.registry.analyses.adversaries.alike",
                lambda values, kept=kept: float(len(kept.append(values) or kept)),
            )
            ANALYSES["adversaries"](per_class=3).measure(given)
        assert {len(values) for values in given.curves.values()} == {12} and len(given.curves) == 6
        seen[name] = kept
        assert all(values.abs().max() <= 4 / 255 + 1e-6 for values in kept)
    at_limit = {name: [float((v.abs() > 3.9 / 255).float().mean()) for v in sets] for name, sets in seen.items()}
    assert at_limit["rem"][0] > 0.2 > 0.1 > at_limit["sem"][0] and at_limit["sem"][2] > 0.2
    assert abs(at_limit["sem"][0] - at_limit["sem"][1]) < 0.02


def test_perturbations_need_an_adversary_and_noise_made_batch_by_batch():
    """Said in a sentence, as not applicable; a wrong parameter is refused before any work."""
    clean, at = tiny(8), DEFENSES["at"]()
    for one, why in (
        (context(clean, attack=(rem(),)), "its victim has no adversary"),
        (context(clean, attack=(ATTACKS["lsp"](),), defenses=(at,)), "not made batch by batch"),
    ):
        with pytest.raises(NotApplicable, match=why):
            ANALYSES["adversaries"]().measure(one)
    for item in ("adversaries(per_class=0)", "delusiveness(steps=0)", "luminance(edges=1.0)"):
        with pytest.raises(EntryError, match=r"^analysis [a-z-]+: .*(expected|above 0)"):
            ANALYSES.resolve(item)[0].build()


# Cells and pictures


def a_grid(folder, **axes):
    usual = {
        "title": "t",
        "protocol": "quick(epochs=2,threads=1)",
        "dataset": DIGITS,
        "architecture": "small-cnn",
        "defense": "none",
        "attack": ["none"],
        "measure": "dfr(images=100)",
        "metric": "dfr_max_test_acc",
        "seed": 0,
        "rows": ["attack"],
        "columns": ["measure"],
    }
    lines = [f"{key} = {value!r}" for key, value in (usual | axes).items()]
    (folder / "t.toml").write_text("\n".join(lines).replace("'", '"'))
    return read_grid(str(folder / "t.toml"))


def test_analyses_that_train_further_victims_do_so_in_a_cell(tmp_path):
    """Of a cell that trains none itself as well; the points of a correlation were empty there once."""
    small = "rem(surrogate=small-cnn,train_steps=3,batch=16,samples=1,noise_steps=1,adversary_steps=1)"
    space = Workspace(tmp_path)
    measures = ["correlation(every=1,batches=1)", "delusiveness(steps=1)", "adversaries(per_class=2)"]
    axes = {"dataset": "digits(per_class=16,test_per_class=5)", "defense": "at(epsilon=4/255,steps=1)"}
    made = a_grid(tmp_path, attack=[small], measure=measures, metric="points", **axes)
    driver.run_table("t", made, space, RunOptions("inline", device="cpu"), quiet=True)
    found = {record.cell.measured.partition("(")[0]: record.metrics for record in Records(space.records)}
    assert set(found) == {"correlation", "delusiveness", "adversaries"}
    points = found["correlation"]
    assert points.test_acc is None and points.figures["points"] == 3 and all(0 <= v <= 1 for v in points.curves["protection"])
    figures = found["delusiveness"].figures
    assert figures["delusiveness"] == pytest.approx(found["delusiveness"].curve.test_loss[-1], abs=1e-3)
    assert figures["stability"] == min(value for name, value in figures.items() if name.startswith("delusiveness"))
    (sheet,) = printed_tables(made, Records(space.records), resolve, lacking)
    assert {one.title for one in sketches(sheet)} == {"Protection over robustness: t", "Points: t"}


def with_curves(tmp_path, several, **axes):
    """The table of these measures with a record of each, of given figures and curves."""
    made = a_grid(tmp_path, measure=list(several), **axes)
    records = Records(tmp_path)
    for cell in expand(made)[0]:
        figures, curves, accuracies = several[cell.measured]
        trained = {"test_acc": accuracies[-1], "test_acc_best": max(accuracies)} if accuracies else {}
        metrics = Metrics(figures=figures, curves=curves, **trained)
        metrics.curve.test_acc = accuracies
        write_json(records.path(cell.id), Record(id=cell.id, cell=cell, metrics=metrics).model_dump(mode="json"))
    (sheet,) = printed_tables(made, records, resolve, lacking)
    return sheet


def test_reweighted_features_stand_beside_the_victim_and_what_no_training_gives(tmp_path):
    """Figure 2: a solid, a dashed and a dotted line, each with its last value."""
    several = {
        "dfr(images=100)": ({"dfr_max_test_acc": 0.5}, {"dfr_test_acc": [0.3, 0.5], "dfr_test_loss": [2.0, 1.0]}, [0.2, 0.1]),
        "dfr-random": ({"dfr_max_test_acc": 0.36}, {}, []),
    }
    sheet = with_curves(tmp_path, several)
    (one,) = sketches(sheet)
    named = re.findall(r'class="name (c\d)"[^>]*>([^<]*)<', str(one.drawing))
    assert sorted(named) == [("c0", "victim 10.0"), ("c1", "dfr test acc 50.0"), ("c2", "without training 36.0")]
    assert str(one.drawing) in html(sheet)


def test_strips_on_a_page_show_the_pictures_of_a_record(tmp_path):
    """The bytes of the PNG are the numbers of the curves, class beside class; one strip per column of a row."""
    pictures = {f"picture_{k}": [float(k << 16 | n << 8 | 7) for n in range(4)] for k in range(1, 12)}
    several = {name: ({"match": 0.5}, pictures, []) for name in ("class-images", "class-images(of=weights)")}
    sheet = with_curves(tmp_path, several)
    (one,) = sketches(sheet)
    assert [strip.title for strip in one.strips] == ["class-images", "class-images(of=weights)"]
    image = np.array(Image.open(io.BytesIO(base64.b64decode(one.strips[0].data.partition(",")[2]))))
    assert image.shape[:2] == (2, 11 * 3 - 1)
    for k in range(11):
        assert image[:, 3 * k : 3 * k + 2].reshape(4, 3).tolist() == [[k + 1, n, 7] for n in range(4)]


def test_protection_over_a_term_fills_its_panel(tmp_path):
    """Both coordinates in their own scale, and the panel says from where to where they go."""
    curves = {"step": [1, 2, 3], "protection": [0.5, 0.7, 0.9], "theta": [-3.0, -2.0, -1.0], "noise": [-1.0, -1.5, -2.0]}
    sheet = with_curves(tmp_path, {"correlation": ({"points": 3}, curves, [])})
    (one,) = sketches(sheet)
    text = str(one.drawing)
    assert text.count('class="frame"') == 2 and "-3 to -1; up 50 to 90 %" in text and "-2 to -1; up 50 to 90 %" in text
    down, up = (re.findall(r"M([\d.]+) ([\d.]+)h0", part) for part in text.split('class="frame"')[1:])
    assert up == [("8.0", "298.0"), ("130.0", "176.0"), ("252.0", "54.0")]
    assert down == [(x, y) for (x, _), (_, y) in zip(reversed(up), up, strict=True)]


@pytest.mark.parametrize(
    "curves",
    [
        {},
        {"x": [1.0], "y": [1.0, 2.0], "label": [0.0, 1.0]},
        {"x": [1.0], "y": [2.0], "label": [-1.0]},
        {"picture_1": [1.0, 2.0, 3.0]},
        {"picture_1": [1.0], "picture_2": []},
        {"some_acc": [0.5]},
    ],
)
def test_curves_that_are_not_what_they_are_called_make_no_picture(tmp_path, curves):
    """A record of somebody's analysis must not stop a report."""
    sheet = with_curves(tmp_path, {"tsne": ({"acm": 1.0}, curves, [])})
    assert sketches(sheet) == [] and "Pictures" not in html(sheet)
