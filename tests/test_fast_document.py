"""docs/results/fast.md and the first rows of the README: every number is of the records, and where there is none it is said."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_docs import GENERATE
from test_leaderboard import record
from writers.fast import NOTHING, Fast

from unlearnable_bench.registry import ATTACKS, resolve
from unlearnable_bench.results import Records
from unlearnable_bench.results.cells import CellMaker
from unlearnable_bench.results.record import Curve, Metrics

MAKER = CellMaker(resolve)
EPOCHS = int(resolve("protocols", "fast")[0].fields["epochs"])


def train(records, accuracy, attack="none", defense="none", length="fast", seed=0, **changes):
    """Write the record of a training, whose accuracy climbs evenly and is looked at after every other epoch."""
    fields = {"dataset": "cifar10", "architecture": "resnet9", "ratio": 1.0, "part": "all"} | changes
    cell = MAKER.cell({"protocol": length, "attack": attack, "defense": defense} | fields, seed)
    last = round(cell.protocol.fields["epochs"] * cell.protocol.fields["scale"])
    judged = [*range(2, last, 2), last]
    curve = Curve(test_acc=[accuracy * epoch / last for epoch in judged], epochs=judged)
    name = cell.attack[0].name
    made = record(
        cell,
        metrics=Metrics(test_acc=accuracy, test_acc_best=accuracy, curve=curve),
        versions={f"attack:{name}": str(ATTACKS.entry(name).version)},
        cpu_seconds={"train": 600.0 + 60 * seed, "craft": 9e9},
    )
    records.write(made)


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path)


def test_without_records_every_part_says_so(records):
    """The document is there before the numbers are; an empty table would look like a mistake."""
    fast = Fast(records)
    assert fast.cost() == fast.lengths() == fast.curves() == NOTHING and fast.drawings() == {}
    assert fast.first_rows() == "Nothing of the grid `cifar10` is measured yet.\n"
    assert fast.predicted().startswith("0 of ")


def test_the_recipe_is_told_by_its_entry():
    """Fields that every protocol has at their defaults say nothing about this one."""
    told = Fast(Records(Path("nowhere"))).recipe()
    assert f"| `epochs` | {EPOCHS} | passes over the training set |" in told
    assert "`judge_every`" not in told and resolve("protocols", "fast")[0].values["judge_every"] == 1


def test_cost_is_of_the_processor_seed_by_seed_with_their_mean(records):
    """Core-minutes of training with its evaluation; crafting is the poison's."""
    for seed, accuracy in enumerate((0.90, 0.92, 0.94)):
        train(records, accuracy, seed=seed)
    train(records, 0.10, architecture="resnet18")  # none of the recipe's
    train(records, 0.10, dataset="cifar10(per_class=200)")
    train(records, 0.10, length="fast(batch=7)")
    train(records, 0.10, part="clean", attack="lsp", ratio=0.5)
    lines = Fast(records).cost().splitlines()[2:]
    assert lines[0] == "| 0 | 90.00 | 10.0 | fp32 | cpu: a processor |"
    assert [line.split(" | ")[1:3] for line in lines[1:]] == [["92.00", "11.0"], ["94.00", "12.0"], ["92.00", "11.0"]]


@pytest.mark.parametrize(("gain", "told"), [(1.4, f"The rule gives {EPOCHS} epochs"), (1.6, "No length that was tried")])
def test_the_rule_takes_the_shortest_length_that_twice_of_it_betters_by_a_point_and_a_half_at_most(records, gain, told):
    """Clean training alone; poisons at these lengths change nothing."""
    for length, accuracy in (("fast@0.5", 0.80), ("fast", 0.90), ("fast@2", 0.90 + gain / 100)):
        train(records, accuracy, length=length)
        train(records, 0.2, attack="lsp", length=length)
    text = Fast(records).lengths()
    assert told in text and f"; the recipe has {EPOCHS}.\n" in text
    assert f"| {EPOCHS} | 90.0 | 1 | +{gain:.2f} |" in text and f"| {2 * EPOCHS} | {90 + gain:.1f} | 1 | – |" in text  # noqa: RUF001


def test_curves_stand_at_the_epochs_that_were_judged_and_their_ends_in_a_table(records):
    """Poisons that are less broken or less repaired than expected are named."""
    for length in ("fast@0.5", "fast", "fast@2"):
        for attack, accuracy in (("none", 0.9), ("lsp", 0.2), ("em(variant=apb,seed=0)", 0.45)):
            train(records, accuracy, attack=attack, length=length)
            train(records, 0.60 if attack == "lsp" else 0.80, attack=attack, defense="jpeg(quality=10)", length=length)
    train(records, 0.3, attack="sep")  # has no curve here
    fast = Fast(records)
    text, drawings = fast.curves(), fast.drawings()
    names = {f"fast-{defense}-{length}.svg" for defense in ("none", "jpeg") for length in ("half", "once", "twice")}
    assert {name for name in drawings if "prediction" not in name} == names and all(f"]({name})" in text for name in names)
    assert "| em | 45.0 | 45.0 | 45.0 | 80.0 | 80.0 | 80.0 |" in text and "sep" not in text
    assert "1 of 2 poisons measured leave less than 40 % (not em (45.0))" in text
    assert "1 of 2 let more than 70 % be learned (not lsp (60.0))" in text
    drawn = ElementTree.fromstring(drawings["fast-none-once.svg"])  # noqa: S314  (ours)
    lines = [one.get("points").split() for one in drawn.findall("{http://www.w3.org/2000/svg}polyline")]
    judged = len([*range(2, EPOCHS, 2), EPOCHS])
    assert [len(points) for points in lines] == [judged] * 3
    assert [curve[0] for curve in (fast.curved["none", 1.0][0].curve,)] == [(2.0, pytest.approx(0.9 * 2 / EPOCHS))]


def test_first_rows_have_numbers_of_today_with_their_change_from_clean_training(records):
    """A column without a number is left out, a hole has a dash."""
    train(records, 0.9)
    train(records, 0.85, defense="grayscale")
    train(records, 0.2, attack="lsp")
    first, _, clean, lsp, _, told = Fast(records).first_rows().splitlines()
    assert first == "| attack | none | grayscale |" and clean == "| none | 90.0 | 85.0 |"
    assert lsp == "| lsp | 20.0 (−70.0) | – |"  # noqa: RUF001
    assert told.startswith("3 of ") and "cells of the grid `cifar10` are measured" in told


def test_figures_of_documents_are_those_of_the_records():
    """`make docs` writes them; one of an earlier run must not stay."""
    drawings = GENERATE["drawings"]()
    assert GENERATE["drawn"]() == set(drawings)
    for path, text in drawings.items():
        assert path.read_text(encoding="utf-8") == text
