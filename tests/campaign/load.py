"""Much of everything: 2,000 cells under fire, a poison of ImageNet's size in little memory, a site of thousands of records."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from campaign import Tally, process, ran
from campaign.faults import gone, records, those_of, trained, twice
from unlearnable_bench.results import Record, Records, Workspace, read_grid

# The soak

SEEDS = 40  # of every attack and defense
CALM = 0.6  # share of the cells after which nothing is killed any more, so that growth can be seen
STEP = (1 / 40, 1 / 12)  # share of the cells from one kill to the next
LONGEST = float(os.environ.get("SOAK_MINUTES", "inf"))  # minutes after which it stops, and counts the cells that it reached
WORKERS = min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)  # one where one core is lent


def _table(path: Path, cells: int) -> int:
    """Write the grid of the soak; return how many cells it has."""
    seeds = min(SEEDS, max(1, cells // 4))
    attacks = max(1, cells // (2 * seeds))
    axes: dict[str, Any] = {
        "title": "Soak",
        "protocol": "quick@0.1",  # one epoch
        "dataset": "digits(per_class=4,test_per_class=2)",
        "architecture": "small-cnn",
        # every fifth poison is another for each seed, the others are shared
        "attack": [f"random-noise(epsilon={n + 1}/255{',seed=0' if n % 5 else ''})" for n in range(attacks)],
        "defense": ["none", "cutout"],
        "seed": list(range(seeds)),
    }
    path.write_text("".join(f"{axis} = {json.dumps(value)}\n" for axis, value in axes.items()))
    return 2 * attacks * seeds


def _workers(space: Path) -> list[psutil.Process]:
    """The worker processes of a workspace: those that have no children and are no drivers."""
    return [one for one in those_of(space) if "submitit" in " ".join(one.cmdline()) and not one.children()]


def soak(folder: Path, count: int) -> Tally:  # noqa: C901  (one loop that starts, watches and kills)
    """Small cells, workers (kill -9) and drivers (Ctrl-C, kill -9) ended all the time: no cell lost, none trained twice."""
    tally, draw = Tally(), random.Random(4)
    space, grid = folder / "space", folder / "soak.toml"
    cells = _table(grid, count)
    path = space / "results/records"
    seen: Counter[str] = Counter()
    began_at: dict[int, int] = {}  # worker -> cells done when it was first seen
    first: dict[int, tuple[int, int, int]] = {}  # worker -> cells done, bytes, files after its first ten cells
    growth: list[tuple[float, int]] = []  # bytes and files more than then
    began, driver, following = time.monotonic(), None, draw.uniform(*STEP) * cells
    tries, late = 0, False
    while True:
        if driver is None or driver.poll() is not None:
            if driver is not None:
                _, err = driver.communicate()
                tally.ends[f"driver: exit {driver.returncode}"] += 1
                if "Traceback" in err or driver.returncode not in (0, 3, 130, -signal.SIGKILL):
                    tally.bad(f"exit {driver.returncode}: {err[-300:]}")
                if not gone(space):
                    tally.bad("workers outlive their driver")
                trained(space, seen)
                if driver.returncode == 0 or late:
                    break
            verb = ("run",) if tries < 60 else ("retry",)
            words = (*verb, "--grid", grid, "--workspace", space, "--workers", WORKERS, "--json")
            driver = process(*words, stdout=subprocess.DEVNULL)
            tries += 1
        time.sleep(0.2)
        done = len(Records(path).ids())
        if time.monotonic() - began > 60 * LONGEST:
            late = True
            driver.send_signal(signal.SIGINT)
            time.sleep(5)
            continue
        for one in _workers(space):
            try:
                look = (done, one.memory_info().rss, one.num_fds())
            except psutil.Error:
                continue
            if done - began_at.setdefault(one.pid, done) < 10:
                continue
            if one.pid not in first:
                first[one.pid] = look
            elif look[0] - first[one.pid][0] >= 50:
                growth.append((look[1] - first[one.pid][1], look[2] - first[one.pid][2]))
        if done >= CALM * cells:
            time.sleep(1)
            continue
        if done < following:
            continue
        following = done + draw.uniform(*STEP) * cells
        whom = draw.choices(("a worker, kill -9", "the driver, Ctrl-C", "the driver, kill -9"), (6, 3, 1))[0]
        workers = _workers(space)
        if whom.startswith("a worker"):
            if not workers:
                continue
            victim, number = draw.choice(workers), signal.SIGKILL
        else:
            child = psutil.Process(driver.pid)
            victim, number = child, signal.SIGINT if "Ctrl" in whom else signal.SIGKILL
        try:
            victim.send_signal(number)
            tally.ends[whom] += 1
        except psutil.Error:
            continue
    seconds = time.monotonic() - began
    there = records(space)
    finished = {key.rpartition(" ")[2] for key in seen}
    lost = len(finished - there.keys()) + (0 if late else cells - len(there))
    tally.trials = len(there)
    tally.ends["cells with a record"] = len(there)
    tally.ends["cells lost"] = lost
    tally.ends["cells trained twice"] = twice(seen)
    if late:
        tally.ends["cells not reached in its time"] = cells - len(there)
    else:
        tally.ends["failures left"] = len(list(path.glob("*.failed.json")))
    tally.figures = {
        "workers at a time": WORKERS,
        "minutes": round(seconds / 60, 1),
        "cells per minute": round(60 * len(there) / seconds),
        "most memory that a worker gained over 50 cells or more, MiB": round(max((b for b, _ in growth), default=0) / 2**20, 1),
        "most open files that a worker gained": max((f for _, f in growth), default=0),
    }
    if lost or twice(seen) or Records(path).changed() or tally.ends["failures left"]:
        tally.bad(f"{lost} lost, {twice(seen)} twice, {len(Records(path).changed())} changed")
    code, _, err = ran("status", "--grid", grid, "--workspace", space)
    if code or "Traceback" in err:
        tally.bad(f"status: exit {code}, {err[-300:]}")
    shutil.rmtree(space)
    return tally


# Memory

CRAFTING = """
import json, os, resource, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one thread: others share this machine
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from unlearnable_bench.poisons.recipe import PoisonRecipe
from unlearnable_bench.poisons.store import Store
from unlearnable_bench.registry import ImageSet, resolve
from unlearnable_bench.registry import _paths
from unlearnable_bench.registry.data import Data, open_array
_paths.MAP_FROM = 1 << 26  # these sets are mapped as sets of their real size are
folder, item = Path(sys.argv[1]), sys.argv[2]
images, labels = open_array(folder / "images.npy"), open_array(folder / "labels.npy")
train = ImageSet(images, labels, 100)
test = ImageSet(images[:8], labels[:8], 100)
def anonymous():
    words = Path("/proc/self/status").read_text()
    return int(words.split("RssAnon:")[1].split()[0]) * 1024
