"""Leases: one holder at a time, whoever is gone is found, and a holder that lost its lease does not publish."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from unlearnable_bench.poisons import lease as leases
from unlearnable_bench.poisons.lease import BusyError, Lease, holder, leased, waiting

HOLD = "import sys, time, pathlib; from unlearnable_bench.poisons.lease import Lease; l = Lease(pathlib.Path(sys.argv[1])); "
HOLD += "print(l.take(), flush=True); time.sleep(60)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "leases" / "work.lock"


def held_by(path, **content):
    """A lease as a process elsewhere left it."""
    path.parent.mkdir(exist_ok=True)
    there = {"host": "elsewhere", "pid": 1, "born": 0.0, "token": "t", "job": "", "restarts": "0"}
    path.write_text(json.dumps(there | content))


def aged(path, seconds):
    now = time.time() - seconds
    os.utime(path, (now, now))


def test_one_holds_it_and_the_others_do_not(path):
    """Two processes must not train one cell."""
    with leased(path) as first:
        assert first is not None
        with leased(path) as second:
            assert second is None
        first.check()
    assert not path.exists()
    assert not list(path.parent.iterdir()), "nothing is left lying about"


def test_where_there_are_no_hard_links_one_holds_it_all_the_same(path, monkeypatch):
    """FAT and some network disks refuse links, and every run ended there."""

    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with leased(path) as first:
        assert first is not None and first.held()
        with leased(path) as second:
            assert second is None
        assert holder(path).alive and holder(path).content["pid"] == os.getpid()
    assert not list(path.parent.iterdir())


def test_a_process_of_this_machine_that_was_killed_is_found_at_once(path):
    """`kill -9` must not cost a minute."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    assert holder(path).alive
    with leased(path) as mine:
        assert mine is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    start = time.monotonic()
    with leased(path) as mine:
        assert mine is not None
    assert time.monotonic() - start < 2
    process.stdout.close()


def test_of_many_who_find_a_dead_holder_one_gets_the_lease(path):
    """Taking over is a rename: two must not both believe that they did it."""
    held_by(path)
    aged(path, leases.WINDOW + 60)
    processes = [subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    answers = [process.stdout.readline().strip() for process in processes]
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
    assert sorted(answers) == ["False"] * 5 + ["True"]


def test_a_holder_elsewhere_is_gone_when_its_heartbeat_stops(path):
    """Files alone must tell, within the window."""
    held_by(path)
    aged(path, leases.WINDOW - 20)
    assert not Lease(path).take()
    aged(path, leases.WINDOW + 20)
    lease = Lease(path)
    assert lease.take()
    lease.release()


def test_the_clock_of_this_machine_does_not_matter(path, monkeypatch):
    """A login node may be minutes ahead of the file server."""
    held_by(path)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert holder(path).alive


def test_an_earlier_start_of_the_same_job_is_gone(path, monkeypatch):
    """SLURM starts a job again when its earlier start has ended, or cannot be reached; see `test_shared.py` for the latter."""
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    held_by(path, job="7_3.0", restarts="0")
    lease = Lease(path)
    assert lease.take()
    lease.release()
    held_by(path, job="7_4.0", restarts="0")
    assert not Lease(path).take()


def test_the_heartbeat_is_kept_up(path, monkeypatch):
    """A long training keeps its lease."""
    monkeypatch.setattr(leases, "BEAT", 0.05)
    with leased(path) as lease:
        aged(path, 1000)
        time.sleep(0.4)
        assert holder(path).age < 10
        lease.check()


def test_who_was_taken_over_is_told_before_publishing(path):
    """A frozen process that wakes up must not write over its successor's work, nor remove its lease."""
    lease = Lease(path)
    assert lease.take()
    path.unlink()
    held_by(path, host="successor")
    with pytest.raises(BusyError, match="another process took this over"):
        lease.check()
    lease.release()
    assert json.loads(path.read_text())["host"] == "successor"


def test_a_waiting_process_goes_on_when_the_lease_is_free(path):
    """The second of two who want the same poison."""
    process = subprocess.Popen([sys.executable, "-c", HOLD.replace("60", "0.5"), str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    with waiting(path, poll=0.05) as lease:
        assert process.poll() is not None
        lease.check()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 9000, '{"host": 3}'], ids=lambda content: content[:6])
def test_a_torn_lease_counts_as_held_until_its_window_is_over(path, content):
    """What cannot be read is not removed rashly, and not kept for ever."""
    path.parent.mkdir()
    path.write_text(content)
    assert not Lease(path).take()
    aged(path, leases.WINDOW + 20)
    lease = Lease(path)
    assert lease.take()
    lease.release()
