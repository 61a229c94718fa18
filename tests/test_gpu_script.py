"""The unattended GPU script: all of it on a CPU at small sizes, and that no failure of a part stops the rest."""

import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import gpu
import pytest
import torch
from conftest import tiny
from gpu import DeviationError, Notes, Setting, fill, outcomes, parity, pool, read_notes, same, stages
from gpu.stages import Stage

from unlearnable_bench.benchmark import grid as grids
from unlearnable_bench.benchmark import provenance
from unlearnable_bench.benchmark.cost import Arithmetic
from unlearnable_bench.benchmark.task import Task
from unlearnable_bench.results import Records, Workspace

TESTS = Path(__file__).parent
STAGES = ["card", "architectures", "attacks", "defenses", "repeat", "resume", "faults", "views", "outcomes", "speed", "fill"]


def setting(folder: Path, seconds: float = 60.0) -> Setting:
    space = Workspace(folder / "workspace")
    space.writable()
    return Setting("cpu", True, folder / "out", space, folder / "past", 1, time.monotonic() + seconds)


def test_the_whole_script_runs_without_a_gpu(tmp_path):
    """A stage that is first run on a machine that is lent for minutes costs these minutes."""
    command = [sys.executable, "-m", "gpu", "--device", "cpu", "--tiny", "--minutes", "20", "--out", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "2"}  # several, as on any machine
    done = subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parent, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    book = json.loads((tmp_path / "gpu.json").read_text())
    assert [(row["name"], row["state"]) for row in book["stages"]] == [(name, "ok") for name in STAGES]
    assert book["tree"] == provenance.tree()
    with tarfile.open(tmp_path / "records-1.tar") as tar:
        records = [json.loads(tar.extractfile(name).read()) for name in tar.getnames()]
    assert len(records) == 10, "8 of the outcomes, 2 more of the grid; none of what was made to fail"
    assert {record["tree"] for record in records} == {provenance.tree()}


# Stages and checks


def test_a_check_that_fails_is_a_row_and_the_next_goes_on(tmp_path):
    """One wrong operation must not hide what else is wrong."""
    notes = Notes(tmp_path / "notes.jsonl", time.monotonic() + 60)

    def broken():
        raise ValueError("no kernel image is available")

    notes.check("broken", broken)
    notes.check("off", lambda: gpu.must(False, "3 differ; expected none", {"differ": 3}))
    notes.check("sound", lambda: {"value": 1.0})
    rows = {row["name"]: row for row in read_notes(notes.path)}
    assert rows["broken"]["state"] == "failed" and "no kernel image" in rows["broken"]["detail"]
    assert rows["off"]["figures"] == {"differ": 3}
    assert rows["sound"]["state"] == "ok" and rows["sound"]["figures"] == {"value": 1.0}


def test_an_error_that_the_gpu_does_not_survive_ends_the_stage(tmp_path):
    """All later checks of the process would fail, each in its own words."""
    notes = Notes(tmp_path / "notes.jsonl", time.monotonic() + 60)

    def lost():
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with pytest.raises(SystemExit, match="the GPU reported an error"):
        notes.check("lost", lost)
    assert [row["state"] for row in read_notes(notes.path)] == ["failed"]


def test_checks_for_which_no_time_is_left_say_so(tmp_path):
    """A missing row could be taken for one that passed."""
    notes = Notes(tmp_path / "notes.jsonl", time.monotonic() - 1)
    notes.check("late", lambda: {"value": 1.0})
    assert read_notes(notes.path) == [{"name": "late", "state": "skipped", "detail": "the time of the stage was over"}]


def dies(setting, notes):
    notes.check("before", lambda: {})
    os.kill(os.getpid(), 9)


def raises(setting, notes):
    raise ValueError("a stage that cannot begin")


def hangs(setting, notes):
    notes.check("before", lambda: {})
    time.sleep(600)


def passes(setting, notes):
    notes.check("sound", lambda: {})


def test_a_stage_that_dies_or_hangs_is_a_row_and_the_next_goes_on(tmp_path, monkeypatch):
    """A driver that hangs would else take all minutes that a machine is lent for."""
    monkeypatch.setattr(stages, "GRACE", 0.2)
    rows = []
    parts = [Stage(run.__name__, run, 0.0 if run is hangs else 1.0) for run in (dies, raises, hangs, passes)]
    stages.run_group(parts, setting(tmp_path), tmp_path, 4, rows.append)
    found = {row["name"]: row for row in rows}
    assert {name: row["state"] for name, row in found.items()} == {
        "dies": "failed",
        "raises": "failed",
        "hangs": "failed",
        "passes": "ok",
    }
    assert found["dies"]["reason"].startswith("its process ended with -9") and found["dies"]["checks"][0]["state"] == "ok"
    assert "a stage that cannot begin" in found["raises"]["reason"]
    assert found["hangs"]["reason"] == "it was not over in its time and was ended"


# The same numbers on both devices


