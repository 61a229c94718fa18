"""What happens around the program: full disks, folders that cannot be written, clocks that are set, kills, crowds."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from campaign import Tally, commanded, process, ran, told
from unlearnable_bench.poisons.lease import WINDOW, Lease, holder
from unlearnable_bench.results import FileError, Records

SMALL = ("--dataset", "digits(per_class=10,test_per_class=2)", "--protocol", "quick@0.2", "--attack", "none,lsp,ops")
GRID = (*SMALL, "--defense", "none,bdr", "--seed", "0,1")  # 12 cells
CELLS = 12
TABLE = """title = "Full"
dataset = "digits(per_class=10,test_per_class=2)"
protocol = "quick@0.2"
architecture = "small-cnn"
attack = ["none", "lsp", "ops"]
defense = ["none", "bdr"]
seed = [0, 1]
"""
EM = "em(surrogate=small-cnn,weight_steps=5,batch=64,noise_steps=2,max_rounds=3)"
LONGER = ("--dataset", "digits(per_class=40,test_per_class=5)", "--protocol", "quick@0.5", "--defense", "none,bdr")
LONGER = (*LONGER, "--attack", f"none,lsp,{EM}", "--seed", "0,1")  # 12 cells, two seconds of crafting
MAY_CHANGE = {"seconds", "cpu_seconds", "finished", "peak_memory", "commit"}  # of a record; the code itself is `tree`


def records(space: Path) -> dict[str, Any]:
    """The records of a workspace as read from their files, without what two runs of the same code may change in them."""
    found = {}
    for path in (space / "results/records").glob("*.json"):
        if not path.name.endswith(".failed.json"):
            content = json.loads(path.read_text())
            found[content["id"]] = {key: value for key, value in content.items() if key not in MAY_CHANGE}
    return found


def poisons(space: Path) -> dict[str, str]:
    """The checksums of the sets of a workspace, by their folders."""
    manifests = (space / "poisons/cache").glob("*/manifest.json")
    return {path.parent.name: json.loads(path.read_text())["checksum"] for path in manifests if "." not in path.parent.name}


def trained(space: Path, seen: Counter[str]) -> None:
    """Count, by cell, how often workers of all runs said that they finished it; lines that were counted are not again."""
    for source in sorted((space / ".bench/runs").glob("*/events-*.jsonl")):
        for number, line in enumerate(source.read_text(errors="replace").splitlines()):
            if line.startswith("{") and line.endswith("}") and json.loads(line)["event"] == "done":
                seen[f"{source}:{number} {json.loads(line)['cell']}"] = 1


def twice(seen: Counter[str]) -> int:
    """How many cells were finished more than once."""
    return sum(several > 1 for several in Counter(key.rpartition(" ")[2] for key in seen).values())


def those_of(space: Path) -> list[psutil.Process]:
    """The live processes that work on a workspace: those whose command line names it."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.pid != os.getpid() and any(str(space) in word for word in one.cmdline()) and one.status() != "zombie":
                found.append(one)
        except psutil.Error:
            continue
    return found


def gone(space: Path, seconds: float = 120) -> bool:
    """Wait until nobody works on a workspace."""
    deadline = time.monotonic() + seconds
    while those_of(space) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not those_of(space)


def differences(calm: Path, harsh: Path) -> str:
    """What is not alike in two workspaces, ''. Of the first record that differs, its fields are named."""
    for name, of in (("records", records), ("poisons", poisons)):
        one, other = of(calm), of(harsh)
        if one != other:
            changed = changed_keys(one, other)
            fields = _fields(one.get(changed[0]), other.get(changed[0]))
            return f"{len(changed)} of {len(one)} {name} differ, {changed[0]} first{fields}"
    return ""


