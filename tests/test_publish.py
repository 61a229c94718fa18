"""Publishing to folders and to branches of real repositories, and the server for a look, with real requests."""

import csv
import gzip
import hashlib
import http.client
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
import tomllib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import html5lib
import pytest
import yaml
from conftest import BENCH, call_bench, in_process
from hypothesis import given
from hypothesis import strategies as st
from test_leaderboard import Tags, cells, fill, made, record
from test_submissions import marked

from unlearnable_bench.leaderboard.formats.text import csv_text
from unlearnable_bench.leaderboard.pages.build import ShownTables, changelog
from unlearnable_bench.leaderboard.publishing import changes, publication, releases, targets
from unlearnable_bench.leaderboard.publishing.description import COLUMNS
from unlearnable_bench.leaderboard.publishing.records import published_records
from unlearnable_bench.leaderboard.publishing.serve import Server
from unlearnable_bench.leaderboard.publishing.targets import Folder, read_target
from unlearnable_bench.leaderboard.tables.lookup import look_up
from unlearnable_bench.registry._paths import hide_paths
from unlearnable_bench.results import FileError, Records
from unlearnable_bench.results.record import Failure

ROOT = Path(__file__).parent.parent


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace with the 18 records of a small grid; its site is one board without pages of entries, made at once."""
    space = tmp_path / "workspace"
    (space / "results" / "records").mkdir(parents=True)
    fill(Records(space / "results" / "records"))
    monkeypatch.setattr(ShownTables, "_all", classmethod(lambda cls, records: cls([made(records)], True)))
    monkeypatch.setattr("unlearnable_bench.leaderboard.pages.site.KINDS", ())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return space


def go(where, workspace, **options):
    """Publish the records of a workspace; return the outcome."""
    return publication.publish(read_target(str(where)), records_of(workspace), workspace, **options)[0]


def records_of(workspace):
    return Records(workspace / "results" / "records")


def measure(workspace, attack, defense, seed, accuracy):
    """Measure a cell again, with another result."""
    records_of(workspace).write(record(cells()[attack, defense, seed], accuracy), replace=True)


def everything(folder):
    """The contents of all files of a folder, by name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def table(text):
    return list(csv.DictReader(io.StringIO(text.decode() if isinstance(text, bytes) else text)))


def git(folder, *arguments):
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def hub(tmp_path):
    """A repository of others, as a hosting service keeps it."""
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "hub.git"], check=True)
    return tmp_path / "hub.git"


def branch_of(hub, branch, name="clone"):
    """The files of a branch, in a clone of it."""
    folder = hub.parent / name
    shutil.rmtree(folder, ignore_errors=True)
    git(hub.parent, "clone", "--quiet", "--branch", branch, hub, folder)
    return folder


def push(hub, branch, **files):
    """What somebody else does: change files of a branch and push, from a clone of their own."""
    there = branch in git(hub, "branch", "--format=%(refname:short)").splitlines()
    clone = branch_of(hub, branch, "theirs") if there else hub.parent / "new"
    if not there:
        git(hub.parent, "init", "--quiet", "-b", branch, clone)
        git(clone, "remote", "add", "origin", hub)
    for name, text in files.items():
        (clone / name.replace("_", ".")).write_text(text)
    git(clone, "add", "--all")
    git(clone, "-c", "user.name=Somebody", "-c", "user.email=s@x", "commit", "--quiet", "-m", "theirs")
    git(clone, "push", "--quiet", "origin", branch)


WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text())


def steps(job):
    return WORKFLOW["jobs"][job]["steps"]


# What is in a publication

WITHOUT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split():
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocked())
from unlearnable_bench.benchmark.cli import app
app(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The real site of a small workspace, published by the command itself: the folder and what `--json` said.

    It runs with nothing but the packages that the workflow of GitHub Pages installs.
    """
    space = tmp_path_factory.mktemp("whole")
    records = Records(space / "results" / "records")
    records.folder.mkdir(parents=True)
    fill(records)
    lost = cells()["ops", "bdr", 1]
    records.path(lost.id).unlink()
    log = str(space / "logs" / "1.log")
    records.fail(Failure(id=lost.id, cell=lost, kind="out-of-memory", message=f"no file {space}/x", attempts=2, log=log))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    install = next(step["run"] for step in steps("build") if "pip install" in step.get("run", ""))
    wanted = {re.split("[<>=!~]", one)[0] for one in [*project["dependencies"], "simplejpeg", "diffusers", "safetensors"]}
    names = {"scikit-learn": "sklearn", "pillow": "PIL"}
    rest = " ".join(names.get(name, name) for name in wanted - set(install.split()))
    assert "torch" in rest.split()
    arguments = ("publish", "--to", space / "out", "--json", "--workspace", space)
    said = json.loads(in_process(WITHOUT, rest, *arguments, XDG_CACHE_HOME=str(space / "cache")))
    return space / "out", said, space


MESSAGES = {
    "no file DATA/cifar10/data_batch_1": "no file $BENCH_DATA/cifar10/data_batch_1",
    "no file 'SPACE/poisons/cache/x/images.npy'": "no file '<workspace>/poisons/cache/x/images.npy'",
    "see HOME/notes, SPACE and DATA.": "see ~/notes, <workspace> and $BENCH_DATA.",
    "disk:HOME/notes;DATA": "disk:~/notes;$BENCH_DATA",
    "/mnt/patients/train/a/7.png is no image": "…/7.png is no image",
    "cannot read '/mnt/my old patients/Ada L/a set/7.png'": "cannot read '…/7.png'",
    "look in /mnt/Ada L/train and /mnt/set b/test too": "look in …/train and …/test too",
    "cannot link (/opt/site-packages/torch/lib.so)": "cannot link (…/lib.so)",
    "HOMEs/x, /mntDATA and SPACE-old/y are others": "…/x, …/data and ~/space-old/y are others",
    "spent 9/255 of linf, and/or https://host/a/b": "spent 9/255 of linf, and/or https://host/a/b",
}


@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_of_a_failure_is_published_without_the_paths_of_this_machine(message, tmp_path, monkeypatch):
    """`$BENCH_DATA` was printed on pages and in publications; on pages home and workspace, too."""
    home = tmp_path / "home"
    data, space = home / "data", home / "space"
    records = Records(space / "results" / "records")
    records.folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("BENCH_DATA", str(data))
    fill(records)
    lost = cells()["ops", "bdr", 1]
    records.path(lost.id).unlink()
    said = message.replace("DATA", str(data)).replace("SPACE", str(space)).replace("HOME", str(home))
    records.fail(Failure(id=lost.id, cell=lost, kind="disk", message=said))
    assert look_up(records, lost, "").reason == f"disk: {MESSAGES[message]}"
    with published_records(records, space, False) as made:
        assert made.records.failure(lost.id).message == MESSAGES[message]
    assert hide_paths(MESSAGES[message], space) == MESSAGES[message], "once is enough"


def test_a_folder_that_is_a_link_is_hidden_by_either_name(tmp_path, monkeypatch):
    """Messages have the one or the other; the root of the disk is nobody's home."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "link"))
    monkeypatch.setenv("HOME", "/")
    assert hide_paths(f"{tmp_path}/link/a, {tmp_path}/disk/a, /tmp", Path("/")) == "$BENCH_DATA/a, $BENCH_DATA/a, /tmp"


def test_a_publication_holds_the_site_and_the_data_behind_it_and_its_checksums_hold(whole):
    """Somebody with nothing but the folder must be able to check it, to reuse it and to cite it."""
    folder, said, space = whole
    files = everything(folder)
    assert subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder).returncode == 0
    assert len(files["SHA256SUMS"].splitlines()) == len(files) - 1 == said["files"] - 1
    assert {"index.html", ".nojekyll", "README.md", "CITATION.cff", "datapackage.json", "papers.html"} <= set(files)
    assert said["published"] and said["numbers"] == {"numbers": 9, "moved": 0, "appeared": 0, "vanished": 0}
    records = {name for name in files if name.startswith("data/records/")}
    assert len(records) == 18 and said["records"] == 17  # one has failed
    for one in records_of(space):
        assert files[f"data/records/{one.id}.json"] == records_of(space).path(one.id).read_bytes()
    numbers = {(row["attack"], row["defense"]): row for row in table(files["data/numbers.csv"])}
    assert float(numbers["ops", "grayscale"]["value"]) == pytest.approx(0.22)
    assert {row["unit"] for row in table(files["data/numbers.csv"])} == {"fraction"}
    assert numbers["ops", "bdr"]["n"] == "1" and numbers["ops", "bdr"]["state"] == "partial"
    assert len(table(files["data/records.csv"])) == 17
    assert len(table(files["data/papers.csv"])) > 3000
    assert not [name for name, content in files.items() if str(space).encode() in content]  # no path of this machine


