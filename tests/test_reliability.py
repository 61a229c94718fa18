"""The robustness campaign at a small size, and what it found: faults that must not come back."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import html5lib
import numpy as np
import psutil
import pytest
from campaign import commanded, faults, laws, told
from conftest import as_data, in_process, recipe, tiny
from test_import import smooth, take

from benchmark.work import failure_kind
from leaderboard import pages
from leaderboard.table import others
from poisons.lease import WINDOW, Lease, birth, holder
from poisons.store import DamagedError, Store, read_manifest, sealed, verify
from registry import EntryError
from results import Records

SMALL = {
    laws.items: 40,
    laws.tables: 60,
    laws.plans: 8,
    laws.cut_records: 120,
    laws.harmed_records: 60,
    laws.damaged_sets: 8,
    laws.imports: 40,
    laws.archives: 20,
    laws.pages: 1,
    faults.clocks: 4,
    faults.half_written: 2,
}


@pytest.mark.parametrize("experiment", SMALL, ids=lambda experiment: experiment.__name__)
def test_an_experiment_of_the_campaign_ends_well_at_a_small_size(experiment, tmp_path):
    """Nothing lost, nothing executed, every refusal one sentence; `make reliability` tries a hundred times as much."""
    tally = experiment(tmp_path, SMALL[experiment])
    assert tally.trials > 0 and tally.wrong == []


@pytest.mark.parametrize(
    "content", ["[]", "3", '{"0123456789abcdef": 3}', '{"0123456789abcdef": [[1, 2], {"x": 1}]}', "[" * 9000]
)
def test_a_memory_of_records_that_is_none_is_made_anew(tmp_path, content):
    """It may be deleted at any time, and so it may be anything."""
    records = Records(tmp_path)
    records.write(laws.a_record())
    (tmp_path / ".briefs").write_text(content)
    assert set(records.briefs()) == {laws.a_record().id}
    assert json.loads((tmp_path / ".briefs").read_text()).keys() == {laws.a_record().id}


@pytest.mark.parametrize("name", ["plan.json", "cells.jsonl"])
@pytest.mark.parametrize("content", [b"", b'{"cells": ["', b"[]", bytes(40)])
def test_a_run_whose_plan_is_not_whole_is_named(tmp_path, name, content):
    """A disk that failed under a driver: one sentence with the folder to remove."""
    commanded("run", *faults.SMALL, "--attack", "none", "--executor", "inline", "--limit", "1", "--workspace", tmp_path)
    (run,) = (tmp_path / ".bench/runs").iterdir()
    (run / "over").unlink()
    (run / name).write_bytes(content)
    for words in (("status", "--grid", "quick"), ("run", *faults.SMALL, "--dry-run")):
        code, _, err = commanded(*words, "--workspace", tmp_path)
        end = told(code, err)
        assert name != "plan.json" or (end == "exit 2, a sentence" and f"remove the folder {run}" in err)


@pytest.fixture
def kept(tmp_path):
    """A stored poison with a side product."""
    return Store(tmp_path / "cache").poison(recipe("ar"), as_data(tiny(16)))


def test_a_changed_figure_of_a_manifest_is_noticed(kept):
    """The budget as measured is what makes a poison citable."""
    path = kept.path / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"budget": manifest["budget"] | {"spent": 0.5}}))
    with pytest.raises(DamagedError, match="is not a whole manifest"):
        verify(kept.path)
    older = {key: value for key, value in manifest.items() if key not in ("seal", "kept")}
    path.write_text(json.dumps(older))
    verify(kept.path)  # of a store made before there were seals
    assert sealed(read_manifest(kept.path))["seal"] != manifest["seal"]


@pytest.mark.parametrize("name", ["checksum", "recipe", "text"])
def test_a_manifest_with_other_kinds_of_values_is_no_manifest(kept, name):
    """A number in the place of a checksum was a traceback."""
    path = kept.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: 3}))
    code, _, err = commanded("poisons", "verify", "--workspace", kept.path.parent.parent.parent)
    assert told(code, err)
    with pytest.raises(DamagedError):
        verify(kept.path)


def test_a_changed_side_product_is_noticed(kept):
    """Analyses read it as they read the images."""
    path = kept.path / "coefficients.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"coefficients\.npy was changed"):
        verify(kept.path)


@pytest.mark.parametrize(
    ("old", "new"), [(b"'<i8'", b"'>i8'"), (b"'<i8'", b"'<m8'"), (b"'<i8'", b"'(i8'"), (b"False", b"True ")]
)
def test_another_reading_of_the_same_bytes_is_noticed(kept, old, new):
    """One bit in a header: the checksum of the bytes stays, the labels are others. A header may also be no Python."""
    path = kept.path / ("labels.npy" if old != b"False" else "images.npy")
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(DamagedError, match=r"is not an array of|is not a whole array"):
        verify(kept.path)


def test_a_header_without_its_end_is_noticed(kept):
    """numpy reads it by Python's tokenizer, whose error is no ValueError."""
    path = kept.path / "labels.npy"
    path.write_bytes(path.read_bytes().replace(b"}", b" "))
    with pytest.raises(DamagedError, match="is not a whole array"):
        verify(kept.path)