def changed_keys(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The keys whose values differ in two dictionaries, or that only one of them has."""
    return [key for key in one | other if one.get(key) != other.get(key)]


def _fields(one: Any, other: Any) -> str:
    """In which fields two records differ, as the end of a sentence; '' where one of them is missing or is no record."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return ""
    return f", in {', '.join(changed_keys(one, other))}"


# Kills and crowds


def killed_and_resumed(folder: Path, count: int) -> Tally:
    """kill -9 of a driver and all its workers at random moments, then the same command again: the records of a calm run."""
    tally, draw = Tally(), random.Random(1)
    calm, harsh = folder / "calm", folder / "harsh"
    start = time.monotonic()
    assert ran("run", *LONGER, "--workspace", calm, "--workers", "2")[0] == 0
    longest = time.monotonic() - start
    seen: Counter[str] = Counter()
    for number in range(count):
        if len(records(harsh)) == len(records(calm)):
            shutil.rmtree(harsh)
            seen.clear()
        driver = process("run", *LONGER, "--workspace", harsh, "--workers", "2")
        time.sleep(draw.uniform(0, longest))
        victims = those_of(harsh) if number % 2 else [psutil.Process(driver.pid)] if driver.poll() is None else []
        for victim in victims:
            try:
                victim.kill()
            except psutil.Error:
                continue
        _, err = driver.communicate()
        tally.end("killed" if driver.returncode == -signal.SIGKILL else f"was over, exit {driver.returncode}")
        if "Traceback" in err:
            tally.bad(err[-300:])
        if not gone(harsh):
            tally.bad("workers outlive their driver")
        trained(harsh, seen)
        for _ in Records(harsh / "results/records"):
            pass  # raises for a record that is not whole
    code, _, err = ran("run", *LONGER, "--workspace", harsh, "--workers", "2")
    trained(harsh, seen)
    if code:
        tally.bad(f"exit {code}: {err[-300:]}")
    if found := differences(calm, harsh):
        tally.bad(found)
    if twice(seen):
        tally.bad(f"{twice(seen)} cells were trained twice")
    return tally


def crowd(folder: Path, count: int) -> Tally:
    """Two and four drivers at once on one workspace: each cell once, the records of one driver alone."""
    tally = Tally()
    calm = folder / "calm"
    assert ran("run", *GRID, "--workspace", calm, "--workers", "1")[0] == 0
    for number in range(count):
        several, space = (2, 4)[number % 2], folder / f"crowd-{number}"
        drivers = [process("run", *GRID, "--workspace", space, "--workers", "1", "--json") for _ in range(several)]
        answers = []
        for driver in drivers:
            out, err = driver.communicate(timeout=600)
            tally.end(f"one of {several}: exit {driver.returncode}")
            if driver.returncode or "Traceback" in err:
                tally.bad(err[-300:])
            answers.append(json.loads(out or '{"ran": 0}'))
        if sum(answer["ran"] for answer in answers) != CELLS:
            tally.bad(f"{several} drivers ran {[answer['ran'] for answer in answers]} of {CELLS} cells")
        if found := differences(calm, space):
            tally.bad(found)
        shutil.rmtree(space)
    return tally


def storm(folder: Path, count: int) -> Tally:
    """Three drivers on one grid, drivers and workers killed at random (kill -9, Ctrl-C) and started again until all is done."""
    tally, draw, calm, grid = Tally(), random.Random(14), folder / "calm", folder / "grid.toml"
    grid.write_text(TABLE)
    assert ran("run", "--grid", grid, "--workspace", calm, "--workers", "1")[0] == 0
    for number in range(count):
        space = folder / f"storm-{number}"
        seen: Counter[str] = Counter()
        kills, ends = draw.randrange(4, 9), 0
        words = ("run", "--grid", grid, "--workspace", space, "--workers", "1", "--json")
        drivers = [process(*words) for _ in range(3)]
        while drivers:
            time.sleep(draw.uniform(0.2, 4))
            victims = those_of(space)
            if kills and victims and len(records(space)) < CELLS:
                kills -= 1
                tally.ends["killed"] += 1
                with suppress(psutil.Error):
                    draw.choice(victims).send_signal(draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT)))
            for driver in [one for one in drivers if one.poll() is not None]:
                _, err = driver.communicate()
                drivers.remove(driver)
                tally.ends[f"a driver: exit {driver.returncode}"] += 1
                if "Traceback" in err and driver.returncode != -signal.SIGINT:  # Ctrl-C while Python itself starts
                    tally.bad(f"exit {driver.returncode}: {err[-300:]}")
                ends += 1
                if driver.returncode and ends < 30:
                    drivers.append(process(*words))
        tally.trials += 1
        if not gone(space):
            tally.bad("workers outlive their drivers")
        trained(space, seen)
        if ran("retry", "--grid", grid, "--workspace", space)[0] or ran(*words)[0]:
            tally.bad("the last run does not end well")
        trained(space, seen)
        if found := differences(calm, space) or (f"{twice(seen)} cells were trained twice" if twice(seen) else ""):
            tally.bad(found)
        if list((space / "results/records").glob("*.failed.json")) or Records(space / "results/records").changed():
            tally.bad("failures or changed records are left")
        shutil.rmtree(space)
    return tally


