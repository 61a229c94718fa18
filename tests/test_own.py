"""Records of ours that come back from a machine without a repository: packed, compared with real commits, taken in."""

import compileall
import copy
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from conftest import BENCH

from unlearnable_bench.benchmark.provenance import PACKAGES, Repository
from unlearnable_bench.leaderboard.publishing.records import published_records
from unlearnable_bench.leaderboard.tables.lookup import look_up
from unlearnable_bench.registry import data, lacking, resolve
from unlearnable_bench.results import FileError, Records, bundle, read_grid
from unlearnable_bench.results.own import pack_own, read_own
from unlearnable_bench.results.record import COMMITS, sha256

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "results" / "records"
DATA = shutil.ignore_patterns("__pycache__", "records", "cache", "site")  # folders of a workspace inside the packages


def git(folder, *arguments):
    """Run git in a folder, as somebody; return what it printed."""
    who = ["-c", "user.name=A. Author", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder, subject):
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", subject)
    return git(folder, "rev-parse", "HEAD")


def tree_in(folder):
    """The tree that the program in a folder gives its records, by the program itself."""
    code = "from unlearnable_bench.benchmark import provenance; print(provenance.tree(), provenance.commit())"
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split(" ")[0]


def bench(clone, *arguments, code=0):
    """Run the `bench` of a clone, in the clone, as `make gpu` says; return (standard output, standard error)."""
    environment = os.environ | {"PYTHONPATH": str(clone)}
    done = subprocess.run([*BENCH, *arguments], capture_output=True, text=True, env=environment, cwd=clone, timeout=300)
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A repository of the program: what it is today, and two commits after it, the last of documents alone."""
    data.load(resolve("datasets", "digits")[0])  # so that fingerprints of records can be compared
    folder = tmp_path_factory.mktemp("history") / "clone"
    for package in ("unlearnable_bench", *PACKAGES):
        shutil.copytree(ROOT / package, folder / package, ignore=DATA)
    git(folder.parent, "init", "-q", str(folder))
    (folder / ".gitignore").write_text("__pycache__/\n.bench/\n/results/records/.*\n/poisons/cache/\n")
    commits = [commit(folder, "Begin")]
    (folder / "registry/defenses/later.py").write_text('"""A defense that came later."""\n')
    commits.append(commit(folder, "Add a defense"))
    (folder / "README.md").write_text("# A clone\n")
    (folder / "results/records").mkdir()
    (folder / "results/records/README.md").write_text("data, no code\n")
    commits.append(commit(folder, "Describe it"))
    compileall.compile_dir(folder, quiet=1)  # once for all clones
    return folder, commits


@pytest.fixture
def clone(history, tmp_path):
    """A copy of that repository, to work in, with its compiled modules; its commits."""
    folder, commits = history
    shutil.copytree(folder, tmp_path / "clone")
    return tmp_path / "clone", commits


QUICK = [cell for cell in read_grid("quick").cells(resolve, lacking) if cell.texts["defense"].startswith("jpeg")]
REAL = {cell.id: json.loads((PUBLISHED / f"{cell.id}.json").read_text()) for cell in QUICK[:3]}


def records_of(folder, tree, commit="", of=REAL):
    """Records as a machine without a repository leaves them: published ones, made by the code of a tree."""
    folder.mkdir(parents=True, exist_ok=True)
    for cell_id, content in of.items():
        (folder / f"{cell_id}.json").write_bytes(bundle.canonical(content | {"tree": tree, "commit": commit}))
    return Records(folder)


def tar_of(folder, tree, **options):
    """The one tar of such records."""
    (path,) = pack_own(records_of(folder / "made", tree, **options), folder)
    return path


def ustar(files, kind=tarfile.REGTYPE):
    """A tar of (name, contents), as a stranger may write it."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            archive.addfile(member, io.BytesIO(content))
    return whole.getvalue()


# Packing


def test_tars_stay_below_their_limit_and_keep_every_byte_of_every_record(tmp_path):
    """A machine's outbox takes files of so many bytes; a record that loses a byte there is another record."""
    records = Records(PUBLISHED)
    ids = sorted(records.ids())[:60]
    tars = pack_own(records, tmp_path, ids, limit=200 << 10)
    assert len(tars) > 1 and all(path.stat().st_size < 200 << 10 for path in tars)
    assert [path.name for path in tars] == [f"records-{n}.tar" for n in range(1, len(tars) + 1)]
    unpacked = {}
    for path in tars:
        with tarfile.open(path) as archive:  # any tar program reads them
            unpacked |= {member.name: archive.extractfile(member).read() for member in archive}
        assert read_own(path).items() <= {name.removesuffix(".json"): data for name, data in unpacked.items()}.items()
    done = [cell_id for cell_id in ids if records.read(cell_id).state == "done"]
    assert unpacked == {f"{cell_id}.json": records.path(cell_id).read_bytes() for cell_id in done}