import gc, threading, time
most = [0]
def watch():
    while True:
        most[0] = max(most[0], anonymous())
        time.sleep(0.02)
def measured(stage, make):
    gc.collect()
    before = most[0] = anonymous()
    start = time.perf_counter()
    made = make()
    held = max(most[0], anonymous()) - before
    print(json.dumps([stage, held, time.perf_counter() - start]), flush=True)
    return made
threading.Thread(target=watch, daemon=True).start()
part = resolve("datasets", "digits")[0]
recipe, data, store = PoisonRecipe(part, resolve("attacks", item), 0), Data(train, test, "simulated"), Store(folder / "store")
measured(f"{item} crafted", lambda: store.poison(recipe, data))
if sys.argv[3] == "all":
    from unlearnable_bench.benchmark import train as training
    training.COPIED_BYTES = 1 << 26  # as a set beyond 2 GB is trained on
    from unlearnable_bench.benchmark.train import Training
    from unlearnable_bench.leaderboard.pages import gallery
    from unlearnable_bench.poisons.numerics import Numerics, seeded
    from unlearnable_bench.poisons.recipe import PurifiedRecipe
    from unlearnable_bench.registry import ARCHITECTURES, PROTOCOLS
    chain = resolve("defenses", "bdr(bits=2)+grayscale")
    measured("half of it mixed with clean images", lambda: store.training_set(recipe, data, 0.5, "all"))
    kept = measured("purified", lambda: store.purified(PurifiedRecipe(recipe, 1.0, "all", chain, 0), data))
    protocol = resolve("protocols", "quick")[0].build().varied({"steps": 12, "batch": 32})
    def victim():
        with seeded(0, Numerics(), "cpu"):
            net = ARCHITECTURES["small-cnn"](100, 3, images.shape[2])
            return Training(net, ImageSet(kept.images, kept.labels, 100), protocol, [], "cpu", Numerics()).run(test, None, None)
    measured("a victim trained for twelve steps", victim)
    whole = resolve("defenses", "ortho-proj(epochs=1)")
    measured("purified as a whole (ortho-proj)", lambda: store.purified(PurifiedRecipe(recipe, 1.0, "all", whole, 0), data))
    measured("pictures for the site", lambda: gallery.samples(folder / "store"))
