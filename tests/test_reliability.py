"""The robustness campaign at a small size, and what it found: faults that must not come back."""

import json
import math
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
import torch
from campaign import commanded, faults, laws, strangers, told
from conftest import as_data, in_process, recipe, tiny
from test_import import smooth, take

from unlearnable_bench.benchmark import cli, schedule
from unlearnable_bench.benchmark.work import failure_kind
from unlearnable_bench.leaderboard.pages.site import Site
from unlearnable_bench.leaderboard.tables.measured import other_tables
from unlearnable_bench.poisons.lease import WINDOW, Lease, birth, holder
from unlearnable_bench.poisons.recipe import PurifiedRecipe
from unlearnable_bench.poisons.store import DamagedError, Store, read_manifest, sealed, verify_set
from unlearnable_bench.registry import EntryError, Job, resolve
from unlearnable_bench.results import FileError, Records

SET = {"images.npy", "labels.npy", "manifest.json"}
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
    strangers.edited_records: 40,
    strangers.bundles: 16,
    faults.clocks: 4,
    faults.half_written: 2,
}


@pytest.mark.parametrize("experiment", SMALL, ids=lambda experiment: experiment.__name__)
def test_an_experiment_of_the_campaign_ends_well_at_a_small_size(experiment, tmp_path):
    """Nothing lost, nothing executed, every refusal one sentence; `make reliability` tries a hundred times as much."""
    tally = experiment(tmp_path, SMALL[experiment])
    assert tally.trials > 0 and tally.wrong == []


def test_a_commit_during_an_experiment_is_no_difference_and_changed_code_is_named(tmp_path):
    """A rebase during a run of `seen_late` was told as: 12 of 12 records differ."""
    calm, harsh, record = tmp_path / "calm", tmp_path / "harsh", laws.a_record()
    for space, change in ((calm, {}), (harsh, {"commit": "moved", "finished": "2026-11-30T00:00:00+00:00"})):
        (space / "results/records").mkdir(parents=True)
        Records(space / "results/records").write(record.model_copy(update=change))
    assert faults.differences(calm, harsh) == ""
    Records(harsh / "results/records").write(record.model_copy(update={"tree": "edited"}), replace=True)
    assert faults.differences(calm, harsh) == f"1 of 1 records differ, {record.id} first, in tree"
    Records(harsh / "results/records").path(record.id).unlink()
    assert faults.differences(calm, harsh) == f"1 of 1 records differ, {record.id} first"


@pytest.mark.parametrize(
    "content", ["[]", "3", '{"0123456789abcdef": 3}', '{"0123456789abcdef": [[1, 2], {"x": 1}]}', "[" * 9000]
)
def test_a_memory_of_records_that_is_none_is_made_anew(tmp_path, content):
    """It may be deleted at any time, and so it may be anything."""
    records = Records(tmp_path)
    records.write(laws.a_record())
    (tmp_path / ".briefs").write_text(content)
    assert set(records.summaries()) == {laws.a_record().id}
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
        verify_set(kept.path)
    older = {key: value for key, value in manifest.items() if key not in ("seal", "kept")}
    path.write_text(json.dumps(older))
    verify_set(kept.path)  # of a store made before there were seals
    assert sealed(read_manifest(kept.path))["seal"] != manifest["seal"]


@pytest.mark.parametrize("key", ["seal", "kept"])
def test_a_bit_in_the_name_of_a_seal_makes_no_older_manifest_of_it(kept, key):
    """Manifests without a seal are read, for older programs wrote none; those say nothing of side products either."""
    path = kept.path / "manifest.json"
    whole = path.read_bytes()
    for place in range(len(key)):
        for bit in range(8):
            name = bytearray(key.encode())
            name[place] ^= 1 << bit
            path.write_bytes(whole.replace(f'"{key}"'.encode(), b'"' + name + b'"'))
            with pytest.raises(DamagedError, match="is not a whole manifest"):
                verify_set(kept.path)


@pytest.mark.parametrize("name", ["checksum", "recipe", "text"])
def test_a_manifest_with_other_kinds_of_values_is_no_manifest(kept, name):
    """A number in the place of a checksum was a traceback."""
    path = kept.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: 3}))
    code, _, err = commanded("poisons", "verify", "--workspace", kept.path.parent.parent.parent)
    assert told(code, err)
    with pytest.raises(DamagedError):
        verify_set(kept.path)


def test_a_changed_side_product_is_noticed(kept):
    """Analyses read it as they read the images."""
    path = kept.path / "coefficients.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"coefficients\.npy was changed"):
        verify_set(kept.path)


