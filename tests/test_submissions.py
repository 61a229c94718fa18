"""Records for others, and records of others: what is packed, what is refused, what is kept, and how pages mark it."""

import copy
import html
import io
import json
import pickle
import re
import shutil
import stat
import warnings
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import html5lib
import pytest
from conftest import bench, call_bench
from hypothesis import given, settings
from hypothesis import strategies as st
from test_leaderboard import TABLE, cells, every_text, fill, made, record
from test_run import TINY

from unlearnable_bench.benchmark.submissions import judging, keeping, packing, verifying
from unlearnable_bench.leaderboard.formats import text as formats
from unlearnable_bench.leaderboard.formats import words
from unlearnable_bench.leaderboard.pages.site import Site
from unlearnable_bench.leaderboard.publishing.records import published_records
from unlearnable_bench.leaderboard.tables.lookup import SeedRun
from unlearnable_bench.leaderboard.tables.measured import grid_table, other_tables
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.leaderboard.tables.runs import MeasuredScore
from unlearnable_bench.leaderboard.tables.score import AggregateScore
from unlearnable_bench.leaderboard.tables.table import distinct
from unlearnable_bench.registry import data, lacking, outdated, resolve
from unlearnable_bench.registry.data import load
from unlearnable_bench.results import FileError, Grid, Records, bundle, read_grid, submission
from unlearnable_bench.results.cell import Cell
from unlearnable_bench.results.record import Failure, sha256
from unlearnable_bench.results.submission import DISPUTED, RERUN, SELF_REPORTED, VERIFIED, Origin, Submission, Taken

PUBLISHED = Path(__file__).parent.parent / "results" / "records"
SCRIPT = "<script>alert(1)</script>"
NAME = "[/b][link=x]A"
GRID = read_grid("quick")


@pytest.fixture(scope="module", autouse=True)
def decoded():
    """The digits, so that fingerprints of records can be compared."""
    load(resolve("datasets", "digits")[0])


def published(**axes):
    """Records of the quick grid as they are published, by cell: those whose axes have these texts."""
    found = {}
    for cell in GRID.cells(resolve, lacking):
        if all(cell.texts[axis].partition("(")[0] == text for axis, text in axes.items()):
            found[cell.id] = json.loads((PUBLISHED / f"{cell.id}.json").read_text())
    return found


CLEAN, POISONED = (published(attack=attack, defense="jpeg") for attack in ("none", "em"))
REAL = CLEAN | POISONED


def packed(several, **fields):
    """A bundle of records given as JSON values, each as the program would write it."""
    contents = {cell_id: bundle.canonical(content) for cell_id, content in several.items()}
    listed = {cell_id: sha256(content) for cell_id, content in sorted(contents.items())}
    trees = sorted({content["tree"] for content in several.values() if isinstance(content.get("tree"), str)})
    sent = {"name": "A. Author", "contact": "", "note": "", "program": "0.1.0", "trees": trees, "records": listed, "format": 1}
    return zipped({"submission.json": bundle.canonical(sent | fields)} | {f"records/{i}.json": c for i, c in contents.items()})


def zipped(files, change=lambda member: None, **options):
    """An archive of files, in their order; `change` may alter the header of each."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", **options) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files that are there twice
        for name, content in files if isinstance(files, list) else sorted(files.items(), key=lambda f: (f[0][0] != "s", f[0])):
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            member.compress_type = options.get("compression", zipfile.ZIP_STORED)
            change(member)
            archive.writestr(member, content)
    return whole.getvalue()


def judged(content, records=None):
    """A bundle with all that is found about it."""
    found = bundle.examine(content, records)
    if found.ok:
        judging.judge(found, {})
    return found


def forged(change, of=POISONED, named=True):
    """One record changed by somebody who takes care that ids and commands still fit."""
    content = copy.deepcopy(next(iter(of.values())))
    change(content)
    if named:
        try:
            content["id"] = Cell.model_validate(content["cell"]).id
            content["command"] = f"bench run --cell {content['id']}"
        except (ValueError, KeyError, TypeError):
            pass
    return packed({str(content.get("id")): content})


def kept(folder, content):
    """Take a bundle in that must pass every check."""
    folder.mkdir(parents=True, exist_ok=True)
    records = Records(folder)
    found = judged(content, records)
    assert found.ok, found.reasons
    return keeping.keep_submission(found, records)


# What passes


@pytest.mark.slow
def test_published_records_of_ours_pass_every_check_and_keep_their_bytes(tmp_path):
    """What the program measured and wrote must never be refused as somebody's forgery, whatever version of it wrote it."""
    source = Records(PUBLISHED)
    there = [record.id for record in source if not outdated(record.versions, record.cell.parts)]
    chosen = packing.choose_records(there, source, named=False)
    ids = [cell_id for cell_id in there if source.read(cell_id).state == "done"]  # what does not apply is no number to send
    assert len(chosen.records) == len(ids) > 200
    content, found = packing.pack_records(chosen.records, source, "A. Author", "", "")
    assert found.ok and all(check.ok for check in found.checks)
    assert bundle.pack(found.submission, dict(reversed(found.contents.items()))) == content, "the same records, the same bytes"
    (tmp_path / "records").mkdir()
    one = keeping.keep_submission(found, Records(tmp_path / "records"))
    assert one.kept == ids and Records(tmp_path / "records").ids() == set(ids)
    for cell_id in ids:
        assert (tmp_path / "records" / f"{cell_id}.json").read_bytes() == source.path(cell_id).read_bytes()


def test_the_bundles_of_these_tests_are_those_of_the_program(tmp_path):
    """Or what is refused below would be refused for another reason."""
    found = judged(packed(REAL))
    assert found.ok, found.reasons
    assert [check.name for check in found.checks] == [
        *("archive", "submission.json", "records", "identity", "accuracy", "budget", "provenance", "dates", "copies"),
        *("entries", "versions", "recipes", "budgets", "data sets", "counts", "poisons", "code"),
    ]
    sent = Submission.model_validate(json.loads(zipfile.ZipFile(io.BytesIO(packed(REAL))).read("submission.json")))
    assert bundle.pack(sent, {i: bundle.canonical(c) for i, c in REAL.items()}) == packed(REAL)


