"""Where a number comes from: the code, the libraries and the device that made it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypedDict

from unlearnable_bench.results import FileError, Record

if TYPE_CHECKING:
    from unlearnable_bench.benchmark.task import Task

PACKAGES = ("benchmark", "leaderboard", "poisons", "registry", "results")
HASHED_ENDINGS = {".py", ".toml", ".csv", ".html", ".md", ".tex", ".css", ".js"}
DATA_FOLDERS = {"cache", "records", "site", "__pycache__"}  # folders of data inside the packages
SUBMITTED = "commit.json"  # in a copy of the code made for cluster jobs, instead of .git
MOST_COMMITS = 1000  # of a history, that are searched for one with a given tree
ROOT = Path(__file__).parent.parent  # where the five folders lie: the root of a checkout, or the installed package
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")


@cache
def tree() -> str:
    """Return the sha256 over names and contents of the five packages' files; the same in a checkout and in a wheel."""
    digests: dict[str, bytes] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            name = path.relative_to(ROOT).as_posix()
            if _is_hashed(name) and path.is_file():
                digests[name] = hashlib.sha256(path.read_bytes()).digest()
    return _hash_of(digests)


def _is_hashed(name: str) -> bool:
    """Whether a file of the packages, named from the root, is part of `tree`."""
    path = PurePosixPath(name)
    return path.suffix in HASHED_ENDINGS and not DATA_FOLDERS.intersection(path.parts[1:-1])


def _hash_of(digests: Mapping[str, bytes]) -> str:
    """Return the tree of files, given the sha256 of each by its name."""
    whole = hashlib.sha256()
    for name in sorted(digests):
        whole.update(f"{name}\0".encode())
        whole.update(digests[name])
    return whole.hexdigest()


@cache
def commit() -> str:
    """Return the commit of a checkout, with -dirty where the packages' files differ from it; '' elsewhere."""
    if (ROOT / SUBMITTED).exists():
        return str(json.loads((ROOT / SUBMITTED).read_text()))
    if not (ROOT / ".git").exists():
        return ""
    try:
        head = _git(ROOT, "rev-parse", "HEAD").decode().strip()
        changed = _git(ROOT, "status", "--porcelain", "--", *PACKAGES, "pyproject.toml")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("-dirty" if head and changed else "")


def _git(root: Path, *arguments: str, given: bytes = b"") -> bytes:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout  # noqa: S603


@dataclass(frozen=True)
class Search:
    """What was found of the commits that have given trees."""

    commits: Mapping[str, str]  # by tree
    looked_at: int  # commits


@dataclass
class Repository:
    """The commits of a checkout of the program, read from git's objects: nothing is checked out."""

    root: Path = ROOT
    digests: dict[str, bytes] = field(default_factory=dict)  # sha256 of contents, by git's name of them

    def find(self, trees: set[str], most: int = MOST_COMMITS) -> Search:
        """Find the latest commit of each tree, HEAD first, then those before it, `most` in all. FileError without git."""
        commits: dict[str, str] = {}
        known: dict[tuple[str, ...], str] = {}  # trees, by git's names of the five folders
        looked_at = 0
        for looked_at, (commit, folders) in enumerate(self._history(most), 1):  # noqa: B007  (told at the end)
            if folders not in known:
                known[folders] = self.tree(commit)
            if known[folders] in trees:
                commits.setdefault(known[folders], commit)
            if len(commits) == len(trees):
                break
        return Search(commits, looked_at)

    def tree(self, commit: str) -> str:
        """Return the tree of a commit, as `tree()` returns it in a clean checkout of it. FileError if it is not there."""
        names = dict(self._files(commit))
        unread = sorted(set(names.values()) - self.digests.keys())
        answer = io.BytesIO(self._read("cat-file", "--batch", given="".join(f"{one}\n" for one in unread).encode()))
        for one in unread:
            size = int(answer.readline().split()[-1])  # `<name> blob <bytes>`
            self.digests[one] = hashlib.sha256(answer.read(size)).digest()
            answer.readline()  # the end of a line behind the contents
        return _hash_of({name: self.digests[one] for name, one in names.items()})

    def _history(self, most: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the commits from HEAD on, each with git's names of its five folders."""
        commits = self._read("rev-list", f"--max-count={most}", "HEAD").decode().split()
        wishes = "".join(f"{commit}:{package}\n" for commit in commits for package in PACKAGES)
        folders = self._read("cat-file", "--batch-check=%(objectname)", given=wishes.encode()).decode().splitlines()
        for number, commit in enumerate(commits):
            first = number * len(PACKAGES)
            yield commit, tuple(folders[first : first + len(PACKAGES)])

    def _files(self, commit: str) -> Iterator[tuple[str, str]]:
        """Yield the files of a commit that are part of its tree, each with git's name of its contents."""
        lines = self._read("ls-tree", "-r", "-z", "--full-tree", commit, "--", *PACKAGES).split(b"\0")
        for line in filter(None, lines):
            facts, _, name = line.partition(b"\t")  # `<mode> <kind> <git's name>`
            _, kind, contents = facts.decode().split()
            path = name.decode("utf-8", "surrogateescape")
            if kind == "blob" and _is_hashed(path):
                yield path, contents

    def _read(self, *arguments: str, given: bytes = b"") -> bytes:
        if not (self.root / ".git").exists():
            sentence = "has no .git, and so no commits to compare the code of records with"
            raise FileError(
                f"{self.root} {sentence}; run the command in a clone of the repository, with the program from there"
            )
        try:
            return _git(self.root, *arguments, given=given)
        except OSError as error:
            raise FileError(f"git cannot be started ({error.strerror}); install it, the commits are read by it") from None
        except subprocess.CalledProcessError as error:
            reason = error.stderr.decode(errors="replace").strip().partition("\n")[0]
            raise FileError(f"{self.root}: git {arguments[0]} failed: {reason}") from None


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
