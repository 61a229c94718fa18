"""Where a publication goes: a folder, swapped whole by rename, or a branch of a git repository, by a commit on top of it.

What somebody else wrote is never touched: a folder or a branch that `bench publish` did not make is refused. Of a branch its
other files stay as they are (a CNAME, say), and it is never pushed to by force.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath

from unlearnable_bench.leaderboard.publishing.changes import CHANGES, NUMBERS, read_rows
from unlearnable_bench.results import FileError
from unlearnable_bench.results.record import SUMMARIES, expand_home

SUMS, DESCRIPTION = "SHA256SUMS", "datapackage.json"
OWN_KEY = "unlearnable_bench"  # of the description: tells our publications from other data packages
NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/-]*")
PROTOCOLS = "file:git:http:https:ssh"  # that git may use; `ext::` would run a command
# what git tells its hooks about their repository would lead ours astray
LOCAL = re.compile("GIT_(DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|COMMON_DIR|NAMESPACE|PREFIX)")
# settings of the repository one stands in that say how to reach a remote; a continuous integration keeps its token there
REACH = r"^(http|credential|url|core\.sshcommand|ssh)\.?"


class OvertakenError(Exception):
    """Somebody else published to the place after it was read."""


@dataclass(frozen=True)
class Before:
    """What is at a place: the publication, if any, and the names of files that are not of it."""

    files: Mapping[str, str] = field(default_factory=dict)  # sha256 by name
    others: frozenset[str] = frozenset()
    count: int = 0  # of publications with new numbers; 0 where there is none
    numbers: Sequence[Mapping[str, str]] = ()
    changes: Sequence[Mapping[str, str]] = ()
    commit: str = ""

    def collides(self, name: str) -> bool:
        """Whether a file of ours would take the place of one that is not ours."""
        return name in self.others or any(parent.as_posix() in self.others for parent in PurePosixPath(name).parents)


class Place(ABC):
    """Where to publish. `str` of it is what sentences call it."""

    @abstractmethod
    def look(self) -> Before:
        """Return what is there. FileError where it is not ours, or cannot be reached."""

    @abstractmethod
    def put(self, files: Mapping[str, bytes], before: Before, message: str) -> str:
        """Put all files there in one step. OvertakenError if the place is no longer as it was `before`."""

    def before(self, since: Path | None) -> Before:
        """Return what is there, with the numbers of `since` where it is given."""
        there = self.look()
        if since is None:
            return there
        older = _read(lambda name: (since / name).read_bytes() if (since / name).is_file() else None, str(since))
        if older is None:
            raise FileError(f"{since} holds no publication of `bench publish`; name another folder by --since")
        return replace(there, count=older.count, numbers=older.numbers, changes=older.changes)


def place(text: str) -> Place:
    """Return what `--to` names: `REMOTE#BRANCH`, or a folder. FileError for what cannot be either."""
    remote, mark, branch = text.rpartition("#")
    if mark:
        return Branch.of(remote, branch)
    if "://" in text:
        raise FileError(f"--to {quiet(text)}: an address needs a branch behind it, such as #gh-pages")
    return Folder(expand_home(Path(text)).absolute())


@dataclass(frozen=True)
class Earlier:
    """What an earlier publication says: see `Before`."""

    count: int
    numbers: list[dict[str, str]]
    changes: list[dict[str, str]]


def _read(get: Callable[[str], bytes | None], where: str) -> Earlier | None:
    """Return what a publication says; None where there is none. FileError if it is damaged."""
    try:
        own = json.loads(get(DESCRIPTION) or b"null")
        if not isinstance(own, dict) or not isinstance(own.get(OWN_KEY), dict):
            return None
    except (ValueError, RecursionError):
        return None
    try:
        return Earlier(
            count=int(own[OWN_KEY]["publication"]),
            numbers=read_rows((get("data/numbers.csv") or b"").decode(), NUMBERS),
            changes=read_rows((get("data/changes.csv") or b"").decode(), CHANGES),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(f"the publication in {where} is damaged ({error}); remove it and publish again") from None


def _listed(sums: bytes) -> dict[str, str]:
    """What SHA256SUMS says, by name; lines that we would not have written are left out."""
    lines = (line.partition("  ") for line in sums.decode(errors="replace").splitlines())
    return {name: digest for digest, _, name in lines if NAME.fullmatch(name) and ".." not in PurePosixPath(name).parts}


@dataclass(frozen=True)
class Folder(Place):
    """A folder. The new one is written beside it and takes its place by rename."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def _aside(self) -> Path:
        """Where the old folder is for the instant between two renames."""
        return self.path.parent / f".{self.path.name}.before"

    def look(self) -> Before:
        self._refuse_unusable()
        if (self._aside / DESCRIPTION).is_file():  # a publication was killed there
            self._recover()
        paths = self._paths()
        if not paths:
            return Before()
        older, sums = _read(self._get, str(self.path)), self._get(SUMS)
        if older is None or sums is None:
            raise FileError(
                f"{self.path} holds {len(paths)} files and was not made by `bench publish`; publish to a new or empty folder"
            )
        listed = _listed(sums) | {SUMS: hashlib.sha256(sums).hexdigest()}
        for name, path in sorted(paths.items()):
            self._refuse_foreign(path, listed.get(name, ""))
        files = {name: listed[name] for name in paths}
        return Before(files, count=older.count, numbers=older.numbers, changes=older.changes)

    def _refuse_unusable(self) -> None:
        """FileError if no publication can take the place of what is there."""
        path = self.path
        if path.name in ("", "..") or path == Path.cwd():
            raise FileError(f"{path} cannot be replaced from inside; publish to a folder in it, or from elsewhere")
        if path.is_symlink():
            raise FileError(f"{path} is a link; publish to the folder itself, {path.resolve()}")
        if path.exists() and not path.is_dir():
            raise FileError(f"{path} is a file; publish to a folder")

    def _recover(self) -> None:
        """Finish what a publication that was killed between its two renames left behind."""
        if self.path.exists():
            self._discard()
        else:
            self._aside.rename(self.path)

    def _paths(self) -> dict[str, Path]:
        """The files that are there, by name, links to folders among them."""
        paths: dict[str, Path] = {}
        for root, folders, names in os.walk(self.path):
            links = [folder for folder in folders if (Path(root) / folder).is_symlink()]
            paths |= {(Path(root) / name).relative_to(self.path).as_posix(): Path(root) / name for name in [*names, *links]}
        # `SUMMARIES` is of a `bench report` of the records there; it may be deleted at any time
        return {name: path for name, path in paths.items() if path.name != SUMMARIES}

    def _refuse_foreign(self, path: Path, digest: str) -> None:
        """FileError if a file is not as a publication wrote it; `digest` is what that says of it, '' for nothing."""
        if not digest or path.is_symlink():
            raise FileError(f"{path} was not written by `bench publish`; move it away, or publish to another folder")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise FileError(f"{path} was changed since it was published; remove {self.path}, or publish to another folder")

    def put(self, files: Mapping[str, bytes], before: Before, message: str) -> str:
        path = self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = self._scratch()
        except OSError as error:
            raise FileError(f"cannot write beside {path}: {error.strerror}; publish to another folder") from None
        try:
            scratch.chmod(0o755)
            for name, content in files.items():
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                (scratch / name).write_bytes(content)
            if self.look().files != before.files:
                raise OvertakenError
            if before.files:
                self._swap(scratch)
            else:
                scratch.rename(path)  # there is nothing, or an empty folder
        except OSError as error:
            raise FileError(f"cannot put a folder in the place of {path}: {error.strerror}; publish to another one") from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return ""

    def _swap(self, scratch: Path) -> None:
        try:
            self.path.rename(self._aside)
            scratch.rename(self.path)
        except BaseException:
            if not self.path.exists():
                self._aside.rename(self.path)
            raise
        self._discard()

    def _discard(self) -> None:
        """Remove the old folder, by way of another name: nobody must take half of it for a publication."""
        scratch = self._scratch()
        self._aside.rename(scratch)
        shutil.rmtree(scratch)

    def _scratch(self) -> Path:
        return Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", suffix=".tmp", dir=self.path.parent))

    def _get(self, name: str) -> bytes | None:
        path = self.path / name
        return path.read_bytes() if path.is_file() and not path.is_symlink() else None