@pytest.mark.parametrize(
    ("old", "new"), [(b"'<i8'", b"'>i8'"), (b"'<i8'", b"'<m8'"), (b"'<i8'", b"'(i8'"), (b"False", b"True ")]
)
def test_another_reading_of_the_same_bytes_is_noticed(kept, old, new):
    """One bit in a header: the checksum of the bytes stays, the labels are others. A header may also be no Python."""
    path = kept.path / ("labels.npy" if old != b"False" else "images.npy")
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(DamagedError, match=r"is not an array of|is not a whole array"):
        verify_set(kept.path)


def test_a_header_without_its_end_is_noticed(kept):
    """numpy reads it by Python's tokenizer, whose error is no ValueError."""
    path = kept.path / "labels.npy"
    path.write_bytes(path.read_bytes().replace(b"}", b" "))
    with pytest.raises(DamagedError, match="is not a whole array"):
        verify_set(kept.path)


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


def test_a_large_file_among_the_images_of_a_folder_is_not_read(tmp_path):
    """Three gigabytes under the name of an image were read into memory before anybody looked at them."""
    clean, store, place = as_data(smooth(2, 2)), Store(tmp_path / "cache"), tmp_path / "folder"
    place.mkdir()
    (place / "1.png").write_bytes(b"")
    with (place / "0.png").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(EntryError, match=r"'0\.png' of 1,073,741,824 bytes, too many for such an image"):
        take(store, place, clean)


def test_ctrl_c_before_a_command_begins_is_told_in_a_word(monkeypatch, capsys):
    """On a busy machine that is when it is pressed; it was a traceback of the library that reads the command line."""

    def pressed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", pressed)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130 and capsys.readouterr().err == "bench: interrupted\n"


def test_control_characters_of_records_do_not_reach_a_page(tmp_path):
    """HTML forbids them; a page must be valid whatever a record of a stranger holds."""
    Records(tmp_path).write(laws.a_record(device="a\0b\x01c\x7fd\x9f\ufffe", commit="\x0b"))
    files = Site(other_tables(Records(tmp_path), set())).files()
    for name, text in files.items():
        if (name.endswith(".html") and "sources" in name) or name == "index.html":
            parser = html5lib.HTMLParser()
            parser.parse(text)
            assert parser.errors == [], name


EIGHT = ["run", "--dataset", "digits(per_class=5,test_per_class=2)", "--defense", "none,bdr", "--seed", "0,1,2,3"]


@pytest.mark.parametrize("finishes", [True, False])
def test_a_run_whose_workers_are_killed_ends_all_its_cells_or_says_that_it_did_not(finishes, tmp_path, monkeypatch):
    """With one worker every kill ended a round, and after three rounds the run ended well, with cells that it never began."""

    def killed(run, workers, emit):
        """A round whose worker finishes a cell, or none, and is killed in the next."""
        still = [task for task in run.tasks if not run.settled(task)]
        if finishes:
            task = still.pop(0)
            run.records.write(laws.a_record(id=task.cell.id, cell=task.cell, versions=task.versions()))
        return [(still[0].cell.id, "train")] if still else []

    monkeypatch.setattr(schedule, "_local_round", killed)
    code, _, err = commanded(*EIGHT, "--workers", "1", "--workspace", tmp_path)
    records = Records(tmp_path / "results/records")
    done, failed = len(records.ids()), len(list(records.failures()))
    assert code == 3 and (done, failed) == ((4, 4) if finishes else (0, 3))
    assert finishes or "3 times in a row before they finished a cell, and 5 cells are left" in err


@pytest.fixture
def written(tmp_path):
    """Records with one record, and a change of the file's text."""
    records = Records(tmp_path / "results/records")
    records.folder.mkdir(parents=True)
    records.write(laws.a_record())
    path = records.path(laws.a_record().id)

    def change(old, new):
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    return records, change


def test_a_record_of_a_newer_program_is_kept_and_told(written, tmp_path):
    """Planning took it for done, whatever it means by then; the report said that it should be removed."""
    records, change = written
    change('"format": 1', '"format": 2')
    for words in (("status", "--grid", "quick"), ("run", *faults.SMALL, "--dry-run")):
        code, _, err = commanded(*words, "--workspace", tmp_path)
        assert told(code, err) == "exit 2, a sentence"
        assert "has format 2, this program reads format 1; keep the file and update unlearnable-bench" in err
    with pytest.raises(FileError, match="keep the file"):
        records.read(laws.a_record().id)


def test_an_accuracy_that_contradicts_its_curve_is_no_measurement(written):
    """Both are written from the same numbers, so one of them was changed by hand or by the disk."""
    records, change = written
    change('"test_acc": 0.5', '"test_acc": 0.9')
    with pytest.raises(FileError, match=r"test_acc is 0\.9, its curve says 0\.5"):
        records.read(laws.a_record().id)


