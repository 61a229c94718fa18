"""Disks that several machines share: what one of them has written, another may think absent for a minute."""

import gc
import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from campaign import stale
from conftest import as_data, recipe, tiny
from test_cluster import planned, submitted

from unlearnable_bench.benchmark import cell as stages
from unlearnable_bench.benchmark import driver, grid, runs, slurm, snapshot, watch
from unlearnable_bench.benchmark import work as work_module
from unlearnable_bench.benchmark.driver import RunOptions
from unlearnable_bench.benchmark.plan import Plan, plan_cells
from unlearnable_bench.benchmark.snapshot import Snapshot
from unlearnable_bench.benchmark.work import AbandonedError, work
from unlearnable_bench.poisons import lease as leases
from unlearnable_bench.poisons.lease import BusyError, Lease, leased
from unlearnable_bench.poisons.recipe import PurifiedRecipe
from unlearnable_bench.poisons.store import Store, checksum
from unlearnable_bench.registry import EntryError, data, resolve
from unlearnable_bench.registry._paths import put_in_place
from unlearnable_bench.results import Record, Records, Workspace
from unlearnable_bench.results.record import Metrics

SECONDS = 0.6  # that a machine of these tests remembers an absent name


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A folder that every thread of this process sees as a machine of its own does; clean up before the calls are put back."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(leases, "_host", lambda: threading.current_thread().name)
        for (module, name), call in stale.calls(stale.Machine(str(folder), SECONDS)).items():
            patch.setattr(module, name, call)
        yield folder


def elsewhere(do):
    """Do something on another machine, to its end; return what it returned."""
    found = []
    other = threading.Thread(target=lambda: found.append(do()), name="elsewhere")
    other.start()
    other.join()
    assert found, "it raised"
    return found[0]


def test_the_stand_in_believes_what_it_saw(disk):
    """Else these tests prove nothing."""
    path, folder = disk / "file", disk / "folder"
    for absent in (path, folder, folder / "inside"):
        assert not absent.exists()
    elsewhere(lambda: (path.write_text("x"), folder.mkdir(), (folder / "inside").write_text("y")))
    assert not path.exists() and not path.is_file() and not folder.is_dir() and not list(disk.iterdir())
    with pytest.raises(FileNotFoundError):
        path.read_text()
    with pytest.raises(FileNotFoundError):
        (folder / "inside").read_text()
    (disk / "mine").write_text("z")
    with pytest.raises(FileExistsError):
        os.link(disk / "mine", path)
    assert path.read_text() == "x" and not folder.exists()
    time.sleep(SECONDS)
    assert (folder / "inside").read_text() == "y"


def test_of_two_who_publish_one_folder_the_first_counts(disk):
    """A rename that meets a folder is no error: what lies there was made from the same recipe."""
    folder, scratch = disk / "set", disk / "scratch"
    assert not folder.exists()
    elsewhere(lambda: (folder.mkdir(), (folder / "x").write_text("theirs")))
    scratch.mkdir()
    (scratch / "x").write_text("mine")
    assert not put_in_place(scratch, folder) and (folder / "x").read_text() == "theirs"
    assert put_in_place(scratch, disk / "free") and (disk / "free/x").read_text() == "mine"


# Sets


def purified(seed=0) -> PurifiedRecipe:
    return PurifiedRecipe(recipe("lsp", seed), 1.0, "all", resolve("defenses", "bdr"), seed)


def test_a_set_that_another_machine_made_a_moment_ago_is_not_made_again(disk):
    """It was, the second time ending as an error of the plug-in: Directory not empty."""
    store, images = Store(disk / "cache"), as_data(tiny(16))
    assert not store.has(purified()) and not store.has(recipe("lsp"))
    theirs = elsewhere(lambda: store.purified(purified(), images))
    assert not store.has(purified()), "this machine remembers that there is none"
    with pytest.raises(BusyError, match=r"another process is making lsp\+bdr"):
        store.purified(purified(), images, wait=False)
    ours = store.purified(purified(), images)
    assert ours.cached and ours.manifest == theirs.manifest
    assert sorted(path.name for path in disk.glob("cache/[!.]*")) == sorted([theirs.path.name, recipe("lsp").folder])