@dataclass(frozen=True)
class Branch(Place):
    """A branch of a git repository, by its address. Everything happens in a repository of our own, without hooks or prompts.

    Hooks of the repository that receives are its owner's and run there, on this machine where the address is a path.
    """

    remote: str
    branch: str

    def __str__(self) -> str:
        return f"{quiet(self.remote)}#{self.branch}"

    @classmethod
    def of(cls, remote: str, branch: str) -> Branch:
        """Find the address behind what a user wrote: the name of a remote of this repository, a path, or an address."""
        if shutil.which("git") is None:
            raise FileError("there is no program git, which publishing to a branch needs; install it, or publish to a folder")
        whole = quiet(f"{remote}#{branch}")
        if not remote or remote.startswith("-") or not branch or branch.startswith("-"):
            raise FileError(f"--to {whole!r}: expected REMOTE#BRANCH, such as origin#gh-pages, or a folder without '#'")
        if _git("check-ref-format", f"refs/heads/{branch}").returncode:
            raise FileError(f"--to {whole!r}: git allows no branch of this name")
        named = _git("remote", "get-url", "--push", "--", remote)
        address, base = remote, Path.cwd()
        if named.returncode == 0:
            address = named.stdout.decode().strip()
            base = Path(_git("rev-parse", "--show-toplevel").stdout.decode().strip() or base)
        local = base / expand_home(Path(address))
        if local.exists():
            return cls(str(local), branch)
        if ":" not in address:
            raise FileError(f"--to {whole!r}: expected a remote of this repository, a path or an address before '#'")
        return cls(address, branch)

    def look(self) -> Before:
        with tempfile.TemporaryDirectory(prefix="bench-publish-") as folder:
            return self._look(Path(folder))

    def _look(self, folder: Path) -> Before:
        """Fetch the branch into a new repository in `folder`."""
        self._do(folder, "init", "--quiet", "--bare", "--template=", str(folder))
        heads = self._do(folder, "ls-remote", "--heads", "--", self.remote, f"refs/heads/{self.branch}").decode().splitlines()
        if not any(line.endswith(f"\trefs/heads/{self.branch}") for line in heads):
            return Before()
        self._do(
            folder, "fetch", "--quiet", "--no-tags", "--depth=1", "--", self.remote, f"+refs/heads/{self.branch}:refs/heads/old"
        )
        commit = self._do(folder, "rev-parse", "--verify", "refs/heads/old").decode().strip()
        rows = self._do(folder, "ls-tree", "-r", "-z", "--full-tree", commit).decode(errors="surrogateescape").split("\0")
        blobs: dict[str, str] = {}
        others: set[str] = set()
        for row in filter(None, rows):
            facts, _, name = row.partition("\t")
            mode, _, blob = facts.split(" ")
            if mode == "100644":
                blobs[name] = blob
            else:
                others.add(name)
        content = _Blobs(self, folder, blobs)
        older, sums = _read(content.get, str(self)), content.get(SUMS)
        if older is None or sums is None:
            raise FileError(
                f"{self} holds {len(blobs) + len(others)} files and was not made by `bench publish`; name a new branch"
            )
        ours = {name for name in [*_listed(sums), SUMS] if name in blobs}
        files = {name: hashlib.sha256(text).hexdigest() for name, text in content.all(sorted(ours)).items()}
        return Before(
            files,
            others=frozenset(others | (set(blobs) - ours)),
            count=older.count,
            numbers=older.numbers,
            changes=older.changes,
            commit=commit,
        )

    def put(self, files: Mapping[str, bytes], before: Before, message: str) -> str:
        with tempfile.TemporaryDirectory(prefix="bench-publish-") as name:
            folder = Path(name)
            if self._look(folder).commit != before.commit:
                raise OvertakenError
            self._do(folder, "fast-import", "--quiet", input=_commit(files, before, message))
            commit = self._do(folder, "rev-parse", "--verify", "refs/heads/new").decode().strip()
            arguments = ("push", "--porcelain", "--no-verify", "--", self.remote, f"refs/heads/new:refs/heads/{self.branch}")
            done = _git(*arguments, folder=folder)
            if done.returncode:
                said = done.stdout.decode(errors="replace")
                if re.search(r"\[rejected\]|cannot lock ref|failed to update ref|incorrect old value", said):
                    raise OvertakenError
                refused = re.search(r"\[remote rejected\] \((.*)\)", said)
                raise FileError(f"{self} did not take the commit: {refused[1] if refused else _last(done.stderr)}")
            return commit

    def _do(self, folder: Path, *arguments: str, input: bytes = b"") -> bytes:
        done = _git(*arguments, folder=folder, input=input)
        if done.returncode:
            done_what = "reach" if arguments[0] in ("ls-remote", "fetch") else f"git {arguments[0]} for"
            raise FileError(f"cannot {done_what} {self}: {_last(done.stderr)}; check the address and your access rights")
        return done.stdout


