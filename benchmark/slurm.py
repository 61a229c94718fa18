"""What is particular to SLURM: a site's profile, how cells become arrays, and what the scheduler knows of them."""

from __future__ import annotations

import getpass
import math
import re
import shlex
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from unlearnable_bench.benchmark.failures import growth
from unlearnable_bench.benchmark.runs import Piece
from unlearnable_bench.benchmark.task import Task, recipes
from unlearnable_bench.poisons.recipe import Recipe
from unlearnable_bench.results import FileError
from unlearnable_bench.results.record import Failure, write_json

MINUTES_OF_UNIT = {"s": 1 / 60, "min": 1, "h": 60, "d": 24 * 60}
MEGABYTES_OF_UNIT = {"M": 1, "G": 1024, "T": 1024 * 1024}
RESERVED_OPTIONS = {  # options of sbatch that the profile's own fields or the program set
    **{"time": "`time`", "mem": "`memory`", "cpus-per-task": "`cpus`", "partition": "`partition`", "account": "`account`"},
    **{"qos": "`qos`", "gres": "`gpus` and `gpu_option`", "gpus": "`gpus` and `gpu_option`"},
    **{"gpus-per-node": "`gpus` and `gpu_option`", "array": "`at_once`", "ntasks-per-node": "`--cells-per-device`"},
    **dict.fromkeys(("job-name", "output", "error", "open-mode", "dependency", "signal", "chdir", "wrap", "nodes"), ""),
}
MAX_ARRAY = 1000  # tasks of an array where the cluster does not say
WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "CONFIGURING"}
WORKING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING", "POWER_UP_NODE"}
ENDED = {  # SLURM's words for the end of a job: the kind of failure that it means; all else is lost
    "TIMEOUT": "time-limit",
    "DEADLINE": "time-limit",
    "OUT_OF_MEMORY": "out-of-memory",
    "NODE_FAIL": "node-failure",
    "BOOT_FAIL": "node-failure",
    "PREEMPTED": "preempted",
    "FAILED": "killed",
    "CANCELLED": "cancelled",
}


class SlurmError(RuntimeError):
    """SLURM refused something; the text is its own words and what was asked."""

    exit_code = 2  # of `bench`: wrong use or input


# The profile


def minutes(value: Any) -> int:
    """Read a duration: 90min, 4h, 2d, or SLURM's own 04:00:00 and 1-12:00:00. ValueError for a number without a unit."""
    text = str(value).strip()
    if match := re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)\s*(s|min|h|d)", text):
        return max(1, math.ceil(float(match[1]) * MINUTES_OF_UNIT[match[2]]))
    if match := re.fullmatch(r"(?:([0-9]{1,6})-)?([0-9]{1,2}):([0-9]{2}):([0-9]{2})", text):
        days, hours, mins, seconds = (int(piece or 0) for piece in match.groups())
        return max(1, math.ceil(days * 1440 + hours * 60 + mins + seconds / 60))
    raise ValueError('a duration is written with its unit, such as "45min", "4h", "2d" or "1-12:00:00"')


def megabytes(value: Any) -> int:
    """Read a size of memory: 500MB, 16GB, 1.5T. ValueError for a number without a unit."""
    if match := re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)\s*([MGT])i?B?", str(value).strip()):
        return math.ceil(float(match[1]) * MEGABYTES_OF_UNIT[match[2]])
    raise ValueError('a size is written with its unit, such as "500MB" or "16GB"')


Minutes = Annotated[int, BeforeValidator(minutes)]
Megabytes = Annotated[int, BeforeValidator(megabytes)]
SlurmWord = Annotated[str, Field(pattern=r"^[^\s'\"]+$")]
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]  # what becomes one line of a job's script
Option = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]  # sbatch knows no other


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Resources(_Strict):
    """What one job asks for."""

    time: Minutes  # limit of a job; minutes
    memory: Megabytes | None = None  # of a job, not of a CPU; megabytes
    cpus: Annotated[int, Field(ge=1)] = 1  # per process
    gpus: Annotated[int, Field(ge=0, le=1)] = 1  # 0: cells run on the CPU