def test_a_set_that_was_made_although_its_lease_was_lost_is_given_up_for_theirs(disk, monkeypatch):
    """A machine whose disk hangs for two minutes loses its lease; it read the other's files, or ended as a failure."""
    store, images = Store(disk / "cache"), as_data(tiny(16))
    theirs = elsewhere(lambda: Store(disk / "theirs").poison(recipe("lsp"), images))

    def overtaken(lease):
        elsewhere(lambda: theirs.path.rename(store.root / recipe("lsp").folder))

    monkeypatch.setattr(Lease, "check", overtaken)
    ours = store.poison(recipe("lsp"), images)
    assert ours.cached and ours.manifest == theirs.manifest and checksum(ours.path) == ours.checksum
    assert [path.name for path in disk.glob("cache/[!.]*")] == [recipe("lsp").folder]


def test_who_is_overtaken_while_making_a_set_is_busy_and_harms_nothing(disk, monkeypatch):
    """The two of them worked in one folder: the first to wake wrote into what the second was making, and removed it."""
    store, images = Store(disk / "cache"), as_data(tiny(16))
    craft = Store._craft

    def overtaken(self, given, images, scratch, *rest):
        monkeypatch.setattr(Store, "_craft", craft)
        store.lease_path(given).unlink()
        theirs.append(elsewhere(lambda: store.poison(given, images)))
        return craft(self, given, images, scratch, *rest)

    theirs = []
    monkeypatch.setattr(Store, "_craft", overtaken)
    with pytest.raises(BusyError):
        store.poison(recipe("lsp"), images, wait=False)
    assert elsewhere(lambda: checksum(theirs[0].path)) == theirs[0].checksum
    assert elsewhere(lambda: [path.name for path in disk.glob("cache/[!.]*")]) == [recipe("lsp").folder]


def test_a_data_set_that_another_machine_decoded_a_moment_ago_is_read(disk):
    """Two jobs that start together on one $BENCH_DATA; the slower one was an error of the disk."""
    folder, images = disk / "decoded", tiny(8)
    assert not folder.exists()
    elsewhere(lambda: data._keep(folder, images, images))
    assert not folder.exists() and data._keep(folder, images, images) == folder
    assert (folder / "meta.json").exists() and sorted(path.name for path in disk.iterdir()) == ["decoded"]
    (folder / "meta.json").unlink()
    with pytest.raises(EntryError, match=r"has no meta\.json; remove the folder"):
        data._keep(folder, images, images)


def test_a_copy_of_the_code_that_another_machine_made_a_moment_ago_is_used(disk, monkeypatch):
    """Two login nodes that submit at once."""
    monkeypatch.setattr(snapshot.provenance, "PACKAGES", ())
    target = disk / snapshot.provenance.tree()[:16]
    assert not target.exists()
    theirs = elsewhere(lambda: snapshot.take_snapshot(disk, []))
    assert theirs.folder == target and not target.exists()
    assert snapshot.take_snapshot(disk, []) == theirs and [path.name for path in disk.iterdir()] == [target.name]


# Leases


def held_by(path: Path, age: float = 0.0, **content) -> Path:
    """A lease as a process on another machine left it so many seconds ago."""
    path.parent.mkdir(exist_ok=True)
    there = {"host": "elsewhere", "pid": 1, "birth": 0.0, "token": "t", "job": "", "restarts": "0"}
    path.write_text(json.dumps(there | content))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_a_finished_lease_is_refused_to_other_machines_until_they_see_the_work(tmp_path):
    """Its record may be absent to them for as long, and they would measure the cell again."""
    path = held_by(tmp_path / "x.lock", finished=True)
    assert not Lease(path).take()
    with leased(held_by(path, leases.WINDOW + 1, finished=True)) as lease:
        assert lease is not None
        lease.finish()
    there = leases.holder(path)
    assert there.finished and not there.alive and not there.unseen, "this machine sees what it wrote"
    with leased(path) as again:
        assert again is not None
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_to_do_a_cell_anew_does_not_wait_to_see_it_done(tmp_path):
    """`bench run --force` stood still for two minutes where another machine had just measured a cell."""
    for force in (True, False):
        space, made = planned(tmp_path / str(force), seed=[0])
        run = runs.Run.create(space, Records(space.records), made, "cpu", force)
        path = runs.lease_path(run.records, made.to_run[0].cell.id)
        held_by(path, finished=True)
        with run.lease(made.to_run[0]) as lease:
            assert (lease is not None) == force
        held_by(path)
        with run.lease(made.to_run[0]) as lease:
            assert lease is None, "somebody is at work on it"