def test_the_columns_of_the_data_are_described_and_their_hashes_hold(whole):
    """A column without a meaning is not data."""
    files = everything(whole[0])
    description = json.loads(files["datapackage.json"])
    assert {resource["name"] for resource in description["resources"]} == {"numbers", "changes", "papers", "results", "records"}
    for resource in description["resources"]:
        content = files[resource["path"]]
        fields = resource["schema"]["fields"]
        assert [field["name"] for field in fields] == content.decode().splitlines()[0].split(",")
        assert resource["hash"] == f"sha256:{hashlib.sha256(content).hexdigest()}" and resource["bytes"] == len(content)
        for field, column in ((f, [row[f["name"]] for row in table(content)]) for f in fields):
            if resource["name"] != "papers" and field["type"] != "string":  # papers print what they like
                assert all(re.fullmatch(r"|-?\d+(\.\d+)?(e-?\d+)?", text) for text in column), field["name"]
    named = {field["name"] for r in description["resources"] if r["name"] != "papers" for field in r["schema"]["fields"]}
    assert named <= set(COLUMNS) | {"seed", "reason", "epochs", "device", "norm", "dataset_fingerprint"}


def test_pages_of_a_publication_link_to_its_files_and_keep_their_policy(whole):
    """A dead link in something archived stays dead; and data beside the pages must not loosen what pages may load."""
    files = everything(whole[0])
    read = {name: Tags(text.decode()) for name, text in files.items() if name.endswith(".html")}
    assert len(read) > 100
    for name, tags in read.items():
        assert {"data/numbers.csv", "CITATION.cff"} <= {link for _, link in tags.links}, name
        assert b'http-equiv="Content-Security-Policy" content="default-src \'none\'; ' in files[name], name
        for _, link in tags.links:
            file, _, anchor = link.partition("#")
            if "://" not in link and not link.startswith("data:"):
                assert not file or file in files, (name, link)
                if file == "compare.html" and "=" in anchor:  # a view, which the script reads: of methods that are there
                    chosen = [key for side, key in parse_qsl(anchor) if side in ("a", "b")]
                    assert chosen and all(f'"key":"{key}"'.encode() in files[file] for key in chosen), (name, link)
                    continue
                assert not anchor or not (file or name).endswith(".html") or anchor in read[file or name].ids, (name, link)
    linked = {link for tags in read.values() for _, link in tags.links}
    assert {"data/numbers.csv", "datapackage.json", "SHA256SUMS", "CITATION.cff"} <= linked
    assert f"data/records/{cells()['ops', 'none', 0].id}.json" in linked


def test_the_published_records_make_the_published_pages(whole):
    """The claim of a publication: nothing is on its pages but what its records say."""
    files = everything(whole[0])
    again = ShownTables.of(None, {}, Records(whole[0] / "data" / "records"))
    values = [row["value"] for row in table(files["data/numbers.csv"])]
    assert values and max(map(len, values)) <= 12
    texts = replace(again.site(changelog=changelog(whole[2])), history=changes.History()).files()
    assert len(texts) > 300
    for name, text in texts.items():
        content = text if isinstance(text, bytes) else text.encode()
        assert name == "changes.html" or files[name] == content, name


