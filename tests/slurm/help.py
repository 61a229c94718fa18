"""What the tests on a real cluster share: running `bench` there, plug-ins that sleep, cells without torch, and faults."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import BENCH, bench, plug_in
from test_run import accuracies, poisons, processes_of

PROFILE = 'partition = "normal"\ntime = "30min"\nmemory = "600MB"\ngpus = 0\nat_once = 3\n'

NAPS = '''
import os
import time
from dataclasses import dataclass
import torch
from unlearnable_bench import Attack, Budget, Defense, Paper

@dataclass(frozen=True)
class Nap(Defense):
    """Sleeps at every batch, so that there is time for accidents and no need of a processor."""
    seconds: float = 0.5
    def augment(self, x, y):
        time.sleep(0 if "AWAKE" in os.environ else self.seconds)
        return x, y

@dataclass(frozen=True)
class Slow(Attack):
    """One level up, after some seconds."""
    seconds: float = 2.0
    epsilon: float = 1 / 255
    paper = Paper("Slow", venue="test", url="")
    @property
    def budget(self): return Budget("linf", self.epsilon)
    def craft(self, clean, job):
        for n in range(10):
            time.sleep(self.seconds / 10)
            job.progress(n, 10)
        return torch.full(clean.images.shape, self.epsilon)
'''
POINTS = "[bench.attacks]\nslow = naps:Slow\n[bench.defenses]\nnap = naps:Nap\n"

WITHOUT_TORCH = """
import importlib.util, pathlib, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "unlearnable_bench.benchmark.cell":
            return importlib.util.spec_from_file_location(name, pathlib.Path(__file__).with_name("trivial_cell.py"))
sys.meta_path.insert(0, Finder)
"""
TRIVIAL_CELL = """
import os
import time
from unlearnable_bench.benchmark import provenance
from unlearnable_bench.results.record import Metrics, Record
class Nothing:
    def has(self, recipe): return True
def open_store(root, device, progress): return Nothing()
craft_poison = purify_set = None
def run_cell(task, store, report, checkpoints):
    time.sleep(float(os.environ.get("TRIVIAL_SECONDS", 0)))
    metrics = Metrics(test_acc=(task.cell.seed % 100) / 100, test_acc_best=1)
    return Record(id=task.cell.id, cell=task.cell, metrics=metrics, versions=task.versions(), **provenance.stamp(task))
