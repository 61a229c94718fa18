"""Where a number comes from: the code, the libraries and the device that made it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from results import Record

if TYPE_CHECKING:
    from benchmark.grid import Task

PACKAGES = ("benchmark", "leaderboard", "poisons", "registry", "results")
ENDINGS = {".py", ".toml", ".csv", ".html", ".md", ".tex", ".css", ".js"}
DATA = {"cache", "records", "site", "__pycache__"}  # folders of data inside the packages
SUBMITTED = "commit.json"  # in a copy of the code made for cluster jobs, instead of .git
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")


@cache
def tree() -> str:
    """Return the sha256 over names and contents of the five packages' files; the same in a checkout and in a wheel."""
    root = Path(__file__).parent.parent
    whole = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*"), key=lambda p: p.relative_to(root).as_posix()):
            inside = path.relative_to(root)
            if path.suffix in ENDINGS and path.is_file() and not DATA.intersection(inside.parts[1:-1]):
                whole.update(f"{inside.as_posix()}\0".encode())
                whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


@cache
def commit() -> str:
    """Return the commit of a checkout, with -dirty where the packages' files differ from it; '' elsewhere."""
    root = Path(__file__).parent.parent
    if (root / SUBMITTED).exists():
        return str(json.loads((root / SUBMITTED).read_text()))
    if not (root / ".git").exists():
        return ""
    head = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", *PACKAGES, "pyproject.toml")
    return head + ("-dirty" if head and changed else "")


def _git(root: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""


@cache
def versions() -> dict[str, str]:
    """Return the versions of python and of the libraries that a result depends on."""
    found = {"python": platform.python_version(), "unlearnable-bench": importlib.metadata.version("unlearnable-bench")}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def device_name(device: str) -> str:
    """Return the device in words: its type and what the system calls it."""
    if device.startswith("cuda"):
        import torch

        return f"cuda: {torch.cuda.get_device_name(device)}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "cpu: " + next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return f"cpu: {platform.processor() or platform.machine()}"


def not_applicable(task: Task, reason: str) -> Record:
    """Return the record of a cell that cannot be run on its data."""
    found = versions() | task.versions()
    return Record(id=task.cell.id, cell=task.cell, state="not-applicable", reason=reason, versions=found, **stamp(task))


class Stamp(TypedDict):
    """The fields of a record that say which code made it, how to repeat it, and when."""

    tree: str
    commit: str
    command: str
    finished: str


def stamp(task: Task) -> Stamp:
    """Return the stamp of a cell that ends now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Stamp(tree=tree(), commit=commit(), command=f"bench run --cell {task.cell.id}", finished=now)
