"""The long tests on a real cluster: `make slurm-full`, by hand; what they counted is kept in docs/how-to/slurm.md."""

import json
import os
import subprocess
import time

import pytest
from cluster import cluster, unusable
from help import BENCH, Faults, accuracies, bench, done_events, finish, naps, poisons, profile, without_torch
from test_slurm import CHAOS_AXES, write_grid

from unlearnable_bench.results import Records

FULL = "SLURM_FULL"
if FULL not in os.environ:
    pytest.skip(f"half an hour; `make slurm-full` sets {FULL}", allow_module_level=True)
pytestmark = pytest.mark.skipif(bool(unusable(accounting=True)), reason=unusable(accounting=True) or "there is a cluster")


@pytest.fixture(params=[True, False], ids=["accounting", "no accounting"])
def one(request, tmp_path):
    """A cluster with accounting, and one without that forgets ended jobs within seconds."""
    with cluster(tmp_path / "cluster", accounting=request.param, min_job_age=5) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(made.conf))
        patch.setenv("PATH", made.environment["PATH"])
        yield made


FORTY = CHAOS_AXES | {
    "defense": ["nap", "grayscale+nap", "bdr+nap", "nap(seconds=1.0)", "nap(seconds=20.0)"],
    "seed": [0, 1, 2, 3],
}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The workspace of an undisturbed run of the forty cells on this machine."""
    folder = tmp_path_factory.mktemp("calm")
    grid = write_grid(folder, FORTY)
    command = [*BENCH, "run", "--grid", str(grid), "--workers", "10", "--workspace", str(folder)]
    subprocess.run(command, env={**os.environ, **naps(folder / "site"), "AWAKE": "1"}, check=True, capture_output=True)
    return folder


def test_forty_cells_survive_every_accident(one, calm, tmp_path):
    """Drivers and jobs killed, jobs preempted, cancelled, timed out and requeued, slurmd restarted, a poison cut off."""
    environment = naps(tmp_path / "site")
    grid, space = write_grid(tmp_path, FORTY), tmp_path / "space"
    command = ["run", "--grid", str(grid), "--executor", "slurm", "--profile", str(profile(tmp_path, at_once=5))]

    def driver():
        return subprocess.Popen(
            [*BENCH, *command, "--wait", "--workspace", str(space)],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    faults = Faults(one, space, seed=1)
    first = driver()
    faults.some_job()
    faults.kill_job()
    faults.until(lambda: list(space.glob("poisons/cache/slow-*/manifest.json")), 120)
    faults.truncate_poison()
    faults.kill_driver(first)
    faults.kill_job()
    faults.cancel()
    faults.preempt()
    one.hurry()
    second = driver()
    faults.time_out()
    faults.restart_node()
    faults.kill_job()
    faults.requeue()
    faults.cancel()
    faults.preempt()
    faults.kill_driver(second)
    counts = finish(one, command, space, environment, seconds=1500)
    assert counts["done"] == counts["cells"] == 40
    assert accuracies(space) == accuracies(calm)
    whole = {name: checksum for name, checksum in poisons(space).items() if checksum and ".damaged-" not in name}
    assert whole == poisons(calm)
    assert set(done_events(space).values()) == {1}
    assert not list(Records(space / "results/records").failures())
    print(f"\n{sum(faults.count.values())} faults {faults.count}; 40 cells; 40 records compared")


@pytest.mark.parametrize("one", [False], indirect=True, ids=["no accounting"])
def test_fifteen_hundred_cells_go_out_as_two_arrays_and_complete(one, tmp_path):
    """The cluster's limit of 1001 tasks per array; the cap holds over both."""
    environment = without_torch(tmp_path / "site")
    command = ["--protocol", "quick", "--seed", ",".join(map(str, range(1500)))]
    options = ["--executor", "slurm", "--profile", str(profile(tmp_path, at_once=8, memory="100MB", use_srun=False))]
    start = time.monotonic()
    bench("run", *command, *options, workspace=tmp_path, environment=environment, code=4)
    print(f"\nsubmitted in {time.monotonic() - start:.1f} s")
    (arrays,) = tmp_path.glob(".bench/runs/*/arrays.json")
    assert [size for _, _, size in json.loads(arrays.read_text())] == [1001, 499]
    most = 0
    while one.jobs():
        most = max(most, len(one.jobs("R")))
        time.sleep(2)
    assert most <= 8
    counts = json.loads(bench("run", *command, *options, "--json", workspace=tmp_path, environment=environment)[0])
    assert counts["done"] == counts["cells"] == 1500
    assert set(done_events(tmp_path).values()) == {1}
    print(f"1500 cells in {time.monotonic() - start:.0f} s, at most {most} at once")


@pytest.mark.parametrize("one", [False], indirect=True, ids=["no accounting"])
def test_a_time_limit_costs_minutes_and_not_the_cell(one, tmp_path):
    """Warned by SLURM, the job writes down why it ends and asks for another start, which goes on from the checkpoint."""
    environment = naps(tmp_path / "site")
    axes = CHAOS_AXES | {"protocol": ["quick"], "attack": ["none"], "defense": ["nap(seconds=12.0)"], "seed": [0]}
    grid = write_grid(tmp_path, axes)
    options = ["--executor", "slurm", "--profile", str(profile(tmp_path, time="3min", signal=10))]
    bench("run", "--grid", str(grid), *options, workspace=tmp_path, environment=environment, code=4)
    faults, seen = Faults(one, tmp_path), []
    deadline = time.monotonic() + 900
    while not accuracies(tmp_path):
        assert time.monotonic() < deadline
        seen += [failure.kind for failure in Records(tmp_path / "results/records").failures()]
        one.hurry()
        time.sleep(1)
    assert set(seen) == {"time-limit"}
    assert faults.requeued() >= 1
    (record,) = Records(tmp_path / "results/records")
    assert record.seconds["train"] < 200, "the second start did not begin anew"
    assert not list(Records(tmp_path / "results/records").failures())


@pytest.mark.parametrize("one", [False], indirect=True, ids=["no accounting"])
def test_the_quick_grid_gives_the_same_records_as_locally(one, tmp_path):
    """All 84 cells."""
    options = ["--executor", "slurm", "--profile", str(profile(tmp_path, memory="1200MB", at_once=2)), "--cells-per-job", "7"]
    bench("run", "--grid", "quick", *options, "--wait", "--json", workspace=tmp_path / "far")
    bench("run", "--grid", "quick", "--json", workspace=tmp_path / "near")
    far, near = (Records(tmp_path / place / "results/records") for place in ("far", "near"))
    assert len(far.ids()) == 84
    for cell_id in near.ids():
        assert far.read(cell_id).metrics == near.read(cell_id).metrics
    assert poisons(tmp_path / "far") == poisons(tmp_path / "near")