SEES_LATE = """
import os, sys
sys.path.insert(0, os.environ["CAMPAIGN"])
import stale
sys.path.pop(0)
stale.install(os.environ["DISK"], float(os.environ["LATE"]))
"""


def seen_late(folder: Path, count: int) -> Tally:
    """Two drivers that see each other's files seconds late, as over a network: each cell once, the records of one alone."""
    tally, calm = Tally(), folder / "calm"
    assert ran("run", *GRID, "--workspace", calm, "--workers", "1")[0] == 0
    (folder / "sitecustomize.py").write_text(SEES_LATE)  # the first thing that every Python of the run reads
    paths = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = {"PYTHONPATH": paths, "CAMPAIGN": str(Path(__file__).parent), "LATE": "3"}
    for number in range(count):
        disk = folder / f"disk-{number}"
        disk.mkdir()
        with ExitStack() as stack:
            mounts = [stack.enter_context(caching(disk, folder / f"{name}-{number}")) for name in ("one", "two")]
            by_kernel = number % 2 == 1 and all(mounts)
            spaces = [folder / f"{name}-{number}" for name in ("one", "two")] if by_kernel else [disk, disk]
            sees = environment | {"DISK": str(folder / "nowhere" if by_kernel else disk)}
            words = ("run", *GRID, "--workers", "1", "--json", "--workspace")
            drivers = [process(*words, space, environment=sees) for space in spaces]
            answers = [driver.communicate(timeout=900) for driver in drivers]
        how = "two mounts by bindfs" if by_kernel else "a stand-in"
        for driver, (_, err) in zip(drivers, answers, strict=True):
            tally.end(f"a driver on {how}: exit {driver.returncode}")
            if driver.returncode or "Traceback" in err:
                tally.bad(f"{how}, exit {driver.returncode}: {err[-300:]}")
        if found := _more_than_once(disk) or differences(calm, disk):
            tally.bad(f"{how}: {found}")
        ran_cells = [json.loads(out or '{"ran": 0}')["ran"] for out, _ in answers]
        if sum(ran_cells) != CELLS:
            tally.bad(f"{how}: the drivers ran {ran_cells} of {CELLS} cells")
    return tally


@contextmanager
def caching(disk: Path, place: Path) -> Iterator[bool]:
    """Mount a folder in a second place, where absent names are remembered for seconds; yields False where that cannot be."""
    place.mkdir()
    options = "attr_timeout=3,entry_timeout=3,negative_timeout=3"
    try:
        done = subprocess.run(["bindfs", "-o", options, str(disk), str(place)], capture_output=True, check=False).returncode
    except FileNotFoundError:
        done = 1
    try:
        yield done == 0
    finally:
        if done == 0:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def _more_than_once(space: Path) -> str:
    """What was done twice in a workspace, or went wrong, ''."""
    trainings: Counter[str] = Counter()
    for source in (space / ".bench/runs").glob("*/events-*.jsonl"):
        events = [json.loads(line) for line in source.read_text().splitlines()]
        trainings.update(event["cell"] for event in events if event["event"] == "start" and event["stage"] == "train")
    if twice := [cell for cell, times in trainings.items() if times > 1]:
        return f"{len(twice)} cells were trained twice"
    if list((space / "results/records").glob("*.failed.json")):
        return "failures are left"
    if len((space / "results/records/.sums").read_text().splitlines()) != CELLS:
        return "records were written twice"
    strange = [path.name for path in (space / "poisons/cache").glob("[!.]*.*")]
    return f"{strange[0]} is left among the sets" if strange else ""