class Override(_Strict):
    """What jobs that only craft poisons ask for instead."""

    time: Minutes | None = None
    memory: Megabytes | None = None
    cpus: Annotated[int, Field(ge=1)] | None = None
    gpus: Annotated[int, Field(ge=0, le=1)] | None = None


class Profile(Resources):
    """How jobs are submitted at one site; `docs/how-to/slurm.md` explains every field."""

    partition: SlurmWord | None = None
    account: SlurmWord | None = None
    qos: SlurmWord | None = None
    gpu_option: Literal["gres", "gpus", "gpus-per-node"] = "gres"
    gpu_type: SlurmWord | None = None
    max_time: Minutes | None = None  # limits of what a cell gets that failed for want of it
    max_memory: Megabytes | None = None
    at_once: Annotated[int, Field(ge=1)] = 100  # jobs that run at the same time
    max_submit: Annotated[int, Field(ge=1)] | None = None  # array tasks that may be in the queue
    signal: Annotated[int, Field(ge=10)] = 90  # seconds before the time limit at which a job begins to end
    use_srun: bool = True
    srun: list[Line] = []  # more arguments of srun
    setup: list[str] = []  # lines of shell before the program starts
    sbatch: dict[Option, Line | int | bool] = {}  # further options of sbatch
    craft: Override = Override()

    def resources(self, piece: Piece) -> Resources:
        """What the job of a piece asks for: more time or memory where it failed for want of them, within the limits."""
        own = {key: getattr(self, key) for key in Resources.model_fields}
        if piece.stage == "craft":
            own |= self.craft.model_dump(exclude_none=True)
        asked = Resources.model_construct(**own)
        return asked.model_copy(update={"time": self._time(asked, piece), "memory": self._memory(asked, piece)})

    def _time(self, asked: Resources, piece: Piece) -> int:
        limit = max(self.max_time or asked.time, asked.time)
        return min(math.ceil(asked.time * piece.time), limit)

    def _memory(self, asked: Resources, piece: Piece) -> int | None:
        if asked.memory is None:
            return None
        limit = max(self.max_memory or 4 * asked.memory, asked.memory)
        return min(math.ceil(asked.memory * piece.memory), limit)

    def options(self, resources: Resources) -> dict[str, Any]:
        """The options of sbatch."""
        found: dict[str, Any] = {"requeue": True}
        found |= {key: value for key in ("partition", "account", "qos") if (value := getattr(self, key))}
        if resources.memory:
            found["mem"] = f"{resources.memory}M"
        if resources.gpus:
            words = ["gpu" if self.gpu_option == "gres" else "", self.gpu_type or "", str(resources.gpus)]
            found[self.gpu_option] = ":".join(filter(None, words))
        return found | {key.replace("_", "-"): value for key, value in self.sbatch.items()}