@dataclass(frozen=True)
class _Blobs:
    """Files of a fetched branch, read on demand."""

    branch: Branch
    folder: Path
    ids: Mapping[str, str]

    def get(self, name: str) -> bytes | None:
        return self.all([name])[name] if name in self.ids else None

    def all(self, names: Sequence[str]) -> dict[str, bytes]:
        wanted = "".join(f"{self.ids[name]}\n" for name in names).encode()
        out = self.branch._do(self.folder, "cat-file", "--batch", input=wanted)
        found, start = {}, 0
        for name in names:
            head = out.index(b"\n", start)
            size = int(out[start:head].split()[2])
            found[name] = out[head + 1 : head + 1 + size]
            start = head + 2 + size
        return found


def _commit(files: Mapping[str, bytes], before: Before, message: str) -> bytes:
    """A commit as a stream for `git fast-import`: no work tree, so no filter, line ending or hook of anybody changes a byte."""
    said = message.encode()
    head = f"commit refs/heads/new\ncommitter {_identity()} {int(time.time())} +0000\ndata {len(said)}\n".encode()
    parts = [head, said, b"\n"]
    if before.commit:
        parts.append(f"from {before.commit}\n".encode())
    parts += [f"D {name}\n".encode() for name in sorted(set(before.files) - set(files))]
    for name, content in sorted(files.items()):
        assert NAME.fullmatch(name), name
        parts += [f"M 100644 inline {name}\ndata {len(content)}\n".encode(), content, b"\n"]
    return b"".join(parts)


