"""Whoever waits for a long stage sees it move: on the terminal, in a log, and from another process."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import BENCH, plug_in, tiny
from conftest import bench_process as bench
from torch.utils._python_dispatch import TorchDispatchMode

from unlearnable_bench.benchmark import display, train, work
from unlearnable_bench.benchmark.display import PROGRESS, Display
from unlearnable_bench.benchmark.train import Training
from unlearnable_bench.benchmark.work import Meter
from unlearnable_bench.poisons import store
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import ARCHITECTURES, DEFENSES, Job, Protocol

ENDLESS = '''
import time
from dataclasses import dataclass
import torch
from unlearnable_bench.registry import Attack, Budget, Defense, Paper

def crawl(job):
    for step in range(100_000):
        time.sleep(0.05)
        job.progress(step + 1, 100_000)

@dataclass(frozen=True)
class Crawl(Attack):
    """Crafts for hours."""
    epsilon: float = 1 / 255
    paper = Paper("Crawl", venue="test", url="")
    @property
    def budget(self): return Budget("linf", self.epsilon)
    def craft(self, clean, job): crawl(job)

@dataclass(frozen=True)
class Sift(Defense):
    """Purifies for hours."""
    def purify(self, train, job): crawl(job)

@dataclass(frozen=True)
class Nap(Defense):
    """Trains for hours."""
    def augment(self, x, y):
        time.sleep(0.05)
        return x, y
'''
POINTS = "[bench.attacks]\ncrawl = endless:Crawl\n[bench.defenses]\nsift = endless:Sift\nnap = endless:Nap\n"
GRID = """
title = "Endless"
protocol = "quick(epochs=1000,batch=20)"
dataset = "digits(per_class=20,test_per_class=5)"
architecture = "small-cnn"
seed = 0
attack = "{attack}"
defense = "{defense}"
"""


@pytest.fixture
def environment(tmp_path):
    """The variables of a process in which the endless entries are installed."""
    plug_in(tmp_path / "site", "endless", ENDLESS, POINTS)
    path = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "TERM": "xterm", "COLUMNS": "200"}


class Screen:
    """A terminal, as the standard error of a process."""

    def __init__(self, process, master):
        self.process, self.master, self.text = process, master, ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with contextlib.suppress(OSError):  # the process has ended
            while fresh := os.read(self.master, 1 << 16):
                self.text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", fresh.decode(errors="replace"))

    def shows(self, pattern):
        """Wait until the terminal has shown a pattern."""
        wait_until(lambda: re.search(pattern, self.text) or self.process.poll() is not None)
        assert re.search(pattern, self.text), self.text[-2000:]


def wait_until(condition):
    deadline = time.monotonic() + 240
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def on_a_terminal(*arguments, environment):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*BENCH, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave, env=environment
    )
    os.close(slave)
    try:
        yield Screen(process, master)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        os.close(master)


@pytest.mark.parametrize(
    ("stage", "executor", "attack", "defense"),
    [("craft", "inline", "crawl", "none"), ("purify", "inline", "none", "sift"), ("train", "local", "none", "nap")],
)
def test_every_stage_is_seen_to_move_from_everywhere(stage, executor, attack, defense, tmp_path, environment):
    """An epoch of a large set takes minutes, and so may the other stages: steps and the time left, here and elsewhere."""
    grid, where = tmp_path / "endless.toml", ("--workspace", str(tmp_path))
    grid.write_text(GRID.format(attack=attack, defense=defense))

    def progress():
        return json.loads(bench("status", "--grid", str(grid), "--json", *where, environment=environment)[0])["progress"]

    shown = rf"{stage} .*\d+/\d+.* left"
    with on_a_terminal("run", "--grid", str(grid), "--executor", executor, *where, environment=environment) as screen:
        screen.shows(shown)
        [first] = wait_until(progress)
        assert list(first) == list(PROGRESS) and first["stage"] == stage
        assert 0 < first["done"] < first["total"] and first["seconds_left"] > 0
        if stage == "train":
            assert first["epochs"] == 1000 and first["images_per_second"] > 0 and first["loss"] > 0
            assert re.search(r"epoch \d+/1000, step \d+/10000, \d+ images/s, loss \d", screen.text)
        wait_until(lambda: progress()[0]["done"] > first["done"])
        assert re.search(shown, bench("status", "--grid", str(grid), *where, environment=environment)[0])
        with on_a_terminal("attach", "--grid", str(grid), *where, environment=environment) as other:
            other.shows(shown)
        screen.process.kill()
        screen.process.wait()
        wait_until(lambda: progress() == [])  # of the dead nothing is shown


def test_crafting_alone_shows_its_steps(tmp_path, environment):
    """`bench craft` of an expensive attack takes as long as it does in a run."""
    flags = ("crawl", "--dataset", "digits(per_class=20,test_per_class=5)", "--workspace", str(tmp_path))
    with on_a_terminal("craft", *flags, environment=environment) as screen:
        screen.shows(r"craft crawl.*  \d+/100000, .* left")


@pytest.fixture
def clock(monkeypatch):
    """A clock that is put forward by hand: `clock.now`."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(work, "time", SimpleNamespace(monotonic=clock.monotonic, strftime=time.strftime))
    monkeypatch.setattr(display, "time", clock)
    return clock


