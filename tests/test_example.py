"""The example package: what CONTRIBUTING tells people to copy must install, appear and run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import bench, in_process

from unlearnable_bench.results import Records

EXAMPLE = Path(__file__).parent.parent / "examples" / "bench-checkerboard"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example as pip installs it, in a folder of its own; built from a copy, so that nothing is left beside it."""
    folder = tmp_path_factory.mktemp("example")
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    options = ["--disable-pip-version-check", "--root-user-action=ignore", "--target", str(folder / "site"), str(source)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_the_example_is_in_the_catalogs_with_its_source_and_without_torch(installed):
    """An entry point is all that registers it."""
    code = """
        import json, sys
        from unlearnable_bench.registry import ATTACKS, DEFENSES
        rows = [ATTACKS.entry("checkerboard"), DEFENSES.entry("box-blur")]
        assert "torch" not in sys.modules
        print(json.dumps([[r.source, r.summary, {f.name: [f.default, f.comment] for f in r.fields}] for r in rows]))
    """
    attack, defense = json.loads(in_process(code, site=installed))
    assert attack[0] == defense[0] == "bench-checkerboard 0.1.0"
    assert attack[1].startswith("Checkerboard: ") and defense[1].startswith("Box blur: ")
    assert attack[2] == {"epsilon": [8 / 255, "linf radius, pixel units"], "tile": [8, "side of one tile, pixels"]}
    assert defense[2] == {"side": [3, "of the square neighbourhood, pixels, odd"]}


def test_the_example_crafts_purifies_and_says_where_it_does_not_apply(installed, tmp_path):
    """Through the store, as a grid runs it: within the budget, one pattern per class, blurred by the slow and obvious rule."""
    code = """
        import sys
        from pathlib import Path
        import torch
        from unlearnable_bench.poisons.recipe import PoisonRecipe, PurifiedRecipe
        from unlearnable_bench.poisons.store import Store
        from unlearnable_bench.registry import ATTACKS, ImageSet, NotApplicable, resolve
        from unlearnable_bench.registry.data import Data

        torch.set_num_threads(1)
        images = torch.randint(20, 236, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        train = ImageSet(images, torch.arange(12) % 3, 3)
        data, store = Data(train, train, "f"), Store(Path(sys.argv[1]))
        recipe = PoisonRecipe(resolve("datasets", "digits")[0], resolve("attacks", "checkerboard(tile=4)"), 0)
        poison = store.poison(recipe, data)
        delta = poison.images.int() - images.int()
        assert set(delta.unique().tolist()) == {-8, 8} and poison.manifest["budget"]["spent"] == 8 / 255
        assert all((delta[k] == delta[k + 3]).all() for k in range(3)) and (delta[0] != delta[1]).any()

        blurred = store.purified(PurifiedRecipe(recipe, 1.0, "all", resolve("defenses", "box-blur"), 0), data).images
        x = poison.images[5, 2].tolist()
        clip = lambda i: min(15, max(0, i))
        for row in range(16):
            for column in range(16):
                around = [x[clip(row + i)][clip(column + j)] for i in (-1, 0, 1) for j in (-1, 0, 1)]
                assert abs(int(blurred[5, 2, row, column]) - sum(around) / 9) <= 0.5001
        try:
            ATTACKS["checkerboard"](tile=5).applies(train.info)
        except NotApplicable as why:
            print(why)
    """
    assert in_process(code, tmp_path, site=installed).strip() == "tile=5 does not divide images of 16x16"


def test_the_example_is_listed_checked_run_and_shown_with_no_line_of_the_core_changed(installed, tmp_path):
    """All that `bench` does with its own entries it does with other people's."""
    environment = {"PYTHONPATH": str(installed)}
    row = json.loads(bench("list", "attacks", "checker*", "--json", environment=environment)[0])[0]
    assert row["source"] == "bench-checkerboard 0.1.0"
    assert not row["error"]
    for entry in ("attack:checkerboard", "defense:box-blur"):
        checks = json.loads(bench("check", entry, "--json", environment=environment)[0])["checks"]
        assert len(checks) > 3
        assert all(check["ok"] for check in checks), checks
    grid = tmp_path / "mine.toml"
    grid.write_text(
        'title = "Mine"\nprotocol = "quick@0.5"\ndataset = "digits(per_class=60,test_per_class=10)"\nseed = 0\n'
        'attack = ["none", "checkerboard"]\ndefense = ["none", "box-blur"]\narchitecture = "small-cnn"\n'
        'rows = ["attack"]\ncolumns = ["defense"]\n'
    )
    out, _ = bench("run", "--grid", grid, "--executor", "inline", workspace=tmp_path, environment=environment)
    assert "4 of 4 cells done" in out
    records = list(Records(tmp_path / "results/records"))
    assert {r.versions.get("defense:box-blur") for r in records} == {None, "1 of bench-checkerboard 0.1.0"}
    bench("report", "--grid", grid, workspace=tmp_path, environment=environment)
    page = (tmp_path / "leaderboard/site/index.html").read_text()
    assert "checkerboard" in page
    assert "box-blur" in page
    assert "unknown attack 'checkerboard'" in bench("run", "--attack", "checkerboard", code=2, workspace=tmp_path)[1]