def test_cpu_seconds_are_part_of_what_may_be_sent():
    """Records of today have them, those of yesterday have not."""
    found = judged(forged(set_("cpu_seconds", to={"craft": 0.5, "train": 1.5}), of=CLEAN))
    assert found.ok, found.reasons


def test_records_go_from_one_workspace_to_another_and_are_marked_there(tmp_path):
    """The two commands as people use them, on published records, by somebody whose name is meant to be a terminal's markup."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    (theirs / "results/records").mkdir(parents=True)
    for cell_id in REAL:
        shutil.copy(PUBLISHED / f"{cell_id}.json", theirs / "results/records")
    file = str(tmp_path / "sent.zip")
    command = ["submit", "--grid", "quick", "--defense", "jpeg", "--attack", "em,none", "--name", NAME, "--output", file]
    made = json.loads(call_bench(*command, "--json", workspace=theirs)[0])
    assert made["records"] == len(REAL) and made["bytes"] == Path(file).stat().st_size
    out, _ = call_bench("accept", file, workspace=ours)
    assert len(re.findall("^ok  ", out, re.MULTILINE)) == 18
    assert f"accepted {len(REAL)} records" in out and made["digest"][:12] in out
    (row,) = submission.submission_rows(Records(ours / "results/records"))
    assert (row["name"], row[SELF_REPORTED], row["replaced"]) == (NAME, len(REAL), 0)
    assert NAME in call_bench("accept", workspace=ours)[0]
    shown, _ = call_bench("report", "--grid", "quick", "--format", "markdown", workspace=ours)
    assert shown.count(SELF_REPORTED) == 2  # em and none, through jpeg


def test_a_bundle_that_is_refused_says_why_and_leaves_nothing(tmp_path):
    """All reasons at once, exit code 1, and no folder that was not there."""

    def cheat(content):
        content["metrics"]["test_acc"] = content["metrics"]["test_acc_best"] = 0.999
        content["poison"]["spent"] = 1.0

    (tmp_path / "bad.zip").write_bytes(forged(cheat))
    out, error = call_bench("accept", str(tmp_path / "bad.zip"), workspace=tmp_path / "ours", code=1)
    assert "BAD  accuracy" in out and "BAD  budget" in out and "its curve says" in out and "nothing of it was kept" in error
    assert not (tmp_path / "ours").exists()
    _, error = call_bench("accept", str(tmp_path / "none.zip"), workspace=tmp_path / "ours", code=2)
    assert "there is no bundle" in error


# What is refused


def set_(*path, to):
    """Change one value of a record, by the keys that lead to it."""

    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return change


def several(*changes):
    def change(content):
        for one in changes:
            one(content)

    return change


def shorter(content):
    for curve in ("train_acc", "train_loss", "test_acc", "test_loss"):
        content["metrics"]["curve"][curve] = content["metrics"]["curve"][curve][-3:]
    best = max(content["metrics"]["curve"]["test_acc"])
    content["metrics"]["test_acc_best"] = best


def untold(key):
    return lambda content: content["versions"].pop(key)


BEST = {"name": "best", "fields": {}, "text": "best"}
CHANGES = {
    "seed as text": (set_("cell", "seed", to="0"), "cell.seed"),
    "accuracy as text": (set_("metrics", "test_acc", to="0.9"), "metrics.test_acc"),
    "true as a number": (set_("peak_memory", to=True), "peak_memory"),
    "a list for an object": (set_("metrics", to=[1]), "metrics"),
    "a text for a curve": (set_("metrics", "curve", "test_acc", to="0.9"), "test_acc"),
    "another field": (set_("__class__", to="os.system"), "__class__"),
    "another format": (set_("format", to=2), "format"),
    "beyond 1": (set_("metrics", "test_acc", to=1.5), "metrics.test_acc"),
    "beyond 1 in a curve": (set_("metrics", "curve", "test_acc", 0, to=7.0), "not within 0..1"),
    "not the curve's last": (set_("metrics", "test_acc", to=0.31), "its curve says"),
    "not the curve's best": (set_("metrics", "test_acc_best", to=1.0), "its curve says"),
    "a shorter training": (shorter, "its recipe takes 10"),
    "curves of different lengths": (set_("metrics", "curve", "test_loss", to=[0.1]), "different lengths"),
    "no curve": (set_("metrics", "curve", to={}), "empty"),
    "seconds below zero": (set_("cpu_seconds", to={"train": -1.0}), "cpu_seconds"),
    "seconds of no stage": (set_("cpu_seconds", to={"idle": 1.0}), "cpu_seconds"),
    "a number too large": (set_("peak_memory", to=10**30), "too large"),
    "a long text": (set_("device", to="cpu: " + "x" * 5000), "5,005 characters"),
    "a long list": (set_("metrics", "curve", "shifts", to=[0.0] * 200_000), "allowed are"),
    "a deep list": (set_("cell", "attack", 0, "fields", "x", to=json.loads("[" * 50 + "]" * 50)), "depth"),
    "another command": (lambda c: c.update(command=f"bench run --cell {c['id']}; rm -rf ~"), "command"),
    "a command of another cell": (lambda c: c.update(command="bench run --cell 0123456789abcdef"), "command is not the one"),
    "another id": (lambda c: c.update(id="0123456789abcdef"), "hashes to"),
    "not applicable": (several(set_("state", to="not-applicable"), set_("reason", to="x")), "state"),
    "changed code": (lambda c: c.update(commit=c["commit"] + "-dirty"), "commit"),
    "no version": (untold("attack:em"), "does not say the version of attack:em"),
    "an old version": (set_("versions", "defense:jpeg", to="7"), "stale"),
    "another package's entry": (set_("versions", "defense:jpeg", to="1 of evil 2.0"), "here it is '1'"),
    "other numerics": (set_("numerics", to={"dtype": "fp8", "compile": False, "threads": 1}), "dtype"),
    "beyond its budget": (set_("poison", "spent", to=0.5), "spent 0.5 of linf"),
    "a wider budget": (several(set_("poison", "spent", to=0.5), set_("poison", "allowed", to=0.5)), "promises"),
    "another norm": (set_("poison", "norm", to="l2"), "promises linf"),
    "no bound": (several(set_("poison", "norm", to="none"), set_("poison", "allowed", to=None)), "promises linf"),
    "no poison": (set_("poison", to=None), "lacks a poison"),
    "strange numerics of a poison": (set_("poison", "numerics", to={"dtype": "<b>"}), "poison.numerics"),
    "no checksum": (set_("poison", "checksum", to="c0ffee"), "poison.checksum"),
    "another recipe": (set_("recipe", "epochs", to=600), "protocol quick says 10"),
    "more augmentation": (set_("recipe", "augmentation", to=["flip"]), "protocol quick says"),
    "no recipe": (set_("recipe", to={}), "other fields than protocol quick"),
    "a protocol that says less": (set_("cell", "protocol", "fields", "epochs", to=1), "other fields than"),
    "the text of something else": (set_("cell", "attack", 0, "text", to="lsp"), "does not stand for em"),
    "fields that the text hides": (set_("cell", "attack", 0, "fields", "epsilon", to=0.5), "other fields than"),
    "a number of another type": (set_("cell", "attack", 0, "fields", "epsilon", to="8/255"), "cannot be written in a spec"),
    "a field of no entry": (set_("cell", "attack", 0, "fields", "hack", to=1), "other fields than"),
    "a path of this machine": (
        set_("cell", "attack", 0, "fields", "dataset", to="x(y=folder:/etc)"),
        "cannot be written in a spec",
    ),
    "an entry of nobody": (
        several(set_("cell", "attack", 0, to=BEST), set_("versions", "attack:best", to="1")),
        "and the record does not name its package",
    ),
    "a name that is a path": (set_("cell", "attack", 0, "name", to="../../etc/passwd"), "does not say the version"),
    "other images": (set_("dataset_fingerprint", to="0" * 64), "other images of digits"),
    "a share beyond 1": (set_("cell", "ratio", to=1.5), "cell.ratio"),
    "another part": (set_("cell", "part", to="half"), "none of all, clean"),
    "a day of no calendar": (set_("finished", to="9999-99-99T99:99:99+00:00"), "finished"),
    "the year 0": (set_("finished", to="0000-01-01T00:00:00+00:00"), "finished"),
    "other digits": (set_("finished", to="٢٠٢٦-11-21T00:00:00+00:00"), "finished"),
    "before the program": (set_("finished", to="1970-01-01T00:00:00+00:00"), "from 2026-01-01 to now"),
    "in the future": (set_("finished", to="2999-01-01T00:00:00+00:00"), "from 2026-01-01 to now"),
    "a number of 400 digits": (set_("metrics", "test_acc", to=10**400), "beyond 2^53 is too large"),
    "a script for a note": (set_("poison", "notes", to={SCRIPT: 1.0}), "poison.notes"),
    "a script for a curve": (set_("metrics", "curves", to={SCRIPT: [1.0]}), "metrics.curves"),
    "curves of an analysis": (set_("metrics", "curves", to={"rate": [1.0]}), "only to them"),
    "a loss below zero": (set_("metrics", "curve", "test_loss", 0, to=-1.0), "below zero"),
    "the accuracy of no network": (
        set_("cell", "architecture", to={"name": "na", "fields": {}, "text": "na"}), "of no network"
    ),
    "no whole number of test images": (
        set_("metrics", "curve", "test_acc", 0, to=0.123456),
        "is not a whole number of 450 test images",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_a_record_that_breaks_a_rule_is_refused_for_it(case):
    """Everything else about it is in order: its id, its checksum, its place in the bundle."""
    change, told = CHANGES[case]
    found = judged(forged(change, named=case not in ("another command", "a command of another cell", "another id")))
    assert not found.ok and told in " ".join(found.reasons), found.reasons
    assert all("\n" not in reason and len(reason) < 700 for reason in found.reasons)


def with_text(old, new):
    """The bundle of one record in which a piece of text is replaced, whatever JSON that is then."""
    (cell_id, content), *_ = CLEAN.items()
    text = bundle.canonical(content).decode()
    assert old in text
    changed = text.replace(old, new, 1).encode()
    sent = Submission(name="A", program="0.1.0", trees=[content["tree"]], records={cell_id: sha256(changed)})
    return bundle.pack(sent, {cell_id: changed})


TEXTS = {
    "NaN": ('"peak_memory": ', '"peak_memory": NaN, "x": ', "NaN"),
    "infinity": ('"format": 1', '"format": Infinity', "Infinity"),
    "minus infinity": ('"format": 1', '"format": -Infinity', "-Infinity"),
    "a number beyond all": ('"format": 1', '"format": 1e999', "inf is too large"),
    "a number of a million digits": ('"format": 1', '"format": 1' + "0" * 500_000, "JSON"),
    "a key twice": ('"format": 1', '"format": 1,\n "format": 1', "a key twice"),
    "a second verdict": ('"state": "done"', '"state": "done",\n "state": "done"', "a key twice"),
    "other blanks": ('"format": 1', '"format":1', "other blanks"),
    "a comment": ('"format": 1', '"format": 1 /* */', "not the JSON"),
    "letters beyond ASCII": ('"format": 1', '"förmat": 1', "not the JSON"),
    "nothing": ('"format": 1', "", "not the JSON"),
    "an abyss": ('"format": 1', '"format": ' + "[" * 200_000 + "]" * 200_000, "depth"),
    "half a pair": ('"reason": ""', '"reason": "\\ud800"', "U+D800"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_file_that_is_not_the_programs_json_is_refused(case):
    """Parsers differ in what they make of such files; nobody shall have to know."""
    old, new, told = TEXTS[case]
    found = judged(with_text(old, new))
    assert not found.ok and told in " ".join(found.reasons), found.reasons
    assert max(map(len, found.reasons)) < 700


RECORD = f"records/{next(iter(REAL))}.json"
FILES = {
    "submission.json": zipfile.ZipFile(io.BytesIO(packed(REAL))).read("submission.json"),
    **{f"records/{cell_id}.json": bundle.canonical(content) for cell_id, content in REAL.items()},
}


def link(member):
    if member.filename == RECORD:
        member.external_attr = (stat.S_IFLNK | 0o777) << 16


def lying():
    """An archive whose directory says that a record has 3 GB."""
    content = bytearray(zipped(FILES))
    place = content.rindex(RECORD.encode()) - 46
    assert content[place : place + 4] == b"PK\x01\x02"
    content[place + 24 : place + 28] = (3 << 30).to_bytes(4, "little")
    return bytes(content)


ARCHIVES = {
    **{
        f"the name {name!r}": (zipped(FILES | {name: b"{}"}), "expected submission.json and records/")
        for name in ("records/../../escaped.json", "/etc/cron.d/x", "..\\x.json", "records/x/y.json", "records/AAAA.json")
    },
    "a script": (zipped(FILES | {"setup.py": b"import os"}), "it holds 'setup.py'"),
    "a pickle": (pickle.dumps(REAL), "not a zip archive"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + b"0" * 100, "not a zip archive"),
    "nothing": (b"", "not a zip archive"),
    "an empty archive": (zipped({}), "there is no submission.json"),
    "a link": (zipped(FILES, link), "is a link"),
    "a file twice": (zipped([*FILES.items(), (RECORD, FILES[RECORD])]), "is there 2 times"),
    "another order": (zipped([*reversed(FILES.items())]), "not byte for byte"),
    "something before it": (b"#!/bin/sh\nexec evil\n" + zipped(FILES), "not byte for byte"),
    "something behind it": (zipped(FILES) + b"<script>", "not byte for byte"),
    "compressed": (zipped(FILES, compression=zipfile.ZIP_DEFLATED), "compressed"),
    "a bomb": (zipped(FILES | {RECORD: b" " * 20_000_000}, compression=zipfile.ZIP_DEFLATED), "compressed"),
    "a large record": (zipped(FILES | {RECORD: b" " * 2_000_000}), "2,000,000 bytes, allowed are 1,048,576"),
    "a size that lies": (lying(), "3,221,225,472 bytes"),
    "many files": (zipped({f"records/{n:016x}.json": b"" for n in range(5002)}), "5002 files"),
    "half of it": (zipped(FILES)[:-500], "not a zip archive"),
    "a record that is not listed": (zipped(FILES | {f"records/{'0' * 16}.json": b"{}\n"}), "does not list record 0000"),
    "a record that is missing": (zipped({k: v for k, v in FILES.items() if k != RECORD}), "which the bundle lacks"),
    "a record that was changed": (zipped(FILES | {RECORD: b"{}\n"}), "was changed"),
    "a record of another cell": (packed({"0" * 16: next(iter(REAL.values()))}), "its cell hashes to"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHIVES)
def test_an_archive_that_is_not_a_bundle_is_refused(case, tmp_path):
    """Before a record is opened; and nothing is written anywhere."""
    content, told = ARCHIVES[case]
    if case == "something behind it":
        told = "no"  # a zip reader may or may not find the archive in it
    found = judged(content, Records(tmp_path))
    assert not found.ok and told in " ".join(found.reasons), found.reasons
    assert not list(tmp_path.iterdir())


def test_a_file_larger_than_any_bundle_is_not_read(tmp_path, monkeypatch):
    """Memory is not what decides."""
    monkeypatch.setattr(bundle, "MOST_BYTES", 1000)
    (tmp_path / "large.zip").write_bytes(packed(REAL))
    with pytest.raises(FileError, match="a bundle has 1,000 at most"):
        bundle.read_bundle(tmp_path / "large.zip")
    with pytest.raises(FileError, match="too many for one bundle"):
        bundle.pack(Submission(name="A", program="1", trees=[], records=dict.fromkeys(REAL, "0" * 64)), {"a" * 16: b"x" * 1000})


def leaves(value, path=()):
    """Every text of a JSON value, keys included, by the way that leads to it; a key's ends in None."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield (*path, key, None)
            yield from leaves(one, (*path, key))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from leaves(one, (*path, place))
    elif isinstance(value, str):
        yield path