def test_a_lease_that_outlived_its_work_is_cleared_away(tmp_path):
    """Whoever looks which cells are at work clears up; not before other machines see the records."""
    records = Records(tmp_path)
    held_by(runs.lease_path(records, "new"), finished=True)
    held_by(runs.lease_path(records, "old"), leases.WINDOW + 1, finished=True)
    held_by(runs.lease_path(records, "dead"), leases.WINDOW + 1)
    held_by(runs.lease_path(records, "busy"))
    assert runs.running(records) == {"busy"}
    assert {path.stem for path in (tmp_path / ".leases").glob("*.lock")} == {"new", "dead", "busy"}


def test_leases_of_sets_that_outlived_their_work_are_cleared_away_where_that_is_allowed(tmp_path, monkeypatch):
    """Those of another user may stay: a set that was made is no failure for that."""
    store, images = Store(tmp_path), as_data(tiny(16))
    old = held_by(tmp_path / ".locks/old.lock", leases.WINDOW + 1, finished=True)
    store.poison(recipe("lsp"), images)
    assert not old.exists() and store.lease_path(recipe("lsp")).exists()
    held_by(old, leases.WINDOW + 1, finished=True)

    def refused(path, gone):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(leases, "remove", refused)
    store.poison(recipe("lsp", 1), images)
    assert old.exists()


@pytest.mark.parametrize(
    ("theirs", "mine", "free"), [("0", "1", True), ("1", "0", False), ("1", "1", False), ("9", "10", True)]
)
def test_of_two_starts_of_one_job_the_later_one_has_the_right(tmp_path, monkeypatch, theirs, mine, free):
    """A node that is cut off goes on while SLURM starts its job elsewhere; the two took each other's leases for ever."""
    for name, value in (("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_RESTART_COUNT", mine)):
        monkeypatch.setenv(name, value)
    lease = Lease(held_by(tmp_path / "x.lock", job="7_3.0", restarts=theirs))
    assert lease.take() == free
    if free:
        lease.release()


def test_a_lease_is_lost_when_somebody_else_has_it(tmp_path):
    """And not when nothing can be read: a disk that hangs for a moment must not end a training."""
    lease = Lease(tmp_path / "x.lock")
    assert lease.take() and lease.held() and not lease.lost()
    lease.path.unlink()
    assert not lease.held() and not lease.lost()
    held_by(lease.path)
    assert lease.lost()
    lease.release()


def test_an_earlier_start_that_was_cut_off_ends_when_it_sees_the_later_one(tmp_path, monkeypatch):
    """It trained on beside it, for hours, and dropped every result. That the task ended in order is not for it to say."""
    space, made = planned(tmp_path, seed=[0])
    run, _ = submitted(space, made)

    def at_work(run, tasks, stage, emit, device, alive, *, name):
        assert alive()
        (run.folder / "parts" / name).unlink()
        held_by(run.folder / "parts" / name, restarts="1")
        assert not alive()
        raise AbandonedError

    monkeypatch.setattr(work_module, "_complaints", lambda run, device: [])
    monkeypatch.setattr(work_module, "work", at_work)
    assert work_module.array_task(str(run.folder), 0) == "a later start of this task has taken over"
    assert not list((run.folder / "ended").iterdir())


# Two login nodes


@pytest.fixture
def sbatch(tmp_path, monkeypatch) -> Path:
    """A file with a line for each array that was submitted: SLURM's commands are stubs, and no other of them answers."""
    commands, taken = tmp_path / "commands", tmp_path / "taken"
    commands.mkdir()
    taken.touch()
    for name in ("srun", "scontrol", "squeue", "sacct"):
        (commands / name).write_text("#!/bin/sh\nexit 1\n")
    (commands / "sbatch").write_text(f"#!/bin/sh\necho array >> '{taken}'\necho Submitted batch job 7\n")
    for command in commands.iterdir():
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(snapshot, "take_snapshot", lambda folder, tasks: Snapshot(folder / "copy", "", ""))
    monkeypatch.setattr(snapshot, "remove_unused", lambda folder, used: None)
    monkeypatch.setattr(driver.child, "decode", lambda parts: None)
    return taken


