"""The slurm executor on a real one-node cluster: the same records as locally, and nothing is lost whatever happens."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from cluster import cluster, unusable
from help import BENCH, Faults, accuracies, bench, done_events, finish, naps, poisons, profile, without_torch

from unlearnable_bench.benchmark import provenance
from unlearnable_bench.results import Records

pytestmark = pytest.mark.skipif(bool(unusable()), reason=unusable() or "there is a cluster")

TINY = ["--dataset", "digits(per_class=20,test_per_class=5)", "--scale", "0.2"]
FOUR = [*TINY, "--attack", "none,lsp", "--defense", "none,bdr"]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A cluster with small arrays and without accounting."""
    folder = tmp_path_factory.mktemp("cluster")
    with cluster(folder, max_array=9) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(made.conf))
        patch.setenv("PATH", made.environment["PATH"])
        yield made


def test_cells_give_the_same_records_as_locally_whatever_lies_about(one, tmp_path, monkeypatch):
    """How cells were put onto machines must not show in a number; stray modules of the submission folder change nothing."""
    stray = tmp_path / "stray"
    stray.mkdir()
    for name in ("registry.py", "random.py", "benchmark.py", "torch.py"):
        (stray / name).write_text("raise SystemExit('a stray module was imported')\n")
    (stray / "results").mkdir()
    monkeypatch.chdir(stray)
    options = ["--executor", "slurm", "--profile", str(profile(tmp_path)), "--cells-per-job", "2", "--wait", "--json"]
    counts = json.loads(bench("run", *FOUR, *options, workspace=tmp_path / "far")[0])
    assert counts["done"] == counts["ran"] == counts["cells"] == 4
    bench("run", *FOUR, "--executor", "inline", workspace=tmp_path / "near")
    far, near = (Records(tmp_path / place / "results/records") for place in ("far", "near"))
    assert far.ids() == near.ids()
    for cell_id in far.ids():
        one_record, other = far.read(cell_id), near.read(cell_id)
        for name in ("metrics", "recipe", "numerics", "versions", "poison", "dataset_fingerprint", "tree", "commit"):
            assert getattr(one_record, name) == getattr(other, name), name
        assert one_record.tree == provenance.tree()
    assert poisons(tmp_path / "far") == poisons(tmp_path / "near")
    assert set(done_events(tmp_path / "far").values()) == {1}


def test_cells_go_out_as_several_arrays_within_the_cap(one, tmp_path):
    """The cluster takes arrays of 9 tasks; 12 cells are two, of which never more than `at_once` tasks run."""
    environment = without_torch(tmp_path / "site", seconds=3)
    command = ["--protocol", "quick", "--seed", ",".join(map(str, range(12)))]
    options = ["--executor", "slurm", "--profile", str(profile(tmp_path, at_once=4, memory="100MB"))]
    _, error = bench("run", *command, *options, workspace=tmp_path, environment=environment, code=4)
    assert "submitted 12 cells" in error
    (arrays,) = tmp_path.glob(".bench/runs/*/arrays.json")
    assert [size for _, _, size in json.loads(arrays.read_text())] == [9, 3]
    again = json.loads(bench("run", *command, *options, "--json", workspace=tmp_path, environment=environment, code=4)[0])
    assert again["ran"] == 0, "what is queued is not submitted again"
    assert len(list(tmp_path.glob(".bench/runs/*/plan.json"))) == 1
    most = 0
    while left := one.jobs():
        most = max(most, len(one.jobs("R")))
        assert len(left) <= 12
        time.sleep(0.1)
    assert 2 <= most <= 4
    counts = json.loads(bench("run", *command, *options, "--json", workspace=tmp_path, environment=environment)[0])
    assert counts["done"] == counts["cells"] == 12
    assert len(done_events(tmp_path)) == 12


CHAOS_AXES = {
    "protocol": ["quick@0.2"],
    "dataset": ["digits(per_class=20,test_per_class=5)"],
    "attack": ["none", "slow"],
    "defense": ["nap", "grayscale+nap", "bdr+nap"],
    "architecture": ["small-cnn"],
    "seed": [0, 1],
}


