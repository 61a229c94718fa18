"""Where things of the user lie: datasets, what is remembered between commands, and large arrays while they are made."""

from __future__ import annotations

import errno
import math
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

if TYPE_CHECKING:
    import numpy as np

CELLS_PER_GPU = "BENCH_CELLS_PER_GPU"  # variable of the environment: how many processes share the GPU of this one
WORD = r"[\w.@+%=-]+"
OTHER_PATH = re.compile(rf"(?<![\w./~>-])(?:/{WORD}(?: +{WORD}){{0,3}})+/({WORD})")
"""An absolute path of two names or more. A name may have blanks where a slash follows it: too much is hidden rather than too
little, where a sentence goes on with a slash."""
MAP_FROM = 1 << 30  # bytes; larger arrays are mapped to a file, not held in memory


def empty_array(folder: Path, shape: tuple[int, ...], kind: np.dtype[Any]) -> np.ndarray:
    """Return an array to fill: in memory, or mapped to a file of `folder` that has no name, if it is large. OSError."""
    import numpy as np

    size = math.prod(shape) * kind.itemsize
    if size < MAP_FROM:
        return np.empty(shape, kind)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        _take(file.fileno(), size, folder)
        return np.memmap(file, kind, "w+", shape=shape)  # stays open as long as the array lives


def reserve(path: Path) -> None:
    """Take the room of a new file on its disk: a full disk is an OSError now, and no end of the process in the middle of it."""
    with path.open("r+b") as file:
        _take(file.fileno(), os.fstat(file.fileno()).st_size, path)


def _take(file: int, size: int, path: Path) -> None:
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(error.errno, error.strerror, str(path)) from None


def put_in_place(scratch: Path, folder: Path) -> bool:
    """Rename a finished folder into its place; False where another process has put one there, which then counts. OSError.

    The file server decides, whatever this machine saw up to a minute ago.
    """
    while True:
        try:
            scratch.rename(folder)
            return True
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        try:
            folder.mkdir()  # refused too, and with that this machine forgets that it saw no such folder
        except FileExistsError:
            return False
        folder.rmdir()  # removed in between


def data_root() -> Path:
    """Where datasets lie."""
    given = os.environ.get("BENCH_DATA")
    return expand_home(Path(given)).absolute() if given else cache_root() / "data"


def expand_home(path: Path) -> Path:
    """Return a path with the home of `~` or `~user` written out. EntryError where there is no such home."""
    try:
        return path.expanduser()
    except RuntimeError:
        from unlearnable_bench.registry.contract import EntryError  # which needs this module

        raise EntryError(f"{path}: there is no home of this user; write the path out") from None


def cache_root() -> Path:
    """The user's cache directory for this program."""
    return platformdirs.user_cache_path("unlearnable-bench")


def hide_paths(text: str, workspace: Path) -> str:
    """Return a sentence without paths of this machine: `$BENCH_DATA`, `<workspace>`, `~`; of others the last name is left."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  (where there is no home, `~` stays)
    named = {home: "~", workspace: "<workspace>", data_root(): "$BENCH_DATA"}
    named = {folder.resolve(): name for folder, name in named.items()} | named
    named.pop(Path(home.anchor or "/"), None)
    for folder in sorted(named, key=lambda folder: len(folder.parts), reverse=True):  # a data folder may lie in the home
        text = re.sub(rf"(?<![\w.-]){re.escape(str(folder))}(?![\w-])", named[folder], text)
    return OTHER_PATH.sub(r"…/\1", text)
