"""Leases: who is doing a piece of work, told by files alone, so that they hold between processes, machines and SLURM jobs.

A lease is a small file, created whole by a hard link, whose time of change its holder's thread renews (the heartbeat). It is
free again when its holder is known to be gone (a process of this machine that has ended, an earlier start of the same SLURM
job), else when its heartbeat is older than `WINDOW`. Ages are differences of two times of the file system, so that clocks of
machines do not matter.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

log = logging.getLogger(__name__)

WINDOW = 120.0  # seconds without a heartbeat after which a holder on another machine counts as gone
BEAT = WINDOW / 6  # seconds between heartbeats


class BusyError(RuntimeError):
    """Another process is doing this piece of work."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as its file says, and how long ago it was heard of."""

    content: dict[str, Any]
    age: float  # seconds since the last heartbeat, by the clock of the file system

    @property
    def alive(self) -> bool:
        """Whether the holder may still be working."""
        if self.content.get("host") == _host():
            return _runs(self.content)
        mine = _job()
        if mine["job"] and self.content.get("job") == mine["job"] and self.content.get("restarts") != mine["restarts"]:
            return False  # SLURM starts a job again only when its earlier start has ended
        return abs(self.age) < WINDOW  # from the future: the clock was set back, and nobody has renewed it since


class Lease:
    """The file of a piece of work. `take` it, `held` before publishing, `release` it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1
        self._stop = threading.Event()

    def take(self) -> bool:
        """Take the lease; False if somebody who may be alive has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(3):  # again only when a dead holder's file was in the way
            if self._create():
                threading.Thread(target=self._beat, daemon=True, name=f"lease {self.path.name}").start()
                return True
            there = holder(self.path)
            if there is not None and there.alive:
                return False
            if there is not None:
                self._remove(there)
        return False

    def _create(self) -> bool:
        scratch = self.path.with_name(f".{self.path.name}.{secrets.token_hex(6)}")
        self._file = os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        try:
            os.write(self._file, json.dumps(_me()).encode())
            try:
                os.link(scratch, self.path)  # atomic on network file systems too
            except FileExistsError:
                if os.fstat(self._file).st_nlink == 2:  # the answer of a file server was lost and it tried again
                    return True
                os.close(self._file)
                return False
            except OSError:  # no hard links here, as on FAT and some network disks
                return self._create_in_place()
            return True
        finally:
            scratch.unlink(missing_ok=True)

    def _create_in_place(self) -> bool:
        """Create the lease under its own name. For an instant it names no holder, and its age alone says that there is one."""
        os.close(self._file)
        try:
            self._file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        except FileExistsError:
            return False
        os.write(self._file, json.dumps(_me()).encode())
        return True

    def _remove(self, dead: Holder) -> None:
        """Move a dead holder's file out of the way, and put it back if it is not the one that was looked at."""
        aside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(6)}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        moved = holder(aside)
        if moved is not None and moved.content.get("token") != dead.content.get("token"):
            try:
                os.link(aside, self.path)
            except OSError:
                log.warning("%s: its holder has lost it to another process", self.path)
        aside.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                os.utime(self._file)  # of the open file: never of one that somebody else has put in its place
            except OSError as error:
                log.warning("%s: no heartbeat: %s", self.path, error.strerror)

    def held(self) -> bool:
        """Whether the file at the lease's path is still ours."""
        try:
            return os.path.samestat(os.fstat(self._file), self.path.stat())
        except OSError:
            return False

    def check(self) -> None:
        """BusyError unless the lease is still ours: ask before publishing."""
        if not self.held():
            raise BusyError(f"{self.path.name}: another process took this over while this one was silent")

    def release(self) -> None:
        """Give the lease back."""
        self._stop.set()
        if self.held():
            self.path.unlink(missing_ok=True)
        os.close(self._file)


@contextmanager
def leased(path: Path) -> Iterator[Lease | None]:
    """Hold a lease for a block; yields None if somebody else has it."""
    lease = Lease(path)
    if not lease.take():
        yield None
        return
    try:
        yield lease
    finally:
        lease.release()


@contextmanager
def waiting(path: Path, poll: float = 0.2) -> Iterator[Lease]:
    """Hold a lease for a block, waiting as long as somebody else has it; asks every `poll` seconds, later less often."""
    pause = poll
    while True:
        with leased(path) as lease:
            if lease is not None:
                yield lease
                return
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


def holder(path: Path, now: float | None = None) -> Holder | None:
    """Return who holds a lease, dead or alive; None if nobody does. `now`: see `clock`, for those who ask of many."""
    try:
        beat = path.stat().st_mtime
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        content = {}
    try:
        return Holder(content if isinstance(content, dict) else {}, (clock(path.parent) if now is None else now) - beat)
    except FileNotFoundError:
        return None


def clock(folder: Path) -> float:
    """Return the time now by the clock of the file system, seconds since 1970; this machine's if it may not be written to."""
    probe = folder / f".{secrets.token_hex(6)}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink()


@cache
def _host() -> str:
    """Name this machine, this start of it, and the process numbers it counts by (those of a container are its own)."""
    parts = [os.uname().nodename if hasattr(os, "uname") else ""]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(str(Path(path).readlink()) if path.endswith("pid") else Path(path).read_text().strip())
        except OSError:
            continue
    return " ".join(parts)


def _job() -> dict[str, str]:
    """This SLURM job, empty outside of one: its number, array task and rank; and how often it was started again."""
    number = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID") or ""
    index, rank = os.environ.get("SLURM_ARRAY_TASK_ID", ""), os.environ.get("SLURM_PROCID", "0")
    name = f"{number}_{index}.{rank}" if number else ""
    return {"job": name, "restarts": os.environ.get("SLURM_RESTART_COUNT", "0")}


def _me() -> dict[str, Any]:
    process = psutil.Process()
    return {
        "host": _host(),
        "pid": process.pid,
        "born": process.create_time(),  # for versions before the next line
        "birth": birth(process),
        "token": secrets.token_hex(8),
        **_job(),
    }


def birth(process: psutil.Process) -> float:
    """When a process began, in seconds; on Linux since the machine started, so that setting its clock changes nothing."""
    began: float = process.create_time()
    return began - psutil.boot_time() if sys.platform == "linux" else began


def _born(process: psutil.Process, content: dict[str, Any]) -> bool:
    return abs(process.create_time() - float(content["born"])) < 1


def _runs(content: dict[str, Any]) -> bool:
    """Whether the process that a lease of this machine names is there."""
    try:
        process = psutil.Process(int(content["pid"]))
        same = abs(birth(process) - float(content["birth"])) < 1 if "birth" in content else _born(process, content)
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
