"""Where things of the user lie: data sets, and what is remembered between commands."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import platformdirs


def reserve(path: Path) -> None:
    """Take the room of a new file on its disk: a full disk is an OSError now, and no end of the process in the middle of it."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise OSError(error.errno, error.strerror, str(path)) from None


def data_root() -> Path:
    """Where data sets lie."""
    given = os.environ.get("BENCH_DATA")
    return Path(given).expanduser().absolute() if given else cache_root() / "data"


def cache_root() -> Path:
    """The user's cache directory for this program."""
    return platformdirs.user_cache_path("unlearnable-bench")