def test_publishing_again_writes_nothing(whole):
    """A publication that differs each time would fill a branch with commits that say nothing."""
    folder, _, space = whole
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    out, _ = call_bench("publish", "--to", folder, workspace=space)
    assert "nothing was written" in out and "0 moved, 0 appeared, 0 vanished" in out
    assert before == {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_numbers_are_written_without_the_last_bits_of_sums_and_those_of_before_have_not_moved():
    """0.21000000000000002 is a number of nobody; a publication that had it is the same as one that has 0.21."""
    row = dict.fromkeys(changes.NUMBERS, "") | {"value": "0.21000000000000002", "n": "3"}
    assert changes.changes_between([row], [row | {"value": "0.21"}]) == []
    assert [one["change"] for one in changes.changes_between([row], [row | {"value": "0.2101"}])] == ["moved"]


def test_a_dry_run_says_what_it_would_do_and_does_nothing(workspace):
    """What is public stays public: one looks first."""
    outcome, chosen = publication.publish(read_target("out"), records_of(workspace), workspace, dry_run=True)
    assert "would be published to out" in publication.publication_text("out", outcome, chosen, True)
    assert not Path("out").exists()
    go("out", workspace)
    before = everything(Path("out"))
    outcome = go("out", workspace, release="2026.1", dry_run=True)
    assert outcome.changed == ["CITATION.cff", "SHA256SUMS", "data.html", "datapackage.json"]
    assert everything(Path("out")) == before


def test_the_same_records_give_the_same_bytes(workspace):
    """Whatever order and times the files have: no page carries the time at which it was made."""
    go("first", workspace)
    records, order = records_of(workspace), list(records_of(workspace))
    random.Random(0).shuffle(order)
    for number, one in enumerate(order):
        records.path(one.id).unlink()
        records.write(one)
        os.utime(records.path(one.id), (number, number))
    go("second", workspace)
    assert everything(Path("first")) == everything(Path("second"))


def test_records_of_changed_code_and_damaged_ones_are_left_out_and_counted(workspace):
    """Nobody could make such a number again; the page says that it is not there, and the command why."""
    records = records_of(workspace)
    dirty, damaged = cells()["ops", "none", 0], cells()["ops", "none", 1]
    records.write(record(dirty, commit="abc-dirty"), replace=True)
    records.path(damaged.id).write_text("{")
    outcome, chosen = publication.publish(read_target("out"), records, workspace)
    assert chosen.left_out == {publication.DIRTY: [dirty.id], publication.DAMAGED: [damaged.id]} and len(chosen.all) == 16
    files = everything(Path("out"))
    assert not {f"data/records/{cell.id}.json" for cell in (dirty, damaged)} & set(files)
    assert ("ops", "none") not in {(row["attack"], row["defense"]) for row in table(files["data/numbers.csv"])}
    text = publication.publication_text("out", outcome, chosen, False)
    assert "left out: 1 records, measured with uncommitted changes" in text and "left out: 1 records, damaged" in text
    outcome, chosen = publication.publish(read_target("out"), records, workspace, allow_dirty=True)
    assert chosen.dirty == 1 and "warning: 1 of the records" in publication.publication_text("out", outcome, chosen, False)
    assert len(chosen.all) == 17 and outcome.counts["appeared"] == 1


def test_there_must_be_something_to_publish(workspace):
    """An empty site in the place of a leaderboard is nobody's wish."""
    records = records_of(workspace)
    for one in list(records):
        records.write(one.model_copy(update={"commit": "abc-dirty"}), replace=True)
    with pytest.raises(FileError, match=r"no record to publish in .*18 left out.*--allow-dirty"):
        go("out", workspace)
    assert not Path("out").exists()


def test_a_citation_of_the_workspace_is_kept_with_date_and_release(workspace):
    """What people cite is theirs; without one, the publication and the program are cited."""
    go("out", workspace)
    own = Path("out/CITATION.cff").read_text()
    assert "type: dataset" in own and 'version: "1"\n' in own and "date-released: 2026-01-02\n" in own
    assert 'title: "Unlearnable Bench"' in own  # among the references
    assert "licenses" not in json.loads(Path("out/datapackage.json").read_text())  # nobody said so
    text = "cff-version: 1.2.0\ntitle: 'Our board' # ours\nauthors:\n  - version: 7\nlicense: CC-BY-4.0\nversion: 3\n"
    (workspace / "CITATION.cff").write_text(text)
    go("out", workspace, release="2026.1")
    cited = Path("out/CITATION.cff").read_text()
    assert cited == text.replace("\nversion: 3", '\nversion: "2026.1"') + "date-released: 2026-01-02\n"
    description = json.loads(Path("out/datapackage.json").read_text())
    assert (description["title"], description["version"]) == ("Our board", "2026.1")
    assert description["licenses"] == [{"name": "CC-BY-4.0"}] and Path("out/README.md").read_text().startswith("# Our board\n")
    (workspace / "CITATION.cff").write_text("nonsense")
    for wrong in ("", "2026\n1", "-1", "x" * 50):
        with pytest.raises(FileError, match="CITATION.cff has no line" if not wrong else "--release"):
            go("out", workspace, release=wrong)


# Which numbers moved


def test_the_next_publication_says_which_numbers_moved_appeared_and_vanished(workspace):
    """The changelog of a leaderboard is its numbers; readers who quoted one must be able to find it."""
    hidden = [cells()["random-noise", "none", seed] for seed in (0, 1)]
    kept = [records_of(workspace).read(cell.id) for cell in hidden]
    for cell in hidden:
        records_of(workspace).path(cell.id).unlink()
    go("out", workspace)
    assert "No number moved" in Path("out/changes.html").read_text()
    measure(workspace, "ops", "grayscale", 0, 0.31)
    for one in kept:
        records_of(workspace).write(one)
    for seed in (0, 1):
        records_of(workspace).path(cells()["none", "none", seed].id).unlink()
    assert go("out", workspace).counts == {"numbers": 8, "moved": 1, "appeared": 1, "vanished": 1}
    rows = {row["change"]: row for row in table(Path("out/data/changes.csv").read_text())}
    assert (rows["moved"]["attack"], rows["moved"]["defense"]) == ("ops", "grayscale")
    assert (float(rows["moved"]["before"]), float(rows["moved"]["after"])) == pytest.approx((0.22, 0.27))
    assert rows["appeared"]["before"] == "" and rows["vanished"]["after"] == ""
    page = Path("out/changes.html").read_text()
    assert "Publication 2" in page and "22.0 (n = 2)" in page and "27.0 (n = 2)" in page and "1 vanished" in page
    parser = html5lib.HTMLParser()
    parser.parse(page)
    assert parser.errors == [] and Tags(page).open == []
    assert re.search(r'<a href="sources\.ops\.html#c-[0-9a-f]+">ops × grayscale</a>', page)  # noqa: RUF001
    measure(workspace, "ops", "grayscale", 0, 0.33)
    go("out", workspace)
    page = Path("out/changes.html").read_text()
    assert page.index("Publication 3") < page.index("Publication 2") and "28.0 (n = 2)" in page
    assert not go("out", workspace).differs


ADDRESS = "https://example.org/board/"
ATOM = "{http://www.w3.org/2005/Atom}"


def test_a_publication_that_knows_its_address_is_found_by_it(workspace):
    """Canonical links and a sitemap for search engines, previews for who is sent a link, a feed of the numbers that moved."""
    go("out", workspace, url=ADDRESS.rstrip("/"))
    measure(workspace, "ops", "grayscale", 0, 0.41)
    go("out", workspace, url=ADDRESS)
    files = everything(Path("out"))
    pages = {name: text.decode() for name, text in files.items() if name.endswith(".html")}
    for name, page in pages.items():
        address = ADDRESS + name.replace("index.html", "")
        assert page.count(f'<link rel="canonical" href="{address}">') == page.count(f'content="{address}"') == 1, name
        assert page.count(f'href="{ADDRESS}feed.xml"') == 1
    assert 'href="feed.xml"' in pages["data.html"]
    places = [node.text for node in ElementTree.fromstring(files["sitemap.xml"]).iter() if node.tag.endswith("loc")]  # noqa: S314
    assert sorted(places) == sorted(ADDRESS + name.replace("index.html", "") for name in pages)
    feed = ElementTree.fromstring(files["feed.xml"])  # noqa: S314  (our own files)
    (entry,) = feed.iter(f"{ATOM}entry")
    assert entry.findtext(f"{ATOM}title") == "Publication 2: 1 number moved"
    assert entry.findtext(f"{ATOM}id") == f"{ADDRESS}changes.html#p-2" and b'id="p-2"' in files["changes.html"]
    assert "ops × grayscale" in "".join(entry.itertext()) and "22.0 (n = 2) → 32.0 (n = 2)" in "".join(entry.itertext())  # noqa: RUF001
    assert f"url = {{{ADDRESS}sources.ops.html".encode() in files["sources.ops.html"]


def test_a_publication_that_does_not_know_its_address_has_none(workspace):
    """A wrong address is worse than none; and what is no address is refused before anything is written."""
    go("out", workspace)
    files = everything(Path("out"))
    assert not {"feed.xml", "sitemap.xml"} & set(files)
    for name, text in files.items():
        assert not name.endswith(".html") or (
            b'rel="canonical"' not in text and b"og:url" not in text and b"og:title" in text
        ), name
    for wrong in (
        "example.org",
        "ftp://example.org/",
        "https://example.org/?page=1",
        'https://example.org/"><script>',
        "https://",
    ):
        with pytest.raises(FileError, match="expected the address of the site's folder"):
            go("elsewhere", workspace, url=wrong)
    assert not Path("elsewhere").exists()


def test_a_change_says_its_records_and_its_reason(workspace):
    """A reader who quoted the old number must learn from the list alone whether a method, a record or a seed changed."""
    store = records_of(workspace)
    other, third = (cells()[attack, "none", 1] for attack in ("random-noise", "none"))
    kept = store.read(third.id)
    store.path(third.id).unlink()
    go("out", workspace)
    for seed in (0, 1):
        raised = record(cells()["ops", "none", seed], 0.5, versions={"attack:ops": "2", "python": "3.11"})
        store.write(raised, replace=True)
    store.write(record(other, 0.5, finished="2026-01-02T12:00:00+00:00"), replace=True)
    store.write(kept)
    go("out", workspace, url=ADDRESS)
    rows = {row["attack"]: row for row in table(Path("out/data/changes.csv").read_text())}
    assert rows["ops"]["reason"] == "version raised: attack:ops 1 → 2"
    assert rows["random-noise"]["reason"] == "record replaced" and rows["none"]["reason"] == "1 record more"
    assert rows["ops"]["records"].split(";") == [cells()["ops", "none", seed].id for seed in (0, 1)]
    page, feed = Path("out/changes.html").read_text(), Path("out/feed.xml").read_text()
    assert "version raised: attack:ops" in page and "; version raised: attack:ops" in feed and "record replaced" in page
    assert ", ".join(rows["ops"]["records"].split(";")) in page and 'href="changelog.html"' in page
    for cell in (third, cells()["none", "none", 0]):
        store.path(cell.id).unlink()
    go("out", workspace)
    assert table(Path("out/data/changes.csv").read_text())[-1]["reason"] == "withdrawn"


def test_errata_are_published_with_the_records_that_they_are_about(workspace):
    """Nobody must read the data without what is known against it; and an erratum on a record that is left out stays home."""
    known, dirty = cells()["ops", "none", 0].id, cells()["none", "none", 1]
    records_of(workspace).write(record(dirty, 0.5, commit="abc-dirty"), replace=True)
    texts = [f'[[erratum]]\nrecord = "{one}"\ndate = 2026-12-01\ntext = "On \'{one}" only."\n' for one in (known, dirty.id)]
    (workspace / "results/records/errata.toml").write_text("\n".join(texts).replace('" only', '\\" only'))
    go("out", workspace)
    (erratum,) = tomllib.loads(Path("out/data/records/errata.toml").read_text())["erratum"]
    assert erratum["record"] == known and erratum["text"] == f"On '{known}\" only."
    (row,) = [one for one in table(Path("out/data/numbers.csv").read_text()) if one["errata"]]
    assert (row["attack"], row["defense"]) == ("ops", "none") and row["errata"].startswith("erratum of 2026-12-01: On ")


def test_a_seed_more_is_a_change_even_where_the_mean_stays(workspace):
    """A mean over two seeds is another number than one over one."""
    one = records_of(workspace).read(cells()["ops", "none", 1].id)
    measure(workspace, "ops", "none", 0, one.metrics.test_acc)
    records_of(workspace).path(one.id).unlink()
    go("out", workspace)
    records_of(workspace).write(one)
    assert go("out", workspace).counts["moved"] == 1
    assert "22.0 (n = 1)" in Path("out/changes.html").read_text()


def test_a_publication_elsewhere_can_be_the_one_before(workspace):
    """A page that is built anew each time has no earlier one in its folder."""
    go("published", workspace)
    measure(workspace, "ops", "none", 0, 0.25)
    assert go("fresh", workspace, since=Path("published")).counts["moved"] == 1
    assert "Publication 2" in Path("fresh/changes.html").read_text()
    with pytest.raises(FileError, match="holds no publication"):
        go("other", workspace, since=workspace)


def test_a_publication_from_before_units_is_read(workspace):
    """A column that came later must not make what is published look damaged; any other that is missing does."""
    columns = changes.NUMBERS[: changes.NUMBERS.index("unit")]
    old = csv_text(columns, [dict.fromkeys(columns, "1")])
    (row,) = changes.read_rows(old, changes.NUMBERS)
    assert row["unit"] == "" and row["value"] == "1"
    with pytest.raises(ValueError, match="no column records"):
        changes.read_rows("\n".join(line.rpartition(",")[0] for line in old.splitlines()), changes.NUMBERS)


words = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=5)
keys = st.tuples(*[words] * 2)
figures = st.tuples(st.sampled_from(["0.5", "0.25"]), st.sampled_from(["1", "2"]))