def replaced(value, path, text):
    """A JSON value with another text at a place."""
    value = copy.deepcopy(value)
    inner, (*way, last) = value, path
    for key in way if last is not None else way[:-1]:
        inner = inner[key]
    if last is None:
        inner[text] = inner.pop(way[-1])
    else:
        inner[last] = text
    return value


@pytest.mark.parametrize(
    "evil", [SCRIPT, "'\"><img src=x onerror=alert(1)>", "x\u202ey", "x\x1b[2Jy", "x\u0000", "=cmd|'/c calc'!A1"]
)
def test_no_text_of_a_record_can_be_made_a_strangers(evil, tmp_path):
    """Names, fields, host, device, command, versions, keys: each place once. The forms of records leave room for none."""
    content = next(iter(POISONED.values()))
    ways = list(leaves(content))
    assert len(ways) > 150
    for way in ways:
        found = judged(forged(lambda c, way=way: (c.clear(), c.update(replaced(content, way, evil))), named=way[0] == "cell"))
        assert not found.ok, way
        assert not any(submission.unfit(reason) for reason in found.reasons), "a reason is printed on a terminal"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "A\u202eB"}, "U+202E"),
        ({"note": "two\nlines"}, "U+000A"),
        ({"contact": "x\x1b]0;y\x07"}, "U+001B"),
        ({"name": "A\u200bB"}, "U+200B"),
        ({"name": ""}, "name"),
        ({"name": " A "}, "blanks"),
        ({"name": "\u3164"}, "U+3164"),
        ({"name": "\u2800"}, "U+2800"),
        ({"name": "\u0301"}, "stands over nothing"),
        ({"name": "A" + "\u0301" * 90}, "more than 4 marks"),
        ({"name": "-"}, "no letter or digit"),
        ({"name": "x" * 101}, "at most 100"),
        ({"note": "x" * 1001}, "1,001 characters"),
        ({"name": 3}, "name"),
        ({"records": {}}, "records"),
        ({"records": {"../x": "0" * 64}}, "records"),
        ({"trees": ["0" * 64]}, "other code than its records"),
        ({"program": SCRIPT}, "program"),
        ({"run": "setup.py"}, "run"),
    ],
)
def test_who_sends_it_is_held_to_a_form_too(fields, told):
    """It is the text that is most a stranger's own, and it is on every page."""
    found = judged(packed(REAL, **fields))
    assert not found.ok and told in " ".join(found.reasons), found.reasons


