"""Running a grid through the command itself: plan, resume, failures, interruption. Real processes, real files."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import BENCH, FORK, bench, bench_process

from unlearnable_bench.benchmark import cell, driver, schedule, train
from unlearnable_bench.benchmark.failures import FAILURE_RULES
from unlearnable_bench.benchmark.plan import Plan
from unlearnable_bench.poisons.lease import holder
from unlearnable_bench.results import Records, Workspace
from unlearnable_bench.results.record import Failure

TINY = ["--dataset", "digits(per_class=20,test_per_class=5)", "--scale", "0.2"]


def run_json(*arguments, **options):
    """Run a grid and return its counts."""
    return json.loads(bench("run", *arguments, "--json", **options)[0])


def accuracies(workspace):
    return {r.cell.label: r.metrics.test_acc for r in Records(Path(workspace) / "results/records") if r.metrics}


def poisons(workspace):
    rows = json.loads(bench("poisons", "ls", "--json", workspace=workspace)[0])
    return {Path(row["path"]).name: row["checksum"] for row in rows}


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A finished run of eight cells on the local executor."""
    workspace = tmp_path_factory.mktemp("small")
    counts = run_json(*GRID, workspace=workspace)
    return workspace, counts


GRID = [*TINY, "--attack", "none,lsp", "--defense", "none,bdr", "--seed", "0,1"]


def test_a_grid_with_printed_labels_ends_with_its_table(tmp_path):
    """Whoever runs a table of their own wants to see it; it has no paper to be compared with."""
    table = tmp_path / "mine.toml"
    table.write_text(
        'title = "Mine"\nprotocol = "quick@0.1"\ndataset = "digits(per_class=5,test_per_class=2)"\nseed = 0\n'
        'attack = [{label = "as they are", attack = "none"}]\ndefense = "none"\narchitecture = "small-cnn"\n'
    )
    shown, _ = bench("run", "--grid", str(table), "--executor", "inline", workspace=tmp_path)
    assert re.search(r"^\| as they are \| \d+\.\d", shown, re.MULTILINE), shown


def test_a_run_makes_a_record_per_cell_and_shares_its_stages(small_run):
    """Every cell is done, each poison crafted once, each (poison, purifier) pair purified once."""
    workspace, counts = small_run
    assert counts["cells"] == counts["done"] == counts["ran"] == 8
    assert counts["failed"] == counts["missing"] == 0
    rows = json.loads(bench("poisons", "ls", "--json", workspace=workspace)[0])
    assert sorted((r["attack"], r["defense"]) for r in rows) == [
        *[("lsp", "")] * 2,
        *[("lsp", "bdr")] * 2,
        *[("none", "bdr")] * 2,
    ]
    for record in Records(workspace / "results/records"):
        assert record.metrics.test_acc == record.metrics.curve.test_acc[-1]
        assert record.metrics.test_acc_best == max(record.metrics.curve.test_acc)
        assert len(record.metrics.curve.train_acc) == 2
        assert record.numerics == {"dtype": "fp32", "compile": False, "threads": 1}
        assert (record.poison is not None) == (record.cell.texts["attack"] != "none")
        assert record.cpu_seconds.keys() == record.seconds.keys()
        assert record.cpu_seconds["train"] > 0, "wall time beside other work predicts nothing"
        assert record.poison is None or record.poison.numerics == {"device": "cpu"} | record.numerics
        assert len(record.metrics.curve.shifts) == 10 and record.metrics.curve.shifts[0] == record.metrics.test_acc
        assert len(record.tree) == 64
        assert record.versions["protocol:quick"] == "1"
    left = {path.name for path in (workspace / "results/records/.leases").iterdir()}
    ids = Records(workspace / "results/records").ids()
    assert left == {f"{cell}.lock" for cell in ids}, "until other machines see the records, and nothing else"
    assert all(holder(workspace / "results/records/.leases" / name).finished for name in left)