@given(before=st.dictionaries(keys, figures, max_size=6), after=st.dictionaries(keys, figures, max_size=6))
def test_the_changes_lead_from_the_one_publication_to_the_other(before, after):
    """A law: what was there before, changed by the list, is what is there now; also by way of the file."""

    def rows(numbers):
        blank = dict.fromkeys(changes.NUMBERS, "")
        return [blank | {"attack": a, "defense": d, "value": v, "n": n} for (a, d), (v, n) in numbers.items()]

    text = csv_text(changes.NUMBERS, rows(before))
    assert changes.read_rows(text, changes.NUMBERS) == rows(before)
    state = dict(before)
    for change in changes.changes_between(changes.read_rows(text, changes.NUMBERS), rows(after)):
        key = (change["attack"], change["defense"])
        assert state.get(key, ("", "")) == (change["before"], change["before_n"]) != (change["after"], change["after_n"])
        state[key] = (change["after"], change["after_n"])
    assert {key: value for key, value in state.items() if value != ("", "")} == after


# Releases

OF_RELEASE = {"SHA256SUMS", "quick.bib"}  # files other than pages that a release has otherwise
ZENODO = "10.5281/zenodo.1234567"


def test_a_release_is_frozen_under_its_name(workspace):
    """A number that was cited in 2026 must be found in 2036, with all that is behind it."""
    go("out", workspace, release="2026.1")
    frozen = everything(Path("out/2026.1"))
    now = {name: text for name, text in everything(Path("out")).items() if not name.startswith("2026.1/")}
    assert set(frozen) == set(now)
    assert {name for name in frozen if frozen[name] != now[name] and not name.endswith(".html")} <= OF_RELEASE
    assert "Release 2026.1, a frozen copy" in frozen["index.html"].decode() and b"frozen copy:" not in now["index.html"]
    assert not go("out", workspace, release="2026.1").differs
    measure(workspace, "ops", "none", 0, 0.25)
    with pytest.raises(FileError, match=r"release 2026\.1 is published already, and a release never changes"):
        go("out", workspace, release="2026.1")
    assert go("out", workspace).counts["moved"] == 1 and everything(Path("out/2026.1")) == frozen
    assert Path("out/index.html").read_bytes() != frozen["index.html"]
    go("out", workspace, release="2026.2")
    assert (
        everything(Path("out/2026.1")) == frozen
        and json.loads(Path("out/2026.2/datapackage.json").read_text())["version"] == "2026.2"
    )
    for folder in ("out", "out/2026.1", "out/2026.2"):
        assert subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder).returncode == 0
    Path("out/2026.1/index.html").write_text("by hand")
    with pytest.raises(FileError, match=r"2026\.1/index\.html was changed since it was published"):
        go("out", workspace)
    for name in ("data", "index.html", "SHA256SUMS"):
        with pytest.raises(FileError, match=f"--release '{name}'"):
            go("elsewhere", workspace, release=name)
        assert not Path("elsewhere").exists()