def read_profile(path: Path) -> Profile:
    """Read a site's profile. FileError names the file, the field, what was found and what was expected."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"there is no profile {path}; docs/how-to/slurm.md shows one") from None
    except OSError as error:
        raise FileError(f"cannot read the profile {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits and lists within lists among them
        raise FileError(f"the profile {path} is not a TOML file: {error}") from None
    try:
        profile = Profile.model_validate(content)
    except ValidationError as error:
        raise FileError(f"the profile {path}: {_sentence(error)}") from None
    wrong = _reserved_option(profile) or _too_short(profile)
    if wrong:
        raise FileError(f"the profile {path}: {wrong}")
    return profile


def _reserved_option(profile: Profile) -> str:
    """Say which option of sbatch a profile may not give, or return ''."""
    for key in profile.sbatch:
        name = key.replace("_", "-")
        if name in RESERVED_OPTIONS:
            field = RESERVED_OPTIONS[name]
            why = f"is given by {field} of the profile" if field else "is set by the program"
            return f"`sbatch.{key}` {why}; take it out of [sbatch]"
    return ""


def _too_short(profile: Profile) -> str:
    """Say that jobs of a profile would end before they begin to, or return ''."""
    for stage in (profile, profile.resources(Piece(0, 0, "craft"))):
        if stage.time * 60 <= profile.signal + 90:
            least = f"signal={profile.signal} s and the minute and a half that SLURM may be off"
            return f"`time` is {stage.time} min, which is not more than {least}; give jobs longer"
    return ""


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f'no `{place}`; every profile says how long a job may run, such as time = "4h"'
    if first["type"] == "extra_forbidden":
        return (
            f"`{place}` is not known; a profile has {', '.join(Profile.model_fields)}; other options of sbatch go into [sbatch]"
        )
    message = first["msg"].removeprefix("Value error, ")
    return f"`{place}` is {first['input']!r}: {message[0].lower()}{message[1:]}"


# From cells to arrays


@dataclass(frozen=True)
class Array:
    """Parts that are submitted together: the same resources, at most `cap` at once, after the end of other arrays."""

    first: int  # number of its first piece
    size: int
    resources: Resources
    cap: int
    after: tuple[int, ...]  # numbers of arrays


def divide(
    tasks: Sequence[Task], failures: Mapping[str, Failure], per_job: int, crafted: Callable[[Recipe], bool]
) -> list[tuple[list[Task], Piece]]:
    """Divide cells into the pieces of a run: one that crafts each missing poison, then the cells, `per_job` in a piece.

    Cells whose poison is there (`crafted(recipe)` says so) come before those that wait for one. Cells that need more time or
    memory than others are in pieces of their own; purified sets take turns, so that they are made side by side.
    """
    needed = recipes(tasks, lambda task: task.poison if task.needs_poison else None)
    missing = {recipe.key: task for recipe, task in needed if not crafted(recipe)}
    found = [([task], Piece(0, 1, "craft", *growth(failures.get(task.cell.id)))) for task in missing.values()]
    kinds: dict[tuple[bool, float, float], dict[str, list[Task]]] = {}
    for task in tasks:
        kind = (task.needs_poison and task.poison.key in missing, *growth(failures.get(task.cell.id)))
        kinds.setdefault(kind, {}).setdefault(task.purified.key if task.purified else "", []).append(task)
    for (waits, more_time, more_memory), turns in sorted(kinds.items(), key=lambda kind: kind[0]):
        order = [task for row in zip_longest(*turns.values()) for task in row if task is not None]
        for start in range(0, len(order), per_job):
            pack = order[start : start + per_job]
            found.append((pack, Piece(0, len(pack), "train", more_time, more_memory, waits)))
    return found


def arrays(pieces: Sequence[Piece], profile: Profile, max_array: int) -> list[Array]:
    """Group the pieces of a run into arrays.

    Each array has one kind of resources and at most `max_array` tasks. Those that may run at the same time share the cap
    `at_once`; where there are more of them than the cap, some wait for others. Parts that wait for poisons come last.
    """
    found: list[Array] = []
    before: tuple[int, ...] = ()  # the arrays of the phase before
    for phase in (False, True):
        stretches = _stretches(pieces, phase, profile, max_array)
        lanes = max(1, min(profile.at_once, len(stretches)))
        begin = len(found)
        for index, (first, size, resources) in enumerate(stretches):
            cap = profile.at_once // lanes + (index % lanes < profile.at_once % lanes)
            after = (begin + index - lanes,) if index >= lanes else before
            found.append(Array(first, size, resources, cap, after))
        before = tuple(range(begin, len(found))) or before
    return found


def _stretches(pieces: Sequence[Piece], waits: bool, profile: Profile, longest: int) -> list[tuple[int, int, Resources]]:
    """Return the first piece, the length and the resources of stretches of pieces that ask for the same, `longest` at most."""
    stretches: list[tuple[int, int, Resources]] = []
    for number, piece in enumerate(pieces):
        if piece.waits is not waits:
            continue
        resources = profile.resources(piece)
        first, size, last = stretches[-1] if stretches else (0, 0, None)
        if last == resources and first + size == number and size < longest:
            stretches[-1] = (first, size + 1, resources)
        else:
            stretches.append((number, 1, resources))
    return stretches


# What SLURM knows


def _ask(*command: str, seconds: float = 30) -> str | None:
    """Return what a command of SLURM prints; None if it is not there, fails, or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def config() -> dict[str, str]:
    """Return the cluster's settings as `scontrol show config` prints them; empty where it does not answer."""
    lines = (_ask("scontrol", "show", "config") or "").splitlines()
    return {key.strip(): value.strip() for key, mark, value in (line.partition("=") for line in lines) if mark}