def write_grid(folder: Path, axes: dict) -> Path:
    path = folder / "chaos.toml"
    path.write_text('title = "Chaos"\n' + "".join(f"{axis} = {json.dumps(values)}\n" for axis, values in axes.items()))
    return path


def test_accidents_cost_time_and_nothing_else(one, tmp_path):
    """Driver and jobs are killed, one is cancelled, one preempted, a poison is cut off: `bench run` alone finishes the grid."""
    environment = naps(tmp_path / "site")
    grid = write_grid(tmp_path, CHAOS_AXES | {"defense": ["nap"]})
    calm, harsh = tmp_path / "calm", tmp_path / "harsh"
    command = ["run", "--grid", str(grid), "--executor", "slurm", "--profile", str(profile(tmp_path))]
    driver = subprocess.Popen(
        [*BENCH, *command, "--wait", "--workspace", str(harsh)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    faults = Faults(one, harsh)
    faults.some_job()
    faults.kill_driver(driver)
    faults.kill_job()
    faults.until(lambda: list(harsh.glob("poisons/cache/slow-*/manifest.json")))
    faults.truncate_poison()
    faults.preempt()
    faults.cancel()
    counts = finish(one, command, harsh, environment)
    assert counts["done"] == counts["cells"] == 4
    bench("run", "--grid", str(grid), "--executor", "inline", workspace=calm, environment=environment | {"AWAKE": "1"})
    assert accuracies(harsh) == accuracies(calm)
    whole = {name: checksum for name, checksum in poisons(harsh).items() if checksum and ".damaged-" not in name}
    assert whole == poisons(calm)
    assert set(done_events(harsh).values()) == {1}
    assert not list(Records(harsh / "results/records").failures())
    print(faults.count)


def test_a_job_may_submit_jobs(one, tmp_path):
    """Nested submission: the inner jobs get their own place, not the outer one's."""
    command = [*TINY, "--executor", "slurm", "--profile", str(profile(tmp_path)), "--workspace", str(tmp_path / "inner")]
    script = tmp_path / "outer.sh"
    script.write_text("#!/bin/bash\n" + " ".join(f"'{word}'" for word in [*BENCH, "run", *command]) + "\n")
    one.command(
        "sbatch", "--wait", "-n", "1", "-c", "1", "--mem=600", "-o", str(tmp_path / "outer.log"), str(script), check=False
    )
    assert "submitted 1 cells" in (tmp_path / "outer.log").read_text()
    deadline = time.monotonic() + 60
    while not accuracies(tmp_path / "inner"):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_queued_cells_run_the_code_that_was_submitted(one, tmp_path):
    """A plug-in that is edited while its cells are queued changes nothing; the copy is what runs."""
    environment = naps(tmp_path / "site")
    grid = write_grid(tmp_path, CHAOS_AXES | {"attack": ["slow"], "defense": ["none"], "seed": [0]})
    options = ["--grid", str(grid), "--executor", "slurm", "--profile", str(profile(tmp_path, sbatch={"hold": True}))]
    bench("run", *options, workspace=tmp_path, environment=environment, code=4)
    (tmp_path / "site/naps.py").write_text("raise SystemExit('edited')\n")
    for job in one.jobs("PD"):
        one.command("scontrol", "release", job)
    deadline = time.monotonic() + 60
    while not accuracies(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_copy_of_the_code_that_was_touched_is_not_run(one, tmp_path):
    """What runs is what was submitted, or nothing."""
    options = [*TINY, "--executor", "slurm", "--profile", str(profile(tmp_path, sbatch={"hold": True}))]
    bench("run", *options, workspace=tmp_path, code=4)
    (copied,) = tmp_path.glob(".bench/code/*/unlearnable_bench/results/cell.py")
    copied.write_text(copied.read_text() + "\n")
    for job in one.jobs("PD"):
        one.command("scontrol", "release", job)
    deadline = time.monotonic() + 60
    while not list(Records(tmp_path / "results/records").failures()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    (failure,) = Records(tmp_path / "results/records").failures()
    assert failure.kind == "code"
    assert "submitted was" in failure.message


def test_cancel_empties_the_queue_and_run_goes_on(one, tmp_path):
    """Cancelled cells are named so, and the same command takes them up again."""
    environment = naps(tmp_path / "site")
    grid = write_grid(tmp_path, CHAOS_AXES | {"attack": ["none"], "defense": ["nap(seconds=30.0)"], "seed": [0, 1, 2, 3, 4]})
    command = ["run", "--grid", str(grid), "--executor", "slurm", "--profile", str(profile(tmp_path))]
    bench(*command, workspace=tmp_path, environment=environment, code=4)
    Faults(one, tmp_path).some_job()
    deadline = time.monotonic() + 60
    shown = {"running": 0}
    while not shown["running"]:  # a job that runs takes its cell once torch is imported
        assert time.monotonic() < deadline
        shown = json.loads(bench("status", "--grid", str(grid), "--json", workspace=tmp_path, environment=environment)[0])
        assert shown["queued"] + shown["running"] == 5
    bench("cancel", "--grid", str(grid), workspace=tmp_path, environment=environment)
    deadline = time.monotonic() + 40
    while one.jobs():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    shown = json.loads(bench("status", "--grid", str(grid), "--json", workspace=tmp_path, environment=environment)[0])
    assert shown["cancelled"] == 5
    plan = json.loads(bench(*command, "--dry-run", "--json", workspace=tmp_path, environment=environment)[0])
    assert plan["to_run"] == 5


def test_a_cell_is_watched_and_its_log_is_found(one, tmp_path):
    """`attach` ends when the jobs have; `logs` of a cell that went well is the log of its job."""
    environment = naps(tmp_path / "site")
    grid = write_grid(tmp_path, CHAOS_AXES | {"attack": ["none"], "defense": ["nap"], "seed": [0]})
    options = ["--executor", "slurm", "--profile", str(profile(tmp_path))]
    bench("run", "--grid", str(grid), *options, workspace=tmp_path, environment=environment, code=4)
    _, error = bench("attach", "--grid", str(grid), workspace=tmp_path, environment=environment)
    assert "[1/1] digits(per_class=20,test_per_class=5)/none/nap/small-cnn/s0" in error
    (cell_id,) = Records(tmp_path / "results/records").ids()
    out, _ = bench("logs", cell_id, workspace=tmp_path, environment=environment)
    assert '"event": "done"' in out


def test_a_job_without_its_gpu_says_so(one, tmp_path):
    """The cluster's GPUs are pretence: SLURM grants one, and the job finds none that works."""
    options = [*TINY, "--executor", "slurm", "--profile", str(profile(tmp_path, gpus=1)), "--cells-per-device", "2"]
    bench("run", *options, workspace=tmp_path, code=4)
    deadline = time.monotonic() + 60
    while not list(Records(tmp_path / "results/records").failures()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    (failure,) = Records(tmp_path / "results/records").failures()
    assert failure.kind == "no-device"
    assert "the job found no GPU on" in failure.message
    assert "CUDA_VISIBLE_DEVICES=0" in failure.message or "CUDA_VISIBLE_DEVICES=1" in failure.message


def test_doctor_says_what_matters_on_this_cluster(one, tmp_path):
    """Before a GPU hour is burnt."""
    options = ["--slurm", "--profile", str(profile(tmp_path)), "--json"]
    checks = {row["name"]: row for row in json.loads(bench("doctor", *options, workspace=tmp_path)[0])["checks"]}
    assert checks["slurm MaxArraySize"]["detail"].startswith("9 ")
    assert "sacct does not answer" in checks["slurm accounting"]["detail"]
    assert checks["slurm preempt_send_user_signal"]["detail"] == "jobs are warned"
    assert checks["slurm node"]["ok"]
    assert checks["slurm node scontrol"]["detail"] == "there"
    assert "gpu:2" in checks["slurm partition normal*"]["detail"]


def test_a_refusal_of_slurm_is_one_sentence(one, tmp_path):
    """The researcher reads what SLURM said and where to look."""
    options = [*TINY, "--executor", "slurm", "--profile", str(profile(tmp_path, partition="nowhere"))]
    _, error = bench("run", *options, workspace=tmp_path, code=2)
    assert "invalid partition specified: nowhere" in error
    assert "look at the profile" in error
    assert json.loads(bench("run", *options, "--dry-run", "--json", workspace=tmp_path)[0])["to_run"] == 1
