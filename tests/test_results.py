"""Cells, records and tables: ids that hash what matters, files that are whole or refused, grids that say what they run."""

import errno
import itertools
import json
import math
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from unlearnable_bench.registry import lacking, resolve
from unlearnable_bench.results import Cell, FileError, Grid, Part, Record, Records, TableFile, Workspace, read_grid, read_table
from unlearnable_bench.results.record import Curve, Failure, Metrics, PoisonNote, create_file, read_record, write_json
from unlearnable_bench.results.table_file import AXES, TABLES, table_names

words = st.text(alphabet="abcdefghij-", min_size=1, max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False)
plain = st.booleans() | st.integers(-(10**12), 10**12) | numbers | words | st.none()
fields = st.dictionaries(words, plain | st.lists(st.booleans() | st.integers(0, 9) | numbers | words, max_size=3), max_size=4)
parts = st.builds(Part, name=words, fields=fields, text=words)
chains = st.lists(parts, min_size=1, max_size=2).map(tuple)
cells = st.builds(
    Cell,
    protocol=parts,
    dataset=parts,
    attack=chains,
    ratio=st.floats(0, 1),
    part=st.sampled_from(["all", "clean"]),
    defense=chains,
    architecture=parts,
    seed=st.integers(0, 99),
    measure=st.just("accuracy") | parts,
)


def a_cell(**changes) -> Cell:
    usual = {axis: Part(name=axis) for axis in ("protocol", "dataset", "architecture")}
    return Cell(**usual | {"attack": (Part(name="lsp"),), "defense": (Part(name="none"),)} | changes)


def a_record(cell: Cell | None = None, **changes) -> Record:
    cell = cell or a_cell()
    return Record(**{"id": cell.id, "cell": cell, "metrics": Metrics(test_acc=0.5, test_acc_best=0.75)} | changes)


@pytest.fixture
def records(tmp_path) -> Records:
    return Records(tmp_path)


# Cells


@given(cells)
def test_the_id_of_a_cell_does_not_depend_on_the_order_of_its_fields(cell):
    """Fields come from dictionaries; another Python or another author must find the same record."""

    def turned(part):
        return Part(name=part.name, fields=dict(reversed(part.fields.items())), text=part.text)

    other = Cell(
        seed=cell.seed,
        architecture=turned(cell.architecture),
        defense=tuple(map(turned, cell.defense)),
        part=cell.part,
        ratio=cell.ratio,
        attack=tuple(map(turned, cell.attack)),
        dataset=turned(cell.dataset),
        protocol=turned(cell.protocol),
        measure=cell.measure if cell.measure == "accuracy" else turned(cell.measure),
    )
    assert other.id == cell.id and len(cell.id) == 16


@given(cells)
def test_the_id_of_a_cell_does_not_depend_on_how_it_is_written(cell):
    """Texts are for people and may become shorter or longer."""

    def renamed(part):
        return part.model_copy(update={"text": "other"})

    other = cell.model_copy(
        update={
            "protocol": renamed(cell.protocol),
            "dataset": renamed(cell.dataset),
            "architecture": renamed(cell.architecture),
            "attack": tuple(map(renamed, cell.attack)),
            "defense": tuple(map(renamed, cell.defense)),
            "measure": cell.measure if cell.measure == "accuracy" else renamed(cell.measure),
        }
    )
    assert other.id == cell.id


@given(cell=cells, other=cells, field=st.sampled_from(sorted(Cell.model_fields)))
def test_every_field_of_a_cell_is_in_its_id(cell, other, field):
    """Two cells that differ in anything that was measured must never share a record."""
    changed = cell.model_copy(update={field: getattr(other, field)})
    assert (changed.id == cell.id) == (changed.resolved() == cell.resolved())
    assert cell.model_copy(update={"measure": Part(name="other")}).id != cell.model_copy(update={"measure": "accuracy"}).id