def test_records_that_contradict_each_other_about_a_poison_are_refused():
    """One recipe on one machine gives one poison; seeds apart."""
    other = json.loads(json.dumps(next(iter(POISONED.values()))).replace('"jpeg"', '"grayscale"'))
    found = published(attack="em", defense="grayscale")
    other = copy.deepcopy(
        next(one for one in found.values() if one["cell"]["seed"] == next(iter(POISONED.values()))["cell"]["seed"])
    )
    other["poison"]["checksum"] = "0" * 64
    wrong = judged(packed(POISONED | {other["id"]: other}))
    assert "different poisons of one recipe" in " ".join(wrong.reasons)


def test_a_method_that_is_not_installed_here_is_taken_in_as_such(tmp_path):
    """Keepers need not install strangers' packages to show their numbers; the page says what is not known of it."""

    def another(content):
        part = {"name": "sparkle", "fields": {"epsilon": 8 / 255, "rounds": 3}, "text": "sparkle(rounds=3)"}
        content["cell"]["attack"] = [part]
        content["versions"]["attack:sparkle"] = "2 of bench-sparkle 0.3"

    found = judged(forged(another))
    assert found.ok, found.reasons
    said = {check.name: check.detail for check in found.checks}["entries"]
    assert "not installed here" in said and "attack:sparkle (2 of bench-sparkle 0.3)" in said
    for change, told in (
        (set_("recipe", "epochs", to=600), "protocol quick says 10"),
        (set_("poison", "spent", to=0.5), "spent 0.5"),
        (set_("cell", "attack", 0, "text", to="sparkle(rounds=4)"), "does not stand for sparkle"),
        (set_("cell", "attack", 0, "fields", "hidden", to=SCRIPT), "cannot read"),
    ):
        wrong = judged(forged(several(another, change)))
        assert not wrong.ok and told in " ".join(wrong.reasons), wrong.reasons
    kept(tmp_path, forged(another))
    files = Site(distinct(other_tables(Records(tmp_path), set()))).files()
    assert "self-reported" in files["index.html"] and "not installed here" in files["attack.sparkle.html"]