def test_a_lease_from_the_future_is_free(tmp_path):
    """A clock that was set back by hours must not keep a cell for hours from everybody."""
    path = tmp_path / "x.lock"
    path.write_text(json.dumps(faults.ANOTHER_MACHINE))
    os.utime(path, (time.time() + 7200, time.time() + 7200))
    lease = Lease(path)
    assert lease.take()
    lease.release()
    path.write_text(json.dumps(faults.ANOTHER_MACHINE))
    os.utime(path, (time.time() + WINDOW / 2, time.time() + WINDOW / 2))
    assert not Lease(path).take(), "clocks may be a little apart"


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc")
def test_a_clock_that_is_set_robs_nobody(tmp_path, monkeypatch):
    """The start of a process, in seconds since 1970, moves with the clock; leases must not."""
    lease = Lease(tmp_path / "x.lock")
    assert lease.take()
    before = birth(psutil.Process())
    proc = tmp_path / "proc"
    proc.mkdir()
    for one in Path("/proc").iterdir():
        if one.name != "stat":
            (proc / one.name).symlink_to(one)
    boot = int(psutil.boot_time())
    (proc / "stat").write_text(Path("/proc/stat").read_text().replace(f"btime {boot}", f"btime {boot + 3600}"))
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc))
    there = holder(lease.path)
    assert there is not None and there.alive and birth(psutil.Process()) == pytest.approx(before, abs=0.5)
    lease.release()


def test_broken_files_of_others_are_refused_in_a_sentence(tmp_path):
    """What zip and numpy readers raise of damaged files is no business of a reader of our messages."""
    clean, store = as_data(smooth(24, 4)), Store(tmp_path / "cache")
    np.save(tmp_path / "x.npy", np.zeros((24, 3, 32, 32)))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content.replace(b"}", b" ", 1))
    with zipfile.ZipFile(tmp_path / "crc.zip", "w") as archive:
        for row in range(24):
            archive.writestr(f"{row}.png", b"\x89PNG" + bytes(90))
    content = (tmp_path / "crc.zip").read_bytes()
    (tmp_path / "crc.zip").write_bytes(content.replace(b"\x89PNG", b"\x88PNG"))
    with zipfile.ZipFile(tmp_path / "nameless.zip", "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = "\0"
        archive.writestr(info, b"")
    for name in ("x.npy", "crc.zip", "nameless.zip"):
        with pytest.raises(EntryError) as caught:
            take(store, tmp_path / name, clean)
        assert "\n" not in str(caught.value) and name in str(caught.value)


def test_control_characters_of_records_do_not_reach_a_page(tmp_path):
    """HTML forbids them; a page must be valid whatever a record of a stranger holds."""
    Records(tmp_path).write(laws.a_record(device="a\0b\x01c\x7fd\x9f\ufffe", commit="\x0b"))
    files = pages.Site(others(Records(tmp_path), set())).files()
    for name, text in files.items():
        if (name.endswith(".html") and "sources" in name) or name == "index.html":
            parser = html5lib.HTMLParser()
            parser.parse(text)
            assert parser.errors == [], name


CRAFT_ON_A_SMALL_DISK = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from conftest import as_data, recipe, tiny
from poisons.store import Store
try:
    Store(Path(sys.argv[1])).poison(recipe("lsp"), as_data(tiny(64)))
except OSError as error:
    print(error)
"""


def test_a_full_disk_does_not_end_the_process(tmp_path):
    """Memory that is mapped onto a full disk ended it by SIGBUS, without a word."""
    with faults.mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=100k", "none") as may:
        if not may:
            pytest.skip("needs the right to mount")
        command = [sys.executable, "-c", CRAFT_ON_A_SMALL_DISK, str(tmp_path / "disk"), str(Path(__file__).parent)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != -signal.SIGBUS
    assert done.returncode == 0 and "No space left on device" in done.stdout and "images.npy" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(28, "No space left on device", "x"), "disk"),
        (OSError("360 requested and 0 written"), "disk"),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed writing file"), "disk"),
        (FileNotFoundError(2, "No such file"), "plug-in"),
    ],
)
def test_a_full_disk_is_tried_again(error, kind):
    """It is no fault of the entry that was at work."""
    assert failure_kind(error) == kind


def test_nothing_of_ours_is_run_by_reading(tmp_path):
    """The bombs of the campaign do go off where somebody unpickles them; else they would prove nothing."""
    made = laws.bombs(tmp_path, tmp_path / "ran")
    raw = next(path for path in made if path.suffix == ".pkl")
    in_process("import pickle, sys; pickle.loads(open(sys.argv[1], 'rb').read())", raw)
    assert (tmp_path / "ran").is_dir() and len(made) > 20