@given(cell=cells, key=words, value=plain)
def test_every_field_of_an_entry_is_in_the_id(cell, key, value):
    """Defaults are hashed too: one that changes later makes another cell."""
    name = cell.attack[0]
    grown = cell.model_copy(
        update={"attack": (name.model_copy(update={"fields": name.fields | {key: value}}), *cell.attack[1:])}
    )
    same = json.dumps(name.fields, sort_keys=True) == json.dumps(name.fields | {key: value}, sort_keys=True)
    assert (grown.id == cell.id) == same


def test_one_and_one_point_zero_are_the_same_ratio():
    """TOML files say `ratio = 1`, the default says 1.0."""
    assert a_cell(ratio=1).id == a_cell(ratio=1.0).id == a_cell().id


def test_what_is_no_cell_is_refused():
    """A ratio is a fraction, and chains have parts."""
    for changes in ({"ratio": 1.5}, {"ratio": -0.1}, {"attack": ()}, {"surprise": 1}, {"seed": 0.5}, {"seed": -1}):
        with pytest.raises(ValidationError):
            a_cell(**changes)
    with pytest.raises(ValidationError):
        Part(name="x", fields={"epsilon": math.nan})


def test_a_label_says_what_is_special():
    """One line per finished cell in logs."""

    def texts(*names):
        return tuple(Part(name=name, text=name) for name in names)

    cell = Cell(
        protocol=texts("quick")[0],
        dataset=texts("digits")[0],
        attack=texts("lsp"),
        defense=texts("jpeg", "cutout"),
        architecture=texts("small-cnn")[0],
        seed=3,
    )
    assert cell.label == "digits/lsp/jpeg+cutout/small-cnn/s3"
    assert cell.model_copy(update={"ratio": 0.8}).label == "digits/lsp/all-0.8/jpeg+cutout/small-cnn/s3"


# Records


@given(cell=cells, accuracy=st.floats(0, 1), seconds=st.dictionaries(words, numbers, max_size=3), spent=numbers | st.none())
def test_a_record_reads_back_as_it_was_written(tmp_path_factory, cell, accuracy, seconds, spent):
    """Numbers to the last bit, and the cell with its id: pages are made from files alone."""
    curve = Curve(train_acc=[accuracy], train_loss=[2.5], test_acc=[accuracy], test_loss=[0.1])
    record = a_record(
        cell,
        metrics=Metrics(test_acc=accuracy, test_acc_best=accuracy, curve=curve),
        seconds=seconds,
        poison=PoisonNote(checksum="ab", norm="linf", spent=spent),
        numerics={"dtype": "fp32", "compile": False, "threads": 1},
    )
    records = Records(tmp_path_factory.mktemp("records"))
    assert records.write(record)
    assert records.read(cell.id) == record and records.read(cell.id).cell.id == cell.id
    assert list(records) == [record] and records.ids() == {cell.id}


def test_a_record_from_before_cpu_seconds_keeps_its_bytes(records):
    """Published records are compared byte for byte, by their sums and by what others sent."""
    records.write(a_record())
    assert "cpu_seconds" not in records.path(a_cell().id).read_text()
    records.write(a_record(cpu_seconds={"train": 1.5}), replace=True)
    assert records.read(a_cell().id).cpu_seconds == {"train": 1.5}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 90.0),
        ({"cpu_seconds": {"train": 60.0}}, 30.0),
        ({"cpu_seconds": {"train": 60.0}, "numerics": {"threads": 1}}, 60.0),
        ({"cpu_seconds": {"train": 60.0}, "numerics": {"threads": 0}}, 60.0),
        ({"cpu_seconds": {"train": 400.0}}, 90.0),
        ({"cpu_seconds": {"train": 60.0}, "device": "cuda: a GPU"}, 90.0),
    ],
)
def test_what_a_stage_takes_undisturbed_follows_from_its_cpu_seconds(records, changes, expected):
    """Seconds on the wall grow with other work on the machine; on a GPU those of the processor say nothing."""
    usual = {"seconds": {"train": 90.0}, "device": "cpu: a processor", "numerics": {"threads": 2}}
    records.write(a_record(**usual | changes))
    for _ in range(2):  # as read, and as remembered
        (summary,) = records.summaries().values()
        assert summary.undisturbed("train") == expected and summary.undisturbed("craft") == 0


