"""Protocols: every figure of the papers' recipes, from the protocol table of the method cards, against the entries."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unlearnable_bench.benchmark.augment import AUGMENTATIONS
from unlearnable_bench.registry import ARCHITECTURES, DATASETS, DEFENSES, PROTOCOLS, EntryError, Protocol, resolve

SCHEDULES = {"cosine", "cosine-epoch", "linear", "onecycle", "milestones", "constant"}
OPTIMIZERS = {"sgd", "adam", "adamw"}


def recipe(name: str, dataset: str = "cifar10", adversarial: bool = False) -> Protocol:
    """What a cell trains by: the dataset's variant, then what differs under adversarial training."""
    protocol = PROTOCOLS[name]()
    protocol = dataclasses.replace(protocol, **protocol.per_dataset.get(dataset, {}))
    return DEFENSES["at"]().configure(protocol) if adversarial else protocol


def variants(name: str) -> list[Protocol]:
    sets = [*PROTOCOLS[name].per_dataset, "cifar10"]
    return [recipe(name, dataset, adversarial) for dataset in sets for adversarial in (False, True)]


# Every recipe can be trained by


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_names_only_what_the_training_loop_knows(name):
    """A misspelt augmentation would show after the poison was crafted, hours later."""
    for protocol in variants(name):
        assert set(protocol.augmentation) <= set(AUGMENTATIONS)
        assert protocol.schedule in SCHEDULES and protocol.optimizer in OPTIMIZERS
        assert (protocol.schedule == "milestones") == bool(protocol.milestones)
        assert all(0 < m < 1 for m in protocol.milestones) and list(protocol.milestones) == sorted(protocol.milestones)
        assert protocol.precision in ("auto", "fp32", "bf16")
        assert len(protocol.mean) == len(protocol.std) and len(protocol.mean) in (0, 3)
        assert protocol.input_size or "resized-crop" not in protocol.augmentation


@pytest.mark.parametrize("name", PROTOCOLS)
def test_variants_name_fields_and_data_sets_that_there_are(name):
    """A misspelt field fails in the middle of a grid; a misspelt dataset is silently trained by the wrong recipe."""
    protocol = PROTOCOLS[name]
    fields = {f.name for f in dataclasses.fields(protocol)} - {"scale"}
    assert set(protocol.adversarial) <= fields
    assert set(protocol.per_dataset) <= set(DATASETS)
    assert all(set(changed) <= fields for changed in protocol.per_dataset.values())
    assert set(protocol.per_architecture) <= set(ARCHITECTURES)
    assert all(set(changed) <= fields for changed in protocol.per_architecture.values())


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_data_set_that_stands_in_for_another_is_trained_by_the_same_recipe(name):
    """`cifar10-jpeg75` is shown in the tables of CIFAR-10."""
    for stand_in in DATASETS:
        if original := DATASETS.entry(stand_in).facts.get("stands_in_for"):
            assert recipe(name, stand_in) == recipe(name, original)


# The protocol table. Milestones are written in the table's own unit: epochs, or steps where the recipe counts steps.

CROP, IMAGENET = ("crop", "flip"), ("resized-crop", "flip")
SGD = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": False, "shuffle": True, "clip": 0.0, "warmup": 0.0}
HALF, ONE = (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)