def test_a_curve_under_another_seed_is_refused(tmp_path):
    """Whoever copies a record to more seeds makes a number look surer than it is: his own or one that is here."""
    mine, other = POISONED.values()
    copied = {other["id"]: other | {"metrics": mine["metrics"]}}
    for content, records in ((packed(POISONED | copied), None), (packed(copied), Records(tmp_path))):
        if records is not None:
            records.path(mine["id"]).write_bytes(bundle.canonical(mine))
        found = judged(content, records)
        assert "which two trainings never have" in " ".join(found.reasons), found.reasons


# Cells that are here already


def test_a_cell_that_is_here_is_kept_as_it_is(tmp_path):
    """The same bytes are no news, and nobody can put his name on them; another number is refused, with both."""
    ours = Records(tmp_path)
    (cell_id, content), *_ = REAL.items()
    ours.path(cell_id).write_bytes(bundle.canonical(content))
    one = kept(tmp_path, packed(REAL))
    assert cell_id not in one.kept and len(one.kept) == len(REAL) - 1
    assert cell_id not in Records(tmp_path).origins and len(Records(tmp_path).origins) == len(REAL) - 1
    different = copy.deepcopy(REAL)
    curve = different[cell_id]["metrics"]["curve"]["test_acc"]
    curve[-1] = different[cell_id]["metrics"]["test_acc"] = 0.5
    different[cell_id]["metrics"]["test_acc_best"] = max(curve)
    different[cell_id]["metrics"]["curve"]["shifts"] = []
    found = judged(packed(different), ours)
    (reason,) = found.reasons
    assert "is there already, measured here" in reason and f"{100 * content['metrics']['test_acc']:.2f}%" in reason
    assert "the bundle says 50.00%" in reason


def test_somebody_elses_records_sent_again_stay_the_first_senders(tmp_path):
    """Records are public once they are published; whose they are is not to be had by sending them again."""
    kept(tmp_path, packed(CLEAN, name="First"))
    kept(tmp_path, packed(REAL, name="Second"))
    origins = Records(tmp_path).origins
    assert {origins[cell_id].who for cell_id in CLEAN} == {"First"}
    assert {origins[cell_id].who for cell_id in POISONED} == {"Second"}


def test_nothing_is_half_taken_in(tmp_path, monkeypatch):
    """A disk that fills up in between leaves the folder as it was."""
    found = judged(packed(REAL), Records(tmp_path))
    written = []

    def failing(path, text):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.write_bytes(text)

    monkeypatch.setattr(keeping, "create_file", failing)
    with pytest.raises(FileError, match="No space left on device; nothing was accepted"):
        keeping.keep_submission(found, Records(tmp_path))
    assert len(written) == 2 and not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_cell_that_is_measured_while_a_bundle_is_looked_at_keeps_its_record(tmp_path):
    """Looking takes seconds, and a number of ours is never replaced, nor is the rest of the bundle half taken in."""
    records = Records(tmp_path)
    found = judged(packed(REAL), records)
    mine = sorted(REAL)[-1]
    ours = bundle.canonical(REAL[mine] | {"finished": "2026-11-22T00:00:00+00:00"})
    records.path(mine).write_bytes(ours)
    with pytest.raises(FileError, match=f"cell {mine} was measured here meanwhile and keeps its record; nothing was accepted"):
        keeping.keep_submission(found, records)
    assert records.path(mine).read_bytes() == ours
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [records.path(mine)]


def test_a_kill_in_between_makes_nobodys_number_ours_and_the_same_bundle_completes_it(tmp_path):
    """Whose records are is written before the first of them."""
    one = kept(tmp_path, packed(REAL))
    gone = sorted(REAL)[1:]
    for cell_id in gone:
        (tmp_path / f"{cell_id}.json").unlink()
    assert set(Records(tmp_path).origins) == {sorted(REAL)[0]}
    assert kept(tmp_path, packed(REAL)) == one
    assert set(Records(tmp_path).origins) == set(REAL)


def test_a_submission_can_be_withdrawn_but_not_what_was_measured_here_since(tmp_path):
    """The keeper's way back."""
    one = kept(tmp_path, packed(REAL))
    mine = sorted(REAL)[0]
    (tmp_path / f"{mine}.json").write_bytes(bundle.canonical(REAL[mine] | {"finished": "2026-11-22T00:00:00+00:00"}))
    assert mine not in Records(tmp_path).origins, "measured anew it is ours"
    assert keeping.withdraw(keeping.find(one.short[:6], Records(tmp_path)), Records(tmp_path)) == len(REAL) - 1
    assert Records(tmp_path).ids() == {mine} and not submission.taken(tmp_path)
    with pytest.raises(FileError, match="accepted are: none"):
        keeping.find(one.short, Records(tmp_path))