def job_name(run: str) -> str:
    """The name of all jobs of a run, by which they are found: SLURM uses numbers again after a reset."""
    return f"bench-{run}"


def queue(names: Sequence[str], cluster: str) -> dict[tuple[str, str, int], str] | None:
    """Return (job name, array's number, index) -> state in SLURM's words, also of jobs that ended minutes ago.

    One question for all runs; None if there is no SLURM here, it does not answer, or it is another cluster than `cluster`.
    """
    if not names or config().get("ClusterName", "") != cluster:
        return None
    wanted = ",".join(map(job_name, names))
    text = _ask("squeue", "-h", "-r", "-t", "all", f"--name={wanted}", "-o", "%j|%F|%K|%T")
    return None if text is None else dict(_rows(text))


def history(names: Sequence[str], since: float) -> dict[tuple[str, str, int], str]:
    """Return the same from accounting (sacct) for jobs since a time; empty where there is none."""
    wanted = ",".join(map(job_name, names))
    begin = time.strftime("%FT%T", time.localtime(since - 60))
    text = _ask("sacct", "-n", "-P", "-X", "--array", f"--name={wanted}", "-S", begin, "-o", "JobName,JobID,State") or ""
    rows = []
    for line in text.splitlines():
        name, job, state = line.split("|")[:3]
        number, _, index = job.partition("_")
        rows.append(f"{name}|{number}|{index or 'N/A'}|{state.partition(' ')[0]}")
    return dict(_rows("\n".join(rows)))


def _rows(text: str) -> Iterator[tuple[tuple[str, str, int], str]]:
    for line in text.splitlines():
        name, number, index, state = line.split("|")
        yield (name, number, int(index) if index.isdigit() else 0), state


