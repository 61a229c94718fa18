"""A stand-in for a network disk: what a machine saw absent stays absent to it for seconds, whatever others write meanwhile.

So do clients of NFS and other file servers answer `stat`, `open` and listings, each machine from its own memory. What makes or
moves a name is asked of the server: `link`, `mkdir`, `rename`, exclusive creation. A refusal of the first two and the last
makes a machine forget that it saw the name absent. Standard library alone: `sitecustomize` of a process may import it.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any


class Machine:
    """What a machine remembers of names below `root`; every process, and every thread of it, is a machine of its own."""

    def __init__(self, root: str, seconds: float) -> None:
        self.root, self.seconds = os.path.realpath(root), seconds
        self.memory = threading.local()

    @property
    def absent(self) -> dict[str, float]:
        """Until when each name is thought absent."""
        if not hasattr(self.memory, "absent"):
            self.memory.absent = {}
        found: dict[str, float] = self.memory.absent
        return found

    def key(self, path: Any, options: dict[str, Any]) -> str:
        """The name of what a call is about; '' where it is none of ours, or told by an open folder."""
        if isinstance(path, int) or any(options.get(name) is not None for name in ("dir_fd", "src_dir_fd", "dst_dir_fd")):
            return ""
        text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        return text if f"{text}{os.sep}".startswith(self.root + os.sep) else ""

    def recall(self, key: str) -> None:
        """FileNotFoundError if this machine thinks that the file, or a folder on the way to it, is absent."""
        now = time.monotonic()
        while len(key) > len(self.root):
            if self.absent.get(key, 0.0) > now:
                raise FileNotFoundError(2, "No such file or directory", key)
            key = os.path.dirname(key)  # noqa: PTH120

    def remember(self, key: str) -> None:
        """Take the first name on the way to a file that is absent."""
        missing = key
        while len(missing) > len(self.root) and not _there(os.path.dirname(missing)):  # noqa: PTH120
            missing = os.path.dirname(missing)  # noqa: PTH120
        self.absent[missing] = time.monotonic() + self.seconds

    def forget(self, key: str) -> None:
        self.absent.pop(key, None)


LOOKING = ("stat", "lstat", "access", "readlink", "utime", "chmod", "unlink", "remove", "rmdir")
OTHERS = ("open", "link", "mkdir", "rename", "replace", "listdir", "scandir", "uname")
REAL: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in (*LOOKING, *OTHERS)} | {"file": io.open}


def _there(path: str) -> bool:
    try:
        REAL["lstat"](path)
    except OSError:
        return False
    return True


def _looks(machine: Machine, call: Callable[..., Any]) -> Callable[..., Any]:
    """A call that is answered from memory where that says: absent."""

    @functools.wraps(call)
    def looked(path: Any = ".", *rest: Any, **options: Any) -> Any:
        key = machine.key(path, options)
        if not key:
            return call(path, *rest, **options)
        machine.recall(key)
        try:
            return call(path, *rest, **options)
        except FileNotFoundError:
            machine.remember(key)
            raise

    return looked


def _makes(machine: Machine, call: Callable[..., Any]) -> Callable[..., Any]:
    """A call that the server answers: it makes the name `path`."""

    @functools.wraps(call)
    def made(path: Any, *rest: Any, **options: Any) -> Any:
        key = machine.key(path, options)
        if not key:
            return call(path, *rest, **options)
        machine.recall(os.path.dirname(key))  # noqa: PTH120
        try:
            return call(path, *rest, **options)
        finally:
            machine.forget(key)

    return made


def _moves(machine: Machine, call: Callable[..., Any], *, forgets: bool) -> Callable[..., Any]:
    """A call that the server answers: it gives what is at `source` the name `target`; a refusal is `forgets` or no lesson."""

    @functools.wraps(call)
    def moved(source: Any, target: Any, **options: Any) -> Any:
        old, new = machine.key(source, options), machine.key(target, options)
        for key in filter(None, (old, os.path.dirname(new))):  # noqa: PTH120
            machine.recall(key)
        try:
            call(source, target, **options)
        except FileExistsError:
            if forgets:
                machine.forget(new)
            raise
        machine.forget(new)

    return moved


class _Listing:
    """What `scandir` returns, without the names that this machine thinks absent."""

    def __init__(self, machine: Machine, entries: Any) -> None:
        self.machine, self.entries = machine, entries

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        for entry in self.entries:
            if self.machine.absent.get(os.path.abspath(entry.path), 0.0) <= time.monotonic():  # noqa: PTH100
                return entry
        raise StopIteration

    def __enter__(self) -> _Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.entries.close()


def calls(machine: Machine) -> dict[tuple[Any, str], Callable[..., Any]]:
    """The calls of this process as a machine makes them, by module and name."""
    found = {(os, name): _looks(machine, REAL[name]) for name in LOOKING}
    found[os, "mkdir"] = _makes(machine, REAL["mkdir"])
    found[os, "link"] = _moves(machine, REAL["link"], forgets=True)
    found |= {(os, name): _moves(machine, REAL[name], forgets=False) for name in ("rename", "replace")}

    listing = _looks(machine, REAL["scandir"])

    def scandir(path: Any = ".") -> Any:
        entries = listing(path)
        return _Listing(machine, entries) if machine.key(path, {}) else entries

    def listdir(path: Any = ".") -> list[Any]:
        if not machine.key(path, {}):
            return list(REAL["listdir"](path))
        with scandir(path) as entries:
            return [entry.name for entry in entries]

    opened = {True: _makes(machine, REAL["open"]), False: _looks(machine, REAL["open"])}
    files = {True: _makes(machine, REAL["file"]), False: _looks(machine, REAL["file"])}

    def open_(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        return int(opened[bool(flags & os.O_CREAT)](path, flags, *rest, **options))

    def open_file(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return files[not mode.startswith("r")](path, mode, *rest, **options)

    return found | {
        (os, "scandir"): scandir,
        (os, "listdir"): listdir,
        (os, "open"): open_,
        (io, "open"): open_file,
        (builtins, "open"): open_file,
    }


def install(root: str, seconds: float) -> None:
    """Make this process a machine of its own, by another name, that remembers absent names under `root` for seconds."""
    for (module, name), call in calls(Machine(root, seconds)).items():
        setattr(module, name, call)
    system, node, *rest = REAL["uname"]()
    os.uname = lambda: os.uname_result((system, f"{node}-{os.getpid()}", *rest))  # type: ignore[misc]
