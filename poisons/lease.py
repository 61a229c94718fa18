"""Leases: who is doing a piece of work, told by files alone, so that they hold between processes, machines and SLURM jobs.

A lease is a small file, created whole by a hard link, whose time of change its holder's thread renews (the heartbeat). It is
free again when its holder is known to be gone (a process of this machine that has ended, an earlier start of the same SLURM
job), else when its heartbeat is older than `WINDOW`. Ages are differences of two times of the file system, so that clocks of
machines do not matter.

A machine that sees the folder over a network may think for a minute that a file is absent which another has written, and so
do a piece of work that is done. Links ask the file server. Hence a lease may outlast its work (`finish`): for `WINDOW` more,
other machines are refused it.
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
        if self.finished:
            return False
        if self._here:
            return _runs(self.content)
        return self._recent and not self._earlier_start

    @property
    def finished(self) -> bool:
        """Whether the holder has published its work."""
        return bool(self.content.get("finished"))

    @property
    def unseen(self) -> bool:
        """Whether the holder has published its work so lately that this machine may not see it yet."""
        return self.finished and self._recent and not self._here

    @property
    def outlived(self) -> bool:
        """Whether the holder has published its work so long ago that every machine sees it."""
        return self.finished and not self._recent

    @property
    def _here(self) -> bool:
        return bool(self.content.get("host") == _host())

    @property
    def _recent(self) -> bool:
        return abs(self.age) < WINDOW  # from the future: the clock was set back, and nobody has renewed it since

    @property
    def _earlier_start(self) -> bool:
        """Whether the holder is an earlier start of this SLURM job.

        SLURM starts a job again when its earlier start has ended, or when it does not reach the node of that start any more:
        then both are at work, and the later one has the right to all that the earlier one holds, but not the other way round.
        """
        mine, restarts = _job(), str(self.content.get("restarts"))
        same = bool(mine["job"]) and self.content.get("job") == mine["job"]
        return same and restarts.isdecimal() and int(restarts) < int(mine["restarts"])


class Lease:
    """The file of a piece of work. `take` it, `check` before publishing, `finish` where others may not see it, `release` it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content: dict[str, Any] = {}
        self._file = -1
        self._stop = threading.Event()

    def take(self, *, anew: bool = False) -> bool:
        """Take the lease; False if somebody who may be alive has it, or has finished the work and it may not be seen here.

        `anew`: the work is to be done whether or not it is finished, so that nothing needs to be seen.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(3):  # again only when a dead holder's file was in the way
            if self._create():
                threading.Thread(target=self._beat, daemon=True, name=f"lease {self.path.name}").start()
                return True
            there = holder(self.path)
            if there is None:
                continue
            if there.alive or (there.unseen and not anew):
                return False
            remove(self.path, there)
        return False

    def _create(self) -> bool:
        scratch = self.path.with_name(f".{self.path.name}.{secrets.token_hex(6)}")
        self._file = os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        try:
            self._content = _me()
            os.write(self._file, json.dumps(self._content).encode())
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
        os.write(self._file, json.dumps(self._content).encode())
        return True

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                os.utime(self._file)  # of the open file: never of one that somebody else has put in its place
            except OSError as error:
                log.warning("%s: no heartbeat: %s", self.path, error.strerror)

    def held(self) -> bool:
        """Whether the file at the lease's path is still ours."""
        try:
            return self._is_ours()
        except OSError:
            return False

    def lost(self) -> bool:
        """Whether the file at the lease's path is somebody else's by now; where nothing can be read there, nobody has it."""
        try:
            return not self._is_ours()
        except OSError:
            return False

    def _is_ours(self) -> bool:
        with self.path.open("rb") as there:  # opened, for that asks the file server; `stat` is answered from memory
            return os.path.samestat(os.fstat(self._file), os.fstat(there.fileno()))

    def check(self) -> None:
        """BusyError unless the lease is still ours: ask before publishing."""
        if not self.held():
            raise BusyError(f"{self.path.name}: another process took this over while this one was silent")

    def finish(self) -> None:
        """Say that the work is published. Until `WINDOW` after its release, the lease is refused to other machines."""
        self._content["finished"] = True

    def release(self) -> None:
        """Give the lease back."""
        self._stop.set()
        if "finished" in self._content:
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, json.dumps(self._content).encode())
        elif self.held():
            self.path.unlink(missing_ok=True)
        os.close(self._file)


def remove(path: Path, gone: Holder) -> None:
    """Move the file of a holder that is gone out of the way, and put it back if it is not the one that was looked at."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    moved = holder(aside)
    if moved is not None and moved.content.get("token") != gone.content.get("token"):
        try:
            os.link(aside, path)
        except OSError:
            log.warning("%s: its holder has lost it to another process", path)
    aside.unlink(missing_ok=True)


@contextmanager
def leased(path: Path, *, anew: bool = False) -> Iterator[Lease | None]:
    """Hold a lease for a block; yields None if somebody else has it. `anew`: see `Lease.take`."""
    lease = Lease(path)
    if not lease.take(anew=anew):
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
        with path.open(encoding="utf-8") as file:
            beat = os.fstat(file.fileno()).st_mtime
            content = json.load(file)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        content = {}
    try:
        return Holder(content if isinstance(content, dict) else {}, (clock(path.parent) if now is None else now) - beat)
    except FileNotFoundError:
        return None


def clear(folder: Path) -> None:
    """Remove the leases of a folder that outlived their work, as far as this user may."""
    now = clock(folder)
    for path in folder.glob("[!.]*.lock"):
        there = holder(path, now)
        if there is not None and there.outlived:
            with suppress(OSError):
                remove(path, there)


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
