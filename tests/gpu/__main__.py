"""`make gpu MINUTES=9 OUT=DIR`: runs all stages, or those that are named, and writes `gpu.json` and `records-<n>.tar`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

TESTS = Path(__file__).parent.parent
WORKERS = 3  # processes that share a GPU: a step of a small network is launched in twice the time that the GPU takes for it
AT_ONCE = 8  # proofs that run beside each other on a GPU


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.0, help="after which everything is over")
    parser.add_argument("--out", type=Path, required=True, help="folder of gpu.json and records-<n>.tar")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument(
        "--data", type=Path, help="folder of datasets, as BENCH_DATA is one; or one whose cifar10.py writes CIFAR-10"
    )
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install beside what this Python has")
    parser.add_argument("--past", type=Path, default=TESTS.parent / "results/records", help="records of a CPU to compare with")
    parser.add_argument("--workers", type=int, help="processes that share the cells; 3 on a GPU")
    parser.add_argument("--only", default="", help="names of stages, joined by commas")
    parser.add_argument("--tiny", action="store_true", help="small cases, to try the script itself")
    parser.add_argument("--began", type=float, default=time.monotonic(), help=argparse.SUPPRESS)
    return parser.parse_args()


def install(wheels: Path, began: float) -> None:
    """Install wheels into a folder and begin again with it. Nothing is fetched."""
    site = tempfile.mkdtemp(prefix="gpu-site-")
    files = sorted(map(str, wheels.glob("*.whl")))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--target", site]
    subprocess.run([*command, *files], check=True)
    place = sys.argv.index("--wheels")
    rest = [*sys.argv[1:place], *sys.argv[place + 2 :], "--began", str(began)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS), site])}
    os.execve(sys.executable, [sys.executable, "-m", "gpu", *rest], environment)  # noqa: S606  (ourselves)


def prepare(given: Path | None, scratch: Path) -> None:
    """Point the program to its data and its caches, in the scratch folder where something is written."""
    root = scratch / "data"
    root.mkdir()
    if given is not None and (given / "cifar10.py").exists():
        subprocess.run([sys.executable, str(given / "cifar10.py"), str(root / "cifar10")], check=True)
    elif given is not None:
        for path in given.iterdir():
            if path.name != ".decoded":
                (root / path.name).symlink_to(path.absolute())
        (root / ".decoded").mkdir()
        for path in (given / ".decoded").iterdir() if (given / ".decoded").is_dir() else ():
            (root / ".decoded" / path.name).symlink_to(path.absolute())
    own = [str(TESTS.parent), str(TESTS)]
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in own]
    os.environ |= {
        "BENCH_DATA": str(root),
        "XDG_CACHE_HOME": str(scratch / "cache"),
        "PYTHONPATH": os.pathsep.join([*own, *inherited]),
        "TORCHINDUCTOR_COMPILE_THREADS": "2",
    }
    for name in ("BENCH_WORKSPACE", "BENCH_POISONS", "BENCH_RESULTS", "BENCH_SITE"):
        os.environ.pop(name, None)


def main() -> int:
    """Run the stages; 1 if one of them failed."""
    wish = arguments()
    if wish.wheels:
        install(wish.wheels, wish.began)
    sys.path.insert(0, str(TESTS.parent))
    scratch = Path(tempfile.mkdtemp(prefix="gpu-"))
    prepare(wish.data, scratch)
    wish.out.mkdir(parents=True, exist_ok=True)

    from gpu import Figures, Setting, card, faults, fill, outcomes, parity, repeat, resume, speed, views
    from gpu.stages import Stage, preload, run_group, skipped, write
    from unlearnable_bench.benchmark import provenance
    from unlearnable_bench.results import Records, Workspace
    from unlearnable_bench.results.own import pack_own

    preload()
    on_gpu = wish.device.startswith("cuda")
    space = Workspace(scratch / "workspace")
    workers = wish.workers or (WORKERS if on_gpu else 1)
    setting = Setting(wish.device, wish.tiny, wish.out, space, wish.past, workers, wish.began + 60 * wish.minutes)
    space.writable()
    proofs = [
        Stage("architectures", parity.architectures, 0.4),
        Stage("attacks", parity.attacks, 0.4),
        Stage("defenses", parity.defenses, 0.4),
        Stage("repeat", repeat.run, 0.4),
        Stage("resume", resume.run, 0.4),
        Stage("faults", faults.run, 0.4),
        Stage("views", views.run, 0.4),
    ]
    groups = [
        [Stage("card", card.run, 0.2)],
        proofs,
        [Stage("outcomes", outcomes.run, 0.35)],
        [Stage("speed", speed.run, 0.35)],
        [Stage("fill", fill.run, 1.0)],
    ]
    book: Figures = {
        "format": 1,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": wish.device,
        "minutes": wish.minutes,
        "tiny": wish.tiny,
        "tree": provenance.tree(),
        "commit": provenance.commit(),
        "stages": [],
    }

    def done(row: Figures) -> None:
        book["stages"].append(row)
        book["seconds"] = round(time.monotonic() - wish.began, 1)
        book["archives"] = [path.name for path in pack_own(Records(space.records), wish.out)]
        write(wish.out / "gpu.json", book)
        print(f"{row['name']}: {row['state']}, {row['seconds']} s {row['reason']}".strip(), flush=True)
        for check in row["checks"]:
            if check["state"] == "failed":
                print(f"  {check['name']}: {check['detail']}", flush=True)

    only = [name for name in wish.only.split(",") if name]
    for group in groups:
        chosen = [stage for stage in group if not only or stage.name in only]
        without = any(row["name"] == "card" and row["state"] == "failed" for row in book["stages"])
        if without or setting.seconds_left <= 0:
            for stage in chosen:
                done(skipped(stage, "the card or what is installed will not do" if without else "the time was over"))
        else:
            run_group(chosen, setting, scratch, AT_ONCE if on_gpu else 1, done)
    return int(any(row["state"] == "failed" for row in book["stages"]))


if __name__ == "__main__":
    sys.exit(main())
