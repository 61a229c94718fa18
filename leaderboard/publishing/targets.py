"""Where a publication goes: a folder, swapped whole by rename, or a branch of a git repository, by a commit on top of it.

What somebody else wrote is never touched: a folder or a branch that `bench publish` did not make is refused. Of a branch its
other files stay as they are (a CNAME, say), and it is never pushed to by force. Releases, each a publication in a folder of
its own inside the other, stay as they are at either.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from unlearnable_bench.leaderboard.publishing.changes import CHANGES, NUMBERS, read_rows
from unlearnable_bench.leaderboard.publishing.releases import FrozenCopy, own_description
from unlearnable_bench.results import FileError
from unlearnable_bench.results.record import SUMMARIES, expand_home

SUMS, DESCRIPTION = "SHA256SUMS", "datapackage.json"
NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/-]*")
PROTOCOLS = "file:git:http:https:ssh"  # that git may use; `ext::` would run a command
# what git tells its hooks about their repository would lead ours astray
LOCAL = re.compile("GIT_(DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|COMMON_DIR|NAMESPACE|PREFIX)")
# settings of the repository one stands in that say how to reach a remote; a continuous integration keeps its token there
REACH = r"^(http|credential|url|core\.sshcommand|ssh)\.?"
SETTINGS = (("core.hooksPath", os.devnull), ("push.gpgSign", "false"), ("gc.auto", "0"))  # of our own repository
NOISE = ("hint:", "fatal: Could not read from remote repository")  # of git; of the second ssh said why before


class OvertakenError(Exception):
    """Somebody else published to the target after it was read."""


@dataclass(frozen=True)
class Before:
    """What is at a target: the publication, if any, and the names of files that are not of it."""

    files: Mapping[str, str] = field(default_factory=dict)  # sha256 by name
    others: frozenset[str] = frozenset()
    count: int = 0  # of publications with new numbers; 0 where there is none
    numbers: Sequence[Mapping[str, str]] = ()
    changes: Sequence[Mapping[str, str]] = ()
    commit: str = ""
    releases: Mapping[str, FrozenCopy] = field(default_factory=dict)  # by name

    def collides(self, name: str) -> bool:
        """Whether a file of ours would take the place of one that is not ours."""
        path = PurePosixPath(name)
        return any(str(ours) in self.others for ours in (path, *path.parents))


class Target(ABC):
    """Where to publish. `str` of it is what sentences call it."""

    @abstractmethod
    def look(self) -> Before:
        """Return what is there. FileError where it is not ours, or cannot be reached."""

    @abstractmethod
    def put(self, files: Mapping[str, bytes], before: Before, message: str) -> str:
        """Put all files there in one step. OvertakenError if the target is no longer as it was `before`."""

    def before(self, since: Path | None) -> Before:
        """Return what is there, with the numbers of `since` where it is given."""
        before = self.look()
        if since is None:
            return before
        older = _read(lambda name: _content(since / name), str(since))
        if older is None:
            raise FileError(f"{since} holds no publication of `bench publish`; name another folder by --since")
        return replace(before, count=older.count, numbers=older.numbers, changes=older.changes)


def read_target(text: str) -> Target:
    """Return what `--to` names: `REMOTE#BRANCH`, or a folder. FileError for what cannot be either."""
    remote, mark, branch = text.rpartition("#")
    if mark:
        return Branch.of(remote, branch)
    if "://" in text:
        raise FileError(f"--to {quiet(text)}: an address needs a branch behind it, such as #gh-pages")
    return Folder(expand_home(Path(text)).absolute())


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


# What a publication says of itself

Get = Callable[[str], bytes | None]  # the content of a file by its name, None where there is none


@dataclass(frozen=True)
class Earlier:
    """What an earlier publication says: see `Before`."""

    count: int
    numbers: list[dict[str, str]]
    changes: list[dict[str, str]]


@dataclass(frozen=True)
class Predecessor:
    """The publication that is at a target, with the sha256 of its files by name."""

    earlier: Earlier
    sums: Mapping[str, str]

    @classmethod
    def read(cls, get: Get, where: str, files: int, advice: str) -> Predecessor:
        """FileError with the advice where the files are not those of a publication, or are damaged."""
        earlier, sums = _read(get, where), get(SUMS)
        if earlier is None or sums is None:
            raise FileError(f"{where} holds {files} files and was not made by `bench publish`; {advice}")
        return cls(earlier, _whole_list(sums))

    def before(self, files: Mapping[str, str], others: frozenset[str] = frozenset(), commit: str = "") -> Before:
        """What is at the target, with those of its files that are there."""
        earlier = self.earlier
        return Before(
            files,
            others=others,
            count=earlier.count,
            numbers=earlier.numbers,
            changes=earlier.changes,
            commit=commit,
        )


def _read(get: Get, where: str) -> Earlier | None:
    """Return what a publication says; None where there is none. FileError if it is damaged."""
    own = own_description(get(DESCRIPTION))
    if own is None:
        return None
    try:
        return Earlier(
            count=int(own["publication"]),
            numbers=_rows(get("data/numbers.csv"), NUMBERS),
            changes=_rows(get("data/changes.csv"), CHANGES),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(f"the publication in {where} is damaged ({error}); remove it and publish again") from None


def _releases(folders: Iterable[str], get: Get) -> dict[str, FrozenCopy]:
    """The frozen copies among some folders of a publication."""
    copies = [FrozenCopy.read(name, get(f"{name}/{SUMS}") or b"", get(f"{name}/{DESCRIPTION}") or b"") for name in folders]
    return {copy.name: copy for copy in copies if copy}


def _rows(content: bytes | None, columns: tuple[str, ...]) -> list[dict[str, str]]:
    return read_rows((content or b"").decode(), columns)


def _listed(sums: bytes) -> dict[str, str]:
    """What SHA256SUMS says, by name; lines that we would not have written are left out."""
    lines = [line.partition("  ") for line in sums.decode(errors="replace").splitlines()]
    return {name: digest for digest, _, name in lines if _is_name(name)}


def _whole_list(sums: bytes) -> dict[str, str]:
    """The same with SHA256SUMS itself."""
    return _listed(sums) | {SUMS: _digest(sums)}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _top(name: str) -> str:
    """The folder of a publication that a file is in, or the file itself."""
    return name.partition("/")[0]


def _is_name(name: str) -> bool:
    """Whether a file of ours may have this name: none that leads out of its folder."""
    return NAME.fullmatch(name) is not None and ".." not in PurePosixPath(name).parts


@dataclass(frozen=True)
class Folder(Target):
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
        predecessor = Predecessor.read(self._get, str(self), len(paths), "publish to a new or empty folder")
        releases = _releases({_top(name) for name in paths if "/" in name}, self._get)
        sums = dict(predecessor.sums)
        for release in releases:
            sums |= self._sums_of(release)
        for name, path in sorted(paths.items()):
            self._refuse_foreign(path, sums.get(name, ""))
        before = predecessor.before({name: sums[name] for name in paths if _top(name) not in releases})
        return replace(before, releases=releases)

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
            for name in {*names, *links} - {SUMMARIES}:  # of a `bench report` of the records there; may be deleted at any time
                path = Path(root) / name
                paths[path.relative_to(self.path).as_posix()] = path
        return paths

    def _sums_of(self, release: str) -> dict[str, str]:
        """The sha256 of the files of a release, by their names here."""
        listed = _whole_list((self.path / release / SUMS).read_bytes())
        return {f"{release}/{name}": digest for name, digest in listed.items()}

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
            now = self.look()
            if (now.files, now.releases) != (before.files, before.releases):
                raise OvertakenError
            for release in before.releases:
                shutil.copytree(path / release, scratch / release)
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
        return None if path.is_symlink() else _content(path)


@dataclass(frozen=True)
class Branch(Target):
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
        if not (_is_argument(remote) and _is_argument(branch)):
            raise FileError(f"--to {whole!r}: expected REMOTE#BRANCH, such as origin#gh-pages, or a folder without '#'")
        if _ask("check-ref-format", f"refs/heads/{branch}").returncode:
            raise FileError(f"--to {whole!r}: git allows no branch of this name")
        named = _ask("remote", "get-url", "--push", "--", remote)
        address, base = remote, Path()
        if named.returncode == 0:
            address = named.stdout.decode().strip()
            base = Path(_ask("rev-parse", "--show-toplevel").stdout.decode().strip())
        local = Path.cwd() / base / expand_home(Path(address))
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
        ref = f"refs/heads/{self.branch}"
        self._do(folder, "init", "--quiet", "--bare", "--template=", str(folder))
        heads = self._do(folder, "ls-remote", "--heads", "--", self.remote, ref).decode()
        if f"\t{ref}\n" not in heads:
            return Before()
        self._do(folder, "fetch", "--quiet", "--no-tags", "--depth=1", "--", self.remote, f"+{ref}:refs/heads/old")
        commit = self._do(folder, "rev-parse", "--verify", "refs/heads/old").decode().strip()
        blobs = self._blobs(folder, commit)
        names = blobs.ids.keys()
        predecessor = Predecessor.read(blobs.get, str(self), len(names | blobs.others), "name a new branch")
        ours = names & predecessor.sums.keys()
        files = {name: _digest(content) for name, content in blobs.all(sorted(ours)).items()}
        before = predecessor.before(files, blobs.others | (names - ours), commit)
        folders = {_top(name) for name in names if name.endswith(f"/{SUMS}")}
        return replace(before, releases=_releases(folders, blobs.get))

    def _blobs(self, folder: Path, commit: str) -> _Blobs:
        """The files of a fetched commit."""
        rows = self._do(folder, "ls-tree", "-r", "-z", "--full-tree", commit).decode(errors="surrogateescape")
        ids: dict[str, str] = {}
        others: set[str] = set()
        for mode, blob, name in re.findall(r"(\S+) \S+ (\S+)\t([^\0]+)\0", rows):
            if mode == "100644":
                ids[name] = blob
            else:
                others.add(name)
        return _Blobs(self, folder, ids, frozenset(others))

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
    ids: Mapping[str, str]  # of plain files, by name
    others: frozenset[str]  # names of links and of files that can be run

    def get(self, name: str) -> bytes | None:
        return self.all([name])[name] if name in self.ids else None

    def all(self, names: Sequence[str]) -> dict[str, bytes]:
        ids = "".join(f"{self.ids[name]}\n" for name in names).encode()
        out = self.branch._do(self.folder, "cat-file", "--batch", input=ids)
        contents, start = {}, 0
        for name in names:
            head = out.index(b"\n", start)
            size = int(out[start:head].split()[2])
            contents[name] = out[head + 1 : head + 1 + size]
            start = head + 2 + size
        return contents


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
    name = _known_of_user("name") or "bench publish"
    return f"{name} <{_known_of_user('email') or 'bench@localhost'}>"


def _known_of_user(part: str) -> str:
    variable = os.environ.get(f"GIT_COMMITTER_{part.upper()}", "")
    text = variable or _ask("config", f"user.{part}").stdout.decode(errors="replace")
    return re.sub(r"[<>\x00-\x1f]", "", text).strip()


def _ask(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Ask git in the repository that the user stands in; nothing is written there."""
    return subprocess.run(["git", *arguments], input=b"", capture_output=True, env=_environment())  # noqa: S603, S607


