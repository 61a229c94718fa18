"""The README's first command, with a tenth of its cells: its table, its page, what its numbers must show."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import bench

from unlearnable_bench.leaderboard.tables.measured import grid_table
from unlearnable_bench.registry import resolve
from unlearnable_bench.results import Records, read_grid

ROOT = Path(__file__).parent.parent


# what the tests look at; `make quick` by hand shows the rest
PART = ["--seed", "0", "--attack", "none,ops,ar*", "--defense", "none,jpeg*,ortho-proj*"]


def make_quick(workspace):
    stamp = f"{sys.prefix}/installed"  # this environment is the one to use, however it was made
    command = ["make", "--no-print-directory", "-o", stamp, "quick", f"VENV={sys.prefix}", f"WORKSPACE={workspace}"]
    command += [f"ARGS={shlex.join(PART)}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ), timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The workspace of a finished quick grid, and what the command printed."""
    workspace = tmp_path_factory.mktemp("quick")
    return workspace, make_quick(workspace)


@pytest.fixture(scope="module")
def accuracy(quick):
    """Mean accuracy in percent by the names of attack and defense."""
    made = grid_table(read_grid("quick"), Records(quick[0] / "results/records"), "quick", resolve)
    return {
        (name(score, "attack"), name(score, "defense")): 100 * score.mean for score in made.in_order if score.mean is not None
    }


def name(score, axis):
    """The name of the entry on an axis of a score, without its fields."""
    return score.point[axis].partition("(")[0]


def test_the_first_command_prints_the_table_and_leaves_a_page(quick):
    """What the README promises a newcomer."""
    workspace, out = quick
    assert "9 of 9 cells done; ran 9 cells" in out
    page = workspace / "leaderboard/site/index.html"
    assert f"page: {page}" in out
    assert "Quick look on handwritten digits" in page.read_text()
    for name in ("ops", "ar", "jpeg", "ortho-proj"):
        assert name in out


def test_running_it_again_trains_nothing(quick):
    """A cached result is not loaded, not trained, not rewritten."""
    workspace, _ = quick
    before = {path: path.stat().st_mtime_ns for path in (workspace / "results/records").glob("*.json")}
    assert "9 of 9 cells done; nothing to run" in bench("run", "--grid", "quick", *PART, workspace=workspace)[0]
    assert before == {path: path.stat().st_mtime_ns for path in (workspace / "results/records").glob("*.json")}


def test_a_deleted_record_runs_one_cell_and_comes_back_the_same(quick):
    """Resume by files alone, with poisons found in the store."""
    workspace, _ = quick
    path = sorted((workspace / "results/records").glob("*.json"))[-1]
    before = Records(path.parent).read(path.stem)
    path.unlink()
    out, _ = bench("run", "--grid", "quick", *PART, "--executor", "inline", workspace=workspace)
    assert "9 of 9 cells done; ran 1 cells" in out
    assert Records(path.parent).read(path.stem).metrics == before.metrics


def test_clean_training_learns(accuracy):
    """A victim that cannot learn would show every poison at work."""
    assert accuracy["none", "none"] >= 95


@pytest.mark.parametrize("attack", ["ops", "ar"])
def test_every_poison_breaks_plain_training(accuracy, attack):
    """As in every published table."""
    assert accuracy[attack, "none"] <= 45


@pytest.mark.parametrize("attack", ["ops", "ar"])
def test_jpeg_repairs_most_poisons(accuracy, attack):
    """As image shortcut squeezing reports."""
    assert accuracy[attack, "jpeg"] >= 70


@pytest.mark.parametrize("attack", ["none", "ops"])
def test_projection_repairs_what_is_linear(accuracy, attack):
    """As Sandoval-Segura et al. report, and it must not cost clean training its accuracy."""
    assert accuracy[attack, "ortho-proj"] >= 90


def test_projection_does_not_repair_autoregressive_noise(accuracy):
    """No linear direction carries it."""
    assert accuracy["ar", "ortho-proj"] <= 45