def test_a_record_is_written_once(records):
    """No command overwrites a done record unless told so."""
    first, second = a_record(), a_record(commit="later")
    assert records.write(first) and not records.write(second)
    assert records.read(first.id) == first
    assert records.write(second, replace=True) and records.read(first.id) == second


def refused(*_):
    """A hard link as a file system without hard links answers."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def created(path, content) -> bool:
    try:
        create_file(path, content)
    except FileExistsError:
        return False
    return True


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_of_many_who_create_one_file_one_succeeds(tmp_path, monkeypatch, links):
    """Two records of a cell must not both be told that they are the one."""
    if not links:
        monkeypatch.setattr(os, "link", refused)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: created(tmp_path / "x", str(number)), range(40)))
    assert sorted(answers) == [False] * 39 + [True]
    assert (tmp_path / "x").read_text() == str(answers.index(True))
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_file_is_created_although_the_answer_of_the_server_was_lost(tmp_path, monkeypatch):
    """A client that asks again is told that the name is taken: by itself."""
    link = os.link

    def twice(source, target):
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert created(tmp_path / "x", "mine")
    assert not created(tmp_path / "x", "yours") and (tmp_path / "x").read_text() == "mine"


def test_a_record_that_this_machine_does_not_see_yet_is_not_written_over(records, monkeypatch):
    """A file server's client may think for a minute that a name is free; and a record that was not written has no seal."""
    first, second = a_record(), a_record(peak_memory=7)
    assert records.write(first)
    before = records.seals()
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.exists", lambda path: False)
        assert not records.write(second)
    assert records.read(first.id) == first and records.seals() == before


def test_success_removes_the_failure_and_an_attempt_replaces_it(records):
    """A cell has a record or a failure, and the failure is of its last attempt."""
    cell = a_cell()
    for attempts in (1, 2):
        records.fail(Failure(id=cell.id, cell=cell, kind="killed", message="out of time", attempts=attempts))
    assert [failure.attempts for failure in records.failures()] == [2]
    assert records.ids() == set()
    records.write(a_record(cell))
    assert records.failure(cell.id) is None and list(records.failures()) == []


def test_there_is_no_record_where_nothing_ran(records):
    """Missing is no file; other files in the folder are not ours."""
    (records.folder / ".scratch.tmp").write_text("")
    (records.folder / "README.md").write_text("")
    assert records.read("0" * 16) is None and records.failure("0" * 16) is None and list(records) == []
    assert Records(records.folder / "nowhere").ids() == set()


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text[:-3],
        lambda text: "[]",
        lambda text: "null",
        lambda text: text.replace('"test_acc"', '"test_accuracy"'),
        lambda text: text.replace('"test_acc": 0.5', '"test_acc": 50.0'),
        lambda text: text.replace('"test_acc": 0.5', '"test_acc": NaN'),
        lambda text: text.replace('"state": "done"', '"state": "fine"'),
        lambda text: text.replace('"format": 1', '"format": 0'),
        lambda text: text.replace('"commit"', '"comit"'),
    ],
)
def test_a_file_that_is_no_whole_record_is_named_with_the_remedy(records, harm):
    """Half-copied or hand-made: one sentence, the path, what to do."""
    record = a_record()
    records.write(record)
    path = records.path(record.id)
    text = path.read_text()
    path.write_text(harm(text))
    assert path.read_text() != text
    with pytest.raises(FileError) as caught:
        records.read(record.id)
    assert str(path) in str(caught.value) and "remove the file" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("harm", [lambda text: "", lambda text: text[:40], lambda text: '{"id": 3}'])
def test_a_file_that_is_no_whole_failure_is_named(records, harm):
    """The same for failures: `bench status` reads them all."""
    cell = a_cell()
    records.fail(Failure(id=cell.id, cell=cell, kind="killed", message=""))
    path = records.failure_path(cell.id)
    path.write_text(harm(path.read_text()))
    for read in (lambda: records.failure(cell.id), lambda: list(records.failures())):
        with pytest.raises(FileError) as caught:
            read()
        assert str(path) in str(caught.value) and "not a whole failure" in str(caught.value)