"""
SIDE = 224
WHOLE = 126_000  # images of ImageNet-100


def memory(folder: Path, count: int) -> Tally:
    """Sets of images of 3x224x224 in files, at a quarter of `count` and whole: what each stage holds in memory beside them."""
    import numpy as np

    tally = Tally()
    draw = np.random.default_rng(5)
    block = draw.integers(0, 256, (100, 3, SIDE, SIDE), np.uint8)
    held: dict[str, dict[int, float]] = {}  # stage -> images -> MiB
    for item, stages, most in (("lsp", "craft", count), ("random-noise", "all", count * 3 // 5)):
        for images in (most // 4, most):
            place = folder / f"{item}-{images}"
            place.mkdir()
            array = np.lib.format.open_memmap(place / "images.npy", "w+", np.uint8, (images, 3, SIDE, SIDE))
            for start in range(0, images, 100):
                array[start : start + 100] = block[: images - start]
            array.flush()
            del array
            np.save(place / "labels.npy", np.arange(images, dtype=np.int64) % 100)
            done = subprocess.run(
                [sys.executable, "-c", CRAFTING, place, item, stages], capture_output=True, text=True, check=False
            )
            shutil.rmtree(place)
            if done.returncode:
                tally.bad(f"{item}, {images} images: {done.stderr[-300:]}")
            for line in done.stdout.splitlines():
                stage, bytes_, seconds = json.loads(line)
                tally.end("stages measured")
                held.setdefault(stage, {})[images] = bytes_ / 2**20
                tally.figures[f"{stage}, {images:,} images ({images * 3 * SIDE * SIDE / 1e9:.1f} GB): MiB"] = round(
                    bytes_ / 2**20
                )
                tally.figures[f"{stage}, {images:,} images: seconds"] = round(seconds, 1)
    for stage, found in held.items():
        few, many = min(found), max(found)
        slope = max(0.0, found[many] - found[few]) / (many - few)  # MiB per image
        name = f"{stage}, MiB at {WHOLE:,} images (extrapolated by the slope of the two)"
        tally.figures[name] = round(found[many] + slope * (WHOLE - many))
        if found[many] > found[few] * 1.5 + 256:
            tally.bad(f"{stage}: memory grows with the images, {found[few]:.0f} to {found[many]:.0f} MiB")
    return tally


# Thousands of records


def many_records(folder: Path, count: int) -> Tally:
    """Status, site and plan of thousands of made-up records: whole, within memory, every record counted."""
    from unlearnable_bench.benchmark import grid as grids
    from unlearnable_bench.results.record import Curve, Metrics

    tally, table = Tally(), folder / "many.toml"
    cells = 4 * (count // 4)
    axes: dict[str, Any] = {"title": "Many", "protocol": "quick", "dataset": "digits", "architecture": "small-cnn"}
    axes |= {"attack": ["none", "lsp"], "defense": ["none", "jpeg"], "seed": list(range(cells // 4))}
    table.write_text("".join(f"{axis} = {json.dumps(value)}\n" for axis, value in axes.items()))
    space = Workspace(folder / "space")
    space.writable()
    kept = Records(space.records)
    found, _ = grids.expand(read_grid(str(table)))
    for number, cell in enumerate(found):
        accuracy = number % 1000 / 1000
        curve = Curve(train_acc=[0.5] * 10, train_loss=[0.5] * 10, test_acc=[accuracy] * 10, test_loss=[0.5] * 10)
        metrics = Metrics(test_acc=accuracy, test_acc_best=accuracy, curve=curve)
        kept.path(cell.id).write_text(Record(id=cell.id, cell=cell, metrics=metrics).model_dump_json())
    for words in (("status", "--grid", table), ("report", "--grid", table), ("run", "--grid", table, "--dry-run")):
        start = time.monotonic()
        child = process(*words, "--workspace", space.root)
        most = 0
        while child.poll() is None:
            try:
                most = max(most, psutil.Process(child.pid).memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.1)
        out, err = child.communicate()
        tally.end(f"bench {words[0]}: exit {child.returncode}")
        tally.figures[f"bench {words[0]}, seconds"] = round(time.monotonic() - start, 1)
        tally.figures[f"bench {words[0]}, MiB"] = round(most / 2**20)
        if child.returncode or "Traceback" in err:
            tally.bad(f"{words[0]}: {err[-300:]}")
        if words[0] == "report" and "damaged record" in (space.site / "index.html").read_text():
            tally.bad("the site calls a record damaged")
        if words[0] == "status" and not re.search(rf"{cells} of {cells} cells done|{cells} done", out + err):
            tally.bad(f"status does not count {cells} cells: {(out + err)[-200:]}")
    shutil.rmtree(space.root)
    return tally