def test_running_again_trains_nothing_and_rewrites_nothing(small_run):
    """A finished record is never touched."""
    workspace, _ = small_run
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (workspace / "results/records").glob("*.json")}
    out, _ = bench("run", *GRID, workspace=workspace)
    assert "8 of 8 cells done; nothing to run" in out
    assert before == {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (workspace / "results/records").glob("*.json")}


def test_only_the_missing_cell_runs_and_gives_the_same_number(small_run):
    """Resume by files alone; and a cell is repeatable to the last digit."""
    workspace, _ = small_run
    path = sorted((workspace / "results/records").glob("*.json"))[0]
    before = json.loads(path.read_text())
    path.unlink()
    plan = run_json(*GRID, "--dry-run", workspace=workspace)
    assert plan["to_run"] == 1
    assert plan["cached"] == 7
    assert plan["seconds_estimate"] > 0
    assert not path.exists(), "a dry run runs nothing"
    assert run_json(*GRID, "--executor", "inline", workspace=workspace)["ran"] == 1
    assert json.loads(path.read_text())["metrics"] == before["metrics"]


def test_a_plan_is_estimated_as_if_nothing_else_ran(small_run, tmp_path):
    """Records measured beside other work must not make a plan look long."""
    workspace, _ = small_run
    plan = run_json(*GRID, "--seed", "7", "--dry-run", workspace=workspace)
    shutil.copytree(workspace / "results/records", tmp_path / "results/records")
    for path in (tmp_path / "results/records").glob("*.json"):
        content = json.loads(path.read_text())
        content["seconds"] = {stage: 1000 + value for stage, value in content["seconds"].items()}
        path.write_text(json.dumps(content))
    beside_other_work = run_json(*GRID, "--seed", "7", "--dry-run", workspace=tmp_path)
    assert 0 < beside_other_work["seconds_estimate"] < plan["seconds_estimate"] + 100


def test_inline_and_local_executors_give_the_same_records(small_run, tmp_path):
    """How the stages were put onto the machine must not show in a number."""
    workspace, _ = small_run
    counts = run_json(*GRID, "--executor", "inline", workspace=tmp_path)
    assert counts["ran"] == 8
    assert accuracies(tmp_path) == accuracies(workspace)
    assert poisons(tmp_path) == poisons(workspace)


def test_one_cell_runs_again_beside_its_record(small_run):
    """The command that a page prints reproduces the number and leaves the record alone."""
    workspace, _ = small_run
    record = next(iter(Records(workspace / "results/records")))
    path = workspace / "results/records" / f"{record.id}.json"
    before = path.read_bytes()
    answer = json.loads(bench(*record.command.split()[1:], "--json", "--executor", "inline", workspace=workspace)[0])
    assert answer["recorded"] == answer["measured"] == record.metrics.test_acc
    assert path.read_bytes() == before
    out, _ = bench("run", "--cell", str(path), "--executor", "inline", workspace=workspace)
    assert re.search(r"recorded [\d.]+%, now [\d.]+%: the same", out)


def test_force_runs_finished_cells_and_limit_bounds_them(small_run):
    """`--force` is the only way to replace a record; `--limit` counts cells to run."""
    workspace, _ = small_run
    assert run_json(*GRID, "--force", "--limit", "2", "--executor", "inline", workspace=workspace)["ran"] == 2
    assert run_json(*GRID, workspace=workspace)["ran"] == 0


def test_a_partly_poisoned_run_and_its_ratio_zero(tmp_path):
    """A ratio mixes the poison with clean images; ratio 0 is clean training whatever the attack."""
    counts = run_json(*TINY, "--attack", "lsp", "--ratio", "0,0.5,1", "--executor", "inline", workspace=tmp_path)
    assert counts["done"] == 3
    assert len(poisons(tmp_path)) == 1
    records = {r.cell.ratio: r for r in Records(tmp_path / "results/records")}
    assert records[0.0].poison is None
    assert records[0.5].poison.checksum == records[1.0].poison.checksum