# Disks and folders


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[bool]:
    """Mount something for a block; yields False where this user may not."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *options, str(place)], capture_output=True, check=False)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def full_disk(folder: Path, count: int) -> Tally:
    """A disk that fills up at another point each time: a sentence, no traceback; with room again, the records of a calm run."""
    tally, calm, grid = Tally(), folder / "calm", folder / "grid.toml"
    grid.write_text(TABLE)
    assert ran("run", "--grid", grid, "--workspace", calm, "--workers", "2")[0] == 0
    used = sum(max(path.stat().st_blocks * 512, 4096) for path in calm.rglob("*"))
    for number in range(count):
        space = folder / f"full-{number}"
        size = 8192 + used * number // count
        with mounted(space, "-t", "tmpfs", "-o", f"size={size}", "none") as may:
            if not may:
                tally.skipped = "needs the right to mount"
                return tally
            executor = ("inline", "local")[number % 2]
            code, _, err = ran("run", "--grid", grid, "--workspace", space, "--executor", executor)
            tally.end(f"exit {code}")
            try:
                told(code, err)
                assert code, "a full disk was not noticed"
            except AssertionError as error:
                tally.bad(f"{executor}, {size} bytes: {error}"[:600])
            try:
                list(Records(space / "results/records"))
            except FileError as error:
                tally.bad(str(error))
            if not gone(space):
                tally.bad("workers outlive their driver")
            subprocess.run(["mount", "-o", "remount,size=100m", str(space)], check=True)
            for _ in range(4):  # failures of a kind that is tried again three times in all
                code, _, err = ran("run", "--grid", grid, "--workspace", space, "--executor", executor)
                if code == 0:
                    break
            if code:
                code, _, err = ran("retry", "--grid", grid, "--workspace", space)
                tally.ends["needed bench retry"] += 1
            if code:
                tally.bad(f"with room again: exit {code}, {err[-300:]}")
            elif found := differences(calm, space):
                tally.bad(f"with room again: {found}")
    return tally


def read_only(folder: Path, count: int) -> Tally:
    """Every command in a workspace that cannot be written: it does what needs no writing, else says so in a sentence."""
    tally, space, place = Tally(), folder / "space", folder / "mounted"
    assert ran("run", *SMALL, "--workspace", space, "--executor", "inline")[0] == 0
    commands: tuple[tuple[object, ...], ...] = (
        ("run", *SMALL, "--dry-run"),
        ("run", *GRID),
        ("status", "--grid", "quick"),
        ("compare",),
        ("report", "--grid", "quick"),
        ("report", "--grid", "quick", "--format", "markdown"),
        ("poisons", "ls"),
        ("poisons", "verify"),
        ("poisons", "prune", "--all"),
        ("craft", "lsp(epsilon=1.0)", "--dataset", "digits(per_class=5,test_per_class=2)"),
        ("logs", "--grid", "quick"),
        ("cancel", "--grid", "quick"),
        ("retry", "--grid", "quick"),
        ("doctor",),
        ("data", "ls"),
        ("submit", "--grid", "quick", "--name", "A", "--output", folder / "none.zip"),
        ("submit", "--name", "A", "--output", folder / "out.zip"),
        ("accept", folder / "out.zip"),
        ("accept",),
        ("publish", "--to", folder / "published"),
        ("publish", "--to", place / "published"),
        ("poisons", "export", "lsp", "--dataset", SMALL[1], "--to", folder / "exported"),
        ("poisons", "export", "lsp(epsilon=1.0)", "--dataset", SMALL[1], "--to", folder / "crafted"),
        ("report", "--output", folder / "site"),
    )
    with mounted(place, "--bind", str(space)) as may:
        if not may:
            tally.skipped = "needs the right to mount"
            return tally
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        for words in commands[:count]:
            code, _, err = ran(*words, "--workspace", place)
            try:
                tally.end(told(code, err))
            except AssertionError as error:
                tally.end("traceback")
                tally.bad(f"{' '.join(map(str, words))}: {error}"[:400])
    return tally


# Clocks

ANOTHER_MACHINE = {"host": "elsewhere", "pid": 1, "born": 0.0, "token": "x", "job": "", "restarts": "0"}
SEES = """
import sys, psutil
psutil.PROCFS_PATH = sys.argv[1]
from pathlib import Path
from unlearnable_bench.benchmark.runs import Run
from unlearnable_bench.poisons.lease import holder
print(holder(Path(sys.argv[2])).alive, Run(Path(sys.argv[3])).driven())
"""


def clocks(folder: Path, count: int) -> Tally:
    """Clocks set by hours either way, of the file system and of the machine: nobody waits for long, nobody alive is robbed."""
    from unlearnable_bench.poisons.lease import birth

    tally, draw = Tally(), random.Random(2)
    for number in range(count):
        path = folder / f"{number}.lock"
        age = draw.choice((-1, 1)) * draw.uniform(2 * WINDOW, 90_000)
        path.write_text(json.dumps(ANOTHER_MACHINE))
        os.utime(path, (time.time() - age, time.time() - age))
        lease = Lease(path)  # nobody renewed it since the clock was set: it is free
        free = lease.take()
        tally.end("a silent holder's lease was free" if free else "held")
        if not free:
            tally.bad(f"a lease {age:.0f} s old keeps everybody out")
            continue
        os.utime(path, (time.time() - age, time.time() - age))
        there = holder(path)  # of this machine: the process is asked, not the clock
        if there is None or not there.alive or not lease.held():
            tally.bad(f"the lease of a live process counts as free {age:.0f} s off")
        lease.release()
    if not Path("/proc/stat").exists():
        return tally
    lease = Lease(folder / "live.lock")
    assert lease.take()
    run = folder / "run"
    run.mkdir()
    plan: dict[str, Any] = {"roots": {}, "driver": [os.getpid(), birth(psutil.Process())]}
    plan |= {key: [] for key in ("cells", "order", "redo", "parts")}
    (run / "plan.json").write_text(json.dumps(plan))
    for jump in (-7200, -60, -2, 2, 60, 7200)[: max(2, count // 10)]:
        proc = folder / f"proc{jump}"
        proc.mkdir()
        for one in Path("/proc").iterdir():
            if one.name != "stat":
                (proc / one.name).symlink_to(one)
        began = f"btime {int(psutil.boot_time())}"
        (proc / "stat").write_text(Path("/proc/stat").read_text().replace(began, f"btime {int(psutil.boot_time()) + jump}"))
        command = [sys.executable, "-c", SEES, proc, lease.path, run]
        said = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout.split()
        tally.end("clock set: holder and driver seen alive" if said == ["True", "True"] else "clock set: robbed")
        if said != ["True", "True"]:
            tally.bad(f"after a jump of {jump} s a live lease and driver are seen as {said}")
    lease.release()
    return tally


JUMPING = """
import datetime, os, time
real, real_ns, moment = time.time, time.time_ns, datetime.datetime
def jump():
    try:
        with open(os.environ["JUMP"]) as file:
            return float(file.read() or 0)
    except (OSError, ValueError):
        return 0.0
