"""A smoke grid: every protocol and every architecture goes once from its item to a record, on real images.

The images are those of CIFAR-10 where `$BENCH_DATA/cifar10` is there (`make smoke` asks for it), else scikit-learn's
handwritten digits, which have the same shape.
"""

import os
from pathlib import Path

import pytest
from conftest import DATA

from unlearnable_bench.benchmark import driver
from unlearnable_bench.registry import ARCHITECTURES, PROTOCOLS, Contrastive
from unlearnable_bench.results import Records, Workspace, read_table

REAL = (DATA / "cifar10").is_dir()
IMAGES = "cifar10" if REAL else "digits"


def one_epoch(name: str) -> str:
    """The item of a protocol cut to a single pass over few images."""
    protocol = PROTOCOLS[name]
    steps = "steps=2" if protocol.steps else "epochs=1"
    probe = ",probe_epochs=1" if issubclass(protocol, Contrastive) else ""
    return f"{name}({steps},batch=10{probe})"


def run_cell(tmp_path, monkeypatch, protocol: str, architecture: str, per_class: int = 2):
    if REAL:
        monkeypatch.setitem(os.environ, "BENCH_DATA", str(DATA))
    dataset = f"{IMAGES}(per_class={per_class},test_per_class=1)"
    wishes = {"protocol": [protocol], "architecture": [architecture], "dataset": [dataset]}
    space = Workspace.find(tmp_path)
    outcome = driver.run_table(
        *driver.choose_grid(None, wishes), space, driver.RunOptions(executor="inline", device="cpu"), quiet=True
    )
    assert list(outcome.after.states.values()) == ["done"], outcome.after.reasons
    (record,) = Records(space.records)
    return record


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_runs(name, tmp_path, monkeypatch):
    """A recipe that the loop cannot follow shows here, not on a cluster."""
    record = run_cell(tmp_path, monkeypatch, one_epoch(name), "small-cnn")
    assert record.recipe["augmentation"] == list(PROTOCOLS[name]().augmentation)
    assert len(record.metrics.curve.test_acc) == 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_runs(name, tmp_path, monkeypatch):
    """Each network takes a step and is judged, whatever its size."""
    record = run_cell(tmp_path, monkeypatch, "dvae(steps=1,batch=2)", name, per_class=1)
    assert len(record.metrics.curve.test_acc) == 1


def test_the_table_of_make_smoke_names_every_protocol_and_architecture():
    """The whole product runs by hand on CIFAR-10 images; an entry that it does not name would never be tried."""
    table = read_table(str(Path(__file__).parent / "smoke.toml"))
    assert table.protocol == [one_epoch(name) for name in PROTOCOLS]
    assert table.architecture == list(ARCHITECTURES)


def test_a_networks_own_recipe_is_trained_and_recorded(tmp_path, monkeypatch):
    """Transformers have the optimizers of their papers; the record must say so."""
    record = run_cell(tmp_path, monkeypatch, "lfu(epochs=1,batch=10)", "vit-lfu", per_class=1)
    assert record.recipe["optimizer"] == "adam"
    assert record.recipe["lr"] == PROTOCOLS["lfu"].per_architecture["vit-lfu"]["lr"]