"""


def profile(folder, text=PROFILE, **fields):
    """Write a profile, some of its fields replaced."""
    for key, value in fields.items():
        text = re.sub(rf"(?m)^{key} = .*\n", "", text)
        shown = (
            "{" + ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items()) + "}"
            if isinstance(value, dict)
            else json.dumps(value)
        )
        text = f"{key} = {shown}\n" + text
    path = folder / "site.toml"
    path.write_text(text)
    return path


def naps(site):
    """Environment in which the sleeping plug-ins are installed."""
    plug_in(site, "naps", NAPS, POINTS)
    return {"PYTHONPATH": str(site)}


def without_torch(site, seconds=0):
    """Environment in which a cell sleeps, without torch: what is left is the way of the cells through the cluster."""
    site.mkdir()
    (site / "sitecustomize.py").write_text(WITHOUT_TORCH)
    (site / "trivial_cell.py").write_text(TRIVIAL_CELL)
    return {"PYTHONPATH": str(site), "TRIVIAL_SECONDS": str(seconds)}


def finish(one, command, workspace, environment, rounds=12, seconds=600):
    """Give `bench run` again and again, as a person would, until it says that all is done; return its counts."""
    deadline = time.monotonic() + seconds
    for _ in range(rounds):
        while True:  # wait for what is queued, letting requeued jobs begin
            if not one.jobs():
                status = ["status", *command[1:3], "--json"]
                counts = json.loads(bench(*status, workspace=workspace, environment=environment)[0])
                if not counts["queued"] + counts["running"]:
                    break
            assert time.monotonic() < deadline, one.jobs()
            one.hurry()
            time.sleep(1)
        if counts["done"] == counts["cells"]:
            return counts
        subprocess.run(
            [*BENCH, *command, "--workspace", str(workspace)], env={**os.environ, **environment}, capture_output=True
        )
    raise AssertionError(counts)


def done_events(workspace):
    """How often each cell was trained to its end, from the logs of all jobs."""
    found = {}
    for path in Path(workspace).glob(".bench/runs/*/jobs/*.out"):
        for line in path.read_text(errors="replace").splitlines():
            if '"event": "done"' in line and '"stage": "train"' in line:
                cell = json.loads(line.partition(" ")[2])["cell"]
                found[cell] = found.get(cell, 0) + 1
    return found


def victims(workspace):
    """The processes of jobs, without drivers."""
    found = []
    for pid in processes_of(workspace):
        try:
            if b"submitit" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


class Faults:
    """Accidents, counted."""

    def __init__(self, one, workspace, seed=0):
        self.one, self.workspace, self.draw, self.count = one, workspace, random.Random(seed), {}

    def _did(self, what):
        self.count[what] = self.count.get(what, 0) + 1

    def until(self, ready, seconds=180):
        """Wait for something to be true; requeued jobs begin meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if ready():
                return
            self.one.hurry()
            time.sleep(0.3)
        raise AssertionError("waited in vain")

    def some_job(self):
        """A random running array task, as soon as its process is at work."""
        self.until(lambda: self.one.jobs("R") and victims(self.workspace))
        return self.draw.choice(self.one.jobs("R"))

    def kill_driver(self, driver):
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        self._did("driver killed")

    def kill_job(self):
        self.some_job()
        for _ in range(20):
            try:
                os.kill(self.draw.choice(victims(self.workspace)), signal.SIGKILL)
                return self._did("job killed")
            except (ProcessLookupError, IndexError):
                time.sleep(0.3)

    def cancel(self):
        self.one.command("scancel", self.some_job())
        self._did("job cancelled")

    def preempt(self):
        """An urgent job takes the memory of the node; what ran there is requeued."""
        self.some_job()
        before = self.requeued()
        self.one.command("sbatch", "-p", "urgent", "--mem=3900", "-o", "/dev/null", "--wrap", "sleep 2")
        self.until(lambda: self.requeued() > before)
        self._did("preemption")

    def requeued(self):
        text = self.one.command("scontrol", "show", "job", "-o", check=False)[1]
        return sum(int(n) for n in re.findall(r"Restarts=(\d+)", text))

    def requeue(self):
        """What SLURM does after a failure of a node."""
        self.one.command("scontrol", "requeue", self.some_job())
        self._did("requeue")

    def time_out(self):
        """SLURM ends a job whose limit has become a minute."""
        self.until(lambda: self.one.jobs("R"))
        names = self.one.command("squeue", "-h", "-r", "-t", "R", "-S", "M", "-o", "%i")[1].split()
        job = names[0]
        self.one.command("scontrol", "update", f"JobId={job}", "TimeLimit=1")
        self.until(lambda: job not in self.one.jobs("R", "CG"), 180)
        self._did("time limit lowered")

    def restart_node(self):
        self.some_job()
        self.one.stop_node()
        time.sleep(1)
        self.one.start_node()
        self._did("slurmd stopped and started")

    def truncate_poison(self):
        found = [
            p for p in Path(self.workspace).glob("poisons/cache/*/images.npy") if "." not in p.parent.name.rpartition("-")[2]
        ]
        path = self.draw.choice(sorted(found))
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        self._did("poison truncated")


__all__ = [
    "BENCH",
    "Faults",
    "accuracies",
    "bench",
    "done_events",
    "finish",
    "naps",
    "poisons",
    "profile",
    "sys",
    "without_torch",
]