def test_a_release_on_a_branch_stays_there(workspace, hub):
    """Later commits leave its files as they are."""
    go(f"{hub}#pages", workspace, release="2026.1")
    before = git(hub, "rev-parse", "pages:2026.1")
    assert not go(f"{hub}#pages", workspace, release="2026.1").differs
    measure(workspace, "ops", "none", 0, 0.25)
    with pytest.raises(FileError, match="a release never changes"):
        go(f"{hub}#pages", workspace, release="2026.1")
    assert go(f"{hub}#pages", workspace).counts["moved"] == 1
    assert git(hub, "rev-parse", "pages:2026.1") == before != git(hub, "rev-parse", "pages^{tree}")


def test_pages_of_a_release_know_their_own_address(workspace):
    """Who cites a number of a release must not be led to one that moves."""
    go("out", workspace, release="2026.1", url=ADDRESS)
    page = Path("out/2026.1/sources.ops.html").read_text()
    assert f'<link rel="canonical" href="{ADDRESS}2026.1/sources.ops.html">' in page
    assert f"url = {{{ADDRESS}2026.1/sources.ops.html#c-" in page
    assert f'href="{ADDRESS}sources.ops.html">' in Path("out/sources.ops.html").read_text()


def test_no_link_of_a_release_leads_out_of_it(workspace):
    """It is archived alone; and what it links to must be as frozen as itself. The others are listed on the pages that go on."""
    go("out", workspace, release="2026.1")
    measure(workspace, "ops", "none", 0, 0.25)
    go("out", workspace, release="2026.2")
    for folder in ("out", "out/2026.1", "out/2026.2"):
        files = everything(Path(folder))
        for name in (name for name in files if name.endswith(".html")):
            for _, link in Tags(files[name].decode()).links:
                assert not link.startswith(("/", "..")), (folder, name, link)
                assert folder == "out" or not link.startswith("2026."), (folder, name, link)
        listed = re.findall(r'<a href="(2026\.\d)/index\.html">', files["data.html"].decode())
        assert listed == (["2026.2", "2026.1"] if folder == "out" else [])


def test_a_release_has_a_doi_of_its_own(workspace):
    """Who cites a release by its BibTeX cites the archive; the pages that go on have the DOI of all versions, or none."""
    go("out", workspace, release="2026.1", doi=ZENODO)
    frozen, now = everything(Path("out/2026.1")), everything(Path("out"))
    assert f"doi: {ZENODO}" in frozen["CITATION.cff"].decode() and b"doi" not in now["CITATION.cff"]
    assert json.loads(frozen["datapackage.json"])["id"] == f"https://doi.org/{ZENODO}"
    page = frozen["sources.ops.html"].decode()
    assert (
        page.count(f"  version = {{2026.1}},\n  doi = {{{ZENODO}}},\n  note = ") > 1
    )  # of each number, and of the leaderboard
    assert "Unlearnable Bench, release 2026.1, records until" in page
    assert b"doi = " not in now["sources.ops.html"] and b"version = " not in now["sources.ops.html"]
    assert f'<a href="https://doi.org/{ZENODO}">{ZENODO}</a>' in now["data.html"].decode()
    go("out", workspace)
    assert f'<a href="https://doi.org/{ZENODO}">{ZENODO}</a>' in Path("out/data.html").read_text()
    for release, doi, sentence in (
        ("", ZENODO, "--doi is of a release"),
        ("1", f"doi:{ZENODO}", "without an address"),
    ):
        with pytest.raises(FileError, match=sentence):
            go("elsewhere", workspace, release=release, doi=doi)


def test_records_and_pages_of_a_program_have_a_license_of_data(workspace):
    """MIT is for programs; and a DOI is named where there is one."""
    text = "cff-version: 1.2.0\ntitle: Ours\ntype: software\nlicense: MIT\ndoi: 10.5281/zenodo.1\n"
    (workspace / "CITATION.cff").write_text(text)
    go("out", workspace)
    description = json.loads(Path("out/datapackage.json").read_text())
    assert description["licenses"] == [{"name": "CC-BY-4.0"}] and description["id"] == "https://doi.org/10.5281/zenodo.1"
    assert "License of records and pages: CC-BY-4.0" in Path("out/README.md").read_text()
    page = Path("out/index.html").read_text()
    assert '<a href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a>' in page and "doi = {10.5281/zenodo.1}" in page


# A folder


def test_a_folder_of_somebody_else_is_refused_and_left_as_it_was(workspace):
    """--to ~/thesis must not cost a thesis."""
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").write_text("years of work")
    Path("file").write_text("x")
    go("out", workspace)
    Path("link").symlink_to("out")
    shutil.copytree("out", "added")
    Path("added/CNAME").write_text("example.org")
    shutil.copytree("out", "edited")
    Path("edited/index.html").write_text("by hand")
    shutil.copytree("out", "linked")
    Path("linked/index.html").unlink()
    Path("linked/index.html").symlink_to(Path("out/index.html").absolute())
    measure(workspace, "ops", "none", 0, 0.25)
    before = everything(Path.cwd())
    for name, sentence in {
        "thesis": "holds 1 files and was not made by",
        "file": "is a file",
        "link": "is a link",
        "added": "CNAME was not written by",
        "edited": "index.html was changed since it was published",
        "linked": "index.html was not written by",
        ".": "from inside",
        "/": "from inside",
        "file/out": "cannot write beside .*file/out",
    }.items():
        with pytest.raises(FileError, match=sentence):
            go(name, workspace)
    assert everything(Path.cwd()) == before


def test_what_is_gone_is_removed_and_an_empty_folder_is_taken(workspace):
    """A page of a method that was withdrawn must not stay behind."""
    Path("out").mkdir()
    go("out", workspace)
    gone = cells()["ops", "none", 0].id
    records_of(workspace).path(gone).unlink()
    outcome = go("out", workspace)
    assert outcome.removed == [f"data/records/{gone}.json"] and not Path("out", outcome.removed[0]).exists()
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["out", "workspace"]  # no scratch left


