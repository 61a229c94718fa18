"""Where things of the user lie: data sets, and what is remembered between commands."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def data_root() -> Path:
    """Where data sets lie."""
    given = os.environ.get("BENCH_DATA")
    return Path(given).expanduser().absolute() if given else cache_root() / "data"


def cache_root() -> Path:
    """The user's cache directory for this program."""
    return platformdirs.user_cache_path("unlearnable-bench")