def _git(*arguments: str, folder: Path, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run git in our own bare repository in `folder`."""
    environment = _environment() | {
        "GIT_DIR": str(folder),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": PROTOCOLS,
        "LC_ALL": "C",
    }
    reach = _reach(Path.cwd())
    if not {"GIT_SSH", "GIT_SSH_COMMAND"} & set(environment):
        environment["GIT_SSH_COMMAND"] = f"{reach.ssh} -o BatchMode=yes -o ConnectTimeout=30"
    environment |= _settings(int(environment.get("GIT_CONFIG_COUNT") or 0), [*SETTINGS, *reach.settings])
    return subprocess.run(["git", *arguments], input=input, capture_output=True, env=environment)  # noqa: S603, S607


def _environment() -> dict[str, str]:
    """The environment without what leads git to another repository."""
    return {name: text for name, text in os.environ.items() if not LOCAL.fullmatch(name)}


def _settings(count: int, settings: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Settings of git as environment variables, behind the `count` that are there."""
    variables = {"GIT_CONFIG_COUNT": str(count + len(settings))}
    for number, (key, value) in enumerate(settings, count):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


class Reach(NamedTuple):
    """How a repository reaches its remotes: the program for ssh, and its settings."""

    ssh: str
    settings: Sequence[tuple[str, str]]


@cache
def _reach(here: Path) -> Reach:
    """How the repository that the user stands in reaches its remotes."""
    ssh = _ask("config", "core.sshCommand").stdout.decode().strip() or "ssh"
    rows = _ask("config", "--local", "--includes", "-z", "--get-regexp", REACH).stdout.decode(errors="replace")
    return Reach(ssh, re.findall(r"([^\n\0]+)\n?([^\0]*)\0", rows))  # a setting without a value has no line end


def quiet(address: str) -> str:
    """An address without the password that may stand in it, which may hold `/` and `@` itself."""
    return re.sub(r"//\S*@", "//", address)


def _is_argument(text: str) -> bool:
    """Whether git takes a text for an argument: an empty one is none, and `-` begins an option."""
    return text[:1] not in ("", "-")


def _last(errors: bytes) -> str:
    """The last thing that git said, without hints for people at a prompt."""
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines()]
    told = [line for line in lines if line and not line.startswith(NOISE)]
    complaints = [line for line in told if line.startswith(("fatal:", "error:"))]
    first, *_ = (*complaints, *told, "git did not say why")
    return quiet(re.sub(r"^(fatal|error): ", "", first))