KILLED = """
import os, sys
from pathlib import Path
from unlearnable_bench.leaderboard.publishing import targets
target = targets.Folder(Path(sys.argv[1]))
before, step = target.look(), int(sys.argv[2])
files = {name: b"new" for name in before.files}
files[targets.DESCRIPTION] = (Path(sys.argv[1]) / targets.DESCRIPTION).read_bytes()
import hashlib
files.pop(targets.SUMS)
files[targets.SUMS] = "".join(f"{hashlib.sha256(c).hexdigest()}  {n}\\n" for n, c in files.items()).encode()
def dying(real):
    def wrapped(*arguments, **options):
        global step
        step -= 1
        if step < 0:
            os._exit(9)
        return real(*arguments, **options)
    return wrapped
Path.write_bytes, Path.rename, targets.shutil.rmtree = dying(Path.write_bytes), dying(Path.rename), dying(targets.shutil.rmtree)
target.put(files, before, "")
"""


def test_a_publication_that_is_killed_leaves_the_old_one_or_the_new_one_whole(workspace):
    """Power fails at any moment; a half page that looks like a whole one would be cited."""
    Path("out").mkdir()
    (files := {name: name.encode() for name in ("index.html", "a.html")})[targets.DESCRIPTION] = json.dumps(
        {releases.OWN_KEY: {"publication": 1}, "x": 1}
    ).encode()
    files |= {"data/numbers.csv": b"", "data/changes.csv": b""}
    files[targets.SUMS] = "".join(f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in files.items()).encode()
    seen = []
    for step in (0, 3, *range(len(files), len(files) + 5)):
        shutil.rmtree("out")
        Folder(Path.cwd() / "out").put(files, targets.Before(), "")
        in_process(KILLED, Path.cwd() / "out", step, check=False)
        Folder(Path.cwd() / "out").look()  # the next one: it puts back what was killed between two renames, and finds no damage
        found = everything(Path("out"))
        seen.append("old" if found == files else "new" if found["a.html"] == b"new" else "broken")
    assert seen == sorted(seen, reverse=True) and set(seen) == {"old", "new"}
    assert seen == ["old"] * 4 + ["new"] * 3  # new with the second rename


def test_a_failure_in_the_middle_puts_the_old_folder_back(workspace, monkeypatch):
    """Ctrl-C, a full disk: the old pages are there, and no scratch."""
    go("out", workspace)
    before = everything(Path("out"))
    measure(workspace, "ops", "none", 0, 0.25)
    real = Path.rename

    def failing(self, target):
        if self.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(KeyboardInterrupt):
        go("out", workspace)
    assert everything(Path("out")) == before and sorted(p.name for p in Path.cwd().iterdir()) == ["out", "workspace"]


# A branch


def test_a_branch_is_begun_then_gets_commits_on_top_and_none_where_nothing_changes(workspace, hub):
    """History is what makes a leaderboard citable; what is on the branch is what a folder would hold."""
    push(hub, "main", code="of somebody")
    first = go(f"{hub}#gh-pages", workspace)
    go("out", workspace)
    clone = branch_of(hub, "gh-pages")
    shutil.rmtree(clone / ".git")
    assert everything(clone) == everything(Path("out"))
    assert git(hub, "rev-list", "gh-pages") == first.where and git(hub, "log", "--format=%an <%ae>", "gh-pages").startswith(
        "bench"
    )
    assert not go("hub.git#gh-pages", workspace).differs
    measure(workspace, "ops", "none", 0, 0.25)
    assert go(f"file://{hub}#gh-pages", workspace, dry_run=True).counts["moved"] == 1
    assert git(hub, "rev-list", "gh-pages") == first.where
    second = go(f"{hub}#gh-pages", workspace)
    assert git(hub, "rev-list", "gh-pages").split() == [second.where, first.where]
    assert "Publication 2" in git(hub, "show", "gh-pages:changes.html")
    assert git(hub, "log", "-1", "--format=%s", "gh-pages") == "Publish 18 records: 9 numbers, 1 moved, 0 appeared, 0 vanished"
    assert git(hub, "show", "main:code") == "of somebody"


def test_a_branch_of_somebody_else_is_refused_and_their_files_on_ours_are_kept(workspace, hub):
    """A hosting service writes a CNAME beside our pages; a thesis on a branch is none of our business."""
    push(hub, "thesis", chapter_tex="years")
    before = git(hub, "rev-parse", "thesis")
    with pytest.raises(FileError, match=r"hub\.git#thesis holds 1 files and was not made by `bench publish`"):
        go(f"{hub}#thesis", workspace)
    assert git(hub, "rev-parse", "thesis") == before
    go(f"{hub}#pages", workspace)
    push(hub, "pages", CNAME="example.org", index_html="by hand")
    measure(workspace, "ops", "none", 0, 0.25)
    go(f"{hub}#pages", workspace)
    assert git(hub, "show", "pages:CNAME") == "example.org" and "<!doctype" in git(hub, "show", "pages:index.html")
    gone = cells()["ops", "none", 0].id
    records_of(workspace).path(gone).unlink()
    assert go(f"{hub}#pages", workspace).removed == [f"data/records/{gone}.json"]
    assert gone not in git(hub, "ls-tree", "-r", "--name-only", "pages")
    push(hub, "pages", **{f"{gone}_json": "theirs"})
    git(branch_of(hub, "pages", "theirs"), "mv", f"{gone}.json", f"data/records/{gone}.json")
    git(hub.parent / "theirs", "-c", "user.name=S", "-c", "user.email=s@x", "commit", "--quiet", "-m", "x")
    git(hub.parent / "theirs", "push", "--quiet")
    measure(workspace, "ops", "none", 0, 0.25)
    with pytest.raises(FileError, match=rf"has a file data/records/{gone}.json that `bench publish` did not write"):
        go(f"{hub}#pages", workspace)


@pytest.mark.parametrize("moment", ["before the push", "during the push"])
def test_somebody_who_publishes_meanwhile_loses_nothing(workspace, hub, monkeypatch, moment):
    """Two maintainers at once: the second goes on top of the first, and says what moved since that; never by force."""
    go(f"{hub}#pages", workspace)
    real, raced = targets._git, []

    def racing(*arguments, **options):
        trigger = {"before the push": "fast-import", "during the push": "push"}[moment]
        if arguments[0] == trigger and len(raced) < limit:
            raced.append(1)
            push(hub, "pages", **{f"NOTE{len(raced)}": "between"})
        return real(*arguments, **options)

    monkeypatch.setattr(targets, "_git", racing)
    limit = 1
    measure(workspace, "ops", "none", 0, 0.25)
    outcome = go(f"{hub}#pages", workspace)
    log = git(hub, "log", "--format=%s", "pages").splitlines()
    assert log[1] == "theirs" and len(log) == 3 and git(hub, "show", "pages:NOTE1") == "between"
    assert git(hub, "rev-parse", "pages") == outcome.where
    limit = 9
    measure(workspace, "ops", "none", 0, 0.35)
    with pytest.raises(FileError, match="was changed twice by others during this publication; try again"):
        go(f"{hub}#pages", workspace)
    assert git(hub, "log", "--format=%s", "pages").splitlines()[:2] == ["theirs", "theirs"]