def cancel_jobs(run: str) -> None:
    """Cancel the jobs of a run. SlurmError if SLURM does not take it."""
    if shutil.which("scancel") is None:
        raise SlurmError("scancel is not on this machine; running jobs end by themselves, cancel queued ones from a login node")
    done = subprocess.run(  # noqa: S603
        ["scancel", f"--name={job_name(run)}"],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise SlurmError(f"scancel: {done.stderr.strip()}")


def submission_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment is kept when submitting: a job that submits must not hand on its own place and cores."""
    keep = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")
    return {key: value for key, value in environment.items() if key in keep or key.startswith("SBATCH_")}


# bench doctor --slurm

SHOWN_SETTINGS = {  # settings that matter here, and why
    "ClusterName": "",
    "SLURM_VERSION": "",
    "MaxArraySize": "arrays are split at it",
    "MaxJobCount": "tasks that the whole cluster keeps",
    "JobRequeue": "1: preempted jobs may start again; the program asks for it in any case",
    "PreemptMode": "REQUEUE starts preempted jobs again, CANCEL leaves that to the next `bench run`",
    "KillWait": "seconds from a job's SIGTERM to its end",
    "MinJobAge": "seconds for which squeue knows ended jobs",
    "TrackWCKey": "yes: put wckey into [sbatch] of the profile",
}


_Finding = tuple[str, bool, str]  # name, ok, detail


def site_findings(folder: Path, profile: Profile | None) -> list[_Finding]:
    """Return what matters on this cluster. Asks for one small job to look from a compute node."""
    absent = [name for name in ("sbatch", "srun", "squeue", "scancel", "scontrol") if shutil.which(name) is None]
    if absent:
        return [("slurm", False, f"no {', '.join(absent)} here; ask on a login node of the cluster")]
    settings = config()
    if not settings:
        return [("slurm", False, "scontrol show config does not answer; is the controller up?")]
    return [
        *_settings(settings),
        *_accounts(),
        *_partitions(profile),
        _latency(folder),
        *_from_a_node(folder, profile),
    ]


def _settings(settings: Mapping[str, str]) -> Iterator[_Finding]:
    """Yield the settings of the cluster that matter here, each with the reason."""
    for key, why in SHOWN_SETTINGS.items():
        if key in settings:
            reason = f" ({why})" if why else ""
            yield f"slurm {key}", True, settings[key] + reason
    warns = "preempt_send_user_signal" in settings.get("SlurmctldParameters", "")
    detail = "jobs are warned" if warns else "not set; jobs are not warned, their checkpoints of every minute suffice"
    yield "slurm preempt_send_user_signal", True, detail


def _accounts() -> Iterator[_Finding]:
    """Yield whether ended jobs are remembered, and the limits of this user."""
    remembers = _ask("sacct", "-n", "-X", "-S", "now-1hour") is not None
    detail = "sacct answers" if remembers else "sacct does not answer; ends older than MinJobAge are called lost"
    yield "slurm accounting", True, detail
    user = f"user={getpass.getuser()}"
    limits = _ask("sacctmgr", "-n", "-P", "show", "assoc", user, "format=Account,MaxSubmitJobs,MaxJobs,QOS")
    for line in sorted(set((limits or "").splitlines())):
        account, *values = (line.split("|") + [""] * 4)[:4]
        submit, jobs, qos = (value or "none" for value in values)
        yield f"slurm account {account}", True, f"MaxSubmitJobs {submit} (`max_submit`), MaxJobs {jobs} (`at_once`), qos {qos}"


def _partitions(profile: Profile | None) -> Iterator[_Finding]:
    """Yield the partitions of the cluster, and those of a profile that it lacks."""
    names = []
    for line in (_ask("sinfo", "-h", "-o", "%P|%l|%D|%c|%m|%G") or "").splitlines():
        name, limit, nodes, cpus, memory, gres = line.split("|")
        names.append(name.rstrip("*"))
        yield f"slurm partition {name}", True, f"limit {limit}, {nodes} nodes, {cpus} CPUs, {memory} MB, {gres}"
    if profile is None or not profile.partition or not names:
        return
    for name in profile.partition.split(","):
        if name and name not in names:
            there = ", ".join(dict.fromkeys(names))
            yield (
                "slurm profile partition",
                False,
                f"the profile says {name!r}, and there is none of this name; there are {there}",
            )


def _latency(folder: Path) -> _Finding:
    """Time what leases and records do on the shared folder."""
    start, times = time.perf_counter(), 20
    for _ in range(times):
        write_json(folder / "latency.json", {})
    (folder / "latency.json").unlink()
    each = 1000 * (time.perf_counter() - start) / times
    return "slurm folder", each < 500, f"{folder}: {each:.0f} ms to write a file"


def _from_a_node(folder: Path, profile: Profile | None) -> list[_Finding]:
    """Look from a compute node, if one is free within half a minute: is the folder there, is scontrol?"""
    probe = folder / "probe"
    probe.write_text("")
    options = [f"--{key}={value}" for key, value in (profile.options(profile) if profile else {}).items() if value is not True]
    script = f"test -e {shlex.quote(str(probe))} && echo folder; command -v scontrol >/dev/null && echo scontrol; true"
    text = _ask("srun", "--immediate=30", "--time=1", "-n", "1", *options, "sh", "-c", script, seconds=60)
    probe.unlink()
    if text is None:
        return [("slurm node", True, "not looked at: no job could start within half a minute")]
    sees, commands = "folder" in text.split(), "scontrol" in text.split()
    return [
        ("slurm node", sees, f"{folder} is {'there too' if sees else 'not there: jobs need a shared folder, see --workspace'}"),
        ("slurm node scontrol", True, "there" if commands else "not there: after a time limit `bench run` must submit again"),
    ]