@pytest.mark.parametrize(
    "harm", [lambda text: "", lambda text: text[:50], lambda text: text.replace('"format": 1', '"format": 2')]
)
def test_records_whose_owner_is_unknown_do_not_pass_for_ours(tmp_path, harm):
    """Without the file beside them they would; so the report stops instead."""
    one = kept(tmp_path, packed(REAL))
    path = one.path(tmp_path)
    path.write_text(harm(path.read_text()))
    with pytest.raises(FileError, match="does not say whose records are somebody else's"):
        grid_table(GRID, Records(tmp_path), "quick", resolve)


# What is packed


def test_only_what_was_measured_here_by_known_code_is_packed(tmp_path):
    """Stale, failed, of changed code, somebody else's: a sentence each, before anybody is sent anything."""
    records = Records(tmp_path)
    kept(tmp_path, packed(CLEAN))
    theirs, *_ = CLEAN
    mine, other = POISONED
    (tmp_path / f"{mine}.json").write_bytes(bundle.canonical(POISONED[mine]))
    chosen = packing.choose_records([cell.id for cell in GRID.cells(resolve, lacking)], records, named=False)
    assert [r.id for r in chosen.records] == [mine]
    assert chosen.left == {"not run yet": len(GRID.cells(resolve, lacking)) - 3, "measured by others": 2}

    def refused(told, cell_id=mine, named=True, **changes):
        if changes:
            (tmp_path / f"{cell_id}.json").write_bytes(bundle.canonical(POISONED[cell_id] | changes))
        with pytest.raises(FileError, match=told) as caught:
            packing.choose_records([cell_id], Records(tmp_path), named)
        assert "\n" not in str(caught.value)

    refused("is A. Author's, of submission", theirs)
    refused("there is no record of cell", other)
    refused("nothing to submit: 1 not run yet", other, named=False)
    refused("is stale: attack:em was version 0", versions=POISONED[mine]["versions"] | {"attack:em": "0"})
    refused("of changed code: commit, then run it again", commit="0" * 40 + "-dirty")
    cell = Cell.model_validate(POISONED[other]["cell"])
    records.fail(Failure(id=other, cell=cell, kind="memory", message=""))
    refused("failed, memory; `bench retry` runs it again", other, named=False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["submit", "--grid", "quick"], "--name is missing"),
        (["submit", "--name", "A"], "there are no records"),
        (["submit", "0" * 16, "--grid", "quick", "--name", "A"], "leave --grid and the selectors out"),
        (["accept", "abcdef"], "neither a bundle nor the digest of one submission; accepted are: none"),
        (["accept", "x.zip", "--dry-run", "--rerun", "1"], "--dry-run keeps nothing"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(arguments, told, tmp_path):
    """Exit code 2, nothing on standard output."""
    out, error = call_bench(*arguments, workspace=tmp_path, code=2)
    assert out == "" and told in error


def test_the_schema_can_be_had(tmp_path):
    """For those who make such files by other means; it is what bundles are checked by."""
    files = json.loads(call_bench("submit", "--schema")[0])["files"]
    assert set(files) == {"submission.json", "records/<id>.json"}
    for schema in files.values():
        assert schema["additionalProperties"] is False
    assert files["records/<id>.json"]["properties"]["id"]["pattern"] == "^[0-9a-f]{16}$"
    younger = {"cpu_seconds"}  # than the records of these tests
    assert set(next(iter(REAL.values()))) | younger == set(files["records/<id>.json"]["properties"])


# What pages say


def marked(records, wanted, **checks):
    """Make records of a folder somebody else's, as if they had been taken in."""
    listed = {cell.id: sha256(records.path(cell.id).read_bytes()) for cell in wanted}
    sent = Submission(
        name=checks.pop("name", "A. Author"), note=checks.pop("note", ""), program="0.1.0", trees=[], records=listed
    )
    one = Taken(digest=sha256(repr(sent).encode()), accepted="2026-11-21T12:00:00+00:00", submission=sent, kept=[*listed])
    for cell in wanted:
        if "poisons" in checks:
            one.poisons[cell.id] = submission.Verified(
                agrees=checks["poisons"], checksum="0" * 64, device="cpu: x", tree="0" * 64, finished=one.accepted
            )
        if "reruns" in checks:
            one.reruns[cell.id] = submission.Rerun(
                agrees=checks["reruns"], test_acc=0.5, tolerance=0.01, device="cpu: x", tree="0" * 64, finished=one.accepted
            )
    one.write(records.folder)
    return Records(records.folder)


def ids(attack=None, seed=None):
    return [c for (a, _, s), c in cells().items() if attack in (None, a) and seed in (None, s)]


@pytest.mark.parametrize(
    ("trust", "checks", "trusted"),
    [
        (SELF_REPORTED, {}, False),
        (SELF_REPORTED, {"poisons": False}, False),
        (VERIFIED, {"poisons": True}, False),
        (RERUN, {"poisons": True, "reruns": True}, True),
        (SELF_REPORTED, {"reruns": None}, False),
        (DISPUTED, {"poisons": True, "reruns": False}, False),
    ],
)
def test_a_number_of_others_is_marked_everywhere_and_ranked_only_once_measured_here(tmp_path, trust, checks, trusted):
    """Boards in every form, both views, the page of sources, the drawer, the list of submissions."""
    records = Records(tmp_path)
    fill(records)
    records = marked(records, ids("ops"), **checks)
    b = made(records)
    assert b.scores[("ops",), ("none",)].trust == trust and b.scores[("none",), ("none",)].trust == ""
    assert b.scores[("ops",), ("none",)].mean == pytest.approx(0.21)
    files = Site([b]).files()
    for text in (
        formats.markdown(b),
        formats.latex(b),
        formats.csv(b),
        formats.json_(b),
        files["quick.html"],
        files["quick.defenses.html"],
    ):
        assert trust in text.replace("{-}", "-")
    assert f"{trust}, by A. Author, submission" in files["sources.ops.html"]
    assert f'"by":"{trust}, by A. Author' in files["quick.html"] and "A. Author" in files["coverage.html"]
    ranks = {row: summary.rank for (row,), summary in b.ranking.items()}
    assert ranks == {"none": None, "ops": 1 if trusted else None, "random-noise": 2 if trusted else 1}
    defenders = b.transposed().ranking
    assert defenders["none",].worst == ("ops" if trusted else "random-noise")
    assert all(standing.rank for standing in defenders.values()), "what others report keeps nobody from a rank"
    assert ("reported by others" in files["quick.html"]) != trusted
    untold = formats.json_(made(Records(filled(tmp_path / "ours"))))
    assert trust not in untold.replace('"tier": ""', "")


def filled(folder):
    folder.mkdir()
    fill(Records(folder))
    return folder


def test_ours_and_theirs_are_never_in_one_mean(tmp_path):
    """Where a seed of ours is there, it is the number; theirs stays in the sources."""
    records = Records(tmp_path)
    fill(records)
    records = marked(records, ids("ops", 1))
    value = made(records).scores[("ops",), ("none",)]
    assert value.accuracies == pytest.approx((0.2,)) and value.n == 1 and value.trust == "" and len(value.runs) == 2
    assert "n = 1" in words.note(value, 2)
    files = Site([made(records)]).files()
    assert SELF_REPORTED in files["sources.ops.html"] and files["quick.html"].count('"apart":true') == 3


def test_a_drop_of_ours_is_not_from_a_clean_number_of_others(tmp_path):
    """Or whoever reports the clean row decides how well every attack works."""
    records = Records(tmp_path)
    fill(records)
    b = made(marked(records, ids("none")))
    assert b.scores[("ops",), ("none",)].drop is None and b.scores[("none",), ("none",)].trust == SELF_REPORTED


def test_measured_here_again_it_is_ours(tmp_path):
    """`bench run --force` replaces the file; whose it was is forgotten with its bytes."""
    records = Records(tmp_path)
    fill(records)
    records = marked(records, ids("ops"))
    for cell in ids("ops"):
        records.write(record(cell, 0.3), replace=True)
    value = made(Records(tmp_path)).scores[("ops",), ("none",)]
    assert value.trust == "" and value.mean == pytest.approx(0.3)
    assert submission.submission_rows(Records(tmp_path))[0]["replaced"] == len(ids("ops"))


def test_printed_tables_mark_numbers_of_others_and_judge_nothing_by_them(tmp_path):
    """A verdict on a paper, and the tolerance behind it, are ours to give."""
    records = Records(tmp_path)
    fill(records)
    (plain,) = printed_tables(Grid.of(TABLE), records, resolve, lacking)
    (sheet,) = printed_tables(Grid.of(TABLE), marked(records, ids("ops")), resolve, lacking)
    by_attack = {score.request.fields["attack"]: score for score in sheet.direct}
    trust_levels = {attack: (score.trust, score.marks, score.measured_here is None) for attack, score in by_attack.items()}
    assert trust_levels["ops"] == (SELF_REPORTED, (SELF_REPORTED,), True) and trust_levels["none"] == ("", (), False)
    assert sum(one.freedom for one in sheet.spread.values()) < sum(one.freedom for one in plain.spread.values())


def test_an_aggregate_is_trusted_as_little_as_its_least_trusted_part():
    """A mean over a number that was measured here again and one that is disputed is no number of ours."""
    cell = GRID.cells(resolve, lacking)[0]
    place = GRID.requests[0]
    again, disputed, ours = (
        MeasuredScore(place, (SeedRun(cell, "done", record=record(cell), origin=origin),))
        for origin in (Origin(RERUN, "A. Author", "0" * 8), Origin(DISPUTED, "A. Author", "0" * 8), None)
    )
    mean = AggregateScore(place, parts=(again, disputed), combined={0: 50.0})
    assert (mean.trust, mean.reported) == (DISPUTED, True)
    mean = AggregateScore(place, parts=(ours, again), combined={0: 50.0})
    assert (mean.trust, mean.reported) == (RERUN, False)


def test_a_stranger_does_not_date_a_publication(tmp_path):
    """Their clock may be a day ahead; what is cited is dated by ours."""
    records = Records(tmp_path / "records")
    tomorrow = (datetime.now(UTC) + timedelta(hours=23)).isoformat(timespec="seconds")
    one = kept(records.folder, packed({cell_id: content | {"finished": tomorrow} for cell_id, content in REAL.items()}))
    with published_records(records, tmp_path, allow_dirty=False) as chosen:
        assert chosen.date == one.accepted[:10] < tomorrow[:10]


@pytest.mark.slow
def test_what_is_published_says_whose_it_is_too(tmp_path):
    """A publication has the records with it: without the files beside them they would pass for the publisher's own."""
    kept(tmp_path / "results/records", packed(REAL))
    call_bench("publish", "--to", str(tmp_path / "public"), workspace=tmp_path)
    assert Records(tmp_path / "public/data/records").origins == Records(tmp_path / "results/records").origins
    assert SELF_REPORTED in (tmp_path / "public/index.html").read_text()


@pytest.mark.slow
def test_texts_of_a_submitter_are_inert_on_every_page(tmp_path):
    """Name and note are theirs to choose."""
    records = Records(tmp_path)
    fill(records)
    b = made(marked(records, ids("ops"), name=SCRIPT, note="=1+1 '\"><img src=x onerror=alert(1)>"))
    shown = 0
    for name, text in Site([b]).files().items():
        if name.endswith(".html"):
            tree = html5lib.parse(text, namespaceHTMLElements=False)
            scripts = [node for node in tree.iter("script") if "json" not in node.get("type", "")]
            assert not any("alert" in (node.text or "") for node in scripts), name
            assert not [node for node in tree.iter() if any(key.startswith("on") for key in node.attrib)], name
            assert not [node for node in tree.iter("img") if not node.get("src", "").startswith("data:")], name
            shown += html.escape(SCRIPT) in text or "\\u003cscript" in text
    assert shown >= 3
    assert all(SCRIPT not in text for text in every_text(b))


# At random


@given(place=st.floats(0, 1), cut=st.integers(0, 40), put=st.binary(max_size=40))
@settings(max_examples=200)
def test_whatever_happens_to_the_bytes_of_a_bundle_it_is_refused_in_words(place, cut, put):
    """No byte of it is free: each one that changes is noticed, and none makes the program stumble."""
    content = packed(REAL)
    start = int(place * len(content))
    changed = content[:start] + put + content[start + cut :]
    found = judged(changed)
    assert found.ok == (changed == content)
    assert found.ok or all(reason and "\n" not in reason for reason in found.reasons)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.text(max_size=20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["none", "em", "folder:/etc", "8/255", "quick@0.1", "iss", "avatar", "imported", "lsp+swap", "(" * 50]),
    st.lists(st.integers(0, 9), max_size=3), st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=2),
)  # fmt: skip