def test_a_log_has_a_line_a_minute(clock, capsys):
    """Who follows a log sees that a cell is at work; a line per step would bury all else."""
    stage = {"stage": "train", "cell": "0", "label": "digits"}
    log, seconds = work._Log(), 200
    with Display(1) as shown:
        for show in (shown, log):
            show(stage | {"event": "start"})
        for second in range(seconds):
            clock.now += 1
            for show in (shown, log):
                show(
                    stage
                    | {"event": "progress", "done": second, "total": seconds, "seconds_left": 120.0, "epoch": 1, "epochs": 2}
                )
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == "train digits  epoch 1/2, step 59/200, 2 min left"
    assert len(said.err.splitlines()) == 3
    assert [json.loads(line.partition(" ")[2])["event"] for line in said.out.splitlines()] == ["start"] + 3 * ["progress"]


def test_the_time_left_comes_from_the_steps_of_this_process(clock):
    """A training that goes on from its checkpoint has done a part of its steps in no time."""
    events = []
    meter = Meter({}, events.append)
    for done in range(900, 1000):
        meter(done, 1000)
        clock.now += 2
    assert events[0]["seconds_left"] is None
    assert [event["seconds_left"] for event in events[1:]] == [2.0 * (1000 - done) for done in range(901, 1000)]
    meter(1, 50)  # other work begins, such as the poison whose parent was made before
    assert events[-1]["seconds_left"] is None


def test_a_loss_is_read_no_more_often_because_somebody_watches(monkeypatch):
    """Reading makes a GPU wait. A CPU under a name that is not `cpu` is treated like one."""
    monkeypatch.setattr(train, "LOOKED", 5)
    reads, seen = [], []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            if function is torch.ops.aten._local_scalar_dense.default:
                reads.append(function)
            return function(*arguments, **(keywords or {}))

    def count(report):
        reads.clear()
        with seeded(0, Numerics()):
            training = Training(
                ARCHITECTURES["small-cnn"](4), tiny(), Protocol(epochs=1, batch=5, lr=0.01), (), "cpu:0", Numerics()
            )
            with Count():
                training.run(None, report, None)
        return len(reads)

    silent = count(None)
    assert count(seen.append) == silent < 10
    assert [now.step for now in seen] == [*range(1, 14), 13]
    assert [now.loss for now in seen[:4]] == [None] * 4
    assert seen[4].loss == seen[8].loss != seen[9].loss == seen[11].loss != seen[12].loss


def test_a_set_purified_in_pieces_counts_the_images_of_the_whole(monkeypatch):
    """Purifiers count the images that they are handed, and would begin anew with every piece."""
    monkeypatch.setattr(store, "PURIFIED_BYTES", 3072 * 10)
    reports = []
    job = Job(on_progress=lambda done, total: reports.append((done, total)))
    store._piecewise(DEFENSES["grayscale"](), tiny(), job)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports) and reports[-1] == (64, 64)
    assert {total for _, total in reports} == {64}
    job.progress(1, 2)
    assert reports[-1] == (1, 2), "what follows counts for itself"