time.time = lambda: real() + jump()
time.time_ns = lambda: real_ns() + int(jump() * 1e9)
class datetime_(moment):
    @classmethod
    def now(cls, tz=None):
        return moment.fromtimestamp(time.time(), tz)
datetime.datetime = datetime_
"""


def jumps(folder: Path, count: int) -> Tally:
    """Two drivers while the clock is set forth and back, by a second to a year, for all processes and all files of theirs."""
    tally, draw, calm = Tally(), random.Random(15), folder / "calm"
    assert ran("run", *GRID, "--workspace", calm, "--workers", "1")[0] == 0
    (folder / "sitecustomize.py").write_text(JUMPING)  # the first thing that every Python of the run reads
    offset = folder / "offset"
    paths = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = {"PYTHONPATH": paths, "JUMP": str(offset)}
    said = ran_python(
        "import time, datetime; print(time.time(), datetime.datetime.now().timestamp())", environment | {"JUMP": ""}
    )
    offset.write_text("7200")
    then = ran_python("import time, datetime; print(time.time(), datetime.datetime.now().timestamp())", environment)
    if min(float(b) - float(a) for a, b in zip(said.split(), then.split(), strict=True)) < 7000:
        tally.bad("the clock was not set, so this proves nothing")
    for number in range(count):
        space, total = folder / f"jumps-{number}", 0.0
        offset.write_text("0")
        words = ("run", *GRID, "--workspace", space, "--workers", "1", "--json")
        drivers = [process(*words, environment=environment) for _ in range(2)]
        while any(driver.poll() is None for driver in drivers):
            time.sleep(draw.uniform(0.5, 3))
            by = draw.choice((-1, 1)) * draw.choice((1, 90, 150, 3600, 86_400 * 400))
            total += by
            scratch = folder / "offset.new"
            scratch.write_text(str(total))
            scratch.replace(offset)
            for path in space.rglob("*"):  # the clock of the file server: what was written is older, or younger, by as much
                with suppress(OSError):
                    status = path.lstat()
                    os.utime(path, (status.st_atime - by, max(0.0, status.st_mtime - by)), follow_symlinks=False)
            tally.ends["clock set"] += 1
        seen: Counter[str] = Counter()
        trained(space, seen)
        for driver in drivers:
            _, err = driver.communicate()
            tally.end(f"a driver: exit {driver.returncode}")
            if driver.returncode or "Traceback" in err:
                tally.bad(f"exit {driver.returncode}: {err[-300:]}")
        if found := differences(calm, space) or (f"{twice(seen)} cells were trained twice" if twice(seen) else ""):
            tally.bad(found)
        shutil.rmtree(space)
    return tally


def ran_python(code: str, environment: dict[str, str]) -> str:
    """What some lines of Python print."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return done.stdout