@given(st.data())
@settings(max_examples=100)
def test_whatever_a_record_says_it_is_kept_whole_or_refused_in_words(tmp_path_factory, drawn):
    """Any value at any place, ids made to fit: no traceback, no file outside, nothing half kept."""
    content = copy.deepcopy(drawn.draw(st.sampled_from(sorted(REAL.values(), key=lambda one: one["id"]))))

    def nodes(value, path=()):
        yield path
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, one in inner:
            yield from nodes(one, (*path, key))

    for _ in range(drawn.draw(st.integers(1, 2))):
        way = drawn.draw(st.sampled_from([path for path in nodes(content) if path]))
        set_(*way, to=drawn.draw(VALUES))(content)
    try:
        content["id"] = Cell.model_validate(content["cell"]).id
        content["command"] = f"bench run --cell {content['id']}"
    except (ValueError, KeyError, TypeError):
        pass
    name = content["id"] if re.fullmatch("[0-9a-f]{16}", str(content.get("id"))) else "0" * 16
    folder = tmp_path_factory.mktemp("kept")
    found = judged(packed({name: content}), Records(folder))
    if not found.ok:
        assert all(reason and "\n" not in reason for reason in found.reasons)
        assert not list(folder.iterdir())
        return
    one = keeping.keep_submission(found, Records(folder))
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {f"{name}.json", f"submissions/{one.short}.json", ".sums"}
    assert Records(folder).read(name) is not None
    files = Site(distinct(other_tables(Records(folder), set()))).files()
    assert any("self-reported" in text for text in files.values() if isinstance(text, str))