def test_a_record_changed_by_hand_is_noticed(written, tmp_path):
    """Figures that nothing else in the record repeats; its bytes stay as they are, the sums stand beside it."""
    records, change = written
    assert records.changed() == []
    change('"train": 1.5', '"train": 0.5')
    assert records.changed() == [laws.a_record().id]
    code, out, _ = commanded("doctor", "--workspace", tmp_path)
    assert f"BAD  records: 1 in {records.folder}, 1 of them written there; changed since: {laws.a_record().id}" in out
    code, _, err = commanded("report", "--grid", "quick", "--format", "csv", "--workspace", tmp_path)
    assert code == 0 and f"bench: warning: 1 records are not as they were written: {laws.a_record().id}" in err
    records.write(laws.a_record(seconds={"train": 0.5}), replace=True)
    assert records.changed() == [], "measured again"
    (records.folder / ".sums").unlink()
    change('"train": 0.5', '"train": 0.1')
    assert records.changed() == [], "of a program before there were sums, or copied from elsewhere"


@pytest.mark.parametrize("harm", [b"", b"\xff\x00\n", b"0" * 63 + b"  x.json\n", b"a record that was writ"])
def test_harmed_sums_accuse_nobody(written, harm):
    """Several machines write them, and a full disk may cut them."""
    records, _ = written
    path = records.folder / ".sums"
    path.write_bytes(path.read_bytes() + harm if harm else b"")
    assert records.changed() == []


@pytest.mark.parametrize("chain", ["jpeg(quality=10)+bdr(bits=2)+grayscale", "ortho-proj(epochs=1)", "class-mean+bdr(bits=2)"])
def test_a_large_set_is_mixed_and_purified_in_files_to_the_same_bytes(tmp_path, monkeypatch, chain):
    """Sets of ImageNet's size do not fit into memory; what happens to an image must not depend on that."""
    found = []
    for large, folder in ((False, tmp_path / "small"), (True, tmp_path / "large")):
        if large:
            monkeypatch.setattr("unlearnable_bench.registry._paths.MAP_FROM", 1)
            monkeypatch.setattr("unlearnable_bench.poisons.store.PURIFIED_BYTES", 10_000)  # three images
        store, data = Store(folder), as_data(tiny(16))
        kept = store.purified(PurifiedRecipe(recipe("lsp"), 0.5, "all", resolve("defenses", chain), 0), data)
        mixed, rest = (store.training_set(recipe("lsp"), data, 0.5, part) for part in ("all", "clean"))
        found.append((kept.checksum, mixed.images, mixed.labels, rest.images, rest.labels))
        assert {p.name for p in kept.path.iterdir()} == SET
    assert found[0][0] == found[1][0]
    assert all(torch.equal(one, other) for one, other in zip(found[0][1:], found[1][1:], strict=True))
    assert 0 < len(found[0][3]) < 16


CRAFT_ON_A_SMALL_DISK = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from conftest import as_data, recipe, tiny
from unlearnable_bench.poisons.store import Store
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


def test_a_damaged_checkpoint_of_a_poison_costs_time_alone(tmp_path):
    """It lies in the workspace as everything else, and may be cut, or of an older program."""
    path = tmp_path / "checkpoint-cpu.pt"
    Job(folder=tmp_path).save({"loop": torch.zeros(3)})
    whole = path.read_bytes()
    assert torch.equal(Job(folder=tmp_path).load()["loop"], torch.zeros(3))
    for content in (b"", whole[:50], whole.replace(b"seconds", b"minutes")):
        path.write_bytes(content)
        assert Job(folder=tmp_path).load() is None


@pytest.mark.parametrize("first", ["d-vae(epochs=3,width=4,batch=8,kld1=0.2)", "auto-encoder(epochs=3,width=4,batch=8)"])
def test_purifiers_of_a_chain_do_not_take_up_each_others_checkpoints(first, tmp_path, monkeypatch):
    """The second found the first's after a minute: a traceback, or with two of a kind the first's network in silence."""
    data = as_data(tiny(24, shape=(3, 16, 16)))
    chain = PurifiedRecipe(recipe("lsp"), 1.0, "all", resolve("defenses", f"{first}+d-vae(epochs=3,width=4,batch=8)"), 0)
    calm = Store(tmp_path / "calm").purified(chain, data)
    monkeypatch.setattr("unlearnable_bench.registry._crafting.EVERY", 0.0)
    monkeypatch.setattr("unlearnable_bench.registry._crafting.SPENT_SAVING", math.inf)
    seen = []

    def kill(done, total):
        seen.append(done)
        if seen.count(2) == 2:  # in the second epoch of the second
            raise KeyboardInterrupt

    Store(tmp_path / "harsh").poison(recipe("lsp"), data)
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path / "harsh", progress=kill).purified(chain, data)
    again = Store(tmp_path / "harsh").purified(chain, data)
    assert again.checksum == calm.checksum
    assert again.manifest["notes"].keys() == calm.manifest["notes"].keys()