def test_a_full_tar_keeps_its_bytes_when_more_records_come(tmp_path):
    """Tars are written after every stage, and may be on their way already."""
    records = Records(PUBLISHED)
    ids = sorted(records.ids(), key=lambda cell_id: (records.read(cell_id).finished, cell_id))[:40]
    first = [path.read_bytes() for path in pack_own(records, tmp_path, ids[:30], limit=64 << 10)]
    second = [path.read_bytes() for path in pack_own(records, tmp_path, ids, limit=64 << 10)]
    assert len(second) > len(first) > 1 and second[: len(first) - 1] == first[:-1]


def test_a_record_that_no_tar_can_hold_is_told(tmp_path):
    """Or the machine would be handed back without it, and without a word."""
    with pytest.raises(FileError, match="a tar stays below 2,048; raise the limit"):
        pack_own(Records(PUBLISHED), tmp_path, sorted(REAL), limit=2048)


# Reading


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"", "is empty"),
        (b"hello", "is not a tar"),
        (b"x" * 4096, "is not a tar"),
        (bytes(10240), "holds no record"),
        (ustar([("gpu.json", b"{}")]), "holds no record"),
        (ustar([("records/0123456789abcdef.json", b"{}")]), "expected <16 hexadecimal digits>.json"),
        (ustar([("../0123456789abcdef.json", b"{}")]), "expected <16 hexadecimal digits>.json"),
        (ustar([("/0123456789abcdef.json", b"{}")]), "expected <16 hexadecimal digits>.json"),
        (ustar([("0123456789abcdef.failed.json", b"{}")]), "expected <16 hexadecimal digits>.json"),
        (ustar([("0123456789abcdef.pkl", b"{}")]), "expected <16 hexadecimal digits>.json"),
        (ustar([("a\n\x1b[2J", b"{}")]), r"holds 'a \\\\u001b\[2J'"),
        (ustar([("0123456789abcdef.json", b"")], tarfile.SYMTYPE), "not a regular file"),
        (ustar([("0123456789abcdef.json", b"")], tarfile.LNKTYPE), "not a regular file"),
        (ustar([("0123456789abcdef.json", b"")], tarfile.CHRTYPE), "not a regular file"),
        (ustar([("0123456789abcdef.json", b"")], tarfile.DIRTYPE), "not a regular file"),
        (ustar([("0123456789abcdef.json", b"")], tarfile.XHDTYPE), "not a regular file"),
        (ustar([("0123456789abcdef.json", b"")], tarfile.GNUTYPE_SPARSE), "not a regular file"),
        (ustar([("0123456789abcdef.json", b"{}")] * 2), "twice"),
        (ustar([("0123456789abcdef.json", bytes(bundle.MOST_RECORD_BYTES + 1))]), "has 1,048,577 bytes"),
        (ustar([("0123456789abcdef.json", b"{}")])[:600], "copy the whole file again"),
        (ustar([("0123456789abcdef.json", b"{}")])[:1024], "has no end"),
        (ustar([("0123456789abcdef.json", b"{}")]) + b"more", "something behind it"),
        (gzip.compress(ustar([("0123456789abcdef.json", b"{}")]), mtime=0)[:-20], "cannot be read"),
        (gzip.compress(bytes(bundle.MOST_BYTES + 1), mtime=0), "more than 67,108,864 bytes"),
        (b"PK\x03\x04" + bytes(600), "`bench submit` without --own"),
        (b"\x80\x04\x95" + bytes(600), "is not a tar"),
    ],
)
def test_any_other_file_is_refused_in_a_sentence(tmp_path, content, sentence):
    """What comes from elsewhere is data: it writes no path, follows no link, fills no memory, and raises nothing else."""
    path = tmp_path / "records-1.tar"
    path.write_bytes(content)
    with pytest.raises(FileError, match=sentence) as error:
        read_own(path)
    assert str(path) in str(error.value) and "\x1b" not in str(error.value)


def test_a_negative_size_does_not_turn_the_reading_back(tmp_path):
    """Sizes may be written in base 256, with a sign: a reader that believes them goes round for ever."""
    block = bytearray(ustar([("0123456789abcdef.json", b"{}")]))
    block[124:136] = b"\xff" * 11 + b"\x00"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    path = tmp_path / "records-1.tar"
    path.write_bytes(block)
    with pytest.raises(FileError, match="allowed are"):
        read_own(path)