def test_bytes_that_are_no_text_are_named(records):
    """A disk error is no traceback."""
    path = records.path("0" * 16)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="is not a whole record"):
        records.read("0" * 16)


def test_a_record_that_was_changed_is_detected(records):
    """Its cell must hash to its id: nobody turns a number of one cell into that of another."""
    record = a_record()
    records.write(record)
    path = records.path(record.id)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(FileError, match=f"was changed: its cell hashes to {a_cell(seed=1).id}, its id says {record.id}"):
        read_record(path)


def test_a_record_under_another_name_is_detected(records):
    """Files are found by their cells' ids."""
    record = a_record()
    records.write(record)
    records.path(record.id).rename(records.path("0" * 16))
    with pytest.raises(FileError, match="is the record of cell"):
        records.read("0" * 16)


@pytest.mark.parametrize("changes", [{"metrics": None}, {"state": "not-applicable", "reason": "gray"}])
def test_a_done_cell_has_metrics_and_no_other_has(records, changes):
    """A number without a training, or a training without a number, is no record."""
    records.write(a_record(**changes))
    with pytest.raises(FileError, match="only a done cell has metrics"):
        records.read(a_record().id)


def test_a_cell_that_does_not_apply_has_a_record_with_the_reason(records):
    """It is no failure and is not tried again."""
    record = a_record(state="not-applicable", reason="ops: too many classes", metrics=None)
    records.write(record)
    assert records.read(record.id).reason == "ops: too many classes"


def test_writing_leaves_the_old_file_or_the_new_one(tmp_path):
    """A value that is no JSON, or a full disk, must not cost what was there."""
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    for wrong in ({"a": math.nan}, {"a": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, wrong)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_file_is_created_once_whoever_comes_second(tmp_path, monkeypatch, links):
    """An exclusive creation is decided by the file system, also by one without hard links, such as FAT."""

    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "record.json"
    create_file(path, b"ours")
    with pytest.raises(FileExistsError):
        create_file(path, b"theirs")
    assert path.read_bytes() == b"ours" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_files_have_the_rights_that_the_umask_leaves(records, umask, mode):
    """Numbers that are not published yet may be private, and those of a group are the group's."""
    before = os.umask(umask)
    try:
        records.write(a_record())
        records.summaries()
        create_file(records.folder / "other.json", "")
    finally:
        os.umask(before)
    written = [records.path(a_record().id), records.folder / ".briefs", records.folder / "other.json"]
    assert {path.stat().st_mode & 0o777 for path in written} == {mode}


def test_a_workspace_is_where_it_is_said_to_be(tmp_path, monkeypatch):
    """The flag, then the variable, then the current directory; each part movable by its own variable."""
    monkeypatch.chdir(tmp_path)
    assert Workspace.find(None).root == tmp_path
    monkeypatch.setenv("BENCH_WORKSPACE", str(tmp_path / "a"))
    assert Workspace.find(None).records == tmp_path / "a" / "results" / "records"
    assert Workspace.find(tmp_path / "b").poisons == tmp_path / "b" / "poisons" / "cache"
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path / "c"))
    assert Workspace.find(tmp_path / "b").records == tmp_path / "c"
    assert Workspace.find(tmp_path / "b").site == tmp_path / "b" / "leaderboard" / "site"