ROWS = {  # protocol and dataset: length, batch, schedule, weight decay, augmentation, and what else the row states
    "st cifar10": (60, 128, "cosine", 1e-4, CROP, {}),
    "st cifar100": (60, 128, "cosine", 1e-4, CROP, {}),
    "st imagenet100": (60, 128, "cosine", 1e-4, CROP, {"input_size": 224}),
    "sem cifar10": (40_000, 128, (16_000, 32_000), 5e-4, CROP, {"drop_last": True, "mean": HALF, "std": ONE}),
    "sem cifar100": (40_000, 128, (16_000, 32_000), 5e-4, CROP, {"drop_last": True, "mean": HALF, "std": ONE}),
    "sem imagenet100": (40_000, 128, (16_000, 32_000), 5e-4, IMAGENET, {"input_size": 224, "mean": HALF, "std": ONE}),
    "sem facescrub": (40_000, 128, (16_000, 32_000), 5e-4, CROP, {"mean": HALF, "std": ONE}),
    "dvae cifar10": (60, 128, "cosine", 5e-4, CROP, {"clip": 5.0, "drop_last": True, "mean": ()}),
    "dvae cifar100": (100, 128, "cosine", 5e-4, CROP, {"clip": 5.0, "drop_last": True, "mean": ()}),
    "dvae imagenet100": (100, 128, "cosine", 5e-4, IMAGENET, {"clip": 5.0, "drop_last": True, "input_size": 224}),
    "lfu cifar10": (60, 128, "cosine", 5e-4, CROP, {"mean": CIFAR_MEAN, "std": CIFAR_STD}),
    "lfu cifar100": (60, 128, "cosine", 5e-4, (*CROP, "rotate20"), {"mean": CIFAR_MEAN, "std": CIFAR_STD}),
    "lfu svhn": (60, 128, "cosine", 5e-4, (), {"mean": CIFAR_MEAN, "std": CIFAR_STD}),
    "lfu svhn-small": (60, 128, "cosine", 5e-4, (), {}),
    "lfu imagenet100": (60, 128, "cosine", 5e-4, (*IMAGENET, "jitter"), {"input_size": 224}),
    "tue cifar10": (200, 128, "cosine", 5e-4, CROP, {"mean": ()}),
    "tue cifar100": (200, 128, "cosine", 5e-4, CROP, {"mean": ()}),
    "tue svhn": (200, 128, "cosine", 5e-4, CROP, {"mean": ()}),
    "tue svhn-small": (200, 128, "cosine", 5e-4, CROP, {"mean": ()}),
    "apbench cifar10": (200, 256, (100,), 5e-4, CROP, {"drop_last": True, "shuffle": False, "gamma": 0.5, "mean": ()}),
    "apbench cifar100": (200, 256, (100,), 5e-4, CROP, {"drop_last": True, "shuffle": False, "gamma": 0.5}),
    "apbench svhn": (200, 256, (100,), 5e-4, (), {"drop_last": True, "shuffle": False, "gamma": 0.5}),
    "apbench svhn-small": (200, 256, (100,), 5e-4, (), {"drop_last": True, "shuffle": False, "gamma": 0.5}),
    "apbench imagenet100": (200, 256, "cosine", 5e-4, ("flip", "jitter"), {"shuffle": True, "input_size": 224}),
    "eclipse cifar10": (80, 128, "constant", 0.0, CROP, {"mean": (), "drop_last": False}),
    "bridge-pure cifar10": (120, 128, (80, 100), 5e-4, CROP, {"mean": (), "drop_last": False}),
    "entf cifar10": (100, 128, (75, 90), 5e-4, CROP, {"mean": (), "drop_last": False}),
    "toy cifar10": (16, 64, "cosine", 5e-4, (), {"mean": (), "threads": 1}),
}

ADVERSARIAL = {  # card D02: as above, under adversarial training
    "st cifar10": (60, 128, "cosine", 1e-4, CROP, {}),
    "sem cifar10": (40_000, 128, (16_000, 32_000), 5e-4, CROP, {}),
    "sem imagenet100": (40_000, 128, (16_000, 32_000), 5e-4, IMAGENET, {}),
    "dvae cifar10": (100, 128, (75, 90), 5e-4, CROP, {"clip": 5.0}),
    "dvae cifar100": (100, 128, (75, 90), 5e-4, CROP, {"clip": 5.0}),
    "dvae imagenet100": (100, 128, (75, 90), 5e-4, IMAGENET, {"clip": 5.0}),
    "lfu cifar10": (100, 128, (75, 90), 5e-4, CROP, {}),
    "apbench cifar10": (200, 256, (100,), 5e-4, CROP, {"gamma": 0.5, "shuffle": False, "drop_last": True}),
    "entf cifar10": (100, 128, (75, 90), 5e-4, CROP, {}),
}


def holds(protocol: Protocol, row: tuple) -> None:
    length, batch, schedule, weight_decay, augmentation, more = row
    assert (protocol.steps or protocol.epochs) == length and bool(protocol.steps) == (length >= 10_000)
    if isinstance(schedule, tuple):
        assert protocol.schedule == "milestones"
        assert tuple(round(part * length, 6) for part in protocol.milestones) == schedule
    else:
        assert protocol.schedule.removesuffix("-epoch") == schedule
    found = {key: getattr(protocol, key) for key in (*SGD, *more)}
    assert found == SGD | more
    assert (protocol.batch, protocol.weight_decay, protocol.augmentation) == (batch, weight_decay, augmentation)
    assert protocol.gamma == more.get("gamma", 0.1)
    assert protocol.input_size == (224 if augmentation[:1] == ("resized-crop",) else more.get("input_size", 0))


@pytest.mark.parametrize("row", ROWS)
def test_the_figures_of_the_protocol_table_are_those_of_the_entries(row):
    """A number measured by another recipe must not stand beside the paper's."""
    holds(recipe(*row.split()), ROWS[row])