def _identity() -> str:
    """Name and address of the user as git knows them, else ours."""
    found = []
    for part, ours in (("name", "bench publish"), ("email", "bench@localhost")):
        known = os.environ.get(f"GIT_COMMITTER_{part.upper()}") or _git("config", f"user.{part}").stdout.decode(
            errors="replace"
        )
        found.append(re.sub(r"[<>\x00-\x1f]", "", known).strip() or ours)
    return f"{found[0]} <{found[1]}>"


def _git(*arguments: str, folder: Path | None = None, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run git: in our own bare repository, or without `folder` in the one that the user stands in, only to ask."""
    environment = {name: text for name, text in os.environ.items() if not LOCAL.fullmatch(name)}
    if folder is None:
        return subprocess.run(["git", *arguments], input=input, capture_output=True, env=environment)  # noqa: S603, S607
    environment |= {
        "GIT_DIR": str(folder),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": PROTOCOLS,
        "LC_ALL": "C",
    }
    ssh, reach = _reach(Path.cwd())
    settings = [("core.hooksPath", os.devnull), ("push.gpgSign", "false"), ("gc.auto", "0"), *reach]
    if not {"GIT_SSH", "GIT_SSH_COMMAND"} & set(environment):
        environment["GIT_SSH_COMMAND"] = f"{ssh} -o BatchMode=yes -o ConnectTimeout=30"
    count = int(environment.get("GIT_CONFIG_COUNT") or 0)
    for number, (key, value) in enumerate(settings, count):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    environment["GIT_CONFIG_COUNT"] = str(count + len(settings))
    return subprocess.run(["git", *arguments], input=input, capture_output=True, env=environment)  # noqa: S603, S607


@cache
def _reach(here: Path) -> tuple[str, list[tuple[str, str]]]:
    """How the repository that the user stands in reaches its remotes: the program for ssh, and its settings."""
    ssh = _git("config", "core.sshCommand").stdout.decode().strip() or "ssh"
    rows = _git("config", "--local", "--includes", "-z", "--get-regexp", REACH).stdout.decode(errors="replace").split("\0")
    pairs = (row.partition("\n") for row in rows if row)
    return ssh, [(key, value) for key, _, value in pairs]


def quiet(address: str) -> str:
    """An address without the password that may stand in it, which may hold `/` and `@` itself."""
    return re.sub(r"//\S*@", "//", address)


def _last(errors: bytes) -> str:
    """The last thing that git said, without hints for people at a prompt."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip() and not line.startswith("hint:")]
    told = [line for line in lines if not line.startswith("fatal: Could not read from remote repository")]  # ssh said why
    said = next((line for line in told if line.startswith(("fatal:", "error:"))), (told or ["git did not say why"])[0])
    return quiet(re.sub(r"^(fatal|error): ", "", said.strip()))
