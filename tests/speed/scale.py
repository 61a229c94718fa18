"""How long planning, the books of a submission and looking at a grid take, and how that grows: `make scale`.

Grids of 100, 1,000 and 10,000 cells in a scratch workspace; nothing is trained, records are made up and removed again. The
target at 10,000 cells: a dry run below 5 s, a status below 2 s, both as commands, start of Python included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from unlearnable_bench.benchmark import driver, provenance, runs, slurm
from unlearnable_bench.benchmark.schedule import ClusterSubmission
from unlearnable_bench.results import Records, Workspace, read_grid
from unlearnable_bench.results.record import Curve, Metrics, Record

SIZES = (100, 1000, 10_000)
ATTACKS = ["none", "lsp", "lsp(norm=l2,epsilon=2.0)", "ops", "ar"]
DEFENSES = [
    "none",
    "grayscale",
    "jpeg",
    "bdr(bits=2)",
    "cutout",
    "jpeg(quality=20)",
    "bdr(bits=3)",
    "at",
    "at(steps=1)",
    "cutout(size=8)",
]
PROFILE = slurm.Profile.model_validate({"time": "4h", "gpus": 0})


def _grid(folder: Path, cells: int) -> Path:
    seeds = max(1, cells // (len(ATTACKS) * len(DEFENSES)))
    path = folder / "scale.toml"
    axes = {"dataset": "digits", "protocol": "quick", "architecture": "small-cnn", "attack": ATTACKS, "defense": DEFENSES}
    lines = [f"{axis} = {json.dumps(value)}" for axis, value in axes.items()]
    path.write_text("\n".join(['title = "Scale"', *lines, f"seed = {list(range(seeds))}"]))
    return path


def _command(space: Workspace, *words: str) -> float:
    """Run `bench` and return its seconds."""
    start = time.perf_counter()
    command = [
        sys.executable,
        "-P",
        "-c",
        "from unlearnable_bench.benchmark.cli import main; main()",
        *words,
        "--workspace",
        str(space.root),
    ]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - start


def _measured(folder: Path, cells: int) -> dict[str, float]:
    space = Workspace(folder / str(cells))
    space.writable()
    grid = str(_grid(space.root, cells))
    found: dict[str, float] = {}
    found["dry run, nothing done"] = _command(space, "run", "--grid", grid, "--dry-run")
    table, options = read_grid(grid), driver.RunOptions()
    plan = driver.plan_table("scale", table, space, options, dry_run=True)
    start = time.perf_counter()
    records = Records(space.records)
    submission = ClusterSubmission.of(plan, space.poisons, PROFILE, 1, {"MaxArraySize": "1001"})
    more = {"walltime": [240] * cells, "signal": 90, "cluster": "", "code": "", "code_path": [], "tree": "", "plugins": ""}
    run = runs.Run.create(space, records, plan, "cpu", False, submission.pieces, more)
    (run.folder / "arrays.json").write_text(json.dumps([[str(n), a.first, a.size] for n, a in enumerate(submission.arrays)]))
    found["books of a submission"] = time.perf_counter() - start
    found["status, all queued"] = _command(space, "status", "--grid", grid)
    tasks = plan.to_run
    curve = Curve(train_acc=[0.5] * 30, train_loss=[0.5] * 30, test_acc=[0.5] * 30, test_loss=[0.5] * 30)
    for task in tasks:
        record = Record(
            id=task.cell.id,
            cell=task.cell,
            metrics=Metrics(test_acc=0.5, test_acc_best=0.5, curve=curve),
            versions=task.versions(),
            **provenance.stamp(task),
        )
        records.path(task.cell.id).write_text(record.model_dump_json())
        run.settle(task)
    found["status, all done"] = _command(space, "status", "--grid", grid)
    found["dry run, all done"] = _command(space, "run", "--grid", grid, "--dry-run")
    for task in tasks[: len(tasks) // 2]:
        records.path(task.cell.id).unlink()
    found["dry run, half done"] = _command(space, "run", "--grid", grid, "--dry-run")
    start = time.perf_counter()
    run.piece_tasks(len(run.pieces) - 1)
    found["a job reads its part"] = time.perf_counter() - start
    files = sum(len(names) for _, _, names in os.walk(run.folder)) + len(tasks)
    found["files per cell"] = files / len(tasks)
    return found


def main(sizes: Sequence[int] = SIZES) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        columns = [_measured(Path(folder), cells) for cells in sizes]
    print(f"{'seconds':24}" + "".join(f"{f'{cells:,} cells':>16}" for cells in sizes))
    for name in columns[0]:
        print(f"{name:24}" + "".join(f"{column[name]:16.2f}" for column in columns))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or SIZES)