def test_a_branch_that_appears_meanwhile_is_not_overwritten(workspace, hub, monkeypatch):
    """An orphan commit pushed over a branch would be the end of its history."""
    real = targets._git

    def racing(*arguments, **options):
        if arguments[0] == "push":
            monkeypatch.setattr(targets, "_git", real)
            push(hub, "pages", theirs="theirs")
        return real(*arguments, **options)

    monkeypatch.setattr(targets, "_git", racing)
    with pytest.raises(FileError, match="holds 1 files and was not made by"):
        go(f"{hub}#pages", workspace)
    assert git(hub, "show", "pages:theirs") == "theirs"


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        ("missing.git#pages", "expected a remote of this repository, a path or an address"),
        ("workspace#pages", "cannot reach .*workspace#pages: .*does not appear to be a git repository"),
        ("ssh://127.0.0.1:1/x.git#pages", "cannot reach ssh://127.0.0.1:1/x.git#pages: .*(refused|ssh).*check the address"),
        ("https://me:secret@127.0.0.1:1/x.git#pages", "cannot reach https://127.0.0.1:1/x.git#pages: .*onnect"),
        ("ext::sh -c 'touch pwned'#pages", "transport 'ext' not allowed"),
        ("--upload-pack=touch pwned#pages", "expected REMOTE#BRANCH"),
        ("hub.git#--force", "expected REMOTE#BRANCH"),
        ("hub.git#", "expected REMOTE#BRANCH"),
        ("#pages", "expected REMOTE#BRANCH"),
        ("hub.git#a..b", "git allows no branch of this name"),
        ("https://me:sec/ret@secret@127.0.0.1:1/x.git#pages", "cannot reach https://127.0.0.1:1/x.git#pages: "),
        ("https://me:#secret@127.0.0.1:1/x.git", "--to 'https://127.0.0.1:1/x.git'"),
        ("https://me:secret@127.0.0.1:1/x.git", "--to https://127.0.0.1:1/x.git: an address needs a branch behind it"),
        ("~no-such-user/x", "there is no home of this user"),
        ("~no-such-user/x#pages", "there is no home of this user"),
    ],
)
def test_a_remote_that_cannot_be_used_is_told_in_one_sentence(workspace, hub, to, sentence):
    """And nothing that stands in an address is run, or printed if it is a password."""
    with pytest.raises(FileError, match=sentence) as told:
        go(to, workspace)
    assert "secret" not in str(told.value) and "\n" not in str(told.value) and not list(Path.cwd().rglob("pwned"))


@pytest.mark.parametrize(
    "told", [publication.publication_text, lambda *told: json.dumps(publication.publication_json(*told))], ids=["words", "json"]
)
def test_a_password_is_in_no_output(workspace, told):
    """The log of a workflow is public."""
    outcome, made = publication.publish(read_target("out"), records_of(workspace), workspace, dry_run=True)
    said = told("https://me:sec/ret@secret@127.0.0.1:1/x.git#pages", outcome, made, True)
    assert "https://127.0.0.1:1/x.git#pages" in said and "sec" not in said


def test_a_remote_is_named_as_the_repository_at_hand_knows_it(workspace, hub, tmp_path, monkeypatch):
    """Its addresses, its ways to reach them (where a continuous integration keeps its token), and the user's name."""
    git(tmp_path, "init", "--quiet", "code")
    git(tmp_path / "code", "remote", "add", "origin", "../hub.git")
    git(tmp_path / "code", "remote", "add", "far", "far:hub.git")
    git(tmp_path / "code", "config", f"url.{tmp_path}/.insteadOf", "far:")
    git(tmp_path / "code", "config", "user.name", "Ada <Lovelace>")
    monkeypatch.chdir(tmp_path / "code")
    go("origin#pages", workspace)
    go("far#other", workspace)
    go("far:hub.git#third", workspace)
    assert git(hub, "log", "-1", "--format=%an", "other") == "Ada Lovelace"
    assert len({git(hub, "rev-parse", f"{branch}^{{tree}}") for branch in ("pages", "other", "third")}) == 1


def test_no_hook_filter_or_setting_of_the_user_touches_what_is_published(workspace, hub, tmp_path):
    """Bytes are checked by their sums; and a page for the public is no reason to run a program."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-push", "pre-commit", "post-commit", "reference-transaction"):  # the last one the other side runs too
        (hooks / name).write_text(f"#!/bin/sh\necho $0 $PWD $GIT_DIR >> {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    (tmp_path / "attributes").write_text("* text eol=crlf filter=evil\n")
    (tmp_path / "gitconfig").write_text(
        f"[core]\nhooksPath={hooks}\nautocrlf=true\nattributesFile={tmp_path}/attributes\n"
        f'[filter "evil"]\nclean=echo bench-publish- >> {tmp_path}/ran\n'
        "[commit]\ngpgSign=true\n[push]\ngpgSign=true\n"
    )
    go(f"{hub}#pages", workspace)
    assert "hub.git" in (tmp_path / "ran").read_text() and "bench-publish-" not in (tmp_path / "ran").read_text()
    (tmp_path / "gitconfig").unlink()
    clone = branch_of(hub, "pages")
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=clone).returncode == 0


def test_a_refusal_of_the_other_side_is_told(workspace, hub):
    """A protected branch says why."""
    (hub / "hooks").mkdir(exist_ok=True)
    (hub / "hooks" / "update").write_text("#!/bin/sh\nexit 1\n")
    (hub / "hooks" / "update").chmod(0o755)
    with pytest.raises(FileError, match=r"hub\.git#pages did not take the commit: hook declined"):
        go(f"{hub}#pages", workspace)


def test_a_list_of_files_that_was_tampered_with_leads_nowhere(workspace, hub):
    """SHA256SUMS of a branch is somebody's text: it must remove no file that is not ours, and none outside."""
    go(f"{hub}#pages", workspace)
    sums = (
        git(hub, "show", "pages:SHA256SUMS") + f"\n{'0' * 64}  ../hub.git/config\n{'0' * 64}  /etc/passwd\n{'0' * 64}  a\tb\n"
    )
    push(hub, "pages", SHA256SUMS=sums)
    outcome = go(f"{hub}#pages", workspace)
    assert outcome.removed == [] and outcome.changed == ["SHA256SUMS"]