@pytest.fixture
def submit(tmp_path):
    """Submit four cells from this machine; returns the plan of it."""
    profile = tmp_path / "site.toml"
    profile.write_text('time = "4h"\ngpus = 0\n')
    table = grid.adhoc({"attack": ["none"], "seed": ["0", "1", "2", "3"]})
    options = RunOptions(executor="slurm", profile=profile)
    return lambda space: driver.run_table("four", table, space, options).plan


def test_two_login_nodes_that_submit_one_grid_at_once_submit_each_cell_once(disk, sbatch, submit, monkeypatch, capsys):
    """The second saw the folder of the run while it was empty, for a minute, and sent SLURM every job once more."""
    space = Workspace(disk)
    space.writable()
    empty, looked = threading.Event(), threading.Event()
    monkeypatch.setattr(leases, "WINDOW", 3 * SECONDS)
    monkeypatch.setattr(runs, "remember", lambda workspace, roots: (empty.set(), looked.wait(30)))
    plans = []
    first = threading.Thread(target=lambda: plans.append(submit(space)), name="elsewhere")
    first.start()
    assert empty.wait(30)
    assert watch.survey(space, Records(space.records)).cells == {}
    looked.set()
    first.join()
    assert len(plans[0].to_run) == 4
    assert watch.survey(space, Records(space.records)).cells == {}, "this machine remembers an empty folder"
    assert submit(space).to_run == [] and sbatch.read_text() == "array\n"
    assert "another machine submitted cells a moment ago" in capsys.readouterr().err


def test_one_login_node_need_not_wait_to_submit_again(disk, sbatch, submit, monkeypatch):
    """A machine sees at once what it wrote itself."""
    space = Workspace(disk)
    start = time.monotonic()
    assert len(submit(space).to_run) == 4 and submit(space).to_run == []
    assert time.monotonic() - start < leases.WINDOW and sbatch.read_text() == "array\n"


KNOWN = {"PENDING": 1, "": 2, None: 1}  # what SLURM says of the jobs -> how many arrays have been submitted in the end


@pytest.mark.parametrize("word", KNOWN)
def test_an_array_that_slurm_took_while_its_driver_died_is_not_submitted_again(disk, sbatch, submit, word, monkeypatch):
    """The number of an array was written after `sbatch` had answered; a driver killed in between left its jobs to nobody."""
    space = Workspace(disk)

    def killed(run, arrays):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs.Run, "write_arrays", killed)
        submit(space)
    (run,) = runs.every(space)
    jobs = {(slurm.job_name(run.name), "7", number): word for number in range(4)}
    monkeypatch.setattr(slurm, "queue", lambda names, cluster: (jobs if word else {}) if word is not None else None)
    states = [state for state, _ in watch.survey(space, Records(space.records)).cells.values()]
    assert states == ([] if word == "" else ["queued"] * 4)
    assert len(submit(space).to_run) == (4 if word == "" else 0)
    assert sbatch.read_text() == "array\n" * KNOWN[word]
    assert run.arrays == ([["7", 0, 4]] if word else []) and (word is None) == (run.sending == [0, 4] and not run.over)


# A grid of two machines


@pytest.fixture
def count(monkeypatch) -> Counter:
    """How often each cell was trained and each set made, by its id or its folder. A training is a stub, all else is real."""
    seen, images = Counter(), as_data(tiny(20))
    craft, purify = Store._craft, Store._purify

    def crafted(self, given, *rest):
        seen[given.folder] += 1
        return craft(self, given, *rest)

    def purified(self, given, *rest):
        seen[given.folder] += 1
        return purify(self, given, *rest)

    def trained(task, store, report, checkpoints):
        seen[task.cell.id] += 1
        if task.purified:
            store.purified(task.purified, images)
        elif task.needs_poison:
            store.poison(task.poison, images)
        metrics = Metrics(test_acc=0.5, test_acc_best=0.5)
        return Record(id=task.cell.id, cell=task.cell, metrics=metrics, versions=task.versions())

    monkeypatch.setattr(Store, "_craft", crafted)
    monkeypatch.setattr(Store, "_purify", purified)
    monkeypatch.setattr(stages, "load_dataset", lambda task: images)
    monkeypatch.setattr(stages, "run_cell", trained)
    monkeypatch.setattr(stages, "release", lambda device: None)
    return seen