@pytest.mark.parametrize("row", ADVERSARIAL)
def test_adversarial_training_has_the_length_and_the_stairs_of_the_papers(row):
    """D-VAE and LfU train it longer than plain; the others alike."""
    holds(recipe(*row.split(), adversarial=True), ADVERSARIAL[row])


def test_only_the_papers_that_step_once_per_epoch_do():
    """D-VAE, TUE (T_max 200) and ST state it; LfU and APBench's ImageNet follow; so does BYOL; our own goes by steps."""
    by_epoch = {name for name in PROTOCOLS if recipe(name).schedule == "cosine-epoch"}
    assert by_epoch == {"byol", "st", "dvae", "lfu", "tue"}
    assert recipe("apbench", "imagenet100").schedule == "cosine-epoch"


def test_the_peculiarities_of_apbench_are_its_own():
    """No shuffling of CIFAR, 80 images of it that are never used, one halving: nobody else should inherit them."""
    odd = [n for n in PROTOCOLS if not recipe(n).shuffle or recipe(n).gamma != 0.1]
    assert odd == ["apbench"]
    assert recipe("apbench", "imagenet100").shuffle, "the official loader shuffles it"
    steps, per_epoch = recipe("apbench").length(50_000)
    assert (steps, 50_000 - per_epoch * 256) == (200 * 195, 80)


@pytest.mark.parametrize(
    ("name", "images", "steps"), [("dvae", 50_000, 60 * 390), ("sem", 50_000, 40_000), ("sem", 1020, 40_000)]
)
def test_lengths_in_steps(name, images, steps):
    """SEM's steps stay when a subset has fewer images (table 11), epochs do not."""
    assert recipe(name).length(images)[0] == steps


def test_a_paper_stands_beside_each_published_recipe():
    """Printed on the pages; those that are ours have none."""
    papers = {name: PROTOCOLS.entry(name).paper for name in PROTOCOLS}
    assert {name for name, paper in papers.items() if paper is None} == {
        "fast",
        "finetune",
        "finetune-imagenet",
        "quick",
        "toy",
    }
    urls = {name: paper.url.rpartition("/")[2] for name, paper in papers.items() if paper}
    assert urls == {
        "apbench": "2308.03258",
        "bridge-pure": "2412.21061",
        "dvae": "2405.01460",
        "eclipse": "2406.15093",
        "entf": "forum?id=zKvm1ETDOq",
        "lfu": "2305.19254",
        "sem": "2311.13091",
        "st": "2306.02064",
        "tue": "2210.10114",
        "byol": "2006.07733",
        "moco": "1911.05722",
        "simclr": "2002.05709",
        "simsiam": "2011.10566",
    }


def test_transformers_have_the_optimizers_of_their_papers():
    """SGD from 0.1 does not train them; what their authors took is theirs, what a user writes wins."""
    lfu = PROTOCOLS["lfu"]()
    vit = lfu.varied(lfu.per_architecture["vit-lfu"])
    assert (vit.optimizer, vit.lr, vit.weight_decay, vit.warmup * vit.epochs) == ("adam", 1e-3, 5e-5, 5)
    assert vit.lr * vit.floor == pytest.approx(1e-5)
    apbench = PROTOCOLS["apbench"](lr=0.01)
    assert apbench.varied(apbench.per_architecture["vit-apb"]).lr == 0.01


def test_fast_costs_what_a_laptop_can_pay():
    """At most 1.0e14 FLOPs a plain training on CIFAR-10: two per multiply-add, three passes; one thread."""
    protocol = PROTOCOLS["fast"]()
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        ARCHITECTURES["resnet9"](10).eval()(torch.empty(1, 3, 32, 32))
    steps, _ = protocol.length(50_000)
    assert 3 * counter.get_total_flops() * protocol.batch * steps <= 1.0e14
    assert protocol.threads == 1


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("batch=0", "batch=0 cannot be; expected 1 or more"),
        ("judge_every=0", "judge_every=0 cannot be; expected 1 or more"),
        ("label_smoothing=1.5", "label_smoothing=1.5 cannot be; expected a fraction, 0 to 1"),
        ("lr=-0.1", "lr=-0.1 cannot be; expected 0 or more"),
        ("schedule=stairs", "schedule=stairs is none of cosine, cosine-epoch, linear"),
        ("precision=fp16", "precision=fp16 is none of auto, fp32, bf16"),
    ],
)
def test_a_value_that_no_training_can_have_is_refused_before_any_work(field, sentence):
    """Else a grid of a weekend fails cell by cell."""
    with pytest.raises(EntryError, match=f"protocol fast: {sentence}"):
        resolve("protocols", f"fast({field})")
    with pytest.raises(EntryError, match="probe_epochs=0 cannot be"):
        resolve("protocols", "simclr(probe_epochs=0)")