def test_without_git_a_branch_is_refused_and_a_folder_is_not(workspace, monkeypatch):
    """Only a branch needs the program."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileError, match="there is no program git"):
        go("hub.git#pages", workspace)
    assert go("out", workspace).differs


# The workflow of GitHub Pages


def test_the_workflow_asks_for_no_more_rights_than_it_needs_and_names_commits():
    """It runs with a token of the repository, on code of others, whose tags can be moved."""
    assert WORKFLOW["permissions"] == {}
    rights = {name: job["permissions"] for name, job in WORKFLOW["jobs"].items()}
    assert rights == {"build": {"contents": "read", "pages": "read"}, "deploy": {"pages": "write", "id-token": "write"}}
    used = [step["uses"] for job in WORKFLOW["jobs"] for step in steps(job) if "uses" in step]
    assert len(used) == 5 and all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", one) for one in used)
    assert "pull_request_target" not in WORKFLOW[True]  # YAML 1.1 reads `on` so
    assert not [step for job in WORKFLOW["jobs"] for step in steps(job) if "${{" in step.get("run", "")]  # texts run as code


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_workflow_says_what_moved_since_the_site_that_is_online(workspace, tmp_path):
    """Its folder is empty each time: what is online is fetched; a failure of the network must not begin history anew."""
    fetch = next(step["run"] for step in steps("build") if "curl" in step.get("run", ""))
    online = {}
    with Server("127.0.0.1", 0, tmp_path / "none", lambda: online) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            environment = os.environ | {"SITE": server.address.rstrip("/"), "GITHUB_RUN_ID": "7"}
            command = ["bash", "-e", "-o", "pipefail", "-c", fetch]
            assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
            assert not Path("before").exists()
            go("site", workspace)
            online |= everything(Path("site"))
            assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
            measure(workspace, "ops", "none", 0, 0.25)
            assert go("fresh", workspace, since=Path("before")).counts["moved"] == 1
            del online["data/changes.csv"]
            assert subprocess.run(command, env=environment, capture_output=True).returncode == 1
        finally:
            server.shutdown()
            thread.join()
    assert subprocess.run(command, env=environment | {"SITE": "http://127.0.0.1:1"}, capture_output=True).returncode != 0


# The server


@pytest.fixture
def server(workspace):
    """The server of the small site, and how often it was rendered."""
    rendered = []

    def render():
        rendered.append(1)
        return ShownTables.of(None, {}, records_of(workspace)).site().files()

    with listening("127.0.0.1", workspace, render) as server:
        server.rendered = rendered
        yield server


@contextmanager
def listening(host, workspace, render):
    """A server at an address, with a thread that answers."""
    with Server(host, 0, records_of(workspace).folder, render) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection(*server.server_address, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def test_the_server_answers_with_the_pages_as_they_are(server, workspace):
    """What one looks at is what is published: the same bytes, the policy of the page included."""
    files = ShownTables.of(None, {}, records_of(workspace)).site().files()
    for name in ("index.html", "quick.html", "quick.csv", "quick.json", "changes.html"):
        status, headers, content = ask(server, f"/{name}?x=1")
        assert status == 200 and content.decode() == files[name] and headers["X-Content-Type-Options"] == "nosniff"
    status, headers, content = ask(server, "/")
    assert content.decode() == files["index.html"] and headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"default-src 'none'" in content
    _, headers, content = ask(server, "/", **{"Accept-Encoding": "br, gzip"})
    assert headers["Content-Encoding"] == "gzip" and gzip.decompress(content).decode() == files["index.html"]
    assert ask(server, "/", "HEAD")[2] == b"" and ask(server, "/", "POST")[0] == 501
    svg = next(name for name in files if name.endswith(".svg"))
    assert ask(server, f"/{svg}")[1]["Content-Type"].startswith("image/svg+xml")
    assert ask(server, "/", Host="localhost:1")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../workspace/results/records/x.json",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/results/records/",
        "/nothing.html",
        "/index.html/",
        "/%00",
        "/index.html%00",
    ],
)
def test_the_server_answers_for_nothing_but_the_pages(server, path):
    """Records, logs and keys of the workspace are nobody's business."""
    assert ask(server, path)[0] == 404


def test_a_page_of_somebody_else_cannot_ask_by_a_name_of_its_own(server):
    """A name that is made to lead to this machine would let any web page read numbers that are not published yet."""
    assert ask(server, "/", Host="evil.example")[0] == 403
    assert ask(server, "/", Host="evil.example:8000")[0] == 403


def test_every_address_of_this_machine_alone_is_guarded(workspace):
    """All of 127.0.0.0/8 is."""
    with listening("127.0.0.2", workspace, lambda: {"index.html": "ours"}) as server:
        assert ask(server, "/")[::2] == ask(server, "/", Host="localhost:1")[::2] == (200, b"ours")
        assert ask(server, "/", Host="evil.example")[0] == 403


def test_an_address_that_is_none_is_answered_in_words(server):
    """A server that says nothing looks like one that hangs."""
    assert ask(server, "http://[", Host="localhost")[::2] == (400, b"this is not the address of a page")


def test_a_reload_shows_new_records_and_is_not_rendered_for_nothing(server, workspace):
    """Whoever looks while a grid runs; rendering takes seconds, so pages are rendered once per change at most."""
    assert b"24.0" not in ask(server, "/quick.md")[2]
    for _ in range(5):
        ask(server, "/")
    assert len(server.rendered) == 1
    measure(workspace, "ops", "grayscale", 0, 0.25)
    deadline = time.monotonic() + 60
    while b"24.0" not in ask(server, "/quick.md")[2]:
        ask(server, "/")
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(server.rendered) == 2


def test_the_command_serves_until_ctrl_c_and_a_taken_port_is_told(tmp_path):
    """It says where it is; Ctrl-C is its normal end."""
    process = subprocess.Popen(
        [*BENCH, "serve", "--port", "0", "--json", "--workspace", tmp_path], stdout=subprocess.PIPE, text=True
    )
    try:
        address = json.loads(process.stdout.readline())["address"]
        port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", address)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/")
        assert b"Do unlearnable examples hold" in connection.getresponse().read()
        connection.close()
        with pytest.raises(FileError, match=f"port {port} of 127.0.0.1 is taken; choose another by --port"):
            Server("127.0.0.1", port, tmp_path, dict)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_publication_says_whose_the_numbers_of_others_are(workspace, tmp_path):
    """Published without that, somebody else's numbers would pass for ours, and for theirs who build the pages again."""
    records = records_of(workspace)
    theirs = [cell for (attack, _, _), cell in cells().items() if attack == "ops"]
    marked(records, theirs, name="A. Author")
    go(tmp_path / "public", workspace)
    again = Records(tmp_path / "public" / "data" / "records")
    assert {origin.who for origin in again.origins.values()} == {"A. Author"}
    assert set(again.origins) == {cell.id for cell in theirs}
    rows = table((tmp_path / "public" / "data" / "numbers.csv").read_bytes())
    assert {row["attack"] for row in rows if row["tier"]} == {"ops"} and {row["tier"] for row in rows} == {"", "self-reported"}
    check = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "public", capture_output=True)
    assert check.returncode == 0