def test_a_folder_or_a_missing_file_is_told(tmp_path):
    """The sentence says what was expected there."""
    for path in (tmp_path, tmp_path / "none.tar"):
        with pytest.raises(FileError, match="expected a tar of records"):
            read_own(path)


def test_what_other_programs_pack_is_read_too(tmp_path):
    """A person who packs two records by hand, compressed, with the report beside them, has done nothing wrong."""
    contents = {cell_id: bundle.canonical(content) for cell_id, content in REAL.items()}
    files = [*((f"{cell_id}.json", content) for cell_id, content in contents.items()), ("gpu.json", b"{}")]
    (tmp_path / "mine.tar.gz").write_bytes(gzip.compress(ustar(files)))
    assert read_own(tmp_path / "mine.tar.gz") == contents


# Commits


def test_a_tree_read_from_git_is_the_one_that_the_program_gives_its_records(history):
    """Two ways to one hash: the files of a checkout, and git's objects. They must never part."""
    folder, commits = history
    here = tree_in(folder)
    repository = Repository(folder)
    assert repository.tree("HEAD") == repository.tree(commits[1]) == here
    assert repository.tree(commits[0]) != here


def test_published_records_have_the_trees_of_the_commits_that_they_name():
    """The search is only as good as the hash: what was written a year ago must be found today."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git here")
    pairs = {(record["tree"], record["commit"]) for record in REAL.values()}
    try:
        found = {(Repository(ROOT).tree(commit), commit) for _, commit in pairs}
    except FileError as error:
        pytest.skip(f"a clone without that history: {error}")
    assert found == pairs


def test_the_search_begins_at_head_ends_at_what_it_seeks_and_is_bounded(history):
    """The latest commit with the code is named; a tree that nobody has costs a bounded look."""
    folder, commits = history
    repository = Repository(folder)
    old, now = repository.tree(commits[0]), repository.tree(commits[2])
    assert repository.find({now}) == repository.find({now}, most=1)
    assert (repository.find({now}).commits, repository.find({now}).looked_at) == ({now: commits[2]}, 1)
    both = repository.find({old, now})
    assert (both.commits, both.looked_at) == ({now: commits[2], old: commits[0]}, 3)
    assert (repository.find({old}, most=2).commits, repository.find({old}, most=2).looked_at) == ({}, 2)
    assert repository.find({"0" * 64}).commits == {}


def test_a_folder_without_git_is_told(tmp_path):
    """The sentence says where the command is to be run."""
    with pytest.raises(FileError, match=r"has no \.git.*in a clone of the repository"):
        Repository(tmp_path).find({"0" * 64})
    git(tmp_path, "init", "-q")
    with pytest.raises(FileError, match="git rev-list failed"):
        Repository(tmp_path).find({"0" * 64})


# Taking in


def test_records_of_a_clean_commit_are_taken_in_byte_for_byte_and_shown_with_it(clone, tmp_path):
    """The whole way: made without a repository, taken in, sealed, and published with the commit that has their code."""
    folder, commits = clone
    tree = Repository(folder).tree(commits[0])
    path = tar_of(tmp_path, tree)
    records = Records(folder / "results/records")

    out, _ = bench(folder, "accept", "--own", str(path), "--dry-run")
    assert "3 new" in out and "kept nothing (--dry-run)" in out and not records.ids()
    answer = json.loads(bench(folder, "accept", "--own", str(path), "--json")[0])
    assert answer["accepted"] and sorted(answer["cells"]["new"]) == sorted(REAL)
    assert answer["commits"] == {tree: commits[0]} and answer["commits_looked_at"] == 3
    for cell_id, content in read_own(path).items():
        assert records.path(cell_id).read_bytes() == content
        assert records.seals()[cell_id] == {sha256(content)}
        assert records.read(cell_id).commit == ""
        assert look_up(records, records.read(cell_id).cell, "").record.commit == commits[0]
    assert (records.folder / COMMITS).read_text() == f"{tree}  {commits[0]}\n"
    assert git(folder, "status", "--porcelain", "results").splitlines(), "what is to be committed is not ignored by git"

    out, _ = bench(folder, "accept", "--own", str(path))
    assert "0 new, 3 same, 0 replaced, 0 kept (3 commits looked at)" in out
    with published_records(records, folder, allow_dirty=False) as made:
        assert {made.records.commit_of(record) for record in made.all} == {commits[0]}
        assert (made.records.folder / COMMITS).read_bytes() == (records.folder / COMMITS).read_bytes()


def test_records_of_code_that_no_commit_has_are_refused_as_a_whole(clone, tmp_path):
    """A number that nobody can measure again: a changed line, or a file that was never added."""
    folder, _ = clone
    clean = tree_in(folder)
    (folder / "registry/defenses/mine.py").write_text('"""Never committed."""\n')
    dirty = tree_in(folder)
    (folder / "registry/defenses/mine.py").unlink()
    assert clean != dirty and Repository(folder).tree("HEAD") == clean
    one, *others = REAL
    made = records_of(tmp_path / "made", clean, of={cell_id: REAL[cell_id] for cell_id in others})
    records_of(tmp_path / "made", dirty, of={one: REAL[one]})
    (path,) = pack_own(made, tmp_path)
    out, error = bench(folder, "accept", "--own", str(path), code=1)
    assert "BAD  commits" in out and f"{path} is refused, nothing of it was kept: record {one} was made by code" in error
    assert dirty[:12] in error and "none of the 3 commits looked at from HEAD has; check out the commit" in error
    assert not Records(folder / "results/records").ids() and not (folder / "results/records" / COMMITS).exists()


def test_a_record_that_is_here_with_another_outcome_is_kept_unless_it_is_stale_or_forced(clone, tmp_path):
    """Two machines differ in the last digits: what is published stays, until somebody says otherwise."""
    folder, _ = clone
    changed, old, _ = REAL
    here = copy.deepcopy(REAL)
    here[changed]["seconds"]["train"] = 1.5
    here[old]["versions"]["protocol:quick"] = "0"
    records = records_of(folder / "results/records", Repository(folder).tree("HEAD"), of=here)
    before = records.path(changed).read_bytes()
    path = tar_of(tmp_path, Repository(folder).tree("HEAD"))
    out, _ = bench(folder, "accept", "--own", str(path))
    assert f"kept  {changed} (" in out and "--force replaces it" in out
    assert "0 new, 1 same, 1 replaced, 1 kept" in out
    contents = read_own(path)
    assert records.path(changed).read_bytes() == before and records.path(old).read_bytes() == contents[old]
    out, _ = bench(folder, "accept", "--own", str(path), "--force")
    assert "0 new, 2 same, 1 replaced, 0 kept" in out and records.path(changed).read_bytes() == contents[changed]


def test_everything_else_of_acceptance_holds_for_our_own(clone, tmp_path):
    """A file on the way from another machine may have been changed by anybody."""
    folder, commits = clone
    tree = Repository(folder).tree("HEAD")
    cell_id = next(iter(REAL))

    def refused(number, **changes):
        made = tmp_path / str(number)
        made.mkdir()
        content = bundle.canonical(REAL[cell_id] | {"tree": tree, "commit": ""} | changes)
        (made / "records-1.tar").write_bytes(ustar([(f"{cell_id}.json", content)]))
        answer = json.loads(bench(folder, "accept", "--own", str(made / "records-1.tar"), "--json", code=1)[0])
        return next(reason for check in answer["checks"] for reason in check["reasons"])

    metrics = REAL[cell_id]["metrics"] | {"test_acc": 0.999, "test_acc_best": 0.999}
    assert "its curve says" in refused(1, metrics=metrics)
    assert "stale" in refused(2, versions=REAL[cell_id]["versions"] | {"protocol:quick": "0"})
    assert "measured by changed code" in refused(3, commit=commits[2] + "-dirty")
    assert "which is not here or has other code" in refused(4, commit=commits[0])
    assert "has the id" in refused(5, id="0" * 16)
    assert not (folder / "results/records" / f"{cell_id}.json").exists()


def test_the_command_says_what_else_is_wrong(clone, tmp_path):
    """One sentence each: no repository, not a tar, options that do not go together."""
    folder, _ = clone
    path = tar_of(tmp_path, Repository(folder).tree("HEAD"))
    assert "leave the bundle" in bench(folder, "accept", "x.zip", "--own", str(path), code=2)[1]
    assert "--force needs --own" in bench(folder, "accept", "x.zip", "--force", code=2)[1]
    assert "expected a tar" in bench(folder, "accept", "--own", "none.tar", code=2)[1]
    shutil.rmtree(folder / ".git")
    assert "has no .git" in bench(folder, "accept", "--own", str(path), code=2)[1]
    assert not Records(folder / "results/records").ids()