# Half-written files


def half_written(folder: Path, count: int) -> Tally:
    """Files of a workspace cut at sampled lengths, emptied, or filled with zeros and other JSON: healed, or one sentence."""
    tally, draw = Tally(), random.Random(3)
    space, broken = folder / "space", folder / "broken"
    told(*(commanded("run", *SMALL, "--seed", "0", "--defense", "none,bdr", "--executor", "inline", "--workspace", space)[::2]))
    (record,) = list((space / "results/records").glob("*.json"))[:1]
    failure = {"id": record.stem, "cell": json.loads(record.read_text())["cell"], "kind": "killed", "message": "m"}
    record.with_name(f"{record.stem}.failed.json").write_text(json.dumps(failure))
    (space / ".bench/folders.json").write_text('{"folder-x-1": "/x"}')
    files = [
        record.relative_to(space),
        record.relative_to(space).with_name(f"{record.stem}.failed.json"),
        Path("results/records/.briefs"),
        Path(".bench/folders.json"),
        *(path.relative_to(space) for path in (space / ".bench/runs").glob("*/*.json*")),
        *(path.relative_to(space) for path in sorted((space / "poisons/cache").glob("*/*"))[:4]),
    ]
    commands = (
        ("status", "--grid", "quick"),
        ("run", *SMALL, "--dry-run"),
        ("compare", "d-vae/table-2"),
        ("report", "--grid", "quick"),
        ("poisons", "ls"),
        ("poisons", "verify"),
        ("poisons", "prune", "--dry-run"),
        ("run", *SMALL, "--executor", "inline"),
    )
    for number in range(count):
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(space, broken)
        for over in (broken / ".bench/runs").glob("*/over") if number % 2 else ():
            over.unlink()  # as if its driver had been killed
        place = files[number % len(files)]
        path, length = broken / place, (space / place).stat().st_size
        harm = draw.choice(("cut", "cut", "empty", "zeros", "other"))
        content = path.read_bytes()
        cut = draw.randrange(length) if length else 0
        others = (b"[]", b"{}", b"3", b"null", b'{"a": [1]}', b"[" * 9000)
        choices = {"cut": content[:cut], "empty": b"", "zeros": bytes(length), "other": draw.choice(others)}
        path.write_bytes(choices[harm])
        for words in commands:
            try:
                code, _, err = commanded(*words, "--workspace", broken)
                tally.end(told(code, err))
            except Exception as error:
                tally.end("traceback")
                tally.bad(f"{place.name} {harm}, {words[0]}: {type(error).__name__} {error}"[:300])
    return tally
