"""What a grid costs: multiply-adds of networks and recipes, and records of like cells where there are some."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unlearnable_bench.benchmark.cost import Arithmetic, Cost, _table, multiply_adds
from unlearnable_bench.benchmark.driver import plan_text
from unlearnable_bench.benchmark.plan import Plan, plan_cells
from unlearnable_bench.registry import ARCHITECTURES, DATASETS, lacking, resolve
from unlearnable_bench.results import Grid, Records, TableFile, read_grid
from unlearnable_bench.results.cells import CellMaker
from unlearnable_bench.results.record import Metrics, Record

OPS_EM = "ops-em(noise=em-class(surrogate=resnet9),seed=0)"  # its noise is a poison of its own


def cell(**axes):
    usual = {"protocol": "dvae", "dataset": "cifar10", "attack": "none", "defense": "none", "architecture": "resnet18"}
    return CellMaker(resolve).cell(usual | {"ratio": 1.0, "part": "all"} | axes, axes.pop("seed", 0))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.slow
def test_the_table_of_multiply_adds_is_what_torch_counts(name):
    """A network that changed, or one that nobody entered, would make the estimate of a grid wrong or unknown."""
    with torch.device("meta"):
        network = ARCHITECTURES[name](10, 3, 32).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(2, 3, 32, 32))
    assert _table()["gmac"][name] == pytest.approx(counter.get_total_flops() / 4e9, abs=6e-5)


def test_every_data_set_of_the_papers_has_a_size():
    """`folder:PATH` is anybody's."""
    assert set(_table()["images"]) == set(DATASETS) - {"folder", "stripes"}


def test_a_training_costs_what_the_recipe_says():
    """60 epochs of 50,000 images are 5e15; adversarial training takes 100 epochs and eleven passes; SEM counts steps."""
    assert multiply_adds(cell()) == pytest.approx(60 * 50_000 * 3 * 0.5554e9)
    assert multiply_adds(cell(defense="at")) == pytest.approx(100 * 50_000 * 3 * 11 * 0.5554e9)
    assert multiply_adds(cell(protocol="sem")) == pytest.approx(40_000 * 128 * 3 * 0.5554e9)
    assert multiply_adds(cell(protocol="dvae@0.1")) == pytest.approx(6 * 50_000 * 3 * 0.5554e9)
    assert multiply_adds(cell(part="clean", ratio=0.8)) == pytest.approx(12 * 50_000 * 3 * 0.5554e9)
    assert multiply_adds(cell(dataset="imagenet100", protocol="dvae")) == pytest.approx(100 * 129_395 * 3 * 49 * 0.5554e9)


def test_records_of_like_cells_win_over_multiply_adds():
    """Those of a GPU: a laptop's seconds say nothing about GPU-hours."""
    one, other = cell(), cell(attack="ops", seed=3)

    def record(device):
        return Record(
            id=one.id, cell=one, metrics=Metrics(test_acc=0.9, test_acc_best=0.9), seconds={"train": 36.0}, device=device
        )

    assert Cost([record("cuda: a card")]).hours([other]) == pytest.approx(0.01)
    assert Cost([record("cpu: a processor")]).hours([other]) == Cost().hours([other]) > 0.01


def test_every_cell_of_the_papers_has_an_estimate():
    """`bench list grids` says unknown for none of them."""
    assert Cost().hours(read_grid("full").cells(resolve, lacking)) > 1000


def timed(found: Plan) -> Plan:
    """The plan with the seconds that it takes."""
    found.estimate_time()
    return found


def test_every_stage_of_the_board_is_counted(tmp_path):
    """`bench run --grid cifar10 --dry-run` says how long it takes before anything was measured, crafting included."""
    grid = read_grid("cifar10")
    tasks = timed(plan_cells("cifar10", grid.cells(resolve, lacking), {}, Records(tmp_path)))
    assert tasks.estimate.uncounted == 0 and tasks.estimate.source == "FLOPs" and tasks.estimate.seconds > 0
    work = [(task.poison.text, Arithmetic("cpu").craft(task.poison)) for task in tasks.to_run if task.needs_poison]
    assert {text for text, seconds in work if seconds} >= {text for text, _ in work if "surrogate=" in text} - {OPS_EM}
    limit = 3e14 / _table()["multiply_adds_per_core_second"]  # 6e14 FLOPs
    assert all(seconds <= limit for _, seconds in work)


def test_an_estimate_has_the_poisons_that_are_crafted_and_each_once(tmp_path):
    """Two cells of a poison craft it once; a poison that nobody counted is left out and told."""

    def estimated(attack, defense):
        axes = {"protocol": "fast", "dataset": "cifar10", "architecture": "resnet9", "attack": attack, "defense": defense}
        cells = Grid.of(TableFile(title="Some cells", seed=0, **axes)).cells(resolve, lacking)
        return timed(plan_cells("some", cells, {}, Records(tmp_path)))

    tap = "tap(surrogate=resnet9,epochs=10,steps=20,step_size=0.8/255,restarts=1,seed=0)"
    plain, one, two = estimated("lsp", "none"), estimated(tap, "none"), estimated(tap, ["none", "cutout"])
    assert two.estimate.seconds - one.estimate.seconds == pytest.approx(plain.estimate.seconds)
    assert one.estimate.seconds > 3 * plain.estimate.seconds  # 70 passes of the surrogate beside 24 of a training
    other = estimated("tap(surrogate=resnet9,steps=3)", "none")
    assert other.estimate.uncounted == 1 and other.estimate.seconds == pytest.approx(plain.estimate.seconds)
    assert "the crafting of 1 not included" in plan_text(other)


def test_a_defense_that_was_not_measured_yet_costs_its_passes(tmp_path):
    """Three steps of PGD are three more trainings; ten minutes a cell would promise a weekend that takes a week."""
    axes = {"protocol": "fast", "dataset": "cifar10", "architecture": "resnet9", "ratio": 1.0, "part": "all"}
    measured = CellMaker(resolve).cell({"attack": "none", "defense": "none"} | axes, 0)
    records = Records(tmp_path)
    accuracy = Metrics(test_acc=0.9, test_acc_best=0.9, curve={"test_acc": [0.9], "epochs": [8]})
    records.write(Record(id=measured.id, cell=measured, metrics=accuracy, seconds={"train": 600.0}, device="cpu: a processor"))

    def estimated(defense):
        cells = [CellMaker(resolve).cell({"attack": "lsp", "defense": defense} | axes, 0)]
        return timed(plan_cells("some", cells, {}, records))

    assert estimated("cutout").estimate.seconds == pytest.approx(600)
    assert estimated("at(steps=3)").estimate.seconds == pytest.approx(4 * 600)
    assert estimated("at(steps=3)").estimate.source == "records of like cells"