# Checked again


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """What somebody measured on a few digits: a workspace, and its records as an installed wheel would have written them."""
    space = tmp_path_factory.mktemp("theirs")
    bench("run", *TINY, "--attack", "none,lsp", "--executor", "inline", workspace=space)
    found = {}
    for path in (space / "results/records").glob("*.json"):
        content = json.loads(path.read_text())
        found[content["id"]] = content | {"commit": ""}
    return space, found


def accept(content, space, *arguments, code=0):
    path = space.parent / f"{space.name}.zip"
    path.write_bytes(content)
    return json.loads(bench("accept", str(path), *arguments, "--json", workspace=space, code=code)[0])


@pytest.mark.slow
def test_a_poison_that_is_the_same_here_and_a_cell_measured_again_say_so(honest, tmp_path):
    """Real crafting and real training: trust levels are earned, not declared."""
    _, records = honest
    mine = ["--verify-poisons", "--rerun", "1", "--seed", "4", "--executor", "inline"]
    answer = accept(packed(records), tmp_path / "ours", *mine)
    assert [finding["agrees"] for finding in answer["findings"]] == [True] * 2  # one poison, one cell
    assert answer["seed"] == 4 and "the same" in answer["findings"][-1]["found"]
    ours = Records(tmp_path / "ours/results/records")
    trust_levels = [origin.trust for origin in ours.origins.values()]
    assert len(trust_levels) == 2 and trust_levels.count(RERUN) == 1
    assert [poison.agrees for poison in submission.taken(ours.folder)[0].poisons.values()] == [True]


@pytest.mark.slow
def test_a_poison_and_a_number_that_are_not_what_is_said_are_found_out(honest, tmp_path):
    """A checksum of something else, an accuracy that was wished for: both keep every rule, and neither survives a look."""
    _, records = honest
    wished = copy.deepcopy({cell_id: one for cell_id, one in records.items() if one["poison"] is not None})
    for one in wished.values():
        one["poison"]["checksum"] = "0" * 63 + str(one["cell"]["seed"])
        curve = one["metrics"]["curve"]
        curve["test_acc"][-1] = one["metrics"]["test_acc"] = one["metrics"]["test_acc_best"] = 1.0
        curve["shifts"] = []
    mine = ["--verify-poisons", "--rerun", "9", "--tolerance", "2", "--executor", "inline"]
    answer = accept(packed(wished), tmp_path / "ours", *mine, code=1)
    assert [finding["agrees"] for finding in answer["findings"]] == [False] * 2
    records = Records(tmp_path / "ours/results/records")
    assert {origin.trust for origin in records.origins.values()} == {DISPUTED}
    assert all(
        "another poison" in origin.detail and "measured again here" in origin.detail for origin in records.origins.values()
    )


def test_the_tolerance_of_a_rerun_is_the_spread_of_what_was_measured_here(tmp_path):
    """Whoever sends numbers must not be able to widen it by sending wild ones."""
    records = Records(tmp_path)
    fill(records)
    like = records.read(ids("ops", 0)[0].id)
    seen = verifying.spread_over_seeds(records, like)
    # nine cells with two seeds, 2 points apart: deviation sqrt(2) points, t of 9 degrees of freedom 2.262
    assert seen == pytest.approx(2.262 * 0.02 / 2**0.5 * 2**0.5, rel=1e-3)
    for cell in ids("random-noise", 1):
        records.write(record(cell, 0.01), replace=True)
    assert verifying.spread_over_seeds(marked(records, ids("random-noise")), like) == pytest.approx(2.447 * 0.02, rel=1e-3)
    assert verifying.spread_over_seeds(marked(records, [*ids("none"), *ids("ops")], name="B"), like) is None


def test_a_fingerprint_is_known_without_opening_the_images():
    """The one that `load` gives, of a whole set and of a part."""
    for item in ("digits", "digits(per_class=7)", "digits(per_class=7,test_per_class=2)"):
        part = resolve("datasets", item)[0]
        assert data.known_fingerprint(part) == load(part).fingerprint