def run_everywhere(roots: list[Path], name: str = "inline", **axes) -> tuple[Plan, list[list[dict]]]:
    """Run a grid by a driver on each of some machines, which see one disk at these paths; return the plan, and their events."""
    made, events = [], [[] for _ in roots]
    for root in roots:
        space = Workspace(root)
        space.writable()
        cells, folders = grid.expand(grid.adhoc({key: [str(value) for value in values] for key, values in axes.items()}))
        made.append(plan_cells("shared", cells, folders, Records(space.records)))

    def drive(number):
        space = Workspace(roots[number])
        run = runs.Run.create(space, Records(space.records), made[number], "cpu", False)
        work(run, run.tasks, "train", events[number].append, "cpu", lambda: True, name=name)

    machines = [threading.Thread(target=drive, args=(number,), name=f"machine-{number}") for number in range(len(roots))]
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.join(60)
    assert not any(machine.is_alive() for machine in machines), "a machine waits for ever"
    return made[0], events


def everything_once(root: Path, plan: Plan, events: list[list[dict]], count: Counter) -> None:
    """Check that each cell has one record and each set was made once, and that nothing failed or was left."""
    records = Records(root / "results/records")
    ids = {task.cell.id for task in plan.tasks}
    assert [event for several in events for event in several if event["event"] == "failed"] == []
    assert records.ids() == ids and list(records.failures()) == []
    assert {key: number for key, number in count.items() if number > 1} == {}
    assert len((records.folder / ".sums").read_text().splitlines()) == len(ids), "a seal for each record"
    done = [event["cell"] for several in events for event in several if event["event"] == "done"]
    assert sorted(done) == sorted(ids), "said to be done once"
    sets = {folder.name for folder in (root / "poisons/cache").glob("[!.]*")}
    assert sets == count.keys() - ids, "each where it belongs, none set aside"


TINY = {"dataset": ["digits(per_class=2,test_per_class=1)"], "attack": ["none", "lsp", "ops"], "defense": ["none", "bdr"]}


def test_two_machines_that_see_each_others_files_late_do_every_cell_once(disk, count):
    """A cell was lost to `Directory not empty`, another was trained twice and its record written twice."""
    plan, events = run_everywhere([disk, disk], **TINY, seed=range(4))
    everything_once(disk, plan, events, count)
    assert len(plan.tasks) == 24 and all(any(event["event"] == "done" for event in several) for several in events)


@pytest.mark.parametrize("name", ["worker-0", "inline"])
def test_a_worker_never_looks_at_its_libraries_again(tmp_path, count, name):
    """Three quarters of a small cell went into it. The process of a driver or a notebook is left as it is."""
    try:
        run_everywhere([tmp_path], name, **TINY, seed=[0])
        assert (gc.get_freeze_count() > 1000) == (name != "inline")
    finally:
        gc.unfreeze()


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    """Two mounts of one folder, each of which remembers for a second which names were absent."""
    if shutil.which("bindfs") is None:
        pytest.skip("needs bindfs, a Debian package")
    (tmp_path / "export").mkdir()
    monkeypatch.setattr(leases, "_host", lambda: threading.current_thread().name)
    mounted = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            options = "attr_timeout=1,entry_timeout=1,negative_timeout=1"
            done = subprocess.run(
                ["bindfs", "-o", options, tmp_path / "export", tmp_path / name], capture_output=True, text=True
            )
            if done.returncode:
                pytest.skip(f"bindfs cannot mount here: {done.stderr.strip()}")
            mounted.append(tmp_path / name)
        yield mounted
    finally:
        for place in mounted:
            subprocess.run(["umount", "--lazy", place], check=True)


def test_two_mounts_that_remember_absent_names_do_every_cell_once(mounts, count):
    """The same on a file system of the kernel, which answers as that of a file server does."""
    one, two = mounts
    assert not (two / "x").exists()
    (one / "x").touch()
    assert not (two / "x").exists(), "else this proves nothing"
    plan, events = run_everywhere(mounts, **TINY, seed=range(4))
    time.sleep(1)
    everything_once(one, plan, events, count)