def test_a_workspace_that_cannot_be_written_is_named(tmp_path):
    """Before any work, with the flag that helps."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot write to .*; choose another folder by --workspace"):
        Workspace(tmp_path / "file").writable()
    Workspace(tmp_path / "new").writable()
    assert (tmp_path / "new" / "results" / "records").is_dir()


# Tables

BASE = {
    "title": "A table",
    "protocol": "quick",
    "dataset": "digits",
    "attack": ["none", "lsp"],
    "defense": "none",
    "architecture": "small-cnn",
    "seed": 0,
}


def toml(content: dict) -> str:
    lines = (f"{key} = {json.dumps(value)}" for key, value in content.items())
    return "\n".join(re.sub(r'{"(\w+)": ', r"{\1 = ", line) for line in lines)


def distinct(values, largest=3):
    return st.lists(values, min_size=1, max_size=largest, unique=True)


def cells_of(table: TableFile) -> list[Cell]:
    return Grid.of(table).cells(resolve, lacking)


@given(
    attack=distinct(st.sampled_from(["none", "lsp", "ops", "lsp(epsilon=2.0)"])),
    defense=distinct(st.sampled_from(["none", "jpeg", "jpeg+bdr", "cutout"])),
    seed=distinct(st.integers(0, 9)),
    ratio=distinct(st.sampled_from([0.25, 0.5, 1.0])),
    part=distinct(st.sampled_from(["all", "clean"]), 2),
)
@settings(max_examples=20)
def test_a_table_expands_to_every_combination_once(attack, defense, seed, ratio, part):
    """As many cells as the axes multiply to, seeds innermost, none twice."""
    table = TableFile(**BASE | {"attack": attack, "defense": defense, "seed": seed, "ratio": ratio, "part": part})
    found = cells_of(table)
    assert len({cell.id for cell in found}) == len(found) == math.prod(map(len, (attack, defense, seed, ratio, part)))
    points = list(itertools.product(attack, ratio, part, defense, seed))
    assert [(cell.ratio, cell.part, cell.seed) for cell in found] == [(point[1], point[2], point[4]) for point in points]
    assert [cell.texts["attack"] for cell in found] == [resolve("attacks", point[0])[0].text for point in points]


def test_the_same_cell_written_twice_is_one_cell():
    """`lsp` and `lsp(patch=8)` are the same attack; nobody trains it twice."""
    found = cells_of(TableFile(**BASE | {"attack": ["lsp", "lsp(patch=8)", "lsp(epsilon=1.3041)"]}))
    assert len(found) == 1


def test_an_item_may_be_written_as_a_table():
    """Inline tables of TOML read better for long items."""
    written = TableFile(**BASE | {"attack": [{"name": "em", "surrogate": "small-cnn", "epsilon": "4/255"}, {"name": "none"}]})
    assert written.attack == ["em(surrogate=small-cnn,epsilon=4/255)", "none"]
    assert TableFile(**BASE | {"defense": {"name": "ortho-proj", "center": True}}).defense == ["ortho-proj(center=true)"]


def test_blocks_say_what_runs_first_and_which_cells_have_more_seeds():
    """`--limit 10` takes the first cells of a grid, so that their order decides what an evening is worth."""
    axes = {"attack": ["none", "lsp", "ops"], "defense": ["none", "jpeg(quality=10)", "jpeg(quality=30)"]}
    blocks = [
        {"attack": ["none", "l*"], "defense": ["none", "jpeg(quality=10)"]},
        {"attack": "none", "defense": "none", "seed": [0, 1]},
        {"defense": "jpeg"},
    ]
    table = TableFile(**BASE | axes | {"block": blocks})
    texts = [(cell.texts["attack"], cell.texts["defense"], cell.seed) for cell in cells_of(table)]
    assert texts == [
        ("none", "none", 0),
        ("none", "jpeg", 0),
        ("lsp", "none", 0),
        ("lsp", "jpeg", 0),
        ("none", "none", 1),  # asked for by the second block alone
        ("none", "jpeg(quality=30)", 0),
        ("lsp", "jpeg(quality=30)", 0),
        ("ops", "jpeg", 0),
        ("ops", "jpeg(quality=30)", 0),
        ("ops", "none", 0),  # in no block
    ]
    plain = TableFile(**BASE | axes)
    assert {cell.id for cell in cells_of(plain)} < {cell.id for cell in cells_of(table)}
    other = Grid.of(table).selected({"seed": ["5"]}, resolve)
    assert {cell.seed for cell in other.cells(resolve, lacking)} == {5}
    shown = [one.request.fields["defense"] for one in Grid.of(table).requested_cells(resolve, lacking)]
    assert shown == axes["defense"] * 3  # printed in the order of the axes


@pytest.mark.parametrize("name", table_names())
def test_a_shipped_table_resolves(name):
    """A table of ours that names an entry of nobody would only show on a cluster."""
    grid = read_grid(name)
    found = grid.cells(resolve, lacking)
    table = read_table(name)
    assert found and len(found) <= math.prod(len(getattr(table, axis)) for axis in (*AXES, "measure"))


def test_the_quick_table_is_there():
    """The embedded default of `bench run`."""
    assert "quick" in table_names() and (TABLES / "quick.toml").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"defense": None}, "no `defense`; a table lists title, protocol"),
        ({"title": None}, "no `title`"),
        ({"attacks": ["lsp"]}, "`attacks` is not known; a table has title"),
        ({"attack": []}, "`attack`: .*at least 1 item"),
        ({"attack": [3]}, r"`attack\.0`: .*found 3"),
        ({"attack": [{"epsilon": 1}]}, "a spec written as a table needs a name"),
        ({"seed": ["one"]}, r"`seed\.0`: .*found 'one'"),
        ({"seed": [-1]}, r"`seed\.0`: .*found -1"),
        ({"ratio": [1.5]}, r"`ratio\.0`: .*found 1\.5"),
        ({"part": ["some"]}, r"`part\.0`: .*found 'some'"),
        ({"rows": ["atack"]}, r"`rows\.0`: .*found 'atack'"),
        ({"seed": list(range(2000)), "defense": [f"jpeg(quality={n})" for n in range(1000)]}, "4,000,000 cells"),
        ({"block": [{"attack": "lps"}]}, "block 1: the table has no attack 'lps'; it has none, lsp"),
        ({"block": [{"atack": "lsp"}]}, r"`block\.0\.atack`: Extra inputs"),
    ],
)
def test_a_wrong_table_file_is_told_by_file_place_and_remedy(tmp_path, change, told):
    """People write these files by hand."""
    path = tmp_path / "mine.toml"
    path.write_text(toml({k: v for k, v in (BASE | change).items() if v is not None}))
    with pytest.raises(FileError, match=told) as caught:
        read_table(str(path))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"title = ", b"= 3", b"\xff\xfe", b"title = 1\ntitle = 2", b"x=" + b"[" * 9_999, b"seed = " + b"9" * 5_000]
)
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    """With what the parser found, in one line."""
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(FileError, match="is not a TOML file") as caught:
        read_table(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_pipe_is_no_table(tmp_path):
    """Opening one waits for somebody who writes into it, for ever."""
    os.mkfifo(tmp_path / "mine.toml")
    with pytest.raises(FileError, match="it is a folder, a pipe or a device, expected a file"):
        read_table(str(tmp_path / "mine.toml"))


def test_a_home_of_nobody_is_told():
    """The shell leaves `~nobody` to the program."""
    with pytest.raises(FileError, match="there is no home of this user"):
        Workspace.find(Path("~no-such-user/x"))


def test_a_table_that_is_not_there_comes_with_those_that_are(tmp_path):
    """A misspelt grid."""
    with pytest.raises(FileError, match=r"there is no grid 'quik'; did you mean 'quick'\? Grids are .*quick"):
        read_table("quik")
    with pytest.raises(FileError, match="there is no table file"):
        read_table(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(FileError, match="folder"):
        read_table(str(tmp_path / "folder.toml"))


def test_a_curve_names_the_epochs_that_were_judged_only_where_some_were_not():
    """A protocol that judges every other epoch says which; records from before keep their bytes."""
    assert "epochs" not in Curve(test_acc=[0.1, 0.2]).model_dump(mode="json")
    assert Curve(test_acc=[0.1, 0.2], epochs=[2, 4]).model_dump(mode="json")["epochs"] == [2, 4]
    with pytest.raises(ValidationError, match="3 judged epochs and 2 test accuracies; expected as many"):
        Curve(test_acc=[0.1, 0.2], epochs=[1, 2, 4])