PLUGIN = '''
from dataclasses import dataclass
import os, signal
import torch
from unlearnable_bench.registry import Attack, Budget, Defense, NotApplicable, Paper

@dataclass(frozen=True)
class Greedy(Attack):
    """Spends more than it says."""
    epsilon: float = 4 / 255  # pixel units
    paper = Paper("Greedy", venue="test", url="")
    @property
    def budget(self): return Budget("linf", self.epsilon)
    def craft(self, clean, job): return torch.full(clean.images.shape, 9 / 255)

@dataclass(frozen=True)
class Picky(Defense):
    """Runs on nothing."""
    def applies(self, info): raise NotApplicable(f"wants 1000 classes, the data set has {info.num_classes}")

@dataclass(frozen=True)
class Broken(Defense):
    """Fails while training."""
    def augment(self, x, y): raise KeyError("no such thing")

@dataclass(frozen=True)
class Nan(Defense):
    """Diverges."""
    def loss(self, model, x, y, progress): return super().loss(model, x, y, progress) * float("nan")

@dataclass(frozen=True)
class Hungry(Defense):
    """Wants more memory than there is."""
    def augment(self, x, y): return torch.empty(1 << 50), y

@dataclass(frozen=True)
class Deadly(Defense):
    """Kills its process, as the system does when memory runs out."""
    def augment(self, x, y):
        os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """Environment in which a package with misbehaving entries is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "misbehaving.py").write_text(PLUGIN)
    info = folder / "misbehaving-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving\nVersion: 1.0\n")
    points = "[bench.attacks]\ngreedy = misbehaving:Greedy\n[bench.defenses]\n"
    points += "".join(f"{name.lower()} = misbehaving:{name}\n" for name in ("Picky", "Broken", "Nan", "Hungry", "Deadly"))
    (info / "entry_points.txt").write_text(points)
    return {"PYTHONPATH": str(folder)}


def test_every_bad_end_has_a_name_and_the_other_cells_go_on(plugin, tmp_path):
    """One failing cell costs itself; the kind says what to do; not applicable is no failure."""
    grid = [*TINY, "--attack", "none,greedy", "--defense", "none,picky,broken,nan"]
    counts = run_json(*grid, "--executor", "inline", code=3, workspace=tmp_path, environment=plugin)
    assert counts["done"] == 1
    assert counts["not_applicable"] == 2
    assert counts["failed"] == 5
    failures = {
        f.cell.texts["attack"] + "/" + f.cell.texts["defense"]: f for f in Records(tmp_path / "results/records").failures()
    }
    assert failures["greedy/none"].kind == "budget"
    assert "spent 9/255 of linf, allowed 4/255" in failures["greedy/none"].message
    assert failures["none/broken"].kind == "plug-in"
    assert "KeyError" in failures["none/broken"].message
    assert failures["none/nan"].kind == "diverged"
    again = run_json(*grid, workspace=tmp_path, environment=plugin, code=3)
    assert again["ran"] == 0
    assert again["failed"] == 5, "what cannot change is not tried again by itself"
    out, _ = bench("status", "--grid", "quick", "--json", workspace=tmp_path)
    assert json.loads(out)["missing"] == 84


def test_a_killed_worker_costs_its_cell_only_and_is_bounded(plugin, tmp_path, monkeypatch):
    """The other cells are finished, the killed one is named and tried again, so often as the rule says (here twice in all)."""
    rule = dataclasses.replace(FAILURE_RULES["killed"], attempts=2)
    monkeypatch.setitem(FAILURE_RULES, "killed", rule)
    grid = [*TINY, "--defense", "deadly,none", "--workers", "1"]
    counts = run_json(*grid, code=3, workspace=tmp_path, environment=plugin)
    assert counts["done"] == 1
    assert counts["failed"] == 1
    failure = next(Records(tmp_path / "results/records").failures())
    assert failure.kind == "killed"
    assert isinstance(failure, Failure)
    run_json(*grid, code=3, workspace=tmp_path, environment=plugin)
    assert next(Records(tmp_path / "results/records").failures()).attempts == 2
    assert run_json(*grid, "--dry-run", code=0, workspace=tmp_path, environment=plugin)["to_run"] == 0


LONGER = ["--dataset", "digits(per_class=60,test_per_class=10)", "--defense", "none,bdr", "--scale", "0.5"]
LONGER += ["--attack", "none,em(surrogate=small-cnn,weight_steps=5,batch=64,noise_steps=2,max_rounds=3)"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The workspace of the longer run that nothing disturbed."""
    workspace = tmp_path_factory.mktemp("undisturbed")
    run_json(*LONGER, "--executor", "inline", workspace=workspace)
    return workspace


def processes_of(workspace):
    """The live processes whose command line names the workspace."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(workspace).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to find the workers")
def test_kill_9_in_the_middle_loses_nothing(undisturbed, tmp_path):
    """After kill -9 the same command ends with the poisons and the accuracies of an undisturbed run, byte for byte.

    That of the driver, whose workers notice; `make reliability` kills all at once.
    """
    calm, harsh = undisturbed, tmp_path / "harsh"
    driver = subprocess.Popen(
        [*BENCH, "run", *LONGER, "--workspace", str(harsh)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((harsh / "results/records").glob("*.json")):
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and processes_of(harsh):
        time.sleep(0.1)
    assert not processes_of(harsh), "workers end by themselves when their driver is gone"
    assert len(accuracies(harsh)) < len(accuracies(calm)), "the run was killed in the middle"
    run_json(*LONGER, "--executor", "inline", workspace=harsh)
    assert accuracies(harsh) == accuracies(calm)
    assert poisons(harsh) == poisons(calm)


def test_two_drivers_at_once_never_run_a_cell_twice(tmp_path):
    """Leases: both end well, and the records together were written once each."""
    command = [*BENCH, "run", *GRID, "--workspace", str(tmp_path), "--json", "--workers", "1"]
    drivers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
    answers = [json.loads(driver.communicate(timeout=200)[0]) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0]
    assert all(answer["done"] == 8 for answer in answers)
    assert sum(answer["ran"] for answer in answers) == 8


def test_a_log_has_a_line_for_every_set_and_cell(tmp_path):
    """Who follows the log of a run that crafts for an hour sees that it is at work."""
    _, error = bench(
        "run", *TINY, "--attack", "lsp", "--defense", "jpeg(quality=10)", "--executor", "inline", workspace=tmp_path
    )
    assert [line.split()[0] for line in error.splitlines()[1:4]] == ["crafted", "purified", "[1/1]"]


def test_cells_are_run_in_their_order_each_with_the_sets_that_it_needs(tmp_path):
    """The first numbers of a grid are there before the last poison is crafted, which may take hours."""
    _, error = bench("run", *TINY, "--attack", "ops,lsp", "--defense", "none,bdr", "--executor", "inline", workspace=tmp_path)
    words = [line.split()[0] for line in error.splitlines()[1:]]
    expected = ["crafted", "[1/4]", "purified", "[2/4]", "crafted", "[3/4]", "purified", "[4/4]"]
    assert words[: len(expected)] == expected


def test_ctrl_c_leaves_a_resumable_workspace(tmp_path):
    """Exit code 130, one sentence, no half-written file."""
    many = [*LONGER, "--seed", "0,1,2,3"]  # so many that some are left, however late the signal comes
    driver = subprocess.Popen(
        [*BENCH, "run", *many, "--workspace", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((tmp_path / "results/records").glob("*.json")):
        time.sleep(0.05)
    driver.send_signal(signal.SIGINT)
    _, error = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "interrupted; the same command goes on where this one stopped" in error
    list(Records(tmp_path / "results/records"))  # every record there is whole
    assert 0 < run_json(*many, "--dry-run", workspace=tmp_path)["to_run"] < 16


def test_workers_that_cannot_begin_are_named_with_their_logs(tmp_path):
    """A broken environment of the workers must not look like a finished run."""
    bench("run", *TINY, "--executor", "inline", workspace=tmp_path)  # the data set is decoded
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "torch.py").write_text("raise ImportError('no torch here')\n")
    space = tmp_path / "space"
    out, error = bench_process("run", *TINY, workspace=space, environment={"PYTHONPATH": str(shadow)}, code=3)
    assert out == ""
    assert "the workers ended before they finished anything; their logs are in" in error
    folder = Path(error.strip().rpartition(" in ")[2])
    assert "no torch here" in "".join(path.read_text() for path in folder.glob("*.out"))


def test_out_of_memory_is_named_and_says_what_to_change(plugin, tmp_path):
    """A researcher reads the reason, not a traceback."""
    counts = run_json(*TINY, "--defense", "hungry", "--executor", "inline", code=3, workspace=tmp_path, environment=plugin)
    assert counts["failed"] == 1
    failure = next(Records(tmp_path / "results/records").failures())
    assert failure.kind == "out-of-memory"
    assert "fewer --workers, a smaller batch" in failure.message


def test_a_record_says_the_recipe_as_it_was_trained(tmp_path):
    """A defense may bring its own schedule; the record must show what really ran."""
    run_json(*TINY, "--defense", "at(steps=1)", "--executor", "inline", workspace=tmp_path)
    record = next(iter(Records(tmp_path / "results/records")))
    assert record.cell.protocol.fields["epochs"] == 10
    assert record.recipe["epochs"] == 12
    assert record.recipe["scale"] == 0.2
    assert len(record.metrics.curve.test_acc) == 2


@pytest.mark.parametrize(("device", "cells", "expected"), [("cuda", 1, 2), ("cuda", 3, 6), ("cuda:1", 3, 3)])
def test_workers_follow_the_gpus_and_the_cells_on_each(device, cells, expected, monkeypatch):
    """Counting is all that can be tested where there is no GPU."""
    monkeypatch.setattr(schedule, "gpu_count", lambda: 2)
    assert schedule.default_workers(Plan("none", [], {}), device, cells) == expected
    assert schedule.visible_gpus(device) == ([1] if ":" in device else [0, 1])


class Counted(train.Training):
    """Writes down the epochs that it trains."""

    epochs: Path

    def _one_epoch(self):
        with self.epochs.open("a") as file:
            print(self.epoch, file=file)
        super()._one_epoch()


class Eager(train.Checkpoint):
    """Saves after every epoch; may die after the third."""

    mortal: bool

    def save(self, state):
        super().save(state)
        if self.mortal and len(state["curve"]["test_acc"]) == 3:
            os.kill(os.getpid(), signal.SIGKILL)


def five_epochs(workspace, mortal):
    """Train one cell in a copy of this process; return the epochs that it trained and how the process ended."""
    workspace.mkdir(exist_ok=True)
    Counted.epochs = workspace / f"epochs-{mortal}"
    Eager.mortal = mortal
    copy = FORK.Process(target=_five_epochs, args=(workspace,))
    copy.start()
    copy.join(120)
    return Counted.epochs.read_text().split(), copy.exitcode


def _five_epochs(workspace):
    cell.Checkpoint, cell.Training = lambda path: Eager(path, seconds=0), Counted
    wishes = {"dataset": ["digits(per_class=20,test_per_class=5)"], "protocol": ["quick(epochs=5)"]}
    options = driver.RunOptions(executor="inline", device="cpu")
    driver.run_table(*driver.choose_grid(None, wishes), Workspace.find(workspace), options, quiet=True)


def test_a_cell_killed_in_its_third_epoch_goes_on_with_the_fourth_to_the_same_record(tmp_path):
    """Preemption costs minutes, not the cell."""
    calm, harsh = tmp_path / "calm", tmp_path / "harsh"
    assert five_epochs(calm, mortal=False) == (["0", "1", "2", "3", "4"], 0)
    assert five_epochs(harsh, mortal=True) == (["0", "1", "2"], -signal.SIGKILL)
    assert not list((harsh / "results/records").glob("*.json"))
    assert five_epochs(harsh, mortal=False) == (["3", "4"], 0)
    first, second = (next(iter(Records(space / "results/records"))) for space in (calm, harsh))
    assert first.metrics == second.metrics
    assert not list((harsh / ".bench/checkpoints").iterdir()), "a finished cell leaves no checkpoint"