def test_random_numbers_come_from_the_cpu_whatever_generator_was_meant():
    """A generator of a GPU draws other numbers, so that nothing that is drawn could be compared."""

    def drawn(generator):
        with same.fp32("cpu"):
            return [
                torch.rand(3, generator=generator),
                torch.empty(3).uniform_(1, 2, generator=generator),
                torch.randperm(5, generator=generator),
                torch.rand_like(torch.ones(2)),
            ]

    first, second = drawn(torch.Generator().manual_seed(1)), drawn(None)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_device_that_computes_otherwise_is_found(tmp_path, monkeypatch):
    """A check that lets a wrong gradient pass proves nothing."""
    backward = torch.Tensor.backward
    calls = []

    def wrong(self):
        calls.append(self)
        return backward(self * (1.01 if len(calls) == 2 else 1))

    monkeypatch.setattr(torch.Tensor, "backward", wrong)
    with pytest.raises(DeviationError, match="the gradients differ by"):
        parity._network(setting(tmp_path), "small-cnn")


def test_means_that_lie_apart_by_more_than_seeds_do_are_found():
    """Three standard errors: 0.5 points are too much where seeds lie 0.1 apart, and not where they lie 0.5 apart."""
    assert outcomes.beside([0.90, 0.91, 0.905], [0.903, 0.908])["of"] == [3, 2]
    assert outcomes.beside([0.90, 0.91, 0.905], [0.91, 0.92, 0.90])
    with pytest.raises(DeviationError, match=r"-0\.0050 apart"):
        outcomes.beside([0.900, 0.901, 0.899], [0.905, 0.906, 0.904])
    with pytest.raises(DeviationError, match=r"expected 0\.007"):
        outcomes.precisions([0.90, 0.90], [0.91, 0.91])


# Cells


def cells(**axes):
    return grids.expand(grids.adhoc({key: list(map(str, values)) for key, values in axes.items()}))[0]


def test_papers_cells_come_by_published_results_per_second(tmp_path, monkeypatch):
    """The minutes that are left are worth most on cells that answer several published results and are soon done."""
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    plain = {"protocol": ["dvae"], "dataset": ["cifar10"], "architecture": ["resnet18"]}
    twice, once = cells(**plain, attack=["none", "lsp"])
    dear = cells(**plain, defense=["at"])[0]
    unknown = cells(**plain, attack=["ntga"])[0]
    tasks = [Task.of(cell) for cell in (unknown, dear, once, twice)]
    answers = {twice.id: 2, once.id: 1, dear.id: 2, unknown.id: 9}
    ordered = fill.by_value_per_second(tasks, answers, fill.Estimate(Arithmetic("cuda"), {"resnet18": 5e13}))
    assert ordered == [twice, once, dear], "the one that nobody can estimate is left out"


def test_papers_cells_are_of_data_that_are_here_and_of_one_seed(tmp_path, monkeypatch):
    """The table's other networks and seeds wait; a cell of data that are not carried would be a failure."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    estimate = fill.Estimate(Arithmetic("cuda"), {"resnet18": 5e13})
    assert fill.paper_cells(setting(tmp_path), estimate) == []
    (tmp_path / "data" / "cifar10").mkdir()
    found = fill.paper_cells(setting(tmp_path), estimate)
    assert len(found) > 20 and {cell.seed for cell in found} == {0}
    assert found[0].texts["attack"] == "none" or "surrogate" not in found[0].attack[0].fields


def test_a_cell_that_cannot_end_in_time_is_not_begun(tmp_path):
    """Its seconds would be lost, and those of shorter ones with them."""
    task = Task.of(cells(protocol=["dvae"], dataset=["cifar10"], architecture=["resnet18"])[0])
    estimate = fill.Estimate(Arithmetic("cuda"), {"resnet18": 5e13}, workers=1)
    seconds = estimate.train(task)
    assert 50 < seconds < 200
    assert fill.Estimate(Arithmetic("cuda"), {"resnet18": 5e13}, workers=3).train(task) == pytest.approx(3 * seconds)
    assert fill.Fits(estimate, setting(tmp_path, 2 * seconds))(task)
    assert not fill.Fits(estimate, setting(tmp_path, seconds))(task)


class OverSoon(Setting):
    """A setting whose time is over when two cells have a record."""

    @property
    def seconds_left(self):
        return -1.0 if len(Records(self.space.records).ids()) >= 2 else 60.0


def test_when_the_time_is_over_workers_stop_and_what_was_measured_stays(tmp_path):
    """The machine is taken away at a set time, whatever is under way."""
    many = cells(dataset=["digits(per_class=4,test_per_class=2)"], protocol=["quick@0.1(threads=1)"], seed=range(40))
    plain = setting(tmp_path)
    done = pool.run_cells(OverSoon(**vars(plain)), many, name="many")
    assert 2 <= len(done.done) < 40 and not done.failures
    assert Records(done.records.folder).ids() == set(done.done)
    assert done.run.over and done.run.stopped


def test_pictures_are_of_classes_that_a_network_can_tell_apart():
    """On noise a loss does not fall, and a curve that stays flat proves little."""
    data = same.pictures(32)
    means = torch.stack([data.images[data.labels == k].float().mean(0) for k in range(4)])
    assert (means[0] - means[1]).abs().mean() > 10
    assert data.images.shape == tiny(32).images.shape
